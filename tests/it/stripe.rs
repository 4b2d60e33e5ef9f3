//! The client of Stripe against the fake of its API, and signatures against Stripe's own library.

use crate::node;
use crate::stripe_mock::StripeMock;
use livedrop::domain::{Money, OrderId, Timestamp, UserId};
use livedrop::payments::gateway::{Charge, DeclineReason, GatewayError, PaymentGateway, PaymentState, PaymentStatus};
use livedrop::payments::stripe::Stripe;
use livedrop::payments::stripe::config::StripeConfig;
use livedrop::payments::stripe::secret::StripeSecret;
use livedrop::payments::stripe::signature::{SignatureError, sign, verify};
use livedrop::tools::stripe_fake::{StripeFake, WEBHOOK_SECRET};
use reqwest::{Client, Method};
use serde_json::{Value, json};
use std::io::{BufRead, Write};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The fake, and a client of it whose clock a test can set forward.
struct Shop {
    fake: StripeFake,
    stripe: Stripe,
    later_ms: Arc<AtomicI64>,
    http: Client,
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a time").as_millis().try_into().expect("a time")
}

impl Shop {
    async fn open() -> Self {
        Self::with(|_| {}).await
    }

    async fn with(change: impl FnOnce(&mut StripeConfig)) -> Self {
        let secret = StripeSecret::new(WEBHOOK_SECRET.to_owned());
        let fake = StripeFake::start("127.0.0.1:0".parse().unwrap(), None, secret).await.expect("a fake");
        let mut config = StripeConfig::new(StripeSecret::new("sk_test_1".to_owned()));
        config.api = fake.base().parse().expect("an address on this machine");
        change(&mut config);
        let later_ms = Arc::new(AtomicI64::new(0));
        let later = Arc::clone(&later_ms);
        let now = Arc::new(move || Timestamp::from_millis(now_ms() + later.load(Ordering::SeqCst)));
        let stripe = Stripe::new(config, now).expect("a client");
        Self { fake, stripe, later_ms, http: Client::builder().no_proxy().build().expect("a client") }
    }

    async fn control(&self, method: Method, path: &str, body: Value) -> Value {
        let request = self.http.request(method, format!("{}/fake/{path}", self.fake.base()));
        let answer = request.body(body.to_string()).send().await.expect("an answer");
        assert_eq!(answer.status(), 200, "{path}");
        answer.json().await.expect("JSON")
    }

    async fn fault(&self, fault: Value) {
        self.control(Method::POST, "faults", fault).await;
    }

    /// What the books say of an order.
    async fn order(&self, order: OrderId) -> Value {
        self.control(Method::GET, "books", json!(null)).await["orders"][order.to_string()].clone()
    }

    /// Authorized, captured and refunded sums of an order, and its number of payments.
    async fn sums(&self, order: OrderId) -> (i64, i64, i64, usize) {
        let order = self.order(order).await;
        let sum = |name: &str| order[name].as_i64().unwrap_or_default();
        (sum("authorized"), sum("captured"), sum("refunded"), order["payments"].as_array().map_or(0, Vec::len))
    }

    async fn look_up(&self, order: OrderId, reference: Option<&str>) -> PaymentStatus {
        self.stripe.look_up(order, 1, reference).await.expect("an answer")
    }
}

fn usd(amount: i64) -> Money {
    Money { amount, currency: "USD".parse().expect("a currency") }
}

fn charge(method: &str) -> Charge {
    Charge { order: OrderId::new(), attempt: 1, amount: usd(1_999), method: method.to_owned(), buyer: UserId::new() }
}

