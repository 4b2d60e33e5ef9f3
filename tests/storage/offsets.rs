//! Offsets of the journal's consumers.

use crate::Database;
use livedrop::storage::{ConsumerOffset, DeadLetterRow};
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

pub async fn dead_letters_are_a_consumers_and_a_journals_each_once_and_in_order(db: Database) {
    let (ours, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
    let letter = |sequence: u64, reason: &str| DeadLetterRow {
        id: format!("{sequence}-0"),
        sequence,
        reason: reason.to_owned(),
        letter: format!("{{\"id\":\"{sequence}-0\",\"reason\":\"\\u0000 🎉\"}}"),
    };
    let kept = async |consumer: &str, journal| db.store.dead_letters(consumer, journal, 100).await.unwrap();
    assert_eq!(kept("events", ours).await, []);
    assert_eq!(db.store.dead_letter_count("events", ours).await.unwrap(), 0);
    db.store.keep_dead_letters("events", ours, &[letter(100, "no"), letter(9, "no")]).await.unwrap();
    db.store.keep_dead_letters("events", other, &[letter(7, "no")]).await.unwrap();
    db.store.keep_dead_letters("bus", ours, &[letter(8, "no")]).await.unwrap();
    // Moved once more after a crash, with another reason, which cannot be written as it is.
    db.store.keep_dead_letters("events", ours, &[letter(9, "\0 🎉"), letter(11, "no")]).await.unwrap();
    assert_eq!(kept("events", ours).await, [letter(9, "? ?"), letter(11, "no"), letter(100, "no")]);
    assert_eq!(db.store.dead_letter_count("events", ours).await.unwrap(), 3);
    assert_eq!(db.store.dead_letters("events", ours, 2).await.unwrap().len(), 2);
    db.store.remove_dead_letter("events", ours, &letter(9, "")).await.unwrap();
    db.store.remove_dead_letter("events", ours, &letter(9, "")).await.unwrap();
    assert_eq!(kept("events", ours).await, [letter(11, "no"), letter(100, "no")]);
    assert_eq!((kept("events", other).await.len(), kept("bus", ours).await.len()), (1, 1));
}
