//! The sessions of one worker: who hears what. Everything here stays on the worker's thread, as its sessions do, so telling
//! thousands of them takes no lock and no shared counter, and every core tells its own.
//!
//! It gets its messages from the [broadcaster](super::broadcaster) in one queue, and works them off in their order.

use super::broadcaster::{SHARDS_MAX, SeatRef};
use super::clock::Clock;
use super::fanout::{CloseCause, Event, Topic};
use super::hub::{Hub, JoinError};
use super::outage::Outage;
use super::outbox::Message;
use super::place::{Place, Since};
pub use super::seat::{Heard, Lifeline, Opening, Seat};
use crate::domain::limits::FOLLOWED_PER_SESSION_MAX;
use crate::domain::{CreatorId, Revocation, UserId};
use bytes::Bytes;
use hashbrown::HashMap;
use smallvec::SmallVec;
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

/// How often time is looked at.
const TICK: Duration = Duration::from_secs(1);

/// An event, and the shards that have somebody for it, one bit each.
pub type Told = (Arc<Event>, u128);

/// What a session hears from now on. It is sent what it missed, then snapshots, then the answer.
#[derive(Debug)]
pub struct Begin {
    /// Whether all followed creators are among the topics.
    pub joined: bool,
    /// The answer's type.
    pub kind: &'static str,
    /// What it hears, why, and since when.
    pub topics: Vec<(Topic, Heard)>,
    /// What it missed, in order.
    pub events: Vec<Arc<Event>>,
    /// Of what could not be recovered.
    pub snapshots: Vec<Bytes>,
    /// Said last.
    pub answer: Bytes,
    /// The place that goes with the answer.
    pub id: Since,
}

/// From the broadcaster.
#[derive(Debug)]
pub enum ToShard {
    /// Where to count messages of `stock_changed`.
    Count(Arc<AtomicU64>),
    /// What has happened.
    Told(Arc<[Told]>),
    /// A session hears more from now on.
    Begin(u64, Box<Begin>),
    /// A session does not ask for these topics any more.
    End {
        /// Which.
        seat: u64,
        /// What it had asked for.
        topics: Vec<Topic>,
        /// Said last.
        answer: Bytes,
    },
    /// Its user follows a creator, or does not any more.
    Follow {
        /// Which.
        seat: u64,
        /// Whom.
        creator: CreatorId,
        /// Whether.
        follows: bool,
        /// From where on.
        from: Place,
    },
    /// Something for it alone, of that type.
    Say(u64, &'static str, Bytes),
    /// It has to go.
    Close(u64, CloseCause),
    /// It has to go if it is signed in with one of the access tokens that were revoked.
    Revoke(u64, Revocation),
    /// Everyone has to go, spread over so long.
    Drain(Duration),
}

type Listeners = SmallVec<[Rc<Seat>; 2]>;

/// See the module.
pub struct Shard {
    index: usize,
    hub: Hub,
    clock: Clock,
    outage: Outage,
    seats: RefCell<HashMap<u64, Rc<Seat>>>,
    topics: RefCell<HashMap<Topic, Listeners>>,
    order: Cell<u64>,
    next: Cell<u64>,
    stock_messages: RefCell<Arc<AtomicU64>>,
    /// Connections of sessions that are gone, and when they have to be.
    remains: RefCell<Vec<(Instant, Weak<dyn Lifeline>)>>,
    draining: Cell<bool>,
}

impl Shard {
    pub(super) fn new(index: usize, hub: Hub, clock: Clock, outage: Outage) -> Self {
        Self {
            index,
            hub,
            clock,
            outage,
            seats: RefCell::default(),
            topics: RefCell::default(),
            order: Cell::new(0),
            next: Cell::new(0),
            stock_messages: RefCell::default(),
            remains: RefCell::default(),
            draining: Cell::new(false),
        }
    }

    /// Its hub.
    #[must_use]
    pub fn hub(&self) -> &Hub {
        &self.hub
    }

    /// How the broadcaster knows a session of this shard.
    #[must_use]
    pub fn reference(&self, seat: &Seat) -> SeatRef {
        SeatRef { shard: self.index, seat: seat.id }
    }

