//! The results of reads, in domain types.

use crate::domain::{DropRevision, DropSpec, DropStatus, StockCounts, Timestamp, VariantId};
use smallvec::SmallVec;
use uuid::Uuid;

/// A drop and its current stock.
#[derive(Clone, Debug)]
pub struct DropView {
    /// The spec, with its current times.
    pub spec: std::sync::Arc<DropSpec>,
    pub stock: StockView,
    /// When it was started; absent before.
    pub started_at: Option<Timestamp>,
    /// When it ended or was cancelled; absent before.
    pub ended_at: Option<Timestamp>,
}

impl DropView {
    /// The part that people can change by hand.
    #[must_use]
    pub fn revision(&self) -> DropRevision {
        DropRevision::new(&self.spec, self.stock.status, self.stock.variants.iter().map(|(_, stock)| stock.total))
    }
}

/// The published stock of a drop: durable, never ahead of the journal.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StockView {
    pub status: DropStatus,
    /// In the spec's order.
    pub variants: SmallVec<[(VariantId, StockCounts); 1]>,
    /// The journal sequence of this state; 0 if it was read from SQL.
    pub position: u64,
}

impl StockView {
    /// The sum over all variants.
    #[must_use]
    pub fn total(&self) -> StockCounts {
        self.variants.iter().fold(StockCounts::default(), |sum, (_, counts)| sum.plus(*counts))
    }
}

/// One page of a keyset listing.
#[derive(Clone, Debug)]
pub struct Page<T> {
    pub items: Vec<T>,
    /// Whether more rows may follow; the cursor is the last item's id.
    pub more: bool,
    /// The cursor instead of the last item's id, if the search went on past it and found nothing.
    pub stopped_at: Option<Uuid>,
}
