//! `livedrop demo`: a complete sale, run and audited on this machine.
//!
//! A real server (a child process of this program), a crowd of followers on WebSockets, and a crowd of buyers who race
//! for one drop over real HTTP. The demo uses only the server's API.
//!
//! - [`show`](self): starts the server, gathers the crowd, runs the sale, reads everything back, has the data audited.
//! - `setup`, `rush`, `readback` are its stages; `buyer` and `follower` its participants; `behaviour` chooses the
//!   buyers' actions.
//! - `client` and `wire` talk to the server, `server` is its process, `place` its directory.
//! - `counters` collects the observations, `promises` names what must hold, `display` and `report` show it.

mod audit;
mod behaviour;
mod buyer;
mod client;
mod counters;
mod display;
mod error;
mod follower;
mod latency;
mod market;
mod meter;
mod options;
mod place;
mod promises;
mod readback;
mod report;
mod rush;
mod server;
mod setup;
mod show;
mod wire;

pub use audit::AuditVerdict;
pub use error::DemoError;
pub use options::DemoOptions;
pub use promises::{Kept, Promise};
pub use report::Report;

use counters::Counters;
use display::{Display, Mode};
use place::Place;
use show::Show;
use std::{path::PathBuf, sync::Arc};

/// Runs the demo. Progress goes to standard error; the caller prints the [`Report`] and sets the exit code.
///
/// `audit` is called once, when the server has stopped, with its data directory and the database URL, if one was given.
///
/// # Errors
/// [`DemoError`] if there is nothing to report. A broken promise is no error: see [`Report::promises_kept`].
pub async fn run(
    options: DemoOptions,
    audit: impl AsyncFnOnce(PathBuf, Option<String>) -> Result<AuditVerdict, String>,
) -> Result<Report, DemoError> {
    options.validate()?;
    options::check_open_files(&options)?;
    let place = Place::prepare(&options)?;
    let counters = Arc::new(Counters::new(options.stock));
    let display = Display::start(counters.clone(), &options, Mode::for_stderr(options.json.is_stdout()));
    let show = Show { options: &options, place: &place, counters, seed: options.seed.unwrap_or_else(random_seed) };
    let result = tokio::select! {
        result = show.play(audit) => result,
        () = interrupted() => Err(DemoError::Interrupted),
    };
    let busiest_second = display.finish().await;
    match result {
        Ok(mut report) => {
            report.orders.answered_per_second_best = busiest_second;
            report.data_dir = place.leave(!report.promises_kept());
            Ok(report)
        }
        // The server's log is needed to find the cause.
        Err(error @ (DemoError::Server(_) | DemoError::Setup { .. })) => {
            let dir = place.work_dir();
            place.leave(true);
            Err(DemoError::Kept { source: Box::new(error), dir })
        }
        Err(error) => {
            place.leave(false);
            Err(error)
        }
    }
}

/// Below 2^32, so that it is easy to type and exact in every JSON reader.
fn random_seed() -> u64 {
    u64::from(rand::random::<u32>())
}

/// Returns when the user or the system stops the demo.
async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminate.recv() => {}
            }
        }
        Err(_) => {
            // Without a handler Ctrl-C ends the process by itself.
            let _ = tokio::signal::ctrl_c().await;
        }
    }
}
