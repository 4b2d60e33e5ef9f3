//! Carries durable records to the broadcaster, one run at a time. Where records are gone the broadcaster learns from the drops themselves
//! how they stand, and everyone who listens comes back for it.

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

/// See the module.
pub const ABOUT: About = About {
    name: "broadcaster",
    effect: "tells sessions what happens, at once",
    offset: "in memory: it begins at the journal's end",
    retention: Retention::Lags,
};

/// Messages that may wait for a shard before the journal is read on. What is not read waits in the journal.
const SHARD_BACKLOG_MAX: usize = 1_024;
const BACKLOG_PAUSE: Duration = Duration::from_millis(1);

/// See the module.
pub struct Pump {
    tail: Tail,
    broadcaster: Addr<Broadcaster>,
    registry: Registry,
    /// Whether records were skipped that the broadcaster must not go on after.
    skipped: bool,
}

impl Pump {
    /// Begins after this record, up to which the broadcaster knows everything.
    #[must_use]
    pub fn new(journal: &JournalReader, after: u64, broadcaster: Addr<Broadcaster>, registry: Registry) -> Self {
        Self { tail: Tail::new(Progress::new(&ABOUT), journal, after), broadcaster, registry, skipped: false }
    }

    /// Goes on at the end of the journal.
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
                self.skipped = matches!(error, TailError::Skipped(_));
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

/// How many messages wait for the slowest shard.
#[derive(Message)]
#[rtype(result = "usize")]
struct Backlog;

impl Handler<Backlog> for Broadcaster {
    type Result = usize;

    fn handle(&mut self, _: Backlog, _: &mut Self::Context) -> usize {
        self.backlog()
    }
}

/// Records up to `after` will not be published. All drops in memory as they stood then, or later.
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
    /// Goes on after a record, with drops that are true at their own positions.
    pub(super) fn resynchronize(&mut self, after: u64, drops: Vec<DropSnapshot>) {
        // Drops that sleep until their start are in no snapshot, and nothing happens to them.
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
        // Each worker comes back with a new queue, and cuts its sessions: they come back, too, and get snapshots.
        self.shards.iter_mut().for_each(|shard| *shard = None);
    }
}
