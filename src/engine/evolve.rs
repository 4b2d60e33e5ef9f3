//! Applies events to the state. A drop changes nowhere else.

use super::orders::{NewOrder, Slot};
use super::state::{DropState, Hold};
use crate::domain::{
    DropEvent, DropId, DropStatus, OrderId, OrderStatus, Payment, PaymentFacts, ReleaseReason, Timestamp, TraceId,
    VariantId,
};
use hashbrown::hash_map::Entry;
use std::num::NonZeroU32;
use std::sync::Arc;

/// A count of units.
trait Units: Copy + std::fmt::Display {
    fn plus(self, units: u32) -> Option<Self>;
    fn minus(self, units: u32) -> Option<Self>;
}

impl Units for u32 {
    fn plus(self, units: u32) -> Option<Self> {
        self.checked_add(units)
    }
    fn minus(self, units: u32) -> Option<Self> {
        self.checked_sub(units)
    }
}

impl Units for u64 {
    fn plus(self, units: u32) -> Option<Self> {
        self.checked_add(units.into())
    }
    fn minus(self, units: u32) -> Option<Self> {
        self.checked_sub(units.into())
    }
}

/// Adds units to a count. Checked in every build: a count that wraps oversells.
fn add(drop: DropId, name: &str, count: &mut impl Units, units: u32) {
    *count = count.plus(units).unwrap_or_else(|| contradiction(drop, name, *count, "more", units));
}

/// Takes units off a count. Checked in every build.
fn take(drop: DropId, name: &str, count: &mut impl Units, units: u32) {
    *count = count.minus(units).unwrap_or_else(|| contradiction(drop, name, *count, "fewer", units));
}

#[cold]
fn contradiction<T>(drop: DropId, name: &str, count: impl Units, change: &str, units: u32) -> T {
    panic!("drop {drop}: {name} is {count} and cannot be {units} {change}; the event cannot follow from this state");
}

impl DropState {
    /// Folds one event in. `Scheduled` creates a state ([`DropState::scheduled`]) and changes nothing here.
    ///
    /// # Panics
    /// If the event cannot follow from this state: another state machine wrote the journal.
    pub fn evolve(&mut self, at: Timestamp, event: &DropEvent) {
        if self.copying.is_some() {
            self.keep_for_copy(event);
        }
        self.changes += 1;
        self.last_at = at;
        match event {
            DropEvent::Scheduled(_) => {}
            DropEvent::Started => {
                self.status = if self.free == 0 { DropStatus::SoldOut } else { DropStatus::Live };
                self.started_at = Some(at);
            }
            DropEvent::Ended => (self.status, self.ended_at) = (DropStatus::Ended, Some(at)),
            DropEvent::Cancelled => (self.status, self.ended_at) = (DropStatus::Cancelled, Some(at)),
            DropEvent::SoldOut => self.status = DropStatus::SoldOut,
            DropEvent::BackInStock => self.status = DropStatus::Live,
            DropEvent::StockLow { variant, .. } => {
                let index = self.known_variant(*variant);
                self.variants[usize::from(index)].low = true;
            }
            DropEvent::Restocked { variant, quantity } => {
                let (drop, index) = (self.spec.id, self.known_variant(*variant));
                add(drop, "total", &mut self.variants[usize::from(index)].counts.total, *quantity);
                self.give_back(index, *quantity);
            }
            DropEvent::Reserved { .. } => self.on_reserved(at, event),
            // Only older journals have it, and it changes nothing.
            DropEvent::Refused { .. } => {}
            DropEvent::PaymentStarted { .. }
            | DropEvent::PaymentWaits { .. }
            | DropEvent::PaymentEnded { .. }
            | DropEvent::PaymentCaptured { .. } => self.on_payment(event),
            DropEvent::HoldExtended { line, expires_at } => self.on_extended(line.order, *expires_at),
            DropEvent::Confirmed { line, payment, retaken } => {
                self.on_confirmed(at, line.order, payment.as_ref(), *retaken);
            }
            DropEvent::Released { line, reason, trace } => self.on_released(at, line.order, *reason, *trace),
            DropEvent::RefundDue { line, payment, cause, .. } => {
                let slot = self.known(line.order);
                self.on_refund_due(slot, payment.as_ref());
                self.orders.refunds.insert(slot, *cause);
            }
            DropEvent::Rescheduled { starts_at, ends_at } => {
                let spec = Arc::make_mut(&mut self.spec);
                (spec.starts_at, spec.ends_at) = (*starts_at, *ends_at);
            }
            DropEvent::AuditedCommand { .. } => {}
            DropEvent::Refunded { line } => self.on_refunded(at, line.order),
        }
    }

