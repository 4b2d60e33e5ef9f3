//! Purchases with Stripe, from HTTP alone, against the fake of its API.

use crate::server::{Account, Server, Setup};
use livedrop::payments::stripe::secret::StripeSecret;
use livedrop::tools::stripe_fake::{StripeFake, WEBHOOK_SECRET};
use reqwest::{Client, Method};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use tempfile::TempDir;

/// A server that is paid by the fake, with a live drop.
pub(crate) struct Shop {
    pub(crate) server: Server,
    pub(crate) fake: StripeFake,
    pub(crate) http: Client,
    pub(crate) maker: Account,
    pub(crate) drop: String,
    /// The server's configuration is in it.
    pub(crate) dir: TempDir,
}

impl Shop {
    pub(crate) async fn open() -> Self {
        Self::with("payments = 'stripe'\n").await
    }

    /// Opens a shop with these lines in the configuration.
    pub(crate) async fn with(lines: &str) -> Self {
        let secret = StripeSecret::new(WEBHOOK_SECRET.to_owned());
        let fake = StripeFake::start("127.0.0.1:0".parse().unwrap(), None, secret).await.expect("a fake");
        let dir = TempDir::new().expect("a folder");
        let file = dir.path().join("livedrop.toml");
        let text = format!(
            "{lines}stripe_secret_key = 'sk_test_1'\nstripe_webhook_secret = '{WEBHOOK_SECRET}'\nstripe_api_url = '{}'\n",
            fake.base()
        );
        fs::write(&file, text).expect("a configuration");
        let extra = vec!["--config".to_owned(), file.to_str().expect("text").to_owned()];
        let server = Server::set_up(Setup { extra, ..Setup::default() });
        let http = Client::builder().no_proxy().build().expect("a client");
        let (maker, drop) = server.live_drop(100, json!({})).await;
        let shop = Self { server, fake, http, maker, drop, dir };
        shop.control(Method::POST, "webhooks", json!({"url": format!("{}/webhooks/stripe", shop.server.base)})).await;
        shop
    }

    pub(crate) async fn control(&self, method: Method, path: &str, body: Value) -> Value {
        let request = self.http.request(method, format!("{}/fake/{path}", self.fake.base())).body(body.to_string());
        request.send().await.expect("an answer").json().await.expect("JSON")
    }

    /// Authorized, captured and refunded sums of an order in the fake's books.
    pub(crate) async fn sums(&self, order: &str) -> [i64; 3] {
        let books = self.control(Method::GET, "books", json!(null)).await;
        ["authorized", "captured", "refunded"].map(|sum| books["orders"][order][sum].as_i64().unwrap_or_default())
    }

    pub(crate) async fn books_say(&self, order: &str, sums: [i64; 3]) {
        self.server.until(&format!("the books say {sums:?}"), async || self.sums(order).await == sums).await;
    }

    /// Reserves one unit.
    pub(crate) async fn reserve(&self, buyer: &Account) -> String {
        let order = json!({"drop_id": self.drop, "quantity": 1});
        let (status, order) = self.server.order(buyer, "reserve", &order).await;
        assert_eq!(status, 201, "{order}");
        order["id"].as_str().expect("an id").to_owned()
    }

    pub(crate) async fn pay(&self, buyer: &Account, order: &str, method: &str) -> (u16, Value) {
        let body = json!({"payment_method": method});
        let (status, answer) = self.server.post(&format!("/orders/{order}/pay"), Some(buyer), body).await;
        (status.as_u16(), answer)
    }

    pub(crate) async fn order(&self, buyer: &Account, order: &str) -> Value {
        self.server.get(&format!("/orders/{order}"), Some(buyer)).await.1
    }

    pub(crate) async fn becomes(&self, buyer: &Account, order: &str, status: &str) {
        self.server.until(status, async || self.order(buyer, order).await["status"] == status).await;
    }

    /// The last attempt to pay an order.
    pub(crate) async fn payment(&self, buyer: &Account, order: &str) -> Value {
        let (status, payments) = self.server.get(&format!("/orders/{order}/payments"), Some(buyer)).await;
        assert_eq!(status, 200, "{payments}");
        payments["items"].as_array().expect("items").last().cloned().unwrap_or_default()
    }

