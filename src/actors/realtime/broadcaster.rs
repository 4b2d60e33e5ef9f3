//! Publishes the journal's durable records. An actor that encodes each event once, adds it to the history, and hands it
//! to the [shards](super::shard), one for the sessions of each worker.
//!
//! It never waits for a socket. Answers to sessions go through the same queue as the events, so nothing is lost between
//! an answer and the events published after it.

use super::history::History;
use super::messages::{Command, InboxChange, Publication, SubscriberId, ToShard};
use crate::actors::clock::Clock;
use crate::actors::consumers::Run;
use crate::actors::realtime::event::CloseCause;
use crate::actors::realtime::position::{Epoch, Offset, StreamPosition};
use crate::actors::realtime::wire::{self, Audience, EventMeta, OrderFact};
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

/// Sessions' commands queued for the broadcaster.
pub const MAILBOX_MAX: usize = 65_536;

/// Records that have just become durable. The answer is the number of messages queued for the slowest shard.
#[derive(Message)]
#[rtype(result = "usize")]
pub struct Durable(
    /// In the journal's order, without gaps.
    pub Run,
);

struct Watched {
    spec: Arc<DropSpec>,
    board: StockBoard,
    /// The board came from elsewhere and includes records up to this one: they do not change it.
    known: u64,
    /// The time and sequence of the last stock change that is not published yet.
    pending: Option<(Timestamp, u64)>,
    /// The drop's JSON in snapshots, cached until it changes.
    now: Option<Bytes>,
}

/// The actor that publishes records to all sessions.
pub struct Broadcaster {
    epoch: Epoch,
    /// The position of what was published.
    position: StreamPosition,
    history: History,
    clock: Clock,
    drops: HashMap<DropId, Watched>,
    by_creator: HashMap<CreatorId, SmallVec<[DropId; 2]>>,
    /// Drops with pending stock; a drop may occur twice.
    pending: Vec<DropId>,
    shards: Vec<Option<mpsc::Sender<ToShard>>>,
    by_user: HashMap<UserId, VecDeque<SubscriberId>>,
    /// Publications not handed over to the shards yet.
    out: Vec<Publication>,
    /// The number of `stock_changed` messages that the shards have queued since the last flush.
    stock_messages: Arc<AtomicU64>,
    /// Messages of these beyond the rate limit, to be waited out.
    stock_ahead: u64,
    /// Drops whose `Scheduled` record was not remembered, and the last record of each.
    unknown_drops: HashMap<DropId, u64>,
    contradictions: IntCounter,
}

impl Broadcaster {
    /// A broadcaster that has published everything up to record `last`, with an empty history.
    #[must_use]
    pub fn new(epoch: Epoch, last: u64, clock: Clock) -> Self {
        Self {
            epoch,
            position: StreamPosition { published: last, stock: last },
            history: History::new(epoch, last),
            clock,
            drops: HashMap::new(),
            by_creator: HashMap::new(),
            pending: Vec::new(),
            shards: Vec::new(),
            by_user: HashMap::new(),
            out: Vec::new(),
            stock_messages: Arc::default(),
            stock_ahead: 0,
            unknown_drops: HashMap::new(),
            contradictions: IntCounter::new(
                "livedrop_stock_contradictions_total",
                "Records that could not follow from the stock that was told before them. Anything but 0 is a bug.",
            )
            .expect("a valid name"),
        }
    }

    /// The number of records that contradict the records before them.
    #[must_use]
    pub fn contradictions(&self) -> &IntCounter {
        &self.contradictions
    }

    /// Adds these records' events to the history, as far as they are complete: the stock of a drop that was scheduled
    /// earlier is not known. Call it before [`Broadcaster::watch`], with all records in order.
    pub fn remember(&mut self, run: &Run) {
        if self.position.published >= run.first_sequence {
            let before = run.first_sequence - 1;
            self.position = StreamPosition { published: before, stock: 0 };
            self.history = History::new(self.epoch, before);
        }
        for (record, sequence) in run.records.iter().zip(run.first_sequence..) {
            self.on_record(record, sequence);
        }
        self.out.clear();
    }

    /// Adds the recovered drops, after everything remembered.
    pub fn watch(&mut self, drops: Vec<(Arc<DropSpec>, StockBoard)>, last: u64) {
        self.position.published = last;
        self.publish_stock();
        self.position.stock = last;
        self.history.flushed(self.position);
        self.out.clear();
        for (spec, board) in drops {
            let (id, creator) = (spec.id, spec.creator_id);
            if !self.drops.contains_key(&id) {
                self.history.unknown_until(id, creator, last);
                self.unknown_drops.remove(&id);
            }
            self.insert(spec, board, 0);
        }
        // The creators of these drops are unknown, so no subscriber may be told that it has missed nothing.
        let unknown_drops = std::mem::take(&mut self.unknown_drops);
        self.history.unknown_before(unknown_drops.into_values().max().unwrap_or(0));
        self.forget_finished();
    }

