//! What the crowd saw: how many answers of which kind, how late, second by second.

use hdrhistogram::Histogram;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Longer waits count as this long: a minute.
const WAIT_US_MAX: u64 = 60_000_000;

/// What was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Order,
    Retry,
    Pay,
    Cancel,
    Read,
    Follow,
    Restock,
}

/// How it was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// 2xx.
    Accepted,
    /// A problem of the client's: a rule of the sale, or of the API.
    Refused,
    /// 5xx.
    Failed,
    /// No answer: whether it happened is unknown.
    Lost,
}

/// Waits in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Waits {
    pub count: u64,
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub p999: f64,
    pub max: f64,
}

/// One second of the run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Second {
    pub at: u64,
    pub accepted: u64,
    pub refused: u64,
    /// Failed and lost.
    pub failed: u64,
    pub waits: Waits,
}

/// Answers of one kind.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    pub kind: Kind,
    pub verdict: Verdict,
    /// The problem's code, or what broke; empty for what was accepted.
    pub code: String,
    pub waits: Waits,
}

struct Slice {
    counts: [u64; 4],
    waits: Histogram<u64>,
}

#[derive(Default)]
struct Counts {
    rows: BTreeMap<(Kind, Verdict, String), Histogram<u64>>,
    seconds: Vec<Slice>,
}

/// Shared by everybody who asks.
// A std Mutex: recording takes less than a microsecond and never awaits.
#[derive(Default)]
pub struct Tally(Mutex<Counts>);

/// An empty one, of microseconds.
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, WAIT_US_MAX, 2).expect("the bounds are valid")
}

impl Tally {
    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts an answer that came `at` after the beginning and took so long.
    pub fn record(&self, kind: Kind, verdict: Verdict, code: &str, at: Duration, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).clamp(1, WAIT_US_MAX);
        let second = at.as_secs() as usize;
        let mut counts = self.counts();
        while counts.seconds.len() <= second {
            counts.seconds.push(Slice { counts: [0; 4], waits: histogram() });
        }
        let slice = &mut counts.seconds[second];
        slice.counts[verdict as usize] += 1;
        slice.waits.saturating_record(micros);
        counts.rows.entry((kind, verdict, code.to_owned())).or_insert_with(histogram).saturating_record(micros);
    }

    /// The rows of the report.
    pub fn rows(&self) -> Vec<Row> {
        let counts = self.counts();
        let row = |((kind, verdict, code), waits): (&(Kind, Verdict, String), &Histogram<u64>)| Row {
            kind: *kind,
            verdict: *verdict,
            code: code.clone(),
            waits: of(waits),
        };
        counts.rows.iter().map(row).collect()
    }

    /// Second by second.
    pub fn seconds(&self) -> Vec<Second> {
        let counts = self.counts();
        counts.seconds.iter().enumerate().map(|(at, slice)| second(at, slice)).collect()
    }

    /// The last second that is complete, before `at`.
    pub fn before(&self, at: Duration) -> Option<Second> {
        let counts = self.counts();
        let last = (at.as_secs() as usize).checked_sub(1)?;
        counts.seconds.get(last).map(|slice| second(last, slice))
    }
}

fn second(at: usize, slice: &Slice) -> Second {
    let [accepted, refused, failed, lost] = slice.counts;
    Second { at: at as u64, accepted, refused, failed: failed + lost, waits: of(&slice.waits) }
}

/// Its percentiles.
pub fn of(waits: &Histogram<u64>) -> Waits {
    if waits.is_empty() {
        return Waits::default();
    }
    // Two decimals are finer than the histogram's own precision.
    let ms = |micros: u64| (micros as f64 / 10.0).round() / 100.0;
    let at = |quantile: f64| ms(waits.value_at_quantile(quantile));
    Waits { count: waits.len(), p50: at(0.5), p90: at(0.9), p99: at(0.99), p999: at(0.999), max: ms(waits.max()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_counted_by_kind_and_by_second() {
        let tally = Tally::default();
        let (ms, s) = (Duration::from_millis, Duration::from_secs);
        tally.record(Kind::Order, Verdict::Accepted, "", s(0), ms(2));
        tally.record(Kind::Order, Verdict::Refused, "sold_out", s(2), ms(4));
        tally.record(Kind::Order, Verdict::Refused, "sold_out", s(2), ms(8));
        tally.record(Kind::Read, Verdict::Lost, "timed out", s(2), s(1_000));
        let rows: Vec<_> = tally.rows().into_iter().map(|row| (row.kind, row.code, row.waits.count)).collect();
        assert_eq!(
            rows,
            [
                (Kind::Order, String::new(), 1),
                (Kind::Order, "sold_out".to_owned(), 2),
                (Kind::Read, "timed out".to_owned(), 1)
            ]
        );
        let seconds = tally.seconds();
        assert_eq!(
            seconds.iter().map(|s| (s.accepted, s.refused, s.failed)).collect::<Vec<_>>(),
            [(1, 0, 0), (0, 0, 0), (0, 2, 1)]
        );
        assert_eq!(seconds[1].waits, Waits::default());
        assert_eq!(tally.before(ms(1_500)), Some(seconds[0]));
        assert_eq!(tally.before(ms(500)), None);
    }
}
