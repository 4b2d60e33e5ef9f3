//! Sends events to another system as CloudEvents, at least once and in the journal's order. The offset is stored when
//! the target has accepted the events, so after a crash some are sent again, under the same ids.
//!
//! Events that the target refuses permanently are found by halving the batch, and set aside with the reason
//! ([`DeadLetters`]); all others go on. An unavailable target delays events and nothing else: the journal keeps them
//! within the bounds for consumers that lag, and past these an event names the missing records.

mod http_target;
mod letters;
#[cfg(test)]
mod tests;

pub use http_target::{EventsUrl, HttpTarget};
pub use letters::{Retried, file_into, retry};

use crate::actors::Clock;
use crate::actors::consumers::cloud_event::CloudEvent;
use crate::actors::consumers::dead_letters::{DeadLetter, DeadLetters};
use crate::actors::consumers::keyed::{Bounds, Effect, InFlight, Worker};
use crate::actors::consumers::offsets::OffsetFile;
use crate::actors::consumers::{About, Consumer, Gap, Progress, Retention, Step, Tail, TailError, Unread};
use crate::domain::{DropId, DropRecord, Timestamp};
use crate::journal::JournalReader;
use crate::storage::{ConsumerOffset, Store};
use crate::whole_file::on_disk;
use base64::prelude::{BASE64_STANDARD, Engine as _};
use bytes::Bytes;
use serde_json::value::to_raw_value;
use std::{future::Future, io, path::Path, sync::Arc, time::Duration};
use uuid::Uuid;

/// The event sender as a consumer: it lags.
pub const ABOUT: About = About {
    name: "events",
    effect: "sends CloudEvents over HTTP",
    offset: "in a file, after the target has taken them; a copy in SQL",
    retention: Retention::Lags,
};

/// Records of one batch: some hundred KiB of events.
const BATCH_RECORDS_MAX: usize = 1_024;
/// How long events are collected for a batch, unless there are many.
const GATHER: Duration = Duration::from_millis(50);

/// How often the offset is copied into the database: after the loss of the file, events of this period are sent again.
const COPY_EVERY: Duration = Duration::from_secs(1);

/// A receiver of events: a JSON array of them at a time.
pub trait Target {
    /// Sends one JSON array of events.
    fn send(&mut self, batch: Bytes) -> impl Future<Output = Effect>;
}

/// The consumer's files in the data directory. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Kept {
    /// The last record with delivered events.
    pub offset: OffsetFile,
    /// Refused events with their reasons.
    pub dead: DeadLetters,
}

impl Kept {
    /// The files in this data directory.
    #[must_use]
    pub fn new(data_dir: &Path) -> Self {
        Self { offset: OffsetFile::new(data_dir, ABOUT.name), dead: DeadLetters::new(data_dir, ABOUT.name) }
    }
}

/// What the consumer keeps beside the journal, durably, also while SQL is away.
pub trait Keep: Clone + Send + 'static {
    /// The stored offset, if it is one of this journal up to this epoch.
    ///
    /// # Errors
    /// If it cannot be read.
    fn offset(&self, journal: Uuid, epoch: u32) -> io::Result<Option<u64>>;

    /// Stores an offset.
    ///
    /// # Errors
    /// If it is not known to be stored.
    fn store(&self, journal: Uuid, epoch: u32, sequence: u64) -> io::Result<()>;

    /// Keeps an event that was refused, once for each id. Returns how many there are.
    ///
    /// # Errors
    /// If it is not known to be kept.
    fn set_aside(&self, letter: DeadLetter) -> io::Result<usize>;

    /// The record after which the consumer starts. `copy` is the offset from the database, for a data directory without
    /// the file. If neither is known it starts at the journal's end, and stores that at once.
    ///
    /// # Errors
    /// If the offset cannot be read or stored.
    fn resume(&self, journal: &JournalReader, first: u64, copy: Option<ConsumerOffset>) -> io::Result<u64> {
        let (id, epoch, last) = (journal.journal_id(), journal.epoch(), journal.durable());
        let copied = copy.filter(|copy| copy.epoch <= epoch).map(|copy| copy.sequence);
        // An operator sets 0 to start with the oldest record.
        match self.offset(id, epoch)?.or(copied) {
            Some(0) => Ok(first - 1),
            Some(sequence) if sequence <= last => Ok(sequence),
            _ => self.store(id, epoch, last).map(|()| last),
        }
    }
}

