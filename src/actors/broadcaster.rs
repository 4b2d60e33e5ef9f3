//! Tells the crowd. An actor that owns the sessions and their topics; a cursor over the durable journal feeds it.
//!
//! It never waits for a socket: a message is put into each session's bounded queue, and the session sends when it can.

use super::announce::{self, Notice};
use super::fanout::{CloseCause, SessionQueue, Topic};
use super::hub::SessionId;
use super::tail::{Run, Tail};
use crate::domain::limits::{SESSIONS_PER_USER_MAX, STOCK_CHANGED_PER_SECOND_MAX};
use crate::domain::{CreatorId, DropEvent, DropId, DropRecord, DropSpec, DropStatus, StockBoard, Timestamp, UserId};
use actix::{Actor, Addr, AsyncContext, Context, Handler, Message};
use bytes::Bytes;
use std::{
    collections::{HashMap, HashSet, VecDeque, hash_map::Entry},
    sync::Arc,
    time::Duration,
};

/// The name of its place in the journal.
pub const CURSOR: &str = "broadcaster";

/// Sessions' wishes that wait for the broadcaster.
pub const MAILBOX_MAX: usize = 65_536;

/// What has just become durable.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Durable(
    /// In the journal's order.
    pub Run,
);

/// A session's wish. A frame that comes with it is queued once it is done: what the session reads after that frame is
/// all that happens from then on.
#[derive(Message)]
#[rtype(result = "()")]
pub enum Wish {
    /// Be heard.
    Connect(SessionId, Arc<SessionQueue>),
    /// Be somebody's.
    Authenticate(SessionId, UserId, Vec<CreatorId>, Bytes),
    /// Hear more.
    Subscribe(SessionId, Vec<Topic>, Bytes),
    /// Hear less.
    Unsubscribe(SessionId, Vec<Topic>, Bytes),
    /// Be forgotten.
    Disconnect(SessionId),
    /// A user follows a creator, or does not any more.
    FollowChanged(UserId, CreatorId, bool),
    /// Everyone goes.
    CloseAll(CloseCause),
}

struct Session {
    queue: Arc<SessionQueue>,
    topics: HashMap<Topic, Heard>,
    user: Option<UserId>,
}

/// Why a session hears a topic. Both may hold; taking one back leaves the other.
#[derive(Clone, Copy, Default)]
struct Heard {
    /// The client asked for it.
    asked: bool,
    /// It comes with the account: its own topic, or a creator that it follows.
    granted: bool,
}

impl Heard {
    const ASKED: Self = Self { asked: true, granted: false };
    const GRANTED: Self = Self { asked: false, granted: true };
}

struct Watched {
    spec: Arc<DropSpec>,
    board: StockBoard,
    /// When and at which position the stock last changed without being told.
    untold: Option<(Timestamp, u64)>,
}

/// See the module.
#[derive(Default)]
pub struct Broadcaster {
    sessions: HashMap<SessionId, Session>,
    topics: HashMap<Topic, HashSet<SessionId>>,
    by_user: HashMap<UserId, VecDeque<SessionId>>,
    drops: HashMap<DropId, Watched>,
}

impl Broadcaster {
    /// A broadcaster that knows the drops recovered at start.
    #[must_use]
    pub fn new(drops: Vec<(Arc<DropSpec>, StockBoard)>) -> Self {
        let drops = drops.into_iter().map(|(spec, board)| (spec.id, Watched { spec, board, untold: None })).collect();
        Self { drops, ..Self::default() }
    }

