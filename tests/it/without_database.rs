//! Starts while Postgres is away: what was live is sold on, and the rest waits for the database.

use crate::listener::Listener;
use crate::postgres::PrivatePostgres;
use crate::server::{Account, Server, Setup, livedrop, problem};
use livedrop::actors::inventory::checkpoint::manifest::Manifest;
use serde_json::{Value, json};
use sqlx::{Connection, Executor, PgConnection};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};

const STOCK: u64 = 30;

fn set_up(url: &str, more: &[&str]) -> Server {
    let extra =
        ["--checkpoint-seconds", "1", "--log", "info"].iter().chain(more).map(|&text| text.to_owned()).collect();
    Server::set_up(Setup { database_url: Some(url.to_owned()), extra, quiet: true, ..Setup::default() })
}

fn body(drop: &str) -> Value {
    json!({"drop_id": drop, "quantity": 1, "payment_method": "pm_sandbox_ok"})
}

/// A sale whose server has written all that a start without the database needs.
struct Shop {
    server: Server,
    maker: Account,
    drop: String,
    ann: Account,
    /// The answers to ann's orders, by their keys.
    placed: Vec<(String, Value)>,
}

impl Shop {
    async fn open(url: &str, more: &[&str]) -> Self {
        let server = set_up(url, more);
        let (maker, drop) = server.live_drop(STOCK as u32, json!({"hold_seconds": 600})).await;
        let ann = server.account("ann").await;
        let mut shop = Self { server, maker, drop, ann, placed: Vec::new() };
        shop.order("before").await;
        shop.is_prepared().await;
        // The journal alone has this one.
        shop.order("after").await;
        shop
    }

    async fn order(&mut self, key: &str) {
        let (status, order) = self.server.order(&self.ann, key, &body(&self.drop)).await;
        assert_eq!(status, 201, "{order}");
        self.placed.push((key.to_owned(), order));
    }

    async fn is_prepared(&self) {
        let data = &self.server.data;
        self.server
            .until("a start could do without the database", async || {
                let manifest = fs::read(data.join("checkpoint/manifest")).ok().and_then(|b| Manifest::decode(&b).ok());
                manifest.is_some_and(|manifest| manifest.is_complete && manifest.entries.len() == 1)
                    && data.join("claim").exists()
                    && data.join("revocations").exists()
            })
            .await;
    }

    /// The server sells without its database: keys from before, new ones, reads, sessions; what needs SQL is refused.
    async fn sells(&mut self, key: &str) {
        let (status, told) = self.server.readiness().await;
        assert_eq!((status, &told["status"]), (200, &json!("degraded")), "{told}");
        assert_eq!(told["checks"]["database"]["status"], "unavailable", "{told}");
        for (key, order) in &self.placed {
            assert_eq!(
                self.server.order(&self.ann, key, &body(&self.drop)).await,
                (reqwest::StatusCode::CREATED, order.clone())
            );
        }
        let mut listener = Listener::of(&self.server, &self.ann).await;
        listener.send(json!({"op": "subscribe", "topics": [format!("drop:{}", self.drop)]})).await;
        listener.until("subscribed").await;
        self.order(key).await;
        listener.until("stock_changed").await;
        let sold = self.placed.len() as u64;
        assert_eq!(self.server.stock(&self.drop).await, (STOCK - sold, 0, sold));
        problem(self.server.get("/users/me/orders", Some(&self.ann)).await, 503, "database_unavailable");
        let register = json!({"email": "x@example.com", "password": "correct horse", "display_name": "x"});
        problem(self.server.post("/auth/register", None, register).await, 503, "database_unavailable");
        let log = self.server.log();
        assert!(
            log.lines().any(|line| line.contains("WARN") && line.contains("starting without the database")),
            "{log}"
        );
    }

