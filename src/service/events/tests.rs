//! Targets that lose answers, refuse, and are unavailable; processes that end between the effect and the offset. No
//! event is lost, and a repeated event has the same id.

use super::*;
use crate::actors::consumers::offsets::AT_THE_END;
use crate::actors::consumers::runner;
use crate::domain::fixtures::drop_of;
use crate::domain::{DropEvent, VariantId};
use crate::journal::{Completion, Journal, JournalError, JournalOptions, LagBounds, MemoryDevice, Records};
use futures_util::FutureExt;
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Mutex;
use tempfile::TempDir;
use tokio::sync::{oneshot, watch};

struct Done(oneshot::Sender<u64>);

impl Completion for Done {
    fn complete(self, durable: Result<u64, JournalError>) {
        self.0.send(durable.unwrap()).unwrap();
    }
}

/// The accepted events, in order.
type Taken = Arc<Mutex<Vec<Value>>>;

/// The behaviour of a target.
struct Play {
    taken: Taken,
    /// The percentage of batches lost on the way, and of lost answers.
    lost: (u32, u32),
    random: StdRng,
    /// Events with this many units are refused.
    refused: Option<u64>,
    /// The number of the batch at which it panics.
    panics_at: Option<u32>,
    /// It panics for events with this many units.
    panics_for: Option<u64>,
    /// The number of the batch that it neither takes nor answers.
    hangs_at: Option<u32>,
}

impl Play {
    fn new(taken: &Taken) -> Self {
        Self {
            taken: Arc::clone(taken),
            lost: (0, 0),
            random: StdRng::seed_from_u64(0),
            refused: None,
            panics_at: None,
            panics_for: None,
            hangs_at: None,
        }
    }
}

impl Target for Play {
    async fn send(&mut self, batch: Bytes) -> Effect {
        let events: Vec<Value> = serde_json::from_slice(&batch).unwrap();
        let next = |at: Option<u32>| at.map(|batches| batches.wrapping_sub(1));
        (self.panics_at, self.hangs_at) = (next(self.panics_at), next(self.hangs_at));
        let has = |units: Option<u64>| {
            units.is_some_and(|units| events.iter().any(|event| event["data"]["quantity"] == units))
        };
        assert!(self.panics_at != Some(0) && !has(self.panics_for), "as it was told");
        if self.hangs_at == Some(0) {
            std::future::pending::<()>().await;
        }
        let dice = self.random.random_range(0..100);
        if dice < self.lost.0 {
            return Effect::Unavailable("lost on the way".to_owned());
        }
        let refused = |event: &Value| self.refused.is_some_and(|units| event["data"]["quantity"] == units);
        if events.iter().any(refused) {
            return Effect::Refused("422".to_owned());
        }
        self.taken.lock().unwrap().extend(events);
        if dice < self.lost.0 + self.lost.1 {
            return Effect::Unavailable("the answer was lost".to_owned());
        }
        Effect::Done
    }
}

struct World {
    journal: Journal<Done>,
    folder: TempDir,
    drops: Vec<DropId>,
    taken: Taken,
}

impl World {
    fn new(lag_bytes: u64) -> Self {
        let lag_bounds = LagBounds { bytes: lag_bytes, age: Duration::from_secs(3_600) };
        let options = JournalOptions { tail_bytes: 0, segment_bytes: 8_192, lag_bounds, ..JournalOptions::in_memory() };
        let (journal, _) = Journal::open(&options, Arc::new(MemoryDevice::new()), 0).unwrap();
        journal.handle().register_cursor("sql", 0);
        let drops = (0..3).map(|_| drop_of(1).id).collect();
        Self { journal, folder: TempDir::new().unwrap(), drops, taken: Taken::default() }
    }

