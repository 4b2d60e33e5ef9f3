//! What `/metrics` shows of checkpoints.

use super::Unusable;
use prometheus::{Gauge, IntCounter, IntCounterVec, IntGauge, Opts, Registry};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// Cheap to clone.
#[derive(Clone)]
pub struct CheckpointMetrics {
    age: Gauge,
    /// Bytes of all files.
    pub(super) bytes: IntGauge,
    /// How many drops have a file.
    pub(super) drops: IntGauge,
    /// How long the last round took that wrote something.
    pub(super) seconds: Gauge,
    pub(super) written_bytes: IntCounter,
    pub(super) failures: IntCounter,
    unusable: IntCounterVec,
    /// When the files were last up to date.
    at: Arc<Mutex<Option<Instant>>>,
}

impl Default for CheckpointMetrics {
    fn default() -> Self {
        let named = |name: &str, help: &str| Opts::new(format!("livedrop_checkpoint_{name}"), help);
        let gauge = |name: &str, help: &str| IntGauge::with_opts(named(name, help)).expect("a valid name");
        let counter = |name: &str, help: &str| IntCounter::with_opts(named(name, help)).expect("a valid name");
        let seconds = |name: &str, help: &str| Gauge::with_opts(named(name, help)).expect("a valid name");
        let unusable =
            named("unusable_total", "Files that the start could not use, by why: their drops were loaded from SQL.");
        Self {
            age: seconds(
                "age_seconds",
                "How long ago the checkpoint was completed; 0 before the first of this process.",
            ),
            bytes: gauge("bytes", "Bytes of all checkpoint files."),
            drops: gauge("drops", "Drops that have a checkpoint file."),
            seconds: seconds("round_seconds", "How long the last round took."),
            written_bytes: counter("written_bytes_total", "Bytes that were written to checkpoint files."),
            failures: counter("failures_total", "Rounds that could not be completed."),
            unusable: IntCounterVec::new(unusable, &["reason"]).expect("a valid name"),
            at: Arc::default(),
        }
    }
}

impl CheckpointMetrics {
    /// Shows it in a registry.
    ///
    /// # Errors
    /// If a name is taken there.
    pub fn register(&self, registry: &Registry) -> prometheus::Result<()> {
        registry.register(Box::new(self.age.clone()))?;
        registry.register(Box::new(self.bytes.clone()))?;
        registry.register(Box::new(self.drops.clone()))?;
        registry.register(Box::new(self.seconds.clone()))?;
        registry.register(Box::new(self.written_bytes.clone()))?;
        registry.register(Box::new(self.failures.clone()))?;
        registry.register(Box::new(self.unusable.clone()))
    }

    /// Sets what depends on the moment at which it is read.
    pub fn refresh(&self) {
        let at = *self.at.lock().unwrap_or_else(PoisonError::into_inner);
        self.age.set(at.map_or(0.0, |at| at.elapsed().as_secs_f64()));
    }

    pub(super) fn is_current(&self) {
        *self.at.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    pub(super) fn found(&self, unusable: &Unusable) {
        self.unusable.with_label_values(&[unusable.as_str()]).inc();
    }
}
