//! Feeds durable records to the broadcaster, one run at a time. After a gap the broadcaster reads the drops' snapshots
//! instead, and all sessions reconnect.

use super::{Broadcaster, Durable, Watched};
use crate::actors::Registry;
use crate::actors::consumers::{About, Consumer, Progress, Retention, Step, Tail, TailError};
use crate::actors::inventory::snapshot::DropSnapshot;
use crate::actors::realtime::history::History;
use crate::actors::realtime::position::StreamPosition;
use crate::domain::{DropStatus, StockBoard};
use crate::journal::JournalReader;
use actix::{Addr, Handler, Message};
use std::{sync::Arc, time::Duration};

/// The broadcaster as a consumer: it lags.
pub const ABOUT: About = About {
    name: "broadcaster",
    effect: "tells sessions what happens, at once",
    offset: "in memory: it begins at the journal's end",
    retention: Retention::Lags,
};

/// Messages queued for a shard before the pump stops reading. Unread records wait in the journal.
const SHARD_BACKLOG_MAX: usize = 1_024;
const BACKLOG_PAUSE: Duration = Duration::from_millis(1);

/// The consumer that feeds the broadcaster.
pub struct Pump {
    tail: Tail,
    broadcaster: Addr<Broadcaster>,
    registry: Registry,
    /// Whether records were skipped, so that the broadcaster has to resynchronise.
    skipped: bool,
}

impl Pump {
    /// Starts after this record, up to which the broadcaster has everything.
    #[must_use]
    pub fn new(journal: &JournalReader, after: u64, broadcaster: Addr<Broadcaster>, registry: Registry) -> Self {
        Self { tail: Tail::new(Progress::new(&ABOUT), journal, after), broadcaster, registry, skipped: false }
    }

    /// Continues at the end of the journal.
    async fn resynchronize(&mut self) -> Step {
        let Ok((after, drops)) = self.registry.snapshot().await else {
            return Step::Unavailable("the drops cannot be asked how they stand".to_owned());
        };
        self.tail.go_on_after(after);
        self.skipped = false;
        self.broadcaster.send(Resynchronize { after, drops }).await.map_or_else(gone, |()| Step::Again)
    }
}

impl Consumer for Pump {
    fn tail(&self) -> &Tail {
        &self.tail
    }

    async fn work(&mut self) -> Step {
        if self.skipped {
            return self.resynchronize().await;
        }
        let run = match self.tail.try_next() {
            Ok(Some(run)) => run,
            Ok(None) => return Step::Idle,
            Err(error) => {
                self.skipped = matches!(error, TailError::Skipped(_) | TailError::Unread(_));
                return Step::from(&error);
            }
        };
        let (last, at) = (run.last_sequence(), run.last_at());
        let mut backlog = match self.broadcaster.send(Durable(run)).await {
            Ok(backlog) => backlog,
            Err(error) => return gone(error),
        };
        self.tail.passed(last, at);
        while backlog > SHARD_BACKLOG_MAX {
            tokio::time::sleep(BACKLOG_PAUSE).await;
            backlog = match self.broadcaster.send(Backlog).await {
                Ok(backlog) => backlog,
                Err(error) => return gone(error),
            };
        }
        Step::Worked
    }
}

fn gone(error: actix::MailboxError) -> Step {
    Step::Stopped(format!("the broadcaster is gone: {error}"))
}

/// Asks for the number of messages queued for the slowest shard.
#[derive(Message)]
#[rtype(result = "usize")]
struct Backlog;

impl Handler<Backlog> for Broadcaster {
    type Result = usize;

    fn handle(&mut self, _: Backlog, _: &mut Self::Context) -> usize {
        self.backlog()
    }
}

/// Records up to `after` will not be published. The snapshots of all drops in memory are from then or later.
#[derive(Message)]
#[rtype(result = "()")]
struct Resynchronize {
    after: u64,
    drops: Vec<DropSnapshot>,
}

impl Handler<Resynchronize> for Broadcaster {
    type Result = ();

    fn handle(&mut self, Resynchronize { after, drops }: Resynchronize, _: &mut Self::Context) {
        self.resynchronize(after, drops);
    }
}

impl Broadcaster {
    /// Continues after a record, with drops as of their own positions.
    pub(super) fn resynchronize(&mut self, after: u64, drops: Vec<DropSnapshot>) {
        // Sleeping drops are in no snapshot, and they do not change.
        let asleep = std::mem::take(&mut self.drops).into_values();
        let asleep: Vec<_> = asleep.filter(|watched| watched.board.status == DropStatus::Scheduled).collect();
        self.by_creator.clear();
        self.pending.clear();
        self.unknown_drops.clear();
        self.out.clear();
        self.position = StreamPosition { published: after, stock: after };
        self.history = History::new(self.epoch, after);
        for Watched { spec, board, known, .. } in asleep {
            self.insert(spec, board, known);
        }
        for DropSnapshot { spec, status, variants, position, .. } in drops {
            let board = StockBoard { status, variants: variants.into_iter().collect() };
            self.insert(Arc::clone(&spec), board, position);
        }
        // Each worker registers a new queue and closes its sessions, which reconnect and get snapshots.
        self.shards.iter_mut().for_each(|shard| *shard = None);
    }
}

#[cfg(test)]
mod tests;
