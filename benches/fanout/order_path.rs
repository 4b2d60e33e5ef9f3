//! The cost of publishing for the order path: reservations over drop actors and the journal, in process, with and
//! without the broadcaster following the journal.

use crate::support::{START_MS, journal, place, reserve, spec};
use actix::{Actor, Arbiter};
use livedrop::actors::consumers::{Run, runner};
use livedrop::actors::realtime::broadcaster::{Broadcaster, Pump};
use livedrop::actors::realtime::position::Epoch;
use livedrop::actors::{Clock, Decisions, Registry, Scheduler};
use livedrop::domain::{DropEvent, DropRecord, Timestamp};
use livedrop::journal::Durability;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Orders a second, with or without publishing.
pub async fn orders_per_second(orders: u64, in_flight: u64, telling: bool) -> f64 {
    let folder = TempDir::new().expect("a temporary folder");
    let journal = journal::<Decisions>(folder.path(), Durability::Always);
    let reader = journal.handle().reader();
    reader.register_cursor("bench", 0);
    let arbiter = Arbiter::new();
    let registry = Registry::new(journal.handle(), Clock::default(), Scheduler::default(), 1);
    let stop = tokio::sync::watch::Sender::new(false);
    if telling {
        let broadcaster = Broadcaster::new(Epoch::of(&reader), 0, Clock::default());
        let address = Broadcaster::start_in_arbiter(&arbiter.handle(), |_| broadcaster);
        let (mut pump, stopped) = (Pump::new(&reader, 0, address, registry.clone()), stop.subscribe());
        arbiter.spawn(async move { runner::run(&mut pump, stopped).await });
    }
    let (drop, _) = registry.schedule(spec(100_000_000)).await.expect("a drop");
    let rate = orders as f64 / place(&[drop], orders, in_flight).await.as_secs_f64();
    registry.stop();
    arbiter.stop();
    rate
}

/// Publishing time per record without a subscriber, in nanoseconds: reservations of ever new buyers, decoded and
/// folded.
pub fn telling_alone(records: u64) -> f64 {
    let spec = spec(100_000_000);
    let mut broadcaster = Broadcaster::new(Epoch(1), 0, Clock::default());
    let at = Timestamp::from_millis(START_MS);
    let record = |event| DropRecord { drop: spec.id, at, event };
    let scheduled = record(DropEvent::Scheduled(Box::new(spec.clone())));
    let first = [scheduled, record(DropEvent::Started)];
    broadcaster.remember(&Run { first_sequence: 1, records: first.to_vec() });
    let mut told = Duration::ZERO;
    let mut sequence = 3;
    while sequence < records {
        let encoded: Vec<Vec<u8>> = (0..4_096)
            .map(|_| {
                let ask = reserve(&spec);
                let event = DropEvent::Reserved {
                    order: ask.order,
                    buyer: ask.buyer,
                    variant: spec.variants[0].id,
                    quantity: 1,
                    unit_price: spec.variants[0].price,
                    expires_at: at,
                    key: ask.key,
                    digest: ask.digest,
                    fingerprint: ask.fingerprint,
                    payment_method: None,
                    delivery: None,
                };
                let mut bytes = Vec::new();
                record(event).encode(&mut bytes);
                bytes
            })
            .collect();
        let began = Instant::now();
        let records = encoded.iter().map(|bytes| DropRecord::decode(bytes).expect("a record")).collect();
        broadcaster.remember(&Run { first_sequence: sequence, records });
        told += began.elapsed();
        sequence += 4_096;
    }
    told.as_nanos() as f64 / (sequence - 3) as f64
}
