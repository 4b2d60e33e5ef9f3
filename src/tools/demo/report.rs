//! The result of the demo, as JSON for programs and as a table for people.

use super::{
    counters::Counters,
    latency::Percentiles,
    options::DemoOptions,
    promises::{Kept, Promise},
    rush::CrashNote,
};
use crate::console::text::{Paint, count, millis};
use crate::domain::StockCounts;
use serde::Serialize;
use std::{collections::BTreeMap, fmt::Write, path::PathBuf, sync::atomic::Ordering::Relaxed};

/// The report. Its JSON names are stable: fields may be added, never renamed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Whether every promise was kept; the process exits with 1 otherwise.
    pub promises_kept: bool,
    pub promises: Vec<Kept>,
    /// `--seed` with this number runs the same crowd again.
    pub seed: u64,
    pub buyers: u32,
    pub followers: u32,
    /// From the start to the last unit sold, or to the time limit.
    pub rush_ms: u64,
    pub stock: StockCounts,
    /// The most units ever observed as taken beyond the total: 0 in a correct run.
    pub oversold: u64,
    pub orders: Orders,
    pub retries: Retries,
    pub latency_ms: Latencies,
    pub events: Events,
    pub crash: Option<CrashNote>,
    pub audit: Audit,
    /// The server's data directory, if it was kept.
    pub data_dir: Option<PathBuf>,
}

/// The outcomes of the order requests; repeats are not counted here.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Orders {
    pub accepted: u64,
    pub confirmed_units: u64,
    pub refused: u64,
    pub refused_by_reason: BTreeMap<String, u64>,
    /// Answers that asked to retry later (and were obeyed), by reason.
    pub asked_to_wait_by_reason: BTreeMap<String, u64>,
    /// Lost answers, for which the same request was sent again.
    pub lost_answers: u64,
    pub unanswered: u64,
    /// Order requests answered in the busiest second.
    pub answered_per_second_best: u64,
}

/// Requests sent again with the same key.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Retries {
    pub repeated: u64,
    pub answered_identically: u64,
}

/// Latencies as percentiles, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Latencies {
    pub order_accepted: Percentiles,
    pub order_refused: Percentiles,
    /// All events but `stock_changed`.
    pub event_delivery: Percentiles,
    /// `stock_changed`, which the server conflates by design.
    pub stock_event_delivery: Percentiles,
}

/// Events that the followers received.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Events {
    pub delivered: u64,
    pub reconnections: u64,
}

/// The offline audit of the stopped server's data.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Audit {
    pub clean: bool,
    /// Orders audited; those of earlier runs in the same data directory or database count too.
    pub orders: u64,
}

/// The report's data besides the counters.
pub struct Findings {
    pub seed: u64,
    pub rush_ms: u64,
    pub stock: StockCounts,
    pub crash: Option<CrashNote>,
    pub audited_orders: u64,
}

impl Report {
    /// Builds the report after everything has been counted and checked.
    #[must_use]
    pub fn new(options: &DemoOptions, counters: &Counters, findings: Findings) -> Self {
        let promises = counters.promises();
        let refused_by_reason = counters.refusals();
        let audit_clean = promises.iter().any(|kept| kept.promise == Promise::AuditClean && kept.kept);
        Self {
            promises_kept: promises.iter().all(|kept| kept.kept),
            promises,
            seed: findings.seed,
            buyers: options.buyers,
            followers: options.followers,
            rush_ms: findings.rush_ms,
            stock: findings.stock,
            oversold: counters.oversold(),
            orders: Orders {
                accepted: counters.accepted.load(Relaxed),
                confirmed_units: counters.confirmed_units.load(Relaxed),
                refused: refused_by_reason.values().sum(),
                refused_by_reason,
                asked_to_wait_by_reason: counters.waits(),
                lost_answers: counters.lost_answers.load(Relaxed),
                unanswered: counters.unanswered.load(Relaxed),
                answered_per_second_best: 0,
            },
            retries: Retries {
                repeated: counters.repeated.load(Relaxed),
                answered_identically: counters.identical.load(Relaxed),
            },
            latency_ms: Latencies {
                order_accepted: counters.accepted_latency.percentiles(),
                order_refused: counters.refused_latency.percentiles(),
                event_delivery: counters.event_latency.percentiles(),
                stock_event_delivery: counters.stock_event_latency.percentiles(),
            },
            events: Events {
                delivered: counters.events.load(Relaxed),
                reconnections: counters.reconnections.load(Relaxed),
            },
            crash: findings.crash,
            audit: Audit { clean: audit_clean, orders: findings.audited_orders },
            data_dir: None,
        }
    }

