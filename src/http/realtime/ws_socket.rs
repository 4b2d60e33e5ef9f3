//! The socket of a WebSocket session, read and written without anything between.
//!
//! A session that has nothing to say has no buffer: what is read goes through one that all sessions of a thread share, a message
//! alone is written from where all its listeners share it, and what was collected for one write is kept only
//! where the socket did not take all of it.

use super::handover::Opened;
use super::ws::Talk;
use crate::http::transport::liveness::Line;
use crate::http::transport::socket::WRITE_BUFFER_BYTES;
use actix_codec::{AsyncRead, AsyncWrite, ReadBuf};
use bytes::{Buf, Bytes};
use std::cell::RefCell;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// What is read at a time.
const READ_BYTES: usize = 16 << 10;

thread_local! {
    static READ: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BYTES].into());
    static WRITE: RefCell<Vec<u8>> = RefCell::new(Vec::with_capacity(WRITE_BUFFER_BYTES * 2));
}

/// A connection that has become a session. Ends when the session does.
pub(in crate::http) struct Socket<T> {
    /// Gone before the socket is, whose number it knows.
    _line: Option<Line>,
    io: T,
    talk: Talk,
    /// What the socket did not take yet.
    unsent: Bytes,
    /// Everything is said.
    leaving: bool,
}

impl<T: AsyncRead + AsyncWrite + Unpin> Socket<T> {
    /// Takes a socket over, of which `read` has been read already and to which `unsent` is still to be written.
    pub fn new(io: T, line: Option<Line>, opened: Opened, read: &[u8], unsent: Bytes) -> Self {
        let mut talk = Talk::begin(opened);
        talk.take(read);
        Self { _line: line, io, talk, unsent, leaving: false }
    }

    /// Reads what has arrived.
    fn read(&mut self, context: &mut Context<'_>) {
        READ.with_borrow_mut(|buffer| {
            while !self.talk.is_done() {
                let mut chunk = ReadBuf::new(buffer);
                match Pin::new(&mut self.io).poll_read(context, &mut chunk) {
                    Poll::Ready(Ok(())) if !chunk.filled().is_empty() => self.talk.take(chunk.filled()),
                    // The other side is gone.
                    Poll::Ready(_) => self.talk.end(),
                    Poll::Pending => return,
                }
            }
        });
    }

    /// Writes what there is to say; ready when that is all written.
    fn write(&mut self, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        loop {
            while !self.unsent.is_empty() {
                let written = ready!(Pin::new(&mut self.io).poll_write(context, &self.unsent))?;
                if written == 0 {
                    return Poll::Ready(Err(std::io::ErrorKind::WriteZero.into()));
                }
                self.unsent.advance(written);
            }
            // What was written is let go of.
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

    /// Writes as much as may wait together.
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
