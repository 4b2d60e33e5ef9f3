//! A crowd on one hot drop that remembers every answer, and an audit that compares them with the server's later
//! answers.

use crate::server::{Account, SOON, Server};
use futures_util::future::join_all;
use serde_json::{Value, json};
use std::{
    collections::HashSet,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

/// Access tokens last 15 minutes; long runs renew them well before.
const TOKENS_LAST: Duration = Duration::from_secs(600);

/// Buyers with accounts, and a seller.
#[derive(Clone)]
pub struct Crowd {
    pub buyers: Vec<Account>,
    pub maker: Account,
    product: String,
    since: Instant,
}

/// The kind of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    PayAtOnce,
    HoldThenPay,
    Declined,
    Hold,
}

impl Kind {
    fn method(self) -> Value {
        match self {
            Self::PayAtOnce => json!("pm_sandbox_ok"),
            Self::Declined => json!("pm_sandbox_declined"),
            Self::HoldThenPay | Self::Hold => Value::Null,
        }
    }
}

/// Status and body of an answer.
pub type Told = (u16, Value);

/// One key and its answers.
struct Order {
    buyer: usize,
    key: String,
    kind: Kind,
    /// `None` if the server was gone first.
    told: Option<Told>,
    paid: Option<Told>,
    /// The request was sent, and its connection ended without an answer.
    cut: bool,
    sent: Instant,
    /// When the answer was received.
    heard: Instant,
    /// When the payment was answered, or failed without an answer.
    paid_heard: Instant,
}

/// One drop, and every request to it.
pub struct Sale {
    pub drop: String,
    stock: u64,
    orders: Vec<Order>,
}

/// The counts of an audit.
#[derive(Default, Clone, Copy, Debug)]
pub struct Counts {
    /// Keys that were answered before the crash, and got the same answer after it.
    pub acknowledged: u64,
    /// Keys without an answer whose decision was on disk: the first retry was a replay.
    pub synced_unanswered: u64,
    /// The number of all keys.
    pub keys: u64,
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.acknowledged += other.acknowledged;
        self.synced_unanswered += other.synced_unanswered;
        self.keys += other.keys;
    }
}

impl Crowd {
    pub async fn gather(server: &Server, buyers: usize) -> Self {
        let (maker, product) = server.creator("maker").await;
        let buyers = join_all((0..buyers).map(|_| server.account("buyer"))).await;
        Self { buyers, maker, product, since: Instant::now() }
    }

    /// Logs all buyers in again if their tokens are about to expire.
    pub async fn renew(&mut self, server: &Server) {
        if self.since.elapsed() < TOKENS_LAST {
            return;
        }
        self.since = Instant::now();
        let everybody = self.buyers.iter_mut().chain([&mut self.maker]);
        join_all(everybody.map(async |account: &mut Account| {
            let login = json!({"email": account.email, "password": "correct horse"});
            let (status, session) = server.patiently(|| server.post("/auth/login", None, login.clone())).await;
            assert_eq!(status, 200, "{session}");
            account.token = session["access_token"].as_str().expect("a token").to_owned();
        }))
        .await;
    }

    /// Opens a drop with this stock.
    pub async fn open(&self, server: &Server, stock: u64) -> Sale {
        let body = json!({"product_id": self.product, "stock": stock, "hold_seconds": 3_600, "per_buyer_limit": 0});
        let (status, drop) = server.patiently(|| server.post("/drops", Some(&self.maker), body.clone())).await;
        assert_eq!(status, 201, "{drop}");
        Sale { drop: drop["id"].as_str().expect("an id").to_owned(), stock, orders: Vec::new() }
    }

    /// Schedules a drop that starts far ahead and takes about 30 KB of journal.
    pub async fn ballast(&self, server: &Server) -> Result<String, Told> {
        let variants: Vec<Value> =
            (0..64).map(|n| json!({"name": format!("{n:02}{}", "𝄞".repeat(118)), "stock": 1})).collect();
        let body = json!({"product_id": self.product, "starts_at": "2099-01-01T00:00:00Z", "variants": variants});
        let (status, drop) = server.post("/drops", Some(&self.maker), body).await;
        if status == 201 { Ok(drop["id"].as_str().expect("an id").to_owned()) } else { Err((status.as_u16(), drop)) }
    }
}

