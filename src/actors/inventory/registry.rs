//! The drops in memory, and how to reach them.

use super::decider::Decider;
use super::drop_actor::DropActor;
pub use super::drop_handle::DropHandle;
use super::mailbox::Mailbox;
use super::messages::Queued;
use super::recovery::{self, RecoveryFailure};
use super::refused_keys::RefusedKeys;
use super::scheduler::{Due, Scheduler};
use crate::actors::clock::Clock;
use crate::actors::consumers::projector::Projection;
use crate::actors::inventory::metrics::OrderMetrics;
use crate::actors::inventory::snapshot::{AskError, Decisions, DropSnapshot, SnapshotCell};
use crate::domain::limits::{DROPS_IN_MEMORY_MAX, REFUSALS_KEPT_SECONDS_DEFAULT};
use crate::domain::{CreatorId, DropId, DropSpec, KeyDigest, OrderId, Timestamp};
use crate::engine::admission::HoldPolicy;
use crate::engine::{DropState, Outcome};
use crate::journal::{JournalHandle, Records};
use crate::storage::Store;
use actix::{Actor, Arbiter};
use dashmap::{DashMap, DashSet, mapref::entry::Entry};
use hashbrown::DefaultHashBuilder;
use smallvec::{SmallVec, smallvec};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// The drops in memory. Cheap to clone.
#[derive(Clone)]
pub struct Registry {
    shared: Arc<Shared>,
}

/// A map with a seeded hash, as std's is, at a third of its time: an order makes three lookups.
type Map<K, V> = DashMap<K, V, DefaultHashBuilder>;

/// Shards of the map of claims. A shard that grows is moved as a whole while its users wait: of ten million claims,
/// each has ten thousand.
const CLAIM_SHARDS: usize = 1_024;

struct Shared {
    drops: Map<DropId, Arc<DropHandle>>,
    by_tag: Map<u32, SmallVec<[DropId; 1]>>,
    by_creator: Map<CreatorId, SmallVec<[DropId; 2]>>,
    /// The drop that a buyer's key was used for: a key belongs to one buyer, over all drops.
    claims: Map<KeyDigest, DropId>,
    /// The keys of running requests: few enough for the processor's caches. A key is removed when its request ends.
    running: DashSet<KeyDigest, DefaultHashBuilder>,
    journal: JournalHandle<Decisions>,
    clock: Clock,
    scheduler: Scheduler,
    metrics: OrderMetrics,
    policy: HoldPolicy,
    arbiters: Vec<Arbiter>,
    /// Lock stripes of revivals, by the drop's tag.
    reviving: Vec<tokio::sync::Mutex<()>>,
    /// Keys of requests that were cancelled before their answer, see [`KeyInUse`].
    orphans: Map<DropId, Vec<KeyDigest>>,
    refused: RefusedKeys,
}

/// Lock stripes for revivals: two drops on one stripe wait for each other.
const REVIVING_LOCKS: usize = 256;

/// Why a request cannot start with its key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeyTaken {
    /// An earlier request with the key is still running.
    Running,
    /// The key was used for another drop.
    ByAnotherDrop,
}

/// A buyer's key while its request runs. If the request is cancelled, the key stays bound: the command may have been
/// decided.
pub struct KeyInUse<'a> {
    registry: &'a Registry,
    digest: KeyDigest,
    fresh: bool,
    end: End,
}

/// The state of a key when its request ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// The request was cancelled, or its outcome is not known.
    Unknown,
    /// The drop remembers the key.
    Remembered,
    /// The key is as free as it was before.
    Released,
}

impl KeyInUse<'_> {
    /// Whether the key was unused before this request.
    #[must_use]
    pub fn is_fresh(&self) -> bool {
        self.fresh
    }

    /// The drop has answered, and remembers the key from now on.
    pub fn remembered(mut self) {
        self.end = End::Remembered;
    }

    /// Nothing was decided or remembered for the key: it is as free as it was before.
    pub fn release(mut self) {
        self.end = End::Released;
    }
}

impl Drop for KeyInUse<'_> {
    fn drop(&mut self) {
        let Shared { drops, claims, running, orphans, .. } = &*self.registry.shared;
        match self.end {
            End::Released if self.fresh => _ = claims.remove(&self.digest),
            End::Unknown if self.fresh => {
                let drop = claims.get(&self.digest).map(|entry| *entry.value());
                match drop.filter(|drop| drops.contains_key(drop)) {
                    // Only this list tells that the claim has to be removed later.
                    Some(drop) => orphans.entry(drop).or_default().push(self.digest),
                    // A drop that is not in memory decides nothing, and SQL knows its decisions.
                    None => _ = claims.remove(&self.digest),
                }
            }
            _ => {}
        }
        running.remove(&self.digest);
    }
}

