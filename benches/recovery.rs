//! Start-up recovery: how fast a journal is replayed into drops, and what that costs in memory.
//!
//! `cargo bench --bench recovery` replays 1, 5 and 10 million records (pass other counts in millions as arguments); `cargo test` runs
//! it once on a small journal. The history is a hundred drops' worth for each million records: each is sold to the end and settled, but for
//! the last, which is live. SQL is empty, as after an outage that lasted for the whole history: the worst case.

use livedrop::actors::recovery::recover;
use livedrop::domain::{DropEvent, DropRecord, Timestamp};
use livedrop::engine::{Command, DropState};
use livedrop::journal::{Durability, Journal, JournalError, Records};
use livedrop::storage;
use std::fs;
use std::path::Path;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Instant;
use support::{START_MS, measuring, reserve, spec};
use tempfile::TempDir;

mod support;

type Reply = Box<dyn FnOnce(Result<u64, JournalError>) + Send>;

/// Orders of a drop that is sold and over: with its beginning and end, 10,000 records.
const ORDERS: u32 = 4_999;
/// Entries that wait for the disk at once.
const IN_FLIGHT: usize = 1_024;

fn open(dir: &Path) -> Journal<Reply> {
    support::journal(dir, Durability::Never)
}

/// Writes what drops decide.
struct History {
    journal: Journal<Reply>,
    written: u64,
    done: SyncSender<()>,
}

impl History {
    fn submit(&mut self, records: &[DropRecord]) {
        let mut entry = Records::new();
        for record in records {
            entry.push(|buffer| record.encode(buffer)).expect("a small record");
        }
        self.written += records.len() as u64;
        let permit = loop {
            match self.journal.handle().try_permit() {
                Some(permit) => break permit,
                None => std::thread::yield_now(),
            }
        };
        let done = self.done.clone();
        permit.submit(
            entry,
            Box::new(move |outcome| {
                outcome.expect("written");
                let _ = done.try_send(());
            }),
        );
    }

    /// One drop from its scheduling to the last order, and to its end unless it stays live.
    fn drop_of(&mut self, orders: u32, ends: bool) {
        let spec = spec(orders);
        let mut state = DropState::scheduled(spec.clone());
        let scheduled =
            DropRecord { drop: spec.id, at: spec.created_at, event: DropEvent::Scheduled(Box::new(spec.clone())) };
        self.submit(&[scheduled]);
        let mut events = Vec::new();
        let mut apply = |history: &mut Self, command: Command| {
            events.clear();
            let (_, at) = state.apply(Timestamp::from_millis(START_MS), command, &mut events);
            let records: Vec<_> = events.drain(..).map(|event| DropRecord { drop: spec.id, at, event }).collect();
            history.submit(&records);
        };
        for _ in 0..orders {
            let ask = reserve(&spec);
            let pay = Command::Confirm { order: ask.order, payment_ref: "ch_0123456789abcdef".into() };
            apply(self, Command::Reserve(Box::new(ask)));
            apply(self, pay);
        }
        if ends {
            apply(self, Command::End);
        }
    }
}

fn kib(field: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).unwrap_or_default()
}

fn measure(records: u64) {
    let folder = TempDir::new().expect("a temporary folder");
    let dir = folder.path().join("journal");
    let (done, _kept) = sync_channel(IN_FLIGHT);
    let mut history = History { journal: open(&dir), written: 0, done };
    while history.written + 2 * u64::from(ORDERS) < records {
        history.drop_of(ORDERS, true);
    }
    history.drop_of(ORDERS, false);
    let written = history.written;
    history.journal.close().expect("a clean end");
    let bytes: u64 =
        fs::read_dir(&dir).expect("the folder").flatten().map(|file| file.metadata().map_or(0, |m| m.len())).sum();

    let opening = Instant::now();
    let journal = open(&dir);
    let opened = opening.elapsed();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let url = format!("sqlite://{}", folder.path().join("livedrop.db").display());
    // From here on the peak is the replay's.
    let _ = fs::write("/proc/self/clear_refs", "5");
    let before = kib("VmRSS:");
    let (recovered, replayed) = runtime.block_on(async {
        let store = storage::connect(&url).await.expect("a database");
        store.migrate().await.expect("its schema");
        let start = Instant::now();
        let recovered = recover(&*store, &journal.handle().reader(), 0, written).await.expect("a clean journal");
        (recovered, start.elapsed())
    });
    assert_eq!((recovered.replayed, recovered.drops.len()), (written, 1));
    println!(
        "{written:>12} records {:>6} MiB   open and check {:>6.2} s   replay {:>6.2} s = {:>9.0} records/s   peak +{} MiB",
        bytes >> 20,
        opened.as_secs_f64(),
        replayed.as_secs_f64(),
        written as f64 / replayed.as_secs_f64(),
        kib("VmHWM:").saturating_sub(before) >> 10,
    );
}

fn main() {
    if !measuring() {
        return measure(30_000);
    }
    let counts: Vec<u64> = std::env::args().filter_map(|arg| arg.parse().ok()).collect();
    for millions in if counts.is_empty() { vec![1, 5, 10] } else { counts } {
        measure(millions * 1_000_000);
    }
}
