//! The calls of Stripe's API that the fake answers, with idempotency keys as Stripe treats them: the first answer is
//! kept and repeated, the same key for another request is an error.

use super::books::Books;
use super::limits::{KEYS_MAX, PAGE_MAX};
use super::model::{Capture, NewPayment, Payment, Refusal};
use super::params::{Params, search};
use super::{methods, render};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

/// Parameters of a new payment.
const NEW_PAYMENT: &[&str] = &[
    "amount",
    "currency",
    "payment_method",
    "confirm",
    "capture_method",
    "automatic_payment_methods[enabled]",
    "automatic_payment_methods[allow_redirects]",
    "description",
    "return_url",
    "expand[]",
];

/// A request.
pub struct Request<'a> {
    pub method: &'a str,
    pub path: &'a str,
    pub query: &'a str,
    pub body: &'a str,
    pub key: Option<&'a str>,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub body: Value,
    /// Whether it is the kept answer to an earlier request.
    pub replayed: bool,
}

/// The API over its books.
#[derive(Default)]
pub struct Api {
    pub books: Books,
    keys: HashMap<String, (u64, Answer)>,
    /// Seconds by which the search lags behind.
    pub search_lag: i64,
}

impl Api {
    /// Answers a request at a time in seconds since 1970.
    pub fn answer(&mut self, request: &Request<'_>, now: i64) -> Answer {
        let Some(key) = request.key.filter(|_| request.method == "POST") else { return self.run(request, now).0 };
        let mut hasher = DefaultHasher::new();
        (request.path, request.body).hash(&mut hasher);
        let print = hasher.finish();
        match self.keys.get(key) {
            Some((known, answer)) if *known == print => return Answer { replayed: true, ..answer.clone() },
            Some(_) => {
                let message =
                    "Keys for idempotent requests can only be used with the same parameters they were first used with.";
                let other = Refusal { kind: "idempotency_error", ..Refusal::invalid("", None, message.to_owned()) };
                return self.refuse(&other);
            }
            None => {}
        }
        let (answer, kept) = self.run(request, now);
        if kept && self.keys.len() < KEYS_MAX {
            self.keys.insert(key.to_owned(), (print, answer.clone()));
        }
        answer
    }

    /// Forgets all idempotency keys, as Stripe does after a day.
    pub fn forget_keys(&mut self) {
        self.keys.clear();
    }

    fn refuse(&self, refusal: &Refusal) -> Answer {
        let about = refusal.payment.as_deref().and_then(|id| self.books.payment(id).ok());
        let about = about.map(|payment| render::payment(payment, &self.books.base, None));
        Answer { status: refusal.status, body: render::refusal(refusal, about), replayed: false }
    }

    /// Returns whether the request was executed, so that its answer is kept: one that was invalid was not.
    fn run(&mut self, request: &Request<'_>, now: i64) -> (Answer, bool) {
        match self.route(request, now) {
            Ok(body) => (Answer { status: 200, body, replayed: false }, true),
            Err(refusal) => {
                let validation = refusal.code.starts_with("parameter_")
                    || refusal.code == "payment_intent_incompatible_payment_method"
                    || refusal.status == 429;
                (self.refuse(&refusal), !validation)
            }
        }
    }

    fn route(&mut self, request: &Request<'_>, now: i64) -> Result<Value, Refusal> {
        let path = request.path.strip_prefix("/v1/").unwrap_or_default();
        let parts: Vec<&str> = path.split('/').collect();
        let (query, body) = (Params::parse(request.query), Params::parse(request.body));
        match (request.method, parts.as_slice()) {
            ("POST", ["payment_intents"]) => self.create(&body, now),
            ("GET", ["payment_intents"]) => self.list(&query),
            ("GET", ["payment_intents", "search"]) => self.search(&query, now),
            ("GET", ["payment_intents", id]) => self.shown(id, query.only(&["expand[]", "client_secret"])?),
            ("POST", ["payment_intents", id, "capture"]) => {
                let amount = body.only(&["amount_to_capture", "expand[]"])?.number("amount_to_capture")?;
                self.books.capture(id, amount, now)?;
                self.shown(id, &body)
            }
            ("POST", ["payment_intents", id, "cancel"]) => {
                let reason = body.only(&["cancellation_reason", "expand[]"])?.text("cancellation_reason");
                self.books.cancel(id, reason.map(str::to_owned), now)?;
                self.shown(id, &body)
            }
            ("GET", ["payment_methods", id]) => {
                let found = methods::find(id).ok_or_else(|| Refusal::missing("PaymentMethod", id, "payment_method"))?;
                Ok(json!({"id": id, "object": "payment_method", "type": found.kind, "livemode": false}))
            }
            ("POST", ["refunds"]) => self.refund(&body, now),
            ("GET", ["refunds"]) => self.refunds(&query),
            _ => {
                let message = format!("Unrecognized request URL ({}: {}).", request.method, request.path);
                Err(Refusal { status: 404, ..Refusal::invalid("", None, message) })
            }
        }
    }

