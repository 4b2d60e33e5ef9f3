//! Bounds on connections, timeouts of slow ones, and the effects of a crowd of connections on others.

use crate::listener::Listener;
use crate::metrics;
use crate::server::{Account, SOON, Server, Setup};
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

const HEALTH: &[u8] = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";

async fn connect(server: &Server) -> TcpStream {
    TcpStream::connect(server.base.trim_start_matches("http://")).await.expect("a connection")
}

/// The status of the answer to a request; `None` if the connection was closed without one. Never waits for long.
async fn status(socket: &mut TcpStream, request: &[u8]) -> Option<u16> {
    let _ = socket.write_all(request).await;
    let mut head = [0; 12];
    let read = tokio::time::timeout(SOON, socket.read_exact(&mut head)).await.expect("an answer or an end, soon");
    read.ok()?;
    std::str::from_utf8(&head[9..]).expect("text").parse().ok()
}

/// A connection that was answered and stays open.
async fn kept(server: &Server) -> Option<TcpStream> {
    let mut socket = connect(server).await;
    (status(&mut socket, HEALTH).await == Some(200)).then_some(socket)
}

async fn counted(server: &Server, name: &str) -> u64 {
    metrics::sample(&metrics::text(server).await, name) as u64
}

#[tokio::test]
async fn one_address_has_its_share_of_connections() {
    let server = Server::with(None, &["--connections-per-address-max", "4"]).await;
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(kept(&server).await.expect("a place"));
    }
    // A session counts as well.
    let session = Listener::connect(&server).await;
    for _ in 0..20 {
        let refused = status(&mut connect(&server).await, HEALTH).await;
        assert!(matches!(refused, None | Some(503)), "{refused:?}");
    }
    drop(session);
    held.pop();
    server.until("there is a place again", async || kept(&server).await.is_some()).await;
    drop(held);
    server.until("there are places again", async || kept(&server).await.is_some()).await;
    let refused = counted(&server, "livedrop_connections_refused_total{reason=\"address\"}").await;
    assert!(refused >= 20, "{refused}");

    let proxied = ["--connections-per-address-max", "2", "--trusted-proxies", "127.0.0.0/8"];
    let server = Server::with(None, &proxied).await;
    let mut crowd = Vec::new();
    for _ in 0..10 {
        crowd.push(kept(&server).await.expect("behind a proxy is a crowd"));
    }
}

#[tokio::test]
async fn a_crowd_past_the_limit_of_open_files_is_refused_and_orders_go_on() {
    let server = Server::set_up(Setup { open_files: Some(400), ..Setup::default() });
    let (_, drop) = server.live_drop(1_000, json!({})).await;
    let buyer = server.account("buyer").await;
    let mut held = Vec::new();
    let mut refused = 0;
    for _ in 0..600 {
        let mut socket = connect(&server).await;
        match status(&mut socket, HEALTH).await {
            Some(200) => held.push(socket),
            None | Some(503) => refused += 1,
            other => panic!("{other:?}"),
        }
    }
    // (400 - 256) less an eighth, and the connections of the test's own client.
    assert!((100..=126).contains(&held.len()), "{} are in, {refused} were refused", held.len());
    let order = |key: u32| {
        let body = json!({"drop_id": drop, "quantity": 1}).to_string();
        format!(
            "POST /api/v1/orders HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nIdempotency-Key: {key}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            buyer.token,
            body.len()
        )
    };
    let mut socket = held.pop().expect("one that is in");
    drain(&mut socket).await;
    assert_eq!(status(&mut socket, order(1).as_bytes()).await, Some(201));
    held.clear();
    server.until("a newcomer gets in", async || kept(&server).await.is_some()).await;
    assert_eq!(server.stock(&drop).await.1, 1);
    let full = counted(&server, "livedrop_connections_refused_total{reason=\"full\"}").await;
    assert!(full >= refused, "{full} of {refused}");
}

/// Reads the rest of an answer.
async fn drain(socket: &mut TcpStream) {
    let mut rest = [0; 4_096];
    while tokio::time::timeout(Duration::from_millis(50), socket.read(&mut rest)).await.is_ok_and(|read| read.is_ok()) {
    }
}

#[test]
fn too_few_open_files_end_the_start_with_one_line() {
    let folder = tempfile::TempDir::new().expect("a temporary folder");
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", "ulimit -n 256; exec \"$0\" serve --bind 127.0.0.1:0 --data-dir \"$1\""]);
    let output = shell.arg(env!("CARGO_BIN_EXE_livedrop")).arg(folder.path()).env("LIVEDROP_LOG", "warn").output();
    let output = output.expect("livedrop runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("the limit of open files") && said.lines().count() == 1, "{said}");
}

/// Schedules a drop whose record takes some 30 KiB in the journal.
async fn large_drop(server: &Server, maker: &Account, product: &str) -> u16 {
    let name = |n: usize| format!("{n:03}{}", "\u{1f600}".repeat(117));
    let variants: Vec<Value> = (0..64).map(|n| json!({"name": name(n), "stock": 1})).collect();
    let body = json!({"product_id": product, "variants": variants});
    server.post("/drops", Some(maker), body).await.0.as_u16()
}

