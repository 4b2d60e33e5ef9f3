//! What sessions ask of the broadcaster, and what it sends to the shards.

use super::event::{CloseCause, Event, Topic};
use super::position::{Offset, StreamPosition};
use super::subscriber::Subscription;
use crate::domain::{CreatorId, DropSpec, Revocation, StockBoard, Timestamp, UserId};
use actix::Message;
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;
use tokio::sync::mpsc;

/// One session, wherever it is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct SubscriberId {
    /// Which shard.
    pub shard: usize,
    /// Its number there.
    pub subscriber: u64,
}

/// What comes with an account.
#[derive(Clone, Debug)]
pub struct Attach {
    /// Whose session it is.
    pub user: UserId,
    /// Whose drops it hears without asking.
    pub following: Vec<CreatorId>,
    /// Whether these are all, or the database could not say.
    pub complete: bool,
    /// When its token ends, for the answer.
    pub expires_at: Timestamp,
    /// Topics asked for in the same breath.
    pub topics: Vec<Topic>,
    /// The position that it comes back with.
    pub since: Option<Offset>,
}

/// What a session asks for.
#[derive(Message)]
#[rtype(result = "()")]
pub enum Command {
    /// A worker's sessions, to be told from now on.
    Shard(usize, mpsc::Sender<ToShard>),
    /// A session is somebody's. From here on it hears of that user's follows, whatever it knows of them.
    Own(SubscriberId, UserId),
    /// It knows whom the user follows.
    Attach(SubscriberId, Box<Attach>),
    /// Hear more.
    Subscribe(SubscriberId, Vec<Topic>, Option<Offset>),
    /// Hear less.
    Unsubscribe(SubscriberId, Vec<Topic>),
    /// Be forgotten.
    Leave(SubscriberId, UserId),
    /// A user follows a creator, or does not any more.
    FollowChanged(UserId, CreatorId, bool),
    /// Access tokens of a user were revoked.
    Revoke(UserId, Revocation),
    /// Users did something to their inboxes, which their other sessions should know.
    InboxChanged(Vec<InboxChange>),
    /// A drop comes back into memory, and stands like this.
    Watch(Arc<DropSpec>, StockBoard),
    /// Everyone goes, spread over so long.
    Drain(Duration),
}

/// Shards are told apart by one bit each.
pub const SHARDS_MAX: usize = 128;

/// An event, and the shards that have somebody for it, one bit each.
pub type Publication = (Arc<Event>, u128);

/// What a session hears from now on. It is sent what it missed, then snapshots, then the answer.
#[derive(Debug)]
pub struct Replay {
    /// Whether all followed creators are among the topics.
    pub joined: bool,
    /// The answer's type.
    pub kind: &'static str,
    /// What it hears, why, and since when.
    pub topics: Vec<(Topic, Subscription)>,
    /// What it missed, in order.
    pub events: Vec<Arc<Event>>,
    /// Of what could not be recovered.
    pub snapshots: Vec<Bytes>,
    /// Said last.
    pub answer: Bytes,
    /// The position that goes with the answer.
    pub id: Offset,
}

/// From the broadcaster.
#[derive(Debug)]
pub enum ToShard {
    /// Where to count messages of `stock_changed`.
    Count(Arc<AtomicU64>),
    /// What has happened.
    Publish(Arc<[Publication]>),
    /// A session hears more from now on.
    Replay(u64, Box<Replay>),
    /// A session does not ask for these topics any more.
    End {
        /// Which.
        subscriber: u64,
        /// What it had asked for.
        topics: Vec<Topic>,
        /// Said last.
        answer: Bytes,
    },
    /// Its user follows a creator, or does not any more.
    Follow {
        /// Which.
        subscriber: u64,
        /// Whom.
        creator: CreatorId,
        /// Whether.
        follows: bool,
        /// From where on.
        from: StreamPosition,
    },
    /// Something for it alone, of that type.
    Say(u64, &'static str, Bytes),
    /// It has to go.
    Close(u64, CloseCause),
    /// It has to go if it is signed in with one of the access tokens that were revoked.
    Revoke(u64, Revocation),
    /// Everyone has to go, spread over so long.
    Drain(Duration),
}

/// What a user did to entries of the inbox, for the user's other sessions.
#[derive(Clone, Debug)]
pub struct InboxChange {
    /// Whose inbox.
    pub user: UserId,
    /// The session that knows already.
    pub known_to: Option<SubscriberId>,
    /// What to say.
    pub json: Bytes,
}
