//! `kill -9`, restart, audit.

use crate::server::{Account, Server, livedrop};
use livedrop::domain::{DropEvent, DropRecord, Timestamp};
use livedrop::journal::FileDevice;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

/// Orders until the server is gone, and remembers every answer.
async fn order_until_gone(server: &Server, buyer: &Account, drop: &str) -> Vec<(String, Value, u16, Value)> {
    let mut told = Vec::new();
    for n in 0.. {
        let key = format!("{}-{n}", buyer.id);
        let method = [Value::Null, json!("pm_sandbox_ok"), json!("pm_sandbox_declined")][n % 3].clone();
        let body = json!({"drop_id": drop, "quantity": 1, "payment_method": method});
        let Ok(response) = server.order_raw(buyer, &key, &body).await else { break };
        let status = response.status().as_u16();
        let Ok(answer) = response.json().await else { break };
        told.push((key, body, status, answer));
    }
    told
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_kill_9_and_answers_the_same() {
    let mut server = Server::start().await;
    let (_, drop) = server.live_drop(100_000, json!({"hold_seconds": 600})).await;
    let buyers = futures_util::future::join_all((0..32).map(|_| server.account("buyer"))).await;
    for round in 0..3 {
        let told = {
            let racing =
                futures_util::future::join_all(buyers.iter().map(|buyer| order_until_gone(&server, buyer, &drop)));
            let killer = async {
                tokio::time::sleep(Duration::from_millis(300 + 150 * round)).await;
                server.signal("KILL");
            };
            tokio::join!(racing, killer).0
        };
        server.kill();
        server.restart();
        assert!(told.iter().map(Vec::len).sum::<usize>() > 32, "the crowd got something done");
        for (buyer, answers) in buyers.iter().zip(&told) {
            // The last few are the interesting ones; the audit below checks them all.
            for (key, body, status, first) in answers.iter().rev().take(5) {
                let (again_status, again) = server.order(buyer, key, body).await;
                assert_eq!((again_status.as_u16(), &again), (*status, first));
            }
        }
        server.stock(&drop).await;
    }
    assert_eq!(server.terminate(), Some(0));
    let (code, report) = server.verify();
    assert_eq!(code, Some(0), "{report}");
    assert_eq!(report["unprojected_records"], 0, "a graceful end leaves nothing to project: {report}");
}

#[tokio::test]
async fn sigterm_ends_cleanly_and_a_second_start_goes_on() {
    let mut server = Server::start().await;
    let (_, drop) = server.live_drop(5, json!({"hold_seconds": 600})).await;
    let ann = server.account("ann").await;
    let body = json!({"drop_id": drop, "quantity": 2});
    let (_, order) = server.order(&ann, "k", &body).await;
    assert_eq!(server.terminate(), Some(0));
    assert_eq!(server.verify().0, Some(0));
    server.restart();
    assert_eq!(server.stock(&drop).await, (3, 2, 0));
    assert_eq!(server.order(&ann, "k", &body).await.1, order);
}

/// A running server's writes would look like damage.
#[tokio::test]
async fn a_server_that_runs_is_not_audited() {
    let mut server = Server::start().await;
    let mut verify = livedrop();
    verify.args(["verify", "--data-dir"]).arg(&server.data);
    let refused = verify.output().expect("livedrop runs");
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!((refused.status.code(), told.lines().count(), refused.stdout.len()), (Some(2), 1, 0), "{told}");
    assert!(told.contains("stop it first"), "{told}");
    assert_eq!(server.terminate(), Some(0));
    assert_eq!(verify.output().expect("livedrop runs").status.code(), Some(0));
}

/// The sockets close only after their received bytes were read.
#[tokio::test]
async fn what_was_sent_before_sigterm_is_answered() {
    let mut server = Server::start().await;
    let (_, drop) = server.live_drop(1_000, json!({})).await;
    let address = server.base.trim_start_matches("http://").to_owned();
    let request = format!("GET /api/v1/drops/{drop} HTTP/1.1\r\nhost: {address}\r\n\r\n");
    let mut connections = Vec::new();
    for _ in 0..200 {
        connections.push(TcpStream::connect(&address).expect("a connection"));
    }
    for connection in &mut connections {
        connection.write_all(request.as_bytes()).expect("the kernel has it");
    }
    assert_eq!(server.terminate(), Some(0));
    for mut connection in connections {
        let mut answer = String::new();
        connection.read_to_string(&mut answer).expect("an answer, and a close");
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with('}'), "{answer}");
    }
}