    fn insert(&mut self, spec: Arc<DropSpec>, board: StockBoard, known: u64) {
        let (id, creator) = (spec.id, spec.creator_id);
        if self.drops.insert(id, Watched { spec, board, known, pending: None, now: None }).is_none() {
            self.by_creator.entry(creator).or_default().push(id);
        }
    }

    fn since(&self) -> Offset {
        Offset { epoch: self.epoch, published: self.position.published, stock: Some(self.position.stock) }
    }

    fn on_record(&mut self, record: &DropRecord, sequence: u64) {
        self.position.published = sequence;
        if let DropEvent::Scheduled(spec) = &record.event
            && self.drops.get(&record.drop).is_none_or(|watched| watched.known < sequence)
        {
            self.insert(Arc::new((**spec).clone()), StockBoard::new(spec), 0);
        }
        let notice = wire::audience(&record.event);
        if let Audience::Order(kind, line) = notice {
            self.publish_order(OrderFact::new(kind, line, record, sequence));
        }
        let Some(watched) = self.drops.get_mut(&record.drop) else {
            if !matches!(notice, Audience::Silent) {
                self.unknown_drops.insert(record.drop, sequence);
            }
            return;
        };
        let news = sequence > watched.known;
        if news && let DropEvent::Rescheduled { starts_at, ends_at } = &record.event {
            let spec = Arc::make_mut(&mut watched.spec);
            (spec.starts_at, spec.ends_at) = (*starts_at, *ends_at);
            watched.now = None;
        }
        let changed = news
            && watched.board.fold(&record.event).unwrap_or_else(|| {
                self.contradictions.inc();
                let (drop, kind) = (record.drop, record.event.kind());
                tracing::error!(%drop, sequence, kind, board = ?watched.board, "what is told of a drop's stock is wrong: a record cannot follow");
                false
            });
        if changed {
            watched.now = None;
        }
        match notice {
            Audience::Drop(kind, variant) => {
                // The event has the stock, so a pending `stock_changed` is obsolete.
                watched.pending = None;
                let meta = EventMeta { at: record.at, sequence, position: self.position, epoch: self.epoch };
                let event = Arc::new(wire::drop_event(kind, &watched.spec, &watched.board, meta, variant));
                self.history.keep(watched.spec.id, watched.spec.creator_id, &event);
                self.out.push((event, u128::MAX));
            }
            Audience::Order(..) | Audience::Stock if changed => {
                if watched.pending.replace((record.at, sequence)).is_none() {
                    self.pending.push(record.drop);
                }
            }
            Audience::Order(..) | Audience::Stock | Audience::Silent => {}
        }
    }

    fn publish_order(&mut self, fact: OrderFact) {
        if let Some(subscribers) = self.by_user.get(&fact.line.buyer) {
            let shards = subscribers.iter().fold(0, |shards, subscriber| shards | 1 << subscriber.shard);
            self.out.push((Arc::new(fact.event(self.epoch, self.position.stock)), shards));
        }
        self.history.keep_order(fact);
    }

    /// Publishes the latest stock of every drop whose stock changed since it was last published, in the order of these
    /// changes.
    fn publish_stock(&mut self) {
        let mut changed: Vec<(u64, Timestamp, DropId)> = Vec::new();
        for drop in self.pending.drain(..) {
            if let Some((at, sequence)) = self.drops.get_mut(&drop).and_then(|watched| watched.pending.take()) {
                changed.push((sequence, at, drop));
            }
        }
        if changed.is_empty() {
            return;
        }
        changed.sort_unstable();
        for (sequence, at, drop) in changed {
            self.position.stock = sequence;
            let Some(watched) = self.drops.get(&drop) else { continue };
            let meta = EventMeta { at, sequence, position: self.position, epoch: self.epoch };
            let event = wire::drop_event(wire::STOCK_CHANGED, &watched.spec, &watched.board, meta, None);
            let event = Arc::new(event);
            self.history.keep(drop, watched.spec.creator_id, &event);
            self.out.push((event, u128::MAX));
        }
        self.history.flushed(self.position);
    }

    /// Publishes pending stock, unless too many of its messages are still queued.
    fn flush(&mut self) {
        let shards = self.shards.iter().flatten().count() as u64;
        let paid = shards * u64::from(STOCK_MESSAGES_PER_SECOND_MAX / STOCK_CHANGED_PER_SECOND_MAX);
        self.stock_ahead = (self.stock_ahead + self.stock_messages.swap(0, Ordering::Relaxed)).saturating_sub(paid);
        if self.stock_ahead == 0 {
            self.publish_stock();
        }
        self.hand_over();
    }

    /// Hands publications over to each shard with subscribers for them.
    fn hand_over(&mut self) {
        if self.out.is_empty() {
            return;
        }
        let published: Arc<[Publication]> = std::mem::take(&mut self.out).into();
        let wanted = published.iter().fold(0, |all, (_, shards)| all | shards);
        for shard in 0..self.shards.len() {
            if wanted >> shard & 1 == 1 {
                self.send(shard, ToShard::Publish(Arc::clone(&published)));
            }
        }
    }

