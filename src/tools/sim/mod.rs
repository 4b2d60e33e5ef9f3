//! `livedrop simulate`: seeded stories of crashes, retries, lost syncs, database outages and clock jumps, with the real
//! engine, journal, recovery and projection, and an independent auditor.

mod auditor;
mod books;
mod checkpoints;
mod consuming;
mod copies;
mod database;
mod device;
mod life;
mod outside;
mod people;
mod provider;
mod restarts;
#[cfg(test)]
mod tests;
mod world;

use crate::console::text::count;
use crate::console::{JsonReport, progress_interval};
use serde::Serialize;
use std::collections::BTreeMap;
use std::io;
use std::num::NonZeroUsize;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;
use tokio::runtime::{Builder, Runtime};
use world::{Variation, World};

/// Options of `livedrop simulate`.
#[derive(clap::Args, Clone, Debug)]
pub struct SimulateOptions {
    /// The number of stories, one for each seed
    #[arg(long, value_name = "N", default_value_t = 200)]
    pub seeds: u64,
    /// The first seed [default: a random one]
    #[arg(long, value_name = "S")]
    pub seed: Option<u64>,
    /// Steps of each story
    #[arg(long, value_name = "N", default_value_t = 250)]
    pub steps: u32,
    #[command(flatten)]
    pub json: JsonReport,
}

/// The result of a simulation.
#[derive(Serialize, Debug)]
pub struct SimulationReport {
    /// Seed of the first story.
    pub first_seed: u64,
    /// Stories that were completed.
    pub seeds: u64,
    /// Events that occurred in them, counted.
    pub seen: BTreeMap<&'static str, u64>,
    /// The first broken promise, and how to reproduce it.
    pub broken: Option<Broken>,
    /// Duration of the run, in seconds.
    pub took: f64,
}

/// A broken promise and its story.
#[derive(Serialize, Debug)]
pub struct Broken {
    /// Seed of the story.
    pub seed: u64,
    /// The failed step; one past the last is the final audit.
    pub step: u32,
    /// The fault, in a sentence.
    pub what: String,
    /// The command that reproduces it.
    pub replay: String,
}

