//! Revoked access tokens: after a logout, a new password, a deletion. Tokens are verified without the database, so
//! revocations are kept in memory, for the lifetime of an access token, and checked on every request.
//!
//! They are read from the database at startup and every two seconds, because an operator's command, or a write with a
//! lost answer, revokes too. A start without the database reads [`copy`] instead.

pub mod copy;

use super::clock::Clock;
use super::{Hub, Outage};
use crate::domain::limits::{ACCESS_TOKEN_SECONDS_MAX, REVOCATIONS_MAX};
use crate::domain::{Login, Moment, Revocation, Timestamp, UserId};
use crate::storage::{Store, StoreError};
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{
    Arc, OnceLock, PoisonError, RwLock,
    atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use uuid::Uuid;

/// How long a revocation is kept, in milliseconds: longer than any access token that it ends, because lifetimes are
/// whole seconds.
const KEPT_MS: i64 = (ACCESS_TOKEN_SECONDS_MAX as i64 + 1) * 1_000;
/// How often the database is read.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How far back each read goes, in milliseconds: a transaction commits some time after its timestamp.
const LOOK_BACK_MS: i64 = 60_000;

/// The revocations in memory. Cheap to clone.
#[derive(Clone)]
pub struct Revocations(Arc<Inner>);

struct Inner {
    clock: Clock,
    outage: Outage,
    /// Counts additions, so that an earlier check can be reused while nothing is new.
    generation: AtomicU64,
    /// Tokens issued at this time or before count as expired, in milliseconds: set when the memory bound is reached.
    floor: AtomicI64,
    book: RwLock<Book>,
    sessions: OnceLock<Hub>,
    /// Whether [`copy`] is kept.
    has_copy: AtomicBool,
    /// The generation that the copy has; `None` until it was written first.
    kept: watch::Sender<Option<u64>>,
    /// Notified with every revocation.
    changed: Notify,
}

#[derive(Default)]
struct Book {
    accounts: HashMap<UserId, u32>,
    logins: HashSet<Uuid>,
    /// In the order of addition; each with its time of removal.
    queue: VecDeque<(Timestamp, Entry)>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Entry {
    Account(UserId, u32),
    Login(Uuid),
}

impl Revocations {
    #[must_use]
    pub fn new(clock: Clock, outage: Outage) -> Self {
        Self(Arc::new(Inner {
            clock,
            outage,
            generation: AtomicU64::new(0),
            floor: AtomicI64::new(i64::MIN),
            book: RwLock::default(),
            sessions: OnceLock::new(),
            has_copy: AtomicBool::new(false),
            kept: watch::Sender::new(None),
            changed: Notify::new(),
        }))
    }

    /// The outage state: in an outage tokens last longer, and so do revocations.
    #[must_use]
    pub fn outage(&self) -> &Outage {
        &self.0.outage
    }

    /// From now on, sessions with revoked tokens are closed.
    pub fn close_sessions_of(&self, hub: Hub) {
        // Only the first hub counts; a second one would have the same sessions.
        let _ = self.0.sessions.set(hub);
    }

    /// Changes with every revocation.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.0.generation.load(Ordering::Acquire)
    }

    /// Whether a token of that login was revoked.
    #[must_use]
    pub fn covers(&self, user: UserId, login: Login) -> bool {
        if self.generation() == 0 {
            return false;
        }
        let book = self.0.book.read().unwrap_or_else(PoisonError::into_inner);
        book.logins.contains(&login.id)
            || book.accounts.get(&user).is_some_and(|version| Revocation::Below(*version).covers(login))
    }

    /// Whether a token issued at that time has to be renewed, because the revocations of that time were dropped at the
    /// memory bound.
    #[must_use]
    pub fn forgot(&self, issued_at: Timestamp) -> bool {
        issued_at.as_millis() <= self.0.floor.load(Ordering::Acquire)
    }

    /// Revokes now: all requests that start after this returns are refused.
    pub fn add(&self, user: UserId, what: Revocation) {
        self.add_at(user, what, self.0.clock.steady());
    }

    fn add_at(&self, user: UserId, what: Revocation, at: Timestamp) {
        let now = self.0.clock.steady();
        let (until, horizon) = (at.plus_millis(KEPT_MS), self.0.outage.horizon(now));
        if until <= horizon {
            return;
        }
        {
            let mut book = self.0.book.write().unwrap_or_else(PoisonError::into_inner);
            let entry = match what {
                Revocation::Below(version) => Entry::Account(user, version),
                Revocation::Login(id) => Entry::Login(id),
            };
            if !book.insert(entry, until) {
                return;
            }
            book.forget(horizon);
            if book.queue.len() > REVOCATIONS_MAX {
                *book = Book::default();
                self.raise_floor(now);
            }
            self.0.generation.fetch_add(1, Ordering::Release);
        }
        self.0.changed.notify_one();
        if let Some(hub) = self.0.sessions.get() {
            hub.revoke(user, what);
        }
    }

    /// At the memory bound every token has to be renewed, which costs each client one request. No revocation is lost
    /// that way.
    fn raise_floor(&self, now: Timestamp) {
        tracing::warn!(bound = REVOCATIONS_MAX, "too many revocations at once: every access token has to be renewed");
        self.0.floor.fetch_max(now.as_millis(), Ordering::Release);
        self.0.generation.fetch_add(1, Ordering::Release);
        self.0.changed.notify_one();
    }

    /// Adds the database's revocations since `moment`, minus `back_ms`.
    ///
    /// # Errors
    /// As the store.
    async fn fill(&self, store: &dyn Store, moment: Moment, back_ms: i64) -> Result<(), StoreError> {
        let limit = u32::try_from(REVOCATIONS_MAX).unwrap_or(u32::MAX);
        let since = moment.wall.min(moment.steady).plus_millis(-back_ms);
        let found = store.revoked_since(since, limit).await?;
        let now = self.0.clock.moment();
        if found.len() >= REVOCATIONS_MAX {
            self.raise_floor(now.steady);
        }
        found.into_iter().for_each(|revoked| self.add_at(revoked.user, revoked.what, steady(revoked.at, now)));
        Ok(())
    }

    /// Adds revocations from before the start, as far back as a token may last.
    ///
    /// # Errors
    /// As the store.
    pub async fn recover(&self, store: &dyn Store) -> Result<(), StoreError> {
        self.fill(store, self.0.clock.moment(), KEPT_MS + LOOK_BACK_MS).await
    }

    /// Reads the database periodically. Runs until the task is dropped. While the database is away nothing can be
    /// revoked there; afterwards it continues where it was.
    pub async fn follow(self, store: Arc<dyn Store>) {
        let mut seen = self.0.clock.moment();
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let began = self.0.clock.moment();
            match self.fill(&*store, seen, LOOK_BACK_MS).await {
                Ok(()) => seen = began,
                Err(error) => tracing::debug!(%error, "revocations cannot be read"),
            }
        }
    }
}

