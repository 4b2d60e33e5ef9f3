//! How long the projector sleeps between two batches.
//!
//! Rows can wait, because the journal has them, and buyers cannot. A transaction for every `fdatasync` would cost
//! several times what its rows do, so records gather for a moment. While a crowd orders, SQL gets a small part of the
//! machine, until it is so far behind that readers would notice. A reader that waits for SQL ends any sleep: see
//! [`Projection::reached`](super::Projection::reached).

use crate::domain::limits::{PROJECTOR_BATCH_RECORDS_MAX, PROJECTOR_BEHIND_MAX};
use std::time::Duration;

/// Time between the starts of two batches, unless there is reason to hurry.
const LINGER: Duration = Duration::from_millis(50);
/// Records a second that count as a rush.
const RUSH_PER_S: f64 = 10_000.0;
/// In a rush, the projector sleeps this many times the batch's duration, and less the more records wait.
const REST_TIMES: f64 = 32.0;
/// The longest sleep in a rush.
const REST_MAX: Duration = Duration::from_secs(1);

/// The measurements after a batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// How long the batch took.
    pub took: Duration,
    /// The time from the start of the previous batch to the start of this one.
    pub cycle: Duration,
    /// Records that became durable in that time.
    pub arrived: u64,
    /// Durable records that are not in SQL.
    pub behind: u64,
}

impl Pace {
    /// How long to sleep now.
    pub fn rest(&self) -> Duration {
        let linger = LINGER.saturating_sub(self.took);
        if self.behind >= PROJECTOR_BEHIND_MAX {
            Duration::ZERO
        } else if self.is_rush() {
            let room = 1.0 - self.behind as f64 / PROJECTOR_BEHIND_MAX as f64;
            linger.max(self.took.mul_f64(REST_TIMES * room).min(REST_MAX))
        } else if self.behind >= PROJECTOR_BATCH_RECORDS_MAX as u64 {
            Duration::ZERO
        } else {
            linger
        }
    }

    fn is_rush(&self) -> bool {
        self.arrived as f64 > RUSH_PER_S * self.cycle.as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_gather_a_rush_goes_first_and_nobody_falls_behind_for_ever() {
        let ms = Duration::from_millis;
        let half = PROJECTOR_BEHIND_MAX / 2;
        let batch = PROJECTOR_BATCH_RECORDS_MAX as u64;
        // The batch's duration, records that arrived in the last 100 ms, waiting records; the sleep.
        for (took, arrived, behind, rest) in [
            (ms(1), 0, 0, ms(49)),
            (ms(1), 1_000, batch - 1, ms(49)),
            (ms(60), 999, 0, ms(0)),
            // The rush is over: waiting records are written at once.
            (ms(40), 999, batch, ms(0)),
            (ms(40), 0, PROJECTOR_BEHIND_MAX, ms(0)),
            // A rush.
            (ms(1), 1_001, 0, ms(49)),
            (ms(10), 1_001, 0, ms(320)),
            (ms(10), 1_000_000, half, ms(160)),
            (ms(40), 1_000_000, 0, ms(1_000)),
            (ms(40), 1_000_000, PROJECTOR_BEHIND_MAX, ms(0)),
            (ms(40), 1_000_000, u64::MAX, ms(0)),
        ] {
            let pace = Pace { took, cycle: ms(100), arrived, behind };
            assert_eq!(pace.rest(), rest, "{pace:?}");
        }
    }
}
