//! A client on a WebSocket.

use crate::server::{Account, SOON, Server};
use futures_util::{SinkExt, StreamExt};
use livedrop::domain::Timestamp;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async, tungstenite::Message};

/// One WebSocket connection.
pub struct Listener(pub WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Listener {
    pub async fn connect(server: &Server) -> Self {
        Self::with(server, "").await
    }

    /// Connects with a query.
    pub async fn with(server: &Server, query: &str) -> Self {
        let url = format!("{}/api/v1/notifications{query}", server.base.replace("http", "ws"));
        let mut listener = Self(connect_async(url).await.expect("a websocket").0);
        let hello = listener.until("hello").await;
        assert!(hello["reconnect"]["max_ms"].as_u64() > hello["reconnect"]["min_ms"].as_u64(), "{hello}");
        let server_time: Timestamp = hello["server_time"].as_str().expect("a time").parse().expect("a time");
        assert!(Timestamp::default() < server_time, "{hello}");
        listener
    }

    /// All messages up to the next one of that type, inclusive.
    pub async fn all_until(&mut self, kind: &str) -> Vec<Value> {
        let mut all = Vec::new();
        loop {
            if let Message::Text(text) = self.next().await {
                let event: Value = serde_json::from_str(&text).expect("JSON");
                let last = event["type"] == kind;
                all.push(event);
                if last {
                    return all;
                }
            }
        }
    }

    pub async fn of(server: &Server, who: &Account) -> Self {
        let mut listener = Self::connect(server).await;
        listener.send(json!({"op": "auth", "token": who.token})).await;
        listener.until("authenticated").await;
        listener
    }

    pub async fn send(&mut self, message: Value) {
        self.0.send(Message::text(message.to_string())).await.expect("an open socket");
    }

    pub async fn next(&mut self) -> Message {
        let next = tokio::time::timeout(SOON, self.0.next()).await;
        next.expect("a message soon").expect("an open socket").expect("a good frame")
    }

    /// Reads up to the next message of that type.
    pub async fn until(&mut self, kind: &str) -> Value {
        loop {
            if let Message::Text(text) = self.next().await {
                let event: Value = serde_json::from_str(&text).expect("JSON");
                if event["type"] == kind {
                    return event;
                }
            }
        }
    }

    pub async fn close_code(&mut self) -> u16 {
        self.close().await.0
    }

    /// Waits for the close; returns its code and reason.
    pub async fn close(&mut self) -> (u16, String) {
        loop {
            if let Message::Close(frame) = self.next().await {
                let frame = frame.expect("a reason");
                return (frame.code.into(), frame.reason.to_string());
            }
        }
    }
}