impl Keep for Kept {
    fn offset(&self, journal: Uuid, epoch: u32) -> io::Result<Option<u64>> {
        self.offset.load(journal, epoch)
    }

    fn store(&self, journal: Uuid, epoch: u32, sequence: u64) -> io::Result<()> {
        self.offset.store(journal, epoch, sequence)
    }

    fn set_aside(&self, letter: DeadLetter) -> io::Result<usize> {
        self.dead.add(letter)
    }
}

/// What is in hand of a record.
enum InHand {
    /// It may say something to the world.
    Record(u64, DropRecord),
    /// It cannot be read.
    Unread(Box<Unread>),
}

/// A target, and the journal whose events it gets.
struct Sender<T> {
    target: T,
    journal: Uuid,
}

impl<T: Target> Worker<InHand> for Sender<T> {
    async fn bring_about(&mut self, batch: &[InHand]) -> Effect {
        let mut events = Vec::with_capacity(batch.len());
        for item in batch {
            match item {
                InHand::Record(sequence, record) => events.extend(CloudEvent::of(self.journal, *sequence, record)),
                InHand::Unread(unread) => return Effect::Refused(unread.reason.clone()),
            }
        }
        match serde_json::to_vec(&events) {
            Ok(_) if events.is_empty() => Effect::Done,
            Ok(batch) => self.target.send(batch.into()).await,
            Err(error) => Effect::Refused(error.to_string()),
        }
    }
}

/// One run at a time, in the journal's order.
const BOUNDS: Bounds = Bounds { batch: BATCH_RECORDS_MAX, batches: 1, records: 1 };

/// The consumer that sends events to a target.
pub struct Events<T, K = Kept> {
    tail: Tail,
    senders: [Sender<T>; 1],
    kept: K,
    clock: Clock,
    in_flight: InFlight<DropId, InHand>,
    gap: Option<Gap>,
}

impl<T: Target, K: Keep> Events<T, K> {
    /// Starts after this record.
    #[must_use]
    pub fn new(progress: Arc<Progress>, journal: &JournalReader, after: u64, kept: K, target: T) -> Self {
        let tail = Tail::new(progress, journal, after);
        let senders = [Sender { target, journal: journal.journal_id() }];
        Self { tail, senders, kept, clock: Clock::default(), in_flight: InFlight::new(BOUNDS), gap: None }
    }

    /// Sends the event that reports a gap.
    async fn say_gap(&mut self, gap: Gap) -> Step {
        let [Sender { target, journal }] = &mut self.senders;
        let event = CloudEvent::gap(*journal, gap, self.clock.now());
        let batch = match serde_json::to_vec(&[event]) {
            Ok(batch) => batch.into(),
            Err(error) => return Step::Stopped(error.to_string()),
        };
        match target.send(batch).await {
            Effect::Done => {
                self.gap = None;
                Step::Again
            }
            Effect::Refused(reason) | Effect::Unavailable(reason) => Step::Unavailable(reason),
        }
    }

    /// Takes the next records in hand. `Some` where there are none to work on.
    fn take(&mut self) -> Option<Step> {
        match self.tail.try_next() {
            Ok(Some(run)) => {
                for (sequence, record) in (run.first_sequence..).zip(run.records) {
                    self.in_flight.push(sequence, record.at, record.drop, InHand::Record(sequence, record));
                }
                None
            }
            Ok(None) => Some(Step::Idle),
            Err(TailError::Unread(unread)) => {
                let (sequence, drop) = (unread.sequence, unread.drop.unwrap_or(DropId(Uuid::nil())));
                self.in_flight.push(sequence, Timestamp::EPOCH, drop, InHand::Unread(unread));
                None
            }
            Err(error) => {
                if let TailError::Skipped(gap) = error {
                    self.gap = Some(gap);
                }
                Some(Step::from(&error))
            }
        }
    }

