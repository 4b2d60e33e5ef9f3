//! Tests of the encryption of values, and of the key file.

use super::key_file::{FILE, KeyFile, KeyFileError, Locked, read};
use super::*;
use crate::domain::limits::ENCRYPTION_KEYS_MAX;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use tempfile::TempDir;

fn place(id: u128) -> Place {
    Place { table: "addresses", column: "sealed", id: Uuid::from_u128(id), owner: Uuid::from_u128(9) }
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

/// Appendix A.3.1 of draft-irtf-cfrg-xchacha-03.
#[test]
fn the_cipher_is_the_one_of_the_draft() {
    let text = b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, sunscreen would be it.";
    let context = bytes("50515253c0c1c2c3c4c5c6c7");
    let key: [u8; 32] = bytes("808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f").try_into().unwrap();
    let sealed = bytes(concat!(
        "404142434445464748494a4b4c4d4e4f5051525354555657",
        "bd6d179d3e83d43b9576579493c0e939572a1700252bfaccbed2902c21396cbb731c7f1b0b4aa6440bf3a82f4eda7e39ae64c6708c54c216cb96b72e1213b452",
        "2f8c9ba40db5d945b11b69b982c1bb9e3f3fac2bc369488f76b2383565d3fff921f9664c97637da9768812f615c68b13b52e",
        "c0875924c1c7987947deafd8780acf49"
    ));
    assert_eq!(decrypt(&key, "text", &context, place(1), &sealed).unwrap(), text);
    let ours = encrypt(&key, &context, text);
    assert_eq!(ours.len(), sealed.len());
    assert_ne!(ours, sealed, "the nonce is random");
    assert_eq!(decrypt(&key, "text", &context, place(1), &ours).unwrap(), text);
}

#[test]
fn a_value_is_read_where_it_was_written() {
    let keys = Keyring::new(Key::random());
    for text in [&b""[..], b"1 Main Street", &[0xff; 4_000]] {
        let sealed = keys.seal(place(1), text);
        assert_eq!(keys.open(place(1), &sealed).unwrap(), text);
        assert!(text.is_empty() || !sealed.text.windows(text.len()).any(|part| part == text));
        assert_ne!(keys.seal(place(1), text), sealed, "a data key and nonces of its own");
    }
}

#[test]
fn what_is_elsewhere_is_refused_by_name() {
    let keys = Keyring::new(Key::random());
    let (one, other) = (keys.seal(place(1), b"one"), keys.seal(place(2), b"other"));
    let elsewhere = [
        Place { table: "users", ..place(1) },
        Place { column: "name", ..place(1) },
        // The border between table and column counts.
        Place { table: "addressess", column: "ealed", ..place(1) },
        Place { owner: Uuid::from_u128(8), ..place(1) },
        place(2),
    ];
    for place in elsewhere {
        assert_eq!(keys.open(place, &one), Err(EncryptionError::Altered { part: "data key", place }));
    }
    let mixed = Sealed { text: other.text.clone(), ..one.clone() };
    assert_eq!(keys.open(place(1), &mixed), Err(EncryptionError::Altered { part: "text", place: place(1) }));
    let mixed = Sealed { data_key: other.data_key, ..one };
    assert_eq!(keys.open(place(1), &mixed), Err(EncryptionError::Altered { part: "data key", place: place(1) }));
}

#[test]
fn a_wrong_key_is_refused_by_name() {
    let (keys, others) = (Keyring::new(Key::random()), Keyring::new(Key::random()));
    let sealed = keys.seal(place(1), b"text");
    let error = others.open(place(1), &sealed).unwrap_err();
    assert_eq!(error, EncryptionError::UnknownKey { key: sealed.key, place: place(1) });
    assert!(error.to_string().contains(&sealed.key.to_string()) && error.to_string().contains("addresses.sealed"));
    // A key id that was exchanged as well does not help.
    let claimed = Sealed { key: others.current().id(), ..sealed };
    assert_eq!(others.open(place(1), &claimed), Err(EncryptionError::Altered { part: "data key", place: place(1) }));
}

#[test]
fn each_cut_and_each_changed_bit_is_refused() {
    let keys = Keyring::new(Key::random());
    let sealed = keys.seal(place(1), b"text");
    for length in 0..sealed.text.len() {
        let cut = Sealed { text: sealed.text[..length].to_vec(), ..sealed.clone() };
        assert!(keys.open(place(1), &cut).is_err(), "{length}");
    }
    for length in 0..sealed.data_key.len() {
        let cut = Sealed { data_key: sealed.data_key[..length].to_vec(), ..sealed.clone() };
        let error = keys.open(place(1), &cut).unwrap_err();
        let named = matches!(error, EncryptionError::Cut { part: "data key", bytes, .. } if bytes == length);
        assert_eq!(named, length < NONCE_BYTES + TAG_BYTES, "{length}: {error}");
    }
    for bit in 0..sealed.text.len() * 8 {
        let mut changed = sealed.clone();
        changed.text[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(keys.open(place(1), &changed), Err(EncryptionError::Altered { part: "text", place: place(1) }));
    }
    for bit in 0..sealed.data_key.len() * 8 {
        let mut changed = sealed.clone();
        changed.data_key[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(keys.open(place(1), &changed), Err(EncryptionError::Altered { part: "data key", place: place(1) }));
    }
}

#[test]
fn a_rotation_leaves_the_text_alone() {
    let before = Keyring::new(Key::random());
    let sealed = before.seal(place(1), b"text");
    assert_eq!(before.rewrap(place(1), &sealed), Ok(None));
    let after = before.clone().with(Key::random());
    assert_eq!(after.open(place(1), &sealed).unwrap(), b"text", "earlier keys are still there");
    let (key, data_key) = after.rewrap(place(1), &sealed).unwrap().unwrap();
    assert_eq!(key, after.current().id());
    let rotated = Sealed { key, data_key, text: sealed.text.clone() };
    assert_eq!(after.open(place(1), &rotated).unwrap(), b"text");
    assert!(matches!(before.open(place(1), &rotated), Err(EncryptionError::UnknownKey { .. })));
    assert!(matches!(after.rewrap(place(2), &sealed), Err(EncryptionError::Altered { .. })));
    let mut alone = after;
    assert_eq!(alone.retain(&[]), [before.current().id()]);
    assert_eq!(alone.open(place(1), &rotated).unwrap(), b"text");
}

#[test]
fn ids_are_of_the_key_and_show_nothing() {
    let key = Key::of([7; 32]);
    assert_eq!(key.id(), Key::of([7; 32]).id());
    assert_ne!(key.id(), Key::of([8; 32]).id());
    assert_eq!(key.id().to_string().parse(), Ok(key.id()));
    for wrong in ["", "0123", "0123456789abcdef0", "0123456789ABCDEF", "+123456789abcdef"] {
        assert!(wrong.parse::<KeyId>().is_err(), "{wrong}");
    }
    assert_eq!(format!("{key:?}"), format!("(key {})", key.id()));
}

fn file(folder: &TempDir) -> std::path::PathBuf {
    folder.path().join(FILE)
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn a_file_is_made_once_for_its_owner() {
    let folder = TempDir::new().unwrap();
    let (first, made) = KeyFile::open(&file(&folder)).unwrap();
    assert!(made && mode(&file(&folder)) == 0o600);
    let (second, made) = KeyFile::open(&file(&folder)).unwrap();
    assert!(!made);
    assert_eq!(first.keys().await, second.keys().await);
}

#[tokio::test]
async fn a_new_key_is_seen_at_once_and_a_lost_file_loses_nothing_yet() {
    let folder = TempDir::new().unwrap();
    let (keys, _) = KeyFile::open(&file(&folder)).unwrap();
    let before = keys.keys().await;
    let added = Locked::to_change(&file(&folder)).unwrap().add().unwrap();
    assert_eq!(*keys.keys().await, added);
    assert_eq!(added.all().map(Key::id).next(), Some(before.current().id()));
    assert_eq!(mode(&file(&folder)), 0o600);
    fs::remove_file(file(&folder)).unwrap();
    assert_eq!(*keys.keys().await, added);
}

#[test]
fn changes_and_copies_of_the_file_exclude_each_other() {
    let folder = TempDir::new().unwrap();
    let path = file(&folder);
    assert!(Locked::to_copy(&path).unwrap().is_none(), "there is none");
    KeyFile::open(&path).unwrap();
    let copying = Locked::to_copy(&path).unwrap();
    assert!(Locked::to_copy(&path).unwrap().is_some(), "two copies");
    assert!(matches!(Locked::to_change(&path), Err(KeyFileError::Busy)));
    drop(copying);
    let changing = Locked::to_change(&path).unwrap();
    assert!(matches!(Locked::to_change(&path), Err(KeyFileError::Busy)));
    assert!(matches!(Locked::to_copy(&path), Err(KeyFileError::Busy)));
    let first = changing.keys().unwrap().current().id();
    let second = changing.add().unwrap().current().id();
    changing.add().unwrap();
    assert_eq!(changing.retain(&[first]).unwrap(), [second]);
    assert_eq!(changing.retain(&[first]).unwrap(), []);
    while changing.keys().unwrap().all().count() < ENCRYPTION_KEYS_MAX {
        changing.add().unwrap();
    }
    assert!(matches!(changing.add(), Err(KeyFileError::Full)));
    assert_eq!(read(&path).unwrap().all().count(), ENCRYPTION_KEYS_MAX, "the longest file is read");
}

#[test]
fn what_is_no_file_of_keys_is_refused_with_its_line_and_without_its_text() {
    let folder = TempDir::new().unwrap();
    let key = "livedrop-key-1 AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    let twice = format!("{key}\n\n{key}\n");
    let cases: [(&str, &str); 6] = [
        ("", "has no key"),
        ("# nothing\n", "has no key"),
        ("# one\nsecret\n", "line 2 is not a key"),
        ("livedrop-key-1 c2VjcmV0\n", "line 1 is not a key"),
        ("livedrop-key-2 AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n", "line 1 is not a key"),
        (&twice, "line 3 repeats the key"),
    ];
    for (text, why) in cases {
        fs::write(file(&folder), text).unwrap();
        let error = read(&file(&folder)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidData);
        let told = error.to_string();
        assert!(told.contains(why) && !told.contains("secret") && !told.contains("c2Vj"), "{told}");
        assert!(KeyFile::open(&file(&folder)).is_err(), "nothing is made in its place");
    }
    fs::write(file(&folder), "#".repeat(20_000)).unwrap();
    assert!(read(&file(&folder)).unwrap_err().to_string().contains("too large"));
    fs::write(file(&folder), format!("\n # a comment\n  {key}  \n")).unwrap();
    assert_eq!(read(&file(&folder)).unwrap().all().count(), 1);
}
