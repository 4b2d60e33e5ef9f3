//! The journal alone: entries of one record, submitted and awaited in groups, by durability.
//!
//! `cargo bench --bench journal` measures; `cargo test` runs the same code on small numbers. The journal lies in the
//! folder for temporary files: point `TMPDIR` at the disk that is to be measured.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use crossbeam::channel::bounded;
use livedrop::domain::{DropEvent, DropRecord, Timestamp};
use livedrop::engine::{Command, DropState};
use livedrop::journal::{Durability, Journal, Records};
use std::time::{Duration, Instant};
use support::history::{Reply, submit};
use support::{START_MS, journal, measuring, reserve, spec};
use tempfile::TempDir;

mod support;

const CURSOR: &str = "bench";

/// The record of one order.
fn order() -> Records {
    let mut state = DropState::scheduled(spec(10));
    let ask = reserve(state.spec());
    let (now, mut events) = (Timestamp::from_millis(START_MS), Vec::new());
    state.apply(now, Command::Reserve(Box::new(ask)), &mut events);
    let event = events.into_iter().find(|event| matches!(event, DropEvent::Reserved { .. })).expect("a hold");
    let record = DropRecord { drop: state.spec().id, at: now, event };
    let mut records = Records::new();
    records.push(|buffer| record.encode(buffer)).expect("a small record");
    records
}

/// Appends `entries` entries in groups, each group awaited before the next.
fn append(journal: &Journal<Reply>, entry: &Records, entries: u64, group: u64) -> Duration {
    let handle = journal.handle();
    let (mut left, start) = (entries, Instant::now());
    while left > 0 {
        let now = left.min(group);
        let (done, last) = bounded(1);
        for n in 1..=now {
            // Replies come in order, so the last one stands for the group.
            let done = (n == now).then(|| done.clone());
            let reply = move |outcome: Result<u64, _>| {
                outcome.expect("written");
                done.inspect(|done| done.send(()).expect("somebody waits"));
            };
            submit(&handle, entry.clone(), Box::new(reply));
        }
        last.recv().expect("an answer");
        left -= now;
    }
    let spent = start.elapsed();
    // Without a cursor the journal would never delete a segment.
    handle.reader().advance_cursor(CURSOR, handle.reader().durable());
    spent
}

fn append_by_group(c: &mut Criterion) {
    let entry = order();
    let modes = [Durability::Always, Durability::Interval { millis: 10 }, Durability::Never];
    for durability in modes {
        let mut group = c.benchmark_group(format!("journal/{durability}"));
        group.sample_size(10).throughput(Throughput::Elements(1));
        group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
        let folder = TempDir::new().expect("a temporary folder");
        let journal = journal::<Reply>(folder.path(), durability);
        journal.handle().reader().register_cursor(CURSOR, 0);
        let groups: &[u64] = if measuring() { &[1, 16, 256, 4_096, 32_768] } else { &[1, 16] };
        for &entries in groups {
            let id = BenchmarkId::from_parameter(entries);
            group.bench_function(id, |b| b.iter_custom(|count| append(&journal, &entry, count, entries)));
        }
        group.finish();
        journal.close().expect("a clean end");
    }
}

criterion_group!(benches, append_by_group);
criterion_main!(benches);
