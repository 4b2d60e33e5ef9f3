//! Writes the drops in memory to files, round after round.
//!
//! A drop's actor is asked for a thousand rows at a time, between two batches of commands. What it hands out is true at the moment at which the copy
//! began, and a barrier in the journal's queue tells which record that is: see [`crate::engine::checkpoint`]. Reading, checksums and the disk are
//! this task's, not the actor's.
//!
//! How much is written is bounded. A drop to which nothing happened is not written again; one that changes is, once a quarter of its orders' worth of
//! changes has come together, or after a time that grows with its file.

use super::file::{Encoder, Header};
use super::loading::delete_others;
use super::manifest::{Entry, Manifest};
use super::metrics::CheckpointMetrics;
use super::{MANIFEST, Origin, SavedDrop, path_of};
use crate::actors::clock::Clock;
use crate::actors::inventory::messages::{BeginCopy, CopyAnswer};
use crate::actors::inventory::registry::{DropHandle, Registry};
use crate::actors::inventory::snapshot::{Answer, AskError, DropSnapshot};
use crate::domain::limits::{
    CHECKPOINT_BYTES_PER_SECOND, CHECKPOINT_COPY_ROWS, CHECKPOINT_FREE_BYTES_MIN, CHECKPOINT_RECORDS_MAX,
};
use crate::domain::{DropId, Timestamp};
use crate::engine::checkpoint::{CopyStart, ROW_BYTES_MIN};
use crate::journal::{JournalReader, Space};
use crate::whole_file::{self, Draft, on_disk};
use std::collections::{HashMap, HashSet};
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};
use tracing::{debug, info, warn};

/// Under which the journal keeps the records after the oldest position.
const CONSUMER: &str = "checkpoint";
/// How often it is looked whether a round is due.
const LOOK: Duration = Duration::from_secs(1);
/// Bytes that go to the disk together.
const BLOCK_BYTES: usize = 1 << 20;
/// Blocks after which the disk is waited for: it never has much of it to do while an order waits for its own sync.
const BLOCKS_PER_FLUSH: u32 = 4;
/// Bytes of a file for each of which a drop that changes may wait an interval longer.
const BYTES_PER_INTERVAL: u64 = 32 << 20;
/// Bytes that a row with its optional parts has, about.
const ROW_BYTES_ABOUT: u64 = ROW_BYTES_MIN as u64 + 40;

/// Why a round was not completed. The next one tries again.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointFailure {
    /// The journal or a drop takes nothing now.
    #[error("{0}")]
    Ask(#[from] AskError),
    /// The disk.
    #[error("{0}")]
    Disk(#[from] io::Error),
    /// The rest of the disk is left to the journal and the database.
    #[error("{free} bytes are free on the disk, and {needed} would have to be")]
    NoSpace {
        /// Free bytes.
        free: u64,
        /// What is needed.
        needed: u64,
    },
    /// Too much changed while a large drop was copied, or it left memory.
    #[error("the copy was given up: the drop changed too much meanwhile")]
    GivenUp,
}

/// What is kept of a drop's file.
struct Kept {
    saved: SavedDrop,
    /// When it was written, by the steady clock.
    at: Timestamp,
    /// The drop in memory whose changes `saved` counts. One that left memory and came back counts from the beginning.
    of: Weak<DropHandle>,
}

/// See the module.
pub struct Checkpointer {
    folder: PathBuf,
    origin: Origin,
    registry: Registry,
    journal: JournalReader,
    clock: Clock,
    interval: Duration,
    metrics: CheckpointMetrics,
    kept: HashMap<DropId, Kept>,
    /// The durable record at the last round, if there was one.
    position: Option<u64>,
    /// Whether drops have changed since their files were written.
    is_behind: bool,
    reported: String,
}

/// What a round did with a drop.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Saved {
    Current,
    Later,
}

