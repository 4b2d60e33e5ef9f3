//! Manages the segments behind and ahead of the active one: deletes those that every consumer has passed, and prepares
//! the next one in the background, so that no reply waits for either.

use super::{
    device::{Device, DeviceFile, lacks_descriptor},
    retention::{LagBounds, Retention},
    segment::{file_name, temporary_name},
};
use std::{
    collections::BTreeMap,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

/// Wait before a failed preparation is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Whether there is space for the next segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Space {
    /// The next segment is prepared or being prepared.
    Ok,
    /// The next segment could not be prepared: accept no new work, finish the running work. Ends by itself once a retry
    /// succeeds.
    Full,
}

/// The existing segments, by base sequence.
#[derive(Default)]
pub(super) struct Catalog(Mutex<BTreeMap<u64, Segment>>);

#[derive(Clone, Copy)]
struct Segment {
    index: u64,
    /// When this process first saw it.
    since: Instant,
}

impl Catalog {
    pub(super) fn add(&self, base_sequence: u64, index: u64) {
        self.lock().insert(base_sequence, Segment { index, since: Instant::now() });
    }

    /// The number of the segment with `sequence`, or of the one that will have it.
    pub(super) fn locate(&self, sequence: u64) -> Option<u64> {
        self.lock().range(..=sequence).next_back().map(|(_, segment)| segment.index)
    }

    pub(super) fn oldest_sequence(&self) -> u64 {
        self.lock().keys().next().copied().unwrap_or(1)
    }

    /// The oldest segment, if all its records are at or below `passed`; never the last one.
    fn passed(&self, passed: u64) -> Option<(u64, u64)> {
        let segments = self.lock();
        let mut oldest = segments.iter();
        let (base, segment) = oldest.next()?;
        let (next_base, _) = oldest.next()?;
        (*next_base <= passed.saturating_add(1)).then_some((*base, segment.index))
    }

    /// The last record whose segment is out of bounds; 0 if there is none.
    fn out_of_bounds(&self, bounds: LagBounds, segment_bytes: u64) -> u64 {
        let segments = self.lock();
        let kept = usize::try_from((bounds.bytes / segment_bytes).max(1)).unwrap_or(usize::MAX);
        let of_bytes = segments.keys().rev().nth(kept - 1).filter(|_| segments.len() > kept);
        // A segment's age counts from the start of the next one: then it was full.
        let of_age = segments.iter().rev().find(|(_, segment)| segment.since.elapsed() >= bounds.age);
        of_bytes.max(of_age.map(|(base, _)| base)).map_or(0, |base| base - 1)
    }

    /// Bytes of segments with records after `sequence`, with `active_bytes` for the active one. Within a segment all
    /// records count as equally large.
    pub(super) fn bytes_after(&self, sequence: u64, durable: u64, segment_bytes: u64, active_bytes: u64) -> u64 {
        let segments = self.lock();
        let mut end = durable;
        let mut bytes = 0;
        for (nth, base) in segments.keys().rev().enumerate() {
            let size = if nth == 0 { active_bytes } else { segment_bytes };
            let records = end.saturating_sub(*base - 1);
            let wanted = end.saturating_sub(sequence.max(*base - 1));
            bytes += (u128::from(size) * u128::from(wanted) / u128::from(records.max(1))) as u64;
            if *base <= sequence.saturating_add(1) {
                break;
            }
            end = base - 1;
        }
        bytes
    }

