//! Metrics of the journal.

use prometheus::{Histogram, HistogramOpts, IntCounter, Registry};
use std::time::Duration;

/// Buckets from a fast NVMe drive to a disk that is about to fail.
const SYNC_SECONDS: [f64; 10] = [0.0001, 0.000_25, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1.0];
const FRAME_RECORDS: [f64; 8] = [1.0, 4.0, 16.0, 64.0, 256.0, 1_024.0, 4_096.0, 16_384.0];

/// Updated on the writer's thread, once a frame.
pub struct JournalMetrics {
    sync_seconds: Histogram,
    frame_records: Histogram,
    bytes: IntCounter,
}

impl Default for JournalMetrics {
    fn default() -> Self {
        let histogram = |name: &str, help: &str, buckets: &[f64]| {
            let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
            Histogram::with_opts(options).expect("a valid name and rising buckets")
        };
        Self {
            sync_seconds: histogram(
                "livedrop_journal_sync_seconds",
                "How long the disk took to make a frame durable.",
                &SYNC_SECONDS,
            ),
            frame_records: histogram(
                "livedrop_journal_frame_records",
                "Records that shared one frame, one write and one sync.",
                &FRAME_RECORDS,
            ),
            bytes: IntCounter::new("livedrop_journal_written_bytes_total", "Payload written to the journal.")
                .expect("a valid name"),
        }
    }
}

impl JournalMetrics {
    /// Adds the metrics to a registry.
    ///
    /// # Errors
    /// If their names are taken there.
    pub fn register(&self, registry: &Registry) -> prometheus::Result<()> {
        registry.register(Box::new(self.sync_seconds.clone()))?;
        registry.register(Box::new(self.frame_records.clone()))?;
        registry.register(Box::new(self.bytes.clone()))
    }

    pub(super) fn frame(&self, records: u32, payload_bytes: usize) {
        self.frame_records.observe(f64::from(records));
        self.bytes.inc_by(payload_bytes as u64);
    }

    pub(super) fn synced(&self, took: Duration) {
        self.sync_seconds.observe(took.as_secs_f64());
    }
}
