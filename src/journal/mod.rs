//! The journal: decisions become durable here, and nothing leaves before they are.
//!
//! One writer thread drains a bounded queue into one frame, one write and one sync, and only then completes the entries.
//! Everything downstream is a [`Cursor`] over what is durable. The bytes are described in `docs/JOURNAL_FORMAT.md`.
//!
//! - [`frame`], [`segment`]: the pure codec. [`device`]: files behind a small trait, real, in memory, or faulty.
//! - [`writer`]: the thread. [`handle`]: how to reach it. [`tail`], [`cursor`]: how to read what it made durable.
//! - [`recovery`]: what is found at start, what is cut, and what refuses to start.

pub mod cursor;
pub mod device;
pub mod durability;
pub mod error;
pub mod faulty;
pub mod frame;
pub mod handle;
pub mod memory;
mod meta;
pub mod records;
pub mod recovery;
pub mod segment;
mod shared;
mod space;
mod tail;
#[cfg(test)]
mod tests;
mod writer;

pub use cursor::{Batch, Cursor};
pub use device::{Device, FileDevice};
pub use durability::Durability;
pub use error::{JournalError, RecoveryError};
pub use handle::{Completion, Journal, JournalHandle, JournalOptions, JournalReader, Permit};
pub use records::Records;
pub use recovery::{CutTail, Recovered, Scan, identity, scan};
pub use space::Space;
