//! Records that the database refuses permanently.

use super::*;
use crate::actors::consumers::aside;
use crate::actors::inventory::recovery::recover;
use crate::domain::fixtures::drop_of;
use crate::domain::{DropEvent, OrderView, Timestamp};
use crate::engine::fixtures::reserve_in;
use crate::engine::{Command, DropState, Reserve};
use crate::journal::{Completion, Journal, JournalError, JournalOptions, MemoryDevice, Records};
use crate::storage::memory::MemoryLedger;
use crate::storage::{DropRow, SetAside, UnreadRecord, Watermark};
use async_trait::async_trait;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use tokio::sync::oneshot;
use uuid::Uuid;

struct Done(oneshot::Sender<u64>);

impl Completion for Done {
    fn complete(self, durable: Result<u64, JournalError>) {
        self.0.send(durable.unwrap()).unwrap();
    }
}

/// Orders with this key are refused, as by a database that cannot store the character.
const BAD_KEY: &str = "🎉";

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Most {
    Says,
    TakesTooLong,
}

/// A ledger that refuses some records.
#[derive(Default)]
struct Picky {
    ledger: MemoryLedger,
    /// Whether it accepts them after all.
    cured: AtomicBool,
    /// Bound on the records of a transaction, if any, and how it refuses more: by an error or a timeout.
    most: Option<(usize, Most)>,
    /// Whether it refuses even to set records aside.
    stubborn: AtomicBool,
    transactions: AtomicUsize,
    /// The error of all queries, while it is set.
    failure: Mutex<Option<fn() -> StoreError>>,
}

impl Picky {
    fn fails(&self) -> Result<(), StoreError> {
        locked(&self.failure).map_or(Ok(()), |failure| Err(failure()))
    }

    fn examine<'a>(&self, mut records: impl Iterator<Item = &'a DropRecord>) -> Result<(), StoreError> {
        self.transactions.fetch_add(1, Ordering::Relaxed);
        let bad = |record: &DropRecord| matches!(&record.event, DropEvent::Reserved { key, .. } if &**key == BAD_KEY);
        if !self.cured.load(Ordering::Relaxed) && records.any(bad) {
            return Err(StoreError::Unacceptable("no such character".to_owned()));
        }
        Ok(())
    }
}

#[async_trait]
impl Ledger for Picky {
    async fn watermark(&self, journal: Uuid) -> Result<Option<Watermark>, StoreError> {
        self.fails()?;
        self.ledger.watermark(journal).await
    }
    async fn project_around(&self, batch: &ProjectionBatch, aside: &Aside) -> Result<(), StoreError> {
        match self.most {
            Some((most, Most::Says)) if batch.records.len() > most => return Err(StoreError::TooLarge),
            Some((most, Most::TakesTooLong)) if batch.records.len() > most => {
                return Err(StoreError::unavailable(std::io::ErrorKind::TimedOut, "silence"));
            }
            _ => {}
        }
        self.fails()?;
        let numbered = (batch.first_sequence..).zip(&batch.records);
        let stubborn = self.stubborn.load(Ordering::Relaxed);
        self.examine(numbered.filter(|(at, _)| stubborn || !aside.contains_key(at)).map(|(_, record)| record))?;
        self.ledger.project_around(batch, aside).await
    }
    async fn set_aside_unread(&self, journal: Uuid, epoch: u32, record: &UnreadRecord) -> Result<(), StoreError> {
        self.fails()?;
        self.ledger.set_aside_unread(journal, epoch, record).await
    }
    async fn set_aside_drops(&self, journal: Uuid) -> Result<Vec<SetAsideDrop>, StoreError> {
        self.fails()?;
        self.ledger.set_aside_drops(journal).await
    }
    async fn set_aside(
        &self,
        journal: Uuid,
        drop: DropId,
        after: u64,
        limit: u32,
    ) -> Result<Vec<SetAside>, StoreError> {
        self.ledger.set_aside(journal, drop, after, limit).await
    }
    async fn apply_set_aside(&self, journal: Uuid, epoch: u32, records: &[SetAside]) -> Result<(), StoreError> {
        self.examine(records.iter().map(|aside| &aside.record))?;
        self.ledger.apply_set_aside(journal, epoch, records).await
    }
    async fn drop_row(&self, id: DropId) -> Result<Option<DropRow>, StoreError> {
        self.ledger.drop_row(id).await
    }
    async fn unsettled_drops(&self) -> Result<Vec<DropRow>, StoreError> {
        self.ledger.unsettled_drops().await
    }
    async fn drop_orders(
        &self,
        drop: DropId,
        after: Option<crate::domain::OrderId>,
        limit: u32,
    ) -> Result<Vec<OrderView>, StoreError> {
        self.ledger.drop_orders(drop, after, limit).await
    }
}

