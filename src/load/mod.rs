//! `livedrop load`: a crowd for rehearsals, against any LiveDrop, and an audit of what the server told it.
//!
//! - `options` is what it can be told; `stage` sets up what the crowd comes for.
//! - `crowd` asks, over a [`line`](self) a task, when the `pace` of an open loop says so or as fast as answers come; `cores` is where it does.
//! - `watch` listens meanwhile.
//! - `tally` counts what it saw, `ceiling` what the client itself can do, `audit` asks everything again.
//! - `report`, `page` and `plot` show it; `machine` says where it was.

mod audit;
mod ceiling;
mod cores;
mod crowd;
mod line;
mod machine;
mod options;
mod pace;
mod page;
mod plot;
mod report;
mod stage;
mod tally;
mod watch;

pub use audit::Audit;
pub use machine::Machine;
pub use options::{LoadOptions, Scenario, Shape};
pub use page::page;
pub use report::LoadReport;
pub use tally::{Kind, Row, Second, Verdict, Waits};
pub use watch::Watched;

use crate::console::{EXIT_INTERRUPTED, EXIT_UNABLE, progress_interval};
use crate::http::server::raise_open_files;
use crowd::{Buyer, Crowd};
use pace::Pace;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Instant;
use tally::Tally;
use tokio::task::JoinHandle;
use watch::Watch;

/// Files that the process has open besides its connections.
const FILES_BESIDES: u64 = 64;

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// An option is out of bounds, or the address is none.
    #[error("{0}")]
    Option(String),
    /// The server refused what the run cannot do without.
    #[error("could not set up the run: {0}")]
    Setup(String),
    /// The system refused something.
    #[error("could not {what}: {source}")]
    Io { what: String, source: std::io::Error },
    /// Ctrl-C. What the crowd had done stays on the server.
    #[error("interrupted")]
    Interrupted,
}

impl LoadError {
    /// What the process ends with.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Interrupted => EXIT_INTERRUPTED,
            _ => EXIT_UNABLE,
        }
    }
}

/// The server that is asked.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    address: SocketAddr,
    /// For the `Host` header.
    host: String,
}

impl Target {
    fn of(url: &str) -> Result<Self, LoadError> {
        let wrong = |why: &str| LoadError::Option(format!("--url {url}: {why}"));
        let parsed = url::Url::parse(url).map_err(|error| wrong(&error.to_string()))?;
        if parsed.scheme() != "http" {
            return Err(wrong("only http:// is spoken; behind TLS, ask the server past its proxy"));
        }
        let host = parsed.host_str().ok_or_else(|| wrong("it has no host"))?;
        let port = parsed.port_or_known_default().unwrap_or(80);
        let name = host.trim_matches(['[', ']']);
        let address = (name, port).to_socket_addrs().map_err(|error| wrong(&error.to_string()))?.next();
        Ok(Self { address: address.ok_or_else(|| wrong("its host has no address"))?, host: format!("{host}:{port}") })
    }
}

/// Runs a rehearsal on a runtime of its own. Progress goes to standard error; writing the [`LoadReport`] is the caller's.
///
/// # Errors
/// [`LoadError`] when there is nothing to report. A broken promise is no error: see [`LoadReport::is_clean`].
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
    // The crowd of a run that was interrupted ends with the process.
    runtime.shutdown_background();
    report
}

/// Each connection is an open file.
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
    eprintln!("setting up {} accounts and what they come for", options.accounts);
    let stage = stage::set(&target, options, &run).await?;
    let watch = match options.watchers() {
        0 => None,
        sessions => Some(Watch::open(&target, &stage.drops[0], sessions).await?),
    };
    let pace = options.rate().map(|rate| Pace::new(rate, options.duration(), options.shape));
    let began = Instant::now();
    let tally = Tally::new(cores::count());
    let crowd = Arc::new(Crowd { target, options: options.clone(), stage, tally, pace, watch, run, began });
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
    Ok(LoadReport::new(options, seconds, ceiling, (crowd.tally.rows(), crowd.tally.seconds()), watched, audit))
}

/// Says on standard error how far the work is, until it is aborted. `line` gets the seconds
/// so far, and has nothing to say where it returns `None`.
fn progress(mut line: impl FnMut(u64) -> Option<String> + Send + 'static) -> JoinHandle<()> {
    let every = progress_interval();
    tokio::spawn(async move {
        let began = Instant::now();
        loop {
            tokio::time::sleep(every).await;
            if let Some(line) = line(began.elapsed().as_secs()) {
                eprintln!("{line}");
            }
        }
    })
}

/// The last whole second of the crowd.
fn seconds(crowd: Arc<Crowd>) -> impl FnMut(u64) -> Option<String> {
    move |_| {
        let Second { at, accepted, refused, failed, waits } = crowd.tally.before(crowd.began.elapsed())?;
        Some(format!(
            "{:>4} s  accepted {accepted:>8}  refused {refused:>8}  failed {failed:>6}  p50 {:>8.2} ms  p99 {:>8.2} ms",
            at + 1,
            waits.p50,
            waits.p99
        ))
    }
}
