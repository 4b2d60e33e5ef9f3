//! Turns commands into events.

use super::admission::{self, Applicant, Denial, Holder};
use super::command::{Command, NewEnd, Outcome, Rejection, Reserve};
use super::orders::Slot;
use super::state::{DropState, Hold};
use crate::domain::limits::{
    HOLDS_PER_DROP_MAX, ORDERS_PER_DROP_MAX, QUANTITY_PER_ORDER_MAX, STOCK_PER_VARIANT_MAX, SWEEP_ORDERS_MAX,
};
use crate::domain::{
    AdminAction, DeclineReason, DropEvent, DropStatus, KeyedRequest, Moment, OrderId, OrderLine, OrderStatus,
    PaymentEnd, Principal, RefundCause, Refusal, ReleaseReason, Timestamp, TraceId, VariantId,
};

/// Buffer for decided events. The state has already applied each of them.
pub type Events = Vec<DropEvent>;

impl DropState {
    /// Decides a command at a moment. Everything due is applied first (start, end, expired holds, in batches), so the
    /// outcome never depends on when a timer fired.
    ///
    /// Returns the outcome and the timestamp of the events: the wall clock, as it is. If that clock was set back, the
    /// timestamp is before that of the previous event: starts and ends follow the wall clock, and buyers see times that
    /// fit their own clock. A hold keeps its promised duration all the same, see [`Moment::steady`].
    pub fn apply(&mut self, now: impl Into<Moment>, command: Command, events: &mut Events) -> (Outcome, Timestamp) {
        let now = now.into();
        self.advance(now, events);
        (self.decide(now, command, events), now.wall)
    }

