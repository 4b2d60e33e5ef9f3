//! Third-party clients: Python's `websockets`, Node's `ws` and `eventsource`. Their packages are installed once, into
//! the build directory; where that is not possible the tests fail with a message.

use crate::listener::Listener;
use crate::node::{run, script};
use crate::packages;
use crate::server::Server;
use serde_json::{Value, json};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::OnceLock;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio_tungstenite::connect_async;

const WEBSOCKETS: &str = "websockets==15.0.1";
/// Time limit for a client that waits before it reconnects.
const PATIENCE: Duration = Duration::from_secs(60);

/// A Python interpreter with `websockets`.
fn python() -> &'static Path {
    static PYTHON: OnceLock<PathBuf> = OnceLock::new();
    PYTHON.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("python");
        let python = folder.join("bin/python");
        let known = folder.join(WEBSOCKETS);
        if !known.exists() {
            packages::need_python();
            let what = "this test needs python3 with venv and pip, and a package index (apt-get install python3-venv)";
            run(what, std::process::Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder));
            run(what, std::process::Command::new(&python).args(["-m", "pip", "install", "-q", WEBSOCKETS]));
            std::fs::write(known, "").expect("a mark");
        }
        python
    })
}

fn address(server: &Server) -> &str {
    server.base.trim_start_matches("http://")
}

#[tokio::test]
async fn pythons_websockets_finds_nothing_wrong() {
    let server = Server::start().await;
    let (_, drop) = server.live_drop(5, json!({})).await;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/conformance.py");
    run("conformance.py", std::process::Command::new(python()).args([script, address(&server), &drop]));
}

#[tokio::test]
async fn nodes_ws_finds_nothing_wrong() {
    let server = Server::start().await;
    let (_, drop) = server.live_drop(5, json!({})).await;
    run(
        "conformance.mjs",
        std::process::Command::new("node").arg(script("conformance.mjs")).args([address(&server), &drop]),
    );
}

/// A client that prints its messages.
struct Hearer {
    lines: Lines<BufReader<ChildStdout>>,
    _node: Child,
}

impl Hearer {
    fn start(name: &str, arguments: &[&str]) -> Self {
        let mut command = Command::new("node");
        command.arg(script(name)).args(arguments).stdout(Stdio::piped()).kill_on_drop(true);
        let mut node = command.spawn().expect("node, which this test needs: install it");
        let lines = BufReader::new(node.stdout.take().expect("its output")).lines();
        Self { lines, _node: node }
    }

    /// All messages up to the next one of that type, inclusive.
    async fn until(&mut self, kind: &str) -> Vec<Value> {
        let mut all = Vec::new();
        while all.last().is_none_or(|last: &Value| last["type"] != kind) {
            let line = tokio::time::timeout(PATIENCE, self.lines.next_line()).await.expect("a message soon");
            all.push(serde_json::from_str(&line.expect("text").expect("a client that goes on")).expect("JSON"));
        }
        all
    }
}

fn kinds(messages: &[Value]) -> Vec<&str> {
    messages.iter().filter_map(|message| message["type"].as_str()).collect()
}

#[tokio::test]
async fn the_shipped_client_misses_nothing_over_a_crash() {
    let mut server = Server::start().await;
    let (maker, drop) = server.live_drop(5, json!({})).await;
    let restock = async |server: &Server| {
        let (status, answer) =
            server.post(&format!("/drops/{drop}/restock"), Some(&maker), json!({"quantity": 1})).await;
        assert_eq!(status, 200, "{answer}");
    };
    let mut client = Hearer::start("reference.mjs", &[address(&server), &format!("drop:{drop}"), &maker.token]);
    let mut heard = client.until("authenticated").await;
    restock(&server).await;
    heard.extend(client.until("restocked").await);
    server.kill();
    server.restart();
    restock(&server).await;
    heard.extend(client.until("authenticated").await);
    restock(&server).await;
    // The client may have reconnected before the first of them.
    while kinds(&heard).iter().filter(|kind| **kind == "restocked").count() < 3 {
        heard.extend(client.until("restocked").await);
    }
    let totals: Vec<&Value> =
        heard.iter().filter(|event| event["type"] == "restocked").map(|event| &event["stock"]["total"]).collect();
    assert_eq!(totals, [6, 7, 8], "{heard:?}");
    heard.iter().for_each(is_documented);
}

#[tokio::test]
async fn an_event_source_goes_on_by_itself_over_a_restart() {
    let mut server = Server::start().await;
    let (maker, drop) = server.live_drop(5, json!({"starts_at": "2099-01-01T00:00:00Z"})).await;
    let mut source = Hearer::start("eventsource.mjs", &[address(&server), &format!("drop:{drop}")]);
    assert_eq!(kinds(&source.until("subscribed").await), ["hello", "snapshot", "subscribed"]);
    assert_eq!(server.terminate(), Some(0));
    source.until("close").await;
    server.restart();
    server.post(&format!("/drops/{drop}/start"), Some(&maker), json!({})).await;
    let back = source.until("drop_started").await;
    assert!(!kinds(&back).contains(&"snapshot"), "{back:?}");
    server.post(&format!("/drops/{drop}/end"), Some(&maker), json!({})).await;
    source.until("drop_ended").await;
}