#[tokio::test]
async fn sigterm_is_heard_from_the_first_moment() {
    let mut server = Server::start().await;
    for _ in 0..5 {
        assert_eq!(server.terminate(), Some(0), "a clean end, not a death by signal");
        server.restart();
    }
}

/// Requests must not retry against a failed journal.
#[tokio::test(flavor = "multi_thread")]
async fn a_failed_sync_answers_whoever_waits_and_ends_the_process() {
    let mut server = Server::start().await;
    let (_, drop) = server.live_drop(1_000, json!({"hold_seconds": 600})).await;
    let buyers = futures_util::future::join_all((0..16).map(|_| server.account("buyer"))).await;
    server.arm("journal.before_sync=error@3");
    let told = futures_util::future::join_all(buyers.iter().map(|buyer| order_until_gone(&server, buyer, &drop))).await;
    assert_eq!(server.ended().code(), Some(1));
    let unknown =
        |(_, _, status, answer): &&(String, Value, u16, Value)| *status == 503 && answer["code"] == "outcome_unknown";
    assert!(told.iter().flatten().filter(unknown).count() > 0, "{told:?}");
    server.disarm();
    server.restart();
    for (buyer, answers) in buyers.iter().zip(&told) {
        for (key, body, _, first) in answers.iter().filter(|(_, _, status, _)| *status == 201) {
            assert_eq!(server.order(buyer, key, body).await.1, *first);
        }
    }
}

fn in_ms(ms: u64) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_millis();
    Timestamp::from_millis(i64::try_from(now).expect("a time") + ms as i64).to_string()
}

#[tokio::test]
async fn a_start_that_was_missed_happens_at_once() {
    let mut server = Server::start().await;
    let (_, drop) = server.live_drop(5, json!({"starts_at": in_ms(1_000)})).await;
    server.kill();
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    server.restart();
    server.until("live", async || server.get(&format!("/drops/{drop}"), None).await.1["status"] == "live").await;
}

#[tokio::test]
async fn a_drop_starts_once_however_often_the_server_dies_around_its_start() {
    let mut server = Server::start().await;
    let (maker, product) = server.creator("maker").await;
    let mut drops = Vec::new();
    for round in 0..6 {
        let body = json!({"product_id": product, "stock": 5, "starts_at": in_ms(40)});
        let (status, drop) = server.post("/drops", Some(&maker), body).await;
        assert_eq!(status, 201, "{drop}");
        drops.push(drop["id"].as_str().expect("an id").to_owned());
        // Before, around and after the start.
        tokio::time::sleep(Duration::from_millis(round * 15)).await;
        server.kill();
        server.restart();
    }
    for drop in &drops {
        server.until("live", async || server.get(&format!("/drops/{drop}"), None).await.1["status"] == "live").await;
    }
    server.kill();
    let journal = FileDevice::new(server.data.join("journal")).expect("a journal");
    let mut starts: BTreeMap<String, u32> = BTreeMap::new();
    let mut count = |_: u64, payload: &[u8]| {
        let record = DropRecord::decode(payload).expect("a record");
        if record.event == DropEvent::Started {
            *starts.entry(record.drop.to_string()).or_default() += 1;
        }
    };
    livedrop::journal::scan(&journal, &mut count).expect("a journal without damage");
    assert_eq!(starts, drops.into_iter().map(|drop| (drop, 1)).collect());
}