impl Sale {
    /// All buyers order, as fast as answers come, until the server is gone or `stop` is set.
    pub async fn rush(&mut self, crowd: &Crowd, server: &Server, stop: &AtomicBool) {
        let first = self.orders.len();
        let (drop, stock) = (&self.drop, self.stock);
        let told = join_all(
            (0..crowd.buyers.len()).map(|buyer| buy_until_gone(crowd, server, drop, (buyer, first, stock), stop)),
        );
        self.orders.extend(told.await.into_iter().flatten());
    }

    /// Runs the rush while something else ends the server. Fails if the server is still there after a while.
    pub async fn rush_until_gone(&mut self, crowd: &Crowd, server: &Server) {
        let stop = AtomicBool::new(false);
        let rush = self.rush(crowd, server, &stop);
        let gone = tokio::time::timeout(SOON, rush).await;
        assert!(gone.is_ok(), "the server should be gone by now:\n{}", server.log());
    }

    /// Runs the rush for this many milliseconds.
    pub async fn rush_for(&mut self, crowd: &Crowd, server: &Server, ms: u64) {
        let stop = AtomicBool::new(false);
        let end = async {
            tokio::time::sleep(Duration::from_millis(ms)).await;
            stop.store(true, Ordering::Relaxed);
        };
        tokio::join!(self.rush(crowd, server, &stop), end);
    }

    /// The number of requests.
    pub fn asked(&self) -> usize {
        self.orders.len()
    }

    /// The number of requests that got this problem.
    pub fn told(&self, code: &str) -> usize {
        let is = |told: &Option<Told>| told.as_ref().is_some_and(|(_, body)| body["code"] == code);
        self.orders.iter().filter(|order| is(&order.told) || is(&order.paid)).count()
    }

    /// The number of requests that began before the first answer with this code, and got no answer. Later ones may find
    /// a listener that is no longer served.
    pub fn cut_while(&self, code: &str) -> usize {
        let is = |told: &Option<Told>| told.as_ref().is_some_and(|(_, body)| body["code"] == code);
        let placed = self.orders.iter().filter(|order| is(&order.told)).map(|order| order.heard);
        let paid = self.orders.iter().filter(|order| is(&order.paid)).map(|order| order.paid_heard);
        let first = placed.chain(paid).min();
        self.orders.iter().filter(|order| order.cut && first.is_none_or(|first| order.sent < first)).count()
    }

    /// The number of requests that were sent and not answered; not those without a connection.
    pub fn cut(&self) -> usize {
        self.orders.iter().filter(|order| order.cut).count()
    }

    /// Repeats every key: an answered one gets the same answer, an unanswered one gets an answer and keeps it. Then no
    /// order exists twice, and the stock matches the answers, to the unit.
    pub async fn audit(&mut self, crowd: &Crowd, server: &Server) -> Counts {
        let mut by_buyer: Vec<Vec<&mut Order>> = (0..crowd.buyers.len()).map(|_| Vec::new()).collect();
        self.orders.iter_mut().for_each(|order| by_buyer[order.buyer].push(order));
        let drop = &self.drop;
        let audits = by_buyer.into_iter().map(async |orders| {
            let mut counts = Counts::default();
            for order in orders {
                counts += order.audit(crowd, server, drop).await;
            }
            counts
        });
        let mut counts = Counts::default();
        join_all(audits).await.into_iter().for_each(|more| counts += more);
        self.adds_up(server).await;
        counts
    }

