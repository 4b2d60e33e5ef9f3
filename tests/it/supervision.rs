//! A background task that panics is named, counted and restarted; a vital one ends the process.

use crate::metrics::{sample, text};
use crate::server::{Account, Server, Setup};
use serde_json::{Value, json};

/// Restarts the process with a task that panics at its first poll.
fn restart_with_a_panic(server: &mut Server, task: &str) {
    server.arm(&format!("{task}=panic@1"));
    server.kill();
    server.restart();
}

async fn checks(server: &Server) -> (u16, Value) {
    server.readiness().await
}

async fn is_named_and_counted(server: &Server, task: &str) {
    server.until("it is named", async || checks(server).await.1["checks"]["tasks"]["failing"] == json!([task])).await;
    let (status, said) = checks(server).await;
    assert_eq!(
        (status, &said["status"], &said["checks"]["tasks"]["status"]),
        (200, &json!("degraded"), &json!("degraded"))
    );
    let restarts = sample(&text(server).await, &format!("livedrop_task_restarts_total{{task=\"{task}\"}}"));
    assert!((restarts - 1.0).abs() < f64::EPSILON, "{task}: {restarts}");
    let said: Vec<String> =
        server.log().lines().filter(|line| line.contains("it begins again")).map(str::to_owned).collect();
    assert!(matches!(&said[..], [.., last] if last.contains(task) && last.contains("made")), "{said:?}");
}

#[tokio::test]
async fn a_task_that_panics_is_named_counted_and_begun_again() {
    let mut server = Server::set_up(Setup { quiet: true, ..Setup::default() });
    for task in ["inbox_marks", "rate_limits", "database_watch", "evictor", "connection_watch"] {
        restart_with_a_panic(&mut server, task);
        is_named_and_counted(&server, task).await;
    }
    // It is no longer named once the task has run for a while.
    server.until("it is steady", async || checks(&server).await.1["checks"]["tasks"]["failing"] == json!([])).await;

    restart_with_a_panic(&mut server, "projector");
    let (_, drop) = server.live_drop(3, json!({"hold_seconds": 1})).await;
    is_named_and_counted(&server, "projector").await;
    server.until("SQL has it", async || checks(&server).await.1["checks"]["projector"]["lag_records"] == 0).await;

    // Both kinds of work continue in the process that had the panic.
    restart_with_a_panic(&mut server, "scheduler");
    is_named_and_counted(&server, "scheduler").await;
    let ann = server.account("ann").await;
    assert_eq!(server.order(&ann, "held", &json!({"drop_id": drop, "quantity": 1})).await.0, 201);
    server.until("the hold ends", async || server.stock(&drop).await == (3, 0, 0)).await;

    restart_with_a_panic(&mut server, "refunds");
    is_named_and_counted(&server, "refunds").await;
    let (maker, drop) = server.live_drop(3, json!({})).await;
    let ann = server.account("ann").await;
    refunded(&server, &maker, &ann, &drop).await;
}

async fn refunded(server: &Server, maker: &Account, ann: &Account, drop: &str) {
    let body = json!({"drop_id": drop, "quantity": 1, "payment_method": "pm_sandbox_ok"});
    let (status, order) = server.order(ann, "paid", &body).await;
    assert_eq!(status, 201, "{order}");
    assert_eq!(server.post(&format!("/drops/{drop}/cancel"), Some(maker), json!({})).await.0, 200);
    let path = format!("/orders/{}", order["id"].as_str().expect("an id"));
    server.until("the money goes back", async || server.get(&path, Some(ann)).await.1["status"] == "refunded").await;
}

#[tokio::test]
async fn what_must_not_be_missing_ends_the_process() {
    let mut server = Server::set_up(Setup { quiet: true, ..Setup::default() });
    let (maker, drop) = server.live_drop(3, json!({})).await;
    server.arm("broadcaster=panic@1");
    // An event that it would publish. The process may end before it answers.
    let end = server.http.post(server.url(&format!("/drops/{drop}/end"))).bearer_auth(&maker.token).send().await;
    std::mem::drop(end);
    assert_eq!(server.wait(), Some(1), "{}", server.log());
    let log = server.log();
    assert!(log.contains("the background task broadcaster does not stay up"), "{log}");
    server.disarm();
    server.restart();
    assert_eq!(server.readiness().await.0, 200);
}
