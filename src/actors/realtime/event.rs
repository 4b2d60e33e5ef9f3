//! The types of the fan-out: topics, events, and why a session is closed.

use crate::actors::realtime::position::{Epoch, Offset, StreamPosition};
use crate::domain::{CreatorId, DropId, Timestamp, UserId};
use bytes::Bytes;
use smallvec::SmallVec;
use std::{fmt, str::FromStr};

/// A stream of events that a session may subscribe to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Topic {
    /// A drop's events; public.
    Drop(DropId),
    /// Events of all drops of a creator; public.
    Creator(CreatorId),
    /// An account's own events; private to the account.
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
    /// The server shuts down: 1012, the client reconnects with jitter.
    Restart,
    /// The client did not read fast enough, or its pong did not come: 4000, it may reconnect.
    TooSlow,
    /// The user opened too many sessions: 4001.
    SessionLimit,
    /// The session's token has expired: 4401.
    TokenExpired,
    /// The session's token was revoked: 4403.
    Revoked,
}

/// A published event, encoded once for all subscribers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Event {
    /// Its type on the wire.
    pub kind: &'static str,
    /// When it was decided.
    pub at: Timestamp,
    /// A subscriber that has this event has all earlier ones of its topics.
    pub position: StreamPosition,
    /// The journal that the position counts in.
    pub epoch: Epoch,
    /// An event of a drop also belongs to its creator's topic.
    pub topics: SmallVec<[Topic; 2]>,
    /// Set if a later event of the same drop replaces it.
    pub stock_of: Option<DropId>,
    /// The message, encoded as JSON.
    pub json: Bytes,
}

impl Event {
    /// Its id: unique in its epoch, and the offset to reconnect with.
    #[must_use]
    pub fn id(&self) -> Offset {
        let stock = self.stock_of.map(|_| self.position.stock);
        Offset { epoch: self.epoch, published: self.position.published, stock }
    }
}
