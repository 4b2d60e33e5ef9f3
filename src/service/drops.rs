//! Drops: schedule, run, read.

use super::{DropView, Failure, Page, StockView};
use crate::domain::{CreatorId, DropId, Money, ProductId, Timestamp, UserId, VariantId};
use crate::storage::DropFilter;

/// One variant to schedule, already validated field by field.
#[derive(Clone, Debug)]
pub struct NewVariant {
    /// What buyers call it.
    pub name: String,
    /// Units, 1 to `STOCK_PER_VARIANT_MAX`.
    pub stock: u32,
    /// Price; the product's if absent.
    pub price: Option<Money>,
}

/// A drop to schedule, already validated field by field.
#[derive(Clone, Debug)]
pub struct NewDrop {
    /// What it sells; must be the caller's.
    pub product_id: ProductId,
    /// The product's name if absent.
    pub title: Option<String>,
    /// 1 to `VARIANTS_PER_DROP_MAX`.
    pub variants: Vec<NewVariant>,
    /// 0: none.
    pub per_buyer_limit: u32,
    /// 0: never.
    pub low_stock_threshold: u32,
    /// `HOLD_MS_MIN` to `HOLD_MS_MAX`.
    pub hold_ms: u32,
    /// At once if absent or past.
    pub starts_at: Option<Timestamp>,
    /// After `starts_at`.
    pub ends_at: Option<Timestamp>,
}

/// The drop use cases.
#[derive(Clone)]
pub struct Drops {}

impl Drops {
    /// Schedules a drop of one of the caller's products.
    pub async fn create(&self, caller: UserId, new: NewDrop) -> Result<DropView, Failure> {
        todo!("{caller} {new:?}")
    }
    /// Starts it now. Repeated: unchanged.
    pub async fn start(&self, caller: UserId, id: DropId) -> Result<DropView, Failure> {
        todo!("{caller} {id}")
    }
    /// Ends it now. Repeated: unchanged.
    pub async fn end(&self, caller: UserId, id: DropId) -> Result<DropView, Failure> {
        todo!("{caller} {id}")
    }
    /// Calls it off. Repeated: unchanged.
    pub async fn cancel(&self, caller: UserId, id: DropId) -> Result<DropView, Failure> {
        todo!("{caller} {id}")
    }
    /// Adds units. `variant` may be left out where there is one.
    pub async fn restock(
        &self,
        caller: UserId,
        id: DropId,
        variant: Option<VariantId>,
        quantity: u32,
    ) -> Result<DropView, Failure> {
        todo!("{caller} {id} {variant:?} {quantity}")
    }
    /// One drop with its live stock.
    pub async fn get(&self, id: DropId) -> Result<DropView, Failure> {
        todo!("{id}")
    }
    /// Only the stock.
    pub async fn stock(&self, id: DropId) -> Result<StockView, Failure> {
        todo!("{id}")
    }
    /// Newest first, those before `after`.
    pub async fn list(&self, filter: DropFilter, after: Option<DropId>, limit: u32) -> Result<Page<DropView>, Failure> {
        todo!("{filter:?} {after:?} {limit}")
    }
    /// The creator of a drop, for topics.
    pub async fn creator_of(&self, id: DropId) -> Result<CreatorId, Failure> {
        todo!("{id}")
    }
}
