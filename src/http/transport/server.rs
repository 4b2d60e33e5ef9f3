//! The sockets: how many, how patient, and how a dead one is noticed.

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

/// Connections that the kernel holds until they are accepted: a crowd arrives within one second.
const BACKLOG: i32 = 4_096;

/// What the server needs to know besides its services.
#[derive(Clone)]
pub struct ServerOptions {
    /// Threads; the machine's cores if absent.
    pub workers: Option<NonZeroUsize>,
    /// What connections are encrypted with, see [`super::tls`]; plain HTTP if absent.
    pub tls: Option<rustls::ServerConfig>,
    /// For the head of a request, counted from the connection's beginning, or from where `keep_alive` ends. For a body, see
    /// [`super::sizes`].
    pub head_timeout: Duration,
    /// How long a connection may wait for its next request.
    pub keep_alive: Duration,
    /// In each such time a client must take some of an answer that waits for it.
    pub send_timeout: Duration,
    /// How long connections may take to finish once the server is told to stop.
    pub shutdown: Duration,
    /// Which connections get in, and what they may hold.
    pub connections: Connections,
    /// Keeps the workers' background tasks going.
    pub keep: KeepTask,
}

/// Builds the server on a socket that is already bound. It takes no signals: its owner stops it by its handle.
///
/// # Errors
/// If the socket does not listen.
pub fn build(
    services: Services,
    listener: TcpListener,
    options: ServerOptions,
    shutdown: ShutdownSignal,
    limits: Limits,
) -> io::Result<Server> {
    // Again, only to set the length of the queue: std has its own opinion (128).
    rustix::net::listen(&listener, BACKLOG)?;
    let cores = || std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let workers = options.workers.unwrap_or_else(cores).get();
    let origins = services.origins.clone();
    let tls = options.tls.is_some();
    let app = move || {
        shutdown.serve_here();
        // This worker's own: a count of owners that workers share would go from core to core with every request.
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
        // HTTP/2 for those who ask for it (ALPN).
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
    /// HTTP/1.1 for one application. What it upgrades leaves HTTP together with its socket, which [`actix_web::HttpServer`] has no way to ask for.
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
    /// What is known of the connection.
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
