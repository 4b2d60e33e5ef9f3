//! From an accepted socket to HTTP/1.1 or HTTP/2.

use super::admission::Connections;
use super::connection::Connection;
use super::http2;
use super::metrics::Refusal;
use super::socket::Socket;
use super::watch::{self, KeepTask, Timeouts};
use actix_http::error::DispatchError;
use actix_http::{Protocol, Request};
use actix_server::GracefulShutdownSignal;
use actix_service::{Service, ServiceFactory};
use actix_web::Error;
use actix_web::body::MessageBody;
use actix_web::dev::ServiceResponse;
use actix_web::rt::net::TcpStream;
use futures_util::future::LocalBoxFuture;
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// How long sent data may stay unacknowledged (`TCP_USER_TIMEOUT`), in milliseconds. It ends sessions of vanished
/// clients, even those that a full socket has blocked.
const UNACKNOWLEDGED_MS_MAX: u32 = 30_000;
/// The answer to a connection past a bound, without TLS.
const REFUSED: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nretry-after: 5\r\nconnection: close\r\n\r\n";
/// The name of HTTP/2 in TLS (ALPN).
pub const HTTP_2: &[u8] = b"h2";

/// Admits connections and watches over them.
#[derive(Clone)]
pub struct Door {
    /// The counts and bounds of connections.
    pub connections: Connections,
    /// Time limit of a request's head, and of the TLS handshake.
    pub head_timeout: Duration,
    /// How long an idle connection waits for its next request.
    pub keep_alive: Duration,
    /// When the watch ends a connection.
    pub timeouts: Timeouts,
    /// Supervises the task of the watch.
    pub keep: KeepTask,
    /// Signals that the server stops.
    pub stopping: GracefulShutdownSignal,
}

impl Door {
    /// An admitted socket; `None` if it was refused.
    fn open(&self, io: TcpStream, encrypted: bool) -> Option<Socket> {
        let peer = io.peer_addr().ok();
        let admission = match self.connections.admit(peer.map(|peer| peer.ip())) {
            Ok(admission) => admission,
            Err(refusal) => {
                refuse(&io, refusal, encrypted);
                return None;
            }
        };
        tune(&io);
        let connection = Arc::new(Connection::new(&io, admission, watch::round())?);
        watch::add(&connection, self.timeouts, &self.keep);
        Some(Socket::new(io, peer, connection))
    }
}

