//! Fills SQL from the journal: write-behind, in batches, with the watermark in the same transaction.
//!
//! An unavailable database delays the projector and nothing else. The projector then reads from segment files instead
//! of the journal's tail in memory, so an outage costs no memory.
//!
//! A record that the database refuses permanently stops only its own drop. The batch is halved until the record is
//! found. The record is set aside in SQL, with its reason, and so are all later ones of the same drop, which build on
//! it: the drop's rows stay right up to the record before. Such a drop stays in memory, where it goes on, and recovery
//! replays the records that are set aside.

use super::pace::Pace;
use super::{About, Consumer, Progress, Retention, Step, Tail, TailError, Unread};
use crate::domain::{DropId, DropRecord, Timestamp};
use crate::journal::JournalReader;
use crate::storage::{Aside, Ledger, ProjectionBatch, SetAsideDrop, StoreError, UnreadRecord};
use std::{
    collections::BTreeMap,
    io::ErrorKind,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{error, warn};

/// The projector as a consumer: it pins the journal.
pub const ABOUT: About = About {
    name: "projector",
    effect: "fills SQL",
    offset: "in SQL, in the transaction of the rows",
    retention: Retention::Pins,
};

/// How often a batch may time out before half of it is tried.
const SLOW_TRIES: u32 = 3;

/// How long the loading of a drop waits for SQL to catch up after a start.
const RECOVERY_TIMEOUT: Duration = Duration::from_secs(2);

/// How often an idle projector checks that the database still has its rows.
const IDLE_LOOK: Duration = Duration::from_secs(5);

/// Drops with records set aside; `None` until they were read from the database.
type SharedAside = Arc<Mutex<Option<BTreeMap<DropId, SetAsideDrop>>>>;

/// The projector's state for other tasks. Cheap to clone.
#[derive(Clone)]
pub struct Projection {
    watermark: watch::Receiver<u64>,
    trouble: Arc<Mutex<Option<String>>>,
    fenced: watch::Receiver<bool>,
    aside: SharedAside,
    /// The highest record that a reader has waited for.
    wanted: watch::Sender<u64>,
    /// The journal's end when this process started.
    recovered: u64,
}

impl Projection {
    /// Becomes `true` when another server has taken the database over: this one must stop selling.
    #[must_use]
    pub fn fenced(&self) -> watch::Receiver<bool> {
        self.fenced.clone()
    }

    /// Everything up to this sequence is in SQL.
    #[must_use]
    pub fn watermark(&self) -> u64 {
        *self.watermark.borrow()
    }

    /// Why the projector makes no progress; `None` while it does.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        locked(&self.trouble).clone()
    }

    /// Drops with records set aside, in the order of the first such record.
    #[must_use]
    pub fn set_aside(&self) -> Vec<SetAsideDrop> {
        let mut drops: Vec<SetAsideDrop> = locked(&self.aside).iter().flatten().map(|(_, drop)| drop.clone()).collect();
        drops.sort_unstable_by_key(|drop| drop.first_sequence);
        drops
    }

    /// Whether a drop is known to have records set aside.
    #[must_use]
    pub fn is_set_aside(&self, drop: DropId) -> bool {
        locked(&self.aside).as_ref().is_some_and(|drops| drops.contains_key(&drop))
    }

    /// Whether SQL has every record of a drop up to the watermark: none is set aside.
    #[must_use]
    pub fn has_all_of(&self, drop: DropId) -> bool {
        locked(&self.aside).as_ref().is_some_and(|drops| !drops.contains_key(&drop))
    }

    /// Waits until SQL has everything that was in the journal when this process started, but at most `time_limit`.
    /// Until then a drop that is not in memory may have later records that SQL lacks. Returns whether SQL has them.
    pub async fn past_recovery(&self, time_limit: Duration) -> bool {
        self.reached(self.recovered, time_limit).await
    }

    /// Waits a moment for [`Self::past_recovery`].
    ///
    /// # Errors
    /// `Unavailable` if SQL still lacks something: a drop must not be loaded from it.
    pub async fn ensure_past_recovery(&self) -> Result<(), StoreError> {
        match self.past_recovery(RECOVERY_TIMEOUT).await {
            true => Ok(()),
            false => Err(StoreError::unavailable(ErrorKind::TimedOut, "it lacks records from before the start")),
        }
    }

    /// Waits until `sequence` is in SQL, but at most `time_limit`; the projector does not sleep until then. Returns
    /// whether it is.
    pub async fn reached(&self, sequence: u64, time_limit: Duration) -> bool {
        if self.watermark() >= sequence {
            return true;
        }
        self.wanted.send_if_modified(|wanted| sequence > std::mem::replace(wanted, sequence.max(*wanted)));
        let mut watermark = self.watermark.clone();
        let wait = watermark.wait_for(|reached| *reached >= sequence);
        matches!(tokio::time::timeout(time_limit, wait).await, Ok(Ok(_)))
    }
}

