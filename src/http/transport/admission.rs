//! Bounds on connections: on all, on those that may send requests, and on those of one client address.
//!
//! The bounds follow from the limit of open files, so that a crowd never takes the descriptors of files, the database
//! or the journal. A connection past a bound is refused at once. Counting costs an atomic step and, if addresses are
//! bounded, a map access; once a connection, never a request.

use super::metrics::{ConnectionMetrics, Refusal};
use crate::domain::limits::{
    ARRIVING_BYTES_MAX, CONNECTIONS_MIN, DESCRIPTORS_RESERVED, REQUEST_CONNECTIONS_MAX, SESSIONS_MAX, UNSENT_BYTES_MAX,
};
use crate::http::extract::client::TrustedProxies;
use crate::service::caller::network;
use dashmap::{DashMap, Entry};
use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// The bounds on connections.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ConnectionBounds {
    /// All connections, WebSocket sessions included.
    pub open_max: usize,
    /// Of these, connections that may send requests.
    pub requests_max: usize,
    /// Connections of one client address; no bound if absent.
    pub per_address_max: Option<NonZeroUsize>,
}

impl ConnectionBounds {
    /// The bounds for a process with this limit of open files. `descriptors` is the number that one connection takes.
    /// `None` if there would be fewer than [`CONNECTIONS_MIN`] connections.
    #[must_use]
    pub fn of(open_files: u64, descriptors: usize, per_address_max: Option<NonZeroUsize>) -> Option<Self> {
        let open_files = usize::try_from(open_files).unwrap_or(usize::MAX);
        let free = open_files.saturating_sub(DESCRIPTORS_RESERVED) / descriptors.max(1);
        // An eighth is for connections that are accepted only to be refused.
        let open_max = (free - free / 8).min(REQUEST_CONNECTIONS_MAX + SESSIONS_MAX);
        let requests_max = open_max.min(REQUEST_CONNECTIONS_MAX);
        (open_max >= CONNECTIONS_MIN).then_some(Self { open_max, requests_max, per_address_max })
    }

    /// Connections that one of this many workers may have accepted, refused ones included: the server stops accepting
    /// there.
    #[must_use]
    pub fn accepted_per_worker_max(&self, workers: usize) -> usize {
        (self.requests_max + self.open_max / 8).div_ceil(workers.max(1))
    }
}

/// The counts of a server's connections. Cheap to clone.
#[derive(Clone)]
pub struct Connections(Arc<State>);

struct State {
    bounds: ConnectionBounds,
    proxies: TrustedProxies,
    open: AtomicUsize,
    requesting: AtomicUsize,
    by_address: DashMap<u128, usize>,
    /// Bytes of large answers that clients have not read yet.
    unsent: AtomicUsize,
    arriving: AtomicUsize,
    metrics: ConnectionMetrics,
}

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connections").field("bounds", &self.0.bounds).finish_non_exhaustive()
    }
}

impl Connections {
    /// Starts without connections. The addresses of `proxies` are not bounded: each has a crowd behind it.
    #[must_use]
    pub fn new(bounds: ConnectionBounds, proxies: TrustedProxies) -> Self {
        Self(Arc::new(State {
            bounds,
            proxies,
            open: AtomicUsize::new(0),
            requesting: AtomicUsize::new(0),
            by_address: DashMap::new(),
            unsent: AtomicUsize::new(0),
            arriving: AtomicUsize::new(0),
            metrics: ConnectionMetrics::default(),
        }))
    }

    /// The bounds of this server.
    #[must_use]
    pub fn bounds(&self) -> ConnectionBounds {
        self.0.bounds
    }

    #[must_use]
    pub fn metrics(&self) -> &ConnectionMetrics {
        &self.0.metrics
    }

    /// Adds the metrics to a registry.
    ///
    /// # Errors
    /// If the registry has metrics of the same name.
    pub fn register(&self, registry: &prometheus::Registry) -> prometheus::Result<()> {
        self.0.metrics.register(registry)
    }