/// The events that occurred in a story, and its digest.
pub type Played = (BTreeMap<&'static str, u64>, u64);

/// Runs one story. Returns the events that occurred, and a digest that is the same for every run of the seed.
///
/// # Errors
/// The step, and the broken promise.
pub fn play(seed: u64, steps: u32) -> Result<Played, (u32, String)> {
    play_as(seed, steps, Variation::default())
}

fn play_as(seed: u64, steps: u32, variation: Variation) -> Result<Played, (u32, String)> {
    let runtime = runtime().map_err(|error| (0, error.to_string()))?;
    play_on(&runtime, seed, steps, variation)
}

fn runtime() -> io::Result<Arc<Runtime>> {
    Builder::new_current_thread().enable_all().build().map(Arc::new)
}

fn play_on(runtime: &Arc<Runtime>, seed: u64, steps: u32, variation: Variation) -> Result<Played, (u32, String)> {
    let mut world = World::new(seed, Arc::clone(runtime), variation).map_err(|what| (0, what))?;
    for step in 0..steps {
        world.step().map_err(|what| (step, what))?;
    }
    world.finish().map_err(|what| (steps, what))?;
    let (seen, trace) = world.result();
    Ok((seen.clone(), trace))
}

/// Shared by the threads that run stories.
struct Environment {
    options: SimulateOptions,
    first_seed: u64,
    /// Stories that were started.
    taken: AtomicU64,
    /// Stories that were completed.
    played: AtomicU64,
    /// Set when a promise is broken: no new story is started.
    over: AtomicBool,
    seen: Mutex<(BTreeMap<&'static str, u64>, Vec<Broken>)>,
}

impl Environment {
    /// One thread: runs stories until there are no more.
    fn work(&self) -> io::Result<()> {
        let runtime = runtime()?;
        let mut seen: BTreeMap<&'static str, u64> = BTreeMap::new();
        while !self.over.load(Ordering::Relaxed) {
            let number = self.taken.fetch_add(1, Ordering::Relaxed);
            let Some(seed) = self.first_seed.checked_add(number).filter(|_| number < self.options.seeds) else { break };
            match play_on(&runtime, seed, self.options.steps, Variation::default()) {
                Ok((of_story, _)) => {
                    of_story.into_iter().for_each(|(what, times)| *seen.entry(what).or_default() += times);
                    self.played.fetch_add(1, Ordering::Relaxed);
                }
                Err((step, what)) => {
                    let replay = format!("livedrop simulate --seed {seed} --seeds 1 --steps {}", self.options.steps);
                    self.over.store(true, Ordering::Relaxed);
                    self.result().1.push(Broken { seed, step, what, replay });
                }
            }
        }
        let mut result = self.result();
        seen.into_iter().for_each(|(what, times)| *result.0.entry(what).or_default() += times);
        Ok(())
    }

    fn result(&self) -> MutexGuard<'_, (BTreeMap<&'static str, u64>, Vec<Broken>)> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn progress(&self, seconds: f64) -> String {
        let (played, all) = (self.played.load(Ordering::Relaxed), self.options.seeds);
        let left = all.saturating_sub(played) as f64 * seconds / played.max(1) as f64;
        format!(
            "{seconds:>5.0} s  {} of {} stories, {:.0} a second, {left:.0} s to go",
            count(played),
            count(all),
            played as f64 / seconds.max(0.001)
        )
    }
}

/// Runs all stories on all cores, up to the first broken promise; progress goes to standard error.
///
/// # Errors
/// If a directory for the databases, or a thread, cannot be created.
pub fn run(options: &SimulateOptions) -> io::Result<SimulationReport> {
    let (began, first_seed) = (Instant::now(), options.seed.unwrap_or_else(|| rand::random::<u32>().into()));
    let stage = Environment {
        options: options.clone(),
        first_seed,
        taken: AtomicU64::new(0),
        played: AtomicU64::new(0),
        over: AtomicBool::new(false),
        seen: Mutex::default(),
    };
    let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let (done, playing) = std::sync::mpsc::channel::<()>();
    thread::scope(|scope| {
        let threads: Vec<_> = (0..cores)
            .map(|_| {
                let done = done.clone();
                let stage = &stage;
                scope.spawn(move || {
                    // Dropped with the thread, also after a panic: then no thread is running any more.
                    let _playing = done;
                    stage.work()
                })
            })
            .collect();
        drop(done);
        let every = progress_interval();
        while playing.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
            eprintln!("{}", stage.progress(began.elapsed().as_secs_f64()));
        }
        threads.into_iter().try_for_each(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic)))
    })?;
    let seeds = stage.played.load(Ordering::Relaxed);
    let (seen, broken) = stage.seen.into_inner().unwrap_or_else(PoisonError::into_inner);
    let broken = broken.into_iter().min_by_key(|broken| broken.seed);
    Ok(SimulationReport { first_seed, seeds, seen, broken, took: began.elapsed().as_secs_f64() })
}

impl SimulationReport {
    /// The text for people.
    #[must_use]
    pub fn rendered(&self) -> String {
        let mut text = format!(
            "{} stories from seed {} on, {:.1} s ({:.0} a second)\n",
            count(self.seeds),
            self.first_seed,
            self.took,
            self.seeds as f64 / self.took.max(0.001)
        );
        for (what, times) in &self.seen {
            text += &format!("  {times:>9}  {what}\n");
        }
        text += &match &self.broken {
            None => "every promise was kept\n".to_owned(),
            Some(broken) => {
                format!(
                    "BROKEN in seed {}, step {}: {}\nagain: {}\n",
                    broken.seed, broken.step, broken.what, broken.replay
                )
            }
        };
        text
    }
}
