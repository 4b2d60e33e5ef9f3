//! What can go wrong, at run time and at start.

use std::io;

/// Why an entry was not made durable, or a cursor cannot read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JournalError {
    /// A write or a sync failed. The entry may or may not be on disk; nothing is appended any more.
    #[error("the journal failed: {0}; the outcome is not known")]
    Poisoned(String),
    /// The journal was closed before the entry was written.
    #[error("the journal is closed")]
    Closed,
    /// A segment cannot be read back.
    #[error("cannot read the journal: {0}")]
    Unreadable(String),
}

/// Why the journal does not open. Going on would lose or change a record.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    /// Another process has it.
    #[error("the journal is in use by another process: {0}")]
    Locked(io::Error),
    /// The disk said no.
    #[error("cannot {what}: {error}")]
    Io {
        /// What was tried.
        what: String,
        /// Why it failed.
        error: io::Error,
    },
    /// The bytes are not what this journal wrote.
    #[error(
        "the journal is damaged in {file} at offset {offset}: {what}. Nothing was changed. \
         Records that were acknowledged may lie at or after this place, so the server does not start: \
         restore the data directory from a backup, or move it away to begin anew"
    )]
    Corrupt {
        /// File name within the journal's folder.
        file: String,
        /// Bytes from its start.
        offset: u64,
        /// What was expected and is not there.
        what: String,
    },
}

impl RecoveryError {
    pub(super) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |error| Self::Io { what, error }
    }

    pub(super) fn corrupt(file: &str, offset: usize, what: impl Into<String>) -> Self {
        Self::Corrupt { file: file.to_owned(), offset: offset as u64, what: what.into() }
    }
}