impl Checkpointer {
    /// Writes the registry's drops into `folder`, a round each `interval` at least while something changes. `saved`: the files that the start has used.
    #[must_use]
    pub fn new(
        folder: PathBuf,
        registry: Registry,
        journal: JournalReader,
        clock: Clock,
        interval: Duration,
        (saved, metrics): (HashMap<DropId, SavedDrop>, CheckpointMetrics),
    ) -> Self {
        let at = clock.steady();
        let origin = Origin { journal: journal.journal_id(), epoch: journal.epoch() };
        if let Some(oldest) = saved.values().map(|saved| saved.position).min() {
            journal.register_lagging(CONSUMER, oldest);
        }
        let of = |drop: DropId| registry.get(drop).map(|handle| Arc::downgrade(&handle)).unwrap_or_default();
        let kept = saved.into_iter().map(|(drop, saved)| (drop, Kept { saved, at, of: of(drop) })).collect();
        let (position, is_behind, reported) = (None, false, String::new());
        Self { folder, origin, registry, journal, clock, interval, metrics, kept, position, is_behind, reported }
    }

    /// Runs until the task is dropped.
    pub async fn run(&mut self) {
        let mut last = Instant::now();
        loop {
            sleep(LOOK).await;
            let records = self.journal.durable().saturating_sub(self.position.unwrap_or(0));
            if last.elapsed() < self.interval && (self.position.is_none() || records < CHECKPOINT_RECORDS_MAX) {
                continue;
            }
            // What is left of the disk is for confirms, releases and the journal.
            if self.journal.space() == Space::Full || self.journal.is_stopped() {
                continue;
            }
            last = Instant::now();
            match self.round().await {
                Ok(()) => self.reported.clear(),
                Err(CheckpointFailure::Ask(error)) => debug!(%error, "no checkpoint now"),
                Err(failure) => self.tell(&failure),
            }
        }
    }

    /// Once for each reason: a full disk stays full for a while.
    fn tell(&mut self, failure: &CheckpointFailure) {
        self.metrics.failures.inc();
        let reason = failure.to_string();
        if reason != self.reported {
            warn!(folder = %self.folder.display(), %reason, "the checkpoint could not be completed; a start would take longer. Trying again");
            self.reported = reason;
        }
    }

    /// Writes what has changed, then the manifest, and deletes the files of drops that left memory.
    ///
    /// # Errors
    /// [`CheckpointFailure`]. What is on the disk is then still consistent, and as old as it was.
    pub async fn round(&mut self) -> Result<(), CheckpointFailure> {
        let began = Instant::now();
        let (position, published) = self.registry.snapshot().await?;
        if self.position == Some(position) && !self.is_behind {
            self.metrics.is_current();
            return Ok(());
        }
        if self.journal.cursor_position(CONSUMER).is_none() {
            self.journal.register_lagging(CONSUMER, position);
        }
        make_folder(&self.folder)?;
        if !self.folder.join(MANIFEST).exists() {
            // From now on files without a manifest are an accident.
            self.write_manifest(0, false).await?;
        }
        let (mut failure, mut written, mut is_behind) = (None, 0_u64, false);
        for drop in &published {
            let before = self.metrics.written_bytes.get();
            match self.save(drop, position).await {
                Ok(saved) => is_behind |= saved == Saved::Later,
                Err(error) => {
                    is_behind = true;
                    let is_last = !matches!(error, CheckpointFailure::GivenUp);
                    failure = failure.or(Some(error));
                    if is_last {
                        break;
                    }
                }
            }
            written += self.metrics.written_bytes.get() - before;
        }
        // Without those that left memory meanwhile: SQL has all of them.
        let present = published.iter().map(|drop| drop.spec.id).filter(|drop| self.registry.get(*drop).is_some());
        let present: HashSet<DropId> = present.collect();
        self.kept.retain(|drop, _| present.contains(drop));
        let is_complete = present.iter().all(|drop| self.kept.contains_key(drop));
        self.write_manifest(position, is_complete).await?;
        self.forget_the_others().await?;
        let oldest = self.kept.values().map(|kept| kept.saved.position).min().unwrap_or(position);
        self.journal.advance_cursor(CONSUMER, oldest);
        (self.position, self.is_behind) = (Some(position), is_behind);
        if let Some(failure) = failure {
            return Err(failure);
        }
        self.metrics.seconds.set(began.elapsed().as_secs_f64());
        self.metrics.is_current();
        if written > 0 {
            let (drops, took_ms) = (self.kept.len(), began.elapsed().as_millis());
            info!(position, drops, written_bytes = written, took_ms, "checkpoint written");
        }
        Ok(())
    }

