//! The refund relay: sends every refund that is due according to the journal to the gateway, for any cause (a late
//! payment, a cancelled drop, a refunded order).
//!
//! A due refund is part of its drop's state until it is settled, and such a drop stays in memory (and its rows in SQL
//! say so). So the relay stores no refunds. It only remembers *which drops* have some, and passes the records at once:
//! a gateway that does not answer keeps no segment. Each of those drops has one sweep, which reads the due refunds from
//! the drop, page by page, and repeats after a pause while some fail.

use super::{AT_ONCE_MAX, RETRIES, Settler};
use crate::actors::consumers::{About, Consumer, Progress, Retention, Step, Tail, TailError};
use crate::actors::{AskError, DropHandle, Registry};
use crate::domain::limits::PROJECTOR_BATCH_RECORDS_MAX;
use crate::domain::{DropEvent, DropId, OrderId};
use crate::engine::{Command, Outcome};
use crate::journal::JournalReader;
use futures_util::future::join_all;
use std::collections::HashMap;
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::sleep;
use tracing::error;

/// The refund relay as a consumer: it rereads the drops' state after a gap.
pub const ABOUT: About = About {
    name: "refunds",
    effect: "gives money back that the journal says is due",
    offset: "none: what is due is part of the drops' state",
    retention: Retention::Rereads,
};

/// Few records are refunds, so the journal is read periodically, and not after every `fdatasync`.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The consumer that sends refunds to the gateway.
pub struct Relay {
    tail: Tail,
    sweeps: Sweeps,
}

impl Relay {
    /// Starts after this record. `owing`: drops that may have due refunds already.
    #[must_use]
    pub fn new(
        progress: Arc<Progress>,
        journal: &JournalReader,
        after: u64,
        owing: Vec<DropId>,
        (settler, registry): (Settler, Registry),
    ) -> Self {
        let slots = Arc::new(Semaphore::new(AT_ONCE_MAX));
        let mut sweeps = Sweeps { settler, registry, slots, running: HashMap::new(), tasks: JoinSet::new() };
        owing.into_iter().for_each(|drop| sweeps.ask(drop));
        Self { tail: Tail::new(progress, journal, after), sweeps }
    }

    /// Starts at the end of the journal, with unknown refunds: all drops are asked.
    #[must_use]
    pub fn of_state(progress: Arc<Progress>, journal: &JournalReader, with: (Settler, Registry)) -> Self {
        let mut relay = Self::new(progress, journal, journal.durable(), Vec::new(), with);
        relay.sweeps.ask_all();
        relay
    }
}

impl Consumer for Relay {
    fn tail(&self) -> &Tail {
        &self.tail
    }

    async fn work(&mut self) -> Step {
        match self.tail.try_next() {
            Ok(Some(run)) => {
                for record in &run.records {
                    // Without a reference nothing was paid: the drop has settled it by itself.
                    if matches!(&record.event, DropEvent::RefundDue { payment_ref, .. } if !payment_ref.is_empty()) {
                        self.sweeps.ask(record.drop);
                    }
                }
                self.tail.passed(run.last_sequence(), run.last_at());
                Step::Worked
            }
            Ok(None) => Step::Idle,
            Err(TailError::Skipped(_)) => {
                // In this order: a refund that becomes due in between is seen by both.
                self.tail.go_on_after(self.tail.journal().durable());
                self.sweeps.ask_all();
                Step::Again
            }
            Err(TailError::Unread(unread)) => {
                // It may say that money is due, and then its drop owes it.
                match unread.drop {
                    Some(drop) => self.sweeps.ask(drop),
                    None => self.sweeps.ask_all(),
                }
                self.tail.passed_unread(unread.sequence);
                Step::Worked
            }
            Err(error) => Step::from(&error),
        }
    }

    async fn rest(&mut self) {
        let behind = self.tail.journal().durable() - self.tail.progress().passed();
        if behind < PROJECTOR_BATCH_RECORDS_MAX as u64 {
            tokio::select! {
                () = sleep(LOOK_EVERY) => {}
                () = self.sweeps.attend() => {}
            }
        }
    }

