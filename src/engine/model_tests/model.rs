//! A drop in its simplest form: a plain list of orders; every number is counted anew on each read.

use crate::domain::limits::{PAYMENT_ACTION_MS, PAYMENT_ATTEMPTS_MAX, QUANTITY_PER_ORDER_MAX, STOCK_PER_VARIANT_MAX};
use crate::domain::{
    DeclineReason, DropRevision, DropSpec, DropStatus, KeyDigest, Moment, OrderId, OrderStatus, OrderView, PaymentEnd,
    PaymentFacts, PaymentMethod, PaymentProvider, RefundCause, Refusal, ReleaseReason, StockCounts, Timestamp, TraceId,
    UserId, VariantId,
};
use crate::engine::{Command, Outcome, Rejection, Reserve};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Scheduled,
    Open,
    Ended,
    Cancelled,
}

pub struct Model {
    spec: DropSpec,
    phase: Phase,
    totals: Vec<u32>,
    orders: Vec<(KeyDigest, OrderView)>,
    /// When each order's hold expires, by the steady clock.
    runs_out: Vec<Timestamp>,
}

impl Model {
    pub fn new(spec: DropSpec) -> Self {
        let totals = spec.variants.iter().map(|variant| variant.stock).collect();
        Self { spec, phase: Phase::Scheduled, totals, orders: Vec::new(), runs_out: Vec::new() }
    }

    pub fn status(&self) -> DropStatus {
        match self.phase {
            Phase::Scheduled => DropStatus::Scheduled,
            Phase::Open if (0..self.totals.len()).all(|variant| self.stock(variant).available == 0) => {
                DropStatus::SoldOut
            }
            Phase::Open => DropStatus::Live,
            Phase::Ended => DropStatus::Ended,
            Phase::Cancelled => DropStatus::Cancelled,
        }
    }

    fn revision(&self) -> DropRevision {
        DropRevision::new(&self.spec, self.status(), self.totals.iter().copied())
    }

    pub fn stock(&self, variant: usize) -> StockCounts {
        let id = self.spec.variants[variant].id;
        let units = |wanted: fn(&OrderView) -> bool| -> u32 {
            self.views().filter(|order| order.variant_id == id && wanted(order)).map(|order| order.quantity).sum()
        };
        let (total, held, sold) = (self.totals[variant], units(is_held), units(is_sold));
        StockCounts { total, available: total - held - sold, held, sold }
    }

    pub fn views(&self) -> impl DoubleEndedIterator<Item = &OrderView> {
        self.orders.iter().map(|(_, view)| view)
    }

    pub fn units_of(&self, buyer: UserId) -> u32 {
        let own = self.views().filter(|order| order.buyer == buyer && (is_held(order) || is_sold(order)));
        own.map(|order| order.quantity).sum()
    }

    pub fn is_settled(&self) -> bool {
        let over = self.phase == Phase::Ended || self.phase == Phase::Cancelled;
        let owed = |order: &OrderView| order.refund_due.is_some() || order.payment.capture_due;
        let open = |order: &OrderView| is_held(order) || owed(order) || order.payment_pending.is_some();
        over && !self.views().any(open) && !(self.phase == Phase::Cancelled && self.views().any(is_sold))
    }

    /// A restart restores each hold's published end, and lets no hold last longer than a new one.
    pub fn restart(&mut self, steady: Timestamp) {
        let latest = steady.plus_millis(i64::from(self.spec.hold_ms));
        let is_longer =
            |order: &OrderView| order.expires_at.millis_since(order.created_at) > i64::from(self.spec.hold_ms);
        let latest = |order: &OrderView| {
            if is_longer(order) { latest.plus_millis(i64::from(PAYMENT_ACTION_MS)) } else { latest }
        };
        self.runs_out = self.views().map(|order| order.expires_at.min(latest(order))).collect();
    }

