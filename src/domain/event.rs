//! Events as the journal stores them: the facts from which every other view (memory, SQL, websocket, audit) is folded.
//!
//! The types here are also the *current version* of the binary form, which is postcard's: no names, no lengths of
//! structs, variants by their number. So **any** change to a type below (a field or a variant that is added, removed,
//! moved or gets another type; nested types included) changes the bytes, and bytes that were written before become
//! unreadable. Hence the versions: [`codec`] writes the current one and reads all of them; `golden/` has bytes of each
//! version, and the tests compare them.
//!
//! To change an event:
//! 1. If the current version is released (its golden file says so), add the next one: `DropRecord::VERSION` + 1, a file
//!    such as `v1.rs` with a copy of each type that is about to change and its `From`, and an arm in [`codec`].
//! 2. Change the type here; the `From` of an older version fills the new fields.
//! 3. Add samples to `golden.rs`, run `cargo test --lib domain::event`, and append the lines that it prints to the
//!    current version's golden file. Lines of a released version never change.

pub mod codec;
#[cfg(test)]
mod golden;
mod v1;
mod v2;
mod v3;

pub use codec::RecordError;

use super::{
    CreatorId, Delivery, DropId, Fingerprint, KeyDigest, Money, OrderId, Payment, PaymentEnd, PaymentMethod, ProductId,
    RefundCause, Refusal, ReleaseReason, ShippingTable, Timestamp, TraceId, UserId, VariantId,
};
use serde::{Deserialize, Serialize};

/// One variant of a drop as it was scheduled.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct VariantSpec {
    pub id: VariantId,
    /// What buyers call it ("M", "blue").
    pub name: String,
    /// Units put up for sale.
    pub stock: u32,
    /// Price of one unit; zero makes it free.
    pub price: Money,
}

/// Everything that was decided about a drop when it was scheduled.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DropSpec {
    pub id: DropId,
    /// The creator who scheduled it.
    pub creator_id: CreatorId,
    pub product_id: ProductId,
    /// The headline that buyers see.
    pub title: String,
    /// At least one, at most `VARIANTS_PER_DROP_MAX`.
    pub variants: Vec<VariantSpec>,
    /// Units one buyer may hold and own together; 0 means no limit.
    pub per_buyer_limit: u32,
    /// `stock_low` is published when a variant's free units fall to this number or below; 0 means never.
    pub low_stock_threshold: u32,
    /// How long a hold lasts, in milliseconds.
    pub hold_ms: u32,
    /// When the drop starts by itself.
    pub starts_at: Timestamp,
    /// When the drop ends by itself; only by hand if absent.
    pub ends_at: Option<Timestamp>,
    /// When it was scheduled.
    pub created_at: Timestamp,
    /// Where it is shipped to; absent if nothing is shipped, and orders need no address.
    pub shipping: Option<Box<ShippingTable>>,
}

/// The order that a later event is about, with everything a consumer would otherwise have to look up: an event is
/// complete by itself, so a fold over the journal needs no memory of orders.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct OrderLine {
    pub order: OrderId,
    pub buyer: UserId,
    pub variant: VariantId,
    /// Units, at least 1.
    pub quantity: u32,
}

/// The user who changed a drop by hand, and where the request came from.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Principal {
    pub user: UserId,
    /// Whether the user acted as an administrator.
    pub admin: bool,
    /// The client's address; empty if it is not known.
    pub origin: Box<str>,
    /// The trace of the request.
    pub trace: TraceId,
}

/// A change that a creator or an administrator can make to a drop.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum AdminAction {
    /// Opened before its start time.
    Started,
    /// Closed before its end time.
    Ended,
    Cancelled,
    /// This many units were added to a variant (the only one if absent).
    Restocked(Option<VariantId>, u32),
    /// Its start and end were moved here.
    Rescheduled(Timestamp, Option<Timestamp>),
    /// An order was given back.
    Refunded(OrderId),
}

/// The idempotency key of a command given by hand, and a digest of the request.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct KeyedRequest {
    /// Digest of the key and its user.
    pub digest: KeyDigest,
    /// Digest of the request's fields.
    pub fingerprint: Fingerprint,
}