    /// Begins a payment that the bank wants to ask about; returns the provider's reference.
    pub(crate) async fn begin_3ds(&self, buyer: &Account, order: &str) -> String {
        let (_, answer) = self.pay(buyer, order, "pm_card_authenticationRequired").await;
        assert_eq!(answer["code"], "payment_action_required", "{answer}");
        let payment = self.payment(buyer, order).await;
        let secret = payment["client_secret"].as_str().unwrap_or_default();
        let reference = secret.split("_secret").next().unwrap_or_default().to_owned();
        assert!(reference.starts_with("pi_"), "{payment}");
        reference
    }

    pub(crate) async fn end_3ds(&self, reference: &str, how: &str) {
        self.control(Method::POST, &format!("3ds/{reference}/{how}"), json!(null)).await;
    }
}

/// Whether a file below the folder has the text.
fn contains(folder: &Path, text: &str) -> bool {
    fs::read_dir(folder).expect("a folder").flatten().any(|entry| {
        let path = entry.path();
        match path.is_dir() {
            true => contains(&path, text),
            false => fs::read(&path).is_ok_and(|bytes| bytes.windows(text.len()).any(|part| part == text.as_bytes())),
        }
    })
}

#[tokio::test]
async fn a_purchase_with_3d_secure_from_order_to_refund() {
    let shop = Shop::open().await;
    let buyer = shop.server.account("buyer").await;
    let order = shop.reserve(&buyer).await;
    let reference = shop.begin_3ds(&buyer, &order).await;
    assert_eq!(shop.order(&buyer, &order).await["status"], "reserved");
    assert_eq!(shop.sums(&order).await, [0, 0, 0]);
    shop.end_3ds(&reference, "complete").await;
    shop.becomes(&buyer, &order, "confirmed").await;
    shop.books_say(&order, [0, 1_999, 0]).await;
    let paid = shop.order(&buyer, &order).await;
    assert_eq!((&paid["test"], &paid["payment_ref"]), (&json!(false), &json!(reference)), "{paid}");
    shop.server
        .until("the payment is captured", async || shop.payment(&buyer, &order).await["status"] == "captured")
        .await;
    let (status, refunded) = shop.server.post(&format!("/orders/{order}/refund"), Some(&shop.maker), json!({})).await;
    assert_eq!(status, 200, "{refunded}");
    shop.becomes(&buyer, &order, "refunded").await;
    shop.books_say(&order, [0, 1_999, 1_999]).await;
    // The secret is for the buyer alone.
    assert!(!contains(&shop.server.data, "_secret_fake") && contains(&shop.server.data, &reference));
    assert!(shop.payment(&buyer, &order).await["client_secret"].is_null());
}

#[tokio::test]
async fn a_card_that_is_declined_may_be_followed_by_another() {
    let shop = Shop::open().await;
    let buyer = shop.server.account("buyer").await;
    let order = shop.reserve(&buyer).await;
    for (method, reason) in [
        ("pm_card_chargeDeclinedInsufficientFunds", "insufficient_funds"),
        ("pm_card_visa_chargeDeclinedStolenCard", "card_declined"),
    ] {
        let (status, answer) = shop.pay(&buyer, &order, method).await;
        assert_eq!((status, &answer["code"]), (402, &json!("payment_declined")), "{answer}");
        assert_eq!(shop.payment(&buyer, &order).await["decline_reason"], reason);
        assert_eq!(shop.order(&buyer, &order).await["status"], "reserved");
    }
    let reference = shop.begin_3ds(&buyer, &order).await;
    shop.end_3ds(&reference, "fail").await;
    shop.server.until("it is declined", async || shop.payment(&buyer, &order).await["status"] == "declined").await;
    let (status, answer) = shop.pay(&buyer, &order, "pm_card_visa").await;
    assert_eq!(status, 200, "{answer}");
    shop.books_say(&order, [0, 1_999, 0]).await;
    assert_eq!(shop.payment(&buyer, &order).await["attempt"], 4);
}

