//! PaymentIntents as Stripe describes them, and what they mean for an order.

use crate::domain::Timestamp;
use crate::payments::gateway::{DeclineReason, PaymentStatus};
use serde::Deserialize;
use std::collections::BTreeMap;

/// The metadata that names the order and the attempt in the merchant's dashboard, in webhooks and in searches.
pub const ORDER_ID: &str = "order_id";
/// The number of the attempt to pay for the order, from 1.
pub const ATTEMPT: &str = "attempt";
/// Why a declined payment is cancelled: nobody may pay it any more. A payment cancelled for this reason was declined.
pub const ABANDONED: &str = "abandoned";

/// A payment; of its many fields those that decide something here.
#[derive(Clone, Debug, Deserialize)]
pub struct PaymentIntent {
    pub id: String,
    pub status: Status,
    pub currency: String,
    #[serde(default)]
    pub amount: i64,
    #[serde(default)]
    pub amount_received: i64,
    #[serde(default)]
    pub client_secret: Option<String>,
    #[serde(default)]
    pub cancellation_reason: Option<String>,
    #[serde(default)]
    pub last_payment_error: Option<PaymentError>,
    #[serde(default)]
    pub next_action: Option<NextAction>,
    #[serde(default)]
    pub latest_charge: Option<Expandable<Charge>>,
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
}

/// The state of a payment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    RequiresPaymentMethod,
    RequiresConfirmation,
    RequiresAction,
    Processing,
    RequiresCapture,
    Canceled,
    Succeeded,
    /// A state that this version of the API does not have.
    #[serde(other)]
    Other,
}

/// Why an attempt to pay failed.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct PaymentError {
    #[serde(default)]
    pub code: Option<String>,
    #[serde(default)]
    pub decline_code: Option<String>,
}

/// What the buyer has to do.
#[derive(Clone, Debug, Deserialize)]
pub struct NextAction {
    #[serde(default)]
    pub redirect_to_url: Option<Redirect>,
}

/// A page of the buyer's bank.
#[derive(Clone, Debug, Deserialize)]
pub struct Redirect {
    #[serde(default)]
    pub url: Option<String>,
}

/// An object, or its id where it was not asked for.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum Expandable<T> {
    Id(String),
    Object(Box<T>),
}

/// The charge of a payment.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Charge {
    /// What went back, refunds on their way included.
    #[serde(default)]
    pub amount_refunded: i64,
    #[serde(default)]
    pub payment_method_details: Option<Details>,
}

/// How it was paid: one field, named after the type, such as `card`.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Details {
    #[serde(default)]
    pub card: Option<Window>,
    #[serde(flatten)]
    pub others: BTreeMap<String, serde_json::Value>,
}

/// Until when an authorization holds.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Window {
    /// In seconds since 1970.
    #[serde(default)]
    pub capture_before: Option<i64>,
}

/// One page of a list or of a search.
#[derive(Debug, Deserialize)]
pub struct List<T> {
    pub data: Vec<T>,
    #[serde(default)]
    pub has_more: bool,
}

impl PaymentIntent {
    /// Whether it is the payment of this attempt.
    #[must_use]
    pub fn is_of(&self, order: &str, attempt: &str) -> bool {
        let has = |name: &str, value: &str| self.metadata.get(name).is_some_and(|known| known == value);
        has(ORDER_ID, order) && has(ATTEMPT, attempt)
    }

    /// Until when it can be captured.
    #[must_use]
    pub fn capture_before(&self) -> Option<Timestamp> {
        let Some(Expandable::Object(charge)) = &self.latest_charge else { return None };
        let details = charge.payment_method_details.as_ref()?;
        let of_others = || details.others.values().find_map(|details| details.get("capture_before")?.as_i64());
        let seconds = details.card.as_ref().and_then(|card| card.capture_before).or_else(of_others)?;
        Some(Timestamp::from_millis(seconds.saturating_mul(1_000)))
    }

    /// The reason for a decline, if there was one.
    #[must_use]
    pub fn decline(&self) -> Option<DeclineReason> {
        let PaymentError { code, decline_code } = self.last_payment_error.as_ref()?;
        Some(reason(code.as_deref(), decline_code.as_deref()))
    }

