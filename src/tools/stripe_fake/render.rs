//! The fake's objects as JSON, in the shape of Stripe's.

use super::limits::AUTHORIZED_SECONDS;
use super::model::{Capture, Payment, Refund, Refusal};
use crate::payments::stripe::api::API_VERSION;
use serde_json::{Value, json};

/// A payment. `expanded`: with its charge as an object, of which so much went back.
#[must_use]
pub fn payment(payment: &Payment, base: &str, expanded: Option<i64>) -> Value {
    let Payment { id, amount, currency, capture, status, method, metadata, created, .. } = payment;
    let failure = payment.failure.map(|(code, decline_code)| {
        let kind = if code.starts_with("payment_intent") { "invalid_request_error" } else { "card_error" };
        json!({"type": kind, "code": code, "decline_code": decline_code, "message": "Your card was declined."})
    });
    let capturable = if *status == "requires_capture" { *amount } else { 0 };
    json!({
        "id": id, "object": "payment_intent", "amount": amount, "amount_capturable": capturable,
        "amount_received": payment.amount_received, "currency": currency, "capture_method": capture.name(),
        "client_secret": secret_of(id), "confirmation_method": "automatic", "created": created,
        "cancellation_reason": payment.cancellation_reason, "description": payment.description,
        "last_payment_error": failure, "latest_charge": charge(payment, expanded), "livemode": false,
        "metadata": metadata, "next_action": action(payment, base), "payment_method": method, "status": status,
    })
}

/// The secret that the buyer's page has.
#[must_use]
pub fn secret_of(id: &str) -> String {
    format!("{id}_secret_fake")
}

fn action(payment: &Payment, base: &str) -> Value {
    match (payment.status, &payment.return_url) {
        ("requires_action", Some(back)) => {
            let url = format!("{base}/fake/3ds/{}", payment.id);
            json!({"type": "redirect_to_url", "redirect_to_url": {"url": url, "return_url": back}})
        }
        ("requires_action", None) => {
            json!({"type": "use_stripe_sdk", "use_stripe_sdk": {"type": "three_d_secure_redirect"}})
        }
        _ => Value::Null,
    }
}

fn charge(payment: &Payment, expanded: Option<i64>) -> Value {
    let Payment { id, amount, currency, metadata, created, .. } = payment;
    if !payment.charged {
        return Value::Null;
    }
    let charge = id.replacen("pi_", "ch_", 1);
    let Some(refunded) = expanded else { return json!(charge) };
    let details = match payment.capture {
        Capture::Manual => {
            json!({"type": "card", "card": {"brand": "visa", "capture_before": created + AUTHORIZED_SECONDS}})
        }
        Capture::Automatic => json!({"type": "card", "card": {"brand": "visa"}}),
    };
    json!({"id": charge, "object": "charge", "amount": amount, "amount_refunded": refunded, "currency": currency, "metadata": metadata,
        "captured": payment.status == "succeeded", "payment_intent": id, "payment_method_details": details})
}

/// A refund.
#[must_use]
pub fn refund(refund: &Refund) -> Value {
    let Refund { id, payment, amount, currency, status, metadata, created } = refund;
    json!({"id": id, "object": "refund", "amount": amount, "currency": currency, "payment_intent": payment,
        "status": status, "metadata": metadata, "created": created})
}

/// One page of a list.
#[must_use]
pub fn list(url: &str, data: &[Value], has_more: bool) -> Value {
    json!({"object": "list", "url": url, "data": data, "has_more": has_more})
}

/// An event.
#[must_use]
pub fn event(id: &str, kind: &str, object: &Value, now: i64) -> Value {
    json!({"id": id, "object": "event", "api_version": API_VERSION, "created": now, "type": kind,
        "data": {"object": object}, "livemode": false, "pending_webhooks": 1,
        "request": {"id": null, "idempotency_key": null}})
}

/// An error. `about`: the payment that it names, as JSON.
#[must_use]
pub fn refusal(refusal: &Refusal, about: Option<Value>) -> Value {
    let Refusal { kind, code, message, param, decline_code, .. } = refusal;
    let mut error =
        serde_json::Map::from_iter([("type".to_owned(), json!(kind)), ("message".to_owned(), json!(message))]);
    let more = [
        ("code", Some(json!(code)).filter(|_| !code.is_empty())),
        ("param", param.map(|param| json!(param))),
        ("decline_code", decline_code.map(|code| json!(code))),
        ("payment_intent", about),
    ];
    error.extend(more.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
    json!({"error": error})
}
