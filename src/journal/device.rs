//! The file operations that a journal needs, on one directory.
//!
//! Three implementations: [`FileDevice`] is the real one; [`MemoryDevice`] tracks synced bytes and can lose the others;
//! [`FaultyDevice`] wraps another device and fails on demand.

mod faulty;
mod file;
mod memory;

pub use faulty::{Fault, FaultyDevice, Operation};
pub use file::FileDevice;
pub use memory::MemoryDevice;

use std::{fmt, io};

/// Bytes of a file that are read or written at a time where all of it is gone through.
pub(super) const STEP_BYTES: usize = 256 << 10;
/// To compare with: whole blocks at once, which is many times faster than byte by byte.
static ZEROS: [u8; STEP_BYTES] = [0; STEP_BYTES];

/// A directory of files. Names are plain file names, without a path.
pub trait Device: Send + Sync {
    /// Locks the directory for this process until the guard is dropped.
    ///
    /// # Errors
    /// `WouldBlock` if another process has locked it.
    fn lock(&self) -> io::Result<DeviceLock>;

    /// The names of all files, in any order.
    ///
    /// # Errors
    /// The device's own.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Opens a file for reading and writing.
    ///
    /// # Errors
    /// `NotFound`, or the device's own.
    fn open(&self, name: &str) -> io::Result<Box<dyn DeviceFile>>;

    /// Opens a file for reading.
    ///
    /// # Errors
    /// `NotFound`, or the device's own.
    fn open_read_only(&self, name: &str) -> io::Result<Box<dyn DeviceFile>>;

    /// Creates a file of `bytes` zeros and syncs it, so that a later [`DeviceFile::sync_data`] has no metadata to
    /// write. Its name is durable only after [`Device::sync_directory`].
    ///
    /// # Errors
    /// `StorageFull`, `AlreadyExists`, or the device's own. A partly created file may be left behind.
    fn create(&self, name: &str, bytes: u64) -> io::Result<Box<dyn DeviceFile>>;

    /// Renames a file, replacing an existing `to`.
    ///
    /// # Errors
    /// The device's own.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// `NotFound`, or the device's own.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes creations, renames and removals durable.
    ///
    /// # Errors
    /// The device's own.
    fn sync_directory(&self) -> io::Result<()>;

    /// The name of a file in messages: its path, if the device has paths.
    fn describe(&self, name: &str) -> String {
        name.to_owned()
    }
}

/// An open file of a [`Device`].
pub trait DeviceFile: Send + Sync {
    /// Its size in bytes.
    ///
    /// # Errors
    /// The device's own.
    fn len(&self) -> io::Result<u64>;

    /// Whether its size is zero.
    ///
    /// # Errors
    /// The device's own.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Fills `buffer` from `offset`. Returns fewer bytes only at the end of the file.
    ///
    /// # Errors
    /// The device's own.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes all of `bytes` at `offset`. After an error any part of them may be written.
    ///
    /// # Errors
    /// The device's own.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Makes everything written so far durable. After an error nothing is known, and a later success proves nothing.
    ///
    /// # Errors
    /// The device's own.
    fn sync_data(&self) -> io::Result<()>;
}

/// The lock of a device for one process; dropping it unlocks.
pub struct DeviceLock(#[allow(dead_code, reason = "held for its drop")] Box<dyn Send>);

impl DeviceLock {
    /// Wraps a guard that unlocks when it is dropped.
    #[must_use]
    pub fn new(guard: impl Send + 'static) -> Self {
        Self(Box::new(guard))
    }
}

impl fmt::Debug for DeviceLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DeviceLock")
    }
}

/// Whether the process or the system has no file descriptor left. That says nothing about the disk, and it passes when
/// others close theirs.
pub(super) fn lacks_descriptor(error: &io::Error) -> bool {
    use rustix::io::Errno;
    Errno::from_io_error(error).is_some_and(|errno| errno == Errno::MFILE || errno == Errno::NFILE)
}

/// Reads a file from `offset` to its end.
pub(super) fn read_to_end(file: &dyn DeviceFile, offset: u64) -> io::Result<Vec<u8>> {
    let bytes = usize::try_from(file.len()?.saturating_sub(offset)).map_err(io::Error::other)?;
    let mut buffer = vec![0; bytes];
    let read = file.read_at(&mut buffer, offset)?;
    buffer.truncate(read);
    Ok(buffer)
}

/// The end of a file's last byte from `offset` on that is not zero; `None` if there is none. Most of a segment is still
/// unused at a start, so it is not read into memory whole.
pub(super) fn used_end(file: &dyn DeviceFile, offset: u64) -> io::Result<Option<u64>> {
    let mut buffer = vec![0; STEP_BYTES];
    let (mut at, mut end) = (offset, None);
    loop {
        let read = file.read_at(&mut buffer, at)?;
        if read == 0 {
            return Ok(end);
        }
        if buffer[..read] != ZEROS[..read] {
            end = buffer[..read].iter().rposition(|byte| *byte != 0).map(|last| at + last as u64 + 1);
        }
        at += read as u64;
    }
}

/// Random numbers from a seed, for test devices: SplitMix64, the same on every machine and forever.
#[derive(Clone, Debug)]
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(super) fn below(&mut self, bound: usize) -> usize {
        (self.roll() % bound as u64) as usize
    }

    pub(super) fn coin(&mut self) -> bool {
        self.roll() & 1 == 1
    }
}

/// A disk writes or loses this many bytes as a whole.
const SECTOR_BYTES: usize = 512;

/// Splits a write at the sector borders of the file. Yields ranges within `bytes`.
fn sectors(offset: usize, bytes: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        (at < bytes).then(|| {
            let start = at;
            at = bytes.min(start + SECTOR_BYTES - (offset + start) % SECTOR_BYTES);
            start..at
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_is_cut_at_the_sector_borders_of_the_file() {
        assert_eq!(sectors(500, 600).collect::<Vec<_>>(), [0..12, 12..524, 524..600]);
        assert_eq!(sectors(0, 512).collect::<Vec<_>>(), vec![0..512]);
        assert_eq!(sectors(3, 0).count(), 0);
    }

    #[test]
    fn a_byte_after_the_offset_is_found_wherever_it_is() {
        let device = MemoryDevice::default();
        let bytes = 2 * STEP_BYTES as u64 + 9;
        let file = device.create("a", bytes).unwrap();
        let end = |offset| used_end(&*file, offset).unwrap();
        assert_eq!((end(0), end(bytes + 1)), (None, None));
        for at in [0, STEP_BYTES as u64 - 1, STEP_BYTES as u64, bytes - 1] {
            file.write_at(&[1], at).unwrap();
            assert_eq!((end(0), end(at), end(at + 1)), (Some(at + 1), Some(at + 1), None), "{at}");
            file.write_at(&[0], at).unwrap();
        }
    }
}
