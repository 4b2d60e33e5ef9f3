//! How late drops start: drops at times of their own, and many drops that start in the same millisecond.
//!
//! `cargo bench --bench scheduler` measures; `cargo test` runs the same code on few drops. "Late" is the difference
//! between `starts_at` and the journaled and published `started_at`; "visible" is when a read of the drop first shows
//! it as live, polled every millisecond.

use futures_util::future::join_all;
use hdrhistogram::Histogram;
use livedrop::actors::inventory::timer;
use livedrop::actors::{Clock, Decisions, DropHandle, Registry, Scheduler};
use livedrop::domain::{DropSpec, DropStatus, Timestamp};
use livedrop::journal::Durability;
use std::time::Duration;
use support::{journal, measuring, spec};
use tempfile::TempDir;

mod support;

/// The maximum delay of a start.
const LATE_MS_MAX: u64 = 50;

fn main() {
    let drops = if measuring() { 1_000 } else { 20 };
    println!("| drops | start | late ms p50 | p99 | max | visible ms p99 | max |\n|---|---|---|---|---|---|---|");
    let system = actix::System::new();
    system.block_on(bench(drops, "each at its own time", |n| 500 + n * 2));
    system.block_on(bench(drops, "all at once", |_| 1_000));
}

async fn bench(count: i64, how: &str, start_ms: impl Fn(i64) -> i64) {
    let folder = TempDir::new().expect("a temporary folder");
    let journal = journal::<Decisions>(folder.path(), Durability::Always);
    let (clock, scheduler) = (Clock::default(), Scheduler::default());
    let registry = Registry::new(journal.handle(), clock.clone(), scheduler.clone(), 1);
    let running = actix::spawn(timer::run(scheduler, registry.clone(), clock.clone(), false));
    // Far enough ahead that all are scheduled by then.
    let base = clock.now().plus_millis(1_000);
    let schedule = (0..count).map(async |n| {
        let starts_at = base.plus_millis(start_ms(n));
        registry.schedule(DropSpec { starts_at, ..spec(10) }).await.expect("a drop").0
    });
    let mut waiting = join_all(schedule).await;
    assert!(clock.now() < base, "the drops took too long to schedule");
    let (mut late, mut visible) = (histogram(), histogram());
    while !waiting.is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
        let now = clock.now();
        waiting.retain(|drop| !has_started(drop, now, &mut late, &mut visible));
    }
    let at = |histogram: &Histogram<u64>, quantile: f64| histogram.value_at_quantile(quantile);
    println!(
        "| {count} | {how} | {} | {} | {} | {} | {} |",
        at(&late, 0.5),
        at(&late, 0.99),
        late.max(),
        at(&visible, 0.99),
        visible.max()
    );
    if measuring() {
        assert!(late.max() <= LATE_MS_MAX, "a drop was {} ms late", late.max());
    }
    running.abort();
    registry.stop();
}

fn has_started(drop: &DropHandle, now: Timestamp, late: &mut Histogram<u64>, visible: &mut Histogram<u64>) -> bool {
    let published = drop.cell.read();
    let (DropStatus::Live, Some(started_at)) = (published.status, published.started_at) else { return false };
    let since = |at: Timestamp| u64::try_from(at.millis_since(drop.spec.starts_at)).expect("never early");
    late.record(since(started_at)).expect("a duration");
    visible.record(since(now)).expect("a duration");
    true
}

fn histogram() -> Histogram<u64> {
    Histogram::new(3).expect("a histogram")
}
