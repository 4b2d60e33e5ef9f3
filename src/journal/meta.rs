//! Who this journal is, and how often it was opened: one small file, replaced atomically.

use super::device::{Device, read_all};
use super::error::RecoveryError;
use uuid::Uuid;

const NAME: &str = "journal.meta";
const TEMPORARY: &str = "journal.meta.tmp";
const BYTES: usize = 32;
const MAGIC: &[u8; 4] = b"LDJM";

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Meta {
    pub journal: Uuid,
    pub epoch: u32,
}

impl Meta {
    /// `None` where there is no such file.
    pub fn read(device: &dyn Device, names: &[String]) -> Result<Option<Self>, RecoveryError> {
        if !names.iter().any(|name| name == NAME) {
            return Ok(None);
        }
        let file = device.open(NAME).map_err(RecoveryError::io(format!("open {NAME}")))?;
        let bytes = read_all(&*file).map_err(RecoveryError::io(format!("read {NAME}")))?;
        Self::decode(&bytes).map(Some).ok_or_else(|| RecoveryError::corrupt(NAME, 0, "its checksum does not hold"))
    }

    /// Replaces the file; durable when this returns.
    pub fn write(self, device: &dyn Device) -> Result<(), RecoveryError> {
        let write = || {
            let file = device.create(TEMPORARY, BYTES)?;
            file.write_at(0, &self.encode())?;
            file.sync()?;
            device.rename(TEMPORARY, NAME)?;
            device.sync_dir()
        };
        write().map_err(RecoveryError::io(format!("write {NAME}")))
    }

    fn encode(self) -> [u8; BYTES] {
        let mut bytes = [0; BYTES];
        bytes[0..4].copy_from_slice(MAGIC);
        bytes[8..24].copy_from_slice(self.journal.as_bytes());
        bytes[24..28].copy_from_slice(&self.epoch.to_le_bytes());
        let crc = crc32c::crc32c(&bytes);
        bytes[4..8].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; BYTES] = bytes.try_into().ok()?;
        let journal = Uuid::from_slice(&bytes[8..24]).ok()?;
        let epoch = u32::from_le_bytes([bytes[24], bytes[25], bytes[26], bytes[27]]);
        let meta = Self { journal, epoch };
        (meta.encode() == *bytes).then_some(meta)
    }
}
