//! Finds the payment of an attempt whose answer was lost, and makes sure that there will be none if there is none.
//!
//! Stripe's search by metadata lags: usually by seconds, by its documentation up to a minute or, during an outage, more.
//! So "not found" proves nothing. The idempotency key does: a request with the attempt's key and other parameters either
//! takes the key (the attempt never arrived, and a late one is refused from now on), or is refused as another request
//! (the attempt has arrived). What takes the key is a payment that was never confirmed, so nobody can be charged for it,
//! and it is cancelled at once. Where the attempt has arrived and the search does not show it yet, the list of payments
//! does: it does not lag, but has to be read through.

use super::api::Form;
use super::intent::{List, PaymentIntent};
use super::limits::{ATTEMPT_SECONDS_MAX, KEY_KEPT_MS, PAGE_MAX, PAGES_MAX};
use super::{Capture, Stripe, authorize_key, later};
use crate::domain::OrderId;
use crate::payments::gateway::GatewayError;

/// Seconds by which Stripe's clock may differ from ours.
const CLOCKS_DIFFER_SECONDS: i64 = 300;

impl Stripe {
    /// The payment of an attempt. `None`: there is none, and there will be none.
    pub(super) async fn find(&self, order: OrderId, attempt: u32) -> Result<Option<PaymentIntent>, GatewayError> {
        let (order_text, attempt_text) = (order.to_string(), attempt.to_string());
        if let Some(intent) = self.search(&order_text, &attempt_text).await? {
            return Ok(Some(intent));
        }
        let mut arrived = false;
        for capture in [Capture::Manual, Capture::Automatic] {
            arrived |= !self.take_key(order, attempt, capture).await?;
        }
        // Stripe forgets keys after a day; by then the search shows everything.
        let forgotten = (self.now)().as_millis() - placed_ms(order) > KEY_KEPT_MS;
        if !arrived && !forgotten {
            return Ok(None);
        }
        self.list(order, &order_text, &attempt_text).await
    }

    async fn search(&self, order: &str, attempt: &str) -> Result<Option<PaymentIntent>, GatewayError> {
        let query = format!("metadata['order_id']:'{order}' AND metadata['attempt']:'{attempt}'");
        let query = vec![("query", query), ("expand[]", "data.latest_charge".to_owned())];
        let found: List<PaymentIntent> = match self.api.get("/v1/payment_intents/search", &query).await {
            Ok(found) => found,
            // Not every account may search, such as those in India. What follows does not rely on it.
            Err(error) if error.answer().is_some_and(|answer| matches!(answer.status, 400 | 403)) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let found = found.data.into_iter().find(|intent| intent.is_of(order, attempt));
        // The search shows an earlier state of the payment.
        match found {
            Some(intent) => self.retrieve(&intent.id).await,
            None => Ok(None),
        }
    }

    /// Takes an attempt's key, so that the attempt is refused if it arrives later. Returns whether the key was free: it
    /// is not if the attempt has arrived.
    async fn take_key(&self, order: OrderId, attempt: u32, capture: Capture) -> Result<bool, GatewayError> {
        let form = vec![
            ("amount", "100".to_owned()),
            ("currency", "usd".to_owned()),
            ("description", format!("No payment: attempt {attempt} of order {order} was given up")),
            ("metadata[given_up_order]", order.to_string()),
        ];
        let key = authorize_key(order, attempt, capture);
        let taken = self.api.post::<PaymentIntent>("/v1/payment_intents", &form, &key).await;
        let placeholder = match taken {
            Ok(intent) => intent,
            Err(error) if error.answer().is_some_and(super::ApiError::is_other_request) => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        // Only for order in the merchant's dashboard: it was never confirmed.
        let _ = self.close(&placeholder.id, None).await;
        Ok(true)
    }

    /// Reads the payments of the order's time until one is the attempt's.
    async fn list(&self, order: OrderId, text: &str, attempt: &str) -> Result<Option<PaymentIntent>, GatewayError> {
        let placed = placed_ms(order) / 1_000;
        let (from, to) = (placed - CLOCKS_DIFFER_SECONDS, placed + ATTEMPT_SECONDS_MAX + CLOCKS_DIFFER_SECONDS);
        let mut after: Option<String> = None;
        for _ in 0..PAGES_MAX {
            let mut query: Form = vec![
                ("limit", PAGE_MAX.to_string()),
                ("created[gte]", from.to_string()),
                ("created[lte]", to.to_string()),
                ("expand[]", "data.latest_charge".to_owned()),
            ];
            query.extend(after.take().map(|id| ("starting_after", id)));
            let page: List<PaymentIntent> = self.api.get("/v1/payment_intents", &query).await?;
            let last = page.data.last().map(|intent| intent.id.clone());
            if let Some(intent) = page.data.into_iter().find(|intent| intent.is_of(text, attempt)) {
                return Ok(Some(intent));
            }
            if !page.has_more {
                // The attempt arrived and made no payment: its answer was an error, and every repetition's is the same.
                return Ok(None);
            }
            after = last;
        }
        Err(later("Stripe has the attempt, and does not show its payment yet"))
    }
}

/// When an order was placed, from its id (UUIDv7).
fn placed_ms(order: OrderId) -> i64 {
    i64::try_from(order.0.as_u128() >> 80).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_orders_id_has_its_time() {
        let before = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
        let placed = placed_ms(OrderId::new());
        assert!(u128::try_from(placed).unwrap().abs_diff(before) < 60_000, "{placed} {before}");
    }
}
