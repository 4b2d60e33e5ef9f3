//! The clocks, passed in so that tests can move them.
//!
//! There are two. The *wall clock* is the time of day, and corrections may step it forward or back. Starts and ends of
//! drops follow it. The *steady clock* never steps: it is the wall clock at the start of the process plus the time that
//! a monotonic clock has counted since. Durations (holds, tickets, tokens, cool-downs) are measured by it.

use crate::domain::{Moment, Timestamp};
use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Instant, SystemTime, UNIX_EPOCH},
};

/// Both clocks, in milliseconds. Clones share their offsets.
#[derive(Clone)]
pub struct Clock {
    shared: Arc<Shared>,
}

struct Shared {
    started: Instant,
    /// The steady clock's time at the start.
    anchor: Timestamp,
    /// Time that tests added to both clocks.
    passed_ms: AtomicI64,
    /// Sum of the steps that tests made the wall clock take.
    stepped_ms: AtomicI64,
}

impl Default for Clock {
    fn default() -> Self {
        Self::not_before(Timestamp::EPOCH)
    }
}

/// The system's time of day.
#[must_use]
pub fn system_time() -> Timestamp {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
}

impl Clock {
    /// Clocks whose steady one begins at `earliest` or later: records from before a restart have happened, whatever the
    /// wall clock shows after it.
    #[must_use]
    pub fn not_before(earliest: Timestamp) -> Self {
        Self {
            shared: Arc::new(Shared {
                started: Instant::now(),
                anchor: system_time().max(earliest),
                passed_ms: AtomicI64::new(0),
                stepped_ms: AtomicI64::new(0),
            }),
        }
    }

    /// The time of day, by the wall clock.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        let Shared { passed_ms, stepped_ms, .. } = &*self.shared;
        let offset = passed_ms.load(Ordering::Relaxed).saturating_add(stepped_ms.load(Ordering::Relaxed));
        system_time().plus_millis(offset)
    }

    /// The steady clock's time. Only differences are meaningful.
    #[must_use]
    pub fn steady(&self) -> Timestamp {
        let Shared { started, anchor, passed_ms, .. } = &*self.shared;
        let elapsed = i64::try_from(started.elapsed().as_millis()).unwrap_or(i64::MAX);
        anchor.plus_millis(elapsed.saturating_add(passed_ms.load(Ordering::Relaxed)))
    }

    /// Both clocks, for a decision.
    #[must_use]
    pub fn moment(&self) -> Moment {
        Moment { wall: self.now(), steady: self.steady() }
    }

    /// The wall-clock time at which the steady clock will show `steady`, unless the wall clock is set before then. For
    /// display.
    #[must_use]
    pub fn wall_at(&self, steady: Timestamp) -> Timestamp {
        let Moment { wall, steady: now } = self.moment();
        wall.plus_millis(steady.as_millis().saturating_sub(now.as_millis()))
    }

    /// Advances both clocks of this instance and its clones, for tests.
    pub fn shift(&self, millis: i64) {
        self.shared.passed_ms.fetch_add(millis, Ordering::Relaxed);
    }

    /// Steps the wall clock forward or back, for tests.
    pub fn step(&self, millis: i64) {
        self.shared.stepped_ms.fetch_add(millis, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_moves_the_wall_clock_alone() {
        let clock = Clock::default();
        for step in [-3_600_000, 7_200_000] {
            let before = clock.moment();
            clock.step(step);
            let after = clock.moment();
            let moved = after.wall.as_millis() - before.wall.as_millis();
            assert!((step..step + 60_000).contains(&moved), "{moved}");
            let passed = after.steady.as_millis() - before.steady.as_millis();
            assert!((0..60_000).contains(&passed), "{passed}");
        }
        let before = clock.moment();
        clock.shift(5_000);
        let after = clock.moment();
        assert!(after.wall.millis_since(before.wall) >= 5_000 && after.steady.millis_since(before.steady) >= 5_000);
    }

    #[test]
    fn the_steady_clock_begins_no_earlier_than_what_is_recorded() {
        let tomorrow = Clock::default().now().plus_millis(86_400_000);
        let clock = Clock::not_before(tomorrow);
        assert!(clock.steady() >= tomorrow && clock.now() < tomorrow);
        let soon = clock.steady().plus_millis(2_000);
        assert!(clock.wall_at(soon).millis_since(clock.now()) <= 2_000, "people are told the time of day");
    }
}
