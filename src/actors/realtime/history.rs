//! Recently published events, so that a client that reconnects gets exactly what it missed, or learns that this is not
//! possible. No I/O: bounded in number and age, in memory only, refilled from the journal at startup.
//!
//! Public events are kept in encoded form, shared with the outboxes. Of `stock_changed` only a drop's latest is kept,
//! because it replaces the earlier ones. Orders are kept as facts and encoded only when they are replayed, so that an
//! order event of a hot drop costs a single push.

use crate::actors::realtime::event::{Event, Topic};
use crate::actors::realtime::position::{Epoch, Offset, StreamPosition};
use crate::actors::realtime::wire::OrderFact;
use crate::domain::limits::{
    HISTORY_EVENTS_MAX, HISTORY_EVENTS_PER_DROP_MAX, HISTORY_MS_MAX, HISTORY_ORDERS_MAX, HISTORY_ORDERS_PER_USER_MAX,
};
use crate::domain::{CreatorId, DropId, Timestamp, UserId};
use hashbrown::HashMap;
use smallvec::SmallVec;
use std::{cell::OnceCell, collections::VecDeque, sync::Arc};

/// Flushes of stock with a remembered position: some minutes of one every 50 ms.
const FLUSHES_MAX: usize = 8_192;

#[derive(Debug)]
struct DropLog {
    creator: CreatorId,
    /// Events up to this record may be missing.
    lost: u64,
    kept: VecDeque<Arc<Event>>,
    stock: Option<Arc<Event>>,
}

/// The bounded history of all topics.
#[derive(Debug)]
pub struct History {
    epoch: Epoch,
    drops: HashMap<DropId, DropLog>,
    creators: HashMap<CreatorId, SmallVec<[DropId; 2]>>,
    /// All kept public events, oldest first.
    queue: VecDeque<(DropId, u64, Timestamp)>,
    /// Public events up to this record may be missing.
    floor: u64,
    orders: Orders,
    /// The position of each flush of stock.
    flushes: VecDeque<StreamPosition>,
}

impl History {
    /// An empty history, complete from record `after` on.
    #[must_use]
    pub fn new(epoch: Epoch, after: u64) -> Self {
        Self {
            epoch,
            drops: HashMap::new(),
            creators: HashMap::new(),
            queue: VecDeque::new(),
            floor: after,
            orders: Orders { floor: after, ..Orders::default() },
            flushes: VecDeque::new(),
        }
    }

    /// Adds an event of a drop.
    pub fn keep(&mut self, drop: DropId, creator: CreatorId, event: &Arc<Event>) {
        let log = self.log(drop, creator);
        if event.stock_of.is_some() {
            log.stock = Some(Arc::clone(event));
            return;
        }
        // The event has the stock.
        log.stock = None;
        log.kept.push_back(Arc::clone(event));
        if log.kept.len() > HISTORY_EVENTS_PER_DROP_MAX
            && let Some(oldest) = log.kept.pop_front()
        {
            log.lost = oldest.position.published;
        }
        self.queue.push_back((drop, event.position.published, event.at));
        if self.queue.len() > HISTORY_EVENTS_MAX {
            self.forget_oldest();
        }
    }

    /// Adds an event of an order.
    pub fn keep_order(&mut self, fact: OrderFact) {
        self.orders.push(fact);
    }

    /// Marks a drop's events up to that record as missing.
    pub fn unknown_until(&mut self, drop: DropId, creator: CreatorId, record: u64) {
        let log = self.log(drop, creator);
        log.lost = log.lost.max(record);
    }

    /// Marks all public events up to that record as missing.
    pub fn unknown_before(&mut self, record: u64) {
        self.floor = self.floor.max(record);
    }

    /// Records a flush: stock changes up to `position` are published.
    pub fn flushed(&mut self, position: StreamPosition) {
        self.flushes.push_back(position);
        if self.flushes.len() > FLUSHES_MAX {
            self.flushes.pop_front();
        }
    }

