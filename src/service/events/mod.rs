//! Sends events to another system as CloudEvents, at least once and in the journal's order. The offset is stored when
//! the target has accepted the events, so after a crash some are sent again, under the same ids.
//!
//! Events that the target refuses permanently are found by halving the batch, and set aside with the reason
//! ([`DeadLetters`]); all others go on. An unavailable target delays events and nothing else: the journal keeps them
//! within the bounds for consumers that lag, and past these an event names the missing records.

mod http_target;
#[cfg(test)]
mod tests;

pub use http_target::{EventsUrl, HttpTarget};

use crate::actors::Clock;
use crate::actors::consumers::cloud_event::CloudEvent;
use crate::actors::consumers::dead_letters::{DeadLetter, DeadLetters};
use crate::actors::consumers::offsets::OffsetFile;
use crate::actors::consumers::{About, Consumer, Gap, Progress, Retention, Run, Step, Tail, TailError};
use crate::journal::JournalReader;
use crate::storage::{ConsumerOffset, Store};
use bytes::Bytes;
use serde_json::value::{RawValue, to_raw_value};
use std::{future::Future, io, path::Path, sync::Arc, time::Duration};

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

/// The outcome of sending a batch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Sent {
    /// The target accepted the batch.
    Taken,
    /// The target refuses these events permanently, for this reason.
    Refused(String),
    /// Unknown, or not now, for this reason.
    Unavailable(String),
}

/// Why a batch is not delivered yet.
enum Undelivered {
    /// One of its events is refused: smaller parts will tell which.
    TooMany,
    /// The target is unavailable, for this reason.
    Unavailable(String),
}

/// A receiver of events: a JSON array of them at a time.
pub trait Target {
    /// Sends one JSON array of events.
    fn send(&mut self, batch: Bytes) -> impl Future<Output = Sent>;
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

    /// The record after which the consumer starts. `copy` is the offset from the database, for a data directory without
    /// the file. If neither is known it starts at the journal's end, and stores that at once.
    ///
    /// # Errors
    /// If the file cannot be read or written.
    pub fn resume(&self, journal: &JournalReader, first: u64, copy: Option<ConsumerOffset>) -> io::Result<u64> {
        let (id, epoch, last) = (journal.journal_id(), journal.epoch(), journal.durable());
        let copied = copy.filter(|copy| copy.epoch <= epoch).map(|copy| copy.sequence);
        // An operator sets 0 to start with the oldest record.
        match self.offset.load(id, epoch)?.or(copied) {
            Some(0) => Ok(first - 1),
            Some(sequence) if sequence <= last => Ok(sequence),
            _ => self.offset.store(id, epoch, last).map(|()| last),
        }
    }
}

/// The consumer that sends events to a target.
pub struct Events<T> {
    tail: Tail,
    target: T,
    kept: Kept,
    clock: Clock,
    /// The run being sent, and the index of its next record.
    hand: Option<(Run, usize)>,
    /// The largest number of records in the next batch.
    size: usize,
    gap: Option<Gap>,
}

impl<T: Target> Events<T> {
    /// Starts after this record.
    #[must_use]
    pub fn new(progress: Arc<Progress>, journal: &JournalReader, after: u64, kept: Kept, target: T) -> Self {
        let tail = Tail::new(progress, journal, after);
        Self { tail, target, kept, clock: Clock::default(), hand: None, size: BATCH_RECORDS_MAX, gap: None }
    }

    /// Sends the event that reports a gap.
    async fn say_gap(&mut self, gap: Gap) -> Step {
        let event = CloudEvent::gap(self.tail.journal().journal_id(), gap, self.clock.now());
        let batch = match serde_json::to_vec(&[event]) {
            Ok(batch) => batch.into(),
            Err(error) => return Step::Stopped(error.to_string()),
        };
        match self.target.send(batch).await {
            Sent::Taken => {
                self.gap = None;
                Step::Again
            }
            Sent::Refused(reason) | Sent::Unavailable(reason) => Step::Unavailable(reason),
        }
    }

    /// Sends the next records of the current run, and stores the offset.
    async fn send(&mut self, run: Run, from: usize) -> Step {
        let to = run.records.len().min(from + self.size);
        let (last, at) = (run.first_sequence + to as u64 - 1, run.records[to - 1].at);
        let mut delivered = self.deliver(&run, from, to).await;
        if delivered.is_ok() {
            delivered = self.store(last).await.map_err(Undelivered::Unavailable);
        }
        match delivered {
            Ok(()) => {
                self.tail.passed(last, at);
                self.size = BATCH_RECORDS_MAX;
                self.hand = (to < run.records.len()).then_some((run, to));
                Step::Worked
            }
            Err(Undelivered::TooMany) => {
                self.size = (to - from).div_ceil(2);
                self.hand = Some((run, from));
                Step::Again
            }
            Err(Undelivered::Unavailable(reason)) => {
                self.hand = Some((run, from));
                Step::Unavailable(reason)
            }
        }
    }

