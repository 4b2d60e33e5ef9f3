//! One drop, one thread, no journal: the engine's time per order with many orders in memory, and their memory.

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
/// Commands are made before the measurement; this many still fit in the cache.
const MADE_BEFORE: usize = 1_024;

/// Whether the measured time includes only the hold of each order, or its confirmation too.
#[derive(Clone, Copy)]
enum Then {
    Hold,
    Confirm,
}

/// A drop with confirmed orders, each of another buyer. Its clock advances a millisecond for every thousand commands.
struct Bench {
    state: DropState,
    orders: usize,
    applied: i64,
    /// How long the slowest command took while the drop was filled.
    longest: Duration,
    /// Reused for every command, as in the drop actor.
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

    /// Times `iters` orders. The drop may grow by a quarter; then it is rebuilt outside the measured time.
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
                // The drop actor prefetches a full batch in the same way.
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

/// Makes a virtual machine get memory from its host before the measurement. The guest returns unused memory after some
/// seconds, and the first touch of a page takes longer than all the orders on it.
fn supply_memory() {
    // Larger than the allocator's own reserve.
    black_box(vec![1_u8; if measuring() { 64 << 20 } else { 4_096 }]);
}

/// Numbers of orders in the drop before the measurement; small in a test run.
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
        // Only large drops: a small one fits into memory that was freed before, so its residency shows nothing.
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
