//! The contract with a payment gateway.
//!
//! The gateway is always called outside the drop actor. Its idempotency reference is the order id: charging or
//! refunding the same order again returns the result of the first call, so a crash between the charge and its record is
//! repaired by asking again.

use crate::domain::{Money, OrderId};
use async_trait::async_trait;

/// A charge to make.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Charge {
    /// The gateway's idempotency reference.
    pub order: OrderId,
    pub amount: Money,
    /// The payment method's name, such as `pm_sandbox_ok`.
    pub method: String,
}

/// The outcome of a charge.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ChargeOutcome {
    /// The money was taken; the gateway's reference.
    Paid(String),
    /// The gateway declined permanently.
    Declined,
    /// There is no such charge, and there will be none: a request that is still on its way is ignored (only from
    /// [`PaymentGateway::look_up`]).
    Unknown,
}

/// The gateway could not be reached, or did not answer: the charge may or may not have happened.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the payment gateway did not answer: {0}")]
pub struct GatewayError(pub String);

/// A payment provider. All calls are idempotent by the order id.
#[async_trait]
pub trait PaymentGateway: Send + Sync + 'static {
    /// Whether this gateway accepts the method; checked before anything is reserved.
    fn accepts(&self, method: &str) -> bool;
    /// Charges an order. Repeated calls charge once.
    async fn charge(&self, charge: &Charge) -> Result<ChargeOutcome, GatewayError>;
    /// The outcome of an order's charge.
    async fn look_up(&self, order: OrderId) -> Result<ChargeOutcome, GatewayError>;
    /// Refunds an order. Repeated calls refund once.
    async fn refund(&self, order: OrderId, payment_ref: &str) -> Result<(), GatewayError>;
}