/// The result of one step of the projector.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Projected {
    /// A batch was written to SQL.
    Batch,
    /// Every durable record is in SQL.
    Nothing,
    /// The database or the journal's file was unavailable; the next step retries the same batch.
    Unavailable,
    /// The database has lost rows, as after a restore; the next step continues from its watermark.
    Rewound,
    /// A batch was halved: the database refuses a record of it permanently, or it is too large for one transaction. The
    /// next steps write the halves.
    Narrowed,
    /// It cannot go on, for the reason in [`Projection::trouble`].
    Stopped,
}

/// The consumer that fills SQL.
pub struct Projector {
    store: Arc<dyn Ledger>,
    tail: Tail,
    /// Batches not written yet, the last one first.
    pending: Vec<ProjectionBatch>,
    /// A record that cannot be read and is not set aside yet. It comes after everything pending.
    unread: Option<Box<Unread>>,
    /// The first record of a batch that timed out, and how often it did.
    slow: (u64, u32),
    aside: SharedAside,
    watermark: watch::Sender<u64>,
    trouble: Arc<Mutex<Option<String>>>,
    fenced: watch::Sender<bool>,
    wanted: watch::Sender<u64>,
    /// When the last batch began, and the durable sequence then.
    before: Option<(Instant, u64)>,
    /// How long to sleep after the current batch.
    rest: Duration,
    /// Whether the next step checks the database although there is nothing to project.
    look: bool,
    /// Whether the database has said where it is: after a start without it, it has not.
    is_placed: bool,
}

impl Projector {
    /// A projector that starts after `watermark`.
    #[must_use]
    pub fn new(store: Arc<dyn Ledger>, journal: &JournalReader, watermark: u64) -> (Self, Projection) {
        let trouble = Arc::new(Mutex::new(None));
        let (fenced, sender) = (watch::Sender::new(false), watch::Sender::new(watermark));
        let (wanted, aside) = (watch::Sender::new(0), SharedAside::default());
        let view = Projection {
            watermark: sender.subscribe(),
            trouble: Arc::clone(&trouble),
            fenced: fenced.subscribe(),
            aside: Arc::clone(&aside),
            wanted: wanted.clone(),
            recovered: journal.durable(),
        };
        let tail = Tail::new(Progress::new(&ABOUT), journal, watermark);
        (
            Self {
                store,
                tail,
                pending: Vec::new(),
                unread: None,
                slow: (0, 0),
                aside,
                watermark: sender,
                trouble,
                fenced,
                wanted,
                before: None,
                rest: Duration::ZERO,
                look: false,
                is_placed: true,
            },
            view,
        )
    }

    /// The same, after a start without the database: `watermark` is a record that SQL has in any case, and where it
    /// really is comes first.
    #[must_use]
    pub fn unplaced(store: Arc<dyn Ledger>, journal: &JournalReader, watermark: u64) -> (Self, Projection) {
        let (projector, view) = Self::new(store, journal, watermark);
        (Self { is_placed: false, ..projector }, view)
    }

