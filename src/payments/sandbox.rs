//! Play money.

use super::gateway::{Charge, ChargeOutcome, GatewayError, PaymentGateway};
use crate::domain::OrderId;
use async_trait::async_trait;
use std::time::Duration;

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