    fn forget(&self, base_sequence: u64) {
        self.lock().remove(&base_sequence);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Segment>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Shared by the writer, which takes prepared segments, the consumers, which release old ones, and the background
/// thread.
pub(super) struct SegmentManager {
    device: Arc<dyn Device>,
    segment_bytes: u64,
    bounds: LagBounds,
    pub(super) catalog: Catalog,
    pub(super) retention: Retention,
    state: Mutex<State>,
    changed: Condvar,
    full: AtomicBool,
    /// Whether [`SegmentManager::run`] has a thread. Without one, the callers do its work themselves.
    has_thread: bool,
}

struct State {
    reserve: Reserve,
    purge: Option<u64>,
    closing: bool,
}

enum Reserve {
    Idle,
    Wanted(u64),
    Ready(u64, Box<dyn DeviceFile>),
    Failed(u64, io::Error),
}

enum Job {
    Prepare(u64),
    Purge(u64),
    Stop,
}

impl SegmentManager {
    pub(super) fn new(device: Arc<dyn Device>, segment_bytes: u64, bounds: LagBounds, has_thread: bool) -> Self {
        let state = Mutex::new(State { reserve: Reserve::Idle, purge: None, closing: false });
        let (catalog, changed, full) = (Catalog::default(), Condvar::new(), AtomicBool::new(false));
        let retention = Retention::default();
        Self { device, segment_bytes, bounds, catalog, retention, state, changed, full, has_thread }
    }

    pub(super) fn space(&self) -> Space {
        if self.full.load(Ordering::Acquire) { Space::Full } else { Space::Ok }
    }

    /// Requests segment `index` in the background.
    pub(super) fn want(&self, index: u64) {
        self.state().reserve = Reserve::Wanted(index);
        self.changed.notify_all();
        if !self.has_thread {
            self.finish_prepare(index, self.prepare_making_room(index));
        }
    }

    /// Takes the prepared segment. Waits while it is being prepared, and retries a failed preparation once. Without a
    /// free file descriptor it waits until there is one: that passes, and the journal is not at fault.
    pub(super) fn take(&self) -> io::Result<Box<dyn DeviceFile>> {
        let mut state = self.state();
        let mut tried = false;
        loop {
            match std::mem::replace(&mut state.reserve, Reserve::Idle) {
                Reserve::Ready(_, file) => return Ok(file),
                Reserve::Idle => return Err(io::Error::other("no segment is being prepared")),
                Reserve::Failed(index, error) if lacks_descriptor(&error) && !state.closing && self.has_thread => {
                    state.reserve = Reserve::Failed(index, error);
                    // The thread retries every second.
                    state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
                Reserve::Failed(_, error) if tried || state.closing || !self.has_thread => return Err(error),
                Reserve::Failed(index, _) => {
                    tried = true;
                    state.reserve = Reserve::Wanted(index);
                    self.changed.notify_all();
                }
                wanted @ Reserve::Wanted(_) => {
                    state.reserve = wanted;
                    state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }

    /// Deletes the segments that no consumer needs.
    pub(super) fn purge(&self) {
        let sequence = self.retention.floor(self.catalog.out_of_bounds(self.bounds, self.segment_bytes));
        if self.catalog.passed(sequence).is_none() {
            return;
        }
        if !self.has_thread {
            return self.delete_passed(sequence);
        }
        let mut state = self.state();
        state.purge = state.purge.max(Some(sequence));
        self.changed.notify_all();
    }

    fn delete_passed(&self, sequence: u64) {
        if let Err(error) = self.delete_up_to(sequence) {
            tracing::warn!(%error, sequence, "cannot delete an old journal segment, trying again later");
        }
    }

    /// Makes [`SegmentManager::run`] return after its current job.
    pub(super) fn close(&self) {
        self.state().closing = true;
        self.changed.notify_all();
    }

    /// Runs the background thread. A panic here must not leave the writer waiting. Returns whether it ended without
    /// one.
    pub(super) fn run(&self) -> bool {
        let ended = catch_unwind(AssertUnwindSafe(|| self.work())).is_ok();
        if !ended {
            let mut state = self.state();
            state.closing = true;
            state.reserve = Reserve::Failed(0, io::Error::other("the thread that prepares segments panicked"));
            self.full.store(true, Ordering::Release);
            self.changed.notify_all();
        }
        ended
    }

    fn work(&self) {
        loop {
            match self.next_job() {
                Job::Prepare(index) => self.finish_prepare(index, self.prepare_making_room(index)),
                Job::Purge(sequence) => {
                    self.delete_passed(sequence);
                    // A deletion may have freed space.
                    let mut state = self.state();
                    if let Reserve::Failed(index, _) = state.reserve {
                        state.reserve = Reserve::Wanted(index);
                    }
                }
                Job::Stop => {
                    if let Reserve::Ready(index, file) = std::mem::replace(&mut self.state().reserve, Reserve::Idle) {
                        drop(file);
                        // Otherwise the next opening would have to delete it.
                        let _ = self.device.remove(&temporary_name(index));
                    }
                    return;
                }
            }
        }
    }

    fn next_job(&self) -> Job {
        let mut state = self.state();
        loop {
            if state.closing {
                return Job::Stop;
            }
            if let Some(sequence) = state.purge.take() {
                return Job::Purge(sequence);
            }
            state = match state.reserve {
                Reserve::Wanted(index) => return Job::Prepare(index),
                Reserve::Failed(index, _) => {
                    let (mut state, waited) =
                        self.changed.wait_timeout(state, RETRY).unwrap_or_else(PoisonError::into_inner);
                    if waited.timed_out() && matches!(state.reserve, Reserve::Failed(..)) {
                        state.reserve = Reserve::Wanted(index);
                    }
                    state
                }
                Reserve::Idle | Reserve::Ready(..) => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    /// Prepares a segment. If that fails, records kept only for consumers that lag are deleted to make room: no order
    /// is refused for them.
    fn prepare_making_room(&self, index: u64) -> io::Result<Box<dyn DeviceFile>> {
        let made = self.prepare(index);
        let floor = self.retention.floor(u64::MAX);
        match made {
            Err(error) if !lacks_descriptor(&error) && self.catalog.passed(floor).is_some() => {
                tracing::warn!(%error, index, "no room for the next journal segment: what is kept for consumers that lag goes");
                self.delete_passed(floor);
                self.prepare(index)
            }
            made => made,
        }
    }

    fn prepare(&self, index: u64) -> io::Result<Box<dyn DeviceFile>> {
        let name = temporary_name(index);
        let made = self.device.create(&name, self.segment_bytes);
        if made.is_err() {
            // An incomplete file is never used: the next attempt starts anew.
            let _ = self.device.remove(&name);
        }
        made
    }

    fn finish_prepare(&self, index: u64, made: io::Result<Box<dyn DeviceFile>>) {
        let mut state = self.state();
        let was_full = self.full.swap(made.is_err(), Ordering::AcqRel);
        state.reserve = match made {
            Ok(file) => {
                if was_full {
                    tracing::info!(index, "there is space for the next journal segment again");
                }
                Reserve::Ready(index, file)
            }
            Err(error) => {
                if !was_full {
                    tracing::error!(%error, index, "cannot prepare the next journal segment");
                }
                Reserve::Failed(index, error)
            }
        };
        self.changed.notify_all();
    }

    /// Deletes the oldest first, each deletion durable before the next, so that a crash never leaves a gap.
    fn delete_up_to(&self, sequence: u64) -> io::Result<()> {
        while let Some((base, index)) = self.catalog.passed(sequence) {
            match self.device.remove(&file_name(index)) {
                Ok(()) => {}
                // An earlier attempt removed it and failed to sync.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
            failpoint!("segment.after_delete");
            self.device.sync_directory()?;
            self.catalog.forget(base);
        }
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