    async fn find_watermark(&mut self) -> Projected {
        match self.store.applied(self.tail.journal().journal_id()).await {
            Ok(watermark) => {
                self.is_placed = true;
                self.tail.go_on_after(watermark);
                self.watermark.send_replace(watermark);
                Projected::Rewound
            }
            Err(error) => self.failed(error, None),
        }
    }

    /// Checks, while there is nothing to project, that the database still has its rows. If it was restored from an
    /// older copy, the next steps fill it again.
    pub async fn look_again(&mut self) -> Projected {
        let reached = *self.watermark.borrow();
        match self.store.applied(self.tail.journal().journal_id()).await {
            Ok(watermark) if watermark < reached => self.rewind(watermark),
            Ok(_) => {
                self.set_trouble(None);
                Projected::Nothing
            }
            Err(error) => self.failed(error, None),
        }
    }

    /// Sorts a failure of the database: an outage passes, everything else needs an operator. `first` is the record at
    /// fault, if there is one.
    fn failed(&self, error: StoreError, first: Option<u64>) -> Projected {
        if let StoreError::Unavailable(reason) = error {
            return self.unavailable(&format!("the database is down: {reason}"));
        }
        self.fenced.send_replace(matches!(error, StoreError::Fenced { .. }));
        self.stopped(first.map_or_else(|| error.to_string(), |first| format!("at record {first}: {error}")))
    }

    fn rewind(&mut self, watermark: u64) -> Projected {
        let had = *self.watermark.borrow();
        warn!(watermark, had, "the database has forgotten rows that it had; filling it again from the journal");
        self.tail.go_on_after(watermark);
        self.watermark.send_replace(watermark);
        self.pending.clear();
        self.unread = None;
        *locked(&self.aside) = None;
        Projected::Rewound
    }

    /// Writes the next batch to SQL, or retries the pending one.
    pub async fn step(&mut self) -> Projected {
        if !self.is_placed {
            return self.find_watermark().await;
        }
        if locked(&self.aside).is_none()
            && let Err(step) = self.load_aside().await
        {
            return step;
        }
        if self.pending.is_empty()
            && let Some(unread) = self.unread.take()
        {
            return self.set_aside_unread(unread).await;
        }
        let batch = match self.pending.pop().map_or_else(|| self.next_batch(), |batch| Ok(Some(batch))) {
            Ok(Some(batch)) => batch,
            Ok(None) => return Projected::Nothing,
            Err(TailError::Unread(unread)) => return self.set_aside_unread(unread).await,
            Err(error @ TailError::Unreadable(_)) => return self.unavailable(&error.to_string()),
            Err(error @ (TailError::Skipped(_) | TailError::Lost(_))) => return self.stopped(error.to_string()),
        };
        let aside = self.aside_of(&batch);
        match self.store.project_around(&batch, &aside).await {
            Ok(()) => {
                self.done(&batch, &aside);
                Projected::Batch
            }
            Err(StoreError::TooLarge) if batch.records.len() > 1 => {
                self.halve(batch);
                Projected::Narrowed
            }
            Err(error) if error.is_timeout() && self.is_too_slow(&batch) => {
                warn!(records = batch.records.len(), "a batch took too long again; trying half of it");
                self.halve(batch);
                Projected::Narrowed
            }
            Err(StoreError::Unacceptable(reason)) if aside.len() < batch.records.len() => {
                self.narrow(batch, reason);
                Projected::Narrowed
            }
            Err(StoreError::Gap { first, watermark }) if watermark + 1 < first => self.rewind(watermark),
            Err(error) => {
                let first = batch.first_sequence;
                self.pending.push(batch);
                self.failed(error, Some(first))
            }
        }
    }

