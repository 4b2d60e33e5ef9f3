//! Accounts and refresh tokens.

use crate::Database;
use crate::fixtures::{at, token, user};
use livedrop::domain::UserId;
use livedrop::storage::StoreError;
use uuid::Uuid;

pub async fn an_account_is_found_by_id_and_by_address(db: Database) {
    let alice = user("alice@example.com");
    assert_eq!(db.store.user(alice.id).await.unwrap(), None);
    db.store.insert_user(&alice).await.unwrap();
    assert_eq!(db.store.user(alice.id).await.unwrap(), Some(alice.clone()));
    assert_eq!(db.store.user_by_email("alice@example.com").await.unwrap(), Some(alice));
    assert_eq!(db.store.user_by_email("bob@example.com").await.unwrap(), None);
    assert_eq!(db.store.user(UserId::new()).await.unwrap(), None);
}

pub async fn an_address_is_taken_once(db: Database) {
    db.store.insert_user(&user("alice@example.com")).await.unwrap();
    let again = db.store.insert_user(&user("alice@example.com")).await;
    assert!(matches!(again, Err(StoreError::Taken { what: "email" })), "{again:?}");
}

pub async fn of_many_rotations_at_once_exactly_one_wins(db: Database) {
    let alice = user("alice@example.com");
    db.store.insert_user(&alice).await.unwrap();
    let first = token(alice.id, Uuid::new_v4());
    db.store.insert_refresh_token(&first).await.unwrap();
    let rotations = (0..12).map(|_| {
        let (store, old, new) = (db.store.clone(), first.hash, token(alice.id, first.family));
        tokio::spawn(async move { store.rotate_refresh_token(&old, at(5), &new).await.unwrap().then_some(new) })
    });
    let mut won = Vec::new();
    for rotation in rotations.collect::<Vec<_>>() {
        won.extend(rotation.await.unwrap());
    }
    assert_eq!(won.len(), 1);
    assert_eq!(db.store.refresh_token(&won[0].hash).await.unwrap().as_ref(), Some(&won[0]));
    assert_eq!(db.store.refresh_token(&first.hash).await.unwrap().unwrap().used_at, Some(at(5)));
    let unknown = db.store.rotate_refresh_token(&[9; 32], at(6), &token(alice.id, first.family)).await.unwrap();
    assert!(!unknown);
}

pub async fn a_revoked_family_cannot_be_rotated(db: Database) {
    let alice = user("alice@example.com");
    db.store.insert_user(&alice).await.unwrap();
    let (first, other) = (token(alice.id, Uuid::new_v4()), token(alice.id, Uuid::new_v4()));
    db.store.insert_refresh_token(&first).await.unwrap();
    db.store.insert_refresh_token(&other).await.unwrap();
    db.store.revoke_refresh_family(first.family, at(3)).await.unwrap();
    db.store.revoke_refresh_family(first.family, at(9)).await.unwrap();
    let second = token(alice.id, first.family);
    assert!(!db.store.rotate_refresh_token(&first.hash, at(4), &second).await.unwrap());
    assert_eq!(db.store.refresh_token(&second.hash).await.unwrap(), None);
    assert_eq!(db.store.refresh_token(&first.hash).await.unwrap().unwrap().revoked_at, Some(at(3)));
    assert_eq!(db.store.refresh_token(&other.hash).await.unwrap(), Some(other), "other families are left alone");
}

/// A rotation that races a revocation either loses, or its new token is revoked too.
pub async fn a_revocation_lets_no_token_slip_through(db: Database) {
    let alice = user("alice@example.com");
    db.store.insert_user(&alice).await.unwrap();
    for _ in 0..20 {
        let first = token(alice.id, Uuid::new_v4());
        db.store.insert_refresh_token(&first).await.unwrap();
        let (store, second) = (db.store.clone(), token(alice.id, first.family));
        let (hash, new) = (first.hash, second.clone());
        let rotation = tokio::spawn(async move { store.rotate_refresh_token(&hash, at(5), &new).await.unwrap() });
        db.store.revoke_refresh_family(first.family, at(6)).await.unwrap();
        rotation.await.unwrap();
        if let Some(second) = db.store.refresh_token(&second.hash).await.unwrap() {
            assert!(second.revoked_at.is_some());
        }
    }
}
