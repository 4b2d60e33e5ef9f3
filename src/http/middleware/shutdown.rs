//! The last moments of a server: whoever got in is answered, and told not to come back on this connection.
//!
//! A server that stops reading at once resets requests that were sent before it was asked to stop and that wait in a socket's
//! buffer. So it goes on for a moment: every answer says `Connection: close`, and once nobody asks any more, or after
//! `DRAIN_TIMEOUT`, the sockets close.

use actix_web::dev::ServiceResponse;
use actix_web::http::ConnectionType;
use std::{
    cell::RefCell,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

/// A server that nobody asked for this long has answered what was sent before.
const QUIET: Duration = Duration::from_millis(100);
/// For clients that come again and again with new connections: they will be turned away.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// Set once, when the server begins to go down. Cheap to clone.
#[derive(Clone, Default)]
pub struct ShutdownSignal(Arc<State>);

#[derive(Default)]
struct State {
    set: AtomicBool,
    /// Counted only from then on, so that busy cores do not fight over it.
    answered: AtomicU64,
    /// Whether the drain is over.
    over: watch::Sender<bool>,
}

thread_local! {
    /// Of the server that has this thread for a worker.
    static HERE: RefCell<Option<ShutdownSignal>> = const { RefCell::new(None) };
}

/// Waits until this thread's server waits for nobody any more: what has not arrived by then was not there when the signal came. Never ends
/// on a thread without a server.
pub async fn over() {
    let here = HERE.with_borrow(|here| here.as_ref().map(|shutdown| shutdown.0.over.subscribe()));
    let Some(mut over) = here else { return std::future::pending().await };
    if over.wait_for(|over| *over).await.is_err() {
        std::future::pending::<()>().await;
    }
}

impl ShutdownSignal {
    /// Makes this thread one of the server's workers.
    pub fn serve_here(&self) {
        HERE.set(Some(self.clone()));
    }

    /// From now on answers are the last on their connection.
    pub fn set(&self) {
        self.0.set.store(true, Ordering::Release);
    }

    /// Whether it began.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.0.set.load(Ordering::Acquire)
    }

    /// Waits until what was sent before is read and answered. Requests whose bodies are not there then are given up.
    pub async fn drain(&self) {
        self.until_quiet().await;
        self.0.over.send_replace(true);
    }

    async fn until_quiet(&self) {
        let deadline = Instant::now() + DRAIN_TIMEOUT;
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
    pub fn last_answer<B>(&self, response: &mut ServiceResponse<B>) {
        // A WebSocket has a drain of its own.
        if self.is_set() && response.response().head().connection_type() != ConnectionType::Upgrade {
            self.0.answered.fetch_add(1, Ordering::Relaxed);
            response.response_mut().head_mut().set_connection_type(ConnectionType::Close);
        }
    }
}