/// A session, with all its messages.
struct Talk {
    listener: Listener,
    lines: String,
}

impl Talk {
    async fn says(&mut self, message: Value) {
        self.lines += &format!("> {message}\n");
        self.listener.send(message).await;
    }

    async fn hears(&mut self, kind: &str) -> Value {
        let all = self.listener.all_until(kind).await;
        self.lines.extend(all.iter().map(|message| format!("< {message}\n")));
        all.into_iter().last().expect("the one waited for")
    }
}

#[tokio::test]
async fn everything_that_is_said_is_described() {
    let server = Server::start().await;
    let (maker, drop) =
        server.live_drop(3, json!({"starts_at": "2099-01-01T00:00:00Z", "low_stock_threshold": 1})).await;
    let ann = server.account("ann").await;
    let (url, _) =
        connect_async(format!("{}/api/v1/notifications", server.base.replace("http", "ws"))).await.expect("ws");
    let mut talk = Talk { listener: Listener(url), lines: String::new() };
    talk.hears("hello").await;
    let topic = format!("drop:{drop}");
    talk.says(json!({"op": "auth", "token": ann.token, "topics": [topic]})).await;
    let id = talk.hears("authenticated").await["id"].clone();
    talk.says(json!({"op": "auth", "token": ann.token})).await;
    talk.hears("authenticated").await;
    let creator = format!("creator:{}", maker.id);
    talk.says(json!({"op": "subscribe", "topics": [creator], "since": id})).await;
    talk.hears("subscribed").await;
    talk.says(json!({"op": "unsubscribe", "topics": [creator]})).await;
    talk.hears("unsubscribed").await;
    talk.says(json!({"op": "subscribe", "topics": [format!("user:{}", maker.id)]})).await;
    talk.hears("error").await;
    talk.says(json!({"op": "ping"})).await;
    talk.hears("pong").await;

    let ask = async |path: &str, body: Value| {
        let (status, answer) = server.post(&format!("/drops/{drop}/{path}"), Some(&maker), body).await;
        assert_eq!(status, 200, "{answer}");
    };
    ask("reschedule", json!({"starts_at": "2098-01-01T00:00:00Z", "ends_at": "2099-01-01T00:00:00Z"})).await;
    talk.hears("drop_rescheduled").await;
    ask("start", json!({})).await;
    talk.hears("drop_started").await;
    let order = async |key: &str, quantity: u32, method: Option<&str>| {
        let body = json!({"drop_id": drop, "quantity": quantity, "payment_method": method});
        server.order(&ann, key, &body).await
    };
    order("declined", 1, Some("pm_sandbox_declined")).await;
    talk.hears("order_released").await;
    order("bought", 2, Some("pm_sandbox_ok")).await;
    let confirmed = talk.hears("order_confirmed").await;
    order("held", 1, None).await;
    talk.hears("sold_out").await;
    ask("restock", json!({"quantity": 1})).await;
    talk.hears("restocked").await;
    order("held again", 1, None).await;
    talk.hears("stock_changed").await;
    talk.says(json!({"op": "ack", "ids": [confirmed["id"]]})).await;
    talk.hears("acknowledged").await;
    for body in [json!({"ids": [confirmed["id"]]}), json!({"up_to": confirmed["id"]})] {
        server.post("/users/me/notifications/read", Some(&ann), body).await;
        talk.hears("inbox_changed").await;
    }
    server.post("/users/me/notifications/acknowledge", Some(&ann), json!({"ids": [confirmed["id"]]})).await;
    talk.hears("inbox_changed").await;
    ask("cancel", json!({})).await;
    talk.hears("drop_cancelled").await;
    talk.hears("order_refunded").await;

    let mut node = std::process::Command::new("node");
    let mut node = node.arg(script("asyncapi.mjs")).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("node");
    node.stdin.take().expect("its input").write_all(talk.lines.as_bytes()).expect("it listens");
    let output = node.wait_with_output().expect("its end");
    assert!(output.status.success(), "see above");
    let all = "ack acknowledged auth authenticated drop error hello inbox_changed order ping pong snapshot subscribe subscribed \
               unsubscribe unsubscribed";
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), all, "what the description has and nobody said");
}

/// The examples of the page: one JSON document a line.
fn examples() -> Vec<Value> {
    let page = include_str!("../../docs/REALTIME.md");
    let blocks = page.split("```json\n").skip(1).map(|rest| rest.split("```").next().expect("a block"));
    blocks.flat_map(str::lines).map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect()
}

/// Whether the page shows a message with all these fields.
#[track_caller]
fn is_documented(message: &Value) {
    let kind = message["type"].as_str().expect("a type");
    let like = match kind {
        "drop_started" | "drop_ended" | "stock_changed" | "restocked" | "sold_out" => "sold_out",
        "order_reserved" | "order_released" | "order_confirmed" => "order_confirmed",
        kind => kind,
    };
    let shown = examples();
    let shown: Vec<&Value> = shown.iter().filter(|example| example["type"] == like).collect();
    assert!(!shown.is_empty(), "{kind} is not in docs/REALTIME.md");
    for field in message.as_object().expect("an object").keys().filter(|field| *field != "variant_id") {
        assert!(
            shown.iter().any(|example| example.get(field).is_some()),
            "{field} of {kind} is not in docs/REALTIME.md"
        );
    }
}
