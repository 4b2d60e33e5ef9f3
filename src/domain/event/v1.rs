//! Version 1 of the binary form, frozen: these types are never edited.
//!
//! It differs from version 2 in `AuditedCommand`, which had no idempotency key, and in the possible refusals. Types
//! that are equal in both versions are the current ones; before changing one of them, copy it here.

use super::v2::{self, RefundCause};
use super::{AdminAction, DropRecord, OrderLine, Principal, v3};
use crate::domain::{
    DropId, Fingerprint, KeyDigest, Money, OrderId, ReleaseReason, Timestamp, TraceId, UserId, VariantId,
};
use serde::Deserialize;

/// [`DropRecord`], as it was.
#[derive(Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
pub(super) struct Record {
    drop: DropId,
    at: Timestamp,
    event: Event,
}

/// [`crate::domain::Refusal`], as it was.
#[derive(Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
enum Refusal {
    NotStarted,
    Ended,
    DropCancelled,
    SoldOut,
    LimitExceeded,
    UnknownVariant,
}

impl From<Refusal> for crate::domain::Refusal {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NotStarted => Self::NotStarted,
            Refusal::Ended => Self::Ended,
            Refusal::DropCancelled => Self::DropCancelled,
            Refusal::SoldOut => Self::SoldOut,
            Refusal::LimitExceeded => Self::LimitExceeded,
            Refusal::UnknownVariant => Self::UnknownVariant,
        }
    }
}

/// [`super::DropEvent`], as it was.
#[derive(Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
enum Event {
    Scheduled(Box<v3::DropSpec>),
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
        payment_method: Option<Box<str>>,
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
        method: Box<str>,
    },
    Confirmed {
        line: OrderLine,
        payment_ref: Option<Box<str>>,
        retaken: bool,
    },
    Released {
        line: OrderLine,
        reason: ReleaseReason,
        trace: TraceId,
    },
    RefundDue {
        line: OrderLine,
        payment_ref: Box<str>,
        cause: RefundCause,
        was_sold: bool,
    },
    Refunded {
        line: OrderLine,
    },
    PaymentEnded {
        order: OrderId,
    },
    Rescheduled {
        starts_at: Timestamp,
        ends_at: Option<Timestamp>,
    },
    AuditedCommand {
        actor: Principal,
        act: AdminAction,
    },
}

impl From<Record> for DropRecord {
    fn from(Record { drop, at, event }: Record) -> Self {
        v2::Record { drop, at, event: event.into() }.into()
    }
}

impl From<Event> for v2::Event {
    fn from(event: Event) -> Self {
        match event {
            Event::Scheduled(spec) => Self::Scheduled(spec),
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
            },
            Event::Refused { buyer, key, digest, fingerprint, refusal, trace } => {
                let refusal = refusal.into();
                Self::Refused { buyer, key, digest, fingerprint, refusal, trace }
            }
            Event::PaymentStarted { order, method } => Self::PaymentStarted { order, method },
            Event::Confirmed { line, payment_ref, retaken } => Self::Confirmed { line, payment_ref, retaken },
            Event::Released { line, reason, trace } => Self::Released { line, reason, trace },
            Event::RefundDue { line, payment_ref, cause, was_sold } => {
                Self::RefundDue { line, payment_ref, cause, was_sold }
            }
            Event::Refunded { line } => Self::Refunded { line },
            Event::PaymentEnded { order } => Self::PaymentEnded { order },
            Event::Rescheduled { starts_at, ends_at } => Self::Rescheduled { starts_at, ends_at },
            Event::AuditedCommand { actor, act } => Self::AuditedCommand { actor, act, request: None },
        }
    }
}
