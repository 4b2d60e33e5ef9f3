//! What the benches share: a drop to sell, orders for it, a journal, and the process's memory.
#![allow(dead_code, reason = "each bench uses a part of it")]

pub mod history;

use futures_util::future::join_all;
use livedrop::actors::DropHandle;
use livedrop::domain::{
    CreatorId, DropId, DropSpec, Fingerprint, KeyDigest, Money, OrderId, ProductId, Timestamp, UserId, VariantId,
    VariantSpec,
};
use livedrop::engine::{self, Outcome, Reserve};
use livedrop::journal::{Completion, Durability, Journal, JournalOptions};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use uuid::Uuid;

/// The allocator that the program uses.
#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// The start of the benches' drops.
pub const START_MS: i64 = 1_767_225_600_000;

/// A drop with one variant, live since [`START_MS`].
pub fn spec(stock: u32) -> DropSpec {
    let created_at = Timestamp::from_millis(START_MS);
    let price = Money { amount: 1999, currency: "USD".parse().expect("a currency") };
    DropSpec {
        id: DropId::new(),
        creator_id: CreatorId(UserId::new().0),
        product_id: ProductId::new(),
        title: "A bench".to_owned(),
        variants: vec![VariantSpec { id: VariantId::new(), name: "one".to_owned(), stock, price }],
        per_buyer_limit: 2,
        low_stock_threshold: 10,
        hold_ms: 300_000,
        starts_at: created_at,
        ends_at: None,
        created_at,
        shipping: None,
    }
}

/// An order of one unit by a new buyer, with a random id: buyers do not order in the order of their registration.
pub fn reserve(spec: &DropSpec) -> Reserve {
    let (buyer, key) = (UserId(Uuid::new_v4()), "6f1d0c5e-2a43-4b7e-9d0f-3b1f6a4f7c11");
    Reserve {
        order: OrderId::for_drop(spec.id),
        buyer,
        key: key.into(),
        digest: KeyDigest::of(buyer, key),
        fingerprint: Fingerprint::of_order(spec.id, spec.variants[0].id, 1, None),
        variant: None,
        quantity: 1,
        payment_method: None,
        network: None,
        delivery: None,
    }
}

/// Places `orders`, `in_flight` at a time, spread evenly over the drops; returns the time.
pub async fn place(drops: &[Arc<DropHandle>], orders: u64, in_flight: u64) -> Duration {
    let in_flight = in_flight.min(orders);
    let mut lanes: Vec<(&DropHandle, Vec<engine::Command>)> =
        (0..in_flight).map(|lane| (&*drops[lane as usize % drops.len()], Vec::new())).collect();
    // In turn, so that ids rise about in the order of arrival, as they do on the server, which makes them per request.
    for order in 0..orders {
        let (drop, asks) = &mut lanes[(order % in_flight) as usize];
        asks.push(engine::Command::Reserve(Box::new(reserve(&drop.spec))));
    }
    let start = Instant::now();
    join_all(lanes.into_iter().map(|(drop, asks)| async move {
        for ask in asks {
            let answer = drop.ask(ask).await.expect("an answer");
            assert!(matches!(answer.outcome, Outcome::Order { replayed: false, .. }));
        }
    }))
    .await;
    start.elapsed()
}

/// Whether this is a measurement, rather than a test that the bench still runs.
pub fn measuring() -> bool {
    std::env::args().any(|arg| arg == "--bench")
}

/// A process that is killed when this is dropped.
pub struct Process(Child);

impl Process {
    pub fn start(command: &mut Command) -> Self {
        Self(command.spawn().expect("the program starts"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The program, without the settings in this process's environment.
pub fn livedrop() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_livedrop"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("LIVEDROP_")) {
        command.env_remove(name);
    }
    command
}

/// An HTTP server on a loopback port; it ends when this is dropped.
pub struct Serving {
    process: Process,
    /// Host and port.
    pub address: String,
    _folder: Option<TempDir>,
}

impl Serving {
    /// Starts any server that prints its address, and waits for that line.
    pub fn start(command: &mut Command) -> Self {
        let mut process = Process::start(command.stdout(Stdio::piped()));
        let mut lines = BufReader::new(process.0.stdout.take().expect("its output")).lines();
        let address = lines
            .find_map(|line| {
                line.ok()?.split_once("listening on http://").map(|(_, address)| address.trim().to_owned())
            })
            .expect("the server listens");
        // The rest of the output is read and dropped, so that a full pipe does not block the server.
        std::thread::spawn(move || lines.for_each(drop));
        Self { process, address, _folder: None }
    }

    /// `livedrop serve` with these further arguments, its data in that folder.
    pub fn livedrop(folder: TempDir, more: &[&str]) -> Self {
        let mut command = livedrop();
        command.args(["serve", "--bind", "127.0.0.1:0", "--password-hashing", "rehearsal", "--log", "warn"]);
        command.args(more).arg("--data-dir").arg(folder.path());
        Self { _folder: Some(folder), ..Self::start(&mut command) }
    }

    /// `livedrop serve` in a folder of its own, without rate limits and limits of connections per address: a few
    /// accounts stand for a crowd.
    pub fn unlimited() -> Self {
        Self::livedrop(
            TempDir::new().expect("a temporary folder"),
            &["--rate-limits", "off,announcements=off", "--connections-per-address-max", "0"],
        )
    }

    pub fn pid(&self) -> u32 {
        self.process.0.id()
    }
}

/// A journal in that folder, with the server's own bounds.
pub fn journal<C: Completion>(dir: &Path, durability: Durability) -> Journal<C> {
    let options = JournalOptions { durability, ..JournalOptions::new(dir) };
    Journal::open_directory(&options, 0).expect("a journal").0
}

/// A value of a process's `/proc/<pid>/status`, in KiB: `VmRSS:` is the resident memory, `VmHWM:` its peak.
pub fn memory_kib(pid: u32, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a running process");
    let line = status.lines().find_map(|line| line.strip_prefix(field)).expect("its memory");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}
