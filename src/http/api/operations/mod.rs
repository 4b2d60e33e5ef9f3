//! Routes for operators and for developers of clients.

pub mod browser;
pub mod health;
pub mod metrics;
pub mod probes;
pub mod routes;
