//! Why there is no report.

use crate::console::{EXIT_INTERRUPTED, EXIT_UNABLE};

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
