//! Sessions: tickets, tokens and bounds.

use crate::listener::Listener;
use crate::server::{Server, problem};
use reqwest::Method;
use serde_json::{Value, json};

async fn ticket(server: &Server, token: &crate::server::Account) -> String {
    let (status, body) = server.call(Method::POST, "/notifications/ticket", Some(token), None).await;
    assert_eq!(status, 201, "{body}");
    assert!(body["expires_at"].is_string());
    body["ticket"].as_str().expect("a ticket").to_owned()
}

#[tokio::test]
async fn a_ticket_opens_one_session() {
    let server = Server::start().await;
    let ann = server.account("ann").await;
    problem(server.call(Method::POST, "/notifications/ticket", None, None).await, 401, "unauthenticated");
    let ticket = ticket(&server, &ann).await;
    let mut listener = Listener::with(&server, &format!("?ticket={ticket}")).await;
    assert_eq!(listener.until("authenticated").await["user_id"], ann.id);
    let again = server.base.replace("http", "ws") + "/api/v1/notifications?ticket=" + &ticket;
    let refused = tokio_tungstenite::connect_async(again).await.expect_err("a used ticket");
    assert!(refused.to_string().contains("401"), "{refused}");
}

#[tokio::test]
async fn topics_and_a_place_fit_into_the_address() {
    let server = Server::start().await;
    let (maker, drop) = server.live_drop(2, json!({})).await;
    let mut listener = Listener::with(&server, &format!("?topics=drop:{drop}")).await;
    let told = listener.all_until("subscribed").await;
    let since = told[1]["id"].as_str().expect("an id");
    server.post(&format!("/drops/{drop}/end"), Some(&maker), json!({})).await;
    let mut back = Listener::with(&server, &format!("?topics=drop:{drop}&since={since}")).await;
    let missed = back.all_until("subscribed").await;
    assert_eq!(missed[0]["type"], "drop_ended");
    assert_eq!(missed.len(), 2, "{missed:?}");
}

#[tokio::test]
async fn a_token_is_renewed_without_reconnecting_and_ends_the_session_otherwise() {
    let server = Server::with(None, &["--access-token-seconds", "3"]).await;
    let (ann, bob) = (server.account("ann").await, server.account("bob").await);
    let mut renewing = Listener::of(&server, &ann).await;
    let mut lapsing = Listener::of(&server, &ann).await;
    renewing.send(json!({"op": "auth", "token": bob.token})).await;
    assert_eq!(renewing.until("error").await["code"], "forbidden");
    tokio::time::sleep(std::time::Duration::from_millis(1_500)).await;
    let (_, renewed) = server.post("/auth/refresh", None, json!({"refresh_token": ann.refresh})).await;
    renewing.send(json!({"op": "auth", "token": renewed["access_token"]})).await;
    renewing.until("authenticated").await;
    assert_eq!(lapsing.close_code().await, 4401);
    renewing.send(json!({"op": "ping"})).await;
    renewing.until("pong").await;
    assert_eq!(renewing.close_code().await, 4401, "and later that one too");
}

#[tokio::test]
async fn one_account_has_so_many_sessions_and_one_session_so_many_topics() {
    let server = Server::start().await;
    let ann = server.account("ann").await;
    let mut oldest = Listener::of(&server, &ann).await;
    let mut others = Vec::new();
    for _ in 0..16 {
        others.push(Listener::of(&server, &ann).await);
    }
    assert_eq!(oldest.close_code().await, 4001);
    let other = &mut others[15];
    let topics: Vec<Value> = (0..257).map(|_| json!(format!("drop:{}", uuid::Uuid::now_v7()))).collect();
    other.send(json!({"op": "subscribe", "topics": topics})).await;
    assert_eq!(other.until("error").await["code"], "validation_failed");
    other.send(json!({"op": "subscribe", "topics": topics[..256]})).await;
    other.until("subscribed").await;
    for _ in 0..40 {
        other.send(json!({"op": "ping"})).await;
    }
    assert_eq!(other.close_code().await, 4400, "too many messages a second");
}

#[tokio::test]
async fn follows_made_while_a_session_opens_are_heard() {
    let server = Server::start().await;
    let fan = server.account("fan").await;
    for _ in 0..10 {
        let (maker, drop) = server.live_drop(1, json!({"starts_at": "2099-01-01T00:00:00Z"})).await;
        let path = format!("/creators/{}/follow", maker.id);
        let mut listener = Listener::connect(&server).await;
        // Neither waits for the other.
        let (_, _) = tokio::join!(
            listener.send(json!({"op": "auth", "token": fan.token})),
            server.call(Method::POST, &path, Some(&fan), None),
        );
        listener.until("authenticated").await;
        server.post(&format!("/drops/{drop}/start"), Some(&maker), json!({})).await;
        listener.until("drop_started").await;
    }
}
