//! Random input from the network: every JSON body, cursors, keys and WebSocket messages. The server answers each with a
//! documented problem, never with a 5xx, and works afterwards.

use crate::mutate::{mutated, seeds};
use crate::server::{Account, Server, answer};
use futures_util::{SinkExt, StreamExt};
use reqwest::Method;
use serde_json::{Value, json};
use tokio_tungstenite::{connect_async, tungstenite::Message};

/// A server with one object of each kind.
async fn world() -> (Server, Account, String, String) {
    let server = Server::start().await;
    let (maker, drop) = server.live_drop(1_000_000, json!({})).await;
    let (_, order) = server.order(&maker, "an order", &json!({"drop_id": drop, "quantity": 1})).await;
    let order = order["id"].as_str().expect("an id").to_owned();
    (server, maker, drop, order)
}

#[tokio::test]
async fn bodies() {
    let (server, maker, drop, order) = world().await;
    let money = json!({"amount": 1999, "currency": "USD"});
    let (_, products) = server.get("/products", None).await;
    let product = products["items"][0]["id"].clone();
    let routes: Vec<(String, Value)> = vec![
        ("/auth/register".into(), json!({"email": "a@example.com", "password": "correct horse", "display_name": "a"})),
        ("/auth/login".into(), json!({"email": "a@example.com", "password": "correct horse"})),
        ("/auth/refresh".into(), json!({"refresh_token": "abc"})),
        ("/auth/logout".into(), json!({"refresh_token": "abc"})),
        ("/creators".into(), json!({"handle": "maker", "display_name": "Maker", "bio": "b"})),
        ("/follows".into(), json!({"creator_id": maker.id})),
        (
            "/products".into(),
            json!({"name": "Jacket", "description": "d", "price": money, "attributes": {"size": 1.5, "wool": true},
                   "images": [{"url": "https://example.com/a.jpg", "alt": "x"}],
                   "variants": [{"name": "M", "price": money}, {"name": "L"}]}),
        ),
        (
            "/drops".into(),
            json!({"product_id": product, "title": "t", "starts_at": "2026-12-01T18:00:00Z", "ends_at": null,
                   "per_buyer_limit": 2, "low_stock_threshold": 10, "hold_seconds": 300,
                   "variants": [{"name": "M", "stock": 100, "price": money}, {"name": "L", "stock": 1}]}),
        ),
        (format!("/drops/{drop}/restock"), json!({"quantity": 5})),
        ("/orders".into(), json!({"drop_id": drop, "quantity": 1, "payment_method": "pm_sandbox_ok"})),
        (format!("/orders/{order}/pay"), json!({"payment_method": "pm_sandbox_declined"})),
    ];
    let corpus: Vec<Vec<u8>> = routes.iter().map(|(_, body)| body.to_string().into_bytes()).collect();
    for seed in seeds(600) {
        let (path, _) = &routes[seed as usize % routes.len()];
        // Mostly the route's own body, sometimes another's.
        let own = &corpus[seed as usize % routes.len()..][..1];
        let body = mutated(seed, if seed % 5 == 0 { &corpus } else { own });
        let request = server.http.post(server.url(path)).bearer_auth(&maker.token);
        let request = request.header("Idempotency-Key", format!("k{seed}")).header("Content-Type", "application/json");
        let (status, told) = answer(request.body(body.clone()).send().await.expect("an answer")).await;
        let shown = String::from_utf8_lossy(&body);
        assert!(status.as_u16() < 500, "seed {seed}: {path} {shown}: {status} {told}");
        assert!(status.is_success() || told["code"].is_string(), "seed {seed}: {path} {shown}: {status} {told}");
    }
    let (available, held, sold) = server.stock(&drop).await;
    assert!(available + held + sold >= 1_000_000);
}

#[tokio::test]
async fn queries_keys_and_headers() {
    let (server, maker, drop, _) = world().await;
    let corpus: Vec<Vec<u8>> =
        ["AwGh-50oim0dA8hxEFM2kg", "20", "live", "AQAAAAAAAAAAAAAAAAAAAAAA", &drop].map(|text| text.into()).to_vec();
    for seed in seeds(300) {
        let text = mutated(seed, &corpus);
        let escaped: String = text.iter().map(|byte| format!("%{byte:02x}")).collect();
        let query = ["cursor", "limit", "status", "creator_id", "currency", "price_min"][seed as usize % 6];
        let list = ["drops", "products", "creators", "users/me/orders"][(seed / 6) as usize % 4];
        let (status, told) = server.get(&format!("/{list}?{query}={escaped}"), Some(&maker)).await;
        assert!(status.as_u16() < 500, "seed {seed}: {list}?{query}={escaped}: {status} {told}");
        let (status, told) = server.get(&format!("/drops/{escaped}"), None).await;
        assert!(status.as_u16() < 500, "seed {seed}: {escaped}: {status} {told}");
        let Ok(header) = reqwest::header::HeaderValue::from_bytes(&text) else { continue };
        let request = server.http.request(Method::POST, server.url("/orders")).header("Idempotency-Key", &header);
        let request = request.bearer_auth(&maker.token).header("traceparent", &header);
        let request = request.json(&json!({"drop_id": drop, "quantity": 1}));
        let (status, told) = answer(request.send().await.expect("an answer")).await;
        assert!(status.as_u16() < 500, "seed {seed}: key {header:?}: {status} {told}");
    }
    assert_eq!(server.get("/drops", None).await.0, 200);
}

#[tokio::test]
async fn websocket_messages() {
    let (server, maker, drop, _) = world().await;
    let corpus: Vec<Vec<u8>> = [
        json!({"op": "auth", "token": maker.token}),
        json!({"op": "subscribe", "topics": [format!("drop:{drop}"), format!("creator:{}", maker.id)]}),
        json!({"op": "unsubscribe", "topics": [format!("user:{}", maker.id)]}),
        json!({"op": "ping"}),
    ]
    .map(|message| message.to_string().into_bytes())
    .to_vec();
    let url = server.url("/notifications").replace("http://", "ws://");
    let mut socket = None;
    for seed in seeds(300) {
        let open = match socket.take() {
            Some(open) => open,
            None => connect_async(&url).await.expect("a socket").0,
        };
        let (mut sender, mut receiver) = open.split();
        let message = mutated(seed, &corpus);
        let sent = match String::from_utf8(message) {
            Ok(text) => sender.send(Message::text(text)).await,
            Err(bytes) => sender.send(Message::binary(bytes.into_bytes())).await,
        };
        // It answers (hello, at first), or closes with a reason; it never just disconnects.
        let heard = tokio::time::timeout(crate::server::SOON, receiver.next()).await.expect("something soon");
        match heard {
            Some(Ok(Message::Close(frame))) => assert!(frame.is_some(), "seed {seed}"),
            Some(Ok(_)) if sent.is_ok() => socket = Some(sender.reunite(receiver).expect("its two halves")),
            Some(Ok(_)) => {}
            other => panic!("seed {seed}: {other:?}"),
        }
    }
    assert_eq!(server.get("/drops", None).await.0, 200);
}