    async fn idle(&mut self) {
        self.sweeps.attend().await;
    }
}

/// One sweep for each drop with due refunds: no more of them than drops in memory.
struct Sweeps {
    settler: Settler,
    registry: Registry,
    /// Bounds concurrent calls to the gateway, over all drops. Each call has a time limit, and waiting ones are served
    /// in turn.
    slots: Arc<Semaphore>,
    running: HashMap<Id, (DropId, Arc<AtomicBool>)>,
    tasks: JoinSet<()>,
}

impl Sweeps {
    /// Restarts ended sweeps where needed, forever.
    async fn attend(&mut self) {
        loop {
            match self.tasks.join_next_with_id().await {
                Some(ended) => self.ended(ended),
                None => pending().await,
            }
        }
    }

    fn ask_all(&mut self) {
        let drops: Vec<DropId> = self.registry.all().iter().map(|handle| handle.spec.id).collect();
        drops.into_iter().for_each(|drop| self.ask(drop));
    }

    /// Makes sure that a drop is swept after this call.
    fn ask(&mut self, drop: DropId) {
        if let Some((_, more)) = self.running.values().find(|(running, _)| *running == drop) {
            more.store(true, Ordering::Release);
            return;
        }
        let Some(handle) = self.registry.get(drop) else {
            // The drop was evicted, so it has no due refunds.
            return;
        };
        let more = Arc::new(AtomicBool::new(true));
        let sweep =
            Sweep { settler: self.settler.clone(), handle, slots: Arc::clone(&self.slots), more: Arc::clone(&more) };
        let task = self.tasks.spawn(sweep.run());
        self.running.insert(task.id(), (drop, more));
    }

    fn ended(&mut self, ended: Result<(Id, ()), JoinError>) {
        let (id, panicked) = match &ended {
            Ok((id, ())) => (*id, false),
            Err(error) => (error.id(), error.is_panic()),
        };
        let Some((drop, more)) = self.running.remove(&id) else { return };
        if panicked {
            error!(%drop, "a sweep of refunds panicked; it begins again");
        }
        // A refund may have become due after its last read.
        if panicked || more.load(Ordering::Acquire) {
            self.ask(drop);
        }
    }
}

/// Settles the due refunds of one drop.
struct Sweep {
    settler: Settler,
    handle: Arc<DropHandle>,
    slots: Arc<Semaphore>,
    /// Whether refunds may have become due since the last read.
    more: Arc<AtomicBool>,
}

impl Sweep {
    async fn run(self) {
        let mut retries = RETRIES;
        while self.more.swap(false, Ordering::AcqRel) {
            match self.once().await {
                Ok(true) => retries.reset(),
                Ok(false) => {
                    self.more.store(true, Ordering::Release);
                    retries.pause().await;
                }
                // The drop was evicted, or the process ends: the next start finds the due refunds.
                Err(AskError::Gone | AskError::Stopped | AskError::OutcomeUnknown) => return,
                Err(AskError::Overloaded | AskError::DiskFull | AskError::TooManyDrops { .. }) => {
                    self.more.store(true, Ordering::Release);
                    retries.pause().await;
                }
            }
        }
    }

    /// Attempts each due refund once. Returns whether all succeeded.
    async fn once(&self) -> Result<bool, AskError> {
        let (mut after, mut all) = (None, true);
        loop {
            let ask = Command::RefundsDue { after, limit: AT_ONCE_MAX };
            let Outcome::Orders(page) = self.handle.ask(ask).await?.outcome else { return Ok(all) };
            let Some(last) = page.last() else { return Ok(all) };
            after = Some(last.id);
            let tries = page.into_iter().map(|order| self.refund(order.id, order.payment_ref.unwrap_or_default()));
            all &= join_all(tries).await.into_iter().all(|settled| settled);
        }
    }

    async fn refund(&self, order: OrderId, reference: String) -> bool {
        // The semaphore is never closed.
        let Ok(_slot) = self.slots.acquire().await else { return false };
        self.settler.refund(&self.handle, order, &reference).await
    }
}
