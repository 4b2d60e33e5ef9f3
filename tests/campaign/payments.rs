//! A server that is paid by a provider, killed at the steps of payments, while the provider is well or fails.
//!
//! The provider is the fake of Stripe's API, which keeps books. After each restart every order comes to an end, and the
//! books say the same of it: nobody pays without getting the goods or the money back, nobody gets goods for nothing,
//! nobody pays twice.

use crate::crowd::{ends_clean, verified};
use crate::progress::each;
use crate::server::{Account, SOON, Server, Setup};
use crate::{Outcome, Row, Scale};
use futures_util::future::join_all;
use livedrop::payments::stripe::secret::StripeSecret;
use livedrop::tools::stripe_fake::{StripeFake, WEBHOOK_SECRET};
use reqwest::{Client, Method};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};
use std::{fs, sync::mpsc, thread};

const BUYERS: usize = 12;
const PRICE: i64 = 1_999;
const STOCK: u64 = 10_000;

/// How a server ends: at a moment of the clock, or at a step.
const ENDS: [Option<&str>; 3] = [None, Some("gateway.before_call"), Some("gateway.after_call")];

/// What the provider does with some calls before the end, and with calls after the start, until it is well again.
const FAULTS: [Option<&str>; 6] = [
    None,
    Some(r#"{"kind":"lost_request"}"#),
    Some(r#"{"kind":"lost_answer"}"#),
    Some(r#"{"kind":"hang"}"#),
    Some(r#"{"kind":"answer","status":500}"#),
    Some(r#"{"kind":"delay","delay_ms":400}"#),
];

pub fn rows() -> Vec<Row> {
    vec![Row::new("kill at the steps of payments, the provider well or failing", |scale: Scale| paid(scale.of(1, 20)))]
}

/// The provider, on a thread of its own: it goes on while this one waits for a process.
struct Provider {
    base: String,
    http: Client,
}

impl Provider {
    fn begin() -> Self {
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let secret = StripeSecret::new(WEBHOOK_SECRET.to_owned());
                let fake = StripeFake::start("127.0.0.1:0".parse().expect("an address"), None, secret).await;
                let fake = fake.expect("a fake that listens");
                sender.send(fake.base()).expect("a receiver");
                std::future::pending::<()>().await;
            });
        });
        let base = receiver.recv().expect("an address");
        Self { base, http: Client::builder().no_proxy().timeout(SOON).build().expect("a client") }
    }

    async fn control(&self, method: Method, path: &str, body: String) -> Value {
        let request = self.http.request(method, format!("{}/fake/{path}", self.base)).body(body);
        request.send().await.expect("an answer").json().await.expect("JSON")
    }

    /// The next calls fail in this way, and those after them do not.
    async fn fails(&self, fault: Option<&str>, times: u32) {
        self.control(Method::DELETE, "faults", String::new()).await;
        let Some(fault) = fault.filter(|_| times > 0) else { return };
        let fault = fault.replacen('{', &format!("{{\"times\":{times},"), 1);
        let told = self.control(Method::POST, "faults", fault).await;
        assert_eq!(told["done"], true, "{told}");
    }

    /// Each order's entry.
    async fn books(&self) -> BTreeMap<String, Value> {
        let books = self.control(Method::GET, "books", String::new()).await;
        serde_json::from_value(books["orders"].clone()).expect("orders")
    }

    /// The buyer at the bank's page.
    async fn end_action(&self, payment: &str, how: &str) {
        self.control(Method::POST, &format!("3ds/{payment}/{how}"), String::new()).await;
    }

    /// Ends all payments that wait for a buyer.
    async fn end_actions(&self) {
        for order in self.books().await.into_values() {
            for payment in order["payments"].as_array().expect("payments") {
                if payment["status"] == "requires_action" {
                    self.end_action(payment["id"].as_str().expect("an id"), "fail").await;
                }
            }
        }
    }
}

/// What a buyer does with an order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    AtOnce,
    Pays,
    AnotherCard,
    AtTheBank,
    CancelsAtTheBank,
    IsRefunded,
}