    /// Sets aside a record that this version of the program cannot read, and with it its drop from there on. A later version applies them.
    async fn set_aside_unread(&mut self, unread: Box<Unread>) -> Projected {
        let Unread { sequence, drop, bytes, reason } = &*unread;
        let (sequence, reason) = (*sequence, reason.clone());
        let Some(drop) = *drop else {
            let lost = format!("journal record {sequence}: {reason}, and its drop is not known");
            self.unread = Some(unread);
            return self.stopped(lost);
        };
        let record = UnreadRecord { sequence, drop, bytes: bytes.clone(), reason: reason.clone() };
        let journal = self.tail.journal();
        match self.store.set_aside_unread(journal.journal_id(), journal.epoch(), &record).await {
            Ok(()) => {
                let new = || SetAsideDrop { drop, first_sequence: sequence, records: 0, reason };
                locked(&self.aside).get_or_insert_default().entry(drop).or_insert_with(new).records += 1;
                self.watermark.send_replace(sequence);
                self.tail.passed_unread(sequence);
                self.set_trouble(None);
                Projected::Batch
            }
            Err(StoreError::Gap { first, watermark }) if watermark + 1 < first => self.rewind(watermark),
            Err(error) => {
                self.unread = Some(unread);
                self.failed(error, Some(sequence))
            }
        }
    }

    fn next_batch(&mut self) -> Result<Option<ProjectionBatch>, TailError> {
        let Some(run) = self.tail.try_next()? else { return Ok(None) };
        let journal = self.tail.journal();
        Ok(Some(ProjectionBatch {
            journal: journal.journal_id(),
            epoch: journal.epoch(),
            first_sequence: run.first_sequence,
            records: run.records,
        }))
    }

    async fn load_aside(&self) -> Result<(), Projected> {
        match self.store.set_aside_drops(self.tail.journal().journal_id()).await {
            Ok(drops) => {
                let drops = drops.into_iter().map(|drop| (drop.drop, drop)).collect();
                *locked(&self.aside) = Some(drops);
                Ok(())
            }
            Err(error) => Err(self.failed(error, None)),
        }
    }

    /// The records of a batch to set aside: refused ones and those that follow them.
    fn aside_of(&self, batch: &ProjectionBatch) -> Aside {
        let known = locked(&self.aside);
        let Some(drops) = known.as_ref().filter(|drops| !drops.is_empty()) else { return Aside::new() };
        let reason = |(sequence, record): (u64, &DropRecord)| {
            let drop = drops.get(&record.drop).filter(|drop| drop.first_sequence <= sequence)?;
            let first = drop.first_sequence;
            let follows = || format!("record {first} of the same drop is set aside");
            Some((sequence, if first == sequence { drop.reason.clone() } else { follows() }))
        };
        (batch.first_sequence..).zip(&batch.records).filter_map(reason).collect()
    }

    /// Whether a batch has timed out so often that half of it should be tried.
    fn is_too_slow(&mut self, batch: &ProjectionBatch) -> bool {
        let (first, times) = self.slow;
        self.slow = if first == batch.first_sequence { (first, times + 1) } else { (batch.first_sequence, 1) };
        self.slow.1.is_multiple_of(SLOW_TRIES) && batch.records.len() > 1
    }

    fn halve(&mut self, mut batch: ProjectionBatch) {
        let second = batch.records.split_off(batch.records.len() / 2);
        let first_sequence = batch.first_sequence + batch.records.len() as u64;
        let (journal, epoch) = (batch.journal, batch.epoch);
        self.pending.push(ProjectionBatch { journal, epoch, first_sequence, records: second });
        self.pending.push(batch);
    }

    /// Halves a refused batch, or sets its only record aside.
    fn narrow(&mut self, batch: ProjectionBatch, reason: String) {
        if let [record] = &batch.records[..] {
            let (drop, first_sequence) = (record.drop, batch.first_sequence);
            error!(%drop, record = first_sequence, %reason, "the database refuses a record for good; its drop is set aside");
            let drop_aside = SetAsideDrop { drop, first_sequence, records: 0, reason };
            locked(&self.aside).get_or_insert_default().insert(drop, drop_aside);
            self.pending.push(batch);
            return;
        }
        self.halve(batch);
    }

