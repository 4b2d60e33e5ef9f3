//! The state of a consumer: written by its runner, read by `/metrics` and `/readyz`.

use super::{About, Retention};
use crate::domain::Timestamp;
use crate::journal::JournalReader;
use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// Records that a consumer skipped, because the journal had deleted them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Gap {
    /// Sequence of the first skipped record.
    pub first: u64,
    /// Sequence of the last skipped record.
    pub last: u64,
}

impl Gap {
    /// The number of skipped records.
    #[must_use]
    pub fn records(self) -> u64 {
        self.last + 1 - self.first
    }
}

/// How far a consumer is behind.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Lag {
    /// Durable records that it has not passed yet.
    pub records: u64,
    /// Their size in the journal, approximately.
    pub bytes: u64,
    /// Upper bound of the age of the oldest of them.
    pub age: Duration,
    /// How many of them the journal has deleted: a gap that the consumer has not reached.
    pub lost: u64,
}

/// One consumer's state. It lives as long as the process: a restarted consumer continues here.
pub struct Progress {
    about: &'static About,
    passed: AtomicU64,
    /// The timestamp of the last passed record; 0 before the first.
    passed_at: AtomicI64,
    errors: AtomicU64,
    gaps: AtomicU64,
    skipped: AtomicU64,
    dead_letters: AtomicU64,
    state: Mutex<State>,
}

struct State {
    /// When it last had passed every record.
    caught_up: Instant,
    trouble: Option<String>,
    last_error: Option<String>,
    last_gap: Option<Gap>,
}

impl Progress {
    /// The state of a consumer that has not started.
    #[must_use]
    pub fn new(about: &'static About) -> Arc<Self> {
        let state = State { caught_up: Instant::now(), trouble: None, last_error: None, last_gap: None };
        let [passed, errors, gaps, skipped, dead_letters] = [const { AtomicU64::new(0) }; 5];
        let (passed_at, state) = (AtomicI64::new(0), Mutex::new(state));
        Arc::new(Self { about, passed, passed_at, errors, gaps, skipped, dead_letters, state })
    }

    #[must_use]
    pub fn about(&self) -> &'static About {
        self.about
    }

    /// Sets the record after which the consumer starts.
    pub(super) fn begins_after(&self, sequence: u64) {
        self.passed.store(sequence, Ordering::Release);
    }

    pub(super) fn passes(&self, sequence: u64, at: Timestamp) {
        self.passed_at.store(at.as_millis(), Ordering::Relaxed);
        self.passed.store(sequence, Ordering::Release);
    }

    pub(super) fn skips(&self, gap: Gap) {
        self.gaps.fetch_add(1, Ordering::Relaxed);
        self.skipped.fetch_add(gap.records(), Ordering::Relaxed);
        self.locked().last_gap = Some(gap);
    }

    /// Records a failed step. Returns whether the step before succeeded.
    pub(super) fn fails(&self, reason: &str) -> bool {
        self.errors.fetch_add(1, Ordering::Relaxed);
        let mut state = self.locked();
        state.last_error = Some(reason.to_owned());
        state.trouble.replace(reason.to_owned()).is_none()
    }

    /// Records a successful step. Returns whether the step before failed.
    pub(super) fn works(&self) -> bool {
        self.locked().trouble.take().is_some()
    }

    pub(super) fn catches_up(&self) {
        self.locked().caught_up = Instant::now();
    }

    /// Sequence of the last passed record.
    #[must_use]
    pub fn passed(&self) -> u64 {
        self.passed.load(Ordering::Acquire)
    }

    /// The consumer's lag at this time.
    #[must_use]
    pub fn lag(&self, journal: &JournalReader, now: Timestamp) -> Lag {
        let passed = self.passed();
        let records = journal.durable().saturating_sub(passed);
        if records == 0 {
            return Lag::default();
        }
        let since_record = now.as_millis().saturating_sub(self.passed_at.load(Ordering::Relaxed));
        let since_record = Duration::from_millis(u64::try_from(since_record).unwrap_or(0));
        let age = self.locked().caught_up.elapsed().min(since_record);
        let lost = match self.about.retention {
            Retention::Pins | Retention::Lags => journal.oldest().saturating_sub(passed + 1),
            // The consumer needs no history.
            Retention::Rereads => 0,
        };
        Lag { records, bytes: journal.bytes_after(passed), age, lost }
    }

    /// The number of failed steps.
    #[must_use]
    pub fn errors(&self) -> u64 {
        self.errors.load(Ordering::Relaxed)
    }

    /// The number of gaps, and of records skipped in them.
    #[must_use]
    pub fn gaps(&self) -> (u64, u64) {
        (self.gaps.load(Ordering::Relaxed), self.skipped.load(Ordering::Relaxed))
    }

    /// Sets the number of dead letters.
    pub fn sets_aside(&self, all: usize) {
        self.dead_letters.store(all as u64, Ordering::Relaxed);
    }

    /// The number of dead letters.
    #[must_use]
    pub fn dead_letters(&self) -> u64 {
        self.dead_letters.load(Ordering::Relaxed)
    }

    /// Why the last step failed; `None` while it makes progress.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.locked().trouble.clone()
    }

    /// The reason of the last failure, even if later steps succeeded.
    #[must_use]
    pub fn last_error(&self) -> Option<String> {
        self.locked().last_error.clone()
    }

    /// The latest gap, even after the consumer has caught up.
    #[must_use]
    pub fn last_gap(&self) -> Option<Gap> {
        self.locked().last_gap
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
