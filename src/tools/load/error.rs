//! Errors that end the run without a report.

use crate::console::{EXIT_INTERRUPTED, EXIT_UNABLE};

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// An option is out of bounds, or the URL is invalid.
    #[error("{0}")]
    Option(String),
    /// The server refused a necessary request.
    #[error("could not set up the run: {0}")]
    Setup(String),
    /// An operation of the system failed.
    #[error("could not {what}: {source}")]
    Io { what: String, source: std::io::Error },
    /// By Ctrl-C. The crowd's effects stay on the server.
    #[error("interrupted")]
    Interrupted,
}

impl LoadError {
    /// The exit code of the process.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Interrupted => EXIT_INTERRUPTED,
            _ => EXIT_UNABLE,
        }
    }
}
