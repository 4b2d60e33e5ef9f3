//! The shutdown of a server: accepted requests are answered, with a header that closes the connection.
//!
//! A server that stops reading at once resets requests that were sent before the signal and wait in a socket's buffer.
//! So it serves a moment longer: every answer says `Connection: close`, and once no more requests come, or after
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

/// After this long without a request, all requests sent before are answered.
const QUIET: Duration = Duration::from_millis(100);
/// Limit for clients that keep opening new connections: they are then refused.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// Set once, when the server begins to shut down. Cheap to clone.
#[derive(Clone, Default)]
pub struct ShutdownSignal(Arc<State>);

#[derive(Default)]
struct State {
    set: AtomicBool,
    /// Counted only during the shutdown, so that cores do not contend for it before.
    answered: AtomicU64,
    /// Whether the drain is over.
    over: watch::Sender<bool>,
}

thread_local! {
    /// The server that has this thread as a worker.
    static HERE: RefCell<Option<ShutdownSignal>> = const { RefCell::new(None) };
}

/// Waits until this thread's server has drained: a body that has not arrived by then is given up. Never ends on a
/// thread without a server.
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

    /// From now on each answer is the last on its connection.
    pub fn set(&self) {
        self.0.set.store(true, Ordering::Release);
    }

    /// Whether the server is shutting down.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.0.set.load(Ordering::Acquire)
    }

    /// Waits until requests sent before are read and answered. Requests with incomplete bodies are given up then.
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

    /// Makes an answer the last on its connection, if the server is shutting down.
    pub fn last_answer<B>(&self, response: &mut ServiceResponse<B>) {
        // WebSockets are drained by the hub.
        if self.is_set() && response.response().head().connection_type() != ConnectionType::Upgrade {
            self.0.answered.fetch_add(1, Ordering::Relaxed);
            response.response_mut().head_mut().set_connection_type(ConnectionType::Close);
        }
    }
}
