//! LiveDrop beside services of the usual kind, with the same crowd in the same run: one table.
//!
//! `cargo bench --bench side_by_side` drives each of them with `livedrop load`: 256 connections, each with its next
//! order when it has its answer, for six seconds, one drop with plenty of stock, a key of its own for every order. All
//! of that three times, one after the other and not concurrently; the table has the median round. Every round ends with
//! the audit of `livedrop load`, which each must pass: a repeated key gets its first answer, and the stock is correct.
//! Then the same with one unit of stock: a second table has the answers of a drop that is sold out.
//! `cargo test` runs the same code for a second.
//!
//! It needs Postgres, Redis and, for Vendure, Node with npm. As root it installs the packages `postgresql` and
//! `redis-server` where they are missing, and says so; any other user is asked to. Vendure comes from npm into
//! `target/tmp/vendure`, and only for a measurement (`cargo bench --bench side_by_side -- no-vendure` leaves it out).
//! Installed packages stay, everything else is removed at the end.

use postgres::PrivatePostgres;
use redis::Redis;
use serde_json::Value;
use support::{Serving, measuring};

mod on_postgres;
mod on_redis;
#[path = "../../tests/support/packages.rs"]
mod packages;
#[path = "../../tests/support/postgres.rs"]
mod postgres;
mod redis;
mod shop;
#[path = "../support/mod.rs"]
mod support;
mod vendure;

/// Name and notes of each row except Vendure's.
const SYSTEMS: [(&str, &str); 8] = [
    (
        "**LiveDrop**, `POST /orders`",
        "token verified; on disk; key kept; never oversold; buyer's limit, expiry, events, SQL behind",
    ),
    ("LiveDrop's smallest route", "does nothing: what HTTP and the client leave to win"),
    ("Postgres, a transaction an order", "no token; on disk; key kept; never oversold"),
    ("Postgres, one statement an order", "the same"),
    ("Redis, a script, `appendfsync always`", "no token; on disk; key kept; never oversold"),
    ("Redis, a script, nothing on disk", "no token; a crash loses every order; key kept; never oversold"),
    ("Redis alone, `appendfsync always`", "`redis-benchmark`: no HTTP, no JSON, no service"),
    ("Redis alone, nothing on disk", "the same"),
];

/// What the crowd gets of a drop that is sold out, beside LiveDrop's smallest route.
const SOLD_OUT: [(&str, &str); 5] = [
    ("**LiveDrop**, `POST /orders`", "token verified; a key that made an order still gets it"),
    ("LiveDrop's smallest route", "does nothing"),
    ("Postgres, a transaction an order", "no token; nothing is remembered"),
    ("Postgres, one statement an order", "the same"),
    ("Redis, a script, `appendfsync always`", "the same"),
];

/// What a run measures.
#[derive(Clone, Copy)]
struct Run {
    scenario: &'static str,
    stock: u32,
    /// Whose answers count: `accepted` or `refused`.
    verdict: &'static str,
}

const ORDERS: Run = Run { scenario: "rush", stock: 1_000_000, verdict: "accepted" };
const FLOOR: Run = Run { scenario: "floor", ..ORDERS };
const TOO_LATE: Run = Run { scenario: "rush", stock: 1, verdict: "refused" };

struct Scale {
    connections: u32,
    seconds: u64,
    rounds: usize,
    /// The number of orders for `redis-benchmark`.
    bare: u32,
}

/// The figures of one system in one round.
#[derive(Clone, Copy)]
pub struct Figures {
    pub per_second: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
}

/// A row of the table.
struct Row {
    name: &'static str,
    notes: String,
    rounds: Vec<Figures>,
}

fn main() {
    if shop::become_peer() {
        return;
    }
    let scale = match measuring() {
        true => Scale { connections: 256, seconds: 6, rounds: 3, bare: 300_000 },
        false => Scale { connections: 4, seconds: 1, rounds: 1, bare: 1_000 },
    };
    if packages::find("redis-server").is_none() {
        println!("Redis is missing: the package redis-server will be installed");
    }
    let (mut rows, too_late) = measure(&scale);
    if measuring() && !std::env::args().any(|argument| argument == "no-vendure") {
        rows.extend(vendure::rows(&scale));
    }
    print("accepted orders/s", &rows);
    println!();
    print("answers/s, sold out", &too_late);
}