impl Registry {
    /// An empty registry whose actors run on `threads` threads, without bounds on holds.
    #[must_use]
    pub fn new(journal: JournalHandle<Decisions>, clock: Clock, scheduler: Scheduler, threads: usize) -> Self {
        let kept = Duration::from_secs(REFUSALS_KEPT_SECONDS_DEFAULT.into());
        Self::with_policy(journal, clock, scheduler, threads, (HoldPolicy::OFF, kept), 0)
    }

    /// As [`Self::new`], with a hold policy, the minimum time for which refused one-call payments are remembered, and room for
    /// the keys that recovery binds.
    #[must_use]
    pub fn with_policy(
        journal: JournalHandle<Decisions>,
        clock: Clock,
        scheduler: Scheduler,
        threads: usize,
        (policy, refusals_kept): (HoldPolicy, Duration),
        keys: usize,
    ) -> Self {
        let arbiters = (0..threads.max(1)).map(|_| Arbiter::new()).collect();
        let (drops, by_tag, by_creator) = (Map::default(), Map::default(), Map::default());
        // A map that grows moves all of its keys.
        let claims = Map::with_capacity_and_hasher_and_shard_amount(keys, DefaultHashBuilder::default(), CLAIM_SHARDS);
        let running = DashSet::default();
        let reviving = (0..REVIVING_LOCKS).map(|_| tokio::sync::Mutex::new(())).collect();
        let metrics = OrderMetrics::default();
        Self {
            shared: Arc::new(Shared {
                drops,
                by_tag,
                by_creator,
                claims,
                running,
                journal,
                clock,
                scheduler,
                metrics,
                policy,
                arbiters,
                reviving,
                orphans: Map::default(),
                refused: RefusedKeys::new(refusals_kept),
            }),
        }
    }

    /// Counters of order outcomes.
    #[must_use]
    pub fn metrics(&self) -> &OrderMetrics {
        &self.shared.metrics
    }

    /// The refused one-call payments.
    #[must_use]
    pub fn refused_keys(&self) -> &RefusedKeys {
        &self.shared.refused
    }

