//! A device in memory that tracks synced bytes: a power loss is a function call.

use super::{Device, DeviceFile, DeviceLock, Dice, sectors};
use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
};

/// Files in memory, each in the program's view and in the disk's. Clones share the same files.
#[derive(Clone, Default, Debug)]
pub struct MemoryDevice {
    disk: Arc<Mutex<Disk>>,
    locked: Arc<AtomicBool>,
}

#[derive(Default, Debug)]
struct Disk {
    /// Names as the program sees them.
    names: BTreeMap<String, usize>,
    /// Names as of the last directory sync.
    durable_names: BTreeMap<String, usize>,
    /// Changes of names since then, in order.
    unsynced: Vec<NameChange>,
    inodes: Vec<Inode>,
}

#[derive(Clone, Debug)]
enum NameChange {
    Link(String, usize),
    Unlink(String),
}

#[derive(Clone, Default, Debug)]
struct Inode {
    seen: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<(usize, Vec<u8>)>,
}

impl MemoryDevice {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The state after a power loss: the synced bytes and names. With a seed also a random subset of the 512-byte
    /// sectors of the unsynced writes, and the first few of the unsynced name changes (file systems journal those in
    /// order).
    #[must_use]
    pub fn crash(&self, seed: Option<u64>) -> Self {
        let disk = self.disk();
        let mut dice = seed.map(Dice::new);
        let mut names = disk.durable_names.clone();
        let kept = dice.as_mut().map_or(0, |dice| dice.below(disk.unsynced.len() + 1));
        disk.unsynced[..kept].iter().for_each(|change| change.apply(&mut names));
        let image = Self::new();
        for (name, inode) in names {
            let inode = &disk.inodes[inode];
            let mut bytes = inode.durable.clone();
            for (offset, written) in &inode.unsynced {
                for sector in sectors(*offset, written.len()) {
                    if dice.as_mut().is_some_and(Dice::coin) {
                        overwrite(&mut bytes, offset + sector.start, &written[sector]);
                    }
                }
            }
            image.insert(&name, bytes);
        }
        image
    }

    /// The state after the process was killed: everything that was written, as the operating system still has it.
    #[must_use]
    pub fn killed(&self) -> Self {
        let disk = self.disk();
        let image = Self::new();
        disk.names.iter().for_each(|(name, inode)| image.insert(name, disk.inodes[*inode].seen.clone()));
        image
    }

    /// Behaves as ext4, XFS and Btrfs do when a sync fails: the pages count as clean. A reader still sees them, but no
    /// later sync writes them.
    pub fn forget_unsynced(&self) {
        self.disk().inodes.iter_mut().for_each(|inode| inode.unsynced.clear());
    }

    /// Creates or replaces a file, durably.
    pub fn insert(&self, name: &str, bytes: Vec<u8>) {
        let mut disk = self.disk();
        disk.inodes.push(Inode { seen: bytes.clone(), durable: bytes, unsynced: Vec::new() });
        let inode = disk.inodes.len() - 1;
        disk.names.insert(name.to_owned(), inode);
        disk.durable_names.insert(name.to_owned(), inode);
    }

    /// A file in the program's view.
    #[must_use]
    pub fn bytes(&self, name: &str) -> Option<Vec<u8>> {
        let disk = self.disk();
        disk.names.get(name).map(|inode| disk.inodes[*inode].seen.clone())
    }

    /// Changes a file behind the program's back, durably.
    ///
    /// # Panics
    /// If there is no such file.
    pub fn damage(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut disk = self.disk();
        let inode = disk.names[name];
        let inode = &mut disk.inodes[inode];
        change(&mut inode.seen);
        inode.durable.clone_from(&inode.seen);
        inode.unsynced.clear();
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn find(&self, name: &str) -> io::Result<Box<dyn DeviceFile>> {
        let inode = *self.disk().names.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(MemoryFile { device: self.clone(), inode }))
    }
}

impl Disk {
    fn change(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.unsynced.push(change);
    }
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<String, usize>) {
        match self {
            Self::Link(name, inode) => {
                // A rename is one change: the new name takes over from the old one.
                names.retain(|_, named| named != inode);
                names.insert(name.clone(), *inode);
            }
            Self::Unlink(name) => {
                names.remove(name);
            }
        }
    }
}

