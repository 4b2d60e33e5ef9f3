//! The sessions' interface to the broadcaster.

use super::broadcaster::Broadcaster;
use super::messages::{Attach, Command, InboxChange, SHARDS_MAX, SubscriberId, ToShard};
use crate::actors::clock::Clock;
use crate::actors::outage::Outage;
use crate::actors::realtime::event::Topic;
use crate::actors::realtime::position::Offset;
use crate::domain::limits::{SESSIONS_ACCEPTED_PER_SECOND_MAX, SESSIONS_MAX, SHARD_QUEUE_MAX};
use crate::domain::{CreatorId, DropSpec, Revocation, StockBoard, UserId};
use actix::Addr;
use governor::clock::DefaultClock;
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use std::{
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::{mpsc, watch};

/// Sessions that a shutting-down server closes in a second.
const DRAINED_PER_SECOND: u32 = 2_000;

/// Why a session may not join.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum JoinError {
    /// `SESSIONS_MAX` is reached, or the broadcaster's mailbox is full.
    #[error("too many sessions")]
    Full,
    /// More than `SESSIONS_ACCEPTED_PER_SECOND_MAX` sessions were opened in a second.
    #[error("too many sessions at once")]
    TooFast,
}

/// Sends commands to the broadcaster actor. Cheap to clone; calls never block.
#[derive(Clone)]
pub struct Hub(Arc<Inner>);

struct Inner {
    broadcaster: Addr<Broadcaster>,
    clock: Clock,
    outage: Outage,
    shards: AtomicUsize,
    open: AtomicUsize,
    gate: Gate<DefaultClock>,
    broken: watch::Sender<bool>,
}

impl Hub {
    /// A hub for a broadcaster. During an `outage` sessions outlive their tokens.
    #[must_use]
    pub fn new(broadcaster: Addr<Broadcaster>, clock: Clock, outage: Outage) -> Self {
        let gate = gate(SESSIONS_ACCEPTED_PER_SECOND_MAX as u32, DefaultClock::default());
        let (shards, open) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Self(Arc::new(Inner { broadcaster, clock, outage, shards, open, gate, broken: watch::Sender::new(false) }))
    }

    /// Returns when a worker's sessions cannot receive events any more, which only a restart repairs.
    pub async fn broken(&self) {
        // The sender lives as long as this hub.
        let _ = self.0.broken.subscribe().wait_for(|broken| *broken).await;
    }

