//! Creators and follows.

use crate::Database;
use crate::fixtures::{at, audit, creator, register, user};
use livedrop::domain::{CreatorId, UserId};
use livedrop::storage::{AuditFilter, Creator, StoreError, UserChange};
use std::collections::BTreeSet;

pub async fn a_profile_is_one_per_account_and_handle(db: Database) {
    let (alice, bob) = (user("alice@example.com"), user("bob@example.com"));
    db.store.insert_user(&alice).await.unwrap();
    db.store.insert_user(&bob).await.unwrap();
    let profile = creator(alice.id, "alice");
    db.store.insert_creator(&profile).await.unwrap();
    assert_eq!(db.store.creator(profile.id).await.unwrap(), Some(profile.clone()));
    let handle = db.store.insert_creator(&creator(bob.id, "alice")).await;
    assert!(matches!(handle, Err(StoreError::Taken { what: "handle" })), "{handle:?}");
    let second = db.store.insert_creator(&creator(alice.id, "alice_two")).await;
    assert!(matches!(second, Err(StoreError::Taken { what: "creator" })), "{second:?}");
    let other = creator(bob.id, "bob");
    db.store.insert_creator(&other).await.unwrap();
    let all = db.store.creators(None, 10).await.unwrap();
    assert_eq!(all, [other.clone(), profile.clone()], "newest first");
    assert_eq!(db.store.creators(Some(other.id), 10).await.unwrap(), [profile]);
    assert_eq!(db.store.creator(CreatorId(UserId::new().0)).await.unwrap(), None);
}

pub async fn a_profile_changes_and_keeps_its_followers(db: Database) {
    let (fans, star) = register(&db, 2).await;
    db.store.follow(fans[0], star, at(1)).await.unwrap();
    let old = db.store.creator(star).await.unwrap().unwrap();
    db.store.follow(fans[1], star, at(2)).await.unwrap();
    let new = Creator { display_name: "Ünlü \u{1f980}".to_owned(), bio: String::new(), ..old.clone() };
    assert!(db.store.update_creator(&new, &old, &audit(fans[0], 3)).await.unwrap());
    // An editor with an outdated version.
    let late = Creator { bio: "late".to_owned(), ..old.clone() };
    assert!(!db.store.update_creator(&late, &old, &audit(fans[0], 4)).await.unwrap());
    assert_eq!(db.store.creator(star).await.unwrap(), Some(Creator { follower_count: 2, ..new }));
    let trail = db.store.audit(AuditFilter { actor: Some(fans[0]), ..AuditFilter::default() }, None, 10).await.unwrap();
    assert_eq!(trail.len(), 1);
}

pub async fn following_twice_is_following_once(db: Database) {
    let (alice, star) = register(&db, 1).await;
    let alice = alice[0];
    let count = async || db.store.creator(star).await.unwrap().unwrap().follower_count;
    assert!(db.store.follow(alice, star, at(1)).await.unwrap());
    assert!(!db.store.follow(alice, star, at(2)).await.unwrap());
    assert!(db.store.follows(alice, star).await.unwrap());
    assert_eq!(count().await, 1);
    assert_eq!(db.store.followers(star, None, 10).await.unwrap(), [alice]);
    assert_eq!(db.store.following(alice, None, 10).await.unwrap(), [star]);
    assert!(db.store.unfollow(alice, star).await.unwrap());
    assert!(!db.store.unfollow(alice, star).await.unwrap());
    assert!(!db.store.follows(alice, star).await.unwrap());
    assert_eq!(count().await, 0);
    assert!(db.store.follow(alice, CreatorId(UserId::new().0), at(3)).await.is_err(), "nobody to follow");
}

pub async fn whoever_keeps_their_follows_private_is_in_no_list_of_followers(db: Database) {
    let (fans, star) = register(&db, 2).await;
    for fan in &fans {
        db.store.follow(*fan, star, at(1)).await.unwrap();
    }
    let listed = async || db.store.followers(star, None, 10).await.unwrap();
    assert_eq!(listed().await, fans);
    let private = async |private_follows, when| {
        let change = UserChange { private_follows: Some(private_follows), ..UserChange::default() };
        db.store.update_user(fans[0], &change, &audit(fans[0], when)).await.unwrap();
    };
    private(true, 2).await;
    assert_eq!(listed().await, fans[1..]);
    db.store.unfollow(fans[0], star).await.unwrap();
    db.store.follow(fans[0], star, at(3)).await.unwrap();
    assert_eq!(listed().await, fans[1..], "a new follow is as private");
    assert_eq!(db.store.creator(star).await.unwrap().unwrap().follower_count, 2, "and counts");
    private(false, 4).await;
    assert_eq!(listed().await, fans);
}

pub async fn crowds_that_follow_and_unfollow_leave_the_right_count(db: Database) {
    let (fans, star) = register(&db, 24).await;
    let tasks: Vec<_> = (0..fans.len() * 2)
        .map(|i| {
            let (store, fan) = (db.store.clone(), fans[i % fans.len()]);
            tokio::spawn(async move {
                store.follow(fan, star, at(1)).await.unwrap();
                if i % 3 == 0 {
                    store.unfollow(fan, star).await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let listed = db.store.followers(star, None, 100).await.unwrap();
    let profile = db.store.creator(star).await.unwrap().unwrap();
    assert_eq!(i64::try_from(listed.len()).unwrap(), profile.follower_count);
}

pub async fn pages_of_followers_neither_repeat_nor_skip(db: Database) {
    let (fans, star) = register(&db, 40).await;
    // The even followers stay; the odd ones come and go while the list is read.
    for fan in fans.iter().step_by(2) {
        db.store.follow(*fan, star, at(1)).await.unwrap();
    }
    let (store, restless) = (db.store.clone(), fans.iter().copied().skip(1).step_by(2).collect::<Vec<_>>());
    let noise = tokio::spawn(async move {
        for round in 0..3 {
            for fan in &restless {
                store.follow(*fan, star, at(round)).await.unwrap();
            }
            for fan in &restless {
                store.unfollow(*fan, star).await.unwrap();
            }
        }
    });
    for _ in 0..5 {
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let page = db.store.followers(star, after, 7).await.unwrap();
            seen.extend(&page);
            after = page.last().copied();
            if page.len() < 7 {
                break;
            }
        }
        assert!(seen.is_sorted_by(|a, b| a < b), "in order, none twice");
        let seen: BTreeSet<UserId> = seen.into_iter().collect();
        assert!(fans.iter().step_by(2).all(|fan| seen.contains(fan)), "none that stayed is missing");
    }
    noise.await.unwrap();
}

pub async fn text_comes_back_as_it_was(db: Database) {
    let mut alice = user("ünïcode+'\"\\@example.com");
    alice.display_name = "Zoë 🛒 '; DROP TABLE users; --".to_owned();
    db.store.insert_user(&alice).await.unwrap();
    assert_eq!(db.store.user(alice.id).await.unwrap(), Some(alice));
}
