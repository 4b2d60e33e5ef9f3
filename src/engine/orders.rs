//! The table of a drop's orders.
//!
//! An order is a slot in a list. The indexes by id, key and buyer hold slot numbers and some hash bits, and compare the
//! rest in the slot, so no id is stored twice. Payment references are stored in an arena. Rare attributes (a running
//! payment, a refund, the trace of a failed payment) are in maps.

use super::index::{Chunked, HashIndex, IdIndex, Line, StringArena, TextAt};
use crate::domain::limits::{DROP_BATCH_MAX, ORDERS_PER_DROP_MAX};
use crate::domain::{
    Delivery, Fingerprint, KeyDigest, OrderId, OrderStatus, PaymentFacts, RefundCause, ReleaseReason, Timestamp,
    TraceId, UserId,
};
use hashbrown::{DefaultHashBuilder, HashMap};
use smallvec::SmallVec;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::BuildHasher;
use uuid::Uuid;

/// The index of an order in the table.
pub(super) type Slot = u32;

const NONE: Slot = Slot::MAX;
const _: () = assert!(ORDERS_PER_DROP_MAX < NONE as usize);

#[derive(Clone, Debug)]
pub(super) struct Order {
    pub id: OrderId,
    pub buyer: UserId,
    pub digest: KeyDigest,
    pub fingerprint: Fingerprint,
    pub created_at: Timestamp,
    /// When it was confirmed or released; while it is reserved, when its hold expires by the steady clock.
    pub settled_at: Timestamp,
    hold_ms: u32,
    payment_ref: Option<TextAt>,
    quantity: u16,
    variant: u8,
    pub status: OrderStatus,
    pub reason: Option<ReleaseReason>,
    previous_of_buyer: Slot,
    /// Units that the buyer holds or owns in this drop. Valid only in each buyer's newest order, as are the two fields
    /// below.
    units_of_buyer: u32,
    /// The buyer's unpaid holds. At its maximum the count no longer changes: no policy admits so many.
    holds_of_buyer: u16,
    /// Whether the buyer is in `Orders::struck`.
    buyer_is_struck: bool,
}

// Millions of orders stay in memory until their drop is settled.
const _: () = assert!(size_of::<Order>() == 96);

impl Order {
    /// When the hold ends, as published to the buyer.
    pub fn expires_at(&self) -> Timestamp {
        self.created_at.plus_millis(i64::from(self.hold_ms))
    }

    /// How long its hold was to last, in milliseconds.
    pub fn hold_ms(&self) -> u32 {
        self.hold_ms
    }

    /// Moves the published end of its hold.
    pub fn extend(&mut self, expires_at: Timestamp) {
        let hold_ms = expires_at.millis_since(self.created_at);
        self.hold_ms = u32::try_from(hold_ms).expect("HOLD_MS_MAX and PAYMENT_ACTION_MS are bounds");
        self.settled_at = expires_at;
    }

    pub fn quantity(&self) -> u32 {
        self.quantity.into()
    }

    /// The index of its variant in the spec.
    pub fn variant(&self) -> u16 {
        self.variant.into()
    }

    /// Whether it was held long without being paid: the hold expired, or its buyer released it after at least half of
    /// its time. Uses the journal's timestamps, so that a replay gives the same answer.
    pub fn was_held_in_vain(&self, reason: ReleaseReason, at: Timestamp) -> bool {
        let most = i64::from(self.hold_ms / 2);
        reason == ReleaseReason::Expired
            || (reason == ReleaseReason::Cancelled && at.millis_since(self.created_at) >= most)
    }

    /// When the hold expires by the steady clock, if the order is reserved.
    pub fn runs_out_at(&self) -> Option<Timestamp> {
        (self.status == OrderStatus::Reserved).then_some(self.settled_at)
    }
}

/// The initial fields of an order.
pub(super) struct NewOrder {
    pub id: OrderId,
    pub buyer: UserId,
    pub digest: KeyDigest,
    pub fingerprint: Fingerprint,
    pub created_at: Timestamp,
    pub expires_at: Timestamp,
    pub quantity: u32,
    pub variant: u16,
}

/// The unpaid holds in a row of a buyer who has not paid since.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Strikes {
    /// How many in a row. Holds made before the last strike do not count again.
    pub count: u8,
    /// When the last strike was: by the steady clock if that is known, else the journal's timestamp.
    pub at: Timestamp,
    /// The order of the last strike.
    pub by: Slot,
    /// The first order that can count as the next strike.
    after: Slot,
}