    /// Stores the offset behind everything that is done.
    async fn keep_offset(&self) -> Result<(), String> {
        let Some((sequence, at)) = self.in_flight.passed() else { return Ok(()) };
        if sequence <= self.tail.progress().passed() {
            return Ok(());
        }
        let (kept, journal) = (self.kept.clone(), self.tail.journal());
        let (id, epoch) = (journal.journal_id(), journal.epoch());
        let stored = on_disk(move || kept.store(id, epoch, sequence)).await;
        stored.map_err(|error| format!("the offset cannot be stored: {error}"))?;
        self.tail.passed(sequence, at);
        Ok(())
    }
}

/// Keeps what cannot be sent, with the reason.
async fn set_aside(tail: &Tail, kept: &impl Keep, item: &InHand, reason: &str) -> Result<(), String> {
    let failed = |error: &dyn std::fmt::Display| format!("what was refused cannot be set aside: {error}");
    let reason = reason.to_owned();
    let letter = match item {
        InHand::Record(sequence, record) => {
            let event = CloudEvent::of(tail.journal().journal_id(), *sequence, record);
            let Some(event) = event else { return Ok(()) };
            let text = to_raw_value(&event).map_err(|error| failed(&error))?;
            DeadLetter { id: event.id().to_owned(), reason, event: Some(text), record: None }
        }
        InHand::Unread(unread) => {
            let record = Some(BASE64_STANDARD.encode(&unread.bytes));
            DeadLetter { id: CloudEvent::id_of(unread.sequence), reason, event: None, record }
        }
    };
    tracing::error!(consumer = ABOUT.name, id = letter.id, reason = letter.reason, "an event is set aside");
    let kept = kept.clone();
    let added = on_disk(move || kept.set_aside(letter)).await.map_err(|error| failed(&error))?;
    tail.progress().sets_aside(added);
    Ok(())
}

impl<T: Target, K: Keep> Consumer for Events<T, K> {
    fn tail(&self) -> &Tail {
        &self.tail
    }

    async fn work(&mut self) -> Step {
        if let Err(reason) = self.keep_offset().await {
            return Step::Unavailable(reason);
        }
        if let Some(gap) = self.gap {
            return self.say_gap(gap).await;
        }
        if self.in_flight.has_room()
            && let Some(step) = self.take()
        {
            return step;
        }
        let (tail, kept) = (&self.tail, &self.kept);
        let done =
            self.in_flight.round(&mut self.senders, async |item, reason| set_aside(tail, kept, item, reason).await);
        match (done.await, self.keep_offset().await) {
            (Ok(()), Ok(())) => Step::Worked,
            (Err(reason), _) | (_, Err(reason)) => Step::Unavailable(reason),
        }
    }

    fn begin_again(&mut self) {
        (self.in_flight, self.gap) = (InFlight::new(BOUNDS), None);
        let passed = self.tail.progress().passed();
        self.tail.go_on_after(passed);
    }

    async fn rest(&mut self) {
        let behind = self.tail.journal().durable().saturating_sub(self.tail.progress().passed());
        if behind < BATCH_RECORDS_MAX as u64 {
            tokio::time::sleep(GATHER).await;
        }
    }
}

/// Copies the offset into the database periodically, forever, and moves dead letters there, so that backups include
/// both. While the database is away the files are enough.
pub async fn copy_to_database(progress: Arc<Progress>, journal: JournalReader, store: Arc<dyn Store>, kept: Kept) {
    let mut copied = None;
    loop {
        tokio::time::sleep(COPY_EVERY).await;
        copy_once(&progress, &journal, &*store, &kept, &mut copied).await;
    }
}

async fn copy_once(
    progress: &Progress,
    journal: &JournalReader,
    store: &dyn Store,
    kept: &Kept,
    copied: &mut Option<u64>,
) {
    // In this order: the database never has an offset without the dead letters before it.
    let sequence = progress.passed();
    if kept.dead.are_waiting() {
        match file_into(store, &kept.dead, journal.journal_id()).await {
            Ok(all) => progress.sets_aside(all),
            Err(error) => {
                tracing::debug!(consumer = ABOUT.name, error, "dead letters stay in their file");
                return;
            }
        }
    }
    if *copied != Some(sequence) {
        let offset = ConsumerOffset { epoch: journal.epoch(), sequence };
        let done = store.keep_consumer_offset(ABOUT.name, journal.journal_id(), offset).await;
        *copied = done.is_ok().then_some(sequence);
    }
}