const WAYS: [Way; 6] =
    [Way::AtOnce, Way::Pays, Way::AnotherCard, Way::AtTheBank, Way::CancelsAtTheBank, Way::IsRefunded];

/// A key, and the order that it made, if that was told.
struct Bought {
    buyer: usize,
    key: String,
    way: Way,
    order: Option<String>,
}

struct Shop {
    server: Server,
    provider: Provider,
    maker: Account,
    product: String,
    buyers: Vec<Account>,
    _place: tempfile::TempDir,
}

/// The server is gone.
struct Gone;

impl Shop {
    async fn open() -> Self {
        let provider = Provider::begin();
        let place = tempfile::TempDir::new().expect("a folder");
        let file = place.path().join("livedrop.toml");
        let text = format!(
            "payments = 'stripe'\npayment_timeout_ms = 1000\nstripe_secret_key = 'sk_test_1'\n\
             stripe_webhook_secret = '{WEBHOOK_SECRET}'\nstripe_api_url = '{}'\ncheckpoint_seconds = 1\n",
            provider.base
        );
        fs::write(&file, text).expect("a configuration");
        let extra = vec!["--config".to_owned(), file.to_str().expect("text").to_owned()];
        let server = Server::set_up(Setup { extra, quiet: true, ..Setup::default() });
        let hook = json!({"url": format!("{}/webhooks/stripe", server.base), "copies": 2});
        provider.control(Method::POST, "webhooks", hook.to_string()).await;
        let (maker, product) = server.creator("maker").await;
        let buyers = join_all((0..BUYERS).map(|_| server.account("buyer"))).await;
        Self { server, provider, maker, product, buyers, _place: place }
    }

    async fn drop(&self) -> String {
        let body = json!({"product_id": self.product, "stock": STOCK, "hold_seconds": 3_600, "per_buyer_limit": 0});
        let (status, drop) =
            self.server.patiently(|| self.server.post("/drops", Some(&self.maker), body.clone())).await;
        assert_eq!(status, 201, "{drop}");
        drop["id"].as_str().expect("an id").to_owned()
    }

    async fn post(&self, path: &str, who: &Account, key: Option<&str>, body: &Value) -> Result<(u16, Value), Gone> {
        let mut request = self.server.http.post(self.server.url(path)).bearer_auth(&who.token).json(body);
        if let Some(key) = key {
            request = request.header("Idempotency-Key", key);
        }
        let response = request.send().await.map_err(|_| Gone)?;
        Ok((response.status().as_u16(), response.json().await.map_err(|_| Gone)?))
    }

    async fn place(&self, drop: &str, bought: &Bought) -> Result<(u16, Value), Gone> {
        let mut body = json!({"drop_id": drop, "quantity": 1});
        if bought.way == Way::AtOnce {
            body["payment_method"] = json!("pm_card_visa");
        }
        self.post("/orders", &self.buyers[bought.buyer], Some(&bought.key), &body).await
    }

    async fn pay(&self, who: &Account, order: &str, method: &str) -> Result<(u16, Value), Gone> {
        self.post(&format!("/orders/{order}/pay"), who, None, &json!({"payment_method": method})).await
    }