    fn on_reserved(&mut self, at: Timestamp, event: &DropEvent) {
        let DropEvent::Reserved {
            order,
            buyer,
            variant,
            quantity,
            expires_at,
            digest,
            fingerprint,
            payment_method,
            delivery,
            ..
        } = event
        else {
            return;
        };
        let index = self.known_variant(*variant);
        let counts = &mut self.variants[usize::from(index)].counts;
        let drop = self.spec.id;
        take(drop, "available", &mut counts.available, *quantity);
        add(drop, "held", &mut counts.held, *quantity);
        take(drop, "free", &mut self.free, *quantity);
        add(drop, "held in all", &mut self.held, *quantity);
        let slot = self.orders.insert(NewOrder {
            id: *order,
            buyer: *buyer,
            digest: *digest,
            fingerprint: *fingerprint,
            created_at: at,
            expires_at: *expires_at,
            quantity: *quantity,
            variant: index,
        });
        if let Some(delivery) = delivery {
            self.orders.deliveries.insert(slot, **delivery);
        }
        if let Some(method) = payment_method {
            self.orders.paying.insert(slot, method.name.clone());
            if !method.provider.is_test() {
                self.orders.set_facts(slot, PaymentFacts::default().started(method.provider, 1));
            }
        }
        self.holds.push_back(Hold { slot, network: None });
    }

    /// Folds a step of a payment that changes neither the order's status nor the stock.
    fn on_payment(&mut self, event: &DropEvent) {
        let Some(slot) = event.order().map(|order| self.known(order)) else { return };
        let facts = self.orders.facts(slot);
        let facts = match event {
            DropEvent::PaymentStarted { attempt, method, .. } => {
                self.orders.paying.insert(slot, method.name.clone());
                facts.started(method.provider, *attempt)
            }
            DropEvent::PaymentWaits { reference, .. } => {
                self.orders.set_payment_ref(slot, Some(reference));
                facts
            }
            DropEvent::PaymentEnded { attempt, end, .. } => {
                if self.orders.paying.remove(&slot).is_some() {
                    self.orders.set_payment_ref(slot, None);
                }
                facts.ended(*attempt, *end)
            }
            _ => facts.captured(),
        };
        self.orders.set_facts(slot, facts);
    }

    fn on_extended(&mut self, id: OrderId, expires_at: Timestamp) {
        let slot = self.known(id);
        let Some(ends) = self.orders.get(slot).runs_out_at() else {
            contradiction(self.spec.id, "held", 0_u32, "more", 1)
        };
        let network = self.take_network(slot, Some(ends));
        self.orders.get_mut(slot).extend(expires_at);
        self.extended.insert((expires_at, slot), network);
    }

    fn on_confirmed(&mut self, at: Timestamp, id: OrderId, payment: Option<&Payment>, retaken: bool) {
        let slot = self.known(id);
        let facts = self.orders.facts(slot);
        let order = self.orders.get_mut(slot);
        let ends = order.runs_out_at();
        let (quantity, variant, buyer) = (order.quantity(), order.variant(), order.buyer);
        order.status = OrderStatus::Confirmed;
        order.reason = None;
        order.settled_at = at;
        self.orders.set_payment_ref(slot, payment.map(|payment| &*payment.reference));
        self.orders.paying.remove(&slot);
        if let Some(payment) = payment {
            self.orders.set_facts(slot, facts.paid(payment));
        }
        let drop = self.spec.id;
        let counts = &mut self.variants[usize::from(variant)].counts;
        add(drop, "sold", &mut counts.sold, quantity);
        if retaken {
            take(drop, "available", &mut counts.available, quantity);
            take(drop, "free", &mut self.free, quantity);
            self.orders.change_units(buyer, i64::from(quantity), false);
        } else {
            take(drop, "held", &mut counts.held, quantity);
            take(drop, "held in all", &mut self.held, quantity);
            self.orders.change_units(buyer, 0, true);
            self.leave_network(slot, ends);
        }
        self.orders.pardon(buyer);
    }

