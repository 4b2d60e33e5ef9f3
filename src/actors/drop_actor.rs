//! One live drop: a mailbox, a clock and timers around a [`Decider`].
//!
//! It never waits: a command is decided in memory and handed to the journal, and the answer leaves from there.

use super::clock::Clock;
use super::decider::Decider;
use super::publish::{AskError, ReplyTo};
use super::scheduler::Scheduler;
use crate::domain::Timestamp;
use crate::domain::limits::DROP_MAILBOX_MAX;
use crate::engine::Command;
use actix::{Actor, ActorContext, Context, Handler, Message};

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
    decider: Decider,
    clock: Clock,
    scheduler: Scheduler,
    armed: Option<Timestamp>,
}

/// How long a timer waits when the journal has no room.
const RETRY_TICK_MS: i64 = 20;

impl DropActor {
    /// An actor that decides with this.
    #[must_use]
    pub fn new(decider: Decider, clock: Clock, scheduler: Scheduler) -> Self {
        Self { decider, clock, scheduler, armed: None }
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

impl Handler<Ask> for DropActor {
    type Result = ();

    fn handle(&mut self, ask: Ask, _: &mut Self::Context) {
        let _guard = AbortOnPanic;
        let is_tick = matches!(ask.command, Command::Tick);
        match self.decider.ask(self.clock.now(), ask.command, ask.reply) {
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
