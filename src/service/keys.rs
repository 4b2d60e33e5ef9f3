//! Idempotency keys of changes other than orders: a retried request makes no second change and gets the first answer.
//!
//! An attempt has an id, which SQL stores before anything is done. A created object gets that id; a command to a drop
//! carries it into the journal record of the change, and the projection notes that. An attempt without a stored answer,
//! because the process ended in between, is looked up by its id before it is made again. Orders do not need this: their
//! keys are part of the reservation.

use super::{Code, Failure, clock::Clock};
use crate::domain::limits::KEY_KEPT_MS;
use crate::domain::{Fingerprint, KeyDigest, KeyedRequest, UserId};
use crate::storage::{Attempted, KeptAnswer, KeyedAttempt, Store, StoreError};
use hashbrown::HashSet;
use sha2::{Digest, Sha256};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use uuid::Uuid;

/// How often expired keys are deleted.
const FORGET_EVERY: Duration = Duration::from_secs(600);
/// Pause between two deleting transactions.
const FORGET_PAUSE: Duration = Duration::from_millis(50);

type Digest32 = [u8; 32];

/// One attempt at a change.
#[derive(Debug)]
pub struct Attempt {
    id: Uuid,
    /// Digest of the key's request; absent without a key.
    fingerprint: Option<Fingerprint>,
    /// Whether an earlier attempt with an unknown outcome has the same key.
    resumed: bool,
    /// Whether the earlier attempt had made the change.
    was_made: AtomicBool,
}

impl Default for Attempt {
    /// An attempt without a key.
    fn default() -> Self {
        Self { id: Uuid::now_v7(), fingerprint: None, resumed: false, was_made: AtomicBool::new(false) }
    }
}

impl Attempt {
    /// The id of the object that the attempt creates.
    #[must_use]
    pub fn id(&self) -> Uuid {
        self.id
    }

    /// The part that the journal records; `None` without a key.
    #[must_use]
    pub fn request(&self) -> Option<KeyedRequest> {
        self.fingerprint.map(|fingerprint| KeyedRequest { digest: KeyDigest(self.id), fingerprint })
    }

    /// Whether the change has to be looked up first.
    #[must_use]
    pub fn is_resumed(&self) -> bool {
        self.resumed
    }

    /// Records that an earlier attempt had made the change: its result is the answer.
    pub fn found(&self) {
        self.was_made.store(true, Ordering::Relaxed);
    }

    /// Whether [`Self::found`] was called.
    #[must_use]
    pub fn was_found(&self) -> bool {
        self.was_made.load(Ordering::Relaxed)
    }
}

/// A user's key, its route, and a digest of the request.
#[derive(Clone, Copy, Debug)]
pub struct KeyedScope {
    user: UserId,
    scope: Digest32,
    fingerprint: Digest32,
}

impl KeyedScope {
    /// `route`: method and path. `asked`: the request in its parsed form, so that white space and the order of fields
    /// do not count.
    #[must_use]
    pub fn new(user: UserId, route: &str, key: &str, asked: &str) -> Self {
        let scope = Sha256::new().chain_update(route).chain_update([0_u8]).chain_update(key).finalize().into();
        Self { user, scope, fingerprint: Sha256::digest(asked).into() }
    }
}

/// The key use cases. Cheap to clone.
#[derive(Clone)]
pub struct Keys {
    store: Arc<dyn Store>,
    clock: Clock,
    /// Running attempts of this process; no more than there are requests.
    running: Arc<Mutex<HashSet<(UserId, Digest32)>>>,
}

/// The state of a key at the beginning of a request.
pub enum Begun {
    /// The change has to be made.
    Go(Running),
    /// The change was made: this is the stored answer.
    Answered(KeptAnswer),
}

impl Keys {
    #[must_use]
    pub fn new(store: Arc<dyn Store>, clock: Clock) -> Self {
        Self { store, clock, running: Arc::default() }
    }

    /// Begins an attempt.
    ///
    /// # Errors
    /// `idempotency_key_reused`, `request_in_progress`, `overloaded` (a user has too many keys),
    /// `database_unavailable`.
    pub async fn begin(&self, keyed: KeyedScope) -> Result<Begun, Failure> {
        let place = (keyed.user, keyed.scope);
        if !self.running.lock().unwrap_or_else(PoisonError::into_inner).insert(place) {
            return Err(Failure::retry(Code::RequestInProgress, 1));
        }
        let mut running = Running { keys: self.clone(), place, attempt: Attempt::default() };
        let attempt = KeyedAttempt {
            user: keyed.user,
            scope: keyed.scope,
            fingerprint: keyed.fingerprint,
            id: running.attempt.id,
            at: self.clock.now(),
        };
        running.attempt.fingerprint =
            keyed.fingerprint.first_chunk().map(|first| Fingerprint(u64::from_be_bytes(*first)));
        match self.store.keyed_attempt(&attempt).await? {
            Attempted::New => Ok(Begun::Go(running)),
            Attempted::TooMany => {
                let detail = "There are too many idempotency keys of this account; they are kept for a day";
                Err(Failure { detail: detail.into(), ..Failure::retry(Code::Overloaded, 600) })
            }
            Attempted::Before { same: false, .. } => Err(Failure::new(Code::IdempotencyKeyReused)),
            Attempted::Before { answer: Some(answer), .. } => Ok(Begun::Answered(answer)),
            Attempted::Before { id, answer: None, .. } => {
                (running.attempt.id, running.attempt.resumed) = (id, true);
                Ok(Begun::Go(running))
            }
        }
    }

    /// Deletes expired keys, as long as the task runs.
    pub async fn forget(self) {
        let mut round = tokio::time::interval(FORGET_EVERY);
        loop {
            round.tick().await;
            let before = self.clock.now().plus_millis(-KEY_KEPT_MS);
            loop {
                match self.store.keyed_forget(before).await {
                    Ok(true) => tokio::time::sleep(FORGET_PAUSE).await,
                    Ok(false) => break,
                    Err(error) => {
                        tracing::debug!(%error, "old idempotency keys stay until the next round");
                        break;
                    }
                }
            }
        }
    }
}

/// A running attempt. Until it is dropped, the same key gets `request_in_progress`.
pub struct Running {
    keys: Keys,
    place: (UserId, Digest32),
    attempt: Attempt,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.keys.running.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.place);
    }
}

impl Running {
    #[must_use]
    pub fn attempt(&self) -> &Attempt {
        &self.attempt
    }

    /// Stores the answer for retries. If that fails, a retry finds the attempt by its id.
    pub async fn answered(&self, answer: &KeptAnswer) {
        noted(self.keys.store.keyed_answer(self.attempt.id, answer).await);
    }

    /// Records that nothing was done: the same key may try again.
    pub async fn refused(&self) {
        noted(self.keys.store.keyed_release(self.attempt.id).await);
    }
}

fn noted(done: Result<(), StoreError>) {
    if let Err(error) = done {
        tracing::debug!(%error, "what became of an idempotency key is not kept");
    }
}
