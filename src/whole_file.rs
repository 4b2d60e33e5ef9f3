//! Files that are written as a whole, or not at all; and work on the disk from async tasks.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

/// The extension of a file while it is written beside its place.
pub(crate) const DRAFT_EXTENSION: &str = "new";

/// Replaces `path` durably by a file that only its owner may read. The new file is written beside it and renamed, so a
/// crash leaves the old or the new one, complete.
///
/// # Errors
/// Those of the disk. The file is then the old one, or the new one that a power loss may undo.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut draft = Draft::create(path)?;
    draft.write(bytes)?;
    draft.commit()
}

/// Deletes a file, if there is one. Not durable: a power loss may bring it back.
///
/// # Errors
/// Those of the disk.
pub(crate) fn delete(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// A file that is being written beside its place. It is deleted where it is dropped before [`Draft::commit`].
pub(crate) struct Draft {
    file: File,
    path: PathBuf,
    draft: PathBuf,
    is_moved: bool,
}

impl Draft {
    /// An empty one for `path`, which its owner alone may read. One that a crash has left is deleted.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn create(path: &Path) -> io::Result<Self> {
        let draft = path.with_extension(DRAFT_EXTENSION);
        delete(&draft)?;
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
        Ok(Self { file, path: path.to_owned(), draft, is_moved: false })
    }

    /// Appends.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)
    }

    /// The file itself, to append with from another thread.
    ///
    /// # Errors
    /// Where there are too many open files.
    pub fn shared(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// Syncs it and puts it in its place.
    ///
    /// # Errors
    /// As those of [`replace`].
    pub fn commit(mut self) -> io::Result<()> {
        self.file.sync_all()?;
        failpoint!("draft.before_rename", error);
        fs::rename(&self.draft, &self.path)?;
        self.is_moved = true;
        failpoint!("draft.before_directory_sync", error);
        File::open(self.path.parent().unwrap_or(Path::new(".")))?.sync_all()
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.is_moved {
            // The next draft finds out if it is still there.
            let _ = fs::remove_file(&self.draft);
        }
    }
}

/// Does work on the disk on a blocking thread, so that it delays no async task.
///
/// # Errors
/// Those of the work, or that it panicked.
pub(crate) async fn on_disk<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}
