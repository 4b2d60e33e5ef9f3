//! Checkpoints: the drops in memory are written to files in the background, and a start reads these in place of SQL.
//!
//! - [`mod@file`]: the bytes of a drop's file. [`manifest`]: the list of the files that count. Both are described in `docs/CHECKPOINT_FORMAT.md`.
//! - [`writer`]: writes what has changed, round after round.
//! - [`loading`]: reads it at a start, and tells what cannot be used.
//! - [`metrics`]: age, size, duration, failures.
//!
//! A checkpoint is a cache of the journal and SQL: whatever is wrong with a file, its drop is loaded from SQL, and one line says so.

pub mod file;
pub mod loading;
pub mod manifest;
pub mod metrics;
pub mod writer;

use crate::domain::DropId;
use crate::journal::identity::RESTORE_EPOCHS;
use std::path::{Path, PathBuf};
use uuid::Uuid;

/// The folder in the data directory.
pub const FOLDER: &str = "checkpoint";
/// The list of files that count.
const MANIFEST: &str = "manifest";
/// What a drop's file ends in.
const EXTENSION: &str = "drop";

/// The version of both files' form. One that a later program writes is refused.
pub const FORMAT_VERSION: u32 = 1;

/// Whose journal a checkpoint belongs to, and at which opening it was written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Origin {
    /// The journal's id.
    pub journal: Uuid,
    /// The number of the opening.
    pub epoch: u32,
}

impl Origin {
    /// Whether a journal that is open as `self` has the records that a checkpoint of `written` stands on. A journal that was restored from a
    /// backup goes on from the backup's end, in an epoch far ahead: it has none of those that came after.
    #[must_use]
    pub fn has_written(self, written: Self) -> bool {
        let ahead = self.epoch.checked_sub(written.epoch);
        self.journal == written.journal && ahead.is_some_and(|ahead| ahead < RESTORE_EPOCHS)
    }
}

/// Why a file cannot be used.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Unusable {
    /// It is not there.
    #[error("the file is missing")]
    Missing,
    /// The disk does not give it.
    #[error("it cannot be read: {0}")]
    Unreadable(String),
    /// It is something else.
    #[error("it is not a checkpoint")]
    NotACheckpoint,
    /// A later version wrote it.
    #[error("it has format version {0}, which this version of livedrop does not know")]
    Version(u32),
    /// It was cut off, or bytes have changed.
    #[error("it is damaged: {0}")]
    Damaged(String),
    /// It belongs to another journal, or to this one before it was restored from a backup.
    #[error("it belongs to another journal, or to another life of this one")]
    Foreign,
    /// The journal ends before it.
    #[error("it is true at record {position}, and the journal ends at {last}")]
    Ahead {
        /// Its position.
        position: u64,
        /// The journal's last record.
        last: u64,
    },
    /// The journal begins after it.
    #[error("it is true at record {position}, and the journal begins with record {oldest}")]
    Behind {
        /// Its position.
        position: u64,
        /// The journal's oldest record.
        oldest: u64,
    },
}

impl Unusable {
    /// A label for metrics.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Unreadable(_) => "unreadable",
            Self::NotACheckpoint => "not_a_checkpoint",
            Self::Version(_) => "version",
            Self::Damaged(_) => "damaged",
            Self::Foreign => "foreign",
            Self::Ahead { .. } => "ahead",
            Self::Behind { .. } => "behind",
        }
    }
}

/// What is known of a drop's file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SavedDrop {
    /// The journal record at which its bytes are true.
    pub file_position: u64,
    /// A later record up to which nothing has happened to the drop.
    pub position: u64,
    /// [`crate::engine::DropState::changes`] of the drop in memory at `position`.
    pub changes: u64,
    /// Its bytes.
    pub bytes: u64,
}

fn path_of(folder: &Path, drop: DropId) -> PathBuf {
    folder.join(format!("{drop}.{EXTENSION}"))
}

fn uuid_at(bytes: &[u8], at: usize) -> Uuid {
    Uuid::from_slice(&bytes[at..at + 16]).expect("sixteen bytes")
}
