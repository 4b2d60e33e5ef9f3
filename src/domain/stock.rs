//! Stock and status of a drop.

use super::{DropEvent, DropSpec, VariantId};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Units of one variant. At every instant `available + held + sold = total`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct StockCounts {
    /// Every unit ever put up for sale.
    pub total: u32,
    /// Free to be reserved.
    pub available: u32,
    /// Reserved and not paid yet.
    pub held: u32,
    /// Units of confirmed orders.
    pub sold: u32,
}

impl StockCounts {
    /// A stock of which nothing is reserved yet.
    #[must_use]
    pub fn full(total: u32) -> Self {
        Self { total, available: total, held: 0, sold: 0 }
    }

    /// Whether `available + held + sold = total`.
    #[must_use]
    pub fn balances(self) -> bool {
        u64::from(self.available) + u64::from(self.held) + u64::from(self.sold) == u64::from(self.total)
    }

    /// The sum of two stocks: a drop shows it for all its variants.
    ///
    /// # Panics
    /// On overflow, which the bounds of a drop exclude.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        let sum = |one: u32, other: u32| one.checked_add(other).expect("the stock of all variants fits into 32 bits");
        Self {
            total: sum(self.total, other.total),
            available: sum(self.available, other.available),
            held: sum(self.held, other.held),
            sold: sum(self.sold, other.sold),
        }
    }
}

impl fmt::Display for StockCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { total, available, held, sold } = self;
        write!(f, "{available} available + {held} held + {sold} sold = {total}")
    }
}

/// The states of a drop: `scheduled → live → sold_out ⇄ live → ended`, or `cancelled` from any state but `ended`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DropStatus {
    /// Waiting for its start.
    Scheduled,
    /// Open for orders, with free units.
    Live,
    /// Started, and no variant has a free unit. A released hold or a restock brings it back to `live`.
    SoldOut,
    /// Over. Holds may still be paid until they expire.
    Ended,
    /// Cancelled: holds are released, sold orders refunded.
    Cancelled,
}

impl DropStatus {
    pub const ALL: [Self; 5] = [Self::Scheduled, Self::Live, Self::SoldOut, Self::Ended, Self::Cancelled];

    /// The name on the wire and in SQL.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::Live => "live",
            Self::SoldOut => "sold_out",
            Self::Ended => "ended",
            Self::Cancelled => "cancelled",
        }
    }

    /// The status of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Scheduled, Self::Live, Self::SoldOut, Self::Ended, Self::Cancelled]
            .into_iter()
            .find(|status| status.as_str() == name)
    }

    /// Started and not over: orders may be placed (and be refused when no stock is left).
    #[must_use]
    pub fn is_open(self) -> bool {
        matches!(self, Self::Live | Self::SoldOut)
    }
}

/// The stock of a drop as a fold over its events alone: the broadcaster publishes it and the audit recomputes it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StockBoard {
    pub status: DropStatus,
    /// In the spec's order.
    pub variants: Vec<(VariantId, StockCounts)>,
}

impl StockBoard {
    /// The board of a drop that was just scheduled.
    #[must_use]
    pub fn new(spec: &DropSpec) -> Self {
        let variants = spec.variants.iter().map(|v| (v.id, StockCounts::full(v.stock))).collect();
        Self { status: DropStatus::Scheduled, variants }
    }

    /// The sum over all variants.
    #[must_use]
    pub fn total(&self) -> StockCounts {
        self.variants.iter().fold(StockCounts::default(), |sum, (_, counts)| sum.plus(*counts))
    }

    /// Folds one event in. Returns whether a count or the status changed, `None` if the event is impossible here: an
    /// unknown variant, or a count that would fall below zero.
    pub fn fold(&mut self, event: &DropEvent) -> Option<bool> {
        let before = self.status;
        match event {
            DropEvent::Started => {
                self.status = if self.total().available == 0 { DropStatus::SoldOut } else { DropStatus::Live };
            }
            DropEvent::Ended => self.status = DropStatus::Ended,
            DropEvent::Cancelled => self.status = DropStatus::Cancelled,
            DropEvent::SoldOut => self.status = DropStatus::SoldOut,
            DropEvent::BackInStock => self.status = DropStatus::Live,
            _ => return self.fold_counts(event),
        }
        Some(before != self.status)
    }

    fn fold_counts(&mut self, event: &DropEvent) -> Option<bool> {
        match event {
            DropEvent::Restocked { variant, quantity } => {
                let counts = self.counts(*variant)?;
                counts.total = counts.total.checked_add(*quantity)?;
                counts.available = counts.available.checked_add(*quantity)?;
            }
            DropEvent::Reserved { variant, quantity, .. } => {
                let counts = self.counts(*variant)?;
                shift(&mut counts.available, &mut counts.held, *quantity)?;
            }
            DropEvent::Confirmed { line, retaken, .. } => {
                let counts = self.counts(line.variant)?;
                let from = if *retaken { &mut counts.available } else { &mut counts.held };
                shift(from, &mut counts.sold, line.quantity)?;
            }
            DropEvent::Released { line, .. } => {
                let counts = self.counts(line.variant)?;
                shift(&mut counts.held, &mut counts.available, line.quantity)?;
            }
            DropEvent::RefundDue { line, was_sold: true, .. } => {
                let counts = self.counts(line.variant)?;
                shift(&mut counts.sold, &mut counts.available, line.quantity)?;
            }
            _ => return Some(false),
        }
        Some(true)
    }

    fn counts(&mut self, id: VariantId) -> Option<&mut StockCounts> {
        self.variants.iter_mut().find(|(variant, _)| *variant == id).map(|(_, counts)| counts)
    }
}

fn shift(from: &mut u32, to: &mut u32, quantity: u32) -> Option<()> {
    // Both counts change, or neither.
    (*from, *to) = (from.checked_sub(quantity)?, to.checked_add(quantity)?);
    Some(())
}