    /// Opens a session. It has to be [left](Shard::leave).
    ///
    /// # Errors
    /// [`JoinError`] at a bound.
    pub fn open(&self, opening: Opening) -> Result<Rc<Seat>, JoinError> {
        if self.draining.get() || self.index >= SHARDS_MAX {
            return Err(JoinError::Full);
        }
        self.hub.admit()?;
        let id = self.next.replace(self.next.get() + 1);
        let seat = Rc::new(Seat::new(id, opening, Instant::now()));
        self.seats.borrow_mut().insert(id, Rc::clone(&seat));
        Ok(seat)
    }

    /// Makes a session a user's.
    ///
    /// # Errors
    /// [`JoinError::Full`] where the broadcaster's mailbox is.
    pub fn own(&self, seat: &Seat, user: UserId) -> Result<(), JoinError> {
        self.hub.own(self.reference(seat), user)?;
        seat.user.set(Some(user));
        Ok(())
    }

    /// Forgets a session, however it ended.
    pub fn leave(&self, seat: &Rc<Seat>) {
        self.seats.borrow_mut().remove(&seat.id);
        for topic in std::mem::take(&mut *seat.topics.borrow_mut()).into_keys() {
            self.unlink(seat, topic);
        }
        self.remains.borrow_mut().extend(seat.remains());
        self.hub.left(self.reference(seat), seat.user.get());
    }

