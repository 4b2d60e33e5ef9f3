//! Why the demo could not be played to its end.

use crate::console::{EXIT_INTERRUPTED, EXIT_UNABLE};
use std::path::PathBuf;

/// Why the demo could not be played to its end.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// An option is out of bounds.
    #[error("{0}")]
    Option(String),
    /// The system refused something.
    #[error("could not {what}: {source}")]
    Io { what: &'static str, source: std::io::Error },
    /// The server did not start, or died.
    #[error("{0}")]
    Server(String),
    /// A call that the demo cannot do without was refused.
    #[error("could not {what}: {why}")]
    Setup { what: &'static str, why: String },
    /// One of the above; the server's log and data were kept.
    #[error("{source}\nThe server's log and data: {}", dir.display())]
    Kept { source: Box<DemoError>, dir: PathBuf },
    /// Ctrl-C, or SIGTERM.
    #[error("interrupted")]
    Interrupted,
}

impl DemoError {
    /// What the process ends with.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Interrupted => EXIT_INTERRUPTED,
            _ => EXIT_UNABLE,
        }
    }
}