    /// How many sessions are open.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.0.open.load(Ordering::Relaxed)
    }

    pub(super) fn next_shard(&self) -> usize {
        self.0.shards.fetch_add(1, Ordering::Relaxed)
    }

    /// Reports that a worker's sessions cannot receive events any more.
    pub(super) fn set_broken(&self) {
        self.0.broken.send_replace(true);
    }

    pub(super) fn clocks(&self) -> (Clock, Outage) {
        (self.0.clock.clone(), self.0.outage.clone())
    }

    /// A new queue for a shard; `None` if the broadcaster has stopped.
    pub(in crate::actors) fn register(&self, shard: usize) -> Option<mpsc::Receiver<ToShard>> {
        let (sender, queue) = mpsc::channel(SHARD_QUEUE_MAX);
        if shard >= SHARDS_MAX || !self.0.broadcaster.connected() {
            return None;
        }
        // At most one per worker, so the mailbox cannot grow without bound.
        self.0.broadcaster.do_send(Command::Shard(shard, sender));
        Some(queue)
    }

    /// Counts a new session.
    pub(in crate::actors) fn admit(&self) -> Result<(), JoinError> {
        if self.0.gate.check().is_err() {
            return Err(JoinError::TooFast);
        }
        if self.0.open.fetch_add(1, Ordering::Relaxed) >= SESSIONS_MAX {
            self.0.open.fetch_sub(1, Ordering::Relaxed);
            return Err(JoinError::Full);
        }
        Ok(())
    }

    /// Removes a session. Never refused: at most once per admitted session, so the mailbox cannot grow without bound.
    pub(in crate::actors) fn left(&self, subscriber: SubscriberId, user: Option<UserId>) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
        if let Some(user) = user {
            self.0.broadcaster.do_send(Command::Leave(subscriber, user));
        }
    }

    /// Assigns a session to a user: from now on it follows the user's follows. Past `SESSIONS_PER_USER_MAX` the user's
    /// oldest session is closed.
    pub(in crate::actors) fn own(&self, subscriber: SubscriberId, user: UserId) -> Result<(), JoinError> {
        self.wish(Command::Own(subscriber, user))
    }

    /// Subscribes a session to `user:{id}` and to the creators that the user follows. Call it after `Shard::own`,
    /// with a list read after that: then no follow is lost in between.
    ///
    /// # Errors
    /// [`JoinError::Full`] if the broadcaster's mailbox is full.
    pub fn attach(&self, subscriber: SubscriberId, joining: Attach) -> Result<(), JoinError> {
        self.wish(Command::Attach(subscriber, Box::new(joining)))
    }

    /// Subscribes to topics (the session checks its own bound and its right to them). The session gets the events
    /// missed since that offset, or a snapshot, then an answer, and then all later events.
    ///
    /// # Errors
    /// [`JoinError::Full`] if the broadcaster's mailbox is full.
    pub fn subscribe(
        &self,
        subscriber: SubscriberId,
        topics: Vec<Topic>,
        since: Option<Offset>,
    ) -> Result<(), JoinError> {
        self.wish(Command::Subscribe(subscriber, topics, since))
    }

    /// Ends the client's subscriptions to topics; those that come with the account stay. After the answer it gets no
    /// more events of the others.
    ///
    /// # Errors
    /// [`JoinError::Full`] if the broadcaster's mailbox is full.
    pub fn unsubscribe(&self, subscriber: SubscriberId, topics: Vec<Topic>) -> Result<(), JoinError> {
        self.wish(Command::Unsubscribe(subscriber, topics))
    }

    /// Updates the open sessions of `user` after a follow or an unfollow. Waits for a slot in the mailbox: these
    /// commands must not be lost, and their rate is bounded by the database's writes.
    pub async fn follow_changed(&self, user: UserId, creator: CreatorId, follows: bool) {
        // Without a broadcaster there are no sessions.
        let _ = self.0.broadcaster.send(Command::FollowChanged(user, creator, follows)).await;
    }

    /// Announces a drop that is about to return to memory: its events are published from now on.
    pub fn watch(&self, spec: Arc<DropSpec>, board: StockBoard) {
        self.0.broadcaster.do_send(Command::Watch(spec, board));
    }

    /// Closes the sessions of `user` whose access tokens were revoked. Never refused: a revocation is written to the
    /// database first, so the mailbox cannot grow without bound.
    pub fn revoke(&self, user: UserId, what: Revocation) {
        self.0.broadcaster.do_send(Command::Revoke(user, what));
    }

    /// Informs users' other sessions about changes of their inboxes. Dropped if the mailbox is full: they see the
    /// change at the next read.
    pub fn inbox_changed(&self, changes: Vec<InboxChange>) {
        let _ = self.wish(Command::InboxChanged(changes));
    }

    /// Closes every session, spread over a time that grows with their number but is at most `timeout`. Returns when
    /// they are closed or `timeout` is over.
    pub async fn drain(&self, timeout: Duration) {
        let sessions = u32::try_from(self.sessions()).unwrap_or(u32::MAX);
        let window = (Duration::from_secs(1) * sessions / DRAINED_PER_SECOND).min(timeout);
        self.0.broadcaster.do_send(Command::Drain(window));
        let deadline = Instant::now() + window + Duration::from_millis(1_500);
        while self.sessions() > 0 && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn wish(&self, wish: Command) -> Result<(), JoinError> {
        self.0.broadcaster.try_send(wish).map_err(|_| JoinError::Full)
    }
}

type Gate<C> = RateLimiter<NotKeyed, InMemoryState, C, NoOpMiddleware<<C as governor::clock::Clock>::Instant>>;

/// Admits `per_second` sessions a second, and as many at once.
fn gate<C: governor::clock::Clock>(per_second: u32, clock: C) -> Gate<C> {
    let per_second = NonZeroU32::new(per_second).unwrap_or(NonZeroU32::MIN);
    RateLimiter::direct_with_clock(Quota::per_second(per_second), clock)
}

#[cfg(test)]
mod tests {
    use super::*;
    use governor::clock::FakeRelativeClock;

    #[test]
    fn a_crowd_is_let_in_at_its_rate() {
        let clock = FakeRelativeClock::default();
        let gate = gate(1_000, clock.clone());
        let admitted_after = |ms: u64| {
            clock.advance(Duration::from_millis(ms));
            (0..5_000).filter(|_| gate.check().is_ok()).count()
        };
        assert_eq!(admitted_after(0), 1_000);
        assert_eq!(admitted_after(0), 0);
        assert_eq!(admitted_after(100), 100);
        assert_eq!(admitted_after(60_000), 1_000, "a quiet minute is not saved up");
    }
}
