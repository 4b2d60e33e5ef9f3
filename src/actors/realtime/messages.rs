//! Commands of sessions to the broadcaster, and its messages to the shards.

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

/// The address of a session.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct SubscriberId {
    /// Index of the session's shard.
    pub shard: usize,
    /// The session's number in its shard.
    pub subscriber: u64,
}

/// The subscriptions that come with an account.
#[derive(Clone, Debug)]
pub struct Attach {
    pub user: UserId,
    /// Creators that the account follows.
    pub following: Vec<CreatorId>,
    /// Whether the list is complete; `false` if the database did not answer.
    pub complete: bool,
    /// When the access token expires, for the answer.
    pub expires_at: Timestamp,
    /// Topics that the client subscribes to in the same message.
    pub topics: Vec<Topic>,
    /// The offset that the client reconnects with.
    pub since: Option<Offset>,
}

/// A command to the broadcaster.
#[derive(Message)]
#[rtype(result = "()")]
pub enum Command {
    /// Registers the queue of a worker's shard.
    Shard(usize, mpsc::Sender<ToShard>),
    /// A session belongs to a user. From here on it follows the user's follows.
    Own(SubscriberId, UserId),
    /// The session knows its user's follows.
    Attach(SubscriberId, Box<Attach>),
    /// Subscribes a session to topics, with a replay from the offset.
    Subscribe(SubscriberId, Vec<Topic>, Option<Offset>),
    /// Ends a session's subscriptions to topics.
    Unsubscribe(SubscriberId, Vec<Topic>),
    /// The session has ended.
    Leave(SubscriberId, UserId),
    /// A user follows a creator (`true`), or no longer does.
    FollowChanged(UserId, CreatorId, bool),
    /// Access tokens of a user were revoked.
    Revoke(UserId, Revocation),
    /// Users changed their inboxes; their other sessions are informed.
    InboxChanged(Vec<InboxChange>),
    /// A drop returns to memory in this state.
    Watch(Arc<DropSpec>, StockBoard),
    /// Closes every session, spread over this time.
    Drain(Duration),
}

/// A publication has one bit for each shard.
pub const SHARDS_MAX: usize = 128;

/// An event, and a bit for each shard with subscribers for it.
pub type Publication = (Arc<Event>, u128);

/// A session's new subscriptions. It is sent the missed events, then snapshots, then the answer.
#[derive(Debug)]
pub struct Replay {
    /// Whether all followed creators are among the topics.
    pub joined: bool,
    /// The answer's `type`, for protocols that send it outside the message.
    pub kind: &'static str,
    /// The topics, each with its reason and starting position.
    pub topics: Vec<(Topic, Subscription)>,
    /// The missed events, in order.
    pub events: Vec<Arc<Event>>,
    /// Snapshots of topics that could not be recovered.
    pub snapshots: Vec<Bytes>,
    /// The last message of the replay.
    pub answer: Bytes,
    /// The offset of the answer.
    pub id: Offset,
}

/// A message of the broadcaster to a shard.
#[derive(Debug)]
pub enum ToShard {
    /// The counter of `stock_changed` messages that the shard increments.
    Count(Arc<AtomicU64>),
    /// Events to deliver to the shard's subscribers.
    Publish(Arc<[Publication]>),
    /// Starts a session's new subscriptions.
    Replay(u64, Box<Replay>),
    /// Ends a session's own subscriptions to these topics.
    End {
        /// The session's number in the shard.
        subscriber: u64,
        /// The topics of the client's command.
        topics: Vec<Topic>,
        /// Sent after the subscriptions have ended.
        answer: Bytes,
    },
    /// A session's user follows a creator, or no longer does.
    Follow {
        /// The session's number in the shard.
        subscriber: u64,
        /// The creator whose topic is affected.
        creator: CreatorId,
        /// Whether the user follows the creator now.
        follows: bool,
        /// The position from which the session gets the creator's events.
        from: StreamPosition,
    },
    /// A message for one session, with its type.
    Say(u64, &'static str, Bytes),
    /// Closes a session after its queued messages are sent.
    Close(u64, CloseCause),
    /// Closes a session if its access token is among the revoked ones.
    Revoke(u64, Revocation),
    /// Closes every session, spread over this time.
    Drain(Duration),
}

/// A change of a user's inbox, for the user's other sessions.
#[derive(Clone, Debug)]
pub struct InboxChange {
    pub user: UserId,
    /// The session that made the change; it is not informed.
    pub known_to: Option<SubscriberId>,
    /// The message to send.
    pub json: Bytes,
}