    /// Tells a session something of its own.
    pub fn say(&self, seat: &Seat, kind: &'static str, json: Bytes) {
        seat.push(&self.message(kind, None, json));
        seat.wake();
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

    pub(super) fn on(&self, message: ToShard) {
        match message {
            ToShard::Count(count) => _ = self.stock_messages.replace(count),
            ToShard::Told(told) => self.tell(&told),
            ToShard::Begin(seat, begin) => {
                let Some(seat) = self.seat(seat) else { return };
                self.begin(&seat, *begin);
            }
            ToShard::End { seat, topics, answer } => {
                let Some(seat) = self.seat(seat) else { return };
                topics.into_iter().for_each(|topic| self.unsubscribe(&seat, topic, true, false));
                self.say(&seat, "unsubscribed", answer);
            }
            ToShard::Follow { seat, creator, follows, from } => {
                let Some(seat) = self.seat(seat) else { return };
                self.follow(&seat, creator, follows, from);
            }
            ToShard::Say(seat, kind, json) => {
                if let Some(seat) = self.seat(seat) {
                    self.say(&seat, kind, json);
                }
            }
            ToShard::Close(seat, cause) => {
                if let Some(seat) = self.seat(seat) {
                    seat.close(cause);
                }
            }
            ToShard::Revoke(seat, what) => {
                if let Some(seat) =
                    self.seat(seat).filter(|seat| seat.login.get().is_some_and(|login| what.covers(login)))
                {
                    seat.close(CloseCause::Revoked);
                }
            }
            ToShard::Drain(_) => {}
        }
    }

    fn seat(&self, id: u64) -> Option<Rc<Seat>> {
        self.seats.borrow().get(&id).cloned()
    }

    /// Queues events to everyone who hears one of their topics, once each. Events in a row for the same listeners are queued
    /// together, so that each session is touched once.
    fn tell(&self, told: &[Told]) {
        let ours = |told: &&Told| told.1 >> self.index & 1 == 1;
        let told: Vec<&Arc<Event>> = told.iter().filter(ours).map(|(event, _)| event).collect();
        let topics = self.topics.borrow();
        for run in told.chunk_by(|one, next| one.topics == next.topics) {
            let hearing: SmallVec<[&Listeners; 2]> =
                run[0].topics.iter().filter_map(|topic| topics.get(topic)).collect();
            if hearing.is_empty() {
                continue;
            }
            let before = self.order.get();
            let messages: SmallVec<[Rc<Message>; 4]> = run.iter().map(|event| self.message_of(event)).collect();
            let mut heard = 0;
            for seat in hearing.into_iter().flatten() {
                if seat.last.replace(self.order.get()) <= before {
                    messages.iter().for_each(|message| seat.push(message));
                    seat.wake();
                    heard += 1;
                }
            }
            let stock = run.iter().filter(|event| event.stock_of.is_some()).count() as u64;
            if stock > 0 {
                self.stock_messages.borrow().fetch_add(stock * heard, Ordering::Relaxed);
            }
        }
    }

    fn begin(&self, seat: &Rc<Seat>, begin: Begin) {
        let Begin { joined, kind, topics, events, snapshots, answer, id } = begin;
        for event in &events {
            let known = seat.topics.borrow();
            // Another topic has brought it already.
            let heard = event.topics.iter().any(|topic| known.get(topic).is_some_and(|heard| heard.from < event.place));
            drop(known);
            if !heard {
                seat.push(&self.message_of(event));
            }
        }
        for snapshot in snapshots {
            seat.push(&self.message("snapshot", None, snapshot));
        }
        let left = if joined { std::mem::take(&mut *seat.left.borrow_mut()) } else { Vec::new() };
        for (topic, heard) in topics {
            if !matches!(topic, Topic::Creator(creator) if heard.granted && left.contains(&creator)) {
                self.subscribe(seat, topic, heard);
            }
        }
        if joined {
            seat.joined.set(true);
        }
        seat.push(&self.message(kind, Some(id.to_string().into()), answer));
        seat.wake();
    }

    fn follow(&self, seat: &Rc<Seat>, creator: CreatorId, follows: bool, from: Place) {
        if !seat.joined.get() {
            let mut left = seat.left.borrow_mut();
            left.retain(|other| *other != creator);
            if !follows {
                left.push(creator);
            }
        }
        let topic = Topic::Creator(creator);
        if !follows {
            self.unsubscribe(seat, topic, false, true);
        } else if seat.topics.borrow().len() < FOLLOWED_PER_SESSION_MAX * 2 {
            self.subscribe(seat, topic, Heard::granted(from));
        }
    }

    fn subscribe(&self, seat: &Rc<Seat>, topic: Topic, why: Heard) {
        let mut topics = seat.topics.borrow_mut();
        match topics.get_mut(&topic) {
            Some(heard) => {
                heard.asked |= why.asked;
                heard.granted |= why.granted;
                heard.from = heard.from.min(why.from);
            }
            None => {
                topics.insert(topic, why);
                self.topics.borrow_mut().entry(topic).or_default().push(Rc::clone(seat));
            }
        }
    }

    fn unsubscribe(&self, seat: &Rc<Seat>, topic: Topic, asked: bool, granted: bool) {
        let mut topics = seat.topics.borrow_mut();
        let Some(heard) = topics.get_mut(&topic) else { return };
        heard.asked &= !asked;
        heard.granted &= !granted;
        if !heard.asked && !heard.granted {
            topics.remove(&topic);
            self.unlink(seat, topic);
        }
    }

    fn unlink(&self, seat: &Rc<Seat>, topic: Topic) {
        let mut topics = self.topics.borrow_mut();
        if let Some(listeners) = topics.get_mut(&topic) {
            if let Some(at) = listeners.iter().position(|other| Rc::ptr_eq(other, seat)) {
                listeners.swap_remove(at);
            }
            if listeners.is_empty() {
                topics.remove(&topic);
            }
        }
    }

    fn tick(&self) {
        let (now, steady) = (Instant::now(), self.clock.steady());
        self.seats.borrow().values().for_each(|seat| seat.tick(now, steady, &self.outage));
        self.remains.borrow_mut().retain(|(due, lifeline)| match lifeline.upgrade() {
            Some(line) if now >= *due => {
                line.cut();
                false
            }
            line => line.is_some(),
        });
    }

    fn close_all(&self, cause: CloseCause) {
        self.seats.borrow().values().for_each(|seat| seat.close(cause));
    }

    /// Closes everyone, some at a time: they come back at their own pace, not all at once.
    async fn drain(&self, window: Duration) {
        self.draining.set(true);
        let seats: Vec<Rc<Seat>> = self.seats.borrow().values().cloned().collect();
        let pause = Duration::from_millis(10);
        let steps = (window.as_millis() / pause.as_millis()).max(1) as usize;
        for some in seats.chunks(seats.len().div_ceil(steps).max(1)) {
            some.iter().for_each(|seat| seat.close(CloseCause::Restart));
            if window > pause {
                tokio::time::sleep(pause).await;
            }
        }
    }
}

/// Works for as long as the shard is there. A broadcaster that has let go of it had too much to tell: everyone comes back for
/// what they missed.
pub(super) async fn run(shard: std::rc::Weak<Shard>, mut queue: mpsc::Receiver<ToShard>) {
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

#[cfg(test)]
mod tests;
