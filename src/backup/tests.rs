//! Tests of the manifest's checks.

use super::*;
use crate::domain::Timestamp;
use manifest::MANIFEST_FILE;
use std::fs;
use tempfile::TempDir;
use uuid::Uuid;

fn sample(root: &Path) -> Manifest {
    fs::create_dir(root.join(JOURNAL)).unwrap();
    fs::write(root.join(DATABASE), "a database").unwrap();
    fs::write(root.join(JOURNAL).join("1.seg"), "frames").unwrap();
    let manifest = Manifest {
        format: Manifest::format(),
        livedrop_version: "0".to_owned(),
        created_at: Timestamp::from_millis(1),
        journal_id: Uuid::from_u128(7),
        epoch: 3,
        database: "sqlite".to_owned(),
        watermark: 4,
        first_sequence: 1,
        last_sequence: 9,
        files: Vec::new(),
    };
    manifest.write(root).unwrap()
}

fn refusal(root: &Path) -> (String, String) {
    match Manifest::read_checked(root) {
        Err(BackupError::Refused { path, what }) => (path.strip_prefix(root).unwrap().display().to_string(), what),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_backup_comes_back_as_it_was_written() {
    let root = TempDir::new().unwrap();
    let written = sample(root.path());
    let names: Vec<_> = written.files.iter().map(|file| (file.name.as_str(), file.bytes)).collect();
    assert_eq!(names, [("journal/1.seg", 6), ("livedrop.db", 10)]);
    assert_eq!(Manifest::read_checked(root.path()).unwrap(), written);
}

#[test]
fn what_is_wrong_is_refused_by_name() {
    type Damage = fn(&Path);
    let cases: [(Damage, &str, &str); 8] = [
        (|root| fs::write(root.join(DATABASE), "a databas").unwrap(), DATABASE, "has 9 bytes and had 10"),
        (|root| fs::write(root.join(DATABASE), "A database").unwrap(), DATABASE, "was altered"),
        (|root| fs::remove_file(root.join("journal/1.seg")).unwrap(), "journal/1.seg", "is missing"),
        (|root| fs::write(root.join("journal/2.seg"), "").unwrap(), "journal/2.seg", "not part of the backup"),
        (|root| fs::remove_file(root.join(MANIFEST_FILE)).unwrap(), MANIFEST_FILE, "was not completed"),
        (|root| fs::write(root.join(MANIFEST_FILE), "{").unwrap(), MANIFEST_FILE, "not a backup's manifest"),
        (
            |root| {
                fs::remove_file(root.join(DATABASE)).unwrap();
                std::os::unix::fs::symlink("journal/1.seg", root.join(DATABASE)).unwrap();
            },
            DATABASE,
            "not a file",
        ),
        (
            |root| {
                let text = fs::read_to_string(root.join(MANIFEST_FILE)).unwrap();
                fs::write(root.join(MANIFEST_FILE), text.replace("\"watermark\": 4", "\"watermark\": 5")).unwrap();
            },
            MANIFEST_FILE,
            "was altered",
        ),
    ];
    for (damage, file, why) in cases {
        let root = TempDir::new().unwrap();
        sample(root.path());
        damage(root.path());
        let (named, what) = refusal(root.path());
        assert!(named == file && what.contains(why), "{named}: {what}");
    }
}

/// A manifest truncated at any byte is invalid.
#[test]
fn a_truncated_manifest_is_refused() {
    let root = TempDir::new().unwrap();
    sample(root.path());
    let text = fs::read(root.path().join(MANIFEST_FILE)).unwrap();
    for bytes in 0..text.trim_ascii_end().len() {
        fs::write(root.path().join(MANIFEST_FILE), &text[..bytes]).unwrap();
        assert_eq!(refusal(root.path()).0, MANIFEST_FILE);
    }
}

#[test]
fn a_directory_with_something_in_it_is_no_target() {
    let root = TempDir::new().unwrap();
    assert!(!empty_directory(root.path()).unwrap());
    assert!(empty_directory(&root.path().join("a/b")).unwrap());
    fs::write(root.path().join("a/b/c"), "").unwrap();
    for full in [root.path(), &root.path().join("a/b")] {
        assert!(matches!(empty_directory(full), Err(BackupError::NotEmpty(_))));
    }
}
