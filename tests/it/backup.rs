//! `livedrop backup` and `livedrop restore`.

use crate::postgres;
use crate::server::{Account, Server, Setup, livedrop};
use reqwest::StatusCode;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Output;
use tempfile::TempDir;

type Told = (StatusCode, Value);

/// A server with one live drop and a buyer, and a directory for backups.
struct Shop {
    server: Server,
    drop: String,
    ann: Account,
    url: Option<String>,
    place: TempDir,
}

impl Shop {
    async fn open(url: Option<String>) -> Self {
        let extra = ["--journal-segment-mib", "8"].map(str::to_owned).to_vec();
        let server = Server::set_up(Setup { database_url: url.clone(), extra, ..Setup::default() });
        let (_, drop) = server.live_drop(1_000, json!({"hold_seconds": 3_600})).await;
        let ann = server.account("ann").await;
        Self { server, drop, ann, url, place: TempDir::new().expect("a folder") }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    async fn order(&self, at: &Server, key: u32) -> Told {
        let method = if key.is_multiple_of(2) { json!("pm_sandbox_ok") } else { Value::Null };
        at.order(&self.ann, &key.to_string(), &json!({"drop_id": self.drop, "quantity": 1, "payment_method": method}))
            .await
    }

    async fn orders(&self, keys: std::ops::Range<u32>) -> Vec<Told> {
        let mut told = Vec::new();
        for key in keys {
            told.push(self.order(&self.server, key).await);
            assert_eq!(told.last().expect("an answer").0, 201, "{told:?}");
        }
        told
    }

    fn backup(&self, name: &str, command: &[&str]) -> Output {
        let mut backup = livedrop();
        backup.args(["backup", "--data-dir"]).arg(&self.server.data).arg("--to").arg(self.path(name));
        if let Some(url) = &self.url {
            backup.args(["--database-url", url]);
        }
        if !command.is_empty() {
            backup.arg("--").args(command);
        }
        backup.output().expect("livedrop runs")
    }

    /// Makes a backup, which must succeed.
    fn backed_up(&self, name: &str) -> PathBuf {
        let output = self.backup(name, &[]);
        assert!(output.status.success(), "{output:?}");
        self.path(name)
    }

    fn restore(&self, from: &Path, name: &str) -> Output {
        let mut restore = livedrop();
        restore.args(["restore", "--from"]).arg(from).arg("--data-dir").arg(self.path(name));
        restore.output().expect("livedrop runs")
    }

    fn verify(&self, name: &str, url: Option<&str>) -> (Option<i32>, String) {
        let mut verify = livedrop();
        verify.args(["verify", "--data-dir"]).arg(self.path(name));
        if let Some(url) = url {
            verify.args(["--database-url", url]);
        }
        let output = verify.output().expect("livedrop runs");
        (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    }
}

/// The single readable line of a failed command.
fn refusal(output: &Output) -> String {
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!((output.status.code(), told.lines().count(), output.stdout.len()), (Some(1), 1, 0), "{told}");
    told
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_beside_a_running_server_has_every_order_that_was_acknowledged_before() {
    let mut shop = Shop::open(None).await;
    let told = shop.orders(0..20).await;
    let backup = shop.backed_up("backup");
    shop.orders(20..25).await;
    assert_eq!(shop.server.terminate(), Some(0));

    let restored = shop.restore(&backup, "restored");
    assert!(restored.status.success(), "{restored:?}");
    let (code, report) = shop.verify("restored", None);
    assert_eq!(code, Some(0), "{report}");
    let mode = |path: &Path| fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
    for place in [&backup, &shop.path("restored")] {
        assert_eq!((mode(place), mode(&place.join("journal"))), (0o700, 0o700));
        assert_eq!((mode(&place.join("livedrop.db")), mode(&place.join("secret.key"))), (0o600, 0o600));
    }
    let elsewhere = Server::set_up(Setup { data: Some(shop.path("restored")), ..Setup::default() });
    for (key, first) in (0..).zip(&told) {
        assert_eq!(shop.order(&elsewhere, key).await, *first, "with the token of before");
    }
    assert_eq!(elsewhere.stock(&shop.drop).await, (980, 10, 10), "what came after the backup is not in it");
    assert_eq!(shop.order(&elsewhere, 77).await.0, 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_was_killed_is_backed_up_as_well() {
    let mut shop = Shop::open(None).await;
    let told = shop.orders(0..5).await;
    shop.server.kill();
    let backup = shop.backed_up("backup");
    assert!(shop.restore(&backup, "restored").status.success());
    let elsewhere = Server::set_up(Setup { data: Some(shop.path("restored")), ..Setup::default() });
    for (key, first) in (0..).zip(&told) {
        assert_eq!(shop.order(&elsewhere, key).await, *first);
    }
}

/// A segment file of a backup.
fn segment(backup: &Path) -> PathBuf {
    let mut files = fs::read_dir(backup.join("journal")).expect("a journal").flatten().map(|entry| entry.path());
    files.find(|path| path.extension().is_some_and(|extension| extension == "seg")).expect("a segment")
}

fn change(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).expect("a file");
    change(&mut bytes);
    fs::write(path, bytes).expect("the file can be written");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_is_not_what_it_was_is_refused_by_name() {
    let mut shop = Shop::open(None).await;
    shop.orders(0..3).await;
    assert_eq!(shop.server.terminate(), Some(0));
    let other = {
        let other = Shop::open(None).await;
        let backup = other.backed_up("backup");
        (other, backup)
    };
    type Damage = fn(&Path, &Path);
    let cases: [(&str, Damage, &str, &str); 8] = [
        ("truncated", |backup, _| change(&segment(backup), |bytes| bytes.truncate(bytes.len() - 1)), ".seg", "bytes"),
        (
            "altered",
            |backup, _| change(&backup.join("livedrop.db"), |bytes| bytes[4_000] ^= 1),
            "livedrop.db",
            "altered",
        ),
        ("secret", |backup, _| fs::remove_file(backup.join("secret.key")).unwrap(), "secret.key", "missing"),
        (
            "incomplete",
            |backup, _| fs::remove_file(backup.join("backup.json")).unwrap(),
            "backup.json",
            "not completed",
        ),
        (
            "foreign segment",
            |backup, other| _ = fs::copy(segment(other), segment(backup)).expect("a copy"),
            ".seg",
            "when the backup was made",
        ),
        (
            "foreign manifest",
            |backup, other| _ = fs::copy(other.join("backup.json"), backup.join("backup.json")).expect("a copy"),
            "encryption.keys",
            "altered",
        ),
        ("added", |backup, _| fs::write(backup.join("notes.txt"), "").unwrap(), "notes.txt", "not part of the backup"),
        ("no backup", |backup, _| fs::remove_dir_all(backup).unwrap(), "backup.json", "not a backup"),
    ];
    for (name, damage, file, why) in cases {
        let backup = shop.backed_up(name);
        damage(&backup, &other.1);
        let told = refusal(&shop.restore(&backup, "restored"));
        assert!(told.contains("cannot be restored") && told.contains(file) && told.contains(why), "{name}: {told}");
        assert!(!shop.path("restored").exists(), "{name}: nothing is written");
    }
    let whole = shop.backed_up("whole");
    assert!(shop.restore(&whole, "restored").status.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_overwritten_and_nothing_is_made_up() {
    let mut shop = Shop::open(None).await;
    let backup = shop.backed_up("backup");
    let told = refusal(&shop.backup("backup", &[]));
    assert!(told.contains("is not empty"), "{told}");
    fs::create_dir(shop.path("full")).expect("a folder");
    fs::write(shop.path("full").join("mine"), "").expect("a file");
    let told = refusal(&shop.restore(&backup, "full"));
    assert!(told.contains("is not empty"), "{told}");
    assert_eq!(fs::read_dir(shop.path("full")).expect("a folder").count(), 1);
    // A data directory without a journal, and a missing database.
    let run = |data: &Path, url: &str| {
        let mut command = livedrop();
        command.args(["backup", "--database-url", url, "--data-dir"]).arg(data).arg("--to").arg(shop.path("to"));
        command.output().expect("livedrop runs")
    };
    let database = format!("sqlite://{}", shop.server.data.join("livedrop.db").display());
    let told = refusal(&run(&shop.path("nowhere"), &database));
    assert!(told.contains("no journal") && !shop.path("nowhere").exists(), "{told}");
    let missing = shop.path("nope.db");
    let told = refusal(&run(&shop.server.data, &format!("sqlite://{}", missing.display())));
    assert!(told.contains("no database") && told.contains("nope.db") && !missing.exists(), "{told}");
    assert!(!shop.path("to").exists(), "a backup that failed leaves nothing");
    let other = Shop::open(None).await;
    let foreign = format!("sqlite://{}", other.server.data.join("livedrop.db").display());
    let told = refusal(&run(&shop.server.data, &foreign));
    assert!(told.contains("do not belong together"), "{told}");
    let told = refusal(&shop.backup("to", &["true"]));
    assert!(told.contains("leave the command out"), "{told}");
    // An incomplete restore does not start.
    assert!(shop.restore(&backup, "half").status.success());
    fs::remove_file(shop.path("half").join("journal/journal.meta")).expect("it is written last");
    let mut serve = livedrop();
    serve.args(["serve", "--bind", "127.0.0.1:0", "--data-dir"]).arg(shop.path("half"));
    let told = refusal(&serve.output().expect("livedrop runs"));
    assert!(told.contains("journal.meta"), "{told}");
    assert_eq!(shop.server.terminate(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn on_postgres_the_dump_is_made_while_the_journal_is_held() {
    let url = postgres::fresh_database().await;
    let mut shop = Shop::open(Some(url.clone())).await;
    let told = shop.orders(0..20).await;
    let refused = refusal(&shop.backup("backup", &[]));
    assert!(refused.contains("name the command") && !shop.path("backup").exists(), "{refused}");
    let refused = refusal(&shop.backup("backup", &["sh", "-c", "exit 3"]));
    assert!(refused.contains("did not copy the database") && !shop.path("backup").exists(), "{refused}");

    let dump = "exec \"$0\" --format=custom --file=\"$LIVEDROP_BACKUP_DATABASE_DIR/livedrop.dump\" \"$1\"";
    let program = postgres::program("pg_dump").display().to_string();
    let (backed_up, _) = tokio::join!(
        tokio::task::spawn_blocking({
            let place = shop.path("backup");
            let (data, url) = (shop.server.data.clone(), url.clone());
            move || {
                let mut backup = livedrop();
                backup.args(["backup", "--database-url", &url, "--data-dir"]).arg(data).arg("--to").arg(place);
                backup.args(["--", "sh", "-c", dump, &program, &url]).output().expect("livedrop runs")
            }
        }),
        // Meanwhile the server goes on.
        shop.orders(20..60),
    );
    let backed_up = backed_up.expect("it ends");
    assert!(backed_up.status.success(), "{backed_up:?}");

    assert!(shop.restore(&shop.path("backup"), "restored").status.success());
    let copy = postgres::fresh_database().await;
    let mut load = std::process::Command::new(postgres::program("pg_restore"));
    load.args(["--no-owner", "--dbname", &copy]).arg(shop.path("backup").join("database/livedrop.dump"));
    assert!(load.status().expect("pg_restore runs").success());
    let (code, report) = shop.verify("restored", Some(&copy));
    assert_eq!(code, Some(0), "{report}");
    let setup = Setup { data: Some(shop.path("restored")), database_url: Some(copy), ..Setup::default() };
    let elsewhere = Server::set_up(setup);
    for (key, first) in (0..).zip(&told) {
        assert_eq!(shop.order(&elsewhere, key).await, *first);
    }
    assert_eq!(shop.server.terminate(), Some(0));
}

/// The same journal twice on one database: the restored one has the later epoch, even after a restart of the other.
#[tokio::test(flavor = "multi_thread")]
async fn a_restored_server_fences_the_one_that_it_was_copied_from() {
    let url = postgres::fresh_database().await;
    let mut shop = Shop::open(Some(url.clone())).await;
    shop.orders(0..3).await;
    let backup = shop.backup("backup", &["true"]);
    assert!(backup.status.success(), "{backup:?}");
    assert!(shop.restore(&shop.path("backup"), "restored").status.success());
    let setup = Setup { data: Some(shop.path("restored")), database_url: Some(url), ..Setup::default() };
    let restored = Server::set_up(setup);
    let _ = shop.server.order_raw(&shop.ann, "77", &json!({"drop_id": shop.drop, "quantity": 1})).await;
    assert_eq!(shop.server.wait(), Some(1), "the original stops selling");
    assert!(!shop.server.try_restart(), "and does not come back");
    assert_eq!(shop.order(&restored, 5).await.0, 201);
}
