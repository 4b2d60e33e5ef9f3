//! The Redis below a peer, in a process and a folder of its own, on loopback.

use super::packages;
use super::postgres::free_port;
use super::support::Process;
use std::net::{Ipv4Addr, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A private Redis. Its data is deleted with it.
pub struct Redis {
    pub port: u16,
    _process: Process,
    _folder: TempDir,
}

impl Redis {
    /// `durable`: every write is on disk before its answer, and the file is not rewritten meanwhile. Otherwise Redis
    /// writes nothing to disk.
    pub fn start(durable: bool) -> Self {
        packages::need("redis-server", "redis-server");
        let folder = TempDir::new().expect("a temporary folder");
        let port = free_port();
        let mut command = Command::new("redis-server");
        command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--dir"]).arg(folder.path());
        if durable {
            command.args(["--appendonly", "yes", "--appendfsync", "always", "--auto-aof-rewrite-percentage", "0"]);
        }
        let process = Process::start(command.stdout(Stdio::null()));
        answers(port);
        Self { port, _process: process, _folder: folder }
    }

    /// Runs the script alone with `redis-benchmark`, without HTTP: orders per second, p50 and p99 in ms.
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