#[tokio::test]
async fn nobody_is_charged_whose_order_was_cancelled_at_the_bank() {
    let shop = Shop::open().await;
    let buyer = shop.server.account("buyer").await;
    let order = shop.reserve(&buyer).await;
    let reference = shop.begin_3ds(&buyer, &order).await;
    let (status, answer) = shop.server.post(&format!("/orders/{order}/cancel"), Some(&buyer), json!({})).await;
    if status == 409 {
        // A payment runs: the order is cancelled when it has ended.
        assert_eq!(answer["code"], "payment_in_progress", "{answer}");
        shop.end_3ds(&reference, "fail").await;
        shop.server.until("it is declined", async || shop.payment(&buyer, &order).await["status"] == "declined").await;
        let (status, answer) = shop.server.post(&format!("/orders/{order}/cancel"), Some(&buyer), json!({})).await;
        assert_eq!(status, 200, "{answer}");
    } else {
        assert_eq!(status, 200, "{answer}");
        shop.end_3ds(&reference, "complete").await;
    }
    shop.becomes(&buyer, &order, "released").await;
    shop.books_say(&order, [0, 0, 0]).await;
    assert_eq!(shop.server.stock(&shop.drop).await, (100, 0, 0));
}

#[tokio::test]
async fn a_crash_while_the_buyer_is_at_the_bank_loses_nothing() {
    let mut shop = Shop::open().await;
    let (there, back) = (shop.server.account("there").await, shop.server.account("back").await);
    let orders = [shop.reserve(&there).await, shop.reserve(&back).await];
    let references = [shop.begin_3ds(&there, &orders[0]).await, shop.begin_3ds(&back, &orders[1]).await];
    shop.server.kill();
    // One authenticates while nobody listens, the other one after the restart.
    shop.end_3ds(&references[0], "complete").await;
    shop.server.restart();
    shop.becomes(&there, &orders[0], "confirmed").await;
    shop.end_3ds(&references[1], "complete").await;
    shop.becomes(&back, &orders[1], "confirmed").await;
    for order in &orders {
        shop.books_say(order, [0, 1_999, 0]).await;
    }
    assert_eq!(shop.server.stock(&shop.drop).await, (98, 0, 2));
}

#[tokio::test]
async fn a_lost_answer_charges_once() {
    let shop = Shop::open().await;
    let buyer = shop.server.account("buyer").await;
    let order = shop.reserve(&buyer).await;
    let fault = json!({"kind": "lost_answer", "method": "POST", "path": "/v1/payment_intents", "times": 3});
    shop.control(Method::POST, "faults", fault).await;
    let (status, answer) = shop.pay(&buyer, &order, "pm_card_visa").await;
    assert!(status == 200 || answer["code"] == "payment_timeout", "{answer}");
    shop.becomes(&buyer, &order, "confirmed").await;
    shop.books_say(&order, [0, 1_999, 0]).await;
}

/// Makes a payment at the provider that names an order, as one that was authorized when its attempt had ended.
pub(crate) async fn stray(shop: &Shop, order: &str, attempt: u32, capture: &str) {
    let form = [
        ("amount", "1999"),
        ("currency", "usd"),
        ("payment_method", "pm_card_visa"),
        ("confirm", "true"),
        ("capture_method", capture),
        ("automatic_payment_methods[enabled]", "true"),
        ("automatic_payment_methods[allow_redirects]", "never"),
        ("metadata[order_id]", order),
        ("metadata[attempt]", &attempt.to_string()),
    ];
    let form = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
    let request = shop.http.post(format!("{}/v1/payment_intents", shop.fake.base())).bearer_auth("sk_test_1");
    let request = request.header("content-type", "application/x-www-form-urlencoded").body(form);
    assert_eq!(request.send().await.expect("an answer").status(), 200);
}