    /// Writes a drop, unless its file is good enough. `position`: nothing of it is durable before this that is not published.
    async fn save(&mut self, drop: &DropSnapshot, position: u64) -> Result<Saved, CheckpointFailure> {
        let id = drop.spec.id;
        if let Some(Kept { saved, .. }) = self.kept.get_mut(&id)
            && drop.position <= saved.position
        {
            saved.position = saved.position.max(position);
            return Ok(Saved::Current);
        }
        // It left memory a moment ago: the next round does without.
        let Some(handle) = self.registry.get(id) else { return Ok(Saved::Later) };
        let (reply, behind) = oneshot::channel();
        let (saved, is_overdue) = match self.kept.get(&id) {
            Some(kept) if kept.of.as_ptr() == Arc::as_ptr(&handle) => (Some(kept.saved.changes), self.is_overdue(kept)),
            _ => (None, true),
        };
        match handle.begin_copy(BeginCopy { saved, is_overdue, behind: reply }).await {
            CopyAnswer::Begun(start) => {
                let written = self.write(&handle, &start, behind).await;
                if written.is_err() {
                    handle.end_copy().await;
                }
                let saved = written?;
                let of = Arc::downgrade(&handle);
                self.kept.insert(id, Kept { saved, at: self.clock.steady(), of });
                Ok(Saved::Current)
            }
            CopyAnswer::Unchanged => {
                if let Some(Kept { saved, .. }) = self.kept.get_mut(&id) {
                    saved.position = saved.position.max(position);
                }
                Ok(Saved::Current)
            }
            CopyAnswer::TooFew | CopyAnswer::NotNow => Ok(Saved::Later),
        }
    }

    fn is_overdue(&self, Kept { saved, at, .. }: &Kept) -> bool {
        let intervals = 1 + saved.bytes / BYTES_PER_INTERVAL;
        let patience = self.interval.as_millis().saturating_mul(intervals.into());
        let age = u128::try_from(self.clock.steady().millis_since(*at)).unwrap_or(0);
        // Rounds are an interval apart, and begin a moment earlier or later.
        age.saturating_mul(10) >= patience.saturating_mul(9) || saved.position + 1 < self.journal.oldest()
    }

    async fn write(
        &self,
        handle: &DropHandle,
        start: &CopyStart,
        behind: oneshot::Receiver<Result<Answer, AskError>>,
    ) -> Result<SavedDrop, CheckpointFailure> {
        self.require_space(u64::from(start.orders) * ROW_BYTES_ABOUT)?;
        let position = behind.await.unwrap_or(Err(AskError::OutcomeUnknown))?.sequence;
        let drop = handle.spec.id;
        let (origin, written_at) = (self.origin, self.clock.now());
        let header = Header { origin, drop, position, written_at, orders: start.orders };
        let mut file = Blocks::begin(path_of(&self.folder, drop)).await?;
        let mut encoder = Encoder::begin(&header, &mut file.block);
        encoder.chunk(&start.image, 0, &mut file.block);
        loop {
            let rows = handle.copy_rows(CHECKPOINT_COPY_ROWS).await.ok_or(CheckpointFailure::GivenUp)?;
            if rows.count > 0 {
                encoder.chunk(&rows.bytes, rows.count, &mut file.block);
            }
            if rows.is_last {
                break;
            }
            if file.block.len() >= BLOCK_BYTES {
                file.hand_over().await?;
            }
        }
        encoder.end(&mut file.block);
        let bytes = file.finish().await?;
        self.metrics.written_bytes.inc_by(bytes);
        Ok(SavedDrop { file_position: position, position, changes: start.changes, bytes })
    }

