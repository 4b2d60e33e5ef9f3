//! Wakes drops when time has made something due: a start, an end, an expired hold.
//!
//! One heap for all drops, read against the wall clock at least every quarter of a second, so a clock that is set
//! forward is noticed. An entry may be stale; the tick it causes then finds nothing to do.

use super::clock::Clock;
use super::registry::Registry;
use crate::domain::{DropId, Timestamp};
use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::sync::Notify;

/// How long the scheduler sleeps at the most.
const LONGEST_SLEEP_MS: i64 = 250;
/// How long a drop whose mailbox is full is left alone.
const BUSY_RETRY_MS: i64 = 20;

/// Takes alarms. Cheap to clone; arming never blocks for long and never fails.
#[derive(Clone, Default)]
pub struct Scheduler {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    heap: Mutex<BinaryHeap<Reverse<(Timestamp, DropId)>>>,
    wake: Notify,
}

impl Scheduler {
    /// Asks for a tick of `drop` at `at` (at once, if that is past).
    pub fn arm(&self, at: Timestamp, drop: DropId) {
        let mut heap = self.shared.heap.lock().unwrap_or_else(PoisonError::into_inner);
        let first = heap.peek().is_none_or(|Reverse((earliest, _))| at < *earliest);
        heap.push(Reverse((at, drop)));
        std::mem::drop(heap);
        if first {
            self.shared.wake.notify_one();
        }
    }

    /// Runs until the task is dropped.
    pub async fn run(self, registry: Registry, clock: Clock) {
        loop {
            let now = clock.now();
            for drop in self.due(now) {
                self.tick(&registry, now, drop);
            }
            let sleep = Duration::from_millis(u64::try_from(self.sleep_ms(clock.now())).unwrap_or(0));
            tokio::select! {
                () = self.shared.wake.notified() => {}
                () = tokio::time::sleep(sleep) => {}
            }
        }
    }

    fn due(&self, now: Timestamp) -> Vec<DropId> {
        let mut heap = self.shared.heap.lock().unwrap_or_else(PoisonError::into_inner);
        let mut due = Vec::new();
        while heap.peek().is_some_and(|Reverse((at, _))| *at <= now) {
            due.extend(heap.pop().map(|Reverse((_, drop))| drop));
        }
        due
    }

    fn sleep_ms(&self, now: Timestamp) -> i64 {
        let heap = self.shared.heap.lock().unwrap_or_else(PoisonError::into_inner);
        heap.peek().map_or(LONGEST_SLEEP_MS, |Reverse((at, _))| at.millis_since(now).min(LONGEST_SLEEP_MS))
    }

    fn tick(&self, registry: &Registry, now: Timestamp, drop: DropId) {
        let Some(handle) = registry.get(drop) else { return };
        if handle.tick().is_err() {
            self.arm(now.plus_millis(BUSY_RETRY_MS), drop);
        }
    }
}
