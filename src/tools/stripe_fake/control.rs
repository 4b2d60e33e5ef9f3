//! What a test asks of the fake beside Stripe's API: the bank's page, faults, webhooks, and the books.

use super::books::Books;
use super::delivery::Change;
use super::faults::Fault;
use super::model::Refusal;
use super::shared::Shared;
use super::webhooks;
use crate::actors::clock::system_time;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// An answer of the fake itself.
pub enum Said {
    Json(u16, Value),
    Page(String),
    /// Back to the shop.
    SeeOther(String),
}

/// Answers a call of `/fake/…`.
pub async fn answer(shared: &Arc<Shared>, method: &str, path: &str, body: &str) -> Said {
    let path = path.strip_prefix("/fake/").unwrap_or_default();
    let parts: Vec<&str> = path.split('/').collect();
    match (method, parts.as_slice()) {
        ("GET", ["books"]) => Said::Json(200, books(&shared.api().books)),
        ("GET", ["calls"]) => Said::Json(200, json!({"data": shared.calls()})),
        ("GET", ["events"]) => Said::Json(200, json!({"data": shared.api().books.events()})),
        ("GET", ["3ds", id]) => page(shared, id),
        ("POST", ["3ds", id, end @ ("complete" | "fail")]) => acted(shared, id, *end == "complete"),
        ("POST", ["payments", id, what]) => happened(shared, id, what),
        ("POST", ["faults"]) => match read::<Fault>(body) {
            Ok(fault) => match shared.faults().add(fault) {
                true => done(),
                false => Said::Json(400, json!({"error": "no room for this fault, or it never happens"})),
            },
            Err(said) => said,
        },
        ("DELETE", ["faults"]) => {
            shared.faults().clear();
            done()
        }
        ("POST", ["webhooks"]) => match read::<Change>(body) {
            Ok(change) => {
                shared.change_delivery(change);
                done()
            }
            Err(said) => said,
        },
        ("POST", ["webhooks", "repeat"]) => {
            let accepted = webhooks::repeat(Arc::clone(shared)).await;
            Said::Json(200, json!({"accepted": accepted}))
        }
        ("POST", ["search"]) => match read::<Search>(body) {
            Ok(Search { lag_seconds }) => {
                shared.api().search_lag = lag_seconds;
                done()
            }
            Err(said) => said,
        },
        ("POST", ["keys", "forget"]) => {
            shared.api().forget_keys();
            done()
        }
        _ => Said::Json(404, json!({"error": "the fake has no such path"})),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Search {
    lag_seconds: i64,
}

fn read<T: DeserializeOwned>(body: &str) -> Result<T, Said> {
    serde_json::from_str(body).map_err(|error| Said::Json(400, json!({"error": error.to_string()})))
}

fn done() -> Said {
    Said::Json(200, json!({"done": true}))
}

fn refused(refusal: &Refusal) -> Said {
    Said::Json(refusal.status, json!({"error": refusal.message}))
}

/// The page of the buyer's bank.
fn page(shared: &Shared, id: &str) -> Said {
    let api = shared.api();
    let payment = match api.books.payment(id) {
        Ok(payment) => payment,
        Err(refusal) => return refused(&refusal),
    };
    // Ids are made by the fake, and amounts are numbers: nothing here needs escaping.
    let form = |end: &str, label: &str| {
        format!("<form method=\"post\" action=\"/fake/3ds/{}/{end}\"><button>{label}</button></form>", payment.id)
    };
    let forms = match payment.status {
        "requires_action" => form("complete", "Complete authentication") + &form("fail", "Fail authentication"),
        status => format!("<p>Nothing to do: the payment is {status}.</p>"),
    };
    Said::Page(format!(
        "<!doctype html><html lang=\"en\"><title>3-D Secure (fake)</title><h1>Pay {} {}?</h1>{forms}</html>",
        payment.amount, payment.currency
    ))
}

fn acted(shared: &Shared, id: &str, completed: bool) -> Said {
    let mut api = shared.api();
    if let Err(refusal) = api.books.act(id, completed, system_time().as_millis() / 1_000) {
        return refused(&refusal);
    }
    let payment = api.books.payment(id).map(|payment| (payment.return_url.clone(), payment.status));
    drop(api);
    shared.changed.notify_waiters();
    match payment {
        Ok((Some(url), _)) => {
            let sign = if url.contains('?') { '&' } else { '?' };
            Said::SeeOther(format!("{url}{sign}payment_intent={id}"))
        }
        Ok((None, status)) => Said::Json(200, json!({"id": id, "status": status})),
        Err(refusal) => refused(&refusal),
    }
}

/// What happens to a payment without a call: the bank's late answer, the end of an authorization, a dispute.
fn happened(shared: &Shared, id: &str, what: &str) -> Said {
    let now = system_time().as_millis() / 1_000;
    let mut api = shared.api();
    let changed = match what {
        "process" => api.books.process(id, true, now),
        "refuse" => api.books.process(id, false, now),
        "expire" => api.books.cancel(id, Some("automatic".to_owned()), now),
        "dispute" => api.books.payment(id).map(|payment| payment.amount).map(|amount| {
            let dispute = json!({"id": format!("du_{id}"), "object": "dispute", "amount": amount,
                "payment_intent": id, "reason": "fraudulent", "status": "needs_response", "metadata": {}});
            api.books.event("charge.dispute.created", &dispute, now);
        }),
        _ => return Said::Json(404, json!({"error": "must be process, refuse, expire or dispute"})),
    };
    drop(api);
    shared.changed.notify_waiters();
    changed.map_or_else(|refusal| refused(&refusal), |()| done())
}

/// The books for an audit: per order what was authorized, taken and given back, in the currency's units at Stripe.
fn books(books: &Books) -> Value {
    #[derive(Default)]
    struct Order {
        authorized: i64,
        captured: i64,
        refunded: i64,
        payments: Vec<Value>,
    }
    let mut orders: BTreeMap<&str, Order> = BTreeMap::new();
    for payment in books.payments() {
        let Some(order) = payment.metadata.get("order_id") else { continue };
        let refunded = books.refunded(&payment.id);
        let order = orders.entry(order).or_default();
        order.authorized += if payment.status == "requires_capture" { payment.amount } else { 0 };
        order.captured += payment.amount_received;
        order.refunded += refunded;
        order.payments.push(json!({"id": payment.id, "status": payment.status, "amount": payment.amount,
            "currency": payment.currency, "attempt": payment.metadata.get("attempt"),
            "captured": payment.amount_received, "refunded": refunded}));
    }
    let total = |of: fn(&Order) -> i64| orders.values().map(of).sum::<i64>();
    let totals = json!({"orders": orders.len(), "authorized": total(|order| order.authorized),
        "captured": total(|order| order.captured), "refunded": total(|order| order.refunded)});
    let orders: BTreeMap<&str, Value> = orders
        .iter()
        .map(|(id, Order { authorized, captured, refunded, payments })| {
            let order =
                json!({"authorized": authorized, "captured": captured, "refunded": refunded, "payments": payments});
            (*id, order)
        })
        .collect();
    json!({"orders": orders, "totals": totals})
}
