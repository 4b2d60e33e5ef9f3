//! Refused requests that would have paid, remembered for a while.
//!
//! A refusal leaves nothing behind, so that the crowd that comes too late costs next to nothing, and a buyer who tries again with the same
//! key gets what has come back meanwhile. One thing must not happen: a proxy or a network holds back a copy of a request that pays in the same call,
//! the buyer is told that it is refused, and the copy arrives when stock is back and charges. So what such a request was refused is kept for
//! a minute at least where the operator does not say, twice that at most, in memory alone: 8 bytes and what a hash table takes besides, about 20 together.
//!
//! A restart forgets. A drop that was sold out before it takes no payments in one call for as long as a refusal would have been
//! remembered, see [`Registry`](super::registry::Registry).

use crate::domain::limits::{QUANTITY_PER_ORDER_MAX, REFUSED_KEYS_MAX};
use crate::domain::{DropId, Fingerprint, KeyDigest, Refusal, Timestamp};
use hashbrown::{DefaultHashBuilder, HashTable};
use std::hash::BuildHasher;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Tables, each with a lock of its own. One that grows holds up the requests of its keys alone.
const SHARDS: usize = 64;
const PER_SHARD_MAX: usize = REFUSED_KEYS_MAX / SHARDS;

/// The low bits of an entry say what was answered, the others are a hash of the request.
const ANSWER_BITS: u32 = 10;
const ANSWER: u64 = (1 << ANSWER_BITS) - 1;
const LIMIT_EXCEEDED: u64 = ANSWER;
// Between 0 (sold out) and that: so many units were free, fewer than were asked for.
const _: () = assert!((QUANTITY_PER_ORDER_MAX as u64) < LIMIT_EXCEEDED);

/// One request: its key, its drop, and what it asks for. The same key for something else is another request.
pub type RefusedKey<'a> = (&'a KeyDigest, DropId, Fingerprint);

/// The refused requests of a process.
pub struct RefusedKeys {
    shards: Vec<Mutex<Shard>>,
    /// Seeded anew in each process: nobody can make two requests collide, and by chance one in some 10^10 does at the bound.
    hasher: DefaultHashBuilder,
    /// How long they are remembered at least; 0 for not at all.
    kept_ms: i64,
}

/// What was refused since `turned`, and in the period before that.
#[derive(Default)]
struct Shard {
    young: HashTable<u64>,
    old: HashTable<u64>,
    turned: Timestamp,
}

/// The hash of an entry: without the answer, and with bits that differ at both ends.
fn spread(entry: &u64) -> u64 {
    (entry >> ANSWER_BITS) ^ (entry & !ANSWER)
}

impl Shard {
    /// Begins a new period when this one is over.
    fn turn(&mut self, now: Timestamp, kept_ms: i64) {
        let age_ms = now.millis_since(self.turned);
        if age_ms >= kept_ms {
            self.old = if age_ms < 2 * kept_ms { std::mem::take(&mut self.young) } else { HashTable::new() };
            self.young = HashTable::new();
            self.turned = now;
        }
    }

    fn find(&self, hash: u64) -> Option<u64> {
        let of = |table: &HashTable<u64>| table.find(spread(&hash), |entry| (entry ^ hash) & !ANSWER == 0).copied();
        of(&self.young).or_else(|| of(&self.old)).map(|entry| entry & ANSWER)
    }
}

