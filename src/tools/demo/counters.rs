//! Counters of what the crowd observed, updated by all of its tasks: the source of the live display and of the report.

use super::{
    latency::Latency,
    promises::{Kept, Promise},
    wire,
};
use crate::domain::StockCounts;
use std::{
    collections::BTreeMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
};

/// Breaches reported in full per promise; further ones are only counted.
const BROKEN_TEXTS_MAX: usize = 10;

/// Counters of one run.
// Relaxed everywhere: each number stands alone, and the final ones are read after the tasks were joined.
#[derive(Default)]
pub struct Counters {
    /// Orders accepted (201), without their repeats.
    pub accepted: AtomicU64,
    /// Units that buyers have confirmations of.
    pub confirmed_units: AtomicU64,
    /// Orders with a final answer, accepted and refused, without repeats.
    pub answered: AtomicU64,
    /// Requests sent again with the same key.
    pub repeated: AtomicU64,
    /// Repeats with an identical answer.
    pub identical: AtomicU64,
    /// Requests without an answer after all retries.
    pub unanswered: AtomicU64,
    /// Answers that were lost and requested again.
    pub lost_answers: AtomicU64,
    /// Followers who are connected and authenticated now.
    pub listening: AtomicU64,
    /// Events of the drop that followers received.
    pub events: AtomicU64,
    /// Followers who had to connect again.
    pub reconnections: AtomicU64,
    /// Followers who received the end of the drop.
    pub heard_the_end: AtomicU64,
    /// Set once the last unit was reported as sold.
    pub sold_out: AtomicBool,
    /// From `POST /orders` to 201.
    pub accepted_latency: Latency,
    /// From `POST /orders` to a refusal.
    pub refused_latency: Latency,
    /// From an event's `at` to its receipt by a follower, for all events but `stock_changed`.
    pub event_latency: Latency,
    /// The same for `stock_changed`, of which the server sends only the latest by design.
    pub stock_event_latency: Latency,
    stage: Mutex<Stage>,
    refused: Mutex<BTreeMap<String, u64>>,
    waits: Mutex<BTreeMap<String, u64>>,
    seen: Mutex<Seen>,
    broken: Mutex<BTreeMap<Promise, (u64, Vec<String>)>>,
}

/// The demo's current stage, for the display.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Stage {
    /// A few words for the display.
    pub name: &'static str,
    /// Finished steps out of `of`; `of` is 0 if they cannot be counted.
    pub done: u64,
    pub of: u64,
}

#[derive(Default, Clone, Copy)]
struct Seen {
    stock: StockCounts,
    oversold: u64,
}

impl Counters {
    /// Starts at zero, with `total` free units.
    #[must_use]
    pub fn new(total: u32) -> Self {
        let seen = Seen { stock: StockCounts::full(total), oversold: 0 };
        Self { seen: Mutex::new(seen), ..Self::default() }
    }

    /// Enters a stage of `of` steps (0: not countable).
    pub fn enter(&self, name: &'static str, of: u64) {
        *lock(&self.stage) = Stage { name, done: 0, of };
    }

    /// Counts a finished step of the stage.
    pub fn step(&self) {
        lock(&self.stage).done += 1;
    }

    #[must_use]
    pub fn stage(&self) -> Stage {
        *lock(&self.stage)
    }

    /// Counts a final refusal by its reason.
    pub fn refused(&self, code: String) {
        *lock(&self.refused).entry(code).or_default() += 1;
    }

    /// Counts an answer that asked to retry later.
    pub fn asked_to_wait(&self, code: String) {
        *lock(&self.waits).entry(code).or_default() += 1;
    }

    /// Counts a lost answer.
    pub fn lost_answer(&self) {
        add(&self.lost_answers);
    }

    /// Final refusals by reason.
    #[must_use]
    pub fn refusals(&self) -> BTreeMap<String, u64> {
        lock(&self.refused).clone()
    }

    /// Requests to wait, by reason.
    #[must_use]
    pub fn waits(&self) -> BTreeMap<String, u64> {
        lock(&self.waits).clone()
    }

    /// Checks a reading of the stock. The demo's own readings come in order and become [`Counters::stock`].
    pub fn stock_read(&self, stock: StockCounts, variants: &[StockCounts]) {
        lock(&self.seen).stock = stock;
        if stock.sold == stock.total {
            self.sold_out.store(true, Relaxed);
        }
        self.check_stock(stock, variants, "a stock reading");
    }

