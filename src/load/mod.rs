//! `livedrop load`: a crowd for rehearsals, against any LiveDrop, and an audit of what the server told it.
//!
//! - `options` is what it can be told; `stage` sets up what the crowd comes for.
//! - `crowd` asks, over a [`line`](self) a task, when the `pace` of an open loop says so or as fast as answers come; `cores` is where it does.
//! - `watch` listens meanwhile.
//! - `tally` counts what it saw, `ceiling` what the client itself can do, `audit` asks everything again.
//! - `report` and `plot` show it.

mod audit;
mod ceiling;
mod cores;
mod crowd;
mod line;
mod options;
mod pace;
mod plot;
mod report;
mod stage;
mod tally;
mod watch;

pub use audit::Audit;
pub use options::{LoadOptions, Scenario, Shape};
pub use report::LoadReport;
pub use tally::{Kind, Row, Second, Verdict, Waits};
pub use watch::Watched;

use crate::http::server::raise_open_files;
use crowd::{Buyer, Crowd};
use pace::Pace;
use std::io::{self, IsTerminal};
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tally::Tally;
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

/// Runs a rehearsal on a runtime of its own, and writes the files that were asked for. Progress goes to standard error.
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
    let report = runtime.block_on(rehearse(target, options))?;
    if let Some(path) = options.json.as_deref() {
        let json = serde_json::to_string_pretty(&report).expect("a report of plain fields") + "\n";
        if path == Path::new("-") { print!("{json}") } else { write(path, &json)? }
    }
    if let Some(path) = options.html.as_deref() {
        write(path, &plot::page(&report))?;
    }
    Ok(report)
}

fn write(path: &Path, text: &str) -> Result<(), LoadError> {
    std::fs::write(path, text).map_err(|source| LoadError::Io { what: format!("write {}", path.display()), source })
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
    let stage = stage::set(&target, options, &run).await?;
    let watch = match options.watchers() {
        0 => None,
        sessions => Some(Watch::open(&target, &stage.drops[0], sessions).await?),
    };
    let pace = options.rate().map(|rate| Pace::new(rate, options.duration(), options.shape));
    let began = Instant::now();
    let tally = Tally::new(cores::count());
    let crowd = Arc::new(Crowd { target, options: options.clone(), stage, tally, pace, watch, run, began });
    let display = tokio::spawn(display(Arc::clone(&crowd)));
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

/// One line a second, for whoever watches.
async fn display(crowd: Arc<Crowd>) {
    if !std::io::stderr().is_terminal() {
        return;
    }
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        if let Some(Second { at, accepted, refused, failed, waits }) = crowd.tally.before(crowd.began.elapsed()) {
            eprintln!(
                "{:>4} s  accepted {accepted:>8}  refused {refused:>8}  failed {failed:>6}  p50 {:>8.2} ms  p99 {:>8.2} ms",
                at + 1,
                waits.p50,
                waits.p99
            );
        }
    }
}
