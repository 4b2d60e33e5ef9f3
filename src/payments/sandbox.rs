//! Play money.

use super::gateway::{Charge, DeclineReason, GatewayError, GatewayHealth, PaymentGateway, PaymentStatus};
use crate::domain::{Money, OrderId};
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
    fn paid(order: OrderId) -> PaymentStatus {
        PaymentStatus::Captured { reference: format!("ch_sandbox_{}", order.0.simple()) }
    }
}

#[async_trait]
impl PaymentGateway for Sandbox {
    fn name(&self) -> &'static str {
        "sandbox"
    }

    fn accepts(&self, method: &str) -> bool {
        Self::METHODS.contains(&method)
    }

    async fn authorize(&self, charge: &Charge) -> Result<PaymentStatus, GatewayError> {
        match charge.method.as_str() {
            "pm_sandbox_ok" => Ok(Self::paid(charge.order)),
            "pm_sandbox_slow" => {
                tokio::time::sleep(SLOW).await;
                Ok(Self::paid(charge.order))
            }
            "pm_sandbox_timeout" => {
                tokio::time::sleep(NEVER).await;
                Err(GatewayError::Unreachable { reason: "timed out".to_owned(), retry_after: None })
            }
            _ => Ok(PaymentStatus::Declined { reference: None, reason: DeclineReason::CardDeclined }),
        }
    }

    async fn look_up(&self, _: OrderId, _: u32, _: Option<&str>) -> Result<PaymentStatus, GatewayError> {
        // The sandbox keeps no records: a charge that was running when the process ended was never made.
        Ok(PaymentStatus::Unknown)
    }

    async fn capture(&self, _: OrderId, _: &str, _: Money) -> Result<(), GatewayError> {
        Ok(())
    }

    async fn give_back(&self, _: OrderId, _: &str, _: Option<Money>, _: &str) -> Result<(), GatewayError> {
        Ok(())
    }

    fn health(&self) -> GatewayHealth {
        GatewayHealth::Up
    }
}