    /// Drops a shard that does not keep up: it closes its sessions, which reconnect and replay what they missed.
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

    fn own(&mut self, subscriber: SubscriberId, user: UserId) {
        let subscribers = self.by_user.entry(user).or_default();
        subscribers.push_back(subscriber);
        if subscribers.len() > SESSIONS_PER_USER_MAX
            && let Some(oldest) = subscribers.pop_front()
        {
            self.send(oldest.shard, ToShard::Close(oldest.subscriber, CloseCause::SessionLimit));
        }
    }

    fn leave(&mut self, subscriber: SubscriberId, user: UserId) {
        if let Some(subscribers) = self.by_user.get_mut(&user) {
            subscribers.retain(|other| *other != subscriber);
            if subscribers.is_empty() {
                self.by_user.remove(&user);
            }
        }
    }

    fn follow_changed(&mut self, user: UserId, creator: CreatorId, follows: bool) {
        let subscribers = self.sessions_of(user);
        for SubscriberId { shard, subscriber } in subscribers {
            self.send(shard, ToShard::Follow { subscriber, creator, follows, from: self.position });
        }
    }

    fn sessions_of(&self, user: UserId) -> SmallVec<[SubscriberId; 4]> {
        self.by_user.get(&user).into_iter().flatten().copied().collect()
    }

    fn revoke(&mut self, user: UserId, what: Revocation) {
        for SubscriberId { shard, subscriber } in self.sessions_of(user) {
            self.send(shard, ToShard::Revoke(subscriber, what));
        }
    }

    fn tell_devices(&mut self, changes: Vec<InboxChange>) {
        for InboxChange { user, known_to, json } in changes {
            let subscribers = self.sessions_of(user);
            for subscriber in subscribers.into_iter().filter(|subscriber| Some(*subscriber) != known_to) {
                self.send(subscriber.shard, ToShard::Say(subscriber.subscriber, wire::INBOX_CHANGED, json.clone()));
            }
        }
    }

    /// Removes drops that are over and have no holds.
    fn forget_finished(&mut self) {
        let by_creator = &mut self.by_creator;
        self.drops.retain(|id, watched| {
            let over = matches!(watched.board.status, DropStatus::Ended | DropStatus::Cancelled);
            let total = watched.board.total();
            let refunding = watched.board.status == DropStatus::Cancelled && total.sold > 0;
            let keep = !over || total.held > 0 || refunding || watched.pending.is_some();
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
        context.run_interval(conflation, |broadcaster, _| broadcaster.flush());
        context.run_interval(Duration::from_secs(60), |broadcaster, _| {
            broadcaster.forget_finished();
            broadcaster.history.expire(broadcaster.clock.now());
        });
    }
}

impl Handler<Durable> for Broadcaster {
    type Result = usize;

    fn handle(&mut self, Durable(run): Durable, _: &mut Self::Context) -> usize {
        for (record, sequence) in run.records.iter().zip(run.first_sequence..) {
            self.on_record(record, sequence);
        }
        // Later events of a drop that was removed as finished concern only its buyers.
        self.unknown_drops.clear();
        self.hand_over();
        self.backlog()
    }
}

impl Handler<Command> for Broadcaster {
    type Result = ();

    fn handle(&mut self, wish: Command, _: &mut Self::Context) {
        match wish {
            Command::Shard(shard, sender) => {
                if self.shards.len() <= shard {
                    self.shards.resize_with(shard + 1, || None);
                }
                self.shards[shard] = Some(sender);
                self.send(shard, ToShard::Count(Arc::clone(&self.stock_messages)));
            }
            Command::Own(subscriber, user) => self.own(subscriber, user),
            Command::Attach(subscriber, attach) => self.attach(subscriber, *attach),
            Command::Subscribe(subscriber, topics, since) => self.subscribe(subscriber, &topics, since),
            Command::Unsubscribe(subscriber, topics) => {
                let answer = wire::unsubscribed(&topics);
                self.send(subscriber.shard, ToShard::End { subscriber: subscriber.subscriber, topics, answer });
            }
            Command::Leave(subscriber, user) => self.leave(subscriber, user),
            Command::FollowChanged(user, creator, follows) => self.follow_changed(user, creator, follows),
            Command::Revoke(user, what) => self.revoke(user, what),
            Command::InboxChanged(changes) => self.tell_devices(changes),
            Command::Watch(spec, board) => {
                if !self.drops.contains_key(&spec.id) {
                    // The history has no earlier events of the drop.
                    self.history.unknown_until(spec.id, spec.creator_id, self.position.published);
                    self.insert(spec, board, 0);
                }
            }
            Command::Drain(window) => {
                for shard in 0..self.shards.len() {
                    self.send(shard, ToShard::Drain(window));
                }
            }
        }
    }
}

mod pump;
mod recovery;
#[cfg(test)]
mod tests;
