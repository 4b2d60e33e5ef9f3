//! Events to state. The only place where a drop changes.

use super::orders::{NewOrder, Refused, Slot};
use super::state::DropState;
use crate::domain::{DropEvent, DropStatus, OrderId, OrderStatus, ReleaseReason, Timestamp, TraceId, VariantId};
use std::sync::Arc;

impl DropState {
    /// Folds one event in. `Scheduled` is how a state begins ([`DropState::scheduled`]) and changes nothing here.
    ///
    /// # Panics
    /// Where the event cannot follow from this state: a journal that was written by another state machine.
    pub fn evolve(&mut self, at: Timestamp, event: &DropEvent) {
        self.last_at = self.last_at.max(at);
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
                let index = self.known_variant(*variant);
                self.variants[usize::from(index)].counts.total += quantity;
                self.give_back(index, *quantity);
            }
            DropEvent::Reserved { .. } => self.on_reserved(at, event),
            DropEvent::Refused { digest, fingerprint, refusal, trace, .. } => {
                let (digest, fingerprint, refusal, trace) = (*digest, *fingerprint, *refusal, *trace);
                self.orders.insert_refusal(Refused { digest, fingerprint, trace, refusal });
            }
            DropEvent::PaymentStarted { order, method } => {
                let slot = self.known(*order);
                self.orders.paying.insert(slot, method.clone());
            }
            DropEvent::Confirmed { line, payment_ref, retaken } => {
                self.on_confirmed(at, line.order, payment_ref.as_deref(), *retaken);
            }
            DropEvent::Released { line, reason, trace } => self.on_released(at, line.order, *reason, *trace),
            DropEvent::RefundDue { line, payment_ref, cause, .. } => {
                let slot = self.known(line.order);
                self.on_refund_due(slot, payment_ref);
                self.orders.refunds.insert(slot, *cause);
            }
            DropEvent::PaymentEnded { order } => {
                let slot = self.known(*order);
                self.orders.paying.remove(&slot);
            }
            DropEvent::Rescheduled { starts_at, ends_at } => {
                let spec = Arc::make_mut(&mut self.spec);
                (spec.starts_at, spec.ends_at) = (*starts_at, *ends_at);
            }
            DropEvent::ByHand { .. } => {}
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
            ..
        } = event
        else {
            return;
        };
        let index = self.known_variant(*variant);
        let counts = &mut self.variants[usize::from(index)].counts;
        counts.available -= quantity;
        counts.held += quantity;
        self.free -= u64::from(*quantity);
        self.held += u64::from(*quantity);
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
        if let Some(method) = payment_method {
            self.orders.paying.insert(slot, method.clone());
        }
        self.holds.push_back(slot);
    }

    fn on_confirmed(&mut self, at: Timestamp, id: OrderId, payment_ref: Option<&str>, retaken: bool) {
        let slot = self.known(id);
        let order = self.orders.get_mut(slot);
        let (quantity, variant, buyer) = (order.quantity, order.variant, order.buyer);
        order.status = OrderStatus::Confirmed;
        order.reason = None;
        order.settled_at = at;
        self.orders.set_payment_ref(slot, payment_ref);
        self.orders.paying.remove(&slot);
        let counts = &mut self.variants[usize::from(variant)].counts;
        counts.sold += quantity;
        if retaken {
            counts.available -= quantity;
            self.free -= u64::from(quantity);
            self.orders.change_units(buyer, i64::from(quantity));
        } else {
            counts.held -= quantity;
            self.held -= u64::from(quantity);
        }
    }

    fn on_released(&mut self, at: Timestamp, id: OrderId, reason: ReleaseReason, trace: TraceId) {
        let slot = self.known(id);
        let order = self.orders.get_mut(slot);
        let (quantity, variant, buyer) = (order.quantity, order.variant, order.buyer);
        order.status = OrderStatus::Released;
        order.reason = Some(reason);
        order.settled_at = at;
        if reason == ReleaseReason::PaymentFailed {
            self.orders.paying.remove(&slot);
            self.orders.failed.insert(slot, trace);
        }
        self.orders.change_units(buyer, -i64::from(quantity));
        self.variants[usize::from(variant)].counts.held -= quantity;
        self.held -= u64::from(quantity);
        self.give_back(variant, quantity);
    }

    fn on_refund_due(&mut self, slot: Slot, payment_ref: &str) {
        let order = self.orders.get(slot);
        let (quantity, variant, buyer) = (order.quantity, order.variant, order.buyer);
        let was_sold = order.status == OrderStatus::Confirmed;
        self.orders.set_payment_ref(slot, Some(payment_ref).filter(|text| !text.is_empty()));
        self.orders.paying.remove(&slot);
        if was_sold {
            self.orders.change_units(buyer, -i64::from(quantity));
            self.variants[usize::from(variant)].counts.sold -= quantity;
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

    /// Makes units of a variant free again.
    fn give_back(&mut self, variant: u16, quantity: u32) {
        let threshold = self.spec.low_stock_threshold;
        let variant = &mut self.variants[usize::from(variant)];
        variant.counts.available += quantity;
        variant.low &= variant.counts.available <= threshold;
        self.free += u64::from(quantity);
    }

    fn known(&self, id: OrderId) -> Slot {
        self.orders.find(id).unwrap_or_else(|| panic!("{id:?} is not an order of {:?}", self.spec.id))
    }

    fn known_variant(&self, id: VariantId) -> u16 {
        self.variant_index(Some(id)).unwrap_or_else(|| panic!("{id:?} is not a variant of {:?}", self.spec.id))
    }
}
