//! The journal for the rest of the program: the journal itself, handles to append with, and readers.

use super::cursor::Cursor;
use super::device::{Device, DeviceLock, FileDevice};
use super::durability::Durability;
use super::error::{JournalError, RecoveryError};
use super::frame::FRAME_HEADER_BYTES;
use super::records::Records;
use super::recovery::{CutTail, Finding, Survey, survey};
use super::repair::{Ready, prepare};
use super::retention::{Hold, LagBounds};
use super::segment::{SEGMENT_BYTES_MIN, SEGMENT_HEADER_BYTES};
use super::shared::{Held, Shared, Start};
use super::writer::{Completion, Entry, Message, Writer};
use crate::domain::limits::{
    JOURNAL_FRAME_BYTES_MAX, JOURNAL_QUEUE_ENTRIES_MAX, JOURNAL_SEGMENT_BYTES, JOURNAL_TAIL_BYTES_MAX,
    LAG_BYTES_DEFAULT, LAG_DEFAULT,
};
use crate::journal::metrics::JournalMetrics;
use crate::journal::segment_manager::Space;
use crossbeam::channel::{Sender, unbounded};
use std::{io, ops::Deref, path::PathBuf, sync::Arc, thread, time::Instant};
use tokio::sync::watch;
use uuid::Uuid;

/// A segment's size is a multiple of this.
const SEGMENT_STEP_BYTES: usize = 8;

/// Options of a journal.
#[derive(Clone, Debug)]
pub struct JournalOptions {
    /// Directory of the files for [`Journal::open_directory`]; other devices ignore it.
    pub dir: PathBuf,
    /// When a reply may be sent.
    pub durability: Durability,
    /// Size of new segments; existing ones keep theirs.
    pub segment_bytes: usize,
    /// Bytes of recent frames kept in memory for consumers.
    pub tail_bytes: usize,
    /// Decisions in the queue at the same time; past it there are no permits.
    pub queue_entries: usize,
    /// Bounds on what is kept for consumers that lag.
    pub lag_bounds: LagBounds,
}

impl JournalOptions {
    /// Small segments, for a device in memory.
    #[cfg(test)]
    pub fn in_memory() -> Self {
        Self { segment_bytes: 1 << 20, tail_bytes: 1 << 20, queue_entries: 1_024, ..Self::new("unused") }
    }

    /// The defaults of [`crate::domain::limits`]; every answer is durable.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            durability: Durability::Always,
            segment_bytes: JOURNAL_SEGMENT_BYTES,
            tail_bytes: JOURNAL_TAIL_BYTES_MAX,
            queue_entries: JOURNAL_QUEUE_ENTRIES_MAX,
            lag_bounds: LagBounds { bytes: LAG_BYTES_DEFAULT, age: LAG_DEFAULT },
        }
    }
}

/// The state that was found when the journal was opened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recovered {
    /// The database stores its watermark under this id.
    pub journal_id: Uuid,
    /// The number of this opening, from 1.
    pub epoch: u32,
    /// The oldest kept record; one more than the last if there is none.
    pub first_sequence: u64,
    /// The last record; 0 if there never was one.
    pub last_sequence: u64,
    /// The torn tail that was cut off.
    pub cut: Option<CutTail>,
    /// Everything that was repaired, the cut included.
    pub findings: Vec<Finding>,
    /// Number of segment files.
    pub segments: usize,
    /// Duration of the opening.
    pub elapsed_ms: u64,
}

/// An open journal. Dropping it closes it too, but hides a failure to close.
pub struct Journal<C: Completion> {
    handle: JournalHandle<C>,
    writer: Option<thread::JoinHandle<Result<(), JournalError>>>,
    segment_manager: Option<thread::JoinHandle<()>>,
    // Last field: it unlocks only after the threads have ended.
    _lock: DeviceLock,
}

