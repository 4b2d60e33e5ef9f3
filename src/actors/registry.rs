//! Which drops are in memory, and how to reach them.

use super::clock::Clock;
use super::decider::Decider;
use super::drop_actor::{Ask, DropActor};
use super::mailbox::{Mailbox, Queued};
use super::projector::Projection;
use super::publish::{Answer, AskError, Decisions, DropCell, Published};
use super::recovery::{self, RecoveryFailure};
use super::scheduler::{Due, Scheduler};
use super::tally::Tally;
use crate::domain::limits::DROPS_IN_MEMORY_MAX;
use crate::domain::{DropId, DropSpec, KeyDigest, OrderId};
use crate::engine::{Command, DropState};
use crate::journal::JournalHandle;
use crate::storage::Store;
use actix::{Actor, Arbiter};
use dashmap::{DashMap, DashSet, mapref::entry::Entry};
use hashbrown::DefaultHashBuilder;
use smallvec::SmallVec;
use std::sync::Arc;
use tokio::sync::oneshot;

/// One drop in memory.
pub struct DropHandle {
    /// As scheduled.
    pub spec: Arc<DropSpec>,
    /// What is published of it.
    pub cell: Arc<DropCell>,
    mailbox: Mailbox,
}

impl DropHandle {
    /// Asks and waits until the answer is durable.
    ///
    /// # Errors
    /// [`AskError`]; `Overloaded` at once where the mailbox is full.
    pub async fn ask(&self, command: Command) -> Result<Answer, AskError> {
        let (reply, answer) = oneshot::channel();
        self.mailbox.ask(Ask { command, reply: Some(reply) });
        // The sender is dropped unanswered only when the actor or the journal is gone.
        answer.await.unwrap_or(Err(AskError::OutcomeUnknown))
    }

    async fn announce(&self) -> Result<Answer, AskError> {
        let (reply, answer) = oneshot::channel();
        self.mailbox.announce(reply)?;
        answer.await.unwrap_or(Err(AskError::OutcomeUnknown))
    }

    /// Tells it that a time has come.
    ///
    /// # Errors
    /// `Overloaded` where the mailbox is full, `Gone` where the actor has stopped.
    pub fn tick(&self) -> Result<(), AskError> {
        self.mailbox.tick()
    }
}

/// The drops in memory. Cheap to clone.
#[derive(Clone)]
pub struct Registry {
    shared: Arc<Shared>,
}

/// With a hash that is seeded, as std's is, and takes a third of its time: an order looks three times.
type Map<K, V> = DashMap<K, V, DefaultHashBuilder>;

/// Pieces that the claims lie in. One that grows is moved as a whole, while whoever needs it waits: of ten million, each has ten thousand.
const CLAIM_SHARDS: usize = 1_024;

struct Shared {
    drops: Map<DropId, Arc<DropHandle>>,
    by_tag: Map<u32, SmallVec<[DropId; 1]>>,
    /// What a buyer's key was used for: a key is one buyer's, over all drops.
    claims: Map<KeyDigest, DropId>,
    /// The keys of requests that have not ended: few enough to stay in a processor's caches, where a claim is gone from when its request ends.
    running: DashSet<KeyDigest, DefaultHashBuilder>,
    journal: JournalHandle<Decisions>,
    clock: Clock,
    scheduler: Scheduler,
    tally: Tally,
    arbiters: Vec<Arbiter>,
    reviving: tokio::sync::Mutex<()>,
}

/// Why a request cannot begin with its key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeyTaken {
    /// Its first request has not ended.
    Running,
    /// It was used in another drop.
    ByAnotherDrop,
}

/// A buyer's key while its request runs. A request that is dropped on the way leaves it bound: what was asked may have been decided.
pub struct KeyInUse<'a> {
    registry: &'a Registry,
    digest: KeyDigest,
    fresh: bool,
    kept: bool,
}

impl KeyInUse<'_> {
    /// Nothing was decided for the key, or nobody remembers: it is as free as it was before.
    pub fn release(mut self) {
        self.kept = !self.fresh;
    }
}

