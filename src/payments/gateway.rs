//! The contract with a payment gateway.
//!
//! A payment is *authorized* while an order's stock is held, and *captured* after the order is confirmed. So a hold that
//! is lost costs nobody money: an authorization that was not captured is cancelled. A gateway that cannot authorize
//! captures at once.
//!
//! The gateway is always called outside the drop actor. Its idempotency references are ours: the order and the number of
//! the attempt, and a name for each refund. A repeated call returns the result of the first one, so a crash between a
//! call and its record is repaired by asking again.

pub use crate::domain::DeclineReason;
use crate::domain::{Money, OrderId, Timestamp, UserId};
use async_trait::async_trait;
use std::time::Duration;

/// One attempt to pay an order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Charge {
    pub order: OrderId,
    /// From 1: a declined card may be followed by another. With `order`, the gateway's idempotency reference.
    pub attempt: u32,
    pub amount: Money,
    /// The payment method's name, such as `pm_sandbox_ok`.
    pub method: String,
    pub buyer: UserId,
}

/// What the provider says of an attempt. `reference` is the provider's own.
#[derive(Clone, PartialEq, Eq)]
pub enum PaymentStatus {
    /// The money was taken.
    Captured { reference: String },
    /// The money is reserved until `capture_before`, if the provider says so.
    Authorized { reference: String, capture_before: Option<Timestamp> },
    /// The buyer has to act, such as for 3-D Secure. The secret and the address are for the buyer alone: they are never
    /// logged or stored.
    RequiresAction { reference: String, client_secret: Option<String>, url: Option<String> },
    /// The provider works on it.
    Pending { reference: String },
    /// Declined for good.
    Declined { reference: Option<String>, reason: DeclineReason },
    /// The authorization was cancelled: nobody was charged, and nobody will be.
    Cancelled { reference: String },
    /// There is no such payment, and there will be none: a request that is still on its way is ignored (only from
    /// [`PaymentGateway::look_up`]).
    Unknown,
}

/// Without secrets, so that it may be logged.
impl std::fmt::Debug for PaymentStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Captured { reference } => write!(f, "Captured({reference})"),
            Self::Authorized { reference, .. } => write!(f, "Authorized({reference})"),
            Self::RequiresAction { reference, .. } => write!(f, "RequiresAction({reference})"),
            Self::Pending { reference } => write!(f, "Pending({reference})"),
            Self::Declined { reference, reason } => {
                write!(f, "Declined({}, {})", reference.as_deref().unwrap_or("-"), reason.code())
            }
            Self::Cancelled { reference } => write!(f, "Cancelled({reference})"),
            Self::Unknown => f.write_str("Unknown"),
        }
    }
}

/// Where a payment stands in the provider's books.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PaymentState {
    /// Neither authorized nor over.
    Open,
    Authorized,
    /// The money was taken; it may have gone back since.
    Captured,
    /// Cancelled: nothing is authorized, and nothing was taken.
    Over,
}

/// The sums of a payment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PaymentSums {
    /// What it was made for.
    pub authorized: Money,
    pub captured: Money,
    /// What of it went back.
    pub refunded: Money,
}

/// A payment of ours in the provider's books.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ListedPayment {
    pub order: OrderId,
    /// From 1.
    pub attempt: u32,
    /// The provider's reference.
    pub reference: String,
    pub state: PaymentState,
    /// `None` if they are no amounts of ours, such as in a currency that we do not have.
    pub sums: Option<PaymentSums>,
}

/// A page of the provider's books.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct PaymentPage {
    pub payments: Vec<ListedPayment>,
    /// What the next page follows; `None` for the last page.
    pub next: Option<String>,
}

/// Why a gateway gave no answer.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum GatewayError {
    /// What was asked for may or may not have happened.
    #[error("the payment gateway did not answer: {reason}")]
    Unreachable { reason: String, retry_after: Option<Duration> },
    /// This call had no effect; an earlier one may have had. With `retry_after` the provider is not available; without
    /// it the request itself is wrong, and no repetition helps.
    #[error("the payment gateway was not asked, or refused: {reason}")]
    Refused { reason: String, retry_after: Option<Duration> },
    /// The provider has no final answer yet.
    #[error("the payment gateway has no answer yet: {reason}")]
    NotYet { reason: String },
}

/// Whether a provider can be reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GatewayHealth {
    Up,
    /// Calls are refused until `retry_at`. Both by the steady clock.
    Down {
        since: Timestamp,
        retry_at: Timestamp,
    },
}

/// A payment provider. All calls are idempotent, and none has a time limit of its own that the caller relies on.
#[async_trait]
pub trait PaymentGateway: Send + Sync + 'static {
    /// The provider's name in the configuration, in orders and in metrics.
    fn name(&self) -> &'static str;
    /// Whether this gateway accepts the method; checked before anything is reserved.
    fn accepts(&self, method: &str) -> bool;
    /// Authorizes an attempt. Repeated calls authorize once.
    async fn authorize(&self, charge: &Charge) -> Result<PaymentStatus, GatewayError>;
    /// What became of an attempt. `reference`: the provider's, if it is known.
    async fn look_up(
        &self,
        order: OrderId,
        attempt: u32,
        reference: Option<&str>,
    ) -> Result<PaymentStatus, GatewayError>;
    /// Takes the authorized money. Repeated calls take it once.
    async fn capture(&self, order: OrderId, reference: &str, amount: Money) -> Result<(), GatewayError>;
    /// Cancels an authorization that was not captured; refunds a captured payment, all of it without an `amount`.
    /// Repeated calls with the same `refund` give back once.
    async fn give_back(
        &self,
        order: OrderId,
        reference: &str,
        amount: Option<Money>,
        refund: &str,
    ) -> Result<(), GatewayError>;
    /// A page of the payments that were made in this period, newest first. `after`: [`PaymentPage::next`] of the page before.
    /// A provider without books has none.
    async fn list(&self, _from: Timestamp, _to: Timestamp, _after: Option<&str>) -> Result<PaymentPage, GatewayError> {
        Ok(PaymentPage::default())
    }
    /// A payment in the books; `None` if it is none of ours.
    async fn payment(&self, _reference: &str) -> Result<Option<ListedPayment>, GatewayError> {
        Ok(None)
    }
    /// Whether the provider can be reached, as far as is known without asking it.
    fn health(&self) -> GatewayHealth;
    /// How long an authorization would certainly be refused without asking the provider; `None` if it may be asked now.
    /// Asked before an attempt is recorded, so that an outage uses up no attempts.
    fn unavailable_for(&self) -> Option<Duration> {
        None
    }
}
