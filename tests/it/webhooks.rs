//! Webhooks from the fake of Stripe through the inbox to an order's payment: late, doubled, in any order, after restarts.

use actix_web::{App, HttpServer, web};
use async_trait::async_trait;
use livedrop::domain::{Money, OrderId, Timestamp, UserId};
use livedrop::http::api::webhooks::routes;
use livedrop::http::routing::Routes;
use livedrop::payments::gateway::{Charge, PaymentGateway, PaymentStatus};
use livedrop::payments::stripe::Stripe;
use livedrop::payments::stripe::config::StripeConfig;
use livedrop::payments::stripe::secret::StripeSecret;
use livedrop::service::clock::Clock;
use livedrop::service::webhooks::{News, PaymentNews, Webhooks};
use livedrop::service::{Code, Failure};
use livedrop::storage::{Store, connect, sqlite_url};
use livedrop::tools::stripe_fake::{StripeFake, WEBHOOK_SECRET};
use reqwest::Client;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use tempfile::TempDir;
use tokio::time::{Duration, sleep, timeout};

/// Asks Stripe what is true, as the settler does, and notes the last answer for each order.
#[derive(Clone)]
struct Ledger {
    stripe: Stripe,
    known: Arc<Mutex<BTreeMap<OrderId, PaymentStatus>>>,
}

#[async_trait]
impl PaymentNews for Ledger {
    async fn payment_news(&self, news: &News) -> Result<(), Failure> {
        let order = news.order;
        let status = self.stripe.look_up(order, news.attempt, None).await;
        let status = status.map_err(|error| Failure::with(Code::Overloaded, error.to_string()))?;
        self.known.lock().unwrap().insert(order, status);
        Ok(())
    }
}

/// A server with nothing but the webhooks, the fake, and a client of it.
struct Shop {
    dir: TempDir,
    store: Arc<dyn Store>,
    webhooks: Webhooks,
    ledger: Ledger,
    fake: StripeFake,
    http: Client,
    address: String,
    server: actix_web::dev::ServerHandle,
    /// Events that were worked on.
    done: usize,
}

async fn webhooks(dir: &TempDir) -> (Arc<dyn Store>, Webhooks) {
    let store = connect(&sqlite_url(&dir.path().join("test.db"))).await.expect("a database");
    store.migrate().await.expect("a schema");
    let secrets = vec![StripeSecret::new(WEBHOOK_SECRET.to_owned())];
    (Arc::clone(&store), Webhooks::new(store, Clock::default(), secrets))
}

/// Serves the webhooks on an address; its last part is the port, 0 for any.
fn serve(webhooks: &Webhooks, address: &str) -> (String, actix_web::dev::ServerHandle) {
    let listener = TcpListener::bind(address).expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let webhooks = webhooks.clone();
    let app =
        move || App::new().app_data(web::Data::new(webhooks.clone())).service(Routes::of(routes::routes(), |_, _| &[]));
    let server = HttpServer::new(app).workers(1).disable_signals().listen(listener).expect("a server").run();
    let handle = server.handle();
    actix_web::rt::spawn(server);
    (address, handle)
}

impl Shop {
    async fn open() -> Self {
        let dir = TempDir::new().expect("a folder");
        let (store, webhooks) = webhooks(&dir).await;
        let (address, server) = serve(&webhooks, "127.0.0.1:0");
        let secret = StripeSecret::new(WEBHOOK_SECRET.to_owned());
        let url = format!("http://{address}/webhooks/stripe");
        let fake = StripeFake::start("127.0.0.1:0".parse().unwrap(), Some(url), secret).await.expect("a fake");
        let mut config = StripeConfig::new(StripeSecret::new("sk_test_1".to_owned()));
        config.api = fake.base().parse().expect("an address on this machine");
        let clock = Clock::default();
        let now = Arc::new(move || -> Timestamp { clock.now() });
        let ledger = Ledger { stripe: Stripe::new(config, now).expect("a client"), known: Arc::default() };
        let http = Client::builder().no_proxy().build().expect("a client");
        Self { dir, store, webhooks, ledger, fake, http, address, server, done: 0 }
    }

    /// As after a crash: another process with the same database and address.
    async fn restart(&mut self) {
        self.server.stop(false).await;
        self.store.close().await;
        (self.store, self.webhooks) = webhooks(&self.dir).await;
        self.server = serve(&self.webhooks, &self.address).1;
    }

    async fn control(&self, path: &str, body: Value) -> Value {
        let request = self.http.post(format!("{}/fake/{path}", self.fake.base())).body(body.to_string());
        request.send().await.expect("an answer").json().await.expect("JSON")
    }