    fn on_released(&mut self, at: Timestamp, id: OrderId, reason: ReleaseReason, trace: TraceId) {
        let slot = self.known(id);
        let facts = self.orders.facts(slot);
        let order = self.orders.get_mut(slot);
        let ends = order.runs_out_at();
        let (quantity, variant, buyer) = (order.quantity(), order.variant(), order.buyer);
        order.status = OrderStatus::Released;
        order.reason = Some(reason);
        order.settled_at = at;
        if reason == ReleaseReason::PaymentFailed {
            self.orders.paying.remove(&slot);
            self.orders.failed.insert(slot, trace);
            self.orders.set_facts(slot, facts.failed());
        }
        take(self.spec.id, "held", &mut self.variants[usize::from(variant)].counts.held, quantity);
        take(self.spec.id, "held in all", &mut self.held, quantity);
        self.orders.change_units(buyer, -i64::from(quantity), true);
        if self.orders.get(slot).was_held_in_vain(reason, at) {
            self.orders.strike(slot, at);
        }
        self.leave_network(slot, ends);
        self.give_back(variant, quantity);
    }

    fn on_refund_due(&mut self, slot: Slot, payment: Option<&Payment>) {
        let facts = self.orders.facts(slot);
        let order = self.orders.get(slot);
        let (quantity, variant, buyer) = (order.quantity(), order.variant(), order.buyer);
        let was_sold = order.status == OrderStatus::Confirmed;
        self.orders.set_payment_ref(slot, payment.map(|payment| &*payment.reference));
        self.orders.paying.remove(&slot);
        self.orders.set_facts(slot, facts.owed(payment));
        if was_sold {
            take(self.spec.id, "sold", &mut self.variants[usize::from(variant)].counts.sold, quantity);
            self.orders.change_units(buyer, -i64::from(quantity), false);
            self.give_back(variant, quantity);
        }
    }

    fn on_refunded(&mut self, at: Timestamp, id: OrderId) {
        let slot = self.known(id);
        self.orders.refunds.remove(&slot);
        self.orders.refunded.insert(slot, at);
        let order = self.orders.get_mut(slot);
        if order.status == OrderStatus::Confirmed {
            order.status = OrderStatus::Refunded;
        }
    }

    /// Decrements the network's unpaid holds when a hold ends, which was to run out at `ends`.
    fn leave_network(&mut self, slot: Slot, ends: Option<Timestamp>) {
        let Some(network) = self.take_network(slot, ends) else { return };
        if let Entry::Occupied(mut entry) = self.by_network.entry(network) {
            *entry.get_mut() -= 1;
            if *entry.get() == 0 {
                entry.remove();
            }
        }
    }

    /// The network that a hold counts for, which it does not do any more. An extended hold is forgotten with it.
    fn take_network(&mut self, slot: Slot, ends: Option<Timestamp>) -> Option<NonZeroU32> {
        if self.is_extended(slot) {
            return self.extended.remove(&(ends?, slot)).flatten();
        }
        if self.by_network.is_empty() {
            return None;
        }
        // Holds made since the process started are contiguous in the queue, and only they have a network.
        let behind = self.holds.back().and_then(|last| last.slot.checked_sub(slot)).map_or(usize::MAX, |n| n as usize);
        let at = self.holds.len().checked_sub(1).and_then(|last| last.checked_sub(behind));
        let hold = at.and_then(|at| self.holds.get_mut(at)).filter(|hold| hold.slot == slot);
        hold.and_then(|hold| hold.network.take())
    }

    /// Makes units of a variant free again.
    fn give_back(&mut self, variant: u16, quantity: u32) {
        let (drop, threshold) = (self.spec.id, self.spec.low_stock_threshold);
        let variant = &mut self.variants[usize::from(variant)];
        add(drop, "available", &mut variant.counts.available, quantity);
        variant.low &= variant.counts.available <= threshold;
        add(drop, "free", &mut self.free, quantity);
    }

