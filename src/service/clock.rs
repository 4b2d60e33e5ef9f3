//! The wall clock of the use cases, as a value: tests pass another.

use crate::domain::Timestamp;
use std::time::{SystemTime, UNIX_EPOCH};

/// Says what time it is.
pub type Clock = fn() -> Timestamp;

/// The system's clock.
#[must_use]
pub fn wall() -> Timestamp {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
}
