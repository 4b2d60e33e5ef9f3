//! HTTPS, with a certificate of the test.

use crate::server::{Server, Setup, livedrop};
use futures_util::{SinkExt, StreamExt};
use reqwest::{Certificate, Client, StatusCode, Version};
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Message, Role};

/// A certificate for this machine, and the two files for the server.
pub struct Identity {
    pub certificate: PathBuf,
    key: PathBuf,
    pub root: Certificate,
    _folder: TempDir,
}

impl Identity {
    pub fn new() -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let made = rcgen::generate_simple_self_signed(names).expect("a certificate");
        let (certificate, key) = (folder.path().join("tls.crt"), folder.path().join("tls.key"));
        fs::write(&certificate, made.cert.pem()).expect("it is written");
        fs::write(&key, made.signing_key.serialize_pem()).expect("it is written");
        let root = Certificate::from_pem(made.cert.pem().as_bytes()).expect("what was written");
        Self { certificate, key, root, _folder: folder }
    }

    pub fn setup(&self) -> Setup {
        let path = |path: &Path| path.to_str().expect("text").to_owned();
        let flags = [("--tls-certificate", &self.certificate), ("--tls-key", &self.key)];
        let extra = flags.into_iter().flat_map(|(flag, file)| [flag.to_owned(), path(file)]).collect();
        Setup { extra, ..Setup::default() }
    }
}

#[tokio::test]
async fn https_is_served_with_a_certificate() {
    let identity = Identity::new();
    let server = Server::set_up(identity.setup());
    assert!(server.base.starts_with("https://127.0.0.1:"), "{}", server.base);
    let client = || Client::builder().use_rustls_tls().add_root_certificate(identity.root.clone());
    let modern = client().build().expect("a client");
    let old = client().http1_only().build().expect("a client");
    for (client, version) in [(&modern, Version::HTTP_2), (&old, Version::HTTP_11)] {
        let answer = client.get(server.url("/drops")).send().await.expect("an answer");
        assert_eq!((answer.status(), answer.version()), (StatusCode::OK, version));
        assert_eq!(answer.headers()["strict-transport-security"], "max-age=63072000");
    }
    // Problems that end an HTTP/1 connection are normal answers in HTTP/2.
    let large = modern.post(server.url("/auth/login")).header("content-type", "application/json");
    let large = large.body("x".repeat(70_000)).send().await.expect("an answer");
    assert_eq!((large.status().as_u16(), large.version()), (413, Version::HTTP_2));
    let upgrade = old.get(server.url("/notifications")).header("connection", "upgrade").header("upgrade", "websocket");
    let upgrade = upgrade.header("sec-websocket-version", "13").header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
    let upgrade = upgrade.send().await.expect("an answer").upgrade().await.expect("a websocket");
    let mut session = WebSocketStream::from_raw_socket(upgrade, Role::Client, None).await;
    let ping = "p".repeat(125);
    session.send(Message::Ping(ping.clone().into())).await.expect("an open session");
    let mut said = Vec::new();
    while !said.contains(&Message::Pong(ping.clone().into())) {
        said.push(session.next().await.expect("an open session").expect("a good frame"));
    }
    assert!(said.iter().any(|message| message.to_text().is_ok_and(|text| text.contains("\"hello\""))), "{said:?}");
    session.close(None).await.expect("an open session");
    while session.next().await.is_some_and(|said| said.is_ok()) {}
    // A client that does not trust the certificate cannot connect, nor one without TLS.
    assert!(
        Client::builder().use_rustls_tls().build().expect("a client").get(server.url("/drops")).send().await.is_err()
    );
    let plain = server.url("/drops").replace("https://", "http://");
    assert!(modern.get(plain).send().await.is_err());
}

#[test]
fn a_bad_certificate_ends_the_start_with_one_line() {
    let (one, two) = (Identity::new(), Identity::new());
    let folder = TempDir::new().expect("a temporary folder");
    let mut command = livedrop();
    command.args(["serve", "--bind", "127.0.0.1:0", "--data-dir"]).arg(folder.path().join("data"));
    command.arg("--tls-certificate").arg(&one.certificate).arg("--tls-key").arg(&two.key);
    let output = command.output().expect("livedrop runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(said.starts_with("livedrop: tls_key: ") && said.contains("is not the key of"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(!folder.path().join("data").exists(), "nothing was touched");
}
