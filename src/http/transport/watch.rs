//! Checks all connections of a worker periodically, and aborts those without a request for too long and those that do
//! not read their answers.
//!
//! actix-http closes an idle connection, but has no bound for one that has begun to send a request, nor for one that
//! reads its answer slowly or not at all: a client may acknowledge everything and still never make room.

use super::connection::Connection;
use super::metrics::Abort;
use crate::domain::limits::{SEND_BYTES_PER_SECOND_CROWDED, SEND_BYTES_PER_SECOND_MIN};
use futures_util::future::LocalBoxFuture;
use std::cell::{Cell, RefCell};
use std::sync::{Arc, Weak};
use std::time::Duration;

/// Checks within the shorter of the two timeouts.
const ROUNDS: u32 = 8;

/// How long a connection may be inactive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timeouts {
    /// Without a request; longer than actix-http's own idle timeout.
    pub idle: Duration,
    /// The period in which a client must read [`Timeouts::bytes_min`], while an answer waits for it.
    pub send: Duration,
}

impl Timeouts {
    /// The interval of checks.
    fn round(self) -> Duration {
        self.idle.min(self.send) / ROUNDS
    }

    /// The number of checks in a period, rounded up.
    fn rounds(self, time: Duration) -> u32 {
        let round = self.round().as_nanos().max(1);
        u32::try_from(time.as_nanos().div_ceil(round)).unwrap_or(u32::MAX)
    }

    /// Bytes that a client must read within `send`; more while other answers wait for room.
    #[must_use]
    pub fn bytes_min(self, crowded: bool) -> u64 {
        let per_second = if crowded { SEND_BYTES_PER_SECOND_CROWDED } else { SEND_BYTES_PER_SECOND_MIN };
        u64::try_from(self.send.as_millis()).unwrap_or(u64::MAX).saturating_mul(per_second) / 1_000
    }
}

/// The connections of one worker.
#[derive(Default)]
struct Watch {
    round: Cell<u32>,
    connections: RefCell<Vec<Weak<Connection>>>,
}

thread_local! {
    static WATCH: Watch = Watch::default();
}

/// The current round of this worker.
pub(crate) fn round() -> u32 {
    WATCH.with(|watch| watch.round.get())
}

