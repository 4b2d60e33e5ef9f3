//! Tells the crowd. An actor that follows the durable journal: it encodes each event once, remembers it, and hands it to the
//! [shards](super::shard), each of which knows the sessions of one worker.
//!
//! It never waits for a socket. What a session asks for is answered through the same queue as the events, so nothing falls
//! between an answer and what is told after it.

use super::announce::{self, InboxChange, Moment, Notice, OrderFact};
use super::clock::Clock;
use super::consumers::Run;
use super::fanout::{CloseCause, Topic};
use super::history::History;
use super::place::{Epoch, Place, Since};
use super::shard::{ToShard, Told};
use crate::domain::limits::{SESSIONS_PER_USER_MAX, STOCK_CHANGED_PER_SECOND_MAX, STOCK_MESSAGES_PER_SECOND_MAX};
use crate::domain::{
    CreatorId, DropEvent, DropId, DropRecord, DropSpec, DropStatus, Revocation, StockBoard, Timestamp, UserId,
};
pub use pump::{ABOUT, Pump};

use actix::{Actor, AsyncContext, Context, Handler, Message};
use bytes::Bytes;
use hashbrown::HashMap;
use prometheus::IntCounter;
use smallvec::SmallVec;
use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::sync::mpsc;

/// Sessions' wishes that wait for the broadcaster.
pub const MAILBOX_MAX: usize = 65_536;

/// Shards are told apart by one bit each.
pub const SHARDS_MAX: usize = 128;

/// What has just become durable. Answered with how many messages wait for the slowest shard.
#[derive(Message)]
#[rtype(result = "usize")]
pub struct Durable(
    /// In the journal's order.
    pub Run,
);

/// One session, wherever it is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct SeatRef {
    /// Which shard.
    pub shard: usize,
    /// Its number there.
    pub seat: u64,
}

/// What comes with an account.
#[derive(Clone, Debug)]
pub struct Joining {
    /// Whose session it is.
    pub user: UserId,
    /// Whose drops it hears without asking.
    pub following: Vec<CreatorId>,
    /// Whether these are all, or the database could not say.
    pub complete: bool,
    /// When its token ends, for the answer.
    pub expires_at: Timestamp,
    /// Topics asked for in the same breath.
    pub topics: Vec<Topic>,
    /// The place that it comes back with.
    pub since: Option<Since>,
}

/// A session's wish.
#[derive(Message)]
#[rtype(result = "()")]
pub enum Wish {
    /// A worker's sessions, to be told from now on.
    Shard(usize, mpsc::Sender<ToShard>),
    /// A session is somebody's. From here on it hears of that user's follows, whatever it knows of them.
    Own(SeatRef, UserId),
    /// It knows whom the user follows.
    Join(SeatRef, Box<Joining>),
    /// Hear more.
    Subscribe(SeatRef, Vec<Topic>, Option<Since>),
    /// Hear less.
    Unsubscribe(SeatRef, Vec<Topic>),
    /// Be forgotten.
    Leave(SeatRef, UserId),
    /// A user follows a creator, or does not any more.
    FollowChanged(UserId, CreatorId, bool),
    /// Access tokens of a user were revoked.
    Revoke(UserId, Revocation),
    /// Users did something to their inboxes, which their other sessions should know.
    InboxChanged(Vec<InboxChange>),
    /// A drop comes back into memory, and stands like this.
    Watch(Arc<DropSpec>, StockBoard),
    /// Everyone goes, spread over so long.
    Drain(Duration),
}

struct Watched {
    spec: Arc<DropSpec>,
    board: StockBoard,
    /// Up to which record the board is known from elsewhere than the records: these change nothing in it.
    known: u64,
    /// When and at which position the stock last changed without being told.
    untold: Option<(Timestamp, u64)>,
    /// As a snapshot shows it, until it changes.
    now: Option<Bytes>,
}

/// See the module.
pub struct Broadcaster {
    epoch: Epoch,
    /// How far telling has come.
    place: Place,
    history: History,
    clock: Clock,
    drops: HashMap<DropId, Watched>,
    by_creator: HashMap<CreatorId, SmallVec<[DropId; 2]>>,
    /// Drops with untold stock, perhaps more than once.
    untold: Vec<DropId>,
    shards: Vec<Option<mpsc::Sender<ToShard>>>,
    by_user: HashMap<UserId, VecDeque<SeatRef>>,
    /// Told, and not handed over yet.
    out: Vec<Told>,
    /// How many messages of `stock_changed` the shards have queued since the last look.
    stock_messages: Arc<AtomicU64>,
    /// Of these, those whose time has not come yet.
    stock_ahead: u64,
    /// Drops that were remembered from the middle of their story, and the last record of each.
    strangers: HashMap<DropId, u64>,
    contradictions: IntCounter,
}

