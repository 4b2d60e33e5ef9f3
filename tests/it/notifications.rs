//! WebSocket: which client receives which events.

use crate::listener::Listener;
use crate::server::Server;
use futures_util::SinkExt;
use reqwest::Method;
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;

#[tokio::test]
async fn a_follower_hears_the_drop_without_asking() {
    let server = Server::start().await;
    let (maker, drop) =
        server.live_drop(2, json!({"starts_at": "2099-01-01T00:00:00Z", "low_stock_threshold": 1})).await;
    let (fan, buyer) = (server.account("fan").await, server.account("buyer").await);
    server.call(Method::POST, &format!("/creators/{}/follow", maker.id), Some(&fan), None).await;
    let mut follower = Listener::of(&server, &fan).await;
    let mut own = Listener::of(&server, &buyer).await;

    server.call(Method::POST, &format!("/drops/{drop}/start"), Some(&maker), None).await;
    let started = follower.until("drop_started").await;
    assert_eq!((&started["drop_id"], &started["status"]), (&json!(drop), &json!("live")));
    let body = json!({"drop_id": drop, "quantity": 1, "payment_method": "pm_sandbox_ok"});
    assert_eq!(server.order(&buyer, "1", &body).await.0, 201);
    assert_eq!(follower.until("stock_low").await["stock"]["available"], 1);
    assert_eq!(own.until("order_confirmed").await["topic"], format!("user:{}", buyer.id));
    assert_eq!(server.order(&buyer, "2", &body).await.0, 201);
    assert_eq!(follower.until("sold_out").await["stock"]["available"], 0);
    let told = follower.until("stock_changed").await;
    assert_eq!(told["stock"], json!({"total": 2, "available": 0, "held": 0, "sold": 2}));
    server.call(Method::POST, &format!("/drops/{drop}/end"), Some(&maker), None).await;
    follower.until("drop_ended").await;
}

#[tokio::test]
async fn follows_take_effect_while_connected() {
    let server = Server::start().await;
    let (maker, drop) = server.live_drop(2, json!({"starts_at": "2099-01-01T00:00:00Z"})).await;
    let fan = server.account("fan").await;
    let mut follower = Listener::of(&server, &fan).await;
    server.call(Method::POST, &format!("/creators/{}/follow", maker.id), Some(&fan), None).await;
    server.call(Method::POST, &format!("/drops/{drop}/start"), Some(&maker), None).await;
    follower.until("drop_started").await;
}

#[tokio::test]
async fn a_topic_asked_for_and_left_again_does_not_silence_a_followed_creator() {
    let server = Server::start().await;
    let (maker, drop) = server.live_drop(2, json!({"starts_at": "2099-01-01T00:00:00Z"})).await;
    let fan = server.account("fan").await;
    server.call(Method::POST, &format!("/creators/{}/follow", maker.id), Some(&fan), None).await;
    let mut follower = Listener::of(&server, &fan).await;
    let topics = json!([format!("creator:{}", maker.id)]);
    follower.send(json!({"op": "subscribe", "topics": topics})).await;
    follower.until("subscribed").await;
    follower.send(json!({"op": "unsubscribe", "topics": topics})).await;
    follower.until("unsubscribed").await;
    server.call(Method::POST, &format!("/drops/{drop}/start"), Some(&maker), None).await;
    follower.until("drop_started").await;

    server.call(Method::DELETE, &format!("/creators/{}/follow", maker.id), Some(&fan), None).await;
    server.call(Method::POST, &format!("/drops/{drop}/end"), Some(&maker), None).await;
    follower.send(json!({"op": "subscribe", "topics": [format!("drop:{drop}")]})).await;
    let Message::Text(next) = follower.next().await else { panic!("a text") };
    assert!(next.contains("snapshot"), "an unfollowed creator is not heard: {next}");
}

#[tokio::test]
async fn strangers_hear_public_topics_only() {
    let server = Server::start().await;
    let (maker, drop) = server.live_drop(2, json!({})).await;
    let mut stranger = Listener::connect(&server).await;
    stranger.send(json!({"op": "subscribe", "topics": [format!("creator:{}", maker.id)]})).await;
    assert_eq!(stranger.until("error").await["code"], "unauthenticated");
    stranger.send(json!({"op": "subscribe", "topics": [format!("drop:{drop}")]})).await;
    stranger.until("subscribed").await;
    stranger.send(json!({"op": "subscribe", "topics": [format!("user:{}", maker.id)]})).await;
    stranger.until("error").await;
    stranger.send(json!({"op": "ping"})).await;
    stranger.until("pong").await;
    server.call(Method::POST, &format!("/drops/{drop}/end"), Some(&maker), None).await;
    stranger.until("drop_ended").await;
}

#[tokio::test]
async fn bad_messages_close_with_a_final_code() {
    let server = Server::start().await;
    let mut rude = Listener::connect(&server).await;
    rude.0.send(Message::text("{nonsense")).await.expect("an open socket");
    assert_eq!(rude.close_code().await, 4400);
    let mut forger = Listener::connect(&server).await;
    forger.send(json!({"op": "auth", "token": "a.b.c"})).await;
    assert_eq!(forger.close_code().await, 4401);
    let mut chatty = Listener::connect(&server).await;
    chatty.0.send(Message::text("x".repeat(70_000))).await.expect("an open socket");
    assert_eq!(chatty.close_code().await, 1009);
}

#[tokio::test]
async fn a_server_that_goes_says_so() {
    let mut server = Server::start().await;
    let mut listener = Listener::connect(&server).await;
    assert_eq!(server.terminate(), Some(0));
    let (code, reason) = listener.close().await;
    assert_eq!(code, 1012);
    let reason: serde_json::Value = serde_json::from_str(&reason).expect("a reason in JSON");
    assert!(reason["retry_ms"].as_u64().is_some_and(|ms| (500..=61_000).contains(&ms)), "{reason}");
}
