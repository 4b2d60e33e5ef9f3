//! Follows the durable journal, for those who act on what has just become true: the projector, the broadcaster, the relays.
//! A read that fails is tried again; only what cannot get better ends a follower.

use super::backoff::Backoff;
use crate::domain::DropRecord;
use crate::domain::limits::PROJECTOR_BATCH_RECORDS_MAX;
use crate::journal::{Cursor, JournalError, JournalReader};
use std::time::Duration;
use tokio::sync::watch;
use tracing::{error, info, warn};

/// Pauses of a follower that cannot read, or cannot pass on what it has read.
pub(super) const RETRIES: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));

/// A run of durable records, decoded.
pub struct Run {
    /// The sequence number of the first.
    pub first_sequence: u64,
    /// One after the other, at least one.
    pub records: Vec<DropRecord>,
}

impl Run {
    /// The next records of a cursor, if there are some already.
    ///
    /// # Errors
    /// [`TailError`]; the place stays where the records could not be read.
    pub fn next(cursor: &mut Cursor) -> Result<Option<Self>, TailError> {
        let batch = cursor.next_batch(PROJECTOR_BATCH_RECORDS_MAX).map_err(|error| match error {
            JournalError::Gone { .. } => TailError::Lost(error.to_string()),
            error => TailError::Unreadable(error),
        })?;
        let Some(batch) = batch else { return Ok(None) };
        let mut records = Vec::with_capacity(batch.len());
        for (sequence, bytes) in batch.iter() {
            let record = DropRecord::decode(bytes);
            records.push(record.map_err(|error| TailError::Lost(format!("journal record {sequence}: {error}")))?);
        }
        Ok(Some(Self { first_sequence: batch.first_sequence, records }))
    }

    /// The sequence number of the last.
    #[must_use]
    pub fn last_sequence(&self) -> u64 {
        self.first_sequence + self.records.len() as u64 - 1
    }
}

/// Why there is no next run.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TailError {
    /// The file could not be read this time.
    #[error("the journal cannot be read: {0}")]
    Unreadable(JournalError),
    /// No later try can do better.
    #[error("{0}")]
    Lost(String),
}

/// A named follower.
pub struct Tail {
    name: &'static str,
    journal: JournalReader,
    cursor: Cursor,
    durable: watch::Receiver<u64>,
}

impl Tail {
    /// Follows from after this sequence number. The journal keeps what is not [passed](Tail::passed) yet.
    #[must_use]
    pub fn new(name: &'static str, journal: &JournalReader, after: u64) -> Self {
        journal.register_cursor(name, after);
        Self { name, cursor: journal.cursor(after), durable: journal.durable_watch(), journal: journal.clone() }
    }

    /// Whose journal it is.
    #[must_use]
    pub fn journal(&self) -> &JournalReader {
        &self.journal
    }

    /// The next records, if there are some already.
    ///
    /// # Errors
    /// [`TailError`]; the place stays.
    pub fn try_next(&mut self) -> Result<Option<Run>, TailError> {
        Run::next(&mut self.cursor)
    }

    /// The next records, as soon as there are some; `None` once there can be no more.
    pub async fn next(&mut self) -> Option<Run> {
        let mut retries = RETRIES;
        let mut failing = false;
        loop {
            match self.try_next() {
                Ok(run) => {
                    if std::mem::take(&mut failing) {
                        info!(follower = self.name, "the journal can be read again");
                        retries.reset();
                    }
                    match run {
                        Some(run) => return Some(run),
                        None => self.wait().await.then_some(())?,
                    }
                }
                Err(error @ TailError::Unreadable(_)) => {
                    if !std::mem::replace(&mut failing, true) {
                        warn!(follower = self.name, %error, "trying again");
                    }
                    retries.pause().await;
                }
                Err(error @ TailError::Lost(_)) => {
                    error!(follower = self.name, %error, "stops");
                    return None;
                }
            }
        }
    }

    /// Waits for something new. Returns whether anything can still come.
    pub async fn wait(&mut self) -> bool {
        self.durable.changed().await.is_ok()
    }

    /// Goes on after this sequence number instead.
    pub fn rewind(&mut self, after: u64) {
        self.cursor = self.journal.cursor(after);
    }

    /// Lets the journal delete what nobody else needs, up to this sequence number.
    pub fn passed(&self, sequence: u64) {
        self.journal.advance_cursor(self.name, sequence);
    }
}