    /// Admits a new connection.
    ///
    /// # Errors
    /// The bound that is reached. The connection is counted as refused.
    pub fn admit(&self, peer: Option<IpAddr>) -> Result<Admission, Refusal> {
        let admitted = self.try_admit(peer);
        if let Err(refusal) = admitted {
            self.0.metrics.refused(refusal).inc();
        }
        admitted
    }

    fn try_admit(&self, peer: Option<IpAddr>) -> Result<Admission, Refusal> {
        let state = &self.0;
        let bounds = &state.bounds;
        if !take(&state.open, 1, bounds.open_max) {
            return Err(Refusal::Full);
        }
        if !take(&state.requesting, 1, bounds.requests_max) {
            give_back(&state.open, 1);
            return Err(Refusal::Full);
        }
        let bounded = bounds.per_address_max.zip(peer.filter(|peer| !state.proxies.has(*peer)));
        let address = bounded.map(|(_, peer)| network(peer));
        if let Some(((max, _), address)) = bounded.zip(address) {
            let mut count = state.by_address.entry(address).or_insert(0);
            if *count >= max.get() {
                drop(count);
                give_back(&state.open, 1);
                give_back(&state.requesting, 1);
                return Err(Refusal::Address);
            }
            *count += 1;
        }
        state.metrics.open.inc();
        let (requesting, open) = (AtomicBool::new(true), AtomicBool::new(true));
        Ok(Admission { connections: self.clone(), address, requesting, open })
    }

    /// Reserves room for an answer that waits for its client. Returns whether there was room.
    pub(super) fn take_unsent(&self, bytes: usize) -> bool {
        let taken = take(&self.0.unsent, bytes, UNSENT_BYTES_MAX);
        if taken {
            self.0.metrics.unsent_bytes.add(signed(bytes));
        }
        taken
    }

    pub(super) fn give_back_unsent(&self, bytes: usize) {
        give_back(&self.0.unsent, bytes);
        self.0.metrics.unsent_bytes.sub(signed(bytes));
    }

    /// Reserves room for a part of a body that is not complete. Returns whether there was room; if not, it counts as
    /// refused.
    pub(super) fn take_arriving(&self, bytes: usize) -> bool {
        let taken = take(&self.0.arriving, bytes, ARRIVING_BYTES_MAX);
        if taken {
            self.0.metrics.arriving_bytes.add(signed(bytes));
        } else {
            self.0.metrics.bodies_refused.inc();
        }
        taken
    }

    pub(super) fn give_back_arriving(&self, bytes: usize) {
        give_back(&self.0.arriving, bytes);
        self.0.metrics.arriving_bytes.sub(signed(bytes));
    }

    /// Whether more than half of the room for unsent answers is used.
    pub(super) fn is_crowded(&self) -> bool {
        self.0.unsent.load(Ordering::Relaxed) > UNSENT_BYTES_MAX / 2
    }
}

fn signed(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// Adds to a bounded count. Returns whether it stays within the bound.
pub(super) fn take(count: &AtomicUsize, more: usize, max: usize) -> bool {
    let within = |now: usize| now.checked_add(more).filter(|sum| *sum <= max);
    count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, within).is_ok()
}

pub(super) fn give_back(count: &AtomicUsize, less: usize) {
    count.fetch_sub(less, Ordering::Relaxed);
}

/// A connection's slot, until it is freed or dropped.
#[derive(Debug)]
pub struct Admission {
    connections: Connections,
    address: Option<u128>,
    requesting: AtomicBool,
    open: AtomicBool,
}

impl Admission {
    /// The counts that the slot belongs to.
    pub(super) fn connections(&self) -> &Connections {
        &self.connections
    }

    /// Frees the slot among requests: the connection has become a session and sends no more.
    pub(super) fn leave_requests(&self) {
        if self.requesting.swap(false, Ordering::Relaxed) {
            give_back(&self.connections.0.requesting, 1);
        }
    }

