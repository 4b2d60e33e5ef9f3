//! Holding units without paying, and filling the server with drops.

use crate::listener::Listener;
use crate::metrics;
use crate::server::{Server, problem};
use reqwest::Method;
use serde_json::json;

#[tokio::test]
async fn unpaid_holds_are_bounded_for_a_buyer_and_for_an_address() {
    let server = Server::with(None, &["--hold-limits", "buyer=2,address=3,cool_down=off"]).await;
    let (_, drop) = server.live_drop(50, json!({})).await;
    let (ann, bob, eve) = (server.account("ann").await, server.account("bob").await, server.account("eve").await);
    let order = json!({"drop_id": drop, "quantity": 1});
    let (status, held) = server.order(&ann, "1", &order).await;
    assert_eq!(status, 201, "{held}");
    assert_eq!(server.order(&ann, "2", &order).await.0, 201);
    problem(server.order(&ann, "3", &order).await, 409, "too_many_holds");
    assert_eq!(server.order(&bob, "1", &order).await.0, 201);
    // Both come from one address.
    let response = server.order_raw(&eve, "1", &order).await.expect("an answer");
    assert!(response.headers().contains_key("retry-after"));
    problem(crate::server::answer(response).await, 409, "too_many_holds");
    let pay = format!("/orders/{}/pay", held["id"].as_str().expect("an id"));
    let (status, paid) = server.post(&pay, Some(&ann), json!({"payment_method": "pm_sandbox_ok"})).await;
    assert_eq!((status.as_u16(), &paid["status"]), (200, &json!("confirmed")));
    // The keys of temporary refusals are free, and the first one is not counted twice.
    assert_eq!(server.order(&eve, "1", &order).await.0, 201);
    problem(server.order(&ann, "3", &order).await, 409, "too_many_holds");
}

#[tokio::test]
async fn who_lets_a_hold_run_out_is_told_when_to_come_again_also_after_a_restart() {
    let mut server = Server::with(None, &["--hold-limits", "cool_down=3600"]).await;
    let (_, drop) = server.live_drop(5, json!({"hold_seconds": 1})).await;
    let (ann, bob) = (server.account("ann").await, server.account("bob").await);
    let order = json!({"drop_id": drop, "quantity": 1});
    assert_eq!(server.order(&ann, "1", &order).await.0, 201);
    server.until("the unit back", async || server.stock(&drop).await == (5, 0, 0)).await;
    for restarts in [true, false] {
        let response = server.order_raw(&ann, "2", &order).await.expect("an answer");
        let seconds: u32 = response.headers()["retry-after"].to_str().expect("text").parse().expect("a number");
        assert!((3_000..=3_600).contains(&seconds), "{seconds}");
        let told = problem(crate::server::answer(response).await, 429, "hold_cooldown");
        let until: livedrop::domain::Timestamp = told["retry_at"].as_str().expect("a time").parse().expect("a time");
        let now = livedrop::actors::Clock::default().now();
        assert!((3_000_000..=3_600_000).contains(&until.millis_since(now)), "{until}");
        if restarts {
            server.kill();
            server.restart();
        }
    }
    assert_eq!(server.order(&bob, "1", &order).await.0, 201, "others do not wait");
}

#[tokio::test]
async fn a_creator_has_so_many_drops_that_are_scheduled_or_live() {
    let mut server = Server::with(None, &["--drops-per-creator", "2"]).await;
    let (maker, product) = server.creator("maker").await;
    let (other, others) = server.creator("other").await;
    let body = |product: &str, starts_at: &str| json!({"product_id": product, "stock": 1, "starts_at": starts_at});
    let far = "2099-01-01T00:00:00Z";
    let (status, first) = server.post("/drops", Some(&maker), body(&product, far)).await;
    assert_eq!(status, 201, "{first}");
    assert_eq!(server.post("/drops", Some(&maker), body(&product, "2020-01-01T00:00:00Z")).await.0, 201);
    problem(server.post("/drops", Some(&maker), body(&product, far)).await, 409, "too_many_drops");
    // The first drop counts wherever it is: out of memory, and after a restart.
    server.kill();
    server.restart();
    problem(server.post("/drops", Some(&maker), body(&product, far)).await, 409, "too_many_drops");
    assert_eq!(server.post("/drops", Some(&other), body(&others, far)).await.0, 201);
    let cancel = format!("/drops/{}/cancel", first["id"].as_str().expect("an id"));
    assert_eq!(server.call(Method::POST, &cancel, Some(&maker), None).await.0, 200);
    assert_eq!(server.post("/drops", Some(&maker), body(&product, far)).await.0, 201);
}

#[tokio::test]
async fn a_drop_that_starts_far_ahead_takes_no_memory_and_is_there_all_the_same() {
    let mut server = Server::start().await;
    let (maker, drop) = server.live_drop(5, json!({"starts_at": "2099-01-01T00:00:00Z"})).await;
    let (fan, buyer) = (server.account("fan").await, server.account("buyer").await);
    server.call(Method::POST, &format!("/creators/{}/follow", maker.id), Some(&fan), None).await;
    let in_memory =
        async |server: &Server| metrics::sample(&metrics::text(server).await, "livedrop_drops{status=\"scheduled\"}");
    server.until("it sleeps", async || in_memory(&server).await == 0.0).await;
    let password = Some(json!({"password": "correct horse"}));
    problem(server.call(Method::DELETE, "/users/me", Some(&maker), password).await, 409, "account_has_drops");
    server.kill();
    server.restart();
    assert_eq!(in_memory(&server).await, 0.0, "a restart does not wake it");
    let (status, shown) = server.get(&format!("/drops/{drop}"), None).await;
    assert_eq!((status.as_u16(), &shown["status"]), (200, &json!("scheduled")));
    assert_eq!(server.stock(&drop).await, (5, 0, 0));
    let order = json!({"drop_id": drop, "quantity": 1});
    let early = problem(server.order(&buyer, "k", &order).await, 409, "drop_not_started");
    assert_eq!(early["retry_at"], "2099-01-01T00:00:00.000Z");
    let mut follower = Listener::of(&server, &fan).await;
    let (status, started) = server.call(Method::POST, &format!("/drops/{drop}/start"), Some(&maker), None).await;
    assert_eq!((status.as_u16(), &started["status"]), (200, &json!("live")), "{started}");
    assert_eq!(follower.until("drop_started").await["stock"]["available"], 5);
    let (status, placed) = server.order(&buyer, "k", &order).await;
    assert_eq!((status.as_u16(), &placed["status"]), (201, &json!("reserved")));
    assert_eq!(follower.until("stock_changed").await["stock"]["available"], 4);
}
