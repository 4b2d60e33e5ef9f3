//! Throughput and latency of a server as its load grows: connections, drops, orders that the drop already has, and
//! viewers. Each point is a run of `livedrop load` against a fresh server; every run ends with its audit, and a failed
//! audit ends the bench.
//!
//! `cargo bench --bench growth` prints tables and draws plots into `target/growth` (about five minutes); with names
//! (`-- drops watchers`) only those. `cargo test` runs two small points of each.

#[path = "../support/mod.rs"]
mod support;

mod plot;

use plot::{Curve, plot};
use serde_json::Value;
use std::path::Path;
use support::{Serving, measuring};

/// One point: the load, answers a second, their p99 in milliseconds.
struct Point {
    x: f64,
    per_second: f64,
    p99_ms: f64,
    note: String,
}

/// Runs `livedrop load` with these options and returns its report.
fn load(server: &Serving, options: &[&str]) -> Value {
    let mut command = support::livedrop();
    let url = format!("http://{}", server.address);
    command.args(["load", "--json", "-", "--url", &url, "--audit", "1000"]).args(options);
    let output = command.output().expect("livedrop load runs");
    let report: Value = serde_json::from_slice(&output.stdout).expect("a report");
    assert!(output.status.success(), "{}", report["audit"]);
    report
}

/// Runs the load against a server of its own: orders a second, and their p99.
fn run(x: f64, options: &[&str]) -> Point {
    let server = Serving::unlimited();
    let report = load(&server, options);
    let rows = report["rows"].as_array().expect("rows").iter();
    let orders = rows.filter(|row| row["kind"] == "order" && row["verdict"] == "accepted");
    let p99_ms = orders.filter_map(|row| row["waits"]["p99"].as_f64()).fold(0.0, f64::max);
    let heard = &report["watched"]["deliveries_per_second"];
    let note = heard.as_f64().map(|heard| format!("{heard:.0} deliveries/s")).unwrap_or_default();
    Point { x, per_second: report["accepted_per_second"].as_f64().expect("a rate"), p99_ms, note }
}

fn by<T: ToString + Copy + Into<f64>>(values: &[T], options: impl Fn(&str) -> Vec<String>) -> Vec<Point> {
    let point = |value: &T| {
        let options = options(&value.to_string());
        run((*value).into(), &options.iter().map(String::as_str).collect::<Vec<_>>())
    };
    values.iter().map(point).collect()
}

/// One drop whose orders accumulate: a point for each stretch of one run.
fn by_orders(seconds: u32, stretch: usize) -> Vec<Point> {
    let server = Serving::unlimited();
    let seconds = seconds.to_string();
    let report = load(&server, &["--connections", "256", "--stock", "10000000", "--seconds", &seconds]);
    let timeline = report["timeline"].as_array().expect("a timeline");
    let mut orders = 0.0;
    let point = |stretch: &[Value]| {
        let accepted: f64 = stretch.iter().filter_map(|second| second["accepted"].as_f64()).sum();
        let p99_ms = stretch.iter().filter_map(|second| second["waits"]["p99"].as_f64()).fold(0.0, f64::max);
        orders += accepted;
        Point { x: orders, per_second: accepted / stretch.len() as f64, p99_ms, note: String::new() }
    };
    // The part after the last whole stretch is the run's end.
    timeline.chunks_exact(stretch).map(point).collect()
}

fn show(name: &str, of: &str, points: &[Point]) {
    println!("\n| {of} | orders/s | p99 ms | |\n|---|---|---|---|");
    for Point { x, per_second, p99_ms, note } in points {
        println!("| {x:.0} | {per_second:.0} | {p99_ms:.1} | {note} |");
    }
    if !measuring() {
        return;
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/growth");
    std::fs::create_dir_all(&folder).expect("a folder");
    let curve = |name, colour, value: fn(&Point) -> f64| {
        let points = points.iter().map(|point| (point.x, value(point))).collect();
        Curve { name, colour, points }
    };
    let curves =
        [curve("orders/s", "#0a7d4f", |point| point.per_second), curve("p99 ms", "#8a2be2", |point| point.p99_ms)];
    let file = folder.join(format!("{name}.svg"));
    std::fs::write(&file, plot(of, &curves)).expect("a plot");
    println!("\n{}", file.display());
}

fn main() {
    let full = measuring();
    let (seconds, crowd) = if full { ("5", "256") } else { ("1", "4") };
    let chosen: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let wanted = |name: &str| chosen.is_empty() || chosen.iter().any(|chosen| chosen == name);
    let run = |values: &[u32], name: &str, others: &[&str]| {
        by(values, |value| {
            let all = [&[name, value, "--seconds", seconds], others].concat();
            all.into_iter().map(str::to_owned).collect()
        })
    };
    if wanted("connections") {
        let values: &[u32] = if full { &[1, 4, 16, 64, 256, 1_024, 4_096] } else { &[1, 4] };
        show("connections", "connections", &run(values, "--connections", &[]));
    }
    if wanted("drops") {
        let values: &[u32] = if full { &[1, 10, 100, 1_000, 10_000] } else { &[1, 3] };
        show("drops", "drops", &run(values, "--drops", &["--scenario", "many", "--connections", crowd]));
    }
    if wanted("orders") {
        let points = if full { by_orders(60, 5) } else { by_orders(2, 1) };
        show("orders", "orders in the drop", &points);
    }
    if wanted("watchers") {
        let values: &[u32] = if full { &[0, 100, 1_000, 5_000, 10_000] } else { &[0, 5] };
        show("watchers", "watchers", &run(values, "--watchers", &["--connections", crowd]));
    }
}
