//! Keeps a provider that fails or hangs from holding up anything else: a circuit breaker and a bulkhead around a
//! gateway.
//!
//! - *Circuit breaker.* Closed: calls pass. Many failures in a short time open it: calls are refused at once. After a
//!   while it is half-open: one call may try; its success closes the breaker, its failure opens it for twice as long.
//! - *Bulkhead.* A bounded number of calls run at once and a bounded number wait, each for a bounded time. Beyond that, a
//!   call is refused at once. Authorizations have a compartment of their own: buyers in a rush and captures, refunds and
//!   look-ups do not take each other's room.
//!
//! A refused call certainly had no effect.

use super::gateway::{Charge, GatewayError, GatewayHealth, ListedPayment, PaymentGateway, PaymentPage, PaymentStatus};
use crate::domain::{Money, OrderId, Timestamp};
use async_trait::async_trait;
use prometheus::{IntCounterVec, IntGaugeVec, Opts, Registry};
use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// The steady clock.
pub type SteadyClock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// When to ask again while one call tries whether the provider is back.
const PROBE_PAUSE: Duration = Duration::from_secs(1);

/// The bounds of a guarded gateway.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GuardBounds {
    /// Calls of one compartment that run at once.
    pub at_once_max: usize,
    /// Calls of one compartment that wait.
    pub waiting_max: usize,
    /// How long a call waits.
    pub wait_max: Duration,
    /// The period over which failures are counted.
    pub window: Duration,
    /// Failures in it that open the breaker, if they are also half of all calls.
    pub failures_max: u32,
    /// How long the breaker stays open the first time.
    pub open_min: Duration,
    /// How long it stays open at most.
    pub open_max: Duration,
}

impl Default for GuardBounds {
    fn default() -> Self {
        Self {
            at_once_max: 64,
            waiting_max: 256,
            wait_max: Duration::from_secs(2),
            window: Duration::from_secs(10),
            failures_max: 5,
            open_min: Duration::from_secs(5),
            open_max: Duration::from_secs(60),
        }
    }
}

/// The state of a circuit breaker. Pure: every decision gets the time.
#[derive(Debug)]
pub struct Breaker {
    bounds: GuardBounds,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// The calls of the current window, and how many of them failed.
    Closed {
        window_from: Timestamp,
        calls: u32,
        failures: u32,
    },
    Open {
        since: Timestamp,
        until: Timestamp,
        pause: Duration,
    },
    /// `trying`: a call is running that decides.
    HalfOpen {
        since: Timestamp,
        pause: Duration,
        trying: bool,
    },
}

/// A call that the breaker let pass.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Passed {
    Usual,
    /// It decides whether the breaker closes.
    Probe,
}

impl Breaker {
    /// A closed breaker.
    #[must_use]
    pub fn new(bounds: GuardBounds) -> Self {
        Self { bounds, state: State::Closed { window_from: Timestamp::EPOCH, calls: 0, failures: 0 } }
    }

    /// How long no call passes; `None` if one may pass now. Changes nothing.
    #[must_use]
    pub fn refuses_for(&self, now: Timestamp) -> Option<Duration> {
        match self.state {
            State::Open { until, .. } if now < until => Some(between(now, until)),
            State::HalfOpen { trying: true, .. } => Some(PROBE_PAUSE),
            State::Closed { .. } | State::Open { .. } | State::HalfOpen { .. } => None,
        }
    }

    /// Lets a call pass, or says how long to wait.
    ///
    /// # Errors
    /// The time until the next call may pass.
    pub fn admit(&mut self, now: Timestamp) -> Result<Passed, Duration> {
        if let Some(wait) = self.refuses_for(now) {
            return Err(wait);
        }
        match self.state {
            State::Closed { .. } => Ok(Passed::Usual),
            State::Open { since, pause, .. } | State::HalfOpen { since, pause, .. } => {
                self.state = State::HalfOpen { since, pause, trying: true };
                Ok(Passed::Probe)
            }
        }
    }

    /// Records the end of a call.
    pub fn record(&mut self, now: Timestamp, passed: Passed, good: bool) {
        match (self.state, passed) {
            (State::Closed { window_from, calls, failures }, Passed::Usual) => {
                let fresh = between(window_from, now) >= self.bounds.window;
                let (from, calls, failures) = if fresh { (now, 0, 0) } else { (window_from, calls, failures) };
                let (calls, failures) = (calls + 1, failures + u32::from(!good));
                self.state = State::Closed { window_from: from, calls, failures };
                if failures >= self.bounds.failures_max && failures * 2 >= calls {
                    self.open(now, now, self.bounds.open_min);
                }
            }
            (State::HalfOpen { .. }, Passed::Probe) if good => {
                self.state = State::Closed { window_from: now, calls: 0, failures: 0 };
            }
            (State::HalfOpen { since, pause, .. }, Passed::Probe) => {
                self.open(since, now, (pause * 2).min(self.bounds.open_max));
            }
            // A call that began before the breaker opened says nothing about now.
            _ => {}
        }
    }

