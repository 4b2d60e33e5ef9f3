//! `livedrop simulate`: seeded stories of crashes, retries, lost syncs, databases that go away and clocks that jump, over the real engine,
//! journal, recovery and projection, with an auditor who believes nobody.

mod auditor;
mod books;
mod device;
mod life;
mod people;
#[cfg(test)]
mod tests;
mod world;

use crate::console::JsonReport;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;
use world::World;

/// What to simulate.
#[derive(clap::Args, Clone, Debug)]
pub struct SimulateOptions {
    /// How many seeds
    #[arg(long, value_name = "N", default_value_t = 200)]
    pub seeds: u64,
    /// The first seed [default: one that was never played]
    #[arg(long, value_name = "S")]
    pub seed: Option<u64>,
    /// Steps of each story
    #[arg(long, value_name = "N", default_value_t = 250)]
    pub steps: u32,
    #[command(flatten)]
    pub json: JsonReport,
}

/// How it went.
#[derive(Serialize, Debug)]
pub struct SimulationReport {
    /// The first seed.
    pub first_seed: u64,
    /// Stories that were told to their end.
    pub seeds: u64,
    /// What happened in them.
    pub seen: BTreeMap<&'static str, u64>,
    /// The first broken promise, and how to see it again.
    pub broken: Option<Broken>,
    /// Seconds.
    pub took: f64,
}

/// A broken promise.
#[derive(Serialize, Debug)]
pub struct Broken {
    /// The story.
    pub seed: u64,
    /// Its step; one past the last is the final audit.
    pub step: u32,
    /// What is wrong.
    pub what: String,
    /// The command that plays it again.
    pub replay: String,
}

/// What was seen in a story, and its digest.
pub type Played = (BTreeMap<&'static str, u64>, u64);

/// Plays one story. Returns what was seen in it, and a digest that is the same whenever the same seed is played.
///
/// # Errors
/// The step, and the promise that is broken.
pub fn play(seed: u64, steps: u32, folder: &Path) -> Result<Played, (u32, String)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| (0, e.to_string()))?;
    let mut world = World::new(seed, folder, Arc::new(runtime)).map_err(|what| (0, what))?;
    for step in 0..steps {
        world.step().map_err(|what| (step, what))?;
    }
    world.finish().map_err(|what| (steps, what))?;
    let (seen, trace) = world.result();
    Ok((seen.clone(), trace))
}

/// Plays all stories, up to the first broken promise.
///
/// # Errors
/// Where there is no place for their databases.
pub fn run(options: &SimulateOptions) -> std::io::Result<SimulationReport> {
    let began = Instant::now();
    let first_seed = options.seed.unwrap_or_else(|| rand::random::<u32>().into());
    let mut report = SimulationReport { first_seed, seeds: 0, seen: BTreeMap::new(), broken: None, took: 0.0 };
    for seed in first_seed..first_seed.saturating_add(options.seeds) {
        let folder = scratch()?;
        let played = play(seed, options.steps, &folder);
        std::fs::remove_dir_all(&folder)?;
        match played {
            Ok((seen, _)) => {
                report.seeds += 1;
                seen.into_iter().for_each(|(what, times)| *report.seen.entry(what).or_default() += times);
            }
            Err((step, what)) => {
                let replay = format!("livedrop simulate --seed {seed} --seeds 1 --steps {}", options.steps);
                report.broken = Some(Broken { seed, step, what, replay });
                break;
            }
        }
    }
    report.took = began.elapsed().as_secs_f64();
    Ok(report)
}

/// A folder for one story's database: in memory where the system has such a place.
fn scratch() -> std::io::Result<std::path::PathBuf> {
    let shared = Path::new("/dev/shm");
    let parent = if shared.is_dir() { shared.to_owned() } else { std::env::temp_dir() };
    let folder = parent.join(format!("livedrop-simulation-{}", uuid::Uuid::new_v4().simple()));
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}

impl SimulationReport {
    /// For people.
    #[must_use]
    pub fn rendered(&self) -> String {
        let mut text = format!(
            "{} stories from seed {} on, {:.1} s ({:.0} a minute)\n",
            self.seeds,
            self.first_seed,
            self.took,
            self.seeds as f64 / self.took.max(0.001) * 60.0
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
