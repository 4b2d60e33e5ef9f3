//! Which segments are kept for consumers. The journal waits for a consumer that *pins*, however far behind it is. It
//! waits for one that *lags* up to a bound in bytes and age, and not at all once the disk is full: that consumer then
//! finds a gap, and nothing else is affected.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// Bounds on what the journal keeps only for consumers that lag.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LagBounds {
    /// Bytes of segments, in whole segments; at least the newest one is kept.
    pub bytes: u64,
    /// Segments that were full before this are deleted. Measured within one process: a segment found at startup counts
    /// as new.
    pub age: Duration,
}

/// How the journal waits for a consumer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hold {
    /// Without a bound: for the projector only.
    Pins,
    /// Within [`LagBounds`], past which its records are deleted.
    Lags,
}

/// The registered consumers and their positions.
#[derive(Default)]
pub(super) struct Retention(Mutex<BTreeMap<String, (u64, Hold)>>);

impl Retention {
    pub(super) fn register(&self, name: &str, sequence: u64, hold: Hold) {
        self.lock().insert(name.to_owned(), (sequence, hold));
    }

    /// Moves a registered consumer forward. Returns whether there is one of that name.
    pub(super) fn advance(&self, name: &str, sequence: u64) -> bool {
        let mut consumers = self.lock();
        let Some((position, _)) = consumers.get_mut(name) else { return false };
        *position = sequence.max(*position);
        true
    }

    pub(super) fn position(&self, name: &str) -> Option<u64> {
        self.lock().get(name).map(|(position, _)| *position)
    }

    /// The last record that no consumer needs. `out_of_bounds`: the last record that is not kept for consumers that
    /// lag. While no consumer pins, nothing is deleted: the projector may not have registered yet.
    pub(super) fn floor(&self, out_of_bounds: u64) -> u64 {
        let consumers = self.lock();
        let lowest = |of: Hold| consumers.values().filter(|(_, hold)| *hold == of).map(|(position, _)| *position).min();
        let Some(pinned) = lowest(Hold::Pins) else { return 0 };
        lowest(Hold::Lags).map_or(pinned, |lagging| pinned.min(lagging.max(out_of_bounds)))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, (u64, Hold)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_pin_are_waited_for_and_those_that_lag_within_bounds() {
        let retention = Retention::default();
        retention.register("events", 10, Hold::Lags);
        assert_eq!(retention.floor(u64::MAX), 0, "nobody pins yet");
        retention.register("projector", 0, Hold::Pins);
        assert!(retention.advance("projector", 50));
        assert!(!retention.advance("nobody", 50));
        assert_eq!(retention.floor(0), 10, "the one that lags is within its bounds");
        assert_eq!(retention.floor(30), 30, "out of bounds");
        assert_eq!(retention.floor(u64::MAX), 50, "never beyond the one that pins");
        assert!(retention.advance("events", 40));
        assert!(retention.advance("events", 20), "it never goes back");
        assert_eq!((retention.floor(30), retention.position("events")), (40, Some(40)));
    }
}