    /// Takes a probe back that was not made.
    pub fn withdraw(&mut self, passed: Passed) {
        if let (State::HalfOpen { since, pause, .. }, Passed::Probe) = (self.state, passed) {
            self.state = State::HalfOpen { since, pause, trying: false };
        }
    }

    fn open(&mut self, since: Timestamp, now: Timestamp, pause: Duration) {
        let millis = i64::try_from(pause.as_millis()).unwrap_or(i64::MAX);
        self.state = State::Open { since, until: now.plus_millis(millis), pause };
    }

    /// The state for people and probes.
    #[must_use]
    pub fn health(&self) -> GatewayHealth {
        match self.state {
            State::Closed { .. } => GatewayHealth::Up,
            State::Open { since, until, .. } => GatewayHealth::Down { since, retry_at: until },
            State::HalfOpen { since, .. } => GatewayHealth::Down { since, retry_at: since },
        }
    }

    /// 0 closed, 1 half-open, 2 open; for metrics.
    fn level(&self) -> i64 {
        match self.state {
            State::Closed { .. } => 0,
            State::HalfOpen { .. } => 1,
            State::Open { .. } => 2,
        }
    }
}

fn between(from: Timestamp, to: Timestamp) -> Duration {
    Duration::from_millis(u64::try_from(to.millis_since(from)).unwrap_or_default())
}

/// What is counted of guarded gateways. One for all of them: each has its provider as a label.
#[derive(Clone)]
pub struct GuardMetrics {
    calls: IntCounterVec,
    running: IntGaugeVec,
    waiting: IntGaugeVec,
    breaker: IntGaugeVec,
}

impl Default for GuardMetrics {
    fn default() -> Self {
        let opts = |name: &str, help: &str| Opts::new(name, help);
        let help = "Calls of payment providers, by what became of them: done, not_yet (no final answer), refused (by the provider: certainly no \
                    effect), failed (the outcome is not known), rejected (by the breaker or the bulkhead, before they were made).";
        let calls = IntCounterVec::new(opts("livedrop_payment_calls_total", help), &["provider", "call", "result"]);
        let gauge =
            |name: &str, help: &str, labels: &[&str]| IntGaugeVec::new(opts(name, help), labels).expect("a valid name");
        let help = "Calls of payment providers that run now.";
        let running = gauge("livedrop_payment_calls_running", help, &["provider", "compartment"]);
        let help = "Calls of payment providers that wait for others to end.";
        let waiting = gauge("livedrop_payment_calls_waiting", help, &["provider", "compartment"]);
        let help = "The circuit breaker of a payment provider: 0 closed, 1 half-open, 2 open.";
        let breaker = gauge("livedrop_payment_breaker", help, &["provider"]);
        Self { calls: calls.expect("a valid name"), running, waiting, breaker }
    }
}

impl GuardMetrics {
    /// Adds them to a registry.
    ///
    /// # Errors
    /// If the names are taken there.
    pub fn register(&self, registry: &Registry) -> prometheus::Result<()> {
        registry.register(Box::new(self.calls.clone()))?;
        registry.register(Box::new(self.running.clone()))?;
        registry.register(Box::new(self.waiting.clone()))?;
        registry.register(Box::new(self.breaker.clone()))
    }
}

/// One compartment of the bulkhead.
struct Compartment {
    name: &'static str,
    running: Semaphore,
    waiting: AtomicUsize,
}

impl Compartment {
    fn new(name: &'static str, bounds: &GuardBounds) -> Self {
        Self { name, running: Semaphore::new(bounds.at_once_max), waiting: AtomicUsize::new(0) }
    }
}

/// A gateway behind a breaker and a bulkhead.
pub struct Guarded {
    inner: Arc<dyn PaymentGateway>,
    bounds: GuardBounds,
    clock: SteadyClock,
    breaker: Mutex<Breaker>,
    authorizations: Compartment,
    rest: Compartment,
    metrics: GuardMetrics,
}

impl Guarded {
    /// Guards a gateway.
    #[must_use]
    pub fn new(inner: Arc<dyn PaymentGateway>, bounds: GuardBounds, clock: SteadyClock, metrics: GuardMetrics) -> Self {
        metrics.breaker.with_label_values(&[inner.name()]).set(0);
        Self {
            bounds,
            clock,
            breaker: Mutex::new(Breaker::new(bounds)),
            authorizations: Compartment::new("authorizations", &bounds),
            rest: Compartment::new("rest", &bounds),
            metrics,
            inner,
        }
    }

