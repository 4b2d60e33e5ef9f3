//! When requests of an open loop are due.

use super::options::Shape;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The share of the rate before and after a spike.
const CALM: f64 = 0.1;

/// The schedule of an open loop: each request has its time, whatever happens to earlier ones.
pub struct Pace {
    rate: f64,
    seconds: f64,
    shape: Shape,
    next: AtomicU64,
}

impl Pace {
    /// At most `rate` requests a second, for `duration`.
    #[must_use]
    pub fn new(rate: f64, duration: Duration, shape: Shape) -> Self {
        Self { rate, seconds: duration.as_secs_f64(), shape, next: AtomicU64::new(0) }
    }

    /// Takes the next request and returns when it is due, from the start. `None` when all are taken.
    pub fn take(&self) -> Option<Duration> {
        let due = self.due(self.next.fetch_add(1, Ordering::Relaxed) as f64);
        (due < self.seconds).then(|| Duration::from_secs_f64(due))
    }

    /// When the `n`-th request is due: the inverse of the number of requests due until a time.
    fn due(&self, n: f64) -> f64 {
        let Self { rate, seconds, .. } = *self;
        match self.shape {
            Shape::Constant => n / rate,
            Shape::Ramp => (2.0 * seconds * n / rate).sqrt(),
            Shape::Spike => {
                let third = seconds / 3.0;
                let (calm, peak) = (rate * CALM * third, rate * third);
                if n < calm {
                    n / (rate * CALM)
                } else if n < calm + peak {
                    third + (n - calm) / rate
                } else {
                    2.0 * third + (n - calm - peak) / (rate * CALM)
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dues(shape: Shape) -> Vec<f64> {
        let pace = Pace::new(100.0, Duration::from_secs(3), shape);
        std::iter::from_fn(|| pace.take()).map(|due| due.as_secs_f64()).collect()
    }

    #[test]
    fn every_request_has_its_time_and_none_comes_after_the_end() {
        for (shape, requests) in [(Shape::Constant, 300), (Shape::Ramp, 150), (Shape::Spike, 120)] {
            let dues = dues(shape);
            assert!(dues.len().abs_diff(requests) <= 1, "{shape:?}: {}", dues.len());
            assert!(dues.is_sorted() && dues.last().is_some_and(|last| *last < 3.0), "{shape:?}");
        }
    }

    #[test]
    fn shapes_are_what_they_are_called() {
        let within = |shape, from: f64, to: f64| dues(shape).iter().filter(|due| (from..to).contains(*due)).count();
        assert_eq!(within(Shape::Constant, 1.0, 2.0), 100);
        assert!(within(Shape::Ramp, 0.0, 1.0) < 20 && within(Shape::Ramp, 2.0, 3.0) > 80);
        assert_eq!(
            [(0.0, 1.0), (1.0, 2.0), (2.0, 3.0)].map(|(from, to)| within(Shape::Spike, from, to)),
            [10, 100, 10]
        );
    }
}
