//! A data directory and its database belong together, and neither is taken over by mistake.

use crate::server::{Account, Server, livedrop};
use serde_json::json;
use std::fs;
use std::path::Path;
use std::process::Output;
use tempfile::TempDir;

/// Runs `livedrop` with these arguments on that data directory.
fn run(arguments: &[&str], data: &Path) -> Output {
    livedrop().args(arguments).arg("--data-dir").arg(data).output().expect("livedrop runs")
}

/// Asserts one readable line on standard error, and this exit code.
fn refusal(output: &Output, code: i32) -> String {
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!((output.status.code(), told.lines().count()), (Some(code), 1), "{told}");
    told
}

fn serve(data: &Path) -> Output {
    run(&["serve", "--bind", "127.0.0.1:0"], data)
}

/// A server with a drop and one held unit, so that something could be lost.
async fn shop() -> (Server, String, Account) {
    let server = Server::start().await;
    let (_, drop) = server.live_drop(10, json!({"hold_seconds": 3_600})).await;
    let ann = server.account("ann").await;
    assert_eq!(server.order(&ann, "1", &json!({"drop_id": drop, "quantity": 1})).await.0, 201);
    (server, drop, ann)
}

#[tokio::test]
async fn a_database_is_not_taken_from_a_server_that_lives() {
    let (mut server, drop, ann) = shop().await;
    for arguments in [&["adopt"][..], &["adopt", "--yes"]] {
        let told = refusal(&run(arguments, &server.data), 1);
        let address = server.base.trim_start_matches("http://");
        assert!(told.contains("a server lives on this database") && told.contains(address), "{told}");
        assert!(told.contains("1 drops are not settled") && told.contains("Nothing was changed"), "{told}");
    }
    assert_eq!(server.order(&ann, "2", &json!({"drop_id": drop, "quantity": 1})).await.0, 201);
    assert_eq!(server.terminate(), Some(0));
    // It deleted its heartbeat when it stopped, so no wait is needed.
    let told = refusal(&run(&["adopt"], &server.data), 1);
    assert!(told.contains("does not start on this database any more") && told.contains("--yes does it"), "{told}");
    server.restart();
    assert_eq!(server.stock(&drop).await, (8, 2, 0));
}

/// Nothing is unsettled: only the server itself would be lost.
#[tokio::test]
async fn a_start_does_not_take_a_database_from_a_server_that_lives() {
    let mut server = Server::start().await;
    server.account("ann").await;
    let elsewhere = TempDir::new().expect("a folder");
    let database = format!("sqlite://{}", server.data.join("livedrop.db").display());
    let start = ["serve", "--bind", "127.0.0.1:0", "--database-url", &database];
    let told = refusal(&run(&start, &elsewhere.path().join("data")), 1);
    assert!(told.contains("a server lives on this database") && told.contains("Nothing was changed"), "{told}");
    server.live_drop(5, json!({})).await;
    server.until("projected", async || server.readiness().await.1["checks"]["projector"]["lag_records"] == 0).await;
    assert_eq!(server.terminate(), Some(0), "it went on");
    assert_eq!(server.verify().0, Some(0));
    server.restart();
}

#[tokio::test]
async fn what_was_taken_over_is_told_and_given_back() {
    let (mut server, drop, ann) = shop().await;
    assert_eq!(server.terminate(), Some(0));
    assert_eq!(run(&["adopt", "--yes"], &server.data).status.code(), Some(0));
    let told = refusal(&run(&["verify"], &server.data), 2);
    assert!(told.contains("was taken over") && told.contains("no other has it yet"), "{told}");
    let told = refusal(&serve(&server.data), 1);
    assert!(told.contains("was taken from this data directory's journal") && told.contains("--give-back"), "{told}");
    assert_eq!(run(&["adopt", "--give-back"], &server.data).status.code(), Some(0));
    assert_eq!(server.verify().0, Some(0));
    server.restart();
    assert_eq!(server.order(&ann, "2", &json!({"drop_id": drop, "quantity": 1})).await.0, 201);
    assert_eq!(server.terminate(), Some(0));

    // Another data directory has used it: it cannot be given back.
    assert_eq!(run(&["adopt", "--yes"], &server.data).status.code(), Some(0));
    let database = format!("sqlite://{}", server.data.join("livedrop.db").display());
    let mut other = Server::with(Some(database), &[]).await;
    assert_eq!(other.stock(&drop).await, (8, 2, 0));
    let told = refusal(&run(&["adopt", "--give-back"], &server.data), 1);
    assert!(told.contains("has had the database since"), "{told}");
    let told = refusal(&run(&["verify"], &server.data), 2);
    assert!(told.contains("belongs to journal"), "{told}");
    assert_eq!(other.terminate(), Some(0));
}

