//! What became of the requests to place an order.

use super::{Failure, orders::Keyed};
use prometheus::{IntCounter, IntCounterVec, Opts, Registry};

/// Counts answers, by their code where they are refusals. Cheap to clone.
#[derive(Clone)]
pub struct Outcomes {
    all: IntCounterVec,
    accepted: IntCounter,
    replayed: IntCounter,
}

impl Default for Outcomes {
    fn default() -> Self {
        let help = "Answers to requests to place an order: accepted, replayed (an answer given before), or the problem's code.";
        let all = IntCounterVec::new(Opts::new("livedrop_orders_total", help), &["outcome"]).expect("a valid name");
        let of = |outcome: &str| all.with_label_values(&[outcome]);
        Self { accepted: of("accepted"), replayed: of("replayed"), all }
    }
}

impl Outcomes {
    /// Shows them in a registry.
    ///
    /// # Errors
    /// If their name is taken there.
    pub fn register(&self, registry: &Registry) -> prometheus::Result<()> {
        registry.register(Box::new(self.all.clone()))
    }

    pub(super) fn count(&self, result: &Result<Keyed, Failure>) {
        match result {
            Ok(Keyed { replayed: true, .. }) => self.replayed.inc(),
            Ok(Keyed { answer: Ok(_), .. }) => self.accepted.inc(),
            Ok(Keyed { answer: Err(failure), .. }) | Err(failure) => {
                self.all.with_label_values(&[failure.code.as_str()]).inc();
            }
        }
    }
}
