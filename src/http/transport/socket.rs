//! A connection's socket: it reports accepted bytes and its closing to its [`Connection`].

use super::connection::Connection;
use actix_web::rt::net::TcpStream;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How long the server waits for the client's close.
pub(in crate::http) const DISCONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Bytes collected for one write. A connection's buffer grows to a power of two above it and stays there, and a burst
/// of events fills it on every event stream.
pub(in crate::http) const WRITE_BUFFER_BYTES: usize = 15 << 10;

/// The TCP socket, below TLS if there is any.
pub struct Socket {
    connection: Arc<Connection>,
    peer: Option<SocketAddr>,
    io: TcpStream,
}

impl Drop for Socket {
    /// Before the descriptor is closed, because the connection knows its number.
    fn drop(&mut self) {
        self.connection.close();
    }
}

impl Socket {
    pub(super) fn new(io: TcpStream, peer: Option<SocketAddr>, connection: Arc<Connection>) -> Self {
        Self { connection, peer, io }
    }

    /// The state of the connection.
    pub(crate) fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    pub(super) fn peer(&self) -> Option<SocketAddr> {
        self.peer
    }

    fn wrote(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match &written {
            Poll::Ready(Ok(bytes)) => self.connection.took(*bytes),
            Poll::Ready(Err(_)) => {}
            Poll::Pending => self.connection.blocked(),
        }
        written
    }
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(context, buf)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(context, bytes);
        self.wrote(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(context, parts);
        self.wrote(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}
