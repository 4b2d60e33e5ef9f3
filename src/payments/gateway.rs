//! Payments: the contract with a gateway, and the built-in sandbox.
//!
//! The gateway is always called outside the drop actor. Its idempotency reference is the order id: charging or
//! refunding the same order again returns the result of the first call, so a crash between the charge and its record is
//! repaired by asking again.

use crate::domain::{Money, OrderId};
use async_trait::async_trait;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

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

/// The gateway of a server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PaymentProvider {
    /// [`Sandbox`]: no real money.
    Sandbox,
}

impl PaymentProvider {
    /// The provider's name in the configuration, in `/readyz` and in the log.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sandbox => "sandbox",
        }
    }

    /// What the choice means for buyers, for the log.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Sandbox => "play money: nobody is charged",
        }
    }

    /// A new gateway of this provider.
    #[must_use]
    pub fn gateway(self) -> Arc<dyn PaymentGateway> {
        match self {
            Self::Sandbox => Arc::new(Sandbox),
        }
    }
}

impl FromStr for PaymentProvider {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "sandbox" => Ok(Self::Sandbox),
            _ => Err("must be sandbox".to_owned()),
        }
    }
}

/// Charges nothing, and answers by the method's name: `pm_sandbox_ok` pays, `pm_sandbox_declined` declines,
/// `pm_sandbox_timeout` never answers, `pm_sandbox_slow` pays after two seconds (to test a late payment).
#[derive(Default)]
pub struct Sandbox;

/// The duration of a `pm_sandbox_slow` charge.
pub const SLOW: Duration = Duration::from_secs(2);
/// How long a `pm_sandbox_timeout` charge stays open.
const NEVER: Duration = Duration::from_secs(60);

impl Sandbox {
    pub const METHODS: [&str; 4] = ["pm_sandbox_ok", "pm_sandbox_slow", "pm_sandbox_declined", "pm_sandbox_timeout"];

    /// The reference is derived from the order, so the sandbox is idempotent without memory.
    fn paid(order: OrderId) -> ChargeOutcome {
        ChargeOutcome::Paid(format!("ch_sandbox_{}", order.0.simple()))
    }
}

#[async_trait]
impl PaymentGateway for Sandbox {
    fn accepts(&self, method: &str) -> bool {
        Self::METHODS.contains(&method)
    }

    async fn charge(&self, charge: &Charge) -> Result<ChargeOutcome, GatewayError> {
        match charge.method.as_str() {
            "pm_sandbox_ok" => Ok(Self::paid(charge.order)),
            "pm_sandbox_slow" => {
                tokio::time::sleep(SLOW).await;
                Ok(Self::paid(charge.order))
            }
            "pm_sandbox_timeout" => {
                tokio::time::sleep(NEVER).await;
                Err(GatewayError("timed out".to_owned()))
            }
            _ => Ok(ChargeOutcome::Declined),
        }
    }

    async fn look_up(&self, _: OrderId) -> Result<ChargeOutcome, GatewayError> {
        // The sandbox keeps no records: a charge that was running when the process ended was never made.
        Ok(ChargeOutcome::Unknown)
    }

    async fn refund(&self, _: OrderId, _: &str) -> Result<(), GatewayError> {
        Ok(())
    }
}