    fn done(&self, batch: &ProjectionBatch, aside: &Aside) {
        for sequence in aside.keys() {
            let record = usize::try_from(sequence - batch.first_sequence).ok().and_then(|at| batch.records.get(at));
            let mut drops = locked(&self.aside);
            if let (Some(record), Some(drops)) = (record, drops.as_mut())
                && let Some(drop) = drops.get_mut(&record.drop)
            {
                drop.records += 1;
            }
        }
        let last = batch.first_sequence + batch.records.len() as u64 - 1;
        self.watermark.send_replace(last);
        self.tail.passed(last, batch.records.last().map_or(Timestamp::EPOCH, |record| record.at));
        self.set_trouble(None);
    }

    fn unavailable(&self, reason: &str) -> Projected {
        self.set_trouble(Some(reason.to_owned()));
        Projected::Unavailable
    }

    fn stopped(&self, reason: String) -> Projected {
        self.set_trouble(Some(reason));
        Projected::Stopped
    }

    fn set_trouble(&self, trouble: Option<String>) {
        *locked(&self.trouble) = trouble;
    }

    /// How long to sleep after a batch that began then.
    fn pace(&mut self, began: (Instant, u64)) -> Duration {
        let before = self.before.replace(began).unwrap_or(began);
        let behind = self.tail.journal().durable() - *self.watermark.borrow();
        Pace { took: began.0.elapsed(), cycle: began.0 - before.0, arrived: began.1 - before.1, behind }.rest()
    }
}

impl Consumer for Projector {
    fn tail(&self) -> &Tail {
        &self.tail
    }

    async fn work(&mut self) -> Step {
        let began = (Instant::now(), self.tail.journal().durable());
        let projected = if std::mem::take(&mut self.look) { self.look_again().await } else { self.step().await };
        let reason = || locked(&self.trouble).clone().unwrap_or_default();
        match projected {
            Projected::Batch => {
                self.rest = self.pace(began);
                Step::Worked
            }
            Projected::Rewound | Projected::Narrowed => Step::Again,
            Projected::Nothing => Step::Idle,
            Projected::Unavailable => Step::Unavailable(reason()),
            Projected::Stopped => Step::Stopped(reason()),
        }
    }

    /// Ends early if a reader waits for SQL.
    async fn rest(&mut self) {
        if self.rest.is_zero() {
            return;
        }
        let (mut wanted, watermark) = (self.wanted.subscribe(), *self.watermark.borrow());
        tokio::select! {
            () = tokio::time::sleep(self.rest) => {}
            _ = wanted.wait_for(|wanted| *wanted > watermark) => {}
        }
    }

    async fn idle(&mut self) {
        tokio::time::sleep(IDLE_LOOK).await;
        self.look = true;
    }
}

