//! A drop in memory.

use super::admission::HoldPolicy;
use super::copying::Copying;
use super::orders::{NewOrder, Orders, Slot};
use crate::domain::limits::PAYMENT_ACTION_MS;
use crate::domain::{
    DropRevision, DropSpec, DropStatus, KeyDigest, Moment, OrderId, OrderStatus, OrderView, StockCounts, Timestamp,
    UserId, VariantId,
};
use hashbrown::HashMap;
use std::collections::{BTreeMap, VecDeque};
use std::{num::NonZeroU32, ops::Bound, sync::Arc};

#[derive(Clone, Debug)]
pub(super) struct Variant {
    pub counts: StockCounts,
    /// Whether `stock_low` was published since the free units were last above the threshold.
    pub low: bool,
}

/// A hold, queued in the order of creation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hold {
    pub slot: Slot,
    /// The network that it counts for while it is unpaid.
    pub network: Option<NonZeroU32>,
}

/// One drop: its stock, its orders, its keys.
pub struct DropState {
    pub(super) spec: Arc<DropSpec>,
    pub(super) status: DropStatus,
    pub(super) started_at: Option<Timestamp>,
    pub(super) ended_at: Option<Timestamp>,
    /// Time of the last event.
    pub(super) last_at: Timestamp,
    pub(super) variants: Vec<Variant>,
    /// Free units of all variants.
    pub(super) free: u64,
    /// Held units of all variants.
    pub(super) held: u64,
    pub(super) orders: Orders,
    /// Holds in the order in which they expire by the steady clock. All last equally long, so that is also the order of
    /// creation; entries of settled orders are dropped when they reach the front.
    pub(super) holds: VecDeque<Hold>,
    /// Holds that last longer because their buyers have to act, by the time at which they expire by the steady clock, with
    /// their networks. What is left of them in `holds` counts no more.
    pub(super) extended: BTreeMap<(Timestamp, Slot), Option<NonZeroU32>>,
    /// Bounds on unpaid holds.
    pub(super) policy: HoldPolicy,
    /// Unpaid holds of each network, of those made since the process started.
    pub(super) by_network: HashMap<NonZeroU32, u32>,
    /// Where the search for orders to refund continues in a cancelled drop.
    pub(super) refund_cursor: Slot,
    /// How many events were folded in since the state was made.
    pub(super) changes: u64,
    /// A copy that is being made.
    pub(super) copying: Option<Box<Copying>>,
}

/// When [`super::Command::Tick`] has something to do next, by each of the two clocks. A time in the past means "now".
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Deadlines {
    /// The next start or end, by the wall clock.
    pub wall: Option<Timestamp>,
    /// The next expiry of a hold, by the steady clock.
    pub steady: Option<Timestamp>,
}

impl Deadlines {
    /// Whether either of them has passed.
    #[must_use]
    pub fn have_come(self, now: Moment) -> bool {
        self.wall.is_some_and(|at| at <= now.wall) || self.steady.is_some_and(|at| at <= now.steady)
    }
}

impl DropState {
    /// The state of a newly scheduled drop.
    #[must_use]
    pub fn scheduled(spec: DropSpec) -> Self {
        let variants: Vec<Variant> =
            spec.variants.iter().map(|v| Variant { counts: StockCounts::full(v.stock), low: false }).collect();
        Self {
            status: DropStatus::Scheduled,
            started_at: None,
            ended_at: None,
            last_at: spec.created_at,
            free: variants.iter().map(|v| u64::from(v.counts.available)).sum(),
            held: 0,
            variants,
            orders: Orders::default(),
            holds: VecDeque::new(),
            extended: BTreeMap::new(),
            policy: HoldPolicy::OFF,
            by_network: HashMap::new(),
            refund_cursor: 0,
            changes: 0,
            copying: None,
            spec: Arc::new(spec),
        }
    }

    /// Sets the bounds on unpaid holds. Without this call there are none.
    pub fn set_hold_policy(&mut self, policy: HoldPolicy) {
        self.policy = policy;
    }

