//! `livedrop load` against a real server.

use crate::server::{Server, livedrop};
use serde_json::{Value, json};
use std::process::{Child, Stdio};

fn start(server: &Server, options: &[&str]) -> Child {
    let mut command = livedrop();
    command.args(["load", "--url", server.base.trim_end_matches("/api/v1"), "--accounts", "8", "--json", "-"]);
    command.args(options).stdout(Stdio::piped()).spawn().expect("livedrop starts")
}

/// Waits for the end; returns exit code and report.
async fn ended(child: Child) -> (Option<i32>, Value) {
    let output = tokio::task::spawn_blocking(|| child.wait_with_output().expect("its end")).await.expect("a thread");
    (output.status.code(), serde_json::from_slice(&output.stdout).expect("a report"))
}

fn count(report: &Value, kind: &str, verdict: &str) -> u64 {
    let rows = report["rows"].as_array().expect("rows").iter();
    let of = rows.filter(|row| row["kind"] == kind && row["verdict"] == verdict);
    of.map(|row| row["waits"]["count"].as_u64().expect("a count")).sum()
}

#[tokio::test]
async fn each_scenario_ends_with_a_clean_audit() {
    let server = Server::start().await;
    for (options, kind) in [
        (vec!["--scenario", "rush", "--retries", "0.3", "--stock", "40"], "order"),
        (vec!["--scenario", "many", "--drops", "3"], "order"),
        (vec!["--scenario", "mix", "--rate", "200", "--shape", "spike"], "read"),
        (vec!["--scenario", "abandon"], "pay"),
        (vec!["--scenario", "follows", "--drops", "3"], "follow"),
        (vec!["--scenario", "crowd", "--watchers", "30", "--rate", "40"], "restock"),
        (vec!["--scenario", "look", "--watchers", "3"], "read"),
        (vec!["--scenario", "floor", "--rate", "100", "--shape", "ramp"], "read"),
    ] {
        let (code, report) =
            ended(start(&server, &[&options, &["--seconds", "1", "--connections", "8"][..]].concat())).await;
        assert_eq!((code, &report["audit"]["findings"]), (Some(0), &json!([])), "{options:?}: {report}");
        assert!(count(&report, kind, "accepted") > 0, "{options:?}: {report}");
        let audit = &report["audit"];
        assert_eq!(audit["units_promised"], audit["units_taken"], "{options:?}");
        if options.contains(&"crowd") {
            let (watched, restocks) = (&report["watched"], count(&report, "restock", "accepted"));
            assert_eq!((&watched["sessions"], &watched["came_back"]), (&json!(30), &json!(0)), "{watched}");
            assert_eq!(watched["delay"]["count"], 30 * restocks, "each hears each: {report}");
        }
        if options.contains(&"rush") {
            assert_eq!(audit["units_taken"], 40);
            assert!(count(&report, "order", "refused") > 0 && count(&report, "retry", "accepted") > 0, "{report}");
        }
    }
}

#[tokio::test]
async fn a_crash_under_load_breaks_no_promise() {
    let mut server = Server::start().await;
    let load = start(&server, &["--seconds", "3", "--connections", "8", "--retries", "0.2"]);
    server.until("orders", async || orders(&server).await > 20).await;
    server.kill();
    server.restart();
    let (code, report) = ended(load).await;
    assert_eq!((code, &report["audit"]["findings"]), (Some(0), &json!([])), "{report}");
    assert!(count(&report, "order", "lost") > 0, "somebody had no answer: {report}");
}

#[tokio::test]
async fn watchers_miss_nothing_over_a_crash() {
    let mut server = Server::start().await;
    let crowd = ["--scenario", "crowd", "--watchers", "20", "--rate", "50", "--seconds", "3", "--connections", "2"];
    let load = start(&server, &crowd);
    server.until("restocks", async || total(&server).await > 1_000_020).await;
    server.kill();
    server.restart();
    let (code, report) = ended(load).await;
    assert_eq!((code, &report["audit"]["findings"]), (Some(0), &json!([])), "{report}");
    assert!(report["watched"]["came_back"].as_u64() >= Some(20), "{report}");
}

#[tokio::test]
async fn units_that_nobody_was_promised_are_found() {
    let server = Server::start().await;
    let ann = server.account("ann").await;
    let load = start(&server, &["--seconds", "2", "--connections", "4"]);
    server.until("orders", async || orders(&server).await > 0).await;
    let (_, drops) = server.get("/drops", None).await;
    let body = json!({"drop_id": drops["items"][0]["id"], "quantity": 1});
    assert_eq!(server.order(&ann, "mine", &body).await.0, 201);
    let (code, report) = ended(load).await;
    let findings = report["audit"]["findings"].as_array().expect("findings");
    assert_eq!((code, findings.len()), (Some(1), 1), "{report}");
    assert!(findings[0].as_str().is_some_and(|text| text.contains("were promised")), "{report}");
}

/// The total of the newest drop.
async fn total(server: &Server) -> u64 {
    let (_, drops) = server.get("/drops", None).await;
    drops["items"][0]["stock"]["total"].as_u64().unwrap_or_default()
}

/// The held and sold units of the newest drop.
async fn orders(server: &Server) -> u64 {
    let (_, drops) = server.get("/drops", None).await;
    drops["items"][0]["stock"]["held"].as_u64().unwrap_or_default()
}
