//! Lets settled drops leave memory once SQL has the whole truth about them.

use super::clock::Clock;
use super::projector::Projection;
use super::registry::{DropHandle, Registry};
use crate::domain::{DropId, KeyDigest, Timestamp};
use std::{collections::VecDeque, sync::Arc, time::Duration};

const ROUND: Duration = Duration::from_secs(1);
/// How long a settled drop's keys stay bound to it: the published policy is at least a day.
const KEYS_KEPT_MS: i64 = 25 * 60 * 60 * 1000;
/// Keys that are forgotten without a pause.
const KEYS_AT_ONCE: usize = 10_000;

/// Drops that have left memory, and when. Oldest first.
pub type Gone = VecDeque<(Timestamp, DropId, Vec<KeyDigest>)>;

/// Runs until the task is dropped. `gone` is what earlier runs have left.
pub async fn run(registry: Registry, projection: Projection, clock: Clock, gone: &mut Gone) {
    loop {
        tokio::time::sleep(ROUND).await;
        for handle in registry.all() {
            if let Some(keys) = retire(&registry, &projection, &handle).await {
                gone.push_back((clock.steady(), handle.spec.id, keys));
            }
        }
        while gone.front().is_some_and(|(at, ..)| clock.steady().millis_since(*at) >= KEYS_KEPT_MS) {
            let Some((_, drop, keys)) = gone.pop_front() else { break };
            for some in keys.chunks(KEYS_AT_ONCE) {
                registry.forget_claims(drop, some);
                tokio::task::yield_now().await;
            }
        }
    }
}

/// Takes one drop out of memory if it is settled and projected, and returns the keys that it remembers. Between its consent and its removal it answers `Gone`,
/// and whoever asks reads SQL, which is complete by then.
async fn retire(registry: &Registry, projection: &Projection, handle: &Arc<DropHandle>) -> Option<Vec<KeyDigest>> {
    let published = handle.cell.read();
    let in_sql = published.position <= projection.watermark() && projection.has_all_of(handle.spec.id);
    if !published.settled || !in_sql {
        return None;
    }
    let keys = registry.retire(handle).await?;
    registry.remove(handle);
    tracing::info!(drop = %handle.spec.id, "settled; out of memory");
    Some(keys)
}