/// Drops that decide, and their journal.
struct Story {
    journal: Journal<Done>,
    drops: Vec<DropState>,
}

impl Story {
    async fn new(drops: usize) -> Self {
        let (journal, _) = Journal::open(&JournalOptions::in_memory(), Arc::new(MemoryDevice::new()), 0).unwrap();
        let mut story = Self { journal, drops: Vec::new() };
        for _ in 0..drops {
            let spec = drop_of(1_000_000);
            story.append(vec![record(spec.id, DropEvent::Scheduled(Box::new(spec.clone())))]).await;
            story.drops.push(DropState::scheduled(spec));
        }
        story
    }

    async fn append(&self, decided: Vec<DropRecord>) {
        let mut records = Records::default();
        decided.iter().for_each(|one| records.push(|buffer| one.encode(buffer)).unwrap());
        let (done, durable) = oneshot::channel();
        self.journal.handle().try_permit().unwrap().submit(records, Done(done));
        durable.await.unwrap();
    }

    /// A record that this program has not written.
    async fn append_bytes(&self, bytes: &[u8]) {
        let mut records = Records::default();
        records.push(|buffer| buffer.extend_from_slice(bytes)).unwrap();
        let (done, durable) = oneshot::channel();
        self.journal.handle().try_permit().unwrap().submit(records, Done(done));
        durable.await.unwrap();
    }

    /// Places one order at a drop, with a key.
    async fn order(&mut self, drop: usize, key: &str) {
        let state = &mut self.drops[drop];
        let ask = Reserve { key: key.into(), ..reserve_in(state.spec()) };
        let mut events = Vec::new();
        let (_, at) = state.apply(Timestamp::from_millis(1), Command::Reserve(Box::new(ask)), &mut events);
        let id = state.spec().id;
        let records = events.into_iter().map(|event| DropRecord { drop: id, at, event }).collect();
        self.append(records).await;
    }

    fn id(&self, drop: usize) -> DropId {
        self.drops[drop].spec().id
    }

    fn reader(&self) -> JournalReader {
        self.journal.handle().reader()
    }

    /// Whether SQL and the drop have the same orders.
    async fn in_sql(&self, store: &dyn Ledger, drop: usize) -> bool {
        let rows = store.drop_orders(self.id(drop), None, u32::MAX).await.unwrap();
        rows.into_iter().eq(self.drops[drop].orders())
    }
}

fn record(drop: DropId, event: DropEvent) -> DropRecord {
    DropRecord { drop, at: Timestamp::from_millis(0), event }
}

