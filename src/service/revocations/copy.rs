//! The copy of the revocations in the data directory, for a start without the database: ids and times only. It is
//! written as a whole whenever there is a new one, and a log-out is answered only when the copy has it.
//!
//! Numbers are little endian. 8 bytes `LDREVOKE`; format version (4); number of entries (4); the time up to which every
//! token has to be renewed, in milliseconds since 1970 (8); of each entry until when it is kept (8), the account's or the
//! login's id (16), the account's token version, 0 of a login (4), and whether it is a login's (4); a CRC-32C of all
//! before it (4).

use super::{Book, Entry, Revocations};
use crate::domain::{Timestamp, UserId};
use crate::whole_file::{self, on_disk};
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tracing::warn;
use uuid::Uuid;

/// The file's name.
pub const FILE: &str = "revocations";
const MAGIC: &[u8; 8] = b"LDREVOKE";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 24;
const ENTRY_BYTES: usize = 32;
const CRC_BYTES: usize = 4;
/// How long an answer waits for the copy.
const KEPT_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause after a failed write.
const RETRY: Duration = Duration::from_secs(1);

/// Why the copy cannot be used.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NoCopy {
    /// It was not written, or could not be.
    #[error("there is no copy of the revoked access tokens (the file {FILE} in the data directory)")]
    Missing,
    /// The disk does not give it.
    #[error("the copy of the revoked access tokens cannot be read: {0}")]
    Unreadable(String),
    /// It was cut off, or bytes have changed.
    #[error("the copy of the revoked access tokens is damaged")]
    Damaged,
    /// A later version wrote it.
    #[error(
        "the copy of the revoked access tokens has format version {0}, which this version of livedrop does not know"
    )]
    Version(u32),
}

/// The copy of an earlier process.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Copy {
    floor: i64,
    entries: Vec<(Timestamp, Entry)>,
}

impl Copy {
    /// Reads it.
    ///
    /// # Errors
    /// [`NoCopy`].
    pub fn read(data_dir: &Path) -> Result<Self, NoCopy> {
        let bytes = fs::read(data_dir.join(FILE)).map_err(|error| match error.kind() {
            ErrorKind::NotFound => NoCopy::Missing,
            _ => NoCopy::Unreadable(error.to_string()),
        })?;
        Self::decode(&bytes)
    }

    fn decode(bytes: &[u8]) -> Result<Self, NoCopy> {
        if bytes.len() < HEADER_BYTES + CRC_BYTES || bytes[..MAGIC.len()] != *MAGIC {
            return Err(NoCopy::Damaged);
        }
        let (checked, crc) = bytes.split_at(bytes.len() - CRC_BYTES);
        if crc32c::crc32c(checked).to_le_bytes() != *crc {
            return Err(NoCopy::Damaged);
        }
        match u32::from_le_bytes(part(checked, 8)) {
            VERSION => {}
            version => return Err(NoCopy::Version(version)),
        }
        let entries = &checked[HEADER_BYTES..];
        if entries.len() != u32::from_le_bytes(part(checked, 12)) as usize * ENTRY_BYTES {
            return Err(NoCopy::Damaged);
        }
        let entry = |bytes: &[u8]| {
            let (id, version) = (Uuid::from_bytes(part(bytes, 8)), u32::from_le_bytes(part(bytes, 24)));
            let entry = match u32::from_le_bytes(part(bytes, 28)) {
                0 => Entry::Account(UserId(id), version),
                _ => Entry::Login(id),
            };
            (Timestamp::from_millis(i64::from_le_bytes(part(bytes, 0))), entry)
        };
        let floor = i64::from_le_bytes(part(checked, 16));
        Ok(Self { floor, entries: entries.chunks_exact(ENTRY_BYTES).map(entry).collect() })
    }
}

/// `N` bytes from `at` on; the caller has checked the length.
fn part<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("as many bytes")
}

/// Deletes the copy: where none is kept, no later start may find an old one.
///
/// # Errors
/// Those of the disk.
pub fn delete(data_dir: &Path) -> io::Result<()> {
    whole_file::delete(&data_dir.join(FILE))
}

impl Revocations {
    /// From now on [`Self::kept`] waits for [`Self::keep_copy`], which the caller runs.
    pub fn wants_copy(&self) {
        self.0.has_copy.store(true, Ordering::Release);
    }

    /// Waits until the copy has every revocation so far, or cannot be written. Returns at once where no copy is kept.
    pub async fn kept(&self) {
        if !self.0.has_copy.load(Ordering::Acquire) {
            return;
        }
        let (wanted, mut kept) = (self.generation(), self.0.kept.subscribe());
        let written = kept.wait_for(|kept| kept.is_some_and(|kept| kept >= wanted));
        if tokio::time::timeout(KEPT_TIMEOUT, written).await.is_err() {
            warn!("the copy of the revoked access tokens is late; the answer does not wait any longer");
        }
    }

    /// Writes the copy, and again for each new revocation. Runs until the task is dropped. One that cannot be written is
    /// deleted: none is better than an old one.
    pub async fn keep_copy(self, data_dir: PathBuf) {
        let mut is_failing = false;
        loop {
            let generation = self.generation();
            let (path, bytes) = (data_dir.join(FILE), self.encode());
            let written = on_disk(move || {
                whole_file::replace(&path, &bytes).inspect_err(|_| {
                    let _ = whole_file::delete(&path);
                })
            });
            match written.await {
                Ok(()) => is_failing = false,
                Err(error) => {
                    if !is_failing {
                        warn!(data_dir = %data_dir.display(), %error, "the copy of the revoked access tokens cannot be written; without it no start without the database");
                    }
                    is_failing = true;
                }
            }
            self.0.kept.send_replace(Some(generation));
            if is_failing {
                tokio::time::sleep(RETRY).await;
            } else if self.generation() == generation {
                self.0.changed.notified().await;
            }
        }
    }