impl<C: Completion> Journal<C> {
    /// Opens the journal in `options.dir`, and creates the directory if it is missing. See [`Journal::open`].
    ///
    /// # Errors
    /// [`RecoveryError`].
    pub fn open_directory(options: &JournalOptions, proven_durable: u64) -> Result<(Self, Recovered), RecoveryError> {
        let place = options.dir.display().to_string();
        let device = FileDevice::new(&options.dir).map_err(RecoveryError::io("create", place))?;
        Self::open(options, Arc::new(device), proven_durable)
    }

    /// Locks, verifies and repairs the journal, and starts its threads. `proven_durable` is a sequence known to be
    /// durable from elsewhere, such as the database's watermark for this journal's id ([`super::read_identity`]); 0 if
    /// unknown.
    ///
    /// # Errors
    /// [`RecoveryError`]; nothing was started, and the lock is free again.
    pub fn open(
        options: &JournalOptions,
        device: Arc<dyn Device>,
        proven_durable: u64,
    ) -> Result<(Self, Recovered), RecoveryError> {
        let (opened, recovered) = Opened::open(options, device, proven_durable, true)?;
        Ok((Self::start(opened)?, recovered))
    }

    fn start(Opened { handle, writer, lock }: Opened<C>) -> Result<Self, RecoveryError> {
        let spawn_error = |thread: &str| RecoveryError::io("start", format!("the thread {thread}"));
        let keeper_shared = Arc::clone(&handle.shared);
        let segment_manager = thread::Builder::new().name("journal-segments".into());
        let segment_manager = segment_manager.spawn(move || {
            if !keeper_shared.segment_manager.run() {
                // Without this thread no segment is prepared and none is deleted: the disk would stay full forever.
                keeper_shared
                    .poison(&JournalError::Poisoned { reason: "the thread that prepares segments panicked".into() });
            }
        });
        let segment_manager = segment_manager.map_err(spawn_error("journal-segments"))?;
        let spawned = thread::Builder::new().name("journal-writer".into()).spawn(move || writer.run());
        // From here on dropping the journal ends the threads.
        let mut journal = Self { handle, writer: None, segment_manager: Some(segment_manager), _lock: lock };
        journal.writer = Some(spawned.map_err(spawn_error("journal-writer"))?);
        Ok(journal)
    }

    /// A handle to append with.
    #[must_use]
    pub fn handle(&self) -> JournalHandle<C> {
        self.handle.clone()
    }

    /// Writes and syncs everything that was submitted, and ends the threads. Entries submitted later get
    /// [`JournalError::Closed`].
    ///
    /// # Errors
    /// The failure that poisoned the journal, now or earlier.
    pub fn close(mut self) -> Result<(), JournalError> {
        self.stop()
    }

    fn stop(&mut self) -> Result<(), JournalError> {
        let Some(writer) = self.writer.take() else {
            self.stop_keeper();
            return Ok(());
        };
        self.handle.shared.stop();
        // Fails only if the thread has ended already.
        let _ = self.handle.sender.send(Message::Close);
        let outcome = writer.join();
        self.stop_keeper();
        outcome.unwrap_or_else(|_| Err(self.handle.shared.refusal()))
    }

    fn stop_keeper(&mut self) {
        self.handle.shared.segment_manager.close();
        if let Some(segment_manager) = self.segment_manager.take() {
            // The thread catches its own panics.
            let _ = segment_manager.join();
        }
    }
}

impl<C: Completion> Drop for Journal<C> {
    fn drop(&mut self) {
        // The writer has logged its failure.
        let _ = self.stop();
    }
}

/// An open journal without threads: [`Journal`] starts them, [`super::SteppedJournal`] moves it by hand.
pub(super) struct Opened<C: Completion> {
    pub(super) handle: JournalHandle<C>,
    pub(super) writer: Writer<C>,
    pub(super) lock: DeviceLock,
}

