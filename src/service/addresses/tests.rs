//! Addresses in a real SQLite file.

use super::*;
use crate::domain::limits::ADDRESSES_PER_USER_MAX;
use crate::service::addresses::fixtures::{address, user_in};
use crate::service::encryption::key_file;
use crate::service::input::{Change, Field, Unvalidated};
use crate::storage::{AuditFilter, connect, sqlite_url};
use tempfile::TempDir;

struct World {
    folder: TempDir,
    store: Arc<dyn Store>,
    addresses: Addresses,
}

impl World {
    async fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let store = connect(&sqlite_url(&folder.path().join("a.db"))).await.unwrap();
        store.migrate().await.unwrap();
        let (keys, _) = KeyFile::open(&folder.path().join(key_file::FILE)).unwrap();
        let addresses = Addresses::new(Arc::clone(&store), keys, Clock::default(), References::new(&[7; 32]));
        Self { folder, store, addresses }
    }

    /// Whether the database's files have a text.
    fn has(&self, text: &str) -> bool {
        let files = std::fs::read_dir(self.folder.path()).unwrap();
        files.flatten().any(|file| {
            let bytes = std::fs::read(file.path()).unwrap();
            bytes.windows(text.len()).any(|part| part == text.as_bytes())
        })
    }
}

fn change(fields: AddressChangeInput) -> AddressChange {
    Unvalidated::from(fields).validate::<AddressChangeInput>().unwrap()
}

fn street(text: &str) -> AddressChange {
    change(AddressChangeInput { line1: Change::To(Field::Given(text.to_owned())), ..AddressChangeInput::default() })
}

#[tokio::test]
async fn an_address_is_kept_encrypted_and_read_by_its_user_alone() {
    let world = World::new().await;
    let (ann, bob) = (user_in(&*world.store).await, user_in(&*world.store).await);
    let (added, is_new) = world.addresses.add(&ann, address(1)).await.unwrap();
    assert!(is_new);
    let kept = |known: &KnownAddress| (known.id, known.version, known.updated_at, known.address.clone());
    assert_eq!(kept(&world.addresses.get(ann.user, added.id).await.unwrap()), kept(&added));
    let listed = world.addresses.list(ann.user).await.unwrap();
    assert_eq!(listed.iter().map(kept).collect::<Vec<_>>(), [kept(&added)]);
    let (again, is_new) = world.addresses.add(&ann, address(1)).await.unwrap();
    assert_eq!((kept(&again), is_new), (kept(&added), false), "the very same one");
    assert_eq!(world.addresses.list(bob.user).await.unwrap(), []);
    for refused in [
        world.addresses.get(bob.user, added.id).await.map(|_| ()),
        world.addresses.change(&bob, added.id, &street("x")).await.map(|_| ()),
        world.addresses.delete(&bob, added.id).await,
    ] {
        assert_eq!(refused.unwrap_err().code, Code::AddressNotFound);
    }
    for text in ["Lovelace", "Hauptstra", "Köln", "50667", "5550100"] {
        assert!(!world.has(text), "{text} is in the database");
    }
    assert!(world.has("address_added"), "the search finds what is there");
    assert_eq!(format!("{added:?}").matches("Ada").count(), 0);
}

