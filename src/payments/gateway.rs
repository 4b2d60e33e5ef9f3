//! Payments: the contract with a gateway, and the sandbox that is built in.
//!
//! Always outside the drop actor. The gateway's idempotency reference is the order id: charging or refunding the same
//! order again answers what the first call did, so a crash between the charge and its record is repaired by asking again.

use crate::domain::{Money, OrderId};
use async_trait::async_trait;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

/// What to charge.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Charge {
    /// The idempotency reference.
    pub order: OrderId,
    /// How much.
    pub amount: Money,
    /// With what.
    pub method: String,
}

/// How a charge ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ChargeOutcome {
    /// The money is there; the gateway's reference.
    Paid(String),
    /// The gateway said no, for good.
    Declined,
    /// There is no such charge and there will be none: a request that is still on its way counts for nothing (only from
    /// [`PaymentGateway::look_up`]).
    Unknown,
}

/// The gateway could not be asked, or did not answer: the charge may or may not have happened.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the payment gateway did not answer: {0}")]
pub struct GatewayError(pub String);

/// A payment provider.
#[async_trait]
pub trait PaymentGateway: Send + Sync + 'static {
    /// Whether this gateway understands the method; asked before anything is reserved.
    fn accepts(&self, method: &str) -> bool;
    /// Charges once per order, however often it is called.
    async fn charge(&self, charge: &Charge) -> Result<ChargeOutcome, GatewayError>;
    /// What became of an order's charge.
    async fn look_up(&self, order: OrderId) -> Result<ChargeOutcome, GatewayError>;
    /// Gives the money of an order back, once however often it is called.
    async fn refund(&self, order: OrderId, payment_ref: &str) -> Result<(), GatewayError>;
}

/// Which gateway a server uses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PaymentProvider {
    /// [`Sandbox`]: play money.
    Sandbox,
}

impl PaymentProvider {
    /// Its name in the configuration, in `/readyz` and in the log.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sandbox => "sandbox",
        }
    }

    /// What buyers are in for, for the log.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Sandbox => "play money: nobody is charged",
        }
    }

    /// The gateway itself.
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

/// Charges nothing and answers by the method's name: `pm_sandbox_ok` pays, `pm_sandbox_declined` declines,
/// `pm_sandbox_timeout` never answers, `pm_sandbox_slow` pays after two seconds (to see a payment land late).
#[derive(Default)]
pub struct Sandbox;

/// How long `pm_sandbox_slow` takes.
pub const SLOW: Duration = Duration::from_secs(2);
/// How long a charge that will never be answered is waited for.
const NEVER: Duration = Duration::from_secs(60);

impl Sandbox {
    /// All that it knows.
    pub const METHODS: [&str; 4] = ["pm_sandbox_ok", "pm_sandbox_slow", "pm_sandbox_declined", "pm_sandbox_timeout"];

    /// The reference follows from the order, so the sandbox needs no memory to be idempotent.
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
        // It keeps no books: whatever was running when the process ended was never charged.
        Ok(ChargeOutcome::Unknown)
    }

    async fn refund(&self, _: OrderId, _: &str) -> Result<(), GatewayError> {
        Ok(())
    }
}