    /// Frees the slot: the connection is closed.
    pub(super) fn leave(&self) {
        self.leave_requests();
        if !self.open.swap(false, Ordering::Relaxed) {
            return;
        }
        let state = &self.connections.0;
        give_back(&state.open, 1);
        state.metrics.open.dec();
        if let Some(address) = self.address
            && let Entry::Occupied(mut count) = state.by_address.entry(address)
        {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.leave();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connections(open_max: usize, requests_max: usize, per_address: usize, proxies: &str) -> Connections {
        let bounds = ConnectionBounds { open_max, requests_max, per_address_max: NonZeroUsize::new(per_address) };
        Connections::new(bounds, proxies.parse().unwrap())
    }

    fn from(address: &str) -> Option<IpAddr> {
        Some(address.parse().unwrap())
    }

    #[test]
    fn the_bound_follows_from_the_limit_of_open_files() {
        let of = |files, descriptors| ConnectionBounds::of(files, descriptors, None);
        let open_max = |files, descriptors| of(files, descriptors).map(|bounds| bounds.open_max);
        for files in [1_024, 3_000, 20_000, 1 << 20, u64::MAX] {
            let bounds = of(files, 1).unwrap();
            let all = bounds.open_max + bounds.open_max / 8 + DESCRIPTORS_RESERVED;
            assert!(all as u64 <= files, "{bounds:?}");
            assert!(bounds.requests_max <= REQUEST_CONNECTIONS_MAX);
            assert!(bounds.accepted_per_worker_max(4) * 4 >= bounds.requests_max);
        }
        assert_eq!(open_max(256, 1), None);
        assert_eq!(open_max(256 + 73, 1), Some(CONNECTIONS_MIN));
        assert_eq!(open_max(256 + 72, 1), None);
        assert_eq!(open_max(u64::MAX, 1), Some(REQUEST_CONNECTIONS_MAX + SESSIONS_MAX));
        assert_eq!(open_max(3_000, 2), Some(1_201), "a duplicate of each");
    }

    #[test]
    fn connections_past_a_bound_are_refused_until_others_close() {
        let all = connections(3, 2, 0, "");
        let (first, second) = (all.admit(None).unwrap(), all.admit(None).unwrap());
        assert_eq!(all.admit(None).unwrap_err(), Refusal::Full, "two may send requests");
        first.leave_requests();
        first.leave_requests();
        let third = all.admit(None).unwrap();
        second.leave_requests();
        assert_eq!(all.admit(None).unwrap_err(), Refusal::Full, "three may be open, sessions included");
        first.leave();
        drop(first);
        assert_eq!(all.0.metrics.open.get(), 2);
        drop(all.admit(None).unwrap());
        drop((second, third));
        assert_eq!(all.0.metrics.open.get(), 0);
        assert_eq!(all.0.metrics.refused(Refusal::Full).get(), 2);
        assert_eq!((all.0.open.load(Ordering::Relaxed), all.0.requesting.load(Ordering::Relaxed)), (0, 0));
    }

    #[test]
    fn one_address_gets_its_share_and_a_trusted_proxy_has_no_bound() {
        let all = connections(100, 100, 2, "10.0.0.0/8");
        let held: Vec<_> = (0..2).map(|_| all.admit(from("192.0.2.1")).unwrap()).collect();
        assert_eq!(all.admit(from("192.0.2.1")).unwrap_err(), Refusal::Address);
        assert_eq!(all.admit(from("::ffff:192.0.2.1")).unwrap_err(), Refusal::Address, "the same address");
        held[0].leave_requests();
        assert_eq!(all.admit(from("192.0.2.1")).unwrap_err(), Refusal::Address, "a session counts");
        assert!(all.admit(from("192.0.2.2")).is_ok());
        // An IPv6 client has a network of addresses.
        let six: Vec<_> = (1..=2).map(|n| all.admit(from(&format!("2001:db8::{n}"))).unwrap()).collect();
        assert_eq!(all.admit(from("2001:db8::3")).unwrap_err(), Refusal::Address);
        let proxied: Vec<_> = (0..50).map(|_| all.admit(from("10.1.2.3")).unwrap()).collect();
        drop((held, six, proxied));
        assert!(all.0.by_address.is_empty(), "nobody is remembered");
        assert_eq!(all.0.open.load(Ordering::Relaxed), 0);
    }
}
