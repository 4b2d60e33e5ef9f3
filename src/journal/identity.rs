//! `journal.meta`: whose journal this is, how often it was opened, and how far it is known to be durable.

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
const META_BYTES: usize = 64;
const CRC_AT: usize = 60;

/// The contents of `journal.meta`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Identity {
    /// Made once, with the journal.
    pub journal_id: Uuid,
    /// How often it was opened for writing; the number of the latest opening.
    pub epoch: u32,
    /// Whether the first segment was made: from then on a journal without segments is damaged.
    pub started: bool,
    /// Everything up to here is durable, as the latest opening or clean close knew it.
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

    /// Replaces the file: written and synced beside it, renamed, and the directory synced. A crash leaves the old or the new one.
    pub(super) fn write(&self, device: &dyn Device) -> io::Result<()> {
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

/// Reads `journal.meta` without taking the lock: the id under which the database keeps its watermark is known before the journal
/// is opened. `None` when there is no journal yet.
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
