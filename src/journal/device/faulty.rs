//! A device around another one that fails on demand.

use super::{Device, DeviceFile, DeviceLock, Dice, sectors};
use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// The operations that can fail, by the trait method.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operation {
    Write,
    Sync,
    /// Both [`Device::open`] and [`Device::open_read_only`].
    Open,
    Create,
    Rename,
    Remove,
    SyncDirectory,
}

/// When a device fails, and how.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fault {
    /// Only operations of this kind count; `None` counts all.
    pub operation: Option<Operation>,
    /// The number of the failing operation, counted from 1 since the fault was set.
    pub nth: u64,
    /// Whether all later operations fail too.
    pub for_good: bool,
    /// The kind of the reported error.
    pub kind: io::ErrorKind,
    /// The system's error number, for callers that check it.
    pub errno: Option<i32>,
    /// With a seed, a failing write still writes some subset of its 512-byte sectors.
    pub tear: Option<u64>,
}

impl Fault {
    /// Fails the `nth` operation of any kind, once.
    #[must_use]
    pub fn nth(nth: u64) -> Self {
        Self { operation: None, nth, for_good: false, kind: io::ErrorKind::Other, errno: None, tear: None }
    }

    /// Counts only operations of this kind.
    #[must_use]
    pub fn of(self, operation: Operation) -> Self {
        Self { operation: Some(operation), ..self }
    }

    /// Fails all later operations too.
    #[must_use]
    pub fn for_good(self) -> Self {
        Self { for_good: true, ..self }
    }

    /// The failing write leaves a random subset of its sectors.
    #[must_use]
    pub fn torn(self, seed: u64) -> Self {
        Self { tear: Some(seed), ..self }
    }

    /// Fails every new file for lack of descriptors, until the fault is cleared.
    #[must_use]
    pub fn no_descriptor() -> Self {
        let errno = Some(rustix::io::Errno::MFILE.raw_os_error());
        Self { errno, ..Self::nth(1).of(Operation::Create).for_good() }
    }

    /// Fails every new file for lack of space, until the fault is cleared.
    #[must_use]
    pub fn disk_full() -> Self {
        Self { kind: io::ErrorKind::StorageFull, ..Self::nth(1).of(Operation::Create).for_good() }
    }
}

/// Passes every operation to another device unless the fault makes it fail.
#[derive(Clone)]
pub struct FaultyDevice {
    inner: Arc<dyn Device>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    fault: Option<Fault>,
    counted: u64,
    operations: u64,
    failures: u64,
}

impl FaultyDevice {
    /// Starts without a fault.
    #[must_use]
    pub fn new(inner: Arc<dyn Device>) -> Self {
        Self { inner, state: Arc::default() }
    }

    /// Sets the fault from now on; `None` ends it.
    pub fn set(&self, fault: Option<Fault>) {
        let mut state = self.state();
        state.fault = fault;
        state.counted = 0;
    }

    /// Operations so far, failed ones included.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// Operations that failed because of a fault so far.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.state().failures
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts an operation; `Some` if it has to fail.
    fn strike(&self, operation: Operation) -> Option<Fault> {
        let mut state = self.state();
        state.operations += 1;
        let fault = state.fault.filter(|fault| fault.operation.is_none_or(|only| only == operation))?;
        state.counted += 1;
        let fails = state.counted == fault.nth || (fault.for_good && state.counted > fault.nth);
        state.failures += u64::from(fails);
        fails.then_some(fault)
    }

    fn pass(&self, operation: Operation) -> io::Result<()> {
        self.strike(operation).map_or(Ok(()), |fault| Err(fault.error(operation)))
    }

    fn wrap(&self, file: Box<dyn DeviceFile>) -> Box<dyn DeviceFile> {
        Box::new(FaultyFile { device: self.clone(), inner: file })
    }
}

impl Fault {
    fn error(&self, operation: Operation) -> io::Error {
        match self.errno {
            Some(errno) => io::Error::from_raw_os_error(errno),
            None => io::Error::new(self.kind, format!("injected {operation:?} failure")),
        }
    }
}

impl Device for FaultyDevice {
    fn lock(&self) -> io::Result<DeviceLock> {
        self.inner.lock()
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.inner.list()
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn DeviceFile>> {
        self.pass(Operation::Open)?;
        self.inner.open(name).map(|file| self.wrap(file))
    }

    fn open_read_only(&self, name: &str) -> io::Result<Box<dyn DeviceFile>> {
        self.pass(Operation::Open)?;
        self.inner.open_read_only(name).map(|file| self.wrap(file))
    }

    fn create(&self, name: &str, bytes: u64) -> io::Result<Box<dyn DeviceFile>> {
        self.pass(Operation::Create)?;
        self.inner.create(name, bytes).map(|file| self.wrap(file))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.pass(Operation::Rename)?;
        self.inner.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.pass(Operation::Remove)?;
        self.inner.remove(name)
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.pass(Operation::SyncDirectory)?;
        self.inner.sync_directory()
    }

    fn describe(&self, name: &str) -> String {
        self.inner.describe(name)
    }
}

struct FaultyFile {
    device: FaultyDevice,
    inner: Box<dyn DeviceFile>,
}

impl DeviceFile for FaultyFile {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.inner.read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let Some(fault) = self.device.strike(Operation::Write) else { return self.inner.write_at(bytes, offset) };
        if let Some(seed) = fault.tear {
            let mut dice = Dice::new(seed);
            for sector in sectors(offset as usize, bytes.len()) {
                if dice.coin() {
                    self.inner.write_at(&bytes[sector.clone()], offset + sector.start as u64)?;
                }
            }
        }
        Err(fault.error(Operation::Write))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.device.pass(Operation::Sync)?;
        self.inner.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::device::MemoryDevice;

    #[test]
    fn the_nth_fails_once_or_for_good() {
        let device = FaultyDevice::new(Arc::new(MemoryDevice::new()));
        let file = device.create("a", 8).unwrap();
        device.set(Some(Fault::nth(2).of(Operation::Write)));
        let outcomes = |file: &dyn DeviceFile| (0..4).map(|_| file.write_at(b"x", 0).is_ok()).collect::<Vec<_>>();
        assert_eq!(outcomes(&*file), [true, false, true, true]);
        device.set(Some(Fault::nth(2).of(Operation::Write).for_good()));
        assert_eq!(outcomes(&*file), [true, false, false, false]);
        assert!(file.sync_data().is_ok());
        device.set(None);
        assert!(file.write_at(b"x", 0).is_ok());
        assert_eq!(device.failures(), 4);
    }

    #[test]
    fn a_torn_write_leaves_any_subset_of_sectors() {
        let memory = MemoryDevice::new();
        let device = FaultyDevice::new(Arc::new(memory.clone()));
        let images: std::collections::BTreeSet<_> = (0..40)
            .map(|seed| {
                let file = device.create("a", 1536).unwrap();
                device.set(Some(Fault::nth(1).of(Operation::Write).torn(seed)));
                file.write_at(&[1; 1536], 0).unwrap_err();
                device.set(None);
                let bytes = memory.bytes("a").unwrap();
                device.remove("a").unwrap();
                [bytes[0], bytes[512], bytes[1024]]
            })
            .collect();
        assert_eq!(images.len(), 8, "{images:?}");
    }
}
