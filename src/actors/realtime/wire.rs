//! What the crowd is published, as JSON: the public events of journal records, and what the broadcaster answers to sessions.
//! Each is encoded once, however many hear it.

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

/// A drop with its stock at that moment.
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

/// An event about somebody's order.
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

/// What a record means for those who listen.
pub enum Audience {
    /// Tell everyone who watches the drop or its creator, now.
    Drop(&'static str, Option<VariantId>),
    /// Tell the buyer.
    Order(&'static str, OrderLine),
    /// Tell everyone who watches the drop with its next [`STOCK_CHANGED`].
    Stock,
    /// Tell nobody.
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

/// What became of an order, without its text: most buyers do not listen just then, and only some ever ask.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OrderFact {
    /// Its record.
    pub sequence: u64,
    /// When.
    pub at: Timestamp,
    /// Which drop.
    pub drop: DropId,
    /// Its type on the wire.
    pub kind: &'static str,
    /// Which order.
    pub line: OrderLine,
    /// What else there is to say.
    pub detail: Detail,
}

/// What an [`OrderFact`] says besides.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Detail {
    /// Nothing.
    None,
    /// The hold's end.
    Expires(Timestamp),
    /// Why the hold is gone.
    Released(ReleaseReason),
    /// Why the money goes back.
    Refund(RefundCause),
}

impl OrderFact {
    /// From the record at `sequence`, which is a [`Audience::Order`].
    #[must_use]
    pub fn new(kind: &'static str, line: OrderLine, record: &DropRecord, sequence: u64) -> Self {
        let detail = match &record.event {
            DropEvent::Reserved { expires_at, .. } => Detail::Expires(*expires_at),
            DropEvent::Released { reason, .. } => Detail::Released(*reason),
            DropEvent::RefundDue { cause, .. } => Detail::Refund(*cause),
            _ => Detail::None,
        };
        Self { sequence, at: record.at, drop: record.drop, kind, line, detail }
    }

    /// The event for its buyer. `stock` completes its position.
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

/// When and where something happened to a drop.
#[derive(Clone, Copy, Debug)]
pub struct EventMeta {
    /// When.
    pub at: Timestamp,
    /// The record that it reflects.
    pub sequence: u64,
    /// Where whoever hears it stands then.
    pub position: StreamPosition,
    /// In which journal.
    pub epoch: Epoch,
}

/// An event about a drop. `stock_changed` is the one that later ones of its kind replace.
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

/// The type of what is conflated.
pub const STOCK_CHANGED: &str = "stock_changed";

/// A drop as a snapshot shows it.
#[must_use]
pub fn drop_now(spec: &DropSpec, board: &StockBoard) -> Bytes {
    encode(&DropNow::new(spec, board))
}

/// The state of a topic at `sequence`, told at `now`: its drops, or where a buyer's orders are to be read.
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

/// How a topic begins.
#[derive(Serialize, Clone, PartialEq, Eq, Debug)]
pub struct Started {
    /// Its name.
    pub topic: String,
    /// Whether everything missed has been published; otherwise there was a snapshot.
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

/// Answers a subscription: from here on everything is published.
#[must_use]
pub fn subscribed(id: Offset, topics: &[Started]) -> Bytes {
    encode(&Answer::Subscribed { id: id.to_string(), topics })
}

/// Answers the end of a subscription.
#[must_use]
pub fn unsubscribed(topics: &[Topic]) -> Bytes {
    encode(&Answer::Unsubscribed { topics: topics.iter().map(ToString::to_string).collect() })
}

/// A session has become somebody's.
#[derive(Clone, Copy, Debug)]
pub struct Welcome<'a> {
    /// The position to come back with.
    pub id: Offset,
    /// Whose it is.
    pub user: UserId,
    /// Of how many creators it hears without asking.
    pub following: usize,
    /// When its token ends.
    pub expires_at: Timestamp,
    /// Whether everything missed of what comes with the account was published, where that was asked.
    pub recovered: Option<bool>,
    /// What was subscribed in the same breath.
    pub topics: &'a [Started],
}

/// Answers an authentication.
#[must_use]
pub fn authenticated(welcome: Welcome<'_>) -> Bytes {
    let Welcome { id, user, following, expires_at, recovered, topics } = welcome;
    encode(&Answer::Authenticated { id: id.to_string(), user_id: user, following, expires_at, recovered, topics })
}

/// The type of what an [`InboxChange`] says.
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
    /// These have a mark now.
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

    /// Everything up to this one is read.
    #[must_use]
    pub fn read_up_to(user: UserId, name: Offset) -> Self {
        let read_up_to = Some(name.to_string());
        let (acknowledged, read) = (Vec::new(), Vec::new());
        let json = encode(&InboxChanged { r#type: INBOX_CHANGED, acknowledged, read, read_up_to });
        Self { user, known_to: None, json }
    }
}

/// Where the drops of many followed creators are to be read, when there are too many for here.
#[must_use]
pub fn snapshot_elsewhere(sequence: u64, now: Timestamp) -> Bytes {
    let head = format!(r#"{{"type":"snapshot","topic":"following","position":{sequence},"server_time":"{now}","#);
    (head + r#""read":"/api/v1/users/me/feed"}"#).into()
}

fn encode(notice: &impl Serialize) -> Bytes {
    serde_json::to_vec(notice).expect("notices have string keys only").into()
}
