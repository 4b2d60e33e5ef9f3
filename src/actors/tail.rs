//! Follows the durable journal, for those who act on what has just become true. Their place is not kept across a restart.

use crate::domain::DropRecord;
use crate::domain::limits::PROJECTOR_BATCH_RECORDS_MAX;
use crate::journal::{Cursor, JournalReader};
use tokio::sync::watch;
use tracing::error;

/// A run of durable records, decoded.
pub struct Run {
    /// The sequence number of the first.
    pub first_sequence: u64,
    /// One after the other, at least one.
    pub records: Vec<DropRecord>,
}

impl Run {
    /// The sequence number of the last.
    #[must_use]
    pub fn last_sequence(&self) -> u64 {
        self.first_sequence + self.records.len() as u64 - 1
    }
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

    /// The next records, as soon as there are some; `None` once the journal cannot be read.
    pub async fn next(&mut self) -> Option<Run> {
        loop {
            match self.cursor.next_batch(PROJECTOR_BATCH_RECORDS_MAX) {
                Ok(Some(batch)) => {
                    let records: Result<Vec<_>, _> = batch.iter().map(|(_, bytes)| DropRecord::decode(bytes)).collect();
                    let first_sequence = batch.first_sequence;
                    match records {
                        Ok(records) => return Some(Run { first_sequence, records }),
                        Err(error) => {
                            error!(follower = self.name, near = first_sequence, %error, "stops at a record that it cannot read");
                            return None;
                        }
                    }
                }
                Ok(None) => self.durable.changed().await.ok()?,
                Err(error) => {
                    error!(follower = self.name, %error, "stops: the journal cannot be read");
                    return None;
                }
            }
        }
    }

    /// Lets the journal delete what nobody else needs, up to this sequence number.
    pub fn passed(&self, sequence: u64) {
        self.journal.advance_cursor(self.name, sequence);
    }
}