impl Broadcaster {
    /// A broadcaster that has told everything up to record `last`, and remembers nothing of it.
    #[must_use]
    pub fn new(epoch: Epoch, last: u64, clock: Clock) -> Self {
        Self {
            epoch,
            place: Place { told: last, stock: last },
            history: History::new(epoch, last),
            clock,
            drops: HashMap::new(),
            by_creator: HashMap::new(),
            untold: Vec::new(),
            shards: Vec::new(),
            by_user: HashMap::new(),
            out: Vec::new(),
            stock_messages: Arc::default(),
            stock_ahead: 0,
            strangers: HashMap::new(),
            contradictions: IntCounter::new(
                "livedrop_stock_contradictions_total",
                "Records that could not follow from the stock that was told before them. Anything but 0 is a bug.",
            )
            .expect("a valid name"),
        }
    }

    /// How many records could not follow from what was told before them.
    #[must_use]
    pub fn contradictions(&self) -> &IntCounter {
        &self.contradictions
    }

    /// Remembers what these records told, as far as they say it all: of a drop that was scheduled before them it is not known
    /// what its stock was then. To be called before [`Broadcaster::watch`], with everything from the first on.
    pub fn remember(&mut self, run: &Run) {
        if self.place.told >= run.first_sequence {
            let before = run.first_sequence - 1;
            self.place = Place { told: before, stock: 0 };
            self.history = History::new(self.epoch, before);
        }
        for (record, position) in run.records.iter().zip(run.first_sequence..) {
            self.on_record(record, position);
        }
        self.out.clear();
    }

    /// Takes the drops as recovery found them, after everything remembered.
    pub fn watch(&mut self, drops: Vec<(Arc<DropSpec>, StockBoard)>, last: u64) {
        self.place.told = last;
        self.tell_stock();
        self.place.stock = last;
        self.history.flushed(self.place);
        self.out.clear();
        for (spec, board) in drops {
            let (id, creator) = (spec.id, spec.creator_id);
            if !self.drops.contains_key(&id) {
                self.history.unknown_until(id, creator, last);
                self.strangers.remove(&id);
            }
            self.insert(spec, board, 0);
        }
        // Nobody can say whose drops these were, so nobody is told that they have missed nothing.
        let strangers = std::mem::take(&mut self.strangers);
        self.history.unknown_before(strangers.into_values().max().unwrap_or(0));
        self.forget_finished();
    }

    fn insert(&mut self, spec: Arc<DropSpec>, board: StockBoard, known: u64) {
        let (id, creator) = (spec.id, spec.creator_id);
        if self.drops.insert(id, Watched { spec, board, known, untold: None, now: None }).is_none() {
            self.by_creator.entry(creator).or_default().push(id);
        }
    }

    fn since(&self) -> Since {
        Since { epoch: self.epoch, told: self.place.told, stock: Some(self.place.stock) }
    }

    fn on_record(&mut self, record: &DropRecord, position: u64) {
        self.place.told = position;
        if let DropEvent::Scheduled(spec) = &record.event
            && self.drops.get(&record.drop).is_none_or(|watched| watched.known < position)
        {
            self.insert(Arc::new((**spec).clone()), StockBoard::new(spec), 0);
        }
        let notice = announce::notice(&record.event);
        if let Notice::Order(kind, line) = notice {
            self.tell_order(OrderFact::new(kind, line, record, position));
        }
        let Some(watched) = self.drops.get_mut(&record.drop) else {
            if !matches!(notice, Notice::Silent) {
                self.strangers.insert(record.drop, position);
            }
            return;
        };
        let news = position > watched.known;
        if news && let DropEvent::Rescheduled { starts_at, ends_at } = &record.event {
            let spec = Arc::make_mut(&mut watched.spec);
            (spec.starts_at, spec.ends_at) = (*starts_at, *ends_at);
            watched.now = None;
        }
        let changed = news
            && watched.board.fold(&record.event).unwrap_or_else(|| {
                self.contradictions.inc();
                let (drop, kind) = (record.drop, record.event.kind());
                tracing::error!(%drop, position, kind, board = ?watched.board, "what is told of a drop's stock is wrong: a record cannot follow");
                false
            });
        if changed {
            watched.now = None;
        }
        match notice {
            Notice::Drop(kind, variant) => {
                // It carries the stock, so a `stock_changed` that waited has nothing left to tell.
                watched.untold = None;
                let moment = Moment { at: record.at, position, place: self.place, epoch: self.epoch };
                let event = Arc::new(announce::drop_event(kind, &watched.spec, &watched.board, moment, variant));
                self.history.keep(watched.spec.id, watched.spec.creator_id, &event);
                self.out.push((event, u128::MAX));
            }
            Notice::Order(..) | Notice::Stock if changed => {
                if watched.untold.replace((record.at, position)).is_none() {
                    self.untold.push(record.drop);
                }
            }
            Notice::Order(..) | Notice::Stock | Notice::Silent => {}
        }
    }

