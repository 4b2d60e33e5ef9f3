//! The relays: send what is due according to the journal to the gateway. One gives money back, for any cause (a late
//! payment, a cancelled drop, a refunded order); the other captures what was authorized for confirmed orders.
//!
//! What is due is part of its drop's state until it is settled, and such a drop stays in memory (and its rows in SQL
//! say so). So a relay stores nothing. It only remembers *which drops* owe something, and passes the records at once:
//! a gateway that does not answer keeps no segment. Each of those drops has one sweep, which reads what is due from
//! the drop, page by page, and repeats after a pause while some fail.

use super::{AT_ONCE_MAX, RETRIES, Settler};
use crate::actors::consumers::{About, Consumer, Progress, Retention, Step, Tail, TailError};
use crate::actors::{AskError, Clock, DropHandle, Registry};
use crate::domain::limits::PROJECTOR_BATCH_RECORDS_MAX;
use crate::domain::{DropEvent, DropId, OrderId, OrderView, Timestamp};
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

/// The relay of refunds as a consumer: it rereads the drops' state after a gap.
pub const REFUNDS: About = About {
    name: "refunds",
    effect: "gives money back that the journal says is due",
    offset: "none: what is due is part of the drops' state",
    retention: Retention::Rereads,
};

/// The relay of captures as a consumer.
pub const CAPTURES: About = About {
    name: "captures",
    effect: "takes the authorized money of confirmed orders",
    offset: "none: what is due is part of the drops' state",
    retention: Retention::Rereads,
};

/// What a relay settles.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Duty {
    Refund,
    Capture,
}

impl Duty {
    /// The consumer that has it.
    #[must_use]
    pub const fn about(self) -> &'static About {
        match self {
            Self::Refund => &REFUNDS,
            Self::Capture => &CAPTURES,
        }
    }

    fn is_in(self, event: &DropEvent) -> bool {
        match (self, event) {
            // Without a payment the drop has settled it by itself.
            (Self::Refund, DropEvent::RefundDue { payment, .. }) => payment.is_some(),
            (Self::Capture, DropEvent::Confirmed { payment: Some(payment), .. }) => !payment.captured,
            _ => false,
        }
    }

    fn command(self, after: Option<OrderId>, limit: usize) -> Command {
        match self {
            Self::Refund => Command::RefundsDue { after, limit },
            Self::Capture => Command::CapturesDue { after, limit },
        }
    }

    async fn settle(self, settler: &Settler, handle: &DropHandle, due: &OrderView, now: Timestamp) -> bool {
        match self {
            Self::Refund => settler.refund(handle, due).await,
            Self::Capture => settler.capture(handle, due, now).await,
        }
    }
}

/// Few records make anything due, so the journal is read periodically, and not after every `fdatasync`.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The consumer that settles one duty.
pub struct Relay {
    tail: Tail,
    sweeps: Sweeps,
}

impl Relay {
    /// Starts after this record. `owing`: drops that may owe something already.
    #[must_use]
    pub fn new(
        duty: Duty,
        progress: Arc<Progress>,
        journal: &JournalReader,
        after: u64,
        owing: Vec<DropId>,
        (settler, registry): (Settler, Registry),
    ) -> Self {
        let slots = Arc::new(Semaphore::new(AT_ONCE_MAX));
        let mut sweeps = Sweeps { duty, settler, registry, slots, running: HashMap::new(), tasks: JoinSet::new() };
        owing.into_iter().for_each(|drop| sweeps.ask(drop));
        Self { tail: Tail::new(progress, journal, after), sweeps }
    }

    /// Starts at the end of the journal; what is due is unknown: all drops are asked.
    #[must_use]
    pub fn of_state(duty: Duty, progress: Arc<Progress>, journal: &JournalReader, with: (Settler, Registry)) -> Self {
        let mut relay = Self::new(duty, progress, journal, journal.durable(), Vec::new(), with);
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
                    if self.sweeps.duty.is_in(&record.event) {
                        self.sweeps.ask(record.drop);
                    }
                }
                self.tail.passed(run.last_sequence(), run.last_at());
                Step::Worked
            }
            Ok(None) => Step::Idle,
            Err(TailError::Skipped(_)) => {
                // In this order: what becomes due in between is seen by both.
                self.tail.go_on_after(self.tail.journal().durable());
                self.sweeps.ask_all();
                Step::Again
            }
            Err(TailError::Unread(unread)) => {
                // It may make something due, and then its drop owes it.
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

/// One sweep for each drop that owes something: no more of them than drops in memory.
struct Sweeps {
    duty: Duty,
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
            // The drop was evicted, so it owes nothing.
            return;
        };
        let more = Arc::new(AtomicBool::new(true));
        let sweep = Sweep {
            duty: self.duty,
            settler: self.settler.clone(),
            handle,
            clock: self.registry.clock().clone(),
            slots: Arc::clone(&self.slots),
            more: Arc::clone(&more),
        };
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
            error!(%drop, duty = ?self.duty, "a sweep panicked; it begins again");
        }
        // Something may have become due after its last read.
        if panicked || more.load(Ordering::Acquire) {
            self.ask(drop);
        }
    }
}

/// Settles what one drop owes.
struct Sweep {
    duty: Duty,
    settler: Settler,
    handle: Arc<DropHandle>,
    clock: Clock,
    slots: Arc<Semaphore>,
    /// Whether more may have become due since the last read.
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
                // The drop was evicted, or the process ends: the next start finds what is due.
                Err(AskError::Gone | AskError::Stopped | AskError::OutcomeUnknown) => return,
                Err(AskError::Overloaded | AskError::DiskFull | AskError::TooManyDrops { .. }) => {
                    self.more.store(true, Ordering::Release);
                    retries.pause().await;
                }
            }
        }
    }

    /// Attempts each once. Returns whether all succeeded.
    async fn once(&self) -> Result<bool, AskError> {
        let (mut after, mut all) = (None, true);
        loop {
            let Outcome::Orders(page) = self.handle.ask(self.duty.command(after, AT_ONCE_MAX)).await?.outcome else {
                return Ok(all);
            };
            let Some(last) = page.last() else { return Ok(all) };
            after = Some(last.id);
            let tries = page.iter().map(|order| self.settle(order));
            all &= join_all(tries).await.into_iter().all(|settled| settled);
        }
    }

    async fn settle(&self, due: &OrderView) -> bool {
        // The semaphore is never closed.
        let Ok(_slot) = self.slots.acquire().await else { return false };
        self.duty.settle(&self.settler, &self.handle, due, self.clock.now()).await
    }
}
