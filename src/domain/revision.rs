//! The part of a drop that people can change by hand. A change can name the revision that it was meant for.

use super::{DropSpec, DropStatus, Timestamp};
use serde::Serialize;

/// A drop as its creator left it. Orders, holds and selling out do not change it, so an editor is not refused because
/// of what buyers did since.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct DropRevision {
    starts_at: Timestamp,
    ends_at: Option<Timestamp>,
    /// `sold_out` counts as `live`: only buyers make the difference.
    status: DropStatus,
    /// Units of each variant, in the spec's order.
    totals: Vec<u32>,
}

impl DropRevision {
    /// `totals`: units of each variant, in the spec's order.
    #[must_use]
    pub fn new(spec: &DropSpec, status: DropStatus, totals: impl Iterator<Item = u32>) -> Self {
        let status = if status == DropStatus::SoldOut { DropStatus::Live } else { status };
        Self { starts_at: spec.starts_at, ends_at: spec.ends_at, status, totals: totals.collect() }
    }
}
