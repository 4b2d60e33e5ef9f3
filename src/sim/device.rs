//! The disk of a simulated life: in memory, and with a gate before every sync, so that a crash can happen exactly there and the
//! journal's thread takes its turns when the simulation says so.

use crate::journal::device::DeviceLock;
use crate::journal::identity::META_FILE;
use crate::journal::segment::{BROKEN_SUFFIX, TEMPORARY_SUFFIX};
use crate::journal::{Device, DeviceFile, MemoryDevice};
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What fails next, once, on a file of the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Failure {
    /// A write, after part of it.
    Write,
    /// A sync: what it should have made durable counts as clean and is lost with the power.
    Sync,
}

#[derive(Default)]
struct Gate {
    /// The journal's thread waits before a sync.
    waiting: bool,
    /// How many syncs may pass.
    passes: u32,
    /// Everything may pass: the life is over, or not simulated any more.
    open: bool,
    /// The life is over: nothing reaches the disk any more.
    dead: bool,
    failure: Option<Failure>,
    /// Files that the background prepares, and whether the last one is ready.
    prepared: bool,
}

/// See the module. Clones share the disk.
#[derive(Clone)]
pub struct SimDevice {
    disk: MemoryDevice,
    gate: Arc<(Mutex<Gate>, Condvar)>,
}

/// The longest wait for another thread before a simulation counts as stuck.
const STUCK: Duration = Duration::from_secs(20);

impl SimDevice {
    /// A disk with these files.
    #[must_use]
    pub fn new(disk: MemoryDevice) -> Self {
        Self { disk, gate: Arc::default() }
    }

    /// Lets every sync pass from now on.
    pub fn open_gate(&self) {
        self.change(|gate| gate.open = true);
    }

    /// Makes syncs wait from now on.
    pub fn close_gate(&self) {
        self.change(|gate| gate.open = false);
    }

    /// Lets one sync pass.
    pub fn pass(&self) {
        self.change(|gate| gate.passes += 1);
    }

    /// Ends this life: whatever the journal's thread still does reaches nothing.
    pub fn kill(&self) {
        self.change(|gate| gate.dead = true);
    }

    /// Makes the next write or sync of the log fail.
    pub fn fail_next(&self, failure: Failure) {
        self.change(|gate| gate.failure = Some(failure));
    }

    /// Whether the failure that was asked for has happened. Takes it back if it has not.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.lock().failure.take().is_none()
    }

    /// What a power loss leaves now, with any subset of the sectors that were not synced.
    #[must_use]
    pub fn after_power_loss(&self, seed: u64) -> MemoryDevice {
        self.disk.crash(Some(seed))
    }

    /// What the end of the process leaves now.
    #[must_use]
    pub fn after_kill(&self) -> MemoryDevice {
        self.disk.killed()
    }

    /// Waits until the journal's thread stands before a sync, or `done` says that there is nothing more to wait for.
    ///
    /// # Panics
    /// Where neither happens: the simulation itself is broken.
    pub fn wait_for_sync(&self, mut done: impl FnMut() -> bool) -> bool {
        let mut gate = self.lock();
        let mut waited = Duration::ZERO;
        loop {
            if gate.waiting && gate.passes == 0 {
                return true;
            }
            if done() {
                return false;
            }
            assert!(waited < STUCK, "the journal's thread neither syncs nor answers");
            let pause = Duration::from_micros(200);
            gate = self.gate.1.wait_timeout(gate, pause).unwrap_or_else(PoisonError::into_inner).0;
            waited += pause;
        }
    }

    /// Waits until the next segment is prepared: from then on the background does nothing by itself.
    pub fn wait_until_prepared(&self) {
        let mut gate = self.lock();
        let mut waited = Duration::ZERO;
        while !gate.prepared {
            assert!(waited < STUCK, "the background prepares no segment");
            let pause = Duration::from_micros(200);
            gate = self.gate.1.wait_timeout(gate, pause).unwrap_or_else(PoisonError::into_inner).0;
            waited += pause;
        }
    }

    fn change(&self, change: impl FnOnce(&mut Gate)) {
        change(&mut self.lock());
        self.gate.1.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Gate> {
        self.gate.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn alive(&self) -> io::Result<()> {
        if self.lock().dead { Err(io::Error::other("this life is over")) } else { Ok(()) }
    }

    fn take(&self, failure: Failure) -> bool {
        let mut gate = self.lock();
        let fails = gate.failure == Some(failure);
        if fails {
            gate.failure = None;
        }
        fails
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
        self.alive()?;
        let file = self.disk.create(name, bytes)?;
        if !name.starts_with(META_FILE) && name.ends_with(TEMPORARY_SUFFIX) {
            self.change(|gate| gate.prepared = true);
        }
        Ok(self.file(name, file))
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.alive()?;
        self.disk.rename(from, to)?;
        if !from.starts_with(META_FILE) {
            self.change(|gate| gate.prepared = false);
        }
        Ok(())
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        self.alive()?;
        self.disk.remove(name)
    }
    fn sync_directory(&self) -> io::Result<()> {
        self.alive()?;
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
        self.device.alive()?;
        if self.is_log && self.device.take(Failure::Write) {
            self.file.write_at(&bytes[..bytes.len() / 2], offset)?;
            return Err(io::Error::other("a simulated write error"));
        }
        self.file.write_at(bytes, offset)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.device.alive()?;
        if self.is_log {
            self.wait()?;
            if self.device.take(Failure::Sync) {
                self.device.disk.forget_unsynced();
                return Err(io::Error::other("a simulated sync error"));
            }
        }
        self.file.sync_data()
    }
}

impl SimFile {
    /// Stands before the gate until it may pass.
    fn wait(&self) -> io::Result<()> {
        let (_, changed) = &*self.device.gate;
        let mut gate = self.device.lock();
        gate.waiting = true;
        changed.notify_all();
        while !gate.open && !gate.dead && gate.passes == 0 {
            gate = changed.wait(gate).unwrap_or_else(PoisonError::into_inner);
        }
        gate.waiting = false;
        gate.passes = gate.passes.saturating_sub(1);
        if gate.dead { Err(io::Error::other("this life is over")) } else { Ok(()) }
    }
}
