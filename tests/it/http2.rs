//! HTTP/2 frame by frame, as no regular client would send it: streams that are not read, requests that are cancelled at
//! once, header blocks without an end.

use crate::metrics;
use crate::server::{SOON, Server};
use crate::tls::Identity;
use reqwest::Client;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const REFUSED_STREAM: u32 = 7;
const CANCEL: u32 = 8;
const ENHANCE_YOUR_CALM: u32 = 11;
/// 1.5 MB, the largest public answer.
const BUNDLE: &str = "/docs/swagger-ui-bundle.js";

struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

impl Frame {
    fn number(&self, at: usize) -> u32 {
        u32::from_be_bytes(self.payload[at..at + 4].try_into().expect("four bytes"))
    }
}

/// A connection after its preface.
struct Connection(TlsStream<TcpStream>);

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a small frame").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// The header block of a GET (RFC 7541): two entries of the static table, two literals.
fn get(path: &str) -> Vec<u8> {
    let text = |name: u8, text: &str| [&[name, u8::try_from(text.len()).expect("short")], text.as_bytes()].concat();
    [vec![0x82, 0x87], text(0x04, path), text(0x01, "localhost")].concat()
}

impl Connection {
    /// With this window for each stream.
    async fn open(server: &Server, identity: &Identity, window: u32) -> Self {
        let mut roots = RootCertStore::empty();
        let certificate = CertificateDer::from_pem_file(&identity.certificate).expect("a certificate");
        roots.add(certificate).expect("a root");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let versions = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let mut config = versions.expect("versions").with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let tcp = TcpStream::connect(server.base.trim_start_matches("https://")).await.expect("a connection");
        let name = ServerName::try_from("localhost").expect("a name");
        let tls = TlsConnector::from(Arc::new(config)).connect(name, tcp).await.expect("a handshake");
        let mut connection = Self(tls);
        let settings = [&4_u16.to_be_bytes()[..], &window.to_be_bytes()].concat();
        connection
            .send(&[b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frame(SETTINGS, 0, 0, &settings)].concat())
            .await;
        connection
    }

    /// Whether it could be sent.
    async fn try_send(&mut self, bytes: &[u8]) -> bool {
        self.0.write_all(bytes).await.is_ok() && self.0.flush().await.is_ok()
    }

    async fn send(&mut self, bytes: &[u8]) {
        assert!(self.try_send(bytes).await, "the connection is open");
    }

    /// The next frame; `None` at the connection's end. Acknowledges pings and settings, to look alive.
    async fn next(&mut self) -> Option<Frame> {
        tokio::time::timeout(SOON, self.read()).await.expect("a frame or an end, soon")
    }

    async fn read(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.0.read_exact(&mut head).await.ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        self.0.read_exact(&mut payload).await.ok()?;
        let stream = u32::from_be_bytes(head[5..].try_into().expect("four bytes"));
        let read = Frame { kind: head[3], flags: head[4], stream, payload };
        if [PING, SETTINGS].contains(&read.kind) && read.flags & 1 == 0 {
            let echo = if read.kind == PING { read.payload.as_slice() } else { &[] };
            self.try_send(&frame(read.kind, 1, 0, echo)).await;
        }
        Some(read)
    }
}

/// A server with TLS, and a client that trusts it.
fn start(more: &[&str]) -> (Server, Identity) {
    let identity = Identity::new();
    let mut setup = identity.setup();
    setup.extra.extend(more.iter().map(|flag| (*flag).to_owned()));
    let mut server = Server::set_up(setup);
    let client = Client::builder().use_rustls_tls().add_root_certificate(identity.root.clone()).timeout(SOON);
    server.http = client.build().expect("a client");
    (server, identity)
}

async fn counted(server: &Server, name: &str) -> u64 {
    metrics::sample(&metrics::text(server).await, name) as u64
}

#[tokio::test]
async fn streams_that_nobody_reads_are_few_share_their_memory_and_end_their_connection() {
    let (server, identity) = start(&["--send-timeout-ms", "2000"]);
    let bundle = server.http.get(format!("{}{BUNDLE}", server.base)).send().await.expect("an answer");
    assert!(bundle.bytes().await.expect("a body").len() > 1_000_000);
    let resident_kib = server.resident_kib();
    let mut connection = Connection::open(&server, &identity, 0).await;
    let requests: Vec<u8> =
        (0..1_000).flat_map(|n| frame(HEADERS, END_STREAM | END_HEADERS, 1 + 2 * n, &get(BUNDLE))).collect();
    connection.send(&requests).await;
    let (mut announced, mut answered, mut refused, mut grown_kib) = (None, 0, 0, 0);
    while let Some(read) = connection.next().await {
        match read.kind {
            SETTINGS if read.flags == 0 => {
                let settings = read.payload.chunks(6).find(|setting| setting[..2] == [0, 3]);
                announced = settings.map(|setting| u32::from_be_bytes(setting[2..].try_into().expect("four bytes")));
            }
            HEADERS => answered += 1,
            RST_STREAM if read.number(0) == REFUSED_STREAM => refused += 1,
            DATA => assert!(read.payload.is_empty(), "there is no window"),
            _ => {}
        }
        grown_kib = grown_kib.max(server.resident_kib().saturating_sub(resident_kib));
    }
    // It has ended, in spite of the acknowledgements.
    assert_eq!(announced, Some(100));
    assert_eq!(answered, 100, "as many as were announced");
    assert!(refused > 0);
    assert!(grown_kib < 32 << 10, "{grown_kib} KiB for one connection");
    assert_eq!(counted(&server, "livedrop_connections_aborted_total{reason=\"slow\"}").await, 1);
}

