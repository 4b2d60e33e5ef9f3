//! Refusals leave no record, and a late copy of a refused request charges nobody.

use crate::server::{Account, Server, problem};
use reqwest::Response;
use serde_json::{Value, json};

fn holding(drop: &str) -> Value {
    json!({"drop_id": drop, "quantity": 1})
}

fn paying(drop: &str) -> Value {
    json!({"drop_id": drop, "quantity": 1, "payment_method": "pm_sandbox_ok"})
}

/// A drop whose only unit is sold.
async fn sold_out(server: &Server) -> (Account, String) {
    let (maker, drop) = server.live_drop(1, json!({})).await;
    let first = server.account("first").await;
    assert_eq!(server.order(&first, "k", &paying(&drop)).await.0, 201);
    (maker, drop)
}

async fn restock(server: &Server, maker: &Account, drop: &str, quantity: u32) {
    let (status, body) =
        server.post(&format!("/drops/{drop}/restock"), Some(maker), json!({"quantity": quantity})).await;
    assert_eq!(status, 200, "{body}");
}

fn is_replayed(response: &Response) -> bool {
    response.headers().contains_key("idempotency-replayed")
}

/// The number of records in the journal. The server must have stopped.
fn records(server: &Server) -> u64 {
    let (code, report) = server.verify();
    assert_eq!(code, Some(0), "{report}");
    report["records"].as_u64().expect("a number")
}

#[tokio::test]
async fn a_refusal_leaves_its_key_free_and_nothing_behind() {
    let mut server = Server::start().await;
    let (maker, drop) = sold_out(&server).await;
    let late = server.account("late").await;
    assert_eq!(server.terminate(), Some(0));
    let before = records(&server);
    server.restart();
    for n in 0..100 {
        problem(server.order(&late, &format!("k{n}"), &holding(&drop)).await, 409, "sold_out");
        problem(server.order(&late, &format!("p{n}"), &paying(&drop)).await, 409, "sold_out");
    }
    assert_eq!(server.terminate(), Some(0));
    assert_eq!(records(&server), before, "a refusal is in the journal");
    server.restart();
    restock(&server, &maker, &drop, 2).await;
    assert_eq!(server.order(&late, "k7", &holding(&drop)).await.0, 201, "the same key gets what came back");
    assert_eq!(server.stock(&drop).await, (1, 1, 1));
}

#[tokio::test]
async fn a_late_copy_of_a_refused_payment_charges_nobody() {
    let server = Server::with(None, &["--refusals-kept-seconds", "60"]).await;
    let (maker, drop) = sold_out(&server).await;
    let late = server.account("late").await;
    problem(server.order(&late, "k", &paying(&drop)).await, 409, "sold_out");
    restock(&server, &maker, &drop, 5).await;
    for _ in 0..2 {
        let copy = server.order_raw(&late, "k", &paying(&drop)).await.expect("an answer");
        assert!(is_replayed(&copy));
        problem(crate::server::answer(copy).await, 409, "sold_out");
    }
    assert_eq!(server.stock(&drop).await, (5, 0, 1));
    // Other content under that key is no copy, and a new key is a new request.
    assert_eq!(server.order(&late, "k", &holding(&drop)).await.0, 201);
    assert_eq!(server.order(&late, "another", &paying(&drop)).await.0, 201);
    // Refused by the drop itself: there is stock, but not enough.
    let more = json!({"drop_id": drop, "quantity": 4, "payment_method": "pm_sandbox_ok"});
    let short = problem(server.order(&late, "more", &more).await, 409, "not_enough_stock");
    assert_eq!(short["available"], 3);
    restock(&server, &maker, &drop, 9).await;
    let copy = problem(server.order(&late, "more", &more).await, 409, "not_enough_stock");
    assert_eq!(copy["available"], 3, "what was free then");
    assert_eq!(server.stock(&drop).await, (12, 1, 2));
}

#[tokio::test]
async fn a_refused_payment_is_forgotten_in_time() {
    let server = Server::start().await;
    let (maker, drop) = sold_out(&server).await;
    let late = server.account("late").await;
    problem(server.order(&late, "k", &paying(&drop)).await, 409, "sold_out");
    restock(&server, &maker, &drop, 1).await;
    server.until("the refusal is forgotten", async || server.order(&late, "k", &paying(&drop)).await.0 == 201).await;
    assert_eq!(server.stock(&drop).await, (0, 0, 2));
}

/// A restart loses the refusals, so one-call payments are not accepted for the configured time.
#[tokio::test]
async fn after_a_restart_a_late_copy_charges_nobody_either() {
    let mut server = Server::with(None, &["--refusals-kept-seconds", "60"]).await;
    let (maker, drop) = sold_out(&server).await;
    let (_, other) = server.live_drop(5, json!({})).await;
    let late = server.account("late").await;
    problem(server.order(&late, "k", &paying(&drop)).await, 409, "sold_out");
    server.kill();
    server.restart();
    problem(server.order(&late, "k", &paying(&drop)).await, 409, "sold_out");
    restock(&server, &maker, &drop, 5).await;
    let copy = server.order_raw(&late, "other", &paying(&drop)).await.expect("an answer");
    let wait: u32 = copy.headers()["retry-after"].to_str().expect("text").parse().expect("seconds");
    assert!((1..=60).contains(&wait), "{wait}");
    problem(crate::server::answer(copy).await, 503, "overloaded");
    assert_eq!(server.stock(&drop).await, (5, 0, 1));
    // Two-step orders are accepted, because they charge only later. Other drops accept one-call payments, because they
    // were not sold out.
    assert_eq!(server.order(&late, "held", &holding(&drop)).await.0, 201);
    assert_eq!(server.order(&late, "elsewhere", &paying(&other)).await.0, 201);
}