    fn tell_order(&mut self, fact: OrderFact) {
        if let Some(seats) = self.by_user.get(&fact.line.buyer) {
            let shards = seats.iter().fold(0, |shards, seat| shards | 1 << seat.shard);
            self.out.push((Arc::new(fact.event(self.epoch, self.place.stock)), shards));
        }
        self.history.keep_order(fact);
    }

    /// Tells the latest stock of every drop whose stock changed since it was last told, in the order of these changes.
    fn tell_stock(&mut self) {
        let mut changed: Vec<(u64, Timestamp, DropId)> = Vec::new();
        for drop in self.untold.drain(..) {
            if let Some((at, position)) = self.drops.get_mut(&drop).and_then(|watched| watched.untold.take()) {
                changed.push((position, at, drop));
            }
        }
        if changed.is_empty() {
            return;
        }
        changed.sort_unstable();
        for (position, at, drop) in changed {
            self.place.stock = position;
            let Some(watched) = self.drops.get(&drop) else { continue };
            let moment = Moment { at, position, place: self.place, epoch: self.epoch };
            let event = announce::drop_event(announce::STOCK_CHANGED, &watched.spec, &watched.board, moment, None);
            let event = Arc::new(event);
            self.history.keep(drop, watched.spec.creator_id, &event);
            self.out.push((event, u128::MAX));
        }
        self.history.flushed(self.place);
    }

    /// The beat at which stock is told, unless too many messages of it are on their way.
    fn beat(&mut self) {
        let shards = self.shards.iter().flatten().count() as u64;
        let paid = shards * u64::from(STOCK_MESSAGES_PER_SECOND_MAX / STOCK_CHANGED_PER_SECOND_MAX);
        self.stock_ahead = (self.stock_ahead + self.stock_messages.swap(0, Ordering::Relaxed)).saturating_sub(paid);
        if self.stock_ahead == 0 {
            self.tell_stock();
        }
        self.hand_over();
    }

    /// Hands over what was told, to each shard that has somebody for it.
    fn hand_over(&mut self) {
        if self.out.is_empty() {
            return;
        }
        let told: Arc<[Told]> = std::mem::take(&mut self.out).into();
        let wanted = told.iter().fold(0, |all, (_, shards)| all | shards);
        for shard in 0..self.shards.len() {
            if wanted >> shard & 1 == 1 {
                self.send(shard, ToShard::Told(Arc::clone(&told)));
            }
        }
    }

    /// A shard that does not keep up is let go: it cuts its sessions, which come back for what they missed.
    fn send(&mut self, shard: usize, message: ToShard) {
        let Some(sender) = self.shards.get(shard).and_then(Option::as_ref) else { return };
        if sender.try_send(message).is_err() {
            tracing::warn!(shard, "a worker does not keep up with what its sessions are to hear");
            self.shards[shard] = None;
        }
    }

    fn backlog(&self) -> usize {
        self.shards.iter().flatten().map(|sender| sender.max_capacity() - sender.capacity()).max().unwrap_or(0)
    }

    fn own(&mut self, seat: SeatRef, user: UserId) {
        let seats = self.by_user.entry(user).or_default();
        seats.push_back(seat);
        if seats.len() > SESSIONS_PER_USER_MAX
            && let Some(oldest) = seats.pop_front()
        {
            self.send(oldest.shard, ToShard::Close(oldest.seat, CloseCause::SessionLimit));
        }
    }

    fn leave(&mut self, seat: SeatRef, user: UserId) {
        if let Some(seats) = self.by_user.get_mut(&user) {
            seats.retain(|other| *other != seat);
            if seats.is_empty() {
                self.by_user.remove(&user);
            }
        }
    }