    /// How many holds of a buyer in a row expired unpaid.
    #[must_use]
    pub fn strikes_of(&self, buyer: UserId) -> u8 {
        self.orders.standing_of(buyer).2.map_or(0, |strikes| strikes.count)
    }

    /// How many unpaid holds a buyer has.
    #[must_use]
    pub fn holds_of(&self, buyer: UserId) -> u16 {
        self.orders.standing_of(buyer).1
    }

    /// The spec, with later changes of its times.
    #[must_use]
    pub fn spec(&self) -> &Arc<DropSpec> {
        &self.spec
    }

    #[must_use]
    pub fn status(&self) -> DropStatus {
        self.status
    }

    /// When it was started; absent before.
    #[must_use]
    pub fn started_at(&self) -> Option<Timestamp> {
        self.started_at
    }

    /// When it ended or was cancelled; absent before.
    #[must_use]
    pub fn ended_at(&self) -> Option<Timestamp> {
        self.ended_at
    }

    /// The stock of each variant, in the spec's order.
    pub fn stock(&self) -> impl Iterator<Item = (VariantId, StockCounts)> + '_ {
        self.spec.variants.iter().zip(&self.variants).map(|(spec, variant)| (spec.id, variant.counts))
    }

    /// The part that people can change by hand.
    #[must_use]
    pub fn revision(&self) -> DropRevision {
        DropRevision::new(&self.spec, self.status, self.variants.iter().map(|variant| variant.counts.total))
    }

    /// How many orders it has, settled ones included.
    #[must_use]
    pub fn order_count(&self) -> usize {
        self.orders.len()
    }

    /// The newest order by its id.
    #[must_use]
    pub fn newest_order(&self) -> Option<OrderId> {
        self.orders.newest()
    }

    /// Whether nothing can change any more: over, no hold, no payment without an outcome, no refund or capture due, no sold order left
    /// to refund.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        let over = matches!(self.status, DropStatus::Ended | DropStatus::Cancelled);
        let owes_nothing =
            self.orders.refunds.is_empty() && self.orders.paying.is_empty() && self.orders.captures.is_empty();
        over && self.held == 0 && owes_nothing && !self.has_sold_to_refund()
    }

    /// Whether it need not stay in memory: settled, or scheduled to start after `horizon`.
    #[must_use]
    pub fn can_leave(&self, horizon: Timestamp) -> bool {
        self.is_settled() || (self.status == DropStatus::Scheduled && self.spec.starts_at > horizon)
    }

    fn has_sold_to_refund(&self) -> bool {
        self.status == DropStatus::Cancelled && self.variants.iter().any(|variant| variant.counts.sold > 0)
    }

    /// When [`super::Command::Tick`] has something to do next, if ever.
    #[must_use]
    pub fn deadlines(&self) -> Deadlines {
        let wall = match self.status {
            DropStatus::Scheduled => Some(self.spec.starts_at),
            DropStatus::Live | DropStatus::SoldOut => self.spec.ends_at,
            DropStatus::Ended | DropStatus::Cancelled => None,
        };
        let sweeping = self.status == DropStatus::Cancelled && (self.held > 0 || self.has_sold_to_refund());
        // Few settled holds are at the front: the next decision removes them.
        let first = || self.queued().next().map(|(_, at)| at);
        let extended = || self.extended.first_key_value().map(|(&(at, _), _)| at);
        let steady = if sweeping { Some(Timestamp::EPOCH) } else { first().into_iter().chain(extended()).min() };
        Deadlines { wall, steady }
    }

    /// How many events were folded in since this state was made: where it is the same, nothing has changed.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// When the last event was recorded.
    #[must_use]
    pub fn last_at(&self) -> Timestamp {
        self.last_at
    }

    /// Every hold, with the time at which it expires by the steady clock.
    pub fn holds(&self) -> impl Iterator<Item = (OrderId, Timestamp)> + '_ {
        let extended = self.extended.keys().map(|&(at, slot)| (slot, at));
        self.queued().map(|(hold, at)| (hold.slot, at)).chain(extended).map(|(slot, at)| (self.orders.get(slot).id, at))
    }

    /// The holds that were not extended, as they are queued.
    fn queued(&self) -> impl Iterator<Item = (Hold, Timestamp)> + '_ {
        let waits = |hold: &Hold| !self.is_extended(hold.slot);
        self.holds.iter().filter_map(move |&hold| {
            Some((hold, self.orders.get(hold.slot).runs_out_at()?)).filter(|(hold, _)| waits(hold))
        })
    }

    /// Whether the hold of a reserved order lasts longer than it was made for.
    pub(super) fn is_extended(&self, slot: Slot) -> bool {
        !self.extended.is_empty() && self.orders.get(slot).hold_ms() > self.spec.hold_ms
    }

    /// Sets when an extended hold expires by the steady clock.
    pub(super) fn run_out_extended(&mut self, slot: Slot, at: Timestamp) {
        let Some(ends) = self.orders.get(slot).runs_out_at() else { return };
        if let Some(network) = self.extended.remove(&(ends, slot)) {
            self.orders.run_out(slot, at);
            self.extended.insert((at, slot), network);
        }
    }

    /// Prepares a recovered drop when the steady clock shows `steady`. The journal has wall-clock times, and that clock
    /// may have been set back since: no hold lasts longer from now on than a new one, and the queue stays in the order
    /// of expiry.
    pub fn resume(&mut self, steady: Timestamp) {
        let latest = steady.plus_millis(self.spec.hold_ms.into());
        let late: Vec<Slot> = self.queued().filter(|(_, at)| *at > latest).map(|(hold, _)| hold.slot).collect();
        late.into_iter().for_each(|slot| self.orders.run_out(slot, latest));
        let latest = latest.plus_millis(PAYMENT_ACTION_MS.into());
        let late: Vec<Slot> = self.extended.keys().filter(|(at, _)| *at > latest).map(|(_, slot)| *slot).collect();
        late.into_iter().for_each(|slot| self.run_out_extended(slot, latest));
        self.order_holds();
    }

    /// Sorts the holds by expiry at the end of a replay: the wall clock may have been set between two of them.
    pub fn order_holds(&mut self) {
        let mut holds: Vec<(Timestamp, Slot, Hold)> = self.queued().map(|(hold, at)| (at, hold.slot, hold)).collect();
        holds.sort_unstable_by_key(|&(at, slot, _)| (at, slot));
        self.holds = holds.into_iter().map(|(.., hold)| hold).collect();
    }

    /// An order as it is now.
    #[must_use]
    pub fn order(&self, id: OrderId) -> Option<OrderView> {
        self.orders.find(id).map(|slot| self.view(slot))
    }

    /// All orders, in the order in which they were placed.
    pub fn orders(&self) -> impl Iterator<Item = OrderView> + '_ {
        self.orders.iter().map(|(slot, _)| self.view(slot))
    }

    /// A buyer's orders, newest first.
    pub fn orders_of(&self, buyer: UserId) -> impl Iterator<Item = OrderView> + '_ {
        self.orders.slots_of(buyer).map(|slot| self.view(slot))
    }

    /// Units that a buyer holds or owns.
    #[must_use]
    pub fn units_of(&self, buyer: UserId) -> u32 {
        self.orders.units_of(buyer)
    }

    /// The digests of the keys of its orders.
    pub fn keys(&self) -> impl Iterator<Item = KeyDigest> + '_ {
        self.orders.iter().map(|(_, order)| order.digest)
    }

    /// Whether an order was placed with this key.
    #[must_use]
    pub fn knows_key(&self, digest: KeyDigest) -> bool {
        self.orders.find_key(digest).is_some()
    }

    /// Orders with a payment of unknown outcome, and its method.
    pub fn payments_pending(&self) -> impl Iterator<Item = (OrderId, &str)> {
        self.orders.paying.iter().map(|(&slot, method)| (self.orders.get(slot).id, &**method))
    }

    /// Orders with a refund due, and the payment's reference.
    pub fn refunds_due(&self) -> impl Iterator<Item = (OrderId, &str)> {
        self.slots_to_refund(None)
            .map(|slot| (self.orders.get(slot).id, self.orders.payment_ref(slot).unwrap_or_default()))
    }

    /// Orders with a refund due, oldest first, after the given one.
    pub(super) fn slots_to_refund(&self, after: Option<OrderId>) -> impl Iterator<Item = Slot> {
        let after = after.and_then(|order| self.orders.find(order)).map_or(Bound::Unbounded, Bound::Excluded);
        self.orders.refunds.range((after, Bound::Unbounded)).map(|(&slot, _)| slot)
    }

    /// Orders whose money is to be captured.
    pub fn captures_due(&self) -> impl Iterator<Item = OrderId> {
        self.orders.captures.iter().map(|&slot| self.orders.get(slot).id)
    }

    /// Orders whose money is to be captured, oldest first, after the given one.
    pub(super) fn slots_to_capture(&self, after: Option<OrderId>) -> impl Iterator<Item = Slot> {
        let after = after.and_then(|order| self.orders.find(order)).map_or(Bound::Unbounded, Bound::Excluded);
        self.orders.captures.range((after, Bound::Unbounded)).copied()
    }

    /// The index of a variant; of the only one if none is given.
    pub(super) fn variant_index(&self, id: Option<VariantId>) -> Option<u16> {
        let variants = &self.spec.variants;
        let index = match id {
            Some(id) => variants.iter().position(|variant| variant.id == id)?,
            None if variants.len() == 1 => 0,
            None => return None,
        };
        u16::try_from(index).ok()
    }

    pub(super) fn view(&self, slot: Slot) -> OrderView {
        let order = self.orders.get(slot);
        let variant = &self.spec.variants[usize::from(order.variant())];
        let confirmed = matches!(order.status, OrderStatus::Confirmed | OrderStatus::Refunded);
        OrderView {
            id: order.id,
            drop_id: self.spec.id,
            variant_id: variant.id,
            buyer: order.buyer,
            quantity: order.quantity(),
            unit_price: variant.price,
            status: order.status,
            release_reason: order.reason,
            digest: order.digest,
            fingerprint: order.fingerprint,
            created_at: order.created_at,
            expires_at: order.expires_at(),
            confirmed_at: confirmed.then_some(order.settled_at),
            released_at: (order.status == OrderStatus::Released).then_some(order.settled_at),
            refunded_at: self.orders.refunded.get(&slot).copied(),
            payment_ref: self.orders.payment_ref(slot).map(str::to_owned),
            payment_pending: self.orders.paying.get(&slot).map(|method| method.to_string()),
            refund_due: self.orders.refunds.get(&slot).copied(),
            failed_trace: self.orders.failed.get(&slot).copied(),
            payment: self.orders.facts(slot),
            delivery: self.orders.delivery(slot),
        }
    }

    /// Checks everything that must hold between two commands.
    ///
    /// # Panics
    /// If something does not hold: that is a bug, and going on would oversell.
    pub fn assert_invariants(&self) {
        let mut expected: Vec<StockCounts> =
            self.variants.iter().map(|v| StockCounts { held: 0, sold: 0, ..v.counts }).collect();
        for (slot, order) in self.orders.iter() {
            let counts = &mut expected[usize::from(order.variant())];
            match order.status {
                OrderStatus::Reserved => counts.held += order.quantity(),
                OrderStatus::Confirmed if !self.orders.refunds.contains_key(&slot) => counts.sold += order.quantity(),
                _ => {}
            }
        }
        let in_networks: u64 = self.by_network.values().map(|&holds| u64::from(holds)).sum();
        let told = self.holds.iter().map(|hold| hold.network).chain(self.extended.values().copied());
        let told = told.flatten().count() as u64;
        assert_eq!(in_networks, told, "holds from networks are counted wrong");
        for (variant, expected) in self.variants.iter().zip(&expected) {
            assert!(variant.counts.balances(), "the stock equation does not hold: {:?}", variant.counts);
            assert_eq!(variant.counts, *expected, "stock and orders disagree");
        }
        assert_eq!(self.free, self.variants.iter().map(|v| u64::from(v.counts.available)).sum::<u64>());
        assert_eq!(self.held, self.variants.iter().map(|v| u64::from(v.counts.held)).sum::<u64>());
    }
}

