//! The sessions of one worker and their subscriptions. Everything here stays on the worker's thread, as its sessions
//! do, so delivery to thousands of them takes no lock and no shared counter, and every core serves its own.
//!
//! It gets its messages from the [broadcaster](super::broadcaster) in one queue, and handles them in order.

use super::hub::{Hub, JoinError};
use super::messages::{Publication, Replay, SHARDS_MAX, SubscriberId, ToShard};
use super::outbox::Message;
use crate::actors::clock::Clock;
use crate::actors::outage::Outage;
use crate::actors::realtime::event::{CloseCause, Event, Topic};
use crate::actors::realtime::position::StreamPosition;
pub use crate::actors::realtime::subscriber::{AbortHandle, Opening, Subscriber, Subscription};
use crate::domain::limits::FOLLOWED_PER_SESSION_MAX;
use crate::domain::{CreatorId, UserId};
use bytes::Bytes;
use futures_util::FutureExt;
use hashbrown::HashMap;
use smallvec::SmallVec;
use std::panic::AssertUnwindSafe;
use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

/// How often timeouts are checked.
const TICK: Duration = Duration::from_secs(1);

type Listeners = SmallVec<[Rc<Subscriber>; 2]>;

/// All sessions of one worker.
pub struct Shard {
    index: usize,
    hub: Hub,
    clock: Clock,
    outage: Outage,
    subscribers: RefCell<HashMap<u64, Rc<Subscriber>>>,
    topics: RefCell<HashMap<Topic, Listeners>>,
    order: Cell<u64>,
    next: Cell<u64>,
    stock_messages: RefCell<Arc<AtomicU64>>,
    /// Connections of ended sessions, and when they are aborted.
    remains: RefCell<Vec<(Instant, Weak<dyn AbortHandle>)>>,
    draining: Cell<bool>,
}

impl Shard {
    pub(in crate::actors) fn new(index: usize, hub: Hub, clock: Clock, outage: Outage) -> Self {
        Self {
            index,
            hub,
            clock,
            outage,
            subscribers: RefCell::default(),
            topics: RefCell::default(),
            order: Cell::new(0),
            next: Cell::new(0),
            stock_messages: RefCell::default(),
            remains: RefCell::default(),
            draining: Cell::new(false),
        }
    }

    /// The hub that the shard is registered with.
    #[must_use]
    pub fn hub(&self) -> &Hub {
        &self.hub
    }

    /// The session's address for the broadcaster.
    #[must_use]
    pub fn reference(&self, subscriber: &Subscriber) -> SubscriberId {
        SubscriberId { shard: self.index, subscriber: subscriber.id }
    }

    /// Opens a session. The caller must [leave](Shard::leave) it.
    ///
    /// # Errors
    /// [`JoinError`] at a bound.
    pub fn open(&self, opening: Opening) -> Result<Rc<Subscriber>, JoinError> {
        if self.draining.get() || self.index >= SHARDS_MAX {
            return Err(JoinError::Full);
        }
        self.hub.admit()?;
        let id = self.next.replace(self.next.get() + 1);
        let subscriber = Rc::new(Subscriber::new(id, opening, Instant::now()));
        self.subscribers.borrow_mut().insert(id, Rc::clone(&subscriber));
        Ok(subscriber)
    }

    /// Assigns a session to a user.
    ///
    /// # Errors
    /// [`JoinError::Full`] if the broadcaster's mailbox is full.
    pub fn own(&self, subscriber: &Subscriber, user: UserId) -> Result<(), JoinError> {
        self.hub.own(self.reference(subscriber), user)?;
        subscriber.user.set(Some(user));
        Ok(())
    }

    /// Removes a session, however it ended.
    pub fn leave(&self, subscriber: &Rc<Subscriber>) {
        self.subscribers.borrow_mut().remove(&subscriber.id);
        for topic in std::mem::take(&mut *subscriber.topics.borrow_mut()).into_keys() {
            self.unlink(subscriber, topic);
        }
        self.remains.borrow_mut().extend(subscriber.remains());
        self.hub.left(self.reference(subscriber), subscriber.user.get());
    }

    /// Queues a message for one session.
    pub fn say(&self, subscriber: &Subscriber, kind: &'static str, json: Bytes) {
        subscriber.push(&self.message(kind, None, json));
        subscriber.wake();
    }

    fn message(&self, kind: &'static str, id: Option<Box<str>>, json: Bytes) -> Rc<Message> {
        let order = self.order.get() + 1;
        self.order.set(order);
        Rc::new(Message { kind, id, order, stock_of: None, json, wire: Default::default() })
    }

