//! Alarms of drops for their next start, end or expired hold.
//!
//! Two ordered sets hold the alarms of all drops, because starts and ends follow the wall clock and holds the steady
//! one. The [`timer`](super::timer) checks both at least every quarter of a second, so a step of the wall clock is
//! noticed. A drop has one alarm in each set, its earliest: it does not matter how often its deadline moves. An alarm
//! may be stale; its tick then finds nothing to do, and the drop arms the next one.

use crate::domain::{DropId, Moment, Timestamp};
use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::Notify;

/// The scheduler's longest sleep.
const LONGEST_SLEEP_MS: i64 = 250;

/// When a drop needs a tick.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Due {
    /// At this wall-clock time.
    Wall(Timestamp),
    /// At this time of the steady clock.
    Steady(Timestamp),
}

/// Accepts alarms. Cheap to clone; arming never blocks for long and never fails.
#[derive(Clone, Default)]
pub struct Scheduler {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    alarms: Mutex<Alarms>,
    wake: Notify,
}

#[derive(Default)]
struct Alarms {
    wall: Heap,
    steady: Heap,
}

/// The earliest alarm of each drop, ordered by time.
#[derive(Default)]
struct Heap {
    order: BTreeSet<(Timestamp, DropId)>,
    of: HashMap<DropId, Timestamp>,
}

impl Heap {
    /// Sets an alarm, unless the drop has an earlier one. Returns whether it is the earliest of all.
    fn arm(&mut self, at: Timestamp, drop: DropId) -> bool {
        match self.of.get(&drop) {
            Some(&armed) if armed <= at => return false,
            Some(&armed) => _ = self.order.remove(&(armed, drop)),
            None => {}
        }
        self.of.insert(drop, at);
        self.order.insert((at, drop));
        self.first() == Some(at)
    }

    fn first(&self) -> Option<Timestamp> {
        self.order.first().map(|(at, _)| *at)
    }

    fn pop_due(&mut self, now: Timestamp) -> Option<DropId> {
        self.first().filter(|at| *at <= now)?;
        let (_, drop) = self.order.pop_first()?;
        self.of.remove(&drop);
        Some(drop)
    }
}

impl Scheduler {
    /// Requests a tick of `drop` at `due` (at once, if that has passed).
    pub fn arm(&self, due: Due, drop: DropId) {
        let mut alarms = self.alarms();
        let first = match due {
            Due::Wall(at) => alarms.wall.arm(at, drop),
            Due::Steady(at) => alarms.steady.arm(at, drop),
        };
        std::mem::drop(alarms);
        if first {
            self.shared.wake.notify_one();
        }
    }

    fn alarms(&self) -> MutexGuard<'_, Alarms> {
        self.shared.alarms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until an alarm may be due.
    pub(super) async fn wait(&self, now: Moment) {
        let sleep = Duration::from_millis(u64::try_from(self.sleep_ms(now)).unwrap_or(0));
        tokio::select! {
            () = self.shared.wake.notified() => {}
            () = tokio::time::sleep(sleep) => {}
        }
    }

    /// Removes the due alarms and returns their drops.
    pub(super) fn due(&self, now: Moment) -> Vec<DropId> {
        let Alarms { wall, steady } = &mut *self.alarms();
        let mut due = Vec::new();
        for (heap, now) in [(wall, now.wall), (steady, now.steady)] {
            while let Some(drop) = heap.pop_due(now) {
                due.push(drop);
            }
        }
        due
    }

    fn sleep_ms(&self, now: Moment) -> i64 {
        let Alarms { wall, steady } = &*self.alarms();
        let until = |heap: &Heap, now: Timestamp| heap.first().map(|at| at.millis_since(now));
        let next = until(wall, now.wall).into_iter().chain(until(steady, now.steady)).min();
        next.map_or(LONGEST_SLEEP_MS, |next| next.min(LONGEST_SLEEP_MS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    /// The deadline of a drop whose first hold changes with every order.
    #[test]
    fn a_drop_has_one_alarm_however_often_its_deadline_moves() {
        let scheduler = Scheduler::default();
        let [busy, other] = [DropId::new(), DropId::new()];
        scheduler.arm(Due::Steady(at(2_000)), other);
        for n in 0..1_000 {
            scheduler.arm(Due::Steady(at(5_000 - n)), busy);
            scheduler.arm(Due::Steady(at(6_000 + n)), busy);
        }
        assert_eq!(scheduler.alarms().steady.order.len(), 2);
        let due = |steady: i64| scheduler.due(Moment { wall: at(0), steady: at(steady) });
        assert_eq!((due(1_999), due(4_000)), (vec![], vec![other]));
        assert_eq!((due(4_001), due(9_000)), (vec![busy], vec![]));
        assert!(scheduler.alarms().steady.of.is_empty());
    }

    #[test]
    fn each_alarm_follows_its_own_clock() {
        let scheduler = Scheduler::default();
        let [start, hold] = [DropId::new(), DropId::new()];
        scheduler.arm(Due::Wall(at(1_100)), start);
        scheduler.arm(Due::Steady(at(1_100)), hold);
        // The wall clock is set back; the hold expires all the same.
        assert_eq!(scheduler.sleep_ms(Moment { wall: at(500), steady: at(1_050) }), 50);
        assert_eq!(scheduler.due(Moment { wall: at(550), steady: at(1_100) }), [hold]);
        assert_eq!(scheduler.sleep_ms(Moment { wall: at(550), steady: at(1_100) }), LONGEST_SLEEP_MS);
        // And forward: a start that has passed fires at once, and no hold expires.
        scheduler.arm(Due::Steady(at(9_000)), hold);
        assert_eq!(scheduler.due(Moment { wall: at(10_000), steady: at(1_200) }), [start]);
    }
}