    fn known(&self, id: OrderId) -> Slot {
        self.orders.find(id).unwrap_or_else(|| panic!("drop {}: {id} is not an order of it", self.spec.id))
    }

    fn known_variant(&self, id: VariantId) -> u16 {
        self.variant_index(Some(id)).unwrap_or_else(|| panic!("drop {}: {id} is not a variant of it", self.spec.id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::fixtures::drop_of;
    use crate::domain::{Fingerprint, KeyDigest, OrderLine, Refusal, UserId};
    use std::panic::{AssertUnwindSafe, catch_unwind};

    const AT: Timestamp = Timestamp::EPOCH;

    fn reserved(state: &DropState, order: OrderId, quantity: u32) -> DropEvent {
        let variant = &state.spec.variants[0];
        let buyer = UserId::new();
        DropEvent::Reserved {
            order,
            buyer,
            variant: variant.id,
            quantity,
            unit_price: variant.price,
            expires_at: AT,
            key: "k".into(),
            digest: KeyDigest::of(buyer, "k"),
            fingerprint: Fingerprint(1),
            payment_method: None,
            delivery: None,
        }
    }

    /// The panic message of a state machine that is given an impossible event.
    fn panic_message(state: &mut DropState, event: &DropEvent) -> String {
        let told = catch_unwind(AssertUnwindSafe(|| state.evolve(AT, event)));
        *told.expect_err("it was taken in").downcast::<String>().expect("a message")
    }

    /// Holds in a release build too: `cargo test --release` runs the same test.
    #[test]
    fn units_that_are_not_there_stop_it_in_every_build_and_the_drop_is_named() {
        let new = || DropState::scheduled(drop_of(2));
        let drop = |state: &DropState| state.spec.id.to_string();

        let mut state = new();
        let id = OrderId::for_drop(state.spec.id);
        let too_many = reserved(&state, id, 3);
        let words = panic_message(&mut state, &too_many);
        assert!(words.contains(&drop(&state)) && words.contains("available is 2 and cannot be 3 fewer"), "{words}");

        let mut state = new();
        let id = OrderId::for_drop(state.spec.id);
        let all = reserved(&state, id, 2);
        state.evolve(AT, &all);
        let line = OrderLine { order: id, buyer: UserId::new(), variant: state.spec.variants[0].id, quantity: 2 };
        let released = DropEvent::Released { line, reason: ReleaseReason::Expired, trace: TraceId::default() };
        state.evolve(AT, &released);
        let words = panic_message(&mut state, &released);
        assert!(words.contains(&drop(&state)) && words.contains("fewer"), "{words}");

        let mut state = new();
        let restocked = DropEvent::Restocked { variant: state.spec.variants[0].id, quantity: u32::MAX };
        let words = panic_message(&mut state, &restocked);
        assert!(words.contains(&drop(&state)) && words.contains("total is 2"), "{words}");

        let mut state = new();
        let words = panic_message(&mut state, &DropEvent::Refunded { line });
        assert!(words.contains(&drop(&state)) && words.contains(&id.to_string()), "{words}");
    }

    /// The release profile sets `overflow-checks`, so any other arithmetic that wraps panics too.
    #[test]
    fn plain_arithmetic_is_checked_in_every_build() {
        let wrapped = catch_unwind(|| std::hint::black_box(u32::MAX) + std::hint::black_box(1));
        assert!(wrapped.is_err(), "this build wraps around");
    }

    #[test]
    fn a_refusal_of_an_older_journal_changes_nothing() {
        let mut state = DropState::scheduled(drop_of(2));
        let buyer = UserId::new();
        let digest = KeyDigest::of(buyer, "k");
        for refusal in [Refusal::NotStarted, Refusal::SoldOut] {
            let (fingerprint, trace) = (Fingerprint(1), TraceId::random());
            state.evolve(AT, &DropEvent::Refused { buyer, key: "k".into(), digest, fingerprint, refusal, trace });
        }
        assert!(!state.knows_key(digest) && state.keys().next().is_none());
    }
}
