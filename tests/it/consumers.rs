//! Events sent to another system, and the journal's consumers in the view of an operator.

use crate::metrics::{sample, text};
use crate::server::{Server, Setup, livedrop};
use crate::target::{SILENT, Target};
use serde_json::{Value, json};
use sqlx::{Connection, SqliteConnection};
use std::path::Path;
use std::process::Output;

/// Runs `livedrop consumers …` beside the stopped server.
fn consumers(server: &Server, task: &[&str]) -> Output {
    consumers_of(&server.data, task)
}

fn consumers_of(data: &Path, task: &[&str]) -> Output {
    let mut command = livedrop();
    command.arg("consumers").args(task).arg("--data-dir").arg(data);
    command.output().expect("livedrop consumers runs")
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// A number in the database.
async fn number(server: &Server, sql: &'static str) -> Option<i64> {
    let url = format!("sqlite://{}", server.data.join("livedrop.db").display());
    let mut database = SqliteConnection::connect(&url).await.expect("the database");
    sqlx::query_scalar(sql).fetch_optional(&mut database).await.expect("a query")
}

/// The offset of events in the database.
async fn copied(server: &Server) -> f64 {
    let found = number(server, "SELECT sequence FROM consumer_offsets WHERE consumer = 'events'").await;
    found.map_or(-1.0, |sequence| sequence as f64)
}

async fn check(server: &Server, name: &str) -> Value {
    let (_, said) = server.readiness().await;
    let each = said["checks"]["consumers"]["each"].as_array().expect("a list").clone();
    each.into_iter().find(|consumer| consumer["name"] == name).unwrap_or_else(|| panic!("{name}: {said}"))
}

// Multi-threaded, because the target answers while the test waits for a process.
#[tokio::test(flavor = "multi_thread")]
async fn what_happens_is_sent_and_again_after_a_crash_and_what_is_refused_waits_for_its_operator() {
    let target = Target::open(204).await;
    let extra = vec!["--events-url".to_owned(), target.url.clone()];
    let mut server = Server::set_up(Setup { extra, quiet: true, ..Setup::default() });
    let (_, drop) = server.live_drop(5, json!({})).await;
    let ann = server.account("ann").await;
    let ask = json!({"drop_id": drop, "quantity": 1, "payment_method": "pm_sandbox_ok"});
    assert_eq!(server.order(&ann, "one", &ask).await.0, 201);
    server.until("it is sent", async || target.count("com.livedrop.order.confirmed.v1") == 1).await;
    let types: Vec<String> = target.events().iter().map(|event| event["type"].as_str().unwrap().to_owned()).collect();
    let short: Vec<&str> = types.iter().map(|kind| kind.trim_start_matches("com.livedrop.")).collect();
    assert_eq!(short, ["drop.scheduled.v1", "drop.started.v1", "order.reserved.v1", "order.confirmed.v1"]);
    assert!(target.events().iter().all(|event| event["specversion"] == "1.0" && event["partitionkey"] == drop));

    // A silent target delays nothing else, and after a kill the server sends the events that it had not accepted.
    target.answers(SILENT);
    assert_eq!(server.order(&ann, "two", &ask).await.0, 201);
    let asked = target.asked();
    server.until("it is asked", async || target.asked() > asked).await;
    assert!(check(&server, "events").await["lag_records"].as_u64() > Some(0));
    server.kill();
    target.answers(204);
    server.restart();
    server.until("it is sent", async || target.count("com.livedrop.order.confirmed.v1") == 2).await;

    // A permanently refused event is set aside, and later ones go on.
    target.answers(422);
    assert_eq!(server.order(&ann, "three", &ask).await.0, 201);
    server.until("it is set aside", async || check(&server, "events").await["dead_letters"] == 2).await;
    assert_eq!(server.readiness().await.1["checks"]["consumers"]["status"], "degraded");
    let counted = sample(&text(&server).await, "livedrop_consumer_dead_letters{consumer=\"events\"}");
    assert!((counted - 2.0).abs() < f64::EPSILON, "{counted}");
    target.answers(204);
    assert_eq!(server.order(&ann, "four", &ask).await.0, 201);
    server.until("the rest goes on", async || target.count("com.livedrop.order.confirmed.v1") == 3).await;
    let running = consumers(&server, &["list"]);
    assert!(!running.status.success() && said(&running).contains("a server runs"), "{}", said(&running));
    assert_eq!(server.terminate(), Some(0));

    let listed = said(&consumers(&server, &["list"]));
    assert_eq!(listed.lines().count(), 6, "{listed}");
    let line = |name: &str| listed.lines().find(|line| line.starts_with(name)).unwrap_or_default().to_owned();
    let fields = |name: &str| line(name).split_whitespace().take(4).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(
        (&fields("events")[1..2], &fields("events")[3]),
        (&["lags".to_owned()][..], &"2".to_owned()),
        "{listed}"
    );
    assert_eq!(fields("projector")[2], fields("events")[2], "both have everything: {listed}");
    let retried = consumers(&server, &["retry", "events", "--events-url", &target.url]);
    assert!(retried.status.success() && said(&retried).contains("taken 2"), "{}", said(&retried));
    assert_eq!(target.count("com.livedrop.order.confirmed.v1"), 4);

    // From the start, to a target without any events.
    assert!(!consumers(&server, &["reset", "refunds", "--to", "start"]).status.success());
    assert!(!consumers(&server, &["reset", "event", "--to", "start"]).status.success());
    let reset = consumers(&server, &["reset", "events", "--to", "start"]);
    assert!(reset.status.success(), "{}", said(&reset));
    let all = target.events().len();
    server.restart();
    server.until("nothing is behind", async || check(&server, "events").await["lag_records"] == 0).await;
    assert_eq!(target.events().len(), all, "the same events under the same ids");
    // Without its file beside the journal it continues from the copy in the database.
    let durable = sample(&text(&server).await, "livedrop_journal_durable_sequence");
    server.until("the database has the offset", async || (copied(&server).await - durable).abs() < f64::EPSILON).await;
    target.answers(SILENT);
    assert_eq!(server.order(&ann, "five", &ask).await.0, 201);
    server.kill();
    std::fs::remove_dir_all(server.data.join("consumers")).expect("it is there");
    target.answers(204);
    server.restart();
    server.until("it is sent", async || target.count("com.livedrop.order.confirmed.v1") == 5).await;
    for name in ["projector", "broadcaster", "refunds"] {
        server.until(name, async || check(&server, name).await["lag_records"] == 0).await;
        assert_eq!(check(&server, name).await["status"], "ready", "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_in_a_backup_and_a_restored_server_can_send_them() {
    let target = Target::open(422).await;
    let extra = vec!["--events-url".to_owned(), target.url.clone()];
    let mut server = Server::set_up(Setup { extra, quiet: true, ..Setup::default() });
    server.live_drop(5, json!({})).await;
    let in_database = "SELECT COUNT(*) FROM dead_letters WHERE consumer = 'events' AND reason LIKE '%422%'";
    server.until("the database has them", async || number(&server, in_database).await == Some(2)).await;
    assert_eq!(check(&server, "events").await["dead_letters"], 2);
    let folder = tempfile::tempdir().expect("a folder");
    let (backup, restored) = (folder.path().join("backup"), folder.path().join("restored"));
    let taken = livedrop().args(["backup", "--data-dir"]).arg(&server.data).arg("--to").arg(&backup).output();
    assert!(taken.as_ref().is_ok_and(|taken| taken.status.success()), "{taken:?}");
    assert_eq!(server.terminate(), Some(0));
    let made = livedrop().args(["restore", "--from"]).arg(&backup).arg("--data-dir").arg(&restored).output();
    assert!(made.as_ref().is_ok_and(|made| made.status.success()), "{made:?}");

    let dead = |listed: &str| {
        let line = listed.lines().find(|line| line.starts_with("events")).unwrap_or_default().to_owned();
        line.split_whitespace().nth(3).map(str::to_owned)
    };
    let listed = said(&consumers_of(&restored, &["list"]));
    assert_eq!(dead(&listed).as_deref(), Some("2"), "{listed}");
    let retry = ["retry", "events", "--events-url", &target.url];
    let refused = consumers_of(&restored, &retry);
    assert!(!refused.status.success() && said(&refused).contains("2 are left"), "{}", said(&refused));
    target.answers(204);
    let retried = consumers_of(&restored, &retry);
    assert!(retried.status.success() && said(&retried).contains("taken 2"), "{}", said(&retried));
    assert_eq!(target.count("com.livedrop.drop.scheduled.v1"), 1);
    let listed = said(&consumers_of(&restored, &["list"]));
    assert_eq!(dead(&listed).as_deref(), Some("0"), "{listed}");
}
