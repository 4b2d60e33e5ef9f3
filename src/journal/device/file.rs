//! The real device: a directory of the file system.
//!
//! Everything that a rotation needs is open beforehand: the directory itself, and a few spare descriptors that are
//! closed to open a file when the process or the system has no other left. So a crowd that takes every descriptor does
//! not stop the journal.

use super::{Device, DeviceFile, DeviceLock, lacks_descriptor};
use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

const LOCK_FILE: &str = "LOCK";
/// No other user of the machine may read orders and idempotency keys.
const FILE_MODE: u32 = 0o600;
const DIRECTORY_MODE: u32 = 0o700;
const ZEROS_BYTES: usize = 256 << 10;
/// New files are synced in steps, so that preparing a segment never delays the writer's own syncs for long.
const SYNC_EVERY_BYTES: u64 = 4 << 20;
/// Spare descriptors: for the next segment, for `journal.meta`, and one for each reader of the journal.
const SPARES: usize = 8;

/// A directory of the file system.
#[derive(Clone, Debug)]
pub struct FileDevice {
    directory: PathBuf,
    open: Arc<Open>,
}

/// The handles that stay open while the device is in use.
#[derive(Debug)]
struct Open {
    directory: File,
    /// Duplicates of the directory's handle, kept only to be closed.
    spares: Mutex<Vec<File>>,
}

impl Open {
    fn new(directory: &Path) -> io::Result<Arc<Self>> {
        let open = Self { directory: File::open(directory)?, spares: Mutex::default() };
        open.refill();
        Ok(Arc::new(open))
    }

    fn spares(&self) -> MutexGuard<'_, Vec<File>> {
        self.spares.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens the missing spares, as far as descriptors are available.
    fn refill(&self) {
        let mut spares = self.spares();
        while spares.len() < SPARES
            && let Ok(spare) = self.directory.try_clone()
        {
            spares.push(spare);
        }
    }

    /// Opens a file; if no descriptor is left, closes a spare and tries again. Another thread may take the freed
    /// descriptor first, so each spare is tried.
    fn with_spares<T>(&self, mut open: impl FnMut() -> io::Result<T>) -> io::Result<T> {
        loop {
            match open() {
                Err(error) if lacks_descriptor(&error) => {
                    let spare = self.spares().pop();
                    if spare.is_none() {
                        return Err(error);
                    }
                }
                opened => {
                    self.refill();
                    return opened;
                }
            }
        }
    }
}

impl FileDevice {
    /// Uses `directory`, and creates it if it is missing. Its name in the parent directory is made durable too.
    ///
    /// # Errors
    /// Those of creating a directory.
    pub fn new(directory: impl Into<PathBuf>) -> io::Result<Self> {
        let directory = directory.into();
        if !directory.is_dir() {
            let parent = directory.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
            fs::create_dir_all(parent)?;
            fs::DirBuilder::new().mode(DIRECTORY_MODE).create(&directory)?;
            File::open(parent)?.sync_all()?;
        }
        Ok(Self { open: Open::new(&directory)?, directory })
    }

    /// Uses an existing directory, for readers that must not change anything.
    ///
    /// # Errors
    /// `NotFound` if it is missing.
    pub fn existing(directory: impl Into<PathBuf>) -> io::Result<Self> {
        let directory = directory.into();
        fs::read_dir(&directory)?;
        Ok(Self { open: Open::new(&directory)?, directory })
    }