    fn create(&mut self, params: &Params, now: i64) -> Result<Value, Refusal> {
        let params = params.only(NEW_PAYMENT)?;
        params.need("amount")?;
        let amount = params.number("amount")?.unwrap_or_default();
        if !(1..=99_999_999_999).contains(&amount) {
            return Err(Refusal::invalid(
                "parameter_invalid_integer",
                Some("amount"),
                "Invalid positive integer".to_owned(),
            ));
        }
        let confirm = params.text("confirm") == Some("true");
        if confirm {
            params.need("payment_method")?;
        }
        let redirects = params.text("automatic_payment_methods[allow_redirects]") != Some("never");
        if confirm && redirects && params.text("return_url").is_none() {
            let message = "You must provide a `return_url` when payment methods may redirect.".to_owned();
            return Err(Refusal::invalid("parameter_missing", Some("return_url"), message));
        }
        let owned = |name: &str| params.text(name).map(str::to_owned);
        let new = NewPayment {
            amount,
            currency: params.need("currency")?.to_owned(),
            capture: if params.text("capture_method") == Some("manual") { Capture::Manual } else { Capture::Automatic },
            method: owned("payment_method"),
            confirm,
            metadata: params.metadata(),
            description: owned("description"),
            return_url: owned("return_url"),
        };
        let id = self.books.create(new, now)?;
        self.shown(&id, params)
    }

    fn shown(&self, id: &str, params: &Params) -> Result<Value, Refusal> {
        let expanded = params.expands("latest_charge");
        Ok(self.render(self.books.payment(id)?, expanded))
    }

    fn render(&self, payment: &Payment, expanded: bool) -> Value {
        let refunded = expanded.then(|| self.books.refunded(&payment.id));
        render::payment(payment, &self.books.base, refunded)
    }

    /// Newest first.
    fn list(&self, query: &Params) -> Result<Value, Refusal> {
        let known = ["limit", "created[gte]", "created[lte]", "starting_after", "expand[]"];
        let query = query.only(&known)?;
        let (from, to) = (query.number("created[gte]")?, query.number("created[lte]")?);
        let within = |payment: &&Payment| {
            from.is_none_or(|from| payment.created >= from) && to.is_none_or(|to| payment.created <= to)
        };
        let after = query.text("starting_after");
        let mut rows = self.books.payments().iter().rev().filter(within);
        if let Some(after) = after {
            let _ = rows.by_ref().find(|payment| payment.id == after);
        }
        self.page("/v1/payment_intents", rows, query)
    }

    fn search(&self, query: &Params, now: i64) -> Result<Value, Refusal> {
        let query = query.only(&["query", "limit", "page", "expand[]"])?;
        let text = query.need("query")?;
        let invalid =
            || Refusal::invalid("parameter_invalid_string", Some("query"), format!("We were unable to parse: {text}"));
        let conditions = search(text).ok_or_else(invalid)?;
        let found = |payment: &&Payment| {
            let has = |(name, value): &(&str, &str)| payment.metadata.get(*name).is_some_and(|known| known == value);
            payment.created + self.search_lag <= now && conditions.iter().all(has)
        };
        let rows = self.books.payments().iter().rev().filter(found);
        self.page("/v1/payment_intents/search", rows, query)
    }