    /// Appends restocks of these many units, of one drop after the other; every fifth record makes no event.
    async fn append(&self, units: std::ops::Range<u32>) {
        for n in units {
            let drop = self.drops[n as usize % 3];
            let event = match n % 5 {
                0 => DropEvent::PaymentEnded {
                    order: crate::domain::OrderId::for_drop(drop),
                    attempt: 1,
                    end: crate::domain::PaymentEnd::NotMade,
                },
                _ => DropEvent::Restocked { variant: VariantId(drop.0), quantity: n },
            };
            let record = DropRecord { drop, at: Timestamp::from_millis(n.into()), event };
            let mut records = Records::default();
            records.push(|buffer| record.encode(buffer)).unwrap();
            let (done, durable) = oneshot::channel();
            self.journal.handle().try_permit().unwrap().submit(records, Done(done));
            durable.await.unwrap();
        }
    }

    /// A record that this program has not written.
    async fn append_bytes(&self, bytes: &[u8]) {
        let mut records = Records::default();
        records.push(|buffer| buffer.extend_from_slice(bytes)).unwrap();
        let (done, durable) = oneshot::channel();
        self.journal.handle().try_permit().unwrap().submit(records, Done(done));
        durable.await.unwrap();
    }

    fn journal_id(&self) -> Uuid {
        self.journal.handle().reader().journal_id()
    }

    /// A database.
    async fn store(&self, name: &str) -> Arc<dyn Store> {
        let path = self.folder.path().join(format!("{name}.db"));
        let store = crate::storage::connect(&format!("sqlite://{}", path.display())).await.unwrap();
        store.migrate().await.unwrap();
        store
    }

    fn kept(&self) -> Kept {
        Kept::new(self.folder.path())
    }

    /// A consumer as a start creates it.
    fn begin(&self, target: Play) -> (Events<Play>, Arc<Progress>) {
        let (reader, progress) = (self.journal.handle().reader(), Progress::new(&ABOUT));
        let after = self.kept().resume(&reader, 1, None).unwrap();
        (Events::new(Arc::clone(&progress), &reader, after, self.kept(), target), progress)
    }

    /// The units of the accepted events, each id once, in the order of first arrival; and the number of repeated ids.
    fn units(&self) -> (Vec<u64>, usize) {
        let taken = self.taken.lock().unwrap();
        let (mut known, mut units) = (BTreeMap::new(), Vec::new());
        for event in taken.iter() {
            let same = known.entry(event["id"].as_str().unwrap().to_owned()).or_insert_with(|| {
                units.extend(event["data"]["quantity"].as_u64());
                event.clone()
            });
            assert_eq!(same, event, "an id is one event");
        }
        (units, taken.len() - known.len())
    }
}

fn in_batches_of(batch: usize) -> InFlight<DropId, InHand> {
    InFlight::new(Bounds { batch, ..BOUNDS })
}

fn said(units: std::ops::Range<u64>) -> Vec<u64> {
    units.filter(|n| n % 5 != 0).collect()
}

fn spawn_detached() -> watch::Receiver<bool> {
    watch::channel(true).1
}

#[tokio::test]
async fn a_crash_between_effect_and_offset_loses_nothing_and_repeats_under_the_same_ids() {
    let mut repeated = 0;
    for seed in 0..40 {
        let world = World::new(1 << 20);
        let mut random = StdRng::seed_from_u64(seed);
        world.kept().resume(&world.journal.handle().reader(), 1, None).unwrap();
        world.append(1..60).await;
        let mut appended = 60;
        for _ in 0..30 {
            let play =
                Play { lost: (20, 30), random: StdRng::seed_from_u64(random.random()), ..Play::new(&world.taken) };
            let (mut events, _) = world.begin(play);
            events.in_flight = in_batches_of(random.random_range(1..20));
            // A process with some steps, which ends after the effect and before the offset, before both, or after both.
            for _ in 0..random.random_range(1..4) {
                events.work().await;
            }
            if random.random_range(0..3) == 0 {
                world.append(appended..appended + 10).await;
                appended += 10;
            }
        }
        runner::run(&mut world.begin(Play::new(&world.taken)).0, spawn_detached()).await;
        let (units, again) = world.units();
        assert_eq!(units, said(1..appended.into()), "seed {seed}: all, first come in their order");
        repeated += again;
    }
    assert!(repeated > 0, "answers were lost");
}