fn reference(status: &PaymentStatus) -> String {
    match status {
        PaymentStatus::Captured { reference }
        | PaymentStatus::Authorized { reference, .. }
        | PaymentStatus::RequiresAction { reference, .. }
        | PaymentStatus::Pending { reference } => reference.clone(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn money_is_authorized_captured_and_given_back_once_however_often_it_is_asked() {
    let shop = Shop::open().await;
    let charge = charge("pm_card_visa");
    let order = charge.order;
    let authorized = shop.stripe.authorize(&charge).await.unwrap();
    let PaymentStatus::Authorized { capture_before: Some(until), .. } = &authorized else { panic!("{authorized:?}") };
    let days = until.millis_since(Timestamp::from_millis(now_ms())) / 86_400_000;
    assert!((6..=7).contains(&days), "{until}");
    let reference = reference(&authorized);
    assert_eq!(shop.stripe.authorize(&charge).await.unwrap(), authorized, "the same payment");
    assert_eq!(shop.sums(order).await, (1_999, 0, 0, 1));
    for _ in 0..2 {
        shop.stripe.capture(order, &reference, usd(1_999)).await.unwrap();
    }
    assert_eq!(shop.sums(order).await, (0, 1_999, 0, 1));
    assert_eq!(shop.look_up(order, Some(&reference)).await, PaymentStatus::Captured { reference: reference.clone() });
    for (part, refund, refunded) in
        [(Some(usd(500)), "one", 500), (Some(usd(500)), "two", 1_000), (None, "rest", 1_999)]
    {
        for _ in 0..2 {
            shop.stripe.give_back(order, &reference, part, refund).await.unwrap();
            assert_eq!(shop.sums(order).await, (0, 1_999, refunded, 1), "{refund}");
        }
    }
    // Stripe forgets keys after a day. The same refunds are still the same.
    shop.control(Method::POST, "keys/forget", json!(null)).await;
    shop.stripe.give_back(order, &reference, Some(usd(500)), "one").await.unwrap();
    let more = shop.stripe.give_back(order, &reference, Some(usd(1)), "more").await;
    assert!(matches!(more, Err(GatewayError::Refused { .. })), "{more:?}");
    assert_eq!(shop.sums(order).await, (0, 1_999, 1_999, 1));
}

#[tokio::test]
async fn an_authorization_that_is_given_back_was_never_charged() {
    let shop = Shop::open().await;
    let charge = charge("pm_card_visa");
    let reference = reference(&shop.stripe.authorize(&charge).await.unwrap());
    let part = shop.stripe.give_back(charge.order, &reference, Some(usd(1)), "part").await;
    assert!(matches!(part, Err(GatewayError::NotYet { .. })), "{part:?}");
    for _ in 0..2 {
        shop.stripe.give_back(charge.order, &reference, None, "all").await.unwrap();
    }
    assert_eq!(shop.sums(charge.order).await, (0, 0, 0, 1));
    assert_eq!(
        shop.look_up(charge.order, Some(&reference)).await,
        PaymentStatus::Cancelled { reference: reference.clone() }
    );
    let late = shop.stripe.capture(charge.order, &reference, usd(1_999)).await;
    assert!(matches!(late, Err(GatewayError::Refused { retry_after: None, .. })), "{late:?}");
}

#[tokio::test]
async fn declines_have_reasons() {
    let shop = Shop::open().await;
    for (method, expected) in [
        ("pm_card_chargeDeclined", DeclineReason::CardDeclined),
        ("pm_card_visa_chargeDeclinedLostCard", DeclineReason::CardDeclined),
        ("pm_card_chargeDeclinedInsufficientFunds", DeclineReason::InsufficientFunds),
        ("pm_card_chargeDeclinedExpiredCard", DeclineReason::ExpiredCard),
        ("pm_card_chargeDeclinedIncorrectCvc", DeclineReason::IncorrectCvc),
        ("pm_card_chargeDeclinedProcessingError", DeclineReason::ProcessingError),
        ("pm_1NoSuchMethod", DeclineReason::MethodUnusable),
    ] {
        let charge = charge(method);
        let status = shop.stripe.authorize(&charge).await.unwrap();
        assert!(
            matches!(&status, PaymentStatus::Declined { reason, .. } if *reason == expected),
            "{method}: {status:?}"
        );
        assert_eq!(shop.stripe.authorize(&charge).await.unwrap(), status, "{method}: it stays declined");
    }
    for method in ["pm_sandbox_ok", "card", "pm_card visa", "pm_card/../x", &format!("pm_{}", "a".repeat(62))] {
        assert!(!shop.stripe.accepts(method), "{method}");
    }
}

#[tokio::test]
async fn a_buyer_authenticates_at_the_bank_or_does_not() {
    let shop = Shop::open().await;
    for (end, paid) in [("complete", true), ("fail", false)] {
        let charge = charge("pm_card_authenticationRequired");
        let status = shop.stripe.authorize(&charge).await.unwrap();
        let PaymentStatus::RequiresAction { reference, client_secret, url } = &status else { panic!("{status:?}") };
        assert!(client_secret.as_ref().is_some_and(|secret| secret.starts_with(reference.as_str())), "{status:?}");
        assert_eq!(*url, None, "by Stripe's script");
        assert_eq!(shop.look_up(charge.order, Some(reference)).await, status);
        shop.control(Method::POST, &format!("3ds/{reference}/{end}"), json!(null)).await;
        for lookup in [Some(reference.as_str()), None] {
            match shop.look_up(charge.order, lookup).await {
                PaymentStatus::Authorized { .. } if paid => {}
                PaymentStatus::Declined { reason: DeclineReason::AuthenticationFailed, .. } if !paid => {}
                other => panic!("{end}: {other:?}"),
            }
        }
        // The buyer's page has the secret of the declined payment, and nobody can pay it any more.
        let state = shop.order(charge.order).await["payments"][0]["status"].clone();
        assert_eq!(state, if paid { "requires_capture" } else { "canceled" });
    }
}

#[tokio::test]
async fn a_bank_has_a_page_where_the_shop_has_one_to_come_back_to() {
    let shop = Shop::with(|config| config.return_url = Some("https://shop.example/paid?x=1".parse().unwrap())).await;
    let charge = charge("pm_card_threeDSecure2Required");
    let status = shop.stripe.authorize(&charge).await.unwrap();
    let PaymentStatus::RequiresAction { url: Some(url), reference, .. } = &status else { panic!("{status:?}") };
    let page = shop.http.get(url).send().await.unwrap().text().await.unwrap();
    assert!(page.contains(&format!("/fake/3ds/{reference}/complete")), "{page}");
    let back = Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let back = back.post(format!("{url}/complete")).send().await.unwrap();
    let location = back.headers()["location"].to_str().unwrap();
    assert_eq!(location, format!("https://shop.example/paid?x=1&payment_intent={reference}"));
    assert!(matches!(shop.look_up(charge.order, None).await, PaymentStatus::Authorized { .. }));
}

#[tokio::test]
async fn a_lost_answer_is_asked_for_again() {
    let shop = Shop::open().await;
    let charge = charge("pm_card_visa");
    shop.fault(json!({"kind": "lost_answer", "method": "POST"})).await;
    let status = shop.stripe.authorize(&charge).await.unwrap();
    assert!(matches!(status, PaymentStatus::Authorized { .. }), "{status:?}");
    assert_eq!(shop.sums(charge.order).await, (1_999, 0, 0, 1));
}

#[tokio::test]
async fn a_payment_is_found_whose_answer_never_came() {
    let shop = Shop::open().await;
    // The search shows it, or lags behind and the list shows it.
    for lag in [0, 3_600] {
        shop.control(Method::POST, "search", json!({"lag_seconds": lag})).await;
        let charge = charge("pm_card_visa");
        shop.fault(json!({"kind": "lost_answer", "method": "POST", "times": 3})).await;
        let lost = shop.stripe.authorize(&charge).await;
        assert!(matches!(lost, Err(GatewayError::Unreachable { .. })), "{lost:?}");
        let found = shop.look_up(charge.order, None).await;
        assert!(matches!(found, PaymentStatus::Authorized { .. }), "{found:?}");
        assert_eq!(shop.sums(charge.order).await, (1_999, 0, 0, 1));
    }
    // Or the account must not search.
    let charge_unsearched = charge("pm_card_visa");
    shop.stripe.authorize(&charge_unsearched).await.unwrap();
    shop.fault(json!({"kind": "answer", "status": 403, "path": "/v1/payment_intents/search"})).await;
    assert!(matches!(shop.look_up(charge_unsearched.order, None).await, PaymentStatus::Authorized { .. }));
    // Two days later the keys are forgotten, and the payment is still found.
    let charge = charge("pm_card_visa");
    shop.stripe.authorize(&charge).await.unwrap();
    shop.control(Method::POST, "keys/forget", json!(null)).await;
    shop.later_ms.store(48 * 60 * 60 * 1_000, Ordering::SeqCst);
    assert!(matches!(shop.look_up(charge.order, None).await, PaymentStatus::Authorized { .. }));
}

#[tokio::test]
async fn what_is_unknown_stays_unknown_when_it_arrives_late() {
    let shop = Shop::open().await;
    for method in ["pm_card_visa", "pm_usBankAccount_success"] {
        let charge = charge(method);
        shop.fault(json!({"kind": "lost_request", "method": "POST", "times": 3})).await;
        let lost = shop.stripe.authorize(&charge).await;
        assert!(matches!(lost, Err(GatewayError::Unreachable { .. })), "{lost:?}");
        for _ in 0..2 {
            assert_eq!(shop.look_up(charge.order, None).await, PaymentStatus::Unknown, "{method}");
        }
        // The request that was thought lost arrives now.
        let late = shop.stripe.authorize(&charge).await;
        assert!(matches!(late, Err(GatewayError::NotYet { .. } | GatewayError::Refused { .. })), "{late:?}");
        assert_eq!(shop.look_up(charge.order, None).await, PaymentStatus::Unknown, "{method}");
        assert_eq!(shop.sums(charge.order).await, (0, 0, 0, 0), "{method}");
    }
}

#[tokio::test]
async fn it_is_said_what_certainly_did_not_happen() {
    let shop = Shop::open().await;
    let authorize = async || shop.stripe.authorize(&charge("pm_card_visa")).await;
    shop.fault(json!({"kind": "answer", "status": 503, "times": 3})).await;
    assert!(matches!(authorize().await, Err(GatewayError::Unreachable { .. })));
    shop.fault(json!({"kind": "answer", "status": 429, "times": 3})).await;
    assert!(matches!(authorize().await, Err(GatewayError::Refused { retry_after: Some(_), .. })));
    // One try is without an answer, the others are not looked at: it may have happened.
    shop.fault(json!({"kind": "lost_answer"})).await;
    shop.fault(json!({"kind": "answer", "status": 429, "times": 2})).await;
    assert!(matches!(authorize().await, Err(GatewayError::Unreachable { .. })));
    // One error and one lost request are bridged.
    shop.fault(json!({"kind": "answer", "status": 500})).await;
    shop.fault(json!({"kind": "lost_request"})).await;
    assert!(matches!(authorize().await, Ok(PaymentStatus::Authorized { .. })));
    let wrong = Shop::with(|config| config.key = StripeSecret::new("sk_live_1".to_owned())).await;
    let refused = wrong.stripe.authorize(&charge("pm_card_visa")).await;
    assert!(matches!(refused, Err(GatewayError::Refused { retry_after: None, .. })), "{refused:?}");
    let nobody = Shop::with(|config| config.api = "http://127.0.0.1:1".parse().unwrap()).await;
    let refused = nobody.stripe.authorize(&charge("pm_card_visa")).await;
    assert!(matches!(refused, Err(GatewayError::Refused { retry_after: Some(_), .. })), "{refused:?}");
}

#[tokio::test]
async fn a_call_that_hangs_ends() {
    let shop = Shop::with(|config| config.call_timeout = Duration::from_millis(200)).await;
    shop.fault(json!({"kind": "hang", "times": 10})).await;
    let hung = shop.stripe.authorize(&charge("pm_card_visa")).await;
    assert!(matches!(&hung, Err(GatewayError::Unreachable { reason, .. }) if reason.contains("no answer")), "{hung:?}");
}

#[tokio::test]
async fn a_method_that_cannot_wait_is_charged_at_once() {
    let shop = Shop::open().await;
    let paid = charge("pm_usBankAccount_success");
    let status = shop.stripe.authorize(&paid).await.unwrap();
    assert!(matches!(status, PaymentStatus::Captured { .. }), "{status:?}");
    assert_eq!(shop.stripe.authorize(&paid).await.unwrap(), status);
    assert_eq!(shop.sums(paid.order).await, (0, 1_999, 0, 1));
    shop.stripe.give_back(paid.order, &reference(&status), None, "late").await.unwrap();
    assert_eq!(shop.sums(paid.order).await, (0, 1_999, 1_999, 1));
    let slow = charge("pm_usBankAccount_processing");
    let status = shop.stripe.authorize(&slow).await.unwrap();
    let reference = reference(&status);
    assert_eq!(status, PaymentStatus::Pending { reference: reference.clone() });
    let early = shop.stripe.give_back(slow.order, &reference, None, "early").await;
    assert!(matches!(early, Err(GatewayError::NotYet { .. })), "{early:?}");
    shop.control(Method::POST, &format!("payments/{reference}/process"), json!(null)).await;
    assert!(matches!(shop.look_up(slow.order, None).await, PaymentStatus::Captured { .. }));
}

#[tokio::test]
async fn a_refund_that_failed_at_the_bank_is_made_again() {
    let shop = Shop::open().await;
    let charge = charge("pm_card_refundFail");
    let reference = reference(&shop.stripe.authorize(&charge).await.unwrap());
    shop.stripe.capture(charge.order, &reference, usd(1_999)).await.unwrap();
    for failed in 1..=2 {
        shop.stripe.give_back(charge.order, &reference, None, "r").await.unwrap();
        let events = shop.control(Method::GET, "events", json!(null)).await;
        let events = events["data"].as_array().unwrap().iter().filter(|event| event["type"] == "refund.failed").count();
        assert_eq!(events, failed);
    }
    assert_eq!(shop.sums(charge.order).await, (0, 1_999, 0, 1));
}

#[tokio::test]
async fn amounts_are_in_stripes_units() {
    let shop = Shop::open().await;
    for (amount, currency, theirs) in [(500, "JPY", 500), (500, "ISK", 50_000), (5_120, "KWD", 5_120)] {
        let amount = Money { amount, currency: currency.parse().unwrap() };
        let charge = Charge { amount, ..charge("pm_card_visa") };
        let reference = reference(&shop.stripe.authorize(&charge).await.unwrap());
        assert_eq!(shop.sums(charge.order).await, (theirs, 0, 0, 1), "{currency}");
        shop.stripe.capture(charge.order, &reference, amount).await.unwrap();
        assert_eq!(shop.sums(charge.order).await, (0, theirs, 0, 1), "{currency}");
    }
    let amount = Money { amount: 5_124, currency: "KWD".parse().unwrap() };
    let refused = shop.stripe.authorize(&Charge { amount, ..charge("pm_card_visa") }).await;
    assert!(matches!(refused, Err(GatewayError::Refused { retry_after: None, .. })), "{refused:?}");
}

#[tokio::test]
async fn another_accounts_payment_is_not_taken_for_ours() {
    let shop = Shop::open().await;
    assert_eq!(shop.look_up(OrderId::new(), Some("pi_other")).await, PaymentStatus::Unknown);
    for reference in ["pi_../refunds", "ch_1", ""] {
        let refused = shop.stripe.look_up(OrderId::new(), 1, Some(reference)).await;
        assert!(matches!(refused, Err(GatewayError::Refused { .. })), "{reference}: {refused:?}");
    }
    let charge = charge("pm_card_visa");
    let reference = reference(&shop.stripe.authorize(&charge).await.unwrap());
    assert_eq!(shop.stripe.order_of(&reference).await.unwrap(), Some((charge.order, 1)));
}

/// Every call that the client can make, against the fake; returns them.
async fn every_call() -> Vec<Value> {
    let shop = Shop::with(|config| config.return_url = Some("https://shop.example/paid".parse().unwrap())).await;
    for method in
        ["pm_card_visa", "pm_usBankAccount_success", "pm_card_chargeDeclined", "pm_card_authenticationRequired"]
    {
        let charge = charge(method);
        let status = shop.stripe.authorize(&charge).await.unwrap();
        assert_ne!(shop.look_up(charge.order, None).await, PaymentStatus::Unknown);
        let (PaymentStatus::Authorized { reference, .. } | PaymentStatus::Captured { reference }) = &status else {
            continue;
        };
        shop.stripe.capture(charge.order, reference, usd(1_999)).await.unwrap();
        shop.stripe.give_back(charge.order, reference, Some(usd(5)), "part").await.unwrap();
        shop.stripe.give_back(charge.order, reference, None, "rest").await.unwrap();
    }
    let cancelled = charge("pm_card_visa");
    let status = shop.stripe.authorize(&cancelled).await.unwrap();
    shop.stripe.give_back(cancelled.order, &reference(&status), None, "all").await.unwrap();
    // One that never arrived, and one of yesterday, for which the list is read.
    for later_ms in [0, 24 * 60 * 60 * 1_000] {
        shop.later_ms.store(later_ms, Ordering::SeqCst);
        assert_eq!(shop.look_up(OrderId::new(), None).await, PaymentStatus::Unknown);
    }
    // The books, from the first page on.
    let (from, to) = (Timestamp::from_millis(0), Timestamp::from_millis(now_ms()));
    let page = shop.stripe.list(from, to, None).await.unwrap();
    let last = page.payments.last().expect("a payment").reference.clone();
    assert_eq!(shop.stripe.payment(&last).await.unwrap().as_ref(), page.payments.last());
    assert_eq!(shop.stripe.list(from, to, Some(&last)).await.unwrap().next, None);
    let calls = shop.control(Method::GET, "calls", json!(null)).await;
    calls["data"].as_array().expect("calls").clone()
}

#[tokio::test]
async fn every_call_has_the_shape_that_stripe_describes() {
    let mock = StripeMock::start();
    let http = Client::builder().no_proxy().build().unwrap();
    let send = async |method: &str, path: &str, query: &str, body: &str, version: &str| {
        let request = http.request(method.parse().unwrap(), format!("{}{path}?{query}", mock.base));
        let request = request.header("authorization", "Bearer sk_test_1").header("stripe-version", version);
        let request = request.header("content-type", "application/x-www-form-urlencoded").body(body.to_owned());
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    let mut kinds = std::collections::BTreeSet::new();
    for call in every_call().await {
        let text = |name: &str| call[name].as_str().unwrap_or_default();
        let (method, path) = (text("method"), text("path"));
        let (status, answer) = send(method, path, text("query"), text("body"), text("version")).await;
        assert_eq!(status, 200, "{call}: {answer}");
        let advances = path.ends_with("/capture") || path.ends_with("/cancel");
        assert_eq!(text("key").is_empty(), method == "GET" || advances, "{call}");
        let parts = path.split('/').filter(|part| !part.starts_with("pi_") && !part.starts_with("pm_"));
        kinds.insert(format!("{method} {}", parts.collect::<Vec<_>>().join("/")));
    }
    let expected = [
        "GET /v1/payment_intents",
        "GET /v1/payment_intents/search",
        "GET /v1/payment_methods",
        "GET /v1/refunds",
        "POST /v1/payment_intents",
        "POST /v1/payment_intents/cancel",
        "POST /v1/payment_intents/capture",
        "POST /v1/refunds",
    ];
    assert_eq!(kinds, expected.map(str::to_owned).into());
    // It does find what is wrong.
    let version = livedrop::payments::stripe::api::API_VERSION;
    assert_eq!(send("POST", "/v1/refunds", "", "colour=red", version).await.0, 400);
    let wrong = "amount=5&currency=usd&capture_method=later";
    assert_eq!(send("POST", "/v1/payment_intents", "", wrong, version).await.0, 400);
    assert_eq!(send("GET", "/v1/refunds", "", "", "2020-08-27").await.0, 400, "another version");
}

#[tokio::test]
async fn answers_of_the_shape_that_stripe_describes_are_read() {
    let mock = StripeMock::start();
    let shop = Shop::with(|config| config.api = mock.base.parse().unwrap()).await;
    let charge = charge("pm_card_visa");
    let status = shop.stripe.authorize(&charge).await.unwrap();
    assert_ne!(status, PaymentStatus::Unknown);
    shop.stripe.look_up(charge.order, 1, Some("pi_1")).await.unwrap();
    assert_eq!(shop.look_up(charge.order, None).await, PaymentStatus::Unknown);
    shop.stripe.capture(charge.order, "pi_1", usd(1_999)).await.unwrap();
    assert_eq!(shop.stripe.order_of("pi_1").await.unwrap(), None);
    let epoch = Timestamp::from_millis(0);
    assert_eq!(shop.stripe.list(epoch, epoch, None).await.unwrap().payments, []);
    assert_eq!(shop.stripe.payment("pi_1").await.unwrap(), None);
}

#[tokio::test]
async fn the_books_are_read_page_by_page() {
    let shop = Shop::open().await;
    let (from, to) = (Timestamp::from_millis(now_ms() - 60_000), Timestamp::from_millis(now_ms() + 60_000));
    let mut made = Vec::new();
    for _ in 0..101 {
        let charge = charge("pm_card_visa");
        shop.stripe.authorize(&charge).await.unwrap();
        made.push(charge.order);
    }
    let captured = shop.look_up(made[100], None).await;
    shop.stripe.capture(made[100], &reference(&captured), usd(1_999)).await.unwrap();
    shop.stripe.give_back(made[100], &reference(&captured), Some(usd(500)), "part").await.unwrap();
    let first = shop.stripe.list(from, to, None).await.unwrap();
    let sums = first.payments[0].sums.expect("amounts");
    assert_eq!((first.payments[0].state, sums.captured, sums.refunded), (PaymentState::Captured, usd(1_999), usd(500)));
    assert!(first.payments[1..].iter().all(|payment| payment.state == PaymentState::Authorized));
    let second = shop.stripe.list(from, to, first.next.as_deref()).await.unwrap();
    assert_eq!(second.next, None);
    let mut listed: Vec<OrderId> = first.payments.into_iter().chain(second.payments).map(|one| one.order).collect();
    listed.reverse();
    assert_eq!(listed, made, "newest first, each once");
    assert_eq!(shop.stripe.list(from, from, None).await.unwrap().payments, []);
}

#[tokio::test]
async fn the_fake_is_a_program_that_ends_when_it_is_told_to() {
    let start = |bind: &str| {
        let mut command = crate::server::livedrop();
        command.args(["stripe-fake", "--bind", bind]).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().expect("livedrop to start")
    };
    let mut child = start("127.0.0.1:0");
    let mut lines = std::io::BufReader::new(child.stdout.take().expect("its output")).lines();
    let line = lines.next().expect("a line").expect("text");
    let base = line.strip_prefix("stripe-fake listening on ").expect("where it listens");
    let books = Client::builder().no_proxy().build().unwrap().get(format!("{base}/fake/books")).send().await;
    assert_eq!(books.expect("an answer").json::<Value>().await.expect("JSON")["totals"]["orders"], 0);
    let taken = start(base.trim_start_matches("http://")).wait_with_output().expect("its end");
    let said = String::from_utf8_lossy(&taken.stderr).into_owned();
    assert!(taken.status.code() == Some(1) && said.contains("cannot listen on"), "{said}");
    let told = Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
    assert!(told.expect("kill to run").success());
    assert_eq!(child.wait().expect("its end").code(), Some(0));
}

/// Runs Stripe's own library; returns what it prints, or `None` if it fails.
fn library(arguments: &[&str], payload: &str) -> Option<String> {
    let mut command = Command::new("node");
    command.arg(node::script("stripe-signature.mjs")).args(arguments);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("node to run");
    child.stdin.take().expect("its input").write_all(payload.as_bytes()).expect("a payload");
    let output = child.wait_with_output().expect("its end");
    output.status.success().then(|| String::from_utf8(output.stdout).expect("text"))
}

#[test]
fn signatures_are_those_of_stripes_own_library() {
    let payload =
        json!({"id": "evt_1", "object": "event", "type": "x", "data": {"object": {"name": "Zoë 🎉"}}}).to_string();
    let (secret, seconds) = ("whsec_of_the_library", now_ms() / 1_000);
    let at = Timestamp::from_millis(seconds * 1_000);
    let secrets = [StripeSecret::new(secret.to_owned())];
    let header = library(&["sign", secret, &seconds.to_string()], &payload).expect("a header");
    assert_eq!(verify(&header, payload.as_bytes(), &secrets, at), Ok(()), "{header}");
    assert_eq!(verify(&header, b"{}", &secrets, at), Err(SignatureError::Mismatch));
    assert_eq!(sign(payload.as_bytes(), &secrets[0], at), header);
    // And the other way round.
    assert_eq!(
        library(&["verify", secret, &sign(payload.as_bytes(), &secrets[0], at)], &payload).as_deref(),
        Some("evt_1")
    );
    assert_eq!(library(&["verify", "whsec_another", &header], &payload), None);
}
