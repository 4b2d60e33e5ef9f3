//! State shared by the requests of one connection.

use super::settings::Settings;
use crate::http::transport::connection::Connection;
use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

/// The application and the counters of one connection.
pub(in crate::http::transport) struct Shared<S> {
    pub service: Rc<S>,
    pub connection: Arc<Connection>,
    pub peer: Option<SocketAddr>,
    pub settings: Settings,
    /// Bytes of all bodies handed over to the client.
    pub taken: Cell<u64>,
}
