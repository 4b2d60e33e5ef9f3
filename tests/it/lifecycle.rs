//! A drop from its schedule to its end.

use crate::server::{Server, Setup, livedrop, problem};
use reqwest::Method;
use serde_json::json;

#[tokio::test]
async fn scheduled_started_ended_by_hand() {
    let server = Server::start().await;
    let (maker, drop) = server.live_drop(5, json!({"starts_at": "2099-01-01T00:00:00Z"})).await;
    let buyer = server.account("buyer").await;
    let order = json!({"drop_id": drop, "quantity": 1});
    problem(server.order(&buyer, "early", &order).await, 409, "drop_not_started");

    let act =
        async |who, what: &str| server.call(Method::POST, &format!("/drops/{drop}/{what}"), Some(who), None).await;
    problem(act(&buyer, "start").await, 403, "forbidden");
    for _ in 0..2 {
        let (status, body) = act(&maker, "start").await;
        assert_eq!((status.as_u16(), &body["status"]), (200, &json!("live")), "{body}");
    }
    assert_eq!(server.order(&buyer, "now", &order).await.0, 201);
    // The key of an early order is still free.
    let (status, first) = server.order(&buyer, "early", &order).await;
    assert_eq!((status.as_u16(), &first["status"]), (201, &json!("reserved")), "{first}");
    assert_eq!(server.order(&buyer, "early", &order).await, (status, first));
    // Three of five units are free.
    let more = json!({"drop_id": drop, "quantity": 4});
    let (status, short) = server.order(&buyer, "more", &more).await;
    assert_eq!((status.as_u16(), &short["code"], &short["available"]), (409, &json!("not_enough_stock"), &json!(3)));
    assert_eq!(server.order(&buyer, "rest", &json!({"drop_id": drop, "quantity": 3})).await.0, 201);
    problem(server.order(&buyer, "more", &more).await, 409, "sold_out");
    for _ in 0..2 {
        let (status, body) = act(&maker, "end").await;
        assert_eq!((status.as_u16(), &body["status"]), (200, &json!("ended")), "{body}");
    }
    problem(server.order(&buyer, "late", &order).await, 409, "drop_ended");
    problem(act(&maker, "start").await, 409, "drop_state_conflict");
}

#[tokio::test]
async fn the_clock_starts_and_ends_a_drop() {
    let server = Server::start().await;
    let in_ms = |ms: i64| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
        livedrop::domain::Timestamp::from_millis(i64::try_from(now.as_millis()).expect("a time") + ms).to_string()
    };
    let (_, drop) = server.live_drop(5, json!({"starts_at": in_ms(700), "ends_at": in_ms(1500)})).await;
    let status = async || server.get(&format!("/drops/{drop}"), None).await.1["status"].clone();
    assert_eq!(status().await, "scheduled");
    server.until("live", async || status().await == "live").await;
    server.until("ended", async || status().await == "ended").await;
}

#[tokio::test]
async fn a_cancelled_drop_releases_and_refunds() {
    let server = Server::start().await;
    let (maker, drop) = server.live_drop(5, json!({})).await;
    let (ann, bob) = (server.account("ann").await, server.account("bob").await);
    let (_, held) = server.order(&ann, "a", &json!({"drop_id": drop, "quantity": 2})).await;
    let paid = json!({"drop_id": drop, "quantity": 1, "payment_method": "pm_sandbox_ok"});
    let (_, sold) = server.order(&bob, "b", &paid).await;
    assert_eq!(server.stock(&drop).await, (2, 2, 1));
    let (status, _) = server.call(Method::POST, &format!("/drops/{drop}/cancel"), Some(&maker), None).await;
    assert_eq!(status, 200);
    server.until("all stock back", async || server.stock(&drop).await == (5, 0, 0)).await;
    let path = |order: &serde_json::Value| format!("/orders/{}", order["id"].as_str().expect("an id"));
    server.until("refunded", async || server.get(&path(&sold), Some(&bob)).await.1["status"] == "refunded").await;
    let (_, released) = server.get(&path(&held), Some(&ann)).await;
    assert_eq!((&released["status"], &released["release_reason"]), (&json!("released"), &json!("cancelled")));
    let (status, replay) = server.order(&bob, "b", &paid).await;
    assert_eq!((status.as_u16(), replay), (201, sold), "a key keeps its first answer");
}

#[tokio::test]
async fn variants_sell_out_one_by_one_and_restock() {
    let server = Server::start().await;
    let (maker, product) = server.creator("maker").await;
    let body = json!({"product_id": product, "variants": [{"name": "S", "stock": 1}, {"name": "M", "stock": 1}]});
    let (status, drop) = server.post("/drops", Some(&maker), body).await;
    assert_eq!(status, 201, "{drop}");
    let id = drop["id"].as_str().expect("an id");
    let (small, medium) = (&drop["variants"][0]["id"], &drop["variants"][1]["id"]);
    let buyer = server.account("buyer").await;
    problem(server.order(&buyer, "0", &json!({"drop_id": id, "quantity": 1})).await, 404, "unknown_variant");
    let order = |variant| json!({"drop_id": id, "variant_id": variant, "quantity": 1});
    assert_eq!(server.order(&buyer, "1", &order(small)).await.0, 201);
    problem(server.order(&buyer, "2", &order(small)).await, 409, "sold_out");
    assert_eq!(server.get(&format!("/drops/{id}"), None).await.1["status"], "live");
    assert_eq!(server.order(&buyer, "3", &order(medium)).await.0, 201);
    assert_eq!(server.get(&format!("/drops/{id}"), None).await.1["status"], "sold_out");
    let (status, body) =
        server.post(&format!("/drops/{id}/restock"), Some(&maker), json!({"variant_id": small, "quantity": 2})).await;
    assert_eq!((status.as_u16(), &body["status"]), (200, &json!("live")), "{body}");
    // A refused key is free: the retry gets a unit that came back.
    assert_eq!(server.order(&buyer, "2", &order(small)).await.0, 201);
    assert_eq!(server.order(&buyer, "4", &order(small)).await.0, 201);
}

