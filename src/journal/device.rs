//! Files, as little of them as the journal needs, so that tests can put memory and faults in their place.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::FileExt,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

/// A folder of files.
pub trait Device: Send + Sync + 'static {
    /// Makes sure that no other process has this folder, until the device is dropped.
    fn lock(&self) -> io::Result<()>;
    /// The names in it.
    fn list(&self) -> io::Result<Vec<String>>;
    /// A new file of so many zero bytes, all of it on disk: a later data sync of a write inside it moves no metadata.
    fn create(&self, name: &str, len: usize) -> io::Result<Arc<dyn DeviceFile>>;
    /// An existing file.
    fn open(&self, name: &str) -> io::Result<Arc<dyn DeviceFile>>;
    /// Replaces what has the new name.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Deletes a file.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes names durable.
    fn sync_dir(&self) -> io::Result<()>;
}

/// One open file.
#[allow(clippy::len_without_is_empty, reason = "nobody asks whether a segment is empty")]
pub trait DeviceFile: Send + Sync {
    /// Writes all of it at an offset.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Fills the buffer from an offset, or fails.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;
    /// Makes the contents durable.
    fn sync(&self) -> io::Result<()>;
    /// Bytes in the file.
    fn len(&self) -> io::Result<u64>;
}

/// Reads a whole file.
///
/// # Errors
/// The device's.
pub fn read_all(file: &dyn DeviceFile) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(file.len()?).map_err(io::Error::other)?];
    file.read_at(0, &mut bytes)?;
    Ok(bytes)
}

/// The real thing.
pub struct FileDevice {
    dir: PathBuf,
    lock: Mutex<Option<File>>,
}

const ZEROS: [u8; 1 << 20] = [0; 1 << 20];

impl FileDevice {
    /// The folder is made if it is not there.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub fn new(dir: impl Into<PathBuf>) -> io::Result<Self> {
        let dir = dir.into();
        fs::create_dir_all(&dir)?;
        Ok(Self { dir, lock: Mutex::new(None) })
    }

    /// An existing folder, to be read only.
    #[must_use]
    pub fn existing(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into(), lock: Mutex::new(None) }
    }
}

impl Device for FileDevice {
    fn lock(&self) -> io::Result<()> {
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(self.dir.join("LOCK"))?;
        match file.try_lock() {
            Ok(()) => {
                *self.lock.lock().unwrap_or_else(PoisonError::into_inner) = Some(file);
                Ok(())
            }
            Err(TryLockError::WouldBlock) => {
                Err(io::Error::new(io::ErrorKind::WouldBlock, self.dir.display().to_string()))
            }
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn list(&self) -> io::Result<Vec<String>> {
        fs::read_dir(&self.dir)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    }

    fn create(&self, name: &str, len: usize) -> io::Result<Arc<dyn DeviceFile>> {
        let path = self.dir.join(name);
        let file = OpenOptions::new().create(true).truncate(true).read(true).write(true).open(path)?;
        // Zeros are written, not only allocated: turning unwritten extents into written ones would cost every sync.
        let mut offset = 0;
        while offset < len {
            let step = ZEROS.len().min(len - offset);
            file.write_all_at(&ZEROS[..step], offset as u64)?;
            offset += step;
        }
        file.sync_all()?;
        Ok(Arc::new(RealFile(file)))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DeviceFile>> {
        let path = self.dir.join(name);
        // A read-only data directory can still be verified.
        let file = OpenOptions::new().read(true).write(true).open(&path).or_else(|_| File::open(&path))?;
        Ok(Arc::new(RealFile(file)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.dir.join(from), self.dir.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.dir.join(name))
    }

    fn sync_dir(&self) -> io::Result<()> {
        File::open(&self.dir)?.sync_all()
    }
}

struct RealFile(File);

impl DeviceFile for RealFile {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(buffer, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }
}
