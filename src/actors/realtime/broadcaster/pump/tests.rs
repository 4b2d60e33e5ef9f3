//! A pump that finds a gap while the drops cannot be asked for their state.

use super::*;
use crate::actors::inventory::snapshot::Decisions;
use crate::actors::realtime::event::Topic;
use crate::actors::realtime::messages::{Command as Request, SubscriberId, ToShard};
use crate::actors::realtime::position::Epoch;
use crate::actors::{Clock, DropHandle, Scheduler};
use crate::domain::fixtures::drop_of;
use crate::engine::Command;
use crate::journal::{Journal, JournalError, JournalOptions, LagBounds, MemoryDevice, Permit, Records};
use actix::{Actor, Arbiter};
use serde_json::Value;
use smallvec::SmallVec;
use tokio::sync::mpsc;

const QUEUE: usize = 4;

/// A journal that keeps no records for lagging consumers, with one drop in memory.
struct World {
    journal: Journal<Decisions>,
    registry: Registry,
    drop: Arc<DropHandle>,
    broadcaster: Addr<Broadcaster>,
    /// The number of units of the drop.
    units: u64,
}

impl World {
    async fn new(broadcaster: impl FnOnce(Broadcaster) -> Addr<Broadcaster>) -> Self {
        let lag_bounds = LagBounds { bytes: 0, age: Duration::from_secs(3_600) };
        let options = JournalOptions {
            tail_bytes: 0,
            segment_bytes: 8_192,
            queue_entries: QUEUE,
            lag_bounds,
            ..JournalOptions::in_memory()
        };
        let (journal, _) = Journal::open(&options, Arc::new(MemoryDevice::new()), 0).unwrap();
        journal.handle().register_cursor("sql", 0);
        let clock = Clock::default();
        let broadcaster = broadcaster(Broadcaster::new(Epoch(7), 0, clock.clone()));
        let registry = Registry::new(journal.handle(), clock, Scheduler::default(), 1);
        let (drop, _) = registry.schedule(drop_of(5)).await.unwrap();
        Self { journal, registry, drop, broadcaster, units: 5 }
    }

    fn pump(&self) -> Pump {
        Pump::new(&self.journal.handle().reader(), 0, self.broadcaster.clone(), self.registry.clone())
    }

    async fn restock(&mut self) {
        self.units += 1;
        self.drop.ask(Command::Restock { variant: None, quantity: 1 }).await.unwrap();
    }

    /// Restocks the drop until the journal has deleted its first records.
    async fn outrun(&mut self) {
        let handle = self.journal.handle();
        while !matches!(handle.cursor(0).next_batch(1), Err(JournalError::Gone { .. })) {
            self.restock().await;
            handle.advance_cursor("sql", handle.durable());
        }
    }

    /// The queue of a new worker.
    async fn listen(&self) -> mpsc::Receiver<ToShard> {
        let (sender, queue) = mpsc::channel(16);
        self.broadcaster.send(Request::Shard(0, sender)).await.unwrap();
        queue
    }

    /// The position and free units in the snapshot that a new session gets.
    async fn snapshot(&self, queue: &mut mpsc::Receiver<ToShard>) -> (u64, u64) {
        let (session, topic) = (SubscriberId { shard: 0, subscriber: 1 }, Topic::Drop(self.drop.spec.id));
        self.broadcaster.send(Request::Subscribe(session, vec![topic], None)).await.unwrap();
        loop {
            if let ToShard::Replay(_, replay) = queue.recv().await.expect("it is listened to") {
                let snapshot: Value = serde_json::from_slice(&replay.snapshots[0]).unwrap();
                let free = &snapshot["drops"][0]["stock"]["available"];
                return (snapshot["position"].as_u64().unwrap(), free.as_u64().unwrap());
            }
        }
    }
}

#[actix::test]
async fn after_a_gap_it_asks_the_drops_until_they_answer_and_everyone_comes_back() {
    let mut world = World::new(Broadcaster::start).await;
    let (mut pump, mut queue) = (world.pump(), world.listen().await);
    let handle = world.journal.handle();
    world.outrun().await;
    assert_eq!(pump.work().await, Step::Again, "the gap is found");
    let gap = pump.tail().progress().last_gap().expect("a gap");
    assert_eq!(gap.first, 1);

    // Takes all permits, so that the drop cannot be asked. The permit of the last answer is free a moment after it.
    let mut full: Vec<Permit<'_, Decisions>> = Vec::new();
    while full.len() < QUEUE {
        full.extend(handle.try_permit());
        tokio::task::yield_now().await;
    }
    for _ in 0..3 {
        assert!(matches!(pump.work().await, Step::Unavailable(_)));
    }
    assert_eq!(pump.tail().progress().passed(), gap.last, "no record is published before it is known what they follow");
    assert!(matches!(queue.try_recv(), Ok(ToShard::Count(_))));
    assert!(
        matches!(queue.try_recv(), Err(mpsc::error::TryRecvError::Empty)),
        "sessions stay until there is an answer"
    );
    drop(full);

    // Records after the gap are not published either: the drops' new snapshots include them.
    world.restock().await;
    let after = handle.durable();
    assert_eq!(pump.work().await, Step::Again);
    assert_eq!(pump.tail().progress().passed(), after);
    assert!(queue.recv().await.is_none(), "each worker is let go, with its sessions");
    let mut queue = world.listen().await;
    assert_eq!(world.snapshot(&mut queue).await, (after, world.units));
    assert_eq!(pump.work().await, Step::Idle);

    world.restock().await;
    assert_eq!(pump.work().await, Step::Worked);
    assert_eq!(world.snapshot(&mut queue).await, (after + 1, world.units));
    assert_eq!((pump.tail().progress().gaps().0, handle.cursor_position(ABOUT.name)), (1, Some(after + 1)));
}

#[actix::test]
async fn after_a_record_that_it_cannot_read_it_learns_from_the_drops_too() {
    let mut world = World::new(Broadcaster::start).await;
    let (mut pump, _queue) = (world.pump(), world.listen().await);
    assert_eq!(pump.work().await, Step::Worked);
    let mut records = Records::new();
    records.push(|buffer| buffer.extend_from_slice(&[u8::MAX, 1, 2])).unwrap();
    let handle = world.journal.handle();
    handle.try_permit().unwrap().submit(records, Decisions { publish: None, replies: SmallVec::new() });
    world.restock().await;
    assert_eq!((pump.work().await, pump.work().await), (Step::Again, Step::Again));
    let mut queue = world.listen().await;
    assert_eq!(world.snapshot(&mut queue).await, (handle.durable(), world.units));
    world.restock().await;
    assert_eq!(pump.work().await, Step::Worked);
    assert_eq!(world.snapshot(&mut queue).await, (handle.durable(), world.units));
}

#[actix::test]
async fn it_stops_when_the_broadcaster_is_gone() {
    let arbiter = Arbiter::new();
    let mut world = World::new(|broadcaster| Broadcaster::start_in_arbiter(&arbiter.handle(), |_| broadcaster)).await;
    let (mut in_order, mut behind) = (world.pump(), world.pump());
    assert!(matches!(in_order.work().await, Step::Worked));
    arbiter.stop();
    arbiter.join().unwrap();
    world.restock().await;
    assert!(matches!(in_order.work().await, Step::Stopped(_)));
    world.outrun().await;
    assert_eq!(behind.work().await, Step::Again);
    assert!(matches!(behind.work().await, Step::Stopped(_)), "what it learned of the drops does not get there");
}
