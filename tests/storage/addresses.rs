//! Addresses, as the ciphertext that the database gets.

use crate::Database;
use crate::fixtures::{at, audit, register};
use livedrop::domain::limits::ADDRESSES_PER_USER_MAX;
use livedrop::domain::{AddressId, UserId};
use livedrop::storage::{AddressRow, StoreError};
use uuid::Uuid;

fn row(user: UserId, key: &str) -> AddressRow {
    AddressRow {
        version: Uuid::now_v7(),
        address: AddressId::new(),
        user,
        updated_at: at(7),
        key: key.to_owned(),
        data_key: vec![0, 1, 255],
        sealed: Vec::new(),
    }
}

async fn add(db: &Database, row: &AddressRow) -> bool {
    db.store.add_address(row, &audit(row.user, 7)).await.unwrap()
}

pub async fn an_address_is_its_users_and_comes_back_as_it_was(db: Database) {
    let (users, _) = register(&db, 2).await;
    let (first, second, others) = (row(users[0], "a"), row(users[0], "b"), row(users[1], "a"));
    for row in [&first, &second, &others] {
        assert!(add(&db, row).await);
    }
    assert_eq!(db.store.addresses(users[0]).await.unwrap(), [first.clone(), second.clone()]);
    assert_eq!(db.store.address(users[0], second.address).await.unwrap(), Some(second.clone()));
    assert_eq!(db.store.address(users[1], second.address).await.unwrap(), None);
    let line = audit(users[1], 8);
    assert!(!db.store.delete_address(users[1], second.address, &line).await.unwrap());
    let theirs = AddressRow { version: Uuid::now_v7(), address: second.address, ..row(users[1], "a") };
    assert!(!db.store.change_address(&theirs, second.version, &line).await.unwrap());
    let line = audit(users[0], 9);
    let changed = AddressRow { version: Uuid::now_v7(), sealed: vec![9], ..second.clone() };
    assert!(db.store.change_address(&changed, second.version, &line).await.unwrap());
    let late = AddressRow { version: Uuid::now_v7(), sealed: vec![10], ..second.clone() };
    assert!(!db.store.change_address(&late, second.version, &audit(users[0], 10)).await.unwrap(), "not its version");
    assert_eq!(db.store.address(users[0], second.address).await.unwrap(), Some(changed));
    assert!(db.store.delete_address(users[0], first.address, &audit(users[0], 11)).await.unwrap());
    assert!(!db.store.delete_address(users[0], first.address, &audit(users[0], 12)).await.unwrap());
    assert_eq!(db.store.addresses(users[0]).await.unwrap().len(), 1);
}

pub async fn a_crowd_of_additions_stays_within_the_bound(db: Database) {
    let (users, _) = register(&db, 1).await;
    let rows: Vec<AddressRow> = (0..2 * ADDRESSES_PER_USER_MAX).map(|_| row(users[0], "a")).collect();
    let added = futures_util::future::join_all(rows.iter().map(|row| add(&db, row))).await;
    assert_eq!(added.into_iter().filter(|added| *added).count() as u32, ADDRESSES_PER_USER_MAX);
    assert_eq!(db.store.addresses(users[0]).await.unwrap().len() as u32, ADDRESSES_PER_USER_MAX);
    let nobody = row(UserId::new(), "a");
    let refused = db.store.add_address(&nobody, &audit(nobody.user, 7)).await;
    assert!(matches!(refused, Err(StoreError::Missing { .. })), "{refused:?}");
}

pub async fn rows_are_found_by_their_key_and_wrapped_anew_once(db: Database) {
    let (users, _) = register(&db, 1).await;
    assert!(!db.store.has_encrypted_rows().await.unwrap());
    let mut rows: Vec<AddressRow> = (0..5).map(|_| row(users[0], "old")).collect();
    rows.push(row(users[0], "new"));
    for row in &rows {
        add(&db, row).await;
    }
    assert!(db.store.has_encrypted_rows().await.unwrap());
    let counts = |old: u64, new: u64| [("new".to_owned(), new), ("old".to_owned(), old)];
    assert_eq!(db.store.wrapping_keys().await.unwrap(), counts(5, 1));
    let page = db.store.wrapped_by_others("new", None, 2).await.unwrap();
    assert_eq!(page, rows[..2]);
    let rest = db.store.wrapped_by_others("new", Some(page[1].version), 10).await.unwrap();
    assert_eq!(rest, rows[2..5]);
    assert!(db.store.rewrap(rows[0].version, "old", "new", &[7]).await.unwrap());
    assert!(!db.store.rewrap(rows[0].version, "old", "new", &[8]).await.unwrap(), "another key wraps it now");
    let now = db.store.address(users[0], rows[0].address).await.unwrap().unwrap();
    assert_eq!(now, AddressRow { key: "new".to_owned(), data_key: vec![7], ..rows[0].clone() });
    assert_eq!(db.store.wrapping_keys().await.unwrap(), counts(4, 2));
}
