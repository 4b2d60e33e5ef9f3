//! One event, many sockets: LiveDrop beside a bare socket loop and an untuned prototype, with the same client and event
//! size in the same run. docs/REALTIME.md explains the numbers and has the last ones.
//!
//! `cargo bench --bench fanout` measures 10,000 sessions (or as many as the limit of open files allows); `cargo test`
//! runs the same code with a handful. `-- publishing` measures only the cost of publishing for the order path. Client
//! and server share the machine.

use client::Crowd;
use livedrop::http::transport::server::raise_open_files;
use livedrop_server::LiveDrop;
use servers::Yardstick;
use std::time::{Duration, Instant};
use support::{measuring, memory_kib};
use tempfile::TempDir;

mod client;
#[path = "livedrop.rs"]
mod livedrop_server;
mod order_path;
mod servers;
#[path = "../support/mod.rs"]
mod support;

/// About the size of a `restocked` event of a drop with one variant.
const EVENT_BYTES: usize = 620;
const BURST: u8 = 50;
/// Connections a second to LiveDrop, which accepts 5,000 and asks the rest to come later.
const PACE: f64 = 4_500.0;

struct Scale {
    sessions: usize,
    rounds: usize,
    orders: u64,
    followed: usize,
}

/// The figures of one server.
struct Figures {
    name: &'static str,
    connects_per_second: f64,
    idle_bytes: f64,
    one_event_ms: Vec<f64>,
    deliveries_per_second: Vec<f64>,
    after_bytes: f64,
}

fn main() {
    if servers::become_yardstick() {
        return;
    }
    let files = raise_open_files().expect("as many files as we may");
    let most = usize::try_from(files).unwrap_or(usize::MAX).saturating_sub(300);
    let scale = match measuring() {
        true => Scale { sessions: most.min(10_000), rounds: 9, orders: 400_000, followed: 10_000 },
        false => Scale { sessions: 20, rounds: 2, orders: 2_000, followed: 30 },
    };
    if std::env::args().any(|arg| arg == "publishing") {
        return publishing(&scale);
    }
    println!("{} sessions, events of about {EVENT_BYTES} bytes, bursts of {BURST}", scale.sessions);
    connections_alone(&scale);
    let bare = yardstick("bare", "", 0, &scale);
    let prototype = yardstick("prototype", &prototype_request(), 1, &scale);
    let ours = livedrop(&scale);
    print(&[&bare, &prototype, &ours]);
    follower_of_many(&scale);
    publishing(&scale);
}

fn prototype_request() -> String {
    "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        .to_owned()
}

/// Resident memory of a process.
fn resident_bytes(pid: u32) -> f64 {
    memory_kib(pid, "VmRSS:") as f64 * 1_024.0
}

/// Measures the fan-out of the events that `send` produces.
fn measure(
    name: &'static str,
    scale: &Scale,
    pid: u32,
    connect: impl FnOnce() -> (Crowd, Duration),
    mut send: impl FnMut(u8),
) -> Figures {
    let sessions = scale.sessions as f64;
    let before = resident_bytes(pid);
    let (mut crowd, took) = connect();
    crowd.idle(Duration::from_millis(500));
    let idle_bytes = (resident_bytes(pid) - before) / sessions;
    let (mut one_event_ms, mut deliveries_per_second) = (Vec::new(), Vec::new());
    for _ in 0..scale.rounds {
        for events in [1, BURST] {
            let wanted = crowd.frames + u64::from(events) * scale.sessions as u64;
            let began = Instant::now();
            send(events);
            let spent = crowd.until(wanted) - began;
            match events {
                1 => one_event_ms.push(spent.as_secs_f64() * 1_000.0),
                _ => deliveries_per_second.push(f64::from(events) * sessions / spent.as_secs_f64()),
            }
            crowd.idle(Duration::from_millis(200));
        }
    }
    let after_bytes = (resident_bytes(pid) - before) / sessions;
    let connects_per_second = sessions / took.as_secs_f64();
    Figures { name, connects_per_second, idle_bytes, one_event_ms, deliveries_per_second, after_bytes }
}

fn yardstick(name: &'static str, request: &str, greeting: u64, scale: &Scale) -> Figures {
    let mut server = Yardstick::start(name, EVENT_BYTES);
    let (address, pid) = (server.address, server.pid());
    let connect = || Crowd::connect(address, scale.sessions, None, request, greeting);
    measure(name, scale, pid, connect, |events| server.send(events))
}

