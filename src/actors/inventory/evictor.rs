//! Evicts drops from memory once SQL has every record of them: settled drops, and drops that start far ahead.

use super::registry::{DropHandle, Registry};
use crate::actors::clock::Clock;
use crate::actors::consumers::projector::Projection;
use crate::domain::limits::SLEEP_AHEAD_MS;
use crate::domain::{DropId, DropStatus, KeyDigest, Timestamp};
use std::{collections::VecDeque, sync::Arc, time::Duration};

const ROUND: Duration = Duration::from_secs(1);
/// How long a settled drop's keys stay bound to it, in milliseconds: the published policy is at least a day.
const KEYS_KEPT_MS: i64 = 25 * 60 * 60 * 1000;
/// Keys removed without a pause.
const KEYS_AT_ONCE: usize = 10_000;

/// Evicted drops with their keys and the time of eviction, oldest first.
pub type Gone = VecDeque<(Timestamp, DropId, Vec<KeyDigest>)>;

/// Runs until the task is dropped. `gone` is the state of an earlier run.
pub async fn run(registry: Registry, projection: Projection, clock: Clock, gone: &mut Gone) {
    loop {
        tokio::time::sleep(ROUND).await;
        registry.refused_keys().sweep(clock.steady());
        let horizon = clock.now().plus_millis(SLEEP_AHEAD_MS);
        for handle in registry.all() {
            if let Some(Left::Settled(keys)) = retire(&registry, &projection, &handle, horizon).await {
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

/// Why a drop left memory.
enum Left {
    /// The drop is over. Its remembered keys.
    Settled(Vec<KeyDigest>),
    /// The drop is far ahead, see [`super::sleepers`]. Its keys stay bound to it.
    Asleep,
}

/// Evicts one drop if it may leave and is projected. Between its consent and its removal it answers `Gone`, and its
/// callers read SQL, which is complete by then.
async fn retire(
    registry: &Registry,
    projection: &Projection,
    handle: &Arc<DropHandle>,
    horizon: Timestamp,
) -> Option<Left> {
    let published = handle.cell.read();
    let far = published.status == DropStatus::Scheduled && published.spec.starts_at > horizon;
    // A new drop that is not durable yet has no position.
    let projected = published.position > 0 && published.position <= projection.watermark();
    if !(published.settled || far) || !projected || !projection.has_all_of(handle.spec.id) {
        return None;
    }
    let keys = registry.retire(handle, horizon).await?;
    registry.remove(handle);
    if far {
        tracing::debug!(drop = %handle.spec.id, starts_at = %published.spec.starts_at, "starts far ahead; out of memory");
        return Some(Left::Asleep);
    }
    tracing::info!(drop = %handle.spec.id, "settled; out of memory");
    Some(Left::Settled(keys))
}
