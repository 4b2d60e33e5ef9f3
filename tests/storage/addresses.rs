//! Addresses, as the ciphertext that the database gets.

use crate::Database;
use crate::fixtures::{Journal, Sale, at, audit, register};
use livedrop::domain::limits::ADDRESSES_PER_USER_MAX;
use livedrop::domain::{AddressId, AddressVersionId, Delivery, DropEvent, ReleaseReason, TraceId, UserId};
use livedrop::storage::{AddressRow, StoreError};

fn row(user: UserId, key: &str) -> AddressRow {
    AddressRow {
        version: AddressVersionId::new(),
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
    let theirs = AddressRow { version: AddressVersionId::new(), address: second.address, ..row(users[1], "a") };
    assert!(!db.store.change_address(&theirs, second.version, &line).await.unwrap());
    let line = audit(users[0], 9);
    let changed = AddressRow { version: AddressVersionId::new(), sealed: vec![9], ..second.clone() };
    assert!(db.store.change_address(&changed, second.version, &line).await.unwrap());
    let late = AddressRow { version: AddressVersionId::new(), sealed: vec![10], ..second.clone() };
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

pub async fn a_past_version_is_kept_while_an_order_may_name_it(db: Database) {
    let (users, _) = register(&db, 1).await;
    let mut rows: Vec<AddressRow> = (0..4).map(|_| row(users[0], "a")).collect();
    for row in &rows {
        add(&db, row).await;
    }
    // One stays; of the others two are named by orders, and one of these orders was released.
    let stays = rows.pop().unwrap();
    let sale = Sale::of(&[9]);
    let mut journal = Journal::new(&db);
    journal.project(sale.opened()).await;
    let mut asks = Vec::new();
    for row in &rows[1..] {
        let mut ask = sale.order(0, 1);
        ask.line.buyer = users[0];
        let mut record = ask.reserved(10, None);
        if let DropEvent::Reserved { delivery, .. } = &mut record.event {
            let (address, country) = (row.version, "DE".parse().unwrap());
            *delivery = Some(Box::new(Delivery { address, country, shipping: 0 }));
        }
        journal.project(vec![record]).await;
        asks.push(ask);
    }
    journal.project(vec![asks[1].released(20, ReleaseReason::Cancelled, TraceId::random())]).await;
    for row in &rows {
        assert!(db.store.delete_address(users[0], row.address, &audit(users[0], 100)).await.unwrap());
        assert_eq!(db.store.address_version(users[0], row.version).await.unwrap().as_ref(), Some(row));
        assert_eq!(db.store.address_version(UserId::new(), row.version).await.unwrap(), None, "its user's alone");
    }
    assert_eq!(db.store.wrapping_keys().await.unwrap(), [("a".to_owned(), 4)]);
    let kept = async || {
        let mut kept = Vec::new();
        for (index, row) in rows.iter().chain([&stays]).enumerate() {
            if db.store.address_version(users[0], row.version).await.unwrap().is_some() {
                kept.push(index);
            }
        }
        kept
    };
    let forget = async |before: i64, long_before: i64| {
        assert_eq!(db.store.forget_past_addresses(at(before), at(long_before), None).await.unwrap(), None);
    };
    forget(100, 0).await;
    assert_eq!(kept().await, [0, 1, 2, 3], "not old enough");
    forget(101, 100).await;
    assert_eq!(kept().await, [1, 3], "what no order needs is gone");
    assert!(db.store.rewrap(rows[1].version, "a", "b", &[1]).await.unwrap());
    forget(101, 101).await;
    assert_eq!(kept().await, [3], "and after a long time the rest");
}

pub async fn many_past_versions_are_forgotten_some_at_a_time(db: Database) {
    let (users, _) = register(&db, 1).await;
    let mut now = row(users[0], "a");
    add(&db, &now).await;
    for _ in 0..60 {
        let next = AddressRow { version: AddressVersionId::new(), ..now.clone() };
        assert!(db.store.change_address(&next, now.version, &audit(users[0], 1)).await.unwrap());
        now = next;
    }
    let next = db.store.forget_past_addresses(at(2), at(0), None).await.unwrap();
    assert!(next.is_some());
    assert_eq!(db.store.forget_past_addresses(at(2), at(0), next).await.unwrap(), None);
    assert_eq!(db.store.wrapping_keys().await.unwrap(), [("a".to_owned(), 1)]);
}