    fn message_of(&self, event: &Event) -> Rc<Message> {
        let order = self.order.get() + 1;
        self.order.set(order);
        let id = Some(event.id().to_string().into());
        let (json, wire) = (event.json.clone(), Default::default());
        Rc::new(Message { kind: event.kind, id, order, stock_of: event.stock_of, json, wire })
    }

    pub(in crate::actors) fn on(&self, message: ToShard) {
        match message {
            ToShard::Count(count) => _ = self.stock_messages.replace(count),
            ToShard::Publish(published) => self.publish(&published),
            ToShard::Replay(subscriber, begin) => {
                let Some(subscriber) = self.subscriber(subscriber) else { return };
                self.begin(&subscriber, *begin);
            }
            ToShard::End { subscriber, topics, answer } => {
                let Some(subscriber) = self.subscriber(subscriber) else { return };
                topics.into_iter().for_each(|topic| self.unsubscribe(&subscriber, topic, true, false));
                self.say(&subscriber, "unsubscribed", answer);
            }
            ToShard::Follow { subscriber, creator, follows, from } => {
                let Some(subscriber) = self.subscriber(subscriber) else { return };
                self.follow(&subscriber, creator, follows, from);
            }
            ToShard::Say(subscriber, kind, json) => {
                if let Some(subscriber) = self.subscriber(subscriber) {
                    self.say(&subscriber, kind, json);
                }
            }
            ToShard::Close(subscriber, cause) => {
                if let Some(subscriber) = self.subscriber(subscriber) {
                    subscriber.close(cause);
                }
            }
            ToShard::Revoke(subscriber, what) => {
                if let Some(subscriber) = self
                    .subscriber(subscriber)
                    .filter(|subscriber| subscriber.login.get().is_some_and(|login| what.covers(login)))
                {
                    subscriber.close(CloseCause::Revoked);
                }
            }
            ToShard::Drain(_) => {}
        }
    }

    fn subscriber(&self, id: u64) -> Option<Rc<Subscriber>> {
        self.subscribers.borrow().get(&id).cloned()
    }

    /// Queues events for every subscriber of one of their topics, once each. Consecutive events for the same
    /// subscribers are queued together, so that each session is touched once.
    fn publish(&self, published: &[Publication]) {
        let ours = |published: &&Publication| published.1 >> self.index & 1 == 1;
        let published: Vec<&Arc<Event>> = published.iter().filter(ours).map(|(event, _)| event).collect();
        let topics = self.topics.borrow();
        for run in published.chunk_by(|one, next| one.topics == next.topics) {
            let hearing: SmallVec<[&Listeners; 2]> =
                run[0].topics.iter().filter_map(|topic| topics.get(topic)).collect();
            if hearing.is_empty() {
                continue;
            }
            let before = self.order.get();
            let messages: SmallVec<[Rc<Message>; 4]> = run.iter().map(|event| self.message_of(event)).collect();
            let mut heard = 0;
            for subscriber in hearing.into_iter().flatten() {
                if subscriber.last.replace(self.order.get()) <= before {
                    messages.iter().for_each(|message| subscriber.push(message));
                    subscriber.wake();
                    heard += 1;
                }
            }
            let stock = run.iter().filter(|event| event.stock_of.is_some()).count() as u64;
            if stock > 0 {
                self.stock_messages.borrow().fetch_add(stock * heard, Ordering::Relaxed);
            }
        }
    }

    fn begin(&self, subscriber: &Rc<Subscriber>, begin: Replay) {
        let Replay { joined, kind, topics, events, snapshots, answer, id } = begin;
        for event in &events {
            let known = subscriber.topics.borrow();
            // The session has it from another topic.
            let heard =
                event.topics.iter().any(|topic| known.get(topic).is_some_and(|heard| heard.from < event.position));
            drop(known);
            if !heard {
                subscriber.push(&self.message_of(event));
            }
        }
        for snapshot in snapshots {
            subscriber.push(&self.message("snapshot", None, snapshot));
        }
        let left = if joined { std::mem::take(&mut *subscriber.left.borrow_mut()) } else { Vec::new() };
        for (topic, heard) in topics {
            if !matches!(topic, Topic::Creator(creator) if heard.granted && left.contains(&creator)) {
                self.subscribe(subscriber, topic, heard);
            }
        }
        if joined {
            subscriber.joined.set(true);
        }
        subscriber.push(&self.message(kind, Some(id.to_string().into()), answer));
        subscriber.wake();
    }

    fn follow(&self, subscriber: &Rc<Subscriber>, creator: CreatorId, follows: bool, from: StreamPosition) {
        if !subscriber.joined.get() {
            let mut left = subscriber.left.borrow_mut();
            left.retain(|other| *other != creator);
            if !follows {
                left.push(creator);
            }
        }
        let topic = Topic::Creator(creator);
        if !follows {
            self.unsubscribe(subscriber, topic, false, true);
        } else if subscriber.topics.borrow().len() < FOLLOWED_PER_SESSION_MAX * 2 {
            self.subscribe(subscriber, topic, Subscription::granted(from));
        }
    }

