//! `livedrop load`: a crowd for rehearsals, against any LiveDrop, and an audit of the server's answers.
//!
//! - `options`: its command line; `setup` prepares accounts and drops.
//! - `crowd`: sends the requests, over an `http_connection` per task, paced by the `pace` of an open loop or as fast as
//!   answers come; `cores` runs its tasks, a thread per core.
//! - `watch`: sessions that follow the drops meanwhile.
//! - `counters`: the results, `ceiling`: the client's own maximum, `audit`: repeats every request.
//! - `report`, `page` and `plot`: the output; `machine`: the host.

mod audit;
mod ceiling;
mod cores;
mod counters;
mod crowd;
mod error;
mod http_connection;
mod machine;
mod options;
mod pace;
mod page;
mod plot;
mod progress;
mod report;
mod setup;
mod target;
mod watch;

pub use audit::Audit;
pub use counters::{Kind, Row, Second, Verdict, Waits};
pub use error::LoadError;
pub use machine::Machine;
pub use options::{LoadOptions, Scenario, Shape};
pub use page::page;
pub use report::LoadReport;
pub use watch::Watched;

use crate::http::transport::server::raise_open_files;
use counters::Counters;
use crowd::{Buyer, Crowd};
use pace::Pace;
use progress::progress;
use std::io;
use std::sync::Arc;
use std::time::Instant;
use target::Target;
use watch::Watch;

/// Files that the process has open besides its connections.
const FILES_BESIDES: u64 = 64;

/// Runs a rehearsal on a runtime of its own. Progress goes to standard error; the caller writes the [`LoadReport`].
///
/// # Errors
/// [`LoadError`] if there is nothing to report. A broken promise is no error: see [`LoadReport::is_clean`].
pub fn run(options: &LoadOptions) -> Result<LoadReport, LoadError> {
    options.validate()?;
    let target = Target::of(&options.url)?;
    let wanted = u64::from(options.connections) + u64::from(options.watchers()) + FILES_BESIDES;
    open_files(wanted)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|source| LoadError::Io { what: "start the threads".to_owned(), source })?;
    let report = runtime.block_on(async {
        tokio::select! {
            report = rehearse(target, options) => report,
            _ = tokio::signal::ctrl_c() => Err(LoadError::Interrupted),
        }
    });
    // The crowd of an interrupted run ends with the process.
    runtime.shutdown_background();
    report
}

/// Raises the limit of open files: each connection is one.
fn open_files(wanted: u64) -> Result<(), LoadError> {
    let failed = |source| LoadError::Io { what: format!("open {wanted} files (ulimit -n)"), source };
    match raise_open_files().map_err(failed)? {
        most if most >= wanted => Ok(()),
        most => Err(failed(io::Error::other(format!("the limit is {most}")))),
    }
}

async fn rehearse(target: Target, options: &LoadOptions) -> Result<LoadReport, LoadError> {
    let ceiling = ceiling::measure(options.connections).await;
    let ceiling = ceiling.map_err(|source| LoadError::Io { what: "measure the client".to_owned(), source })?;
    let run = format!("{:08x}", rand::random::<u32>());
    eprintln!("creating {} accounts and what they order from", options.accounts);
    let setup = setup::set(&target, options, &run).await?;
    let watch = match options.watchers() {
        0 => None,
        sessions => Some(Watch::open(&target, &setup.drops[0], sessions).await?),
    };
    let pace = options.rate().map(|rate| Pace::new(rate, options.duration(), options.shape));
    let began = Instant::now();
    let counters = Counters::new(cores::count());
    let crowd = Arc::new(Crowd { target, options: options.clone(), setup, counters, pace, watch, run, began });
    let display = progress(seconds(Arc::clone(&crowd)));
    let shared = Arc::clone(&crowd);
    let buyers = cores::run(options.connections, move |task| Buyer::new(task).work(Arc::clone(&shared))).await;
    let memories = buyers.map_err(|source| LoadError::Io { what: "start the crowd".to_owned(), source })?;
    let seconds = began.elapsed().as_secs_f64();
    display.abort();
    let watched = match &crowd.watch {
        Some(watch) => Some(watch.finish(seconds).await),
        None => None,
    };
    let mut audit = audit::audit(&crowd, memories).await;
    let watched = watched.map(|(watched, findings)| {
        audit.findings.extend(findings);
        watched
    });
    Ok(LoadReport::new(
        options,
        seconds,
        ceiling,
        (crowd.counters.rows(), crowd.counters.seconds(), crowd.counters.sold_out_at()),
        watched,
        audit,
    ))
}

/// A progress line about the last complete second.
fn seconds(crowd: Arc<Crowd>) -> impl FnMut(u64) -> Option<String> {
    move |_| {
        let Second { at, accepted, refused, failed, waits } = crowd.counters.before(crowd.began.elapsed())?;
        Some(format!(
            "{:>4} s  accepted {accepted:>8}  refused {refused:>8}  failed {failed:>6}  p50 {:>8.2} ms  p99 {:>8.2} ms",
            at + 1,
            waits.p50,
            waits.p99
        ))
    }
}
