//! The two ways in which a restart restores a drop, and the check that the result is the same.

use crate::domain::{DropEvent, DropRecord, DropSpec, KeyDigest, StockCounts};
use crate::engine::DropState;
use crate::engine::state::Restore;

/// Folds a drop's records into a fresh state, as recovery does with the journal.
pub fn replayed(spec: &DropSpec, journal: &[DropRecord]) -> DropState {
    let mut state = DropState::scheduled(spec.clone());
    for record in journal {
        state.evolve(record.at, &record.event);
    }
    state.order_holds();
    state
}

/// Rebuilds a drop from its rows, as recovery does with a projected drop. Rows have the keys' text, which memory does
/// not keep: it comes from the journal.
pub fn restored(state: &DropState, journal: &[DropRecord]) -> DropState {
    let variants: Vec<(StockCounts, bool)> = state.variants.iter().map(|v| (v.counts, v.low)).collect();
    let times = (state.started_at(), state.ended_at(), state.last_at);
    let mut restore = Restore::new((**state.spec()).clone(), state.status(), times, &variants);
    for record in journal {
        if let DropEvent::Reserved { buyer, key, digest, .. } = &record.event {
            assert_eq!(*digest, KeyDigest::of(*buyer, key), "an order's digest is its key's");
        }
    }
    for row in state.orders() {
        restore.order(row).expect("a row of this drop");
    }
    restore.finish()
}

/// Asserts that no reader can tell the two drops apart.
pub fn assert_same(left: &DropState, right: &DropState) {
    assert_eq!(left.status(), right.status());
    assert_eq!(left.spec(), right.spec());
    assert_eq!((left.started_at(), left.ended_at()), (right.started_at(), right.ended_at()));
    assert_eq!(left.last_at, right.last_at);
    assert!(left.stock().eq(right.stock()), "stock differs");
    assert!(left.variants.iter().map(|v| v.low).eq(right.variants.iter().map(|v| v.low)), "stock_low differs");
    assert_eq!(left.order_count(), right.order_count());
    for (left_view, right_view) in left.orders().zip(right.orders()) {
        assert_eq!(left_view, right_view);
        assert_eq!(left.units_of(left_view.buyer), right.units_of(left_view.buyer));
        assert_eq!(left.holds_of(left_view.buyer), right.holds_of(left_view.buyer));
    }
    assert!(left.refunds_due().eq(right.refunds_due()), "refunds owed differ");
    let pending = |state: &DropState| {
        let mut all: Vec<_> = state.payments_pending().map(|(id, method)| (id, method.to_owned())).collect();
        all.sort_unstable();
        all
    };
    assert_eq!(pending(left), pending(right));
    assert_eq!(left.is_settled(), right.is_settled());
    let due = |state: &DropState| (state.deadlines().wall, state.deadlines().steady.is_some());
    assert_eq!(due(left), due(right));
}
