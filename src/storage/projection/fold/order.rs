//! One order in the fold: the effect of each later event, and the states that it may follow.

use crate::domain::event::OrderLine;
use crate::domain::{DropEvent, DropRecord, OrderStatus, OrderView, ReleaseReason, Timestamp};
use crate::storage::model::OrderNote;

/// Folds a later event into its order.
pub(super) fn settle(order: &mut OrderView, record: &DropRecord) -> Result<(), &'static str> {
    if order.drop_id != record.drop {
        return Err("the order is another drop's");
    }
    match &record.event {
        DropEvent::PaymentEnded { attempt, end, .. } => {
            if order.payment_pending.take().is_some() {
                order.payment_ref = None;
            }
            order.payment = order.payment.ended(*attempt, *end);
        }
        DropEvent::PaymentStarted { method, attempt, .. } => {
            expect(order, OrderStatus::Reserved)?;
            order.payment_pending = Some(method.name.to_string());
            order.payment = order.payment.started(method.provider, *attempt);
        }
        DropEvent::PaymentWaits { reference, .. } => order.payment_ref = Some(reference.to_string()),
        DropEvent::PaymentCaptured { .. } => order.payment = order.payment.captured(),
        DropEvent::HoldExtended { line, expires_at } => {
            same_line(order, line)?;
            expect(order, OrderStatus::Reserved)?;
            order.expires_at = *expires_at;
        }
        DropEvent::Confirmed { line, payment, retaken } => {
            same_line(order, line)?;
            expect(order, if *retaken { OrderStatus::Released } else { OrderStatus::Reserved })?;
            order.status = OrderStatus::Confirmed;
            order.confirmed_at = Some(record.at);
            (order.release_reason, order.released_at) = (None, None);
            order.payment_ref = payment.as_ref().map(|payment| payment.reference.to_string());
            order.payment_pending = None;
            order.payment = payment.as_ref().map_or(order.payment, |payment| order.payment.paid(payment));
        }
        DropEvent::Released { line, reason, trace } => {
            same_line(order, line)?;
            expect(order, OrderStatus::Reserved)?;
            order.status = OrderStatus::Released;
            (order.release_reason, order.released_at) = (Some(*reason), Some(record.at));
            if *reason == ReleaseReason::PaymentFailed {
                order.payment_pending = None;
                order.failed_trace = Some(*trace);
                order.payment = order.payment.failed();
            }
        }
        DropEvent::RefundDue { line, payment, cause, was_sold } => {
            same_line(order, line)?;
            expect(order, if *was_sold { OrderStatus::Confirmed } else { OrderStatus::Released })?;
            if order.refund_due.is_some() {
                return Err("the refund is owed already");
            }
            order.refund_due = Some(*cause);
            // A free order has no payment.
            order.payment_ref = payment.as_ref().map(|payment| payment.reference.to_string());
            order.payment_pending = None;
            order.payment = order.payment.owed(payment.as_ref());
        }
        DropEvent::Refunded { line } => {
            same_line(order, line)?;
            if order.refund_due.take().is_none() {
                return Err("no refund is owed for the order");
            }
            order.refunded_at = Some(record.at);
            // A late payment was never confirmed: the order stays released.
            if order.status == OrderStatus::Confirmed {
                order.status = OrderStatus::Refunded;
            }
        }
        _ => {}
    }
    Ok(())
}

/// The part of an order's history that this event would overwrite.
pub(super) fn note(order: &OrderView, sequence: u64, record: &DropRecord) -> Option<OrderNote> {
    let note = |kind: &str, at: Timestamp, reason: &str| OrderNote {
        order: order.id,
        sequence,
        kind: kind.to_owned(),
        at,
        reason: reason.to_owned(),
    };
    match &record.event {
        DropEvent::Confirmed { retaken: true, .. } => {
            Some(note("released", order.released_at?, order.release_reason?.as_str()))
        }
        DropEvent::RefundDue { cause, .. } => Some(note("refund_due", record.at, cause.as_str())),
        _ => None,
    }
}

fn expect(order: &OrderView, status: OrderStatus) -> Result<(), &'static str> {
    if order.status == status { Ok(()) } else { Err("the order's state does not allow it") }
}

/// Checks that an event's own data agree with the order; otherwise the stock would become wrong.
fn same_line(order: &OrderView, line: &OrderLine) -> Result<(), &'static str> {
    let same = order.variant_id == line.variant && order.quantity == line.quantity && order.buyer == line.buyer;
    if same { Ok(()) } else { Err("buyer, variant or quantity are not the order's") }
}
