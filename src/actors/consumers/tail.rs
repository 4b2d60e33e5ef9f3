//! A consumer's view of the durable journal, from its offset on.

use super::{About, Gap, Progress, Retention};
use crate::domain::event::RecordError;
use crate::domain::limits::PROJECTOR_BATCH_RECORDS_MAX;
use crate::domain::{DropId, DropRecord, Timestamp};
use crate::journal::{Cursor, JournalError, JournalReader};
use std::sync::Arc;
use tracing::error;

/// Consecutive durable records, decoded.
pub struct Run {
    /// Sequence of the first record.
    pub first_sequence: u64,
    /// At least one record, without gaps.
    pub records: Vec<DropRecord>,
}

impl Run {
    /// The next records of a cursor, if there are any yet.
    ///
    /// # Errors
    /// [`TailError`]; the position stays if the journal could not be read, and is after a record that could not be decoded.
    pub fn next(cursor: &mut Cursor) -> Result<Option<Self>, TailError> {
        let batch = cursor.next_batch(PROJECTOR_BATCH_RECORDS_MAX).map_err(|error| match error {
            JournalError::Gone { after, oldest } => TailError::Skipped(Gap { first: after + 1, last: oldest - 1 }),
            error => TailError::Unreadable(error),
        })?;
        let Some(batch) = batch else { return Ok(None) };
        let mut records = Vec::with_capacity(batch.len());
        for (sequence, bytes) in batch.iter() {
            match DropRecord::decode(bytes) {
                Ok(record) => records.push(record),
                Err(error) if records.is_empty() => {
                    cursor.go_back(sequence);
                    return Err(TailError::Unread(Box::new(Unread::new(sequence, bytes, &error))));
                }
                Err(_) => {
                    // It comes with the next call.
                    cursor.go_back(sequence - 1);
                    break;
                }
            }
        }
        Ok(Some(Self { first_sequence: batch.first_sequence, records }))
    }

    /// Sequence of the last record.
    #[must_use]
    pub fn last_sequence(&self) -> u64 {
        self.first_sequence + self.records.len() as u64 - 1
    }

    /// Timestamp of the last record.
    #[must_use]
    pub fn last_at(&self) -> Timestamp {
        self.records.last().map_or(Timestamp::EPOCH, |record| record.at)
    }
}

/// A record that this version of the program cannot read: a later version has written it. A consumer keeps it, with the reason, where its
/// effect does not follow from state.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unread {
    /// Its place in the journal.
    pub sequence: u64,
    /// Its drop, if that can be told.
    pub drop: Option<DropId>,
    /// As in the journal.
    pub bytes: Vec<u8>,
    /// Why it cannot be read.
    pub reason: String,
}

impl Unread {
    fn new(sequence: u64, bytes: &[u8], error: &RecordError) -> Self {
        let (drop, bytes) = (DropRecord::drop_of_any_version(bytes), bytes.to_vec());
        Self { sequence, drop, bytes, reason: error.to_string() }
    }
}

/// Why there is no next run.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TailError {
    /// The file could not be read; a retry may succeed.
    #[error("the journal cannot be read: {0}")]
    Unreadable(JournalError),
    /// The journal has deleted the next records. The following call reads after them.
    #[error("records {} to {} are not in the journal any more", .0.first, .0.last)]
    Skipped(Gap),
    /// The next record cannot be decoded. The following call reads after it.
    #[error("journal record {}: {}", .0.sequence, .0.reason)]
    Unread(Box<Unread>),
    /// No retry can succeed.
    #[error("{0}")]
    Lost(String),
}

/// A consumer's position in the journal.
pub struct Tail {
    journal: JournalReader,
    cursor: Cursor,
    progress: Arc<Progress>,
}

impl Tail {
    /// Starts after this sequence. The journal keeps records that are not [passed](Tail::passed) yet, within the
    /// consumer's retention.
    #[must_use]
    pub fn new(progress: Arc<Progress>, journal: &JournalReader, after: u64) -> Self {
        let About { name, retention, .. } = progress.about();
        match retention {
            Retention::Pins => journal.register_cursor(name, after),
            Retention::Lags => journal.register_lagging(name, after),
            Retention::Rereads => {}
        }
        progress.begins_after(after);
        Self { cursor: journal.cursor(after), journal: journal.clone(), progress }
    }

    #[must_use]
    pub fn about(&self) -> &'static About {
        self.progress.about()
    }

    #[must_use]
    pub fn progress(&self) -> &Arc<Progress> {
        &self.progress
    }

    /// The journal that is read.
    #[must_use]
    pub fn journal(&self) -> &JournalReader {
        &self.journal
    }

    /// The next records, if there are any yet.
    ///
    /// # Errors
    /// [`TailError`]; the position stays, or moves past deleted records or one that cannot be read. A consumer that pins must not lose records, so
    /// for it that is [`TailError::Lost`].
    pub fn try_next(&mut self) -> Result<Option<Run>, TailError> {
        let next = Run::next(&mut self.cursor);
        if let Err(TailError::Unread(unread)) = &next {
            let (consumer, Unread { sequence, reason, .. }) = (self.about().name, &**unread);
            error!(consumer, sequence, %reason, "a record cannot be read; the consumer goes on after it");
        }
        let Err(skipped @ TailError::Skipped(gap)) = &next else { return next };
        if self.about().retention == Retention::Pins {
            return Err(TailError::Lost(skipped.to_string()));
        }
        error!(
            consumer = self.about().name,
            first = gap.first,
            last = gap.last,
            records = gap.records(),
            "gap: the journal did not keep these records for the consumer any longer; it goes on after them"
        );
        self.progress.skips(*gap);
        self.go_on_after(gap.last);
        next
    }

    /// Moves the position to after this sequence.
    pub fn go_on_after(&mut self, sequence: u64) {
        self.cursor = self.journal.cursor(sequence);
        self.progress.begins_after(sequence);
    }

    /// The same as [`Tail::passed`] for a record of which nothing is known.
    pub fn passed_unread(&self, sequence: u64) {
        self.progress.begins_after(sequence);
        if self.about().retention != Retention::Rereads {
            self.journal.advance_cursor(self.about().name, sequence);
        }
    }

    /// Records that everything up to this record, decided at `at`, has had its effect: the journal need not keep it for
    /// this consumer.
    pub fn passed(&self, sequence: u64, at: Timestamp) {
        self.progress.passes(sequence, at);
        if self.about().retention != Retention::Rereads {
            self.journal.advance_cursor(self.about().name, sequence);
        }
    }
}
