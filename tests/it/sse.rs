//! Server-sent events, received by curl.

use crate::packages;
use crate::server::{SOON, Server, problem};
use reqwest::Method;
use serde_json::{Value, json};
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

/// A curl process that receives a stream.
struct Stream {
    lines: Lines<BufReader<ChildStdout>>,
    head: String,
    _curl: Child,
}

#[derive(Debug)]
struct Event {
    id: Option<String>,
    kind: String,
    data: Value,
}

impl Stream {
    async fn open(server: &Server, query: &str, headers: &[String]) -> Self {
        packages::need("curl", "curl");
        let mut command = Command::new("curl");
        command.args(["-sSNi", "--max-time", "60"]).args(headers.iter().flat_map(|header| ["-H", header]));
        command.arg(server.url(&format!("/notifications/stream{query}"))).stdout(Stdio::piped()).kill_on_drop(true);
        let mut curl = command.spawn().expect("curl, which these tests need: install it");
        let mut lines = BufReader::new(curl.stdout.take().expect("its output")).lines();
        let mut head = String::new();
        while let Some(line) = next(&mut lines).await.filter(|line| !line.is_empty()) {
            head += &line.to_lowercase();
            head.push('\n');
        }
        Self { lines, head, _curl: curl }
    }

    async fn next(&mut self) -> Option<Event> {
        let (mut id, mut kind, mut data) = (None, String::new(), Value::Null);
        loop {
            let line = next(&mut self.lines).await?;
            match line.split_once(": ") {
                Some(("id", text)) => id = Some(text.to_owned()),
                Some(("event", text)) => kind = text.to_owned(),
                Some(("data", text)) => data = serde_json::from_str(text).expect("JSON"),
                _ if line.is_empty() && !kind.is_empty() => return Some(Event { id, kind, data }),
                _ => {}
            }
        }
    }

    async fn until(&mut self, kind: &str) -> Event {
        loop {
            let event = self.next().await.expect("an open stream");
            if event.kind == kind {
                return event;
            }
        }
    }
}

async fn next(lines: &mut Lines<BufReader<ChildStdout>>) -> Option<String> {
    tokio::time::timeout(SOON, lines.next_line()).await.expect("a line soon").expect("text")
}

#[tokio::test]
async fn a_stream_brings_events_and_goes_on_where_it_broke_off() {
    let mut server = Server::start().await;
    let (maker, drop) = server.live_drop(5, json!({"starts_at": "2099-01-01T00:00:00Z"})).await;
    let query = format!("?topics=drop:{drop}");
    let mut stream = Stream::open(&server, &query, &[]).await;
    for header in ["200 ok", "content-type: text/event-stream", "cache-control: no-cache", "x-accel-buffering: no"] {
        assert!(stream.head.contains(header), "{header} in {}", stream.head);
    }
    let hello = stream.next().await.expect("a greeting");
    assert_eq!(hello.kind, "hello");
    // Both times are from this machine's clock; the snapshot comes after the greeting.
    let greeted = hello.data["server_time"].as_str().expect("a time").to_owned();
    let snapshot = stream.next().await.expect("a snapshot");
    assert_eq!(snapshot.data["drops"][0]["status"], "scheduled");
    assert!(snapshot.data["server_time"].as_str() >= Some(greeted.as_str()), "{}", snapshot.data);
    let last = stream.until("subscribed").await.id.expect("an id");
    server.post(&format!("/drops/{drop}/start"), Some(&maker), json!({})).await;
    let started = stream.until("drop_started").await;
    assert_eq!(started.id.as_deref(), started.data["id"].as_str());
    drop_stream(stream);

    server.post(&format!("/drops/{drop}/end"), Some(&maker), json!({})).await;
    for restarted in [false, true] {
        if restarted {
            assert_eq!(server.terminate(), Some(0));
            server.restart();
        }
        for (query, headers) in
            [(query.clone(), vec![format!("Last-Event-ID: {last}")]), (format!("{query}&last_event_id={last}"), vec![])]
        {
            let mut back = Stream::open(&server, &query, &headers).await;
            let mut kinds = Vec::new();
            while kinds.last().is_none_or(|kind| kind != "subscribed") {
                kinds.push(back.next().await.expect("an open stream").kind);
            }
            assert_eq!(kinds, ["hello", "drop_started", "drop_ended", "subscribed"], "restarted: {restarted}");
        }
    }
}

fn drop_stream(stream: Stream) {
    drop(stream);
}

#[tokio::test]
async fn a_stream_can_be_somebodys() {
    let server = Server::start().await;
    let (_, drop) = server.live_drop(5, json!({})).await;
    let buyer = server.account("buyer").await;
    let (_, body) = server.call(Method::POST, "/notifications/ticket", Some(&buyer), None).await;
    let by_ticket = format!("?ticket={}", body["ticket"].as_str().expect("a ticket"));
    let mut streams = [
        Stream::open(&server, &by_ticket, &[]).await,
        Stream::open(&server, "", &[format!("Authorization: Bearer {}", buyer.token)]).await,
    ];
    for stream in &mut streams {
        stream.until("authenticated").await;
    }
    let order = json!({"drop_id": drop, "quantity": 1, "payment_method": "pm_sandbox_ok"});
    assert_eq!(server.order(&buyer, "1", &order).await.0, 201);
    for stream in &mut streams {
        stream.until("order_confirmed").await;
    }
}

#[tokio::test]
async fn what_a_stream_may_not_hear_is_a_problem_before_it_opens() {
    let server = Server::start().await;
    let get = async |query: String| server.get(&format!("/notifications/stream{query}"), None).await;
    problem(get("?topics=nonsense".into()).await, 400, "validation_failed");
    problem(get("?since=yesterday".into()).await, 400, "validation_failed");
    problem(get(format!("?topics=user:{}", uuid::Uuid::now_v7())).await, 401, "unauthenticated");
    problem(get("?ticket=used".into()).await, 401, "unauthenticated");
}

#[tokio::test]
async fn a_server_that_goes_says_when_to_come_back() {
    let mut server = Server::start().await;
    let mut stream = Stream::open(&server, "", &[]).await;
    stream.until("hello").await;
    assert_eq!(server.terminate(), Some(0));
    let close = stream.until("close").await;
    assert_eq!(close.data["code"], 1012);
    assert!(close.data["retry_ms"].as_u64().is_some());
    assert!(stream.next().await.is_none(), "the end");
}
