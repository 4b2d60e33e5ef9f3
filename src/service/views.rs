//! What reads answer, in domain types.

use crate::domain::{DropRevision, DropSpec, DropStatus, StockCounts, Timestamp, VariantId};
use smallvec::SmallVec;
use uuid::Uuid;

/// A drop and its live stock.
#[derive(Clone, Debug)]
pub struct DropView {
    /// As scheduled.
    pub spec: std::sync::Arc<DropSpec>,
    /// Where it stands now.
    pub stock: StockView,
    /// When it was started.
    pub started_at: Option<Timestamp>,
    /// When it ended or was cancelled.
    pub ended_at: Option<Timestamp>,
}

impl DropView {
    /// What of it somebody can change by hand.
    #[must_use]
    pub fn revision(&self) -> DropRevision {
        DropRevision::new(&self.spec, self.stock.status, self.stock.variants.iter().map(|(_, stock)| stock.total))
    }
}

/// The published stock of a drop: durable, never ahead of the journal.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StockView {
    /// Where the drop stands.
    pub status: DropStatus,
    /// In the spec's order.
    pub variants: SmallVec<[(VariantId, StockCounts); 1]>,
    /// The journal sequence number that it is true at; 0 where it was read from SQL.
    pub position: u64,
}

impl StockView {
    /// All variants together.
    #[must_use]
    pub fn total(&self) -> StockCounts {
        self.variants.iter().fold(StockCounts::default(), |sum, (_, counts)| sum.plus(*counts))
    }
}

/// One page of a keyset listing.
#[derive(Clone, Debug)]
pub struct Page<T> {
    /// The rows.
    pub items: Vec<T>,
    /// Whether rows may follow; the cursor is the last item's id.
    pub more: bool,
    /// In place of the last item's id, where the search went on behind it and found nothing so far.
    pub stopped_at: Option<Uuid>,
}
