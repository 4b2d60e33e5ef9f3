//! One live drop: a mailbox, a clock and timers around a [`Decider`].
//!
//! It never blocks: a command is decided in memory and handed to the journal, which sends the reply. Commands that wait
//! in the mailbox together are decided in one batch, in order, with their cache lines prefetched.

use super::decider::Decider;
use super::messages::{Ask, Asks, BeginCopy, CopyRows, EndCopy, Queued, Register, Retire};
use super::scheduler::{Due, Scheduler};
use crate::actors::clock::Clock;
use crate::actors::inventory::snapshot::AskError;
use crate::domain::limits::{DROP_BATCH_MAX, DROP_MAILBOX_MAX};
use crate::domain::{DropId, KeyDigest};
use crate::engine::Command;
use crate::engine::checkpoint::Rows;
use crate::engine::state::Deadlines;
use actix::{Actor, ActorFuture, AsyncContext, Context, Handler, MessageResult};
use std::pin::Pin;
use std::task::{self, Poll};

/// The actor of one drop.
pub struct DropActor {
    decider: Decider,
    clock: Clock,
    scheduler: Scheduler,
    queued: Queued,
    armed: Deadlines,
    /// Taken out of the mailbox and not decided yet: empty whenever the actor is idle.
    waiting: Vec<Ask>,
}

/// How long a timer waits when the journal's queue is full.
const RETRY_TICK_MS: i64 = 20;

impl DropActor {
    /// `queued` counts the commands in the mailbox; the actor subtracts those that it takes out.
    #[must_use]
    pub fn new(decider: Decider, clock: Clock, scheduler: Scheduler, queued: Queued) -> Self {
        Self { decider, clock, scheduler, queued, armed: Deadlines::default(), waiting: Vec::new() }
    }

    /// Decides the waiting commands in their order.
    fn decide(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        let _guard = AbortOnPanic(self.decider.id());
        let now = self.clock.moment();
        self.decider.prefetch(self.waiting.iter().map(|ask| &ask.command));
        let (id, mut decided) = (self.decider.id(), false);
        let mut batch = self.decider.batch(self.waiting.len());
        for Ask { command, reply } in self.waiting.drain(..) {
            let is_tick = matches!(command, Command::Tick);
            match batch.ask(now, command, reply) {
                Ok(_) => {
                    decided = true;
                    if is_tick {
                        self.armed = Deadlines::default();
                    }
                }
                Err(AskError::Overloaded) if is_tick => {
                    self.scheduler.arm(Due::Steady(now.steady.plus_millis(RETRY_TICK_MS)), id);
                }
                Err(_) => {}
            }
        }
        drop(batch);
        if decided {
            self.arm();
        }
    }

    fn arm(&mut self) {
        let (id, due) = (self.decider.id(), self.decider.deadlines());
        let armed = std::mem::replace(&mut self.armed, due);
        if let Some(at) = due.wall.filter(|_| due.wall != armed.wall) {
            self.scheduler.arm(Due::Wall(at), id);
        }
        if let Some(at) = due.steady.filter(|_| due.steady != armed.steady) {
            self.scheduler.arm(Due::Steady(at), id);
        }
    }
}

impl Actor for DropActor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        context.set_mailbox_capacity(DROP_MAILBOX_MAX);
        context.spawn(WhenEmpty);
        if self.decider.is_announced() {
            self.arm();
        }
    }
}

impl Handler<Asks> for DropActor {
    type Result = ();

    fn handle(&mut self, Asks(asks): Asks, _: &mut Self::Context) {
        self.queued.taken(asks.len());
        self.waiting.extend(asks);
        if self.waiting.len() >= DROP_BATCH_MAX {
            self.decide();
        }
    }
}

impl Handler<Register> for DropActor {
    type Result = ();

    fn handle(&mut self, Register(reply): Register, _: &mut Self::Context) {
        self.decide();
        let _guard = AbortOnPanic(self.decider.id());
        self.decider.announce(reply);
        if self.decider.is_announced() {
            self.arm();
        }
    }
}

impl Handler<Retire> for DropActor {
    type Result = Option<Vec<KeyDigest>>;

    fn handle(&mut self, Retire(horizon): Retire, _: &mut Self::Context) -> Option<Vec<KeyDigest>> {
        self.decide();
        self.decider.retire(horizon)
    }
}

impl Handler<BeginCopy> for DropActor {
    type Result = MessageResult<BeginCopy>;

    fn handle(&mut self, begin: BeginCopy, _: &mut Self::Context) -> Self::Result {
        self.decide();
        let _guard = AbortOnPanic(self.decider.id());
        MessageResult(self.decider.begin_copy(begin))
    }
}

impl Handler<CopyRows> for DropActor {
    type Result = Option<Rows>;

