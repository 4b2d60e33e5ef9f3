//! The command line of the demo, and values derived from it.

use super::DemoError;
use crate::console::JsonReport;
use std::{ops::RangeInclusive, path::PathBuf, time::Duration};

/// Bounds of the crowd: enough for any effect that one machine can show, few enough to fit into it.
const BUYERS: RangeInclusive<u32> = 1..=50_000;
const STOCK: RangeInclusive<u32> = 1..=1_000_000;
const FOLLOWERS: RangeInclusive<u32> = 0..=20_000;
const SECONDS: RangeInclusive<u32> = 1..=600;

/// How long the demo's drop holds a reserved unit: short, so that abandoned holds return while one watches.
pub const HOLD_SECONDS: u32 = 2;
/// Connections that all buyers share: one each up to this many. More would measure this machine's scheduler and not the
/// server.
pub const BUYER_CONNECTIONS_MAX: u32 = 256;

/// Options of `livedrop demo`.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
pub struct DemoOptions {
    /// Buyers who race for the stock (1 to 50000)
    #[arg(long, value_name = "N", default_value_t = 500)]
    pub buyers: u32,
    /// Units on sale (1 to 1000000)
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub stock: u32,
    /// Followers who listen over websockets (0 to 20000)
    #[arg(long, value_name = "N", default_value_t = 200)]
    pub followers: u32,
    /// The drop's time limit in seconds, if it is not sold out before (1 to 600)
    #[arg(long, value_name = "S", default_value_t = 10)]
    pub seconds: u32,
    /// Use this database (postgres://… or sqlite://…) instead of SQLite in the data directory
    #[arg(long, value_name = "URL")]
    pub database_url: Option<String>,
    #[command(flatten)]
    pub json: JsonReport,
    /// Kill the server (kill -9) in the middle of the rush and start it again: nothing acknowledged may be lost
    #[arg(long)]
    pub crash: bool,
    /// Keep the server's data here instead of in a temporary directory
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Play the crowd of an earlier report again (its "seed")
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
}

impl Default for DemoOptions {
    fn default() -> Self {
        Self {
            buyers: 500,
            stock: 100,
            followers: 200,
            seconds: 10,
            database_url: None,
            json: JsonReport::default(),
            crash: false,
            data_dir: None,
            seed: None,
        }
    }
}

impl DemoOptions {
    /// Refuses a crowd that is too large for a usual machine.
    ///
    /// # Errors
    /// [`DemoError::Option`] with one line that names the option and its bounds.
    pub fn validate(&self) -> Result<(), DemoError> {
        within("--buyers", self.buyers, &BUYERS)?;
        within("--stock", self.stock, &STOCK)?;
        within("--followers", self.followers, &FOLLOWERS)?;
        within("--seconds", self.seconds, &SECONDS)
    }

    /// The drop's time limit.
    #[must_use]
    pub fn time_limit(&self) -> Duration {
        Duration::from_secs(u64::from(self.seconds))
    }

    /// Units that every buyer wants at least: together one and a half times the stock, so that even a crowd smaller
    /// than the stock races for it.
    #[must_use]
    pub fn units_wanted(&self) -> u32 {
        (self.stock + self.stock / 2).div_ceil(self.buyers).max(1)
    }

    /// The drop's limit per buyer: a little above what any buyer wants, as shops choose it.
    #[must_use]
    pub fn per_buyer_limit(&self) -> u32 {
        self.units_wanted() + 2
    }

    /// How long a buyer waits after a sold-out answer: about half a second, longer in a very large crowd, whose retries
    /// would otherwise be a flood.
    #[must_use]
    pub fn polite_pause(&self) -> Duration {
        Duration::from_millis(u64::from(self.buyers / 8).clamp(400, 5_000))
    }

    /// The number of connections that the buyers share.
    #[must_use]
    pub fn buyer_connections(&self) -> u32 {
        self.buyers.clamp(2, BUYER_CONNECTIONS_MAX)
    }

    /// The number of files that the demo and its server each hold open at the same time, roughly.
    #[must_use]
    pub fn open_files(&self) -> u64 {
        u64::from(self.followers) + u64::from(self.buyer_connections()) + 100
    }
}

fn within(option: &'static str, value: u32, bounds: &RangeInclusive<u32>) -> Result<(), DemoError> {
    if bounds.contains(&value) {
        return Ok(());
    }
    Err(DemoError::Option(format!("{option} is from {} to {}, not {value}", bounds.start(), bounds.end())))
}

/// Refuses a crowd beyond this shell's limit of open files, before half of it is connected. If the limit cannot be read
/// (not Linux) nothing is refused.
pub(super) fn check_open_files(options: &DemoOptions) -> Result<(), DemoError> {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    match soft_limit(&limits) {
        Some(limit) if limit < options.open_files() => Err(DemoError::Option(format!(
            "this shell allows {limit} open files and the demo needs about {needed}: run `ulimit -n {needed}` first, or \
             ask for fewer --followers",
            needed = options.open_files()
        ))),
        _ => Ok(()),
    }
}

fn soft_limit(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        demo: DemoOptions,
    }

    #[test]
    fn the_command_line_defaults_are_the_defaults() {
        assert_eq!(Cli::parse_from(["demo"]).demo, DemoOptions::default());
        let tuned = Cli::parse_from(["demo", "--buyers", "7", "--crash", "--json", "--data-dir", "x"]).demo;
        assert_eq!((tuned.buyers, tuned.crash, tuned.json.is_stdout()), (7, true, true));
        assert_eq!(tuned.data_dir, Some(PathBuf::from("x")));
    }

    #[test]
    fn a_crowd_out_of_bounds_is_refused_in_one_line() {
        let refused = |options: DemoOptions| options.validate().unwrap_err().to_string();
        assert!(DemoOptions::default().validate().is_ok());
        assert!(DemoOptions { followers: 0, ..Default::default() }.validate().is_ok());
        let line = refused(DemoOptions { buyers: 0, ..Default::default() });
        assert_eq!(line, "--buyers is from 1 to 50000, not 0");
        let line = refused(DemoOptions { seconds: 601, ..Default::default() });
        assert_eq!(line, "--seconds is from 1 to 600, not 601");
        assert!(!refused(DemoOptions { stock: 0, ..Default::default() }).contains('\n'));
    }

    #[test]
    fn the_crowd_always_wants_at_least_the_stock() {
        for (buyers, stock) in [(500, 100), (100, 100), (7, 100), (1, 1_000), (50_000, 1)] {
            let options = DemoOptions { buyers, stock, ..Default::default() };
            assert!(u64::from(options.units_wanted()) * u64::from(buyers) >= u64::from(stock));
            assert!(options.per_buyer_limit() > options.units_wanted());
        }
    }

    #[test]
    fn the_open_file_limit_is_read_from_the_kernels_table() {
        let table = "Limit   Soft Limit  Hard Limit  Units\nMax open files            1024    524288   files\n";
        assert_eq!(soft_limit(table), Some(1024));
        assert_eq!(soft_limit("Max open files unlimited unlimited files"), None);
        assert_eq!(soft_limit(""), None);
    }
}
