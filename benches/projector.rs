//! How fast the projector fills SQL from the journal: it starts far behind, and catches up.
//!
//! `cargo bench --bench projector` projects 400,000 orders (pass another count as an argument) into SQLite and into a
//! throw-away Postgres that syncs its commits, both in the folder for temporary files; `cargo test` runs it once on a
//! few.

use livedrop::actors::{Projected, Projector};
use livedrop::storage::{self, Store};
use postgres::PrivatePostgres;
use std::sync::Arc;
use std::time::Instant;
use support::history::{self, History};
use support::measuring;
use tempfile::TempDir;

#[path = "../tests/support/packages.rs"]
mod packages;
#[path = "../tests/support/postgres.rs"]
mod postgres;
mod support;

fn main() {
    let asked = std::env::args().skip(1).find_map(|argument| argument.parse::<u32>().ok());
    let orders = if measuring() { asked.unwrap_or(400_000) } else { 2_000 };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    println!(
        "| database | orders | records each | records/s | orders/s | our CPU us an order |\n|---|---|---|---|---|---|"
    );
    runtime.block_on(async {
        for pays in [false, true] {
            let folder = TempDir::new().expect("a temporary folder");
            let sqlite = format!("sqlite://{}", folder.path().join("livedrop.db").display());
            println!("{}", catch_up(&sqlite, orders, pays).await);
        }
        let server = PrivatePostgres::durable();
        for pays in [false, true] {
            println!("{}", catch_up(&server.fresh_database().await, orders, pays).await);
        }
    });
}

/// A row of the table: one drop's orders, held, or held and paid.
async fn catch_up(url: &str, orders: u32, pays: bool) -> String {
    let folder = TempDir::new().expect("a temporary folder");
    let mut history = History::new(history::open(folder.path()));
    // Registered before the first record, so that no record is deleted before the projector reads it.
    let reader = history.journal().handle().reader();
    reader.register_cursor(livedrop::actors::consumers::projector::ABOUT.name, 0);
    history.sale(orders, pays, false);
    let last = history.written();
    reader.durable_watch().wait_for(|durable| *durable >= last).await.expect("the journal runs");

    let store: Arc<dyn Store> = storage::connect(url).await.expect("a store");
    store.migrate().await.expect("a schema");
    let ledger: Arc<dyn storage::Ledger> = Arc::clone(&store) as _;
    let (mut projector, view) = Projector::new(ledger, &reader, 0);
    let (start, cpu) = (Instant::now(), cpu_seconds());
    while view.watermark() < last {
        assert_eq!(projector.step().await, Projected::Batch, "{:?}", view.trouble());
    }
    let (seconds, cpu) = (start.elapsed().as_secs_f64(), cpu_seconds() - cpu);
    history.close();
    let (records, each) = (last as f64 / seconds, if pays { 2 } else { 1 });
    let (rate, cpu) = (f64::from(orders) / seconds, cpu * 1e6 / f64::from(orders));
    format!("| {} | {orders} | {each} | {records:.0} | {rate:.0} | {cpu:.1} |", store.kind())
}

/// CPU seconds of this process so far, kernel time included. They include SQLite, but not Postgres.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("a process");
    let (_, fields) = stat.rsplit_once(')').expect("its name");
    let ticks = |field: usize| fields.split_whitespace().nth(field).and_then(|ticks| ticks.parse::<f64>().ok());
    // Linux counts a hundred ticks a second.
    (ticks(11).expect("user time") + ticks(12).expect("system time")) / 100.0
}