    /// No code panics while it is held.
    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn guard<T>(
        &self,
        compartment: &Compartment,
        name: &'static str,
        call: impl Future<Output = Result<T, GatewayError>>,
    ) -> Result<T, GatewayError> {
        let rejected = |reason: &str, retry_after: Duration| {
            self.metrics.calls.with_label_values(&[self.inner.name(), name, "rejected"]).inc();
            GatewayError::Refused { reason: reason.to_owned(), retry_after: Some(retry_after) }
        };
        let passed = self.breaker().admit((self.clock)());
        let passed = passed.map_err(|wait| rejected("the provider does not answer lately", wait))?;
        // From here on an end without a verdict, such as the caller's timeout, counts as a failure.
        let mut verdict = Verdict { guard: self, passed, name, waiting: true };
        let slot =
            self.enter(compartment).await.ok_or_else(|| rejected("too many payments at once", self.bounds.wait_max))?;
        verdict.waiting = false;
        let running = self.metrics.running.with_label_values(&[self.inner.name(), compartment.name]);
        let _running = Counted::up(running);
        failpoint!("gateway.before_call");
        let answer = call.await;
        failpoint!("gateway.after_call");
        drop(slot);
        verdict.of(&answer);
        answer
    }

    async fn enter<'a>(&self, compartment: &'a Compartment) -> Option<tokio::sync::SemaphorePermit<'a>> {
        if let Ok(slot) = compartment.running.try_acquire() {
            return Some(slot);
        }
        let _place = Place::take(&compartment.waiting, self.bounds.waiting_max)?;
        let _waiting = Counted::up(self.metrics.waiting.with_label_values(&[self.inner.name(), compartment.name]));
        timeout(self.bounds.wait_max, compartment.running.acquire()).await.ok()?.ok()
    }
}

/// A place among those that wait.
struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    fn take(places: &'a AtomicUsize, max: usize) -> Option<Self> {
        let more = |taken: usize| (taken < max).then_some(taken + 1);
        places.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).ok().map(|_| Self(places))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Counts in a gauge while it lives.
struct Counted(prometheus::IntGauge);

impl Counted {
    fn up(gauge: prometheus::IntGauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Records the end of a call, however it ends.
struct Verdict<'a> {
    guard: &'a Guarded,
    passed: Passed,
    name: &'static str,
    /// Whether the call has not begun.
    waiting: bool,
}

impl Verdict<'_> {
    /// A provider that refuses a request is well; one that says when to ask again is not.
    fn of<T>(self, answer: &Result<T, GatewayError>) {
        let (good, result) = match answer {
            Ok(_) => (true, "done"),
            Err(GatewayError::Refused { retry_after, .. }) => (retry_after.is_none(), "refused"),
            Err(GatewayError::NotYet { .. }) => (true, "not_yet"),
            Err(GatewayError::Unreachable { .. }) => (false, "failed"),
        };
        self.end(good, result);
        std::mem::forget(self);
    }

    fn end(&self, good: bool, result: &str) {
        let Guarded { inner, metrics, clock, .. } = self.guard;
        metrics.calls.with_label_values(&[inner.name(), self.name, result]).inc();
        let mut breaker = self.guard.breaker();
        breaker.record(clock(), self.passed, good);
        metrics.breaker.with_label_values(&[inner.name()]).set(breaker.level());
    }
}

impl Drop for Verdict<'_> {
    fn drop(&mut self) {
        if self.waiting {
            self.guard.breaker().withdraw(self.passed);
        } else {
            self.end(false, "failed");
        }
    }
}

#[async_trait]
impl PaymentGateway for Guarded {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn accepts(&self, method: &str) -> bool {
        self.inner.accepts(method)
    }

    async fn authorize(&self, charge: &Charge) -> Result<PaymentStatus, GatewayError> {
        self.guard(&self.authorizations, "authorize", self.inner.authorize(charge)).await
    }

    async fn look_up(
        &self,
        order: OrderId,
        attempt: u32,
        reference: Option<&str>,
    ) -> Result<PaymentStatus, GatewayError> {
        self.guard(&self.rest, "look_up", self.inner.look_up(order, attempt, reference)).await
    }

    async fn capture(&self, order: OrderId, reference: &str, amount: Money) -> Result<(), GatewayError> {
        self.guard(&self.rest, "capture", self.inner.capture(order, reference, amount)).await
    }

    async fn give_back(
        &self,
        order: OrderId,
        reference: &str,
        amount: Option<Money>,
        refund: &str,
    ) -> Result<(), GatewayError> {
        self.guard(&self.rest, "give_back", self.inner.give_back(order, reference, amount, refund)).await
    }

    async fn list(&self, from: Timestamp, to: Timestamp, after: Option<&str>) -> Result<PaymentPage, GatewayError> {
        self.guard(&self.rest, "list", self.inner.list(from, to, after)).await
    }

    async fn payment(&self, reference: &str) -> Result<Option<ListedPayment>, GatewayError> {
        self.guard(&self.rest, "payment", self.inner.payment(reference)).await
    }

    fn health(&self) -> GatewayHealth {
        self.breaker().health()
    }

    fn unavailable_for(&self) -> Option<Duration> {
        let is_full = || {
            let Compartment { running, waiting, .. } = &self.authorizations;
            running.available_permits() == 0 && waiting.load(Ordering::Acquire) >= self.bounds.waiting_max
        };
        self.breaker().refuses_for((self.clock)()).or_else(|| is_full().then_some(self.bounds.wait_max))
    }
}

#[cfg(test)]
mod tests;