    pub fn apply(&mut self, clock: Moment, command: &Command) -> Outcome {
        self.pass_time(clock);
        let now = clock.wall;
        match command {
            Command::Reserve(ask) => self.reserve(clock, ask),
            Command::BeginPayment { order, method } => self.begin_payment(*order, method),
            Command::AwaitPayment { order, attempt, reference, action } => self.on_order(*order, |model, index| {
                if model.is_pending(index, *attempt) {
                    model.orders[index].1.payment_ref = Some(reference.to_string());
                    if *action {
                        model.extend(clock, index);
                    }
                }
                None
            }),
            Command::EndPayment { order, attempt, end } => self.on_order(*order, |model, index| {
                model.end_payment(index, *attempt, *end);
                None
            }),
            Command::Confirm { order, payment_ref } => self.on_order(*order, |model, index| {
                model.confirm(now, index, payment_ref, false);
                None
            }),
            Command::Authorize { order, payment_ref } => self.on_order(*order, |model, index| {
                model.confirm(now, index, payment_ref, true);
                None
            }),
            Command::SettleCapture { order } => self.on_order(*order, |model, index| {
                model.orders[index].1.payment.capture_due = false;
                None
            }),
            Command::FailCapture { order } => self.on_order(*order, |model, index| {
                if model.orders[index].1.payment.capture_due {
                    model.owe(now, index, RefundCause::CaptureFailed);
                }
                None
            }),
            Command::CapturesDue { after, limit } => {
                assert_eq!(*after, None, "the plan asks from the beginning");
                let due = self.views().filter(|order| order.payment.capture_due);
                Outcome::Orders(due.take(*limit).cloned().collect())
            }
            Command::Release { order, reason, trace } => self.on_order(*order, |model, index| {
                let status = model.orders[index].1.status;
                match status {
                    OrderStatus::Reserved => model.release(now, index, *reason, *trace),
                    OrderStatus::Released if *reason == ReleaseReason::PaymentFailed => {
                        let attempt = model.orders[index].1.payment.attempts;
                        model.end_payment(index, attempt, PaymentEnd::Declined(DeclineReason::CardDeclined));
                    }
                    OrderStatus::Released => {}
                    _ => return Some(Rejection::OrderIs(status)),
                }
                None
            }),
            Command::Refund { order } => self.on_order(*order, |model, index| {
                let order = &model.orders[index].1;
                match order.status {
                    OrderStatus::Confirmed if order.refund_due.is_none() => {
                        model.owe(now, index, RefundCause::Requested);
                    }
                    OrderStatus::Confirmed | OrderStatus::Refunded => {}
                    status => return Some(Rejection::OrderIs(status)),
                }
                None
            }),
            Command::SettleRefund { order } => self.on_order(*order, |model, index| {
                if model.orders[index].1.refund_due.is_some() {
                    model.settle(now, index);
                }
                None
            }),
            Command::Find { order } => self.on_order(*order, |_, _| None),
            Command::OrdersOf { buyer } => {
                Outcome::Orders(self.views().filter(|order| order.buyer == *buyer).rev().cloned().collect())
            }
            Command::RefundsDue { after, limit } => {
                assert_eq!(*after, None, "the plan asks from the beginning");
                let due = self.views().filter(|order| order.refund_due.is_some());
                Outcome::Orders(due.take(*limit).cloned().collect())
            }
            Command::Start => self.turn(clock, &[Phase::Scheduled], Phase::Open),
            Command::End => self.turn(clock, &[Phase::Open], Phase::Ended),
            Command::Cancel => self.turn(clock, &[Phase::Scheduled, Phase::Open], Phase::Cancelled),
            Command::Restock { variant, quantity } => self.restock(*variant, *quantity),
            Command::Reschedule { starts_at, ends_at } => {
                let starts_at = starts_at.unwrap_or(self.spec.starts_at);
                self.reschedule(clock, starts_at, ends_at.after(self.spec.ends_at))
            }
            Command::AuditedCommand { command, .. } => self.apply(clock, command),
            Command::If { revision, command } => {
                if self.revision() == **revision {
                    self.apply(clock, command)
                } else {
                    Outcome::Rejected(Rejection::Changed)
                }
            }
            Command::Tick => Outcome::Done(self.status()),
        }
    }

