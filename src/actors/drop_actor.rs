//! One live drop: a mailbox, a clock and a sequence around the engine.
//!
//! It never waits. A command is decided in memory and handed to the journal; the answer leaves from there. Before it
//! decides it takes a permit for the journal's queue, so a decision can always be handed over.

use super::clock::Clock;
use super::publish::{AskError, Decision, DropCell, Published, ReplyTo};
use super::scheduler::Scheduler;
use crate::domain::limits::DROP_MAILBOX_MAX;
use crate::domain::{DropEvent, DropId, DropRecord, DropSpec, Timestamp};
use crate::engine::{Command, DropState, Outcome};
use crate::journal::{JournalHandle, JournalReader, Permit, Records, Space};
use actix::{Actor, ActorContext, Context, Handler, Message};
use std::sync::Arc;

/// A command, and where its answer goes (nowhere, for a timer).
#[derive(Message)]
#[rtype(result = "()")]
pub struct Ask {
    /// What is asked.
    pub command: Command,
    /// Who asks.
    pub reply: Option<ReplyTo>,
}

/// Records that the drop exists. The first message of a new drop.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Announce(
    /// Who asks.
    pub ReplyTo,
);

/// Asks a settled drop to take no more commands, so that it can leave memory. Answers whether it agreed.
#[derive(Message)]
#[rtype(result = "bool")]
pub struct Retire;

/// Stops a retired drop.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Stop;

/// See the module.
pub struct DropActor {
    id: DropId,
    state: DropState,
    cell: Arc<DropCell>,
    journal: JournalHandle<Decision>,
    space: JournalReader,
    clock: Clock,
    scheduler: Scheduler,
    events: Vec<DropEvent>,
    armed: Option<Timestamp>,
    /// Whether the journal has (or will have) its `Scheduled` record: nothing else may come before it.
    announced: bool,
    retired: bool,
}

/// How long a timer waits when the journal has no room.
const RETRY_TICK_MS: i64 = 20;

impl DropActor {
    /// An actor around a state whose published picture is in `cell`. A new drop is not `announced` yet.
    #[must_use]
    pub fn new(
        state: DropState,
        announced: bool,
        cell: Arc<DropCell>,
        journal: JournalHandle<Decision>,
        clock: Clock,
        scheduler: Scheduler,
    ) -> Self {
        let id = state.spec().id;
        let space = journal.reader();
        Self {
            id,
            state,
            cell,
            journal,
            space,
            clock,
            scheduler,
            events: Vec::new(),
            armed: None,
            announced,
            retired: false,
        }
    }

    fn permit(&self, command: &Command) -> Result<Permit<Decision>, AskError> {
        if self.retired || !self.announced {
            return Err(AskError::Gone);
        }
        // Confirms and releases of existing holds may use the reserved segment; new holds may not.
        if matches!(command, Command::Reserve(_)) && self.space.space() == Space::Full {
            return Err(AskError::DiskFull);
        }
        self.journal.try_permit().ok_or_else(|| self.no_permit())
    }

    /// A full queue passes, a journal that failed does not: who retries for ever would only hold up the end.
    fn no_permit(&self) -> AskError {
        if self.space.is_stopped() { AskError::Stopped } else { AskError::Overloaded }
    }

    fn decide(&mut self, command: Command, reply: Option<ReplyTo>, permit: Permit<Decision>) {
        self.events.clear();
        let (outcome, at) = self.state.apply(self.clock.now(), command, &mut self.events);
        let mut records = Records::default();
        for event in self.events.drain(..) {
            let record = DropRecord { drop: self.id, at, event };
            push(&mut records, &record);
        }
        self.submit(permit, records, reply, outcome);
        self.arm();
    }

    fn submit(&self, permit: Permit<Decision>, records: Records, reply: Option<ReplyTo>, outcome: Outcome) {
        // The position is filled in when the journal has given one.
        let publish = (!records.is_empty()).then(|| (Arc::clone(&self.cell), Published::of(&self.state, 0)));
        permit.submit(records, Decision { publish, reply: reply.map(|reply| (reply, outcome)) });
    }

    fn arm(&mut self) {
        let due = self.state.next_deadline();
        if due != self.armed {
            self.armed = due;
            if let Some(at) = due {
                self.scheduler.arm(at, self.id);
            }
        }
    }
}

/// A record's fields are bounded far below a journal record's size, and a sweep far below an entry's.
fn push(records: &mut Records, record: &DropRecord) {
    records.push(|buffer| record.encode(buffer)).expect("bounds of the domain keep records small");
}

impl Actor for DropActor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        context.set_mailbox_capacity(DROP_MAILBOX_MAX);
        if self.announced {
            self.arm();
        }
    }
}

impl Handler<Ask> for DropActor {
    type Result = ();

    fn handle(&mut self, ask: Ask, _: &mut Self::Context) {
        let _guard = AbortOnPanic;
        let is_tick = matches!(ask.command, Command::Tick);
        match self.permit(&ask.command) {
            Ok(permit) => {
                if is_tick {
                    self.armed = None;
                }
                self.decide(ask.command, ask.reply, permit);
            }
            Err(error) => {
                if is_tick && error == AskError::Overloaded {
                    self.scheduler.arm(self.clock.now().plus_millis(RETRY_TICK_MS), self.id);
                }
                if let Some(reply) = ask.reply {
                    let _ = reply.send(Err(error));
                }
            }
        }
    }
}

impl Handler<Announce> for DropActor {
    type Result = ();

    fn handle(&mut self, Announce(reply): Announce, _: &mut Self::Context) {
        let _guard = AbortOnPanic;
        let Some(permit) = self.journal.try_permit() else {
            let _ = reply.send(Err(self.no_permit()));
            return;
        };
        self.announced = true;
        let spec = DropSpec::clone(self.state.spec());
        let record = DropRecord { drop: self.id, at: spec.created_at, event: DropEvent::Scheduled(Box::new(spec)) };
        let mut records = Records::default();
        push(&mut records, &record);
        self.submit(permit, records, Some(reply), Outcome::Done(self.state.status()));
        self.arm();
    }
}

impl Handler<Retire> for DropActor {
    type Result = bool;

    fn handle(&mut self, _: Retire, _: &mut Self::Context) -> bool {
        // What is published may lag behind what is decided: only when both agree is nothing on its way.
        let published = self.cell.read();
        self.retired = self.state.is_settled() && published == Published::of(&self.state, published.position);
        self.retired
    }
}

impl Handler<Stop> for DropActor {
    type Result = ();

    fn handle(&mut self, _: Stop, context: &mut Self::Context) {
        context.stop();
    }
}

/// A panic in the engine is a broken invariant. Going on could oversell; the journal has everything that was
/// acknowledged, so the process stops and recovers.
struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!("a drop's state machine panicked; aborting, a restart recovers from the journal");
            std::process::abort();
        }
    }
}
