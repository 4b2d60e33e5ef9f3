//! The public form of events: CloudEvents 1.0 in JSON, documented in docs/EVENTS.md and versioned by `type`, apart from
//! the journal's binary form. For everything that leaves the process as an event: HTTP, a bus, webhooks.
//!
//! An event's `id` consists of its record's sequence and its index in the record; its `source` names the journal. Both
//! stay the same when it is sent again. Events have ids and no personal data.

use crate::actors::consumers::Gap;
use crate::domain::{
    CreatorId, DropEvent, DropId, DropRecord, Money, OrderId, OrderLine, ProductId, RefundCause, ReleaseReason,
    Timestamp, UserId, VariantId, VariantSpec,
};
use serde::Serialize;
use uuid::Uuid;

/// The media type of an array of events.
pub const BATCH_MEDIA_TYPE: &str = "application/cloudevents-batch+json";

/// An event ready to be serialised.
#[derive(Serialize)]
pub struct CloudEvent<'a> {
    specversion: &'static str,
    id: String,
    source: String,
    r#type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<String>,
    time: Timestamp,
    datacontenttype: &'static str,
    /// The CloudEvents extension `partitionkey`: events with the same key keep their order.
    #[serde(skip_serializing_if = "Option::is_none")]
    partitionkey: Option<DropId>,
    data: Data<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Data<'a> {
    Scheduled {
        drop_id: DropId,
        creator_id: CreatorId,
        product_id: ProductId,
        title: &'a str,
        variants: Vec<Variant<'a>>,
        per_buyer_limit: u32,
        starts_at: Timestamp,
        ends_at: Option<Timestamp>,
    },
    Rescheduled {
        drop_id: DropId,
        starts_at: Timestamp,
        ends_at: Option<Timestamp>,
    },
    Drop {
        drop_id: DropId,
    },
    Restocked {
        drop_id: DropId,
        variant_id: VariantId,
        quantity: u32,
    },
    StockLow {
        drop_id: DropId,
        variant_id: VariantId,
        available: u32,
    },
    Reserved {
        #[serde(flatten)]
        order: Order,
        unit_price: Money,
        expires_at: Timestamp,
    },
    HoldExtended {
        #[serde(flatten)]
        order: Order,
        expires_at: Timestamp,
    },
    Confirmed {
        #[serde(flatten)]
        order: Order,
        /// Whether the payment came after the hold had expired.
        late: bool,
    },
    Released {
        #[serde(flatten)]
        order: Order,
        reason: ReleaseReason,
    },
    RefundDue {
        #[serde(flatten)]
        order: Order,
        cause: RefundCause,
    },
    Order(Order),
    Gap {
        first_sequence: u64,
        last_sequence: u64,
    },
}

#[derive(Serialize)]
struct Variant<'a> {
    id: VariantId,
    name: &'a str,
    stock: u32,
    price: Money,
}

#[derive(Serialize)]
struct Order {
    order_id: OrderId,
    drop_id: DropId,
    buyer_id: UserId,
    variant_id: VariantId,
    quantity: u32,
}

impl Order {
    fn new(drop_id: DropId, line: &OrderLine) -> Self {
        let OrderLine { order, buyer, variant, quantity } = *line;
        Self { order_id: order, drop_id, buyer_id: buyer, variant_id: variant, quantity }
    }
}

impl<'a> CloudEvent<'a> {
    /// The event of a journal record; `None` for internal records. Index 0 is the only one so far: a record makes at
    /// most one event.
    #[must_use]
    pub fn of(journal: Uuid, sequence: u64, record: &'a DropRecord) -> Option<Self> {
        let (kind, data) = Data::of(record)?;
        let subject = match record.event.order() {
            Some(order) => format!("orders/{order}"),
            None => format!("drops/{}", record.drop),
        };
        Some(Self::new(journal, Self::id_of(sequence), kind, record.at, data).about(subject, record.drop))
    }

    /// The id of a record's event.
    #[must_use]
    pub fn id_of(sequence: u64) -> String {
        format!("{sequence}-0")
    }

    /// The record of an event's id.
    #[must_use]
    pub fn sequence_of(id: &str) -> Option<u64> {
        id.strip_suffix("-0")?.parse().ok()
    }

