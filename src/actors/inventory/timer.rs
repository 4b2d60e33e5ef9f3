//! Ticks drops when an alarm of the [`scheduler`](super::scheduler) is due.

use super::registry::Registry;
use super::scheduler::{Due, Scheduler};
use crate::actors::clock::Clock;
use crate::domain::{DropId, Moment};

/// Pause before a drop with a full mailbox gets another tick.
const BUSY_RETRY_MS: i64 = 20;

/// Runs until the task is dropped. `again` after a panic: it may have lost due alarms, so each drop gets one tick.
pub async fn run(scheduler: Scheduler, registry: Registry, clock: Clock, again: bool) {
    if again {
        let now = Due::Wall(clock.now());
        registry.all().into_iter().for_each(|handle| scheduler.arm(now, handle.spec.id));
    }
    loop {
        let now = clock.moment();
        for drop in scheduler.due(now) {
            tick(&scheduler, &registry, now, drop);
        }
        scheduler.wait(clock.moment()).await;
    }
}

fn tick(scheduler: &Scheduler, registry: &Registry, now: Moment, drop: DropId) {
    let Some(handle) = registry.get(drop) else { return };
    if handle.tick().is_err() {
        scheduler.arm(Due::Steady(now.steady.plus_millis(BUSY_RETRY_MS)), drop);
    }
}