    fn subscribe(&mut self, id: SessionId, topic: Topic, why: Heard) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let heard = session.topics.entry(topic).or_default();
        heard.asked |= why.asked;
        heard.granted |= why.granted;
        self.topics.entry(topic).or_default().insert(id);
    }

    fn unsubscribe(&mut self, id: SessionId, topic: Topic, why: Heard) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let Entry::Occupied(mut heard) = session.topics.entry(topic) else { return };
        heard.get_mut().asked &= !why.asked;
        heard.get_mut().granted &= !why.granted;
        if !heard.get().asked && !heard.get().granted {
            heard.remove();
            self.unlink(id, topic);
        }
    }

    fn unlink(&mut self, id: SessionId, topic: Topic) {
        if let Some(listeners) = self.topics.get_mut(&topic) {
            listeners.remove(&id);
            if listeners.is_empty() {
                self.topics.remove(&topic);
            }
        }
    }

    fn tell(&mut self, id: SessionId, frame: Bytes) {
        if self.sessions.get(&id).is_some_and(|session| !session.queue.push(frame)) {
            self.disconnect(id);
        }
    }

    fn disconnect(&mut self, id: SessionId) {
        let Some(session) = self.sessions.remove(&id) else { return };
        for &topic in session.topics.keys() {
            self.unlink(id, topic);
        }
        if let Some(user) = session.user {
            self.leave_user(id, user);
        }
    }

    fn leave_user(&mut self, id: SessionId, user: UserId) {
        if let Some(sessions) = self.by_user.get_mut(&user) {
            sessions.retain(|other| *other != id);
            if sessions.is_empty() {
                self.by_user.remove(&user);
            }
        }
    }

    fn authenticate(&mut self, id: SessionId, user: UserId, following: Vec<CreatorId>) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        match session.user.replace(user) {
            Some(before) if before == user => {}
            before => {
                if let Some(before) = before {
                    self.leave_user(id, before);
                    self.unsubscribe(id, Topic::User(before), Heard::GRANTED);
                }
                let sessions = self.by_user.entry(user).or_default();
                sessions.push_back(id);
                if sessions.len() > SESSIONS_PER_USER_MAX
                    && let Some(oldest) = sessions.pop_front()
                    && let Some(session) = self.sessions.get(&oldest)
                {
                    session.queue.close(CloseCause::SessionLimit);
                }
            }
        }
        self.subscribe(id, Topic::User(user), Heard::GRANTED);
        for creator in following {
            self.subscribe(id, Topic::Creator(creator), Heard::GRANTED);
        }
    }

    fn follow_changed(&mut self, user: UserId, creator: CreatorId, follows: bool) {
        let sessions: Vec<SessionId> = self.by_user.get(&user).into_iter().flatten().copied().collect();
        for id in sessions {
            if follows {
                self.subscribe(id, Topic::Creator(creator), Heard::GRANTED);
            } else {
                self.unsubscribe(id, Topic::Creator(creator), Heard::GRANTED);
            }
        }
    }

    fn on_record(&mut self, record: &DropRecord, position: u64) {
        if let DropEvent::Scheduled(spec) = &record.event {
            let watched = Watched { board: StockBoard::new(spec), spec: Arc::new((**spec).clone()), untold: None };
            self.drops.insert(record.drop, watched);
        }
        let Some(watched) = self.drops.get_mut(&record.drop) else { return };
        if let DropEvent::Rescheduled { starts_at, ends_at } = &record.event {
            let spec = Arc::make_mut(&mut watched.spec);
            (spec.starts_at, spec.ends_at) = (*starts_at, *ends_at);
        }
        let changed = watched.board.fold(&record.event).unwrap_or(false);
        match announce::notice(&record.event) {
            Notice::Silent => {}
            Notice::Drop(kind, variant) => {
                // It carries the stock, so a `stock_changed` that waited has nothing left to tell.
                watched.untold = None;
                let frame = announce::drop_event(kind, &watched.spec, &watched.board, record.at, position, variant);
                let (drop, creator) = (watched.spec.id, watched.spec.creator_id);
                self.publish(&[Topic::Drop(drop), Topic::Creator(creator)], &frame);
            }
            Notice::Order(kind, line) => {
                if changed {
                    watched.untold = Some((record.at, position));
                }
                if self.topics.contains_key(&Topic::User(line.buyer)) {
                    let frame = announce::order_event(kind, line, record, position);
                    self.publish(&[Topic::User(line.buyer)], &frame);
                }
            }
        }
    }

    /// Queues a frame to everyone who hears one of the topics, once each.
    fn publish(&mut self, topics: &[Topic], frame: &Bytes) {
        let mut slow = Vec::new();
        for (index, topic) in topics.iter().enumerate() {
            for id in self.topics.get(topic).into_iter().flatten() {
                let Some(session) = self.sessions.get(id) else { continue };
                let heard = topics[..index].iter().any(|earlier| session.topics.contains_key(earlier));
                if !heard && !session.queue.push(frame.clone()) {
                    slow.push(*id);
                }
            }
        }
        for id in slow {
            self.disconnect(id);
        }
    }

    /// Tells the latest stock of every drop whose stock changed since it was last told.
    fn tell_stock(&mut self) {
        let mut frames = Vec::new();
        for watched in self.drops.values_mut() {
            if let Some((at, position)) = watched.untold.take() {
                let frame = announce::drop_event("stock_changed", &watched.spec, &watched.board, at, position, None);
                frames.push(([Topic::Drop(watched.spec.id), Topic::Creator(watched.spec.creator_id)], frame));
            }
        }
        for (topics, frame) in frames {
            self.publish(&topics, &frame);
        }
    }

    /// Forgets drops that are over and hold nothing.
    fn forget_finished(&mut self) {
        self.drops.retain(|_, watched| {
            let over = matches!(watched.board.status, DropStatus::Ended | DropStatus::Cancelled);
            let total = watched.board.total();
            let refunding = watched.board.status == DropStatus::Cancelled && total.sold > 0;
            !over || total.held > 0 || refunding || watched.untold.is_some()
        });
    }
}

