//! One drop, one thread, no journal: what the engine costs with many orders already in memory.
//!
//! `cargo bench --bench engine` measures; `cargo test` runs the same code once on small drops.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use livedrop::domain::Timestamp;
use livedrop::engine::{Command, DropState, Outcome};
use std::hint::black_box;
use std::time::{Duration, Instant};
use support::{START_MS, measuring, reserve, spec};

mod support;

const STOCK: u32 = 10_000_000;
/// A drop with confirmed orders, each of another buyer, and a clock that ticks a millisecond for every thousand.
struct Bench {
    state: DropState,
    orders: usize,
    applied: i64,
}

impl Bench {
    fn with_orders(orders: usize) -> Self {
        let mut bench = Self { state: DropState::scheduled(spec(STOCK)), orders, applied: 0 };
        for _ in 0..orders {
            let (hold, pay) = bench.order();
            bench.apply(hold);
            bench.apply(pay);
        }
        bench
    }

    fn order(&self) -> (Command, Command) {
        let ask = reserve(self.state.spec());
        let pay = Command::Confirm { order: ask.order, payment_ref: "pay_0123456789abcdef".into() };
        (Command::Reserve(Box::new(ask)), pay)
    }

    fn apply(&mut self, command: Command) {
        self.applied += 1;
        let now = Timestamp::from_millis(START_MS + self.applied / 1000);
        let mut events = Vec::new();
        let (outcome, _) = self.state.apply(now, command, &mut events);
        assert!(matches!(outcome, Outcome::Order { .. }), "{outcome:?}");
        black_box(events);
    }

    /// Times `iters` orders. The drop may grow by a quarter; then it is built anew, outside of the measured time.
    fn time(&mut self, iters: u64) -> Duration {
        let mut spent = Duration::ZERO;
        let mut left = usize::try_from(iters).expect("a 64-bit machine");
        while left > 0 {
            let room = (self.orders + self.orders / 4).saturating_sub(self.state.order_count());
            if room == 0 {
                *self = Self::with_orders(self.orders);
                continue;
            }
            let batch: Vec<_> = (0..left.min(room)).map(|_| self.order()).collect();
            left -= batch.len();
            let start = Instant::now();
            for (hold, pay) in batch {
                self.apply(hold);
                self.apply(pay);
            }
            spent += start.elapsed();
        }
        spent
    }
}

/// How many orders are there before: small unless this is a measurement.
fn sizes() -> [usize; 2] {
    if measuring() { [10_000, 1_000_000] } else { [100, 1_000] }
}

fn reserve_and_confirm(c: &mut Criterion) {
    let mut group = c.benchmark_group("engine/reserve_and_confirm");
    group.sample_size(20).throughput(Throughput::Elements(1));
    group.warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(3));
    for orders in sizes() {
        let mut bench = Bench::with_orders(orders);
        group.bench_function(BenchmarkId::from_parameter(orders), |b| b.iter_custom(|iters| bench.time(iters)));
        bench.state.assert_invariants();
    }
    group.finish();
}

/// A buyer's retry: the key is known, and the answer is the order as it is now.
fn retry(c: &mut Criterion) {
    let mut group = c.benchmark_group("engine/retry");
    group.sample_size(20).throughput(Throughput::Elements(1));
    for orders in sizes() {
        let mut bench = Bench::with_orders(orders);
        let (hold, _) = bench.order();
        bench.apply(hold.clone());
        group.bench_function(BenchmarkId::from_parameter(orders), |b| b.iter(|| bench.apply(hold.clone())));
    }
    group.finish();
}

criterion_group!(benches, reserve_and_confirm, retry);
criterion_main!(benches);