#[tokio::test]
async fn a_stream_that_is_not_taken_is_reset_and_others_go_on() {
    let (server, identity) = start(&["--send-timeout-ms", "1000"]);
    let mut connection = Connection::open(&server, &identity, 0).await;
    connection.send(&frame(HEADERS, END_STREAM | END_HEADERS, 1, &get(BUNDLE))).await;
    let (mut next, mut whole) = (3, 0);
    let mut ask = true;
    loop {
        if ask {
            let request = frame(HEADERS, END_STREAM | END_HEADERS, next, &get("/openapi.json"));
            let window = frame(WINDOW_UPDATE, 0, next, &(10_u32 << 20).to_be_bytes());
            connection.send(&[request, window].concat()).await;
            (next, ask) = (next + 2, false);
        }
        let read = connection.next().await.expect("the connection goes on");
        match read.kind {
            RST_STREAM => {
                assert_eq!((read.stream, read.number(0)), (1, CANCEL));
                break;
            }
            DATA => {
                assert_ne!(read.stream, 1);
                // Extends the connection's window, so that it never fills up.
                let taken = u32::try_from(read.payload.len()).expect("a frame");
                if taken > 0 {
                    connection.send(&frame(WINDOW_UPDATE, 0, 0, &taken.to_be_bytes())).await;
                }
                if read.flags & END_STREAM != 0 {
                    (whole, ask) = (whole + 1, true);
                }
            }
            _ => {}
        }
    }
    assert!(whole > 0);
    assert_eq!(counted(&server, "livedrop_connections_aborted_total{reason=\"slow_stream\"}").await, 1);
    assert_eq!(counted(&server, "livedrop_connections_aborted_total{reason=\"slow\"}").await, 0);
}

#[tokio::test]
async fn whoever_cancels_what_they_ask_is_sent_away() {
    let (server, identity) = start(&[]);
    let mut connection = Connection::open(&server, &identity, 0).await;
    let mut stream = 1;
    let mut goodbye = None;
    // Each request is running (its head is answered) before it is cancelled: a full queue alone would not show it.
    while goodbye.is_none() {
        assert!(stream < 2_000, "nobody has stopped it");
        let _ = connection.try_send(&frame(HEADERS, END_STREAM | END_HEADERS, stream, &get(BUNDLE))).await;
        loop {
            match connection.next().await {
                Some(read) if read.kind == GOAWAY => goodbye = Some(read.number(4)),
                Some(read) if read.kind == HEADERS => {
                    let _ = connection.try_send(&frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes())).await;
                }
                Some(_) => continue,
                None => {}
            }
            break;
        }
        stream += 2;
    }
    assert_eq!(goodbye, Some(ENHANCE_YOUR_CALM));
    while connection.next().await.is_some() {}
    assert_eq!(counted(&server, "livedrop_connections_aborted_total{reason=\"resets\"}").await, 1);
}

#[tokio::test]
async fn a_header_block_without_an_end_ends_its_connection() {
    let (server, identity) = start(&[]);
    let resident_kib = server.resident_kib();
    let mut connection = Connection::open(&server, &identity, 65_535).await;
    connection.send(&frame(HEADERS, END_STREAM, 1, &get("/healthz"))).await;
    // Literals that are never indexed, 16 KiB a frame.
    let literal = [&[0x00, 0x01, b'x', 0x7f, 0xfd, 0x7d][..], &[b'v'; 16_252]].concat();
    let mut sent = 0;
    while sent < 4_096 && connection.try_send(&frame(CONTINUATION, 0, 1, &literal)).await {
        sent += 1;
    }
    assert!(sent < 4_096, "64 MiB of headers were taken");
    assert!(server.resident_kib().saturating_sub(resident_kib) < 16 << 10);
    assert_eq!(server.get("/drops", None).await.0, 200);
}

#[tokio::test]
async fn a_stop_ends_idle_connections_and_answers_what_got_in() {
    let (mut server, identity) = start(&[]);
    let mut idle = Connection::open(&server, &identity, 65_535).await;
    idle.send(&frame(HEADERS, END_STREAM | END_HEADERS, 1, &get("/healthz"))).await;
    while !idle.next().await.is_some_and(|read| read.flags & END_STREAM != 0 && read.kind != SETTINGS) {}
    server.signal("TERM");
    let mut goodbye = None;
    while let Some(read) = idle.next().await {
        if read.kind == GOAWAY {
            goodbye = Some(read.number(4));
        }
    }
    assert_eq!(goodbye, Some(0));
    assert_eq!(server.wait(), Some(0));
}