async fn spawn_detached(projector: &mut Projector) {
    loop {
        match projector.step().await {
            Projected::Batch | Projected::Narrowed => {}
            Projected::Nothing => return,
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_record_that_is_refused_for_good_stops_its_own_drop_and_no_other() {
    let mut story = Story::new(3).await;
    for n in 0..1_500 {
        story.order(n % 3, if n == 700 { BAD_KEY } else { "k" }).await;
    }
    let (bad, good) = (700 % 3, [0, 2]);
    let store = Arc::new(Picky::default());
    let (mut projector, view) = Projector::new(store.clone(), &story.reader(), 0);
    assert!(!view.has_all_of(story.id(bad)), "nobody knows before the database has been asked");
    spawn_detached(&mut projector).await;

    assert_eq!((view.watermark(), view.trouble()), (story.reader().durable(), None));
    let transactions = store.transactions.load(Ordering::Relaxed);
    assert!(transactions < 40, "{transactions} transactions for one batch");
    for drop in good {
        assert!(story.in_sql(&*store, drop).await && view.has_all_of(story.id(drop)));
    }
    let asides = view.set_aside();
    let [aside] = &asides[..] else { panic!("{asides:?}") };
    // Every third order from that one on.
    assert_eq!(
        (aside.drop, aside.records, &*aside.reason),
        (story.id(bad), (700..1_500).step_by(3).count() as u64, "no such character")
    );
    assert_eq!(store.set_aside_drops(story.reader().journal_id()).await.unwrap(), asides);
    assert_eq!(store.drop_orders(story.id(bad), None, u32::MAX).await.unwrap().len(), 700 / 3);
    assert!(!view.has_all_of(story.id(bad)));

    // The same in another process.
    drop(projector);
    let (mut projector, view) = Projector::new(store.clone(), &story.reader(), view.watermark());
    for n in 0..30 {
        story.order(n % 3, "k").await;
    }
    spawn_detached(&mut projector).await;
    assert_eq!(view.set_aside()[0].records, aside.records + 10);
    assert!(story.in_sql(&*store, 0).await && !story.in_sql(&*store, bad).await);
}

#[tokio::test]
async fn recovery_knows_what_is_set_aside_and_a_later_try_applies_it() {
    let mut story = Story::new(2).await;
    for n in 0..60 {
        story.order(n % 2, if n == 11 { BAD_KEY } else { "k" }).await;
    }
    let store = Arc::new(Picky::default());
    let reader = story.reader();
    let (journal, epoch) = (reader.journal_id(), reader.epoch());
    let (mut projector, view) = Projector::new(store.clone(), &reader, 0);
    spawn_detached(&mut projector).await;
    // Not projected yet.
    story.order(1, "k").await;
    let recovered = recover(&*store, &reader, view.watermark(), reader.durable()).await.unwrap();
    assert_eq!(recovered.drops.len(), 2);
    for state in &recovered.drops {
        let drop = story.drops.iter().find(|drop| drop.spec().id == state.spec().id).unwrap();
        assert!(state.orders().eq(drop.orders()));
        assert!(state.stock().eq(drop.stock()));
    }

    let again = aside::retry(&*store, journal, epoch).await.unwrap();
    assert_eq!((again.applied, again.left.len()), (0, 1));
    store.cured.store(true, Ordering::Relaxed);
    let again = aside::retry(&*store, journal, epoch).await.unwrap();
    assert_eq!((again.applied, again.left), (25, Vec::new()));
    let (mut projector, view) = Projector::new(store.clone(), &reader, view.watermark());
    spawn_detached(&mut projector).await;
    assert!(story.in_sql(&*store, 0).await && story.in_sql(&*store, 1).await && view.has_all_of(story.id(1)));
}

#[tokio::test]
async fn a_record_of_a_later_version_is_set_aside_with_its_drop_and_no_other() {
    let mut story = Story::new(3).await;
    for n in 0..30 {
        story.order(n % 3, "k").await;
    }
    let (before, late) = (story.reader().durable(), story.id(1));
    // As a later version would write it.
    let mut bytes = Vec::new();
    record(late, DropEvent::Started).encode(&mut bytes);
    bytes[0] = DropRecord::VERSION + 1;
    story.append_bytes(&bytes).await;
    for n in 0..30 {
        story.order(n % 3, "k").await;
    }
    let store = Arc::new(Picky::default());
    let reader = story.reader();
    let (mut projector, view) = Projector::new(store.clone(), &reader, 0);
    // The database is away when it comes to that record.
    assert_eq!(projector.step().await, Projected::Batch);
    assert_eq!(view.watermark(), before);
    *locked(&store.failure) = Some(|| StoreError::unavailable(std::io::ErrorKind::TimedOut, "silence"));
    assert_eq!((projector.step().await, projector.step().await), (Projected::Unavailable, Projected::Unavailable));
    *locked(&store.failure) = None;
    spawn_detached(&mut projector).await;
    assert_eq!((view.watermark(), view.trouble()), (reader.durable(), None));
    assert!(story.in_sql(&*store, 0).await && story.in_sql(&*store, 2).await && view.has_all_of(story.id(0)));
    let asides = view.set_aside();
    let [aside] = &asides[..] else { panic!("{asides:?}") };
    assert_eq!((aside.drop, aside.first_sequence, aside.records), (late, before + 1, 11));
    assert!(aside.reason.contains("version"), "{}", aside.reason);
    assert_eq!(store.set_aside_drops(reader.journal_id()).await.unwrap(), asides);
    assert_eq!(store.drop_orders(late, None, u32::MAX).await.unwrap().len(), 10, "up to the record before");

    // Without its drop nothing can go on: whose rows would be wrong is not known.
    story.append_bytes(&[9]).await;
    assert_eq!((projector.step().await, projector.step().await), (Projected::Stopped, Projected::Stopped));
    assert_eq!(view.watermark(), reader.durable() - 1);
}

#[tokio::test]
async fn a_drop_that_is_refused_from_its_beginning_is_recovered_too() {
    let mut story = Story::new(1).await;
    let store = Arc::new(Picky::default());
    let reader = story.reader();
    let batch = ProjectionBatch {
        journal: reader.journal_id(),
        epoch: reader.epoch(),
        first_sequence: 1,
        records: vec![record(story.id(0), DropEvent::Scheduled(Box::new(story.drops[0].spec().as_ref().clone())))],
    };
    store.project_around(&batch, &Aside::from([(1, "its title".to_owned())])).await.unwrap();
    story.order(0, "k").await;
    let recovered = recover(&*store, &reader, 1, reader.durable()).await.unwrap();
    assert_eq!(recovered.drops.iter().map(DropState::order_count).collect::<Vec<_>>(), [1]);
    let (mut projector, view) = Projector::new(store.clone(), &reader, 1);
    spawn_detached(&mut projector).await;
    assert_eq!(view.set_aside()[0].records, reader.durable());
    assert_eq!(aside::retry(&*store, reader.journal_id(), reader.epoch()).await.unwrap().applied, reader.durable());
    assert!(story.in_sql(&*store, 0).await);
}

#[tokio::test]
async fn what_cannot_even_be_set_aside_stops_everything() {
    let mut story = Story::new(1).await;
    story.order(0, BAD_KEY).await;
    let store = Arc::new(Picky { stubborn: AtomicBool::new(true), ..Picky::default() });
    let (mut projector, view) = Projector::new(store.clone(), &story.reader(), 0);
    let mut last = Projected::Narrowed;
    while matches!(last, Projected::Narrowed | Projected::Batch) {
        last = projector.step().await;
    }
    assert_eq!(last, Projected::Stopped);
    assert!(view.trouble().is_some_and(|trouble| trouble.contains("no such character")));
    // Once the record is accepted, the projector continues.
    store.cured.store(true, Ordering::Relaxed);
    spawn_detached(&mut projector).await;
    assert_eq!((view.watermark(), view.trouble()), (story.reader().durable(), None));
}

#[tokio::test]
async fn a_batch_that_is_too_much_is_halved() {
    for how in [Most::Says, Most::TakesTooLong] {
        let mut story = Story::new(2).await;
        for n in 0..100 {
            story.order(n % 2, "k").await;
        }
        let store = Arc::new(Picky { most: Some((10, how)), ..Picky::default() });
        let (mut projector, view) = Projector::new(store.clone(), &story.reader(), 0);
        let mut unavailable = 0;
        loop {
            match projector.step().await {
                Projected::Batch | Projected::Narrowed => {}
                Projected::Unavailable => unavailable += 1,
                Projected::Nothing => break,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!((view.watermark(), view.trouble()), (story.reader().durable(), None), "{how:?}");
        assert_eq!(unavailable > 0, how == Most::TakesTooLong);
        assert!(story.in_sql(&*store, 0).await && story.in_sql(&*store, 1).await);
    }
}

#[tokio::test]
async fn a_failure_means_the_same_to_every_question() {
    type Failing = fn() -> StoreError;
    let failures: [(Failing, Projected, bool); 3] = [
        (|| StoreError::unavailable(std::io::ErrorKind::TimedOut, "silence"), Projected::Unavailable, false),
        (|| StoreError::Corrupt("no such table".to_owned()), Projected::Stopped, false),
        (|| StoreError::Fenced { ours: 1, theirs: 2 }, Projected::Stopped, true),
    ];
    let story = Story::new(2).await;
    let store = Arc::new(Picky::default());
    let (mut projector, view) = Projector::new(store.clone(), &story.reader(), 0);
    // The first step reads which drops are set aside, the second writes the batch.
    for _ in 0..2 {
        for (failure, meaning, fenced) in failures {
            *locked(&store.failure) = Some(failure);
            assert_eq!((projector.step().await, projector.look_again().await), (meaning, meaning), "{:?}", failure());
            if meaning == Projected::Stopped {
                assert_eq!(*view.fenced().borrow(), fenced);
            }
            assert!(view.trouble().is_some());
        }
        *locked(&store.failure) = None;
        assert_eq!(projector.look_again().await, Projected::Nothing);
        assert_eq!(view.trouble(), None);
        projector.load_aside().await.unwrap();
    }
    spawn_detached(&mut projector).await;
    assert_eq!(view.watermark(), 2);
}
