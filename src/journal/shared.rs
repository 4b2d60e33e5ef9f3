//! State shared by the writer, the handles and the cursors.

use super::durability::Durability;
use super::error::JournalError;
use super::retention::LagBounds;
use super::tail::Tail;
use crate::journal::device::Device;
use crate::journal::metrics::JournalMetrics;
use crate::journal::segment_manager::SegmentManager;
use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
};
use tokio::sync::watch;
use uuid::Uuid;

pub(super) struct Shared {
    pub(super) device: Arc<dyn Device>,
    pub(super) journal_id: Uuid,
    pub(super) epoch: u32,
    pub(super) seed: u32,
    pub(super) durability: Durability,
    pub(super) tail: Tail,
    pub(super) segment_manager: SegmentManager,
    pub(super) metrics: JournalMetrics,
    /// Byte offset of the next frame in the active segment. Only used to tell how far behind a consumer is.
    pub(super) active_bytes: AtomicU64,
    segment_bytes: u64,
    durable: AtomicU64,
    durable_watch: watch::Sender<u64>,
    /// No more permits: poisoned or closed.
    stopped: AtomicBool,
    poison: watch::Sender<Option<JournalError>>,
    permits: AtomicUsize,
    permits_max: usize,
}

/// The initial values of [`Shared`].
pub(super) struct Start {
    pub(super) device: Arc<dyn Device>,
    pub(super) journal_id: Uuid,
    pub(super) epoch: u32,
    pub(super) durability: Durability,
    pub(super) tail_bytes: usize,
    pub(super) segment_bytes: u64,
    pub(super) lag_bounds: LagBounds,
    pub(super) active_bytes: u64,
    pub(super) queue_entries: usize,
    pub(super) durable: u64,
    /// Whether the journal has threads of its own, see [`super::stepped`].
    pub(super) has_threads: bool,
}

impl Shared {
    pub(super) fn new(start: Start) -> Self {
        Self {
            segment_manager: SegmentManager::new(
                Arc::clone(&start.device),
                start.segment_bytes,
                start.lag_bounds,
                start.has_threads,
            ),
            active_bytes: AtomicU64::new(start.active_bytes),
            segment_bytes: start.segment_bytes,
            device: start.device,
            journal_id: start.journal_id,
            epoch: start.epoch,
            seed: super::frame::seed(start.journal_id),
            durability: start.durability,
            tail: Tail::new(start.tail_bytes),
            metrics: JournalMetrics::default(),
            durable: AtomicU64::new(start.durable),
            durable_watch: watch::Sender::new(start.durable),
            stopped: AtomicBool::new(false),
            poison: watch::Sender::new(None),
            permits: AtomicUsize::new(0),
            permits_max: start.queue_entries,
        }
    }

    pub(super) fn durable(&self) -> u64 {
        self.durable.load(Ordering::Acquire)
    }

    pub(super) fn durable_watch(&self) -> watch::Receiver<u64> {
        self.durable_watch.subscribe()
    }

    /// Makes everything up to `sequence` visible to consumers.
    pub(super) fn publish(&self, sequence: u64) {
        if self.durable() < sequence {
            self.durable.store(sequence, Ordering::Release);
            self.durable_watch.send_replace(sequence);
        }
    }

    /// Stops the journal permanently; the first failure is the reason.
    pub(super) fn poison(&self, failure: &JournalError) {
        self.stop();
        self.poison.send_if_modified(|reason| {
            let first = reason.is_none();
            reason.get_or_insert_with(|| failure.clone());
            first
        });
    }

    pub(super) fn poisoned(&self) -> watch::Receiver<Option<JournalError>> {
        self.poison.subscribe()
    }

    /// The error for entries that arrive after the end.
    pub(super) fn refusal(&self) -> JournalError {
        match &*self.poison.borrow() {
            None => JournalError::Closed,
            Some(JournalError::OutcomeUnknown { reason }) => JournalError::Poisoned { reason: Arc::clone(reason) },
            Some(failure) => failure.clone(),
        }
    }

    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    fn acquire_permit(&self) -> bool {
        if self.is_stopped() {
            return false;
        }
        let granted = self.permits.fetch_add(1, Ordering::AcqRel) < self.permits_max;
        if !granted {
            self.release_permits(1);
        }
        granted
    }

    pub(super) fn permits_taken(&self) -> usize {
        self.permits.load(Ordering::Relaxed)
    }

    fn release_permits(&self, places: usize) {
        self.permits.fetch_sub(places, Ordering::AcqRel);
    }

    pub(super) fn advance_cursor(&self, name: &str, sequence: u64) {
        // A consumer cannot pass what is durable.
        if self.segment_manager.retention.advance(name, sequence.min(self.durable())) {
            self.segment_manager.purge();
        }
    }

    pub(super) fn bytes_after(&self, sequence: u64) -> u64 {
        let active = self.active_bytes.load(Ordering::Relaxed);
        self.segment_manager.catalog.bytes_after(sequence, self.durable(), self.segment_bytes, active)
    }
}

/// Slots in the queue, freed on drop.
pub(super) struct Held {
    pub(super) shared: Arc<Shared>,
    places: usize,
}

impl Held {
    /// One slot, or `None` if the queue is full or stopped.
    pub(super) fn acquire(shared: &Arc<Shared>) -> Option<Self> {
        shared.acquire_permit().then(|| Self { shared: Arc::clone(shared), places: 1 })
    }

    /// Takes another slot; `false` if there is none.
    pub(super) fn add(&mut self) -> bool {
        let added = self.shared.acquire_permit();
        self.places += usize::from(added);
        added
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.shared.release_permits(self.places);
    }
}