#[tokio::test]
async fn a_panic_loses_nothing_and_one_that_comes_again_costs_its_own_event_only() {
    let world = World::new(1 << 20);
    world.kept().resume(&world.journal.handle().reader(), 1, None).unwrap();
    world.append(1..60).await;
    let play = Play { panics_at: Some(3), panics_for: Some(33), ..Play::new(&world.taken) };
    let (mut events, progress) = world.begin(play);
    events.in_flight = in_batches_of(10);
    runner::run(&mut events, spawn_detached()).await;
    let others: Vec<u64> = said(1..60).into_iter().filter(|units| *units != 33).collect();
    assert_eq!(world.units(), (others, 0));
    let [letter] = &world.kept().dead.all().unwrap()[..] else { panic!("one") };
    assert_eq!((letter.id.as_str(), letter.reason.as_str()), ("33-0", "it panicked: as it was told"));
    assert_eq!(progress.passed(), 59);
}

#[tokio::test]
async fn what_is_in_hand_when_a_step_is_cut_off_is_sent_when_it_begins_again() {
    let world = World::new(1 << 20);
    world.kept().resume(&world.journal.handle().reader(), 1, None).unwrap();
    world.append(1..60).await;
    let (mut events, _) = world.begin(Play { hangs_at: Some(3), ..Play::new(&world.taken) });
    events.in_flight = in_batches_of(10);
    assert_eq!((events.work().await, events.work().await), (Step::Worked, Step::Worked));
    assert!(events.work().now_or_never().is_none());
    events.begin_again();
    runner::run(&mut events, spawn_detached()).await;
    assert_eq!(world.units(), (said(1..60), 0));
}

#[tokio::test]
async fn a_record_of_a_later_version_is_kept_until_a_version_that_knows_it_and_nothing_waits_for_it() {
    let world = World::new(1 << 20);
    let reader = world.journal.handle().reader();
    world.kept().resume(&reader, 1, None).unwrap();
    world.append(1..20).await;
    // What a later version has written; today's form of it is known here.
    let drop = world.drops[0];
    let event = DropEvent::Restocked { variant: VariantId(drop.0), quantity: 77 };
    let mut known = Vec::new();
    DropRecord { drop, at: Timestamp::from_millis(20), event }.encode(&mut known);
    let later = [&[DropRecord::VERSION + 1], &known[1..]].concat();
    world.append_bytes(&later).await;
    world.append_bytes(&[0]).await;
    world.append(22..40).await;
    let (mut events, progress) = world.begin(Play::new(&world.taken));
    runner::run(&mut events, spawn_detached()).await;
    let others: Vec<u64> = said(1..40).into_iter().filter(|units| *units != 21).collect();
    assert_eq!(world.units(), (others, 0));
    assert_eq!((progress.passed(), progress.dead_letters(), progress.errors()), (39, 2, 0));
    assert_eq!(world.kept().offset.load(reader.journal_id(), reader.epoch()).unwrap(), Some(39));
    let dead = world.kept().dead;
    let letters = dead.all().unwrap();
    let [version, empty] = &letters[..] else { panic!("{letters:?}") };
    assert_eq!((version.id.as_str(), empty.id.as_str()), ("20-0", "21-0"));
    assert!(
        version.reason.contains(&format!("version {}", DropRecord::VERSION + 1)) && version.event.is_none(),
        "{version:?}"
    );
    assert_eq!(version.record.as_deref(), Some(&*BASE64_STANDARD.encode(&later)), "as in the journal");

    let mut target = Play::new(&world.taken);
    let (store, journal) = (world.store("a").await, world.journal_id());
    let still = retry(&*store, &dead, journal, &mut target).await.unwrap();
    assert_eq!((still.taken, still.left.map(|(left, _)| left)), (0, Some(2)));
    // A version that knows it.
    let readable = DeadLetter { record: Some(BASE64_STANDARD.encode(&known)), ..version.clone() };
    let mut rows = store.dead_letters(ABOUT.name, journal, 9).await.unwrap();
    rows[0].letter = serde_json::to_string(&readable).unwrap();
    store.keep_dead_letters(ABOUT.name, journal, &rows[..1]).await.unwrap();
    let again = retry(&*store, &dead, journal, &mut target).await.unwrap();
    assert_eq!((again.taken, again.left.map(|(left, _)| left)), (1, Some(1)));
    assert_eq!(world.units().0.last(), Some(&77));
    assert_eq!(world.taken.lock().unwrap().last().unwrap()["id"], "20-0");
}