/// The name of the journal's last segment.
fn last_segment(server: &Server) -> String {
    let files = std::fs::read_dir(server.data.join("journal")).expect("a journal");
    let names = files.filter_map(|file| file.ok()?.file_name().into_string().ok());
    names.filter(|name| name.ends_with(".seg")).max().expect("a segment")
}

#[tokio::test]
async fn a_journal_rotates_where_no_descriptor_is_left() {
    let mut server = Server::with(None, &["--journal-segment-mib", "8"]).await;
    let (maker, product) = server.creator("maker").await;
    assert_eq!(large_drop(&server, &maker, &product).await, 201);
    let pid = Pid::from_raw(i32::try_from(server.id()).expect("a process")).expect("a process");
    let usual = getrlimit(Resource::Nofile);
    // No number above those in use is left, and the gaps below are filled.
    let fds = || {
        let open = std::fs::read_dir(format!("/proc/{}/fd", server.id())).expect("a running process");
        open.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u64>().ok()).collect::<Vec<_>>()
    };
    let highest = fds().into_iter().max().expect("some");
    let mut fillers = Vec::new();
    while (fds().len() as u64) < highest + 1 {
        fillers.push(connect(&server).await);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let limit = fds().into_iter().max().expect("some") + 1;
    prlimit(Some(pid), Resource::Nofile, Rlimit { current: Some(limit), maximum: usual.maximum })
        .expect("a lower limit");
    let before = last_segment(&server);
    let mut made = 0;
    for _ in 0..700 {
        made += u32::from(large_drop(&server, &maker, &product).await == 201);
    }
    prlimit(Some(pid), Resource::Nofile, usual).expect("the usual limit");
    assert!(made > 500, "{made} drops were made; it serves on");
    server.until("a newcomer gets in", async || kept(&server).await.is_some()).await;
    assert_eq!(large_drop(&server, &maker, &product).await, 201);
    assert!(last_segment(&server) > before, "the journal went on into a new segment");
    drop(fillers);
    assert_eq!(server.terminate(), Some(0));
    assert_eq!(server.verify().0, Some(0));
}

#[tokio::test]
async fn a_reader_that_drips_is_ended_and_a_listener_that_is_idle_is_not() {
    let server = Server::with(None, &["--send-timeout-ms", "1000", "--keep-alive-ms", "60000"]).await;
    let (_, drop) = server.live_drop(1, json!({})).await;
    let mut events = connect(&server).await;
    let stream = format!("GET /api/v1/notifications/stream?topics=drop:{drop} HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(status(&mut events, stream.as_bytes()).await, Some(200));
    let session = Listener::with(&server, &format!("?topics=drop:{drop}")).await;
    let resident_kib = server.resident_kib();
    let mut readers = Vec::new();
    for _ in 0..20 {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(4_096).expect("a small buffer");
        let address = server.base.trim_start_matches("http://").parse().expect("an address");
        let mut reader = socket.connect(address).await.expect("a connection");
        // More than the kernel buffers.
        let requests = b"GET /docs/swagger-ui-bundle.js HTTP/1.1\r\nHost: x\r\n\r\n".repeat(8);
        reader.write_all(&requests).await.expect("it is sent");
        readers.push(tokio::spawn(async move {
            let mut read = 0_usize;
            while let Ok(bytes @ 1..) = reader.read(&mut [0; 64]).await {
                read += bytes;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            read
        }));
    }
    let began = Instant::now();
    let slow = "livedrop_connections_aborted_total{reason=\"slow\"}";
    while counted(&server, slow).await < 20 {
        assert!(began.elapsed() < SOON, "they are still there");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let grown_kib = server.resident_kib().saturating_sub(resident_kib);
    assert!(grown_kib < 32 << 10, "{grown_kib} KiB for 20 readers");
    readers.iter().for_each(tokio::task::JoinHandle::abort);
    // Both are still connected: they get the event of a sale.
    let buyer = server.account("buyer").await;
    assert_eq!(server.order(&buyer, "a", &json!({"drop_id": drop, "quantity": 1})).await.0, 201);
    let mut session = session;
    session.until("sold_out").await;
    let mut heard = String::new();
    while !heard.contains("sold_out") {
        let mut bytes = [0; 4_096];
        let read = tokio::time::timeout(SOON, events.read(&mut bytes)).await.expect("an event").expect("a stream");
        assert!(read > 0, "the stream has ended:\n{heard}");
        heard.push_str(&String::from_utf8_lossy(&bytes[..read]));
    }
}

#[tokio::test]
async fn half_a_body_does_not_hold_up_a_stop() {
    let head = "POST /api/v1/auth/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{";
    let mut server = Server::with(None, &["--body-timeout-ms", "600000", "--shutdown-seconds", "600"]).await;
    let mut silent = connect(&server).await;
    silent.write_all(head.as_bytes()).await.expect("it is sent");
    let mut trickling = connect(&server).await;
    trickling.write_all(head.as_bytes()).await.expect("it is sent");
    // The server has received both: this connection's request came after them.
    for _ in 0..8 {
        assert!(kept(&server).await.is_some());
    }
    let trickle = tokio::spawn(async move {
        while trickling.write_all(b" ").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    server.signal("TERM");
    assert_eq!(status(&mut silent, b"").await, Some(503));
    let ended = tokio::time::timeout(SOON, tokio::task::spawn_blocking(move || server.wait())).await;
    assert_eq!(ended.expect("an end, soon").expect("a thread"), Some(0));
    trickle.abort();
}
