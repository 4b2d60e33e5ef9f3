//! The server's sockets: admission, memory and timeouts of connections, TLS and HTTP/2.

pub mod accept;
pub mod admission;
pub mod arriving;
pub mod connection;
pub mod http2;
pub mod liveness;
pub mod metrics;
pub mod server;
pub mod sizes;
pub mod socket;
pub mod tls;
pub mod unsent;
pub mod watch;

pub use admission::{ConnectionBounds, Connections};
pub use watch::KeepTask;
