//! Start-up recovery: how fast a journal is replayed into drops, and its memory.
//!
//! `cargo bench --bench recovery` replays 1, 5 and 10 million records (pass other counts in millions as arguments);
//! `cargo test` runs it once on a small journal. The history has a hundred drops for each million records: each is sold
//! out and settled, but for the last, which is live. SQL is empty, as after an outage that lasted for the whole
//! history: the worst case.

use livedrop::actors::inventory::recovery::recover;
use livedrop::storage;
use std::fs;
use std::time::Instant;
use support::history::{self, History};
use support::{measuring, memory_kib};
use tempfile::TempDir;

mod support;

/// Orders of an ended drop; with its first and last records, 10,000 records.
const ORDERS: u32 = 4_999;

fn measure(records: u64) {
    let folder = TempDir::new().expect("a temporary folder");
    let dir = folder.path().join("journal");
    let mut history = History::new(history::open(&dir));
    while history.written() + 2 * u64::from(ORDERS) < records {
        history.sale(ORDERS, true, true);
    }
    history.sale(ORDERS, true, false);
    let written = history.written();
    history.close();
    let bytes: u64 =
        fs::read_dir(&dir).expect("the folder").flatten().map(|file| file.metadata().map_or(0, |m| m.len())).sum();

    let opening = Instant::now();
    let journal = history::open(&dir);
    let opened = opening.elapsed();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let url = format!("sqlite://{}", folder.path().join("livedrop.db").display());
    // Resets the peak, so that it is the replay's alone.
    let _ = fs::write("/proc/self/clear_refs", "5");
    let before = memory_kib(std::process::id(), "VmRSS:");
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
        memory_kib(std::process::id(), "VmHWM:").saturating_sub(before) >> 10,
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
