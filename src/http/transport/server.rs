//! Builds the server on its socket.

use crate::http::middleware::{cors, trace};
use crate::http::realtime::upgrade::Application;
use crate::http::transport::Connections;
use crate::http::transport::accept::{Door, Encrypted, HTTP_2, Plain};
use crate::http::transport::connection::Connection;
use crate::http::transport::socket::{DISCONNECT_TIMEOUT, Socket, WRITE_BUFFER_BYTES};
use crate::http::transport::watch::{KeepTask, Timeouts};
use crate::http::{Limits, Services, ShutdownSignal, configure};
use actix_codec::{AsyncRead, AsyncWrite};
use actix_http::h1::ExpectHandler;
use actix_http::{HttpService, Request};
use actix_server::Server;
use actix_service::{IntoServiceFactory, Service, ServiceFactory};
use actix_web::body::MessageBody;
use actix_web::dev::{AppConfig, ServiceResponse};
use actix_web::middleware::{Condition, from_fn};
use actix_web::{App, Error};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::num::NonZeroUsize;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// Connections that the kernel queues until they are accepted: a crowd arrives within one second.
const BACKLOG: i32 = 4_096;

/// The server's options besides its services.
#[derive(Clone)]
pub struct ServerOptions {
    /// Number of HTTP threads; one a core if absent.
    pub workers: Option<NonZeroUsize>,
    /// The TLS configuration, see [`super::tls`]; plain HTTP if absent.
    pub tls: Option<rustls::ServerConfig>,
    /// Time limit of a request's head, from the start of the connection, or from the end of `keep_alive`. For bodies,
    /// see [`super::sizes`].
    pub head_timeout: Duration,
    /// How long an idle connection waits for its next request.
    pub keep_alive: Duration,
    /// In each such period a client must read part of a waiting answer.
    pub send_timeout: Duration,
    /// How long connections may take to finish once the server stops.
    pub shutdown: Duration,
    /// The bounds on connections.
    pub connections: Connections,
    /// Supervises the workers' background tasks.
    pub keep: KeepTask,
}

/// Builds the server on a bound socket. It handles no signals: its owner stops it by its handle.
///
/// # Errors
/// If the socket cannot listen.
pub fn build(
    services: Services,
    listener: TcpListener,
    options: ServerOptions,
    shutdown: ShutdownSignal,
    limits: Limits,
) -> io::Result<Server> {
    // A second time, to set the length of the queue: std uses 128.
    rustix::net::listen(&listener, BACKLOG)?;
    let cores = || std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let workers = options.workers.unwrap_or_else(cores).get();
    let origins = services.origins.clone();
    let tls = options.tls.is_some();
    let app = move || {
        shutdown.serve_here();
        // The worker's own: cores would contend for a shared reference count with every request.
        let (shutdown, limits) = (Rc::new(shutdown.clone()), Rc::new(limits.clone()));
        let refused = origins.clone();
        App::new()
            .wrap(from_fn(move |request, next| Rc::clone(&limits).keep(request, next)))
            .wrap(Condition::new(!origins.allowed().is_empty(), cors::allow(origins.allowed())))
            .wrap(Condition::new(!origins.allowed().is_empty(), from_fn(cors::refuse)))
            .wrap(from_fn(move |request, next| {
                let shutdown = Rc::clone(&shutdown);
                refused.log_refused(&request);
                async move {
                    let mut response = trace::trace(tls, request, next).await?;
                    shutdown.last_answer(&mut response);
                    Ok::<_, Error>(response)
                }
            }))
            .configure(configure(services.clone()))
    };
    let server = Server::build()
        .workers(workers)
        .max_concurrent_connections(options.connections.bounds().accepted_per_worker_max(workers))
        .shutdown_timeout(options.shutdown.as_secs())
        .disable_signals();
    let idle = options.keep_alive + options.head_timeout;
    let sockets = Sockets {
        address: listener.local_addr()?,
        door: Door {
            connections: options.connections,
            head_timeout: options.head_timeout,
            keep_alive: options.keep_alive,
            timeouts: Timeouts { idle, send: options.send_timeout },
            keep: options.keep,
            stopping: server.graceful_shutdown_signal(),
        },
    };
    let server = match options.tls {
        // HTTP/2 for clients that ask for it (ALPN).
        Some(mut tls) => {
            tls.alpn_protocols = [HTTP_2, b"http/1.1"].map(<[u8]>::to_vec).into();
            let acceptor = TlsAcceptor::from(Arc::new(tls));
            server.listen("https", listener, move || {
                let app = Application::new(app().into_factory());
                let http1 = sockets.http1::<TlsStream<Socket>, _, _>(&app);
                Encrypted { door: sockets.door.clone(), acceptor: acceptor.clone(), http1, app }
            })?
        }
        None => server.listen("http", listener, move || {
            let app = Application::new(app().into_factory());
            Plain { door: sockets.door.clone(), http1: sockets.http1::<Socket, _, _>(&app) }
        })?,
    };
    Ok(server.run())
}

/// How a worker serves its connections.
#[derive(Clone)]
struct Sockets {
    address: SocketAddr,
    door: Door,
}

impl Sockets {
    /// HTTP/1.1 for one application. An upgrade leaves HTTP together with its socket, which [`actix_web::HttpServer`]
    /// does not support.
    fn http1<T, S, B>(&self, app: &Application<S>) -> HttpService<T, Application<S>, B, ExpectHandler, Application<S>>
    where
        T: Wire,
        S: ServiceFactory<Request, Config = AppConfig, Response = ServiceResponse<B>, Error = Error> + 'static,
        S::InitError: fmt::Debug,
        S::Service: 'static,
        <S::Service as Service<Request>>::Future: 'static,
        B: MessageBody + 'static,
    {
        let stopping = self.door.stopping.clone();
        HttpService::build()
            .graceful_shutdown_signal(move || {
                let stopping = stopping.clone();
                async move { stopping.notified().await }
            })
            .local_addr(self.address)
            .keep_alive(self.door.keep_alive)
            .client_request_timeout(self.door.head_timeout)
            .client_disconnect_timeout(DISCONNECT_TIMEOUT)
            .h1_write_buffer_size(WRITE_BUFFER_BYTES)
            .on_connect_ext(|wire: &T, extensions| _ = extensions.insert(Arc::clone(wire.connection())))
            .upgrade(app.clone())
            .finish(app.clone())
    }
}

/// A connection's stream of bytes, encrypted or not.
trait Wire: AsyncRead + AsyncWrite + Unpin + 'static {
    /// The state of the connection.
    fn connection(&self) -> &Arc<Connection>;
}

impl Wire for Socket {
    fn connection(&self) -> &Arc<Connection> {
        Self::connection(self)
    }
}

impl Wire for TlsStream<Socket> {
    fn connection(&self) -> &Arc<Connection> {
        self.get_ref().0.connection()
    }
}

/// Raises the limit of open files for this process and its children to the hard limit; returns it. Each session needs
/// one, and the usual soft limit (1,024) exists only for `select(2)`.
///
/// # Errors
/// The system's error.
pub fn raise_open_files() -> io::Result<u64> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    Ok(limit.maximum.unwrap_or(u64::MAX))
}
