//! Version 3 of the binary form, frozen: these types are never edited.
//!
//! It differs from version 4 in deliveries: drops had no shipping table, and orders no address. Types that are equal in both
//! versions are the current ones; before changing one of them, copy it here.

use super::{AdminAction, DropEvent, DropRecord, KeyedRequest, OrderLine, Principal, VariantSpec};
use crate::domain::{
    CreatorId, DropId, Fingerprint, KeyDigest, Money, OrderId, Payment, PaymentEnd, PaymentMethod, ProductId,
    RefundCause, Refusal, ReleaseReason, Timestamp, TraceId, UserId, VariantId,
};
use serde::Deserialize;

/// [`DropRecord`], as it was.
#[derive(Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
pub(super) struct Record {
    pub drop: DropId,
    pub at: Timestamp,
    pub event: Event,
}

/// [`super::DropSpec`], as it was.
#[derive(Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
pub(super) struct DropSpec {
    pub id: DropId,
    pub creator_id: CreatorId,
    pub product_id: ProductId,
    pub title: String,
    pub variants: Vec<VariantSpec>,
    pub per_buyer_limit: u32,
    pub low_stock_threshold: u32,
    pub hold_ms: u32,
    pub starts_at: Timestamp,
    pub ends_at: Option<Timestamp>,
    pub created_at: Timestamp,
}

/// [`DropEvent`], as it was.
#[derive(Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
pub(super) enum Event {
    Scheduled(Box<DropSpec>),
    Started,
    Ended,
    Cancelled,
    Restocked {
        variant: VariantId,
        quantity: u32,
    },
    StockLow {
        variant: VariantId,
        available: u32,
    },
    SoldOut,
    BackInStock,
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
        payment_method: Option<PaymentMethod>,
    },
    Refused {
        buyer: UserId,
        key: Box<str>,
        digest: KeyDigest,
        fingerprint: Fingerprint,
        refusal: Refusal,
        trace: TraceId,
    },
    PaymentStarted {
        order: OrderId,
        attempt: u32,
        method: PaymentMethod,
    },
    Confirmed {
        line: OrderLine,
        payment: Option<Payment>,
        retaken: bool,
    },
    Released {
        line: OrderLine,
        reason: ReleaseReason,
        trace: TraceId,
    },
    RefundDue {
        line: OrderLine,
        payment: Option<Payment>,
        cause: RefundCause,
        was_sold: bool,
    },
    Refunded {
        line: OrderLine,
    },
    PaymentEnded {
        order: OrderId,
        attempt: u32,
        end: PaymentEnd,
    },
    Rescheduled {
        starts_at: Timestamp,
        ends_at: Option<Timestamp>,
    },
    AuditedCommand {
        actor: Principal,
        act: AdminAction,
        request: Option<KeyedRequest>,
    },
    PaymentWaits {
        order: OrderId,
        attempt: u32,
        reference: Box<str>,
        action: bool,
    },
    HoldExtended {
        line: OrderLine,
        expires_at: Timestamp,
    },
    PaymentCaptured {
        order: OrderId,
        attempt: u32,
    },
}

impl From<Record> for DropRecord {
    fn from(Record { drop, at, event }: Record) -> Self {
        Self { drop, at, event: event.into() }
    }
}

impl From<DropSpec> for super::DropSpec {
    fn from(spec: DropSpec) -> Self {
        let DropSpec {
            id,
            creator_id,
            product_id,
            title,
            variants,
            per_buyer_limit,
            low_stock_threshold,
            hold_ms,
            starts_at,
            ends_at,
            created_at,
        } = spec;
        Self {
            id,
            creator_id,
            product_id,
            title,
            variants,
            per_buyer_limit,
            low_stock_threshold,
            hold_ms,
            starts_at,
            ends_at,
            created_at,
            shipping: None,
        }
    }
}

impl From<Event> for DropEvent {
    fn from(event: Event) -> Self {
        match event {
            Event::Scheduled(spec) => Self::Scheduled(Box::new((*spec).into())),
            Event::Started => Self::Started,
            Event::Ended => Self::Ended,
            Event::Cancelled => Self::Cancelled,
            Event::Restocked { variant, quantity } => Self::Restocked { variant, quantity },
            Event::StockLow { variant, available } => Self::StockLow { variant, available },
            Event::SoldOut => Self::SoldOut,
            Event::BackInStock => Self::BackInStock,
            Event::Reserved {
                order,
                buyer,
                variant,
                quantity,
                unit_price,
                expires_at,
                key,
                digest,
                fingerprint,
                payment_method,
            } => Self::Reserved {
                order,
                buyer,
                variant,
                quantity,
                unit_price,
                expires_at,
                key,
                digest,
                fingerprint,
                payment_method,
                delivery: None,
            },
            Event::Refused { buyer, key, digest, fingerprint, refusal, trace } => {
                Self::Refused { buyer, key, digest, fingerprint, refusal, trace }
            }
            Event::PaymentStarted { order, attempt, method } => Self::PaymentStarted { order, attempt, method },
            Event::Confirmed { line, payment, retaken } => Self::Confirmed { line, payment, retaken },
            Event::Released { line, reason, trace } => Self::Released { line, reason, trace },
            Event::RefundDue { line, payment, cause, was_sold } => Self::RefundDue { line, payment, cause, was_sold },
            Event::Refunded { line } => Self::Refunded { line },
            Event::PaymentEnded { order, attempt, end } => Self::PaymentEnded { order, attempt, end },
            Event::Rescheduled { starts_at, ends_at } => Self::Rescheduled { starts_at, ends_at },
            Event::AuditedCommand { actor, act, request } => Self::AuditedCommand { actor, act, request },
            Event::PaymentWaits { order, attempt, reference, action } => {
                Self::PaymentWaits { order, attempt, reference, action }
            }
            Event::HoldExtended { line, expires_at } => Self::HoldExtended { line, expires_at },
            Event::PaymentCaptured { order, attempt } => Self::PaymentCaptured { order, attempt },
        }
    }
}