/// Rebuilds a drop from its projected rows: [`Restore::new`], then every order, then [`Restore::finish`].
pub struct Restore(DropState);

impl Restore {
    /// Begins with the drop itself. `variants` are the stock and whether `stock_low` was published, in the spec's
    /// order.
    #[must_use]
    pub fn new(
        spec: DropSpec,
        status: DropStatus,
        times: (Option<Timestamp>, Option<Timestamp>, Timestamp),
        variants: &[(StockCounts, bool)],
    ) -> Self {
        let mut state = DropState::scheduled(spec);
        (state.started_at, state.ended_at, state.last_at) = times;
        state.status = status;
        state.variants = variants.iter().map(|&(counts, low)| Variant { counts, low }).collect();
        state.free = state.variants.iter().map(|v| u64::from(v.counts.available)).sum();
        state.held = state.variants.iter().map(|v| u64::from(v.counts.held)).sum();
        Self(state)
    }

    /// Adds an order, the oldest first: the rows do not have the order of placement, and buyers' lists depend on it.
    ///
    /// # Errors
    /// If the row names a variant that the drop does not have, or a hold that ends before it begins.
    pub fn order(&mut self, row: OrderView) -> Result<(), String> {
        let state = &mut self.0;
        let variant = state.variant_index(Some(row.variant_id)).ok_or_else(|| {
            format!("order {} names variant {}, which drop {} does not have", row.id, row.variant_id, row.drop_id)
        })?;
        let hold_ms = row.expires_at.millis_since(row.created_at);
        if u32::try_from(hold_ms).is_err() {
            return Err(format!("order {} has a hold of {hold_ms} ms", row.id));
        }
        let slot = state.orders.insert(NewOrder {
            id: row.id,
            buyer: row.buyer,
            digest: row.digest,
            fingerprint: row.fingerprint,
            created_at: row.created_at,
            expires_at: row.expires_at,
            quantity: row.quantity,
            variant,
        });
        let counts_for_buyer =
            row.status == OrderStatus::Reserved || (row.status == OrderStatus::Confirmed && row.refund_due.is_none());
        let units = if counts_for_buyer { 0 } else { -i64::from(row.quantity) };
        state.orders.change_units_in(slot, units, row.status != OrderStatus::Reserved);
        state.orders.set_payment_ref(slot, row.payment_ref.as_deref());
        let order = state.orders.get_mut(slot);
        order.status = row.status;
        order.reason = row.release_reason;
        order.settled_at = row.confirmed_at.or(row.released_at).unwrap_or(row.expires_at);
        if let Some(method) = row.payment_pending {
            state.orders.paying.insert(slot, method.into());
        }
        if let Some(cause) = row.refund_due {
            state.orders.refunds.insert(slot, cause);
        }
        if let Some(at) = row.refunded_at {
            state.orders.refunded.insert(slot, at);
        }
        if let Some(trace) = row.failed_trace {
            state.orders.failed.insert(slot, trace);
        }
        if let Some(delivery) = row.delivery {
            state.orders.deliveries.insert(slot, *delivery);
        }
        state.orders.set_facts(slot, row.payment);
        Ok(())
    }

    /// The drop, ready for the journal's records after the watermark.
    #[must_use]
    pub fn finish(mut self) -> DropState {
        let state = &mut self.0;
        let reserved = state.orders.iter().filter_map(|(slot, order)| Some((slot, order.runs_out_at()?)));
        let is_longer = |slot| state.orders.get(slot).hold_ms() > state.spec.hold_ms;
        let (extended, queued): (Vec<_>, Vec<_>) = reserved.partition(|(slot, _)| is_longer(*slot));
        state.holds = queued.into_iter().map(|(slot, _)| Hold { slot, network: None }).collect();
        state.extended = extended.into_iter().map(|(slot, at)| ((at, slot), None)).collect();
        state.order_holds();
        state.orders.find_strikes();
        self.0
    }
}
