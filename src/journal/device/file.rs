//! The real device: a directory of the file system.

use super::{Device, DeviceFile, DeviceLock};
use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

const LOCK_FILE: &str = "LOCK";
/// Orders and idempotency keys are nobody else's business on the machine.
const FILE_MODE: u32 = 0o600;
const DIRECTORY_MODE: u32 = 0o700;
const ZEROS_BYTES: usize = 256 << 10;
/// New files are synced in steps, so that preparing a segment never floods the disk under the writer's own syncs.
const SYNC_EVERY_BYTES: u64 = 4 << 20;

/// Files in a directory.
#[derive(Clone, Debug)]
pub struct FileDevice {
    directory: PathBuf,
}

impl FileDevice {
    /// Uses `directory`, which is made if it is not there. Its name in the parent directory is made durable too.
    ///
    /// # Errors
    /// Those of making a directory.
    pub fn new(directory: impl Into<PathBuf>) -> io::Result<Self> {
        let directory = directory.into();
        if !directory.is_dir() {
            let parent = directory.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
            fs::create_dir_all(parent)?;
            fs::DirBuilder::new().mode(DIRECTORY_MODE).create(&directory)?;
            File::open(parent)?.sync_all()?;
        }
        Ok(Self { directory })
    }

    /// Uses `directory` as it is: for a look that must not change anything.
    ///
    /// # Errors
    /// `NotFound` when it is not there.
    pub fn existing(directory: impl Into<PathBuf>) -> io::Result<Self> {
        let directory = directory.into();
        fs::read_dir(&directory)?;
        Ok(Self { directory })
    }

    /// Whether a process has taken it for itself. Changes nothing.
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
        // Never truncated and never removed: the lock is on the open file, its contents do not matter.
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
        Ok(Box::new(OpenOptions::new().read(true).write(true).open(self.path(name))?))
    }

    fn open_read_only(&self, name: &str) -> io::Result<Box<dyn DeviceFile>> {
        Ok(Box::new(File::open(self.path(name))?))
    }

    fn create(&self, name: &str, bytes: u64) -> io::Result<Box<dyn DeviceFile>> {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create_new(true).mode(FILE_MODE).open(self.path(name))?;
        if bytes > 0 {
            reserve(&file, bytes)?;
        }
        // Reserved blocks count as unwritten: real zeros spare the first write into each of them a metadata update.
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
        File::open(&self.directory)?.sync_all()
    }

    fn describe(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }
}

/// Asks for the space first, so that a full disk says so before anything is written.
fn reserve(file: &File, bytes: u64) -> io::Result<()> {
    use rustix::{fs::FallocateFlags, io::Errno};
    match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, bytes) {
        // Not every file system can; the zeros do the same, only later.
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