    /// Whether every promise was kept.
    #[must_use]
    pub fn promises_kept(&self) -> bool {
        self.promises_kept
    }

    /// The table for people, the verdict last.
    #[must_use]
    pub fn to_text(&self, paint: Paint) -> String {
        let mut text = String::new();
        self.write_stock(&mut text, paint);
        self.write_orders(&mut text, paint);
        self.write_latencies(&mut text, paint);
        self.write_promises(&mut text, paint);
        self.write_verdict(&mut text, paint);
        text
    }

    fn write_stock(&self, text: &mut String, paint: Paint) {
        heading(text, paint, "Stock");
        row(text, "total", self.stock.total.into(), "");
        row(text, "sold", self.stock.sold.into(), &format!("in {:.1} s", self.rush_ms as f64 / 1_000.0));
        row(text, "held", self.stock.held.into(), "");
        row(text, "available", self.stock.available.into(), "");
        row(text, "oversold", self.oversold, "");
    }

    fn write_orders(&self, text: &mut String, paint: Paint) {
        heading(text, paint, "Orders");
        row(text, "accepted", self.orders.accepted, &format!("{} units confirmed", count(self.orders.confirmed_units)));
        row(text, "refused", self.orders.refused, &reasons(&self.orders.refused_by_reason));
        if !self.orders.asked_to_wait_by_reason.is_empty() {
            let waits = self.orders.asked_to_wait_by_reason.values().sum();
            row(text, "asked to wait", waits, &reasons(&self.orders.asked_to_wait_by_reason));
        }
        if self.orders.lost_answers > 0 {
            row(text, "answers lost", self.orders.lost_answers, "asked for again with the same key");
        }
        let identical = format!("{} answered identically", count(self.retries.answered_identically));
        row(text, "retries", self.retries.repeated, &identical);
        row(text, "audited", self.audit.orders, "orders, after the server had stopped");
        row(text, "busiest second", self.orders.answered_per_second_best, "orders answered");
        if let Some(crash) = &self.crash {
            let note =
                format!("after {} accepted orders, back after {} ms", crash.accepted_before, crash.back_after_ms);
            row(text, "kill -9", 1, &note);
        }
    }

    fn write_latencies(&self, text: &mut String, paint: Paint) {
        let latencies = self.latency_ms;
        heading(text, paint, &format!("{:<18}{:>12}{:>12}{:>12}", "Latency", "p50", "p95", "p99"));
        for (name, p) in [
            ("order accepted", latencies.order_accepted),
            ("order refused", latencies.order_refused),
            ("event delivered", latencies.event_delivery),
            ("stock delivered", latencies.stock_event_delivery),
        ] {
            if p.count > 0 {
                let (p50, p95, p99) = (millis(p.p50), millis(p.p95), millis(p.p99));
                let _ = writeln!(text, "    {name:<16}{p50:>12}{p95:>12}{p99:>12}");
            }
        }
        heading(text, paint, "Events");
        let crowd = format!(
            "to {} followers, {} reconnections",
            count(self.followers.into()),
            count(self.events.reconnections)
        );
        row(text, "delivered", self.events.delivered, &crowd);
    }

    fn write_promises(&self, text: &mut String, paint: Paint) {
        heading(text, paint, "Promises");
        for kept in &self.promises {
            let mark = if kept.kept { paint.green("kept  ") } else { paint.red("BROKEN") };
            let _ = writeln!(text, "    {mark}  {}", kept.promise.text());
            for what in &kept.broken {
                let _ = writeln!(text, "              {what}");
            }
            let more = kept.times.saturating_sub(kept.broken.len() as u64);
            if more > 0 {
                let _ = writeln!(text, "              … and {} more", count(more));
            }
        }
    }

    fn write_verdict(&self, text: &mut String, paint: Paint) {
        let broken = self.promises.iter().filter(|kept| !kept.kept).count();
        let verdict = match broken {
            0 => paint.green("Every promise was kept."),
            1 => paint.red("A promise was broken."),
            n => paint.red(&format!("{n} promises were broken.")),
        };
        if let Some(dir) = &self.data_dir {
            let _ = writeln!(text, "\n  The server's data: {} (this crowd again: --seed {})", dir.display(), self.seed);
        }
        let _ = writeln!(text, "\n  {verdict}");
    }
}

fn heading(text: &mut String, paint: Paint, words: &str) {
    if !text.is_empty() {
        text.push('\n');
    }
    let _ = writeln!(text, "  {}", paint.bold(words));
}

fn row(text: &mut String, name: &str, number: u64, note: &str) {
    let line = format!("    {name:<16}{:>12}   {note}", count(number));
    let _ = writeln!(text, "{}", line.trim_end());
}

