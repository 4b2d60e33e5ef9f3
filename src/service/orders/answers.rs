//! What becomes of an order and its payment, as answers.

use super::super::failure::More;
use crate::domain::{DeclineReason, OrderId, OrderStatus, OrderView, PaymentFacts, Refusal, ReleaseReason, TraceId};
use crate::engine::{Outcome, Rejection};
use crate::service::settle::Paid;
use crate::service::{Code, Failure, FieldError};

/// The first answer to a request with a key, whatever happened to the order since.
pub(super) fn first_answer(mut order: Box<OrderView>, paying: bool) -> Result<Box<OrderView>, Failure> {
    let free = order.is_free();
    if !paying && !free {
        order.status = OrderStatus::Reserved;
        (order.release_reason, order.payment_ref, order.refund_due) = (None, None, None);
        (order.confirmed_at, order.released_at, order.refunded_at) = (None, None, None);
        // It was not tried to be paid when it was answered first.
        order.payment = PaymentFacts::default();
        return Ok(order);
    }
    match order.status {
        OrderStatus::Confirmed | OrderStatus::Refunded => {
            order.status = OrderStatus::Confirmed;
            (order.refunded_at, order.refund_due) = (None, None);
            Ok(order)
        }
        _ => paid_answer(order),
    }
}

/// The answer to a payment of an order in this state.
pub(super) fn paid_answer(order: Box<OrderView>) -> Result<Box<OrderView>, Failure> {
    match (order.status, order.release_reason) {
        (OrderStatus::Confirmed, _) => Ok(order),
        (OrderStatus::Released, Some(ReleaseReason::PaymentFailed)) => Err(Failure {
            trace: order.failed_trace,
            more: order
                .payment
                .declined
                .map(|reason| Box::new(More { decline_reason: Some(reason), ..More::default() })),
            ..Failure::with(Code::PaymentDeclined, format!("the hold of order {} is released", order.id))
        }),
        (OrderStatus::Released, Some(ReleaseReason::Expired)) => {
            let refund = order.refund_due.is_some() || order.refunded_at.is_some();
            let tail = if refund { "; the payment that came too late goes back" } else { "" };
            Err(Failure::with(Code::HoldExpired, format!("the hold of order {} expired{tail}", order.id)))
        }
        (status, _) => Err(Failure::with(Code::OrderNotReserved, format!("order {} is {}", order.id, status.as_str()))),
    }
}

/// The order after its payment; a failure while the payment runs.
pub(super) fn paid_order(paid: Paid, id: OrderId) -> Result<Box<OrderView>, Failure> {
    match paid {
        Paid::Order(order) => Ok(order),
        Paid::Running => Err(Failure::retry(Code::PaymentInProgress, 1)),
        Paid::TimedOut => Err(Failure {
            detail: format!("the payment of order {id} has no outcome yet; its hold stands until it expires").into(),
            ..Failure::retry(Code::PaymentTimeout, 2)
        }),
        Paid::Action(action) => Err(Failure {
            more: Some(Box::new(More { action: Some(*action), ..More::default() })),
            ..Failure::with(Code::PaymentActionRequired, format!("order {id} stays reserved meanwhile"))
        }),
        Paid::Declined(reason) => Err(declined(id, reason)),
        Paid::Unavailable(after_s) => Err(Failure {
            detail: format!("nothing was charged; the hold of order {id} stands until it expires").into(),
            ..Failure::retry(Code::PaymentUnavailable, after_s)
        }),
    }
}

/// A payment was declined, and the hold stands.
pub(super) fn declined(id: OrderId, reason: DeclineReason) -> Failure {
    let detail =
        format!("{}; order {id} stays reserved until its hold expires: pay it by another method", reason.meaning());
    let more = Some(Box::new(More { decline_reason: Some(reason), ..More::default() }));
    Failure { more, ..Failure::with(Code::PaymentDeclined, detail) }
}

pub(super) fn refused(refusal: Refusal, trace: TraceId) -> Failure {
    let failure = Failure { trace: Some(trace), ..Failure::new(refusal.into()) };
    match refusal.available() {
        None => failure,
        Some(units) => Failure {
            detail: format!("only {units} free").into(),
            more: Some(Box::new(More { available: Some(units), ..More::default() })),
            ..failure
        },
    }
}

pub(in crate::service) fn rejected(outcome: &Outcome) -> Failure {
    match outcome {
        Outcome::Rejected(Rejection::KeyReused) => Failure::new(Code::IdempotencyKeyReused),
        Outcome::Rejected(Rejection::NotStarted { starts_at }) => {
            let detail = format!("it starts at {starts_at}; the key stays free");
            Failure::with(Code::DropNotStarted, detail).until(*starts_at)
        }
        Outcome::Rejected(Rejection::CoolingDown { until, left_ms }) => {
            let detail = format!("a hold ran out unpaid; the next one may be made at {until}; the key stays free");
            let retry_after = Some(left_ms.div_ceil(1_000));
            Failure { retry_after, ..Failure::with(Code::HoldCooldown, detail).until(*until) }
        }
        Outcome::Rejected(Rejection::TooManyHolds) => {
            Failure::with(Code::TooManyHolds, "pay or cancel what you hold in this drop; the key stays free")
        }
        Outcome::Rejected(Rejection::TooManyHoldsFromNetwork) => Failure {
            detail: "too many unpaid holds in this drop come from your network; the key stays free".into(),
            ..Failure::retry(Code::TooManyHolds, 5)
        },
        Outcome::Rejected(Rejection::Full) => Failure::retry(Code::Overloaded, 5),
        Outcome::Rejected(Rejection::UnknownVariant) => Failure::new(Code::UnknownVariant),
        Outcome::Rejected(Rejection::UnknownOrder) => Failure::new(Code::OrderNotFound),
        Outcome::Rejected(Rejection::InvalidQuantity) => {
            Failure::invalid(vec![FieldError { pointer: "/quantity".to_owned(), detail: "out of bounds".to_owned() }])
        }
        Outcome::Rejected(Rejection::OrderIs(OrderStatus::Confirmed)) => Failure::new(Code::OrderAlreadyConfirmed),
        _ => Failure::new(Code::OrderNotReserved),
    }
}
