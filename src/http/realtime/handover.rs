//! Passes a session from its handler to the connection of the request.

use super::session::{Session, Wanted};
use std::rc::Rc;

/// A marker in a request's extensions: its connection can leave HTTP.
pub(in crate::http) struct Upgradable;

/// A session without a socket yet.
pub(in crate::http) struct Opened {
    pub session: Rc<Session>,
    pub wanted: Wanted,
}
