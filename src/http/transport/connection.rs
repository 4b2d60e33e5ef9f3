//! One connection, as seen from outside its task: its slot, its activity, its sending rate, and a way to abort it.
//!
//! The task owns the socket; outside of it only the descriptor's number is known. `pidfd_getfd` (Linux 5.6) makes a
//! second descriptor from that number when it is needed, so that sessions cost one descriptor and not two. If that is
//! not allowed, each connection keeps a duplicate from the start.

use super::admission::{Admission, Connections, give_back, take};
use crate::domain::limits::UNSENT_BYTES_PER_CONNECTION_MAX;
use crate::service::AbortHandle;
use actix_web::rt::net::TcpStream;
use rustix::fd::OwnedFd;
use rustix::net::{Shutdown, shutdown, sockopt};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};

/// Bytes sent and not acknowledged, for a session; the kernel doubles it for its own needs. Without it the kernel would
/// buffer megabytes for a client that does not read, and the session's own bound would take effect much later.
const SEND_BUFFER_BYTES: usize = 64 << 10;

/// Kept alive by the socket and by each running request. Only the connection's own worker writes its fields, so they
/// are loaded and stored without a locked instruction; they are atomic because others may hold a weak reference.
pub struct Connection {
    handle: Handle,
    admission: Admission,
    /// Requests without a complete answer.
    requests: AtomicU32,
    /// The round of its worker's watch in which it last had a request.
    busy_round: AtomicU32,
    /// A session has the socket, and checks its own timeouts.
    left_http: AtomicBool,
    /// The socket is closed, or about to be: the descriptor's number may belong to another one.
    closed: AtomicBool,
    /// It has an event stream, which is slow by nature and has bounds of its own.
    streams_events: AtomicBool,
    /// Bytes that the socket has accepted.
    taken: AtomicU64,
    /// The socket did not accept the last write.
    is_blocked: AtomicBool,
    /// In how many rounds in a row it was blocked, and `taken` in the first of them.
    blocked_rounds: AtomicU32,
    taken_when_blocked: AtomicU64,
    /// Bytes of large answers that wait for its client.
    unsent: AtomicUsize,
}

enum Handle {
    Number(RawFd),
    Duplicate(OwnedFd),
}

/// Descriptors that one connection takes on this system.
#[must_use]
pub fn descriptors_per_connection() -> usize {
    // Any descriptor will do; 1 is standard output, or its replacement.
    if borrowed(1).is_ok() { 1 } else { 2 }
}

/// A new descriptor for the socket of that number. The caller runs on the connection's own thread, where the connection
/// cannot close in between.
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

impl AbortHandle for Connection {
    fn abort(&self) {
        self.abort();
    }
}

impl Connection {
    /// A new connection. `None` if its descriptor has to be duplicated and cannot be.
    #[must_use]
    pub fn new(socket: &TcpStream, admission: Admission, round: u32) -> Option<Self> {
        static BY_NUMBER: OnceLock<bool> = OnceLock::new();
        let number = socket.as_raw_fd();
        let handle = if *BY_NUMBER.get_or_init(|| borrowed(number).is_ok()) {
            Handle::Number(number)
        } else {
            Handle::Duplicate(socket.as_fd().try_clone_to_owned().ok()?)
        };
        Some(Self::with(handle, admission, round))
    }

    fn with(handle: Handle, admission: Admission, round: u32) -> Self {
        Self {
            handle,
            admission,
            requests: AtomicU32::new(0),
            busy_round: AtomicU32::new(round),
            left_http: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            streams_events: AtomicBool::new(false),
            taken: AtomicU64::new(0),
            is_blocked: AtomicBool::new(false),
            blocked_rounds: AtomicU32::new(0),
            taken_when_blocked: AtomicU64::new(0),
            unsent: AtomicUsize::new(0),
        }
    }

    /// Aborts the connection. Returns whether that worked: without a free descriptor it did not, and should be retried.
    pub fn abort(&self) -> bool {
        if self.closed.load(Ordering::Relaxed) {
            return true;
        }
        // A socket that is no longer connected has ended, too.
        match &self.handle {
            Handle::Number(number) => borrowed(*number).map(|socket| shutdown(socket, Shutdown::Both)).is_ok(),
            Handle::Duplicate(socket) => {
                let _ = shutdown(socket, Shutdown::Both);
                true
            }
        }
    }