    /// Goes the way as far as the server lives.
    async fn buy(&self, drop: &str, bought: &mut Bought) -> Result<(), Gone> {
        let who = &self.buyers[bought.buyer];
        let (_, placed) = self.place(drop, bought).await?;
        let Some(order) = placed["id"].as_str().map(str::to_owned) else { return Ok(()) };
        bought.order = Some(order.clone());
        match bought.way {
            Way::AtOnce => {}
            Way::Pays => _ = self.pay(who, &order, "pm_card_visa").await?,
            Way::AnotherCard => {
                self.pay(who, &order, "pm_card_chargeDeclinedInsufficientFunds").await?;
                self.pay(who, &order, "pm_card_visa").await?;
            }
            Way::AtTheBank | Way::CancelsAtTheBank => {
                self.pay(who, &order, "pm_card_authenticationRequired").await?;
                let path = self.server.url(&format!("/orders/{order}/payments"));
                let told = self.server.http.get(path).bearer_auth(&who.token).send().await.map_err(|_| Gone)?;
                let told: Value = told.json().await.map_err(|_| Gone)?;
                let secret = told["items"][0]["client_secret"].as_str().unwrap_or_default();
                let payment = secret.split_once("_secret").map(|(payment, _)| payment);
                if bought.way == Way::CancelsAtTheBank {
                    self.post(&format!("/orders/{order}/cancel"), who, None, &json!({})).await?;
                }
                if let Some(payment) = payment {
                    self.provider.end_action(payment, "complete").await;
                }
            }
            Way::IsRefunded => {
                self.pay(who, &order, "pm_card_visa").await?;
                self.post(&format!("/orders/{order}/refund"), &self.maker, None, &json!({})).await?;
            }
        }
        Ok(())
    }

    /// All buyers buy until the server is gone.
    async fn rush(&self, drop: &str, round: u64) -> Vec<Bought> {
        let buyers = (0..BUYERS).map(async |buyer| {
            let mut all = Vec::new();
            for n in 0.. {
                let way = WAYS[(buyer + n) % WAYS.len()];
                let mut bought = Bought { buyer, key: format!("{round}-{buyer}-{n}"), way, order: None };
                let told = self.buy(drop, &mut bought).await;
                all.push(bought);
                if told.is_err() {
                    break;
                }
            }
            all
        });
        join_all(buyers).await.into_iter().flatten().collect()
    }

    /// A rush on a new drop, the server's end, and its start. `is_away`: whether the provider fails until a moment after the start.
    async fn killed_in_a_rush(
        &mut self,
        (end, fault): (Option<&str>, Option<&str>),
        kills: u64,
        is_away: bool,
    ) -> (String, Vec<Bought>) {
        let drop = self.drop().await;
        self.provider.fails(fault, 4).await;
        if let Some(point) = end {
            // Calls of all kinds count.
            self.server.arm(&format!("{point}=abort@{}", 1 + (kills * 7) % 40));
        }
        let killer = async {
            if end.is_none() {
                tokio::time::sleep(Duration::from_millis(100 + (kills * 379) % 900)).await;
                self.server.signal("KILL");
            }
        };
        let rush = tokio::time::timeout(SOON, self.rush(&drop, kills));
        let (bought, ()) = tokio::join!(rush, killer);
        let bought = bought.unwrap_or_else(|_| panic!("{end:?} {fault:?}: it still lives\n{}", self.server.log()));
        self.server.kill();
        self.server.disarm();
        verified(&self.server);
        self.provider.fails(fault, if is_away { u32::MAX } else { 0 }).await;
        self.server.restart();
        tokio::time::sleep(Duration::from_millis(300)).await;
        self.provider.fails(None, 0).await;
        (drop, bought)
    }