impl RefusedKeys {
    /// None yet. Each is remembered for `kept` at least.
    #[must_use]
    pub fn new(kept: Duration) -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        Self { shards, hasher: DefaultHashBuilder::default(), kept_ms: kept.as_millis() as i64 }
    }

    /// For how many milliseconds a refusal is remembered at least.
    #[must_use]
    pub fn kept_ms(&self) -> i64 {
        self.kept_ms
    }

    /// Remembers what a request was refused, from `now` (the steady clock) on; of one that is remembered already, the first answer. `false` where there
    /// is no room: then the request must not be refused, but asked to come again. Refusals that nothing can turn into an order need no memory.
    #[must_use]
    pub fn remember(&self, request: RefusedKey<'_>, refusal: Refusal, now: Timestamp) -> bool {
        let answer = match refusal {
            _ if self.kept_ms == 0 => return true,
            Refusal::SoldOut => 0,
            Refusal::NotEnoughStock { available } => u64::from(available.clamp(1, QUANTITY_PER_ORDER_MAX)),
            Refusal::LimitExceeded => LIMIT_EXCEEDED,
            Refusal::NotStarted | Refusal::Ended | Refusal::DropCancelled | Refusal::UnknownVariant => return true,
        };
        let hash = self.hash(request);
        let mut shard = self.shard(hash);
        shard.turn(now, self.kept_ms);
        if shard.find(hash).is_some() {
            return true;
        }
        if shard.young.len() + shard.old.len() >= PER_SHARD_MAX {
            return false;
        }
        let entry = hash | answer;
        shard.young.insert_unique(spread(&entry), entry, spread);
        true
    }

    /// What a request was refused, if that is remembered at `now`.
    #[must_use]
    pub fn find(&self, request: RefusedKey<'_>, now: Timestamp) -> Option<Refusal> {
        let hash = self.hash(request);
        let mut shard = self.shard(hash);
        shard.turn(now, self.kept_ms);
        Some(match shard.find(hash)? {
            0 => Refusal::SoldOut,
            LIMIT_EXCEEDED => Refusal::LimitExceeded,
            available => Refusal::NotEnoughStock { available: available as u32 },
        })
    }

    /// Gives back what is not remembered any more. Without it that waits for the next request of a shard.
    pub fn sweep(&self, now: Timestamp) {
        self.shards.iter().for_each(|shard| lock(shard).turn(now, self.kept_ms));
    }

    /// How many are remembered, or not swept yet.
    #[must_use]
    pub fn len(&self) -> usize {
        let of = |shard: MutexGuard<'_, Shard>| shard.young.len() + shard.old.len();
        self.shards.iter().map(|shard| of(lock(shard))).sum()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn hash(&self, request: RefusedKey<'_>) -> u64 {
        self.hasher.hash_one(request) & !ANSWER
    }

    fn shard(&self, hash: u64) -> MutexGuard<'_, Shard> {
        // Other bits than those that a table looks at first.
        lock(&self.shards[(hash >> 32) as usize % SHARDS])
    }
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::UserId;

    const SOLD_OUT: Refusal = Refusal::SoldOut;

    fn kept_a_minute() -> RefusedKeys {
        RefusedKeys::new(Duration::from_secs(60))
    }

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(1_000_000_000_000 + millis)
    }

    fn digest(n: u32) -> KeyDigest {
        KeyDigest::of(UserId(uuid::Uuid::nil()), &n.to_string())
    }

    #[test]
    fn what_was_refused_is_found_for_a_minute_and_forgotten_after_two() {
        let (keys, drop, print) = (kept_a_minute(), DropId::new(), Fingerprint(7));
        let refusals = [SOLD_OUT, Refusal::NotEnoughStock { available: 999 }, Refusal::LimitExceeded];
        for (n, refusal) in (0..).zip(refusals) {
            assert!(keys.remember((&digest(n), drop, print), refusal, at(0)));
            for later in [0, 59_999] {
                assert_eq!(keys.find((&digest(n), drop, print), at(later)), Some(refusal));
            }
        }
        assert!(keys.remember((&digest(0), drop, print), Refusal::LimitExceeded, at(60_000)));
        assert_eq!(keys.find((&digest(0), drop, print), at(60_000)), Some(SOLD_OUT), "the first answer");
        assert_eq!(keys.find((&digest(1), drop, print), at(200_000)), None);
        assert!(keys.remember((&digest(9), drop, print), SOLD_OUT, at(300_000)));
        keys.sweep(at(500_000));
        assert!(keys.is_empty());
    }

    #[test]
    fn another_key_drop_or_wish_is_another_request() {
        let (keys, drop, print) = (kept_a_minute(), DropId::new(), Fingerprint(7));
        assert!(keys.remember((&digest(1), drop, print), SOLD_OUT, at(0)));
        for other in [(&digest(2), drop, print), (&digest(1), DropId::new(), print), (&digest(1), drop, Fingerprint(8))]
        {
            assert_eq!(keys.find(other, at(0)), None);
        }
    }

    #[test]
    fn what_cannot_become_an_order_takes_no_room() {
        let keys = kept_a_minute();
        for refusal in [Refusal::Ended, Refusal::DropCancelled, Refusal::UnknownVariant] {
            assert!(keys.remember((&digest(1), DropId::new(), Fingerprint(7)), refusal, at(0)));
        }
        assert!(keys.is_empty());
    }

    #[test]
    fn a_full_memory_says_so_and_forgets_nothing() {
        let (keys, drop) = (kept_a_minute(), DropId::new());
        let taken: Vec<u64> = (0..2 * REFUSED_KEYS_MAX as u64)
            .take_while(|n| keys.remember((&digest(0), drop, Fingerprint(*n)), SOLD_OUT, at(0)))
            .collect();
        assert!(taken.len() > REFUSED_KEYS_MAX / 2 && keys.len() == taken.len());
        assert!(taken.iter().all(|n| keys.find((&digest(0), drop, Fingerprint(*n)), at(1)) == Some(SOLD_OUT)));
        let of = |table: &HashTable<u64>| table.allocation_size();
        let bytes: usize = keys.shards.iter().map(|shard| of(&lock(shard).young)).sum();
        assert!(bytes <= 24 * taken.len(), "{bytes} bytes for {}", taken.len());
    }
}
