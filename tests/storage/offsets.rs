//! Offsets of the journal's consumers.

use crate::Database;
use livedrop::storage::ConsumerOffset;
use uuid::Uuid;

pub async fn an_offset_is_a_consumers_and_a_journals(db: Database) {
    let (ours, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
    let offset = |epoch, sequence| ConsumerOffset { epoch, sequence };
    assert_eq!(db.store.consumer_offset("events", ours).await.unwrap(), None);
    db.store.keep_consumer_offset("events", ours, offset(3, 1_041)).await.unwrap();
    db.store.keep_consumer_offset("bus", ours, offset(3, 7)).await.unwrap();
    assert_eq!(db.store.consumer_offset("events", ours).await.unwrap(), Some(offset(3, 1_041)));
    assert_eq!(db.store.consumer_offset("events", other).await.unwrap(), None);
    assert_eq!(db.store.consumer_offset("bus", ours).await.unwrap(), Some(offset(3, 7)));
}

pub async fn an_earlier_opening_does_not_overwrite_a_later_one(db: Database) {
    let journal = Uuid::from_u128(1);
    let kept = async |epoch, sequence| {
        db.store.keep_consumer_offset("events", journal, ConsumerOffset { epoch, sequence }).await.unwrap();
        let offset = db.store.consumer_offset("events", journal).await.unwrap().unwrap();
        (offset.epoch, offset.sequence)
    };
    assert_eq!(kept(2, 10).await, (2, 10));
    assert_eq!(kept(3, 12).await, (3, 12));
    assert_eq!(kept(2, 99).await, (3, 12), "a server that was replaced");
    assert_eq!(kept(3, 4).await, (3, 4), "an operator has moved it back");
}
