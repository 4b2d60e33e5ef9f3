//! Tells the crowd. An actor that owns the sessions and their topics; a cursor over the durable journal feeds it.
//!
//! It never waits for a socket: a message is put into each session's bounded queue, and the session sends when it can.

use super::announce::{self, Notice};
use super::fanout::{CloseCause, SessionQueue, Topic};
use super::hub::SessionId;
use crate::domain::limits::{PROJECTOR_BATCH_RECORDS_MAX, SESSIONS_PER_USER_MAX, STOCK_CHANGED_PER_SECOND_MAX};
use crate::domain::{CreatorId, DropEvent, DropId, DropRecord, DropSpec, DropStatus, StockBoard, Timestamp, UserId};
use crate::journal::JournalReader;
use actix::{Actor, Addr, AsyncContext, Context, Handler, Message};
use bytes::Bytes;
use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

/// Sessions' wishes that wait for the broadcaster.
pub const MAILBOX_MAX: usize = 65_536;

/// A run of durable records, decoded.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Durable {
    /// The sequence number of the first.
    pub first_sequence: u64,
    /// One after the other.
    pub records: Vec<DropRecord>,
}

/// A session's wish.
#[derive(Message)]
#[rtype(result = "()")]
pub enum Wish {
    /// Be heard.
    Connect(SessionId, Arc<SessionQueue>),
    /// Be somebody's.
    Authenticate(SessionId, UserId, Vec<CreatorId>),
    /// Hear more.
    Subscribe(SessionId, Vec<Topic>),
    /// Hear less.
    Unsubscribe(SessionId, Vec<Topic>),
    /// Be forgotten.
    Disconnect(SessionId),
    /// A user follows a creator, or does not any more.
    FollowChanged(UserId, CreatorId, bool),
    /// Everyone goes.
    CloseAll(CloseCause),
}

struct Session {
    queue: Arc<SessionQueue>,
    topics: HashSet<Topic>,
    user: Option<UserId>,
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

    fn subscribe(&mut self, id: SessionId, topic: Topic) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if session.topics.insert(topic) {
            self.topics.entry(topic).or_default().insert(id);
        }
    }

    fn unsubscribe(&mut self, id: SessionId, topic: Topic) {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.topics.remove(&topic);
        }
        self.unlink(id, topic);
    }

    fn unlink(&mut self, id: SessionId, topic: Topic) {
        if let Some(listeners) = self.topics.get_mut(&topic) {
            listeners.remove(&id);
            if listeners.is_empty() {
                self.topics.remove(&topic);
            }
        }
    }

    fn disconnect(&mut self, id: SessionId) {
        let Some(session) = self.sessions.remove(&id) else { return };
        for topic in session.topics {
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
                    self.unsubscribe(id, Topic::User(before));
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
        self.subscribe(id, Topic::User(user));
        for creator in following {
            self.subscribe(id, Topic::Creator(creator));
        }
    }

    fn follow_changed(&mut self, user: UserId, creator: CreatorId, follows: bool) {
        let sessions: Vec<SessionId> = self.by_user.get(&user).into_iter().flatten().copied().collect();
        for id in sessions {
            if follows {
                self.subscribe(id, Topic::Creator(creator));
            } else {
                self.unsubscribe(id, Topic::Creator(creator));
            }
        }
    }

    fn on_record(&mut self, record: &DropRecord, position: u64) {
        if let DropEvent::Scheduled(spec) = &record.event {
            let watched = Watched { board: StockBoard::new(spec), spec: Arc::new((**spec).clone()), untold: None };
            self.drops.insert(record.drop, watched);
        }
        let Some(watched) = self.drops.get_mut(&record.drop) else { return };
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
                let heard = topics[..index].iter().any(|earlier| session.topics.contains(earlier));
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

    fn handle(&mut self, durable: Durable, _: &mut Self::Context) {
        for (record, position) in durable.records.iter().zip(durable.first_sequence..) {
            self.on_record(record, position);
        }
    }
}

impl Handler<Wish> for Broadcaster {
    type Result = ();

    fn handle(&mut self, wish: Wish, _: &mut Self::Context) {
        match wish {
            Wish::Connect(id, queue) => {
                self.sessions.insert(id, Session { queue, topics: HashSet::new(), user: None });
            }
            Wish::Authenticate(id, user, following) => self.authenticate(id, user, following),
            Wish::Subscribe(id, topics) => topics.into_iter().for_each(|topic| self.subscribe(id, topic)),
            Wish::Unsubscribe(id, topics) => topics.into_iter().for_each(|topic| self.unsubscribe(id, topic)),
            Wish::Disconnect(id) => self.disconnect(id),
            Wish::FollowChanged(user, creator, follows) => self.follow_changed(user, creator, follows),
            Wish::CloseAll(cause) => self.sessions.values().for_each(|session| session.queue.close(cause)),
        }
    }
}

/// Carries durable records to the broadcaster, one batch at a time, until the journal closes.
pub async fn pump(journal: JournalReader, after: u64, broadcaster: Addr<Broadcaster>) {
    let mut cursor = journal.cursor(after);
    let mut durable = journal.durable_watch();
    loop {
        match cursor.next_batch(PROJECTOR_BATCH_RECORDS_MAX) {
            Ok(Some(batch)) => {
                let records: Result<Vec<DropRecord>, _> =
                    batch.iter().map(|(_, bytes)| DropRecord::decode(bytes)).collect();
                let Ok(records) = records else {
                    tracing::error!(
                        first = batch.first_sequence,
                        "the broadcaster stops at a record that it cannot read"
                    );
                    return;
                };
                let message = Durable { first_sequence: batch.first_sequence, records };
                if broadcaster.send(message).await.is_err() {
                    return;
                }
            }
            Ok(None) => {
                if durable.changed().await.is_err() {
                    return;
                }
            }
            Err(error) => {
                tracing::error!(%error, "the broadcaster cannot read the journal");
                return;
            }
        }
    }
}