/// One fact about one drop.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum DropEvent {
    /// The drop was created with this spec.
    Scheduled(Box<DropSpec>),
    /// It is open for orders.
    Started,
    /// It takes no more orders.
    Ended,
    /// It was cancelled: holds and sold orders are settled by the events that follow.
    Cancelled,
    /// Units were added to a variant.
    Restocked { variant: VariantId, quantity: u32 },
    /// A variant's free units fell to the threshold.
    StockLow { variant: VariantId, available: u32 },
    /// The last free unit of the last variant is taken.
    SoldOut,
    /// A sold-out drop has a free unit again.
    BackInStock,
    /// Units are held for a buyer.
    Reserved {
        order: OrderId,
        buyer: UserId,
        variant: VariantId,
        quantity: u32,
        unit_price: Money,
        expires_at: Timestamp,
        key: Box<str>,
        digest: KeyDigest,
        fingerprint: Fingerprint,
        /// Set when the same request also pays, as the order's first attempt: its outcome is owed from this moment on.
        payment_method: Option<PaymentMethod>,
        /// Set if the drop is shipped.
        delivery: Option<Box<Delivery>>,
    },
    /// A reservation was refused. Only older journals have it, and it changes nothing: refusals are no longer recorded.
    Refused {
        buyer: UserId,
        key: Box<str>,
        digest: KeyDigest,
        fingerprint: Fingerprint,
        refusal: Refusal,
        trace: TraceId,
    },
    /// A gateway is about to be asked to authorize an attempt to pay an order. `attempt` counts from 1; older records have 0.
    PaymentStarted { order: OrderId, attempt: u32, method: PaymentMethod },
    /// An order is paid (or free): held units are sold. `retaken` when the hold had expired and free units were
    /// taken instead. A payment that is not captured yet is captured from now on.
    Confirmed { line: OrderLine, payment: Option<Payment>, retaken: bool },
    /// A hold ended and its units are free again.
    Released { line: OrderLine, reason: ReleaseReason, trace: TraceId },
    /// Money was authorized or taken and has to go back; without a payment nothing was. `was_sold`: the order was confirmed,
    /// and its units leave `sold`.
    RefundDue { line: OrderLine, payment: Option<Payment>, cause: RefundCause, was_sold: bool },
    /// The gateway has paid the money back.
    Refunded { line: OrderLine },
    /// An attempt took no money, and the hold stays if it still runs. `attempt` is 0 in older records.
    PaymentEnded { order: OrderId, attempt: u32, end: PaymentEnd },
    /// Its times were moved.
    Rescheduled { starts_at: Timestamp, ends_at: Option<Timestamp> },
    /// The earlier events of the same entry came from a command given by hand. For the audit trail. `request` is set if
    /// the command had an idempotency key.
    AuditedCommand { actor: Principal, act: AdminAction, request: Option<KeyedRequest> },
    /// The provider knows an attempt and has no outcome yet. `action`: the buyer has to act, such as for 3-D Secure.
    PaymentWaits { order: OrderId, attempt: u32, reference: Box<str>, action: bool },
    /// A hold lasts longer, once, because its buyer has to act.
    HoldExtended { line: OrderLine, expires_at: Timestamp },
    /// The authorized money of a confirmed order was taken.
    PaymentCaptured { order: OrderId, attempt: u32 },
}

impl DropEvent {
    /// The event's type in publications; `None` if the event is not published by itself.
    #[must_use]
    pub fn kind(&self) -> Option<&'static str> {
        Some(match self {
            Self::Scheduled(_) => "drop_scheduled",
            Self::Rescheduled { .. } => "drop_rescheduled",
            Self::Started => "drop_started",
            Self::Ended => "drop_ended",
            Self::Cancelled => "drop_cancelled",
            Self::Restocked { .. } => "restocked",
            Self::StockLow { .. } => "stock_low",
            Self::SoldOut => "sold_out",
            Self::Reserved { .. } => "order_reserved",
            Self::Confirmed { .. } => "order_confirmed",
            Self::Released { .. } => "order_released",
            Self::RefundDue { .. } => "refund_due",
            Self::Refunded { .. } => "order_refunded",
            Self::HoldExtended { .. } => "hold_extended",
            Self::BackInStock
            | Self::Refused { .. }
            | Self::PaymentStarted { .. }
            | Self::PaymentEnded { .. }
            | Self::PaymentWaits { .. }
            | Self::PaymentCaptured { .. }
            | Self::AuditedCommand { .. } => return None,
        })
    }

    /// The order that the event is about.
    #[must_use]
    pub fn order(&self) -> Option<OrderId> {
        match self {
            Self::PaymentStarted { order, .. }
            | Self::PaymentEnded { order, .. }
            | Self::PaymentWaits { order, .. }
            | Self::PaymentCaptured { order, .. } => Some(*order),
            event => event.line().map(|line| line.order),
        }
    }

    /// The order that the event is about, if its buyer is notified.
    #[must_use]
    pub fn line(&self) -> Option<OrderLine> {
        match self {
            Self::Reserved { order, buyer, variant, quantity, .. } => {
                Some(OrderLine { order: *order, buyer: *buyer, variant: *variant, quantity: *quantity })
            }
            Self::Confirmed { line, .. }
            | Self::Released { line, .. }
            | Self::RefundDue { line, .. }
            | Self::HoldExtended { line, .. }
            | Self::Refunded { line } => Some(*line),
            _ => None,
        }
    }
}

/// One journal record: a fact, its drop and its time.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DropRecord {
    /// The drop that it is about.
    pub drop: DropId,
    /// When it was decided.
    pub at: Timestamp,
    pub event: DropEvent,
}
