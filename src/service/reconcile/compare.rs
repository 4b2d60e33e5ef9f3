//! What a payment at the provider and its order have to say of each other. Pure.

use crate::domain::{Money, OrderStatus, OrderView};
use crate::payments::gateway::{ListedPayment, PaymentState};
use serde::{Serialize, Serializer};

/// How a provider's books and ours differ.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum DifferenceKind {
    /// Money is authorized, and no order counts it.
    AuthorizedWithoutOrder,
    /// Money was taken and not given back, and no order counts it.
    CapturedWithoutOrder,
    /// The order says that its money was taken, and it was only authorized.
    CaptureMissing,
    /// The order says that its money went back, and some of it did not.
    RefundMissing,
    /// Money went back that the order still counts, such as by a refund in the provider's dashboard.
    RefundUnknown,
    /// The order is sold, and the provider has neither taken nor authorized its money.
    PaymentGone,
    /// The amounts differ.
    AmountDiffers,
}

impl DifferenceKind {
    pub const ALL: [Self; 7] = [
        Self::AuthorizedWithoutOrder,
        Self::CapturedWithoutOrder,
        Self::CaptureMissing,
        Self::RefundMissing,
        Self::RefundUnknown,
        Self::PaymentGone,
        Self::AmountDiffers,
    ];

    /// The name in reports and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AuthorizedWithoutOrder => "authorized_without_order",
            Self::CapturedWithoutOrder => "captured_without_order",
            Self::CaptureMissing => "capture_missing",
            Self::RefundMissing => "refund_missing",
            Self::RefundUnknown => "refund_unknown",
            Self::PaymentGone => "payment_gone",
            Self::AmountDiffers => "amount_differs",
        }
    }
}

impl Serialize for DifferenceKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// The difference between a payment and its order, and what it is about; `None` if they agree, or if what is missing is
/// under way: an attempt that is pending, a capture or a refund that is due.
pub(super) fn compare(payment: &ListedPayment, order: Option<&OrderView>) -> Option<(DifferenceKind, String)> {
    let Some(order) = order else { return uncounted(payment, "this server has no such order") };
    if order.payment_pending.is_some() && order.attempt() == payment.attempt {
        return None;
    }
    if order.payment_ref.as_deref() != Some(payment.reference.as_str()) {
        return uncounted(payment, &format!("the order is {} and does not count it", order.status.as_str()));
    }
    if order.refund_due.is_some() {
        return None;
    }
    let Some(sums) = payment.sums else {
        return Some((DifferenceKind::AmountDiffers, format!("the order's total is {}", order.total())));
    };
    if order.refunded_at.is_some() {
        let detail = || format!("{} of {} went back", sums.refunded, sums.captured);
        return match payment.state {
            PaymentState::Authorized => Some((DifferenceKind::RefundMissing, "it is still authorized".to_owned())),
            PaymentState::Captured if sums.refunded != sums.captured => Some((DifferenceKind::RefundMissing, detail())),
            _ => None,
        };
    }
    if order.status != OrderStatus::Confirmed {
        return uncounted(payment, &format!("the order is {}", order.status.as_str()));
    }
    let differs = |theirs: Money| {
        (DifferenceKind::AmountDiffers, format!("{theirs}, and the order's total is {}", order.total()))
    };
    match payment.state {
        PaymentState::Authorized if sums.authorized != order.total() => Some(differs(sums.authorized)),
        // The consumer `captures` is at it.
        _ if order.payment.capture_due => None,
        PaymentState::Authorized => Some((DifferenceKind::CaptureMissing, "it is only authorized".to_owned())),
        PaymentState::Captured if sums.captured != order.total() => Some(differs(sums.captured)),
        PaymentState::Captured if sums.refunded.amount > 0 => {
            Some((DifferenceKind::RefundUnknown, format!("{} went back", sums.refunded)))
        }
        PaymentState::Captured => None,
        PaymentState::Open | PaymentState::Over => {
            Some((DifferenceKind::PaymentGone, "nothing is authorized or taken".to_owned()))
        }
    }
}

/// The difference if no order counts the payment.
fn uncounted(payment: &ListedPayment, why: &str) -> Option<(DifferenceKind, String)> {
    let kind = match payment.state {
        PaymentState::Authorized => DifferenceKind::AuthorizedWithoutOrder,
        PaymentState::Captured if payment.sums.is_none_or(|sums| sums.refunded != sums.captured) => {
            DifferenceKind::CapturedWithoutOrder
        }
        _ => return None,
    };
    Some((kind, why.to_owned()))
}