impl<C: Completion> Opened<C> {
    /// Locks, verifies and repairs the journal.
    pub(super) fn open(
        options: &JournalOptions,
        device: Arc<dyn Device>,
        proven_durable: u64,
        has_threads: bool,
    ) -> Result<(Self, Recovered), RecoveryError> {
        let started = Instant::now();
        check(options)?;
        let lock = device.lock().map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => RecoveryError::Locked { place: device.describe("LOCK") },
            _ => RecoveryError::io("lock", device.describe("LOCK"))(error),
        })?;
        let found = survey(&*device, proven_durable, &mut |_, _| {})?;
        let ready = prepare(&device, &found, options.segment_bytes as u64)?;
        let recovered = recovered(&found, &ready, started);
        let shared = Arc::new(Shared::new(Start {
            device,
            journal_id: ready.identity.journal_id,
            epoch: ready.identity.epoch,
            durability: options.durability,
            tail_bytes: options.tail_bytes,
            segment_bytes: options.segment_bytes as u64,
            queue_entries: options.queue_entries,
            lag_bounds: options.lag_bounds,
            active_bytes: ready.log.offset(),
            durable: found.last_sequence,
            has_threads,
        }));
        ready.segments.iter().for_each(|header| shared.segment_manager.catalog.add(header.base_sequence, header.index));
        shared.segment_manager.want(ready.log.next_index());
        #[expect(
            clippy::disallowed_methods,
            reason = "permits are its bound; one of its own would be a ring of full size"
        )]
        let (sender, receiver) = unbounded();
        let room = options.segment_bytes - SEGMENT_HEADER_BYTES - FRAME_HEADER_BYTES;
        let frame_bytes_max = JOURNAL_FRAME_BYTES_MAX.min(room);
        let writer = Writer::new(Arc::clone(&shared), receiver, ready.log, ready.identity, frame_bytes_max);
        let handle = JournalHandle { sender, reader: JournalReader { shared } };
        Ok((Self { handle, writer, lock }, recovered))
    }
}

fn check(options: &JournalOptions) -> Result<(), RecoveryError> {
    let JournalOptions { segment_bytes, queue_entries, .. } = *options;
    if segment_bytes < SEGMENT_BYTES_MIN || !segment_bytes.is_multiple_of(SEGMENT_STEP_BYTES) {
        let least = format!("a segment of {segment_bytes} bytes: at least {SEGMENT_BYTES_MIN}, in steps of 8");
        return Err(RecoveryError::Options(least));
    }
    if !(1..=JOURNAL_QUEUE_ENTRIES_MAX).contains(&queue_entries) {
        let text = format!("a queue of {queue_entries} entries: from 1 to {JOURNAL_QUEUE_ENTRIES_MAX}");
        return Err(RecoveryError::Options(text));
    }
    Ok(())
}

fn recovered(found: &Survey, ready: &Ready, started: Instant) -> Recovered {
    Recovered {
        journal_id: ready.identity.journal_id,
        epoch: ready.identity.epoch,
        first_sequence: found.first_sequence,
        last_sequence: found.last_sequence,
        cut: ready.cut.clone(),
        findings: found.findings.clone(),
        segments: ready.segments.len(),
        elapsed_ms: started.elapsed().as_millis() as u64,
    }
}

/// Appends, and reads like the [`JournalReader`] that it dereferences to.
pub struct JournalHandle<C: Completion> {
    sender: Sender<Message<C>>,
    reader: JournalReader,
}

impl<C: Completion> Clone for JournalHandle<C> {
    fn clone(&self) -> Self {
        Self { sender: self.sender.clone(), reader: self.reader.clone() }
    }
}

impl<C: Completion> JournalHandle<C> {
    /// A slot in the queue. `None` if the queue is full, or if the journal is poisoned or closed: refuse the work
    /// before deciding anything.
    #[must_use]
    pub fn try_permit(&self) -> Option<Permit<'_, C>> {
        let Self { sender, reader } = self;
        Held::acquire(&reader.shared).map(|held| Permit { sender, held })
    }

    /// The reading part, without the completion type.
    #[must_use]
    pub fn reader(&self) -> JournalReader {
        self.reader.clone()
    }
}

impl<C: Completion> Deref for JournalHandle<C> {
    type Target = JournalReader;

    fn deref(&self) -> &JournalReader {
        &self.reader
    }
}

/// One or more slots in the queue. They are freed when the permit is dropped unused, or when its entry completes.
#[must_use = "dropping a permit gives it back"]
pub struct Permit<'a, C: Completion> {
    sender: &'a Sender<Message<C>>,
    held: Held,
}