    /// Repeats at a copy of the server the requests that were answered before that moment: they get the same answers,
    /// as replays. Returns their number.
    pub async fn known_to_copy(&self, crowd: &Crowd, copy: &Server, before: Instant) -> u64 {
        let by_buyer = (0..crowd.buyers.len()).map(async |buyer| {
            let answered = |order: &&Order| order.heard < before && order.told.as_ref().is_some_and(is_kept);
            let mut known = 0;
            for order in self.orders.iter().filter(|order| order.buyer == buyer).filter(answered) {
                let (told, replayed) = order.until_final(crowd, copy, &self.drop).await;
                assert_eq!(Some(&told), order.told.as_ref(), "key {}: the copy's answer is another", order.key);
                assert!(replayed, "key {}: the copy does not know it", order.key);
                if let Some(paid) = order.paid.as_ref().filter(|paid| paid.0 == 200 && order.paid_heard < before) {
                    assert_eq!(
                        order.pay(crowd, copy).await.expect("an answer").as_ref(),
                        Some(paid),
                        "key {}",
                        order.key
                    );
                }
                known += 1;
            }
            known
        });
        join_all(by_buyer).await.into_iter().sum()
    }

    async fn adds_up(&self, server: &Server) {
        let placed = |order: &&Order| order.told.as_ref().is_some_and(|(status, _)| *status == 201);
        let ids: Vec<&Value> =
            self.orders.iter().filter(placed).filter_map(|order| Some(&order.told.as_ref()?.1["id"])).collect();
        assert_eq!(ids.iter().map(ToString::to_string).collect::<HashSet<_>>().len(), ids.len(), "an order twice");
        let count = |kinds: &[Kind]| {
            self.orders.iter().filter(placed).filter(|order| kinds.contains(&order.kind)).count() as u64
        };
        let (sold, held) = (count(&[Kind::PayAtOnce, Kind::HoldThenPay]), count(&[Kind::Hold]));
        assert!(sold + held <= self.stock, "oversold: {sold} and {held} of {}", self.stock);
        let expected = (self.stock - sold - held, held, sold);
        assert_eq!(server.stock(&self.drop).await, expected, "the stock is not what the answers say");
    }
}

impl Order {
    fn body(&self, drop: &str) -> Value {
        json!({"drop_id": drop, "quantity": 1, "payment_method": self.kind.method()})
    }

    /// Sends one request; returns the answer, and whether it is a replay.
    async fn ask(&self, crowd: &Crowd, server: &Server, drop: &str) -> reqwest::Result<(Told, bool)> {
        let response = server.order_raw(&crowd.buyers[self.buyer], &self.key, &self.body(drop)).await?;
        let replayed = response.headers().get("idempotency-replayed").is_some_and(|value| value == "true");
        Ok(((response.status().as_u16(), response.json().await?), replayed))
    }

    async fn pay(&self, crowd: &Crowd, server: &Server) -> reqwest::Result<Option<Told>> {
        let Some((201, order)) = self.told.as_ref().filter(|_| self.kind == Kind::HoldThenPay) else { return Ok(None) };
        let path = server.url(&format!("/orders/{}/pay", order["id"].as_str().expect("an id")));
        let request = server.http.post(path).bearer_auth(&crowd.buyers[self.buyer].token);
        let response = request.json(&json!({"payment_method": "pm_sandbox_ok"})).send().await?;
        Ok(Some((response.status().as_u16(), response.json().await?)))
    }

    async fn audit(&mut self, crowd: &Crowd, server: &Server, drop: &str) -> Counts {
        let known = self.told.take_if(|told| is_kept(told));
        self.told = None;
        let (told, replayed) = self.until_final(crowd, server, drop).await;
        let mut counts = Counts { keys: 1, ..Counts::default() };
        match known {
            Some(first) => {
                assert_eq!(told, first, "key {}: the answer changed", self.key);
                assert!(replayed, "key {}: it was answered, and is not known any more", self.key);
                counts.acknowledged = 1;
            }
            None => {
                counts.synced_unanswered = u64::from(replayed);
                if is_kept(&told) {
                    assert_eq!(self.until_final(crowd, server, drop).await, (told.clone(), true), "key {}", self.key);
                }
            }
        }
        self.told = Some(told);
        self.audit_payment(crowd, server).await;
        counts
    }

