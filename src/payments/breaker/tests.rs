use super::*;
use crate::domain::UserId;
use std::sync::atomic::{AtomicBool, AtomicI64};
use tokio::sync::Notify;
use tokio::task::JoinSet;

const SECOND: i64 = 1_000;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(1_000_000 * SECOND + seconds * SECOND)
}

fn breaker() -> Breaker {
    Breaker::new(GuardBounds::default())
}

fn fail(breaker: &mut Breaker, now: Timestamp, times: u32) {
    for _ in 0..times {
        let passed = breaker.admit(now).expect("it is closed");
        breaker.record(now, passed, false);
    }
}

#[test]
fn many_failures_open_it_and_time_lets_one_call_try() {
    let mut breaker = breaker();
    fail(&mut breaker, at(0), 4);
    assert_eq!(breaker.health(), GatewayHealth::Up);
    fail(&mut breaker, at(1), 1);
    assert_eq!(breaker.health(), GatewayHealth::Down { since: at(1), retry_at: at(6) });
    assert_eq!(breaker.refuses_for(at(2)), Some(Duration::from_secs(4)));
    assert_eq!(breaker.admit(at(2)), Err(Duration::from_secs(4)));
    assert_eq!(breaker.refuses_for(at(6)), None, "one may try");
    assert_eq!(breaker.admit(at(6)), Ok(Passed::Probe));
    assert!(breaker.refuses_for(at(6)).is_some() && breaker.admit(at(6)).is_err(), "one at a time");
    breaker.record(at(7), Passed::Probe, true);
    assert_eq!(breaker.health(), GatewayHealth::Up);
    assert_eq!(breaker.admit(at(7)), Ok(Passed::Usual));
}

#[test]
fn it_stays_open_twice_as_long_each_time_up_to_the_bound() {
    let mut breaker = breaker();
    fail(&mut breaker, at(0), 5);
    let mut now = at(5);
    for pause in [10, 20, 40, 60, 60] {
        assert_eq!(breaker.admit(now), Ok(Passed::Probe));
        breaker.record(now, Passed::Probe, false);
        assert_eq!(breaker.admit(now), Err(Duration::from_secs(pause)));
        now = now.plus_millis(i64::try_from(pause).unwrap() * SECOND);
    }
    let GatewayHealth::Down { since, .. } = breaker.health() else { panic!("it is open") };
    assert_eq!(since, at(0), "down since the first time");
}

#[test]
fn some_failures_among_many_calls_and_old_ones_do_not_open_it() {
    let mut mostly_good = breaker();
    for _ in 0..100 {
        for good in [true, true, true, false] {
            mostly_good.record(at(0), Passed::Usual, good);
        }
    }
    assert_eq!(mostly_good.health(), GatewayHealth::Up);
    let mut now_and_then = breaker();
    for round in 0..100 {
        fail(&mut now_and_then, at(round * 10), 4);
    }
    assert_eq!(now_and_then.health(), GatewayHealth::Up);
}

#[test]
fn what_began_before_it_opened_decides_nothing_and_a_withdrawn_probe_leaves_room() {
    let mut breaker = breaker();
    fail(&mut breaker, at(0), 5);
    breaker.record(at(1), Passed::Usual, true);
    assert!(breaker.admit(at(1)).is_err());
    assert_eq!(breaker.admit(at(5)), Ok(Passed::Probe));
    breaker.record(at(5), Passed::Usual, false);
    breaker.withdraw(Passed::Probe);
    assert_eq!(breaker.admit(at(5)), Ok(Passed::Probe));
}

/// Hangs, fails or answers, as a test says.
#[derive(Default)]
struct Provider {
    hangs: AtomicBool,
    fails: AtomicBool,
    go_on: Notify,
    running: AtomicUsize,
    most: AtomicUsize,
}

