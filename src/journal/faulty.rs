//! A device that fails when told to: the N-th operation, once or for good, and tears the write that it fails.

use super::device::{Device, DeviceFile};
use super::memory::SECTOR;
use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

/// What to fail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fault {
    /// Which operation, counted from 1 (writes, syncs, creates, opens, renames, removes).
    pub at: u64,
    /// Every later one too.
    pub for_good: bool,
    /// Which 512-byte sectors of a failed write reach the file all the same, one bit each (repeating after 64).
    pub torn: u64,
    /// Whether it fails like a disk without space.
    pub full: bool,
}

/// Wraps another device.
pub struct FaultyDevice<D> {
    inner: D,
    shared: Arc<Counter>,
}

struct Counter {
    fault: Fault,
    count: AtomicU64,
    healed: AtomicBool,
}

impl Counter {
    fn check(&self) -> io::Result<()> {
        let n = self.count.fetch_add(1, Ordering::AcqRel) + 1;
        let hit = n == self.fault.at || (self.fault.for_good && n > self.fault.at);
        if !hit || self.healed.load(Ordering::Acquire) {
            return Ok(());
        }
        let kind = if self.fault.full { io::ErrorKind::StorageFull } else { io::ErrorKind::Other };
        Err(io::Error::new(kind, format!("injected fault at operation {n}")))
    }
}

impl<D: Device> FaultyDevice<D> {
    /// Fails as told.
    pub fn new(inner: D, fault: Fault) -> Self {
        Self { inner, shared: Arc::new(Counter { fault, count: 0.into(), healed: false.into() }) }
    }

    /// No more faults from here on.
    pub fn heal(&self) {
        self.shared.healed.store(true, Ordering::Release);
    }

    /// Operations so far.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.shared.count.load(Ordering::Acquire)
    }

    fn wrap(&self, file: Arc<dyn DeviceFile>) -> Arc<dyn DeviceFile> {
        Arc::new(FaultyFile { inner: file, shared: Arc::clone(&self.shared) })
    }
}

impl<D: Device> Device for FaultyDevice<D> {
    fn lock(&self) -> io::Result<()> {
        self.inner.lock()
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.inner.list()
    }

    fn create(&self, name: &str, len: usize) -> io::Result<Arc<dyn DeviceFile>> {
        self.shared.check()?;
        Ok(self.wrap(self.inner.create(name, len)?))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DeviceFile>> {
        self.shared.check()?;
        Ok(self.wrap(self.inner.open(name)?))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.shared.check()?;
        self.inner.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.shared.check()?;
        self.inner.remove(name)
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.shared.check()?;
        self.inner.sync_dir()
    }
}

struct FaultyFile {
    inner: Arc<dyn DeviceFile>,
    shared: Arc<Counter>,
}

impl DeviceFile for FaultyFile {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let Err(error) = self.shared.check() else { return self.inner.write_at(offset, bytes) };
        // Sectors are counted in the file, so that a tear never splits one.
        let mut start = 0;
        while start < bytes.len() {
            let at = offset + start as u64;
            let sector = at / SECTOR as u64;
            let end = (start + (SECTOR - (at % SECTOR as u64) as usize)).min(bytes.len());
            if self.shared.fault.torn >> (sector % 64) & 1 == 1 {
                self.inner.write_at(at, &bytes[start..end])?;
            }
            start = end;
        }
        Err(error)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.inner.read_at(offset, buffer)
    }

    fn sync(&self) -> io::Result<()> {
        self.shared.check()?;
        self.inner.sync()
    }

    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }
}
