//! Refunds of captured payments, each once for each of our ids, also after Stripe has forgotten its idempotency key.

use super::api::Form;
use super::intent::{List, PaymentIntent};
use super::limits::PAGE_MAX;
use super::{Stripe, amount, later, refused};
use crate::domain::{Money, OrderId};
use crate::payments::gateway::GatewayError;
use serde::Deserialize;
use std::collections::BTreeMap;

/// The metadata that names our refund.
const REFUND_ID: &str = "refund_id";

/// A refund of Stripe's.
#[derive(Debug, Deserialize)]
struct Refund {
    #[serde(default)]
    amount: i64,
    /// `pending`, `requires_action`, `succeeded`, `failed` or `canceled`.
    #[serde(default)]
    status: Option<String>,
    #[serde(default)]
    metadata: BTreeMap<String, String>,
}

impl Refund {
    fn has_failed(&self) -> bool {
        matches!(self.status.as_deref(), Some("failed" | "canceled"))
    }

    fn is(&self, refund: &str) -> bool {
        self.metadata.get(REFUND_ID).is_some_and(|known| known == refund)
    }
}

impl Stripe {
    /// Refunds a captured payment, or a part of it. One that failed at the bank is made again.
    pub(super) async fn refund(
        &self,
        order: OrderId,
        intent: &PaymentIntent,
        part: Option<Money>,
        refund: &str,
    ) -> Result<(), GatewayError> {
        let made = self.refunds_of(&intent.id).await?;
        if made.iter().any(|known| known.is(refund) && !known.has_failed()) {
            return Ok(());
        }
        let given_back: i64 = made.iter().filter(|known| !known.has_failed()).map(|known| known.amount).sum();
        let left = intent.amount_received - given_back;
        let amount = match part {
            Some(part) => amount::to_stripe(part).map_err(|error| refused(&error.to_string()))?,
            None if left == 0 => return Ok(()),
            None => left,
        };
        if amount > left {
            return Err(refused(&format!("{amount} is more than the {left} that are left of the payment")));
        }
        let failed = made.iter().filter(|known| known.is(refund)).count();
        let form: Form = vec![
            ("payment_intent", intent.id.clone()),
            ("amount", amount.to_string()),
            ("metadata[refund_id]", refund.to_owned()),
            ("metadata[order_id]", order.to_string()),
        ];
        let key = format!("livedrop-refund-{}-{refund}-{failed}", intent.id);
        let made: Refund = match self.api.post("/v1/refunds", &form, &key).await {
            // Stripe repeats for a day why it could not refund then, such as an empty balance. That request made no
            // refund and never will: another key asks anew.
            Err(error) if error.answer().is_some_and(|answer| answer.replayed && answer.status < 500) => {
                let hour = (self.now)().as_millis() / 3_600_000;
                self.api.post("/v1/refunds", &form, &format!("{key}-{hour}")).await?
            }
            made => made?,
        };
        // One that fails later is heard of by a webhook.
        if made.has_failed() { Err(later("the bank has refused the refund")) } else { Ok(()) }
    }

    async fn refunds_of(&self, reference: &str) -> Result<Vec<Refund>, GatewayError> {
        let query = vec![("payment_intent", reference.to_owned()), ("limit", PAGE_MAX.to_string())];
        let list: List<Refund> = self.api.get("/v1/refunds", &query).await?;
        // With an incomplete list a refund might be made twice.
        if list.has_more { Err(refused("the payment has more refunds than are read")) } else { Ok(list.data) }
    }
}