/// All orders of one drop.
#[derive(Default)]
pub(super) struct Orders {
    slots: Chunked<Order>,
    by_id: IdIndex,
    by_key: HashIndex,
    /// The newest order of each buyer.
    by_buyer: HashIndex,
    /// The last order found: a command looks its order up several times.
    recent: Slot,
    hasher: DefaultHashBuilder,
    payment_refs: StringArena,
    /// Payments without a known outcome, by method.
    pub paying: HashMap<Slot, Box<str>>,
    /// Refunds that are due.
    pub refunds: BTreeMap<Slot, RefundCause>,
    /// When refunds were settled.
    pub refunded: HashMap<Slot, Timestamp>,
    /// Traces of the requests with a failed payment.
    pub failed: HashMap<Slot, TraceId>,
    /// What is known of payments, where it cannot be assumed: see [`PaymentFacts::assumed`].
    facts: HashMap<Slot, PaymentFacts>,
    /// Where orders are sent, of those that are shipped.
    pub deliveries: HashMap<Slot, Delivery>,
    /// Orders whose money is authorized and to be captured.
    pub captures: BTreeSet<Slot>,
    /// Strikes by buyer. A buyer's newest order has a flag if the buyer is here.
    struck: HashMap<UserId, Strikes>,
}

impl Orders {
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    pub fn get(&self, slot: Slot) -> &Order {
        &self.slots[slot as usize]
    }

    pub fn get_mut(&mut self, slot: Slot) -> &mut Order {
        &mut self.slots[slot as usize]
    }

    pub fn find(&self, id: OrderId) -> Option<Slot> {
        let is_it = |slot| self.slots.get(slot as usize).is_some_and(|order| order.id == id);
        if is_it(self.recent) { Some(self.recent) } else { self.by_id.find(id, self.hash(id.0), is_it) }
    }

    /// The highest id of an order.
    pub fn newest(&self) -> Option<OrderId> {
        self.by_id.highest()
    }

    /// Like [`Self::find`], and caches the result for the next lookup.
    pub fn recall(&mut self, id: OrderId) -> Option<Slot> {
        let found = self.find(id)?;
        self.recent = found;
        Some(found)
    }

    /// The order of a key.
    pub fn find_key(&self, digest: KeyDigest) -> Option<Slot> {
        self.by_key.find(self.hash(digest.0), |slot| self.get(slot).digest == digest)
    }

    fn hash(&self, id: Uuid) -> u64 {
        self.hasher.hash_one(id.as_u128())
    }

    /// Prefetches the hash lines for reservations of these buyers under these keys.
    pub fn prefetch(&self, asked: impl Iterator<Item = (UserId, KeyDigest)>) {
        let places = asked.flat_map(|(buyer, digest)| {
            [self.by_key.home(self.hash(digest.0)), self.by_buyer.home(self.hash(buyer.0))]
        });
        // All addresses first, then only reads: the closer the reads, the more cache misses overlap.
        let lines: SmallVec<[&Line; 2 * DROP_BATCH_MAX]> = places.flatten().collect();
        std::hint::black_box(lines.iter().fold(0, |read, line| read ^ line.read()));
    }

    /// Units that `buyer` holds or owns.
    pub fn units_of(&self, buyer: UserId) -> u32 {
        self.standing_of(buyer).0
    }

    /// The buyer's units, unpaid holds and strikes.
    pub fn standing_of(&self, buyer: UserId) -> (u32, u16, Option<Strikes>) {
        let Some(newest) = self.newest_of(buyer) else { return (0, 0, None) };
        let newest = self.get(newest);
        let strikes = if newest.buyer_is_struck { self.struck.get(&buyer).copied() } else { None };
        (newest.units_of_buyer, newest.holds_of_buyer, strikes)
    }

