//! The JSON messages to clients: the public events of journal records, and the broadcaster's answers to sessions. Each
//! is encoded once for all receivers.

use super::messages::{InboxChange, SubscriberId};
use crate::actors::realtime::event::{Event, Topic};
use crate::actors::realtime::position::{Epoch, Offset, StreamPosition};
use crate::domain::{
    CreatorId, DropEvent, DropId, DropRecord, DropSpec, DropStatus, OrderId, OrderLine, RefundCause, ReleaseReason,
    StockBoard, StockCounts, Timestamp, UserId, VariantId,
};
use crate::storage::Mark;
use bytes::Bytes;
use serde::Serialize;
use smallvec::smallvec;

/// A drop with its current stock.
#[derive(Serialize)]
struct DropNow<'a> {
    drop_id: DropId,
    creator_id: CreatorId,
    title: &'a str,
    starts_at: Timestamp,
    ends_at: Option<Timestamp>,
    status: DropStatus,
    stock: StockCounts,
    variants: Vec<VariantNow>,
}

#[derive(Serialize)]
struct VariantNow {
    id: VariantId,
    #[serde(flatten)]
    stock: StockCounts,
}

impl<'a> DropNow<'a> {
    fn new(spec: &'a DropSpec, board: &StockBoard) -> Self {
        Self {
            drop_id: spec.id,
            creator_id: spec.creator_id,
            title: &spec.title,
            starts_at: spec.starts_at,
            ends_at: spec.ends_at,
            status: board.status,
            stock: board.total(),
            variants: board.variants.iter().map(|&(id, stock)| VariantNow { id, stock }).collect(),
        }
    }
}

/// An event about a drop.
#[derive(Serialize)]
struct DropNotice<'a> {
    id: String,
    r#type: &'a str,
    topic: String,
    at: Timestamp,
    position: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    variant_id: Option<VariantId>,
    #[serde(flatten)]
    now: DropNow<'a>,
}

/// An event about an order, for its buyer.
#[derive(Serialize)]
struct OrderNotice<'a> {
    id: String,
    r#type: &'a str,
    topic: String,
    at: Timestamp,
    position: u64,
    order_id: OrderId,
    drop_id: DropId,
    variant_id: VariantId,
    quantity: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    release_reason: Option<ReleaseReason>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refund_cause: Option<RefundCause>,
}

/// The receivers of a record's event.
pub enum Audience {
    /// All subscribers of the drop or its creator, at once.
    Drop(&'static str, Option<VariantId>),
    /// The buyer, on the topic `user:{id}`.
    Order(&'static str, OrderLine),
    /// All subscribers of the drop, with its next [`STOCK_CHANGED`].
    Stock,
    /// None: the record is internal.
    Silent,
}

/// Classifies a record's event.
#[must_use]
pub fn audience(event: &DropEvent) -> Audience {
    let Some(kind) = event.kind() else {
        return if matches!(event, DropEvent::BackInStock) { Audience::Stock } else { Audience::Silent };
    };
    match event {
        DropEvent::Restocked { variant, .. } | DropEvent::StockLow { variant, .. } => {
            Audience::Drop(kind, Some(*variant))
        }
        _ => event.line().map_or(Audience::Drop(kind, None), |line| Audience::Order(kind, line)),
    }
}

/// An event of an order, not encoded yet: most buyers are not connected at that time, and few replay it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OrderFact {
    /// The sequence of its journal record.
    pub sequence: u64,
    /// When it was decided.
    pub at: Timestamp,
    pub drop: DropId,
    /// Its type on the wire.
    pub kind: &'static str,
    /// The order and its buyer.
    pub line: OrderLine,
    /// The further data of its type.
    pub detail: Detail,
}

/// The data of an [`OrderFact`] that depends on its type.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Detail {
    None,
    /// When the hold ends.
    Expires(Timestamp),
    /// Why the hold was released.
    Released(ReleaseReason),
    /// Why the buyer gets money back.
    Refund(RefundCause),
}

