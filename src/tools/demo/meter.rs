//! A rate over the last second, and the highest one so far.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

const WINDOW: Duration = Duration::from_secs(1);

/// Computes a rate from a growing count that is sampled from time to time.
#[derive(Default)]
pub struct Meter {
    looks: VecDeque<(Instant, u64)>,
    best: u64,
}

impl Meter {
    /// Adds a sample at `now` and returns the growth within the last second.
    pub fn look(&mut self, now: Instant, count: u64) -> u64 {
        self.looks.push_back((now, count));
        // The oldest kept sample is the last one that is at least a second old: the window is never shorter than a
        // second, so a shorter burst is not exaggerated.
        while self.looks.get(1).is_some_and(|(at, _)| now.duration_since(*at) >= WINDOW) {
            self.looks.pop_front();
        }
        let (since, before) = self.looks[0];
        let window = now.duration_since(since).max(WINDOW);
        let rate = (count.saturating_sub(before) as f64 / window.as_secs_f64()).round() as u64;
        self.best = self.best.max(rate);
        rate
    }

    /// The highest rate so far.
    #[must_use]
    pub fn best(&self) -> u64 {
        self.best
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_over_the_last_second() {
        let (mut meter, start) = (Meter::default(), Instant::now());
        let at = |tenths: u32| start + Duration::from_millis(100) * tenths;
        let steady: Vec<_> = (0..=20).map(|tenth| meter.look(at(tenth), u64::from(tenth) * 10)).collect();
        assert_eq!((steady[0], steady[5], steady[10], steady[20]), (0, 50, 100, 100));
        let after: Vec<_> = (21..=40).map(|tenth| meter.look(at(tenth), 200)).collect();
        assert_eq!(after.last(), Some(&0));
        assert_eq!(meter.best(), 100);
    }

    #[test]
    fn a_burst_is_not_blown_up() {
        let (mut meter, start) = (Meter::default(), Instant::now());
        meter.look(start, 0);
        assert_eq!(meter.look(start + Duration::from_millis(10), 500), 500);
    }
}
