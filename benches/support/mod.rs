//! What the benches share: a drop to sell, orders for it, a journal, and the process's memory.
#![allow(dead_code, reason = "each bench uses a part of it")]

pub mod history;

use livedrop::domain::limits::{JOURNAL_QUEUE_ENTRIES_MAX, JOURNAL_TAIL_BYTES_MAX};
use livedrop::domain::{
    CreatorId, DropId, DropSpec, Fingerprint, KeyDigest, Money, OrderId, ProductId, Timestamp, TraceId, UserId,
    VariantId, VariantSpec,
};
use livedrop::engine::Reserve;
use livedrop::journal::{Completion, Durability, Journal, JournalOptions};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// When the drops of the benches start.
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
    }
}

/// A new buyer's order of one unit.
pub fn reserve(spec: &DropSpec) -> Reserve {
    let (buyer, key) = (UserId::new(), "6f1d0c5e-2a43-4b7e-9d0f-3b1f6a4f7c11");
    Reserve {
        order: OrderId::for_drop(spec.id),
        buyer,
        key: key.into(),
        digest: KeyDigest::of(buyer, key),
        fingerprint: Fingerprint::of_order(spec.id, spec.variants[0].id, 1, None),
        variant: None,
        quantity: 1,
        payment_method: None,
        trace: TraceId::random(),
    }
}

/// Whether this is a measurement, and not a test that the bench still runs.
pub fn measuring() -> bool {
    std::env::args().any(|arg| arg == "--bench")
}

/// `livedrop serve` on a loopback port, without limits on how often one client asks; it ends when this is dropped.
pub struct Serving {
    child: Child,
    /// Host and port.
    pub address: String,
}

impl Serving {
    /// Waits until it listens.
    pub fn start(data: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_livedrop"))
            .args(["serve", "--bind", "127.0.0.1:0", "--password-hashing", "rehearsal", "--log", "warn"])
            .args(["--rate-limits", "off", "--data-dir"])
            .arg(data)
            .stdout(Stdio::piped())
            .spawn()
            .expect("livedrop starts");
        let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        let address =
            lines.find_map(|line| line.ok()?.strip_prefix("livedrop listening on http://").map(str::to_owned));
        Self { child, address: address.expect("livedrop listens") }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A journal in that folder, with the server's own bounds.
pub fn journal<C: Completion>(dir: &Path, durability: Durability) -> Journal<C> {
    let options = JournalOptions {
        dir: dir.to_owned(),
        durability,
        segment_bytes: 64 << 20,
        tail_bytes: JOURNAL_TAIL_BYTES_MAX,
        queue_entries: JOURNAL_QUEUE_ENTRIES_MAX,
    };
    Journal::open_directory(&options, 0).expect("a journal").0
}

/// A line of `/proc/self/status`, in KiB: `VmRSS:` is what is resident, `VmHWM:` the most that was.
pub fn memory_kib(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).unwrap_or_default()
}
