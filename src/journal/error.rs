//! What can go wrong while the journal runs, and while it is opened.

use std::{io, sync::Arc};

/// Why an append or a read did not succeed. Cheap to clone: a failed frame answers many waiters.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum JournalError {
    /// The frame was being written when the device failed: it may or may not be there after a restart.
    #[error("the outcome is unknown, retry with the same idempotency key: {reason}")]
    OutcomeUnknown {
        /// What failed.
        reason: Arc<str>,
    },
    /// The journal failed earlier; this entry was never written.
    #[error("the journal stopped after a failure: {reason}")]
    Poisoned {
        /// What failed first.
        reason: Arc<str>,
    },
    /// No space for a new segment, and the reserved one is used up; nothing of this entry was written.
    #[error("the disk is full and the reserved journal segment is used up")]
    DiskFull,
    /// The journal was closed; this entry was never written.
    #[error("the journal is closed")]
    Closed,
    /// A cursor asks for records whose segment was deleted.
    #[error("the records after {after} are gone, the oldest kept one is {oldest}")]
    Gone {
        /// The cursor's position.
        after: u64,
        /// The oldest sequence that is still there.
        oldest: u64,
    },
    /// A cursor could not read a durable frame back from its file.
    #[error("cannot read {file} at byte {offset}: {what}")]
    Unreadable {
        /// The segment file.
        file: Arc<str>,
        /// Where in the file.
        offset: u64,
        /// What is wrong there.
        what: Arc<str>,
    },
}

/// Why a journal was not opened. Nothing was cut or changed unless the device itself failed halfway through a repair.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    /// Another process holds the journal.
    #[error("the journal at {place} is in use by another process")]
    Locked {
        /// The lock file.
        place: String,
    },
    /// Durable data is damaged or missing.
    #[error(
        "the journal is damaged and must not be opened: {file}, byte {offset}: {what}. Nothing was changed. Keep a copy of the \
         directory, look for a failing disk, and restore the file from a replica or a backup; docs/JOURNAL_FORMAT.md says what \
         each case means"
    )]
    Corrupt {
        /// The file.
        file: String,
        /// Where in the file.
        offset: u64,
        /// What is wrong there.
        what: String,
    },
    /// The options do not fit together.
    #[error("journal options: {0}")]
    Options(String),
    /// The device failed.
    #[error("cannot {doing} {file}: {source}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To which file.
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
