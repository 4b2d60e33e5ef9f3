//! What every request passes, from the outside in.
//!
//! - [`trace`]: its trace (found by [`current_trace`]), panics, log line; [`headers`]: what every answer says. [`metrics`]: how long each route takes.
//! - [`cors`], [`origins`]: pages that may call. [`limits`], [`quota`]: how much one client may ask.
//! - [`guard`]: parameters that a route does not know, and panics of handlers.
//! - [`shutdown`]: answers while the server ends.

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
