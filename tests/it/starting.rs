//! Starts that wait for their database, starts that do not, and stops that do not wait for it.

use crate::pgbouncer::Pooler;
use crate::postgres::PrivatePostgres;
use crate::server::{SOON, Server, livedrop};
use serde_json::json;
use std::io::{BufRead, BufReader, Lines};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::Duration;

/// A `livedrop serve` that is not listening yet.
struct Start {
    child: Child,
    log: Lines<BufReader<ChildStderr>>,
    _data: tempfile::TempDir,
}

impl Start {
    fn with(url: &str) -> Self {
        let data = tempfile::tempdir().expect("a folder");
        let mut command = livedrop();
        command.args(["serve", "--bind", "127.0.0.1:0", "--log", "info", "--database-url", url, "--data-dir"]);
        let mut child =
            command.arg(data.path()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        let log = BufReader::new(child.stderr.take().expect("its log")).lines();
        Self { child, log, _data: data }
    }

    /// The next line of its log with that text.
    fn line_with(&mut self, text: &str) -> String {
        self.log.by_ref().map_while(Result::ok).find(|line| line.contains(text)).expect("it says so before it ends")
    }
}

impl Drop for Start {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn terminate(child: &Child) {
    assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().expect("kill").success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_not_up_yet_is_waited_for_by_name() {
    let mut postgres = PrivatePostgres::new();
    let url = postgres.fresh_database().await;
    postgres.stop();
    let mut start = Start::with(&url.replace("livedrop@", "livedrop:s3cret@"));
    let waits = start.line_with("waiting");
    assert!(waits.contains(&format!("127.0.0.1:{}: ", postgres.port())) && waits.contains("refused"), "{waits}");
    assert!(!waits.contains("s3cret"), "{waits}");
    postgres.start();
    let mut said = BufReader::new(start.child.stdout.take().expect("its output")).lines();
    let line = said.next().expect("it goes on").expect("text");
    assert!(line.starts_with("livedrop listening on"), "{line}");
    terminate(&start.child);
    assert_eq!(start.child.wait().expect("its end").code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_ends_the_wait_for_a_database() {
    let mut start = Start::with(&format!("postgres://nobody@127.0.0.1:{}/nothing", crate::postgres::free_port()));
    start.line_with("waiting");
    terminate(&start.child);
    start.line_with("the server was not up yet");
    assert_eq!(start.child.wait().expect("its end").code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waiting_does_not_cure_ends_a_start_at_once_with_one_line() {
    let postgres = PrivatePostgres::customised("", "host all shop all scram-sha-256", &[]);
    postgres.run("CREATE ROLE shop LOGIN PASSWORD 's3cret'").await;
    let port = postgres.port();
    let folder = tempfile::tempdir().expect("a folder");
    let text = folder.path().join("text.db");
    std::fs::write(&text, "no database at all. ".repeat(100)).expect("a file");
    let (text, ca) = (text.display().to_string(), folder.path().join("ca.pem").display().to_string());
    for (url, code, reason) in [
        (format!("postgres://shop:0ther@127.0.0.1:{port}/postgres"), 1, "password authentication failed"),
        (format!("postgres://shop:s3cret@127.0.0.1:{port}/nodb"), 1, "database \"nodb\" does not exist"),
        (format!("postgres://shop:s3cret@127.0.0.1:{port}/postgres?sslmode=require"), 1, "does not support TLS"),
        (
            format!("postgres://shop:s3cret@127.0.0.1:{port}/postgres?sslmode=require&sslrootcert={ca}"),
            2,
            "SSL_CERT_FILE",
        ),
        (format!("postgres://shop:s3/cret@127.0.0.1:{port}/postgres"), 2, "special character"),
        (format!("sqlite://{text}"), 1, "not a database"),
        ("sqlite:///no/such/folder/a.db".to_owned(), 1, "/no/such/folder"),
        ("sqlite::memory:".to_owned(), 2, "in memory"),
        ("mysql://root:s3cret@127.0.0.1/shop".to_owned(), 2, "must begin with postgres:// or sqlite://"),
    ] {
        let data = tempfile::tempdir().expect("a folder");
        let mut command = livedrop();
        command.args(["serve", "--bind", "127.0.0.1:0", "--database-url", &url, "--data-dir"]).arg(data.path());
        let output = command.output().expect("livedrop runs");
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((output.status.code(), told.lines().count()), (Some(code), 1), "{url}: {told}");
        assert!(told.contains(reason), "{url}: {told}");
        assert!(!told.contains("cret") && !told.contains("0ther"), "{url}: {told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sale_through_a_pooler_ends_with_a_clean_audit() {
    let postgres = PrivatePostgres::new();
    postgres.run("CREATE DATABASE shop").await;
    let pooler = Pooler::of_transactions(&postgres, 3, "");
    let mut server = Server::with(Some(pooler.url("shop")), &[]).await;
    let (_, drop) = server.live_drop(10, json!({"per_buyer_limit": 1})).await;
    let buyers = futures_util::future::join_all((0..20).map(|_| server.account("buyer"))).await;
    let body = json!({"drop_id": drop, "quantity": 1, "payment_method": "pm_sandbox_ok"});
    let answers = futures_util::future::join_all(buyers.iter().map(|buyer| server.order(buyer, "k", &body))).await;
    assert_eq!(answers.iter().filter(|(status, _)| status.as_u16() == 201).count(), 10);
    server.kill();
    server.restart();
    assert_eq!(server.stock(&drop).await, (0, 0, 10));
    assert_eq!(server.terminate(), Some(0));
    let (code, report) = server.verify();
    assert_eq!((code, &report["unprojected_records"]), (Some(0), &json!(0)), "{report}");
}

/// It accepts connections and keeps them open, but answers nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_stop_does_not_wait_for_a_database_that_is_silent() {
    let mut postgres = PrivatePostgres::new();
    let url = postgres.fresh_database().await;
    let mut server = Server::with(Some(url), &["--shutdown-seconds", "2"]).await;
    let (_, drop) = server.live_drop(10, json!({"hold_seconds": 600})).await;
    let ann = server.account("ann").await;
    postgres.freeze();
    let body = json!({"drop_id": drop, "quantity": 1, "payment_method": "pm_sandbox_ok"});
    assert_eq!(server.order(&ann, "k", &body).await.0, 201);
    server.signal("TERM");
    let deadline = tokio::time::Instant::now() + SOON;
    let code = loop {
        if let Some(code) = server.has_ended() {
            break code;
        }
        assert!(tokio::time::Instant::now() < deadline, "it still waits for the database");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(code, 0);
    postgres.thaw();
    server.restart();
    server
        .until("projected", async || {
            server.get("/users/me/orders", Some(&ann)).await.1["items"][0]["status"] == "confirmed"
        })
        .await;
    assert_eq!(server.terminate(), Some(0));
    let (code, report) = server.verify();
    assert_eq!((code, &report["unprojected_records"]), (Some(0), &json!(0)), "{report}");
}

#[test]
fn a_migration_says_what_it_did() {
    let data = tempfile::tempdir().expect("a folder");
    // A percent sign in the path must be escaped in the URL.
    let folder = data.path().join("50% off");
    for said in ["the schema is made\n", "the schema was up to date\n"] {
        let output = livedrop().args(["migrate", "--data-dir"]).arg(&folder).output().expect("it runs");
        assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stdout).as_ref()), (Some(0), said));
    }
    let verified = livedrop().args(["verify", "--data-dir"]).arg(&folder).output().expect("it runs");
    let said = String::from_utf8_lossy(&verified.stderr).into_owned();
    assert!(verified.status.code() == Some(2) && said.contains("no journal"), "the database is found: {said}");
}