    /// Drops events older than `HISTORY_MS_MAX`.
    pub fn expire(&mut self, now: Timestamp) {
        let old = |at: Timestamp| now.millis_since(at) > HISTORY_MS_MAX;
        while self.queue.front().is_some_and(|(_, _, at)| old(*at)) {
            self.forget_oldest();
        }
        self.orders.expire(&old);
        let mut floor = self.floor;
        let creators = &mut self.creators;
        self.drops.retain(|id, log| {
            if let Some(stock) = log.stock.take_if(|stock| old(stock.at)) {
                floor = floor.max(stock.position.published);
            }
            let keep = log.stock.is_some() || !log.kept.is_empty() || log.lost > floor;
            if !keep && let Some(drops) = creators.get_mut(&log.creator) {
                drops.retain(|drop| drop != id);
                if drops.is_empty() {
                    creators.remove(&log.creator);
                }
            }
            keep
        });
        self.floor = floor;
    }

    /// The events of a topic after `since`; `None` if some of them are missing. `now` is the position of what was
    /// published.
    #[must_use]
    pub fn missed(&self, topic: Topic, since: &Offset, now: StreamPosition) -> Option<Vec<Arc<Event>>> {
        if since.epoch != self.epoch || since.published > now.published {
            return None;
        }
        let published = since.published;
        let stock = since.stock.unwrap_or_else(|| self.stock_published_before(published));
        match topic {
            Topic::User(user) => self.orders.missed(user, published).map(|facts| {
                let encode =
                    |fact: &OrderFact| Arc::new(fact.event(self.epoch, self.stock_published_before(fact.sequence)));
                facts.iter().rev().map(encode).collect()
            }),
            _ if published < self.floor => None,
            Topic::Drop(id) => self.missed_of(id, published, stock),
            Topic::Creator(id) => {
                let drops = self.creators.get(&id).map_or(&[][..], SmallVec::as_slice);
                let mut events = Vec::new();
                for drop in drops {
                    events.extend(self.missed_of(*drop, published, stock)?);
                }
                Some(events)
            }
        }
    }

    fn missed_of(&self, drop: DropId, published: u64, stock: u64) -> Option<Vec<Arc<Event>>> {
        let Some(log) = self.drops.get(&drop) else { return Some(Vec::new()) };
        if published < log.lost {
            return None;
        }
        let begin = log.kept.partition_point(|event| event.position.published <= published);
        let stock = log.stock.iter().filter(|event| event.position.stock > stock);
        Some(log.kept.range(begin..).chain(stock).cloned().collect())
    }

    /// Up to which record stock was published when record `published` was. Zero if that is not remembered: a repeated
    /// event is better than a lost one.
    fn stock_published_before(&self, published: u64) -> u64 {
        let later = self.flushes.partition_point(|flush| flush.published < published);
        later.checked_sub(1).map_or(0, |at| self.flushes[at].stock)
    }

    fn log(&mut self, drop: DropId, creator: CreatorId) -> &mut DropLog {
        let floor = self.floor;
        self.drops.entry(drop).or_insert_with(|| {
            self.creators.entry(creator).or_default().push(drop);
            DropLog { creator, lost: floor, kept: VecDeque::new(), stock: None }
        })
    }

    fn forget_oldest(&mut self) {
        let Some((drop, published, _)) = self.queue.pop_front() else { return };
        self.floor = self.floor.max(published);
        if let Some(log) = self.drops.get_mut(&drop)
            && log.kept.front().is_some_and(|event| event.position.published == published)
        {
            log.kept.pop_front();
        }
    }
}

/// Facts of a block.
const BLOCK: usize = 4_096;
const BLOCKS_MAX: usize = HISTORY_ORDERS_MAX / BLOCK;

/// Facts in order of publication, in blocks. While a drop is hot, nearly every buyer is new and hardly any replays, so
/// a fact is only appended; a full block gets an index on the first replay.
#[derive(Default, Debug)]
struct Orders {
    blocks: VecDeque<Block>,
    /// Facts up to this record may be missing.
    floor: u64,
}

#[derive(Debug)]
struct Block {
    facts: Vec<OrderFact>,
    /// Buyers and the positions of their facts, sorted by both.
    index: OnceCell<Box<[(UserId, u16)]>>,
}