    /// Repeats what was not answered, so that each key has its order, or certainly none.
    async fn complete(&self, drop: &str, bought: &mut [Bought]) {
        let completed = bought.iter_mut().filter(|bought| bought.order.is_none()).map(async |bought| {
            let deadline = Instant::now() + SOON;
            loop {
                let Ok((status, told)) = self.place(drop, bought).await else { panic!("{}", self.server.log()) };
                if let Some(order) = told["id"].as_str().or(told["order_id"].as_str()) {
                    bought.order = Some(order.to_owned());
                    return;
                }
                assert!(Instant::now() < deadline, "key {}: {status} {told}", bought.key);
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        join_all(completed).await;
    }

    /// What an order ended as. Cancels it where nothing of it runs.
    async fn end(&self, bought: &Bought) -> Option<String> {
        let (who, order) = (&self.buyers[bought.buyer], bought.order.as_deref().expect("an order"));
        let (status, told) = self.server.get(&format!("/orders/{order}"), Some(who)).await;
        assert_eq!(status, 200, "{told}");
        let order_status = told["status"].as_str().expect("a status");
        if order_status == "reserved" {
            let _ = self.post(&format!("/orders/{order}/cancel"), who, None, &json!({})).await;
        }
        let is_over = order_status != "reserved" && (order_status != "confirmed" || told["refund_due"].is_null());
        is_over.then(|| order_status.to_owned())
    }

    /// Brings all orders to their ends.
    async fn ends(&self, bought: &[Bought]) -> Vec<(String, String)> {
        let deadline = Instant::now() + 2 * SOON;
        let (mut open, mut ended): (Vec<&Bought>, _) = (bought.iter().collect(), Vec::new());
        while !open.is_empty() {
            assert!(Instant::now() < deadline, "{} orders come to no end\n{}", open.len(), self.server.log());
            self.provider.end_actions().await;
            let told = join_all(open.into_iter().map(async |bought| (bought, self.end(bought).await))).await;
            open = Vec::new();
            for (bought, end) in told {
                match end {
                    Some(end) => ended.push((bought.order.clone().expect("an order"), end)),
                    None => open.push(bought),
                }
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        ended
    }

    /// Compares the ends of all orders with the provider's books. Returns how often money was taken.
    async fn audit(&self, drop: &str, bought: &[Bought]) -> u64 {
        let ends = self.ends(bought).await;
        let sold = ends.iter().filter(|(_, end)| end == "confirmed").count() as u64;
        let deadline = Instant::now() + 2 * SOON;
        loop {
            let books = self.provider.books().await;
            let wrong = ends.iter().find_map(|(order, end)| {
                let entry = books.get(order).cloned().unwrap_or_default();
                let sums = ["authorized", "captured", "refunded"].map(|sum| entry[sum].as_i64().unwrap_or_default());
                let is_right = match (end.as_str(), sums) {
                    ("confirmed", sums) => sums == [0, PRICE, 0],
                    // One that was cancelled before it was captured, or refunded after.
                    ("refunded" | "released", [authorized, captured, refunded]) => {
                        authorized == 0 && captured == refunded
                    }
                    other => panic!("{other:?}"),
                };
                (!is_right).then(|| format!("{order} is {end}, and the books say {entry}"))
            });
            let Some(wrong) = wrong else { break };
            assert!(Instant::now() < deadline, "{wrong}\n{}", self.server.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(self.server.stock(drop).await, (STOCK - sold, 0, sold), "stock is what was paid for");
        sold
    }

    /// Nobody is charged whose order nobody knows.
    async fn charged_nobody_else(&self, known: &HashSet<String>) {
        let orders = self.provider.books().await.into_keys();
        let others: Vec<_> = orders.filter(|order| !known.contains(order)).collect();
        assert!(others.is_empty(), "{others:?}");
    }
}

async fn paid(runs: u64) -> Outcome {
    let cases: Vec<_> = ENDS.iter().flat_map(|end| FAULTS.iter().map(move |fault| (*end, *fault))).collect();
    let (mut kills, mut sold, mut keys) = (0, 0, 0);
    let mut shop = Shop::open().await;
    let mut known = HashSet::new();
    for ((end, fault), run) in each(&cases, runs) {
        let (drop, mut bought) = shop.killed_in_a_rush((*end, *fault), kills, run % 2 == 0).await;
        kills += 1;
        shop.complete(&drop, &mut bought).await;
        sold += shop.audit(&drop, &bought).await;
        keys += bought.len();
        known.extend(bought.into_iter().filter_map(|bought| bought.order));
        shop.charged_nobody_else(&known).await;
        if run + 1 == runs && kills < cases.len() as u64 * runs {
            ends_clean(&mut shop.server);
            // The books are read as a whole, and should stay small.
            shop = Shop::open().await;
            known.clear();
        }
    }
    ends_clean(&mut shop.server);
    let said = format!(
        "{keys} orders, {sold} sold: each paid for once, everything else given back or never taken; the provider's books say \
         the same; verify clean after every kill"
    );
    Outcome::of(format!("{kills} kills"), said)
}
