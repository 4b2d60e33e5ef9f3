//! Accounts and refresh tokens.

use crate::Database;
use crate::fixtures::{at, audit, creator, money, product, token, user};
use livedrop::domain::{CreatorId, ProductStatus, Revocation, UserId};
use livedrop::storage::{AuditFilter, Creator, Product, RefreshToken, Revoked, StoreError, User, UserChange};
use uuid::Uuid;

/// A login with the account's first password.
async fn open(db: &Database, user: &User, token: &RefreshToken) {
    assert_eq!(db.store.open_login(token, &user.password_hash).await.unwrap(), Some(0));
}

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
    db.store.delete_user(elder.id, &elder.password_hash, &audit(elder.id, 1)).await.unwrap();
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
    open(&db, &alice, &first).await;
    let rotations = (0..12).map(|_| {
        let (store, old, new) = (db.store.clone(), first.hash, token(alice.id, first.family));
        tokio::spawn(async move { store.rotate_refresh_token(&old, at(5), &new).await.unwrap().map(|_| new) })
    });
    let mut won = Vec::new();
    for rotation in rotations.collect::<Vec<_>>() {
        won.extend(rotation.await.unwrap());
    }
    assert_eq!(won.len(), 1);
    assert_eq!(db.store.refresh_token(&won[0].hash).await.unwrap().as_ref(), Some(&won[0]));
    assert_eq!(db.store.refresh_token(&first.hash).await.unwrap().unwrap().used_at, Some(at(5)));
    let unknown = db.store.rotate_refresh_token(&[9; 32], at(6), &token(alice.id, first.family)).await.unwrap();
    assert_eq!(unknown, None);
}

pub async fn a_revoked_family_cannot_be_rotated(db: Database) {
    let alice = user("alice@example.com");
    db.store.insert_user(&alice).await.unwrap();
    let (first, other) = (token(alice.id, Uuid::new_v4()), token(alice.id, Uuid::new_v4()));
    open(&db, &alice, &first).await;
    open(&db, &alice, &other).await;
    db.store.revoke_refresh_family(first.family, at(3)).await.unwrap();
    db.store.revoke_refresh_family(first.family, at(9)).await.unwrap();
    let second = token(alice.id, first.family);
    assert_eq!(db.store.rotate_refresh_token(&first.hash, at(4), &second).await.unwrap(), None);
    assert_eq!(db.store.token_version(&first.hash).await.unwrap(), None);
    assert_eq!(db.store.token_version(&other.hash).await.unwrap(), Some(0));
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
        open(&db, &alice, &first).await;
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
        open(&db, &alice, token).await;
    }
    let mine = RefreshToken { created_at: at(7), ..token(alice.id, Uuid::new_v4()) };
    let line = audit(alice.id, 8);
    let set = async |from: &str| db.store.set_password(from, "another", &mine, &line).await.unwrap();
    assert_eq!(set("not this one").await, None, "it is decided against the password that was verified");
    assert_eq!(db.store.refresh_token(&mine.hash).await.unwrap(), None);
    assert_eq!(set(&alice.password_hash).await, Some(1));
    assert_eq!(set(&alice.password_hash).await, None, "once");
    assert_eq!(db.store.user(alice.id).await.unwrap().unwrap().password_hash, "another");
    for token in &tokens {
        assert_eq!(db.store.refresh_token(&token.hash).await.unwrap().unwrap().revoked_at, Some(at(7)));
        let next = crate::fixtures::token(alice.id, token.family);
        assert_eq!(db.store.rotate_refresh_token(&token.hash, at(8), &next).await.unwrap(), None);
    }
    assert_eq!(
        db.store.refresh_token(&mine.hash).await.unwrap(),
        Some(mine.clone()),
        "the login that changed it is new"
    );
    assert_eq!(db.store.open_login(&token(alice.id, Uuid::new_v4()), &alice.password_hash).await.unwrap(), None);
    let late = token(alice.id, Uuid::new_v4());
    assert_eq!(db.store.open_login(&late, "another").await.unwrap(), Some(1));
    assert_eq!(db.store.revoke_user_tokens(alice.id, at(9)).await.unwrap(), 2);
    assert_eq!(db.store.token_version(&late.hash).await.unwrap(), None);
    let nobody = db.store.revoke_user_tokens(UserId::new(), at(9)).await;
    assert!(matches!(nobody, Err(StoreError::Missing { what: "account" })), "{nobody:?}");
}