    /// How many events the fake has made.
    async fn events(&self) -> usize {
        let events = self.http.get(format!("{}/fake/events", self.fake.base())).send().await.expect("an answer");
        events.json::<Value>().await.expect("JSON")["data"].as_array().expect("events").len()
    }

    /// Works on the inbox until every event that the fake has made is done. Working makes events, too: a declined
    /// payment is closed.
    async fn work(&mut self) {
        let work = async {
            while self.done < self.events().await {
                self.done += self.webhooks.pass(&self.ledger, &self.ledger.stripe).await.expect("a pass");
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(crate::server::SOON, work).await.expect("every event to arrive");
        assert_eq!(self.done, self.events().await, "each event once");
    }

    async fn pay(&self, method: &str) -> (OrderId, PaymentStatus) {
        let amount = Money { amount: 1_999, currency: "USD".parse().unwrap() };
        let (order, method) = (OrderId::new(), method.to_owned());
        let charge = Charge { order, attempt: 1, amount, method, buyer: UserId::new() };
        (order, self.ledger.stripe.authorize(&charge).await.expect("an answer"))
    }

    fn known(&self, order: OrderId) -> Option<PaymentStatus> {
        self.ledger.known.lock().unwrap().get(&order).cloned()
    }
}

#[actix_web::test]
async fn a_buyer_who_authenticates_is_heard_of_by_webhook() {
    let mut shop = Shop::open().await;
    let (order, status) = shop.pay("pm_card_authenticationRequired").await;
    let PaymentStatus::RequiresAction { reference, .. } = status else { panic!("{status:?}") };
    shop.control(&format!("3ds/{reference}/complete"), json!(null)).await;
    shop.work().await;
    assert!(matches!(shop.known(order), Some(PaymentStatus::Authorized { .. })), "{:?}", shop.known(order));
}

#[actix_web::test]
async fn copies_any_order_and_restarts_end_the_same() {
    let mut shop = Shop::open().await;
    shop.control("webhooks", json!({"copies": 3})).await;
    let mut orders = Vec::new();
    for method in
        ["pm_card_visa", "pm_card_chargeDeclined", "pm_usBankAccount_success", "pm_card_authenticationRequired"]
    {
        orders.push(shop.pay(method).await);
    }
    let PaymentStatus::RequiresAction { reference, .. } = &orders[3].1 else { panic!("{orders:?}") };
    shop.control(&format!("3ds/{reference}/fail"), json!(null)).await;
    shop.work().await;
    let after_all: Vec<_> = orders.iter().map(|(order, _)| shop.known(*order)).collect();
    assert!(matches!(&after_all[0], Some(PaymentStatus::Authorized { .. })), "{after_all:?}");
    assert!(matches!(&after_all[1], Some(PaymentStatus::Declined { .. })), "{after_all:?}");
    assert!(matches!(&after_all[2], Some(PaymentStatus::Captured { .. })), "{after_all:?}");
    assert!(matches!(&after_all[3], Some(PaymentStatus::Declined { .. })), "{after_all:?}");
    // Everything once more, the newest first, to another process: nothing is new.
    shop.restart().await;
    let repeated = shop.control("webhooks/repeat", json!(null)).await;
    assert_eq!(repeated["accepted"].as_u64(), Some(shop.events().await as u64));
    shop.ledger.known.lock().unwrap().clear();
    assert_eq!(shop.webhooks.pass(&shop.ledger, &shop.ledger.stripe).await.unwrap(), 0);
    assert_eq!(shop.known(orders[0].0), None);
}

#[actix_web::test]
async fn an_event_that_came_before_a_crash_is_worked_on_after_it() {
    let mut shop = Shop::open().await;
    let (order, _) = shop.pay("pm_card_visa").await;
    let arrived = async {
        while shop.store.webhooks_due(Clock::default().now(), 10).await.unwrap().len() < 2 {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(crate::server::SOON, arrived).await.expect("two events to arrive");
    shop.restart().await;
    shop.work().await;
    assert!(matches!(shop.known(order), Some(PaymentStatus::Authorized { .. })));
}

#[actix_web::test]
async fn what_is_sent_while_nobody_listens_is_sent_again() {
    let mut shop = Shop::open().await;
    shop.server.stop(false).await;
    let (order, _) = shop.pay("pm_card_visa").await;
    shop.restart().await;
    shop.work().await;
    assert!(matches!(shop.known(order), Some(PaymentStatus::Authorized { .. })));
}