    fn reschedule(&mut self, now: Moment, starts_at: Timestamp, ends_at: Option<Timestamp>) -> Outcome {
        let as_it_is = starts_at == self.spec.starts_at;
        if !(self.phase == Phase::Scheduled || (self.phase == Phase::Open && as_it_is)) {
            return Outcome::Rejected(Rejection::DropIs(self.status()));
        }
        if as_it_is && ends_at == self.spec.ends_at {
            return Outcome::Unchanged(self.status());
        }
        if ends_at.is_some_and(|end| end <= starts_at || end <= now.wall) {
            return Outcome::Rejected(Rejection::InvalidTimes);
        }
        (self.spec.starts_at, self.spec.ends_at) = (starts_at, ends_at);
        self.pass_time(now);
        Outcome::Done(self.status())
    }

    fn begin_payment(&mut self, order: OrderId, method: &PaymentMethod) -> Outcome {
        let mut was_pending = false;
        let outcome = self.on_order(order, |model, index| {
            let order = &mut model.orders[index].1;
            if order.status != OrderStatus::Reserved {
                return Some(Rejection::OrderIs(order.status));
            }
            was_pending = order.payment_pending.is_some();
            if was_pending {
                return None;
            }
            if order.payment.attempts >= PAYMENT_ATTEMPTS_MAX {
                return Some(Rejection::TooManyAttempts);
            }
            order.payment_pending = Some(method.name.to_string());
            order.payment.provider = Some(method.provider);
            order.payment.attempts += 1;
            order.payment.declined = None;
            None
        });
        match outcome {
            Outcome::Order { order, .. } => Outcome::Order { order, replayed: was_pending },
            outcome => outcome,
        }
    }

    fn is_pending(&self, index: usize, attempt: u32) -> bool {
        let order = &self.orders[index].1;
        order.payment_pending.is_some() && order.payment.attempts == attempt
    }

    fn end_payment(&mut self, index: usize, attempt: u32, end: PaymentEnd) {
        if self.is_pending(index, attempt) {
            let order = &mut self.orders[index].1;
            (order.payment_pending, order.payment_ref, order.payment.declined) = (None, None, end.declined());
        }
    }

    /// Once, and never shorter.
    fn extend(&mut self, clock: Moment, index: usize) {
        let until = clock.steady.plus_millis(i64::from(PAYMENT_ACTION_MS));
        let (order, ends) = (&mut self.orders[index].1, &mut self.runs_out[index]);
        let was_extended = order.expires_at.millis_since(order.created_at) > i64::from(self.spec.hold_ms);
        if is_held(order) && !was_extended && *ends < until {
            order.expires_at = order.expires_at.plus_millis(until.millis_since(*ends));
            *ends = until;
        }
    }

    fn pass_time(&mut self, Moment { wall, steady }: Moment) {
        if self.phase == Phase::Scheduled && wall >= self.spec.starts_at {
            self.phase = Phase::Open;
        }
        if self.phase == Phase::Open && self.spec.ends_at.is_some_and(|end| end <= wall) {
            self.phase = Phase::Ended;
        }
        for index in 0..self.orders.len() {
            let order = &self.orders[index].1;
            if self.phase == Phase::Cancelled && is_held(order) {
                self.release(wall, index, ReleaseReason::Cancelled, TraceId::default());
            } else if self.phase == Phase::Cancelled && is_sold(order) {
                self.owe(wall, index, RefundCause::DropCancelled);
            } else if is_held(order) && self.runs_out[index] <= steady {
                self.release(wall, index, ReleaseReason::Expired, TraceId::default());
            }
        }
    }

