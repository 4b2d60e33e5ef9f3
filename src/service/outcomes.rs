//! Counters of order requests by their answer.

use super::Code;
use prometheus::{IntCounter, IntCounterVec, Opts, Registry};

/// Counts answers; refusals by their code. Cheap to clone.
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
    /// Adds the counters to a registry.
    ///
    /// # Errors
    /// If their name is taken there.
    pub fn register(&self, registry: &Registry) -> prometheus::Result<()> {
        registry.register(Box::new(self.all.clone()))
    }

    /// Counts an order, placed or replayed.
    pub(super) fn count_order(&self, replayed: bool) {
        if replayed { self.replayed.inc() } else { self.accepted.inc() }
    }

    /// Counts a refused request.
    pub(super) fn count_refusal(&self, code: Code) {
        self.all.with_label_values(&[code.as_str()]).inc();
    }
}
