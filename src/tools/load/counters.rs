//! Counters of the crowd's answers: how many of which kind, with their latency, second by second.

use super::cores::core_of;
use crossbeam::utils::CachePadded;
use hdrhistogram::Histogram;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Longer waits count as this long: a minute, in microseconds.
const WAIT_US_MAX: u64 = 60_000_000;

/// The kind of a request.
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

/// The kind of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The status is 2xx.
    Accepted,
    /// A client error: a rule of the sale, or of the API.
    Refused,
    /// The status is 5xx.
    Failed,
    /// No answer: whether the request took effect is unknown.
    Lost,
}

/// Percentiles of waits, in milliseconds.
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
    /// Answers with a server error, and lost ones.
    pub failed: u64,
    pub waits: Waits,
}

/// All answers of one kind.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    pub kind: Kind,
    pub verdict: Verdict,
    /// The problem's code, or the error; empty for accepted ones.
    pub code: String,
    pub waits: Waits,
}

struct Slice {
    counts: [u64; 4],
    waits: Histogram<u64>,
}

#[derive(Default)]
struct Counts {
    rows: BTreeMap<(Kind, Verdict), BTreeMap<String, Histogram<u64>>>,
    seconds: Vec<Slice>,
    /// When the first answer said `sold_out`.
    sold_out_at: Option<Duration>,
}

/// The counters of all tasks. Tasks of one core share one part, so that no task waits for another.
// std Mutexes: recording takes less than a microsecond and never awaits.
pub struct Counters(Box<[CachePadded<Mutex<Counts>>]>);

/// An empty histogram, in microseconds.
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, WAIT_US_MAX, 2).expect("the bounds are valid")
}

impl Slice {
    fn empty() -> Self {
        Self { counts: [0; 4], waits: histogram() }
    }
}

impl Counters {
    /// Counters for this many cores, at least 1.
    pub fn new(cores: usize) -> Self {
        Self((0..cores).map(|_| CachePadded::default()).collect())
    }

    fn all(&self) -> impl Iterator<Item = MutexGuard<'_, Counts>> {
        self.0.iter().map(|counts| counts.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Counts an answer to a task: its kind, when it came after the start, and how long it took.
    pub fn record(&self, task: u32, (kind, verdict, code): (Kind, Verdict, &str), at: Duration, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).clamp(1, WAIT_US_MAX);
        let second = at.as_secs() as usize;
        let of_core = &self.0[core_of(task, self.0.len())];
        let mut counts = of_core.lock().unwrap_or_else(PoisonError::into_inner);
        while counts.seconds.len() <= second {
            counts.seconds.push(Slice::empty());
        }
        let slice = &mut counts.seconds[second];
        slice.counts[verdict as usize] += 1;
        slice.waits.saturating_record(micros);
        let rows = counts.rows.entry((kind, verdict)).or_default();
        match rows.get_mut(code) {
            Some(waits) => waits.saturating_record(micros),
            None => {
                rows.entry(code.to_owned()).or_insert_with(histogram).saturating_record(micros);
                if code == "sold_out" {
                    counts.sold_out_at.get_or_insert(at);
                }
            }
        }
    }

    /// When the first answer said `sold_out`, after the start.
    pub fn sold_out_at(&self) -> Option<Duration> {
        self.all().filter_map(|counts| counts.sold_out_at).min()
    }

    /// The rows of the report.
    pub fn rows(&self) -> Vec<Row> {
        let mut rows: BTreeMap<(Kind, Verdict, String), Histogram<u64>> = BTreeMap::new();
        for counts in self.all() {
            for ((kind, verdict), by_code) in &counts.rows {
                for (code, waits) in by_code {
                    add(rows.entry((*kind, *verdict, code.clone())).or_insert_with(histogram), waits);
                }
            }
        }
        rows.into_iter().map(|((kind, verdict, code), waits)| Row { kind, verdict, code, waits: of(&waits) }).collect()
    }

    /// One entry for each second of the run.
    pub fn seconds(&self) -> Vec<Second> {
        let seconds = self.all().map(|counts| counts.seconds.len()).max().unwrap_or(0);
        (0..seconds).map(|at| second(at, &self.slice(at))).collect()
    }

    /// The last complete second before `at`.
    pub fn before(&self, at: Duration) -> Option<Second> {
        let last = (at.as_secs() as usize).checked_sub(1)?;
        self.all().any(|counts| counts.seconds.len() > last).then(|| second(last, &self.slice(last)))
    }

    fn slice(&self, at: usize) -> Slice {
        let mut sum = Slice::empty();
        for counts in self.all() {
            if let Some(slice) = counts.seconds.get(at) {
                sum.counts.iter_mut().zip(slice.counts).for_each(|(sum, count)| *sum += count);
                add(&mut sum.waits, &slice.waits);
            }
        }
        sum
    }
}

fn add(sum: &mut Histogram<u64>, more: &Histogram<u64>) {
    sum.add(more).expect("their bounds are the same");
}

fn second(at: usize, slice: &Slice) -> Second {
    let [accepted, refused, failed, lost] = slice.counts;
    Second { at: at as u64, accepted, refused, failed: failed + lost, waits: of(&slice.waits) }
}

/// Computes the percentiles of a histogram.
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
        let counters = Counters::new(2);
        let (ms, s) = (Duration::from_millis, Duration::from_secs);
        counters.record(0, (Kind::Order, Verdict::Accepted, ""), s(0), ms(2));
        counters.record(1, (Kind::Order, Verdict::Refused, "sold_out"), s(2), ms(4));
        counters.record(2, (Kind::Order, Verdict::Refused, "sold_out"), s(2), ms(8));
        counters.record(3, (Kind::Read, Verdict::Lost, "timed out"), s(2), s(1_000));
        let rows: Vec<_> = counters.rows().into_iter().map(|row| (row.kind, row.code, row.waits.count)).collect();
        assert_eq!(
            rows,
            [
                (Kind::Order, String::new(), 1),
                (Kind::Order, "sold_out".to_owned(), 2),
                (Kind::Read, "timed out".to_owned(), 1)
            ]
        );
        let seconds = counters.seconds();
        assert_eq!(
            seconds.iter().map(|s| (s.accepted, s.refused, s.failed)).collect::<Vec<_>>(),
            [(1, 0, 0), (0, 0, 0), (0, 2, 1)]
        );
        assert_eq!(seconds[1].waits, Waits::default());
        assert_eq!(counters.before(ms(1_500)), Some(seconds[0]));
        assert_eq!(counters.before(ms(500)), None);
    }
}