    /// The counts that the connection belongs to.
    #[must_use]
    pub fn connections(&self) -> &Connections {
        self.admission.connections()
    }

    /// Limits the socket's send buffer from now on.
    pub fn bound_sending(&self) {
        // An unlimited socket still works.
        let _ = match &self.handle {
            Handle::Number(number) => {
                borrowed(*number).and_then(|socket| sockopt::set_socket_send_buffer_size(socket, SEND_BUFFER_BYTES))
            }
            Handle::Duplicate(socket) => sockopt::set_socket_send_buffer_size(socket, SEND_BUFFER_BYTES),
        };
    }

    /// Records that the socket is about to close.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
        self.admission.leave();
    }

    /// Records that a session has the socket: it checks its own timeouts.
    pub fn leave_http(&self) {
        self.left_http.store(true, Ordering::Relaxed);
        self.admission.leave_requests();
    }

    /// Whether a session has the socket.
    #[must_use]
    pub fn has_left_http(&self) -> bool {
        self.left_http.load(Ordering::Relaxed)
    }

    /// Records a request whose head has arrived.
    pub fn begin_request(&self) {
        self.requests.store(self.requests.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    /// Records the end of a request: its answer is handed over, or given up.
    pub fn end_request(&self, round: u32) {
        self.requests.store(self.requests.load(Ordering::Relaxed).saturating_sub(1), Ordering::Relaxed);
        self.busy_round.store(round, Ordering::Relaxed);
        self.streams_events.store(false, Ordering::Relaxed);
    }

    /// Records that the answer is an event stream.
    pub fn stream_events(&self) {
        self.streams_events.store(true, Ordering::Relaxed);
    }

    /// Rounds since the last request; 0 during one.
    #[must_use]
    pub fn idle_rounds(&self, round: u32) -> u32 {
        let idle = self.requests.load(Ordering::Relaxed) == 0;
        if idle { round.wrapping_sub(self.busy_round.load(Ordering::Relaxed)) } else { 0 }
    }

    /// Records bytes that the socket has accepted.
    pub fn took(&self, bytes: usize) {
        self.taken.store(self.taken.load(Ordering::Relaxed) + bytes as u64, Ordering::Relaxed);
        self.is_blocked.store(false, Ordering::Relaxed);
    }

    /// Records a write that the socket did not accept: the client reads too slowly, or not at all.
    pub fn blocked(&self) {
        self.is_blocked.store(true, Ordering::Relaxed);
    }

    /// Checks once a round whether the socket is blocked. After `rounds` blocked rounds in a row it returns the bytes
    /// accepted meanwhile, and starts counting anew.
    #[must_use]
    pub fn taken_while_blocked(&self, rounds: u32) -> Option<u64> {
        let taken = self.taken.load(Ordering::Relaxed);
        if !self.is_blocked.load(Ordering::Relaxed) || self.streams_events.load(Ordering::Relaxed) {
            self.blocked_rounds.store(0, Ordering::Relaxed);
            return None;
        }
        let before = self.blocked_rounds.load(Ordering::Relaxed);
        let since = self.taken_when_blocked.load(Ordering::Relaxed);
        let over = before >= rounds;
        if before == 0 || over {
            self.taken_when_blocked.store(taken, Ordering::Relaxed);
        }
        self.blocked_rounds.store(if over { 1 } else { before + 1 }, Ordering::Relaxed);
        over.then(|| taken - since)
    }

    /// Reserves room for a large answer. Returns whether there was room: a single answer has it always, within the
    /// server's bound.
    #[must_use]
    pub fn take_unsent(&self, bytes: usize) -> bool {
        let alone = self.unsent.load(Ordering::Relaxed) == 0;
        let max = if alone { usize::MAX } else { UNSENT_BYTES_PER_CONNECTION_MAX };
        let taken = take(&self.unsent, bytes, max);
        if taken && !self.connections().take_unsent(bytes) {
            give_back(&self.unsent, bytes);
            return false;
        }
        taken
    }

    /// Frees room that [`Self::take_unsent`] reserved.
    pub fn give_back_unsent(&self, bytes: usize) {
        give_back(&self.unsent, bytes);
        self.connections().give_back_unsent(bytes);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::admission::ConnectionBounds;
    use super::*;
    use crate::domain::limits::UNSENT_BYTES_MAX;
    use std::io::Read;
    use std::net::{TcpListener, TcpStream as Socket};

    /// A connection, the client's socket, and its own socket.
    pub fn connected(by_number: bool) -> (Connection, Socket, Socket) {
        let bounds = ConnectionBounds { open_max: 10, requests_max: 10, per_address_max: None };
        let admission = Connections::new(bounds, "".parse().unwrap()).admit(None).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = Socket::connect(listener.local_addr().unwrap()).unwrap();
        let (owned, _) = listener.accept().unwrap();
        let handle = if by_number {
            Handle::Number(owned.as_raw_fd())
        } else {
            Handle::Duplicate(owned.as_fd().try_clone_to_owned().unwrap())
        };
        (Connection::with(handle, admission, 0), client, owned)
    }

    #[test]
    fn a_cut_ends_a_connection_that_somebody_else_owns() {
        for by_number in [true, false] {
            let (connection, mut client, owned) = connected(by_number);
            if by_number && borrowed(owned.as_raw_fd()).is_err() {
                continue;
            }
            connection.abort();
            assert_eq!(client.read(&mut [0; 1]).unwrap(), 0);
        }
    }

    #[test]
    fn a_closed_connection_cuts_nobody_else() {
        let (connection, mut client, _owned) = connected(false);
        connection.close();
        connection.abort();
        client.set_nonblocking(true).unwrap();
        let open = client.read(&mut [0; 1]).is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock);
        assert!(open, "its number may be another connection's");
    }

    #[test]
    fn only_blocked_connections_are_measured() {
        let (connection, _client, _owned) = connected(false);
        let look = || connection.taken_while_blocked(3);
        connection.took(1_000);
        assert_eq!([look(), look(), look(), look()], [None; 4], "it takes what there is");
        connection.blocked();
        assert_eq!([look(), look(), look()], [None; 3]);
        connection.took(500);
        connection.blocked();
        assert_eq!(look(), Some(500));
        assert_eq!([look(), look()], [None; 2]);
        assert_eq!(look(), Some(0), "and from there");
        connection.took(1);
        assert_eq!(look(), None, "it is not blocked any more");
        connection.blocked();
        assert_eq!([look(), look(), look()], [None; 3], "counting begins anew");
        connection.stream_events();
        assert_eq!([look(), look(), look(), look(), look()], [None; 5], "an event stream has a bound of its own");
        connection.begin_request();
        connection.end_request(1);
        assert_eq!([look(), look(), look(), look()], [None, None, None, Some(0)]);
    }

    #[test]
    fn room_for_unsent_bytes_has_two_bounds() {
        let (connection, _client, _owned) = connected(false);
        assert!(connection.take_unsent(UNSENT_BYTES_PER_CONNECTION_MAX + 1), "one answer alone");
        assert!(!connection.take_unsent(1));
        connection.give_back_unsent(UNSENT_BYTES_PER_CONNECTION_MAX + 1);
        assert!(!connection.take_unsent(UNSENT_BYTES_MAX + 1));
        assert!(connection.take_unsent(UNSENT_BYTES_PER_CONNECTION_MAX - 1));
        assert!(!connection.connections().is_crowded());
        let others = connection.connections();
        assert!(others.take_unsent(UNSENT_BYTES_MAX - UNSENT_BYTES_PER_CONNECTION_MAX + 1));
        assert!(others.is_crowded());
        assert!(!connection.take_unsent(1), "all connections together have a bound");
        connection.give_back_unsent(UNSENT_BYTES_PER_CONNECTION_MAX - 1);
        assert!(connection.take_unsent(1));
    }
}
