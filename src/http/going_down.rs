//! The last moments of a server: whoever got in is answered, and told not to come back on this connection.
//!
//! A server that stops reading at once resets requests that were sent before it was asked to stop and that wait in a socket's
//! buffer. So it goes on for a moment: every answer says `Connection: close`, and once nobody asks any more, or after
//! `FAREWELL_MAX`, the sockets close.

use actix_web::dev::ServiceResponse;
use actix_web::http::ConnectionType;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::time::{Instant, sleep};

/// A server that nobody asked for this long has answered what was sent before.
const QUIET: Duration = Duration::from_millis(100);
/// For clients that come again and again with new connections: they will be turned away.
const FAREWELL_MAX: Duration = Duration::from_secs(1);

/// Set once, when the server begins to go down. Cheap to clone.
#[derive(Clone, Default)]
pub struct GoingDown(Arc<State>);

#[derive(Default)]
struct State {
    set: AtomicBool,
    /// Counted only from then on, so that busy cores do not fight over it.
    answered: AtomicU64,
}

impl GoingDown {
    /// From now on answers are the last on their connection.
    pub fn set(&self) {
        self.0.set.store(true, Ordering::Release);
    }

    /// Whether it began.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.0.set.load(Ordering::Acquire)
    }

    /// Waits until what was sent before is read and answered.
    pub async fn farewell(&self) {
        let deadline = Instant::now() + FAREWELL_MAX;
        let answered = || self.0.answered.load(Ordering::Relaxed);
        let mut before = answered();
        loop {
            sleep(QUIET).await;
            if answered() == before || Instant::now() >= deadline {
                return;
            }
            before = answered();
        }
    }

    /// Makes an answer the last on its connection, once it began.
    pub fn last_words<B>(&self, response: &mut ServiceResponse<B>) {
        // A WebSocket has a farewell of its own.
        if self.is_set() && response.response().head().connection_type() != ConnectionType::Upgrade {
            self.0.answered.fetch_add(1, Ordering::Relaxed);
            response.response_mut().head_mut().set_connection_type(ConnectionType::Close);
        }
    }
}