#[tokio::test]
async fn nobody_stays_charged_twice_whatever_crashes() {
    let mut shop = Shop::open().await;
    let (once, never) = (shop.server.account("once").await, shop.server.account("never").await);
    let (paid, held) = (shop.reserve(&once).await, shop.reserve(&never).await);
    assert_eq!(shop.pay(&once, &paid, "pm_card_visa").await.0, 200);
    shop.books_say(&paid, [0, 1_999, 0]).await;
    // Nothing can be given back for now, and the server ends before it can be.
    for path in ["/v1/refunds", "/v1/payment_intents/pi_"] {
        shop.control(Method::POST, "faults", json!({"kind": "answer", "status": 500, "path": path, "times": 100_000}))
            .await;
    }
    stray(&shop, &paid, 7, "manual").await;
    stray(&shop, &paid, 8, "automatic").await;
    stray(&shop, &held, 3, "manual").await;
    // Another server may share the account: its orders are not known here.
    let foreign = livedrop::domain::OrderId::new().to_string();
    stray(&shop, &foreign, 1, "manual").await;
    shop.server
        .until("they were tried", async || {
            let calls = shop.control(Method::GET, "calls", json!(null)).await;
            let is_look_up = |call: &&Value| call["path"].as_str().is_some_and(|path| path.contains("/pi_"));
            calls["data"].as_array().is_some_and(|calls| calls.iter().filter(is_look_up).count() >= 3)
        })
        .await;
    shop.server.kill();
    assert_eq!((shop.sums(&paid).await, shop.sums(&held).await), ([1_999, 3_998, 0], [1_999, 0, 0]));
    shop.control(Method::DELETE, "faults", json!(null)).await;
    shop.server.restart();
    shop.books_say(&paid, [0, 3_998, 1_999]).await;
    shop.books_say(&held, [0, 0, 0]).await;
    assert_eq!(shop.sums(&foreign).await, [1_999, 0, 0]);
    assert_eq!(shop.order(&once, &paid).await["status"], "confirmed");
    assert_eq!(shop.order(&never, &held).await["status"], "reserved");
}

#[tokio::test]
async fn a_refund_that_failed_and_a_dispute_are_in_the_orders_history() {
    let shop = Shop::open().await;
    let buyer = shop.server.account("buyer").await;
    let order = shop.reserve(&buyer).await;
    assert_eq!(shop.pay(&buyer, &order, "pm_card_refundFail").await.0, 200);
    shop.books_say(&order, [0, 1_999, 0]).await;
    let reference = shop.order(&buyer, &order).await["payment_ref"].as_str().expect("a reference").to_owned();
    shop.control(Method::POST, &format!("payments/{reference}/dispute"), json!(null)).await;
    let kinds = async |who: &Account| {
        let (_, history) = shop.server.get(&format!("/orders/{order}/history"), Some(who)).await;
        let steps = history["items"].as_array().expect("steps").iter();
        steps.map(|step| step["type"].as_str().unwrap_or_default().to_owned()).collect::<Vec<_>>()
    };
    let has = async |kind: &str| kinds(&shop.maker).await.iter().any(|step| step == kind);
    shop.server.until("the seller sees the dispute", async || has("dispute_opened").await).await;
    let (status, refunded) = shop.server.post(&format!("/orders/{order}/refund"), Some(&shop.maker), json!({})).await;
    assert_eq!(status, 200, "{refunded}");
    shop.server.until("the seller sees that the refund failed", async || has("refund_failed").await).await;
    // However often the provider repeats it.
    shop.control(Method::POST, "webhooks/repeat", json!(null)).await;
    let steps = kinds(&buyer).await;
    for kind in ["reserved", "confirmed", "refund_due", "refunded", "dispute_opened", "refund_failed"] {
        assert_eq!(steps.iter().filter(|step| *step == kind).count(), 1, "{steps:?}");
    }
}

