//! Steps of payments: their history beside the orders' rows.

use crate::domain::{DropEvent, DropRecord, OrderView, PaymentEnd, PaymentStep};
use crate::storage::model::PaymentNote;

/// The step that an event is for the payment of its order, which is as it is after the event. Play money leaves none: what
/// there is to say of it is in the order's row.
pub(super) fn step(order: &OrderView, sequence: u64, record: &DropRecord) -> Option<PaymentNote> {
    let provider = order.payment.provider.filter(|provider| !provider.is_test())?;
    let (step, reference, detail) = match &record.event {
        DropEvent::Reserved { payment_method: Some(method), .. } | DropEvent::PaymentStarted { method, .. } => {
            (PaymentStep::Pending, None, Some(method.name.to_string()))
        }
        DropEvent::PaymentWaits { reference, action, .. } => {
            let step = if *action { PaymentStep::RequiresAction } else { PaymentStep::Pending };
            (step, Some(reference.to_string()), None)
        }
        DropEvent::PaymentEnded { end, .. } => {
            let step = match end {
                PaymentEnd::Declined(_) => PaymentStep::Declined,
                PaymentEnd::Cancelled => PaymentStep::Cancelled,
                PaymentEnd::NotMade => PaymentStep::NotMade,
            };
            (step, None, end.declined().map(|reason| reason.as_str().to_owned()))
        }
        DropEvent::Confirmed { payment: Some(payment), .. } => {
            let step = if payment.captured { PaymentStep::Captured } else { PaymentStep::Authorized };
            (step, Some(payment.reference.to_string()), None)
        }
        DropEvent::PaymentCaptured { .. } => (PaymentStep::Captured, None, None),
        DropEvent::RefundDue { payment: Some(payment), cause, .. } => {
            (PaymentStep::RefundDue, Some(payment.reference.to_string()), Some(cause.as_str().to_owned()))
        }
        DropEvent::Refunded { .. } => (PaymentStep::Refunded, None, None),
        _ => return None,
    };
    let attempt = order.attempt();
    Some(PaymentNote { order: order.id, sequence, attempt, provider, step, at: record.at, reference, detail })
}