fn locked<T>(shared: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod isolation_tests;

#[cfg(test)]
mod tests {
    use super::super::runner::{self, LAST_TRIES};
    use super::*;
    use crate::domain::DropEvent;
    use crate::domain::fixtures::drop_of;
    use crate::journal::{Completion, Fault, FaultyDevice, Journal, JournalError, JournalOptions, Operation};
    use crate::journal::{MemoryDevice, Records};
    use crate::storage::memory::MemoryLedger;
    use tokio::sync::oneshot;

    struct Done(oneshot::Sender<u64>);

    impl Completion for Done {
        fn complete(self, durable: Result<u64, JournalError>) {
            self.0.send(durable.unwrap()).unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_rest_ends_with_its_time_or_for_who_waits_or_at_the_end() {
        let (journal, _) =
            Journal::<Done>::open(&JournalOptions::in_memory(), Arc::new(MemoryDevice::new()), 0).unwrap();
        let (mut projector, view) = Projector::new(Arc::new(MemoryLedger::default()), &journal.handle().reader(), 5);
        let long = Duration::from_secs(3_600);
        projector.rest = long;
        let (stop, mut stopped) = watch::channel(false);
        let began = Instant::now();
        runner::rest(&mut projector, &mut stopped).await;
        assert_eq!(began.elapsed(), long);

        // Waiting for a written record ends no sleep.
        assert!(view.reached(5, long).await);
        runner::rest(&mut projector, &mut stopped).await;
        assert_eq!(began.elapsed(), 2 * long);

        let time_limit = Duration::from_secs(1);
        let (reached, rested) = tokio::join!(view.reached(6, time_limit), async {
            runner::rest(&mut projector, &mut stopped).await;
            began.elapsed()
        });
        assert_eq!((reached, rested), (false, 2 * long));
        // The record is still wanted.
        runner::rest(&mut projector, &mut stopped).await;
        assert_eq!(began.elapsed(), 2 * long + time_limit);
        projector.watermark.send_replace(6);
        stop.send_replace(true);
        runner::rest(&mut projector, &mut stopped).await;
        assert_eq!(began.elapsed(), 2 * long + time_limit);
    }

    /// A journal with one record on a faulty device, without a tail in memory: every read goes to the file.
    async fn one_record() -> (FaultyDevice, Journal<Done>) {
        let device = FaultyDevice::new(Arc::new(MemoryDevice::new()));
        let options = JournalOptions { tail_bytes: 0, ..JournalOptions::in_memory() };
        let (journal, _) = Journal::open(&options, Arc::new(device.clone()), 0).unwrap();
        let spec = drop_of(1);
        let record =
            DropRecord { drop: spec.id, at: Timestamp::from_millis(0), event: DropEvent::Scheduled(Box::new(spec)) };
        let mut records = Records::default();
        records.push(|buffer| record.encode(buffer)).unwrap();
        let (done, durable) = oneshot::channel();
        journal.handle().try_permit().unwrap().submit(records, Done(done));
        assert_eq!(durable.await, Ok(1));
        (device, journal)
    }

    #[tokio::test(start_paused = true)]
    async fn at_the_end_a_moments_trouble_is_waited_out_and_a_lasting_one_for_a_while() {
        for (fault, watermark, waited) in [
            (Fault::nth(1).of(Operation::Open), 1, Duration::from_millis(100)),
            (Fault::nth(1).of(Operation::Open).for_good(), 0, LAST_TRIES),
        ] {
            let (device, journal) = one_record().await;
            let (mut projector, view) =
                Projector::new(Arc::new(MemoryLedger::default()), &journal.handle().reader(), 0);
            device.set(Some(fault));
            let began = Instant::now();
            runner::run(&mut projector, watch::channel(true).1).await;
            assert_eq!(view.watermark(), watermark);
            assert!((waited..2 * waited).contains(&began.elapsed()), "{:?}", began.elapsed());
        }
    }

    #[tokio::test]
    async fn a_read_that_fails_is_tried_again() {
        let (device, journal) = one_record().await;
        let reader = journal.handle().reader();
        let (mut projector, view) = Projector::new(Arc::new(MemoryLedger::default()), &reader, 0);
        device.set(Some(Fault::nth(1).of(Operation::Open)));
        assert_eq!(projector.step().await, Projected::Unavailable);
        assert!(view.trouble().is_some_and(|trouble| trouble.contains("cannot be read")), "{:?}", view.trouble());
        assert_eq!((projector.step().await, view.trouble(), view.watermark()), (Projected::Batch, None, 1));
        assert_eq!(projector.step().await, Projected::Nothing);
    }

    #[tokio::test]
    async fn after_a_start_without_the_database_the_database_says_where_it_is() {
        let (_device, journal) = one_record().await;
        let (reader, ledger) = (journal.handle().reader(), Arc::new(MemoryLedger::default()));
        let (mut before, _) = Projector::new(ledger.clone(), &reader, 0);
        assert_eq!(before.step().await, Projected::Batch);
        let (mut projector, view) = Projector::unplaced(ledger, &reader, 0);
        assert_eq!((view.watermark(), projector.step().await, view.watermark()), (0, Projected::Rewound, 1));
        assert_eq!(projector.step().await, Projected::Nothing);
    }
}
