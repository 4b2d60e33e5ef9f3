//! The account's payments, as its books have them, for the comparison with the orders.

use super::api::Form;
use super::intent::{ATTEMPT, Expandable, List, ORDER_ID, PaymentIntent, Status};
use super::limits::PAGE_MAX;
use super::{Stripe, amount};
use crate::domain::{Currency, Timestamp};
use crate::payments::gateway::{GatewayError, ListedPayment, PaymentPage, PaymentState, PaymentSums};

impl Stripe {
    /// One page of the payments that were made from `from` until `to`, newest first, those behind `after`. Payments that are
    /// not of an order, such as placeholders, are left out.
    pub(super) async fn page(
        &self,
        from: Timestamp,
        to: Timestamp,
        after: Option<&str>,
    ) -> Result<PaymentPage, GatewayError> {
        let mut query: Form = vec![
            ("limit", PAGE_MAX.to_string()),
            ("created[gte]", from.as_millis().div_euclid(1_000).to_string()),
            ("created[lte]", to.as_millis().div_euclid(1_000).to_string()),
            ("expand[]", "data.latest_charge".to_owned()),
        ];
        query.extend(after.map(|id| ("starting_after", id.to_owned())));
        let page: List<PaymentIntent> = self.api.get("/v1/payment_intents", &query).await?;
        let next = page.data.last().filter(|_| page.has_more).map(|intent| intent.id.clone());
        Ok(PaymentPage { payments: page.data.into_iter().filter_map(PaymentIntent::listed).collect(), next })
    }
}

impl PaymentIntent {
    /// What the books say of it; `None` if it is no payment of ours.
    pub(super) fn listed(self) -> Option<ListedPayment> {
        let order = self.metadata.get(ORDER_ID)?.parse().ok()?;
        let attempt = self.metadata.get(ATTEMPT)?.parse().ok()?;
        let state = match self.status {
            Status::RequiresCapture => PaymentState::Authorized,
            Status::Succeeded => PaymentState::Captured,
            Status::Canceled => PaymentState::Over,
            // A declined one may still be paid by whoever has its secret: it is not over.
            _ => PaymentState::Open,
        };
        let sums = self.sums();
        Some(ListedPayment { order, attempt, reference: self.id, state, sums })
    }

    fn sums(&self) -> Option<PaymentSums> {
        let currency: Currency = self.currency.to_ascii_uppercase().parse().ok()?;
        let refunded = match &self.latest_charge {
            Some(Expandable::Object(charge)) => charge.amount_refunded,
            _ => 0,
        };
        let ours = |theirs| amount::from_stripe(theirs, currency);
        Some(PaymentSums {
            authorized: ours(self.amount)?,
            captured: ours(self.amount_received)?,
            refunded: ours(refunded)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Money, OrderId};
    use serde_json::{Value, json};

    fn listed(more: Value) -> Option<ListedPayment> {
        let mut intent = json!({"id": "pi_1", "status": "succeeded", "amount": 1999, "amount_received": 1500,
            "currency": "usd", "latest_charge": {"id": "ch_1", "amount_refunded": 500}});
        intent.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value::<PaymentIntent>(intent).unwrap().listed()
    }

    #[test]
    fn the_books_have_the_sums_of_payments_of_orders() {
        let order = OrderId::new();
        let metadata = json!({"order_id": order.to_string(), "attempt": "2"});
        let usd = |amount| Money { amount, currency: "USD".parse().unwrap() };
        let expected = ListedPayment {
            order,
            attempt: 2,
            reference: "pi_1".to_owned(),
            state: PaymentState::Captured,
            sums: Some(PaymentSums { authorized: usd(1_999), captured: usd(1_500), refunded: usd(500) }),
        };
        assert_eq!(listed(json!({"metadata": metadata})), Some(expected));
        for (status, state) in [
            ("requires_capture", PaymentState::Authorized),
            ("canceled", PaymentState::Over),
            ("requires_payment_method", PaymentState::Open),
            ("processing", PaymentState::Open),
        ] {
            let payment = listed(json!({"metadata": metadata, "status": status})).unwrap();
            assert_eq!(payment.state, state, "{status}");
        }
        let strange = listed(json!({"metadata": metadata, "currency": "isk", "amount": 12_345})).unwrap();
        assert_eq!(strange.sums, None, "no amount of ours");
        for metadata in [json!({}), json!({"order_id": order.to_string()}), json!({"given_up_order": "o"})] {
            assert_eq!(listed(json!({"metadata": metadata})), None);
        }
    }
}
