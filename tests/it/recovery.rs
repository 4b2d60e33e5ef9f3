//! Reconnecting: exactly the missed events, or a snapshot.

use crate::listener::Listener;
use crate::server::{Account, Server};
use reqwest::Method;
use serde_json::{Value, json};

fn kinds(messages: &[Value]) -> Vec<&str> {
    messages.iter().map(|message| message["type"].as_str().expect("a type")).collect()
}

async fn subscribe(listener: &mut Listener, topic: &str, since: Option<&str>) -> Vec<Value> {
    listener.send(json!({"op": "subscribe", "topics": [topic], "since": since})).await;
    listener.all_until("subscribed").await
}

async fn post(server: &Server, who: &Account, path: &str, body: Value) {
    let (status, answer) = server.post(path, Some(who), body).await;
    assert!(status.is_success(), "{path}: {answer}");
}

#[tokio::test]
async fn a_first_subscription_begins_with_a_snapshot() {
    let server = Server::start().await;
    let (maker, drop) = server.live_drop(5, json!({})).await;
    let topic = format!("drop:{drop}");
    let mut listener = Listener::connect(&server).await;
    let told = subscribe(&mut listener, &topic, None).await;
    assert_eq!(kinds(&told), ["snapshot", "subscribed"]);
    assert_eq!(told[0]["drops"][0]["stock"], json!({"total": 5, "available": 5, "held": 0, "sold": 0}));
    assert_eq!(told[1]["topics"], json!([{"topic": topic, "recovered": false}]));
    post(&server, &maker, &format!("/drops/{drop}/restock"), json!({"quantity": 2})).await;
    let restocked = listener.until("restocked").await;
    assert!(restocked["position"].as_u64() > told[0]["position"].as_u64());
}

#[tokio::test]
async fn whoever_comes_back_hears_what_was_missed_also_after_a_crash() {
    let mut server = Server::start().await;
    let (maker, drop) = server.live_drop(50, json!({})).await;
    let buyer = server.account("buyer").await;
    let topic = format!("drop:{drop}");
    let mut listener = Listener::of(&server, &buyer).await;
    let told = subscribe(&mut listener, &topic, None).await;
    let since = told.last().expect("an answer")["id"].as_str().expect("an id").to_owned();
    drop_listener(listener);

    post(&server, &maker, &format!("/drops/{drop}/restock"), json!({"quantity": 2})).await;
    let order = json!({"drop_id": drop, "quantity": 1, "payment_method": "pm_sandbox_ok"});
    assert_eq!(server.order(&buyer, "1", &order).await.0, 201);
    post(&server, &maker, &format!("/drops/{drop}/restock"), json!({"quantity": 3})).await;

    let missed = comes_back(&server, &buyer, &topic, &since).await;
    assert_eq!(kinds(&missed), ["restocked", "order_reserved", "order_confirmed", "restocked", "authenticated"]);
    assert_eq!(missed[4]["topics"], json!([{"topic": topic, "recovered": true}]));
    assert_eq!(missed[4]["recovered"], true);
    let half = missed[1]["id"].as_str().expect("an id").to_owned();
    let again = comes_back(&server, &buyer, &topic, &half).await;
    assert_eq!(kinds(&again), ["order_confirmed", "restocked", "authenticated"]);

    server.kill();
    server.restart();
    let after = comes_back(&server, &buyer, &topic, &since).await;
    assert_eq!(after[..4], missed[..4], "to the letter");
    assert_eq!(after[4]["topics"], json!([{"topic": topic, "recovered": true}]));
    let nothing = comes_back(&server, &buyer, &topic, after[4]["id"].as_str().expect("an id")).await;
    assert_eq!(kinds(&nothing), ["authenticated"]);
}

fn drop_listener(listener: Listener) {
    drop(listener);
}

async fn comes_back(server: &Server, who: &Account, topic: &str, since: &str) -> Vec<Value> {
    let mut listener = Listener::connect(server).await;
    listener.send(json!({"op": "auth", "token": who.token, "topics": [topic], "since": since})).await;
    listener.all_until("authenticated").await
}

#[tokio::test]
async fn stock_that_was_missed_is_told_once_and_as_it_is_now() {
    let mut server = Server::start().await;
    let (_, drop) = server.live_drop(50, json!({})).await;
    let buyer = server.account("buyer").await;
    let topic = format!("drop:{drop}");
    let mut listener = Listener::connect(&server).await;
    let told = subscribe(&mut listener, &topic, None).await;
    let since = told.last().expect("an answer")["id"].as_str().expect("an id").to_owned();
    for key in ["a", "b", "c"] {
        assert_eq!(server.order(&buyer, key, &json!({"drop_id": drop, "quantity": 1})).await.0, 201);
        listener.until("stock_changed").await;
    }
    for restarted in [false, true] {
        if restarted {
            server.kill();
            server.restart();
        }
        let mut back = Listener::connect(&server).await;
        let missed = subscribe(&mut back, &topic, Some(&since)).await;
        assert_eq!(kinds(&missed), ["stock_changed", "subscribed"], "restarted: {restarted}");
        assert_eq!(missed[0]["stock"]["held"], 3);
        let last = missed[0]["id"].as_str().expect("an id").to_owned();
        let mut again = Listener::connect(&server).await;
        assert_eq!(kinds(&subscribe(&mut again, &topic, Some(&last)).await), ["subscribed"]);
    }
}