#[tokio::test]
async fn one_event_that_is_refused_is_set_aside_and_goes_when_it_is_taken() {
    let world = World::new(1 << 20);
    world.kept().resume(&world.journal.handle().reader(), 1, None).unwrap();
    world.append(1..100).await;
    let (mut events, progress) = world.begin(Play { refused: Some(42), ..Play::new(&world.taken) });
    runner::run(&mut events, spawn_detached()).await;
    let others: Vec<u64> = said(1..100).into_iter().filter(|units| *units != 42).collect();
    assert_eq!(world.units(), (others, 0));
    let [letter] = &world.kept().dead.all().unwrap()[..] else { panic!("one") };
    assert_eq!((letter.id.as_str(), letter.reason.as_str()), ("42-0", "422"));
    assert_eq!((progress.dead_letters(), progress.errors(), progress.passed()), (1, 0, 99));

    let (dead, store, journal) = (world.kept().dead, world.store("a").await, world.journal_id());
    let mut refusing = Play { refused: Some(42), ..Play::new(&world.taken) };
    let still = retry(&*store, &dead, journal, &mut refusing).await.unwrap();
    assert_eq!(still, Retried { taken: 0, left: Some((1, "422".to_owned())) });
    assert_eq!((dead.all().unwrap().len(), dead.count().unwrap()), (0, 1), "it is in the database now");
    let taken = retry(&*store, &dead, journal, &mut Play::new(&world.taken)).await.unwrap();
    assert_eq!(taken, Retried { taken: 1, left: None });
    assert_eq!(store.dead_letter_count(ABOUT.name, journal).await.unwrap(), 0);
    assert_eq!(world.units().0.last(), Some(&42));
}

#[tokio::test]
async fn dead_letters_wait_for_the_database_and_are_there_before_the_offset_behind_them() {
    let world = World::new(1 << 20);
    let (reader, journal) = (world.journal.handle().reader(), world.journal_id());
    world.kept().resume(&reader, 1, None).unwrap();
    world.append(1..60).await;
    let (mut events, progress) = world.begin(Play { refused: Some(42), ..Play::new(&world.taken) });
    let (kept, away, store) = (events.kept.clone(), world.store("away").await, world.store("there").await);
    away.close().await;
    let mut copied = None;
    copy_once(&progress, &reader, &*away, &kept, &mut copied).await;
    // It goes on without the database.
    runner::run(&mut events, spawn_detached()).await;
    assert_eq!((progress.passed(), progress.dead_letters(), progress.trouble()), (59, 1, None));
    assert!(file_into(&*away, &kept.dead, journal).await.is_err());
    copy_once(&progress, &reader, &*away, &kept, &mut copied).await;
    assert_eq!((copied, kept.dead.all().unwrap().len()), (None, 1));

    // While the dead letter cannot be moved, the database does not learn that its record is passed.
    let path = world.folder.path().join("consumers/events.dead.ndjson");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, "damaged").unwrap();
    copy_once(&progress, &reader, &*store, &kept, &mut copied).await;
    assert_eq!(store.consumer_offset(ABOUT.name, journal).await.unwrap(), None);
    std::fs::write(&path, text).unwrap();
    copy_once(&progress, &reader, &*store, &kept, &mut copied).await;
    let offset = store.consumer_offset(ABOUT.name, journal).await.unwrap();
    assert_eq!((copied, offset.map(|offset| offset.sequence)), (Some(59), Some(59)));
    let rows = store.dead_letters(ABOUT.name, journal, 9).await.unwrap();
    let said: Vec<_> = rows.iter().map(|row| (row.id.as_str(), row.sequence, row.reason.as_str())).collect();
    assert_eq!(said, [("42-0", 42, "422")]);
    assert_eq!((kept.dead.all().unwrap().len(), progress.dead_letters()), (0, 1));

    // The same once more, after a crash before the offset was stored.
    let letter: DeadLetter = serde_json::from_str(&rows[0].letter).unwrap();
    kept.dead.add(letter).unwrap();
    assert_eq!(file_into(&*store, &kept.dead, journal).await, Ok(1));
}

