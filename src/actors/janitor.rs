//! Lets settled drops leave memory once SQL has the whole truth about them.

use super::clock::Clock;
use super::projector::Projection;
use super::registry::{DropHandle, Registry};
use crate::domain::{DropId, Timestamp};
use std::{collections::VecDeque, sync::Arc, time::Duration};

const ROUND: Duration = Duration::from_secs(1);
/// How long a settled drop's keys stay bound to it: the published policy is at least a day.
const KEYS_KEPT_MS: i64 = 25 * 60 * 60 * 1000;

/// Runs until the task is dropped.
pub async fn run(registry: Registry, projection: Projection, clock: Clock) {
    let mut gone: VecDeque<(Timestamp, DropId)> = VecDeque::new();
    loop {
        tokio::time::sleep(ROUND).await;
        for handle in registry.all() {
            if retire(&registry, &projection, &handle).await {
                gone.push_back((clock.steady(), handle.spec.id));
            }
        }
        while let Some(&(at, drop)) = gone.front() {
            if clock.steady().millis_since(at) < KEYS_KEPT_MS {
                break;
            }
            registry.forget_claims(drop);
            gone.pop_front();
        }
    }
}

/// Takes one drop out of memory if it is settled and projected. Between its consent and its removal it answers `Gone`,
/// and whoever asks reads SQL, which is complete by then.
async fn retire(registry: &Registry, projection: &Projection, handle: &Arc<DropHandle>) -> bool {
    let published = handle.cell.read();
    if !published.settled || published.position > projection.watermark() || !registry.retire(handle).await {
        return false;
    }
    registry.remove(handle);
    tracing::info!(drop = %handle.spec.id, "settled; out of memory");
    true
}
