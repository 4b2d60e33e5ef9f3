//! How a consumer does: written by its runner, read by `/metrics` and `/readyz`.

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

/// Records that a consumer did not get, because the journal had deleted them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Gap {
    /// The first.
    pub first: u64,
    /// The last.
    pub last: u64,
}

impl Gap {
    /// How many there are.
    #[must_use]
    pub fn records(self) -> u64 {
        self.last + 1 - self.first
    }
}

/// How far a consumer is behind.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Lag {
    /// Durable records that it has not passed.
    pub records: u64,
    /// About how many bytes of journal these are.
    pub bytes: u64,
    /// The oldest of them is not older than this.
    pub age: Duration,
    /// How many of them the journal has no more: a gap that the consumer has not come to.
    pub lost: u64,
}

/// One consumer's state, for as long as the process runs: its next run goes on writing here.
pub struct Progress {
    about: &'static About,
    passed: AtomicU64,
    /// When the last record that it passed was decided; 0 before the first.
    passed_at: AtomicI64,
    errors: AtomicU64,
    gaps: AtomicU64,
    skipped: AtomicU64,
    dead_letters: AtomicU64,
    state: Mutex<State>,
}

struct State {
    /// When it last had everything.
    caught_up: Instant,
    trouble: Option<String>,
    last_error: Option<String>,
    last_gap: Option<Gap>,
}

impl Progress {
    /// Of a consumer that has not begun.
    #[must_use]
    pub fn new(about: &'static About) -> Arc<Self> {
        let state = State { caught_up: Instant::now(), trouble: None, last_error: None, last_gap: None };
        let [passed, errors, gaps, skipped, dead_letters] = [const { AtomicU64::new(0) }; 5];
        let (passed_at, state) = (AtomicI64::new(0), Mutex::new(state));
        Arc::new(Self { about, passed, passed_at, errors, gaps, skipped, dead_letters, state })
    }

    /// Whose it is.
    #[must_use]
    pub fn about(&self) -> &'static About {
        self.about
    }

    /// It goes on after this record.
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

    /// Notes that it makes no progress. Returns whether that is news.
    pub(super) fn fails(&self, reason: &str) -> bool {
        self.errors.fetch_add(1, Ordering::Relaxed);
        let mut state = self.locked();
        state.last_error = Some(reason.to_owned());
        state.trouble.replace(reason.to_owned()).is_none()
    }

    /// Notes that it makes progress. Returns whether that is news.
    pub(super) fn works(&self) -> bool {
        self.locked().trouble.take().is_some()
    }

    pub(super) fn catches_up(&self) {
        self.locked().caught_up = Instant::now();
    }

    /// The last record that it has passed.
    #[must_use]
    pub fn passed(&self) -> u64 {
        self.passed.load(Ordering::Acquire)
    }

    /// How far it is behind at this time of day.
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
            // It needs none of them.
            Retention::Rereads => 0,
        };
        Lag { records, bytes: journal.bytes_after(passed), age, lost }
    }

    /// How often a step failed.
    #[must_use]
    pub fn errors(&self) -> u64 {
        self.errors.load(Ordering::Relaxed)
    }

    /// How often it skipped records, and how many these were.
    #[must_use]
    pub fn gaps(&self) -> (u64, u64) {
        (self.gaps.load(Ordering::Relaxed), self.skipped.load(Ordering::Relaxed))
    }

    /// So many effects were refused for good, and are set aside with their reasons.
    pub fn sets_aside(&self, all: usize) {
        self.dead_letters.store(all as u64, Ordering::Relaxed);
    }

    /// How many are set aside.
    #[must_use]
    pub fn dead_letters(&self) -> u64 {
        self.dead_letters.load(Ordering::Relaxed)
    }

    /// Why it makes no progress now, if it doesn't.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.locked().trouble.clone()
    }

    /// The last reason for which it made none.
    #[must_use]
    pub fn last_error(&self) -> Option<String> {
        self.locked().last_error.clone()
    }

    /// What it skipped last.
    #[must_use]
    pub fn last_gap(&self) -> Option<Gap> {
        self.locked().last_gap
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
