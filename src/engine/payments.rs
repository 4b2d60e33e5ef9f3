//! Decides what payments do to an order: attempts, the wait for a buyer who has to act, and captures.

use super::command::{Outcome, Rejection};
use super::decide::Events;
use super::orders::Slot;
use super::state::DropState;
use crate::domain::limits::{PAYMENT_ACTION_MS, PAYMENT_ATTEMPTS_MAX};
use crate::domain::{
    DropEvent, Moment, OrderId, OrderStatus, Payment, PaymentEnd, PaymentMethod, PaymentProvider, RefundCause,
};

impl DropState {
    pub(super) fn begin_payment(
        &mut self,
        now: Moment,
        id: OrderId,
        method: PaymentMethod,
        events: &mut Events,
    ) -> Outcome {
        self.with_order(id, |state, slot| {
            state.release_due(now, slot, events);
            let status = state.orders.get(slot).status;
            if status != OrderStatus::Reserved {
                return Outcome::Rejected(Rejection::OrderIs(status));
            }
            // What became of it is asked first: two attempts at once could both take money.
            if state.orders.paying.contains_key(&slot) {
                return Outcome::Order { order: Box::new(state.view(slot)), replayed: true };
            }
            let attempts = state.orders.facts(slot).attempts;
            if attempts >= PAYMENT_ATTEMPTS_MAX {
                return Outcome::Rejected(Rejection::TooManyAttempts);
            }
            state.emit(now, DropEvent::PaymentStarted { order: id, attempt: attempts + 1, method }, events);
            state.answer(slot)
        })
    }

    pub(super) fn await_payment(
        &mut self,
        now: Moment,
        id: OrderId,
        (attempt, reference, action): (u32, Box<str>, bool),
        events: &mut Events,
    ) -> Outcome {
        self.with_order(id, |state, slot| {
            state.release_due(now, slot, events);
            if !state.is_pending(slot, attempt) {
                return state.answer(slot);
            }
            if state.orders.payment_ref(slot) != Some(&*reference) {
                state.emit(now, DropEvent::PaymentWaits { order: id, attempt, reference, action }, events);
            }
            if action {
                state.extend_hold(now, slot, events);
            }
            state.answer(slot)
        })
    }

    fn is_pending(&self, slot: Slot, attempt: u32) -> bool {
        self.orders.paying.contains_key(&slot) && self.orders.facts(slot).attempts == attempt
    }

    /// Gives the buyer time to act, once: units are not held for ever by who never does.
    fn extend_hold(&mut self, now: Moment, slot: Slot, events: &mut Events) {
        let until = now.steady.plus_millis(PAYMENT_ACTION_MS.into());
        let Some(ends) = self.orders.get(slot).runs_out_at().filter(|ends| *ends < until) else { return };
        if self.is_extended(slot) {
            return;
        }
        let expires_at = self.orders.get(slot).expires_at().plus_millis(until.millis_since(ends));
        let line = self.line(slot);
        self.emit(now, DropEvent::HoldExtended { line, expires_at }, events);
        self.run_out_extended(slot, until);
    }

    pub(super) fn end_payment(
        &mut self,
        now: Moment,
        slot: Slot,
        (attempt, end): (u32, PaymentEnd),
        events: &mut Events,
    ) {
        if self.is_pending(slot, attempt) {
            let order = self.orders.get(slot).id;
            self.emit(now, DropEvent::PaymentEnded { order, attempt, end }, events);
        }
    }

    /// The payment of an order with this reference.
    pub(super) fn payment(&self, slot: Slot, reference: Box<str>, captured: bool) -> Payment {
        let (facts, order) = (self.orders.facts(slot), self.orders.get(slot));
        let price = self.spec.variants[usize::from(order.variant())].price;
        let provider = facts.provider.unwrap_or(PaymentProvider::Sandbox);
        let (attempt, amount) = (facts.attempts.max(1), price.times(order.quantity()));
        Payment { provider, attempt, reference, amount, captured }
    }

    pub(super) fn settle_capture(&mut self, now: Moment, id: OrderId, events: &mut Events) -> Outcome {
        self.with_order(id, |state, slot| {
            let facts = state.orders.facts(slot);
            if facts.capture_due {
                state.emit(now, DropEvent::PaymentCaptured { order: id, attempt: facts.attempts }, events);
            }
            state.answer(slot)
        })
    }

    /// Nobody is served without money: the units become free again.
    pub(super) fn fail_capture(&mut self, now: Moment, id: OrderId, events: &mut Events) -> Outcome {
        self.with_order(id, |state, slot| {
            if state.orders.facts(slot).capture_due {
                state.emit_refund(now, slot, RefundCause::CaptureFailed, events);
                state.note_stock(now, events);
            }
            state.answer(slot)
        })
    }
}
