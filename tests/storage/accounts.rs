//! Accounts and refresh tokens.

use crate::Database;
use crate::fixtures::{at, audit, creator, token, user};
use livedrop::domain::{CreatorId, UserId};
use livedrop::storage::{AuditFilter, StoreError, User};
use uuid::Uuid;

pub async fn an_account_is_found_by_id_and_by_address(db: Database) {
    let alice = user("alice@example.com");
    assert_eq!(db.store.user(alice.id).await.unwrap(), None);
    db.store.insert_user(&alice).await.unwrap();
    assert_eq!(db.store.user(alice.id).await.unwrap(), Some(alice.clone()));
    assert_eq!(db.store.user_by_email("alice@example.com", "alice@example.com").await.unwrap(), Some(alice));
    assert_eq!(db.store.user_by_email("bob@example.com", "bob@example.com").await.unwrap(), None);
    assert_eq!(db.store.user(UserId::new()).await.unwrap(), None);
}

pub async fn an_address_is_taken_once(db: Database) {
    db.store.insert_user(&user("alice@example.com")).await.unwrap();
    let again = db.store.insert_user(&user("alice@example.com")).await;
    assert!(matches!(again, Err(StoreError::Taken { what: "email" })), "{again:?}");
}

pub async fn an_address_in_another_form_leads_to_the_account_and_is_taken(db: Database) {
    let elder = User { email: "caf\u{e9}@example.com".into(), ..user("caf\u{e9}@example.com") };
    let younger = User { email: "cafe\u{301}@example.com".into(), email_key: None, ..user("caf\u{e9}@example.com") };
    db.store.insert_user(&User { email_key: None, ..elder.clone() }).await.unwrap();
    db.store.insert_user(&younger).await.unwrap();
    let mut without = db.store.accounts_without_key(None, 1).await.unwrap();
    without.extend(db.store.accounts_without_key(Some(without[0].0), 9).await.unwrap());
    assert_eq!(without, [(elder.id, elder.email.clone()), (younger.id, younger.email.clone())]);
    let keys: Vec<_> = without.iter().map(|(id, _)| (*id, "caf\u{e9}@example.com".to_owned())).collect();
    assert_eq!(db.store.set_email_keys(&keys).await.unwrap(), 1);
    assert_eq!(db.store.set_email_keys(&keys).await.unwrap(), 0);
    assert_eq!(db.store.accounts_without_key(None, 9).await.unwrap().len(), 1);
    for (typed, whose) in
        [("cafe\u{301}@example.com", &younger), ("caf\u{e9}@example.com", &elder), ("another", &elder)]
    {
        let found = db.store.user_by_email(typed, "caf\u{e9}@example.com").await.unwrap();
        assert_eq!(found.as_ref(), Some(whose), "{typed}");
    }
    let again = db.store.insert_user(&User { email: "another".into(), ..user("caf\u{e9}@example.com") }).await;
    assert!(matches!(again, Err(StoreError::Taken { what: "email" })), "{again:?}");
    db.store.delete_user(elder.id, &audit(elder.id, 1)).await.unwrap();
    db.store.insert_user(&User { email: "another".into(), ..user("caf\u{e9}@example.com") }).await.unwrap();
}

