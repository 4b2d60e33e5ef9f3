//! What became of the requests to place an order.

use super::Code;
use prometheus::{IntCounter, IntCounterVec, Opts, Registry};

/// Counts answers, by their code where they are refusals. Cheap to clone.
#[derive(Clone)]
pub struct OutcomeMetrics {
    all: IntCounterVec,
    accepted: IntCounter,
    replayed: IntCounter,
}

impl Default for OutcomeMetrics {
    fn default() -> Self {
        let help = "Answers to requests to place an order: accepted, replayed (an answer given before), or the problem's code.";
        let all = IntCounterVec::new(Opts::new("livedrop_orders_total", help), &["outcome"]).expect("a valid name");
        let of = |outcome: &str| all.with_label_values(&[outcome]);
        Self { accepted: of("accepted"), replayed: of("replayed"), all }
    }
}

impl OutcomeMetrics {
    /// Shows them in a registry.
    ///
    /// # Errors
    /// If their name is taken there.
    pub fn register(&self, registry: &Registry) -> prometheus::Result<()> {
        registry.register(Box::new(self.all.clone()))
    }

    /// An order was made, or an answer given again.
    pub(super) fn count_order(&self, replayed: bool) {
        if replayed { self.replayed.inc() } else { self.accepted.inc() }
    }

    /// A request was refused.
    pub(super) fn count_refusal(&self, code: Code) {
        self.all.with_label_values(&[code.as_str()]).inc();
    }
}