impl OrderFact {
    /// From the record at `sequence`, whose audience is [`Audience::Order`].
    #[must_use]
    pub fn new(kind: &'static str, line: OrderLine, record: &DropRecord, sequence: u64) -> Self {
        let detail = match &record.event {
            DropEvent::Reserved { expires_at, .. } | DropEvent::HoldExtended { expires_at, .. } => {
                Detail::Expires(*expires_at)
            }
            DropEvent::Released { reason, .. } => Detail::Released(*reason),
            DropEvent::RefundDue { cause, .. } => Detail::Refund(*cause),
            _ => Detail::None,
        };
        Self { sequence, at: record.at, drop: record.drop, kind, line, detail }
    }

    /// The event for the buyer. `stock` completes its position.
    #[must_use]
    pub fn event(&self, epoch: Epoch, stock: u64) -> Event {
        let (mut expires_at, mut release_reason, mut refund_cause) = (None, None, None);
        match self.detail {
            Detail::None => {}
            Detail::Expires(at) => expires_at = Some(at),
            Detail::Released(reason) => release_reason = Some(reason),
            Detail::Refund(cause) => refund_cause = Some(cause),
        }
        let topic = Topic::User(self.line.buyer);
        let notice = OrderNotice {
            id: Offset { epoch, published: self.sequence, stock: None }.to_string(),
            r#type: self.kind,
            topic: topic.to_string(),
            at: self.at,
            position: self.sequence,
            order_id: self.line.order,
            drop_id: self.drop,
            variant_id: self.line.variant,
            quantity: self.line.quantity,
            expires_at,
            release_reason,
            refund_cause,
        };
        Event {
            kind: self.kind,
            at: self.at,
            position: StreamPosition { published: self.sequence, stock },
            epoch,
            topics: smallvec![topic],
            stock_of: None,
            json: encode(&notice),
        }
    }
}

/// The time and position of an event of a drop.
#[derive(Clone, Copy, Debug)]
pub struct EventMeta {
    /// When it was decided.
    pub at: Timestamp,
    /// The record that it reflects.
    pub sequence: u64,
    /// The position of a subscriber that has the event.
    pub position: StreamPosition,
    /// The journal that the position counts in.
    pub epoch: Epoch,
}

/// An event about a drop. A later `stock_changed` replaces an earlier one.
#[must_use]
pub fn drop_event(
    kind: &'static str,
    spec: &DropSpec,
    board: &StockBoard,
    meta: EventMeta,
    variant_id: Option<VariantId>,
) -> Event {
    let EventMeta { at, sequence, position, epoch } = meta;
    let stock_of = (kind == STOCK_CHANGED).then_some(spec.id);
    let topics = smallvec![Topic::Drop(spec.id), Topic::Creator(spec.creator_id)];
    let mut event = Event { kind, at, position, epoch, topics, stock_of, json: Bytes::new() };
    event.json = encode(&DropNotice {
        id: event.id().to_string(),
        r#type: kind,
        topic: event.topics[0].to_string(),
        at,
        position: sequence,
        variant_id,
        now: DropNow::new(spec, board),
    });
    event
}

/// The type of the conflated event.
pub const STOCK_CHANGED: &str = "stock_changed";

/// A drop's JSON in a snapshot.
#[must_use]
pub fn drop_now(spec: &DropSpec, board: &StockBoard) -> Bytes {
    encode(&DropNow::new(spec, board))
}