    fn turn(&mut self, now: Moment, from: &[Phase], to: Phase) -> Outcome {
        if from.contains(&self.phase) {
            self.phase = to;
            self.pass_time(now);
            Outcome::Done(self.status())
        } else if self.phase == to {
            Outcome::Unchanged(self.status())
        } else {
            Outcome::Rejected(Rejection::DropIs(self.status()))
        }
    }

    fn restock(&mut self, variant: Option<VariantId>, quantity: u32) -> Outcome {
        if self.phase == Phase::Ended || self.phase == Phase::Cancelled {
            return Outcome::Rejected(Rejection::DropIs(self.status()));
        }
        let Some(variant) = self.variant(variant) else { return Outcome::Rejected(Rejection::UnknownVariant) };
        if quantity == 0 || u64::from(self.totals[variant]) + u64::from(quantity) > u64::from(STOCK_PER_VARIANT_MAX) {
            return Outcome::Rejected(Rejection::InvalidQuantity);
        }
        self.totals[variant] += quantity;
        Outcome::Done(self.status())
    }

    // --- orders -----------------------------------------------------------------------------------------------------

    fn reserve(&mut self, now: Moment, ask: &Reserve) -> Outcome {
        if let Some((_, order)) = self.orders.iter().find(|(digest, _)| *digest == ask.digest) {
            if order.fingerprint != ask.fingerprint {
                return Outcome::Rejected(Rejection::KeyReused);
            }
            return Outcome::Order { order: Box::new(order.clone()), replayed: true };
        }
        if !(1..=QUANTITY_PER_ORDER_MAX).contains(&ask.quantity) {
            return Outcome::Rejected(Rejection::InvalidQuantity);
        }
        if self.views().any(|order| order.id == ask.order) {
            return Outcome::Rejected(Rejection::Full);
        }
        if self.phase == Phase::Scheduled && self.variant(ask.variant).is_some() {
            return Outcome::Rejected(Rejection::NotStarted { starts_at: self.spec.starts_at });
        }
        match self.refuses(ask) {
            Some(refusal) => Outcome::Refused(refusal),
            None => {
                let order = self.placed(now.wall, ask);
                self.orders.push((ask.digest, order.clone()));
                self.runs_out.push(now.steady.plus_millis(i64::from(self.spec.hold_ms)));
                Outcome::Order { order: Box::new(order), replayed: false }
            }
        }
    }

    fn refuses(&self, ask: &Reserve) -> Option<Refusal> {
        let Some(variant) = self.variant(ask.variant) else { return Some(Refusal::UnknownVariant) };
        match self.phase {
            Phase::Scheduled => unreachable!("answered before"),
            Phase::Ended => Some(Refusal::Ended),
            Phase::Cancelled => Some(Refusal::DropCancelled),
            Phase::Open if !self.fits_limit(ask.buyer, ask.quantity) => Some(Refusal::LimitExceeded),
            Phase::Open => match self.stock(variant).available {
                0 => Some(Refusal::SoldOut),
                available if available < ask.quantity => Some(Refusal::NotEnoughStock { available }),
                _ => None,
            },
        }
    }

    fn placed(&self, now: Timestamp, ask: &Reserve) -> OrderView {
        let variant = &self.spec.variants[self.variant(ask.variant).expect("a variant of the drop")];
        let free = variant.price.amount == 0;
        OrderView {
            id: ask.order,
            drop_id: self.spec.id,
            variant_id: variant.id,
            buyer: ask.buyer,
            quantity: ask.quantity,
            unit_price: variant.price,
            status: if free { OrderStatus::Confirmed } else { OrderStatus::Reserved },
            release_reason: None,
            digest: ask.digest,
            fingerprint: ask.fingerprint,
            created_at: now,
            expires_at: now.plus_millis(i64::from(self.spec.hold_ms)),
            confirmed_at: free.then_some(now),
            released_at: None,
            refunded_at: None,
            payment_ref: None,
            payment_pending: ask.payment_method.as_ref().filter(|_| !free).map(|method| method.name.to_string()),
            refund_due: None,
            failed_trace: None,
            payment: ask.payment_method.as_ref().filter(|_| !free).map_or(PaymentFacts::default(), |method| {
                PaymentFacts { provider: Some(method.provider), attempts: 1, ..PaymentFacts::default() }
            }),
            delivery: None,
        }
    }

