//! What the requests of one connection share.

use super::settings::Settings;
use crate::http::transport::connection::Connection;
use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

/// What the requests of one connection share.
pub(in crate::http::transport) struct Shared<S> {
    pub service: Rc<S>,
    pub connection: Arc<Connection>,
    pub peer: Option<SocketAddr>,
    pub settings: Settings,
    /// Bytes of bodies that were handed over, in all.
    pub taken: Cell<u64>,
}
