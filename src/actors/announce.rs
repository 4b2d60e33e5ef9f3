//! What the crowd is told about a journal record: the public events, as JSON, each encoded once.

use super::fanout::Topic;
use crate::domain::{
    DropEvent, DropRecord, DropSpec, DropStatus, OrderLine, ReleaseReason, StockBoard, StockCounts, Timestamp,
    VariantId,
};
use bytes::Bytes;
use serde::Serialize;

/// An event about a drop, with its stock at that moment.
#[derive(Serialize)]
struct DropNotice<'a> {
    id: String,
    r#type: &'a str,
    topic: String,
    at: Timestamp,
    position: u64,
    drop_id: String,
    creator_id: String,
    title: &'a str,
    starts_at: Timestamp,
    ends_at: Option<Timestamp>,
    status: DropStatus,
    #[serde(skip_serializing_if = "Option::is_none")]
    variant_id: Option<VariantId>,
    stock: StockCounts,
    variants: Vec<VariantNotice>,
}

#[derive(Serialize)]
struct VariantNotice {
    id: VariantId,
    #[serde(flatten)]
    stock: StockCounts,
}

/// An event about somebody's order.
#[derive(Serialize)]
struct OrderNotice<'a> {
    id: String,
    r#type: &'a str,
    topic: String,
    at: Timestamp,
    position: u64,
    order_id: String,
    drop_id: String,
    variant_id: VariantId,
    quantity: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    release_reason: Option<ReleaseReason>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refund_cause: Option<crate::domain::RefundCause>,
}

/// What a record means for those who listen.
pub enum Notice<'a> {
    /// Tell everyone who watches the drop or its creator, now.
    Drop(&'a str, Option<VariantId>),
    /// Tell the buyer.
    Order(&'a str, OrderLine),
    /// Tell nobody.
    Silent,
}

/// Classifies a record's event.
#[must_use]
pub fn notice(event: &DropEvent) -> Notice<'static> {
    match event {
        DropEvent::Scheduled(_) => Notice::Drop("drop_scheduled", None),
        DropEvent::Started => Notice::Drop("drop_started", None),
        DropEvent::Ended => Notice::Drop("drop_ended", None),
        DropEvent::Cancelled => Notice::Drop("drop_cancelled", None),
        DropEvent::Restocked { variant, .. } => Notice::Drop("restocked", Some(*variant)),
        DropEvent::StockLow { variant, .. } => Notice::Drop("stock_low", Some(*variant)),
        DropEvent::SoldOut => Notice::Drop("sold_out", None),
        DropEvent::BackInStock => Notice::Drop("stock_changed", None),
        DropEvent::Reserved { order, buyer, variant, quantity, .. } => Notice::Order(
            "order_reserved",
            OrderLine { order: *order, buyer: *buyer, variant: *variant, quantity: *quantity },
        ),
        DropEvent::Confirmed { line, .. } => Notice::Order("order_confirmed", *line),
        DropEvent::Released { line, .. } => Notice::Order("order_released", *line),
        DropEvent::RefundDue { line, .. } => Notice::Order("refund_due", *line),
        DropEvent::Refunded { line } => Notice::Order("order_refunded", *line),
        DropEvent::Rescheduled { .. } => Notice::Drop("drop_rescheduled", None),
        DropEvent::Refused { .. }
        | DropEvent::PaymentStarted { .. }
        | DropEvent::PaymentEnded { .. }
        | DropEvent::ByHand { .. } => Notice::Silent,
    }
}

/// Encodes an event about a drop.
#[must_use]
pub fn drop_event(
    kind: &str,
    spec: &DropSpec,
    board: &StockBoard,
    at: Timestamp,
    position: u64,
    variant_id: Option<VariantId>,
) -> Bytes {
    let notice = DropNotice {
        id: event_id(position, kind),
        r#type: kind,
        topic: Topic::Drop(spec.id).to_string(),
        at,
        position,
        drop_id: spec.id.to_string(),
        creator_id: spec.creator_id.to_string(),
        title: &spec.title,
        starts_at: spec.starts_at,
        ends_at: spec.ends_at,
        status: board.status,
        variant_id,
        stock: board.total(),
        variants: board.variants.iter().map(|&(id, stock)| VariantNotice { id, stock }).collect(),
    };
    encode(&notice)
}

/// Encodes an event about an order, for its buyer.
#[must_use]
pub fn order_event(kind: &str, line: OrderLine, record: &DropRecord, position: u64) -> Bytes {
    let (mut expires_at, mut release_reason, mut refund_cause) = (None, None, None);
    match &record.event {
        DropEvent::Reserved { expires_at: at, .. } => expires_at = Some(*at),
        DropEvent::Released { reason, .. } => release_reason = Some(*reason),
        DropEvent::RefundDue { cause, .. } => refund_cause = Some(*cause),
        _ => {}
    }
    let notice = OrderNotice {
        id: event_id(position, kind),
        r#type: kind,
        topic: Topic::User(line.buyer).to_string(),
        at: record.at,
        position,
        order_id: line.order.to_string(),
        drop_id: record.drop.to_string(),
        variant_id: line.variant,
        quantity: line.quantity,
        expires_at,
        release_reason,
        refund_cause,
    };
    encode(&notice)
}

/// Unique within this journal: a conflated `stock_changed` shares its position with the record that it reflects.
fn event_id(position: u64, kind: &str) -> String {
    format!("{position}-{kind}")
}

fn encode(notice: &impl Serialize) -> Bytes {
    serde_json::to_vec(notice).expect("notices have string keys only").into()
}