impl Drop for KeyInUse<'_> {
    fn drop(&mut self) {
        let Shared { claims, running, .. } = &*self.registry.shared;
        if !self.kept {
            claims.remove(&self.digest);
        }
        running.remove(&self.digest);
    }
}

impl Registry {
    /// An empty registry whose actors run on `threads` threads.
    #[must_use]
    pub fn new(journal: JournalHandle<Decisions>, clock: Clock, scheduler: Scheduler, threads: usize) -> Self {
        let arbiters = (0..threads.max(1)).map(|_| Arbiter::new()).collect();
        let (drops, by_tag) = (Map::default(), Map::default());
        let claims = Map::with_hasher_and_shard_amount(DefaultHashBuilder::default(), CLAIM_SHARDS);
        let running = DashSet::default();
        let reviving = tokio::sync::Mutex::new(());
        let tally = Tally::default();
        Self {
            shared: Arc::new(Shared {
                drops,
                by_tag,
                claims,
                running,
                journal,
                clock,
                scheduler,
                tally,
                arbiters,
                reviving,
            }),
        }
    }

    /// How many orders went which way.
    #[must_use]
    pub fn tally(&self) -> &Tally {
        &self.shared.tally
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

    /// Brings a recovered drop into memory. `position` is the journal sequence number that its state is true at.
    pub fn restore(&self, mut state: DropState, position: u64) -> Arc<DropHandle> {
        state.resume(self.shared.clock.steady());
        self.insert(state, position, true)
    }

    fn insert(&self, state: DropState, position: u64, announced: bool) -> Arc<DropHandle> {
        let spec = Arc::clone(state.spec());
        let cell = Arc::new(DropCell::new(Published::of(&state, position)));
        let Shared { journal, clock, scheduler, tally, arbiters, .. } = &*self.shared;
        let decider = Decider::new(state, announced, Arc::clone(&cell), journal.clone(), tally.clone());
        let queued = Queued::default();
        let actor = DropActor::new(decider, clock.clone(), scheduler.clone(), queued.clone());
        let arbiter = &arbiters[spec.id.tag() as usize % arbiters.len()];
        let address = DropActor::start_in_arbiter(&arbiter.handle(), move |_| actor);
        let handle = Arc::new(DropHandle { spec, cell, mailbox: Mailbox::new(address, queued) });
        let id = handle.spec.id;
        self.shared.by_tag.entry(id.tag()).or_default().push(id);
        self.shared.drops.insert(id, Arc::clone(&handle));
        // A recovered actor armed its own timer, perhaps before it could be found here: one tick now is not missed.
        scheduler.arm(Due::Steady(clock.steady()), id);
        handle
    }

    /// Schedules a new drop: in memory, and in the journal when this returns.
    ///
    /// # Errors
    /// [`AskError`]; nothing is left in memory then.
    pub async fn schedule(&self, spec: DropSpec) -> Result<(Arc<DropHandle>, u64), AskError> {
        if self.len() >= DROPS_IN_MEMORY_MAX {
            return Err(AskError::Overloaded);
        }
        let handle = self.insert(DropState::scheduled(spec), 0, false);
        match handle.announce().await {
            Ok(answer) => Ok((handle, answer.sequence)),
            Err(error) => {
                self.remove(&handle);
                Err(error)
            }
        }
    }

    /// Brings a settled drop back into memory, for what may still happen to it (a refund). `None` if there is no such drop.
    ///
    /// # Errors
    /// [`RecoveryFailure`] where its rows cannot be read.
    pub async fn revive(
        &self,
        id: DropId,
        store: &dyn Store,
        projection: &Projection,
    ) -> Result<Option<Arc<DropHandle>>, RecoveryFailure> {
        // One at a time: two actors of one drop would decide twice.
        let _alone = self.shared.reviving.lock().await;
        if let Some(handle) = self.get(id) {
            return Ok(Some(handle));
        }
        // A drop leaves memory only when SQL has all of it, so its rows are true at any later watermark.
        let watermark = projection.watermark();
        let Some(row) = store.drop_row(id).await? else { return Ok(None) };
        let state = recovery::load(store, row).await?;
        for digest in state.keys() {
            self.bind(digest, id);
        }
        Ok(Some(self.restore(state, watermark)))
    }

    /// Whether a settled drop agreed to take no more commands.
    pub async fn retire(&self, handle: &DropHandle) -> bool {
        handle.mailbox.retire().await
    }

    /// Takes a drop out of memory. Its actor ends when nobody holds its handle any more: until then it says that it is gone.
    pub fn remove(&self, handle: &DropHandle) {
        let id = handle.spec.id;
        self.shared.drops.remove(&id);
        if let Entry::Occupied(mut entry) = self.shared.by_tag.entry(id.tag()) {
            entry.get_mut().retain(|other| *other != id);
            if entry.get().is_empty() {
                entry.remove();
            }
        }
    }

    /// Binds a buyer's key to a drop that has used it before, unless another has.
    pub fn bind(&self, digest: KeyDigest, drop: DropId) {
        self.shared.claims.entry(digest).or_insert(drop);
    }

    /// Begins a request with a buyer's key, which is bound to its drop from then on.
    ///
    /// # Errors
    /// Where the key is in use, or bound to another drop.
    pub fn claim(&self, digest: KeyDigest, drop: DropId) -> Result<KeyInUse<'_>, KeyTaken> {
        let Shared { claims, running, .. } = &*self.shared;
        if !running.insert(digest) {
            return Err(KeyTaken::Running);
        }
        // From here on nobody else begins with it, until this is dropped.
        let mut key = KeyInUse { registry: self, digest, fresh: false, kept: true };
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

    /// Forgets the keys of a drop.
    pub fn forget_claims(&self, drop: DropId) {
        self.shared.claims.retain(|_, of| *of != drop);
    }

    /// Stops the actors' threads. What is in their mailboxes is dropped: drain first.
    pub fn stop(&self) {
        for arbiter in &self.shared.arbiters {
            arbiter.stop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::{Journal, JournalOptions, MemoryDevice};

    #[actix::test]
    async fn a_key_is_one_requests_at_a_time_and_one_drops() {
        let (journal, _) = Journal::open(&JournalOptions::in_memory(), Arc::new(MemoryDevice::new()), 0).unwrap();
        let registry = Registry::new(journal.handle(), Clock::default(), Scheduler::default(), 1);
        let (one, other) = (DropId::new(), DropId::new());
        let key = |n: u128| KeyDigest(uuid::Uuid::from_u128(n));
        let claim = |n: u128, by: DropId| registry.claim(key(n), by);
        let why = |n: u128, by: DropId| claim(n, by).err();

        let first = claim(1, one).ok().unwrap();
        assert_eq!((why(1, one), why(1, other)), (Some(KeyTaken::Running), Some(KeyTaken::Running)));
        assert_eq!(why(2, other), None);
        // It was dropped on its way: what it asked may have been decided.
        drop(first);
        assert_eq!((why(1, one), why(1, other)), (None, Some(KeyTaken::ByAnotherDrop)));
        // Nothing was decided this time, and the time before stands.
        claim(1, one).ok().unwrap().release();
        assert_eq!(why(1, other), Some(KeyTaken::ByAnotherDrop));
        claim(3, one).ok().unwrap().release();
        assert_eq!(why(3, other), None);
        registry.bind(key(4), one);
        registry.bind(key(4), other);
        assert_eq!((why(4, other), why(4, one)), (Some(KeyTaken::ByAnotherDrop), None));
        // Forgotten while somebody is at it, who then has nothing to give back.
        let last = claim(4, one).ok().unwrap();
        registry.forget_claims(one);
        drop(last);
        assert_eq!((why(1, other), why(4, other)), (None, None));
        registry.stop();
    }
}
