//! Latency percentiles of the demo.

use hdrhistogram::Histogram;
use serde::Serialize;
use std::{sync::Mutex, sync::PoisonError, time::Duration};

/// Longer waits count as this long: a minute, in microseconds.
const LATENCY_US_MAX: u64 = 60_000_000;

/// A histogram that many tasks record into; within 1 % from a microsecond to a minute.
// A std Mutex: recording takes nanoseconds and never awaits.
pub struct Latency(Mutex<Histogram<u64>>);

/// Percentiles of waits, in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Percentiles {
    /// The number of measurements; if it is 0, so are the others.
    pub count: u64,
    pub p50: f64,
    pub p95: f64,
    pub p99: f64,
    pub max: f64,
}

impl Latency {
    /// A histogram without measurements.
    #[must_use]
    pub fn new() -> Self {
        Self(Mutex::new(Histogram::new_with_bounds(1, LATENCY_US_MAX, 2).expect("the bounds are valid")))
    }

    /// Adds one wait to the histogram.
    pub fn record(&self, wait: Duration) {
        let micros = u64::try_from(wait.as_micros()).unwrap_or(u64::MAX).clamp(1, LATENCY_US_MAX);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).saturating_record(micros);
    }

    /// The percentiles so far.
    #[must_use]
    pub fn percentiles(&self) -> Percentiles {
        let histogram = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if histogram.is_empty() {
            return Percentiles::default();
        }
        // Two decimals are finer than the histogram's own precision.
        let millis = |micros: u64| (micros as f64 / 10.0).round() / 100.0;
        Percentiles {
            count: histogram.len(),
            p50: millis(histogram.value_at_quantile(0.50)),
            p95: millis(histogram.value_at_quantile(0.95)),
            p99: millis(histogram.value_at_quantile(0.99)),
            max: millis(histogram.max()),
        }
    }
}

impl Default for Latency {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_of_a_known_series() {
        let latency = Latency::new();
        assert_eq!(latency.percentiles(), Percentiles::default());
        (1..=1_000).for_each(|millis| latency.record(Duration::from_millis(millis)));
        let p = latency.percentiles();
        assert_eq!(p.count, 1_000);
        for (measured, expected) in [(p.p50, 500.0), (p.p95, 950.0), (p.p99, 990.0), (p.max, 1_000.0)] {
            assert!((measured - expected).abs() <= expected * 0.01, "{measured} is not near {expected}");
        }
    }

    #[test]
    fn no_wait_is_too_short_or_too_long() {
        let latency = Latency::new();
        latency.record(Duration::ZERO);
        latency.record(Duration::from_secs(100_000));
        assert_eq!(latency.percentiles().count, 2);
        assert!(latency.percentiles().max >= 60_000.0);
    }
}
