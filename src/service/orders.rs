//! Orders: place, pay, cancel, read.

use super::{Failure, Page};
use crate::domain::{DropId, OrderId, OrderView, TraceId, UserId, VariantId};

/// An order to place, already validated field by field.
#[derive(Clone, Debug)]
pub struct NewOrder {
    /// Which drop.
    pub drop_id: DropId,
    /// May be left out where the drop has one variant.
    pub variant_id: Option<VariantId>,
    /// 1 to `QUANTITY_PER_ORDER_MAX`.
    pub quantity: u32,
    /// Charge at once with this.
    pub payment_method: Option<String>,
}

/// An answer to a keyed request, and whether it was given before.
#[derive(Clone, Debug)]
pub struct Keyed {
    /// The first answer, to the letter.
    pub answer: Result<OrderView, Failure>,
    /// Whether it is a replay.
    pub replayed: bool,
}

/// The order use cases.
#[derive(Clone)]
pub struct Orders {}

impl Orders {
    /// Places an order under an idempotency key (1 to 255 printable ASCII characters, unquoted).
    ///
    /// # Errors
    /// Outer: nothing was decided (try again with the key). Inner: the answer, which the key keeps.
    pub async fn place(&self, buyer: UserId, key: &str, new: NewOrder, trace: TraceId) -> Result<Keyed, Failure> {
        todo!("{buyer} {key} {new:?} {trace}")
    }
    /// Pays a reserved order.
    pub async fn pay(
        &self,
        buyer: UserId,
        id: OrderId,
        payment_method: String,
        trace: TraceId,
    ) -> Result<OrderView, Failure> {
        todo!("{buyer} {id} {payment_method} {trace}")
    }
    /// Gives a hold back.
    pub async fn cancel(&self, buyer: UserId, id: OrderId, trace: TraceId) -> Result<OrderView, Failure> {
        todo!("{buyer} {id} {trace}")
    }
    /// One's own order.
    pub async fn get(&self, buyer: UserId, id: OrderId) -> Result<OrderView, Failure> {
        todo!("{buyer} {id}")
    }
    /// One's own orders, newest first.
    pub async fn list(&self, buyer: UserId, after: Option<OrderId>, limit: u32) -> Result<Page<OrderView>, Failure> {
        todo!("{buyer} {after:?} {limit}")
    }
}
