//! `backup.json`: the description of a backup. Written last, so that a backup without it is incomplete.

use super::{BackupError, files_below, private_file, sync_directory};
use crate::domain::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;
use uuid::Uuid;

/// The name of the file.
pub const MANIFEST_FILE: &str = "backup.json";
/// The version that this program writes and reads.
const FORMAT: u32 = 1;
/// Bytes of a manifest: room for more than ten thousand segments.
const MANIFEST_BYTES_MAX: u64 = 4 << 20;
const STEP_BYTES: usize = 256 << 10;

/// The contents of a backup.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The version of this description, 1.
    pub format: u32,
    /// The program version that wrote it.
    pub livedrop_version: String,
    /// When the backup was complete.
    pub created_at: Timestamp,
    /// The id of the copied journal.
    pub journal_id: Uuid,
    /// The journal's epoch when it was copied.
    pub epoch: u32,
    /// `sqlite` (its copy is in the backup) or `postgres`.
    pub database: String,
    /// The copied database has every record up to this one, or more.
    pub watermark: u64,
    /// The journal's oldest record in the backup.
    pub first_sequence: u64,
    /// The journal's last record in the backup.
    pub last_sequence: u64,
    /// Every other file of the backup.
    pub files: Vec<FileEntry>,
}

/// A file of the backup with its checksum.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    /// The path relative to the backup.
    pub name: String,
    /// The size of the file.
    pub bytes: u64,
    /// The SHA-256 of its bytes, in hexadecimal.
    pub sha256: String,
}

/// The contents of the file: the manifest has checksums of the files, and this is a checksum of the manifest.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sealed {
    manifest: Manifest,
    sha256: String,
}

impl Manifest {
    /// Adds the files below `root` to a manifest without them, and writes it there.
    pub(super) fn write(mut self, root: &Path) -> Result<Self, BackupError> {
        self.files = files_below(root)?.into_iter().map(|name| FileEntry::of(root, name)).collect::<Result<_, _>>()?;
        let sealed = Sealed { sha256: self.checksum(), manifest: self };
        let text = serde_json::to_string_pretty(&sealed).expect("plain fields") + "\n";
        let path = root.join(MANIFEST_FILE);
        let mut file = private_file(&path)?;
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(BackupError::io("write", &path))?;
        sync_directory(root)?;
        Ok(sealed.manifest)
    }

    /// Reads the manifest below `root`, and checks every file there against it.
    ///
    /// # Errors
    /// [`BackupError::Refused`] with the first file that is missing, unknown or changed.
    pub fn read_checked(root: &Path) -> Result<Self, BackupError> {
        let manifest = Self::read(root)?;
        let found = files_below(root)?;
        let stranger = found
            .iter()
            .find(|name| *name != MANIFEST_FILE && !manifest.files.iter().any(|entry| entry.name == **name));
        if let Some(name) = stranger {
            return Err(BackupError::refused(&root.join(name), "the file is not part of the backup"));
        }
        for entry in &manifest.files {
            let path = root.join(&entry.name);
            if !found.contains(&entry.name) {
                return Err(BackupError::refused(&path, "the file is missing"));
            }
            let now = FileEntry::of(root, entry.name.clone())?;
            if now.bytes != entry.bytes {
                let what = format!("the file has {} bytes and had {} when the backup was made", now.bytes, entry.bytes);
                return Err(BackupError::refused(&path, what));
            }
            if now.sha256 != entry.sha256 {
                return Err(BackupError::refused(&path, "the file was altered: its SHA-256 is another"));
            }
        }
        Ok(manifest)
    }

    fn read(root: &Path) -> Result<Self, BackupError> {
        let path = root.join(MANIFEST_FILE);
        let refused = |what: &str| BackupError::refused(&path, what);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(refused("there is no such file: this is not a backup, or one that was not completed"));
            }
            Err(error) => return Err(BackupError::io("read", &path)(error)),
        };
        let mut text = String::new();
        file.take(MANIFEST_BYTES_MAX).read_to_string(&mut text).map_err(BackupError::io("read", &path))?;
        let sealed: Sealed = serde_json::from_str(&text)
            .map_err(|error| refused(&format!("this is not a backup's manifest: {error}")))?;
        let Sealed { manifest, sha256 } = sealed;
        if manifest.checksum() != sha256 {
            return Err(refused("the file was altered: its SHA-256 is another"));
        }
        if manifest.format != FORMAT {
            let what = format!("format {} is not known to this program, which reads {FORMAT}", manifest.format);
            return Err(refused(&what));
        }
        Ok(manifest)
    }

    /// A summary for people.
    #[must_use]
    pub fn rendered(&self, to: &Path) -> String {
        let bytes: u64 = self.files.iter().map(|file| file.bytes).sum();
        let secret = match self.has(super::SECRET) {
            true => "in the backup",
            false => "not in the data directory, so not in the backup: keep the configured jwt_secret yourself",
        };
        let keys = match self.has(super::KEYS) {
            true => "in the backup",
            false => {
                "not in the data directory, so not in the backup: keep the configured encryption_key_file yourself"
            }
        };
        format!(
            "backup    {} ({} files, {bytes} bytes, {})\ndatabase  {}, at record {} or later\n\
             journal   {}, records {} to {}\nsecret    {secret}\nkeys      {keys}\n",
            to.display(),
            self.files.len(),
            self.created_at,
            self.database,
            self.watermark,
            self.journal_id,
            self.first_sequence,
            self.last_sequence,
        )
    }

    /// Whether the backup has a file of that name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.files.iter().any(|entry| entry.name == name)
    }

    /// The version that this program writes.
    pub(super) const fn format() -> u32 {
        FORMAT
    }

    fn checksum(&self) -> String {
        hex(&Sha256::digest(serde_json::to_vec(self).expect("plain fields")))
    }
}

impl FileEntry {
    fn of(root: &Path, name: String) -> Result<Self, BackupError> {
        let path = root.join(&name);
        let reading = || BackupError::io("read", &path);
        // A regular file, not a symbolic link.
        if !fs::symlink_metadata(&path).map_err(reading())?.is_file() {
            return Err(BackupError::refused(&path, "this is not a file"));
        }
        let mut file = File::open(&path).map_err(reading())?;
        let (mut hash, mut bytes, mut buffer) = (Sha256::new(), 0, vec![0; STEP_BYTES]);
        loop {
            let read = file.read(&mut buffer).map_err(reading())?;
            if read == 0 {
                return Ok(Self { name, bytes, sha256: hex(&hash.finalize()) });
            }
            hash.update(&buffer[..read]);
            bytes += read as u64;
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