    async fn until_final(&self, crowd: &Crowd, server: &Server, drop: &str) -> (Told, bool) {
        let deadline = Instant::now() + SOON;
        loop {
            let answer = self.ask(crowd, server, drop).await.expect("an answer");
            if is_final(&answer.0) {
                return answer;
            }
            assert!(Instant::now() < deadline, "key {} is still not answered: {:?}", self.key, answer.0);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Pays the order if it should be paid, whether that was done or not.
    async fn audit_payment(&mut self, crowd: &Crowd, server: &Server) {
        let deadline = Instant::now() + SOON;
        let known = self.paid.take_if(|told| told.0 == 200);
        while let Some(told) = self.pay(crowd, server).await.expect("an answer") {
            if told.0 == 200 {
                assert!(
                    told.1["status"] == "confirmed" && known.as_ref().is_none_or(|first| *first == told),
                    "{told:?}"
                );
                self.paid = Some(told);
                return;
            }
            assert!(Instant::now() < deadline, "key {} is still not paid: {told:?}", self.key);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// Whether the answer stays with the key, because it made an order.
fn is_kept((status, _): &Told) -> bool {
    matches!(status, 201 | 402)
}

/// Whether the answer is final, as opposed to "try again".
fn is_final((status, body): &Told) -> bool {
    match status {
        201 | 402 => true,
        409 => body["code"] == "sold_out",
        503 | 504 => false,
        _ => panic!("nobody expects {status} {body}"),
    }
}

async fn buy_until_gone(
    crowd: &Crowd,
    server: &Server,
    drop: &str,
    (buyer, first, stock): (usize, usize, u64),
    stop: &AtomicBool,
) -> Vec<Order> {
    let mut orders = Vec::new();
    for n in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let kind = [Kind::PayAtOnce, Kind::HoldThenPay, Kind::Declined, Kind::Hold][(buyer + n) % 4];
        let key = format!("{first}-{stock}-{buyer}-{n}-{drop}");
        let now = Instant::now();
        let mut order =
            Order { buyer, key, kind, told: None, paid: None, cut: false, sent: now, heard: now, paid_heard: now };
        let heard = order.ask(crowd, server, drop).await;
        let gone = heard.is_err();
        order.heard = Instant::now();
        order.cut = heard.as_ref().is_err_and(|error| !error.is_connect());
        order.told = heard.ok().map(|(told, _)| told);
        let mut paid = Ok(None);
        if !gone {
            paid = order.pay(crowd, server).await;
        }
        let gone = gone || paid.is_err();
        (order.paid, order.paid_heard) = (paid.ok().flatten(), Instant::now());
        let again = (!gone && n % 7 == 0).then_some(());
        if let (Some(()), Some(first)) = (again, order.told.as_ref().filter(|told| is_kept(told)))
            && let Ok((told, _)) = order.ask(crowd, server, drop).await
        {
            assert!(told == *first || told.0 == 503, "a retry at once: {first:?}, then {told:?}");
        }
        orders.push(order);
        if gone {
            break;
        }
    }
    orders
}

/// Waits until `/readyz` reports no problem, and SQL has everything.
pub async fn becomes_ready(server: &Server) {
    let deadline = Instant::now() + SOON;
    loop {
        let (_, told) = server.readiness().await;
        if told["status"] == "ready" && told["checks"]["projector"]["lag_records"] == 0 {
            return;
        }
        assert!(Instant::now() < deadline, "still not ready: {told}\n{}", server.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Stops the server cleanly, and verifies all its files.
pub fn ends_clean(server: &mut Server) {
    assert_eq!(server.terminate(), Some(0), "{}", server.log());
    let report = verified(server);
    assert_eq!(report["unprojected_records"], 0, "{report}\n{}", server.log());
}

/// Audits the stopped server's files offline.
pub fn verified(server: &Server) -> Value {
    let (code, report) = server.verify();
    assert_eq!(code, Some(0), "livedrop verify: {report}");
    report
}
