//! The table of a drop's orders.
//!
//! An order is a slot in a vector, never moved. Three raw hash tables hold slot numbers only and look the key up in the
//! slot, so no id is stored twice. What few orders have (a running payment, a refund, the trace of a failed payment)
//! lies beside, in maps.

use crate::domain::{
    Fingerprint, KeyDigest, OrderId, OrderStatus, RefundCause, Refusal, ReleaseReason, Timestamp, TraceId, UserId,
};
use hashbrown::{DefaultHashBuilder, HashMap, HashTable};
use std::{collections::BTreeMap, hash::BuildHasher};

/// A slot's number.
pub(super) type Slot = u32;

const NONE: Slot = Slot::MAX;

/// One order.
#[derive(Clone, Debug)]
pub(super) struct Order {
    pub id: OrderId,
    pub buyer: UserId,
    pub digest: KeyDigest,
    pub fingerprint: Fingerprint,
    pub created_at: Timestamp,
    pub expires_at: Timestamp,
    /// When it was confirmed or released, whichever holds; meaningless while reserved.
    pub settled_at: Timestamp,
    pub payment_ref: Option<Box<str>>,
    pub quantity: u32,
    pub variant: u16,
    pub status: OrderStatus,
    pub reason: Option<ReleaseReason>,
    previous_of_buyer: Slot,
}

/// What a new order starts with.
pub(super) struct NewOrder {
    pub id: OrderId,
    pub buyer: UserId,
    pub digest: KeyDigest,
    pub fingerprint: Fingerprint,
    pub created_at: Timestamp,
    pub expires_at: Timestamp,
    pub quantity: u32,
    pub variant: u16,
}

#[derive(Clone, Copy, Debug)]
struct Buyer {
    last: Slot,
    units: u32,
}

/// A refusal that a key keeps.
#[derive(Clone, Copy, Debug)]
pub(super) struct Refused {
    pub digest: KeyDigest,
    pub fingerprint: Fingerprint,
    pub trace: TraceId,
    pub refusal: Refusal,
}

/// All orders and refusals of one drop.
#[derive(Default)]
pub(super) struct Orders {
    slots: Vec<Order>,
    by_id: HashTable<Slot>,
    by_key: HashTable<Slot>,
    by_buyer: HashTable<Buyer>,
    refused: HashTable<Refused>,
    hasher: DefaultHashBuilder,
    /// Payments whose outcome is not known yet, by method.
    pub paying: HashMap<Slot, Box<str>>,
    /// Refunds that are owed.
    pub refunds: BTreeMap<Slot, RefundCause>,
    /// When refunds were settled.
    pub refunded: HashMap<Slot, Timestamp>,
    /// Traces of the requests whose payment failed.
    pub failed: HashMap<Slot, TraceId>,
}

impl Orders {
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    pub fn refusals(&self) -> usize {
        self.refused.len()
    }

    pub fn get(&self, slot: Slot) -> &Order {
        &self.slots[slot as usize]
    }

    pub fn get_mut(&mut self, slot: Slot) -> &mut Order {
        &mut self.slots[slot as usize]
    }

    pub fn find(&self, id: OrderId) -> Option<Slot> {
        self.by_id.find(self.hasher.hash_one(id), |&slot| self.get(slot).id == id).copied()
    }

    pub fn find_key(&self, digest: KeyDigest) -> Option<Slot> {
        self.by_key.find(self.hasher.hash_one(digest), |&slot| self.get(slot).digest == digest).copied()
    }

    pub fn find_refusal(&self, digest: KeyDigest) -> Option<&Refused> {
        self.refused.find(self.hasher.hash_one(digest), |refused| refused.digest == digest)
    }

    /// Units that `buyer` holds or owns.
    pub fn units_of(&self, buyer: UserId) -> u32 {
        self.buyer(buyer).map_or(0, |entry| entry.units)
    }

    /// The slots of a buyer's orders, newest first.
    pub fn slots_of(&self, buyer: UserId) -> impl Iterator<Item = Slot> + '_ {
        let first = self.buyer(buyer).map(|entry| entry.last);
        std::iter::successors(first, |&slot| {
            Some(self.get(slot).previous_of_buyer).filter(|&previous| previous != NONE)
        })
    }

    fn buyer(&self, buyer: UserId) -> Option<&Buyer> {
        self.by_buyer.find(self.hasher.hash_one(buyer), |entry| self.get(entry.last).buyer == buyer)
    }

    /// Adds a reserved order. Its units count for its buyer at once.
    pub fn insert(&mut self, new: NewOrder) -> Slot {
        let slot = Slot::try_from(self.slots.len()).expect("KEYS_PER_DROP_MAX is below 2^32");
        let previous_of_buyer = self.link_buyer(new.buyer, slot, new.quantity);
        self.slots.push(Order {
            id: new.id,
            buyer: new.buyer,
            digest: new.digest,
            fingerprint: new.fingerprint,
            created_at: new.created_at,
            expires_at: new.expires_at,
            settled_at: new.created_at,
            payment_ref: None,
            quantity: new.quantity,
            variant: new.variant,
            status: OrderStatus::Reserved,
            reason: None,
            previous_of_buyer,
        });
        let Self { slots, by_id, by_key, hasher, .. } = self;
        by_id.insert_unique(hasher.hash_one(new.id), slot, |&other| hasher.hash_one(slots[other as usize].id));
        by_key.insert_unique(hasher.hash_one(new.digest), slot, |&other| hasher.hash_one(slots[other as usize].digest));
        slot
    }

    fn link_buyer(&mut self, buyer: UserId, slot: Slot, quantity: u32) -> Slot {
        let Self { slots, by_buyer, hasher, .. } = self;
        let hash = hasher.hash_one(buyer);
        if let Some(entry) = by_buyer.find_mut(hash, |entry| slots[entry.last as usize].buyer == buyer) {
            let previous = std::mem::replace(&mut entry.last, slot);
            entry.units += quantity;
            return previous;
        }
        by_buyer.insert_unique(hash, Buyer { last: slot, units: quantity }, |entry| {
            hasher.hash_one(slots[entry.last as usize].buyer)
        });
        NONE
    }

    /// Counts `delta` units more (or fewer) for a buyer that has an order here.
    pub fn change_units(&mut self, buyer: UserId, delta: i64) {
        let Self { slots, by_buyer, hasher, .. } = self;
        let entry = by_buyer
            .find_mut(hasher.hash_one(buyer), |entry| slots[entry.last as usize].buyer == buyer)
            .expect("a buyer with an order");
        entry.units = u32::try_from(i64::from(entry.units) + delta).expect("units never fall below zero");
    }

    pub fn insert_refusal(&mut self, refused: Refused) {
        let Self { refused: table, hasher, .. } = self;
        table.insert_unique(hasher.hash_one(refused.digest), refused, |other| hasher.hash_one(other.digest));
    }

    pub fn refused_keys(&self) -> impl Iterator<Item = KeyDigest> + '_ {
        self.refused.iter().map(|refused| refused.digest)
    }

    pub fn iter(&self) -> impl Iterator<Item = (Slot, &Order)> {
        (0..).zip(self.slots.iter())
    }
}
