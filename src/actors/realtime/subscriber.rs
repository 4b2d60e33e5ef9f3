//! One session in its worker's [shard](super::shard). It never leaves its thread, so it needs no lock.

use super::outbox::{Message, Outbox, Outgoing};
use crate::actors::outage::Outage;
use crate::actors::realtime::event::{CloseCause, Topic};
use crate::actors::realtime::position::StreamPosition;
use crate::domain::{CreatorId, Login, Timestamp, UserId};
use hashbrown::HashMap;
use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Weak,
    task::{Context, Waker},
    time::{Duration, Instant},
};

/// How often a session is pinged.
pub const HEARTBEAT: Duration = Duration::from_secs(25);
/// Time limit of the pong.
pub const PONG_DUE: Duration = Duration::from_secs(8);
/// How long a closed session waits for the client's close. Without it the socket would be reset before the client reads
/// the close, and the client would not learn the cause.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// When the connection of a closed session is aborted, even if the client has not read the close.
const ABORT_AFTER: Duration = Duration::from_secs(5);

/// Aborts a connection from outside its task.
pub trait AbortHandle: Send + Sync {
    /// Closes the socket without waiting for unsent bytes.
    fn abort(&self);
}

/// Why a session gets a topic. Both reasons may hold; ending one leaves the other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Subscription {
    /// The client has subscribed.
    pub asked: bool,
    /// It comes with the account: its own topic, or a creator that it follows.
    pub granted: bool,
    /// Events up to this position are delivered already.
    pub from: StreamPosition,
}

impl Subscription {
    /// A subscription by the client.
    #[must_use]
    pub fn asked(from: StreamPosition) -> Self {
        Self { asked: true, granted: false, from }
    }

    /// A subscription that comes with the account.
    #[must_use]
    pub fn granted(from: StreamPosition) -> Self {
        Self { asked: false, granted: true, from }
    }
}

/// The properties of a new session.
pub struct Opening {
    /// Whether it answers pings; otherwise only its socket shows that it is gone.
    pub answers: bool,
    /// Aborts the connection, while it exists.
    pub abort_handle: Option<Weak<dyn AbortHandle>>,
}

/// A session: its subscriptions, its queue and its timeouts.
pub struct Subscriber {
    pub(in crate::actors) id: u64,
    outbox: RefCell<Outbox>,
    waker: RefCell<Option<Waker>>,
    pub(in crate::actors) topics: RefCell<HashMap<Topic, Subscription>>,
    /// The number of the last published message that it got.
    pub(in crate::actors) last: Cell<u64>,
    pub(in crate::actors) user: Cell<Option<UserId>>,
    pub(in crate::actors) login: Cell<Option<Login>>,
    /// Whether the followed creators are known.
    pub(in crate::actors) joined: Cell<bool>,
    /// Creators unfollowed while the list of followed ones was loading: the list may be older.
    pub(in crate::actors) left: RefCell<Vec<CreatorId>>,
    opening: Opening,
    heard_at: Cell<Instant>,
    pinged_at: Cell<Instant>,
    expires_at: Cell<Option<Timestamp>>,
    closed_at: Cell<Option<Instant>>,
    ended: Cell<bool>,
}

impl Subscriber {
    pub(in crate::actors) fn new(id: u64, opening: Opening, now: Instant) -> Self {
        Self {
            id,
            outbox: RefCell::default(),
            waker: RefCell::default(),
            topics: RefCell::default(),
            last: Cell::new(0),
            user: Cell::new(None),
            login: Cell::new(None),
            joined: Cell::new(false),
            left: RefCell::default(),
            opening,
            heard_at: Cell::new(now),
            pinged_at: Cell::new(now),
            expires_at: Cell::new(None),
            closed_at: Cell::new(None),
            ended: Cell::new(false),
        }
    }

    /// The session's number in its shard.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The session's account, once it is authenticated.
    #[must_use]
    pub fn user(&self) -> Option<UserId> {
        self.user.get()
    }

    /// Records that the client sent something.
    pub fn heard(&self, now: Instant) {
        self.heard_at.set(now);
    }