/// A login with the old password during the change either comes first, and is signed out, or is refused.
pub async fn no_login_with_the_old_password_outlives_it(db: Database) {
    let alice = user("alice@example.com");
    db.store.insert_user(&alice).await.unwrap();
    let mut hash = alice.password_hash.clone();
    for round in 0..20 {
        let old: Vec<RefreshToken> = (0..4).map(|_| token(alice.id, Uuid::new_v4())).collect();
        let logins = old.clone().into_iter().map(|login| {
            let (store, hash) = (db.store.clone(), hash.clone());
            tokio::spawn(async move { store.open_login(&login, &hash).await.unwrap() })
        });
        let logins: Vec<_> = logins.collect();
        let (new, mine) = (format!("password {round}"), token(alice.id, Uuid::new_v4()));
        let version = db.store.set_password(&hash, &new, &mine, &audit(alice.id, round)).await.unwrap().unwrap();
        for (login, old) in logins.into_iter().zip(&old) {
            assert!(login.await.unwrap().is_none_or(|of_then| of_then < version));
            assert_eq!(db.store.token_version(&old.hash).await.unwrap(), None);
        }
        assert_eq!(db.store.token_version(&mine.hash).await.unwrap(), Some(version));
        hash = new;
    }
}

pub async fn changes_of_an_account_at_once_do_not_undo_each_other(db: Database) {
    let alice = user("alice@example.com");
    db.store.insert_user(&alice).await.unwrap();
    db.store.insert_creator(&creator(alice.id, "alice")).await.unwrap();
    let id = CreatorId::from(alice.id);
    for round in 0..20 {
        let name = format!("Alice {round}");
        let named = UserChange { display_name: Some(name.clone()), ..UserChange::default() };
        let private = UserChange { private_follows: Some(round % 2 == 0), ..UserChange::default() };
        let before = db.store.creator(id).await.unwrap().unwrap();
        let titled = Creator { display_name: name.clone(), ..before.clone() };
        let told = Creator { bio: name.clone(), ..before.clone() };
        let line = || audit(alice.id, round);
        let (a, b, c, d) = (line(), line(), line(), line());
        let (one, two, three, four) = tokio::join!(
            db.store.update_user(alice.id, &named, &a),
            db.store.update_user(alice.id, &private, &b),
            db.store.update_creator(&titled, &before, &c),
            db.store.update_creator(&told, &before, &d),
        );
        one.unwrap();
        two.unwrap();
        assert!(three.unwrap() != four.unwrap(), "one of them was made from what is not there any more");
        let now = db.store.user(alice.id).await.unwrap().unwrap();
        assert_eq!((&now.display_name, now.private_follows, &now.role), (&name, round % 2 == 0, &alice.role));
        let profile = db.store.creator(id).await.unwrap().unwrap();
        assert!(profile == Creator { follower_count: profile.follower_count, ..titled } || profile == told);
    }
    let public = UserChange { private_follows: Some(false), ..UserChange::default() };
    let changed = db.store.update_user(alice.id, &public, &audit(alice.id, 99)).await.unwrap();
    assert_eq!(db.store.user(alice.id).await.unwrap(), Some(User { private_follows: false, ..changed }));
}