#[tokio::test]
async fn a_provider_that_is_down_is_said_to_be_and_holds_stay() {
    let shop = Shop::open().await;
    let buyer = shop.server.account("buyer").await;
    let order = shop.reserve(&buyer).await;
    let check = async || shop.server.readiness().await.1["checks"]["payments"].clone();
    let up = json!({"status": "ready", "each": [{"provider": "stripe", "status": "ready", "down_since": null, "retry_at": null}]});
    assert_eq!(check().await, up);
    // Certainly not looked at: each call is one failure for the breaker.
    shop.control(Method::POST, "faults", json!({"kind": "answer", "status": 429, "times": 1_000})).await;
    for _ in 0..5 {
        let (status, answer) = shop.pay(&buyer, &order, "pm_card_visa").await;
        assert_eq!((status, &answer["code"]), (503, &json!("payment_unavailable")), "{answer}");
        assert_eq!(shop.order(&buyer, &order).await["status"], "reserved");
    }
    let down = check().await;
    assert_eq!((&down["status"], &down["each"][0]["status"]), (&json!("degraded"), &json!("degraded")), "{down}");
    assert!(down["each"][0]["down_since"].is_string() && down["each"][0]["retry_at"].is_string(), "{down}");
    // From now on no attempt is used up, however often the buyer tries.
    let attempts = async || {
        let (_, payments) = shop.server.get(&format!("/orders/{order}/payments"), Some(&buyer)).await;
        payments["items"].as_array().expect("items").len()
    };
    assert_eq!(attempts().await, 5);
    for _ in 0..12 {
        let (status, answer) = shop.pay(&buyer, &order, "pm_card_visa").await;
        assert_eq!((status, &answer["code"]), (503, &json!("payment_unavailable")), "{answer}");
    }
    // An order that pays at once is held all the same.
    let late = shop.server.account("late").await;
    let at_once = json!({"drop_id": shop.drop, "quantity": 1, "payment_method": "pm_card_visa"});
    let (status, answer) = shop.server.order(&late, "at once", &at_once).await;
    assert_eq!((status.as_u16(), &answer["code"]), (503, &json!("payment_unavailable")), "{answer}");
    assert_eq!(shop.server.stock(&shop.drop).await, (98, 2, 0));
    shop.control(Method::DELETE, "faults", json!(null)).await;
    // The buyer waits as long as is said.
    let deadline = tokio::time::Instant::now() + crate::server::SOON;
    loop {
        let body = json!({"payment_method": "pm_card_visa"});
        let answer = shop.server.http.post(shop.server.url(&format!("/orders/{order}/pay"))).bearer_auth(&buyer.token);
        let answer = answer.json(&body).send().await.expect("an answer");
        if answer.status() == 200 {
            break;
        }
        let wait = answer.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
        let wait: u64 = wait.unwrap_or_else(|| panic!("no time to try again: {}", answer.status()));
        assert!(tokio::time::Instant::now() < deadline, "still not paid");
        tokio::time::sleep(std::time::Duration::from_secs(wait)).await;
    }
    assert_eq!(check().await, up);
    shop.books_say(&order, [0, 1_999, 0]).await;
    let (status, answer) = shop.server.order(&late, "at once", &at_once).await;
    assert_eq!((status.as_u16(), &answer["status"]), (201, &json!("confirmed")), "{answer}");
}

#[tokio::test]
async fn hanging_charges_do_not_hold_up_other_orders() {
    const CHARGES: usize = 500;
    let shop = Shop::with("payments = 'stripe,sandbox'\nrate_limits = 'off'\npayment_timeout_ms = 600000\n").await;
    let (_, hot) = shop.server.live_drop(1_000, json!({})).await;
    shop.control(Method::POST, "faults", json!({"kind": "hang", "times": 1_000_000})).await;
    let crowd = shop.server.account("crowd").await;
    let charges: Vec<_> = (0..CHARGES)
        .map(|number| {
            let order = json!({"drop_id": hot, "quantity": 1, "payment_method": "pm_card_visa"});
            let request = shop.server.http.post(shop.server.url("/orders")).bearer_auth(&crowd.token);
            tokio::spawn(request.header("Idempotency-Key", format!("hangs {number}")).json(&order).send())
        })
        .collect();
    let hanging = async || {
        let calls = shop.control(Method::GET, "calls", json!(null)).await;
        calls["data"].as_array().expect("calls").len() >= 64
    };
    shop.server.until("as many charges hang as may run at once", hanging).await;
    let buyer = shop.server.account("buyer").await;
    for number in 0..50 {
        let order = json!({"drop_id": shop.drop, "quantity": 1, "payment_method": "pm_sandbox_ok"});
        let (status, order) = shop.server.order(&buyer, &format!("sandbox {number}"), &order).await;
        assert_eq!((status.as_u16(), &order["status"]), (201, &json!("confirmed")), "{order}");
    }
    let calls = shop.control(Method::GET, "calls", json!(null)).await["data"].as_array().expect("calls").len();
    assert!(calls < CHARGES, "the others wait, or were refused at once: {calls}");
    assert!(charges.iter().filter(|charge| !charge.is_finished()).count() >= 64, "the first ones still hang");
    charges.iter().for_each(tokio::task::JoinHandle::abort);
}

