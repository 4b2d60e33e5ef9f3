//! A consumer that records what it received.

use super::*;
use crate::actors::consumers::{About, Gap, Progress, Retention, TailError};
use crate::domain::fixtures::drop_of;
use crate::domain::{DropEvent, DropRecord, Timestamp};
use crate::journal::{Completion, Fault, FaultyDevice, Journal, JournalError, JournalOptions, LagBounds};
use crate::journal::{MemoryDevice, Operation, Records};
use std::sync::Arc;
use tokio::sync::oneshot;

const ABOUT: About = About { name: "noted", effect: "", offset: "", retention: Retention::Lags };

struct Done(oneshot::Sender<u64>);

impl Completion for Done {
    fn complete(self, durable: Result<u64, JournalError>) {
        self.0.send(durable.unwrap()).unwrap();
    }
}

struct Noted {
    tail: Tail,
    got: Vec<u64>,
    gaps: Vec<Gap>,
    /// This many steps find the target unavailable.
    away: u32,
}

impl Consumer for Noted {
    fn tail(&self) -> &Tail {
        &self.tail
    }

    async fn work(&mut self) -> Step {
        if self.away > 0 {
            self.away -= 1;
            return Step::Unavailable("the target is away".to_owned());
        }
        match self.tail.try_next() {
            Ok(Some(run)) => {
                self.got.extend(run.first_sequence..=run.last_sequence());
                self.tail.passed(run.last_sequence(), run.last_at());
                Step::Worked
            }
            Ok(None) => Step::Idle,
            Err(error) => {
                if let TailError::Skipped(gap) = error {
                    self.gaps.push(gap);
                }
                Step::from(&error)
            }
        }
    }
}

/// Segments of a few records, without a tail in memory.
struct World {
    device: FaultyDevice,
    journal: Journal<Done>,
}

impl World {
    fn new(lag_bytes: u64) -> Self {
        let device = FaultyDevice::new(Arc::new(MemoryDevice::new()));
        let lag_bounds = LagBounds { bytes: lag_bytes, age: Duration::from_secs(3_600) };
        let options = JournalOptions { tail_bytes: 0, segment_bytes: 8_192, lag_bounds, ..JournalOptions::in_memory() };
        let (journal, _) = Journal::open(&options, Arc::new(device.clone()), 0).unwrap();
        journal.handle().register_cursor("sql", 0);
        Self { device, journal }
    }

    async fn append(&self, count: u64) {
        for _ in 0..count {
            let spec = drop_of(1);
            let at = Timestamp::from_millis(1_000);
            let record = DropRecord { drop: spec.id, at, event: DropEvent::Scheduled(Box::new(spec)) };
            let mut records = Records::default();
            records.push(|buffer| record.encode(buffer)).unwrap();
            let (done, durable) = oneshot::channel();
            self.journal.handle().try_permit().unwrap().submit(records, Done(done));
            durable.await.unwrap();
        }
    }

    fn consumer(&self, after: u64) -> (Noted, Arc<Progress>) {
        let progress = Progress::new(&ABOUT);
        let tail = Tail::new(Arc::clone(&progress), &self.journal.handle().reader(), after);
        (Noted { tail, got: Vec::new(), gaps: Vec::new(), away: 0 }, progress)
    }
}

fn spawn_detached() -> watch::Receiver<bool> {
    watch::channel(true).1
}

#[tokio::test(start_paused = true)]
async fn what_fails_is_tried_again_and_said() {
    let world = World::new(1 << 20);
    world.append(3).await;
    let reader = world.journal.handle().reader();
    let (mut consumer, progress) = world.consumer(0);
    assert_eq!(progress.lag(&reader, Timestamp::from_millis(9_000)).records, 3);
    consumer.away = 2;
    world.device.set(Some(Fault::nth(1).of(Operation::Open)));
    run(&mut consumer, spawn_detached()).await;
    assert_eq!((consumer.got, progress.errors(), progress.trouble()), (vec![1, 2, 3], 3, None));
    assert!(progress.last_error().is_some_and(|error| error.contains("cannot be read")), "{:?}", progress.last_error());
    let lag = progress.lag(&reader, Timestamp::from_millis(9_000));
    assert_eq!((lag.records, lag.bytes, lag.age), (0, 0, Duration::ZERO));
    assert_eq!(reader.cursor_position("noted"), Some(3));
}

#[tokio::test(start_paused = true)]
async fn a_target_that_stays_away_is_given_up_at_the_end_only() {
    let world = World::new(1 << 20);
    world.append(1).await;
    let (mut consumer, progress) = world.consumer(0);
    consumer.away = u32::MAX;
    let stop = watch::Sender::new(false);
    let began = Instant::now();
    tokio::join!(run(&mut consumer, stop.subscribe()), async {
        tokio::time::sleep(Duration::from_secs(600)).await;
        assert_eq!(progress.trouble().as_deref(), Some("the target is away"));
        stop.send_replace(true);
    });
    let took = began.elapsed();
    assert!(took > Duration::from_secs(600) + LAST_TRIES && took < Duration::from_secs(700), "{took:?}");
    assert_eq!(progress.passed(), 0, "the journal keeps it for the next start");
}

#[tokio::test]
async fn one_that_hangs_finds_a_gap_and_goes_on_after_it() {
    let world = World::new(0);
    let (mut consumer, progress) = world.consumer(0);
    let handle = world.journal.handle();
    while !matches!(handle.cursor(0).next_batch(1), Err(JournalError::Gone { .. })) {
        world.append(10).await;
        handle.advance_cursor("sql", handle.durable());
    }
    let last = handle.durable();
    run(&mut consumer, spawn_detached()).await;
    let [gap] = consumer.gaps[..] else { panic!("{:?}", consumer.gaps) };
    assert_eq!(gap.first, 1);
    assert_eq!(consumer.got, (gap.last + 1..=last).collect::<Vec<_>>(), "everything after the gap");
    assert_eq!((progress.gaps(), progress.last_gap()), ((1, gap.records()), Some(gap)));
    assert_eq!(progress.errors(), 0);
}
