//! `livedrop backup` and `livedrop restore`: one consistent copy of database, journal and secret keys, taken beside a running server.
//!
//! A restored server needs a database at some record W and a journal with every record after W, so the order is: open
//! the journal's segments (an open file stays readable when the server deletes it), copy the database, then copy the
//! segments' whole frames. The journal's copy has every record that the database has, because the server writes nothing
//! to SQL before the journal; and it has everything acknowledged before the backup began.
//!
//! - [`manifest`]: the description of a backup; every file with its size and SHA-256.
//! - [`take`]: makes a backup. [`restore`]: checks one, then writes a data directory.

pub mod manifest;
mod restore;
mod take;
#[cfg(test)]
mod tests;

pub use manifest::Manifest;
pub use restore::{Restored, restore};
pub use take::{BackupOptions, take};

use crate::journal::{CopyError, RecoveryError};
use crate::service::encryption::key_file::{self, KeyFileError};
use crate::storage::StoreError;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The journal's directory, in a data directory and in a backup.
const JOURNAL: &str = "journal";
/// The default database's file, in a data directory and in a backup.
const DATABASE: &str = "livedrop.db";
/// The key of access tokens, in a data directory and in a backup.
const SECRET: &str = "secret.key";
/// The keys of encrypted data, in a data directory and in a backup.
const KEYS: &str = key_file::FILE;
/// The directory in a backup for the files of the command that copies a Postgres database.
const DATABASE_DIRECTORY: &str = "database";

/// Why a backup was not made or not restored. One readable paragraph.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// A file or directory failed.
    #[error("cannot {doing} {}: {error}", path.display())]
    Io {
        /// The failed operation, as a verb for the message.
        doing: &'static str,
        /// The file or directory.
        path: PathBuf,
        error: io::Error,
    },
    /// The target is not empty.
    #[error("{} is not empty: name a directory that is empty or does not exist", .0.display())]
    NotEmpty(PathBuf),
    /// The journal cannot be copied.
    #[error("{0}")]
    Copy(#[from] CopyError),
    /// The database cannot be read.
    #[error("database: {0}")]
    Store(#[from] StoreError),
    /// The backup must not be restored.
    #[error("this backup cannot be restored: {}: {what}. Nothing was written", path.display())]
    Refused {
        /// The file at fault.
        path: PathBuf,
        /// The fault found in it.
        what: String,
    },
    /// The keys of encrypted data are being changed.
    #[error("keys of encrypted data: {0}")]
    Keys(#[from] KeyFileError),
    /// The request does not fit the data directory or the database.
    #[error("{0}")]
    Unfit(String),
}

impl From<RecoveryError> for BackupError {
    fn from(error: RecoveryError) -> Self {
        Self::Copy(error.into())
    }
}

impl BackupError {
    fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |error| Self::Io { doing, path, error }
    }

    fn refused(path: &Path, what: impl Into<String>) -> Self {
        Self::Refused { path: path.to_owned(), what: what.into() }
    }
}

/// Makes sure that a directory exists, empty, and accessible by its owner only. Returns whether it was created.
fn empty_directory(path: &Path) -> Result<bool, BackupError> {
    match fs::read_dir(path).map(|mut entries| entries.next().is_none()) {
        Ok(true) => Ok(false),
        Ok(false) => Err(BackupError::NotEmpty(path.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent).map_err(BackupError::io("create", parent))?;
            }
            private_directory(path).map(|()| true)
        }
        Err(error) => Err(BackupError::io("read", path)(error)),
    }
}

fn private_directory(path: &Path) -> Result<(), BackupError> {
    DirBuilder::new().mode(0o700).create(path).map_err(BackupError::io("create", path))
}

/// Creates a file that only its owner can read.
fn private_file(path: &Path) -> Result<File, BackupError> {
    let made = File::options().write(true).create_new(true).mode(0o600).open(path);
    made.map_err(BackupError::io("create", path))
}

/// Makes the names in a directory durable.
fn sync_directory(path: &Path) -> Result<(), BackupError> {
    File::open(path).and_then(|directory| directory.sync_all()).map_err(BackupError::io("sync", path))
}

/// Every file below a directory, by its path relative to it, sorted.
fn files_below(root: &Path) -> Result<Vec<String>, BackupError> {
    fn visit(root: &Path, directory: &Path, found: &mut Vec<String>) -> Result<(), BackupError> {
        let reading = || BackupError::io("read", directory);
        for entry in fs::read_dir(directory).map_err(reading())? {
            let path = entry.map_err(reading())?.path();
            // Not followed: a link to elsewhere is not part of a backup.
            if path.is_dir() && !path.is_symlink() {
                visit(root, &path, found)?;
            } else {
                let name = path.strip_prefix(root).unwrap_or(&path).to_str();
                let name = name.ok_or_else(|| BackupError::refused(&path, "its name is not text"))?;
                found.push(name.to_owned());
            }
        }
        Ok(())
    }
    let mut found = Vec::new();
    visit(root, root, &mut found)?;
    found.sort_unstable();
    Ok(found)
}