fn livedrop(scale: &Scale) -> Figures {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let server = runtime.block_on(LiveDrop::start(TempDir::new().expect("a temporary folder")));
    let server = std::sync::Arc::new(server);
    let lines: Vec<_> = (0..BURST).map(|_| runtime.block_on(server.line())).collect();
    let mut lines: Vec<_> = lines.into_iter().map(|line| std::sync::Arc::new(tokio::sync::Mutex::new(line))).collect();
    let request = server.watch();
    // While the clients connect, twenty events a second are published.
    let busy = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
    let (telling, teller) = (std::sync::Arc::clone(&busy), std::sync::Arc::clone(&server));
    runtime.spawn(async move {
        let mut line = teller.line().await;
        while telling.load(std::sync::atomic::Ordering::Relaxed) {
            teller.restock(&mut line).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    // The three frames are a greeting, a snapshot and an answer.
    let connect = || {
        let connected = Crowd::connect(server.address, scale.sessions, Some(PACE), &request, 3);
        busy.store(false, std::sync::atomic::Ordering::Relaxed);
        connected
    };
    measure("livedrop", scale, server.pid(), connect, |events| {
        for line in lines.iter_mut().take(usize::from(events)) {
            let (server, line) = (std::sync::Arc::clone(&server), std::sync::Arc::clone(line));
            runtime.spawn(async move { server.restock(&mut *line.lock().await).await });
        }
    })
}

/// Memory of a connection before it is a session: its request leaves no state.
fn connections_alone(scale: &Scale) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let server = runtime.block_on(LiveDrop::start(TempDir::new().expect("a temporary folder")));
    let before = resident_bytes(server.pid());
    let request = "HEAD /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let (mut crowd, _) = Crowd::connect(server.address, scale.sessions, None, request, 0);
    crowd.idle(Duration::from_millis(500));
    let bytes = (resident_bytes(server.pid()) - before) / scale.sessions as f64;
    println!("a connection that is no session, of the same server: {:.1} KB", bytes / 1_000.0);
}

/// A user who follows very many creators connects: time from the first byte to `authenticated`.
fn follower_of_many(scale: &Scale) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let folder = TempDir::new().expect("a temporary folder");
    let database = format!("sqlite://{}", folder.path().join("livedrop.db").display());
    let server = runtime.block_on(LiveDrop::start(folder));
    runtime.block_on(server.follows_many(&database, scale.followed));
    let mut spent_ms = Vec::new();
    for _ in 0..scale.rounds {
        let request = server.authenticated();
        // The two frames are a greeting and an answer.
        let (_, took) = Crowd::connect(server.address, 1, None, &request, 2);
        spent_ms.push(took.as_secs_f64() * 1_000.0);
    }
    println!(
        "a session of somebody who follows {} creators opens in {:.1} ms (median)",
        scale.followed,
        median(&spent_ms)
    );
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

fn print(all: &[&Figures]) {
    println!(
        "\n| server | connects/s | idle session | after bursts | one event, last byte (median, worst) | burst, deliveries/s (median) |"
    );
    println!("|---|---|---|---|---|---|");
    for figures in all {
        let worst = figures.one_event_ms.iter().copied().fold(0.0, f64::max);
        println!(
            "| {} | {:.0} | {:.1} KB | {:.1} KB | {:.1} ms, {worst:.1} ms | {:.0} |",
            figures.name,
            figures.connects_per_second,
            figures.idle_bytes / 1_000.0,
            figures.after_bytes / 1_000.0,
            median(&figures.one_event_ms),
            median(&figures.deliveries_per_second),
        );
    }
    let [bare, prototype, ours] = all else { return };
    let ratio = |one: &[f64], other: &[f64]| median(one) / median(other);
    println!(
        "\none event: {:.2} x bare, {:.2} x prototype; burst: {:.2} x bare, {:.2} x prototype",
        ratio(&ours.one_event_ms, &bare.one_event_ms),
        ratio(&ours.one_event_ms, &prototype.one_event_ms),
        ratio(&ours.deliveries_per_second, &bare.deliveries_per_second),
        ratio(&ours.deliveries_per_second, &prototype.deliveries_per_second),
    );
}

/// In alternating order against host noise; the two halves of each pair are compared.
fn publishing(scale: &Scale) {
    let system = actix::System::new();
    let mut costs = Vec::new();
    for round in 0..scale.rounds {
        let mut rates = [0.0; 2];
        for turn in 0..2 {
            let telling = (turn + round) % 2 == 1;
            rates[usize::from(telling)] =
                system.block_on(order_path::orders_per_second(scale.orders, 1_000.min(scale.orders), telling));
        }
        println!("orders/s: {:.0} untold, {:.0} told", rates[0], rates[1]);
        costs.push(100.0 * (1.0 - rates[1] / rates[0]));
    }
    println!("telling costs the order path {:.1} % (median)", median(&costs));
    println!("telling alone takes {:.0} ns a record", order_path::telling_alone(10 * scale.orders));
}