    /// The clocks that the drops decide by.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.shared.clock
    }

    /// The drop, if it is in memory.
    #[must_use]
    pub fn get(&self, id: DropId) -> Option<Arc<DropHandle>> {
        self.shared.drops.get(&id).map(|entry| Arc::clone(entry.value()))
    }

    /// The drops that an order id may belong to; nearly always one.
    #[must_use]
    pub fn of_order(&self, id: OrderId) -> Vec<Arc<DropHandle>> {
        let ids = self.shared.by_tag.get(&id.drop_tag()).map(|entry| entry.value().clone()).unwrap_or_default();
        ids.into_iter().filter_map(|id| self.get(id)).collect()
    }

    /// All drops in memory.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<DropHandle>> {
        self.shared.drops.iter().map(|entry| Arc::clone(entry.value())).collect()
    }

    /// A creator's drops in memory.
    #[must_use]
    pub fn of_creator(&self, creator: CreatorId) -> Vec<Arc<DropHandle>> {
        let ids = self.shared.by_creator.get(&creator).map(|entry| entry.value().clone()).unwrap_or_default();
        ids.into_iter().filter_map(|id| self.get(id)).collect()
    }

    /// The published snapshots of all drops in memory, each as of its own position, and a journal record that all of
    /// them include.
    ///
    /// # Errors
    /// [`AskError`] if the journal accepts nothing now.
    pub async fn snapshot(&self) -> Result<(u64, Vec<DropSnapshot>), AskError> {
        let journal = &self.shared.journal;
        let after = journal.durable();
        let (reply, behind) = oneshot::channel();
        let barrier = Decisions { publish: None, replies: smallvec![(reply, Outcome::Orders(Vec::new()))] };
        journal.try_permit().ok_or(AskError::Overloaded)?.submit(Records::new(), barrier);
        // It completes after everything that was durable before it, so all of that is published then.
        behind.await.unwrap_or(Err(AskError::Stopped))?;
        let published = self.all().into_iter().map(|handle| handle.cell.read());
        // A drop at position 0 is not in the journal yet.
        Ok((after, published.filter(|published| published.position > 0).collect()))
    }

    /// How many drops are in memory.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shared.drops.len()
    }

    /// Whether no drop is in memory.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.shared.drops.is_empty()
    }

    /// Puts a recovered drop into memory. `position` is the journal sequence of its state.
    pub fn restore(&self, mut state: DropState, position: u64) -> Arc<DropHandle> {
        let now = self.shared.clock.steady();
        state.resume(now);
        let sold_out = state.status().is_open() && state.stock().any(|(_, stock)| stock.available == 0);
        let unsure_until = sold_out.then(|| now.plus_millis(self.shared.refused.kept_ms()));
        let spec = state.spec();
        self.shared.by_creator.entry(spec.creator_id).or_default().push(spec.id);
        self.insert(state, position, true, unsure_until)
    }

    /// Adds a drop that is already in its creator's list.
    fn insert(
        &self,
        mut state: DropState,
        position: u64,
        announced: bool,
        unsure_until: Option<Timestamp>,
    ) -> Arc<DropHandle> {
        state.set_hold_policy(self.shared.policy);
        let spec = Arc::clone(state.spec());
        let cell = Arc::new(SnapshotCell::new(DropSnapshot::of(&state, position)));
        let Shared { journal, clock, scheduler, metrics, arbiters, .. } = &*self.shared;
        let decider = Decider::new(state, announced, Arc::clone(&cell), journal.clone(), metrics.clone());
        let queued = Queued::default();
        let actor = DropActor::new(decider, clock.clone(), scheduler.clone(), queued.clone());
        let arbiter = &arbiters[spec.id.tag() as usize % arbiters.len()];
        let address = DropActor::start_in_arbiter(&arbiter.handle(), move |_| actor);
        let handle = Arc::new(DropHandle { spec, cell, mailbox: Mailbox::new(address, queued), unsure_until });
        let id = handle.spec.id;
        self.shared.by_tag.entry(id.tag()).or_default().push(id);
        self.shared.drops.insert(id, Arc::clone(&handle));
        // A recovered actor armed its own timer, perhaps before it was registered here: one tick now makes up for a
        // lost one.
        scheduler.arm(Due::Steady(clock.steady()), id);
        handle
    }

    /// Schedules a new drop: it is in memory and in the journal when this returns.
    ///
    /// # Errors
    /// [`AskError`]; nothing stays in memory then.
    pub async fn schedule(&self, spec: DropSpec) -> Result<(Arc<DropHandle>, u64), AskError> {
        self.schedule_within(spec, None, &[]).await
    }

    /// Like [`Self::schedule`], unless the creator has `quota` drops that are scheduled or live, in memory or among
    /// `projected`. Without a quota none are counted.
    ///
    /// # Errors
    /// [`AskError`]; nothing stays in memory then.
    pub async fn schedule_within(
        &self,
        spec: DropSpec,
        quota: Option<NonZeroU32>,
        projected: &[DropId],
    ) -> Result<(Arc<DropHandle>, u64), AskError> {
        if self.len() >= DROPS_IN_MEMORY_MAX {
            return Err(AskError::Overloaded);
        }
        {
            // While this entry is locked no other drop of this creator can be added.
            let mut theirs = self.shared.by_creator.entry(spec.creator_id).or_default();
            if let Some(quota) = quota {
                let elsewhere = projected.iter().filter(|id| !theirs.contains(id)).count();
                let is_open = |id: &&DropId| self.get(**id).is_none_or(|handle| handle.cell.is_open());
                let open = theirs.iter().filter(is_open).count() + elsewhere;
                if open >= quota.get() as usize {
                    drop(theirs);
                    self.shared.by_creator.remove_if(&spec.creator_id, |_, ids| ids.is_empty());
                    return Err(AskError::TooManyDrops { quota });
                }
            }
            theirs.push(spec.id);
        }
        let handle = self.insert(DropState::scheduled(spec), 0, false, None);
        match handle.announce().await {
            Ok(answer) => Ok((handle, answer.sequence)),
            Err(error) => {
                self.remove(&handle);
                Err(error)
            }
        }
    }

    /// Puts a settled drop back into memory, for a late command such as a refund. `None` if there is no such drop.
    ///
    /// # Errors
    /// [`RecoveryFailure`] if its rows cannot be read.
    pub async fn revive(
        &self,
        id: DropId,
        store: &dyn Store,
        projection: &Projection,
    ) -> Result<Option<Arc<DropHandle>>, RecoveryFailure> {
        self.revive_after(id, store, projection, |_| ()).await
    }

    /// Like [`Self::revive`], also for a drop that has not started; `before` sees it before any command does.
    ///
    /// # Errors
    /// As [`Registry::revive`].
    pub async fn revive_after(
        &self,
        id: DropId,
        store: &dyn Store,
        projection: &Projection,
        before: impl FnOnce(&DropState),
    ) -> Result<Option<Arc<DropHandle>>, RecoveryFailure> {
        projection.ensure_past_recovery().await?;
        // Two actors of one drop would decide twice. Other drops do not wait while this one's rows are read.
        let lock = &self.shared.reviving[id.tag() as usize % REVIVING_LOCKS];
        let _alone = lock.lock().await;
        if let Some(handle) = self.get(id) {
            return Ok(Some(handle));
        }
        // A drop leaves memory only when SQL has all its records, so its rows are right at any later watermark.
        let watermark = projection.watermark();
        let Some(row) = store.drop_row(id).await? else { return Ok(None) };
        let state = recovery::load(store, row).await?;
        for digest in state.keys() {
            self.bind(digest, id);
        }
        before(&state);
        Ok(Some(self.restore(state, watermark)))
    }

    /// Makes a drop that is settled or starts after `horizon` take no more commands. Returns its remembered keys, or
    /// `None` if it stays.
    pub async fn retire(&self, handle: &DropHandle, horizon: Timestamp) -> Option<Vec<KeyDigest>> {
        handle.mailbox.retire(horizon).await
    }

    /// Removes a drop from memory. Its actor ends with the last handle; until then it answers `Gone`.
    pub fn remove(&self, handle: &DropHandle) {
        let id = handle.spec.id;
        self.shared.drops.remove(&id);
        if let Entry::Occupied(mut entry) = self.shared.by_tag.entry(id.tag()) {
            entry.get_mut().retain(|other| *other != id);
            if entry.get().is_empty() {
                entry.remove();
            }
        }
        if let Entry::Occupied(mut entry) = self.shared.by_creator.entry(handle.spec.creator_id) {
            entry.get_mut().retain(|other| *other != id);
            if entry.get().is_empty() {
                entry.remove();
            }
        }
    }

    /// Binds a buyer's key to a drop that has used it before, unless it is bound to another.
    pub fn bind(&self, digest: KeyDigest, drop: DropId) {
        self.shared.claims.entry(digest).or_insert(drop);
    }

    /// Whether a request with this key is running, or the key has made an order.
    #[must_use]
    pub fn is_claimed(&self, digest: KeyDigest) -> bool {
        self.shared.running.contains(&digest) || self.shared.claims.contains_key(&digest)
    }

    /// Starts a request with a buyer's key, and binds the key to the drop.
    ///
    /// # Errors
    /// If the key is in use, or bound to another drop.
    pub fn claim(&self, digest: KeyDigest, drop: DropId) -> Result<KeyInUse<'_>, KeyTaken> {
        let Shared { claims, running, .. } = &*self.shared;
        if !running.insert(digest) {
            return Err(KeyTaken::Running);
        }
        // No other request can start with the key until this is dropped.
        let mut key = KeyInUse { registry: self, digest, fresh: false, end: End::Unknown };
        match claims.entry(digest) {
            Entry::Occupied(entry) if *entry.get() != drop => return Err(KeyTaken::ByAnotherDrop),
            Entry::Occupied(_) => {}
            Entry::Vacant(entry) => {
                entry.insert(drop);
                key.fresh = true;
            }
        }
        Ok(key)
    }

    /// Unbinds these keys from a drop, and the keys of its cancelled requests.
    pub fn forget_claims(&self, drop: DropId, keys: &[KeyDigest]) {
        let orphans = self.shared.orphans.remove(&drop).map(|(_, keys)| keys).unwrap_or_default();
        for key in keys.iter().chain(&orphans) {
            self.shared.claims.remove_if(key, |_, of| *of == drop);
        }
    }

    /// Stops the actors' threads. Messages in their mailboxes are dropped: drain first.
    pub fn stop(&self) {
        for arbiter in &self.shared.arbiters {
            arbiter.stop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actors::Projector;
    use crate::domain::fixtures::drop_of;
    use crate::journal::{Journal, JournalOptions, MemoryDevice};
    use futures_util::FutureExt;

    fn key(n: u128) -> KeyDigest {
        KeyDigest(uuid::Uuid::from_u128(n))
    }

    /// A registry with two drops.
    fn two() -> (Registry, DropId, DropId, Journal<Decisions>) {
        let (journal, _) = Journal::open(&JournalOptions::in_memory(), Arc::new(MemoryDevice::new()), 0).unwrap();
        let registry = Registry::new(journal.handle(), Clock::default(), Scheduler::default(), 1);
        let [one, other] = [1, 2].map(|stock| {
            let spec = drop_of(stock);
            let id = spec.id;
            registry.restore(DropState::scheduled(spec), 0);
            id
        });
        (registry, one, other, journal)
    }

    #[actix::test]
    async fn a_key_is_one_requests_at_a_time_and_one_drops() {
        let (registry, one, other, _journal) = two();
        let claim = |n: u128, by: DropId| registry.claim(key(n), by);
        let why = |n: u128, by: DropId| claim(n, by).map(KeyInUse::remembered).err();

        let first = claim(1, one).ok().unwrap();
        assert_eq!((why(1, one), why(1, other)), (Some(KeyTaken::Running), Some(KeyTaken::Running)));
        assert_eq!(why(2, other), None);
        // The request was cancelled: its command may have been decided.
        drop(first);
        assert_eq!((why(1, one), why(1, other)), (None, Some(KeyTaken::ByAnotherDrop)));
        // Nothing was decided this time, and the earlier binding stays.
        claim(1, one).ok().unwrap().release();
        assert_eq!(why(1, other), Some(KeyTaken::ByAnotherDrop));
        claim(3, one).ok().unwrap().release();
        assert_eq!(why(3, other), None);
        registry.bind(key(4), one);
        registry.bind(key(4), other);
        assert_eq!((why(4, other), why(4, one)), (Some(KeyTaken::ByAnotherDrop), None));
        // Unbound while a request runs, which then has nothing to release.
        let last = claim(4, one).ok().unwrap();
        registry.forget_claims(one, &[key(4)]);
        drop(last);
        assert_eq!((why(1, other), why(4, other)), (None, None));
        registry.stop();
    }

    /// Reading a drop of a million orders takes seconds.
    #[actix::test]
    async fn a_drop_that_comes_back_keeps_no_other_waiting() {
        let (registry, .., journal) = two();
        let folder = tempfile::tempdir().unwrap();
        let store = crate::storage::connect(&crate::storage::sqlite_url(&folder.path().join("a.db"))).await.unwrap();
        store.migrate().await.unwrap();
        let (_projector, projection) = Projector::new(store.clone(), &journal.handle().reader(), 0);
        let lock = |id: DropId| &registry.shared.reviving[id.tag() as usize % REVIVING_LOCKS];
        let one = DropId::new();
        let other = std::iter::repeat_with(DropId::new).find(|id| !std::ptr::eq(lock(*id), lock(one))).unwrap();
        let loading = lock(one).lock().await;
        assert!(registry.revive(other, &*store, &projection).await.unwrap().is_none(), "there is none");
        assert!(registry.revive(one, &*store, &projection).now_or_never().is_none(), "it waits for itself");
        drop(loading);
        assert!(registry.revive(one, &*store, &projection).await.unwrap().is_none());
        registry.stop();
    }

    /// Unbinding a drop touches its own keys only, not those of all drops.
    #[actix::test]
    async fn a_drop_takes_its_keys_with_it_and_no_others() {
        let (registry, one, other, _journal) = two();
        registry.bind(key(1), one);
        registry.bind(key(2), other);
        // Cancelled without an answer: no drop remembers the key, but it is unbound too.
        drop(registry.claim(key(3), one));
        registry.forget_claims(one, &[key(1), key(2)]);
        assert_eq!(registry.claim(key(2), one).err(), Some(KeyTaken::ByAnotherDrop), "it was not this drop's");
        assert_eq!(registry.shared.claims.len(), 1);
        // Nothing is kept for a drop that is not in memory.
        drop(registry.claim(key(4), DropId::new()));
        assert_eq!((registry.shared.claims.len(), registry.shared.orphans.len()), (1, 0));
        registry.stop();
    }
}
