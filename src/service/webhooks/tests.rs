use super::*;
use crate::domain::Timestamp;
use crate::payments::stripe::signature::sign;
use crate::storage::{connect, sqlite_url};
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use tempfile::TempDir;

fn secret(text: &str) -> StripeSecret {
    StripeSecret::new(text.to_owned())
}

/// Counts what it hears of each order, and knows the orders of some payments.
#[derive(Default)]
struct Shop {
    heard: Mutex<BTreeMap<OrderId, u32>>,
    payments: Mutex<BTreeMap<String, OrderId>>,
    is_down: AtomicBool,
}

impl Shop {
    fn heard(&self, order: OrderId) -> u32 {
        self.heard.lock().unwrap().get(&order).copied().unwrap_or_default()
    }
}

#[async_trait]
impl PaymentNews for Shop {
    async fn payment_news(&self, news: &News) -> Result<(), Failure> {
        if self.is_down.load(Ordering::SeqCst) {
            return Err(Failure::new(Code::Overloaded));
        }
        assert_eq!((news.provider, news.attempt), (PaymentProvider::Stripe, 1));
        *self.heard.lock().unwrap().entry(news.order).or_default() += 1;
        Ok(())
    }
}

#[async_trait]
impl OrderOfPayment for Shop {
    async fn order_of(&self, reference: &str) -> Result<Option<(OrderId, u32)>, GatewayError> {
        if self.is_down.load(Ordering::SeqCst) {
            return Err(GatewayError::Unreachable { reason: "down".to_owned(), retry_after: None });
        }
        Ok(self.payments.lock().unwrap().get(reference).map(|order| (*order, 1)))
    }
}

struct Bench {
    dir: TempDir,
    webhooks: Webhooks,
    clock: Clock,
    shop: Shop,
}

impl Bench {
    async fn open() -> Self {
        let dir = TempDir::new().unwrap();
        let clock = Clock::default();
        let webhooks = Self::webhooks(&dir, &clock).await;
        Self { dir, webhooks, clock, shop: Shop::default() }
    }

    async fn webhooks(dir: &TempDir, clock: &Clock) -> Webhooks {
        let store = connect(&sqlite_url(&dir.path().join("test.db"))).await.unwrap();
        store.migrate().await.unwrap();
        Webhooks::new(store, clock.clone(), vec![secret("whsec_new"), secret("whsec_old")])
    }

    async fn restart(&mut self) {
        self.webhooks.0.store.close().await;
        self.webhooks = Self::webhooks(&self.dir, &self.clock).await;
    }

    async fn send(&self, id: &str, kind: &str, object: serde_json::Value) -> Result<(), Failure> {
        let body = json!({"id": id, "object": "event", "type": kind, "data": {"object": object}}).to_string();
        let signature = sign(body.as_bytes(), &secret("whsec_new"), self.clock.now());
        self.webhooks.receive(&signature, body.as_bytes()).await
    }

    async fn pass(&self) -> usize {
        self.webhooks.pass(&self.shop, &self.shop).await.unwrap()
    }

    fn counted(&self, result: &str) -> u64 {
        self.webhooks.0.received.with_label_values(&["stripe", result]).get()
    }
}

fn intent(order: OrderId) -> serde_json::Value {
    json!({"id": "pi_1", "object": "payment_intent", "metadata": {"order_id": order.to_string(), "attempt": "1"}})
}

#[tokio::test]
async fn an_event_is_worked_on_once_however_often_it_comes() {
    let mut bench = Bench::open().await;
    let order = OrderId::new();
    for _ in 0..3 {
        bench.send("evt_1", "payment_intent.succeeded", intent(order)).await.unwrap();
    }
    assert_eq!((bench.pass().await, bench.shop.heard(order)), (1, 1));
    // A copy that comes late, and one after a restart.
    bench.send("evt_1", "payment_intent.succeeded", intent(order)).await.unwrap();
    bench.restart().await;
    bench.send("evt_1", "payment_intent.succeeded", intent(order)).await.unwrap();
    assert_eq!((bench.pass().await, bench.shop.heard(order)), (0, 1));
    // Another event about the same payment is news.
    bench.send("evt_2", "payment_intent.canceled", intent(order)).await.unwrap();
    assert_eq!((bench.pass().await, bench.shop.heard(order)), (1, 2));
}

#[tokio::test]
async fn what_was_received_is_worked_on_after_a_restart() {
    let mut bench = Bench::open().await;
    let order = OrderId::new();
    bench.send("evt_1", "payment_intent.succeeded", intent(order)).await.unwrap();
    bench.restart().await;
    assert_eq!((bench.pass().await, bench.shop.heard(order)), (1, 1));
}

#[tokio::test]
async fn what_cannot_be_worked_on_now_is_tried_again_at_growing_intervals() {
    let bench = Bench::open().await;
    let (order, disputed) = (OrderId::new(), OrderId::new());
    bench.shop.payments.lock().unwrap().insert("pi_2".to_owned(), disputed);
    bench.shop.is_down.store(true, Ordering::SeqCst);
    bench.send("evt_1", "payment_intent.succeeded", intent(order)).await.unwrap();
    let dispute = json!({"id": "dp_1", "object": "dispute", "payment_intent": "pi_2"});
    bench.send("evt_2", "charge.dispute.created", dispute).await.unwrap();
    for tries in 0..5 {
        assert_eq!(bench.pass().await, 0);
        assert_eq!(bench.counted("later"), 2 * (tries + 1), "both, once");
        assert_eq!(bench.pass().await, 0);
        assert_eq!(bench.counted("later"), 2 * (tries + 1), "not before their time");
        bench.clock.shift(WEBHOOK_PAUSE_MS << tries);
    }
    bench.shop.is_down.store(false, Ordering::SeqCst);
    assert_eq!(bench.pass().await, 2);
    assert_eq!((bench.shop.heard(order), bench.shop.heard(disputed)), (1, 1));
    assert_eq!(pause_ms(0), WEBHOOK_PAUSE_MS);
    assert_eq!(pause_ms(u32::MAX), WEBHOOK_PAUSE_MS_MAX);
}

