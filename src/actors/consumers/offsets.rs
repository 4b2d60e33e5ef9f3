//! An offset in a file, for a consumer whose effect is outside the database: it works while SQL is away. It is stored
//! after the effect was acknowledged, so after a crash in between the effect is repeated.

use crate::whole_file;
use serde::{Deserialize, Serialize};
use std::{
    fs, io,
    path::{Path, PathBuf},
};
use uuid::Uuid;

/// An offset beyond every record: the consumer starts at the journal's end.
pub const AT_THE_END: u64 = u64::MAX;

/// The directory below the data directory for consumers' files.
pub const FOLDER: &str = "consumers";

/// The contents of the file. The file's name is the consumer's; the offset counts in this journal, up to this epoch.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    journal: Uuid,
    epoch: u32,
    sequence: u64,
}

/// The file of one consumer's offset.
#[derive(Clone, Debug)]
pub struct OffsetFile {
    path: PathBuf,
}

impl OffsetFile {
    /// The file of a consumer, in a data directory.
    #[must_use]
    pub fn new(data_dir: &Path, consumer: &str) -> Self {
        Self { path: data_dir.join(FOLDER).join(format!("{consumer}.offset")) }
    }

    /// The last record with a completed effect, if it is known. An offset of another journal, or of an epoch that this
    /// journal has not reached, is ignored: it counts other records.
    ///
    /// # Errors
    /// If the file cannot be read or has another format.
    pub fn load(&self, journal: Uuid, epoch: u32) -> io::Result<Option<u64>> {
        let text = match fs::read_to_string(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            text => text?,
        };
        let wrong = |error| io::Error::new(io::ErrorKind::InvalidData, format!("{}: {error}", self.path.display()));
        let kept: Kept = serde_json::from_str(&text).map_err(wrong)?;
        if kept.journal == journal && kept.epoch <= epoch {
            return Ok(Some(kept.sequence));
        }
        tracing::warn!(
            file = %self.path.display(), of = %kept.journal, of_epoch = kept.epoch,
            "an offset of another journal is not taken"
        );
        Ok(None)
    }

    /// Stores an offset. A crash leaves either the new or the old one, complete.
    ///
    /// # Errors
    /// If the write to disk failed; the old one may still be there.
    pub fn store(&self, journal: Uuid, epoch: u32, sequence: u64) -> io::Result<()> {
        let text = serde_json::to_string(&Kept { journal, epoch, sequence }).map_err(io::Error::other)?;
        replace(&self.path, text.as_bytes())
    }
}

/// Replaces a file in the consumers' directory, which is created if it is missing.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
    whole_file::replace(path, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_is_this_journals_or_none() {
        let folder = tempfile::tempdir().unwrap();
        let (file, journal) = (OffsetFile::new(folder.path(), "events"), Uuid::from_u128(1));
        assert_eq!(file.load(journal, 1).unwrap(), None);
        file.store(journal, 2, 7).unwrap();
        file.store(journal, 3, 1_041).unwrap();
        assert_eq!(file.load(journal, 3).unwrap(), Some(1_041));
        assert_eq!(file.load(journal, 4).unwrap(), Some(1_041), "a later opening of the same journal");
        assert_eq!(file.load(journal, 2).unwrap(), None, "an opening that has not been: the journal is an older copy");
        assert_eq!(file.load(Uuid::from_u128(2), 3).unwrap(), None, "another journal");
        assert_eq!(OffsetFile::new(folder.path(), "bus").load(journal, 3).unwrap(), None, "another consumer");

        // A crash during a write leaves the old offset.
        fs::write(folder.path().join("consumers/events.new"), "{\"jour").unwrap();
        assert_eq!(file.load(journal, 3).unwrap(), Some(1_041));
        file.store(journal, 3, 1_042).unwrap();
        assert_eq!(file.load(journal, 3).unwrap(), Some(1_042));
        fs::write(folder.path().join("consumers/events.offset"), "1042").unwrap();
        assert_eq!(file.load(journal, 3).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