/// Supervises a worker's background task of that name: runs the closure's task, and restarts it when it panics or ends,
/// as long as the worker lives.
pub type KeepTask = Arc<dyn Fn(&'static str, BeginTask) -> LocalBoxFuture<'static, ()> + Send + Sync>;
/// Creates a background task, also for a restart.
pub type BeginTask = Box<dyn FnMut() -> LocalBoxFuture<'static, ()>>;

/// Watches a new connection of this worker until it is gone or becomes a session. It is aborted up to an eighth later
/// than the timeouts say. The first one starts the rounds, which `keep` supervises.
pub(super) fn add(connection: &Arc<Connection>, timeouts: Timeouts, keep: &KeepTask) {
    WATCH.with(|watch| {
        let mut connections = watch.connections.borrow_mut();
        if connections.capacity() == 0 {
            actix_web::rt::spawn(keep("connection_watch", Box::new(move || Box::pin(walk(timeouts)))));
        }
        connections.push(Arc::downgrade(connection));
    });
}

/// Runs the rounds as long as the worker lives.
async fn walk(timeouts: Timeouts) {
    let mut rounds = tokio::time::interval(timeouts.round());
    loop {
        rounds.tick().await;
        WATCH.with(|watch| watch.sweep(timeouts));
    }
}

impl Watch {
    /// Aborts slow and idle connections, and removes closed ones.
    fn sweep(&self, timeouts: Timeouts) {
        let round = self.round.get().wrapping_add(1);
        self.round.set(round);
        let (idle_rounds, send_rounds) = (timeouts.rounds(timeouts.idle), timeouts.rounds(timeouts.send));
        self.connections.borrow_mut().retain(|connection| {
            let Some(connection) = connection.upgrade() else { return false };
            if connection.has_left_http() {
                return false;
            }
            let taken = connection.taken_while_blocked(send_rounds);
            let too_slow = |taken| taken < timeouts.bytes_min(connection.connections().is_crowded());
            let abort = if taken.is_some_and(too_slow) {
                Abort::Slow
            } else if connection.idle_rounds(round) > idle_rounds {
                Abort::Idle
            } else {
                return true;
            };
            let aborted = connection.abort();
            if aborted {
                connection.connections().metrics().aborted(abort).inc();
            }
            !aborted
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::connection::tests::connected;
    use super::*;
    use std::io::Read;

    const TIMEOUTS: Timeouts = Timeouts { idle: Duration::from_secs(8), send: Duration::from_secs(16) };
    const IDLE_ROUNDS: u32 = 8;
    const SEND_ROUNDS: u32 = 16;

    fn is_open(client: &mut std::net::TcpStream) -> bool {
        client.set_nonblocking(true).unwrap();
        client.read(&mut [0; 1]).is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
    }

    #[test]
    fn a_connection_without_a_request_is_ended_and_forgotten() {
        let (connection, mut client, _owned) = connected(false);
        let kept = Arc::new(connection);
        let watch = Watch::default();
        watch.connections.borrow_mut().push(Arc::downgrade(&kept));
        let mut open_after = |rounds: u32| {
            (0..rounds).for_each(|_| watch.sweep(TIMEOUTS));
            is_open(&mut client)
        };
        kept.begin_request();
        assert!(open_after(100), "an answer may take its time");
        kept.end_request(watch.round.get());
        assert!(open_after(IDLE_ROUNDS));
        kept.begin_request();
        kept.end_request(watch.round.get());
        assert!(open_after(IDLE_ROUNDS), "a request was there");
        assert!(!open_after(1));
        assert!(watch.connections.borrow().is_empty());
        assert_eq!(kept.connections().metrics().aborted(Abort::Idle).get(), 1);
    }

    #[test]
    fn a_session_is_not_watched() {
        let (connection, mut client, _owned) = connected(false);
        let kept = Arc::new(connection);
        let watch = Watch::default();
        watch.connections.borrow_mut().push(Arc::downgrade(&kept));
        kept.leave_http();
        (0..100).for_each(|_| watch.sweep(TIMEOUTS));
        assert!(watch.connections.borrow().is_empty() && is_open(&mut client));
    }

    #[test]
    fn a_client_must_take_its_answer_at_a_rate() {
        let (connection, mut client, _owned) = connected(false);
        let kept = Arc::new(connection);
        let watch = Watch::default();
        watch.connections.borrow_mut().push(Arc::downgrade(&kept));
        kept.begin_request();
        // In each round it reads a little and is blocked again.
        let mut open_after = |rounds: u32, bytes: usize| {
            for _ in 0..rounds {
                kept.took(bytes);
                kept.blocked();
                watch.sweep(TIMEOUTS);
            }
            is_open(&mut client)
        };
        let enough = usize::try_from(SEND_BYTES_PER_SECOND_MIN).unwrap();
        assert!(open_after(10 * SEND_ROUNDS, enough));
        let crowded = usize::try_from(SEND_BYTES_PER_SECOND_CROWDED).unwrap();
        assert!(open_after(2 * SEND_ROUNDS, crowded));
        assert!(kept.take_unsent(crate::domain::limits::UNSENT_BYTES_MAX / 2 + 1));
        assert!(open_after(10 * SEND_ROUNDS, crowded));
        kept.give_back_unsent(crate::domain::limits::UNSENT_BYTES_MAX / 2 + 1);
        assert!(!open_after(2 * SEND_ROUNDS, enough / 2));
        assert_eq!(kept.connections().metrics().aborted(Abort::Slow).get(), 1);
    }

    #[test]
    fn a_fast_connection_that_is_crowded_out_is_ended() {
        let (connection, mut client, _owned) = connected(false);
        let kept = Arc::new(connection);
        let watch = Watch::default();
        watch.connections.borrow_mut().push(Arc::downgrade(&kept));
        kept.begin_request();
        assert!(kept.take_unsent(crate::domain::limits::UNSENT_BYTES_MAX / 2 + 1));
        for _ in 0..2 * SEND_ROUNDS {
            kept.took(usize::try_from(SEND_BYTES_PER_SECOND_MIN).unwrap());
            kept.blocked();
            watch.sweep(TIMEOUTS);
        }
        assert!(!is_open(&mut client), "where many wait, more is asked for");
    }
}