impl Provider {
    async fn work(&self) -> Result<(), GatewayError> {
        let _running = Place::take(&self.running, usize::MAX);
        self.most.fetch_max(self.running.load(Ordering::SeqCst), Ordering::SeqCst);
        if self.hangs.load(Ordering::SeqCst) {
            self.go_on.notified().await;
        }
        if self.fails.load(Ordering::SeqCst) {
            return Err(GatewayError::Unreachable { reason: "no answer".to_owned(), retry_after: None });
        }
        Ok(())
    }
}

#[async_trait]
impl PaymentGateway for Provider {
    fn name(&self) -> &'static str {
        "test"
    }
    fn accepts(&self, _: &str) -> bool {
        true
    }
    async fn authorize(&self, _: &Charge) -> Result<PaymentStatus, GatewayError> {
        self.work().await.map(|()| PaymentStatus::Captured { reference: "r".to_owned() })
    }
    async fn look_up(&self, _: OrderId, _: u32, _: Option<&str>) -> Result<PaymentStatus, GatewayError> {
        Ok(PaymentStatus::Unknown)
    }
    async fn capture(&self, _: OrderId, _: &str, _: Money) -> Result<(), GatewayError> {
        Ok(())
    }
    async fn give_back(&self, _: OrderId, _: &str, _: Option<Money>, _: &str) -> Result<(), GatewayError> {
        Err(GatewayError::NotYet { reason: "not captured yet".to_owned() })
    }
    fn health(&self) -> GatewayHealth {
        GatewayHealth::Up
    }
}

struct Bench {
    provider: Arc<Provider>,
    guarded: Arc<Guarded>,
    seconds: Arc<AtomicI64>,
    registry: Registry,
}

fn bench() -> Bench {
    let (provider, seconds) = (Arc::new(Provider::default()), Arc::new(AtomicI64::new(0)));
    let time = Arc::clone(&seconds);
    let clock: SteadyClock = Arc::new(move || at(time.load(Ordering::SeqCst)));
    let (metrics, registry) = (GuardMetrics::default(), Registry::new());
    metrics.register(&registry).unwrap();
    let inner: Arc<dyn PaymentGateway> = Arc::clone(&provider) as _;
    let guarded = Arc::new(Guarded::new(inner, GuardBounds::default(), clock, metrics));
    Bench { provider, guarded, seconds, registry }
}

fn money() -> Money {
    Money { amount: 1_999, currency: "USD".parse().unwrap() }
}

fn charge() -> Charge {
    Charge { order: OrderId::new(), attempt: 1, amount: money(), method: "pm_x".to_owned(), buyer: UserId::new() }
}

fn refused_with_time<T>(answer: &Result<T, GatewayError>) -> bool {
    matches!(answer, Err(GatewayError::Refused { retry_after: Some(_), .. }))
}

fn metric(registry: &Registry, line: &str) -> bool {
    let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
    text.lines().any(|found| found == line)
}

