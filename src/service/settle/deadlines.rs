//! Until when the money of confirmed orders can be taken, as far as a capture has failed. An authorization that has a day
//! left or less is an error in the log, and counts in `livedrop_captures_late`.

use crate::domain::limits::{CAPTURE_WARNING_MS, CAPTURE_WINDOW_MS};
use crate::domain::{OrderId, OrderView, Timestamp};
use dashmap::DashMap;
use prometheus::{IntCounter, IntGauge, Registry};
use std::sync::Arc;
use tracing::{error, info};

/// What is known of captures that have failed so far.
#[derive(Clone)]
pub(super) struct Deadlines(Arc<Inner>);

struct Inner {
    /// Until when an order's money can be taken. Only orders whose capture has failed and is due: no more than are due.
    until: DashMap<OrderId, Timestamp>,
    /// Those of which it was said that little time is left.
    late: DashMap<OrderId, ()>,
    late_gauge: IntGauge,
    lost: IntCounter,
}

impl Default for Deadlines {
    fn default() -> Self {
        let help =
            "Confirmed orders whose authorized money was not taken yet and can be taken for a day at most from now on.";
        let late_gauge = IntGauge::new("livedrop_captures_late", help).expect("a valid name");
        let help = "Orders that were given back because their authorization had ended before its money was taken.";
        let lost = IntCounter::new("livedrop_captures_lost_total", help).expect("a valid name");
        Self(Arc::new(Inner { until: DashMap::new(), late: DashMap::new(), late_gauge, lost }))
    }
}

impl Deadlines {
    pub fn register(&self, registry: &Registry) -> prometheus::Result<()> {
        registry.register(Box::new(self.0.late_gauge.clone()))?;
        registry.register(Box::new(self.0.lost.clone()))
    }

    /// Whether it is known until when an order's money can be taken.
    pub fn is_known(&self, order: OrderId) -> bool {
        self.0.until.contains_key(&order)
    }

    pub fn learn(&self, order: OrderId, until: Timestamp) {
        self.0.until.insert(order, until);
    }

    /// Says once that little time is left.
    pub fn watch(&self, order: &OrderView, now: Timestamp) {
        let Inner { until, late, late_gauge, .. } = &*self.0;
        let known = until.get(&order.id).map(|until| *until);
        let until = known.unwrap_or_else(|| assumed_end(order));
        if now.plus_millis(CAPTURE_WARNING_MS) < until || late.insert(order.id, ()).is_some() {
            return;
        }
        late_gauge.set(i64::try_from(late.len()).unwrap_or(i64::MAX));
        error!(order = %order.id, %until, is_known = known.is_some(),
            "authorized money was not taken yet, and its authorization ends soon; it is tried on");
    }

    /// The order is settled.
    pub fn forget(&self, order: OrderId) {
        let Inner { until, late, late_gauge, .. } = &*self.0;
        until.remove(&order);
        if late.remove(&order).is_some() {
            late_gauge.set(i64::try_from(late.len()).unwrap_or(i64::MAX));
            info!(%order, "a late capture has its end");
        }
    }

    /// An authorization ended before its money was taken.
    pub fn lost(&self) {
        self.0.lost.inc();
    }

    /// How many are late, and how many were lost.
    #[cfg(test)]
    pub fn counted(&self) -> (i64, u64) {
        (self.0.late_gauge.get(), self.0.lost.get())
    }
}

/// When an authorization ends whose provider did not say it.
pub(super) fn assumed_end(order: &OrderView) -> Timestamp {
    order.confirmed_at.unwrap_or(order.created_at).plus_millis(CAPTURE_WINDOW_MS)
}