    /// The slots of a buyer's orders, newest first.
    pub fn slots_of(&self, buyer: UserId) -> impl Iterator<Item = Slot> + '_ {
        let first = self.newest_of(buyer);
        std::iter::successors(first, |&slot| {
            Some(self.get(slot).previous_of_buyer).filter(|&previous| previous != NONE)
        })
    }

    fn newest_of(&self, buyer: UserId) -> Option<Slot> {
        self.by_buyer.find(self.hash(buyer.0), |slot| self.get(slot).buyer == buyer)
    }

    /// Adds a reserved order. Its units count for its buyer at once.
    pub fn insert(&mut self, new: NewOrder) -> Slot {
        let slot = Slot::try_from(self.slots.len()).expect("ORDERS_PER_DROP_MAX is below 2^32");
        let previous = self.link_buyer(new.buyer, slot);
        let hold_ms = new.expires_at.millis_since(new.created_at);
        let (units, holds, struck) = previous.map_or((0, 0, false), |slot| {
            let newest = self.get(slot);
            (newest.units_of_buyer, newest.holds_of_buyer, newest.buyer_is_struck)
        });
        self.slots.push(Order {
            id: new.id,
            buyer: new.buyer,
            digest: new.digest,
            fingerprint: new.fingerprint,
            created_at: new.created_at,
            // A replay knows only the journal's timestamps; `run_out` then sets the steady time of a live decision.
            settled_at: new.expires_at,
            hold_ms: u32::try_from(hold_ms).expect("a hold lasts at most HOLD_MS_MAX"),
            payment_ref: None,
            quantity: u16::try_from(new.quantity).expect("QUANTITY_PER_ORDER_MAX fits into 16 bits"),
            variant: u8::try_from(new.variant).expect("VARIANTS_PER_DROP_MAX fits into 8 bits"),
            status: OrderStatus::Reserved,
            reason: None,
            previous_of_buyer: previous.unwrap_or(NONE),
            units_of_buyer: units.checked_add(new.quantity).expect("a buyer has no more units than the drop"),
            holds_of_buyer: holds.saturating_add(1),
            buyer_is_struck: struck,
        });
        self.by_id.push(new.id, self.hash(new.id.0));
        self.by_key.insert(self.hash(new.digest.0), slot);
        self.recent = slot;
        slot
    }

    /// Sets when the hold of a reserved order expires by the steady clock.
    pub fn run_out(&mut self, slot: Slot, at: Timestamp) {
        let order = self.get_mut(slot);
        debug_assert_eq!(order.status, OrderStatus::Reserved);
        order.settled_at = at;
    }

    /// Makes a slot the newest of its buyer, and returns the previous one.
    fn link_buyer(&mut self, buyer: UserId, slot: Slot) -> Option<Slot> {
        let hash = self.hash(buyer.0);
        match self.by_buyer.find_mut(hash, |newest| self.slots[newest as usize].buyer == buyer) {
            Some(newest) => Some(std::mem::replace(newest, slot)),
            None => {
                self.by_buyer.insert(hash, slot);
                None
            }
        }
    }

    /// Adds `units` (which may be negative) for a buyer with an order here, and subtracts a hold if one `has_ended`.
    pub fn change_units(&mut self, buyer: UserId, units: i64, has_ended: bool) {
        let newest = self.newest_of(buyer).expect("a buyer with an order");
        self.change_units_in(newest, units, has_ended);
    }

    /// Like [`Self::change_units`], for the buyer whose newest order this is.
    pub fn change_units_in(&mut self, newest: Slot, units: i64, has_ended: bool) {
        let Order { units_of_buyer, holds_of_buyer, .. } = self.get_mut(newest);
        *units_of_buyer = u32::try_from(i64::from(*units_of_buyer) + units).expect("units never fall below zero");
        if has_ended && *holds_of_buyer < u16::MAX {
            *holds_of_buyer = holds_of_buyer.checked_sub(1).expect("holds never fall below zero");
        }
    }

    /// Counts a strike: a hold was held in vain, see [`Order::was_held_in_vain`].
    pub fn strike(&mut self, slot: Slot, at: Timestamp) {
        let (buyer, after) = (self.get(slot).buyer, self.next_slot());
        let strikes = match self.struck.get(&buyer) {
            // Made before the last strike: both are one strike.
            Some(known) if slot < known.after => return,
            Some(known) => Strikes { count: known.count.saturating_add(1), at, by: slot, after },
            None => Strikes { count: 1, at, by: slot, after },
        };
        self.set_struck(buyer, Some(strikes));
    }

    /// Sets the steady time of a buyer's last strike, if `slot` caused it.
    pub fn struck_at(&mut self, slot: Slot, steady: Timestamp) {
        let buyer = self.get(slot).buyer;
        if let Some(strikes) = self.struck.get_mut(&buyer).filter(|strikes| strikes.by == slot) {
            strikes.at = steady;
        }
    }

    /// Clears a buyer's strikes after a payment.
    pub fn pardon(&mut self, buyer: UserId) {
        if !self.struck.is_empty() && self.struck.contains_key(&buyer) {
            self.set_struck(buyer, None);
        }
    }

    fn set_struck(&mut self, buyer: UserId, strikes: Option<Strikes>) {
        let newest = self.newest_of(buyer).expect("a buyer with an order");
        self.get_mut(newest).buyer_is_struck = strikes.is_some();
        match strikes {
            Some(strikes) => _ = self.struck.insert(buyer, strikes),
            None => _ = self.struck.remove(&buyer),
        }
    }

    fn next_slot(&self) -> Slot {
        Slot::try_from(self.slots.len()).expect("ORDERS_PER_DROP_MAX is below 2^32")
    }

    /// Recomputes the strikes from the orders alone, for a drop restored without its events.
    pub fn find_strikes(&mut self) {
        let mut vain: Vec<(Timestamp, Slot)> = (self.iter())
            .filter(|(_, order)| order.status == OrderStatus::Released)
            .filter(|(_, order)| order.reason.is_some_and(|reason| order.was_held_in_vain(reason, order.settled_at)))
            .map(|(slot, order)| (order.settled_at, slot))
            .collect();
        vain.sort_unstable();
        // The same slots by buyer, in order of time: each buyer's payments are searched once.
        let mut of: HashMap<UserId, Vec<(Timestamp, Slot)>> = HashMap::new();
        for (at, slot) in vain {
            of.entry(self.get(slot).buyer).or_default().push((at, slot));
        }
        for (buyer, vain) in of {
            let orders: Vec<Slot> = self.slots_of(buyer).collect();
            let is_paid = |order: &Order| matches!(order.status, OrderStatus::Confirmed | OrderStatus::Refunded);
            let paid = orders.iter().map(|&slot| self.get(slot)).filter(|order| is_paid(order));
            let paid_at = paid.map(|order| order.settled_at).max();
            let mut strikes: Option<Strikes> = None;
            for (at, slot) in vain.into_iter().filter(|(at, _)| paid_at.is_none_or(|paid| paid <= *at)) {
                let known = strikes.filter(|known| self.get(slot).created_at < known.at);
                if known.is_none() {
                    let count = strikes.map_or(0, |strikes| strikes.count).saturating_add(1);
                    // Orders that the buyer made later can count as the next strike.
                    let later = orders.iter().copied().filter(|&order| self.get(order).created_at >= at);
                    let after = later.min().unwrap_or_else(|| self.next_slot());
                    strikes = Some(Strikes { count, at, by: slot, after });
                }
            }
            self.set_struck(buyer, strikes);
        }
    }

    /// Where an order is sent.
    pub fn delivery(&self, slot: Slot) -> Option<Box<Delivery>> {
        // Most drops ship nothing: no hash is computed for them.
        if self.deliveries.is_empty() { None } else { self.deliveries.get(&slot).copied().map(Box::new) }
    }

    /// The gateway's reference of an order's payment.
    pub fn payment_ref(&self, slot: Slot) -> Option<&str> {
        self.get(slot).payment_ref.map(|at| self.payment_refs.get(at))
    }

    pub fn set_payment_ref(&mut self, slot: Slot, text: Option<&str>) {
        // An unchanged text, as in a refund, takes no more room.
        if text != self.payment_ref(slot) {
            let at = text.map(|text| self.payment_refs.push(text));
            self.get_mut(slot).payment_ref = at;
        }
    }

    /// What is known of an order's payments.
    pub fn facts(&self, slot: Slot) -> PaymentFacts {
        self.kept_facts(slot).unwrap_or_else(|| PaymentFacts::assumed(self.was_tried(slot)))
    }

    /// The same, if it cannot be assumed.
    pub fn kept_facts(&self, slot: Slot) -> Option<PaymentFacts> {
        if self.facts.is_empty() { None } else { self.facts.get(&slot).copied() }
    }

    /// Sets what is known of an order's payments; last, because what can be assumed depends on the other attributes.
    pub fn set_facts(&mut self, slot: Slot, facts: PaymentFacts) {
        if facts.capture_due {
            self.captures.insert(slot);
        } else if !self.captures.is_empty() {
            self.captures.remove(&slot);
        }
        if facts != PaymentFacts::assumed(self.was_tried(slot)) {
            self.facts.insert(slot, facts);
        } else if !self.facts.is_empty() {
            self.facts.remove(&slot);
        }
    }

    fn was_tried(&self, slot: Slot) -> bool {
        self.payment_ref(slot).is_some()
            || (!self.paying.is_empty() && self.paying.contains_key(&slot))
            || (!self.failed.is_empty() && self.failed.contains_key(&slot))
    }

    pub fn iter(&self) -> impl Iterator<Item = (Slot, &Order)> {
        (0..).zip(self.slots.iter())
    }
}