#[tokio::test]
async fn a_place_that_means_nothing_here_gets_a_snapshot() {
    let server = Server::start().await;
    let (_, drop) = server.live_drop(5, json!({})).await;
    let topic = format!("drop:{drop}");
    let mut listener = Listener::connect(&server).await;
    let known = subscribe(&mut listener, &topic, None).await;
    let id = known[1]["id"].as_str().expect("an id").to_owned();
    let (epoch, _) = id.split_once('-').expect("an epoch");
    for since in ["0123456789abcdef-1".to_owned(), format!("{epoch}-999999999-999999999")] {
        let mut other = Listener::connect(&server).await;
        let told = subscribe(&mut other, &topic, Some(&since)).await;
        assert_eq!(kinds(&told), ["snapshot", "subscribed"], "{since}");
        assert_eq!(told[1]["topics"][0]["recovered"], false);
    }
    listener.send(json!({"op": "subscribe", "topics": [topic], "since": "yesterday"})).await;
    assert_eq!(listener.until("error").await["code"], "validation_failed");
    listener.send(json!({"op": "ping"})).await;
    listener.until("pong").await;
}

#[tokio::test]
async fn a_follower_comes_back_for_the_drops_of_whom_it_follows() {
    let server = Server::start().await;
    let (maker, drop) = server.live_drop(2, json!({"starts_at": "2099-01-01T00:00:00Z"})).await;
    let fan = server.account("fan").await;
    server.call(Method::POST, &format!("/creators/{}/follow", maker.id), Some(&fan), None).await;
    let mut listener = Listener::connect(&server).await;
    listener.send(json!({"op": "auth", "token": fan.token})).await;
    let since = listener.until("authenticated").await["id"].as_str().expect("an id").to_owned();
    drop_listener(listener);
    post(&server, &maker, &format!("/drops/{drop}/start"), json!({})).await;
    let missed = comes_back(&server, &fan, &format!("drop:{drop}"), &since).await;
    assert_eq!(kinds(&missed), ["drop_started", "authenticated"], "once, although two topics bring it");
}

/// Segments of the journal, the oldest first.
fn segments(server: &Server) -> Vec<String> {
    let files = std::fs::read_dir(server.data.join("journal")).expect("a journal").flatten();
    let mut names: Vec<String> = files.map(|file| file.file_name().to_string_lossy().into_owned()).collect();
    names.retain(|name| name.ends_with(".seg"));
    names.sort_unstable();
    names
}

#[tokio::test]
async fn a_drop_that_starts_far_ahead_is_shown_after_a_restart_that_does_not_read_of_it() {
    let flags = ["--journal-segment-mib", "8"];
    let mut server = Server::with(None, &flags).await;
    let (maker, product) = server.creator("maker").await;
    let far = json!({"product_id": product, "stock": 5, "starts_at": "2099-01-01T00:00:00Z"});
    let (status, drop) = server.post("/drops", Some(&maker), far).await;
    assert_eq!(status, 201, "{drop}");
    let topic = format!("drop:{}", drop["id"].as_str().expect("an id"));
    let first = segments(&server)[0].clone();
    // Some 22 KiB of journal each.
    let variants: Vec<Value> =
        (10..74).map(|n| json!({"name": format!("{}{n}", "語".repeat(118)), "stock": 1})).collect();
    let large = json!({"product_id": product, "variants": variants, "starts_at": "2099-01-01T00:00:00Z"});
    for _ in 0..800 {
        let (status, answer) = server.post("/drops", Some(&maker), large.clone()).await;
        assert_eq!(status, 201, "{answer}");
        if !segments(&server).contains(&first) {
            break;
        }
    }
    server.until("the first segment is gone", async || !segments(&server).contains(&first)).await;
    let told = async |server: &Server| {
        let mut told = subscribe(&mut Listener::connect(server).await, &topic, None).await;
        told[0]["drops"].take()
    };
    let before = told(&server).await;
    assert_eq!(before[0]["stock"], json!({"total": 5, "available": 5, "held": 0, "sold": 0}));
    server.kill();
    server.restart();
    assert_eq!(told(&server).await, before);
    // It did not wake for the snapshot, and its creator can still change it.
    post(&server, &maker, &format!("/drops/{}/restock", drop["id"].as_str().expect("an id")), json!({"quantity": 1}))
        .await;
    assert_eq!(told(&server).await[0]["stock"]["total"], 6);
}
