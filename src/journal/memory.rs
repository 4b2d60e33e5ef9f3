//! A device in memory that knows what was synced, for tests and simulations.

use super::device::{Device, DeviceFile};
use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// What a disk writes as one piece.
pub const SECTOR: usize = 512;

/// Files in memory. Clones share them.
#[derive(Clone, Default)]
pub struct MemoryDevice {
    files: Arc<Mutex<Names>>,
}

#[derive(Default)]
struct Names {
    now: BTreeMap<String, Arc<MemoryFile>>,
    synced: BTreeMap<String, Arc<MemoryFile>>,
}

#[derive(Default)]
struct MemoryFile(Mutex<Contents>);

#[derive(Default)]
struct Contents {
    now: Vec<u8>,
    synced: Vec<u8>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn not_found(name: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, name.to_owned())
}

impl MemoryDevice {
    /// What a power cut leaves: names and contents as of their last sync, and of the sectors written since, those for
    /// which `survives` says so.
    #[must_use]
    pub fn after_power_loss(&self, mut survives: impl FnMut() -> bool) -> Self {
        let files = lock(&self.files);
        let image = files.synced.iter().map(|(name, file)| {
            let contents = lock(&file.0);
            let mut bytes = contents.synced.clone();
            for start in (0..bytes.len()).step_by(SECTOR) {
                let end = (start + SECTOR).min(bytes.len());
                let changed = contents.now.get(start..end).filter(|sector| **sector != bytes[start..end]);
                if let Some(sector) = changed.filter(|_| survives()) {
                    bytes[start..end].copy_from_slice(sector);
                }
            }
            (name.clone(), bytes)
        });
        Self::from_image(image)
    }

    /// What a crash of the process leaves: everything that was written.
    #[must_use]
    pub fn after_process_crash(&self) -> Self {
        Self::from_image(self.image())
    }

    /// All files as they are now.
    #[must_use]
    pub fn image(&self) -> Vec<(String, Vec<u8>)> {
        let files = lock(&self.files);
        files.now.iter().map(|(name, file)| (name.clone(), lock(&file.0).now.clone())).collect()
    }

    /// A device that holds these files, all of it synced.
    pub fn from_image(files: impl IntoIterator<Item = (String, Vec<u8>)>) -> Self {
        let names: BTreeMap<_, _> = files
            .into_iter()
            .map(|(name, bytes)| {
                let contents = Contents { now: bytes.clone(), synced: bytes };
                (name, Arc::new(MemoryFile(Mutex::new(contents))))
            })
            .collect();
        Self { files: Arc::new(Mutex::new(Names { now: names.clone(), synced: names })) }
    }
}

impl Device for MemoryDevice {
    fn lock(&self) -> io::Result<()> {
        Ok(())
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(lock(&self.files).now.keys().cloned().collect())
    }

    fn create(&self, name: &str, len: usize) -> io::Result<Arc<dyn DeviceFile>> {
        let contents = Contents { now: vec![0; len], synced: vec![0; len] };
        let file = Arc::new(MemoryFile(Mutex::new(contents)));
        lock(&self.files).now.insert(name.to_owned(), Arc::clone(&file));
        Ok(file)
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DeviceFile>> {
        let file = lock(&self.files).now.get(name).cloned().ok_or_else(|| not_found(name))?;
        Ok(file)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut files = lock(&self.files);
        let file = files.now.remove(from).ok_or_else(|| not_found(from))?;
        files.now.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        lock(&self.files).now.remove(name).map(|_| ()).ok_or_else(|| not_found(name))
    }

    fn sync_dir(&self) -> io::Result<()> {
        let mut files = lock(&self.files);
        files.synced = files.now.clone();
        Ok(())
    }
}

impl DeviceFile for MemoryFile {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut contents = lock(&self.0);
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        let target = contents.now.get_mut(start..start + bytes.len());
        target.ok_or_else(|| io::Error::other("a write past the end of the file"))?.copy_from_slice(bytes);
        Ok(())
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let contents = lock(&self.0);
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        let source = contents.now.get(start..start + buffer.len());
        buffer.copy_from_slice(source.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut contents = lock(&self.0);
        contents.synced = contents.now.clone();
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(lock(&self.0).now.len() as u64)
    }
}
