//! The clocks, passed in so that tests can move them.
//!
//! Two of them. The *wall clock* says what time of day it is, and is corrected now and then: it steps, ahead and back. Starts and ends
//! of drops follow it. The *steady clock* never steps: it is the wall clock as it was when the process started, and what a monotonic clock has
//! counted since. Whatever lasts (holds, tickets, tokens, cool-downs) is measured by it.

use crate::domain::{Moment, Timestamp};
use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Instant, SystemTime, UNIX_EPOCH},
};

/// Tells the time in milliseconds. Clones share their offsets.
#[derive(Clone)]
pub struct Clock {
    shared: Arc<Shared>,
}

struct Shared {
    started: Instant,
    /// What the steady clock said then.
    anchor: Timestamp,
    /// Time that tests let pass, by both clocks.
    passed_ms: AtomicI64,
    /// By how much tests have set the wall clock.
    stepped_ms: AtomicI64,
}

impl Default for Clock {
    fn default() -> Self {
        Self::not_before(Timestamp::EPOCH)
    }
}

fn system_time() -> Timestamp {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
}

impl Clock {
    /// Clocks of which the steady one begins at `earliest`, should the wall clock be behind that: what was recorded before a restart has
    /// happened, whatever the wall clock says after it.
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

    /// The time of day.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        let Shared { passed_ms, stepped_ms, .. } = &*self.shared;
        let offset = passed_ms.load(Ordering::Relaxed).saturating_add(stepped_ms.load(Ordering::Relaxed));
        system_time().plus_millis(offset)
    }

    /// The time by the clock that never steps. Only differences mean something.
    #[must_use]
    pub fn steady(&self) -> Timestamp {
        let Shared { started, anchor, passed_ms, .. } = &*self.shared;
        let elapsed = i64::try_from(started.elapsed().as_millis()).unwrap_or(i64::MAX);
        anchor.plus_millis(elapsed.saturating_add(passed_ms.load(Ordering::Relaxed)))
    }

    /// Both, for a decision.
    #[must_use]
    pub fn moment(&self) -> Moment {
        Moment { wall: self.now(), steady: self.steady() }
    }

    /// The time of day at which the steady clock will say `steady`, unless the wall clock is set until then: for people.
    #[must_use]
    pub fn wall_at(&self, steady: Timestamp) -> Timestamp {
        let Moment { wall, steady: now } = self.moment();
        wall.plus_millis(steady.as_millis().saturating_sub(now.as_millis()))
    }

    /// Lets so many milliseconds pass, for this clock and its clones, for tests.
    pub fn shift(&self, millis: i64) {
        self.shared.passed_ms.fetch_add(millis, Ordering::Relaxed);
    }

    /// Sets the wall clock by so many milliseconds, ahead or back, for tests.
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