    fn page<'a>(
        &self,
        url: &str,
        mut rows: impl Iterator<Item = &'a Payment>,
        query: &Params,
    ) -> Result<Value, Refusal> {
        let limit =
            query.number("limit")?.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(10).clamp(1, PAGE_MAX);
        let expanded = query.expands("data.latest_charge");
        let page: Vec<Value> = rows.by_ref().take(limit).map(|payment| self.render(payment, expanded)).collect();
        Ok(render::list(url, &page, rows.next().is_some()))
    }

    fn refund(&mut self, params: &Params, now: i64) -> Result<Value, Refusal> {
        let params = params.only(&["payment_intent", "amount", "reason"])?;
        let (payment, amount) = (params.need("payment_intent")?, params.number("amount")?);
        let refund = self.books.refund(payment, amount, params.metadata(), now)?;
        Ok(render::refund(&refund))
    }

    fn refunds(&self, query: &Params) -> Result<Value, Refusal> {
        let query = query.only(&["payment_intent", "limit"])?;
        let of = query.need("payment_intent")?;
        let refunds = self.books.refunds().iter().rev().filter(|refund| refund.payment == of);
        let page: Vec<Value> = refunds.take(PAGE_MAX).map(render::refund).collect();
        Ok(render::list("/v1/refunds", &page, false))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn post(api: &mut Api, path: &str, body: &str, key: Option<&str>) -> Answer {
        api.answer(&Request { method: "POST", path, query: "", body, key }, 1_000)
    }

    const VISA: &str = "amount=5&currency=usd&payment_method=pm_card_visa&confirm=true&capture_method=manual&automatic_payment_methods%5Benabled%5D=true&automatic_payment_methods%5Ballow_redirects%5D=never";

    #[test]
    fn a_key_repeats_its_first_answer_and_serves_no_other_request() {
        let mut api = Api::default();
        let first = post(&mut api, "/v1/payment_intents", VISA, Some("k"));
        assert_eq!((first.status, first.replayed), (200, false));
        let again = post(&mut api, "/v1/payment_intents", VISA, Some("k"));
        assert_eq!((again.status, again.replayed, &again.body), (200, true, &first.body));
        let other = post(&mut api, "/v1/payment_intents", &VISA.replace("amount=5", "amount=6"), Some("k"));
        assert_eq!((other.status, &other.body["error"]["type"]), (400, &json!("idempotency_error")));
        assert_eq!(api.books.payments().len(), 1);
        let declined = VISA.replace("visa", "chargeDeclined");
        for replayed in [false, true] {
            let answer = post(&mut api, "/v1/payment_intents", &declined, Some("d"));
            assert_eq!((answer.status, answer.replayed), (402, replayed));
        }
        // What was invalid was not executed, and keeps no key.
        assert_eq!(post(&mut api, "/v1/payment_intents", "amount=5", Some("i")).status, 400);
        assert_eq!(post(&mut api, "/v1/payment_intents", VISA, Some("i")).status, 200);
        api.forget_keys();
        assert_ne!(post(&mut api, "/v1/payment_intents", VISA, Some("k")).body["id"], first.body["id"]);
    }

    #[test]
    fn lists_and_searches_are_pages() {
        let mut api = Api::default();
        for order in 0..5 {
            post(&mut api, "/v1/payment_intents", &format!("{VISA}&metadata%5Border_id%5D={order}"), None);
        }
        let mut get = |path: &str, query: &str| {
            let answer = api.answer(&Request { method: "GET", path, query, body: "", key: None }, 1_000);
            assert_eq!(answer.status, 200, "{answer:?}");
            let ids = answer.body["data"].as_array().unwrap().iter().map(|row| row["id"].clone()).collect::<Vec<_>>();
            (ids, answer.body["has_more"] == true)
        };
        let (first, more) = get("/v1/payment_intents", "limit=3&created[gte]=1000");
        assert_eq!((first.len(), more), (3, true));
        let after = format!("limit=3&starting_after={}", first[2].as_str().unwrap());
        let (second, more) = get("/v1/payment_intents", &after);
        assert_eq!((second.len(), more), (2, false));
        assert_eq!(get("/v1/payment_intents", "created[lte]=999").0, [Value::Null; 0]);
        let (found, _) = get("/v1/payment_intents/search", "query=metadata['order_id']:'3'");
        assert_eq!(found, [first[1].clone()]);
    }

    #[test]
    fn the_search_lags_behind_where_it_is_told_to() {
        let mut api = Api { search_lag: 60, ..Api::default() };
        post(&mut api, "/v1/payment_intents", &format!("{VISA}&metadata%5Border_id%5D=1"), None);
        let query = "query=metadata['order_id']:'1'";
        let request = Request { method: "GET", path: "/v1/payment_intents/search", query, body: "", key: None };
        for (now, found) in [(1_059, 0), (1_060, 1)] {
            assert_eq!(api.answer(&request, now).body["data"].as_array().unwrap().len(), found);
        }
    }

    #[test]
    fn unknown_routes_and_parameters_are_errors() {
        let mut api = Api::default();
        assert_eq!(post(&mut api, "/v1/charges", "", None).status, 404);
        assert_eq!(post(&mut api, "/v1/payment_intents/pi_x/capture", "", None).status, 404);
        let unknown = post(&mut api, "/v1/payment_intents", &format!("{VISA}&colour=red"), None);
        assert_eq!(unknown.body["error"]["code"], "parameter_unknown");
        let nobody = post(&mut api, "/v1/payment_intents", &VISA.replace("visa", "nobody"), None);
        assert_eq!((nobody.status, &nobody.body["error"]["param"]), (400, &json!("payment_method")));
    }
}
