//! The journal that owns a database, and heartbeats.

use crate::Database;
use crate::fixtures::{Journal, Sale};
use livedrop::storage::{Heartbeat, Owner, Schema, StoreError};
use uuid::Uuid;

/// A journal with an id of this age: a smaller number is an older journal.
fn journal(db: &Database, age: u128) -> Journal {
    Journal { id: Uuid::from_u128(age), ..Journal::new(db) }
}

pub async fn a_journal_gets_its_database_back(db: Database) {
    let mut first = journal(&db, 1);
    db.store.claim(first.id, first.epoch).await.unwrap();
    first.project(Sale::of(&[5]).opened()).await;
    let owned = Owner { journal: first.id, epoch: first.epoch, retired: false, applied: Some(2) };
    assert_eq!(db.store.owners().await.unwrap(), [owned]);
    assert!(!db.store.reinstate(first.id, 2).await.unwrap(), "it has its database");
    db.store.disown().await.unwrap();
    assert_eq!(db.store.owners().await.unwrap(), [Owner { epoch: u32::MAX, retired: true, ..owned }]);
    let refused = db.store.claim(first.id, 2).await;
    assert!(matches!(refused, Err(StoreError::Retired { journal }) if journal == first.id), "{refused:?}");
    assert!(db.store.reinstate(first.id, 2).await.unwrap());
    assert_eq!(db.store.owners().await.unwrap(), [Owner { epoch: 2, ..owned }]);
    assert_eq!(db.store.claim(first.id, 3).await.unwrap(), 2);
    assert!(matches!(db.store.reinstate(Uuid::nil(), 1).await, Err(StoreError::Corrupt(_))), "nobody knows it");
}

pub async fn a_journal_does_not_get_back_what_another_has_had(db: Database) {
    let (mut first, mut second) = (journal(&db, 1), journal(&db, 2));
    first.project(Sale::of(&[5]).opened()).await;
    db.store.disown().await.unwrap();
    db.store.claim(second.id, second.epoch).await.unwrap();
    let (former, latter) = (first.id, second.id);
    let superseded = async || {
        let refused = db.store.reinstate(former, 9).await;
        assert!(matches!(refused, Err(StoreError::Superseded { by }) if by == latter), "{refused:?}");
    };
    superseded().await;
    second.project(Sale::of(&[5]).opened()).await;
    db.store.disown().await.unwrap();
    // The second no longer owns the database, but its sales are still there.
    superseded().await;
    assert!(db.store.reinstate(second.id, 9).await.unwrap(), "the older one was here before it");
}

pub async fn a_sign_of_life_ages_and_ends(db: Database) {
    let id = Uuid::from_u128(7);
    assert!(db.store.heartbeats().await.unwrap().is_empty());
    db.store.beat(id, 2, "here").await.unwrap();
    // From an earlier opening that was slow; neither call has an effect.
    db.store.beat(id, 1, "there").await.unwrap();
    db.store.rest(id, 1).await.unwrap();
    let heard = db.store.heartbeats().await.unwrap();
    let [Heartbeat { journal, server, ago_ms }] = &heard[..] else { panic!("{heard:?}") };
    assert_eq!((*journal, server.as_str()), (id, "here"));
    assert!((0..60_000).contains(ago_ms), "by one clock: {ago_ms}");
    db.raw("UPDATE heartbeats SET at = at - 3600000").await.unwrap();
    assert!(db.store.heartbeats().await.unwrap()[0].ago_ms >= 3_600_000);
    db.store.beat(id, 3, "elsewhere").await.unwrap();
    assert!(db.store.heartbeats().await.unwrap()[0].ago_ms < 60_000);
    db.store.rest(id, 3).await.unwrap();
    assert!(db.store.heartbeats().await.unwrap().is_empty());
}

pub async fn a_heartbeat_learns_whether_the_database_is_still_its_own(db: Database) {
    let first = journal(&db, 1);
    assert!(!db.store.beat(first.id, 1, "here").await.unwrap(), "nothing was claimed");
    db.store.claim(first.id, 1).await.unwrap();
    assert!(db.store.beat(first.id, 1, "here").await.unwrap());
    db.store.claim(first.id, 2).await.unwrap();
    assert!(!db.store.beat(first.id, 1, "here").await.unwrap(), "a later opening has it");
    assert!(db.store.beat(first.id, 2, "here").await.unwrap());
    db.store.disown().await.unwrap();
    assert!(!db.store.beat(first.id, 2, "here").await.unwrap(), "it was taken away");
}

pub async fn the_schema_is_told(db: Database) {
    assert_eq!(db.store.schema().await.unwrap(), Schema::Absent);
    db.store.migrate().await.unwrap();
    assert_eq!(db.store.schema().await.unwrap(), Schema::Current);
    db.raw("UPDATE _sqlx_migrations SET version = version + 1000 WHERE version = (SELECT MAX(version) FROM _sqlx_migrations)")
        .await
        .unwrap();
    assert_eq!(db.store.schema().await.unwrap(), Schema::Newer);
    db.raw("DELETE FROM _sqlx_migrations WHERE version > 1000").await.unwrap();
    assert_eq!(db.store.schema().await.unwrap(), Schema::Older);
}
