//! Who hears what: sessions, topics, and a bounded queue for each socket.

use crate::domain::limits::WS_QUEUE_BYTES_MAX;
use crate::domain::{CreatorId, DropId, UserId};
use bytes::Bytes;
use futures_util::task::AtomicWaker;
use std::{
    collections::VecDeque,
    fmt,
    pin::Pin,
    str::FromStr,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

/// A stream of events that a session may hear.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Topic {
    /// One drop. Public.
    Drop(DropId),
    /// Every drop of a creator. Public.
    Creator(CreatorId),
    /// One account's own events.
    User(UserId),
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Drop(id) => write!(f, "drop:{id}"),
            Self::Creator(id) => write!(f, "creator:{id}"),
            Self::User(id) => write!(f, "user:{id}"),
        }
    }
}

impl FromStr for Topic {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        match text.split_once(':') {
            Some(("drop", id)) => id.parse().map(Self::Drop).map_err(|_| ()),
            Some(("creator", id)) => id.parse().map(Self::Creator).map_err(|_| ()),
            Some(("user", id)) => id.parse().map(Self::User).map_err(|_| ()),
            _ => Err(()),
        }
    }
}

/// Why the server closes a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CloseCause {
    /// The server goes down: 1012, come back with jitter.
    Restart,
    /// It did not read fast enough: 4000, come back.
    TooSlow,
    /// The user opened too many sessions: 4001.
    SessionLimit,
}

/// What waits for one socket. Bounded here and not in the session, because a session whose client stops reading is not
/// polled any more (actix-web#2441) and could not defend itself.
#[derive(Default)]
pub struct SessionQueue {
    state: Mutex<QueueState>,
    waker: AtomicWaker,
}

#[derive(Default)]
struct QueueState {
    frames: VecDeque<Bytes>,
    bytes: usize,
    close: Option<CloseCause>,
    close_told: bool,
}

/// What a session takes from its queue.
#[derive(Debug, PartialEq, Eq)]
pub enum Outgoing {
    /// One text message.
    Text(Bytes),
    /// Close with this; nothing follows.
    Close(CloseCause),
}

impl SessionQueue {
    /// Queues a message. Past the byte bound everything queued is dropped and the session will close as too slow:
    /// returns `false` then, and ever after.
    pub fn push(&self, frame: Bytes) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.close.is_some() {
            return false;
        }
        if state.bytes + frame.len() > WS_QUEUE_BYTES_MAX {
            state.frames.clear();
            state.bytes = 0;
            state.close = Some(CloseCause::TooSlow);
        } else {
            state.bytes += frame.len();
            state.frames.push_back(frame);
        }
        let open = state.close.is_none();
        drop(state);
        self.waker.wake();
        open
    }

    /// Lets the session send what is queued and then close.
    pub fn close(&self, cause: CloseCause) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).close.get_or_insert(cause);
        self.waker.wake();
    }

    /// The queue as a stream for the session that owns it.
    #[must_use]
    pub fn stream(self: &Arc<Self>) -> QueueStream {
        QueueStream(Arc::clone(self))
    }
}

/// See [`SessionQueue::stream`]. Ends after [`Outgoing::Close`].
pub struct QueueStream(Arc<SessionQueue>);

impl futures_util::Stream for QueueStream {
    type Item = Outgoing;
    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Outgoing>> {
        self.0.waker.register(context.waker());
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(frame) = state.frames.pop_front() {
            state.bytes -= frame.len();
            return Poll::Ready(Some(Outgoing::Text(frame)));
        }
        match (state.close, state.close_told) {
            (Some(_), true) => Poll::Ready(None),
            (Some(cause), false) => {
                state.close_told = true;
                Poll::Ready(Some(Outgoing::Close(cause)))
            }
            (None, _) => Poll::Pending,
        }
    }
}
