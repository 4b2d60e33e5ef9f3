//! The crowd: one task per connection, each with its own accounts and its own memory of the answers.

use super::counters::{Counters, Kind, Verdict};
use super::http_connection::HttpConnection;
use super::options::{LoadOptions, Scenario};
use super::pace::Pace;
use super::setup::{Request, Setup};
use super::target::Target;
use super::watch::Watch;
use hashbrown::DefaultHashBuilder;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use std::hash::BuildHasher;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

/// Pause before a failed connection is tried again.
const CONNECT_PAUSE: Duration = Duration::from_millis(50);
/// Holds that a buyer keeps to pay or cancel later.
const HOLDS_MAX: usize = 64;

/// Hashes answers, within one run.
static HASH: LazyLock<DefaultHashBuilder> = LazyLock::new(DefaultHashBuilder::default);

/// Shared by all tasks.
pub struct Crowd {
    pub target: Target,
    pub options: LoadOptions,
    pub setup: Setup,
    pub counters: Counters,
    /// `None` for a closed loop.
    pub pace: Option<Pace>,
    /// The sessions that only watch, if there are any.
    pub watch: Option<Arc<Watch>>,
    pub run: String,
    pub began: Instant,
}

/// The part of an answer that is remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OrderOutcome {
    /// No answer: whether the request took effect is unknown.
    Nothing,
    /// Refused by a quota: nothing happened, and the key is free.
    BeyondQuota,
    /// Nothing to be had; the key stays free.
    Refused,
    /// Status, and a hash of the body, both permanent for the key.
    Answer(u16, u64),
}

impl OrderOutcome {
    /// The part of an answer to remember. An answer that asks to wait decides nothing.
    pub fn of(status: u16, body: &[u8]) -> Self {
        if status == 429 {
            return Self::BeyondQuota;
        }
        match status {
            409 if code(body) != "request_in_progress" => Self::Refused,
            409 | 500.. => Self::Nothing,
            _ => Self::Answer(status, HASH.hash_one(body)),
        }
    }

    fn is_order(self) -> bool {
        matches!(self, Self::Answer(201, _))
    }

    /// Whether the server has decided about the key.
    pub fn is_answer(self) -> bool {
        matches!(self, Self::Answer(..) | Self::Refused)
    }
}

/// An order request. Its key consists of the task and a number.
#[derive(Debug, Clone, Copy)]
pub struct OrderRequest {
    pub task: u32,
    pub number: u32,
    pub account: u32,
    pub drop: u32,
    pub pays: bool,
    pub outcome: OrderOutcome,
}

impl OrderRequest {
    /// The request's idempotency key, unique within `run`.
    pub fn key(&self, run: &str) -> String {
        format!("{run}-{}-{}", self.task, self.number)
    }

    /// Whether the answer was an order.
    pub fn is_order(&self) -> bool {
        self.outcome.is_order()
    }

    fn body(&self, setup: &Setup) -> String {
        let method = if self.pays { ",\"payment_method\":\"pm_sandbox_ok\"" } else { "" };
        ["{\"drop_id\":\"", &setup.drops[self.drop as usize], "\",\"quantity\":1", method, "}"].concat()
    }

    /// Writes the request into a buffer.
    pub fn write(&self, crowd: &Crowd, request: &mut Request) {
        let (key, body) = (self.key(&crowd.run), self.body(&crowd.setup));
        let token = crowd.setup.accounts[self.account as usize].as_str();
        request.write(&crowd.target, ("POST", "/api/v1/orders", &body), (Some(token), Some(&key)));
    }
}

/// The record of one task.
#[derive(Default)]
pub struct Memory {
    pub asked: Vec<OrderRequest>,
    /// Cancelled orders, by index of drop. A cancellation without an answer is repeated at once.
    pub cancelled: Vec<u32>,
    /// Keys with a second answer that differs from the first.
    pub contradictions: Vec<String>,
}

/// A hold that its buyer will pay or cancel.
struct Hold {
    id: String,
    account: u32,
    drop: u32,
}

/// One task. Shared state is borrowed by each step: a reference count would move between cores with every request.
pub struct Buyer {
    task: u32,
    rng: SmallRng,
    line: Option<HttpConnection>,
    request: Request,
    steps: u32,
    /// The number of its next key.
    number: u32,
    holds: Vec<Hold>,
    memory: Memory,
}

/// The machine-readable code of a problem.
pub fn code(body: &[u8]) -> &str {
    let body = std::str::from_utf8(body).unwrap_or_default();
    let from = body.find("\"code\":\"").map_or(body.len(), |at| at + 8);
    body[from..].split('"').next().unwrap_or_default()
}

