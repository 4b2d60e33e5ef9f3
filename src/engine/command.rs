//! Commands to a drop, and their outcomes.

use crate::domain::{
    Delivery, DropRevision, DropStatus, Fingerprint, KeyDigest, KeyedRequest, OrderId, OrderStatus, OrderView,
    PaymentEnd, PaymentMethod, Principal, Refusal, ReleaseReason, Timestamp, TraceId, UserId, VariantId,
};
use std::num::NonZeroU32;

/// Holds units for a buyer, under an idempotency key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reserve {
    /// The id of the new order. The caller makes it, because the engine has no randomness.
    pub order: OrderId,
    pub buyer: UserId,
    /// The key as the client sent it.
    pub key: Box<str>,
    /// Digest of the key and the buyer.
    pub digest: KeyDigest,
    /// Digest of the request's fields.
    pub fingerprint: Fingerprint,
    /// The only variant if absent.
    pub variant: Option<VariantId>,
    /// From 1 to `QUANTITY_PER_ORDER_MAX`.
    pub quantity: u32,
    /// Set if the same request pays: the drop then records a pending payment.
    pub payment_method: Option<PaymentMethod>,
    /// Where it is sent, if the drop is shipped.
    pub delivery: Option<Box<Delivery>>,
    /// Digest of the client's network, if it is known. Never recorded.
    pub network: Option<NonZeroU32>,
}

/// How rescheduling changes a drop's end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NewEnd {
    Unchanged,
    /// The drop has no end any more.
    Never,
    At(Timestamp),
}

impl NewEnd {
    /// The new end, if the old one was `before`.
    #[must_use]
    pub fn after(self, before: Option<Timestamp>) -> Option<Timestamp> {
        match self {
            Self::Unchanged => before,
            Self::Never => None,
            Self::At(end) => Some(end),
        }
    }
}

/// A command to one drop.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Command {
    /// Holds units for a buyer.
    Reserve(Box<Reserve>),
    /// Records that a gateway is about to be asked for a payment, as the order's next attempt. If an attempt is pending,
    /// nothing changes, and the outcome says `replayed`.
    BeginPayment { order: OrderId, method: PaymentMethod },
    /// Records that the provider knows the pending attempt and has no outcome yet. If the buyer has to act (`action`), the
    /// hold is extended, once.
    AwaitPayment {
        order: OrderId,
        attempt: u32,
        /// The gateway's reference.
        reference: Box<str>,
        action: bool,
    },
    /// Records that the pending attempt took no money. The hold stays if it still runs.
    EndPayment { order: OrderId, attempt: u32, end: PaymentEnd },
    /// Records that the money for an order has arrived, perhaps late.
    Confirm {
        order: OrderId,
        /// The gateway's reference, needed for a refund.
        payment_ref: Box<str>,
    },
    /// Like [`Command::Confirm`]; the money is only authorized, and to be captured.
    Authorize { order: OrderId, payment_ref: Box<str> },
    /// Records that the authorized money was taken.
    SettleCapture { order: OrderId },
    /// Records that the authorized money cannot be taken: the order is given back.
    FailCapture { order: OrderId },
    /// Reads orders whose money is to be captured, oldest first.
    CapturesDue {
        /// Starts after this order.
        after: Option<OrderId>,
        /// At most this many.
        limit: usize,
    },
    /// Releases a hold of its buyer.
    Release {
        order: OrderId,
        reason: ReleaseReason,
        /// The trace id of the request that caused it.
        trace: TraceId,
    },
    /// Refunds a confirmed order and frees its units.
    Refund { order: OrderId },
    /// Records that the gateway has paid the money back.
    SettleRefund { order: OrderId },
    /// Opens the drop before its start time.
    Start,
    /// Closes the drop before its end time.
    End,
    /// Cancels the drop. The following ticks release holds and refund sold orders in batches.
    Cancel,
    /// Adds units to a variant.
    Restock {
        /// The only variant if absent.
        variant: Option<VariantId>,
        /// Units to add, at least 1.
        quantity: u32,
    },
    /// Moves the drop's times: both before the start, only the end after it.
    Reschedule {
        /// The new start; unchanged if absent.
        starts_at: Option<Timestamp>,
        ends_at: NewEnd,
    },
    /// One of the commands above, given by hand. If it changes anything, the journal records the person with it.
    AuditedCommand {
        actor: Principal,
        /// The command's idempotency key, recorded with it.
        request: Option<Box<KeyedRequest>>,
        command: Box<Command>,
    },
    /// A command with a precondition: it is rejected if the drop's revision has changed.
    If {
        /// The revision that the caller saw.
        revision: Box<DropRevision>,
        /// The command to run if the revision still matches.
        command: Box<Command>,
    },
    /// Applies everything that has become due.
    Tick,
    /// Reads an order of this drop.
    Find { order: OrderId },
    /// Reads a buyer's orders.
    OrdersOf { buyer: UserId },
    /// Reads orders whose refund is due, oldest first.
    RefundsDue {
        /// Starts after this order.
        after: Option<OrderId>,
        /// At most this many.
        limit: usize,
    },
}

/// The answer to a command.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// An order as it is now.
    Order {
        order: Box<OrderView>,
        /// Whether an earlier request with the same key placed it, or an earlier attempt to pay it is pending.
        replayed: bool,
    },
    /// A reservation was refused. Nothing changed, and the key stays free.
    Refused(Refusal),
    /// Orders: a buyer's, newest first, or those with a refund or a capture due, oldest first.
    Orders(Vec<OrderView>),
    /// Done; the drop's status is now this.
    Done(DropStatus),
    /// Nothing to do: the drop was in this status already.
    Unchanged(DropStatus),
    /// The command is not possible. Nothing changed and nothing is remembered.
    Rejected(Rejection),
}

/// Why a command was not possible.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rejection {
    /// The key was used for another request.
    KeyReused,
    /// The drop has not started. That passes with time, so the key stays free.
    NotStarted {
        /// When the drop will start.
        starts_at: Timestamp,
    },
    /// A hold of the buyer expired unpaid recently. That passes with time, so the key stays free.
    CoolingDown {
        /// The end of the wait, by the wall clock.
        until: Timestamp,
        /// Milliseconds until then, by the steady clock.
        left_ms: u32,
    },
    /// The buyer has reached the bound on unpaid holds. The key stays free.
    TooManyHolds,
    /// The buyer's network has reached the bound on unpaid holds. The key stays free.
    TooManyHoldsFromNetwork,
    /// The drop's bound on orders or holds is reached.
    Full,
    /// No such order in this drop.
    UnknownOrder,
    /// The end would not be after the start, or has passed.
    InvalidTimes,
    /// No such variant in this drop (or none was given and there are several).
    UnknownVariant,
    /// The bound on attempts to pay the order is reached.
    TooManyAttempts,
    /// The order's status does not allow the command.
    OrderIs(OrderStatus),
    /// The drop's status does not allow the command.
    DropIs(DropStatus),
    /// A quantity of zero, or past a bound.
    InvalidQuantity,
    /// The drop's revision is not the expected one.
    Changed,
}