    /// Checks a stock in any answer or event.
    pub fn check_stock(&self, stock: StockCounts, variants: &[StockCounts], shown_in: &str) {
        if !wire::adds_up(stock, variants) {
            self.broke(Promise::StockAddsUp, format!("{shown_in} says {stock} with variants {variants:?}"));
        }
        let taken = u64::from(stock.sold) + u64::from(stock.held);
        let oversold = taken.saturating_sub(u64::from(stock.total));
        if oversold > 0 {
            let mut seen = lock(&self.seen);
            seen.oversold = seen.oversold.max(oversold);
            drop(seen);
            self.broke(Promise::NeverOversold, format!("{shown_in} has {taken} of {} units taken", stock.total));
        }
    }

    /// The stock of the last reading.
    #[must_use]
    pub fn stock(&self) -> StockCounts {
        lock(&self.seen).stock
    }

    /// The most units ever observed as taken or confirmed beyond the total.
    #[must_use]
    pub fn oversold(&self) -> u64 {
        let seen = *lock(&self.seen);
        let told = self.confirmed_units.load(Relaxed).saturating_sub(u64::from(seen.stock.total));
        seen.oversold.max(told)
    }

    /// Records a breach of a promise.
    pub fn broke(&self, promise: Promise, what: String) {
        let mut broken = lock(&self.broken);
        let (times, texts) = broken.entry(promise).or_default();
        *times += 1;
        if texts.len() < BROKEN_TEXTS_MAX {
            texts.push(what);
        }
    }

    /// Every promise with its breaches.
    #[must_use]
    pub fn promises(&self) -> Vec<Kept> {
        let broken = lock(&self.broken);
        let kept = |promise| {
            let (times, texts) = broken.get(&promise).cloned().unwrap_or_default();
            Kept { promise, kept: times == 0, times, broken: texts }
        };
        Promise::ALL.into_iter().map(kept).collect()
    }
}

/// Increments a counter by one.
pub fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Relaxed);
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(counters: &Counters, promise: Promise) -> Kept {
        counters.promises().into_iter().find(|kept| kept.promise == promise).unwrap()
    }

    #[test]
    fn nothing_broken_is_every_promise_kept() {
        let counters = Counters::new(10);
        counters.stock_read(StockCounts { total: 10, available: 3, held: 2, sold: 5 }, &[]);
        assert!(counters.promises().iter().all(|kept| kept.kept && kept.broken.is_empty()));
        assert_eq!((counters.oversold(), counters.stock().sold), (0, 5));
        assert!(!counters.sold_out.load(Relaxed));
        counters.stock_read(StockCounts { total: 10, available: 0, held: 0, sold: 10 }, &[]);
        assert!(counters.sold_out.load(Relaxed));
    }

    #[test]
    fn oversold_stock_breaks_two_promises_and_is_measured() {
        let counters = Counters::new(10);
        counters.check_stock(StockCounts { total: 10, available: 0, held: 2, sold: 11 }, &[], "an event");
        assert_eq!(counters.oversold(), 3);
        assert!(!kept(&counters, Promise::NeverOversold).kept);
        assert!(!kept(&counters, Promise::StockAddsUp).kept);
        assert!(kept(&counters, Promise::NothingLost).kept);
    }

    #[test]
    fn more_confirmed_to_buyers_than_there_is_counts_as_oversold() {
        let counters = Counters::new(10);
        counters.confirmed_units.store(12, Relaxed);
        assert_eq!(counters.oversold(), 2);
    }

    #[test]
    fn only_the_first_few_are_written_out() {
        let counters = Counters::new(1);
        (0..100).for_each(|n| counters.broke(Promise::RetriesIdentical, format!("{n}")));
        let kept = kept(&counters, Promise::RetriesIdentical);
        assert_eq!((kept.times, kept.broken.len()), (100, BROKEN_TEXTS_MAX));
        assert_eq!(kept.broken[0], "0");
    }

    #[test]
    fn reasons_are_counted_apart() {
        let counters = Counters::new(1);
        ["sold_out", "sold_out", "payment_declined"].iter().for_each(|code| counters.refused((*code).into()));
        assert_eq!(counters.refusals(), BTreeMap::from([("payment_declined".into(), 1), ("sold_out".into(), 2)]));
        assert!(counters.waits().is_empty());
    }
}