impl Buyer {
    pub fn new(task: u32) -> Self {
        Self {
            task,
            rng: SmallRng::seed_from_u64(u64::from(task)),
            line: None,
            request: Request::default(),
            steps: 0,
            number: 0,
            holds: Vec::new(),
            memory: Memory::default(),
        }
    }

    /// Sends requests until the time is over.
    pub async fn work(mut self, crowd: Arc<Crowd>) -> Memory {
        let end = crowd.began + crowd.options.duration();
        loop {
            let now = Instant::now();
            let due = match &crowd.pace {
                None if now >= end => break,
                None => now,
                Some(pace) => match pace.take() {
                    None => break,
                    Some(due) => crowd.began + due,
                },
            };
            let from = if due > now {
                tokio::time::sleep_until(due.into()).await;
                // The delay of a timer is not the server's fault.
                Instant::now()
            } else {
                // Sent late, because earlier answers were late: a client that came at that time would have waited as
                // well.
                due
            };
            self.step(&crowd, from).await;
        }
        self.memory
    }

    async fn step(&mut self, crowd: &Crowd, from: Instant) {
        self.steps += 1;
        let setup = &crowd.setup;
        let account = (self.task + self.steps.wrapping_mul(crowd.options.connections)) % setup.accounts.len() as u32;
        match crowd.options.scenario {
            Scenario::Floor => self.read(crowd, "/healthz", from).await,
            Scenario::Look => self.read(crowd, &format!("/api/v1/drops/{}", setup.drops[0]), from).await,
            Scenario::Follows => self.follow(crowd, account, from).await,
            Scenario::Crowd => self.restock(crowd, from).await,
            Scenario::Mix if self.rng.random_bool(0.8) => {
                let drop = &setup.drops[self.rng.random_range(0..setup.drops.len())];
                let path = match self.rng.random_range(0..3) {
                    0 => format!("/api/v1/drops/{drop}"),
                    1 => format!("/api/v1/drops/{drop}/stock"),
                    _ => format!("/api/v1/products/{}", setup.products[0]),
                };
                self.read(crowd, &path, from).await;
            }
            Scenario::Mix => self.order(crowd, account, true, from).await,
            Scenario::Abandon if !self.holds.is_empty() && self.rng.random_bool(0.5) => self.decide(crowd, from).await,
            Scenario::Rush | Scenario::Many | Scenario::Abandon => self.order(crowd, account, false, from).await,
        }
    }

    async fn order(&mut self, crowd: &Crowd, account: u32, pays: bool, from: Instant) {
        let retries = crowd.options.retries;
        if retries > 0.0 && self.rng.random_bool(retries) && !self.memory.asked.is_empty() {
            let at = self.rng.random_range(0..self.memory.asked.len());
            return self.again(crowd, at, from).await;
        }
        let drop = self.rng.random_range(0..crowd.setup.drops.len()) as u32;
        let number = self.number;
        self.number += 1;
        let asked = OrderRequest { task: self.task, number, account, drop, pays, outcome: OrderOutcome::Nothing };
        let (outcome, id) = self.ask(crowd, &asked, Kind::Order, from).await;
        // Refusals and requests beyond a quota are not audited, and may be far more than the audit could repeat.
        if !matches!(outcome, OrderOutcome::BeyondQuota | OrderOutcome::Refused) {
            self.memory.asked.push(OrderRequest { outcome, ..asked });
        }
        if let Some(id) = id.filter(|_| crowd.options.scenario == Scenario::Abandon && outcome.is_order()) {
            if self.holds.len() >= HOLDS_MAX {
                self.holds.swap_remove(0);
            }
            self.holds.push(Hold { id, account, drop });
        }
    }

    async fn again(&mut self, crowd: &Crowd, at: usize, from: Instant) {
        let asked = self.memory.asked[at];
        let (outcome, _) = self.ask(crowd, &asked, Kind::Retry, from).await;
        if !outcome.is_answer() {
            return;
        }
        if asked.outcome == OrderOutcome::Nothing {
            self.memory.asked[at].outcome = outcome;
        } else if outcome != asked.outcome {
            self.memory.contradictions.push(asked.key(&crowd.run));
        }
    }

    /// Requests an order; returns its id, if the answer has one and it is needed.
    async fn ask(
        &mut self,
        crowd: &Crowd,
        asked: &OrderRequest,
        kind: Kind,
        from: Instant,
    ) -> (OrderOutcome, Option<String>) {
        let wants_id = crowd.options.scenario == Scenario::Abandon;
        let read = |status: u16, body: &[u8]| (OrderOutcome::of(status, body), wants_id.then(|| id_of(body)).flatten());
        asked.write(crowd, &mut self.request);
        self.send(crowd, kind, from, read).await.unwrap_or((OrderOutcome::Nothing, None))
    }

