//! One drop, one thread, no journal: what the engine costs with many orders already in memory, and what those occupy there.
//!
//! `cargo bench --bench engine` measures; `cargo test` runs the same code once on small drops.

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use livedrop::domain::limits::DROP_BATCH_MAX;
use livedrop::domain::{DropEvent, Timestamp};
use livedrop::engine::{Command, DropState, Outcome};
use std::hint::black_box;
use std::time::{Duration, Instant};
use support::{START_MS, measuring, memory_kib, reserve, spec};

mod support;

/// More than any drop here sells.
const STOCK: u32 = 40_000_000;
/// Commands that are made before they are timed: few enough to stay in the cache.
const MADE_BEFORE: usize = 1_024;

/// What is done with each new order in the measured time.
#[derive(Clone, Copy)]
enum Then {
    Hold,
    Confirm,
}

/// A drop with confirmed orders, each of another buyer, and a clock that ticks a millisecond for every thousand commands.
struct Bench {
    state: DropState,
    orders: usize,
    applied: i64,
    /// How long the slowest command took while the drop was filled.
    longest: Duration,
    /// As in the drop actor, the same again and again.
    events: Vec<DropEvent>,
}

impl Bench {
    fn with_orders(orders: usize) -> Self {
        let state = DropState::scheduled(spec(STOCK));
        let mut bench = Self { state, orders, applied: 0, longest: Duration::ZERO, events: Vec::new() };
        for _ in 0..orders {
            let (hold, pay) = bench.order();
            for command in [hold, pay] {
                let start = Instant::now();
                bench.apply(command);
                bench.longest = bench.longest.max(start.elapsed());
            }
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
        self.events.clear();
        let (outcome, _) = self.state.apply(now, command, &mut self.events);
        assert!(matches!(outcome, Outcome::Order { .. }), "{outcome:?}");
        black_box(&self.events);
    }

    /// Times `iters` orders. The drop may grow by a quarter; then it is built anew, outside of the measured time.
    fn time(&mut self, iters: u64, then: Then) -> Duration {
        let mut spent = Duration::ZERO;
        let mut left = usize::try_from(iters).expect("a 64-bit machine");
        while left > 0 {
            let room = (self.orders + self.orders / 4).saturating_sub(self.state.order_count());
            if room == 0 {
                *self = Self::with_orders(self.orders);
                continue;
            }
            let orders = left.min(room).min(MADE_BEFORE);
            left -= orders;
            let mut commands: Vec<Command> = Vec::with_capacity(2 * orders);
            for (hold, pay) in (0..orders).map(|_| self.order()) {
                commands.push(hold);
                commands.extend(matches!(then, Then::Confirm).then_some(pay));
            }
            let mut commands = commands.into_iter();
            let start = Instant::now();
            while !commands.as_slice().is_empty() {
                // As the drop actor does when so many wait.
                let batch = commands.len().min(DROP_BATCH_MAX);
                self.state.prefetch(&commands.as_slice()[..batch]);
                for command in commands.by_ref().take(batch) {
                    self.apply(command);
                }
            }
            spent += start.elapsed();
        }
        spent
    }
}

/// Has a virtual machine get memory from its host, which it gives back when it has not used it for some seconds: to touch a page first takes
/// longer than all of the orders that find room in it.
fn supply_memory() {
    // Larger than what an allocator keeps.
    black_box(vec![1_u8; if measuring() { 64 << 20 } else { 4_096 }]);
}

/// How many orders are there before: small unless this is a measurement.
fn sizes() -> [usize; 3] {
    if measuring() { [10_000, 1_000_000, 10_000_000] } else { [100, 500, 1_000] }
}

fn engine(c: &mut Criterion) {
    let mut group = c.benchmark_group("engine");
    group.sample_size(10).throughput(Throughput::Elements(1));
    group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(1));
    for orders in sizes() {
        let before = memory_kib(std::process::id(), "VmRSS:");
        let mut bench = Bench::with_orders(orders);
        let bytes = memory_kib(std::process::id(), "VmRSS:").saturating_sub(before) << 10;
        // Whatever was freed before is used again first, so a small drop says nothing.
        if orders >= 1_000_000 {
            println!(
                "{orders} confirmed orders: {:.0} bytes resident each, longest command {:.1} ms",
                bytes as f64 / orders as f64,
                1e3 * bench.longest.as_secs_f64()
            );
        }
        of_size(&mut group, &mut bench);
        bench.state.assert_invariants();
    }
    group.finish();
}

fn of_size(group: &mut BenchmarkGroup<'_, WallTime>, bench: &mut Bench) {
    let orders = bench.orders;
    let (known, _) = bench.order();
    bench.apply(known.clone());
    // A buyer's retry: the key is known, and the answer is the order as it is now.
    group.bench_function(BenchmarkId::new("retry", orders), |b| b.iter(|| bench.apply(known.clone())));
    for (name, then) in [("reserve", Then::Hold), ("reserve_and_confirm", Then::Confirm)] {
        group.bench_function(BenchmarkId::new(name, orders), |b| b.iter_custom(|iters| bench.time(iters, then)));
    }
    group.bench_function(BenchmarkId::new("reserve_in_supplied_memory", orders), |b| {
        b.iter_custom(|iters| {
            supply_memory();
            bench.time(iters, Then::Hold)
        });
    });
}

criterion_group!(benches, engine);
criterion_main!(benches);