pub async fn revocations_are_found_since_a_time(db: Database) {
    let (alice, bob) = (user("alice@example.com"), user("bob@example.com"));
    for someone in [&alice, &bob] {
        db.store.insert_user(someone).await.unwrap();
    }
    let (first, other) = (token(alice.id, Uuid::new_v4()), token(bob.id, Uuid::new_v4()));
    open(&db, &alice, &first).await;
    open(&db, &bob, &other).await;
    let second = token(alice.id, first.family);
    db.store.rotate_refresh_token(&first.hash, at(1), &second).await.unwrap();
    db.store.revoke_refresh_family(first.family, at(5)).await.unwrap();
    db.store.delete_user(bob.id, &bob.password_hash, &audit(bob.id, 7)).await.unwrap();
    let login = |user, family, time| Revoked { user, what: Revocation::Login(family), at: at(time) };
    let all = db.store.revoked_since(at(5), 10).await.unwrap();
    let bobs = Revoked { user: bob.id, what: Revocation::Below(1), at: at(7) };
    assert_eq!(all, [bobs, login(alice.id, first.family, 5)], "a deletion leaves no refresh tokens");
    assert_eq!(db.store.revoked_since(at(6), 10).await.unwrap(), [bobs]);
    assert_eq!(db.store.revoked_since(at(5), 1).await.unwrap(), [bobs, login(alice.id, first.family, 5)]);
    assert_eq!(db.store.revoked_since(at(8), 10).await.unwrap(), []);
}

/// A change that races the account's deletion either comes first and is deleted with it, or does not happen.
pub async fn nothing_is_made_for_a_deleted_account(db: Database) {
    let (alice, fan) = (user("alice@example.com"), user("fan@example.com"));
    for someone in [&alice, &fan] {
        db.store.insert_user(someone).await.unwrap();
    }
    let profile = creator(alice.id, "alice");
    db.store.insert_creator(&profile).await.unwrap();
    let jacket = product(profile.id, "Jacket", money(5));
    db.store.insert_product(&jacket).await.unwrap();
    let wrong = db.store.delete_user(alice.id, "another hash", &audit(alice.id, 1)).await.unwrap();
    assert_eq!(wrong, None, "it is decided against the password that was verified");
    db.store.delete_user(alice.id, &alice.password_hash, &audit(alice.id, 1)).await.unwrap().unwrap();
    let gone = db.store.product(jacket.id).await.unwrap().unwrap();
    assert_eq!((gone.status, gone.version, gone.updated_at), (ProductStatus::Archived, 1, at(1)));

    let missing = |result: Result<(), StoreError>, what: &str| {
        assert!(matches!(&result, Err(StoreError::Missing { what: it }) if *it == what), "{what}: {result:?}");
    };
    let line = audit(alice.id, 2);
    let left = db.store.creator(profile.id).await.unwrap().unwrap();
    let back = Creator { bio: "Back".to_owned(), ..left.clone() };
    missing(db.store.update_creator(&back, &left, &line).await.map(drop), "account");
    missing(db.store.update_user(alice.id, &UserChange::default(), &line).await.map(drop), "account");
    missing(db.store.insert_product(&product(profile.id, "Coat", money(5))).await, "account");
    missing(db.store.update_product(&Product { version: 2, ..gone }, 1, &line).await.map(drop), "account");
    missing(db.store.follow(alice.id, profile.id, at(3)).await.map(drop), "account");
    missing(db.store.follow(fan.id, profile.id, at(3)).await.map(drop), "creator");
    db.store.delete_user(fan.id, &fan.password_hash, &audit(fan.id, 4)).await.unwrap().unwrap();
    missing(db.store.insert_creator(&creator(fan.id, "fan")).await, "account");
    assert_eq!(db.store.open_login(&token(fan.id, Uuid::new_v4()), &fan.password_hash).await.unwrap(), None);
    assert!(db.store.followers(profile.id, None, 10).await.unwrap().is_empty());
    let profile = db.store.creator(profile.id).await.unwrap().unwrap();
    assert_eq!((profile.display_name.as_str(), profile.follower_count), ("deleted", 0));
}

