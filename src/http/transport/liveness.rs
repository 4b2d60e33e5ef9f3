//! What requests and sessions know about their connection: that it is busy, and how to abort it.
//!
//! A client that does not read blocks the task that writes to it (actix-web#2441), so a session past its timeout aborts
//! its connection from outside.

use crate::http::transport::connection::Connection;
use crate::http::transport::watch;
use crate::service::AbortHandle;
use actix_http::{HttpMessage, Request};
use actix_web::HttpRequest;
use actix_web::body::{BodySize, MessageBody};
use bytes::Bytes;
use pin_project_lite::pin_project;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};

/// The connection of a request: HTTP/1 stores it with the connection, HTTP/2 in the request.
pub fn connection(request: &HttpRequest) -> Option<Arc<Connection>> {
    match request.conn_data::<Arc<Connection>>() {
        Some(connection) => Some(Arc::clone(connection)),
        None => request.extensions().get::<Arc<Connection>>().cloned(),
    }
}

/// Keeps a connection's abort handle alive while its socket has left HTTP.
pub struct Line(Arc<Connection>);

impl Line {
    /// The connection of a request.
    #[must_use]
    pub fn of(request: &Request) -> Option<Self> {
        request.conn_data::<Arc<Connection>>().map(|connection| Self(Arc::clone(connection)))
    }

    /// Records that a session has the socket: it checks its own timeouts.
    pub fn left_http(&self) {
        self.0.leave_http();
    }
}

/// A running request: its connection is not idle.
pub struct Attended(Option<Arc<Connection>>);

impl Attended {
    /// Starts at the request's head.
    pub fn of(request: &HttpRequest) -> Self {
        let connection = connection(request);
        if let Some(connection) = &connection {
            connection.begin_request();
        }
        Self(connection)
    }

    /// Ends when the last byte of the answer is handed over.
    pub fn until_sent<B>(self, body: B) -> Body<B> {
        Body { body, _attended: self }
    }
}

impl Drop for Attended {
    fn drop(&mut self) {
        if let Some(connection) = &self.0 {
            // Requests end on their worker's thread.
            connection.end_request(watch::round());
        }
    }
}

pin_project! {
    /// An answer's body, with its request.
    pub struct Body<B> {
        #[pin]
        body: B,
        _attended: Attended,
    }
}

impl<B: MessageBody> MessageBody for Body<B> {
    type Error = B::Error;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        self.project().body.poll_next(context)
    }

    fn try_into_bytes(self) -> Result<Bytes, Self> {
        let Self { body, _attended } = self;
        body.try_into_bytes().map_err(|body| Self { body, _attended })
    }
}

/// The abort handle of a connection that becomes a session's. Also limits the socket's send buffer.
#[must_use]
pub fn of(request: &HttpRequest) -> Option<Weak<dyn AbortHandle>> {
    let connection = connection(request)?;
    connection.bound_sending();
    let line: Arc<dyn AbortHandle> = connection;
    Some(Arc::downgrade(&line))
}