    /// Adds the revocations of an earlier process.
    pub fn restore(&self, copy: &Copy) {
        self.0.floor.fetch_max(copy.floor, Ordering::Release);
        let mut book = self.0.book.write().unwrap_or_else(PoisonError::into_inner);
        copy.entries.iter().for_each(|(until, entry)| _ = book.insert(*entry, *until));
        self.0.generation.fetch_add(1, Ordering::Release);
    }

    fn encode(&self) -> Vec<u8> {
        let floor = self.0.floor.load(Ordering::Acquire);
        let book = self.0.book.read().unwrap_or_else(PoisonError::into_inner);
        encode(&book, floor)
    }
}

fn encode(book: &Book, floor: i64) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER_BYTES + book.queue.len() * ENTRY_BYTES + CRC_BYTES);
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    let count = u32::try_from(book.queue.len()).expect("REVOCATIONS_MAX is below 2^32");
    out.extend_from_slice(&count.to_le_bytes());
    out.extend_from_slice(&floor.to_le_bytes());
    for (until, entry) in &book.queue {
        let (id, version, is_login) = match entry {
            Entry::Account(user, version) => (user.0, *version, 0_u32),
            Entry::Login(id) => (*id, 0, 1),
        };
        out.extend_from_slice(&until.as_millis().to_le_bytes());
        out.extend_from_slice(id.as_bytes());
        out.extend_from_slice(&version.to_le_bytes());
        out.extend_from_slice(&is_login.to_le_bytes());
    }
    let crc = crc32c::crc32c(&out);
    out.extend_from_slice(&crc.to_le_bytes());
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Login, Revocation};
    use crate::service::Outage;
    use crate::service::clock::Clock;

    fn login(id: u128, version: u32) -> Login {
        Login { id: Uuid::from_u128(id), version }
    }

    fn empty() -> Revocations {
        Revocations::new(Clock::default(), Outage::default())
    }

    /// Two revocations, and their users.
    fn some() -> (Revocations, UserId, UserId) {
        let (revocations, one, other) = (empty(), UserId::new(), UserId::new());
        revocations.add(one, Revocation::Login(Uuid::from_u128(1)));
        revocations.add(other, Revocation::Below(3));
        (revocations, one, other)
    }

    #[tokio::test]
    async fn an_answer_waits_for_the_copy_and_the_next_process_knows_what_was_revoked() {
        let data = tempfile::tempdir().unwrap();
        assert_eq!(Copy::read(data.path()), Err(NoCopy::Missing));
        let (revocations, one, other) = some();
        revocations.kept().await;
        assert_eq!(Copy::read(data.path()), Err(NoCopy::Missing), "none is kept yet");
        revocations.wants_copy();
        let keeping = tokio::spawn(revocations.clone().keep_copy(data.path().to_owned()));
        revocations.kept().await;
        revocations.add(one, Revocation::Below(2));
        revocations.kept().await;
        keeping.abort();
        let next = empty();
        next.restore(&Copy::read(data.path()).unwrap());
        assert!(next.covers(one, login(1, 9)) && next.covers(one, login(2, 1)) && next.covers(other, login(2, 2)));
        assert!(!next.covers(one, login(2, 2)) && !next.covers(other, login(2, 3)) && !next.forgot(Timestamp::EPOCH));
        delete(data.path()).unwrap();
        assert_eq!(Copy::read(data.path()), Err(NoCopy::Missing));
    }

    #[tokio::test]
    async fn a_copy_that_cannot_be_written_is_deleted_and_holds_up_no_answer() {
        let data = tempfile::tempdir().unwrap();
        let (revocations, ..) = some();
        fs::write(data.path().join(FILE), encode(&Book::default(), i64::MIN)).unwrap();
        // A directory where the draft would be.
        fs::create_dir_all(data.path().join(FILE).with_extension("new").join("full")).unwrap();
        revocations.wants_copy();
        let keeping = tokio::spawn(revocations.clone().keep_copy(data.path().to_owned()));
        revocations.kept().await;
        keeping.abort();
        assert_eq!(Copy::read(data.path()), Err(NoCopy::Missing));
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed_and_a_later_version_says_so() {
        let (revocations, ..) = some();
        revocations.raise_floor(Timestamp::from_millis(77));
        let bytes = revocations.encode();
        let copy = Copy::decode(&bytes).unwrap();
        assert_eq!((copy.floor, copy.entries.len()), (77, 2));
        for bit in 0..bytes.len() * 8 {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Copy::decode(&bytes), Err(NoCopy::Damaged), "bit {bit}");
        }
        for length in 0..bytes.len() {
            assert_eq!(Copy::decode(&bytes[..length]), Err(NoCopy::Damaged), "cut at {length}");
        }
        let mut later = bytes[..bytes.len() - CRC_BYTES].to_vec();
        later[8] += 1;
        let crc = crc32c::crc32c(&later);
        later.extend_from_slice(&crc.to_le_bytes());
        assert_eq!(Copy::decode(&later), Err(NoCopy::Version(VERSION + 1)));
        let next = empty();
        next.restore(&copy);
        assert!(next.forgot(Timestamp::from_millis(77)) && !next.forgot(Timestamp::from_millis(78)));
    }
}