    /// Pays, cancels or forgets a hold.
    async fn decide(&mut self, crowd: &Crowd, from: Instant) {
        let hold = self.holds.swap_remove(self.rng.random_range(0..self.holds.len()));
        let token = crowd.setup.accounts[hold.account as usize].as_str();
        match self.rng.random_range(0..4) {
            0 | 1 => {
                let path = format!("/api/v1/orders/{}/pay", hold.id);
                let body = "{\"payment_method\":\"pm_sandbox_ok\"}";
                self.request.write(&crowd.target, ("POST", &path, body), (Some(token), None));
                self.send(crowd, Kind::Pay, from, |_, _| ()).await;
            }
            2 => {
                let path = format!("/api/v1/orders/{}/cancel", hold.id);
                self.request.write(&crowd.target, ("POST", &path, ""), (Some(token), None));
                match self.send(crowd, Kind::Cancel, from, |status, _| status == 200).await {
                    Some(true) => self.memory.cancelled.push(hold.drop),
                    Some(false) => {}
                    // Kept for another attempt: only its answer tells whether its unit is free.
                    None => self.holds.push(hold),
                }
            }
            _ => {}
        }
    }

    async fn follow(&mut self, crowd: &Crowd, account: u32, from: Instant) {
        let creator = &crowd.setup.creators[self.rng.random_range(0..crowd.setup.creators.len())];
        let path = format!("/api/v1/creators/{creator}/follow");
        let method = if self.rng.random_bool(0.7) { "POST" } else { "DELETE" };
        let token = crowd.setup.accounts[account as usize].as_str();
        self.request.write(&crowd.target, (method, &path, ""), (Some(token), None));
        self.send(crowd, Kind::Follow, from, |_, _| ()).await;
    }

    async fn restock(&mut self, crowd: &Crowd, from: Instant) {
        let path = format!("/api/v1/drops/{}/restock", crowd.setup.drops[0]);
        let total = |status: u16, body: &[u8]| (status == 200).then(|| total_of(body)).flatten();
        self.request.write(&crowd.target, ("POST", &path, "{\"quantity\":1}"), (Some(&crowd.setup.maker), None));
        let answered = self.send(crowd, Kind::Restock, from, total).await;
        if let Some((watch, total)) = crowd.watch.as_ref().zip(answered.flatten()) {
            watch.published(total, from);
        }
    }

    async fn read(&mut self, crowd: &Crowd, path: &str, from: Instant) {
        self.request.write(&crowd.target, ("GET", path, ""), (None, None));
        self.send(crowd, Kind::Read, from, |_, _| ()).await;
    }

    /// Sends the written request and counts its answer. `None`: there was none.
    async fn send<T>(
        &mut self,
        crowd: &Crowd,
        kind: Kind,
        from: Instant,
        read: impl FnOnce(u16, &[u8]) -> T,
    ) -> Option<T> {
        let count = |verdict: Verdict, code: &str| {
            let now = Instant::now();
            crowd.counters.record(self.task, (kind, verdict, code), now - crowd.began, now - from);
        };
        let mut line = match self.line.take().filter(|line| !line.is_over()) {
            Some(line) => line,
            None => match HttpConnection::connect(crowd.target.address).await {
                Ok(line) => line,
                Err(error) => {
                    count(Verdict::Lost, &error.kind().to_string());
                    tokio::time::sleep(CONNECT_PAUSE).await;
                    return None;
                }
            },
        };
        let result = match line.exchange(self.request.as_bytes()).await {
            Ok(answer) => {
                match answer.status {
                    200..400 => count(Verdict::Accepted, ""),
                    400..500 => count(Verdict::Refused, code(answer.body)),
                    _ => count(Verdict::Failed, code(answer.body)),
                }
                Some(read(answer.status, answer.body))
            }
            Err(error) => {
                count(Verdict::Lost, &error.kind().to_string());
                None
            }
        };
        self.line = Some(line);
        result
    }
}

fn total_of(body: &[u8]) -> Option<u64> {
    let drop: serde_json::Value = serde_json::from_slice(body).ok()?;
    drop.pointer("/stock/total")?.as_u64()
}

fn id_of(body: &[u8]) -> Option<String> {
    let order: serde_json::Value = serde_json::from_slice(body).ok()?;
    Some(order.get("id")?.as_str()?.to_owned())
}
