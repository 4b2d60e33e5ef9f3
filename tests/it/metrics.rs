//! `/metrics`: its counts, and that promtool accepts it.

use crate::packages;
use crate::server::Server;
use reqwest::Method;
use serde_json::json;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

pub async fn text(server: &Server) -> String {
    let address = server.base.trim_end_matches("/api/v1");
    let response = server.http.get(format!("{address}/metrics")).send().await.expect("an answer");
    assert_eq!(response.headers()["content-type"], "text/plain; version=0.0.4");
    response.text().await.expect("a body")
}

/// The value of a sample, by its exact name and labels. Panics if it is missing.
pub fn sample(text: &str, name: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name).filter(|rest| rest.starts_with(' ')));
    line.unwrap_or_else(|| panic!("no {name} in\n{text}")).trim().parse().expect("a number")
}

#[tokio::test]
async fn they_count_what_happened() {
    let server = Server::start().await;
    let (_, drop) = server.live_drop(3, json!({})).await;
    let ann = server.account("ann").await;
    let paid = json!({"drop_id": drop, "quantity": 2, "payment_method": "pm_sandbox_ok"});
    let held = json!({"drop_id": drop, "quantity": 1});
    for (key, body, status) in [("a", &paid, 201), ("a", &paid, 201), ("b", &held, 201), ("c", &held, 409)] {
        assert_eq!(server.order(&ann, key, body).await.0, status);
    }
    server.get("/drops/nonsense", None).await;
    let (_, page) = server.get(&format!("/drops/{drop}"), None).await;
    let product = format!("/products/{}", page["product_id"].as_str().expect("an id"));
    server.get(&product, None).await;
    server.get(&product, None).await;
    server.call(Method::PUT, "/orders", None, None).await;
    let text = text(&server).await;
    for (name, value) in [
        ("livedrop_orders_total{outcome=\"accepted\"}", 2.0),
        ("livedrop_orders_total{outcome=\"replayed\"}", 1.0),
        ("livedrop_orders_total{outcome=\"sold_out\"}", 1.0),
        ("livedrop_order_transitions_total{to=\"reserved\"}", 2.0),
        ("livedrop_order_transitions_total{to=\"confirmed\"}", 1.0),
        ("livedrop_order_transitions_total{to=\"refused\"}", 1.0),
        ("livedrop_stock_units{state=\"available\"}", 0.0),
        ("livedrop_stock_units{state=\"held\"}", 1.0),
        ("livedrop_stock_units{state=\"sold\"}", 2.0),
        ("livedrop_stock_equation_violations", 0.0),
        ("livedrop_drops{status=\"sold_out\"}", 1.0),
        ("livedrop_sessions", 0.0),
        ("livedrop_journal_disk_full", 0.0),
        ("livedrop_cache_reads_total{of=\"product\",result=\"hit\"}", 2.0),
        ("livedrop_cache_reads_total{of=\"product\",result=\"miss\"}", 1.0),
    ] {
        assert!((sample(&text, name) - value).abs() < f64::EPSILON, "{name} is not {value} in\n{text}");
    }
    let requests = |route: &str, method: &str, status: &str| {
        let labels = format!("{{method=\"{method}\",route=\"{route}\",status=\"{status}\"}}");
        sample(&text, &format!("livedrop_http_request_duration_seconds_count{labels}")) as u64
    };
    assert_eq!(requests("/api/v1/orders", "POST", "2xx"), 3);
    assert_eq!(requests("/api/v1/orders", "POST", "4xx"), 1);
    assert_eq!(requests("/api/v1/orders", "other", "4xx"), 1);
    assert_eq!(requests("/api/v1/drops/{id}", "GET", "2xx"), 1);
    assert_eq!(requests("/api/v1/drops/{id}", "GET", "4xx"), 1, "what a client writes is no label");
    assert!(sample(&text, "livedrop_journal_sync_seconds_count") > 0.0);
    assert!(sample(&text, "livedrop_journal_durable_sequence") >= 5.0);
    assert!(sample(&text, "process_resident_memory_bytes") > 0.0);
}

#[tokio::test]
async fn promtool_has_nothing_to_say() {
    let server = Server::start().await;
    let (_, drop) = server.live_drop(3, json!({})).await;
    let ann = server.account("ann").await;
    server.order(&ann, "a", &json!({"drop_id": drop, "quantity": 1})).await;
    let text = text(&server).await;
    let mut check = Command::new(promtool());
    check.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut running = check.spawn().expect("promtool starts");
    running.stdin.take().expect("a pipe").write_all(text.as_bytes()).expect("promtool reads");
    let output = running.wait_with_output().expect("promtool ends");
    let said = [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat();
    assert!(output.status.success() && said.is_empty(), "{said}\n{text}");
}

/// From PATH, or unpacked from the distribution's package without installing it.
fn promtool() -> PathBuf {
    if let Some(found) = packages::find("promtool") {
        return found;
    }
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("promtool");
    let tool = dir.join("usr/bin/promtool");
    if tool.is_file() {
        return tool;
    }
    std::fs::create_dir_all(&dir).expect("a directory");
    let run = |program: &str, arguments: &[&str]| {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(&dir).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    let fetched = run("apt-get", &["download", "prometheus"])
        || (run("apt-get", &["update"]) && run("apt-get", &["download", "prometheus"]));
    assert!(
        fetched && run("sh", &["-c", "dpkg -x prometheus_*.deb ."]) && tool.is_file(),
        "this test needs promtool: install Prometheus' command line tools, or put `promtool` into PATH"
    );
    tool
}
