//! Errors that end the demo early.

use crate::console::{EXIT_INTERRUPTED, EXIT_UNABLE};
use std::path::PathBuf;

/// Why the demo ended without a report.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// An option is out of bounds.
    #[error("{0}")]
    Option(String),
    /// An operation of the system failed.
    #[error("could not {what}: {source}")]
    Io { what: &'static str, source: std::io::Error },
    /// The server did not start, or exited early.
    #[error("{0}")]
    Server(String),
    /// A necessary call was refused.
    #[error("could not {what}: {why}")]
    Setup { what: &'static str, why: String },
    /// Another error; the server's log and data were kept.
    #[error("{source}\nThe server's log and data: {}", dir.display())]
    Kept { source: Box<DemoError>, dir: PathBuf },
    /// By Ctrl-C, or SIGTERM.
    #[error("interrupted")]
    Interrupted,
}

impl DemoError {
    /// The exit code of the process.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Interrupted => EXIT_INTERRUPTED,
            _ => EXIT_UNABLE,
        }
    }
}
