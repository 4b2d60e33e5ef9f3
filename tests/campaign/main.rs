//! The fault campaign: the real binary, real files, a real Postgres; at the end one table of fault, runs and outcome.
//!
//! `cargo test --test campaign` runs the numbers of continuous integration, `LIVEDROP_CAMPAIGN=long` those of a long
//! manual run. Words after `--` choose rows by parts of their names. docs/RELIABILITY.md has the promises and lists
//! further tests. Each lane runs its rows in sequence; the lanes run concurrently.

mod backups;
mod cited;
mod consumers;
mod crowd;
mod database;
mod disk;
mod failpoints;
mod kills;
#[path = "../support/packages.rs"]
mod packages;
mod payments;
#[path = "../support/postgres.rs"]
mod postgres;
mod progress;
#[path = "../support/server.rs"]
mod server;
mod shutdown;
#[path = "../support/target.rs"]
mod target;

use futures_util::FutureExt;
use std::{
    future::Future,
    panic::AssertUnwindSafe,
    pin::Pin,
    process::ExitCode,
    time::{Duration, Instant},
};

/// The size of the campaign.
#[derive(Clone, Copy)]
pub struct Scale {
    long: bool,
}

impl Scale {
    /// The number for continuous integration, or the one for a long run.
    pub fn of(self, short: u64, long: u64) -> u64 {
        if self.long { long } else { short }
    }
}

/// The last two columns of a row.
pub struct Outcome {
    pub runs: String,
    pub said: String,
}

impl Outcome {
    pub fn of(runs: impl std::fmt::Display, said: impl Into<String>) -> Self {
        Self { runs: runs.to_string(), said: said.into() }
    }
}

type Case = Pin<Box<dyn Future<Output = Outcome>>>;

/// One row: its fault, and how to run it.
pub struct Row {
    pub fault: &'static str,
    run: Box<dyn FnOnce(Scale) -> Case + Send>,
}

impl Row {
    pub fn new<F: Future<Output = Outcome> + 'static>(
        fault: &'static str,
        run: impl FnOnce(Scale) -> F + Send + 'static,
    ) -> Self {
        Self { fault, run: Box::new(move |scale| Box::pin(run(scale))) }
    }
}

struct Line {
    fault: &'static str,
    outcome: Result<Outcome, String>,
    took: Duration,
}

/// On the lane's own thread: a row that waits for a process delays no other lane.
fn run_lane(rows: Vec<Row>, scale: Scale) -> Vec<Line> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut lines = Vec::new();
    for row in rows {
        progress::begin(row.fault);
        let started = Instant::now();
        let outcome = runtime.block_on(AssertUnwindSafe((row.run)(scale)).catch_unwind()).map_err(|panic| {
            let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
            text.unwrap_or("a panic").to_owned()
        });
        let (verdict, took) = (if outcome.is_ok() { "done" } else { "FAILED" }, started.elapsed());
        println!("{verdict} {} ({:.1} s)", row.fault, took.as_secs_f64());
        lines.push(Line { fault: row.fault, outcome, took });
    }
    lines
}

/// Rows that compare the order of events by the clients' clocks: nothing else may delay them.
fn alone() -> Vec<Row> {
    disk::failing_rows().into_iter().chain(shutdown::rows()).collect()
}

/// Lanes of about equal length.
fn lanes() -> Vec<Vec<Row>> {
    vec![
        kills::rows(),
        failpoints::rows(),
        failpoints::rotation_rows(),
        database::rows(),
        disk::rows(),
        cited::rows().into_iter().chain(payments::rows()).collect(),
        backups::rows().into_iter().chain(consumers::rows()).collect(),
    ]
}

fn print(lines: &[Line]) {
    println!("\n| fault | runs | outcome | seconds |\n|---|---|---|---|");
    for Line { fault, outcome, took } in lines {
        let seconds = took.as_secs_f64();
        match outcome {
            Ok(Outcome { runs, said }) => println!("| {fault} | {runs} | {said} | {seconds:.1} |"),
            Err(why) => println!("| {fault} | – | **FAILED**: {} | {seconds:.1} |", why.replace('\n', " ")),
        }
    }
    println!();
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let chosen = |row: &Row| words.is_empty() || words.iter().any(|word| row.fault.contains(word.as_str()));
    let lanes: Vec<Vec<Row>> = lanes().into_iter().map(|lane| lane.into_iter().filter(&chosen).collect()).collect();
    let alone: Vec<Row> = alone().into_iter().filter(&chosen).collect();
    if std::env::args().any(|word| word == "--list") {
        lanes.iter().flatten().chain(&alone).for_each(|row| println!("{}: test", row.fault));
        return ExitCode::SUCCESS;
    }
    let scale = Scale { long: std::env::var("LIVEDROP_CAMPAIGN").is_ok_and(|how| how == "long") };
    let running: Vec<_> = lanes.into_iter().map(|lane| std::thread::spawn(move || run_lane(lane, scale))).collect();
    let mut lines: Vec<Line> = running.into_iter().flat_map(|lane| lane.join().expect("a lane ends")).collect();
    lines.extend(run_lane(alone, scale));
    if lines.is_empty() {
        return ExitCode::SUCCESS;
    }
    print(&lines);
    // At the end, where a truncated log still has it.
    let failed: Vec<_> = lines.iter().filter_map(|line| Some((line.fault, line.outcome.as_ref().err()?))).collect();
    failed.iter().for_each(|(fault, why)| eprintln!("FAILED {fault}: {why}"));
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