#[tokio::test]
async fn a_change_is_another_version_of_the_address() {
    let world = World::new().await;
    let ann = user_in(&*world.store).await;
    let (first, _) = world.addresses.add(&ann, address(1)).await.unwrap();
    let second = world.addresses.change(&ann, first.id, &street("Ring 2")).await.unwrap();
    assert_eq!((second.id, second.address.line1.as_str()), (first.id, "Ring 2"));
    assert_ne!(second.version, first.version);
    assert_eq!(second.address.city, first.address.city);
    let same = world.addresses.change(&ann, first.id, &street("Ring 2")).await.unwrap();
    assert_eq!((same.version, same.address), (second.version, second.address), "no difference, no version");
    let no_phone = change(AddressChangeInput { phone: Change::Clear, ..AddressChangeInput::default() });
    let third = world.addresses.change(&ann, first.id, &no_phone).await.unwrap();
    assert_eq!(third.address.phone, None);
    let listed = world.addresses.list(ann.user).await.unwrap();
    assert_eq!(listed.iter().map(|known| known.version).collect::<Vec<_>>(), [third.version]);
    let no_code = change(AddressChangeInput { postal_code: Change::Clear, ..AddressChangeInput::default() });
    let refused = world.addresses.change(&ann, first.id, &no_code).await.unwrap_err();
    assert_eq!((refused.code, refused.fields[0].pointer.as_str()), (Code::ConflictingFields, "/postal_code"));
    let audit = AuditFilter { object: Some(first.id.0), ..AuditFilter::default() };
    let trail = world.store.audit(audit, None, 10).await.unwrap();
    let acts: Vec<_> = trail.iter().map(|row| (row.act.as_str(), row.detail.as_str())).collect();
    let changed = |field: &str| format!(r#"{{"fields":["{field}"]}}"#);
    let (phone, line1) = (changed("phone"), changed("line1"));
    assert_eq!(acts, [("address_changed", &*phone), ("address_changed", &*line1), ("address_added", "{}")]);
}

#[tokio::test]
async fn changes_at_once_do_not_undo_each_other() {
    let world = World::new().await;
    let ann = user_in(&*world.store).await;
    let (first, _) = world.addresses.add(&ann, address(1)).await.unwrap();
    let city = change(AddressChangeInput {
        city: Change::To(Field::Given("Bonn".to_owned())),
        ..AddressChangeInput::default()
    });
    let ring = street("Ring 2");
    let (one, other) =
        tokio::join!(world.addresses.change(&ann, first.id, &ring), world.addresses.change(&ann, first.id, &city));
    one.unwrap();
    other.unwrap();
    let now = world.addresses.get(ann.user, first.id).await.unwrap().address;
    assert_eq!((now.line1.as_str(), now.city.as_deref()), ("Ring 2", Some("Bonn")));
}

#[tokio::test]
async fn a_user_has_so_many_and_deletes_what_cannot_be_read() {
    let world = World::new().await;
    let ann = user_in(&*world.store).await;
    for number in 0..ADDRESSES_PER_USER_MAX as usize {
        world.addresses.add(&ann, address(number)).await.unwrap();
    }
    let refused = world.addresses.add(&ann, address(1_000)).await.unwrap_err();
    assert_eq!(refused.code, Code::TooManyAddresses);
    let all = world.addresses.list(ann.user).await.unwrap();
    world.addresses.delete(&ann, all[0].id).await.unwrap();
    assert_eq!(world.addresses.delete(&ann, all[0].id).await.unwrap_err().code, Code::AddressNotFound);
    world.addresses.add(&ann, address(1_000)).await.unwrap();
    // Two rows that were exchanged: each is refused by name, and nothing panics.
    let mut rows = world.store.addresses(ann.user).await.unwrap();
    let (one, other) = (rows.remove(0), rows.remove(0));
    assert!(world.store.rewrap(one.version, &one.key, &one.key, &other.data_key).await.unwrap());
    let unreadable = world.addresses.list(ann.user).await.unwrap_err();
    assert_eq!(unreadable.code, Code::AddressUnreadable);
    assert!(unreadable.detail.contains(&one.address.to_string()), "{unreadable}");
    world.addresses.get(ann.user, other.address).await.unwrap();
    world.addresses.delete(&ann, one.address).await.unwrap();
    assert_eq!(world.addresses.list(ann.user).await.unwrap().len() as u32, ADDRESSES_PER_USER_MAX - 1);
}

#[tokio::test]
async fn nothing_is_left_of_a_deleted_account() {
    let world = World::new().await;
    let (ann, bob) = (user_in(&*world.store).await, user_in(&*world.store).await);
    let version = world.addresses.add(&ann, address(1)).await.unwrap().0.version;
    world.addresses.add(&bob, address(2)).await.unwrap();
    let object = Object { kind: "user", id: ann.user.0 };
    let audit = ann.audit(Timestamp::EPOCH, "account_deleted", object, &serde_json::json!({}));
    assert!(world.store.delete_user(ann.user, "", &audit).await.unwrap().is_some());
    assert_eq!(world.store.addresses(ann.user).await.unwrap(), []);
    assert!(world.store.address_version(ann.user, version).await.unwrap().is_some(), "an order may need it");
    let long = Timestamp::EPOCH.plus_millis(1);
    world.store.forget_past_addresses(long, Timestamp::EPOCH, None).await.unwrap();
    assert_eq!(world.store.address_version(ann.user, version).await.unwrap(), None);
    assert_eq!(world.addresses.list(bob.user).await.unwrap().len(), 1);
    let refused = world.addresses.add(&ann, address(3)).await.unwrap_err();
    assert_eq!(refused.code, Code::UserNotFound);
}