    /// Prefetches the hash lines that these commands will probe, so that their cache misses overlap. Changes nothing.
    /// Pays off before several commands in a large drop.
    pub fn prefetch<'a>(&self, commands: impl IntoIterator<Item = &'a Command>) {
        self.orders.prefetch(commands.into_iter().filter_map(|command| match command {
            Command::Reserve(ask) => Some((ask.buyer, ask.digest)),
            _ => None,
        }));
    }

    fn decide(&mut self, now: Moment, command: Command, events: &mut Events) -> Outcome {
        match command {
            Command::Reserve(reserve) => self.reserve(now, *reserve, events),
            Command::BeginPayment { order, method } => self.begin_payment(now, order, method, events),
            Command::AwaitPayment { order, attempt, reference, action } => {
                self.await_payment(now, order, (attempt, reference, action), events)
            }
            Command::EndPayment { order, attempt, end } => self.with_order(order, |state, slot| {
                state.end_payment(now, slot, (attempt, end), events);
                state.answer(slot)
            }),
            Command::Confirm { order, payment_ref } => self.confirm(now, order, (payment_ref, true), events),
            Command::Authorize { order, payment_ref } => self.confirm(now, order, (payment_ref, false), events),
            Command::SettleCapture { order } => self.settle_capture(now, order, events),
            Command::FailCapture { order } => self.fail_capture(now, order, events),
            Command::CapturesDue { after, limit } => {
                Outcome::Orders(self.slots_to_capture(after).take(limit).map(|slot| self.view(slot)).collect())
            }
            Command::Release { order, reason, trace } => self.release(now, order, reason, trace, events),
            Command::Refund { order } => self.refund(now, order, events),
            Command::SettleRefund { order } => self.settle_refund(now, order, events),
            Command::Start => self.start(now, events),
            Command::End => self.end(now, events),
            Command::Cancel => self.cancel(now, events),
            Command::Restock { variant, quantity } => self.restock(now, variant, quantity, events),
            Command::Tick => Outcome::Done(self.status),
            Command::Find { order } => self.with_order(order, |state, slot| state.answer(slot)),
            Command::OrdersOf { buyer } => Outcome::Orders(self.orders_of(buyer).collect()),
            Command::RefundsDue { after, limit } => {
                Outcome::Orders(self.slots_to_refund(after).take(limit).map(|slot| self.view(slot)).collect())
            }
            Command::Reschedule { starts_at, ends_at } => {
                let (starts_at, ends_at) = self.new_times(starts_at, ends_at);
                self.reschedule(now, starts_at, ends_at, events)
            }
            Command::AuditedCommand { actor, request, command } => {
                self.by_hand(now, actor, request.map(|request| *request), *command, events)
            }
            Command::If { revision, .. } if self.revision() != *revision => Outcome::Rejected(Rejection::Changed),
            Command::If { command, .. } => self.decide(now, *command, events),
        }
    }

    fn by_hand(
        &mut self,
        now: Moment,
        actor: Principal,
        request: Option<KeyedRequest>,
        command: Command,
        events: &mut Events,
    ) -> Outcome {
        let act = match &command {
            Command::Start => AdminAction::Started,
            Command::End => AdminAction::Ended,
            Command::Cancel => AdminAction::Cancelled,
            Command::Restock { variant, quantity } => AdminAction::Restocked(*variant, *quantity),
            Command::Reschedule { starts_at, ends_at } => {
                let (starts_at, ends_at) = self.new_times(*starts_at, *ends_at);
                AdminAction::Rescheduled(starts_at, ends_at)
            }
            Command::Refund { order } => AdminAction::Refunded(*order),
            // All other commands come from the buyer or the system and are not audited.
            _ => return self.decide(now, command, events),
        };
        let before = events.len();
        let outcome = self.decide(now, command, events);
        if events.len() > before {
            self.emit(now, DropEvent::AuditedCommand { actor, act, request }, events);
        }
        outcome
    }

    fn new_times(&self, starts_at: Option<Timestamp>, ends_at: NewEnd) -> (Timestamp, Option<Timestamp>) {
        (starts_at.unwrap_or(self.spec.starts_at), ends_at.after(self.spec.ends_at))
    }

    fn reschedule(
        &mut self,
        now: Moment,
        starts_at: Timestamp,
        ends_at: Option<Timestamp>,
        events: &mut Events,
    ) -> Outcome {
        let movable =
            self.status == DropStatus::Scheduled || (self.status.is_open() && starts_at == self.spec.starts_at);
        if !movable {
            return Outcome::Rejected(Rejection::DropIs(self.status));
        }
        if (starts_at, ends_at) == (self.spec.starts_at, self.spec.ends_at) {
            return Outcome::Unchanged(self.status);
        }
        if ends_at.is_some_and(|end| end <= starts_at.max(now.wall)) {
            return Outcome::Rejected(Rejection::InvalidTimes);
        }
        self.emit(now, DropEvent::Rescheduled { starts_at, ends_at }, events);
        self.advance(now, events);
        Outcome::Done(self.status)
    }

    pub(super) fn emit(&mut self, now: Moment, event: DropEvent, events: &mut Events) {
        self.evolve(now.wall, &event);
        events.push(event);
    }

    pub(super) fn answer(&self, slot: Slot) -> Outcome {
        Outcome::Order { order: Box::new(self.view(slot)), replayed: false }
    }

    pub(super) fn line(&self, slot: Slot) -> OrderLine {
        let order = self.orders.get(slot);
        let variant = self.spec.variants[usize::from(order.variant())].id;
        OrderLine { order: order.id, buyer: order.buyer, variant, quantity: order.quantity() }
    }

    pub(super) fn with_order(&mut self, id: OrderId, then: impl FnOnce(&mut Self, Slot) -> Outcome) -> Outcome {
        match self.orders.recall(id) {
            Some(slot) => then(self, slot),
            None => Outcome::Rejected(Rejection::UnknownOrder),
        }
    }

    // --- time -------------------------------------------------------------------------------------------------------

    fn advance(&mut self, now: Moment, events: &mut Events) {
        if self.status == DropStatus::Scheduled && now.wall >= self.spec.starts_at {
            self.emit(now, DropEvent::Started, events);
        }
        if self.status.is_open() && self.spec.ends_at.is_some_and(|end| now.wall >= end) {
            self.emit(now, DropEvent::Ended, events);
        }
        let mut budget = SWEEP_ORDERS_MAX;
        while budget > 0 {
            let Some(&Hold { slot, .. }) = self.holds.front() else { break };
            if self.orders.get(slot).status == OrderStatus::Reserved && !self.is_extended(slot) {
                if !self.is_hold_over(now, slot) {
                    break;
                }
                self.release_due(now, slot, events);
                budget -= 1;
            }
            self.holds.pop_front();
        }
        while let Some((&(_, slot), _)) = self.extended.first_key_value().filter(|_| budget > 0) {
            if !self.is_hold_over(now, slot) {
                break;
            }
            self.release_due(now, slot, events);
            budget -= 1;
        }
        if self.status == DropStatus::Cancelled {
            self.refund_sold(now, budget, events);
        }
    }

    fn is_hold_over(&self, now: Moment, slot: Slot) -> bool {
        let cancelled = self.status == DropStatus::Cancelled;
        self.orders.get(slot).runs_out_at().is_some_and(|at| cancelled || at <= now.steady)
    }

    /// Releases a hold that has expired. A command for one order calls this first: the sweep works in batches and may
    /// not have reached the order, and its position in the queue must not decide what its buyer gets.
    pub(super) fn release_due(&mut self, now: Moment, slot: Slot, events: &mut Events) {
        if !self.is_hold_over(now, slot) {
            return;
        }
        let cancelled = self.status == DropStatus::Cancelled;
        let reason = if cancelled { ReleaseReason::Cancelled } else { ReleaseReason::Expired };
        let line = self.line(slot);
        self.emit(now, DropEvent::Released { line, reason, trace: TraceId::default() }, events);
        self.orders.struck_at(slot, now.steady);
        self.note_stock(now, events);
    }

    /// Refunds up to `budget` sold orders of a cancelled drop.
    fn refund_sold(&mut self, now: Moment, mut budget: usize, events: &mut Events) {
        while budget > 0 && (self.refund_cursor as usize) < self.orders.len() {
            let slot = self.refund_cursor;
            self.refund_cursor += 1;
            if self.orders.get(slot).status == OrderStatus::Confirmed && !self.orders.refunds.contains_key(&slot) {
                self.emit_refund(now, slot, RefundCause::DropCancelled, events);
                budget -= 1;
            }
        }
    }

    // --- orders -----------------------------------------------------------------------------------------------------

    fn reserve(&mut self, now: Moment, ask: Reserve, events: &mut Events) -> Outcome {
        if let Some(known) = self.known_key(&ask) {
            return known;
        }
        if ask.quantity == 0 || ask.quantity > QUANTITY_PER_ORDER_MAX {
            return Outcome::Rejected(Rejection::InvalidQuantity);
        }
        let full = self.orders.len() >= ORDERS_PER_DROP_MAX
            || self.holds.len() >= HOLDS_PER_DROP_MAX
            || self.orders.find(ask.order).is_some();
        if full {
            return Outcome::Rejected(Rejection::Full);
        }
        match self.may_reserve(now, &ask) {
            Ok(variant) => self.hold(now, ask, variant, events),
            Err(Denial::NotNow(why)) => Outcome::Rejected(why),
            Err(Denial::Refused(refusal)) => Outcome::Refused(refusal),
        }
    }

    /// The order of a known key. Checked before any business rule, so that a retry gets the first answer.
    fn known_key(&self, ask: &Reserve) -> Option<Outcome> {
        let slot = self.orders.find_key(ask.digest)?;
        Some(match self.orders.get(slot).fingerprint == ask.fingerprint {
            true => Outcome::Order { order: Box::new(self.view(slot)), replayed: true },
            false => Outcome::Rejected(Rejection::KeyReused),
        })
    }

    fn may_reserve(&self, now: Moment, ask: &Reserve) -> Result<u16, Denial> {
        let variant = self.variant_index(ask.variant).ok_or(Refusal::UnknownVariant)?;
        let (units, holds, strikes) = self.orders.standing_of(ask.buyer);
        let applicant = Applicant {
            status: self.status,
            starts_at: self.spec.starts_at,
            units,
            quantity: ask.quantity,
            per_buyer_limit: self.spec.per_buyer_limit,
        };
        let holder = || {
            let from_network = ask.network.and_then(|network| self.by_network.get(&network).copied()).unwrap_or(0);
            let strikes = strikes.map(|strikes| (strikes.count, strikes.at));
            Holder { holds, from_network, strikes }
        };
        admission::admit(&applicant, self.policy, holder, now)?;
        match self.variants[usize::from(variant)].counts.available {
            available if available >= ask.quantity => Ok(variant),
            0 => Err(Refusal::SoldOut.into()),
            available => Err(Refusal::NotEnoughStock { available }.into()),
        }
    }

    fn hold(&mut self, now: Moment, ask: Reserve, variant: u16, events: &mut Events) -> Outcome {
        let spec = &self.spec.variants[usize::from(variant)];
        let (variant_id, unit_price) = (spec.id, spec.price);
        let shipping = ask.delivery.as_ref().map_or(0, |delivery| delivery.shipping);
        let free = unit_price.is_zero() && shipping == 0;
        let (id, buyer, quantity) = (ask.order, ask.buyer, ask.quantity);
        let hold_ms = i64::from(self.spec.hold_ms);
        // A free order is not held: it is confirmed at once.
        let network = ask.network.filter(|_| self.policy.per_network > 0);
        let reserved = DropEvent::Reserved {
            order: id,
            buyer,
            variant: variant_id,
            quantity,
            unit_price,
            expires_at: now.wall.plus_millis(hold_ms),
            key: ask.key,
            digest: ask.digest,
            fingerprint: ask.fingerprint,
            payment_method: if free { None } else { ask.payment_method },
            delivery: ask.delivery,
        };
        self.emit(now, reserved, events);
        if let Some(hold) = self.holds.back_mut() {
            self.orders.run_out(hold.slot, now.steady.plus_millis(hold_ms));
            hold.network = network;
        }
        if let Some(network) = network {
            *self.by_network.entry(network).or_default() += 1;
        }
        if free {
            let line = OrderLine { order: id, buyer, variant: variant_id, quantity };
            self.emit(now, DropEvent::Confirmed { line, payment: None, retaken: false }, events);
        }
        self.note_low(now, variant, events);
        self.note_stock(now, events);
        self.with_order(id, |state, slot| state.answer(slot))
    }

    fn confirm(
        &mut self,
        now: Moment,
        id: OrderId,
        (reference, captured): (Box<str>, bool),
        events: &mut Events,
    ) -> Outcome {
        self.with_order(id, |state, slot| {
            state.release_due(now, slot, events);
            let paid_back = state.orders.refunds.contains_key(&slot) || state.orders.refunded.contains_key(&slot);
            let retake = match state.orders.get(slot).status {
                OrderStatus::Reserved => Retake::NotNeeded,
                OrderStatus::Released if !paid_back && state.may_retake(slot) => Retake::Possible,
                OrderStatus::Released if !paid_back => Retake::Impossible,
                _ => return state.answer(slot),
            };
            let (line, payment) = (state.line(slot), Some(state.payment(slot, reference, captured)));
            if retake == Retake::Impossible {
                let cause = RefundCause::LatePayment;
                state.emit(now, DropEvent::RefundDue { line, payment, cause, was_sold: false }, events);
                return state.answer(slot);
            }
            let (retaken, variant) = (retake == Retake::Possible, state.orders.get(slot).variant());
            state.emit(now, DropEvent::Confirmed { line, payment, retaken }, events);
            if retaken {
                state.note_low(now, variant, events);
                state.note_stock(now, events);
            }
            state.answer(slot)
        })
    }

    /// Whether a payment that arrived after the hold expired may take free units instead.
    fn may_retake(&self, slot: Slot) -> bool {
        let order = self.orders.get(slot);
        let applicant = Applicant {
            status: self.status,
            starts_at: self.spec.starts_at,
            units: self.orders.units_of(order.buyer),
            quantity: order.quantity(),
            per_buyer_limit: self.spec.per_buyer_limit,
        };
        order.reason == Some(ReleaseReason::Expired)
            && admission::may_retake(&applicant)
            && self.variants[usize::from(order.variant())].counts.available >= order.quantity()
    }

    fn release(
        &mut self,
        now: Moment,
        id: OrderId,
        reason: ReleaseReason,
        trace: TraceId,
        events: &mut Events,
    ) -> Outcome {
        self.with_order(id, |state, slot| {
            state.release_due(now, slot, events);
            match state.orders.get(slot).status {
                OrderStatus::Reserved => {
                    let line = state.line(slot);
                    state.emit(now, DropEvent::Released { line, reason, trace }, events);
                    state.orders.struck_at(slot, now.steady);
                    state.note_stock(now, events);
                    state.answer(slot)
                }
                OrderStatus::Released => {
                    // The hold has ended already; record that the gateway took no money.
                    if reason == ReleaseReason::PaymentFailed {
                        let attempt = state.orders.facts(slot).attempts;
                        state.end_payment(
                            now,
                            slot,
                            (attempt, PaymentEnd::Declined(DeclineReason::CardDeclined)),
                            events,
                        );
                    }
                    state.answer(slot)
                }
                status => Outcome::Rejected(Rejection::OrderIs(status)),
            }
        })
    }

    fn refund(&mut self, now: Moment, id: OrderId, events: &mut Events) -> Outcome {
        self.with_order(id, |state, slot| match state.orders.get(slot).status {
            OrderStatus::Confirmed if !state.orders.refunds.contains_key(&slot) => {
                state.emit_refund(now, slot, RefundCause::Requested, events);
                state.note_stock(now, events);
                state.answer(slot)
            }
            OrderStatus::Confirmed | OrderStatus::Refunded => state.answer(slot),
            status => Outcome::Rejected(Rejection::OrderIs(status)),
        })
    }

    /// Records a refund as due; if nothing was paid, it is settled at once.
    pub(super) fn emit_refund(&mut self, now: Moment, slot: Slot, cause: RefundCause, events: &mut Events) {
        let captured = !self.orders.facts(slot).capture_due;
        let reference = self.orders.payment_ref(slot).map(Box::<str>::from);
        let payment = reference.map(|reference| self.payment(slot, reference, captured));
        let (line, free) = (self.line(slot), payment.is_none());
        self.emit(now, DropEvent::RefundDue { line, payment, cause, was_sold: true }, events);
        if free {
            self.emit(now, DropEvent::Refunded { line }, events);
        }
    }

    fn settle_refund(&mut self, now: Moment, id: OrderId, events: &mut Events) -> Outcome {
        self.with_order(id, |state, slot| {
            if state.orders.refunds.contains_key(&slot) {
                let line = state.line(slot);
                state.emit(now, DropEvent::Refunded { line }, events);
            }
            state.answer(slot)
        })
    }

    // --- the drop ---------------------------------------------------------------------------------------------------

    fn start(&mut self, now: Moment, events: &mut Events) -> Outcome {
        match self.status {
            DropStatus::Scheduled => {
                self.emit(now, DropEvent::Started, events);
                Outcome::Done(self.status)
            }
            status if status.is_open() => Outcome::Unchanged(status),
            status => Outcome::Rejected(Rejection::DropIs(status)),
        }
    }

    fn end(&mut self, now: Moment, events: &mut Events) -> Outcome {
        match self.status {
            DropStatus::Live | DropStatus::SoldOut => {
                self.emit(now, DropEvent::Ended, events);
                Outcome::Done(self.status)
            }
            DropStatus::Ended => Outcome::Unchanged(self.status),
            status => Outcome::Rejected(Rejection::DropIs(status)),
        }
    }

    fn cancel(&mut self, now: Moment, events: &mut Events) -> Outcome {
        match self.status {
            DropStatus::Scheduled | DropStatus::Live | DropStatus::SoldOut => {
                self.emit(now, DropEvent::Cancelled, events);
                self.advance(now, events);
                Outcome::Done(self.status)
            }
            DropStatus::Cancelled => Outcome::Unchanged(self.status),
            DropStatus::Ended => Outcome::Rejected(Rejection::DropIs(self.status)),
        }
    }

    fn restock(&mut self, now: Moment, variant: Option<VariantId>, quantity: u32, events: &mut Events) -> Outcome {
        if !(self.status.is_open() || self.status == DropStatus::Scheduled) {
            return Outcome::Rejected(Rejection::DropIs(self.status));
        }
        let Some(index) = self.variant_index(variant) else {
            return Outcome::Rejected(Rejection::UnknownVariant);
        };
        let total = self.variants[usize::from(index)].counts.total;
        if quantity == 0 || quantity > STOCK_PER_VARIANT_MAX.saturating_sub(total) {
            return Outcome::Rejected(Rejection::InvalidQuantity);
        }
        let variant = self.spec.variants[usize::from(index)].id;
        self.emit(now, DropEvent::Restocked { variant, quantity }, events);
        self.note_stock(now, events);
        Outcome::Done(self.status)
    }

    // --- stock events -----------------------------------------------------------------------------------------------

    fn note_low(&mut self, now: Moment, index: u16, events: &mut Events) {
        let threshold = self.spec.low_stock_threshold;
        let variant = &self.variants[usize::from(index)];
        let available = variant.counts.available;
        if threshold > 0 && !variant.low && available <= threshold {
            let variant = self.spec.variants[usize::from(index)].id;
            self.emit(now, DropEvent::StockLow { variant, available }, events);
        }
    }

    /// Switches between `live` and `sold_out`.
    pub(super) fn note_stock(&mut self, now: Moment, events: &mut Events) {
        match (self.status, self.free) {
            (DropStatus::Live, 0) => self.emit(now, DropEvent::SoldOut, events),
            (DropStatus::SoldOut, 1..) => self.emit(now, DropEvent::BackInStock, events),
            _ => {}
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Retake {
    NotNeeded,
    Possible,
    Impossible,
}
