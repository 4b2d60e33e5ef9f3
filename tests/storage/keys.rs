//! Idempotency keys of changes other than orders.

use crate::Database;
use crate::fixtures::{Journal, Sale, at, register};
use livedrop::domain::limits::KEY_KEPT_MS;
use livedrop::domain::{
    AdminAction, DropEvent, DropRecord, Fingerprint, KeyDigest, KeyedRequest, Principal, TraceId, UserId,
};
use livedrop::storage::{Attempted, KeptAnswer, KeyedAttempt};
use uuid::Uuid;

fn attempt(user: UserId, scope: u8, fingerprint: u8, millis: i64) -> KeyedAttempt {
    KeyedAttempt { user, scope: [scope; 32], fingerprint: [fingerprint; 32], id: Uuid::now_v7(), at: at(millis) }
}

fn before(id: Uuid, same: bool, answer: Option<&KeptAnswer>) -> Attempted {
    Attempted::Before { id, same, answer: answer.cloned() }
}

pub async fn a_key_stands_for_its_first_attempt(db: Database) {
    let (users, _) = register(&db, 2).await;
    let first = attempt(users[0], 1, 1, 0);
    assert_eq!(db.store.keyed_attempt(&first).await.unwrap(), Attempted::New);
    let again = attempt(users[0], 1, 1, 5);
    assert_eq!(db.store.keyed_attempt(&again).await.unwrap(), before(first.id, true, None));
    let other = attempt(users[0], 1, 2, 5);
    assert_eq!(db.store.keyed_attempt(&other).await.unwrap(), before(first.id, false, None));
    for new in [attempt(users[0], 2, 1, 5), attempt(users[1], 1, 1, 5)] {
        assert_eq!(db.store.keyed_attempt(&new).await.unwrap(), Attempted::New, "another key, another user");
    }
    let answer = KeptAnswer {
        status: 201,
        location: Some("/api/v1/products/1".to_owned()),
        etag: None,
        body: "{\"name\":\"Größe 🧥\"}".to_owned(),
    };
    db.store.keyed_answer(first.id, &answer).await.unwrap();
    assert_eq!(db.store.keyed_attempt(&again).await.unwrap(), before(first.id, true, Some(&answer)));
    // A released attempt is forgotten, and its key is free.
    db.store.keyed_release(first.id).await.unwrap();
    assert_eq!(db.store.keyed_attempt(&again).await.unwrap(), Attempted::New);
}

pub async fn a_key_is_kept_for_a_day(db: Database) {
    let (users, _) = register(&db, 1).await;
    let first = attempt(users[0], 1, 1, 0);
    assert_eq!(db.store.keyed_attempt(&first).await.unwrap(), Attempted::New);
    assert!(!db.store.keyed_forget(at(0)).await.unwrap());
    let last = attempt(users[0], 1, 1, KEY_KEPT_MS - 1);
    assert_eq!(db.store.keyed_attempt(&last).await.unwrap(), before(first.id, true, None));
    let late = attempt(users[0], 1, 2, KEY_KEPT_MS);
    assert_eq!(db.store.keyed_attempt(&late).await.unwrap(), Attempted::New, "although nobody forgot it yet");
    assert!(!db.store.keyed_forget(at(KEY_KEPT_MS + 1)).await.unwrap());
    let anew = attempt(users[0], 1, 3, KEY_KEPT_MS + 1);
    assert_eq!(db.store.keyed_attempt(&anew).await.unwrap(), Attempted::New, "forgotten");
}

pub async fn the_projection_says_which_attempts_the_journal_has(db: Database) {
    let (users, _) = register(&db, 1).await;
    let (mut journal, sale) = (Journal::new(&db), Sale::of(&[5]));
    journal.project(sale.opened()).await;
    let (made, lost) = (attempt(users[0], 1, 1, 0), attempt(users[0], 2, 1, 0));
    for attempt in [&made, &lost] {
        assert_eq!(db.store.keyed_attempt(attempt).await.unwrap(), Attempted::New);
    }
    let actor = Principal { user: users[0], admin: false, origin: "::1".into(), trace: TraceId::random() };
    let request = Some(KeyedRequest { digest: KeyDigest(made.id), fingerprint: Fingerprint(1) });
    let variant = sale.spec.variants[0].id;
    let records: Vec<DropRecord> = vec![
        sale.event(10, DropEvent::Restocked { variant, quantity: 2 }),
        sale.event(10, DropEvent::AuditedCommand { actor, act: AdminAction::Restocked(None, 2), request }),
    ];
    journal.project(records).await;
    assert!(db.store.keyed_is_done(made.id).await.unwrap());
    assert!(!db.store.keyed_is_done(lost.id).await.unwrap());
    assert!(!db.store.keyed_is_done(Uuid::now_v7()).await.unwrap());
    // A failure reported late does not release an attempt that is done.
    db.store.keyed_release(made.id).await.unwrap();
    assert!(db.store.keyed_is_done(made.id).await.unwrap());
}
