//! Errors of a running journal and of its opening.

use std::{io, sync::Arc};

/// Why an append or a read failed. Cheap to clone: one failed frame answers many waiters.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum JournalError {
    /// The device failed while the frame was written: it may or may not be there after a restart.
    #[error("the outcome is unknown, retry with the same idempotency key: {reason}")]
    OutcomeUnknown {
        /// The failed operation and its error.
        reason: Arc<str>,
    },
    /// The journal failed earlier; this entry was never written.
    #[error("the journal stopped after a failure: {reason}")]
    Poisoned {
        /// The first failure of the journal.
        reason: Arc<str>,
    },
    /// There is no space for a new segment, and the reserved one is full; nothing of this entry was written.
    #[error("the disk is full and the reserved journal segment is used up")]
    DiskFull,
    /// The journal was closed; this entry was never written.
    #[error("the journal is closed")]
    Closed,
    /// The segment with the requested records was deleted.
    #[error("the records after {after} are gone, the oldest kept one is {oldest}")]
    Gone {
        /// Sequence that the cursor has read up to.
        after: u64,
        /// The oldest sequence that is still available.
        oldest: u64,
    },
    /// A cursor could not read a durable frame back from its file.
    #[error("cannot read {file} at byte {offset}: {what}")]
    Unreadable {
        file: Arc<str>,
        /// Byte offset in the file.
        offset: u64,
        /// The fault found there.
        what: Arc<str>,
    },
}

/// Why a journal could not be opened. Nothing was cut or changed, unless the device itself failed during a repair.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    /// Another process holds the journal.
    #[error("the journal at {place} is in use by another process")]
    Locked {
        /// Path of the lock file.
        place: String,
    },
    /// Durable data is damaged or missing.
    #[error(
        "the journal is damaged and must not be opened: {file}, byte {offset}: {what}. Nothing was changed. Keep a copy of the \
         directory, look for a failing disk, and restore the file from a replica or a backup; docs/JOURNAL_FORMAT.md says what \
         each case means"
    )]
    Corrupt {
        file: String,
        /// Byte offset in the file.
        offset: u64,
        /// The fault found there.
        what: String,
    },
    /// An option is out of range.
    #[error("journal options: {0}")]
    Options(String),
    /// An operation of the device failed.
    #[error("cannot {doing} {file}: {source}")]
    Io {
        /// The operation, as a verb for the message.
        doing: &'static str,
        file: String,
        /// The device's own error.
        source: io::Error,
    },
}

impl RecoveryError {
    pub(super) fn io(doing: &'static str, file: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let file = file.into();
        move |source| Self::Io { doing, file, source }
    }
}