/// Sends the refusal, if that is possible without waiting, and closes.
fn refuse(io: &TcpStream, refusal: Refusal, encrypted: bool) {
    tracing::debug!(?refusal, "a connection was refused");
    if !encrypted {
        // Reads the request first: closing a socket with unread data would discard the answer.
        let _ = recv(io, [0; 4 << 10].as_mut_slice(), RecvFlags::DONTWAIT);
        let _ = send(io, REFUSED, SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
    }
    let _ = shutdown(io, Shutdown::Write);
}

/// An untuned socket still works, so errors are ignored: most likely it is gone.
fn tune(socket: &TcpStream) {
    // Answers and events are written whole: waiting for more bytes would only delay them.
    let _ = socket.set_nodelay(true);
    #[cfg(target_os = "linux")]
    let _ = rustix::net::sockopt::set_tcp_user_timeout(socket, UNACKNOWLEDGED_MS_MAX);
}

/// The input of the HTTP/1.1 service: a socket, its protocol, and the client's address.
pub type Http1<T> = (T, Protocol, Option<SocketAddr>);

/// Serves HTTP/1.1 without encryption.
pub struct Plain<H> {
    pub door: Door,
    /// Serves HTTP/1.1 on admitted sockets.
    pub http1: H,
}

impl<H> ServiceFactory<TcpStream> for Plain<H>
where
    H: ServiceFactory<Http1<Socket>, Config = (), Response = (), Error = DispatchError> + 'static,
    <H::Service as Service<Http1<Socket>>>::Future: 'static,
{
    type Response = ();
    type Error = DispatchError;
    type Config = ();
    type Service = PlainService<H::Service>;
    type InitError = H::InitError;
    type Future = LocalBoxFuture<'static, Result<Self::Service, Self::InitError>>;

    fn new_service(&self, (): ()) -> Self::Future {
        let (door, http1) = (self.door.clone(), self.http1.new_service(()));
        Box::pin(async move { Ok(PlainService { door, http1: http1.await? }) })
    }
}

/// The service of [`Plain`].
pub struct PlainService<H> {
    door: Door,
    http1: H,
}

impl<H> Service<TcpStream> for PlainService<H>
where
    H: Service<Http1<Socket>, Response = (), Error = DispatchError>,
    H::Future: 'static,
{
    type Response = ();
    type Error = DispatchError;
    type Future = LocalBoxFuture<'static, Result<(), DispatchError>>;

    fn poll_ready(&self, context: &mut Context<'_>) -> Poll<Result<(), DispatchError>> {
        self.http1.poll_ready(context)
    }

    fn call(&self, io: TcpStream) -> Self::Future {
        match self.door.open(io, false) {
            Some(socket) => {
                let peer = socket.peer();
                Box::pin(self.http1.call((socket, Protocol::Http1, peer)))
            }
            None => Box::pin(async { Ok(()) }),
        }
    }
}

/// HTTP/1.1 and HTTP/2 over TLS: the client chooses (ALPN).
pub struct Encrypted<H, A> {
    pub door: Door,
    /// Has the certificate and the protocols.
    pub acceptor: TlsAcceptor,
    /// Serves HTTP/1.1 on encrypted sockets.
    pub http1: H,
    /// The application for HTTP/2 requests.
    pub app: A,
}

impl<H, A, S, B> ServiceFactory<TcpStream> for Encrypted<H, A>
where
    H: ServiceFactory<Http1<TlsStream<Socket>>, Config = (), Response = (), Error = DispatchError> + 'static,
    <H::Service as Service<Http1<TlsStream<Socket>>>>::Future: 'static,
    A: ServiceFactory<Request, Config = (), Service = Rc<S>, Response = ServiceResponse<B>, Error = Error> + 'static,
    A::InitError: std::fmt::Debug,
    S: Service<Request, Response = ServiceResponse<B>, Error = Error> + 'static,
    S::Future: 'static,
    B: MessageBody + 'static,
{
    type Response = ();
    type Error = DispatchError;
    type Config = ();
    type Service = EncryptedService<H::Service, S>;
    type InitError = ();
    type Future = LocalBoxFuture<'static, Result<Self::Service, ()>>;

    fn new_service(&self, (): ()) -> Self::Future {
        let (door, acceptor) = (self.door.clone(), self.acceptor.clone());
        let (http1, app) = (self.http1.new_service(()), self.app.new_service(()));
        Box::pin(async move {
            let app = app.await.map_err(|error| tracing::error!(?error, "the application does not start"))?;
            let http1 = Rc::new(http1.await.map_err(|_| ())?);
            Ok(EncryptedService { door, acceptor, http1, app })
        })
    }
}

/// The service of [`Encrypted`].
pub struct EncryptedService<H, S> {
    door: Door,
    acceptor: TlsAcceptor,
    http1: Rc<H>,
    app: Rc<S>,
}

impl<H, S, B> Service<TcpStream> for EncryptedService<H, S>
where
    H: Service<Http1<TlsStream<Socket>>, Response = (), Error = DispatchError> + 'static,
    H::Future: 'static,
    S: Service<Request, Response = ServiceResponse<B>, Error = Error> + 'static,
    S::Future: 'static,
    B: MessageBody + 'static,
{
    type Response = ();
    type Error = DispatchError;
    type Future = LocalBoxFuture<'static, Result<(), DispatchError>>;

    fn poll_ready(&self, context: &mut Context<'_>) -> Poll<Result<(), DispatchError>> {
        self.http1.poll_ready(context)
    }

    fn call(&self, io: TcpStream) -> Self::Future {
        let Some(socket) = self.door.open(io, true) else { return Box::pin(async { Ok(()) }) };
        let (connection, peer) = (Arc::clone(socket.connection()), socket.peer());
        let door = self.door.clone();
        let (accepting, http1, app) = (self.acceptor.accept(socket), Rc::clone(&self.http1), Rc::clone(&self.app));
        Box::pin(async move {
            let accepted =
                timeout(door.head_timeout, accepting).await.map_err(|_| DispatchError::SlowRequestTimeout)?;
            let stream = accepted.map_err(DispatchError::Io)?;
            if stream.get_ref().1.alpn_protocol() != Some(HTTP_2) {
                drop(connection);
                return http1.call((stream, Protocol::Http1, peer)).await;
            }
            let Door { head_timeout, keep_alive, timeouts, stopping, .. } = door;
            let settings = http2::Settings { head_timeout, keep_alive, timeouts };
            let stopping = async move { stopping.notified().await };
            // Boxed, so that an HTTP/1.1 connection's task is smaller.
            Box::pin(http2::serve(stream, (connection, peer), app, settings, stopping)).await;
            Ok(())
        })
    }
}