pub async fn a_hash_is_renewed_unless_it_has_changed(db: Database) {
    let alice = user("alice@example.com");
    db.store.insert_user(&alice).await.unwrap();
    assert!(db.store.renew_password_hash(alice.id, &alice.password_hash, "renewed").await.unwrap());
    assert!(!db.store.renew_password_hash(alice.id, &alice.password_hash, "again").await.unwrap());
    assert_eq!(db.store.user(alice.id).await.unwrap().unwrap().password_hash, "renewed");
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

pub async fn a_new_password_signs_out_everywhere(db: Database) {
    let alice = user("alice@example.com");
    db.store.insert_user(&alice).await.unwrap();
    let tokens = [token(alice.id, Uuid::new_v4()), token(alice.id, Uuid::new_v4())];
    for token in &tokens {
        db.store.insert_refresh_token(token).await.unwrap();
    }
    db.store.set_password(alice.id, "another", &audit(alice.id, 7)).await.unwrap();
    assert_eq!(db.store.user(alice.id).await.unwrap().unwrap().password_hash, "another");
    for token in &tokens {
        assert_eq!(db.store.refresh_token(&token.hash).await.unwrap().unwrap().revoked_at, Some(at(7)));
        let next = crate::fixtures::token(alice.id, token.family);
        assert!(!db.store.rotate_refresh_token(&token.hash, at(8), &next).await.unwrap());
    }
    let changed = User { display_name: "Alice".into(), role: "admin".into(), private_follows: false, ..alice };
    db.store.update_user(&changed, &audit(changed.id, 9)).await.unwrap();
    let changed = User { password_hash: "another".into(), ..changed };
    assert_eq!(db.store.user(changed.id).await.unwrap(), Some(changed));
}

pub async fn an_account_that_is_promoted_has_a_new_password_and_no_login(db: Database) {
    let (alice, root) = (user("alice@example.com"), user("root@example.com"));
    db.store.insert_user(&alice).await.unwrap();
    let login = token(alice.id, Uuid::new_v4());
    db.store.insert_refresh_token(&login).await.unwrap();
    assert!(!db.store.promote_to_admin(UserId::new(), "another", &audit(alice.id, 6)).await.unwrap());
    assert!(db.store.promote_to_admin(alice.id, "another", &audit(alice.id, 7)).await.unwrap());
    let promoted = db.store.user(alice.id).await.unwrap().unwrap();
    assert_eq!((promoted.role.as_str(), promoted.password_hash.as_str()), ("admin", "another"));
    assert_eq!(db.store.refresh_token(&login.hash).await.unwrap().unwrap().revoked_at, Some(at(7)));

    let root = User { role: "admin".into(), ..root };
    db.store.insert_admin(&root, &audit(root.id, 8)).await.unwrap();
    assert_eq!(db.store.user(root.id).await.unwrap(), Some(root));
    let again = db.store.insert_admin(&user("root@example.com"), &audit(alice.id, 9)).await;
    assert!(matches!(again, Err(StoreError::Taken { what: "email" })), "{again:?}");
    let trail = db.store.audit(AuditFilter::default(), None, 10).await.unwrap();
    assert_eq!(trail.len(), 2, "what did not happen leaves no line");
}

pub async fn a_deleted_account_leaves_nothing_personal(db: Database) {
    let (alice, maker) = (user("alice@example.com"), user("maker@example.com"));
    db.store.insert_user(&maker).await.unwrap();
    db.store.insert_creator(&creator(maker.id, "maker")).await.unwrap();
    let maker = CreatorId::from(maker.id);
    db.store.insert_user(&alice).await.unwrap();
    db.store.follow(alice.id, maker, at(1)).await.unwrap();
    let open = token(alice.id, Uuid::new_v4());
    db.store.insert_refresh_token(&open).await.unwrap();
    for _ in 0..2 {
        db.store.delete_user(alice.id, &audit(alice.id, 3)).await.unwrap();
    }
    assert_eq!(db.store.user(alice.id).await.unwrap(), None);
    assert_eq!(db.store.user_by_email("alice@example.com", "alice@example.com").await.unwrap(), None);
    assert_eq!(db.store.creator(maker).await.unwrap().unwrap().follower_count, 0);
    assert!(db.store.followers(maker, None, 10).await.unwrap().is_empty());
    assert_eq!(db.store.refresh_token(&open.hash).await.unwrap(), None);
    // The address is free again.
    db.store.insert_user(&user("alice@example.com")).await.unwrap();
    let maker = UserId(maker.0);
    db.store.delete_user(maker, &audit(maker, 4)).await.unwrap();
    let gone = db.store.creator(maker.into()).await.unwrap().unwrap();
    assert_eq!((gone.display_name.as_str(), gone.bio.as_str()), ("deleted", ""));
    let trail = db.store.audit(AuditFilter { actor: Some(alice.id), object: None }, None, 10).await.unwrap();
    assert_eq!(trail.len(), 1, "what changed nothing is not noted");
    assert_eq!((trail[0].origin.as_str(), trail[0].object), ("", Some(alice.id.0)), "from where is forgotten");
}

pub async fn the_audit_trail_is_read_by_actor_and_by_object(db: Database) {
    let (alice, bob) = (UserId::new(), UserId::new());
    let object = Uuid::new_v4();
    let mut lines = Vec::new();
    for (who, what) in [(alice, None), (alice, Some(object)), (bob, Some(object)), (bob, None)] {
        let mut line = audit(who, 5);
        line.object = what;
        db.store.record_audit(&line).await.unwrap();
        lines.insert(0, line);
    }
    let read = async |actor, object, after| db.store.audit(AuditFilter { actor, object }, after, 3).await.unwrap();
    assert_eq!(read(None, None, None).await, lines[..3]);
    assert_eq!(read(None, None, Some(lines[2].id)).await, lines[3..]);
    assert_eq!(read(Some(alice), None, None).await, lines[2..]);
    assert_eq!(read(None, Some(object), None).await, lines[1..3]);
    assert_eq!(read(Some(bob), Some(object), None).await, lines[1..2]);
    let changes = [
        "UPDATE audit SET act = 'nothing'",
        "UPDATE audit SET origin = 'x'",
        "UPDATE audit SET origin = '', act = 'x'",
    ];
    for sql in changes.into_iter().chain(["DELETE FROM audit"]) {
        let refused = db.raw(sql).await.expect_err("the trail is append-only");
        assert!(refused.to_string().contains("append-only"), "{refused}");
    }
    assert_eq!(read(None, None, None).await, lines[..3]);
}
