//! The sockets: how many, how patient, and how a dead one is noticed.

use super::{GoingDown, Limits, Services, configure, cors, lifeline, trace};
use crate::domain::limits::SESSIONS_MAX;
use actix_tls::accept::rustls_0_23::TlsStream;
use actix_web::dev::Server;
use actix_web::middleware::{Condition, from_fn};
use actix_web::rt::net::TcpStream;
use actix_web::{App, HttpServer};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io;
use std::net::TcpListener;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

/// For the other side to close after us.
const DISCONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Connections that the kernel holds until they are accepted: a crowd arrives within one second.
const BACKLOG: i32 = 4_096;
/// Connections that are not WebSocket sessions, over all workers.
const REQUEST_CONNECTIONS_MAX: usize = 20_000;
/// What is collected for one write. A connection's buffer grows to a power of two above it and stays there, and a burst of events
/// fills it on every session.
const WRITE_BUFFER_BYTES: usize = 15 << 10;
/// How long sent data may stay unacknowledged (`TCP_USER_TIMEOUT`). It ends the sessions of clients that vanished
/// without a word, also those that a full socket has frozen.
const UNACKNOWLEDGED_MS_MAX: u32 = 30_000;

/// What the server needs to know besides its services.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// Threads; the machine's cores if absent.
    pub workers: Option<NonZeroUsize>,
    /// Origins whose pages may read our answers.
    pub cors_allowed_origins: Arc<[String]>,
    /// What connections are encrypted with, see [`super::tls`]; plain HTTP if absent.
    pub tls: Option<rustls::ServerConfig>,
    /// For the head of a request, counted from the connection's beginning, or from where `keep_alive` ends. For a body, see
    /// [`super::sizes`].
    pub head_timeout: Duration,
    /// How long a connection may wait for its next request.
    pub keep_alive: Duration,
    /// How long connections may take to finish once the server is told to stop.
    pub shutdown: Duration,
}

/// Builds the server on a socket that is already bound. It takes no signals: its owner stops it by its handle.
///
/// # Errors
/// If the socket does not listen.
pub fn build(
    services: Services,
    listener: TcpListener,
    options: ServerOptions,
    going_down: GoingDown,
    limits: Limits,
) -> io::Result<Server> {
    if let Err(error) = raise_open_files() {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
    // Again, only to set the length of the queue: std has its own opinion (128).
    rustix::net::listen(&listener, BACKLOG)?;
    let cores = || std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let workers = options.workers.unwrap_or_else(cores).get();
    let connections_per_worker = (SESSIONS_MAX + REQUEST_CONNECTIONS_MAX).div_ceil(workers);
    let origins = options.cors_allowed_origins;
    let idle_max = options.keep_alive + options.head_timeout;
    let server = HttpServer::new(move || {
        let (going_down, limits) = (going_down.clone(), limits.clone());
        App::new()
            .wrap(from_fn(move |request, next| limits.clone().keep(request, next)))
            .wrap(Condition::new(!origins.is_empty(), cors::allow(&origins)))
            .wrap(Condition::new(!origins.is_empty(), from_fn(cors::refuse)))
            .wrap(from_fn(move |request, next| going_down.clone().last_words(request, next)))
            .wrap(from_fn(trace::trace))
            .configure(configure(services.clone()))
    });
    let server = server
        .workers(workers)
        .max_connections(connections_per_worker)
        .keep_alive(options.keep_alive)
        .client_request_timeout(options.head_timeout)
        .client_disconnect_timeout(DISCONNECT_TIMEOUT)
        .shutdown_timeout(options.shutdown.as_secs())
        .h1_write_buffer_size(WRITE_BUFFER_BYTES)
        .on_connect(move |connection, extensions| {
            if let Some(socket) = connection.downcast_ref::<TcpStream>() {
                tune(socket);
                lifeline::attach(socket, extensions, idle_max);
            } else if let Some(encrypted) = connection.downcast_ref::<TlsStream<TcpStream>>() {
                tune(encrypted.get_ref().0);
                lifeline::attach(encrypted.get_ref().0, extensions, idle_max);
            }
        })
        .disable_signals();
    let server = match options.tls {
        // HTTP/2 for those who ask for it (ALPN).
        Some(tls) => server.tls_handshake_timeout(options.head_timeout).listen_rustls_0_23(listener, tls)?,
        None => server.listen(listener)?,
    };
    Ok(server.run())
}

/// Lets this process, and those that it starts, open as many files as it may; returns how many. Each session is one, and the usual soft limit
/// (1,024) is there for the sake of `select(2)` only.
///
/// # Errors
/// What the system says.
pub fn raise_open_files() -> io::Result<u64> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    Ok(limit.maximum.unwrap_or(u64::MAX))
}

/// A socket that cannot be tuned still works, so this fails in silence: it is gone, most likely.
fn tune(socket: &TcpStream) {
    // Answers and events are written whole: waiting for more to send would only delay them.
    let _ = socket.set_nodelay(true);
    #[cfg(target_os = "linux")]
    let _ = rustix::net::sockopt::set_tcp_user_timeout(socket, UNACKNOWLEDGED_MS_MAX);
}
