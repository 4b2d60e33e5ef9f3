//! What telling costs those who order: reservations over drop actors and the journal, in process, with nobody following the
//! journal and with the broadcaster following it.

use crate::support::{journal, reserve, spec};
use actix::{Actor, Arbiter};
use futures_util::future::join_all;
use livedrop::actors::broadcaster::{self, Broadcaster};
use livedrop::actors::place::Epoch;
use livedrop::actors::{Clock, Decision, DropHandle, Registry, Scheduler, Tail};
use livedrop::engine::Command;
use livedrop::journal::Durability;
use std::sync::Arc;
use std::time::Instant;
use tempfile::TempDir;

/// Orders a second, with and without telling.
pub async fn orders_per_second(orders: u64, in_flight: u64, telling: bool) -> f64 {
    let folder = TempDir::new().expect("a temporary folder");
    let journal = journal::<Decision>(folder.path(), Durability::Always);
    let reader = journal.handle().reader();
    reader.register_cursor("bench", 0);
    let arbiter = Arbiter::new();
    if telling {
        let broadcaster = Broadcaster::new(Epoch::of(&reader), 0, Clock::default());
        let address = Broadcaster::start_in_arbiter(&arbiter.handle(), |_| broadcaster);
        arbiter.spawn(broadcaster::pump(Tail::new(broadcaster::CURSOR, &reader, 0), address));
    }
    let registry = Registry::new(journal.handle(), Clock::default(), Scheduler::default(), 1);
    let (drop, _) = registry.schedule(spec(100_000_000)).await.expect("a drop");
    let lanes: Vec<(Arc<DropHandle>, Vec<Command>)> = (0..in_flight)
        .map(|_| {
            let asks = (0..orders / in_flight).map(|_| Command::Reserve(Box::new(reserve(&drop.spec)))).collect();
            (Arc::clone(&drop), asks)
        })
        .collect();
    let began = Instant::now();
    join_all(lanes.into_iter().map(|(drop, asks)| async move {
        for ask in asks {
            drop.ask(ask).await.expect("an answer");
        }
    }))
    .await;
    let rate = orders as f64 / began.elapsed().as_secs_f64();
    registry.stop();
    arbiter.stop();
    rate
}