    /// Delivers the events of these records, or sets a single one aside.
    async fn deliver(&mut self, run: &Run, from: usize, to: usize) -> Result<(), Undelivered> {
        let (first, journal) = (run.first_sequence + from as u64, self.tail.journal().journal_id());
        let event = |(sequence, record)| CloudEvent::of(journal, sequence, record);
        let events: Vec<CloudEvent<'_>> = (first..).zip(&run.records[from..to]).filter_map(event).collect();
        if events.is_empty() {
            return Ok(());
        }
        let sent = match serde_json::to_vec(&events) {
            Ok(batch) => self.target.send(batch.into()).await,
            Err(error) => Sent::Refused(error.to_string()),
        };
        match (sent, &events[..]) {
            (Sent::Taken, _) => Ok(()),
            (Sent::Refused(reason), [event]) => self.set_aside(event, reason).await.map_err(Undelivered::Unavailable),
            (Sent::Refused(_), _) => Err(Undelivered::TooMany),
            (Sent::Unavailable(reason), _) => Err(Undelivered::Unavailable(reason)),
        }
    }

    async fn set_aside(&self, event: &CloudEvent<'_>, reason: String) -> Result<(), String> {
        let failed = |error: &dyn std::fmt::Display| format!("what was refused cannot be set aside: {error}");
        let text: Box<RawValue> = to_raw_value(event).map_err(|error| failed(&error))?;
        let id = event.id().to_owned();
        tracing::error!(consumer = ABOUT.name, %id, %reason, "the target refuses an event for good; it is set aside");
        let (letter, dead) = (DeadLetter { id, reason, event: text }, self.kept.dead.clone());
        let added = on_disk(move || dead.add(letter)).await.map_err(|error| failed(&error))?;
        self.tail.progress().sets_aside(added);
        Ok(())
    }

    async fn store(&self, sequence: u64) -> Result<(), String> {
        let (offset, journal) = (self.kept.offset.clone(), self.tail.journal());
        let (id, epoch) = (journal.journal_id(), journal.epoch());
        let stored = on_disk(move || offset.store(id, epoch, sequence)).await;
        stored.map_err(|error| format!("the offset cannot be stored: {error}"))
    }
}

/// On a blocking thread, so that async tasks are not delayed.
async fn on_disk<R: Send + 'static>(work: impl FnOnce() -> io::Result<R> + Send + 'static) -> io::Result<R> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}

impl<T: Target> Consumer for Events<T> {
    fn tail(&self) -> &Tail {
        &self.tail
    }

    async fn work(&mut self) -> Step {
        if let Some(gap) = self.gap {
            return self.say_gap(gap).await;
        }
        if let Some((run, from)) = self.hand.take() {
            return self.send(run, from).await;
        }
        match self.tail.try_next() {
            Ok(Some(run)) => self.send(run, 0).await,
            Ok(None) => Step::Idle,
            Err(error) => {
                if let TailError::Skipped(gap) = error {
                    self.gap = Some(gap);
                }
                Step::from(&error)
            }
        }
    }

    fn begin_again(&mut self) {
        (self.hand, self.gap, self.size) = (None, None, BATCH_RECORDS_MAX);
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

/// Copies the offset into the database periodically, forever, so that backups include it. While the database is away
/// the file is enough.
pub async fn copy_offset(progress: Arc<Progress>, journal: JournalReader, store: Arc<dyn Store>) {
    let mut copied = None;
    loop {
        tokio::time::sleep(COPY_EVERY).await;
        let sequence = progress.passed();
        if copied != Some(sequence) {
            let offset = ConsumerOffset { epoch: journal.epoch(), sequence };
            let done = store.keep_consumer_offset(ABOUT.name, journal.journal_id(), offset).await;
            copied = done.is_ok().then_some(sequence);
        }
    }
}

/// The result of sending dead letters again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Retried {
    /// Events that the target accepted now.
    pub taken: usize,
    /// The number of events still refused, and the last reason.
    pub left: Option<(usize, String)>,
}

/// Sends dead letters again, one by one; accepted ones are removed.
///
/// # Errors
/// If the file cannot be read or written; accepted events may be sent again then.
pub async fn retry(dead: &DeadLetters, target: &mut impl Target) -> io::Result<Retried> {
    let (mut left, mut taken, mut why) = (Vec::new(), 0, String::new());
    for letter in dead.all()? {
        let batch = Bytes::from(format!("[{}]", letter.event));
        match target.send(batch).await {
            Sent::Taken => taken += 1,
            Sent::Refused(reason) | Sent::Unavailable(reason) => {
                why.clone_from(&reason);
                left.push(DeadLetter { reason, ..letter });
            }
        }
    }
    dead.keep(&left)?;
    Ok(Retried { taken, left: (!left.is_empty()).then_some((left.len(), why)) })
}
