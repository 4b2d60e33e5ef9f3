//! What the writer, its producers and its consumers share.

use super::device::Device;
use super::durability::Durability;
use super::error::JournalError;
use super::segment::file_name;
use super::tail::Tail;
use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};
use tokio::sync::watch;
use uuid::Uuid;

pub(super) struct Shared {
    pub device: Arc<dyn Device>,
    pub journal: Uuid,
    pub epoch: u32,
    pub durability: Durability,
    pub queue_max: usize,
    /// Entries that have a permit and are not completed.
    pub in_flight: AtomicUsize,
    pub closed: AtomicBool,
    pub durable: watch::Sender<u64>,
    pub poison: watch::Sender<Option<String>>,
    pub tail: Tail,
    /// Base sequence number to index, of every segment on disk.
    pub segments: Mutex<BTreeMap<u64, u64>>,
    pub cursors: Mutex<HashMap<String, u64>>,
    /// The next segment could not be reserved.
    pub full: Arc<AtomicBool>,
    /// Bytes left in the current segment.
    pub left: AtomicUsize,
    /// Below this many bytes left, and no next segment, nothing is admitted any more: what is in flight must still fit.
    pub reserve: usize,
}

impl Shared {
    pub fn durable(&self) -> u64 {
        *self.durable.borrow()
    }

    pub fn admits(&self) -> bool {
        let exhausted = self.full.load(Ordering::Acquire) && self.left.load(Ordering::Relaxed) < self.reserve;
        !exhausted && !self.closed.load(Ordering::Acquire)
    }

    pub fn poisoned(&self) -> Option<JournalError> {
        self.poison.borrow().as_ref().map(|reason| JournalError::Poisoned(reason.clone()))
    }

    /// The name of the segment that holds a record, and its base.
    pub fn segment_of(&self, sequence: u64) -> Option<(u64, String)> {
        let segments = self.segments.lock().unwrap_or_else(PoisonError::into_inner);
        segments.range(..=sequence).next_back().map(|(base, index)| (*base, file_name(*index)))
    }

    /// The base of the segment after this one.
    pub fn segment_after(&self, base: u64) -> Option<u64> {
        let segments = self.segments.lock().unwrap_or_else(PoisonError::into_inner);
        segments.range(base + 1..).next().map(|(base, _)| *base)
    }

    /// Moves a named cursor, and deletes the segments that every named cursor has passed. Never the newest.
    pub fn advance(&self, name: &str, sequence: u64) {
        let lowest = {
            let mut cursors = self.cursors.lock().unwrap_or_else(PoisonError::into_inner);
            cursors.insert(name.to_owned(), sequence);
            cursors.values().copied().min().unwrap_or(0)
        };
        let mut segments = self.segments.lock().unwrap_or_else(PoisonError::into_inner);
        while segments.len() > 1 && segments.keys().nth(1).is_some_and(|next| *next <= lowest + 1) {
            let Some((base, index)) = segments.pop_first() else { return };
            if let Err(error) = self.device.remove(&file_name(index)) {
                tracing::warn!(%error, index, "cannot delete a journal segment that nobody needs; trying again later");
                segments.insert(base, index);
                return;
            }
        }
    }
}
