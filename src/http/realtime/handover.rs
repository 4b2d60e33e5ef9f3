//! How a handler leaves a session for the connection that it came by.

use super::session::{Session, Wanted};
use std::rc::Rc;

/// Found in the extensions of a request whose connection can leave HTTP.
pub(in crate::http) struct Upgradable;

/// A session that waits for its socket.
pub(in crate::http) struct Opened {
    pub session: Rc<Session>,
    pub wanted: Wanted,
}
