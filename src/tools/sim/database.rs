//! The database of a simulated world: a SQLite file or tables in memory. It becomes unavailable, loses the answer to a
//! commit, and is restored from its last backup.

use crate::domain::{DropId, OrderId, OrderView};
use crate::storage::memory::{MemoryLedger, Tables};
use crate::storage::{
    self, Aside, DropRow, Ledger, ProjectionBatch, SetAside, SetAsideDrop, Store, StoreError, UnreadRecord, Watermark,
};
use async_trait::async_trait;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::runtime::Runtime;
use uuid::Uuid;

/// The storage of the rows.
enum Place {
    File { path: PathBuf, open: Option<Arc<dyn Store>>, _folder: Folder },
    Memory { ledger: Arc<MemoryLedger>, backup: Option<Tables> },
}

/// A story's directory, deleted with it: in memory if the system has such a file system.
struct Folder(PathBuf);

impl Folder {
    fn new() -> io::Result<Self> {
        let shared = Path::new("/dev/shm");
        let parent = if shared.is_dir() { shared.to_owned() } else { std::env::temp_dir() };
        let folder = parent.join(format!("livedrop-simulation-{}", Uuid::new_v4().simple()));
        std::fs::create_dir_all(&folder)?;
        Ok(Self(folder))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The rows, with a backup of them.
pub(super) struct Database {
    runtime: Arc<Runtime>,
    place: Place,
}

impl Database {
    /// An empty SQLite file in a directory of its own.
    pub fn in_a_file(runtime: Arc<Runtime>) -> io::Result<Self> {
        let folder = Folder::new()?;
        let path = folder.0.join("livedrop.db");
        Ok(Self { runtime, place: Place::File { path, open: None, _folder: folder } })
    }

    /// Empty tables in memory.
    pub fn in_memory(runtime: Arc<Runtime>) -> Self {
        Self { runtime, place: Place::Memory { ledger: Arc::default(), backup: None } }
    }

    /// Opens the database for a new process; it is available at first.
    pub fn open(&mut self) -> Result<Arc<FlakyLedger>, String> {
        let ledger: Arc<dyn Ledger> = match &mut self.place {
            Place::Memory { ledger, .. } => ledger.clone(),
            Place::File { path, open, .. } => {
                let url = format!("sqlite://{}", path.display());
                let store = self.runtime.block_on(async {
                    let store = storage::connect(&url).await.map_err(|error| error.to_string())?;
                    store.migrate().await.map_err(|error| error.to_string())?;
                    Ok::<_, String>(store)
                })?;
                open.insert(store).clone()
            }
        };
        Ok(Arc::new(FlakyLedger { ledger, away: AtomicBool::new(false), loses: AtomicBool::new(false) }))
    }

    /// Closes the database at the end of a process.
    pub fn close(&mut self) {
        if let Place::File { open, .. } = &mut self.place
            && let Some(store) = open.take()
        {
            self.runtime.block_on(store.close());
        }
    }

    /// Makes a backup, while it is closed.
    pub fn back_up(&mut self) -> Result<(), String> {
        match &mut self.place {
            Place::Memory { ledger, backup } => *backup = Some(ledger.backup()),
            Place::File { path, .. } => {
                std::fs::copy(&*path, path.with_extension("backup")).map_err(|error| error.to_string())?;
            }
        }
        Ok(())
    }

    /// Restores the backup. Returns whether it did: there may be none, and a file must be closed.
    pub fn restore(&mut self) -> Result<bool, String> {
        match &mut self.place {
            Place::Memory { ledger, backup } => {
                backup.iter().for_each(|tables| ledger.restore(tables.clone()));
                Ok(backup.is_some())
            }
            Place::File { open: Some(_), .. } => Ok(false),
            Place::File { path, .. } => match std::fs::copy(path.with_extension("backup"), path) {
                Ok(_) => Ok(true),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
                Err(error) => Err(error.to_string()),
            },
        }
    }
}

/// A ledger that becomes unavailable on demand.
pub(super) struct FlakyLedger {
    ledger: Arc<dyn Ledger>,
    away: AtomicBool,
    loses: AtomicBool,
}

impl FlakyLedger {
    /// Whether it is unavailable now.
    pub fn is_away(&self) -> bool {
        self.away.load(Ordering::Relaxed)
    }

    /// Makes it unavailable, or available again.
    pub fn set_away(&self, away: bool) {
        self.away.store(away, Ordering::Relaxed);
    }

    /// Makes the next commit succeed without an answer.
    pub fn lose_an_answer(&self) {
        self.loses.store(true, Ordering::Relaxed);
    }

    fn there(&self) -> Result<&dyn Ledger, StoreError> {
        if self.is_away() { Err(silence()) } else { Ok(&*self.ledger) }
    }
}

fn silence() -> StoreError {
    StoreError::unavailable(std::io::ErrorKind::TimedOut, "the database is silent")
}

#[async_trait]
impl Ledger for FlakyLedger {
    async fn watermark(&self, journal: Uuid) -> Result<Option<Watermark>, StoreError> {
        self.there()?.watermark(journal).await
    }

    async fn project_around(&self, batch: &ProjectionBatch, aside: &Aside) -> Result<(), StoreError> {
        self.there()?.project_around(batch, aside).await?;
        if self.loses.swap(false, Ordering::Relaxed) { Err(silence()) } else { Ok(()) }
    }

    async fn set_aside_unread(&self, journal: Uuid, epoch: u32, record: &UnreadRecord) -> Result<(), StoreError> {
        self.there()?.set_aside_unread(journal, epoch, record).await
    }

    async fn set_aside_drops(&self, journal: Uuid) -> Result<Vec<SetAsideDrop>, StoreError> {
        self.there()?.set_aside_drops(journal).await
    }

    async fn set_aside(
        &self,
        journal: Uuid,
        drop: DropId,
        after: u64,
        limit: u32,
    ) -> Result<Vec<SetAside>, StoreError> {
        self.there()?.set_aside(journal, drop, after, limit).await
    }

    async fn apply_set_aside(&self, journal: Uuid, epoch: u32, records: &[SetAside]) -> Result<(), StoreError> {
        self.there()?.apply_set_aside(journal, epoch, records).await
    }

    async fn drop_row(&self, id: DropId) -> Result<Option<DropRow>, StoreError> {
        self.there()?.drop_row(id).await
    }

    async fn unsettled_drops(&self) -> Result<Vec<DropRow>, StoreError> {
        self.there()?.unsettled_drops().await
    }

    async fn drop_orders(
        &self,
        drop: DropId,
        after: Option<OrderId>,
        limit: u32,
    ) -> Result<Vec<OrderView>, StoreError> {
        self.there()?.drop_orders(drop, after, limit).await
    }
}