#[tokio::test]
async fn what_a_seller_has_to_know_is_kept_once_with_the_order() {
    let mut bench = Bench::open().await;
    let order = OrderId::new();
    bench.shop.payments.lock().unwrap().insert("pi_2".to_owned(), order);
    let dispute = json!({"id": "dp_1", "object": "dispute", "payment_intent": "pi_2"});
    let refund = json!({"id": "re_1", "object": "refund", "payment_intent": "pi_2"});
    let events = [
        ("evt_1", "charge.dispute.created", &dispute),
        ("evt_2", "charge.dispute.updated", &dispute),
        ("evt_3", "refund.failed", &refund),
        ("evt_4", "refund.updated", &refund),
        ("evt_5", "charge.dispute.closed", &dispute),
    ];
    for (id, kind, object) in events {
        bench.send(id, kind, object.clone()).await.unwrap();
        bench.clock.shift(1_000);
    }
    // The provider is away at first; then the process ends before the events are done.
    bench.shop.is_down.store(true, Ordering::SeqCst);
    assert_eq!(bench.pass().await, 0);
    bench.shop.is_down.store(false, Ordering::SeqCst);
    bench.clock.shift(WEBHOOK_PAUSE_MS);
    bench.restart().await;
    assert_eq!(bench.pass().await, events.len());
    for (id, kind, object) in events {
        bench.send(id, kind, object.clone()).await.unwrap();
    }
    bench.pass().await;
    let incidents = bench.webhooks.0.store.incidents(order).await.unwrap();
    let kinds: Vec<&str> = incidents.iter().map(|incident| incident.kind.as_str()).collect();
    assert_eq!(kinds, ["dispute_opened", "refund_failed", "dispute_closed"]);
    let count = |kind: &str| bench.webhooks.0.incidents.with_label_values(&["stripe", kind]).get();
    assert_eq!((count("dispute_opened"), count("refund_failed")), (1, 1));
    assert_eq!(bench.webhooks.0.store.incidents(OrderId::new()).await.unwrap(), []);
}

#[tokio::test]
async fn unknown_types_and_other_peoples_payments_are_kept_and_done() {
    let bench = Bench::open().await;
    bench.send("evt_1", "customer.created", json!({"id": "cus_1", "object": "customer"})).await.unwrap();
    bench.send("evt_2", "payment_intent.succeeded", json!({"id": "pi_9", "object": "payment_intent"})).await.unwrap();
    bench.send("evt_3", "a_new.type", json!({})).await.unwrap();
    assert_eq!(bench.counted("kept"), 3);
    assert_eq!(bench.pass().await, 3);
    assert!(bench.shop.heard.lock().unwrap().is_empty());
    bench.send("evt_3", "a_new.type", json!({})).await.unwrap();
    assert_eq!(bench.counted("repeated"), 1, "it is kept");
}

#[tokio::test]
async fn only_stripe_can_write_into_the_inbox() {
    let bench = Bench::open().await;
    let body = json!({"id": "evt_1", "type": "payment_intent.succeeded", "data": {"object": {}}}).to_string();
    let now = bench.clock.now();
    let signed = |by: &str, at: Timestamp| sign(body.as_bytes(), &secret(by), at);
    for signature in ["", "t=1,v1=00", &signed("whsec_another", now), &signed("whsec_new", now.plus_millis(-301_000))] {
        let refused = bench.webhooks.receive(signature, body.as_bytes()).await.unwrap_err();
        assert_eq!(refused.code, Code::ValidationFailed, "{signature}");
    }
    let no_event = bench.webhooks.receive(&sign(b"{}", &secret("whsec_new"), now), b"{}").await.unwrap_err();
    assert_eq!(no_event.code, Code::ValidationFailed);
    assert_eq!((bench.counted("refused"), bench.pass().await), (5, 0));
    bench.webhooks.receive(&signed("whsec_old", now), body.as_bytes()).await.unwrap();
    let without = Webhooks::new(Arc::clone(&bench.webhooks.0.store), bench.clock.clone(), Vec::new());
    let refused = without.receive(&signed("whsec_new", now), body.as_bytes()).await.unwrap_err();
    assert_eq!(refused.code, Code::ValidationFailed, "no secret is configured");
}

#[tokio::test]
async fn what_was_done_is_forgotten_after_its_time_and_nothing_else() {
    let bench = Bench::open().await;
    bench.send("evt_1", "a_new.type", json!({})).await.unwrap();
    assert_eq!(bench.pass().await, 1);
    bench.shop.is_down.store(true, Ordering::SeqCst);
    bench.send("evt_2", "payment_intent.succeeded", intent(OrderId::new())).await.unwrap();
    bench.pass().await;
    for (ms, repeated) in [(WEBHOOK_KEPT_MS - 60_000, 2), (120_000, 3)] {
        bench.clock.shift(ms);
        bench.webhooks.forget().await;
        for id in ["evt_1", "evt_2"] {
            bench.send(id, "a_new.type", json!({})).await.unwrap();
        }
        assert_eq!(bench.counted("repeated"), repeated);
    }
}