    fn require_space(&self, bytes: u64) -> Result<(), CheckpointFailure> {
        let free = free_bytes(&self.folder)?;
        let needed = bytes + CHECKPOINT_FREE_BYTES_MIN;
        if free < needed { Err(CheckpointFailure::NoSpace { free, needed }) } else { Ok(()) }
    }

    async fn write_manifest(&self, position: u64, is_complete: bool) -> io::Result<()> {
        let entry = |(drop, kept): (&DropId, &Kept)| Entry {
            drop: *drop,
            file_position: kept.saved.file_position,
            position: kept.saved.position,
        };
        let entries: Vec<Entry> = self.kept.iter().map(entry).collect();
        self.metrics.drops.set(i64::try_from(entries.len()).unwrap_or(i64::MAX));
        let bytes: u64 = self.kept.values().map(|kept| kept.saved.bytes).sum();
        self.metrics.bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        let bytes = Manifest { origin: self.origin, position, is_complete, entries }.encode();
        let path = self.folder.join(MANIFEST);
        failpoint!("checkpoint.before_manifest", error);
        on_disk(move || whole_file::replace(&path, &bytes)).await?;
        failpoint!("checkpoint.after_manifest", error);
        Ok(())
    }

    /// Deletes files that the manifest does not name.
    async fn forget_the_others(&self) -> io::Result<()> {
        let stay: HashSet<DropId> = self.kept.keys().copied().collect();
        let folder = self.folder.clone();
        on_disk(move || delete_others(&folder, |drop| stay.contains(&drop))).await.map(|_| ())
    }
}

fn make_folder(folder: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

fn free_bytes(folder: &Path) -> io::Result<u64> {
    let disk = rustix::fs::statvfs(folder)?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// A file that is written block by block, at a bounded speed.
struct Blocks {
    draft: Draft,
    /// What was not handed to the disk yet.
    block: Vec<u8>,
    written: u64,
    blocks: u32,
    began: Instant,
}

impl Blocks {
    async fn begin(path: PathBuf) -> io::Result<Self> {
        failpoint!("checkpoint.before_file", error);
        let draft = on_disk(move || Draft::create(&path)).await?;
        let block = Vec::with_capacity(BLOCK_BYTES + (256 << 10));
        Ok(Self { draft, block, written: 0, blocks: 0, began: Instant::now() })
    }

    async fn hand_over(&mut self) -> io::Result<()> {
        failpoint!("checkpoint.before_write", error);
        self.blocks += 1;
        self.written += self.block.len() as u64;
        let (mut file, block, flush) =
            (self.draft.shared()?, std::mem::take(&mut self.block), self.blocks.is_multiple_of(BLOCKS_PER_FLUSH));
        self.block = on_disk(move || {
            io::Write::write_all(&mut file, &block)?;
            if flush {
                file.sync_data()?;
            }
            Ok(block)
        })
        .await?;
        self.block.clear();
        failpoint!("checkpoint.after_write", error);
        let due = Duration::from_secs_f64(self.written as f64 / CHECKPOINT_BYTES_PER_SECOND as f64);
        if let Some(early) = due.checked_sub(self.began.elapsed()) {
            sleep(early).await;
        }
        Ok(())
    }

    async fn finish(mut self) -> io::Result<u64> {
        self.hand_over().await?;
        let (draft, written) = (self.draft, self.written);
        failpoint!("checkpoint.before_commit", error);
        on_disk(move || draft.commit()).await?;
        failpoint!("checkpoint.after_commit", error);
        Ok(written)
    }
}

#[cfg(test)]
mod tests;
