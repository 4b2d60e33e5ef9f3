//! The way to a drop's actor.
//!
//! A worker with many requests at once would wake the drop's thread for each of them: two thread switches for a
//! decision of a microsecond. Commands on a worker's thread are therefore collected, and sent when the worker has
//! handled everything that had arrived, or when there are `TOGETHER_MAX`. Nothing waits for more to come: a single
//! command leaves at once.

use super::drop_actor::DropActor;
use super::messages::{Ask, Asks, BeginCopy, CopyAnswer, CopyRows, EndCopy, Queued, Register, Retire};
use crate::actors::inventory::snapshot::{AskError, ReplyTo};
use crate::domain::{KeyDigest, Timestamp};
use crate::engine::Command;
use crate::engine::checkpoint::Rows;
use actix::Addr;
use actix::prelude::SendError;
use std::cell::RefCell;
use std::future::poll_fn;
use std::task::{Poll, Waker};

/// Commands sent together, at most: enough to make the thread switch cheap, few enough that the first does not wait
/// long.
const TOGETHER_MAX: usize = 16;

/// A drop actor's mailbox. Cheap to clone.
#[derive(Clone)]
pub struct Mailbox {
    address: Addr<DropActor>,
    queued: Queued,
}

/// Commands that a thread has collected for one mailbox.
struct Collected {
    mailbox: Mailbox,
    asks: Vec<Ask>,
}

thread_local! {
    static COLLECTED: RefCell<Vec<Collected>> = const { RefCell::new(Vec::new()) };
    /// Wakes the sending task of this thread, if the thread has one.
    static SENDER: RefCell<Option<Waker>> = const { RefCell::new(None) };
}

/// Collects the commands of this thread from now on. Call it on a task of its actix runtime.
pub fn collect_turns() {
    actix::spawn(poll_fn(|context| -> Poll<()> {
        // Woken, it runs after all tasks that are ready now.
        SENDER.set(Some(context.waker().clone()));
        Mailbox::send_collected();
        Poll::Pending
    }));
}

impl Mailbox {
    /// `queued` is shared with the actor, which subtracts the commands that it takes out.
    #[must_use]
    pub fn new(address: Addr<DropActor>, queued: Queued) -> Self {
        Self { address, queued }
    }

    /// Sends a command. The caller gets `Overloaded` if too many wait, `Gone` if the actor has stopped.
    pub fn ask(&self, ask: Ask) {
        let Some(sender) = SENDER.with_borrow(Clone::clone) else { return self.send(vec![ask]) };
        let full = COLLECTED.with_borrow_mut(|all| {
            let of_this = |collected: &Collected| collected.mailbox.address == self.address;
            let at = all.iter().position(of_this).unwrap_or_else(|| {
                if all.is_empty() {
                    sender.wake();
                }
                all.push(Collected { mailbox: self.clone(), asks: Vec::new() });
                all.len() - 1
            });
            all[at].asks.push(ask);
            (all[at].asks.len() >= TOGETHER_MAX).then(|| std::mem::take(&mut all[at].asks))
        });
        if let Some(asks) = full {
            self.send(asks);
        }
    }

    fn send_collected() {
        let all = COLLECTED.with_borrow_mut(std::mem::take);
        all.into_iter().filter(|collected| !collected.asks.is_empty()).for_each(|Collected { mailbox, asks }| {
            mailbox.send(asks);
        });
    }

    fn send(&self, asks: Vec<Ask>) {
        let Err((error, asks)) = self.try_send(asks) else { return };
        for reply in asks.into_iter().filter_map(|ask| ask.reply) {
            let _ = reply.send(Err(error));
        }
    }

    fn try_send(&self, asks: Vec<Ask>) -> Result<(), (AskError, Vec<Ask>)> {
        if !self.queued.admits(asks.len()) {
            return Err((AskError::Overloaded, asks));
        }
        let Err(error) = self.address.try_send(Asks(asks)) else { return Ok(()) };
        let (error, Asks(asks)) = refused(error);
        self.queued.taken(asks.len());
        Err((error, asks))
    }

    /// Sends the actor a tick.
    ///
    /// # Errors
    /// `Overloaded` if too many commands wait, `Gone` if the actor has stopped.
    pub fn tick(&self) -> Result<(), AskError> {
        self.try_send(vec![Ask { command: Command::Tick, reply: None }]).map_err(|(error, _)| error)
    }

    /// Asks the actor to record that its drop exists, see [`Register`]. Never waits.
    ///
    /// # Errors
    /// `Overloaded` if the mailbox is full, `Gone` if the actor has stopped.
    pub fn announce(&self, reply: ReplyTo) -> Result<(), AskError> {
        self.address.try_send(Register(reply)).map_err(|error| refused(error).0)
    }

