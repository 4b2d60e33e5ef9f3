//! One live drop: a mailbox, a clock and timers around a [`Decider`].
//!
//! It never waits: a command is decided in memory and handed to the journal, and the answer leaves from there.

use super::clock::Clock;
use super::decider::Decider;
use super::mailbox::Waiting;
use super::publish::{AskError, ReplyTo};
use super::scheduler::Scheduler;
use crate::domain::Timestamp;
use crate::domain::limits::DROP_MAILBOX_MAX;
use crate::engine::Command;
use actix::{Actor, Context, Handler, Message};

/// A command, and where its answer goes (nowhere, for a timer).
pub struct Ask {
    /// What is asked.
    pub command: Command,
    /// Who asks.
    pub reply: Option<ReplyTo>,
}

/// Commands that came together, in their order.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Asks(
    /// One at least.
    pub Vec<Ask>,
);

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

/// See the module.
pub struct DropActor {
    decider: Decider,
    clock: Clock,
    scheduler: Scheduler,
    waiting: Waiting,
    armed: Option<Timestamp>,
}

/// How long a timer waits when the journal has no room.
const RETRY_TICK_MS: i64 = 20;

impl DropActor {
    /// An actor that decides with this, and counts what it takes out of its mailbox.
    #[must_use]
    pub fn new(decider: Decider, clock: Clock, scheduler: Scheduler, waiting: Waiting) -> Self {
        Self { decider, clock, scheduler, waiting, armed: None }
    }

    fn decide(&mut self, Ask { command, reply }: Ask) {
        let is_tick = matches!(command, Command::Tick);
        match self.decider.ask(self.clock.now(), command, reply) {
            Ok(_) => {
                if is_tick {
                    self.armed = None;
                }
                self.arm();
            }
            Err(AskError::Overloaded) if is_tick => {
                self.scheduler.arm(self.clock.now().plus_millis(RETRY_TICK_MS), self.decider.id());
            }
            Err(_) => {}
        }
    }

    fn arm(&mut self) {
        let due = self.decider.next_deadline();
        if due != self.armed {
            self.armed = due;
            if let Some(at) = due {
                self.scheduler.arm(at, self.decider.id());
            }
        }
    }
}

impl Actor for DropActor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        context.set_mailbox_capacity(DROP_MAILBOX_MAX);
        if self.decider.is_announced() {
            self.arm();
        }
    }
}

impl Handler<Asks> for DropActor {
    type Result = ();

    fn handle(&mut self, Asks(asks): Asks, _: &mut Self::Context) {
        let _guard = AbortOnPanic;
        self.waiting.taken(asks.len());
        asks.into_iter().for_each(|ask| self.decide(ask));
    }
}

impl Handler<Announce> for DropActor {
    type Result = ();

    fn handle(&mut self, Announce(reply): Announce, _: &mut Self::Context) {
        let _guard = AbortOnPanic;
        self.decider.announce(reply);
        if self.decider.is_announced() {
            self.arm();
        }
    }
}

impl Handler<Retire> for DropActor {
    type Result = bool;

    fn handle(&mut self, _: Retire, _: &mut Self::Context) -> bool {
        self.decider.retire()
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
