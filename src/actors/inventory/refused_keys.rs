//! Refused one-call payments: requests that would have paid, and are remembered for a while.
//!
//! A refusal leaves no record, so that requests after the sale cost next to nothing, and a retry with the same key can
//! get units that came back. One case is dangerous: a proxy or a network delays a copy of a request that pays in the
//! same call, the original is refused, and the copy arrives when stock is back and charges the buyer. The refusal of
//! such a request is therefore kept for the configured time at least (default: a minute) and twice that at most, in
//! memory only. An entry has 8 bytes, about 20 with the hash table around it.
//!
//! A restart loses these refusals. A drop that is sold out at the start accepts no one-call payments for the configured
//! time, see [`Registry`](super::registry::Registry).

use crate::domain::limits::{QUANTITY_PER_ORDER_MAX, REFUSED_KEYS_MAX};
use crate::domain::{DropId, Fingerprint, KeyDigest, Refusal, Timestamp};
use hashbrown::{DefaultHashBuilder, HashTable};
use std::hash::BuildHasher;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Shards with a lock each, so that a table that grows delays only the requests in its shard.
const SHARDS: usize = 64;
const PER_SHARD_MAX: usize = REFUSED_KEYS_MAX / SHARDS;

/// The low bits of an entry encode the refusal, the others are a hash of the request.
const ANSWER_BITS: u32 = 10;
const ANSWER: u64 = (1 << ANSWER_BITS) - 1;
const LIMIT_EXCEEDED: u64 = ANSWER;
// The values between 0 (sold out) and `LIMIT_EXCEEDED` are the number of free units, fewer than requested.
const _: () = assert!((QUANTITY_PER_ORDER_MAX as u64) < LIMIT_EXCEEDED);

/// A request: its key, its drop, and the fingerprint of its content. The same key with other content is another
/// request.
pub type RefusedKey<'a> = (&'a KeyDigest, DropId, Fingerprint);

/// The refused one-call payments of a process.
pub struct RefusedKeys {
    shards: Vec<Mutex<Shard>>,
    /// Seeded anew in each process, so that no client can construct a collision. At the bound about one request in
    /// 10^10 collides by chance.
    hasher: DefaultHashBuilder,
    /// The minimum time in memory; 0 turns it off.
    kept_ms: i64,
}

/// Refusals since `turned`, and those of the period before.
#[derive(Default)]
struct Shard {
    young: HashTable<u64>,
    old: HashTable<u64>,
    turned: Timestamp,
}

/// The table's hash of an entry: independent of the refusal, with varying bits at both ends.
fn spread(entry: &u64) -> u64 {
    (entry >> ANSWER_BITS) ^ (entry & !ANSWER)
}

impl Shard {
    /// Starts a new period if the current one is over.
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
    /// An empty set. Each entry is remembered for at least `kept`.
    #[must_use]
    pub fn new(kept: Duration) -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        Self { shards, hasher: DefaultHashBuilder::default(), kept_ms: kept.as_millis() as i64 }
    }

    /// The minimum time in memory, in milliseconds.
    #[must_use]
    pub fn kept_ms(&self) -> i64 {
        self.kept_ms
    }

    /// Remembers a refusal from `now` (the steady clock) on; an entry that exists keeps its first refusal. Returns
    /// `false` if the shard is full: the caller must then answer "try again" instead of the refusal. Refusals that stay
    /// true are not stored.
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

    /// The remembered refusal of a request at `now`.
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

    /// Frees expired entries. Without it they stay until the next request of their shard.
    pub fn sweep(&self, now: Timestamp) {
        self.shards.iter().for_each(|shard| lock(shard).turn(now, self.kept_ms));
    }

    /// The number of entries, including expired ones that are not swept yet.
    #[must_use]
    pub fn len(&self) -> usize {
        let of = |shard: MutexGuard<'_, Shard>| shard.young.len() + shard.old.len();
        self.shards.iter().map(|shard| of(lock(shard))).sum()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn hash(&self, request: RefusedKey<'_>) -> u64 {
        self.hasher.hash_one(request) & !ANSWER
    }

    fn shard(&self, hash: u64) -> MutexGuard<'_, Shard> {
        // Bits that the table does not use first.
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