/// A revocation's time by this process's steady clock. This process writes its steady time, another one may write the
/// wall clock's, and the two may be far apart: the clock with the nearer time is assumed. A revocation kept too long
/// ends no valid token.
fn steady(at: Timestamp, now: Moment) -> Timestamp {
    let age = |by: Timestamp| by.millis_since(at).max(at.millis_since(by));
    now.steady.plus_millis(-age(now.steady).min(age(now.wall)))
}

impl Book {
    /// Adds a revocation. Returns whether it is new.
    fn insert(&mut self, entry: Entry, until: Timestamp) -> bool {
        match entry {
            Entry::Account(user, version) => {
                let known = self.accounts.entry(user).or_default();
                if *known >= version {
                    return false;
                }
                *known = version;
            }
            Entry::Login(id) => {
                if !self.logins.insert(id) {
                    return false;
                }
            }
        }
        self.queue.push_back((until, entry));
        true
    }

    fn forget(&mut self, horizon: Timestamp) {
        while let Some((_, entry)) = self.queue.pop_front_if(|(until, _)| *until <= horizon) {
            match entry {
                Entry::Login(id) => _ = self.logins.remove(&id),
                Entry::Account(user, version) => {
                    // A later revocation of the same account stays.
                    if self.accounts.get(&user) == Some(&version) {
                        self.accounts.remove(&user);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(id: u128, version: u32) -> Login {
        Login { id: Uuid::from_u128(id), version }
    }

    #[test]
    fn what_was_revoked_is_covered_for_as_long_as_a_token_lasts() {
        let clock = Clock::default();
        let (revocations, user, other) =
            (Revocations::new(clock.clone(), Outage::default()), UserId::new(), UserId::new());
        assert!(!revocations.covers(user, login(1, 0)));
        revocations.add(user, Revocation::Login(Uuid::from_u128(1)));
        assert!(revocations.covers(user, login(1, 0)) && !revocations.covers(user, login(2, 0)));
        let before = revocations.generation();
        revocations.add(user, Revocation::Login(Uuid::from_u128(1)));
        assert_eq!(revocations.generation(), before, "nothing new");
        clock.shift(KEPT_MS / 2);
        revocations.add(user, Revocation::Below(3));
        assert_ne!(revocations.generation(), before);
        assert!(revocations.covers(user, login(2, 2)) && !revocations.covers(user, login(2, 3)));
        assert!(!revocations.covers(other, login(2, 2)));
        clock.shift(KEPT_MS / 2);
        revocations.add(other, Revocation::Below(1));
        let book = revocations.0.book.read().unwrap();
        assert_eq!((book.logins.len(), book.accounts.len(), book.queue.len()), (0, 2, 2), "what is past is forgotten");
    }

    #[test]
    fn an_older_revocation_neither_hides_nor_ends_a_newer_one() {
        let clock = Clock::default();
        let (revocations, user) = (Revocations::new(clock.clone(), Outage::default()), UserId::new());
        revocations.add(user, Revocation::Below(1));
        clock.shift(KEPT_MS - 1);
        revocations.add(user, Revocation::Below(5));
        revocations.add(user, Revocation::Below(2));
        clock.shift(1);
        revocations.add(UserId::new(), Revocation::Below(1));
        assert!(revocations.covers(user, login(1, 4)));
        revocations.add_at(user, Revocation::Below(9), clock.steady().plus_millis(-KEPT_MS));
        assert!(!revocations.covers(user, login(1, 5)), "too long ago to matter");
    }

    #[test]
    fn the_time_of_a_revocation_is_taken_by_the_clock_that_it_was_written_with() {
        let (written, age) =
            (Timestamp::from_millis(1_800_000_000_000), |at, now: Moment| now.steady.millis_since(steady(at, now)));
        for step in [0, -3_600_000, 7_200_000] {
            let steady = written.plus_millis(500);
            let now = Moment { wall: steady.plus_millis(step), steady };
            assert_eq!(age(written, now), 500, "by this process, {step}");
            assert_eq!(age(now.wall.plus_millis(-300), now), 300, "by another one, {step}");
        }
    }

    #[test]
    fn past_the_bound_every_token_is_renewed() {
        let clock = Clock::default();
        let revocations = Revocations::new(clock.clone(), Outage::default());
        let issued = clock.steady();
        for n in 0..REVOCATIONS_MAX {
            revocations.add(UserId::new(), Revocation::Login(Uuid::from_u128(n as u128)));
        }
        assert!(!revocations.forgot(issued));
        revocations.add(UserId::new(), Revocation::Below(1));
        assert!(revocations.forgot(issued) && !revocations.forgot(clock.steady().plus_millis(1)));
        assert!(revocations.0.book.read().unwrap().queue.is_empty());
    }
}
