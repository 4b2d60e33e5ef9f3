//! A way to end a connection that its own task does not end: a client that does not read freezes the task that writes to it
//! (actix-web#2441), and actix-http waits for ever for the rest of a later request's head.
//!
//! The task owns the socket, and outside of it only the number of its descriptor is known. `pidfd_getfd` (Linux 5.6) makes a
//! descriptor of our own from that number at the moment it is needed, so that sessions cost one descriptor and not two. Where
//! that is not allowed, each connection keeps a duplicate from its beginning.

use crate::service::Lifeline;
use actix_http::Request;
use actix_web::HttpRequest;
use actix_web::body::{BodySize, MessageBody};
use actix_web::dev::Extensions;
use actix_web::rt::net::TcpStream;
use bytes::Bytes;
use pin_project_lite::pin_project;
use rustix::fd::OwnedFd;
use rustix::net::{Shutdown, shutdown, sockopt};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
use std::cell::{Cell, RefCell};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

/// Lives as long as its connection does: actix-web, or the session that has taken the socket over, keeps it beside that. Each request that is being answered holds one more.
struct Connection {
    handle: Handle,
    /// The round (of its worker's [`Watch`]) in which it last had a request.
    busy: AtomicU32,
    /// Nobody asks there any more: a session has a clock of its own.
    left_http: AtomicBool,
}

enum Handle {
    Number(RawFd),
    Duplicate(OwnedFd),
}