impl<C: Completion> Permit<'_, C> {
    /// Takes another slot, for an entry with more than one decision. `false` if [`JournalHandle::try_permit`] would
    /// return `None`.
    pub fn add_place(&mut self) -> bool {
        self.held.add()
    }

    /// Queues an entry; never waits. Entries are written in the order of this call. An entry without records is a
    /// barrier: it completes once everything queued before it is durable (under [`Durability::Never`]: written).
    pub fn submit(self, records: Records, completion: C) {
        // Fails only if the thread has ended, and then the dropped entry answers.
        let _ = self.sender.send(Message::Append(Entry::new(records, completion, self.held)));
    }
}

/// Reads durable records. Independent of the completion type.
#[derive(Clone)]
pub struct JournalReader {
    shared: Arc<Shared>,
}

impl JournalReader {
    /// Sequence of the last durable record.
    #[must_use]
    pub fn durable(&self) -> u64 {
        self.shared.durable()
    }

    /// Like [`Self::durable`], for waiting.
    #[must_use]
    pub fn durable_watch(&self) -> watch::Receiver<u64> {
        self.shared.durable_watch()
    }

    /// A cursor that starts after the record `after`.
    #[must_use]
    pub fn cursor(&self, after: u64) -> Cursor {
        Cursor::new(Arc::clone(&self.shared), after)
    }

    /// Keeps all records after `sequence` for a consumer. Register every consumer before advancing any: segments are
    /// deleted once all *registered* ones have passed them, and never while no consumer pins.
    pub fn register_cursor(&self, name: &str, sequence: u64) {
        self.shared.segment_manager.retention.register(name, sequence, Hold::Pins);
    }

    /// Keeps records after `sequence` for a consumer, within the bounds for consumers that lag. Past them its records
    /// may be [`Gone`](JournalError::Gone).
    pub fn register_lagging(&self, name: &str, sequence: u64) {
        self.shared.segment_manager.retention.register(name, sequence, Hold::Lags);
    }

    /// The oldest kept record, or the next one if none is kept.
    #[must_use]
    pub fn oldest(&self) -> u64 {
        self.shared.segment_manager.catalog.oldest_sequence()
    }

    /// About how many bytes of segments are after `sequence`.
    #[must_use]
    pub fn bytes_after(&self, sequence: u64) -> u64 {
        self.shared.bytes_after(sequence)
    }

    /// Records that a registered consumer has durably applied everything up to `sequence`. A lower sequence than before
    /// and an unknown name are ignored.
    pub fn advance_cursor(&self, name: &str, sequence: u64) {
        self.shared.advance_cursor(name, sequence);
    }

    /// The sequence up to which a registered consumer has applied the records.
    #[must_use]
    pub fn cursor_position(&self, name: &str) -> Option<u64> {
        self.shared.segment_manager.retention.position(name)
    }

    /// Whether the next segment could be reserved.
    #[must_use]
    pub fn space(&self) -> Space {
        self.shared.segment_manager.space()
    }

    /// Becomes `Some` when the journal fails permanently: exit with a non-zero code.
    #[must_use]
    pub fn poisoned(&self) -> watch::Receiver<Option<JournalError>> {
        self.shared.poisoned()
    }

    /// Whether it accepts no more entries: it failed or is closed.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.shared.is_stopped()
    }

    /// Created with the journal; it never changes.
    #[must_use]
    pub fn journal_id(&self) -> Uuid {
        self.shared.journal_id
    }

    /// The number of this opening, from 1.
    #[must_use]
    pub fn epoch(&self) -> u32 {
        self.shared.epoch
    }

    /// The journal's own metrics.
    #[must_use]
    pub fn metrics(&self) -> &JournalMetrics {
        &self.shared.metrics
    }

    /// Entries submitted and not durable yet.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.shared.permits_taken()
    }

    /// When a reply may be sent.
    #[must_use]
    pub fn durability(&self) -> Durability {
        self.shared.durability
    }
}
