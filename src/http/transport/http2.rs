//! HTTP/2 (RFC 9113), over the `h2` crate: concurrent requests on one connection, with bounds on everything.
//!
//! The requests of a connection are polled in its own task, so that all of them end with it. A client that cancels a
//! request cancels its handler, and a client that cancels more requests than it lets complete is disconnected (rapid
//! reset). See docs/adr/0020.

pub(super) mod settings;
mod shared;
mod stream;

use super::connection::Connection;
use super::metrics::Abort;
use crate::domain::limits::{HEAD_BYTES_MAX, PRODUCT_BODY_BYTES_MAX, STREAMS_PER_CONNECTION_MAX};
use actix_http::Request;
use actix_service::Service;
use actix_web::Error;
use actix_web::body::MessageBody;
use actix_web::dev::ServiceResponse;
use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use h2::server::{Builder, SendResponse};
use h2::{Reason, RecvStream, server};
pub(super) use settings::Settings;
use shared::Shared;
use std::cell::Cell;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use stream::End;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep, timeout};

/// Bytes of a body received before the application reads: the largest body, and enough more to notice a larger one.
const STREAM_WINDOW_BYTES: u32 = PRODUCT_BODY_BYTES_MAX as u32 + (64 << 10);
/// The same over all requests of a connection. Bytes count until their handlers release them.
const CONNECTION_WINDOW_BYTES: u32 = 2 * STREAM_WINDOW_BYTES;
/// Bytes of one answer in the connection's queue. The rest stays with the answer.
const SEND_QUEUE_BYTES: usize = 64 << 10;
/// Streams that the client reset before they were accepted: more at once is an attack (CVE-2023-44487).
const RESET_BEFORE_ACCEPTED_MAX: usize = 20;
/// Streams reset by the server for the client's errors, over the life of a connection (CVE-2024-24549 and the like).
const RESET_FOR_ERRORS_MAX: usize = 1_024;
/// Streams reset by the server that are remembered for a moment, because frames for them may be on their way.
const RESET_REMEMBERED_MAX: usize = 50;
/// Requests that a client may cancel beyond those that completed.
const CANCELLED_MAX: u64 = STREAMS_PER_CONNECTION_MAX as u64;

/// The protocol's bounds. h2 derives the number of CONTINUATION frames of a header block from the size of the list and
/// of a frame (CVE-2024-27316).
fn protocol() -> Builder {
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
        .max_header_list_size(HEAD_BYTES_MAX as u32)
        .initial_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_send_buffer_size(SEND_QUEUE_BYTES)
        .max_concurrent_reset_streams(RESET_REMEMBERED_MAX)
        .max_pending_accept_reset_streams(RESET_BEFORE_ACCEPTED_MAX)
        .max_local_error_reset_streams(Some(RESET_FOR_ERRORS_MAX));
    builder
}

/// Serves one connection until it ends. No new request is accepted after `stopping`.
pub(super) async fn serve<T, S, B>(
    io: T,
    (connection, peer): (Arc<Connection>, Option<SocketAddr>),
    service: Rc<S>,
    settings: Settings,
    stopping: impl Future<Output = ()>,
) where
    T: AsyncRead + AsyncWrite + Unpin,
    S: Service<Request, Response = ServiceResponse<B>, Error = Error> + 'static,
    S::Future: 'static,
    B: MessageBody + 'static,
{
    let Ok(Ok(protocol)) = timeout(settings.head_timeout, protocol().handshake(io)).await else { return };
    let shared = Rc::new(Shared { service, connection, peer, settings, taken: Cell::new(0) });
    let mut session = Session { protocol, requests: FuturesUnordered::new(), balance: CANCELLED_MAX, closing: false };
    session.run(&shared, stopping).await;
}

/// A connection after its preface.
struct Session<T> {
    protocol: server::Connection<T, Bytes>,
    requests: FuturesUnordered<LocalBoxFuture<'static, End>>,
    /// Requests that the client may still cancel.
    balance: u64,
    /// No more requests are accepted.
    closing: bool,
}

type Incoming = (http::Request<RecvStream>, SendResponse<Bytes>);

impl<T: AsyncRead + AsyncWrite + Unpin> Session<T> {
    async fn run<S, B>(&mut self, shared: &Rc<Shared<S>>, stopping: impl Future<Output = ()>)
    where
        S: Service<Request, Response = ServiceResponse<B>, Error = Error> + 'static,
        S::Future: 'static,
        B: MessageBody + 'static,
    {
        let mut stopping = pin!(stopping);
        let mut idle = pin!(sleep(shared.settings.keep_alive));
        loop {
            let is_idle = self.requests.is_empty();
            tokio::select! {
                incoming = next(&mut self.protocol, self.requests.len()) => match incoming {
                    Some((request, answer)) => {
                        self.requests.push(Box::pin(stream::answer(Rc::clone(shared), request, answer)));
                    }
                    None => return,
                },
                Some(end) = self.requests.next(), if !is_idle => {
                    if self.requests.is_empty() {
                        idle.as_mut().reset(Instant::now() + shared.settings.keep_alive);
                    }
                    if !self.goes_on(end, shared) {
                        return;
                    }
                }
                () = &mut stopping, if !self.closing => self.close(),
                () = &mut idle, if is_idle && !self.closing => self.close(),
            }
        }
    }

    /// Accepts no more requests; the connection ends with the last answer.
    fn close(&mut self) {
        self.closing = true;
        self.protocol.graceful_shutdown();
    }

    /// Whether the connection continues after a request that ended like this.
    fn goes_on<S>(&mut self, end: End, shared: &Shared<S>) -> bool {
        let metrics = shared.connection.connections().metrics();
        match end {
            End::Answered => self.balance += 1,
            End::SlowStream => metrics.aborted(Abort::SlowStream).inc(),
            End::SlowConnection => {
                metrics.aborted(Abort::Slow).inc();
                shared.connection.abort();
                return false;
            }
            End::Cancelled => match self.balance.checked_sub(1) {
                Some(balance) => self.balance = balance,
                None if self.closing => {}
                None => {
                    metrics.aborted(Abort::Resets).inc();
                    self.closing = true;
                    self.protocol.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
                    self.requests.clear();
                }
            },
        }
        true
    }
}

/// The next request, if one more may run; in any case drives the connection's reads and writes. `None` at the
/// connection's end.
async fn next<T>(protocol: &mut server::Connection<T, Bytes>, running: usize) -> Option<Incoming>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let full = running >= STREAMS_PER_CONNECTION_MAX as usize;
    poll_fn(|context| {
        if full {
            protocol.poll_closed(context).map(|_| None)
        } else {
            protocol.poll_accept(context).map(|incoming| incoming.and_then(Result::ok))
        }
    })
    .await
}
