//! The speed of the projection. A small run by default; for a measurement: `LIVEDROP_PROJECTION_RECORDS=400000 cargo
//! test --release --test storage keeps_up -- --nocapture --test-threads 1`.

use crate::Database;
use crate::fixtures::{Journal, Sale};
use livedrop::domain::limits::PROJECTOR_BATCH_RECORDS_MAX;
use std::time::Instant;

/// Far below any machine's speed: the test detects a projection row by row, not a slow day.
const RECORDS_PER_SECOND_MIN: f64 = 1_500.0;

/// Orders placed in one batch and paid in a later one: half of the records insert, the others update.
pub async fn the_projection_keeps_up(db: Database) {
    let count = std::env::var("LIVEDROP_PROJECTION_RECORDS").ok().and_then(|text| text.parse().ok()).unwrap_or(16_384);
    let (mut journal, sale) = (Journal::new(&db), Sale::of(&[10_000_000]));
    journal.project(sale.opened()).await;
    let half = PROJECTOR_BATCH_RECORDS_MAX / 2;
    let (mut waiting, mut records, mut spent) = (Vec::new(), 0_usize, 0.0);
    while records < count {
        let asks: Vec<_> = (0..half).map(|_| sale.order(0, 1)).collect();
        let mut batch: Vec<_> = asks.iter().map(|ask| ask.reserved(1, Some("pm_sandbox_ok"))).collect();
        batch.extend(waiting.iter().map(|ask: &crate::fixtures::Ask| ask.confirmed(2, Some("pay_0123456789"), false)));
        (waiting, records) = (asks, records + batch.len());
        let started = Instant::now();
        journal.project(batch).await;
        spent += started.elapsed().as_secs_f64();
    }
    let rate = records as f64 / spent;
    println!("{}: {records} records in {spent:.2} s, {rate:.0} records/s", db.store.kind());
    assert!(rate > RECORDS_PER_SECOND_MIN, "{rate:.0} records/s");
}
