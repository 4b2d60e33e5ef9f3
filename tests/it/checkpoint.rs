//! Drops in memory are written to files, and a start reads them.

use crate::server::{Account, Server, Setup};
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;

fn set_up(seconds: &str) -> Server {
    let extra = ["--checkpoint-seconds", seconds, "--log", "info"].map(str::to_owned).to_vec();
    Server::set_up(Setup { extra, quiet: true, ..Setup::default() })
}

async fn order(server: &Server, who: &Account, drop: &str, key: &str) -> Value {
    let body = json!({"drop_id": drop, "quantity": 1, "payment_method": "pm_sandbox_ok"});
    let (status, order) = server.order(who, key, &body).await;
    assert_eq!(status, 201, "{order}");
    order
}

async fn metric(server: &Server, name: &str) -> f64 {
    let text = server.http.get(format!("{}/metrics", server.base)).send().await.unwrap().text().await.unwrap();
    let line = text.lines().find(|line| line.split([' ', '{']).next() == Some(name));
    line.and_then(|line| line.rsplit(' ').next()).map_or(0.0, |value| value.parse().unwrap())
}

/// What the last start said of a number.
fn said(server: &Server, field: &str) -> Option<u64> {
    let log = server.log();
    let line = log.lines().rfind(|line| line.contains("recovered") && line.contains("from_checkpoint"))?.to_owned();
    let at = line.find(&format!("{field}="))? + field.len() + 1;
    line[at..].split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

fn drop_file(server: &Server) -> PathBuf {
    let all = fs::read_dir(server.data.join("checkpoint")).unwrap().map(|entry| entry.unwrap().path());
    all.into_iter().find(|path| path.extension().is_some_and(|extension| extension == "drop")).expect("a drop's file")
}

/// Waits for a checkpoint that has all of what was done until now.
async fn checkpointed(server: &Server) {
    let before = metric(server, "livedrop_checkpoint_written_bytes_total").await;
    server
        .until("the checkpoint is written", async || {
            metric(server, "livedrop_checkpoint_written_bytes_total").await > before
                && server.data.join("checkpoint/manifest").exists()
                && metric(server, "livedrop_checkpoint_drops").await > 0.0
        })
        .await;
}

#[tokio::test]
async fn a_start_reads_the_checkpoint_and_the_journal_after_it() {
    let mut server = set_up("1");
    let (_, drop) = server.live_drop(100, json!({})).await;
    let ann = server.account("ann").await;
    let first = order(&server, &ann, &drop, "a").await;
    checkpointed(&server).await;
    let second = order(&server, &ann, &drop, "b").await;
    server.kill();
    let (code, report) = server.verify();
    assert_eq!((code, report["checkpoints"].as_u64()), (Some(0), Some(1)), "{report}");
    server.restart();
    assert_eq!(said(&server, "from_checkpoint"), Some(1), "{}", server.log());
    for (key, told) in [("a", &first), ("b", &second)] {
        assert_eq!(order(&server, &ann, &drop, key).await, *told);
    }
    assert_eq!(server.stock(&drop).await, (98, 0, 2));
    let (status, body) = server.readiness().await;
    assert_eq!((status, &body["status"]), (200, &json!("ready")), "{body}");
    assert_eq!(server.terminate(), Some(0));
    assert_eq!(server.verify().0, Some(0));
}

#[tokio::test]
async fn a_damaged_file_is_named_and_its_drop_comes_from_the_database() {
    let mut server = set_up("1");
    let (_, drop) = server.live_drop(100, json!({})).await;
    let ann = server.account("ann").await;
    let told = order(&server, &ann, &drop, "a").await;
    checkpointed(&server).await;
    server.kill();
    let file = drop_file(&server);
    let mut bytes = fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&file, bytes).unwrap();
    let (code, report) = server.verify();
    assert_eq!(code, Some(1), "{report}");
    assert!(report["findings"][0].as_str().unwrap().contains("checkpoint file"), "{report}");
    server.restart();
    assert_eq!(said(&server, "from_checkpoint"), Some(0));
    let name = file.file_name().unwrap().to_string_lossy().into_owned();
    let log = server.log();
    assert!(log.lines().any(|line| line.contains("WARN") && line.contains(&name) && line.contains("damaged")), "{log}");
    assert!(metric(&server, "livedrop_checkpoint_unusable_total").await >= 1.0);
    assert_eq!(server.readiness().await.0, 200);
    assert_eq!(order(&server, &ann, &drop, "a").await, told);
    assert_eq!(server.stock(&drop).await, (99, 0, 1));
    // And is written anew.
    checkpointed(&server).await;
    server.kill();
    assert_eq!(server.verify().0, Some(0));
}

#[tokio::test]
async fn without_checkpoints_none_stays() {
    let mut server = set_up("1");
    let (_, drop) = server.live_drop(5, json!({})).await;
    checkpointed(&server).await;
    assert_eq!(server.terminate(), Some(0));
    let extra = ["--checkpoint-seconds", "0"].map(str::to_owned).to_vec();
    let off = Server::set_up(Setup { extra, quiet: true, data: Some(server.data.clone()), ..Setup::default() });
    assert!(!server.data.join("checkpoint").exists());
    assert_eq!(off.stock(&drop).await, (5, 0, 0));
}

/// The disk takes nothing: sales go on, and one line says so.
#[tokio::test]
async fn a_folder_that_cannot_be_written_stops_no_sale() {
    let server = set_up("1");
    // A file where the folder would be.
    fs::write(server.data.join("checkpoint"), "").unwrap();
    let (_, drop) = server.live_drop(5, json!({})).await;
    let ann = server.account("ann").await;
    server
        .until("a round has failed", async || metric(&server, "livedrop_checkpoint_failures_total").await >= 2.0)
        .await;
    order(&server, &ann, &drop, "a").await;
    let log = server.log();
    let told = log.lines().filter(|line| line.contains("the checkpoint could not be completed")).count();
    assert_eq!(told, 1, "once for each reason: {log}");
}
