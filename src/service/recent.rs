//! The journal sequence of each buyer's newest order, so that a list waits until SQL has the buyer's own orders, and
//! not for others.

use crate::domain::UserId;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The number of counters. Buyers on one counter also wait for each other's orders: among a million buyers with an
/// order that SQL lacks, for fifteen others'.
const PLACES: usize = 1 << 16;

/// Cheap to clone. Updated by each order, without a lock or an allocation.
#[derive(Clone)]
pub(super) struct Recent {
    shared: Arc<Shared>,
}

struct Shared {
    /// Seeded per process: nobody can choose to share a counter with somebody.
    hash: RandomState,
    newest: Box<[AtomicU64]>,
}

impl Default for Recent {
    fn default() -> Self {
        let newest = (0..PLACES).map(|_| AtomicU64::new(0)).collect();
        Self { shared: Arc::new(Shared { hash: RandomState::new(), newest }) }
    }
}

impl Recent {
    /// Records that a buyer has the answer to an order that is in the journal at `sequence` or before.
    pub fn note(&self, buyer: UserId, sequence: u64) {
        self.place(buyer).fetch_max(sequence, Ordering::AcqRel);
    }

    /// The sequence of this buyer's newest acknowledged order, or a later one. 0 if there is none since this process
    /// started.
    pub fn newest(&self, buyer: UserId) -> u64 {
        self.place(buyer).load(Ordering::Acquire)
    }

    fn place(&self, buyer: UserId) -> &AtomicU64 {
        &self.shared.newest[self.shared.hash.hash_one(buyer) as usize % PLACES]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buyers_newest_order_is_never_taken_for_an_older_one() {
        let recent = Recent::default();
        let buyers: Vec<UserId> = (0..1_000).map(|_| UserId::new()).collect();
        for (n, buyer) in (1..).zip(&buyers) {
            recent.note(*buyer, 10 * n);
            // Answers come in any order.
            recent.note(*buyer, 10 * n - 5);
        }
        assert!((1..).zip(&buyers).all(|(n, buyer)| recent.newest(*buyer) >= 10 * n));
        let strangers = (0..1_000).filter(|_| recent.newest(UserId::new()) == 0).count();
        assert!(strangers > 900, "{strangers} of 1000 wait for nobody");
    }
}