#[tokio::test(start_paused = true)]
async fn five_hundred_hanging_charges_hold_nothing_else_up() {
    let bench = bench();
    let bounds = GuardBounds::default();
    bench.provider.hangs.store(true, Ordering::SeqCst);
    let mut charges = JoinSet::new();
    for _ in 0..500 {
        let guarded = Arc::clone(&bench.guarded);
        charges.spawn(async move { guarded.authorize(&charge()).await });
    }
    // Beyond those that run and wait, all are refused before any time passes.
    let began = tokio::time::Instant::now();
    for _ in 0..500 - bounds.at_once_max - bounds.waiting_max {
        let answer = charges.join_next().await.unwrap().unwrap();
        assert!(refused_with_time(&answer), "{answer:?}");
    }
    assert_eq!(began.elapsed(), Duration::ZERO);
    // It says so before an attempt is recorded.
    assert_eq!(bench.guarded.unavailable_for(), Some(bounds.wait_max));
    assert!(metric(
        &bench.registry,
        r#"livedrop_payment_calls_running{compartment="authorizations",provider="test"} 64"#
    ));
    assert!(metric(
        &bench.registry,
        r#"livedrop_payment_calls_waiting{compartment="authorizations",provider="test"} 256"#
    ));
    // Captures and look-ups have room of their own.
    let order = OrderId::new();
    bench.guarded.capture(order, "r", money()).await.unwrap();
    assert_eq!(bench.guarded.look_up(order, 1, None).await, Ok(PaymentStatus::Unknown));
    assert_eq!(began.elapsed(), Duration::ZERO);
    // The others wait no longer than their time.
    for _ in 0..bounds.waiting_max {
        assert!(refused_with_time(&charges.join_next().await.unwrap().unwrap()));
    }
    assert_eq!(began.elapsed().as_secs(), bounds.wait_max.as_secs());
    assert_eq!(bench.provider.most.load(Ordering::SeqCst), bounds.at_once_max);
    // None of them was a failure of the provider.
    assert_eq!(bench.guarded.health(), GatewayHealth::Up);
    assert_eq!(bench.guarded.unavailable_for(), None, "one may wait");
    charges.abort_all();
    while charges.join_next().await.is_some() {}
    assert_eq!(bench.provider.running.load(Ordering::SeqCst), 0);
    assert!(metric(
        &bench.registry,
        r#"livedrop_payment_calls_running{compartment="authorizations",provider="test"} 0"#
    ));
    assert!(matches!(bench.guarded.health(), GatewayHealth::Down { .. }), "given up while they ran");
}

#[tokio::test(start_paused = true)]
async fn a_waiting_charge_runs_when_another_ends() {
    let bench = bench();
    bench.provider.hangs.store(true, Ordering::SeqCst);
    let mut charges = JoinSet::new();
    for _ in 0..=GuardBounds::default().at_once_max {
        let guarded = Arc::clone(&bench.guarded);
        charges.spawn(async move { guarded.authorize(&charge()).await });
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    bench.provider.hangs.store(false, Ordering::SeqCst);
    bench.provider.go_on.notify_waiters();
    while let Some(answer) = charges.join_next().await {
        assert!(answer.unwrap().is_ok());
    }
}

#[tokio::test]
async fn a_provider_that_fails_is_left_alone_until_it_is_well() {
    let bench = bench();
    bench.provider.fails.store(true, Ordering::SeqCst);
    for _ in 0..5 {
        assert!(matches!(bench.guarded.authorize(&charge()).await, Err(GatewayError::Unreachable { .. })));
    }
    assert_eq!(bench.guarded.health(), GatewayHealth::Down { since: at(0), retry_at: at(5) });
    assert!(metric(&bench.registry, r#"livedrop_payment_breaker{provider="test"} 2"#));
    // Nothing reaches it, captures neither.
    bench.provider.fails.store(false, Ordering::SeqCst);
    assert!(refused_with_time(&bench.guarded.authorize(&charge()).await));
    assert!(refused_with_time(&bench.guarded.capture(OrderId::new(), "r", money()).await));
    bench.seconds.store(5, Ordering::SeqCst);
    assert!(bench.guarded.authorize(&charge()).await.is_ok());
    assert_eq!(bench.guarded.health(), GatewayHealth::Up);
    assert!(metric(&bench.registry, r#"livedrop_payment_breaker{provider="test"} 0"#));
    let rejected = r#"livedrop_payment_calls_total{call="authorize",provider="test",result="rejected"} 1"#;
    assert!(metric(&bench.registry, rejected));
}

#[tokio::test]
async fn an_answer_that_is_not_final_is_no_failure() {
    let bench = bench();
    for _ in 0..20 {
        let answer = bench.guarded.give_back(OrderId::new(), "r", None, "refund").await;
        assert!(matches!(answer, Err(GatewayError::NotYet { .. })));
    }
    assert_eq!(bench.guarded.health(), GatewayHealth::Up);
}