impl Actor for Broadcaster {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        context.set_mailbox_capacity(MAILBOX_MAX);
        let conflation = Duration::from_secs(1) / STOCK_CHANGED_PER_SECOND_MAX;
        context.run_interval(conflation, |broadcaster, _| broadcaster.tell_stock());
        context.run_interval(Duration::from_secs(60), |broadcaster, _| broadcaster.forget_finished());
    }
}

impl Handler<Durable> for Broadcaster {
    type Result = ();

    fn handle(&mut self, Durable(run): Durable, _: &mut Self::Context) {
        for (record, position) in run.records.iter().zip(run.first_sequence..) {
            self.on_record(record, position);
        }
    }
}

impl Handler<Wish> for Broadcaster {
    type Result = ();

    fn handle(&mut self, wish: Wish, _: &mut Self::Context) {
        match wish {
            Wish::Connect(id, queue) => {
                self.sessions.insert(id, Session { queue, topics: HashMap::new(), user: None });
            }
            Wish::Authenticate(id, user, following, done) => {
                self.authenticate(id, user, following);
                self.tell(id, done);
            }
            Wish::Subscribe(id, topics, done) => {
                topics.into_iter().for_each(|topic| self.subscribe(id, topic, Heard::ASKED));
                self.tell(id, done);
            }
            Wish::Unsubscribe(id, topics, done) => {
                topics.into_iter().for_each(|topic| self.unsubscribe(id, topic, Heard::ASKED));
                self.tell(id, done);
            }
            Wish::Disconnect(id) => self.disconnect(id),
            Wish::FollowChanged(user, creator, follows) => self.follow_changed(user, creator, follows),
            Wish::CloseAll(cause) => self.sessions.values().for_each(|session| session.queue.close(cause)),
        }
    }
}

/// Carries durable records to the broadcaster, one run at a time, for as long as both are there.
pub async fn pump(mut tail: Tail, broadcaster: Addr<Broadcaster>) {
    while let Some(run) = tail.next().await {
        let last = run.last_sequence();
        if broadcaster.send(Durable(run)).await.is_err() {
            return;
        }
        tail.passed(last);
    }
}
