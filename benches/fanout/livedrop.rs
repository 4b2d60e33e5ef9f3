//! `livedrop serve` with one drop, whose creator produces the events.

use crate::support::Serving;
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use livedrop::storage::{Creator, User};
use serde_json::{Value, json};
use std::net::SocketAddr;
use tempfile::TempDir;
use tokio::net::TcpStream;

/// The server, its drop's id, and the creator's access token.
pub struct LiveDrop {
    serving: Serving,
    pub address: SocketAddr,
    pub drop: String,
    pub token: String,
}

type Line = SendRequest<Full<Bytes>>;

impl LiveDrop {
    pub async fn start(folder: TempDir) -> Self {
        let serving = Serving::livedrop(folder, &["--workers", "2"]);
        let address = serving.address.parse().expect("an address");
        let mut server = Self { serving, address, drop: String::new(), token: String::new() };
        let mut line = server.line().await;
        let account = json!({"email": "maker@example.com", "password": "correct horse", "display_name": "Maker"});
        let account = server.post(&mut line, "auth/register", &account).await;
        server.token = account["access_token"].as_str().expect("a token").to_owned();
        server.post(&mut line, "creators", &json!({"handle": "maker", "display_name": "Maker"})).await;
        let product = json!({"name": "Jacket", "price": {"amount": 1999, "currency": "USD"}});
        let product = server.post(&mut line, "products", &product).await;
        let drop = server.post(&mut line, "drops", &json!({"product_id": product["id"], "stock": 1})).await;
        server.drop = drop["id"].as_str().expect("an id").to_owned();
        server
    }

    pub fn pid(&self) -> u32 {
        self.serving.pid()
    }

    /// The handshake of an anonymous viewer of the drop.
    pub fn watch(&self) -> String {
        format!(
            "GET /api/v1/notifications?topics=drop:{} HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            self.drop, self.address
        )
    }

    /// The handshake with the creator's token, for the follower's session.
    pub fn authenticated(&self) -> String {
        format!(
            "GET /api/v1/notifications HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\nConnection: Upgrade\r\n\
             Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            self.address, self.token
        )
    }

    /// Inserts `count` follows of the creator directly into the database; the API would take minutes.
    pub async fn follows_many(&self, database: &str, count: usize) {
        let store = livedrop::storage::connect(database).await.expect("the server's database");
        let maker = store.user_by_email("maker@example.com", "").await.expect("a database").expect("the maker");
        let now = maker.created_at;
        for n in 0..count {
            let id = livedrop::domain::UserId::new();
            let (email, display_name) = (format!("c{n}@example.com"), "c".to_owned());
            let user = User { id, email, email_key: None, display_name, ..maker.clone() };
            store.insert_user(&user).await.expect("a user");
            let (handle, display_name) = (format!("c{n:06}"), "c".to_owned());
            let creator =
                Creator { id: id.into(), handle, display_name, bio: String::new(), follower_count: 0, created_at: now };
            store.insert_creator(&creator).await.expect("a creator");
            store.follow(maker.id, creator.id, now).await.expect("a follow");
        }
        store.close().await;
    }

    /// Opens an HTTP connection for requests.
    pub async fn line(&self) -> Line {
        let stream = TcpStream::connect(self.address).await.expect("a connection");
        stream.set_nodelay(true).expect("a socket option");
        let (sender, connection) = handshake(TokioIo::new(stream)).await.expect("HTTP");
        tokio::spawn(connection);
        sender
    }

    async fn post(&self, line: &mut Line, path: &str, body: &Value) -> Value {
        let mut request = Request::builder().method(Method::POST).uri(format!("/api/v1/{path}"));
        request = request.header("host", self.address.to_string()).header("content-type", "application/json");
        if !self.token.is_empty() {
            request = request.header("authorization", format!("Bearer {}", self.token));
        }
        line.ready().await.expect("an open connection");
        let request = request.body(Full::from(body.to_string())).expect("a request");
        let answer = line.send_request(request).await.expect("an answer");
        let status = answer.status();
        let body = answer.into_body().collect().await.expect("a body").to_bytes();
        assert!(matches!(status, StatusCode::OK | StatusCode::CREATED), "{status} {}", String::from_utf8_lossy(&body));
        serde_json::from_slice(&body).expect("JSON")
    }

    /// Produces one `restocked` event, over the given connection.
    pub async fn restock(&self, line: &mut Line) {
        self.post(line, &format!("drops/{}/restock", self.drop), &json!({"quantity": 1})).await;
    }
}