    /// Whether a process has locked the directory. Changes nothing.
    ///
    /// # Errors
    /// Those of opening and locking a file.
    pub fn is_locked(&self) -> io::Result<bool> {
        let file = match File::open(self.path(LOCK_FILE)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        match file.try_lock_shared() {
            Ok(()) => Ok(false),
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }
}

impl Device for FileDevice {
    fn lock(&self) -> io::Result<DeviceLock> {
        // Never truncated and never removed: the lock belongs to the open file, and its contents do not matter.
        let mut options = OpenOptions::new();
        let file = options.create(true).truncate(false).write(true).mode(FILE_MODE).open(self.path(LOCK_FILE))?;
        file.try_lock()?;
        Ok(DeviceLock::new(file))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let names = fs::read_dir(&self.directory)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        names.collect()
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn DeviceFile>> {
        let path = self.path(name);
        Ok(Box::new(self.open.with_spares(|| OpenOptions::new().read(true).write(true).open(&path))?))
    }

    fn open_read_only(&self, name: &str) -> io::Result<Box<dyn DeviceFile>> {
        let path = self.path(name);
        Ok(Box::new(self.open.with_spares(|| File::open(&path))?))
    }

    fn create(&self, name: &str, bytes: u64) -> io::Result<Box<dyn DeviceFile>> {
        let path = self.path(name);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(FILE_MODE);
        let file = self.open.with_spares(|| options.open(&path))?;
        if bytes > 0 {
            reserve(&file, bytes)?;
        }
        // Reserved blocks count as unwritten: real zeros avoid a metadata update on the first write into each of them.
        let zeros = vec![0; ZEROS_BYTES];
        let mut at = 0;
        while at < bytes {
            let step = (bytes - at).min(ZEROS_BYTES as u64);
            FileExt::write_all_at(&file, &zeros[..step as usize], at)?;
            at += step;
            if at.is_multiple_of(SYNC_EVERY_BYTES) {
                File::sync_data(&file)?;
            }
        }
        file.sync_all()?;
        Ok(Box::new(file))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path(from), self.path(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path(name))
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.open.directory.sync_all()
    }

    fn describe(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }
}

/// Reserves the space first, so that a full disk fails before anything is written.
fn reserve(file: &File, bytes: u64) -> io::Result<()> {
    use rustix::{fs::FallocateFlags, io::Errno};
    match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, bytes) {
        // Some file systems cannot; writing the zeros then reserves it, only later.
        Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

impl DeviceFile for File {
    fn len(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut read = 0;
        while read < buffer.len() {
            match FileExt::read_at(self, &mut buffer[read..], offset + read as u64) {
                Ok(0) => break,
                Ok(bytes) => read += bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(read)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        Self::sync_data(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_made_of_zeros_written_renamed_and_read_back() {
        let directory = tempfile::tempdir().unwrap();
        let device = FileDevice::new(directory.path().join("journal")).unwrap();
        let file = device.create("a.tmp", 1000).unwrap();
        file.write_at(b"hello", 990).unwrap();
        file.sync_data().unwrap();
        device.rename("a.tmp", "a").unwrap();
        device.sync_directory().unwrap();
        let file = device.open_read_only("a").unwrap();
        let mut buffer = [1; 20];
        assert_eq!(file.read_at(&mut buffer, 985).unwrap(), 15);
        assert_eq!(&buffer[..15], b"\0\0\0\0\0hello\0\0\0\0\0");
        assert_eq!((file.len().unwrap(), device.list().unwrap()), (1000, vec!["a".to_owned()]));
        assert_eq!(device.create("a", 1).err().unwrap().kind(), io::ErrorKind::AlreadyExists);
        device.remove("a").unwrap();
        assert!(device.list().unwrap().is_empty());
    }

    #[test]
    fn what_it_makes_is_its_owners_alone() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let device = FileDevice::new(directory.path().join("journal")).unwrap();
        let _held = device.lock().unwrap();
        device.create("a", 1).unwrap();
        let mode = |name: &str| fs::metadata(device.path(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!([mode(""), mode(LOCK_FILE), mode("a")], [0o700, 0o600, 0o600]);
    }

    #[test]
    fn a_file_takes_the_place_of_a_spare_where_no_descriptor_is_left() {
        let directory = tempfile::tempdir().unwrap();
        let device = FileDevice::new(directory.path()).unwrap();
        let spares = || device.open.spares().len();
        assert_eq!(spares(), SPARES);
        let mut left = None;
        let mut fails = 3;
        let opened = device.open.with_spares(|| {
            if fails == 0 {
                left = Some(spares());
                return Ok(7);
            }
            fails -= 1;
            Err(io::Error::from_raw_os_error(if fails == 1 { 23 } else { 24 }))
        });
        assert_eq!((opened.unwrap(), left), (7, Some(SPARES - 3)));
        assert_eq!(spares(), SPARES, "there were descriptors again");
        let none = device.open.with_spares(|| Err::<(), _>(io::Error::from_raw_os_error(24)));
        assert!(lacks_descriptor(&none.unwrap_err()) && spares() == 0, "all of them were tried");
        device.create("a", 0).unwrap();
        assert_eq!(spares(), SPARES);
        assert_eq!(device.open("b").err().unwrap().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_directory_has_one_holder() {
        let directory = tempfile::tempdir().unwrap();
        let device = FileDevice::new(directory.path()).unwrap();
        assert!(!device.is_locked().unwrap(), "nobody ever has");
        let held = device.lock().unwrap();
        assert!(device.is_locked().unwrap());
        assert_eq!(device.clone().lock().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(held);
        device.lock().unwrap();
    }
}