    fn subscribe(&self, subscriber: &Rc<Subscriber>, topic: Topic, why: Subscription) {
        let mut topics = subscriber.topics.borrow_mut();
        match topics.get_mut(&topic) {
            Some(heard) => {
                heard.asked |= why.asked;
                heard.granted |= why.granted;
                heard.from = heard.from.min(why.from);
            }
            None => {
                topics.insert(topic, why);
                self.topics.borrow_mut().entry(topic).or_default().push(Rc::clone(subscriber));
            }
        }
    }

    fn unsubscribe(&self, subscriber: &Rc<Subscriber>, topic: Topic, asked: bool, granted: bool) {
        let mut topics = subscriber.topics.borrow_mut();
        let Some(heard) = topics.get_mut(&topic) else { return };
        heard.asked &= !asked;
        heard.granted &= !granted;
        if !heard.asked && !heard.granted {
            topics.remove(&topic);
            self.unlink(subscriber, topic);
        }
    }

    fn unlink(&self, subscriber: &Rc<Subscriber>, topic: Topic) {
        let mut topics = self.topics.borrow_mut();
        if let Some(listeners) = topics.get_mut(&topic) {
            if let Some(at) = listeners.iter().position(|other| Rc::ptr_eq(other, subscriber)) {
                listeners.swap_remove(at);
            }
            if listeners.is_empty() {
                topics.remove(&topic);
            }
        }
    }

    fn tick(&self) {
        let (now, steady) = (Instant::now(), self.clock.steady());
        self.subscribers.borrow().values().for_each(|subscriber| subscriber.tick(now, steady, &self.outage));
        self.remains.borrow_mut().retain(|(due, abort_handle)| match abort_handle.upgrade() {
            Some(line) if now >= *due => {
                line.abort();
                false
            }
            line => line.is_some(),
        });
    }

    fn close_all(&self, cause: CloseCause) {
        self.subscribers.borrow().values().for_each(|subscriber| subscriber.close(cause));
    }

    /// Closes all sessions, spread over `window`: they reconnect gradually, not all at once.
    async fn drain(&self, window: Duration) {
        self.draining.set(true);
        let subscribers: Vec<Rc<Subscriber>> = self.subscribers.borrow().values().cloned().collect();
        let pause = Duration::from_millis(10);
        let steps = (window.as_millis() / pause.as_millis()).max(1) as usize;
        for some in subscribers.chunks(subscribers.len().div_ceil(steps).max(1)) {
            some.iter().for_each(|subscriber| subscriber.close(CloseCause::Restart));
            if window > pause {
                tokio::time::sleep(pause).await;
            }
        }
    }
}

/// Runs as long as the shard exists. If the broadcaster drops the shard's queue, the shard was too slow: all sessions
/// reconnect and replay what they missed.
pub(in crate::actors) async fn run(shard: std::rc::Weak<Shard>, mut queue: mpsc::Receiver<ToShard>) {
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let message = tokio::select! {
            biased;
            message = queue.recv() => Some(message),
            _ = ticks.tick() => None,
        };
        let Some(shard) = shard.upgrade() else { return };
        match message {
            None => shard.tick(),
            Some(Some(ToShard::Drain(window))) => {
                actix::spawn(async move { shard.drain(window).await });
            }
            Some(Some(message)) => shard.on(message),
            Some(None) => {
                shard.close_all(CloseCause::TooSlow);
                let Some(again) = shard.hub.register(shard.index) else { return };
                queue = again;
            }
        }
    }
}

impl Hub {
    /// Opens a shard for the sessions of this thread, which runs until it is dropped.
    ///
    /// # Panics
    /// Outside an actix runtime.
    #[must_use]
    pub fn open_shard(&self) -> Rc<Shard> {
        let index = self.next_shard();
        let (clock, outage) = self.clocks();
        let shard = Rc::new(Shard::new(index, self.clone(), clock, outage));
        match self.register(index) {
            Some(queue) if index < SHARDS_MAX => {
                let (hub, run) = (self.clone(), run(Rc::downgrade(&shard), queue));
                actix::spawn(async move {
                    if AssertUnwindSafe(run).catch_unwind().await.is_err() {
                        tracing::error!(index, "the task that tells a worker's sessions panicked");
                        hub.set_broken();
                    }
                });
            }
            _ => tracing::warn!(index, "this worker takes no sessions"),
        }
        shard
    }
}

#[cfg(test)]
mod tests;
