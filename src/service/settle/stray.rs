//! Payments that their order does not count: a second one, or one that was authorized after its attempt had ended.
//!
//! They have no record in the journal, and need none: the provider's books have them. Whatever brings news of such a payment,
//! a webhook from the durable inbox or the reconciliation, leads here again until the money has gone back.

use super::calls::within_call;
use super::{Attempt, Settler};
use crate::domain::{OrderId, PaymentProvider, TraceId};
use crate::payments::gateway::{GatewayError, PaymentStatus};
use tracing::warn;

impl Settler {
    /// Gives back whatever this payment has authorized or taken. The caller knows that the order does not count it and
    /// waits for no news of it. Returns whether there was anything to give back; repeated calls give back once.
    ///
    /// # Errors
    /// If it is not known to have gone back: to be called again.
    pub async fn give_back_stray(
        &self,
        provider: PaymentProvider,
        (order, number): (OrderId, u32),
        reference: &str,
    ) -> Result<bool, GatewayError> {
        let attempt = Attempt { order, number, provider, trace: TraceId::default() };
        let gateway = self.gateway(provider)?;
        match within_call(gateway.look_up(order, number, Some(reference))).await? {
            PaymentStatus::Declined { .. } | PaymentStatus::Cancelled { .. } | PaymentStatus::Unknown => Ok(false),
            status => {
                warn!(%order, attempt = number, ?status, "a payment that its order does not count goes back");
                self.cancel(attempt, reference).await?;
                Ok(true)
            }
        }
    }
}
