//! The journal: decisions become durable here, and no reply is sent before that.
//!
//! One writer thread drains a bounded queue into one *frame* (a group commit), writes it, syncs it, publishes the durable
//! sequence and only then completes the replies. Everything downstream is a [`Cursor`] over durable frames: it reads the
//! in-memory tail while it keeps up and the segment files when it does not. The bytes are described in
//! `docs/JOURNAL_FORMAT.md`.
//!
//! From the inside out:
//! - [`frame`], [`segment`], [`identity`], [`records`]: pure codecs.
//! - [`device`]: the file operations that a journal needs; real, in memory, and faulty.
//! - `reader`, [`recovery`], `repair`: read the files, decide what each irregularity means, and only then change
//!   anything.
//! - `log`, `segment_manager`, `writer`: append and rotate; reserve and delete segments in the background; the writer
//!   thread.
//! - `tail`, [`cursor`]: readers for consumers. [`copy`]: the reader of a backup, from outside the process.
//! - [`handle`]: the interface for the rest of the program; [`stepped`]: the same without threads, for simulations.
//!
//! Deliberately absent: retrying a failed write or sync, recycling segments, skipping damaged frames, and any knowledge of
//! what a record means.

pub mod copy;
pub mod cursor;
pub mod device;
pub mod durability;
pub mod error;
pub mod frame;
pub mod handle;
pub mod identity;
mod log;
mod metrics;
mod reader;
pub mod records;
pub mod recovery;
mod repair;
mod retention;
pub mod segment;
mod segment_manager;
mod shared;
pub mod stepped;
mod tail;
#[cfg(test)]
mod tests;
mod writer;

pub use copy::{Copied, CopyError, HeldSegments};
pub use cursor::{Batch, Cursor};
pub use device::{Device, DeviceFile, Fault, FaultyDevice, FileDevice, MemoryDevice, Operation};
pub use durability::Durability;
pub use error::{JournalError, RecoveryError};
pub use handle::{Journal, JournalHandle, JournalOptions, JournalReader, Permit, Recovered};
pub use identity::{Identity, META_FILE, read_identity};
pub use metrics::JournalMetrics;
pub use records::{Records, TooLarge};
pub use recovery::{CutTail, Finding, Survey, scan};
pub use retention::LagBounds;
pub use segment_manager::Space;
pub use stepped::SteppedJournal;
pub use writer::Completion;
