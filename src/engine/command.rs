//! What may be asked of a drop, and what it answers.

use crate::domain::{
    DropRevision, DropStatus, Fingerprint, KeyDigest, KeyedRequest, OrderId, OrderStatus, OrderView, Principal,
    Refusal, ReleaseReason, Timestamp, TraceId, UserId, VariantId,
};
use std::num::NonZeroU32;

/// Holds units for a buyer, under an idempotency key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reserve {
    /// The id that the order will have; made by the caller, because the engine has no randomness.
    pub order: OrderId,
    /// Who orders.
    pub buyer: UserId,
    /// The key as sent.
    pub key: Box<str>,
    /// Its digest.
    pub digest: KeyDigest,
    /// What the request asks for.
    pub fingerprint: Fingerprint,
    /// Which variant; the only one if absent.
    pub variant: Option<VariantId>,
    /// 1 to `QUANTITY_PER_ORDER_MAX`.
    pub quantity: u32,
    /// Set when the same request pays: the drop then knows that a payment is owed an outcome.
    pub payment_method: Option<Box<str>>,
    /// The request's trace, kept with a refusal.
    pub trace: TraceId,
    /// Stands for the network that it comes from, if that is known. Never recorded.
    pub network: Option<NonZeroU32>,
}

/// What becomes of a drop's end when its times are moved.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NewEnd {
    /// It stays.
    Unchanged,
    /// There is none any more.
    Never,
    /// It is then.
    At(Timestamp),
}

impl NewEnd {
    /// The end, where it was `before`.
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
    /// Hold units.
    Reserve(Box<Reserve>),
    /// A gateway is about to be asked to charge for a hold.
    BeginPayment {
        /// The order.
        order: OrderId,
        /// With what.
        method: Box<str>,
    },
    /// A payment that had begun took no money, and the hold (if it still runs) stands.
    EndPayment {
        /// The order.
        order: OrderId,
    },
    /// The money for an order is there, perhaps late.
    Confirm {
        /// The order.
        order: OrderId,
        /// The gateway's reference.
        payment_ref: Box<str>,
    },
    /// Give a hold back.
    Release {
        /// The order.
        order: OrderId,
        /// Why.
        reason: ReleaseReason,
        /// The trace of the request behind it.
        trace: TraceId,
    },
    /// Give the money of a confirmed order back, and its units.
    Refund {
        /// The order.
        order: OrderId,
    },
    /// The gateway has given it back.
    SettleRefund {
        /// The order.
        order: OrderId,
    },
    /// Open now.
    Start,
    /// Close now.
    End,
    /// Call off: holds are released and sold orders refunded, some at a time, by the ticks that follow.
    Cancel,
    /// Add units to a variant; the only one if absent.
    Restock {
        /// Which.
        variant: Option<VariantId>,
        /// How many.
        quantity: u32,
    },
    /// Move its times: both before the start, the end until the end.
    Reschedule {
        /// When it starts by itself; as before if absent.
        starts_at: Option<Timestamp>,
        /// When it ends by itself.
        ends_at: NewEnd,
    },
    /// One of the commands above that somebody gives by hand: if it changes anything, that is noted with it.
    AuditedCommand {
        /// Who.
        actor: Principal,
        /// The idempotency key that it came with; noted with it.
        request: Option<Box<KeyedRequest>>,
        /// What.
        command: Box<Command>,
    },
    /// A command that is meant for the drop as it was when somebody looked.
    If {
        /// What they saw.
        revision: Box<DropRevision>,
        /// What they want then.
        command: Box<Command>,
    },
    /// Do what time has made due.
    Tick,
    /// Read an order.
    Find {
        /// The order.
        order: OrderId,
    },
    /// Read a buyer's orders.
    OrdersOf {
        /// The buyer.
        buyer: UserId,
    },
    /// Read orders whose money has to go back, oldest first.
    RefundsDue {
        /// From behind this one on.
        after: Option<OrderId>,
        /// At most so many.
        limit: usize,
    },
}

/// The answer to a command.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// An order as it is now. `replayed` when a key had been used for it before.
    Order {
        /// The order.
        order: Box<OrderView>,
        /// Whether the key was known.
        replayed: bool,
    },
    /// A reservation was refused. The key keeps this answer.
    Refused {
        /// Why.
        refusal: Refusal,
        /// The trace of the request that was refused first.
        trace: TraceId,
        /// Whether the key was known.
        replayed: bool,
    },
    /// Orders: a buyer's, newest first, or those with a refund due, oldest first.
    Orders(Vec<OrderView>),
    /// Done, and the drop is now in this state.
    Done(DropStatus),
    /// It was so already.
    Unchanged(DropStatus),
    /// Not possible. Nothing changed and nothing is remembered.
    Rejected(Rejection),
}

/// Why a command was not possible.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rejection {
    /// The key was used for another request.
    KeyReused,
    /// The drop has not started. Time alone cures that, so the key stays free.
    NotStarted {
        /// When it will.
        starts_at: Timestamp,
    },
    /// A hold of the buyer ran out unpaid lately. Time alone cures that, so the key stays free.
    CoolingDown {
        /// Until when, by the wall clock.
        until: Timestamp,
        /// In how many milliseconds that is.
        left_ms: u32,
    },
    /// The buyer has as many unpaid holds as one may have. The key stays free.
    TooManyHolds,
    /// The buyer's network has. The key stays free.
    TooManyHoldsFromNetwork,
    /// A bound of this drop is reached (orders, refusals or holds).
    Full,
    /// No such order in this drop.
    UnknownOrder,
    /// The end would not be after the start, or is past.
    InvalidTimes,
    /// No such variant in this drop (or none was named and there are several).
    UnknownVariant,
    /// The order is in this state, which does not allow it.
    OrderIs(OrderStatus),
    /// The drop is in this state, which does not allow it.
    DropIs(DropStatus),
    /// A quantity of zero, or past a bound.
    InvalidQuantity,
    /// The drop is not any more what the command was meant for.
    Changed,
}
