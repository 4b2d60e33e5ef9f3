//! How HTTP/2 connections are served.

use crate::http::transport::watch::Timeouts;
use std::time::Duration;

/// How a worker's connections are served.
#[derive(Clone, Copy, Debug)]
pub(in crate::http::transport) struct Settings {
    /// For the connection's preface.
    pub head_timeout: Duration,
    /// How long it may be without a request.
    pub keep_alive: Duration,
    /// How slowly answers may be taken.
    pub timeouts: Timeouts,
}
