//! Version 2 of the binary form, frozen: these types are never edited.
//!
//! It differs from version 3 in payments, which had neither provider, attempt nor amount, and were captured at once. Types
//! that are equal in both versions are the current ones; before changing one of them, copy it here.

use super::{AdminAction, DropEvent, DropRecord, KeyedRequest, OrderLine, Principal, v3};
use crate::domain::{
    DropId, Fingerprint, KeyDigest, Money, OrderId, PaymentEnd, Refusal, ReleaseReason, Timestamp, TraceId, UserId,
    VariantId,
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

/// [`crate::domain::RefundCause`], as it was.
#[derive(Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
pub(super) enum RefundCause {
    LatePayment,
    DropCancelled,
    Requested,
}

impl From<RefundCause> for crate::domain::RefundCause {
    fn from(cause: RefundCause) -> Self {
        match cause {
            RefundCause::LatePayment => Self::LatePayment,
            RefundCause::DropCancelled => Self::DropCancelled,
            RefundCause::Requested => Self::Requested,
        }
    }
}

/// [`DropEvent`], as it was.
#[derive(Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
pub(super) enum Event {
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
        request: Option<KeyedRequest>,
    },
}

impl From<Record> for DropRecord {
    fn from(Record { drop, at, event }: Record) -> Self {
        Self { drop, at, event: event.into() }
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
                payment_method: payment_method.map(Into::into),
                delivery: None,
            },
            Event::Refused { buyer, key, digest, fingerprint, refusal, trace } => {
                Self::Refused { buyer, key, digest, fingerprint, refusal, trace }
            }
            Event::PaymentStarted { order, method } => {
                Self::PaymentStarted { order, attempt: 0, method: method.into() }
            }
            Event::Confirmed { line, payment_ref, retaken } => {
                Self::Confirmed { line, payment: payment_ref.map(Into::into), retaken }
            }
            Event::Released { line, reason, trace } => Self::Released { line, reason, trace },
            Event::RefundDue { line, payment_ref, cause, was_sold } => {
                let payment = Some(payment_ref).filter(|text| !text.is_empty()).map(Into::into);
                Self::RefundDue { line, payment, cause: cause.into(), was_sold }
            }
            Event::Refunded { line } => Self::Refunded { line },
            Event::PaymentEnded { order } => Self::PaymentEnded { order, attempt: 0, end: PaymentEnd::NotMade },
            Event::Rescheduled { starts_at, ends_at } => Self::Rescheduled { starts_at, ends_at },
            Event::AuditedCommand { actor, act, request } => Self::AuditedCommand { actor, act, request },
        }
    }
}
