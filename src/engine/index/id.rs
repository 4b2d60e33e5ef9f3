//! Finds orders by their ids, which rise as orders arrive.
//!
//! Ids are UUIDv7, and slots are numbered as orders arrive, so the order of slots is nearly the order of ids. For each
//! block of slots the index keeps the highest id before it, which tells the two blocks that can have an id, and for
//! each slot 16 bits of a hash, which tell the candidates in these blocks. An id that arrives too late for that, as
//! after a clock was set back, is *out of order* and goes into a hash table.
//!
//! An id above all others is known to be new without a search, and new entries lie next to the previous one: neither
//! waits for a cache line.

use crate::domain::OrderId;
use crate::engine::index::hash::{HashIndex, Number};

/// Slots of a block. An id may be late by this many slots.
const BLOCK: usize = 64;
/// Tags compared at once.
const STEP: usize = 16;

/// The index. The caller passes the hash of the id and a predicate that tells whether a slot has that id.
#[derive(Default)]
pub(in crate::engine) struct IdIndex {
    /// 16 bits of each slot's hash.
    tags: Vec<u16>,
    /// For each block the highest id before it.
    floors: Vec<u128>,
    highest: u128,
    /// Slots whose ids arrived too late.
    out_of_order: HashIndex,
}

impl IdIndex {
    /// Adds the next slot.
    pub fn push(&mut self, id: OrderId, hash: u64) {
        let (id, slot) = (id.0.as_u128(), self.tags.len());
        if slot.is_multiple_of(BLOCK) {
            self.floors.push(self.highest);
        }
        let last = self.floors.len() - 1;
        if id <= self.floors[last.saturating_sub(1)] {
            self.out_of_order.insert(hash, Number::try_from(slot).expect("ORDERS_PER_DROP_MAX is below 2^32"));
        }
        self.highest = self.highest.max(id);
        self.tags.push(tag_of(hash));
    }

    /// The highest id.
    pub fn highest(&self) -> Option<OrderId> {
        (!self.tags.is_empty()).then(|| OrderId(uuid::Uuid::from_u128(self.highest)))
    }

    pub fn find(&self, id: OrderId, hash: u64, mut is_it: impl FnMut(Number) -> bool) -> Option<Number> {
        let id = id.0.as_u128();
        if id > self.highest {
            return None;
        }
        // In block `b`, ids are above the floor of `b - 1` and not above that of `b + 1`.
        let above = self.floors.partition_point(|&floor| floor < id);
        let start = above.saturating_sub(1) * BLOCK;
        let end = ((above + 1) * BLOCK).min(self.tags.len());
        self.search(start..end, tag_of(hash), &mut is_it).or_else(|| self.out_of_order.find(hash, is_it))
    }

    fn search(
        &self,
        slots: std::ops::Range<usize>,
        tag: u16,
        is_it: &mut impl FnMut(Number) -> bool,
    ) -> Option<Number> {
        for (step, tags) in self.tags[slots.clone()].chunks(STEP).enumerate() {
            // An array of known length is compared in one vector operation.
            let mut matching = match <&[u16; STEP]>::try_from(tags) {
                Ok(tags) => matching(tags, tag),
                Err(_) => matching(tags, tag),
            };
            while matching != 0 {
                let slot = (slots.start + step * STEP + matching.trailing_zeros() as usize) as Number;
                if is_it(slot) {
                    return Some(slot);
                }
                matching &= matching - 1;
            }
        }
        None
    }
}

/// A bit mask of the equal tags.
#[inline]
fn matching(tags: &[u16], tag: u16) -> u32 {
    tags.iter().enumerate().fold(0, |bits, (at, &other)| bits | u32::from(other == tag) << at)
}

fn tag_of(hash: u64) -> u16 {
    (hash >> 48) as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;
    use uuid::Uuid;

    fn order(id: u128) -> OrderId {
        OrderId(Uuid::from_u128(id))
    }

    fn hash(id: u128) -> u64 {
        (id as u64).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    /// Compares the index with the standard library's table; an id occurs at most once. Returns the number of entries
    /// out of order.
    fn behaves(ids: &[u128]) -> usize {
        let (mut sequence, mut slots, mut expected) = (IdIndex::default(), Vec::new(), HashMap::new());
        let find = |sequence: &IdIndex, slots: &[u128], id| {
            sequence.find(order(id), hash(id), |slot| slots[slot as usize] == id)
        };
        let mut out_of_order = 0;
        for &id in ids {
            if expected.contains_key(&id) {
                assert_eq!(find(&sequence, &slots, id), expected.get(&id).copied());
                continue;
            }
            assert_eq!(find(&sequence, &slots, id), None, "{id}");
            sequence.push(order(id), hash(id));
            let slot = slots.len() as Number;
            slots.push(id);
            expected.insert(id, slot);
            out_of_order += usize::from(sequence.out_of_order.find(hash(id), |other| other == slot).is_some());
        }
        for id in ids.iter().flat_map(|&id| [id, id.wrapping_add(1), id.wrapping_sub(1)]) {
            assert_eq!(find(&sequence, &slots, id), expected.get(&id).copied(), "{id}");
        }
        out_of_order
    }

    proptest! {
        #[test]
        fn it_finds_what_a_hash_map_finds(ids in prop::collection::vec(0..2_000_u128, 0..1_000)) {
            behaves(&ids);
        }

        #[test]
        fn ids_that_come_a_little_late_are_no_strays(late in prop::collection::vec(0..BLOCK / 2, 1_000)) {
            // Each id is up to half a block behind its position, so two ids are up to a block apart.
            let mut ids: Vec<(usize, u128)> = late.iter().enumerate().map(|(at, late)| (at + late, at as u128 + 1)).collect();
            ids.sort_unstable();
            let ids: Vec<u128> = ids.into_iter().map(|(_, id)| id).collect();
            prop_assert_eq!(behaves(&ids), 0);
        }
    }

    #[test]
    fn any_order_is_right() {
        let rising: Vec<u128> = (1..2_000).collect();
        assert_eq!(behaves(&rising), 0);
        let falling: Vec<u128> = (0..2_000).rev().collect();
        assert_eq!(behaves(&falling), 2_000 - 2 * BLOCK);
        // A clock that was set back.
        let back: Vec<u128> = (1_000..2_000).chain(0..1_000).chain(2_000..3_000).collect();
        assert!(behaves(&back) > 0);
    }
}
