//! Connections that leave HTTP, and requests for an unsupported upgrade.

use crate::metrics;
use crate::server::{Account, Server};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The header fields of a handshake.
const HANDSHAKE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// Sends a request with those fields and the bytes after its head.
async fn ask(server: &Server, line: &str, fields: &str, after: &[u8]) -> TcpStream {
    let address = server.base.trim_start_matches("http://");
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    let head = format!("{line} HTTP/1.1\r\nHost: {address}\r\n{fields}\r\n");
    stream.write_all(&[head.as_bytes(), after].concat()).await.expect("an open connection");
    stream
}

/// The complete answer, until the server closes.
async fn answer(mut stream: TcpStream) -> String {
    let mut said = Vec::new();
    stream.read_to_end(&mut said).await.expect("an end in peace");
    String::from_utf8(said).expect("text")
}

/// A client's text frame, masked with zeros.
fn frame(text: &str) -> Vec<u8> {
    let length = u8::try_from(text.len()).ok().filter(|length| *length < 126).expect("a short text");
    [&[0x81, 0x80 | length, 0, 0, 0, 0], text.as_bytes()].concat()
}

#[tokio::test]
async fn what_is_no_websocket_answers_as_ever_and_ends_the_connection() {
    let server = Server::start().await;
    for (line, status) in [
        ("GET /api/v1/drops", "200 OK"),
        ("GET /healthz", "200 OK"),
        ("GET /openapi.json", "200 OK"),
        ("GET /api/v1/nowhere", "404 Not Found"),
        ("DELETE /api/v1/notifications", "405 Method Not Allowed"),
    ] {
        let said = answer(ask(&server, line, HANDSHAKE, b"").await).await;
        let (head, body) = said.split_once("\r\n\r\n").expect("a head");
        assert!(head.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{line}: {head}");
        assert!(head.to_lowercase().contains("\r\nconnection: close"), "{line}: {head}");
        let length = head.to_lowercase().split_once("content-length: ").expect("a length").1.to_owned();
        let length: usize = length.lines().next().and_then(|text| text.parse().ok()).expect("a number");
        assert_eq!(body.len(), length, "{line}");
    }
    let said = answer(ask(&server, "HEAD /api/v1/drops", HANDSHAKE, b"").await).await;
    assert!(said.starts_with("HTTP/1.1 200 OK\r\n") && said.ends_with("\r\n\r\n"), "{said}");
    // A streamed answer is complete.
    let (maker, drop) = server.live_drop(1, json!({})).await;
    let export = format!("GET /api/v1/drops/{drop}/orders/export");
    let said = answer(ask(&server, &export, &format!("{HANDSHAKE}{}", bearer(&maker)), b"").await).await;
    assert!(said.starts_with("HTTP/1.1 200 OK\r\n") && said.ends_with("\r\n0\r\n\r\n"), "{said}");
}

#[tokio::test]
async fn a_body_behind_an_upgrade_is_nobodys() {
    let server = Server::start().await;
    let (_, drop) = server.live_drop(1, json!({})).await;
    let buyer = server.account("buyer").await;
    let body = json!({"drop_id": drop, "quantity": 1}).to_string();
    let fields = format!(
        "{HANDSHAKE}{}Idempotency-Key: one\r\nContent-Type: application/json\r\nContent-Length: {}\r\n",
        bearer(&buyer),
        body.len(),
    );
    let said = answer(ask(&server, "POST /api/v1/orders", &fields, body.as_bytes()).await).await;
    assert!(said.starts_with("HTTP/1.1 400 ") && said.contains("application/problem+json"), "{said}");
    let (_, found) = server.get(&format!("/drops/{drop}"), None).await;
    assert_eq!(found["stock"]["available"], 1);
}

#[tokio::test]
async fn a_handshake_that_is_none_is_refused() {
    let server = Server::start().await;
    for fields in [
        "".to_owned(),
        HANDSHAKE.replace("Upgrade: websocket", "Upgrade: h2c"),
        HANDSHAKE.replace("Upgrade: websocket", "Upgrade: websocket, h2c"),
        HANDSHAKE.replace("Version: 13", "Version: 12"),
        HANDSHAKE.replace("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", ""),
        HANDSHAKE.replace("Connection: Upgrade\r\n", ""),
    ] {
        let mut stream = ask(&server, "GET /api/v1/notifications", &fields, b"").await;
        let mut said = [0; 12];
        stream.read_exact(&mut said).await.expect("an answer");
        assert_eq!(&said, b"HTTP/1.1 400", "{fields}");
    }
    assert_eq!(metrics::sample(&metrics::text(&server).await, "livedrop_sessions"), 0.0);
}

#[tokio::test]
async fn what_comes_with_the_handshake_is_heard() {
    let server = Server::start().await;
    let ping = frame(r#"{"op":"ping"}"#);
    // The second half of the second frame comes later.
    let after = [&ping[..], &ping[..5]].concat();
    let mut stream = ask(&server, "GET /api/v1/notifications", HANDSHAKE, &after).await;
    let mut said = Vec::new();
    let pongs = |said: &[u8]| said.windows(6).filter(|window| window == b"\"pong\"").count();
    while pongs(&said) < 1 {
        assert_ne!(stream.read_buf(&mut said).await.expect("an answer"), 0);
    }
    stream.write_all(&ping[5..]).await.expect("an open connection");
    while pongs(&said) < 2 {
        assert_ne!(stream.read_buf(&mut said).await.expect("an answer"), 0);
    }
    assert!(said.starts_with(b"HTTP/1.1 101 Switching Protocols\r\n"));
    // A close is answered, and the server closes first (RFC 6455, section 7.1.1).
    stream.write_all(&[0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8]).await.expect("an open connection");
    stream.read_to_end(&mut said).await.expect("an end in peace");
    assert!(said.ends_with(&[0x88, 2, 0x03, 0xe8]));
}

fn bearer(account: &Account) -> String {
    format!("Authorization: Bearer {}\r\n", account.token)
}
