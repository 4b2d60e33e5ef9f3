//! How far a long row has come.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// Time between two lines of a row.
const INTERVAL: Duration = Duration::from_secs(30);

thread_local! {
    static ROW: Cell<&'static str> = const { Cell::new("") };
}

/// Names what this thread works on from now on: each lane has a thread.
pub fn begin(row: &'static str) {
    ROW.set(row);
}

/// Prints a line from time to time.
pub struct Progress {
    total: u64,
    began: Instant,
    told: Instant,
}

impl Progress {
    pub fn of(total: u64) -> Self {
        let now = Instant::now();
        Self { total, began: now, told: now }
    }

    pub fn at(&mut self, done: u64) {
        if self.told.elapsed() >= INTERVAL {
            self.told = Instant::now();
            println!("{}: {done} of {} ({} s)", ROW.get(), self.total, self.began.elapsed().as_secs());
        }
    }
}

/// The numbers below `total`, with progress.
pub fn counted(total: u64) -> impl Iterator<Item = u64> {
    let mut progress = Progress::of(total);
    (0..total).inspect(move |done| progress.at(*done))
}

/// Each of `points` as often as `runs` says, with the number of its run, and progress over all of them.
pub fn each<T>(points: &[T], runs: u64) -> impl Iterator<Item = (&T, u64)> {
    let total = counted(points.len() as u64 * runs);
    points.iter().flat_map(move |point| (0..runs).map(move |run| (point, run))).zip(total).map(|(it, _)| it)
}
