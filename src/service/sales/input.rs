//! What sellers' lists are asked with.

use crate::domain::{OrderStatus, VariantId};
use crate::service::input::{Checks, Field, Input};
use crate::storage::SoldFilter;

/// Which orders of a drop to list.
#[derive(Debug, Default)]
pub struct SoldListInput {
    pub status: Field<OrderStatus>,
    pub variant_id: Field<VariantId>,
}

impl Input for SoldListInput {
    type Valid = SoldFilter;

    fn check(self, checks: &mut Checks) -> Option<SoldFilter> {
        Some(SoldFilter {
            status: checks.optional("/status", self.status),
            variant: checks.optional("/variant_id", self.variant_id),
            ..SoldFilter::default()
        })
    }
}
