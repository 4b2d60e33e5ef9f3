//! What a webhook says: which payment has news. Its other contents are not used: they may be old, and webhooks arrive in
//! any order. Stripe is asked what is true.

use super::intent::{ATTEMPT, ORDER_ID};
use super::limits::EVENT_TEXT_CHARS_MAX;
use crate::domain::{OrderId, PaymentIncident};
use serde::Deserialize;
use serde_json::Value;

/// An event of Stripe's, without the personal data in it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Event {
    /// Stripe's id, by which copies are recognized.
    pub id: String,
    /// The type, such as `payment_intent.succeeded`.
    pub kind: String,
    /// The PaymentIntent that it is about, if it is about one.
    pub reference: Option<String>,
    /// The order and the attempt, if the event's object names them.
    pub attempt: Option<(OrderId, u32)>,
}

/// What kind of news an event is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Subject {
    /// The state of a payment has changed.
    Payment,
    /// A refund was made, or has failed at the bank.
    Refund,
    /// A buyer disputes a payment at the bank.
    Dispute,
    /// Nothing that is known here.
    Other,
}

impl Subject {
    /// The subject of a type of events.
    #[must_use]
    pub fn of(kind: &str) -> Self {
        match kind.split('.').next().unwrap_or_default() {
            "payment_intent" => Self::Payment,
            "refund" => Self::Refund,
            "charge" if kind.starts_with("charge.dispute.") => Self::Dispute,
            "charge" if kind.starts_with("charge.refund") => Self::Refund,
            // Its payment has events of its own.
            _ => Self::Other,
        }
    }
}

/// What a type of events tells the seller, if it does.
#[must_use]
pub fn incident(kind: &str) -> Option<PaymentIncident> {
    match kind {
        "refund.failed" => Some(PaymentIncident::RefundFailed),
        "charge.dispute.created" => Some(PaymentIncident::DisputeOpened),
        "charge.dispute.closed" => Some(PaymentIncident::DisputeClosed),
        _ => None,
    }
}

impl Event {
    /// Reads an event whose signature was verified.
    ///
    /// # Errors
    /// One line, if it is no event of Stripe's.
    pub fn parse(body: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Envelope {
            id: String,
            #[serde(rename = "type")]
            kind: String,
            data: Data,
        }
        #[derive(Deserialize)]
        struct Data {
            object: Value,
        }
        let event: Envelope = serde_json::from_slice(body).map_err(|error| format!("no event of Stripe's: {error}"))?;
        let short = |text: &str| !text.is_empty() && text.len() <= EVENT_TEXT_CHARS_MAX && is_plain(text);
        if !short(&event.id) || !short(&event.kind) {
            return Err("no event of Stripe's: its id or its type is none".to_owned());
        }
        let object = &event.data.object;
        let reference = match object.get("object").and_then(Value::as_str) {
            Some("payment_intent") => object.get("id"),
            _ => object.get("payment_intent").map(|intent| intent.get("id").unwrap_or(intent)),
        };
        let reference = reference.and_then(Value::as_str).filter(|text| short(text) && text.starts_with("pi_"));
        let reference = reference.map(str::to_owned);
        Ok(Self { id: event.id, kind: event.kind, reference, attempt: attempt_of(object) })
    }
}

fn attempt_of(object: &Value) -> Option<(OrderId, u32)> {
    let text = |name: &str| object.get("metadata")?.get(name)?.as_str();
    Some((text(ORDER_ID)?.parse().ok()?, text(ATTEMPT)?.parse().ok()?))
}

fn is_plain(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parse(kind: &str, object: Value) -> Result<Event, String> {
        let event =
            json!({"id": "evt_1", "object": "event", "type": kind, "data": {"object": object}, "livemode": false});
        Event::parse(event.to_string().as_bytes())
    }

    #[test]
    fn an_event_names_its_payment() {
        let order = OrderId::new();
        let metadata = json!({"order_id": order.to_string(), "attempt": "3"});
        let intent = json!({"id": "pi_1", "object": "payment_intent", "metadata": metadata});
        let event = parse("payment_intent.succeeded", intent.clone()).unwrap();
        let expected = Event {
            id: "evt_1".to_owned(),
            kind: "payment_intent.succeeded".to_owned(),
            reference: Some("pi_1".to_owned()),
            attempt: Some((order, 3)),
        };
        assert_eq!(event, expected);
        let dispute = json!({"id": "dp_1", "object": "dispute", "payment_intent": "pi_2", "metadata": {}});
        let event = parse("charge.dispute.created", dispute).unwrap();
        assert_eq!((event.reference.as_deref(), event.attempt), (Some("pi_2"), None));
        let expanded = json!({"id": "re_1", "object": "refund", "payment_intent": intent});
        assert_eq!(parse("refund.failed", expanded).unwrap().reference.as_deref(), Some("pi_1"));
        let customer = parse("customer.created", json!({"id": "cus_1", "object": "customer"})).unwrap();
        assert_eq!((customer.reference, customer.attempt), (None, None));
    }

    #[test]
    fn what_is_no_event_is_refused_and_a_reference_is_no_path() {
        for body in ["", "[]", "{}", r#"{"id":"","type":"a","data":{"object":{}}}"#, r#"{"id":"evt_1","type":"a"}"#] {
            assert!(Event::parse(body.as_bytes()).is_err(), "{body}");
        }
        assert!(parse(&"a".repeat(101), json!({})).is_err());
        assert!(parse("a b", json!({})).is_err());
        for reference in ["pi_/../x", "ch_1", "pi_1?a", &format!("pi_{}", "1".repeat(100))] {
            let event = parse("x.y", json!({"object": "charge", "payment_intent": reference})).unwrap();
            assert_eq!(event.reference, None, "{reference}");
        }
    }

    #[test]
    fn types_have_subjects() {
        for (kind, subject) in [
            ("payment_intent.amount_capturable_updated", Subject::Payment),
            ("payment_intent.payment_failed", Subject::Payment),
            ("refund.failed", Subject::Refund),
            ("charge.refund.updated", Subject::Refund),
            ("charge.refunded", Subject::Refund),
            ("charge.dispute.created", Subject::Dispute),
            ("charge.succeeded", Subject::Other),
            ("payout.paid", Subject::Other),
            ("", Subject::Other),
        ] {
            assert_eq!(Subject::of(kind), subject, "{kind}");
            assert!(incident(kind).is_none() || subject != Subject::Other, "{kind}");
        }
        assert_eq!(incident("charge.dispute.funds_withdrawn"), None, "told once");
    }
}