impl Lifeline for Connection {
    fn cut(&self) {
        // One that is gone already needs no cutting, so failures are silent.
        match &self.handle {
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
        let _ = match &self.handle {
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

/// How long a connection may be without a request, counted in rounds.
const ROUNDS: u32 = 8;

/// The connections of one worker. actix-http closes one that waits for its next request in silence, and has no bound for one that
/// has begun to send it: whoever never ends a head is ended here.
#[derive(Default)]
struct Watch {
    round: Cell<u32>,
    connections: RefCell<Vec<Weak<Connection>>>,
}

thread_local! {
    static WATCH: Watch = Watch::default();
}

impl Watch {
    /// Goes round for as long as the worker lives.
    async fn walk(every: Duration) {
        let mut rounds = tokio::time::interval(every);
        loop {
            rounds.tick().await;
            WATCH.with(Self::sweep);
        }
    }

    /// Ends who has been without a request for longer than [`ROUNDS`], and forgets who is gone.
    fn sweep(&self) {
        let round = self.round.get().wrapping_add(1);
        self.round.set(round);
        self.connections.borrow_mut().retain(|connection| {
            let Some(connection) = connection.upgrade() else { return false };
            if connection.left_http.load(Ordering::Relaxed) {
                return false;
            }
            // The socket's own, and the one in hand.
            let answering = Arc::strong_count(&connection) > 2;
            if !answering && round.wrapping_sub(connection.busy.load(Ordering::Relaxed)) > ROUNDS {
                connection.cut();
                return false;
            }
            true
        });
    }

    fn add(&self, connection: &Arc<Connection>, idle_max: Duration) {
        let mut connections = self.connections.borrow_mut();
        if connections.capacity() == 0 {
            actix_web::rt::spawn(Self::walk(idle_max / ROUNDS));
        }
        connections.push(Arc::downgrade(connection));
    }
}

/// Keeps a lifeline with a new connection, to be called from `on_connect`. It is cut when it has had no request for `idle_max`, and
/// up to an eighth more: longer than actix-http needs for what it notices itself.
pub fn attach(socket: &TcpStream, connection: &mut Extensions, idle_max: Duration) {
    static BY_NUMBER: OnceLock<bool> = OnceLock::new();
    let number = socket.as_raw_fd();
    let handle = if *BY_NUMBER.get_or_init(|| borrowed(number).is_ok()) {
        Some(Handle::Number(number))
    } else {
        socket.as_fd().try_clone_to_owned().ok().map(Handle::Duplicate)
    };
    let Some(handle) = handle else { return };
    WATCH.with(|watch| {
        let attached =
            Arc::new(Connection { handle, busy: AtomicU32::new(watch.round.get()), left_http: AtomicBool::new(false) });
        watch.add(&attached, idle_max);
        connection.insert(attached);
    });
}

/// Keeps a connection's lifeline alive beside a socket that leaves HTTP.
pub struct Line(Arc<Connection>);

impl Line {
    /// Of the connection that a request came by.
    #[must_use]
    pub fn of(request: &Request) -> Option<Self> {
        request.conn_data::<Arc<Connection>>().map(|connection| Self(Arc::clone(connection)))
    }

    /// From now on a session decides how long it lives.
    pub fn left_http(&self) {
        self.0.left_http.store(true, Ordering::Relaxed);
    }
}

/// A request that is being answered: its connection is not idle.
pub struct Attended(Option<Arc<Connection>>);

impl Attended {
    /// From the request's head on.
    pub fn of(request: &HttpRequest) -> Self {
        Self(request.conn_data::<Arc<Connection>>().map(Arc::clone))
    }

    /// Until the last of its answer is handed over.
    pub fn until_sent<B>(self, body: B) -> Body<B> {
        Body { body, _attended: self }
    }
}

impl Drop for Attended {
    fn drop(&mut self) {
        if let Some(connection) = &self.0 {
            // Requests end on their worker's thread.
            WATCH.with(|watch| connection.busy.store(watch.round.get(), Ordering::Relaxed));
        }
    }
}

pin_project! {
    /// An answer's body, and the request that it answers.
    pub struct Body<B> {
        #[pin]
        body: B,
        _attended: Attended,
    }
}

impl<B: MessageBody> MessageBody for Body<B> {
    type Error = B::Error;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        self.project().body.poll_next(context)
    }

    fn try_into_bytes(self) -> Result<Bytes, Self> {
        let Self { body, _attended } = self;
        body.try_into_bytes().map_err(|body| Self { body, _attended })
    }
}

/// The lifeline of a request's connection, which becomes a session's: from now on little waits in its socket.
#[must_use]
pub fn of(request: &HttpRequest) -> Option<Weak<dyn Lifeline>> {
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

    fn connection(handle: Handle) -> Connection {
        Connection { handle, busy: AtomicU32::new(0), left_http: AtomicBool::new(false) }
    }

    #[test]
    fn who_has_no_request_for_too_long_is_cut_and_forgotten() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = Socket::connect(listener.local_addr().unwrap()).unwrap();
        client.set_nonblocking(true).unwrap();
        let (owned, _) = listener.accept().unwrap();
        let kept = Arc::new(connection(Handle::Duplicate(owned.into())));
        WATCH.with(|watch| {
            watch.connections.borrow_mut().push(Arc::downgrade(&kept));
            let mut open_after = |rounds: u32| {
                (0..rounds).for_each(|_| watch.sweep());
                client.read(&mut [0; 1]).is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
            };
            let attended = Attended(Some(Arc::clone(&kept)));
            assert!(open_after(100), "an answer may take its time");
            drop(attended);
            assert!(open_after(ROUNDS));
            drop(Attended(Some(Arc::clone(&kept))));
            assert!(open_after(ROUNDS), "a request was there");
            assert!(!open_after(1));
            assert!(watch.connections.borrow().is_empty());
        });
    }

    #[test]
    fn who_has_become_a_session_is_not_watched() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = Socket::connect(listener.local_addr().unwrap()).unwrap();
        client.set_nonblocking(true).unwrap();
        let (owned, _) = listener.accept().unwrap();
        let line = Line(Arc::new(connection(Handle::Duplicate(owned.into()))));
        WATCH.with(|watch| {
            watch.connections.borrow_mut().push(Arc::downgrade(&line.0));
            line.left_http();
            (0..100).for_each(|_| watch.sweep());
            assert!(watch.connections.borrow().is_empty());
        });
        assert!(client.read(&mut [0; 1]).is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock));
        line.0.cut();
        client.set_nonblocking(false).unwrap();
        assert_eq!(client.read(&mut [0; 1]).unwrap(), 0);
    }

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
            connection(handle).cut();
            assert_eq!(client.read(&mut [0; 1]).unwrap(), 0);
            drop(owned);
        }
    }
}
