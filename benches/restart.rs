//! How long a server is away that is killed in the middle of a sale: from `kill -9` to the first order that is answered.
//!
//! `cargo bench --bench restart` measures an empty server, and 1,000,000 orders in one live drop and in 100. Pass `orders drops` to measure
//! another pair, as `10000000 1000`. Each on SQLite and on Postgres, once with checkpoints and once without; the last column says where the start's
//! time went, in the words of its log. `cargo test` runs it on a few orders.

use livedrop::actors::consumers::projector::ABOUT;
use livedrop::actors::{Projected, Projector};
use livedrop::storage::{self, Store};
use postgres::PrivatePostgres;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};
use support::history::{self, History};
use support::{Serving, livedrop, measuring, memory_kib};
use tempfile::TempDir;

#[path = "../tests/support/packages.rs"]
mod packages;
#[path = "../tests/support/postgres.rs"]
mod postgres;
mod support;

/// How long a checkpoint may take.
const CHECKPOINT_TIMEOUT: Duration = Duration::from_secs(600);

fn main() {
    let numbers: Vec<u32> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    let rows = match numbers[..] {
        [orders, drops] => vec![(orders, drops)],
        _ if measuring() => vec![(0, 0), (1_000_000, 1), (1_000_000, 100)],
        _ => vec![(0, 0), (2_000, 4)],
    };
    println!(
        "| orders | drops | database | a start reads | kill -9 to the first answer | RSS before | RSS after | the start's steps |\n\
         |---|---|---|---|---|---|---|---|"
    );
    let postgres = PrivatePostgres::durable();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    for (orders, drops) in rows {
        for database in ["SQLite", "Postgres"] {
            let place = TempDir::new().expect("a temporary folder");
            let url = match database {
                "SQLite" => storage::sqlite_url(&place.path().join("livedrop.db")),
                _ => runtime.block_on(postgres.fresh_database()),
            };
            let one = prepare(place.path(), &url, (orders, drops), &runtime);
            let shop = Shop { data: place.path(), url, one };
            for checkpoints in [false, true] {
                let reads = if checkpoints { "checkpoint" } else { "SQL" };
                println!("| {orders} | {drops} | {database} | {reads} | {}", restart(&shop, drops, checkpoints));
            }
        }
    }
}

/// A server's data.
struct Shop<'a> {
    data: &'a Path,
    url: String,
    /// One of the drops.
    one: String,
}

/// A data directory with so many paid orders in live drops, all of them in SQL. Returns one of the drops.
fn prepare(data: &Path, url: &str, (orders, drops): (u32, u32), runtime: &tokio::runtime::Runtime) -> String {
    let mut history = History::new(history::open(&data.join("journal")));
    let reader = history.journal().handle().reader();
    reader.register_cursor(ABOUT.name, 0);
    let mut one = None;
    for _ in 0..drops {
        one = Some(history.sale_of(orders / drops + 1_000, orders / drops, true));
    }
    let last = history.written();
    runtime.block_on(async {
        reader.durable_watch().wait_for(|durable| *durable >= last).await.expect("the journal runs");
        let store: Arc<dyn Store> = storage::connect(url).await.expect("a database");
        store.migrate().await.expect("its schema");
        let ledger: Arc<dyn storage::Ledger> = Arc::clone(&store) as _;
        store.claim(reader.journal_id(), reader.epoch()).await.expect("nobody else has it");
        let (mut projector, view) = Projector::new(ledger, &reader, 0);
        while view.watermark() < last {
            assert_eq!(projector.step().await, Projected::Batch, "{:?}", view.trouble());
        }
        store.close().await;
    });
    history.close();
    one.map(|drop| drop.to_string()).unwrap_or_default()
}

#[allow(clippy::disallowed_methods, reason = "nobody else is on this thread")]
fn restart(Shop { data, url, one: drop_id }: &Shop<'_>, drops: u32, checkpoints: bool) -> String {
    let start = || {
        let mut command = livedrop();
        command.args([
            "serve",
            "--bind",
            "127.0.0.1:0",
            "--password-hashing",
            "rehearsal",
            "--log",
            "livedrop::app=info",
        ]);
        command.args(["--checkpoint-seconds", if checkpoints { "1" } else { "0" }, "--database-url", url]);
        let log = File::create(data.join("log")).expect("a log");
        Serving::start(command.arg("--data-dir").arg(data).stderr(log))
    };
    let server = start();
    let email = format!("buyer-{}@example.com", u8::from(checkpoints));
    let body = format!(r#"{{"email":"{email}","password":"correct horse","display_name":"A buyer"}}"#);
    let (status, answer) = post(&server.address, "/api/v1/auth/register", None, &body).expect("an answer");
    assert_eq!(status, 201, "{answer}");
    let answer: serde_json::Value = serde_json::from_str(&answer).expect("JSON");
    let token = answer["access_token"].as_str().expect("a token").to_owned();
    let began = Instant::now();
    while checkpoints && drops > 0 && files(&data.join("checkpoint")) < drops as usize {
        assert!(began.elapsed() < CHECKPOINT_TIMEOUT, "no checkpoint");
        sleep(Duration::from_millis(200));
    }
    // The manifest comes last.
    sleep(Duration::from_secs(if checkpoints { 2 } else { 0 }));
    let before = memory_kib(server.pid(), "VmRSS:") >> 10;
    drop(server);
    let killed = Instant::now();
    let server = start();
    let order = format!(r#"{{"drop_id":"{drop_id}","quantity":1}}"#);
    // Without a drop any answer of the server will do.
    let expected = if drops > 0 { 201 } else { 400 };
    while post(&server.address, "/api/v1/orders", Some(&token), &order).is_none_or(|(status, _)| status != expected) {
        assert!(killed.elapsed() < CHECKPOINT_TIMEOUT, "no order is answered");
        sleep(Duration::from_millis(5));
    }
    let away = killed.elapsed();
    let after = memory_kib(server.pid(), "VmRSS:") >> 10;
    let log = fs::read_to_string(data.join("log")).expect("a log");
    let steps = log.lines().find_map(|line| line.split_once("steps=")).map_or("", |(_, steps)| steps);
    format!("{:.2} s | {before} MiB | {after} MiB | {steps} |", away.as_secs_f64())
}

fn files(folder: &Path) -> usize {
    let all = fs::read_dir(folder).into_iter().flatten().flatten();
    all.filter(|entry| entry.path().extension().is_some_and(|extension| extension == "drop")).count()
}

/// One request on a connection of its own.
fn post(address: &str, path: &str, token: Option<&str>, body: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(address).ok()?;
    let token =
        token.map(|token| format!("Authorization: Bearer {token}\r\nIdempotency-Key: a-key\r\n")).unwrap_or_default();
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Type: application/json\r\n{token}Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let status = answer.split(' ').nth(1)?.parse().ok()?;
    let (_, body) = answer.split_once("\r\n\r\n")?;
    Some((status, body.to_owned()))
}
