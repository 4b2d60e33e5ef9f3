//! The middleware of every request, from the outside in.
//!
//! - [`trace`]: its trace (in [`current_trace`]), panics, log line; [`headers`]: security headers. [`metrics`]: the
//!   latency of each route.
//! - [`cors`], [`origins`]: pages of other origins. [`limits`], [`quota`]: rate limits of clients.
//! - [`guard`]: unknown parameters, and panics of handlers.
//! - [`shutdown`]: answers during the shutdown.

pub mod cors;
pub mod current_trace;
pub mod guard;
pub mod headers;
pub mod limits;
pub mod metrics;
pub mod origins;
pub mod quota;
pub mod shutdown;
pub mod trace;