#[tokio::test]
async fn what_the_journal_did_not_keep_is_said_in_its_place() {
    let world = World::new(0);
    let reader = world.journal.handle().reader();
    world.kept().resume(&reader, 1, None).unwrap();
    world.append(1..5).await;
    let (mut events, progress) = world.begin(Play::new(&world.taken));
    assert_eq!(events.work().await, Step::Worked);
    let mut next = 5;
    // The segment being read stays readable after its deletion, so more than that one has to be deleted.
    while !matches!(reader.cursor(4).next_batch(1), Err(JournalError::Gone { oldest, .. }) if oldest > 500) {
        world.append(next..next + 10).await;
        next += 10;
        reader.advance_cursor("sql", reader.durable());
    }
    runner::run(&mut events, spawn_detached()).await;
    let gap = progress.last_gap().unwrap();
    let taken = world.taken.lock().unwrap().clone();
    let at = taken.iter().position(|event| event["type"] == "com.livedrop.events.gap.v1").unwrap();
    let data = &taken[at]["data"];
    assert_eq!((&data["first_sequence"], &data["last_sequence"]), (&gap.first.into(), &gap.last.into()));
    assert!(gap.first >= 5 && gap.records() > 100, "{gap:?}");
    let units = |events: &[Value]| events.iter().filter_map(|event| event["data"]["quantity"].as_u64()).collect();
    let (before, after): (Vec<u64>, Vec<u64>) = (units(&taken[..at]), units(&taken[at + 1..]));
    assert_eq!((before, after), (said(1..gap.first), said(gap.last + 1..next.into())));
}

#[tokio::test]
async fn it_begins_at_the_end_and_where_it_is_told_to() {
    let world = World::new(1 << 20);
    world.append(1..11).await;
    let reader = world.journal.handle().reader();
    let kept = world.kept();
    assert_eq!(kept.resume(&reader, 1, None).unwrap(), 10, "from when it was turned on");
    world.append(11..21).await;
    assert_eq!(kept.resume(&reader, 1, None).unwrap(), 10, "and not from the next start");
    kept.offset.store(reader.journal_id(), reader.epoch(), 0).unwrap();
    assert_eq!(kept.resume(&reader, 4, None).unwrap(), 3, "from what there is");
    let copy = |epoch, sequence| Some(ConsumerOffset { epoch, sequence });
    assert_eq!(kept.resume(&reader, 4, copy(1, 9)).unwrap(), 3, "the file knows better than the database");
    let elsewhere = Kept::new(&world.folder.path().join("elsewhere"));
    assert_eq!(elsewhere.resume(&reader, 1, copy(reader.epoch(), 9)).unwrap(), 9, "without a file it is the database");
    assert_eq!(
        elsewhere.resume(&reader, 1, copy(reader.epoch() + 1, 9)).unwrap(),
        20,
        "which knows another journal's story"
    );
    kept.offset.store(reader.journal_id(), reader.epoch(), AT_THE_END).unwrap();
    assert_eq!(kept.resume(&reader, 1, None).unwrap(), 20, "as an operator said");
    assert_eq!(kept.offset.load(reader.journal_id(), reader.epoch()).unwrap(), Some(20));
}
