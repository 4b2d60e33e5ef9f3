//! SIGTERM under load: accepted requests are answered.
//!
//! *Accepted* means that all bytes of a request were handed to the kernel before the signal was sent, on a new or a
//! used connection. Such a request gets a complete response. A later one gets a complete response or none, and never a
//! part of one. These clients speak HTTP by hand, because a client library hides what happens to a connection.

use crate::crowd::{Crowd, verified};
use crate::kills::crowded;
use crate::progress::counted;
use crate::server::{Account, Server};
use crate::{Outcome, Row, Scale};
use futures_util::future::join_all;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// Far less than the 30 seconds that a supervisor waits before it kills.
const ENDS_WITHIN: Duration = Duration::from_secs(10);

pub fn rows() -> Vec<Row> {
    vec![
        Row::new("SIGTERM under 64 clients", |scale: Scale| terminated(scale.of(20, 200))),
        Row::new("SIGTERM as soon as it listens", |scale: Scale| at_once(scale.of(10, 100))),
    ]
}

/// One request and its result.
struct Sent {
    key: String,
    body: Value,
    /// When the kernel had all its bytes.
    at: Instant,
    got: Got,
}

#[derive(PartialEq, Debug)]
enum Got {
    Answer { status: u16, body: Value, closing: bool },
    Nothing,
    Part,
}

async fn terminated(runs: u64) -> Outcome {
    let (mut server, mut crowd) = crowded(None).await;
    let (mut inside, mut later, mut turned_away, mut slowest) = (0, 0, 0, Duration::ZERO);
    for run in counted(runs) {
        let sale = crowd.open(&server, 100_000).await;
        let sent = join_all(crowd.buyers.iter().enumerate().map(|(n, buyer)| {
            // A quarter of the clients open a new connection for each request.
            keep_asking(&server, buyer, &sale.drop, n % 4 == 0)
        }));
        let ending = async {
            tokio::time::sleep(Duration::from_millis(60 + run * 13)).await;
            let signalled = Instant::now();
            server.signal("TERM");
            signalled
        };
        let (sent, signalled) = tokio::join!(sent, ending);
        assert_eq!(server.ended().code(), Some(0), "{}", server.log());
        let took = signalled.elapsed();
        assert!(took < ENDS_WITHIN, "{took:?}");
        slowest = slowest.max(took);
        assert_eq!(verified(&server)["unprojected_records"], 0);
        server.restart();
        for (buyer, sent) in crowd.buyers.iter().zip(&sent) {
            for one in sent {
                match &one.got {
                    Got::Answer { .. } if one.at < signalled => inside += 1,
                    Got::Answer { .. } => later += 1,
                    Got::Nothing if one.at >= signalled => turned_away += 1,
                    got => panic!(
                        "{got:?} for {} sent {:?} before the signal",
                        one.key,
                        signalled.checked_duration_since(one.at)
                    ),
                }
            }
            // The last ones raced with the signal.
            for one in sent.iter().rev().take(2) {
                let Got::Answer { status: 201, body, .. } = &one.got else { continue };
                let (status, again) = server.order(buyer, &one.key, &one.body).await;
                assert_eq!((status.as_u16(), &again), (201, body), "{}", one.key);
            }
        }
        crowd.renew(&server).await;
    }
    let said = format!(
        "all {inside} requests that got in were answered whole; of those sent later {later} were answered and \
         {turned_away} turned away, none in part; exit 0 within {:.1} s; verify clean, nothing left to project",
        slowest.as_secs_f64()
    );
    Outcome::of(format!("{runs} signals"), said)
}

/// Orders until there is no connection any more.
async fn keep_asking(server: &Server, buyer: &Account, drop: &str, always_new: bool) -> Vec<Sent> {
    let address = server.base.trim_start_matches("http://").to_owned();
    let (mut sent, mut connection) = (Vec::new(), None);
    for n in 0.. {
        let mut open = match connection.take() {
            Some(open) => open,
            None => match TcpStream::connect(&address).await {
                Ok(open) => open,
                Err(_) => break,
            },
        };
        let key = format!("{}-{n}-{drop}", buyer.id);
        let method = [Value::Null, json!("pm_sandbox_ok")][n % 2].clone();
        let body = json!({"drop_id": drop, "quantity": 1, "payment_method": method});
        let text = body.to_string();
        let request = format!(
            "POST /api/v1/orders HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {}\r\nidempotency-key: {key}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{text}",
            buyer.token,
            text.len()
        );
        // Not sent in full: it was not accepted.
        if open.write_all(request.as_bytes()).await.is_err() {
            break;
        }
        let at = Instant::now();
        let got = response(&mut open).await;
        let goes_on = matches!(got, Got::Answer { .. });
        if goes_on && !always_new && !matches!(got, Got::Answer { closing: true, .. }) {
            connection = Some(open);
        }
        sent.push(Sent { key, body, at, got });
        if !goes_on {
            break;
        }
    }
    sent
}

async fn response(connection: &mut TcpStream) -> Got {
    let mut bytes = Vec::new();
    loop {
        if let Some(whole) = parse(&bytes) {
            return whole;
        }
        match connection.read_buf(&mut bytes).await {
            Ok(1..) => {}
            _ if bytes.is_empty() => return Got::Nothing,
            _ => return Got::Part,
        }
    }
}

/// The response, if it is complete.
fn parse(bytes: &[u8]) -> Option<Got> {
    let text = std::str::from_utf8(bytes).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let head = head.to_ascii_lowercase();
    let header =
        |name: &str| head.lines().find_map(|line| Some(line.strip_prefix(name)?.trim_start_matches(':').trim()));
    let length: usize = header("content-length")?.parse().ok()?;
    let body = serde_json::from_str(body.get(..length)?).ok()?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some(Got::Answer { status, body, closing: header("connection") == Some("close") })
}

async fn at_once(runs: u64) -> Outcome {
    let (mut server, _): (Server, Crowd) = crowded(None).await;
    for _ in counted(runs) {
        assert_eq!(server.terminate(), Some(0), "{}", server.log());
        server.restart();
    }
    Outcome::of(format!("{runs} signals"), "exit 0 each time")
}
