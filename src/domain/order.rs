//! Orders as every layer outside the engine sees them.

use super::{
    Delivery, DropId, Fingerprint, KeyDigest, Money, OrderId, PaymentFacts, PaymentProvider, Timestamp, TraceId,
    UserId, VariantId,
};
use serde::{Deserialize, Serialize};

named!(
    /// The state of an order: `reserved`, then exactly one of `confirmed` and `released`; a confirmed one may be
    /// `refunded` later.
    OrderStatus {
        /// Stock is held until `expires_at`.
        Reserved = "reserved",
        /// Paid (or free): the units are sold.
        Confirmed = "confirmed",
        /// The hold has ended, see [`ReleaseReason`].
        Released = "released",
        /// It was confirmed; the money was paid back.
        Refunded = "refunded",
    }
);

named!(
    /// What became of a buyer's request for a refund.
    RefundRequestStatus {
        /// The seller has not answered.
        Open = "open",
        Accepted = "accepted",
        Refused = "refused",
    }
);

named!(
    /// Why a hold was released.
    ReleaseReason {
        /// The hold expired unpaid.
        Expired = "expired",
        /// The payment was declined.
        PaymentFailed = "payment_failed",
        /// The buyer gave it back, or the drop was cancelled.
        Cancelled = "cancelled",
    }
);

named!(
    /// Why a buyer gets money back.
    RefundCause {
        /// The payment landed after the hold had expired, and the stock was gone.
        LatePayment = "late_payment",
        /// The drop was cancelled.
        DropCancelled = "drop_cancelled",
        /// The creator or an admin refunded the order.
        Requested = "requested",
        /// The money that was authorized could not be taken.
        CaptureFailed = "capture_failed",
    }
);

/// Why a reservation was refused: an outcome, not an error.
///
/// The journal's form numbers the variants in this order: append new ones.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// The drop has not started. Only old journals have it: today's answer is a rejection, because it passes with time.
    NotStarted,
    /// The drop has ended.
    Ended,
    /// The drop was cancelled.
    DropCancelled,
    /// No free unit of that variant.
    SoldOut,
    /// The buyer's orders would exceed the drop's limit per buyer.
    LimitExceeded,
    /// The drop has no such variant.
    UnknownVariant,
    /// Free units of that variant, but fewer than were asked for.
    NotEnoughStock {
        /// Free units at that time, at least 1.
        available: u32,
    },
}

impl Refusal {
    /// The name on the wire and in SQL.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotStarted => "drop_not_started",
            Self::Ended => "drop_ended",
            Self::DropCancelled => "drop_cancelled",
            Self::SoldOut => "sold_out",
            Self::LimitExceeded => "limit_exceeded",
            Self::UnknownVariant => "unknown_variant",
            Self::NotEnoughStock { .. } => "not_enough_stock",
        }
    }

    /// The number of free units, if that is the reason.
    #[must_use]
    pub fn available(self) -> Option<u32> {
        match self {
            Self::NotEnoughStock { available } => Some(available),
            _ => None,
        }
    }
}

/// One order in full: buyers read it, the projector writes it, recovery loads it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OrderView {
    pub id: OrderId,
    pub drop_id: DropId,
    pub variant_id: VariantId,
    pub buyer: UserId,
    /// How many units, at least 1.
    pub quantity: u32,
    /// Price of one unit.
    pub unit_price: Money,
    pub status: OrderStatus,
    /// Set when `status` is `released`.
    pub release_reason: Option<ReleaseReason>,
    /// Digest of the buyer's idempotency key.
    pub digest: KeyDigest,
    /// Digest of the request's fields.
    pub fingerprint: Fingerprint,
    /// When it was reserved.
    pub created_at: Timestamp,
    /// When the hold ends.
    pub expires_at: Timestamp,
    /// When it was confirmed, also after a refund.
    pub confirmed_at: Option<Timestamp>,
    /// When the hold was released.
    pub released_at: Option<Timestamp>,
    /// When the refund was settled.
    pub refunded_at: Option<Timestamp>,
    /// The gateway's reference of the payment that confirmed it, that has to be refunded, or that waits.
    pub payment_ref: Option<String>,
    /// The last payment method that was tried and has no known outcome yet.
    pub payment_pending: Option<String>,
    /// Why a refund is owed; absent once it is settled.
    pub refund_due: Option<RefundCause>,
    /// The trace of the request whose payment failed.
    pub failed_trace: Option<TraceId>,
    pub payment: PaymentFacts,
    /// Where it is sent; absent if nothing is shipped. Boxed: most orders have none.
    pub delivery: Option<Box<Delivery>>,
}

impl OrderView {
    /// Whether its row shows that a payment was tried, see [`PaymentFacts::assumed`].
    #[must_use]
    pub fn was_tried(&self) -> bool {
        self.payment_ref.is_some() || self.payment_pending.is_some() || self.failed_trace.is_some()
    }

    /// What has to be kept of its payments: nothing, if it can be assumed.
    #[must_use]
    pub fn kept_payment(&self) -> Option<PaymentFacts> {
        Some(self.payment).filter(|facts| *facts != PaymentFacts::assumed(self.was_tried()))
    }

    /// The attempt that is pending, from 1; the last one if none is.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.payment.attempts.max(1)
    }

    /// Whether it was paid, or tried to be, with play money.
    #[must_use]
    pub fn is_test(&self) -> bool {
        self.payment.provider.is_some_and(PaymentProvider::is_test)
    }

    /// `quantity × unit_price`.
    ///
    /// # Panics
    /// On overflow, which the bounds of prices and quantities exclude: a wrong amount must never be charged or shown.
    #[must_use]
    pub fn units(&self) -> Money {
        self.bounded(self.unit_price.times(self.quantity))
    }

    /// What sending it costs.
    #[must_use]
    pub fn shipping(&self) -> Money {
        let amount = self.delivery.as_ref().map_or(0, |delivery| delivery.shipping);
        Money { amount, currency: self.unit_price.currency }
    }

    /// What is charged: its units and shipping.
    ///
    /// # Panics
    /// As [`OrderView::units`].
    #[must_use]
    pub fn total(&self) -> Money {
        self.bounded(self.units().plus(self.shipping()))
    }

    fn bounded(&self, amount: Option<Money>) -> Money {
        amount.unwrap_or_else(|| panic!("order {} of drop {}: its total overflows", self.id, self.drop_id))
    }

    /// Whether nothing is charged, so that it is confirmed at once.
    #[must_use]
    pub fn is_free(&self) -> bool {
        self.unit_price.is_zero() && self.shipping().is_zero()
    }
}
