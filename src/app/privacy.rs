//! Restricts the data directory to its owner. It has e-mail addresses, password hashes, orders, the key of access
//! tokens, and the keys of encrypted data.

use super::last_claim;
use crate::actors::inventory::checkpoint;
use crate::service::encryption::key_file;
use crate::service::revocations::copy;
use crate::storage;
use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use tracing::{info, warn};

/// The permission bits of a file's group and others.
const OTHERS: u32 = 0o077;
/// Files that the log names; the rest are counted.
const NAMED_MAX: usize = 5;

/// Creates the data directory, readable by its owner only, unless it exists.
///
/// # Errors
/// Those of creating a directory.
pub fn create_data_dir(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        made => made,
    }
}

/// Removes permissions of others that an earlier version or a copy has left, and logs that in one line.
pub(super) fn take_from_others(data_dir: &Path, database_url: &str) {
    let (mut changed, mut failed) = (Vec::new(), None);
    for path in private_paths(data_dir, database_url) {
        // Missing and unreadable files are reported by the code that uses them.
        let Ok(mode) = fs::metadata(&path).map(|found| found.permissions().mode()) else { continue };
        if mode & OTHERS == 0 {
            continue;
        }
        match fs::set_permissions(&path, Permissions::from_mode(mode & 0o700)) {
            Ok(()) => changed.push(path),
            Err(error) => failed = Some((path, error)),
        }
    }
    if let Some(line) = summary(&changed) {
        info!("others on this machine could read {line}; from now on only the owner can");
    }
    if let Some((path, error)) = failed {
        warn!(path = %path.display(), %error, "others on this machine can read this, and it cannot be changed");
    }
}

/// The data directory, the journal with its files, the key, and a database file with its companions.
fn private_paths(data_dir: &Path, database_url: &str) -> Vec<PathBuf> {
    let journal = data_dir.join("journal");
    let checkpoint = data_dir.join(checkpoint::FOLDER);
    let mut paths = vec![data_dir.to_owned(), journal.clone(), checkpoint.clone()];
    paths.extend(["secret.key", key_file::FILE, last_claim::FILE, copy::FILE].map(|name| data_dir.join(name)));
    paths.extend(fs::read_dir(&checkpoint).into_iter().flatten().flatten().map(|entry| entry.path()));
    paths.extend(fs::read_dir(&journal).into_iter().flatten().flatten().map(|entry| entry.path()));
    if let Some(file) = storage::sqlite_file(database_url) {
        paths.extend(["", "-wal", "-shm"].map(|companion| {
            let mut path = file.clone().into_os_string();
            path.push(companion);
            PathBuf::from(path)
        }));
    }
    paths
}

fn summary(changed: &[PathBuf]) -> Option<String> {
    let names: Vec<String> = changed.iter().take(NAMED_MAX).map(|path| path.display().to_string()).collect();
    let more = changed.len().saturating_sub(NAMED_MAX);
    match (names.is_empty(), more) {
        (true, _) => None,
        (false, 0) => Some(names.join(", ")),
        (false, more) => Some(format!("{} and {more} more files", names.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_directory_from_before_becomes_its_owners_alone() {
        let root = tempfile::tempdir().unwrap();
        let data = root.path().join("a/data");
        create_data_dir(&data).unwrap();
        create_data_dir(&data).unwrap();
        assert_eq!(mode(&data), 0o700);
        fs::set_permissions(&data, Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(data.join("journal")).unwrap();
        let elsewhere = root.path().join("shop.db");
        let files =
            [data.join("secret.key"), data.join("journal/1.seg"), elsewhere.clone(), root.path().join("shop.db-wal")];
        for file in &files {
            fs::write(file, "").unwrap();
            fs::set_permissions(file, Permissions::from_mode(0o644)).unwrap();
        }
        let other = data.join("notes.txt");
        fs::write(&other, "").unwrap();
        fs::set_permissions(&other, Permissions::from_mode(0o644)).unwrap();
        take_from_others(&data, &format!("sqlite://{}", elsewhere.display()));
        assert_eq!((mode(&data), mode(&data.join("journal"))), (0o700, 0o700));
        assert!(files.iter().all(|file| mode(file) == 0o600), "{files:?}");
        assert_eq!(mode(&other), 0o644, "what is not ours is left alone");
    }

    #[test]
    fn the_line_names_a_few_and_counts_the_rest() {
        let paths: Vec<PathBuf> = (0..7).map(|n| PathBuf::from(n.to_string())).collect();
        assert_eq!(summary(&[]), None);
        assert_eq!(summary(&paths[..2]).unwrap(), "0, 1");
        assert_eq!(summary(&paths).unwrap(), "0, 1, 2, 3, 4 and 2 more files");
    }

    #[test]
    fn a_database_is_found_by_its_url() {
        let own = private_paths(Path::new("d"), "postgres://u@h/x").len();
        let of = |url: &str| private_paths(Path::new("d"), url).get(own).cloned();
        assert_eq!(of("sqlite:///srv/x.db"), Some("/srv/x.db".into()));
        assert_eq!(of("sqlite://./d/x.db?mode=rwc"), Some("./d/x.db".into()));
        assert_eq!(of("sqlite:x.db"), Some("x.db".into()));
        assert_eq!(of("postgres://u@h/x"), None);
    }
}
