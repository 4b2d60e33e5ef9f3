//! The settings of HTTP/2 connections.

use crate::http::transport::watch::Timeouts;
use std::time::Duration;

/// The settings of a worker's connections.
#[derive(Clone, Copy, Debug)]
pub(in crate::http::transport) struct Settings {
    /// Time limit of the connection's preface.
    pub head_timeout: Duration,
    /// How long an idle connection waits for a request.
    pub keep_alive: Duration,
    /// The slowest rate of reading answers.
    pub timeouts: Timeouts,
}
