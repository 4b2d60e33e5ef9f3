//! The composition root: open, recover, start, serve, drain.

pub mod admin;
mod adopt;
mod background;
pub mod consumers;
mod health;
mod heartbeat;
pub mod keys;
mod last_claim;
mod late_database;
mod metrics;
pub mod offsets;
mod opening;
mod ownership;
mod payments;
mod privacy;
pub mod projection;
pub mod prompt;
pub mod reconcile;
mod start;
mod steps;
mod supervisor;

pub use adopt::{adopt, give_back, require_schema};
pub use privacy::create_data_dir;

use crate::actors::inventory::recovery::RecoveryFailure;
use crate::actors::{Hub, Registry};
use crate::config::Config;
use crate::http::{ShutdownSignal, TlsError};
use crate::journal::{Journal, JournalError, JournalReader, RecoveryError};
use crate::service::login_log::LoginLog;
use crate::service::settle::Settler;
use crate::storage::{Store, StoreError};
use actix_web::dev::{Server, ServerHandle};
use std::{io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};
use supervisor::{Lost, Supervisor};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::{sync::watch, task::JoinHandle};
use tracing::{error, info, warn};

/// Why the server failed to start or to end cleanly. One readable line.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The data directory or the socket failed.
    #[error("cannot {what}: {error}")]
    Io {
        /// The failed operation, as a verb for the message.
        what: String,
        error: io::Error,
    },
    /// The certificate or its key is unusable.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The database failed, or cannot be used.
    #[error("database: {0}")]
    Store(#[from] StoreError),
    /// The database did not become available in time.
    #[error("database: gave up after {seconds} s: {error}")]
    NoDatabase {
        /// How long the start waited.
        seconds: u64,
        error: StoreError,
    },
    /// A signal ended the start.
    #[error("{0} came before the server was up")]
    Interrupted(&'static str),
    /// The journal cannot be opened.
    #[error("journal: {0}")]
    Journal(#[from] RecoveryError),
    /// The database does not belong to this journal.
    #[error("{0}")]
    UnknownDatabase(String),
    /// The drops cannot be rebuilt.
    #[error("recovery: {0}")]
    Recovery(#[from] RecoveryFailure),
    /// Another server has taken the database over.
    #[error("another server has taken the database over; this one has stopped")]
    Fenced,
    /// The server started without the database, which turned out to be another server's when it was back.
    #[error(
        "{reason}. This server had started without the database, and has stopped selling. What it acknowledged after record {after} is in the \
         journal in {data_dir} alone: if another server has sold the same drops, both have to be reconciled, see docs/OPERATIONS.md"
    )]
    ClaimLost {
        /// How the database said so.
        reason: String,
        /// The journal's last record at the start.
        after: u64,
        data_dir: String,
    },
    /// The journal failed while serving.
    #[error("{0}")]
    Poisoned(JournalError),
    /// A vital task failed too often.
    #[error("the background task {task} does not stay up: {reason}; a restart recovers what was acknowledged")]
    TaskLost {
        task: &'static str,
        /// The last panic or end.
        reason: String,
    },
    /// The HTTP server ended by itself.
    #[error("the HTTP server ended by itself: {0}")]
    ServerEnded(String),
}

impl AppError {
    fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |error| Self::Io { what, error }
    }
}

/// A running server with everything that it needs.
pub struct App {
    /// The address that the server listens on.
    pub address: SocketAddr,
    /// `None` once the server has ended.
    server: Option<JoinHandle<io::Result<()>>>,
    handle: ServerHandle,
    /// `None` once it was closed.
    journal: Option<Journal<crate::actors::Decisions>>,
    reader: JournalReader,
    registry: Registry,
    hub: Hub,
    settler: Settler,
    store: Arc<dyn Store>,
    logins: LoginLog,
    projector: JoinHandle<()>,
    stop_consumers: watch::Sender<bool>,
    background: Vec<JoinHandle<()>>,
    supervisor: Supervisor,
    shutdown: ShutdownSignal,
    pulse: heartbeat::Pulse,
    fenced: watch::Receiver<bool>,
    /// Why the database is not this journal's any more, after a start without it.
    claim_lost: watch::Receiver<Option<String>>,
    /// The journal's last record at the start.
    recovered: u64,
    data_dir: PathBuf,
    time_limit: Duration,
    signals: Signals,
}

/// Why a server shuts down.
enum Cause {
    Signal(&'static str),
    Poison(String),
    Fenced,
    ClaimLost(String),
    TaskLost(Lost),
    ServerEnded(String),
}

impl App {
    /// Opens everything, recovers, and starts to serve.
    ///
    /// # Errors
    /// [`AppError`]; no request was served then.
    pub async fn start(config: &Config) -> Result<Self, AppError> {
        // A container's first process gets no signal that it has no handler for.
        let hear = || Signals::hear().map_err(AppError::io("hear signals"));
        let (mut early, signals) = (hear()?, hear()?);
        tokio::select! {
            biased;
            name = early.next() => Err(AppError::Interrupted(name)),
            started = start::start(config, signals) => started,
        }
    }