#[tokio::test]
async fn a_drop_is_moved_and_everyone_sees_its_new_times() {
    let server = Server::start().await;
    let (maker, drop) = server.live_drop(5, json!({"starts_at": "2099-01-01T00:00:00Z"})).await;
    let eve = server.account("eve").await;
    let path = format!("/drops/{drop}/reschedule");
    let body = json!({"starts_at": "2098-01-01T00:00:00Z", "ends_at": "2098-02-01T00:00:00Z"});
    problem(server.post(&path, Some(&eve), body.clone()).await, 403, "forbidden");
    problem(server.post(&path, None, body.clone()).await, 401, "unauthenticated");
    let (status, moved) = server.post(&path, Some(&maker), body).await;
    assert_eq!((status.as_u16(), &moved["starts_at"]), (200, &json!("2098-01-01T00:00:00.000Z")), "{moved}");
    assert_eq!(moved["ends_at"], "2098-02-01T00:00:00.000Z");
    let (_, listed) = server.get("/drops?phase=upcoming&starts_before=2098-06-01T00:00:00Z", None).await;
    assert_eq!(listed["items"], json!([moved]));
    let wrong = json!({"starts_at": "2098-03-01T00:00:00Z", "ends_at": "2098-02-01T00:00:00Z"});
    problem(server.post(&path, Some(&maker), wrong).await, 409, "conflicting_fields");
    problem(server.post(&path, Some(&maker), json!({"starts_at": "soon"})).await, 400, "validation_failed");

    let (status, live) = server.post(&path, Some(&maker), json!({"starts_at": "2020-01-01T00:00:00Z"})).await;
    assert_eq!((status.as_u16(), &live["status"]), (200, &json!("live")), "{live}");
    assert_eq!(live["ends_at"], "2098-02-01T00:00:00.000Z", "what is left out stays");
    let (_, same) = server.post(&path, Some(&maker), json!({})).await;
    assert_eq!((&same["starts_at"], &same["ends_at"]), (&live["starts_at"], &live["ends_at"]));
    let (status, endless) = server.post(&path, Some(&maker), json!({"ends_at": null})).await;
    assert_eq!((status.as_u16(), &endless["ends_at"]), (200, &json!(null)), "{endless}");
    let wrong = json!({"starts_at": null, "ends_at": "soon", "end_at": "2099-01-01T00:00:00Z"});
    let told = problem(server.post(&path, Some(&maker), wrong).await, 400, "validation_failed");
    let pointers: Vec<_> = told["errors"].as_array().expect("errors").iter().map(|error| &error["pointer"]).collect();
    assert_eq!(pointers, ["/end_at", "/starts_at", "/ends_at"], "everything that is wrong is told");
    assert_eq!(told["errors"][0]["detail"], "is not a field here; did you mean ends_at?");
    problem(
        server.post(&path, Some(&maker), json!({"starts_at": "2099-01-01T00:00:00Z"})).await,
        409,
        "drop_state_conflict",
    );
    for query in ["phase=sometime", "starts_from=x", "status=open", "starts_before=2020-13-01T00:00:00Z"] {
        problem(server.get(&format!("/drops?{query}"), None).await, 400, "validation_failed");
    }
}

#[tokio::test]
async fn a_feed_has_the_drops_of_followed_creators_only() {
    let server = Server::start().await;
    let (maker, drop) = server.live_drop(5, json!({})).await;
    let (_, _other) = server.live_drop(5, json!({})).await;
    let fan = server.account("fan").await;
    assert_eq!(server.get("/users/me/feed", Some(&fan)).await.1["items"], json!([]));
    server.call(Method::POST, &format!("/creators/{}/follow", maker.id), Some(&fan), None).await;
    let (_, feed) = server.get("/users/me/feed", Some(&fan)).await;
    assert_eq!(feed["items"].as_array().map(Vec::len), Some(1));
    assert_eq!(feed["items"][0]["id"], json!(drop));
    assert_eq!(server.get("/users/me/feed?phase=ended", Some(&fan)).await.1["items"], json!([]));
    problem(server.get("/users/me/feed", None).await, 401, "unauthenticated");
}

/// Clients from other machines must not take the sandbox for real payments unless the operator allowed it.
#[tokio::test]
async fn beyond_loopback_a_server_starts_only_where_play_money_is_asked_for() {
    let folder = tempfile::TempDir::new().expect("a folder");
    let data = folder.path().join("data");
    let mut command = livedrop();
    let output = command.args(["serve", "--bind", "0.0.0.0:0", "--data-dir"]).arg(&data).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!((output.status.code(), said.lines().count()), (Some(2), 1), "{said}");
    assert!(said.contains("payments: must be set") && said.contains("0.0.0.0:0"), "{said}");
    assert!(!data.exists(), "nothing was made");

    let extra = ["--payments", "sandbox", "--log", "info"].map(str::to_owned).to_vec();
    let server = Server::set_up(Setup { extra, quiet: true, ..Setup::default() });
    let (status, ready) = server.readiness().await;
    assert_eq!((status, &ready["payments"]), (200, &json!("sandbox")), "{ready}");
    server.until("the log names it", async || server.log().contains("play money")).await;
}