/// Creators who follow and unfollow each other and are deleted, all concurrently: no deadlock in any order of locks,
/// and every count equals its list.
pub async fn deletions_race_follows(db: Database) {
    let mut all = Vec::new();
    for n in 0..10 {
        let someone = User { private_follows: false, ..user(&format!("user{n}@example.com")) };
        db.store.insert_user(&someone).await.unwrap();
        db.store.insert_creator(&creator(someone.id, &format!("creator{n}"))).await.unwrap();
        all.push(someone);
    }
    let settled = |result: Result<bool, StoreError>| match result {
        Ok(_) | Err(StoreError::Missing { .. }) => {}
        Err(error) => panic!("{error}"),
    };
    let mut tasks = Vec::new();
    for (n, follower) in all.iter().enumerate() {
        for turn in 0..3 {
            let (store, follower, mut others) = (db.store.clone(), follower.id, all.clone());
            others.rotate_left((n * 3 + turn) % all.len());
            tasks.push(tokio::spawn(async move {
                for (step, other) in others.iter().enumerate() {
                    let creator = CreatorId::from(other.id);
                    match (step + turn) % 3 {
                        0 => settled(store.unfollow(follower, creator).await),
                        _ => settled(store.follow(follower, creator, at(1)).await),
                    }
                }
            }));
        }
    }
    // Every other creator is deleted, one after the other.
    for (_, leaving) in all.iter().enumerate().filter(|(n, _)| n % 2 == 0) {
        let store = db.store.clone();
        let leaving = leaving.clone();
        tasks.push(tokio::spawn(async move {
            let line = audit(leaving.id, 2);
            store.delete_user(leaving.id, &leaving.password_hash, &line).await.unwrap().expect("it lived");
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    for (n, someone) in all.iter().enumerate() {
        let id = CreatorId::from(someone.id);
        let followers = db.store.followers(id, None, 100).await.unwrap();
        let profile = db.store.creator(id).await.unwrap().unwrap();
        assert_eq!(profile.follower_count, i64::try_from(followers.len()).unwrap(), "creator {n}");
        let deleted = |id: &UserId| all.iter().step_by(2).any(|gone| gone.id == *id);
        assert!(!followers.iter().any(deleted), "a deleted account follows creator {n}");
    }
}

pub async fn an_account_that_is_promoted_has_a_new_password_and_no_login(db: Database) {
    let (alice, root) = (user("alice@example.com"), user("root@example.com"));
    db.store.insert_user(&alice).await.unwrap();
    let login = token(alice.id, Uuid::new_v4());
    open(&db, &alice, &login).await;
    assert!(!db.store.promote_to_admin(UserId::new(), "another", &audit(alice.id, 6)).await.unwrap());
    assert!(db.store.promote_to_admin(alice.id, "another", &audit(alice.id, 7)).await.unwrap());
    let promoted = db.store.user(alice.id).await.unwrap().unwrap();
    assert_eq!((promoted.role.as_str(), promoted.password_hash.as_str()), ("admin", "another"));
    assert_eq!(db.store.refresh_token(&login.hash).await.unwrap().unwrap().revoked_at, Some(at(7)));
    assert_eq!(promoted.token_version, 1, "access tokens end, too");

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
    let last = token(alice.id, Uuid::new_v4());
    open(&db, &alice, &last).await;
    for version in [Some(1), None] {
        let line = audit(alice.id, 3);
        assert_eq!(db.store.delete_user(alice.id, &alice.password_hash, &line).await.unwrap(), version);
    }
    assert_eq!(db.store.user(alice.id).await.unwrap(), None);
    assert_eq!(db.store.user_by_email("alice@example.com", "alice@example.com").await.unwrap(), None);
    assert_eq!(db.store.creator(maker).await.unwrap().unwrap().follower_count, 0);
    assert!(db.store.followers(maker, None, 10).await.unwrap().is_empty());
    assert_eq!(db.store.refresh_token(&last.hash).await.unwrap(), None);
    // The address is free again.
    db.store.insert_user(&user("alice@example.com")).await.unwrap();
    let maker = UserId(maker.0);
    let hash = user("maker@example.com").password_hash;
    db.store.delete_user(maker, &hash, &audit(maker, 4)).await.unwrap();
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
