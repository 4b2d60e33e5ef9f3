//! What is started: LiveDrop, the peers, and the databases below them, each in a process and a folder of its own, on loopback.

use super::packages;
use super::shop;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A process that ends with this value.
pub struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An HTTP server.
pub struct Server {
    pub url: String,
    _process: Process,
    _folder: TempDir,
}

impl Server {
    /// Waits for the line that says where it listens.
    pub fn start(mut command: Command, folder: TempDir) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().expect("the server starts");
        let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        let process = Process(child);
        let url = lines
            .find_map(|line| line.ok()?.split_once("listening on ").map(|(_, url)| url.trim().to_owned()))
            .expect("the server listens");
        // Nobody reads what it says later, and it must not fail for that.
        std::thread::spawn(move || lines.for_each(drop));
        Self { url, _process: process, _folder: folder }
    }

    /// LiveDrop as it comes, with its database beside the journal. Rate limits are off, because a few accounts stand for a crowd.
    pub fn livedrop() -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let mut command = Command::new(env!("CARGO_BIN_EXE_livedrop"));
        command.args(["serve", "--bind", "127.0.0.1:0", "--rate-limits", "off", "--log", "warn"]);
        command.args(["--password-hashing", "rehearsal", "--data-dir"]).arg(folder.path());
        Self::start(command, folder)
    }

    /// A peer over that database.
    pub fn peer(name: &str, database: &str) -> Self {
        Self::start(shop::command(name, database), TempDir::new().expect("a temporary folder"))
    }
}

/// A Redis of our own. What is in it is gone with it.
pub struct Redis {
    pub port: u16,
    _process: Process,
    _folder: TempDir,
}

impl Redis {
    /// `durable`: every write is on disk before its answer, and the file is not rewritten meanwhile. Otherwise nothing is ever written.
    pub fn start(durable: bool) -> Self {
        packages::need("redis-server", "redis-server");
        let folder = TempDir::new().expect("a temporary folder");
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|socket| socket.local_addr());
        let port = port.expect("a loopback port").port();
        let mut command = Command::new("redis-server");
        command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--dir"]).arg(folder.path());
        if durable {
            command.args(["--appendonly", "yes", "--appendfsync", "always", "--auto-aof-rewrite-percentage", "0"]);
        }
        let process = Process(command.stdout(Stdio::null()).spawn().expect("redis starts"));
        answers(port);
        Self { port, _process: process, _folder: folder }
    }

    /// What `redis-benchmark` makes of the script alone, without HTTP: orders per second, p50 and p99 in ms.
    pub fn bare(&self, connections: u32, orders: u32) -> (f64, f64, f64) {
        let port = self.port.to_string();
        let cli = |words: &[&str]| {
            let output = Command::new("redis-cli").args(["-p", &port]).args(words).output().expect("redis-cli runs");
            String::from_utf8(output.stdout).expect("text").trim().to_owned()
        };
        cli(&["HSET", "drop:bare", "total", "100000000", "available", "100000000"]);
        let sha = cli(&["SCRIPT", "LOAD", super::on_redis::SCRIPT]);
        let (connections, orders) = (connections.to_string(), orders.to_string());
        let mut command = Command::new("redis-benchmark");
        command.args(["-p", &port, "-c", &connections, "-n", &orders, "-r", "1000000000000", "--csv"]);
        command.args(["EVALSHA", &sha, "2", "drop:bare", "order:__rand_int__", "id:__rand_int__", "bare", "buyer"]);
        let output = command.args(["1", "1760000000000"]).output().expect("redis-benchmark runs");
        let text = String::from_utf8(output.stdout).expect("text");
        // "test","rps","avg_latency_ms","min_latency_ms","p50_latency_ms","p95_latency_ms","p99_latency_ms","max_latency_ms"
        let row = text.lines().last().unwrap_or_default();
        let cell = |n: usize| row.rsplit(',').nth(n).and_then(|cell| cell.trim_matches('"').parse().ok());
        let cell = |n: usize| cell(n).unwrap_or_else(|| panic!("redis-benchmark said {text}"));
        (cell(6), cell(3), cell(1))
    }
}

#[allow(clippy::disallowed_methods, reason = "nobody else is on this thread")]
fn answers(port: u16) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
        assert!(Instant::now() < deadline, "nothing listens on port {port}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
