//! The disk of a simulated process: in memory, with one failure at a time.

use crate::journal::device::DeviceLock;
use crate::journal::identity::META_FILE;
use crate::journal::segment::BROKEN_SUFFIX;
use crate::journal::{Device, DeviceFile, MemoryDevice};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The next failure of an operation on a log file; it happens once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Failure {
    /// A write fails after a part of it.
    Write,
    /// A sync fails: the bytes that it should have made durable count as clean and are lost in a power loss.
    Sync,
}

/// A disk that fails on demand. Clones share it.
#[derive(Clone)]
pub struct SimDevice {
    disk: MemoryDevice,
    failure: Arc<Mutex<Option<Failure>>>,
}

impl SimDevice {
    /// A disk with these files.
    #[must_use]
    pub fn new(disk: MemoryDevice) -> Self {
        Self { disk, failure: Arc::default() }
    }

    /// Makes the next write or sync of the log fail.
    pub fn fail_next(&self, failure: Failure) {
        *self.failure() = Some(failure);
    }

    /// Whether the requested failure has happened. Cancels it if not.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.failure().take().is_none()
    }

    /// The disk after a power loss now, with a random subset of the unsynced sectors.
    #[must_use]
    pub fn after_power_loss(&self, seed: u64) -> MemoryDevice {
        self.disk.crash(Some(seed))
    }

    /// The disk after a kill of the process now.
    #[must_use]
    pub fn after_kill(&self) -> MemoryDevice {
        self.disk.killed()
    }

    fn failure(&self) -> MutexGuard<'_, Option<Failure>> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether an operation of this kind fails now.
    fn fails(&self, kind: Failure) -> bool {
        self.failure().take_if(|failure| *failure == kind).is_some()
    }

    fn file(&self, name: &str, file: Box<dyn DeviceFile>) -> Box<dyn DeviceFile> {
        let is_log = !name.starts_with(META_FILE) && !name.ends_with(BROKEN_SUFFIX);
        Box::new(SimFile { device: self.clone(), file, is_log })
    }
}

struct SimFile {
    device: SimDevice,
    file: Box<dyn DeviceFile>,
    /// Whether it is a segment: a prepared one becomes the active one under the same handle.
    is_log: bool,
}

impl Device for SimDevice {
    fn lock(&self) -> io::Result<DeviceLock> {
        self.disk.lock()
    }
    fn list(&self) -> io::Result<Vec<String>> {
        self.disk.list()
    }
    fn open(&self, name: &str) -> io::Result<Box<dyn DeviceFile>> {
        Ok(self.file(name, self.disk.open(name)?))
    }
    fn open_read_only(&self, name: &str) -> io::Result<Box<dyn DeviceFile>> {
        self.disk.open_read_only(name)
    }
    fn create(&self, name: &str, bytes: u64) -> io::Result<Box<dyn DeviceFile>> {
        Ok(self.file(name, self.disk.create(name, bytes)?))
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        self.disk.remove(name)
    }
    fn sync_directory(&self) -> io::Result<()> {
        self.disk.sync_directory()
    }
}

impl DeviceFile for SimFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        if self.is_log && self.device.fails(Failure::Write) {
            self.file.write_at(&bytes[..bytes.len() / 2], offset)?;
            return Err(io::Error::other("a simulated write error"));
        }
        self.file.write_at(bytes, offset)
    }
    fn sync_data(&self) -> io::Result<()> {
        if self.is_log && self.device.fails(Failure::Sync) {
            self.device.disk.forget_unsynced();
            return Err(io::Error::other("a simulated sync error"));
        }
        self.file.sync_data()
    }
}