    /// The database is back: everything arrives there, once.
    async fn catches_up(mut self) {
        self.server.until("caught up", async || self.server.readiness().await.1["status"] == "ready").await;
        let (status, mine) = self.server.get("/users/me/orders?limit=50", Some(&self.ann)).await;
        assert_eq!((status.as_u16(), mine["items"].as_array().map(Vec::len)), (200, Some(self.placed.len())), "{mine}");
        self.server
            .until("done", async || self.server.log().contains("what the start left out without the database is done"))
            .await;
        assert_eq!(self.server.terminate(), Some(0));
        let (code, report) = self.server.verify();
        assert_eq!((code, &report["unprojected_records"]), (Some(0), &json!(0)), "{report}");
        assert!(!self.server.data.join("claim").exists(), "a server that stopped cleanly has given the database back");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_sells_the_rest_without_its_database_exactly_once() {
    let mut postgres = PrivatePostgres::new();
    let mut shop = Shop::open(&postgres.fresh_database().await, &[]).await;
    let (bob, cay) = (shop.server.account("bob").await, shop.server.account("cay").await);
    assert_eq!(shop.server.post("/auth/logout", None, json!({"refresh_token": bob.refresh})).await.0, 204);
    assert_eq!(shop.server.call(reqwest::Method::POST, "/auth/logout-everywhere", Some(&cay), None).await.0, 204);
    shop.server.kill();
    postgres.stop();
    shop.server.restart();
    for who in [&bob, &cay] {
        problem(shop.server.order(who, "k", &body(&shop.drop)).await, 401, "token_revoked");
    }
    shop.sells("without").await;
    // And again: the second start rests on what the first one wrote.
    shop.server.kill();
    shop.server.restart();
    problem(shop.server.order(&bob, "k", &body(&shop.drop)).await, 401, "token_revoked");
    shop.sells("without again").await;
    for n in shop.placed.len() as u64..STOCK {
        shop.order(&format!("rest {n}")).await;
    }
    problem(shop.server.order(&shop.ann, "one more", &body(&shop.drop)).await, 409, "sold_out");
    postgres.start();
    problem(shop.server.order(&bob, "k", &body(&shop.drop)).await, 401, "token_revoked");
    shop.catches_up().await;
}

/// It accepts connections and answers nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_hangs_is_done_without() {
    let mut postgres = PrivatePostgres::new();
    let mut shop = Shop::open(&postgres.fresh_database().await, &[]).await;
    shop.server.kill();
    postgres.freeze();
    shop.server.restart();
    shop.sells("without").await;
    postgres.thaw();
    shop.catches_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drop_that_was_scheduled_and_one_that_sleeps_are_there_when_the_database_is_back() {
    let mut postgres = PrivatePostgres::new();
    let mut shop = Shop::open(&postgres.fresh_database().await, &[]).await;
    let product = shop.server.get(&format!("/drops/{}", shop.drop), None).await.1["product_id"].clone();
    let far = json!({"product_id": product, "starts_at": "2099-01-01T00:00:00Z", "stock": 5});
    let (status, far) = shop.server.post("/drops", Some(&shop.maker), far).await;
    assert_eq!(status, 201, "{far}");
    // It is in the journal alone, after the checkpoint.
    let soon = json!({"product_id": product, "stock": 5});
    let (status, soon) = shop.server.post("/drops", Some(&shop.maker), soon).await;
    assert_eq!(status, 201, "{soon}");
    shop.server.kill();
    postgres.stop();
    shop.server.restart();
    let soon = soon["id"].as_str().unwrap();
    assert_eq!(shop.server.stock(soon).await, (5, 0, 0));
    let (status, order) = shop.server.order(&shop.ann, "soon", &body(soon)).await;
    assert_eq!(status, 201, "{order}");
    postgres.start();
    shop.placed.push(("soon".to_owned(), order));
    let far = far["id"].as_str().unwrap();
    shop.server
        .until("the far drop is there", async || shop.server.get(&format!("/drops/{far}"), None).await.0 == 200)
        .await;
    shop.catches_up().await;
}

/// Starts a server on this data directory, and returns its log until a line has this text.
fn log_until(data: &Path, url: &str, more: &[&str], text: &str) -> String {
    let mut command = livedrop();
    command.args(["serve", "--bind", "127.0.0.1:0", "--log", "info", "--database-url", url, "--data-dir"]).arg(data);
    let mut child = command.args(more).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it starts");
    let mut log = String::new();
    for line in BufReader::new(child.stderr.take().expect("its log")).lines().map_while(Result::ok) {
        log.push_str(&line);
        log.push('\n');
        if line.contains(text) {
            break;
        }
    }
    let _ = child.kill();
    child.wait().expect("its end");
    log
}

#[tokio::test(flavor = "multi_thread")]
async fn without_grounds_a_start_waits_for_the_database_and_names_the_reason() {
    let mut postgres = PrivatePostgres::new();
    let url = postgres.fresh_database().await;
    let mut shop = Shop::open(&url, &[]).await;
    shop.server.kill();
    postgres.stop();
    let data = &shop.server.data;
    let waits = |more: &[&str], why: &str| {
        let log = log_until(data, &url, more, "waiting: ");
        assert!(!log.contains("starting without") && log.contains("waiting: "), "{log}");
        assert_eq!(log.contains("a start without the database is not possible"), !why.is_empty(), "{log}");
        assert!(log.contains(why), "{why}: {log}");
    };
    let replaced = |file: &str, with: Option<&[u8]>, why: &str| {
        let path = data.join(file);
        let was = fs::read(&path).expect(file);
        match with {
            Some(bytes) => fs::write(&path, bytes).expect(file),
            None => fs::remove_file(&path).expect(file),
        }
        waits(&[], why);
        fs::write(&path, was).expect(file);
    };
    for (file, missing, damaged) in [
        ("claim", "no record of a claim", "the record of the last claim is damaged"),
        ("revocations", "no copy of the revoked access tokens", "revoked access tokens is damaged"),
        ("checkpoint/manifest", "the file is missing", "it is not a checkpoint"),
    ] {
        replaced(file, None, missing);
        replaced(file, Some(b"no such thing"), damaged);
    }
    let manifest = Manifest::decode(&fs::read(data.join("checkpoint/manifest")).unwrap()).unwrap();
    let incomplete = Manifest { is_complete: false, ..manifest.clone() }.encode();
    replaced("checkpoint/manifest", Some(&incomplete), "lacks drops");
    let mut foreign = manifest;
    foreign.origin.journal = uuid::Uuid::nil();
    replaced("checkpoint/manifest", Some(&foreign.encode()), "belongs to another journal");
    waits(&["--outage-grace-seconds", "0"], "outage_grace_seconds");
    // Another database, whose state nobody knows.
    let log = log_until(data, &url.replace("test_", "other_"), &[], "waiting: ");
    assert!(log.contains("in another database"), "{log}");
    // A copy of the directory: the original may be running.
    let copy = tempfile::tempdir().expect("a folder");
    let copied = Command::new("cp").arg("-r").arg(data.join(".")).arg(copy.path()).status().expect("cp");
    assert!(copied.success());
    let log = log_until(copy.path(), &url, &[], "waiting: ");
    assert!(log.contains("the data directory is a copy"), "{log}");
    // Noticed only when it is read.
    let file = fs::read_dir(data.join("checkpoint")).unwrap().map(|entry| entry.unwrap().path());
    let file = file.into_iter().find(|path| path.extension().is_some_and(|end| end == "drop")).expect("a drop's file");
    let mut bytes = fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&file, bytes).unwrap();
    let log = log_until(data, &url, &[], "a start without the database is not possible");
    assert!(log.contains("it is damaged") && log.contains("lacks drops") && !log.contains("starting without"), "{log}");
    // As the operator wants it; and from then on there is nothing to start with.
    waits(&["--start-without-database", "never"], "");
    assert!(!data.join("claim").exists() && !data.join("revocations").exists());
    // With its database it starts as ever.
    postgres.start();
    shop.server.restart();
    assert_eq!(shop.server.stock(&shop.drop).await, (STOCK - 2, 0, 2));
}

fn run(arguments: &[&str], url: &str, data: &Path) -> Output {
    let mut command = livedrop();
    command.args(arguments).args(["--database-url", url, "--data-dir"]).arg(data).output().expect("livedrop runs")
}

/// Waits for the end of a server whose database is another's; one of these is its reason.
async fn stops(mut shop: Shop, reasons: [&str; 2]) {
    assert_eq!(shop.server.wait(), Some(1));
    let log = shop.server.log();
    assert!(reasons.iter().any(|reason| log.contains(reason)) && log.contains("nothing is sold from now on"), "{log}");
    assert!(log.contains("docs/OPERATIONS.md") && log.contains("acknowledged after record"), "{log}");
    assert!(!shop.server.data.join("claim").exists(), "it does not start without the database again");
    assert!(!shop.server.try_restart(), "nor with it:\n{}", shop.server.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_whose_database_was_given_to_another_stops_when_it_learns_of_it() {
    let mut postgres = PrivatePostgres::new();
    let url = postgres.fresh_database().await;
    let mut shop = Shop::open(&url, &[]).await;
    shop.server.kill();
    let mut sql = PgConnection::connect(&url).await.expect("postgres answers");
    sql.execute("UPDATE heartbeats SET at = at - 60000").await.expect("a minute passes");
    let elsewhere = tempfile::tempdir().expect("a folder");
    assert_eq!(run(&["adopt", "--yes"], &url, elsewhere.path()).status.code(), Some(0));
    let mut second = Server::set_up(Setup {
        database_url: Some(url.clone()),
        data: Some(elsewhere.path().join("data")),
        ..Setup::default()
    });
    postgres.stop();
    shop.server.restart();
    shop.sells("without").await;
    postgres.start();
    // Before its next heartbeat the other one counts as dead.
    stops(shop, ["a server lives on this database", "the database was taken from this data directory's journal"]).await;
    second.until("ready", async || second.readiness().await.1["status"] == "ready").await;
    assert_eq!(second.terminate(), Some(0));
    assert_eq!(second.verify().0, Some(0));
}

/// A copy of the data directory has the journal's id, and opens it under the same number.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_stops_when_a_copy_of_its_data_directory_has_the_database() {
    let mut postgres = PrivatePostgres::new();
    let url = postgres.fresh_database().await;
    let mut shop = Shop::open(&url, &[]).await;
    shop.server.kill();
    let copy = tempfile::tempdir().expect("a folder");
    let copied = Command::new("cp").arg("-r").arg(shop.server.data.join(".")).arg(copy.path()).status().expect("cp");
    assert!(copied.success());
    let twin = Server::set_up(Setup {
        database_url: Some(url.clone()),
        data: Some(copy.path().to_owned()),
        ..Setup::default()
    });
    postgres.stop();
    shop.server.restart();
    shop.sells("without").await;
    postgres.start();
    assert_eq!(shop.server.wait(), Some(1));
    let log = shop.server.log();
    assert!(log.contains("another server has taken this database over"), "{log}");
    twin.until("ready", async || twin.readiness().await.1["status"] == "ready").await;
    assert_eq!(twin.stock(&shop.drop).await, (STOCK - 2, 0, 2));
}
