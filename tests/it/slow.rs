//! Clients that do not read, on raw sockets: nothing waits for them, they use no more than their bound, and they are
//! disconnected within half a minute.

use crate::listener::Listener;
use crate::metrics::{sample, text};
use crate::server::{Account, Server};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;

/// How long a client that does not read may keep its connection: less than a ping needs to notice it.
const GONE_WITHIN: Duration = Duration::from_secs(15);

/// A WebSocket without a library: it reads only on demand. Its receive buffer is as small as the kernel allows.
async fn raw(server: &Server, drop: &str) -> TcpStream {
    let address = server.base.trim_start_matches("http://").parse().expect("an address");
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(4_096).expect("a small buffer");
    let mut stream = socket.connect(address).await.expect("a connection");
    let request = format!(
        "GET /api/v1/notifications?topics=drop:{drop} HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\n\
         Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.expect("an open connection");
    let mut head = Vec::new();
    while !head.windows(12).any(|window| window == b"\"subscribed\"") {
        head.push(stream.read_u8().await.expect("an answer"));
    }
    stream
}

/// A drop with large events: 64 variants, with their stock each.
async fn large_drop(server: &Server) -> (Account, String) {
    let variants: Vec<Value> = (0..64).map(|n| json!({"name": format!("v{n}"), "stock": 1})).collect();
    let (creator, product) = server.creator("maker").await;
    let body = json!({"product_id": product, "variants": variants});
    let (status, drop) = server.post("/drops", Some(&creator), body).await;
    assert_eq!(status, 201, "{drop}");
    (creator, drop["id"].as_str().expect("an id").to_owned())
}

async fn restock(server: &Server, maker: &Account, drop: &str, times: u32) {
    let (_, found) = server.get(&format!("/drops/{drop}"), None).await;
    let variant = found["variants"][0]["id"].clone();
    for _ in 0..times {
        let body = json!({"variant_id": variant, "quantity": 1});
        let (status, answer) = server.post(&format!("/drops/{drop}/restock"), Some(maker), body).await;
        assert_eq!(status, 200, "{answer}");
    }
}

/// The server's connections to clients of this test, as the kernel counts them.
fn connections(server: &Server) -> usize {
    let port: u16 = server.base.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
    let table = std::fs::read_to_string("/proc/net/tcp").expect("the kernel's table of connections");
    let ours = |line: &&str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        // 01: established. The server's side has its port in the local address.
        fields[1].ends_with(&format!(":{port:04X}")) && fields[3] == "01"
    };
    table.lines().skip(1).filter(ours).count()
}

#[tokio::test]
async fn clients_that_stop_reading_are_cut_and_delay_nobody() {
    let server = Server::start().await;
    let (maker, drop) = large_drop(&server).await;
    let mut quick = Listener::with(&server, &format!("?topics=drop:{drop}")).await;
    quick.until("subscribed").await;
    let before = connections(&server);
    let mut stopped = Vec::new();
    for _ in 0..20 {
        stopped.push(raw(&server, &drop).await);
    }
    assert!(connections(&server) >= before + 20);
    let resident_kib = server.resident_kib();
    // About 7 KiB each: more than the kernel's buffers, the connection's and the queue.
    let mut slowest = Duration::ZERO;
    for _ in 0..150 {
        let began = Instant::now();
        restock(&server, &maker, &drop, 1).await;
        quick.until("restocked").await;
        slowest = slowest.max(began.elapsed());
    }
    assert!(slowest < Duration::from_secs(5), "the quick one waited {slowest:?}");
    let grown_kib = server.resident_kib().saturating_sub(resident_kib);
    assert!(grown_kib < 64 << 10, "{grown_kib} KiB for 20 clients that do not read");
    let began = Instant::now();
    while connections(&server) > before {
        assert!(began.elapsed() < GONE_WITHIN, "{} are still there", connections(&server) - before);
        // It keeps reading, and so answers pings.
        let _ = tokio::time::timeout(Duration::from_millis(100), quick.next()).await;
    }
    restock(&server, &maker, &drop, 1).await;
    quick.until("restocked").await;
    // They notice the reset only now.
    for stream in &mut stopped {
        let mut rest = Vec::new();
        let ended = tokio::time::timeout(GONE_WITHIN, stream.read_to_end(&mut rest)).await;
        assert!(ended.is_ok(), "an end");
    }
}