    /// Unique within the source; receivers use it to drop duplicates.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The event that reports records whose events were not sent and will not be.
    #[must_use]
    pub fn gap(journal: Uuid, gap: Gap, at: Timestamp) -> Self {
        let Gap { first, last } = gap;
        let data = Data::Gap { first_sequence: first, last_sequence: last };
        Self::new(journal, format!("gap-{first}-{last}"), "com.livedrop.events.gap.v1", at, data)
    }

    fn new(journal: Uuid, id: String, kind: &'static str, time: Timestamp, data: Data<'a>) -> Self {
        Self {
            specversion: "1.0",
            id,
            source: format!("urn:uuid:{journal}"),
            r#type: kind,
            subject: None,
            time,
            datacontenttype: "application/json",
            partitionkey: None,
            data,
        }
    }

    fn about(self, subject: String, drop: DropId) -> Self {
        Self { subject: Some(subject), partitionkey: Some(drop), ..self }
    }
}

impl<'a> Data<'a> {
    fn of(record: &'a DropRecord) -> Option<(&'static str, Self)> {
        let drop_id = record.drop;
        let order = |line: &OrderLine| Order::new(drop_id, line);
        Some(match &record.event {
            DropEvent::Scheduled(spec) => {
                let variant = |VariantSpec { id, name, stock, price }: &'a VariantSpec| Variant {
                    id: *id,
                    name,
                    stock: *stock,
                    price: *price,
                };
                let data = Self::Scheduled {
                    drop_id,
                    creator_id: spec.creator_id,
                    product_id: spec.product_id,
                    title: &spec.title,
                    variants: spec.variants.iter().map(variant).collect(),
                    per_buyer_limit: spec.per_buyer_limit,
                    starts_at: spec.starts_at,
                    ends_at: spec.ends_at,
                };
                ("com.livedrop.drop.scheduled.v1", data)
            }
            DropEvent::Rescheduled { starts_at, ends_at } => {
                let data = Self::Rescheduled { drop_id, starts_at: *starts_at, ends_at: *ends_at };
                ("com.livedrop.drop.rescheduled.v1", data)
            }
            DropEvent::Started => ("com.livedrop.drop.started.v1", Self::Drop { drop_id }),
            DropEvent::Ended => ("com.livedrop.drop.ended.v1", Self::Drop { drop_id }),
            DropEvent::Cancelled => ("com.livedrop.drop.cancelled.v1", Self::Drop { drop_id }),
            DropEvent::SoldOut => ("com.livedrop.drop.sold_out.v1", Self::Drop { drop_id }),
            DropEvent::BackInStock => ("com.livedrop.drop.back_in_stock.v1", Self::Drop { drop_id }),
            DropEvent::Restocked { variant, quantity } => {
                let data = Self::Restocked { drop_id, variant_id: *variant, quantity: *quantity };
                ("com.livedrop.drop.restocked.v1", data)
            }
            DropEvent::StockLow { variant, available } => {
                let data = Self::StockLow { drop_id, variant_id: *variant, available: *available };
                ("com.livedrop.drop.stock_low.v1", data)
            }
            DropEvent::Reserved { unit_price, expires_at, .. } => {
                let order = order(&record.event.line()?);
                let data = Self::Reserved { order, unit_price: *unit_price, expires_at: *expires_at };
                ("com.livedrop.order.reserved.v1", data)
            }
            DropEvent::HoldExtended { line, expires_at } => {
                let data = Self::HoldExtended { order: order(line), expires_at: *expires_at };
                ("com.livedrop.order.hold_extended.v1", data)
            }
            DropEvent::Confirmed { line, retaken, .. } => {
                ("com.livedrop.order.confirmed.v1", Self::Confirmed { order: order(line), late: *retaken })
            }
            DropEvent::Released { line, reason, .. } => {
                ("com.livedrop.order.released.v1", Self::Released { order: order(line), reason: *reason })
            }
            DropEvent::RefundDue { line, cause, .. } => {
                ("com.livedrop.order.refund_due.v1", Self::RefundDue { order: order(line), cause: *cause })
            }
            DropEvent::Refunded { line } => ("com.livedrop.order.refunded.v1", Self::Order(order(line))),
            // Payment progress, refusals and audit entries are internal.
            DropEvent::Refused { .. }
            | DropEvent::PaymentStarted { .. }
            | DropEvent::PaymentEnded { .. }
            | DropEvent::PaymentWaits { .. }
            | DropEvent::PaymentCaptured { .. }
            | DropEvent::AuditedCommand { .. } => return None,
        })
    }
}

#[cfg(test)]
mod tests;
