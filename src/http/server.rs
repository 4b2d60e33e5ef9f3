//! The sockets: how many, how patient, and how a dead one is noticed.

use super::upgrade::Application;
use super::{GoingDown, Limits, Services, configure, cors, lifeline, trace};
use actix_codec::{AsyncRead, AsyncWrite};
use actix_http::h1::ExpectHandler;
use actix_http::{HttpService, Request, TlsAcceptorConfig};
use actix_server::{GracefulShutdownSignal, Server};
use actix_service::{IntoServiceFactory, Service, ServiceFactory};
use actix_tls::accept::rustls_0_23::TlsStream;
use actix_web::body::MessageBody;
use actix_web::dev::{AppConfig, ServiceResponse};
use actix_web::middleware::{Condition, from_fn};
use actix_web::rt::net::TcpStream;
use actix_web::{App, Error};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::num::NonZeroUsize;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// For the other side to close after us.
pub(super) const DISCONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Connections that the kernel holds until they are accepted: a crowd arrives within one second.
const BACKLOG: i32 = 4_096;
/// Connections that may ask for something, over all workers. One that has become a WebSocket session does not count any more:
/// these have a bound of their own (`SESSIONS_MAX`).
const REQUEST_CONNECTIONS_MAX: usize = 20_000;
/// What is collected for one write. A connection's buffer grows to a power of two above it and stays there, and a burst of events
/// fills it on every event stream.
pub(super) const WRITE_BUFFER_BYTES: usize = 15 << 10;
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
    let origins = Arc::clone(&options.cors_allowed_origins);
    let tls = options.tls.is_some();
    let app = move || {
        // This worker's own: a count of owners that workers share would go from core to core with every request.
        let (going_down, limits) = (Rc::new(going_down.clone()), Rc::new(limits.clone()));
        App::new()
            .wrap(from_fn(move |request, next| Rc::clone(&limits).keep(request, next)))
            .wrap(Condition::new(!origins.is_empty(), cors::allow(&origins)))
            .wrap(Condition::new(!origins.is_empty(), from_fn(cors::refuse)))
            .wrap(from_fn(move |request, next| {
                let going_down = Rc::clone(&going_down);
                async move {
                    let mut response = trace::trace(tls, request, next).await?;
                    going_down.last_words(&mut response);
                    Ok::<_, Error>(response)
                }
            }))
            .configure(configure(services.clone()))
    };
    let server = Server::build()
        .workers(workers)
        .max_concurrent_connections(REQUEST_CONNECTIONS_MAX.div_ceil(workers))
        .shutdown_timeout(options.shutdown.as_secs())
        .disable_signals();
    let sockets = Sockets {
        address: listener.local_addr()?,
        head_timeout: options.head_timeout,
        keep_alive: options.keep_alive,
        going_down: server.graceful_shutdown_signal(),
    };
    let server = match options.tls {
        // HTTP/2 for those who ask for it (ALPN).
        Some(tls) => server.listen("https", listener, move || {
            let patience = TlsAcceptorConfig::default().handshake_timeout(sockets.head_timeout);
            sockets.serve(app()).rustls_0_23_with_config(tls.clone(), patience)
        })?,
        None => server.listen("http", listener, move || sockets.serve(app()).tcp())?,
    };
    Ok(server.run())
}

/// How a worker serves its connections.
#[derive(Clone)]
struct Sockets {
    address: SocketAddr,
    head_timeout: Duration,
    keep_alive: Duration,
    going_down: GracefulShutdownSignal,
}

impl Sockets {
    /// HTTP for one application. What it upgrades leaves HTTP together with its socket, which [`actix_web::HttpServer`] has no way to ask for.
    fn serve<T, S, B>(
        &self,
        app: impl IntoServiceFactory<S, Request>,
    ) -> HttpService<T, Application<S>, B, ExpectHandler, Application<S>>
    where
        T: Wire,
        S: ServiceFactory<Request, Config = AppConfig, Response = ServiceResponse<B>, Error = Error> + 'static,
        S::InitError: fmt::Debug,
        S::Service: 'static,
        <S::Service as Service<Request>>::Future: 'static,
        B: MessageBody + 'static,
    {
        let app = Application::new(app.into_factory());
        let going_down = self.going_down.clone();
        let idle_max = self.keep_alive + self.head_timeout;
        HttpService::build()
            .graceful_shutdown_signal(move || {
                let going_down = going_down.clone();
                async move { going_down.notified().await }
            })
            .local_addr(self.address)
            .keep_alive(self.keep_alive)
            .client_request_timeout(self.head_timeout)
            .client_disconnect_timeout(DISCONNECT_TIMEOUT)
            .h1_write_buffer_size(WRITE_BUFFER_BYTES)
            .on_connect_ext(move |connection: &T, extensions| {
                tune(connection.socket());
                lifeline::attach(connection.socket(), extensions, idle_max);
            })
            .upgrade(app.clone())
            .finish(app)
    }
}

/// A connection, encrypted or not.
trait Wire: AsyncRead + AsyncWrite + Unpin + 'static {
    /// The socket beneath.
    fn socket(&self) -> &TcpStream;
}

impl Wire for TcpStream {
    fn socket(&self) -> &TcpStream {
        self
    }
}

impl Wire for TlsStream<TcpStream> {
    fn socket(&self) -> &TcpStream {
        self.get_ref().0
    }
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