    fn handle(&mut self, CopyRows(rows_max): CopyRows, _: &mut Self::Context) -> Option<Rows> {
        // Commands that came before do not wait for it.
        self.decide();
        let _guard = AbortOnPanic(self.decider.id());
        self.decider.copy_rows(rows_max)
    }
}

impl Handler<EndCopy> for DropActor {
    type Result = ();

    fn handle(&mut self, _: EndCopy, _: &mut Self::Context) {
        self.decider.end_copy();
    }
}

/// Decides the waiting commands when the mailbox is empty: a context then polls its futures.
struct WhenEmpty;

impl ActorFuture<DropActor> for WhenEmpty {
    type Output = ();

    fn poll(
        self: Pin<&mut Self>,
        actor: &mut DropActor,
        context: &mut Context<DropActor>,
        _: &mut task::Context<'_>,
    ) -> Poll<()> {
        actor.decide();
        // No sender is left: this future must not keep the actor alive.
        if context.connected() { Poll::Pending } else { Poll::Ready(()) }
    }
}

/// A panic in the engine is a broken invariant. Going on could oversell; the journal has everything that was
/// acknowledged, so the process aborts and recovers.
struct AbortOnPanic(DropId);

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!(drop = %self.0, "a drop's state machine panicked; aborting, a restart recovers from the journal");
            std::process::abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actors::Decisions;
    use crate::actors::inventory::mailbox::Mailbox;
    use crate::actors::inventory::snapshot::Answer;
    use crate::domain::fixtures::drop_of;
    use crate::domain::{DropSpec, Refusal};
    use crate::engine::fixtures::reserve_in;
    use crate::engine::{DropState, Outcome, Reserve};
    use crate::journal::{Journal, JournalOptions, MemoryDevice};
    use actix::Addr;
    use std::sync::Arc;
    use std::time::Duration;
    use tokio::sync::oneshot::{Receiver, channel};

    type Reply = Receiver<Result<Answer, AskError>>;

    /// A live drop on this thread: commands sent without a pause wait in its mailbox together.
    async fn live(spec: &DropSpec, journal: &Journal<Decisions>) -> (Addr<DropActor>, Mailbox) {
        let decider = Decider::alone(DropState::scheduled(spec.clone()), false, journal.handle());
        let queued = Queued::default();
        let address = DropActor::new(decider, Clock::default(), Scheduler::default(), queued.clone()).start();
        let mailbox = Mailbox::new(address.clone(), queued);
        let (reply, answer) = channel();
        mailbox.announce(reply).unwrap();
        answer.await.unwrap().unwrap();
        (address, mailbox)
    }

    fn journal() -> Journal<Decisions> {
        let options = JournalOptions::in_memory();
        Journal::open(&options, Arc::new(MemoryDevice::new()), 0).unwrap().0
    }

    fn ask(mailbox: &Mailbox, command: Command) -> Reply {
        let (reply, answer) = channel();
        mailbox.ask(Ask { command, reply: Some(reply) });
        answer
    }

    #[test]
    fn a_crowd_that_waits_is_answered_in_its_order() {
        actix::System::new().block_on(async {
            let (spec, journal) = (drop_of(100), journal());
            let (_, mailbox) = live(&spec, &journal).await;
            // More than two full batches; each buyer's first request is repeated in the same batch.
            let asks: Vec<Reserve> = (0..75).map(|_| reserve_in(&spec)).flat_map(|ask| [ask.clone(), ask]).collect();
            let asks: Vec<Reserve> = asks.into_iter().chain((0..50).map(|_| reserve_in(&spec))).collect();
            let answers: Vec<Reply> =
                asks.iter().map(|one| ask(&mailbox, Command::Reserve(Box::new(one.clone())))).collect();
            let (mut held, mut sequence) = (0, 0);
            for (at, (one, answer)) in asks.iter().zip(answers).enumerate() {
                let answer = answer.await.unwrap().unwrap();
                match answer.outcome {
                    Outcome::Order { order, replayed } => {
                        assert!(answer.sequence >= sequence, "in order");
                        sequence = answer.sequence;
                        assert_eq!((order.id, replayed), (one.order, at < 150 && at % 2 == 1));
                        held += u32::from(!replayed);
                    }
                    Outcome::Refused(refusal) => assert_eq!((refusal, held), (Refusal::SoldOut, 100)),
                    other => panic!("{other:?}"),
                }
            }
            assert_eq!(held, 100);
        });
    }

    #[test]
    fn it_goes_when_nobody_can_reach_it() {
        actix::System::new().block_on(async {
            let (spec, journal) = (drop_of(1), journal());
            let (address, mailbox) = live(&spec, &journal).await;
            let weak = address.downgrade();
            drop((address, mailbox));
            let gone = async {
                while weak.upgrade().is_some() {
                    tokio::task::yield_now().await;
                }
            };
            tokio::time::timeout(Duration::from_secs(10), gone).await.expect("it has stopped");
        });
    }
}
