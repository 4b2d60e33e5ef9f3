//! A running server says in its database that it lives, so that nobody takes the database away from it by mistake.

use crate::storage::{Heartbeat, Store};
use std::{fs, net::SocketAddr, sync::Arc, time::Duration};
use tracing::debug;
use uuid::Uuid;

/// How often. It is one small write.
const EVERY: Duration = Duration::from_secs(5);
/// A server that was not heard of for so long does not live, or cannot reach its database.
pub(super) const DEAD_AFTER: Duration = Duration::from_secs(20);
/// How long a server that stops tries to say so.
const FAREWELL: Duration = Duration::from_secs(1);

const _: () = assert!(EVERY.as_secs() * 3 < DEAD_AFTER.as_secs());

/// Whether the server that wrote it lives, as far as anybody can tell. A clock that was set back makes nobody live for ever: a server
/// that lives goes on with the new time.
pub(super) fn lives(beat: &Heartbeat) -> bool {
    u128::from(beat.ago_ms.unsigned_abs()) < DEAD_AFTER.as_millis()
}

/// One server's sign of life.
#[derive(Clone)]
pub(super) struct Pulse {
    store: Arc<dyn Store>,
    journal: Uuid,
    epoch: u32,
    server: String,
}

impl Pulse {
    pub fn new(store: Arc<dyn Store>, journal: Uuid, epoch: u32, address: SocketAddr) -> Self {
        let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let server = format!("process {} on {} at {address}", std::process::id(), host.trim());
        Self { store, journal, epoch, server }
    }

    /// Says it once. A database that is away hears it later.
    pub async fn beat(&self) {
        if let Err(error) = self.store.beat(self.journal, self.epoch, &self.server).await {
            debug!(%error, "the database did not hear that this server lives");
        }
    }

    /// Says it again and again.
    pub async fn run(self) {
        loop {
            tokio::time::sleep(EVERY).await;
            self.beat().await;
        }
    }

    /// Says that it stops.
    pub async fn end(&self) {
        let _ = tokio::time::timeout(FAREWELL, self.store.rest(self.journal, self.epoch)).await;
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
