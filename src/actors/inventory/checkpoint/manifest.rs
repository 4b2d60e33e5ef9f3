//! The list of the files that count. It is replaced as a whole at the end of each round, so a drop to which nothing happens is written once and
//! its position moves on all the same. Pure.

use super::{FORMAT_VERSION, Origin, Unusable, uuid_at};
use crate::domain::DropId;
use crate::journal::frame::{u32_at, u64_at};

const MAGIC: &[u8; 8] = b"LDCHKMAN";
/// Bytes before the entries.
const HEADER_BYTES: usize = 48;
const ENTRY_BYTES: usize = 32;
const CRC_BYTES: usize = 4;

/// A drop's file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    /// The drop.
    pub drop: DropId,
    /// The position in the file's header.
    pub file_position: u64,
    /// A later record up to which nothing has happened to the drop.
    pub position: u64,
}

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Manifest {
    /// Whose journal the files stand on.
    pub origin: Origin,
    /// The journal record at which the round began.
    pub position: u64,
    /// Whether every drop that was in memory at `position` has an entry.
    pub is_complete: bool,
    /// The files.
    pub entries: Vec<Entry>,
}

impl Manifest {
    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER_BYTES + self.entries.len() * ENTRY_BYTES + CRC_BYTES);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        out.extend_from_slice(&self.origin.epoch.to_le_bytes());
        out.extend_from_slice(self.origin.journal.as_bytes());
        out.extend_from_slice(&self.position.to_le_bytes());
        out.extend_from_slice(&u32::from(self.is_complete).to_le_bytes());
        let count = u32::try_from(self.entries.len()).expect("DROPS_IN_MEMORY_MAX is below 2^32");
        out.extend_from_slice(&count.to_le_bytes());
        for entry in &self.entries {
            out.extend_from_slice(entry.drop.0.as_bytes());
            out.extend_from_slice(&entry.file_position.to_le_bytes());
            out.extend_from_slice(&entry.position.to_le_bytes());
        }
        let crc = crc32c::crc32c(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads them.
    ///
    /// # Errors
    /// [`Unusable`].
    pub fn decode(bytes: &[u8]) -> Result<Self, Unusable> {
        let damaged = |what: &str| Unusable::Damaged(what.to_owned());
        if bytes.len() < MAGIC.len() || bytes[..MAGIC.len()] != *MAGIC {
            return Err(Unusable::NotACheckpoint);
        }
        if bytes.len() < HEADER_BYTES + CRC_BYTES {
            return Err(damaged("it is cut off"));
        }
        let (checked, crc) = bytes.split_at(bytes.len() - CRC_BYTES);
        if crc32c::crc32c(checked) != u32_at(crc, 0) {
            return Err(damaged("the checksum does not match"));
        }
        match u32_at(bytes, 8) {
            FORMAT_VERSION => {}
            version => return Err(Unusable::Version(version)),
        }
        let entries = &checked[HEADER_BYTES..];
        if entries.len() != u32_at(bytes, 44) as usize * ENTRY_BYTES {
            return Err(damaged("it has another length than it says"));
        }
        let entry = |bytes: &[u8]| Entry {
            drop: DropId(uuid_at(bytes, 0)),
            file_position: u64_at(bytes, 16),
            position: u64_at(bytes, 24),
        };
        Ok(Self {
            origin: Origin { epoch: u32_at(bytes, 12), journal: uuid_at(bytes, 16) },
            position: u64_at(bytes, 32),
            is_complete: u32_at(bytes, 40) == 1,
            entries: entries.chunks_exact(ENTRY_BYTES).map(entry).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn sample() -> Manifest {
        let entry = |n: u64| Entry { drop: DropId(Uuid::from_u128(n.into())), file_position: n, position: n + 5 };
        Manifest {
            origin: Origin { journal: Uuid::from_u128(9), epoch: 2 },
            position: 40,
            is_complete: true,
            entries: [7, 8, 9].map(entry).to_vec(),
        }
    }

    #[test]
    fn it_comes_back_and_every_flipped_bit_and_every_cut_is_noticed() {
        let bytes = sample().encode();
        assert_eq!(Manifest::decode(&bytes), Ok(sample()));
        let empty = Manifest { entries: Vec::new(), is_complete: false, ..sample() };
        assert_eq!(Manifest::decode(&empty.encode()), Ok(empty));
        for bit in 0..bytes.len() * 8 {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(Manifest::decode(&bytes).is_err(), "bit {bit}");
        }
        for length in 0..bytes.len() {
            assert!(Manifest::decode(&bytes[..length]).is_err(), "cut at {length}");
        }
    }

    #[test]
    fn a_later_version_says_so() {
        let mut bytes = sample().encode();
        bytes[8] += 1;
        let end = bytes.len() - CRC_BYTES;
        let crc = crc32c::crc32c(&bytes[..end]);
        bytes[end..].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(Manifest::decode(&bytes), Err(Unusable::Version(FORMAT_VERSION + 1)));
    }

    #[test]
    fn a_restored_journal_has_none_of_what_was_written_before() {
        let origin = |epoch: u32| Origin { journal: Uuid::from_u128(9), epoch };
        assert!(origin(4).has_written(origin(4)) && origin(9).has_written(origin(4)));
        assert!(!origin(3).has_written(origin(4)), "it was written later");
        assert!(!origin(4 + RESTORE_EPOCHS).has_written(origin(4)), "restored from a backup");
        assert!(!origin(4).has_written(Origin { journal: Uuid::from_u128(8), epoch: 4 }));
    }

    use crate::journal::identity::RESTORE_EPOCHS;
}