/// Such as `sold_out 380, payment_declined 32`, the most frequent first.
fn reasons(counts: &BTreeMap<String, u64>) -> String {
    let mut counts: Vec<_> = counts.iter().collect();
    counts.sort_by_key(|(_, times)| std::cmp::Reverse(**times));
    counts.iter().map(|(code, times)| format!("{code} {}", count(**times))).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn findings() -> Findings {
        let stock = StockCounts { total: 100, available: 0, held: 0, sold: 100 };
        Findings { seed: 7, rush_ms: 4_210, stock, crash: None, audited_orders: 131 }
    }

    fn counters() -> Counters {
        let counters = Counters::new(100);
        counters.accepted.store(131, Relaxed);
        counters.confirmed_units.store(100, Relaxed);
        counters.repeated.store(57, Relaxed);
        counters.identical.store(57, Relaxed);
        counters.events.store(12_345, Relaxed);
        (0..1_380).for_each(|_| counters.refused("sold_out".into()));
        counters.refused("payment_declined".into());
        counters.accepted_latency.record(Duration::from_micros(1_200));
        counters
    }

    #[test]
    fn the_table_is_aligned_and_ends_with_the_verdict() {
        let mut report = Report::new(&DemoOptions::default(), &counters(), findings());
        report.orders.answered_per_second_best = 1_250;
        let expected = "  Stock
    total                    100
    sold                     100   in 4.2 s
    held                       0
    available                  0
    oversold                   0

  Orders
    accepted                 131   100 units confirmed
    refused                1,381   sold_out 1,380, payment_declined 1
    retries                   57   57 answered identically
    audited                  131   orders, after the server had stopped
    busiest second         1,250   orders answered

  Latency                    p50         p95         p99
    order accepted        1.2 ms      1.2 ms      1.2 ms

  Events
    delivered             12,345   to 200 followers, 0 reconnections

  Promises
    kept    never oversold
    kept    available + held + sold = total, always
    kept    nothing acknowledged was lost
    kept    units sold = units confirmed to buyers
    kept    same key, same answer
    kept    every request was answered as the API says
    kept    every follower heard everything
    kept    journal = database = what clients were told
    kept    a clean shutdown

  Every promise was kept.
";
        assert_eq!(report.to_text(Paint::Plain), expected);
        assert!(report.promises_kept());
    }

    #[test]
    fn a_broken_promise_is_spelled_out_and_decides_the_verdict() {
        let counters = counters();
        (0..12).for_each(|n| counters.broke(Promise::NothingLost, format!("order {n} is gone")));
        let report = Report::new(&DemoOptions::default(), &counters, findings());
        let text = report.to_text(Paint::Plain);
        assert!(!report.promises_kept());
        assert!(text.contains("    BROKEN  nothing acknowledged was lost\n              order 0 is gone\n"), "{text}");
        assert!(text.contains("… and 2 more"));
        assert!(text.ends_with("  A promise was broken.\n"));
        assert!(report.audit.clean);
        counters.broke(Promise::AuditClean, "x".into());
        let report = Report::new(&DemoOptions::default(), &counters, findings());
        assert!(report.to_text(Paint::Plain).ends_with("  2 promises were broken.\n"));
        assert!(!report.audit.clean);
    }

    #[test]
    fn the_json_has_the_documented_names() {
        let crash = Some(CrashNote { accepted_before: 33, back_after_ms: 180 });
        let report = Report::new(&DemoOptions::default(), &counters(), Findings { crash, ..findings() });
        let json: serde_json::Value = serde_json::to_value(&report).unwrap();
        for (pointer, expected) in [
            ("/promises_kept", serde_json::json!(true)),
            ("/promises/0", serde_json::json!({"promise": "never_oversold", "kept": true, "times": 0, "broken": []})),
            ("/stock", serde_json::json!({"total": 100, "available": 0, "held": 0, "sold": 100})),
            ("/oversold", serde_json::json!(0)),
            ("/orders/accepted", serde_json::json!(131)),
            ("/orders/refused_by_reason", serde_json::json!({"payment_declined": 1, "sold_out": 1_380})),
            ("/retries", serde_json::json!({"repeated": 57, "answered_identically": 57})),
            ("/latency_ms/order_accepted/count", serde_json::json!(1)),
            ("/latency_ms/event_delivery/p99", serde_json::json!(0.0)),
            ("/events/delivered", serde_json::json!(12_345)),
            ("/crash/back_after_ms", serde_json::json!(180)),
            ("/audit", serde_json::json!({"clean": true, "orders": 131})),
            ("/data_dir", serde_json::Value::Null),
        ] {
            assert_eq!(json.pointer(pointer), Some(&expected), "{pointer}");
        }
    }
}
