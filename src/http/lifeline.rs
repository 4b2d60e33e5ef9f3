//! A way to end a connection that its own task cannot end: a client that does not read freezes the task that writes to it
//! (actix-web#2441).
//!
//! The task owns the socket, and outside of it only the number of its descriptor is known. `pidfd_getfd` (Linux 5.6) makes a
//! descriptor of our own from that number at the moment it is needed, so that sessions cost one descriptor and not two. Where
//! that is not allowed, each connection keeps a duplicate from its beginning.

use crate::service::Lifeline;
use actix_web::dev::Extensions;
use actix_web::rt::net::TcpStream;
use rustix::fd::OwnedFd;
use rustix::net::{Shutdown, shutdown, sockopt};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::{Arc, OnceLock, Weak};

/// Lives as long as its connection does: actix-web keeps it beside the socket.
struct Connection(Handle);

enum Handle {
    Number(RawFd),
    Duplicate(OwnedFd),
}

impl Lifeline for Connection {
    fn cut(&self) {
        // One that is gone already needs no cutting, so failures are silent.
        match &self.0 {
            Handle::Number(number) => {
                let _ = borrowed(*number).map(|socket| shutdown(socket, Shutdown::Both));
            }
            Handle::Duplicate(socket) => {
                let _ = shutdown(socket, Shutdown::Both);
            }
        }
    }
}

/// Bytes of what is sent and not acknowledged, for a session; the kernel doubles it for its own needs. By itself it would let
/// this grow to megabytes for a client that does not read, and the session's own bound would come long after.
const SEND_BUFFER_BYTES: usize = 64 << 10;

impl Connection {
    fn bound_sending(&self) {
        // One that cannot be bounded still works.
        let _ = match &self.0 {
            Handle::Number(number) => {
                borrowed(*number).and_then(|socket| sockopt::set_socket_send_buffer_size(socket, SEND_BUFFER_BYTES))
            }
            Handle::Duplicate(socket) => sockopt::set_socket_send_buffer_size(socket, SEND_BUFFER_BYTES),
        };
    }
}

/// A descriptor of our own for the socket of that number. Whoever asks runs on the connection's own thread, where the
/// connection cannot close in between.
fn borrowed(number: RawFd) -> rustix::io::Result<OwnedFd> {
    static OURSELVES: OnceLock<OwnedFd> = OnceLock::new();
    let ourselves = match OURSELVES.get() {
        Some(ourselves) => ourselves,
        None => {
            let opened = pidfd_open(getpid(), PidfdFlags::empty())?;
            OURSELVES.get_or_init(|| opened)
        }
    };
    pidfd_getfd(ourselves, number, PidfdGetfdFlags::empty())
}

/// Keeps a lifeline with a new connection, to be called from `on_connect`.
pub fn attach(socket: &TcpStream, connection: &mut Extensions) {
    static BY_NUMBER: OnceLock<bool> = OnceLock::new();
    let number = socket.as_raw_fd();
    let handle = if *BY_NUMBER.get_or_init(|| borrowed(number).is_ok()) {
        Some(Handle::Number(number))
    } else {
        socket.as_fd().try_clone_to_owned().ok().map(Handle::Duplicate)
    };
    if let Some(handle) = handle {
        connection.insert(Arc::new(Connection(handle)));
    }
}

/// The lifeline of a request's connection, which becomes a session's: from now on little waits in its socket.
#[must_use]
pub fn of(request: &actix_web::HttpRequest) -> Option<Weak<dyn Lifeline>> {
    let connection = request.conn_data::<Arc<Connection>>()?;
    connection.bound_sending();
    let line: Arc<dyn Lifeline> = Arc::<Connection>::clone(connection);
    Some(Arc::downgrade(&line))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::net::{TcpListener, TcpStream as Socket};

    #[test]
    fn a_cut_ends_a_connection_that_somebody_else_owns() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        for by_number in [true, false] {
            let mut client = Socket::connect(listener.local_addr().unwrap()).unwrap();
            let (owned, _) = listener.accept().unwrap();
            let handle = if by_number {
                if borrowed(owned.as_raw_fd()).is_err() {
                    continue;
                }
                Handle::Number(owned.as_raw_fd())
            } else {
                Handle::Duplicate(owned.as_fd().try_clone_to_owned().unwrap())
            };
            Connection(handle).cut();
            assert_eq!(client.read(&mut [0; 1]).unwrap(), 0);
            drop(owned);
        }
    }
}
