//! Up to where in the journal each buyer's own orders go, so that a list of them waits for these and for nobody else's.

use crate::domain::UserId;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Numbers that are kept. Buyers that share one wait for each other's orders, too: among a million buyers with an order that SQL
/// lacks, for fifteen others'.
const PLACES: usize = 1 << 16;

/// Cheap to clone. Noting takes no lock and no memory: each order does it.
#[derive(Clone)]
pub(super) struct Recent {
    shared: Arc<Shared>,
}

struct Shared {
    /// With a seed of this process: nobody chooses whom they share a place with.
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
    /// A buyer was told of an order that is in the journal at `sequence`, or before.
    pub fn note(&self, buyer: UserId, sequence: u64) {
        self.place(buyer).fetch_max(sequence, Ordering::AcqRel);
    }

    /// Where the newest order that this buyer was told of is, or later. 0 if there is none since this process began.
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