    /// What it means for its order.
    #[must_use]
    pub fn meaning(self) -> PaymentStatus {
        let (declined, capture_before) = (self.decline(), self.capture_before());
        let reference = self.id;
        match self.status {
            Status::Succeeded => PaymentStatus::Captured { reference },
            Status::RequiresCapture => PaymentStatus::Authorized { reference, capture_before },
            Status::RequiresAction => {
                let url = self.next_action.and_then(|action| action.redirect_to_url).and_then(|to| to.url);
                PaymentStatus::RequiresAction { reference, client_secret: self.client_secret, url }
            }
            Status::Canceled => match declined.filter(|_| self.cancellation_reason.as_deref() == Some(ABANDONED)) {
                Some(reason) => PaymentStatus::Declined { reference: Some(reference), reason },
                None => PaymentStatus::Cancelled { reference },
            },
            // All payments are made confirmed, so one that asks for another method had its own declined.
            Status::RequiresPaymentMethod => {
                let reason = declined.unwrap_or(DeclineReason::CardDeclined);
                PaymentStatus::Declined { reference: Some(reference), reason }
            }
            Status::Processing | Status::RequiresConfirmation | Status::Other => PaymentStatus::Pending { reference },
        }
    }
}

/// What a buyer is told of Stripe's codes. That a card is reported lost or stolen, or that a payment looks like fraud,
/// is none of it: Stripe asks to tell that as any other decline.
#[must_use]
pub fn reason(code: Option<&str>, decline_code: Option<&str>) -> DeclineReason {
    let of_decline = |code: &str| match code {
        "insufficient_funds" => Some(DeclineReason::InsufficientFunds),
        "withdrawal_count_limit_exceeded" | "card_velocity_exceeded" => Some(DeclineReason::LimitExceeded),
        "expired_card" | "invalid_expiry_month" | "invalid_expiry_year" => Some(DeclineReason::ExpiredCard),
        "incorrect_cvc" | "invalid_cvc" => Some(DeclineReason::IncorrectCvc),
        "incorrect_number" | "invalid_number" | "invalid_account" => Some(DeclineReason::IncorrectNumber),
        "authentication_required" | "approve_with_id" => Some(DeclineReason::AuthenticationFailed),
        "card_not_supported" | "currency_not_supported" | "service_not_allowed" | "transaction_not_allowed" => {
            Some(DeclineReason::NotSupported)
        }
        "processing_error" | "try_again_later" | "issuer_not_available" | "reenter_transaction" => {
            Some(DeclineReason::ProcessingError)
        }
        _ => None,
    };
    let of_error = |code: &str| match code {
        "payment_intent_authentication_failure" | "authentication_required" | "setup_intent_authentication_failure" => {
            Some(DeclineReason::AuthenticationFailed)
        }
        "payment_intent_payment_attempt_expired" => Some(DeclineReason::AuthenticationFailed),
        "payment_method_not_available" | "payment_method_currency_mismatch" => Some(DeclineReason::NotSupported),
        other => of_decline(other),
    };
    decline_code.and_then(of_decline).or_else(|| code.and_then(of_error)).unwrap_or(DeclineReason::CardDeclined)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn intent(more: Value) -> PaymentIntent {
        let mut intent = json!({"id": "pi_1", "object": "payment_intent", "status": "requires_capture", "amount": 1999,
            "currency": "usd", "client_secret": "pi_1_secret_2", "metadata": {"order_id": "o", "attempt": "2"}});
        intent.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(intent).unwrap()
    }

    #[test]
    fn each_state_has_its_meaning() {
        let reference = "pi_1".to_owned();
        let meaning = |more: Value| intent(more).meaning();
        assert_eq!(meaning(json!({"status": "succeeded"})), PaymentStatus::Captured { reference: reference.clone() });
        for status in ["processing", "requires_confirmation", "a_new_one"] {
            assert_eq!(meaning(json!({"status": status})), PaymentStatus::Pending { reference: reference.clone() });
        }
        let declined = json!({"status": "requires_payment_method",
            "last_payment_error": {"type": "card_error", "code": "card_declined", "decline_code": "insufficient_funds"}});
        let reason = DeclineReason::InsufficientFunds;
        let declined_meaning = PaymentStatus::Declined { reference: Some(reference.clone()), reason };
        assert_eq!(meaning(declined.clone()), declined_meaning);
        let mut closed = declined;
        closed["status"] = json!("canceled");
        assert_eq!(meaning(closed.clone()), PaymentStatus::Cancelled { reference: reference.clone() });
        closed["cancellation_reason"] = json!(ABANDONED);
        assert_eq!(meaning(closed), declined_meaning, "what was declined stays declined when it is closed");
        let expired = json!({"status": "canceled", "cancellation_reason": "automatic"});
        assert_eq!(meaning(expired), PaymentStatus::Cancelled { reference });
    }

    #[test]
    fn an_action_has_a_secret_and_a_page_where_there_is_one() {
        let action = |next: Value| match intent(json!({"status": "requires_action", "next_action": next})).meaning() {
            PaymentStatus::RequiresAction { reference, client_secret, url } => (reference, client_secret, url),
            other => panic!("{other:?}"),
        };
        let secret = Some("pi_1_secret_2".to_owned());
        let page = json!({"type": "redirect_to_url", "redirect_to_url": {"url": "https://bank/1", "return_url": null}});
        assert_eq!(action(page), ("pi_1".to_owned(), secret.clone(), Some("https://bank/1".to_owned())));
        let script = json!({"type": "use_stripe_sdk", "use_stripe_sdk": {"type": "three_d_secure_redirect"}});
        assert_eq!(action(script), ("pi_1".to_owned(), secret, None));
    }

    #[test]
    fn the_end_of_an_authorization_is_in_its_charge() {
        let until = |charge: Value| intent(json!({"latest_charge": charge})).capture_before();
        let at = Some(Timestamp::from_millis(1_700_000_000_000));
        let card = json!({"id": "ch_1", "payment_method_details":
            {"type": "card", "card": {"brand": "visa", "capture_before": 1_700_000_000}}});
        assert_eq!(until(card), at);
        let other = json!({"id": "ch_1", "payment_method_details":
            {"type": "klarna", "klarna": {"capture_before": 1_700_000_000}}});
        assert_eq!(until(other), at);
        for without in [json!("ch_1"), json!(null), json!({"id": "ch_1", "payment_method_details": {"type": "link"}})] {
            assert_eq!(until(without), None);
        }
    }

    #[test]
    fn buyers_are_told_what_they_can_change_and_nothing_about_suspicions() {
        use DeclineReason as R;
        for (code, decline, expected) in [
            ("card_declined", "insufficient_funds", R::InsufficientFunds),
            ("card_declined", "generic_decline", R::CardDeclined),
            ("card_declined", "lost_card", R::CardDeclined),
            ("card_declined", "stolen_card", R::CardDeclined),
            ("card_declined", "fraudulent", R::CardDeclined),
            ("card_declined", "do_not_honor", R::CardDeclined),
            ("card_declined", "card_velocity_exceeded", R::LimitExceeded),
            ("card_declined", "currency_not_supported", R::NotSupported),
            ("card_declined", "authentication_required", R::AuthenticationFailed),
            ("expired_card", "", R::ExpiredCard),
            ("incorrect_cvc", "", R::IncorrectCvc),
            ("incorrect_number", "", R::IncorrectNumber),
            ("processing_error", "", R::ProcessingError),
            ("payment_intent_authentication_failure", "", R::AuthenticationFailed),
            ("a_new_code", "another", R::CardDeclined),
            ("", "", R::CardDeclined),
        ] {
            let some = |text: &'static str| Some(text).filter(|text| !text.is_empty());
            assert_eq!(reason(some(code), some(decline)), expected, "{code} {decline}");
        }
    }

    #[test]
    fn a_payment_names_its_attempt() {
        let intent = intent(json!({}));
        assert!(intent.is_of("o", "2") && !intent.is_of("o", "1") && !intent.is_of("p", "2"));
    }
}