    /// Serves until a signal or a failure of the journal, then drains.
    ///
    /// # Errors
    /// [`AppError::Poisoned`] if the journal failed: waiting requests were answered with an unknown outcome.
    /// [`AppError::Fenced`] if another server has taken the database over.
    pub async fn run(mut self) -> Result<(), AppError> {
        let mut poison = self.reader.poisoned();
        let mut fenced = self.fenced.clone();
        let (mut lost, mut claim_lost) = (self.supervisor.lost(), self.claim_lost.clone());
        let cause = tokio::select! {
            name = self.signals.next() => Cause::Signal(name),
            Ok(reason) = poison.wait_for(Option::is_some) => {
                Cause::Poison(reason.as_ref().map_or_else(String::new, ToString::to_string))
            }
            Ok(_) = fenced.wait_for(|fenced| *fenced) => Cause::Fenced,
            Ok(reason) = claim_lost.wait_for(Option::is_some) => {
                Cause::ClaimLost(reason.clone().unwrap_or_default())
            }
            Ok(lost) = lost.wait_for(Option::is_some) => Cause::TaskLost(lost.clone().expect("it was waited for")),
            reason = end_of(&mut self.server) => Cause::ServerEnded(reason),
        };
        match &cause {
            Cause::Signal(name) => info!(signal = name, "shutting down: finishing what is in flight"),
            Cause::Poison(reason) => {
                error!(%reason, "shutting down: the journal failed; a restart recovers what was acknowledged");
            }
            Cause::Fenced => error!("shutting down: another server has taken the database over"),
            Cause::ClaimLost(reason) => {
                error!(%reason, "shutting down: the database is not this journal's any more; nothing is sold from now on");
            }
            Cause::TaskLost(Lost { task, .. }) => {
                error!(task, "shutting down: a task that must not be missing is lost")
            }
            Cause::ServerEnded(reason) => error!(%reason, "shutting down: the HTTP server ended"),
        }
        let (after, data_dir) = (self.recovered, self.data_dir.display().to_string());
        // Another server sells these drops.
        let at_once = matches!(cause, Cause::Fenced | Cause::ClaimLost(_));
        self.drain(at_once).await?;
        match cause {
            Cause::Signal(_) | Cause::Poison(_) => Ok(()),
            Cause::Fenced => Err(AppError::Fenced),
            Cause::ClaimLost(reason) => Err(AppError::ClaimLost { reason, after, data_dir }),
            Cause::TaskLost(Lost { task, reason }) => Err(AppError::TaskLost { task, reason }),
            Cause::ServerEnded(reason) => Err(AppError::ServerEnded(reason)),
        }
    }

    /// Answers accepted requests, closes sessions, syncs, projects. `at_once`: nothing more is decided.
    async fn drain(mut self, at_once: bool) -> Result<(), AppError> {
        self.shutdown.set();
        let stopped = if at_once { self.journal.take().map_or(Ok(()), Journal::close) } else { Ok(()) };
        if at_once {
            self.pulse.lose().await;
        }
        // Half of the time limit is for the sessions, the rest for requests on other connections.
        tokio::join!(self.hub.drain(self.time_limit / 2), self.shutdown.drain());
        self.handle.stop(true).await;
        if let Some(server) = self.server
            && let Ok(Err(error)) = server.await
        {
            warn!(%error, "the HTTP server did not end well");
        }
        // Charges continue without their client; the gateway's answers should still be recorded.
        let waited = tokio::time::timeout(self.time_limit, async {
            while self.settler.running() > 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        if self.settler.running() > 0 && waited.await.is_err() {
            warn!(
                charges = self.settler.running(),
                "some charges have no outcome yet; the next start asks the gateway"
            );
        }
        self.supervisor.let_end();
        self.background.iter().for_each(JoinHandle::abort);
        let closed = stopped.and(self.journal.map_or(Ok(()), Journal::close));
        let _ = self.stop_consumers.send(true);
        if tokio::time::timeout(self.time_limit, self.projector).await.is_err() {
            warn!("the projector did not finish; the next start projects the rest");
        }
        self.registry.stop();
        self.logins.write(&*self.store).await;
        self.pulse.end().await;
        self.store.close().await;
        closed.map_err(AppError::Poisoned)?;
        info!("shutdown complete");
        Ok(())
    }
}

/// Waits until the server ends by itself, which it should not, and returns the reason.
async fn end_of(server: &mut Option<JoinHandle<io::Result<()>>>) -> String {
    let Some(running) = server else { return std::future::pending().await };
    let ended = running.await;
    *server = None;
    match ended {
        Ok(Ok(())) => "nobody asked it to".to_owned(),
        Ok(Err(error)) => error.to_string(),
        Err(error) => error.to_string(),
    }
}

/// SIGTERM and Ctrl-C, received from creation on.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn hear() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

fn spawn_server(server: Server) -> (ServerHandle, JoinHandle<io::Result<()>>) {
    (server.handle(), actix_web::rt::spawn(server))
}
