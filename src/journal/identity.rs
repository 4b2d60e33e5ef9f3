//! `journal.meta`: the journal's id, the number of its openings, and the sequence up to which it is known to be
//! durable.

use super::{
    device::{Device, read_to_end},
    error::RecoveryError,
    frame::{u32_at, u64_at},
    segment::{FORMAT_VERSION, TEMPORARY_SUFFIX},
};
use std::io;
use uuid::Uuid;

/// The name of the file.
pub const META_FILE: &str = "journal.meta";

const MAGIC: &[u8; 8] = b"LDJRNMET";
/// A restored journal's epoch is at least this far beyond its original's: nobody starts the original that often by
/// mistake.
pub const RESTORE_EPOCHS: u32 = 1 << 16;
/// Higher epochs are reserved for a database that retires a journal.
const EPOCH_MAX: u32 = u32::MAX - RESTORE_EPOCHS;

const META_BYTES: usize = 64;
const CRC_AT: usize = 60;

/// The contents of `journal.meta`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Identity {
    /// Created with the journal; it never changes.
    pub journal_id: Uuid,
    /// How often the journal was opened for writing: the number of the latest opening.
    pub epoch: u32,
    /// Whether the first segment was created: from then on a journal without segments is damaged.
    pub started: bool,
    /// Everything up to this sequence is durable, as of the latest opening or clean close.
    pub durable: u64,
}

impl Identity {
    fn encode(&self) -> [u8; META_BYTES] {
        let mut bytes = [0; META_BYTES];
        bytes[0..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.epoch.to_le_bytes());
        bytes[16..32].copy_from_slice(self.journal_id.as_bytes());
        bytes[32..40].copy_from_slice(&self.durable.to_le_bytes());
        bytes[40] = u8::from(self.started);
        let crc = crc32c::crc32c(&bytes[..CRC_AT]);
        bytes[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Result<Self, &'static str> {
        if bytes.len() != META_BYTES || bytes[0..8] != *MAGIC {
            return Err("this is not a journal.meta");
        }
        if crc32c::crc32c(&bytes[..CRC_AT]) != u32_at(bytes, CRC_AT) {
            return Err("the checksum does not match");
        }
        if u32_at(bytes, 8) != FORMAT_VERSION {
            return Err("the journal has a format version that this program does not know");
        }
        Ok(Self {
            epoch: u32_at(bytes, 12),
            journal_id: Uuid::from_slice(&bytes[16..32]).expect("sixteen bytes"),
            durable: u64_at(bytes, 32),
            started: bytes[40] == 1,
        })
    }

    /// The identity of a copy that becomes a journal of its own, with everything up to `last_sequence` on disk. Its
    /// epoch is far beyond that of the original, which may be started a few more times: if both use one database, the
    /// original is fenced. `dice` keeps two copies apart. `None` if no such epoch is left.
    #[must_use]
    pub fn restored(&self, last_sequence: u64, dice: u16) -> Option<Self> {
        let epoch = self.epoch.checked_add(RESTORE_EPOCHS + u32::from(dice)).filter(|epoch| *epoch < EPOCH_MAX)?;
        Some(Self { epoch, durable: last_sequence, ..*self })
    }

    /// Replaces the file: writes and syncs a temporary file, renames it, and syncs the directory. A crash leaves the
    /// old or the new one.
    ///
    /// # Errors
    /// The device's own.
    pub fn write(&self, device: &dyn Device) -> io::Result<()> {
        let temporary = format!("{META_FILE}{TEMPORARY_SUFFIX}");
        let file = device.create(&temporary, META_BYTES as u64)?;
        file.write_at(&self.encode(), 0)?;
        file.sync_data()?;
        failpoint!("meta.before_rename");
        device.rename(&temporary, META_FILE)?;
        failpoint!("meta.before_directory_sync");
        device.sync_directory()?;
        failpoint!("meta.after_directory_sync");
        Ok(())
    }
}

/// Reads `journal.meta` without taking the lock: the database's watermark is stored under this id and is needed before
/// the journal is opened. `None` if there is no journal yet.
///
/// # Errors
/// [`RecoveryError::Corrupt`] or [`RecoveryError::Io`].
pub fn read_identity(device: &dyn Device) -> Result<Option<Identity>, RecoveryError> {
    let file = match device.open_read_only(META_FILE) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(RecoveryError::io("open", device.describe(META_FILE))(error)),
    };
    let bytes = read_to_end(&*file, 0).map_err(RecoveryError::io("read", device.describe(META_FILE)))?;
    let corrupt =
        |what: &str| RecoveryError::Corrupt { file: device.describe(META_FILE), offset: 0, what: what.into() };
    Identity::decode(&bytes).map(Some).map_err(corrupt)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::device::MemoryDevice;

    const SAMPLE: Identity = Identity { journal_id: Uuid::from_u128(77), epoch: 4, started: true, durable: 12 };

    #[test]
    fn it_comes_back_and_every_flipped_bit_is_noticed() {
        let bytes = SAMPLE.encode();
        assert_eq!(Identity::decode(&bytes), Ok(SAMPLE));
        for bit in 0..bytes.len() * 8 {
            let mut bytes = bytes;
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(Identity::decode(&bytes).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_restored_journal_fences_its_original() {
        let (one, two) = (SAMPLE.restored(7, 0).unwrap(), SAMPLE.restored(7, 9).unwrap());
        assert_eq!((one.journal_id, one.durable, one.started), (SAMPLE.journal_id, 7, true));
        assert!(one.epoch >= SAMPLE.epoch + 65_536 && two.epoch > one.epoch);
        let old = Identity { epoch: EPOCH_MAX - RESTORE_EPOCHS, ..SAMPLE };
        assert_eq!(old.restored(7, 0), None, "no epoch is left that a retired journal does not have");
    }

    #[test]
    fn a_power_loss_leaves_the_old_or_the_new_one() {
        let device = MemoryDevice::new();
        assert_eq!(read_identity(&device).unwrap(), None);
        SAMPLE.write(&device).unwrap();
        let old = device.crash(None);
        assert_eq!(read_identity(&old).unwrap(), Some(SAMPLE));
        Identity { epoch: 5, ..SAMPLE }.write(&old).unwrap();
        assert_eq!(read_identity(&old.crash(None)).unwrap().unwrap().epoch, 5);
    }
}