/// The state of a topic at `sequence`, published at `now`: its drops, or where to read a buyer's orders.
#[must_use]
pub fn snapshot(topic: Topic, sequence: u64, now: Timestamp, drops: &[Bytes]) -> Bytes {
    let head = format!(r#"{{"type":"snapshot","topic":"{topic}","position":{sequence},"server_time":"{now}","#);
    let mut text = head.into_bytes();
    match topic {
        Topic::User(_) => text.extend(br#""read":"/api/v1/users/me/orders""#),
        Topic::Drop(_) | Topic::Creator(_) => {
            text.extend(br#""drops":["#);
            for (index, drop) in drops.iter().enumerate() {
                if index > 0 {
                    text.push(b',');
                }
                text.extend_from_slice(drop);
            }
            text.push(b']');
        }
    }
    text.push(b'}');
    text.into()
}

/// The start of a subscription to one topic.
#[derive(Serialize, Clone, PartialEq, Eq, Debug)]
pub struct Started {
    /// The topic's name, such as `drop:{id}`.
    pub topic: String,
    /// Whether all missed events were replayed; otherwise there was a snapshot.
    pub recovered: bool,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Answer<'a> {
    Subscribed {
        id: String,
        topics: &'a [Started],
    },
    Unsubscribed {
        topics: Vec<String>,
    },
    Authenticated {
        id: String,
        user_id: UserId,
        following: usize,
        expires_at: Timestamp,
        #[serde(skip_serializing_if = "Option::is_none")]
        recovered: Option<bool>,
        #[serde(skip_serializing_if = "<[_]>::is_empty")]
        topics: &'a [Started],
    },
}

/// The answer to a subscription: all later events are published.
#[must_use]
pub fn subscribed(id: Offset, topics: &[Started]) -> Bytes {
    encode(&Answer::Subscribed { id: id.to_string(), topics })
}

/// The answer to the end of a subscription.
#[must_use]
pub fn unsubscribed(topics: &[Topic]) -> Bytes {
    encode(&Answer::Unsubscribed { topics: topics.iter().map(ToString::to_string).collect() })
}

/// The data of the answer to an authentication.
#[derive(Clone, Copy, Debug)]
pub struct Welcome<'a> {
    /// The offset to reconnect with.
    pub id: Offset,
    pub user: UserId,
    /// The number of followed creators that it gets events of.
    pub following: usize,
    /// When the access token expires.
    pub expires_at: Timestamp,
    /// Whether all missed events of the account's topics were replayed; absent if the client did not ask for that.
    pub recovered: Option<bool>,
    /// The topics subscribed to in the same message.
    pub topics: &'a [Started],
}

/// The answer to an authentication.
#[must_use]
pub fn authenticated(welcome: Welcome<'_>) -> Bytes {
    let Welcome { id, user, following, expires_at, recovered, topics } = welcome;
    encode(&Answer::Authenticated { id: id.to_string(), user_id: user, following, expires_at, recovered, topics })
}

/// The type of an [`InboxChange`]'s message.
pub const INBOX_CHANGED: &str = "inbox_changed";

#[derive(Serialize)]
struct InboxChanged {
    r#type: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    acknowledged: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    read: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    read_up_to: Option<String>,
}

impl InboxChange {
    /// The message that entries were marked.
    #[must_use]
    pub fn marked(mark: Mark, user: UserId, names: &[Offset], known_to: Option<SubscriberId>) -> Self {
        let names = names.iter().map(ToString::to_string).collect();
        let (acknowledged, read) = match mark {
            Mark::Acknowledged => (names, Vec::new()),
            Mark::Read => (Vec::new(), names),
        };
        let json = encode(&InboxChanged { r#type: INBOX_CHANGED, acknowledged, read, read_up_to: None });
        Self { user, known_to, json }
    }

    /// All entries up to this one were marked as read.
    #[must_use]
    pub fn read_up_to(user: UserId, name: Offset) -> Self {
        let read_up_to = Some(name.to_string());
        let (acknowledged, read) = (Vec::new(), Vec::new());
        let json = encode(&InboxChanged { r#type: INBOX_CHANGED, acknowledged, read, read_up_to });
        Self { user, known_to: None, json }
    }
}

/// The snapshot if the drops of the followed creators are too many to send: it says where to read them.
#[must_use]
pub fn snapshot_elsewhere(sequence: u64, now: Timestamp) -> Bytes {
    let head = format!(r#"{{"type":"snapshot","topic":"following","position":{sequence},"server_time":"{now}","#);
    (head + r#""read":"/api/v1/users/me/feed"}"#).into()
}

fn encode(notice: &impl Serialize) -> Bytes {
    serde_json::to_vec(notice).expect("notices have string keys only").into()
}
