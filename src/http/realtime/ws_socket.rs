//! The socket of a WebSocket session, read and written directly.
//!
//! An idle session has no buffer: reads go through a buffer that all sessions of a thread share, a single message is
//! written from its shared memory, and bytes collected for one write are kept only if the socket did not accept all of
//! them.

use super::handover::Opened;
use super::ws::Talk;
use crate::http::transport::liveness::Line;
use crate::http::transport::socket::WRITE_BUFFER_BYTES;
use actix_codec::{AsyncRead, AsyncWrite, ReadBuf};
use bytes::{Buf, Bytes};
use std::cell::RefCell;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// Bytes of one read.
const READ_BYTES: usize = 16 << 10;

thread_local! {
    static READ: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BYTES].into());
    static WRITE: RefCell<Vec<u8>> = RefCell::new(Vec::with_capacity(WRITE_BUFFER_BYTES * 2));
}

/// A connection that has become a session. Ends when the session does.
pub(in crate::http) struct Socket<T> {
    /// Dropped before the socket, because it knows the descriptor's number.
    _line: Option<Line>,
    io: T,
    talk: Talk,
    /// Bytes that the socket has not accepted yet.
    unsent: Bytes,
    /// Everything is sent: the socket closes.
    leaving: bool,
}

impl<T: AsyncRead + AsyncWrite + Unpin> Socket<T> {
    /// Takes a socket over. `read` are bytes already received, `unsent` bytes still to be written.
    pub fn new(io: T, line: Option<Line>, opened: Opened, read: &[u8], unsent: Bytes) -> Self {
        let mut talk = Talk::begin(opened);
        talk.take(read);
        Self { _line: line, io, talk, unsent, leaving: false }
    }

    /// Reads the received bytes.
    fn read(&mut self, context: &mut Context<'_>) {
        READ.with_borrow_mut(|buffer| {
            while !self.talk.is_done() {
                let mut chunk = ReadBuf::new(buffer);
                match Pin::new(&mut self.io).poll_read(context, &mut chunk) {
                    Poll::Ready(Ok(())) if !chunk.filled().is_empty() => self.talk.take(chunk.filled()),
                    // The client has gone.
                    Poll::Ready(_) => self.talk.end(),
                    Poll::Pending => return,
                }
            }
        });
    }

    /// Writes all queued messages; ready when everything is written.
    fn write(&mut self, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        loop {
            while !self.unsent.is_empty() {
                let written = ready!(Pin::new(&mut self.io).poll_write(context, &self.unsent))?;
                if written == 0 {
                    return Poll::Ready(Err(std::io::ErrorKind::WriteZero.into()));
                }
                self.unsent.advance(written);
            }
            // Releases written bytes.
            self.unsent = Bytes::new();
            let Some(first) = self.talk.next(context) else {
                return Pin::new(&mut self.io).poll_flush(context);
            };
            match self.talk.next(context) {
                None => self.unsent = first,
                Some(second) => self.write_many(context, [first, second])?,
            }
        }
    }

    /// Writes as many messages at once as fit into the buffer.
    fn write_many(&mut self, context: &mut Context<'_>, begin: [Bytes; 2]) -> std::io::Result<()> {
        WRITE.with_borrow_mut(|together| {
            together.clear();
            begin.iter().for_each(|bytes| together.extend_from_slice(bytes));
            while together.len() < WRITE_BUFFER_BYTES
                && let Some(bytes) = self.talk.next(context)
            {
                together.extend_from_slice(&bytes);
            }
            let written = match Pin::new(&mut self.io).poll_write(context, together) {
                Poll::Ready(written) => written?,
                Poll::Pending => 0,
            };
            self.unsent = Bytes::copy_from_slice(&together[written..]);
            Ok(())
        })
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Future for Socket<T> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        if !this.leaving {
            this.read(context);
            match this.write(context) {
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Ready(Ok(())) if this.talk.is_over() => {}
                Poll::Pending if this.talk.has_no_time() => {}
                _ => return Poll::Pending,
            }
            this.leaving = true;
            this.talk.leave();
        }
        Pin::new(&mut this.io).poll_shutdown(context).map(|_| ())
    }
}
