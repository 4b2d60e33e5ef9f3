//! Stock and the state of a drop.

use serde::{Deserialize, Serialize};

/// Units of one variant. At every instant `available + held + sold = total`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct StockCounts {
    /// Every unit that was ever put up.
    pub total: u32,
    /// Free to be reserved.
    pub available: u32,
    /// Reserved and not paid yet.
    pub held: u32,
    /// Confirmed.
    pub sold: u32,
}

impl StockCounts {
    /// A stock of which nothing is reserved yet.
    #[must_use]
    pub fn full(total: u32) -> Self {
        Self { total, available: total, held: 0, sold: 0 }
    }

    /// Whether the equation holds.
    #[must_use]
    pub fn balances(self) -> bool {
        u64::from(self.available) + u64::from(self.held) + u64::from(self.sold) == u64::from(self.total)
    }

    /// The sum of two stocks: what a drop shows for all its variants.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            total: self.total + other.total,
            available: self.available + other.available,
            held: self.held + other.held,
            sold: self.sold + other.sold,
        }
    }
}

/// Where a drop stands: `scheduled → live → sold_out ⇄ live → ended`, or `cancelled` from any state but `ended`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DropStatus {
    /// Waiting for its start.
    Scheduled,
    /// Selling.
    Live,
    /// Started, and no variant has a free unit. A released hold or a restock brings it back to `live`.
    SoldOut,
    /// Over. Holds may still be paid until they expire.
    Ended,
    /// Called off: holds are released, sold orders refunded.
    Cancelled,
}

impl DropStatus {
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

    /// Started and not over: orders may be placed (and be refused for want of stock).
    #[must_use]
    pub fn is_open(self) -> bool {
        matches!(self, Self::Live | Self::SoldOut)
    }
}