    /// Asks the actor to retire, see [`Retire`]. That may overtake commands that are still collected.
    pub async fn retire(&self, horizon: Timestamp) -> Option<Vec<KeyDigest>> {
        // A stopped actor has retired.
        self.address.send(Retire(horizon)).await.unwrap_or_else(|_| Some(Vec::new()))
    }
}

impl Mailbox {
    /// See [`BeginCopy`].
    pub async fn begin_copy(&self, begin: BeginCopy) -> CopyAnswer {
        self.address.send(begin).await.unwrap_or(CopyAnswer::NotNow)
    }

    /// See [`CopyRows`]; `None` too where the actor has stopped.
    pub async fn copy_rows(&self, rows_max: u32) -> Option<Rows> {
        self.address.send(CopyRows(rows_max)).await.ok().flatten()
    }

    /// See [`EndCopy`].
    pub async fn end_copy(&self) {
        let _ = self.address.send(EndCopy).await;
    }
}

/// Splits a send error into its reason and the message.
fn refused<M>(error: SendError<M>) -> (AskError, M) {
    match error {
        SendError::Full(message) => (AskError::Overloaded, message),
        SendError::Closed(message) => (AskError::Gone, message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actors::{Answer, Clock, Decisions, DropHandle, Registry, Scheduler};
    use crate::domain::fixtures::drop_of;
    use crate::domain::limits::DROP_MAILBOX_MAX;
    use crate::engine::Outcome;
    use crate::engine::fixtures::reserve_in;
    use crate::journal::{Journal, JournalOptions, MemoryDevice};
    use futures_util::future::join_all;
    use std::sync::Arc;

    fn world() -> (Journal<Decisions>, Registry) {
        let options = JournalOptions::in_memory();
        let (journal, _) = Journal::open(&options, Arc::new(MemoryDevice::new()), 0).unwrap();
        let registry = Registry::new(journal.handle(), Clock::default(), Scheduler::default(), 1);
        (journal, registry)
    }

    async fn live(registry: &Registry, stock: u32) -> Arc<DropHandle> {
        let (drop, _) = registry.schedule(drop_of(stock)).await.unwrap();
        drop.ask(Command::Start).await.unwrap();
        drop
    }

    async fn reserve(drop: &DropHandle) -> Result<Answer, AskError> {
        drop.ask(Command::Reserve(Box::new(reserve_in(&drop.spec)))).await
    }

    fn has_sold(answer: &Result<Answer, AskError>) -> bool {
        matches!(answer.as_ref().unwrap().outcome, Outcome::Order { .. })
    }

    /// More commands than are sent together, to two drops alternately.
    async fn first_come_first_served(one: &DropHandle, other: &DropHandle) {
        let asked = (0..50).map(|n| reserve(if n % 2 == 0 { one } else { other }));
        let sold: Vec<bool> = join_all(asked).await.iter().map(has_sold).collect();
        let of = |first: usize| sold.iter().copied().skip(first).step_by(2).collect::<Vec<_>>();
        assert_eq!(of(0), [[true; 20].as_slice(), &[false; 5]].concat());
        assert_eq!(of(1), [[true; 3].as_slice(), &[false; 22]].concat());
    }

    #[actix::test]
    async fn commands_keep_their_order_with_turns_and_without() {
        for has_turns in [true, false] {
            let (_journal, registry) = world();
            let (one, other) = (live(&registry, 20).await, live(&registry, 3).await);
            if has_turns {
                collect_turns();
                tokio::task::yield_now().await;
                assert!(SENDER.with_borrow(Option::is_some));
                first_come_first_served(&one, &other).await;
            } else {
                std::thread::spawn(move || without_turns(first_come_first_served(&one, &other))).join().unwrap();
            }
            COLLECTED.with_borrow(|left| assert!(left.is_empty()));
            registry.stop();
        }
    }

    fn without_turns(future: impl Future<Output = ()>) {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future);
        assert!(SENDER.with_borrow(Option::is_none));
    }

    #[actix::test]
    async fn who_comes_to_a_drop_that_leaves_hears_that_it_is_gone() {
        collect_turns();
        tokio::task::yield_now().await;
        let (_journal, registry) = world();
        let drop = live(&registry, 1).await;
        drop.ask(Command::Cancel).await.unwrap();
        while registry.retire(&drop, Timestamp::EPOCH).await.is_none() {}
        let asked = join_all((0..20).map(|_| reserve(&drop)));
        let (answers, ()) = futures_util::future::join(asked, async { registry.remove(&drop) }).await;
        assert!(answers.iter().all(|answer| *answer == Err(AskError::Gone)), "{answers:?}");
        registry.stop();
    }

    #[test]
    fn only_so_many_may_wait() {
        let queued = Queued::default();
        assert!(queued.admits(DROP_MAILBOX_MAX - 1));
        assert!(!queued.admits(2));
        assert!(queued.admits(1) && !queued.admits(1));
        queued.taken(5);
        assert!(queued.admits(5) && !queued.admits(1));
    }
}
