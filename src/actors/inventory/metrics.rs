//! Counters of order outcomes, over all drops.

use crate::domain::DropEvent;
use prometheus::{IntCounter, IntCounterVec, Opts, Registry};

/// Counted at the decision: a reader sees it up to one sync before it is durable. Cheap to clone.
#[derive(Clone)]
pub struct OrderMetrics {
    all: IntCounterVec,
    reserved: IntCounter,
    refused: IntCounter,
    confirmed: IntCounter,
    released: IntCounter,
    refund_due: IntCounter,
    refunded: IntCounter,
}

impl Default for OrderMetrics {
    fn default() -> Self {
        let options = Opts::new("livedrop_order_transitions_total", "Orders that came into a state since the start.");
        let all = IntCounterVec::new(options, &["to"]).expect("a valid name");
        let to = |state: &str| all.with_label_values(&[state]);
        Self {
            reserved: to("reserved"),
            refused: to("refused"),
            confirmed: to("confirmed"),
            released: to("released"),
            refund_due: to("refund_due"),
            refunded: to("refunded"),
            all,
        }
    }
}

impl OrderMetrics {
    /// Adds the counters to a registry.
    ///
    /// # Errors
    /// If their name is taken there.
    pub fn register(&self, registry: &Registry) -> prometheus::Result<()> {
        registry.register(Box::new(self.all.clone()))
    }

    /// A reservation was refused.
    pub fn count_refused(&self) {
        self.refused.inc();
    }

    pub(in crate::actors) fn count(&self, event: &DropEvent) {
        match event {
            DropEvent::Reserved { .. } => self.reserved.inc(),
            DropEvent::Confirmed { .. } => self.confirmed.inc(),
            DropEvent::Released { .. } => self.released.inc(),
            DropEvent::RefundDue { .. } => self.refund_due.inc(),
            DropEvent::Refunded { .. } => self.refunded.inc(),
            _ => {}
        }
    }
}
