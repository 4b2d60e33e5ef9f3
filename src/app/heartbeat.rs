//! A running server writes a heartbeat to its database, so that an operator does not give the database away by mistake.
//! What the database answers is recorded as the server's last claim.

use super::last_claim::ClaimFile;
use crate::service::revocations::Revocations;
use crate::storage::{Heartbeat, Store};
use std::{fs, net::SocketAddr, sync::Arc, time::Duration};
use tracing::debug;
use uuid::Uuid;

/// Interval of heartbeats, each a small write.
const EVERY: Duration = Duration::from_secs(5);
/// A server without a heartbeat for this long is dead, or cannot reach its database.
pub(super) const DEAD_AFTER: Duration = Duration::from_secs(20);
/// How long a stopping server tries to delete its heartbeat.
const FAREWELL: Duration = Duration::from_secs(1);

const _: () = assert!(EVERY.as_secs() * 3 < DEAD_AFTER.as_secs());

/// Whether a heartbeat's server seems alive. A clock that was set back keeps no dead server alive forever: a living one
/// overwrites the heartbeat with the new time.
pub(super) fn lives(beat: &Heartbeat) -> bool {
    u128::from(beat.ago_ms.unsigned_abs()) < DEAD_AFTER.as_millis()
}

/// Writes one server's heartbeats.
#[derive(Clone)]
pub(super) struct Pulse {
    store: Arc<dyn Store>,
    journal: Uuid,
    epoch: u32,
    server: String,
    /// The record of the claim, if there is one.
    claim: Option<ClaimFile>,
}

impl Pulse {
    pub fn new(store: Arc<dyn Store>, journal: Uuid, epoch: u32, address: SocketAddr) -> Self {
        let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let server = format!("process {} on {} at {address}", std::process::id(), host.trim());
        Self { store, journal, epoch, server, claim: None }
    }

    /// From now on the claim is recorded with each heartbeat.
    pub fn recording(self, claim: Option<ClaimFile>) -> Self {
        Self { claim, ..self }
    }

    /// Writes one heartbeat. If the database is away, a later one replaces it.
    pub async fn beat(&self) {
        let asked_at = self.claim.as_ref().map(ClaimFile::now);
        let heard = self.store.beat(self.journal, self.epoch, &self.server).await;
        match (heard, self.claim.as_ref().zip(asked_at)) {
            (Ok(true), Some((claim, asked_at))) => claim.confirm(asked_at).await,
            (Ok(false), Some((claim, _))) => claim.forget().await,
            (Ok(_), None) => {}
            (Err(error), _) => debug!(%error, "the database did not hear that this server lives"),
        }
    }

    /// Writes a heartbeat in each interval, forever. A claim is recorded only once the copy of the revocations is there:
    /// a start without the database needs both.
    pub async fn run(self, revocations: Revocations) {
        if self.claim.is_some() {
            revocations.kept().await;
            self.beat().await;
        }
        loop {
            tokio::time::sleep(EVERY).await;
            self.beat().await;
        }
    }

    /// Deletes the heartbeat, so that the server counts as stopped at once. Another server may have the database from
    /// then on, so this one does not start without it.
    pub async fn end(&self) {
        let ended = tokio::time::timeout(FAREWELL, self.store.rest(self.journal, self.epoch)).await;
        if let (Ok(Ok(())), Some(claim)) = (ended, &self.claim) {
            claim.forget().await;
        }
    }

    /// Forgets the claim: the database is not this journal's any more.
    pub async fn lose(&self) {
        if let Some(claim) = &self.claim {
            claim.forget().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_was_heard_of_lately_lives() {
        let beat = |ago_ms| Heartbeat { journal: Uuid::nil(), server: String::new(), ago_ms };
        for (ago_ms, alive) in
            [(0, true), (19_999, true), (20_000, false), (-1_000, true), (-3_600_000, false), (i64::MIN, false)]
        {
            assert_eq!(lives(&beat(ago_ms)), alive, "{ago_ms}");
        }
    }
}