/// Its kernel still acknowledges, so only the unanswered ping shows it. A path that loses all packets is ended by the
/// kernel's own limit (`TCP_USER_TIMEOUT`), which takes a network to test.
#[tokio::test]
async fn a_client_that_has_vanished_is_noticed_by_its_silence() {
    let server = Server::start().await;
    let (_, drop) = server.live_drop(5, json!({})).await;
    let before = connections(&server);
    let vanished = raw(&server, &drop).await;
    let began = Instant::now();
    while connections(&server) > before {
        assert!(began.elapsed() < Duration::from_secs(25 + 8 + 10), "still there");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    assert!(began.elapsed() > Duration::from_secs(25), "it had its time");
    std::mem::drop(vanished);
}

#[tokio::test]
async fn a_client_that_trickles_is_cut_too() {
    let server = Server::start().await;
    let (maker, drop) = large_drop(&server).await;
    let before = connections(&server);
    let mut stream = raw(&server, &drop).await;
    let trickle = tokio::spawn(async move {
        while stream.read_u8().await.is_ok() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    });
    restock(&server, &maker, &drop, 400).await;
    let began = Instant::now();
    while connections(&server) > before {
        assert!(began.elapsed() < GONE_WITHIN, "still there");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    trickle.abort();
}

/// Sends all of a body of 1 MiB but its last byte, and returns the head of the answer, if there is one.
async fn upload_all_but_the_end(address: String, token: String) -> String {
    let mut stream = TcpStream::connect(&address).await.expect("a connection");
    let head = format!(
        "POST /api/v1/products HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        1 << 20
    );
    stream.write_all(head.as_bytes()).await.expect("an open connection");
    // A server that has answered may close before it has received everything.
    let _ = stream.write_all(&vec![b' '; (1 << 20) - 1]).await;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => answer.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8(answer).expect("text").to_ascii_lowercase()
}

#[tokio::test]
async fn uploads_that_do_not_end_take_bounded_memory_and_stop_nobody() {
    const UPLOADS: usize = 200;
    let server = Server::with(None, &["--body-timeout-ms", "60000"]).await;
    let (maker, product) = server.creator("maker").await;
    let address = server.base.trim_start_matches("http://").to_owned();
    let resident_kib = server.resident_kib();
    let mut uploads = JoinSet::new();
    for _ in 0..UPLOADS {
        uploads.spawn(upload_all_but_the_end(address.clone(), maker.token.clone()));
    }
    // 64 MiB are the bound, and each upload takes from one to two.
    let measured = async |name: &str| sample(&text(&server).await, name);
    server.until("there is no room for more", async || measured("livedrop_bodies_refused_total").await >= 130.0).await;
    let arriving = measured("livedrop_arriving_bytes").await;
    assert!((1.0..=f64::from(64 << 20)).contains(&arriving), "{arriving}");
    let grown_kib = server.resident_kib().saturating_sub(resident_kib);
    assert!(grown_kib < 192 << 10, "{grown_kib} KiB for {UPLOADS} uploads");
    // A body that arrives at once is still accepted.
    let (status, drop) = server.post("/drops", Some(&maker), json!({"product_id": product, "stock": 1})).await;
    assert_eq!(status, 201, "{drop}");
    let refused = loop {
        let answer = uploads.join_next().await.expect("an upload").expect("no panic");
        // A connection that was reset before it could be read shows nothing.
        if !answer.is_empty() {
            break answer;
        }
    };
    assert!(refused.starts_with("http/1.1 503") && refused.contains("\r\nretry-after: 5\r\n"), "{refused}");
    uploads.shutdown().await;
    server.until("the room is given back", async || measured("livedrop_arriving_bytes").await < 1.0).await;
}
