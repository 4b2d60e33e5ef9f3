//! Segments behind and ahead of the active one: deletes what every consumer has passed, and prepares the next one in the
//! background, so that neither is ever waited for on the way to a reply.

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

/// How long to wait before trying again to prepare a segment that did not fit.
const RETRY: Duration = Duration::from_secs(1);

/// Whether there is room to go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Space {
    /// The next segment is prepared, or about to be.
    Ok,
    /// It could not be prepared: take on nothing new, finish what is under way. Ends by itself once it can.
    Full,
}

/// Which segments there are, by base sequence.
#[derive(Default)]
pub(super) struct Catalog(Mutex<BTreeMap<u64, Segment>>);

#[derive(Clone, Copy)]
struct Segment {
    index: u64,
    /// When this process first knew it.
    since: Instant,
}

impl Catalog {
    pub(super) fn add(&self, base_sequence: u64, index: u64) {
        self.lock().insert(base_sequence, Segment { index, since: Instant::now() });
    }

    /// The number of the segment that holds `sequence`, or will.
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

    /// The record up to which segments of this size are out of bounds; 0 where none is.
    fn out_of_bounds(&self, bounds: LagBounds, segment_bytes: u64) -> u64 {
        let segments = self.lock();
        let kept = usize::try_from((bounds.bytes / segment_bytes).max(1)).unwrap_or(usize::MAX);
        let of_bytes = segments.keys().rev().nth(kept - 1).filter(|_| segments.len() > kept);
        // A segment is as old as the one after it: that is when it was full.
        let of_age = segments.iter().rev().find(|(_, segment)| segment.since.elapsed() >= bounds.age);
        of_bytes.max(of_age.map(|(base, _)| base)).map_or(0, |base| base - 1)
    }

    /// Bytes of segments with records after `sequence`, the active one with `active_bytes` in it. Within a segment records count as
    /// equally large.
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

/// Shared by the writer, which takes prepared segments, the consumers, which let old ones go, and the thread that does the work.
pub(super) struct SegmentManager {
    device: Arc<dyn Device>,
    segment_bytes: u64,
    bounds: LagBounds,
    pub(super) catalog: Catalog,
    pub(super) retention: Retention,
    state: Mutex<State>,
    changed: Condvar,
    full: AtomicBool,
    /// Whether [`SegmentManager::run`] has a thread. Without one, those who ask for something do it themselves.
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

    /// Asks for segment `index` to be prepared.
    pub(super) fn want(&self, index: u64) {
        self.state().reserve = Reserve::Wanted(index);
        self.changed.notify_all();
        if !self.has_thread {
            self.finish_prepare(index, self.prepare_making_room(index));
        }
    }

    /// Takes the prepared segment; waits while it is being prepared, and has a failed one tried once more. Where no descriptor is left it
    /// waits until there is one: that passes, and nothing is wrong with the journal.
    pub(super) fn take(&self) -> io::Result<Box<dyn DeviceFile>> {
        let mut state = self.state();
        let mut tried = false;
        loop {
            match std::mem::replace(&mut state.reserve, Reserve::Idle) {
                Reserve::Ready(_, file) => return Ok(file),
                Reserve::Idle => return Err(io::Error::other("no segment is being prepared")),
                Reserve::Failed(index, error) if lacks_descriptor(&error) && !state.closing && self.has_thread => {
                    state.reserve = Reserve::Failed(index, error);
                    // The thread tries again by itself, every second.
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

    /// Lets go of the segments that nobody needs.
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

    /// Ends the thread.
    pub(super) fn close(&self) {
        self.state().closing = true;
        self.changed.notify_all();
    }

    /// The thread. A panic in here must not leave the writer waiting. Returns whether it ended as it should.
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
                    // There may be space now.
                    let mut state = self.state();
                    if let Reserve::Failed(index, _) = state.reserve {
                        state.reserve = Reserve::Wanted(index);
                    }
                }
                Job::Stop => {
                    if let Reserve::Ready(index, file) = std::mem::replace(&mut self.state().reserve, Reserve::Idle) {
                        drop(file);
                        // Left behind, it would be deleted by the next opening.
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

    /// Where it cannot be prepared, what is only kept for consumers that lag makes room: no order is refused for their sake.
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
            // A file that was not made in full is never used: the next attempt starts from nothing.
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

    /// Oldest first, each made durable before the next, so that a crash never leaves a gap.
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