    fn confirm(&mut self, now: Timestamp, index: usize, payment_ref: &str, to_capture: bool) {
        let order = &self.orders[index].1;
        let (buyer, quantity) = (order.buyer, order.quantity);
        let variant = self.variant(Some(order.variant_id)).expect("a variant of the drop");
        let in_time = order.status == OrderStatus::Reserved;
        let late = order.status == OrderStatus::Released && order.refund_due.is_none() && order.refunded_at.is_none();
        let retaken = late
            && order.release_reason == Some(ReleaseReason::Expired)
            && self.phase == Phase::Open
            && self.fits_limit(buyer, quantity)
            && self.stock(variant).available >= quantity;
        if !in_time && !late {
            return;
        }
        let order = &mut self.orders[index].1;
        order.payment_ref = Some(payment_ref.to_owned());
        order.payment_pending = None;
        let provider = order.payment.provider.or(Some(PaymentProvider::Sandbox));
        let attempts = order.payment.attempts.max(1);
        order.payment = PaymentFacts { provider, attempts, capture_due: false, declined: None };
        if in_time || retaken {
            order.status = OrderStatus::Confirmed;
            order.payment.capture_due = to_capture;
            (order.release_reason, order.released_at, order.confirmed_at) = (None, None, Some(now));
        } else {
            order.refund_due = Some(RefundCause::LatePayment);
        }
    }

    fn release(&mut self, now: Timestamp, index: usize, reason: ReleaseReason, trace: TraceId) {
        let order = &mut self.orders[index].1;
        order.status = OrderStatus::Released;
        (order.release_reason, order.released_at) = (Some(reason), Some(now));
        if reason == ReleaseReason::PaymentFailed {
            (order.payment_pending, order.failed_trace) = (None, Some(trace));
            if order.payment.attempts == 0 {
                (order.payment.provider, order.payment.attempts) = (Some(PaymentProvider::Sandbox), 1);
            }
        }
    }

    fn owe(&mut self, now: Timestamp, index: usize, cause: RefundCause) {
        self.orders[index].1.refund_due = Some(cause);
        self.orders[index].1.payment.capture_due = false;
        if self.orders[index].1.payment_ref.is_none() {
            self.settle(now, index);
        }
    }

    fn settle(&mut self, now: Timestamp, index: usize) {
        let order = &mut self.orders[index].1;
        (order.refund_due, order.refunded_at) = (None, Some(now));
        if order.status == OrderStatus::Confirmed {
            order.status = OrderStatus::Refunded;
        }
    }

    // --- looking up -------------------------------------------------------------------------------------------------

    fn on_order(&mut self, id: OrderId, act: impl FnOnce(&mut Self, usize) -> Option<Rejection>) -> Outcome {
        let Some(index) = self.views().position(|order| order.id == id) else {
            return Outcome::Rejected(Rejection::UnknownOrder);
        };
        match act(self, index) {
            Some(rejection) => Outcome::Rejected(rejection),
            None => Outcome::Order { order: Box::new(self.orders[index].1.clone()), replayed: false },
        }
    }

    fn variant(&self, id: Option<VariantId>) -> Option<usize> {
        match id {
            None => (self.totals.len() == 1).then_some(0),
            Some(id) => self.spec.variants.iter().position(|variant| variant.id == id),
        }
    }

    fn fits_limit(&self, buyer: UserId, more: u32) -> bool {
        self.spec.per_buyer_limit == 0 || self.units_of(buyer) + more <= self.spec.per_buyer_limit
    }
}

fn is_held(order: &OrderView) -> bool {
    order.status == OrderStatus::Reserved
}

fn is_sold(order: &OrderView) -> bool {
    order.status == OrderStatus::Confirmed && order.refund_due.is_none()
}
