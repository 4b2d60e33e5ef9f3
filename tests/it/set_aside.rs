//! A record that the database refuses permanently: its drop is set aside, everything else goes on.

use crate::metrics::{sample, text};
use crate::server::{Server, livedrop, problem};
use serde_json::{Value, json};
use sqlx::{Connection, Executor, PgConnection, SqliteConnection};
use std::process::Output;

/// A rule that makes a database refuse orders of two units, and its removal.
struct Rule {
    made: &'static str,
    ended: &'static str,
}

const SQLITE: Rule = Rule {
    made: "CREATE TRIGGER no_pairs BEFORE INSERT ON orders WHEN NEW.quantity = 2 BEGIN SELECT RAISE(ABORT, 'no pairs'); END",
    ended: "DROP TRIGGER no_pairs",
};
const POSTGRES: Rule = Rule {
    made: "ALTER TABLE orders ADD CONSTRAINT no_pairs CHECK (quantity <> 2)",
    ended: "ALTER TABLE orders DROP CONSTRAINT no_pairs",
};

async fn run(url: &str, sql: &'static str) {
    if url.starts_with("sqlite") {
        SqliteConnection::connect(url).await.expect("the database").execute(sql).await.expect("it is done");
    } else {
        PgConnection::connect(url).await.expect("the database").execute(sql).await.expect("it is done");
    }
}

/// Runs `livedrop projection …` beside the stopped server.
fn projection(server: &Server, url: &str, task: &str) -> Output {
    let mut command = livedrop();
    command.args(["projection", task, "--database-url", url, "--data-dir"]).arg(&server.data);
    command.output().expect("livedrop projection runs")
}

async fn aside(server: &Server) -> Value {
    server.readiness().await.1["checks"]["projector"]["set_aside_drops"].clone()
}

async fn story(database_url: Option<String>, rule: Rule) {
    let mut server = Server::with(database_url.clone(), &[]).await;
    let url = database_url.unwrap_or_else(|| format!("sqlite://{}", server.data.join("livedrop.db").display()));
    run(&url, rule.made).await;
    let (unlucky, bad) = server.live_drop(5, json!({})).await;
    let (lucky, good) = server.live_drop(5, json!({})).await;
    let ann = server.account("ann").await;
    let ask = |key: &str, drop: &str| {
        let quantity = if key == "bad" { 2 } else { 1 };
        json!({"drop_id": drop, "quantity": quantity, "payment_method": "pm_sandbox_ok"})
    };
    let mut answers = Vec::new();
    for (key, drop) in [("before", &bad), ("bad", &bad), ("after", &bad), ("elsewhere", &good)] {
        let (status, order) = server.order(&ann, key, &ask(key, drop)).await;
        assert_eq!(status, 201, "{order}");
        answers.push((key, drop, order));
    }
    server.until("the drop is set aside", async || aside(&server).await == json!([bad])).await;
    server
        .until("the rest is there", async || server.readiness().await.1["checks"]["projector"]["lag_records"] == 0)
        .await;
    let (status, said) = server.readiness().await;
    assert_eq!(
        (status, &said["status"], &said["checks"]["projector"]["status"]),
        (200, &json!("degraded"), &json!("degraded"))
    );
    let counted = said["checks"]["projector"]["set_aside_records"].as_f64().expect("a number");
    // Two orders, each with its confirmation.
    assert!(counted >= 4.0, "{said}");
    assert!((sample(&text(&server).await, "livedrop_projector_set_aside_records") - counted).abs() < f64::EPSILON);
    let (status, list) = server.get(&format!("/drops/{good}/orders"), Some(&lucky)).await;
    assert_eq!((status.as_u16(), list["items"].as_array().map(Vec::len)), (200, Some(1)), "{list}");
    // A list that would be incomplete is refused.
    problem(server.get(&format!("/drops/{bad}/orders"), Some(&unlucky)).await, 503, "database_unavailable");

    // After a restart everything acknowledged is there, and everything goes on.
    server.kill();
    server.restart();
    for (key, drop, first) in &answers {
        assert_eq!(server.order(&ann, key, &ask(key, drop)).await.1["id"], first["id"], "{key}");
    }
    assert_eq!((server.stock(&bad).await, server.stock(&good).await), ((1, 0, 4), (4, 0, 1)));
    assert_eq!(server.order(&ann, "later", &ask("later", &good)).await.0, 201);
    server
        .until("other drops' orders arrive", async || {
            server.get(&format!("/drops/{good}/orders"), Some(&lucky)).await.1["items"].as_array().map(Vec::len)
                == Some(2)
        })
        .await;
    assert_eq!(aside(&server).await, json!([bad]));

    assert_eq!(server.terminate(), Some(0));
    let (code, report) = server.verify();
    assert_eq!(
        (code, &report["differences"], &report["set_aside"][0]["drop"]),
        (Some(1), &json!(1), &json!(bad)),
        "{report}"
    );
    let listed = projection(&server, &url, "list");
    assert!(listed.status.success() && String::from_utf8_lossy(&listed.stdout).contains(&bad), "{listed:?}");
    assert_eq!(projection(&server, &url, "retry").status.code(), Some(1));

    run(&url, rule.ended).await;
    let retried = projection(&server, &url, "retry");
    assert!(retried.status.success(), "{retried:?}");
    assert_eq!(String::from_utf8_lossy(&retried.stdout), format!("applied {counted} records\n"));
    let (code, report) = server.verify();
    assert_eq!(code, Some(0), "{report}");
    server.restart();
    assert_eq!(server.readiness().await.1["status"], "ready");
    let (status, list) = server.get(&format!("/drops/{bad}/orders"), Some(&unlucky)).await;
    assert_eq!((status.as_u16(), list["items"].as_array().map(Vec::len)), (200, Some(3)), "{list}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_record_stops_its_own_drop_only_on_sqlite() {
    story(None, SQLITE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_record_stops_its_own_drop_only_on_postgres() {
    story(Some(crate::postgres::fresh_database().await), POSTGRES).await;
}