const _: () = assert!(BLOCK - 1 <= u16::MAX as usize && BLOCKS_MAX * BLOCK == HISTORY_ORDERS_MAX);

impl Orders {
    fn push(&mut self, fact: OrderFact) {
        match self.blocks.back_mut().filter(|block| block.facts.len() < BLOCK) {
            Some(block) => block.facts.push(fact),
            None => {
                if self.blocks.len() == BLOCKS_MAX {
                    self.pop();
                }
                let mut facts = Vec::with_capacity(BLOCK);
                facts.push(fact);
                self.blocks.push_back(Block { facts, index: OnceCell::new() });
            }
        }
    }

    fn pop(&mut self) {
        if let Some(last) = self.blocks.pop_front().and_then(|block| block.facts.last().copied()) {
            self.floor = last.sequence;
        }
    }

    /// Drops blocks in which every fact is old.
    fn expire(&mut self, old: &impl Fn(Timestamp) -> bool) {
        while self.blocks.front().and_then(|block| block.facts.last()).is_some_and(|last| old(last.at)) {
            self.pop();
        }
    }

    /// Newest first; `None` if some are missing, or there are too many.
    fn missed(&self, user: UserId, published: u64) -> Option<Vec<OrderFact>> {
        if published < self.floor {
            return None;
        }
        let mut facts = Vec::new();
        for block in self.blocks.iter().rev() {
            if block.facts.last().is_none_or(|last| last.sequence <= published) {
                break;
            }
            block.find(user, published, &mut facts);
            if facts.len() > HISTORY_ORDERS_PER_USER_MAX {
                return None;
            }
        }
        Some(facts)
    }
}