/// The call of Stripe's API during which the server is killed.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Step {
    Authorize,
    Capture,
    Refund,
}

impl Step {
    /// The beginning of its path, which no other changing call has.
    fn path(self) -> &'static str {
        match self {
            Self::Authorize => "/v1/payment_intents",
            Self::Capture => "/v1/payment_intents/",
            Self::Refund => "/v1/refunds",
        }
    }
}

/// Kills the server while a call of this step meets the fault; checks the books and the order after a restart.
async fn killed_during(step: Step, kind: &str) {
    let mut shop = Shop::open().await;
    let buyer = shop.server.account("buyer").await;
    let order = shop.reserve(&buyer).await;
    if step == Step::Refund {
        assert_eq!(shop.pay(&buyer, &order, "pm_card_visa").await.0, 200);
        shop.books_say(&order, [0, 1_999, 0]).await;
    }
    let fault = json!({"kind": kind, "method": "POST", "path": step.path(), "times": 1_000_000});
    shop.control(Method::POST, "faults", fault).await;
    // The answer may never come.
    let (path, who, body) = match step {
        Step::Authorize | Step::Capture => ("pay", &buyer, json!({"payment_method": "pm_card_visa"})),
        Step::Refund => ("refund", &shop.maker, json!({})),
    };
    let request = shop.server.http.post(shop.server.url(&format!("/orders/{order}/{path}"))).bearer_auth(&who.token);
    let asked = tokio::spawn(request.json(&body).send());
    let reached = async || {
        let calls = shop.control(Method::GET, "calls", json!(null)).await;
        let calls = calls["data"].as_array().expect("calls");
        let is = |call: &Value| {
            call["method"] == "POST" && call["path"].as_str().is_some_and(|path| path.starts_with(step.path()))
        };
        calls.iter().any(is)
    };
    shop.server.until(&format!("the call of {step:?}"), reached).await;
    shop.server.kill();
    let _ = asked.await;
    shop.control(Method::DELETE, "faults", json!(null)).await;
    shop.server.restart();
    let ended = async || {
        let status = shop.payment(&buyer, &order).await["status"].as_str().unwrap_or_default().to_owned();
        match step {
            Step::Authorize => ["captured", "not_made"].contains(&status.as_str()),
            Step::Capture => status == "captured",
            Step::Refund => status == "refunded",
        }
    };
    shop.server.until(&format!("an end of {step:?} with {kind}"), ended).await;
    let status = shop.order(&buyer, &order).await["status"].as_str().unwrap_or_default().to_owned();
    let expected = match (step, status.as_str()) {
        (Step::Authorize | Step::Capture, "confirmed") => [0, 1_999, 0],
        // The bank was never asked: the buyer may pay while the hold lasts.
        (Step::Authorize, "reserved") => [0, 0, 0],
        (Step::Refund, "refunded") => [0, 1_999, 1_999],
        other => panic!("{kind}: {other:?}"),
    };
    shop.books_say(&order, expected).await;
}

#[tokio::test]
async fn a_kill_during_any_call_charges_once_and_refunds_once() {
    for step in [Step::Authorize, Step::Capture, Step::Refund] {
        for kind in ["lost_request", "lost_answer", "hang"] {
            killed_during(step, kind).await;
        }
    }
}