    /// Binds the session to its access token: it ends when the token expires or is revoked.
    pub fn ends_with(&self, login: Login, expires_at: Timestamp) {
        self.login.set(Some(login));
        self.expires_at.set(Some(expires_at));
    }

    /// Queues a message; past the byte bound the session is closed.
    pub(in crate::actors) fn push(&self, message: &Rc<Message>) {
        if !self.outbox.borrow_mut().push(message) {
            self.closed_at.set(self.closed_at.get().or_else(|| Some(Instant::now())));
        }
    }

    /// Closes after the queued messages are sent.
    pub fn close(&self, cause: CloseCause) {
        self.outbox.borrow_mut().close(cause);
        self.closing();
        self.wake();
    }

    /// Records that the session has begun to close.
    pub fn closing(&self) {
        self.closed_at.set(self.closed_at.get().or_else(|| Some(Instant::now())));
    }

    /// Whether it is closed or closing.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        self.closed_at.get().is_some()
    }

    pub(in crate::actors) fn wake(&self) {
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    /// The next action, if there is one; otherwise the caller's waker is stored.
    pub fn next(&self, context: &mut Context<'_>) -> Option<Outgoing> {
        let next = self.outbox.borrow_mut().pop();
        if next.is_none() {
            let mut waker = self.waker.borrow_mut();
            if !waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
                *waker = Some(context.waker().clone());
            }
        }
        next
    }

    /// Whether the close is complete: nothing more is sent or awaited.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.ended.get()
    }

    /// Checks the timeouts of a session: pings, expired tokens, closes, and clients that do not read. Called about once
    /// a second, from outside the session.
    pub(in crate::actors) fn tick(&self, now: Instant, steady: Timestamp, outage: &Outage) {
        if let Some(closed_at) = self.closed_at.get() {
            let closed_for = now.saturating_duration_since(closed_at);
            if closed_for >= CLOSE_TIMEOUT && !self.ended.replace(true) {
                self.wake();
            }
            if closed_for >= ABORT_AFTER {
                self.abort();
            }
        } else if self.has_expired(steady, outage) {
            self.close(CloseCause::TokenExpired);
        } else if self.pinged_at.get() > self.heard_at.get() {
            let waits = now.saturating_duration_since(self.pinged_at.get()) >= PONG_DUE;
            if waits && (self.opening.answers || self.outbox.borrow().ping_waits()) {
                self.close(CloseCause::TooSlow);
            } else if waits {
                self.heard_at.set(self.pinged_at.get());
            }
        } else if now.saturating_duration_since(self.pinged_at.get()) >= HEARTBEAT {
            self.pinged_at.set(now);
            self.outbox.borrow_mut().ping();
            self.wake();
        }
    }

    fn has_expired(&self, steady: Timestamp, outage: &Outage) -> bool {
        let login = self.login.get().unwrap_or_default();
        self.expires_at.get().is_some_and(|at| steady >= at && outage.prolongs(at, login, steady).is_none())
    }

    /// Aborts the connection, if it still exists.
    pub(in crate::actors) fn abort(&self) {
        if let Some(abort_handle) = self.abort_handle() {
            abort_handle.abort();
        }
    }

    fn abort_handle(&self) -> Option<std::sync::Arc<dyn AbortHandle>> {
        self.opening.abort_handle.as_ref().and_then(Weak::upgrade)
    }

    /// The connection of a closed session after its end, perhaps with unread bytes, and when to abort it.
    pub(in crate::actors) fn remains(&self) -> Option<(Instant, Weak<dyn AbortHandle>)> {
        let closed_at = self.closed_at.get()?;
        self.opening.abort_handle.clone().map(|abort_handle| (closed_at + ABORT_AFTER, abort_handle))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };
    use std::task::Waker;

    #[derive(Default)]
    struct Line(AtomicUsize);

    impl AbortHandle for Line {
        fn abort(&self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn subscriber(answers: bool, now: Instant) -> (Subscriber, Arc<Line>) {
        let line = Arc::new(Line::default());
        let weak: Weak<dyn AbortHandle> = Arc::downgrade(&(Arc::clone(&line) as Arc<dyn AbortHandle>));
        (Subscriber::new(1, Opening { answers, abort_handle: Some(weak) }, now), line)
    }

    fn taken(subscriber: &Subscriber) -> Option<Outgoing> {
        subscriber.next(&mut Context::from_waker(Waker::noop()))
    }

    fn wall() -> Timestamp {
        Timestamp::from_millis(0)
    }

    #[test]
    fn who_does_not_answer_a_ping_is_closed_and_then_cut() {
        let start = Instant::now();
        let (subscriber, line) = subscriber(true, start);
        subscriber.tick(start + HEARTBEAT - Duration::from_millis(1), wall(), &Outage::default());
        assert!(taken(&subscriber).is_none());
        let pinged = start + HEARTBEAT;
        subscriber.tick(pinged, wall(), &Outage::default());
        assert!(matches!(taken(&subscriber), Some(Outgoing::Ping)));
        subscriber.tick(pinged + PONG_DUE - Duration::from_millis(1), wall(), &Outage::default());
        assert!(!subscriber.is_closing());
        subscriber.tick(pinged + PONG_DUE, wall(), &Outage::default());
        assert!(matches!(taken(&subscriber), Some(Outgoing::Close(CloseCause::TooSlow))));
        subscriber.tick(Instant::now() + CLOSE_TIMEOUT, wall(), &Outage::default());
        assert!(subscriber.has_ended() && line.0.load(Ordering::Relaxed) == 0);
        subscriber.tick(Instant::now() + ABORT_AFTER, wall(), &Outage::default());
        assert_eq!(line.0.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn whoever_answers_or_cannot_stays() {
        let start = Instant::now();
        for answers in [true, false] {
            let (subscriber, _) = subscriber(answers, start);
            let mut now = start;
            for _ in 0..5 {
                now += HEARTBEAT;
                subscriber.tick(now, wall(), &Outage::default());
                assert!(matches!(taken(&subscriber), Some(Outgoing::Ping)), "{answers}");
                now += Duration::from_secs(1);
                if answers {
                    subscriber.heard(now);
                }
                now += PONG_DUE;
                subscriber.tick(now, wall(), &Outage::default());
            }
            assert!(!subscriber.is_closing());
        }
    }

    #[test]
    fn a_ping_that_nobody_takes_ends_a_session_that_cannot_answer() {
        let start = Instant::now();
        let (subscriber, _) = subscriber(false, start);
        subscriber.tick(start + HEARTBEAT, wall(), &Outage::default());
        subscriber.tick(start + HEARTBEAT + PONG_DUE, wall(), &Outage::default());
        assert!(subscriber.is_closing());
    }

    #[test]
    fn a_session_outlives_its_token_while_the_database_is_away() {
        let (subscriber, _) = subscriber(true, Instant::now());
        let (at, outage) = (Timestamp::from_millis, Outage::default());
        subscriber.ends_with(Login::default(), at(2_000));
        outage.observe(true, at(1_000), at(1_000));
        outage.observe(false, at(1_500), at(1_500));
        subscriber.tick(Instant::now(), at(900_000), &outage);
        assert!(!subscriber.is_closing());
        outage.observe(true, at(901_000), at(901_000));
        subscriber.tick(Instant::now(), at(901_000), &outage);
        assert!(matches!(taken(&subscriber), Some(Outgoing::Close(CloseCause::TokenExpired))));
    }

    #[test]
    fn a_session_ends_with_its_token_unless_a_newer_one_comes() {
        let (subscriber, _) = subscriber(true, Instant::now());
        subscriber.ends_with(Login::default(), Timestamp::from_millis(1_000));
        subscriber.tick(Instant::now(), Timestamp::from_millis(999), &Outage::default());
        subscriber.ends_with(Login::default(), Timestamp::from_millis(2_000));
        subscriber.tick(Instant::now(), Timestamp::from_millis(1_999), &Outage::default());
        assert!(!subscriber.is_closing());
        subscriber.tick(Instant::now(), Timestamp::from_millis(2_000), &Outage::default());
        assert!(matches!(taken(&subscriber), Some(Outgoing::Close(CloseCause::TokenExpired))));
    }
}
