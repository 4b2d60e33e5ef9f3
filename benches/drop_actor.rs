//! Drop actors and the journal, in process: every reservation is on disk (one `fdatasync` for each group) before its answer.
//!
//! `cargo bench --bench drop_actor` measures; `cargo test` runs the same code on small numbers. The journal lies in
//! the folder for temporary files: point `TMPDIR` at the disk that is to be measured.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use livedrop::actors::{Clock, Decisions, DropHandle, Registry, Scheduler};
use livedrop::domain::limits::{DROP_MAILBOX_MAX, JOURNAL_QUEUE_ENTRIES_MAX};
use livedrop::journal::{Durability, Journal};
use livedrop::service::collect_turns;
use std::sync::Arc;
use std::time::Duration;
use support::{journal, measuring, place, spec};
use tempfile::TempDir;

mod support;

const STOCK: u32 = 100_000_000;
const CURSOR: &str = "bench";

/// Live drops over a journal in a temporary folder.
struct Bench {
    journal: Journal<Decisions>,
    registry: Registry,
    drops: Vec<Arc<DropHandle>>,
    _folder: TempDir,
}

impl Bench {
    async fn new(drops: usize) -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let journal = journal::<Decisions>(folder.path(), Durability::Always);
        // Without a cursor the journal would never delete a segment.
        journal.handle().reader().register_cursor(CURSOR, 0);
        let registry = Registry::new(journal.handle(), Clock::default(), Scheduler::default(), 1);
        let mut handles = Vec::new();
        for _ in 0..drops {
            handles.push(registry.schedule(spec(STOCK)).await.expect("a drop").0);
        }
        Self { journal, registry, drops: handles, _folder: folder }
    }

    /// Places `orders`, `in_flight` at a time, spread evenly over the drops; returns the time.
    async fn place(&self, orders: u64, in_flight: u64) -> Duration {
        let spent = place(&self.drops, orders, in_flight).await;
        let reader = self.journal.handle().reader();
        reader.advance_cursor(CURSOR, reader.durable());
        spent
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.registry.stop();
    }
}

fn durable_reserve(c: &mut Criterion) {
    let system = actix::System::new();
    // The same setting as on a worker of the server.
    system.block_on(async { collect_turns() });
    let mut group = c.benchmark_group("drop_actor/durable_reserve");
    group.sample_size(10).throughput(Throughput::Elements(1));
    group.warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(3));
    let shapes: &[(usize, u64)] = &[(1, 1), (1, 64), (1, 1024), (1, 2048), (1, 4096), (64, 4096)];
    for &(drops, in_flight) in if measuring() { shapes } else { &shapes[..2] } {
        assert!(in_flight as usize <= DROP_MAILBOX_MAX.min(JOURNAL_QUEUE_ENTRIES_MAX), "nobody is turned away");
        let bench = system.block_on(Bench::new(drops));
        let id = BenchmarkId::from_parameter(format!("{drops} drops, {in_flight} in flight"));
        group.bench_function(id, |b| {
            b.iter_custom(|orders| system.block_on(bench.place(orders, in_flight)));
        });
    }
    group.finish();
}

criterion_group!(benches, durable_reserve);
criterion_main!(benches);