#[tokio::test]
async fn no_command_makes_a_database_out_of_a_mistake() {
    let folder = TempDir::new().expect("a folder");
    let (data, missing) = (folder.path().join("data"), folder.path().join("nope.db"));
    let url = format!("sqlite://{}", missing.display());
    let admin = ["admin", "create", "--email", "ops@example.com"];
    for (arguments, code) in [(&["adopt"][..], 1), (&["adopt", "--yes"][..], 1), (&["verify"][..], 2), (&admin[..], 1)]
    {
        let mut command = livedrop();
        command.args(arguments).args(["--database-url", &url, "--data-dir"]).arg(&data);
        if arguments == admin {
            command.stdin(fs::File::open(password(folder.path())).expect("a password"));
        }
        let told = refusal(&command.output().expect("livedrop runs"), code);
        assert!(told.contains("no database at") && told.contains("nope.db"), "{arguments:?}: {told}");
        assert!(!missing.exists() && !data.exists(), "{arguments:?}");
    }
    // Nor from a file that is not such a database.
    fs::write(&missing, "").expect("a file");
    let mut command = livedrop();
    command.args(["adopt", "--yes", "--database-url", &url, "--data-dir"]).arg(&data);
    let told = refusal(&command.output().expect("livedrop runs"), 1);
    assert!(told.contains("nothing of LiveDrop"), "{told}");
}

fn password(folder: &Path) -> std::path::PathBuf {
    let path = folder.join("password");
    fs::write(&path, "a long password for operators\n").expect("a file");
    path
}

fn remove_database(data: &Path) {
    for name in ["livedrop.db", "livedrop.db-wal", "livedrop.db-shm"] {
        let _ = fs::remove_file(data.join(name));
    }
}

#[tokio::test]
async fn an_empty_database_beside_a_journal_with_history_is_refused() {
    let (mut server, drop, _) = shop().await;
    assert_eq!(server.terminate(), Some(0));
    remove_database(&server.data);
    let told = refusal(&serve(&server.data), 1);
    assert!(told.contains("has history") && told.contains("sqlite database is empty"), "{told}");
    assert!(told.contains("--accept-empty-database"), "{told}");
    let told = refusal(&serve(&server.data), 1);
    assert!(told.contains("is empty"), "still: {told}");

    let meant = Server::set_up(crate::server::Setup {
        data: Some(server.data.clone()),
        extra: vec!["--accept-empty-database".to_owned()],
        ..Default::default()
    });
    assert_eq!(meant.stock(&drop).await, (9, 1, 0), "what the journal has");
    meant.until("projected", async || meant.readiness().await.1["checks"]["projector"]["lag_records"] == 0).await;
    let mut meant = meant;
    assert_eq!(meant.terminate(), Some(0));
    server.restart();
    assert_eq!(server.stock(&drop).await, (9, 1, 0), "from now on it is its database");
}

#[tokio::test]
async fn a_foreign_database_beside_a_journal_with_history_is_refused() {
    let (mut server, ..) = shop().await;
    let mut other = Server::start().await;
    other.account("bob").await;
    for server in [&mut server, &mut other] {
        assert_eq!(server.terminate(), Some(0));
    }
    remove_database(&server.data);
    fs::copy(other.data.join("livedrop.db"), server.data.join("livedrop.db")).expect("a copy");
    let told = refusal(&serve(&server.data), 1);
    assert!(told.contains("belongs to another journal"), "{told}");
    let told = refusal(&run(&["verify"], &server.data), 2);
    assert!(told.contains("does not know this data directory's journal"), "{told}");
}

/// A dump from last week beside today's data directory.
#[tokio::test]
async fn a_database_from_before_the_journal_begins_is_refused() {
    let extra = ["--journal-segment-mib", "8"];
    let mut server = Server::with(None, &extra).await;
    let (maker, product) = server.creator("maker").await;
    let filling = async |server: &Server| {
        let variants: Vec<_> =
            (0..64).map(|n| json!({"name": format!("{n:02}{}", "𝄞".repeat(118)), "stock": 1})).collect();
        let body = json!({"product_id": product, "starts_at": "2099-01-01T00:00:00Z", "variants": variants});
        let (status, drop) = server.post("/drops", Some(&maker), body).await;
        assert_eq!(status, 201, "{drop}");
    };
    filling(&server).await;
    assert_eq!(server.terminate(), Some(0));
    let old = server.data.join("old.db");
    fs::copy(server.data.join("livedrop.db"), &old).expect("a copy");
    server.restart();
    let first = server.data.join("journal/00000000000000000001.seg");
    let mut drops = 0;
    while first.exists() {
        filling(&server).await;
        drops += 1;
        assert!(drops < 1_000, "the first segment is never deleted");
    }
    assert_eq!(server.terminate(), Some(0));
    remove_database(&server.data);
    fs::rename(&old, server.data.join("livedrop.db")).expect("it is put back");
    let told = refusal(&serve(&server.data), 1);
    assert!(told.contains("older than the data directory") && told.contains("begins with record"), "{told}");
}