fn measure(scale: &Scale) -> (Vec<Row>, Vec<Row>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let database = PrivatePostgres::durable();
    let empty = |(name, notes): (&'static str, &str)| Row { name, notes: notes.to_owned(), rounds: Vec::new() };
    let (mut rows, mut too_late) = (SYSTEMS.map(empty), SOLD_OUT.map(empty));
    for _ in 0..scale.rounds {
        let on_postgres = |way: &str| {
            let url = runtime.block_on(database.fresh_database());
            Serving::start(&mut shop::command(way, &url))
        };
        let of_round = round(scale, on_postgres);
        rows.iter_mut().zip(of_round).for_each(|(row, figures)| row.rounds.push(figures));
        let of_round = round_too_late(scale, on_postgres);
        too_late.iter_mut().zip(of_round).for_each(|(row, figures)| row.rounds.push(figures));
    }
    (rows.into(), too_late.into())
}

/// The figures are in the order of the second table.
fn round_too_late(scale: &Scale, on_postgres: impl Fn(&str) -> Serving) -> [Figures; SOLD_OUT.len()] {
    let (refused, floor) = {
        let server = Serving::unlimited();
        (load(&server, scale, TOO_LATE), load(&server, scale, FLOOR))
    };
    let [transaction, statement] =
        ["postgres", "postgres-statement"].map(|way| load(&on_postgres(way), scale, TOO_LATE));
    let redis = Redis::start(true);
    let peer = Serving::start(&mut shop::command("redis", &redis.port.to_string()));
    [refused, floor, transaction, statement, load(&peer, scale, TOO_LATE)]
}

/// The figures are in the order of the table.
fn round(scale: &Scale, on_postgres: impl Fn(&str) -> Serving) -> [Figures; SYSTEMS.len()] {
    let (orders, floor) = {
        let server = Serving::unlimited();
        (load(&server, scale, ORDERS), load(&server, scale, FLOOR))
    };
    let [transaction, statement] = ["postgres", "postgres-statement"].map(|way| load(&on_postgres(way), scale, ORDERS));
    let [(durable, durable_alone), (memory, memory_alone)] = [true, false].map(|durable| {
        let redis = Redis::start(durable);
        let (per_second, p50_ms, p99_ms) = redis.bare(scale.connections, scale.bare);
        let behind_http = load(&Serving::start(&mut shop::command("redis", &redis.port.to_string())), scale, ORDERS);
        (behind_http, Figures { per_second, p50_ms, p99_ms })
    });
    [orders, floor, transaction, statement, durable, memory, durable_alone, memory_alone]
}

/// A warm-up of a second, then the measured run. Fails where the audit fails.
fn load(server: &Serving, scale: &Scale, Run { scenario, stock, verdict }: Run) -> Figures {
    let url = format!("http://{}", server.address);
    let run = |seconds: u64| {
        let mut command = support::livedrop();
        command.args(["load", "--url", &url, "--scenario", scenario, "--json", "-"]);
        command.args(["--stock", &stock.to_string()]);
        command.args(["--connections", &scale.connections.to_string(), "--seconds", &seconds.to_string()]);
        let output = command.output().expect("livedrop load runs");
        let said = [&output.stdout[..], &output.stderr].concat();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&said));
        serde_json::from_slice::<Value>(&output.stdout).expect("a report")
    };
    run(1);
    let report = run(scale.seconds);
    let counted = report["rows"].as_array().and_then(|rows| rows.iter().find(|row| row["verdict"] == verdict));
    let waits = &counted.expect("answers of that kind")["waits"];
    let number = |value: &Value| value.as_f64().expect("a number");
    let per_second = number(&report[format!("{verdict}_per_second")]);
    // Shows the progress, since the tables come at the end.
    eprintln!("{scenario}, {verdict}, at {url}: {per_second:.0}/s");
    Figures { per_second, p50_ms: number(&waits["p50"]), p99_ms: number(&waits["p99"]) }
}

fn middle(rounds: &[Figures]) -> Figures {
    let mut sorted = rounds.to_vec();
    sorted.sort_by(|a, b| a.per_second.total_cmp(&b.per_second));
    sorted[sorted.len() / 2]
}

/// The median of the rounds' ratios: each round is compared with its counterpart, because host noise changes between
/// rounds. If one side has fewer rounds, the ratio of the medians.
fn ratio(ours: &[Figures], theirs: &[Figures]) -> f64 {
    if ours.len() != theirs.len() {
        return middle(ours).per_second / middle(theirs).per_second;
    }
    let mut ratios: Vec<f64> =
        ours.iter().zip(theirs).map(|(ours, theirs)| ours.per_second / theirs.per_second).collect();
    ratios.sort_by(f64::total_cmp);
    ratios[ratios.len() / 2]
}

fn print(what: &str, rows: &[Row]) {
    println!(
        "| system | {what} | p50 ms | p99 ms | LiveDrop is | all rounds | what it does |\n|---|---|---|---|---|---|---|"
    );
    let ours = &rows[0].rounds;
    for Row { name, notes, rounds } in rows {
        let Figures { per_second, p50_ms, p99_ms } = middle(rounds);
        let ratio = ratio(ours, rounds);
        let all: Vec<String> = rounds.iter().map(|round| format!("{:.0}", round.per_second)).collect();
        println!(
            "| {name} | {per_second:.0} | {p50_ms:.2} | {p99_ms:.2} | {ratio:.2} x | {} | {notes} |",
            all.join(", ")
        );
    }
}
