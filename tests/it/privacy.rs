//! Permissions of the data directory, and the effect of a lost key.

use crate::server::{Server, Setup, problem};
use serde_json::json;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

fn below(directory: &Path) -> Vec<PathBuf> {
    let mut found = vec![directory.to_owned()];
    for entry in fs::read_dir(directory).expect("a directory").flatten() {
        if entry.path().is_dir() {
            found.extend(below(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found
}

/// The files that other users may open.
fn open_to_others(directory: &Path) -> Vec<PathBuf> {
    let mode = |path: &Path| fs::metadata(path).map_or(0, |found| found.permissions().mode());
    below(directory).into_iter().filter(|path| mode(path) & 0o077 != 0).collect()
}

async fn quiet() -> Server {
    let extra = ["--log", "info"].map(str::to_owned).to_vec();
    Server::set_up(Setup { quiet: true, extra, ..Setup::default() })
}

#[tokio::test]
async fn nobody_else_reads_the_data_directory() {
    let mut server = quiet().await;
    server.live_drop(5, json!({})).await;
    assert!(below(&server.data).len() > 6, "a database, its companions, a key and a journal");
    assert_eq!(open_to_others(&server.data), Vec::<PathBuf>::new());
    assert!(!server.log().contains("could read"), "a new directory is nothing to speak of: {}", server.log());
    assert_eq!(server.terminate(), Some(0));

    // As an earlier version left it.
    for path in below(&server.data) {
        let mode = if path.is_dir() { 0o755 } else { 0o644 };
        fs::set_permissions(&path, Permissions::from_mode(mode)).expect("a mode");
    }
    server.restart();
    server.account("ann").await;
    assert_eq!(open_to_others(&server.data), Vec::<PathBuf>::new());
    let log = server.log();
    let told: Vec<&str> = log.lines().filter(|line| line.contains("could read")).collect();
    assert!(told.len() == 1 && told[0].contains(&server.data.display().to_string()), "{log}");
    assert_eq!(server.terminate(), Some(0));
    server.restart();
    assert_eq!(server.log().matches("could read").count(), 1, "once");
}

#[tokio::test]
async fn a_lost_key_is_told() {
    let mut server = quiet().await;
    let ann = server.account("ann").await;
    assert_eq!(server.terminate(), Some(0));
    assert!(!server.log().contains("secret.key"), "{}", server.log());
    fs::remove_file(server.data.join("secret.key")).expect("a key");
    server.restart();
    let log = server.log();
    let told: Vec<&str> = log.lines().filter(|line| line.contains("secret.key")).collect();
    assert!(told.len() == 1 && told[0].contains("every access token"), "{log}");
    problem(server.get("/users/me", Some(&ann)).await, 401, "unauthenticated");
    assert_eq!(server.terminate(), Some(0));
    server.restart();
    assert_eq!(server.log().matches("secret.key was missing").count(), 1, "a key that is there is nothing to speak of");
}
