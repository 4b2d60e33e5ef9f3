//! The vocabulary of the fan-out: topics, events, and why a session ends.

use crate::actors::realtime::position::{Epoch, Offset, StreamPosition};
use crate::domain::{CreatorId, DropId, Timestamp, UserId};
use bytes::Bytes;
use smallvec::SmallVec;
use std::{fmt, str::FromStr};

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
    /// It did not read fast enough, or its pong did not come: 4000, come back.
    TooSlow,
    /// The user opened too many sessions: 4001.
    SessionLimit,
    /// Its token has expired: 4401.
    TokenExpired,
    /// Its token was revoked: 4403.
    Revoked,
}

/// Something that was published, encoded once for everyone who hears it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Event {
    /// Its type on the wire.
    pub kind: &'static str,
    /// When it happened.
    pub at: Timestamp,
    /// Whoever has been told this has been told everything before.
    pub position: StreamPosition,
    /// Which journal the position counts in.
    pub epoch: Epoch,
    /// Who hears it.
    pub topics: SmallVec<[Topic; 2]>,
    /// Set where a later one of the same drop makes it worthless.
    pub stock_of: Option<DropId>,
    /// The message.
    pub json: Bytes,
}

impl Event {
    /// Its id: unique in its epoch, and the position to come back with.
    #[must_use]
    pub fn id(&self) -> Offset {
        let stock = self.stock_of.map(|_| self.position.stock);
        Offset { epoch: self.epoch, published: self.position.published, stock }
    }
}
