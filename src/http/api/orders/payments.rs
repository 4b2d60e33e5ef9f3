//! Bodies of answers about payments.

use crate::domain::{OrderId, OrderStatus, PaymentProvider, PaymentStep, Timestamp};
use crate::http::api::money::MoneyView;
use crate::service::orders::{PaymentHistory, PaymentView};
use serde::Serialize;
use utoipa::ToSchema;

/// The payments of an order, oldest attempt first.
#[derive(Serialize, ToSchema)]
#[schema(as = Payments)]
pub struct PaymentsBody<'a> {
    order_id: OrderId,
    /// The order's own status: a payment has another.
    order_status: OrderStatus,
    items: Vec<PaymentBody<'a>>,
}

/// One attempt to pay an order.
#[derive(Serialize, ToSchema)]
#[schema(as = PaymentAttempt)]
pub struct PaymentBody<'a> {
    #[schema(minimum = 1)]
    attempt: u32,
    #[schema(value_type = String, example = "sandbox")]
    provider: PaymentProvider,
    /// Whether it moves no money.
    test: bool,
    #[schema(value_type = String, example = "captured")]
    status: PaymentStep,
    amount: MoneyView,
    #[schema(required = true)]
    reference: Option<&'a str>,
    #[schema(required = true, example = "insufficient_funds")]
    decline_reason: Option<&'a str>,
    /// For the provider's script, while the buyer has to act.
    #[schema(required = true)]
    client_secret: Option<&'a str>,
    /// Where to send the buyer, while the buyer has to act.
    #[schema(required = true)]
    action_url: Option<&'a str>,
    /// Oldest first.
    steps: Vec<PaymentStepBody>,
}

/// A step of a payment.
#[derive(Serialize, ToSchema)]
#[schema(as = PaymentStep)]
pub struct PaymentStepBody {
    #[schema(value_type = String, example = "authorized")]
    status: PaymentStep,
    at: Timestamp,
}

impl<'a> From<&'a PaymentHistory> for PaymentsBody<'a> {
    fn from(history: &'a PaymentHistory) -> Self {
        let PaymentHistory { order, payments, action } = history;
        let last = payments.len();
        let body = |(number, payment): (usize, &'a PaymentView)| {
            let action = action.as_ref().filter(|_| number == last);
            PaymentBody {
                attempt: payment.attempt,
                provider: payment.provider,
                test: payment.provider.is_test(),
                status: payment.status,
                amount: order.total().into(),
                reference: payment.reference.as_deref(),
                decline_reason: payment.decline_reason.as_deref(),
                client_secret: action.and_then(|action| action.client_secret.as_deref()),
                action_url: action.and_then(|action| action.url.as_deref()),
                steps: payment.steps.iter().map(|&(status, at)| PaymentStepBody { status, at }).collect(),
            }
        };
        Self { order_id: order.id, order_status: order.status, items: (1..).zip(payments).map(body).collect() }
    }
}