impl Device for MemoryDevice {
    fn lock(&self) -> io::Result<DeviceLock> {
        if self.locked.swap(true, Ordering::AcqRel) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(DeviceLock::new(Unlock(Arc::clone(&self.locked))))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.disk().names.keys().cloned().collect())
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn DeviceFile>> {
        self.find(name)
    }

    fn open_read_only(&self, name: &str) -> io::Result<Box<dyn DeviceFile>> {
        self.find(name)
    }

    fn create(&self, name: &str, bytes: u64) -> io::Result<Box<dyn DeviceFile>> {
        let mut disk = self.disk();
        if disk.names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let zeros = vec![0; usize::try_from(bytes).map_err(io::Error::other)?];
        disk.inodes.push(Inode { seen: zeros.clone(), durable: zeros, unsynced: Vec::new() });
        let inode = disk.inodes.len() - 1;
        disk.change(NameChange::Link(name.to_owned(), inode));
        drop(disk);
        self.find(name)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut disk = self.disk();
        let inode = *disk.names.get(from).ok_or(io::ErrorKind::NotFound)?;
        disk.change(NameChange::Link(to.to_owned(), inode));
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut disk = self.disk();
        if !disk.names.contains_key(name) {
            return Err(io::ErrorKind::NotFound.into());
        }
        disk.change(NameChange::Unlink(name.to_owned()));
        Ok(())
    }

    fn sync_directory(&self) -> io::Result<()> {
        let mut disk = self.disk();
        disk.durable_names = disk.names.clone();
        disk.unsynced.clear();
        Ok(())
    }
}

struct MemoryFile {
    device: MemoryDevice,
    inode: usize,
}

impl DeviceFile for MemoryFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.device.disk().inodes[self.inode].seen.len() as u64)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let disk = self.device.disk();
        let seen = &disk.inodes[self.inode].seen;
        let rest = seen.get(usize::try_from(offset).map_err(io::Error::other)?..).unwrap_or_default();
        let bytes = rest.len().min(buffer.len());
        buffer[..bytes].copy_from_slice(&rest[..bytes]);
        Ok(bytes)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        let mut disk = self.device.disk();
        let inode = &mut disk.inodes[self.inode];
        overwrite(&mut inode.seen, offset, bytes);
        inode.unsynced.push((offset, bytes.to_vec()));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut disk = self.device.disk();
        let inode = &mut disk.inodes[self.inode];
        for (offset, bytes) in std::mem::take(&mut inode.unsynced) {
            overwrite(&mut inode.durable, offset, &bytes);
        }
        Ok(())
    }
}

struct Unlock(Arc<AtomicBool>);

impl Drop for Unlock {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

fn overwrite(bytes: &mut Vec<u8>, offset: usize, written: &[u8]) {
    let end = offset + written.len();
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    bytes[offset..end].copy_from_slice(written);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_power_loss_takes_what_was_not_synced() {
        let device = MemoryDevice::new();
        let file = device.create("a", 2048).unwrap();
        device.sync_directory().unwrap();
        file.write_at(&[1; 600], 0).unwrap();
        file.sync_data().unwrap();
        file.write_at(&[2; 1200], 600).unwrap();
        device.rename("a", "b").unwrap();
        let lost = device.crash(None);
        assert_eq!(lost.list().unwrap(), ["a"]);
        assert_eq!(&lost.bytes("a").unwrap()[598..602], [1, 1, 0, 0]);
        assert_eq!(device.killed().bytes("b").unwrap()[600], 2);
        let images: std::collections::BTreeSet<Vec<u8>> = (0..64)
            .map(|seed| device.crash(Some(seed)))
            .map(|image| image.bytes("a").or_else(|| image.bytes("b")).unwrap())
            .collect();
        assert!(images.len() > 4, "subsets of three sectors: {}", images.len());
    }

    #[test]
    fn a_failed_sync_leaves_bytes_that_are_seen_and_never_written() {
        let device = MemoryDevice::new();
        let file = device.create("a", 512).unwrap();
        device.sync_directory().unwrap();
        file.write_at(&[1], 0).unwrap();
        device.forget_unsynced();
        file.sync_data().unwrap();
        assert_eq!((device.bytes("a").unwrap()[0], device.crash(None).bytes("a").unwrap()[0]), (1, 0));
    }
}
