//! The file of a SQLite URL, and checks that it can be used.

use crate::storage::StoreError;
use crate::storage::failure::from_sqlx;
use rustix::fs::{Access, access};
use sqlx::sqlite::SqliteConnectOptions;
use std::fs::OpenOptions;
use std::io;
use std::path::Path;
use std::str::FromStr;

/// The URL of a file.
pub fn url_of(path: &Path) -> String {
    // The only characters with another meaning in such a URL.
    let path = path.display().to_string().replace('%', "%25").replace('?', "%3F");
    format!("sqlite://{path}")
}

/// Whether a URL can be one of a file. Touches no file.
///
/// # Errors
/// One line that says what is wrong.
pub fn check_url(url: &str) -> Result<(), String> {
    parse(url).map(|_| ())
}

/// Parses a URL.
///
/// # Errors
/// As [`check_url`].
pub fn parse(url: &str) -> Result<SqliteConnectOptions, String> {
    let after = url.strip_prefix("sqlite://").or_else(|| url.strip_prefix("sqlite:")).unwrap_or_default();
    let (name, parameters) = after.split_once('?').unwrap_or((after, ""));
    if name.contains(":memory:") || parameters.contains("mode=memory") {
        return Err(
            "names a database in memory: what is answered must outlast the process, so it must be a file".to_owned()
        );
    }
    if name.is_empty() || name.ends_with('/') || name.starts_with("file:") {
        return Err("names no file: write sqlite:///folder/file.db".to_owned());
    }
    // `rw` and `rwc` are the default behaviour; other parameters would not work.
    if let Some(other) = parameters.split('&').find(|one| !matches!(*one, "" | "mode=rw" | "mode=rwc")) {
        let key = other.split('=').next().unwrap_or_default();
        return Err(format!("has a parameter that is not supported: {key:?}"));
    }
    SqliteConnectOptions::from_str(url).map_err(|error| format!("is not understood: {error}"))
}

/// Whether the file, and its WAL beside it, can be written. SQLite's own error is only "unable to open database file".
///
/// # Errors
/// One line that names the obstacle.
pub fn usable(path: &Path) -> Result<(), String> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let shown = folder.display();
    match folder.metadata() {
        Ok(found) if found.is_dir() => {}
        Ok(_) => return Err(format!("{shown} is no folder")),
        Err(error) => return Err(format!("the database's folder {shown}: {error}")),
    }
    access(folder, Access::WRITE_OK | Access::EXEC_OK)
        .map_err(|error| format!("the database's folder {shown} cannot be written: {}", io::Error::from(error)))?;
    if path.is_dir() {
        return Err(format!("{} is a folder, not a database", path.display()));
    }
    match OpenOptions::new().read(true).write(true).open(path) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(format!("{} cannot be opened: {error}", path.display())),
    }
}

/// Sorts a failure to open: a permanent one ends the start, a passing one is retried.
pub fn sorted(path: &Path, error: sqlx::Error) -> StoreError {
    let path = path.display();
    let Some(told) = error.as_database_error() else { return from_sqlx(error) };
    // <https://www.sqlite.org/rescode.html>: the low byte is the primary code. Busy, locked, no memory, an I/O error
    // and a full disk pass.
    match told.code().and_then(|code| code.parse::<u32>().ok()).map(|code| code & 0xff) {
        Some(5 | 6 | 7 | 10 | 13) => {
            StoreError::Unavailable(sqlx::Error::Io(io::Error::other(format!("{path}: {}", told.message()))))
        }
        _ => StoreError::Refused(format!("{path}: {}", told.message())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn only_a_file_is_a_database() {
        for url in
            ["sqlite::memory:", "sqlite://:memory:", "sqlite://a.db?mode=memory", "sqlite:file::memory:?cache=shared"]
        {
            assert!(check_url(url).unwrap_err().contains("in memory"), "{url}");
        }
        for url in ["sqlite:", "sqlite://", "sqlite:///srv/", "sqlite://?mode=rw", "sqlite:file:a.db"] {
            assert!(check_url(url).unwrap_err().contains("names no file"), "{url}");
        }
        for url in ["sqlite://a.db?mode=ro", "sqlite://a.db?immutable=1", "sqlite://a.db?vfs=unix-none"] {
            assert!(check_url(url).unwrap_err().contains("not supported"), "{url}");
        }
        for url in ["sqlite://a.db", "sqlite:a.db", "sqlite:///srv/a.db?mode=rwc"] {
            assert_eq!(check_url(url), Ok(()), "{url}");
        }
    }

    #[test]
    fn a_path_comes_back_from_its_url() {
        for path in ["a.db", "/srv/50%/a.db", "/srv/%41/what?/a#b c.db"] {
            assert_eq!(parse(&url_of(Path::new(path))).unwrap().get_filename(), Path::new(path), "{path}");
        }
    }

    #[test]
    fn what_is_in_the_way_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let inside = |name: &str| folder.path().join(name);
        let told = usable(&inside("no/such/a.db")).unwrap_err();
        assert!(told.contains("no/such") && told.contains("No such file"), "{told}");
        fs::write(inside("file"), "").unwrap();
        assert!(usable(&inside("file/a.db")).is_err());
        fs::create_dir(inside("dir")).unwrap();
        assert!(usable(&inside("dir")).unwrap_err().contains("is a folder"));
        assert_eq!(usable(&inside("new.db")), Ok(()));
        assert!(!inside("new.db").exists(), "nothing is made");
        fs::set_permissions(inside("dir"), fs::Permissions::from_mode(0o555)).unwrap();
        // Root may write everywhere.
        let refused = usable(&inside("dir/a.db"));
        let root = rustix::process::geteuid().is_root();
        assert_eq!(refused.is_err(), !root, "{refused:?}");
    }
}