    fn follow_changed(&mut self, user: UserId, creator: CreatorId, follows: bool) {
        let seats = self.sessions_of(user);
        for SeatRef { shard, seat } in seats {
            self.send(shard, ToShard::Follow { seat, creator, follows, from: self.place });
        }
    }

    fn sessions_of(&self, user: UserId) -> SmallVec<[SeatRef; 4]> {
        self.by_user.get(&user).into_iter().flatten().copied().collect()
    }

    fn revoke(&mut self, user: UserId, what: Revocation) {
        for SeatRef { shard, seat } in self.sessions_of(user) {
            self.send(shard, ToShard::Revoke(seat, what));
        }
    }

    fn tell_devices(&mut self, changes: Vec<InboxChange>) {
        for InboxChange { user, known_to, json } in changes {
            let seats = self.sessions_of(user);
            for seat in seats.into_iter().filter(|seat| Some(*seat) != known_to) {
                self.send(seat.shard, ToShard::Say(seat.seat, announce::INBOX_CHANGED, json.clone()));
            }
        }
    }

    /// Forgets drops that are over and hold nothing.
    fn forget_finished(&mut self) {
        let by_creator = &mut self.by_creator;
        self.drops.retain(|id, watched| {
            let over = matches!(watched.board.status, DropStatus::Ended | DropStatus::Cancelled);
            let total = watched.board.total();
            let refunding = watched.board.status == DropStatus::Cancelled && total.sold > 0;
            let keep = !over || total.held > 0 || refunding || watched.untold.is_some();
            if !keep && let Some(drops) = by_creator.get_mut(&watched.spec.creator_id) {
                drops.retain(|drop| drop != id);
                if drops.is_empty() {
                    by_creator.remove(&watched.spec.creator_id);
                }
            }
            keep
        });
    }
}

impl Actor for Broadcaster {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        context.set_mailbox_capacity(MAILBOX_MAX);
        let conflation = Duration::from_secs(1) / STOCK_CHANGED_PER_SECOND_MAX;
        context.run_interval(conflation, |broadcaster, _| broadcaster.beat());
        context.run_interval(Duration::from_secs(60), |broadcaster, _| {
            broadcaster.forget_finished();
            broadcaster.history.expire(broadcaster.clock.now());
        });
    }
}

impl Handler<Durable> for Broadcaster {
    type Result = usize;

    fn handle(&mut self, Durable(run): Durable, _: &mut Self::Context) -> usize {
        for (record, position) in run.records.iter().zip(run.first_sequence..) {
            self.on_record(record, position);
        }
        // What still happens to a drop that was forgotten as finished concerns its buyers only.
        self.strangers.clear();
        self.hand_over();
        self.backlog()
    }
}

impl Handler<Wish> for Broadcaster {
    type Result = ();

    fn handle(&mut self, wish: Wish, _: &mut Self::Context) {
        match wish {
            Wish::Shard(shard, sender) => {
                if self.shards.len() <= shard {
                    self.shards.resize_with(shard + 1, || None);
                }
                self.shards[shard] = Some(sender);
                self.send(shard, ToShard::Count(Arc::clone(&self.stock_messages)));
            }
            Wish::Own(seat, user) => self.own(seat, user),
            Wish::Join(seat, joining) => self.join(seat, *joining),
            Wish::Subscribe(seat, topics, since) => self.subscribe(seat, &topics, since),
            Wish::Unsubscribe(seat, topics) => {
                let answer = announce::unsubscribed(&topics);
                self.send(seat.shard, ToShard::End { seat: seat.seat, topics, answer });
            }
            Wish::Leave(seat, user) => self.leave(seat, user),
            Wish::FollowChanged(user, creator, follows) => self.follow_changed(user, creator, follows),
            Wish::Revoke(user, what) => self.revoke(user, what),
            Wish::InboxChanged(changes) => self.tell_devices(changes),
            Wish::Watch(spec, board) => {
                if !self.drops.contains_key(&spec.id) {
                    // What was told of it before is not remembered.
                    self.history.unknown_until(spec.id, spec.creator_id, self.place.told);
                    self.insert(spec, board, 0);
                }
            }
            Wish::Drain(window) => {
                for shard in 0..self.shards.len() {
                    self.send(shard, ToShard::Drain(window));
                }
            }
        }
    }
}

mod pump;
mod recall;
#[cfg(test)]
mod tests;
