//! The command line of `livedrop load`.

use super::error::LoadError;
use crate::console::JsonReport;
use std::{ops::RangeInclusive, path::PathBuf, time::Duration};

const CONNECTIONS: RangeInclusive<u32> = 1..=16_384;
const SECONDS: RangeInclusive<u64> = 1..=86_400;
const ACCOUNTS: RangeInclusive<u32> = 1..=100_000;
const DROPS: RangeInclusive<u32> = 1..=10_000;
const WATCHERS: RangeInclusive<u32> = 0..=100_000;
const WATCHERS_OF_A_CROWD: u32 = 1_000;
const RESTOCKS_PER_SECOND: f64 = 20.0;
const RATE: RangeInclusive<f64> = 1.0..=1_000_000.0;

/// What the crowd does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scenario {
    /// Everybody orders from one drop
    Rush,
    /// Everybody orders, each time from another of many drops
    Many,
    /// Four of five look at drops, products and stock, the fifth buys
    Mix,
    /// Reserve, then pay, cancel, or let the hold expire
    Abandon,
    /// Follow and unfollow creators
    Follows,
    /// Everybody looks at the page of one drop
    Look,
    /// Restocks of one drop, 20 a second unless `--rate` says otherwise, and 1000 watchers unless `--watchers` does
    Crowd,
    /// The smallest route, for comparison
    Floor,
}

/// The rate of an open loop over time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shape {
    /// The rate, from the first second to the last
    Constant,
    /// From nothing to the rate
    Ramp,
    /// A tenth of the rate, and all of it in the middle third
    Spike,
}

/// Options of `livedrop load`.
#[derive(Debug, Clone, PartialEq, clap::Args)]
pub struct LoadOptions {
    /// The server, such as http://127.0.0.1:8080. The run leaves accounts, drops and orders there: use a server for
    /// rehearsals, started with `--rate-limits off`
    #[arg(long)]
    pub url: String,
    /// What the crowd does
    #[arg(long, value_enum, default_value_t = Scenario::Rush)]
    pub scenario: Scenario,
    /// Connections, each with one request at a time (1 to 16384)
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub connections: u32,
    /// How long, in seconds (1 to 86400)
    #[arg(long, value_name = "S", default_value_t = 10)]
    pub seconds: u64,
    /// Requests per second, sent when they are due whether or not earlier ones are answered, and timed from then (an
    /// open loop). Without it each connection sends its next request when it has its answer (a closed loop)
    #[arg(long, value_name = "N")]
    pub rate: Option<f64>,
    /// How the rate goes over time
    #[arg(long, value_enum, default_value_t = Shape::Constant)]
    pub shape: Shape,
    /// WebSocket sessions that watch the first drop meanwhile (0 to 100000); 1000 in the scenario crowd
    #[arg(long, value_name = "N")]
    pub watchers: Option<u32>,
    /// The share of orders that are sent again with their key (0 to 0.9): the answer must be the same
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    pub retries: f64,
    /// Accounts used in turn (1 to 100000)
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub accounts: u32,
    /// Drops, or creators to follow (1 to 10000); rush and look have one
    #[arg(long, value_name = "N", default_value_t = 16)]
    pub drops: u32,
    /// Units of each drop
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    pub stock: u32,
    /// How many answers the closing audit requests again
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    pub audit: usize,
    #[command(flatten)]
    pub json: JsonReport,
    /// Write the report as a page with plots here
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}

impl LoadOptions {
    /// Checks that every option is within its bounds and that they fit together.
    ///
    /// # Errors
    /// [`LoadError::Option`], the first fault.
    pub fn validate(&self) -> Result<(), LoadError> {
        within("connections", &self.connections, &CONNECTIONS)?;
        within("seconds", &self.seconds, &SECONDS)?;
        within("accounts", &self.accounts, &ACCOUNTS)?;
        within("drops", &self.drops, &DROPS)?;
        within("retries", &self.retries, &(0.0..=0.9))?;
        within("watchers", &self.watchers(), &WATCHERS)?;
        if self.watchers() > 0 && matches!(self.scenario, Scenario::Follows | Scenario::Floor) {
            return Err(LoadError::Option("--watchers: this scenario has no drop to watch".to_owned()));
        }
        match &self.rate() {
            Some(rate) => within("rate", rate, &RATE),
            None if self.shape == Shape::Constant => Ok(()),
            None => Err(LoadError::Option("--shape needs --rate: without it the answers set the pace".to_owned())),
        }
    }

    /// Requests a second; `None` is a closed loop.
    #[must_use]
    pub fn rate(&self) -> Option<f64> {
        self.rate.or((self.scenario == Scenario::Crowd).then_some(RESTOCKS_PER_SECOND))
    }

    /// The number of sessions that watch.
    #[must_use]
    pub fn watchers(&self) -> u32 {
        self.watchers.unwrap_or(if self.scenario == Scenario::Crowd { WATCHERS_OF_A_CROWD } else { 0 })
    }

    /// How long the crowd sends requests.
    #[must_use]
    pub fn duration(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }
}

fn within<T: PartialOrd + std::fmt::Display>(
    name: &str,
    value: &T,
    bounds: &RangeInclusive<T>,
) -> Result<(), LoadError> {
    if bounds.contains(value) {
        return Ok(());
    }
    Err(LoadError::Option(format!("--{name} must be {} to {}, not {value}", bounds.start(), bounds.end())))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        load: LoadOptions,
    }

    /// The defaults of all options.
    pub fn options() -> LoadOptions {
        Cli::parse_from(["load", "--url", "http://127.0.0.1:1"]).load
    }

    #[test]
    fn options_out_of_bounds_are_refused() {
        assert!(options().validate().is_ok());
        let refused = LoadOptions { connections: 0, ..options() }.validate().unwrap_err();
        assert_eq!(refused.to_string(), "--connections must be 1 to 16384, not 0");
        assert!(LoadOptions { shape: Shape::Spike, ..options() }.validate().is_err());
    }
}