impl Block {
    /// A buyer's facts after record `published`, newest first.
    fn find(&self, user: UserId, published: u64, found: &mut Vec<OrderFact>) {
        if self.facts.len() < BLOCK {
            let theirs = |fact: &&OrderFact| fact.line.buyer == user && fact.sequence > published;
            return found.extend(self.facts.iter().rev().filter(theirs));
        }
        let index = self.index.get_or_init(|| {
            let mut index: Box<[_]> = (0_u16..).zip(&self.facts).map(|(at, fact)| (fact.line.buyer, at)).collect();
            index.sort_unstable();
            index
        });
        let from = index.partition_point(|(buyer, _)| *buyer < user);
        let theirs = index[from..].iter().take_while(|(buyer, _)| *buyer == user);
        let theirs: SmallVec<[&OrderFact; 8]> = theirs.map(|(_, at)| &self.facts[usize::from(*at)]).collect();
        found.extend(theirs.into_iter().rev().filter(|fact| fact.sequence > published));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actors::realtime::wire::Detail;
    use crate::domain::{OrderId, OrderLine, VariantId};
    use bytes::Bytes;
    use smallvec::smallvec;

    const EPOCH: Epoch = Epoch(7);

    fn event(drop: DropId, published: u64, stock: Option<u64>, at: i64) -> Arc<Event> {
        Arc::new(Event {
            kind: "test",
            at: Timestamp::from_millis(at),
            position: StreamPosition { published, stock: stock.unwrap_or(0) },
            epoch: EPOCH,
            topics: smallvec![Topic::Drop(drop)],
            stock_of: stock.map(|_| drop),
            json: Bytes::new(),
        })
    }

    fn since(published: u64, stock: Option<u64>) -> Offset {
        Offset { epoch: EPOCH, published, stock }
    }

    fn positions(missed: Option<Vec<Arc<Event>>>) -> Option<Vec<u64>> {
        missed.map(|events| events.iter().map(|event| event.position.published).collect())
    }

    const NOW: StreamPosition = StreamPosition { published: 1_000_000, stock: 1_000_000 };

    #[test]
    fn what_was_missed_is_what_came_after() {
        let (drop, creator) = (DropId::new(), CreatorId(UserId::new().0));
        let mut history = History::new(EPOCH, 10);
        for published in [11, 15, 20] {
            history.keep(drop, creator, &event(drop, published, None, 0));
        }
        for topic in [Topic::Drop(drop), Topic::Creator(creator)] {
            assert_eq!(positions(history.missed(topic, &since(10, None), NOW)), Some(vec![11, 15, 20]));
            assert_eq!(positions(history.missed(topic, &since(15, None), NOW)), Some(vec![20]));
            assert_eq!(positions(history.missed(topic, &since(20, None), NOW)), Some(vec![]));
            assert_eq!(history.missed(topic, &since(9, None), NOW), None, "before our time");
            let future = StreamPosition { published: 20, stock: 0 };
            assert_eq!(history.missed(topic, &since(21, None), future), None, "nobody can have been told that");
            assert_eq!(history.missed(topic, &Offset { epoch: Epoch(8), published: 15, stock: None }, NOW), None);
        }
        let quiet = Topic::Drop(DropId::new());
        assert_eq!(positions(history.missed(quiet, &since(10, None), NOW)), Some(vec![]));
        assert_eq!(history.missed(quiet, &since(9, None), NOW), None);
    }

    #[test]
    fn of_the_stock_only_the_latest_and_only_to_those_who_were_not_told() {
        let (drop, creator) = (DropId::new(), CreatorId(UserId::new().0));
        let mut history = History::new(EPOCH, 0);
        history.keep(drop, creator, &event(drop, 12, Some(10), 0));
        history.flushed(StreamPosition { published: 12, stock: 10 });
        history.keep(drop, creator, &event(drop, 20, Some(18), 0));
        history.flushed(StreamPosition { published: 20, stock: 18 });
        let missed = |published, stock| positions(history.missed(Topic::Drop(drop), &since(published, stock), NOW));
        assert_eq!(missed(12, Some(10)), Some(vec![20]));
        assert_eq!(missed(20, Some(18)), Some(vec![]));
        assert_eq!(missed(13, None), Some(vec![20]), "an event after the first telling, before the second");
        assert_eq!(missed(20, None), Some(vec![20]), "record 20 itself, then the stock was published, not to this one");
        assert_eq!(missed(21, None), Some(vec![]));
        history.keep(drop, creator, &event(drop, 30, None, 0));
        let missed = |published, stock| positions(history.missed(Topic::Drop(drop), &since(published, stock), NOW));
        assert_eq!(missed(12, Some(10)), Some(vec![30]), "a later event carries the stock");
    }

    #[test]
    fn too_many_events_of_one_drop_do_not_cost_another_its_own() {
        let (loud, quiet, creator) = (DropId::new(), DropId::new(), CreatorId(UserId::new().0));
        let mut history = History::new(EPOCH, 0);
        history.keep(quiet, creator, &event(quiet, 1, None, 0));
        let last = HISTORY_EVENTS_PER_DROP_MAX as u64 + 2;
        (2..=last).for_each(|published| history.keep(loud, creator, &event(loud, published, None, 0)));
        assert_eq!(positions(history.missed(Topic::Drop(quiet), &since(0, None), NOW)), Some(vec![1]));
        assert_eq!(history.missed(Topic::Drop(loud), &since(1, None), NOW), None);
        assert_eq!(history.missed(Topic::Creator(creator), &since(1, None), NOW), None);
        assert_eq!(
            history.missed(Topic::Drop(loud), &since(2, None), NOW).map(|events| events.len()),
            Some(HISTORY_EVENTS_PER_DROP_MAX)
        );
    }

    #[test]
    fn what_is_old_is_forgotten_and_never_told_in_part() {
        let (drop, creator) = (DropId::new(), CreatorId(UserId::new().0));
        let mut history = History::new(EPOCH, 0);
        history.keep(drop, creator, &event(drop, 5, None, 0));
        history.keep(drop, creator, &event(drop, 6, Some(6), 1));
        history.keep_order(fact(UserId::new(), 7, 0));
        history.expire(Timestamp::from_millis(HISTORY_MS_MAX));
        assert_eq!(positions(history.missed(Topic::Drop(drop), &since(0, None), NOW)), Some(vec![5, 6]));
        history.expire(Timestamp::from_millis(HISTORY_MS_MAX + 1));
        assert_eq!(history.missed(Topic::Drop(drop), &since(4, None), NOW), None);
        assert_eq!(positions(history.missed(Topic::Drop(drop), &since(5, None), NOW)), Some(vec![6]));
        assert_eq!(history.missed(Topic::User(UserId::new()), &since(6, None), NOW), None);
        history.expire(Timestamp::from_millis(HISTORY_MS_MAX + 2));
        assert!(history.drops.is_empty() && history.creators.is_empty() && history.orders.blocks.is_empty());
        assert_eq!(history.missed(Topic::Drop(drop), &since(5, None), NOW), None);
        assert_eq!(positions(history.missed(Topic::Drop(drop), &since(6, None), NOW)), Some(vec![]));
    }

    fn fact(buyer: UserId, sequence: u64, at: i64) -> OrderFact {
        let line = OrderLine { order: OrderId::for_drop(DropId::new()), buyer, variant: VariantId::new(), quantity: 1 };
        let at = Timestamp::from_millis(at);
        OrderFact { sequence, at, drop: DropId::new(), kind: "order_confirmed", line, detail: Detail::None }
    }

    #[test]
    fn orders_are_found_by_their_buyer() {
        let (ann, bob) = (UserId::new(), UserId::new());
        let mut history = History::new(EPOCH, 0);
        for (sequence, buyer) in [(1, ann), (2, bob), (3, ann), (4, ann)] {
            history.keep_order(fact(buyer, sequence, 0));
        }
        let missed = |user, published| positions(history.missed(Topic::User(user), &since(published, None), NOW));
        assert_eq!(missed(ann, 0), Some(vec![1, 3, 4]));
        assert_eq!(missed(ann, 3), Some(vec![4]));
        assert_eq!(missed(bob, 2), Some(vec![]));
        assert_eq!(missed(UserId::new(), 0), Some(vec![]));
    }

    #[test]
    fn orders_are_bounded_and_found_wherever_they_are() {
        let mut orders = Orders::default();
        let (ann, bob) = (UserId::new(), UserId::new());
        let somebody = |sequence: u64| UserId(uuid::Uuid::from_u128(u128::from(sequence)));
        let count = HISTORY_ORDERS_MAX as u64;
        for sequence in 1..=count {
            // One fact in the first block, several in others.
            let buyer = match sequence {
                5 => ann,
                sequence if sequence % 50_000 < 2 => bob,
                sequence => somebody(sequence),
            };
            orders.push(fact(buyer, sequence, 0));
        }
        let missed = |orders: &Orders, user, published| {
            let facts = orders.missed(user, published)?;
            Some(facts.iter().map(|fact| fact.sequence).collect::<Vec<_>>())
        };
        assert_eq!(missed(&orders, ann, 0), Some(vec![5]));
        let all: Vec<u64> = (1..=count).rev().filter(|sequence| sequence % 50_000 < 2 && *sequence != 5).collect();
        assert_eq!(missed(&orders, bob, 0), Some(all.clone()));
        let late: Vec<u64> = all.iter().copied().filter(|sequence| *sequence > 100_000).collect();
        assert_eq!(missed(&orders, bob, 100_000), Some(late));
        assert_eq!(missed(&orders, somebody(7), 6), Some(vec![7]));
        assert_eq!(missed(&orders, somebody(7), 7), Some(vec![]));

        orders.push(fact(ann, count + 1, 0));
        assert_eq!((orders.blocks.len(), orders.floor), (BLOCKS_MAX, BLOCK as u64));
        assert_eq!(missed(&orders, ann, 0), None);
        assert_eq!(missed(&orders, ann, BLOCK as u64), Some(vec![count + 1]));
        let busy = UserId::new();
        (0..=HISTORY_ORDERS_PER_USER_MAX as u64).for_each(|n| orders.push(fact(busy, 10_000_000 + n, 0)));
        assert_eq!(missed(&orders, busy, 9_999_999), None, "too many");
        assert!(orders.missed(busy, 10_000_000).is_some());
    }
}
