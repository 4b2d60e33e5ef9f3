//! The file of the keys that encrypt personal data: one a line, the last one in use. Readable by its owner only.

use super::{Key, KeyId, Keyring};
use crate::domain::limits::ENCRYPTION_KEYS_MAX;
use crate::whole_file::{self, on_disk};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::fmt::Write;
use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// The file in the data directory, unless another one is configured.
pub const FILE: &str = "encryption.keys";
/// The begin of a line with a key.
const PREFIX: &str = "livedrop-key-1 ";
const HEAD: &str = "# Keys that encrypt personal data in the database. Without them it cannot be read: keep a copy. The last one is in use.\n";
/// Bytes of a file with the most keys that are allowed, and some comments.
const FILE_BYTES_MAX: u64 = 16 << 10;

/// The key file of a server. Each use reads it anew, so that a rotation beside the server takes effect at once.
#[derive(Clone)]
pub struct KeyFile {
    path: Arc<PathBuf>,
    /// The keys as they were last read: what is left if the file disappears while the server runs.
    last: Arc<Mutex<Arc<Keyring>>>,
}

impl KeyFile {
    /// Reads the file, or makes one with a new key. Returns whether it was made.
    ///
    /// # Errors
    /// Those of the disk; a file that is not one of keys, with the number of the line.
    pub fn open(path: &Path) -> io::Result<(Self, bool)> {
        let (keys, made) = match read(path) {
            Ok(keys) => (keys, false),
            Err(error) if error.kind() == ErrorKind::NotFound => (make(path)?, true),
            Err(error) => return Err(error),
        };
        let last = Arc::new(Mutex::new(Arc::new(keys)));
        Ok((Self { path: Arc::new(path.to_owned()), last }, made))
    }

    /// The keys of now. If the file cannot be read, those of before, and a line in the log.
    pub async fn keys(&self) -> Arc<Keyring> {
        let path = Arc::clone(&self.path);
        let read = on_disk(move || read(&path)).await;
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match read {
            Ok(keys) if keys == **last => {}
            Ok(keys) => *last = Arc::new(keys),
            Err(error) => tracing::error!(
                file = %self.path.display(), %error,
                "the keys of encrypted data cannot be read, and are in memory only until the server stops: put the file back"
            ),
        }
        Arc::clone(&last)
    }
}

/// Reads the keys of a file.
///
/// # Errors
/// Those of the disk; a file that is not one of keys, with the number of the line.
pub fn read(path: &Path) -> io::Result<Keyring> {
    let bad = |what: &str| io::Error::new(ErrorKind::InvalidData, format!("{}: {what}", path.display()));
    if fs::metadata(path)?.len() > FILE_BYTES_MAX {
        return Err(bad("is too large for a file of keys"));
    }
    parse(&fs::read_to_string(path)?).map_err(|what| bad(&what))
}

fn parse(text: &str) -> Result<Keyring, String> {
    let mut keys: Option<Keyring> = None;
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        // Not a word of the line: it may be a key.
        let key = line.strip_prefix(PREFIX).and_then(|text| URL_SAFE_NO_PAD.decode(text.trim()).ok());
        let key = key.and_then(|bytes| bytes.try_into().ok()).map(Key::of);
        let key = key.ok_or_else(|| format!("line {number} is not a key: {PREFIX}and 43 characters of base64url"))?;
        if keys.as_ref().is_some_and(|keys| keys.key(key.id()).is_some()) {
            return Err(format!("line {number} repeats the key {}", key.id()));
        }
        let more = match keys {
            None => Keyring::new(key),
            Some(keys) => keys.with(key),
        };
        if more.all().count() > ENCRYPTION_KEYS_MAX {
            return Err(format!("has more than {ENCRYPTION_KEYS_MAX} keys: `livedrop keys prune` removes unused ones"));
        }
        keys = Some(more);
    }
    keys.ok_or_else(|| "has no key".to_owned())
}

fn text(keys: &Keyring) -> String {
    let mut text = HEAD.to_owned();
    for key in keys.all() {
        let _ = writeln!(text, "{PREFIX}{}", URL_SAFE_NO_PAD.encode(key.bytes()));
    }
    text
}

fn make(path: &Path) -> io::Result<Keyring> {
    let keys = Keyring::new(Key::random());
    whole_file::replace(path, text(&keys).as_bytes())?;
    Ok(keys)
}

/// Keeps others from changing the file: rotations exclude each other, and a backup.
pub struct Locked {
    path: PathBuf,
    _lock: File,
}

/// Why the file cannot be changed. One readable line.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    #[error("{}: {error}", path.display())]
    Io { path: PathBuf, error: io::Error },
    #[error("another command changes the keys, or a backup copies them: try again when it has ended")]
    Busy,
    #[error("the file has {ENCRYPTION_KEYS_MAX} keys, which is the most: `livedrop keys prune` removes unused ones")]
    Full,
}

impl Locked {
    /// To change the file.
    ///
    /// # Errors
    /// [`KeyFileError::Busy`] while others have it; those of the disk.
    pub fn to_change(path: &Path) -> Result<Self, KeyFileError> {
        Self::with(path, File::try_lock)
    }

    /// To copy the file together with a database: no key is removed meanwhile. `None` if there is no file.
    ///
    /// # Errors
    /// As [`Locked::to_change`].
    pub fn to_copy(path: &Path) -> Result<Option<Self>, KeyFileError> {
        if !path.exists() {
            return Ok(None);
        }
        Self::with(path, File::try_lock_shared).map(Some)
    }

    fn with(path: &Path, lock: fn(&File) -> Result<(), TryLockError>) -> Result<Self, KeyFileError> {
        // The directory is locked: the file is replaced by each change, and a mounted one may be read-only.
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let failed = |error| KeyFileError::Io { path: directory.to_owned(), error };
        let file = File::open(directory).map_err(failed)?;
        match lock(&file) {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: file }),
            Err(TryLockError::WouldBlock) => Err(KeyFileError::Busy),
            Err(TryLockError::Error(error)) => Err(failed(error)),
        }
    }

    /// The keys of the file.
    ///
    /// # Errors
    /// As [`read`].
    pub fn keys(&self) -> Result<Keyring, KeyFileError> {
        read(&self.path).map_err(|error| self.failed(error))
    }

    /// Adds a new key, which is the current one from then on.
    ///
    /// # Errors
    /// [`KeyFileError::Full`]; those of the disk, and then the file is as before.
    pub fn add(&self) -> Result<Keyring, KeyFileError> {
        let keys = self.keys()?;
        if keys.all().count() >= ENCRYPTION_KEYS_MAX {
            return Err(KeyFileError::Full);
        }
        let keys = keys.with(Key::random());
        self.write(&keys)?;
        Ok(keys)
    }

    /// Removes all earlier keys but these. Returns the ids of the removed ones.
    ///
    /// # Errors
    /// Those of the disk, and then the file is as before.
    pub fn retain(&self, needed: &[KeyId]) -> Result<Vec<KeyId>, KeyFileError> {
        let mut keys = self.keys()?;
        let removed = keys.retain(needed);
        if !removed.is_empty() {
            self.write(&keys)?;
        }
        Ok(removed)
    }

    fn write(&self, keys: &Keyring) -> Result<(), KeyFileError> {
        whole_file::replace(&self.path, text(keys).as_bytes()).map_err(|error| self.failed(error))
    }

    fn failed(&self, error: io::Error) -> KeyFileError {
        KeyFileError::Io { path: self.path.clone(), error }
    }
}
