//! The server under test, and people who use it.

use reqwest::{Client, Method, Response, StatusCode};
use serde_json::{Value, json};
use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};
use tempfile::TempDir;

/// Things that must happen soon; far longer than they take, because correctness is never timed.
pub const SOON: Duration = Duration::from_secs(30);

/// A running `livedrop serve` and its data.
pub struct Server {
    child: Child,
    pub base: String,
    pub data: TempDir,
    database_url: Option<String>,
    extra: Vec<String>,
    pub http: Client,
}

impl Server {
    /// On the embedded default.
    pub async fn start() -> Self {
        Self::with(None, &[]).await
    }

    /// On another database, with further arguments.
    pub async fn with(database_url: Option<String>, extra: &[&str]) -> Self {
        let data = TempDir::new().expect("a temporary folder");
        let extra: Vec<String> = extra.iter().map(|text| (*text).to_owned()).collect();
        let (child, base) = spawn(data.path(), "127.0.0.1:0", database_url.as_deref(), &extra);
        Self { child, base, data, database_url, extra, http: client() }
    }

    /// `kill -9`, if it still runs.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        self.child.wait().expect("its end");
    }

    pub fn restart(&mut self) {
        let address = self.base.trim_start_matches("http://").to_owned();
        // Connections to the process that is gone must not be tried again.
        self.http = client();
        (self.child, self.base) = spawn(self.data.path(), &address, self.database_url.as_deref(), &self.extra);
    }

    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status();
        assert!(sent.expect("the kill command").success());
    }

    /// SIGTERM; returns the exit code.
    pub fn terminate(&mut self) -> Option<i32> {
        self.signal("TERM");
        self.wait()
    }

    /// Waits for its end; returns the exit code.
    pub fn wait(&mut self) -> Option<i32> {
        self.child.wait().expect("its end").code()
    }

    /// `livedrop verify` on this server's data; the server must be down. Returns the exit code and the report.
    pub fn verify(&self) -> (Option<i32>, Value) {
        let mut command = livedrop();
        command.args(["verify", "--json", "--data-dir"]).arg(self.data.path());
        if let Some(url) = &self.database_url {
            command.args(["--database-url", url]);
        }
        let output = command.output().expect("livedrop verify to run");
        let text = String::from_utf8_lossy(&output.stdout);
        let report = serde_json::from_str(&text)
            .unwrap_or_else(|_| panic!("no report: {text} {}", String::from_utf8_lossy(&output.stderr)));
        (output.status.code(), report)
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}/api/v1{path}", self.base)
    }

    /// One request; status and JSON body.
    pub async fn call(
        &self,
        method: Method,
        path: &str,
        who: Option<&Account>,
        body: Option<Value>,
    ) -> (StatusCode, Value) {
        let mut request = self.http.request(method, self.url(path));
        if let Some(who) = who {
            request = request.bearer_auth(&who.token);
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        answer(request.send().await.expect("an answer")).await
    }

    pub async fn get(&self, path: &str, who: Option<&Account>) -> (StatusCode, Value) {
        self.call(Method::GET, path, who, None).await
    }

    pub async fn post(&self, path: &str, who: Option<&Account>, body: Value) -> (StatusCode, Value) {
        self.call(Method::POST, path, who, Some(body)).await
    }

    /// Places an order; the whole response, for its headers.
    pub async fn order_raw(&self, who: &Account, key: &str, body: &Value) -> reqwest::Result<Response> {
        let request = self.http.post(self.url("/orders")).bearer_auth(&who.token);
        request.header("Idempotency-Key", key).json(body).send().await
    }

    pub async fn order(&self, who: &Account, key: &str, body: &Value) -> (StatusCode, Value) {
        answer(self.order_raw(who, key, body).await.expect("an answer")).await
    }

    /// Registers somebody new.
    pub async fn account(&self, name: &str) -> Account {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let email = format!("{name}{}@example.com", NEXT.fetch_add(1, Ordering::Relaxed));
        let body = json!({"email": email, "password": "correct horse", "display_name": name});
        let (status, answer) = self.post("/auth/register", None, body).await;
        assert_eq!(status, 201, "{answer}");
        let text = |pointer: &str| answer.pointer(pointer).and_then(Value::as_str).expect(pointer).to_owned();
        Account { id: text("/user/id"), email, token: text("/access_token"), refresh: text("/refresh_token") }
    }

    /// Registers somebody and makes them a creator with one product.
    pub async fn creator(&self, name: &str) -> (Account, String) {
        let account = self.account(name).await;
        let handle = format!("{name}_{}", &account.id[account.id.len() - 8..]);
        let (status, answer) =
            self.post("/creators", Some(&account), json!({"handle": handle, "display_name": name})).await;
        assert_eq!(status, 201, "{answer}");
        let product = json!({"name": "Winter jacket", "price": {"amount": 1999, "currency": "USD"}});
        let (status, product) = self.post("/products", Some(&account), product).await;
        assert_eq!(status, 201, "{product}");
        (account, product["id"].as_str().expect("an id").to_owned())
    }

    /// A live drop of that much stock; `more` overrides fields.
    pub async fn live_drop(&self, stock: u32, more: Value) -> (Account, String) {
        let (creator, product) = self.creator("maker").await;
        let mut body = json!({"product_id": product, "stock": stock, "hold_seconds": 60});
        body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        let (status, drop) = self.post("/drops", Some(&creator), body).await;
        assert_eq!(status, 201, "{drop}");
        (creator, drop["id"].as_str().expect("an id").to_owned())
    }

    /// `(available, held, sold)`, and that they add up.
    pub async fn stock(&self, drop: &str) -> (u64, u64, u64) {
        let (status, stock) = self.get(&format!("/drops/{drop}/stock"), None).await;
        assert_eq!(status, 200, "{stock}");
        let number = |name: &str| stock[name].as_u64().expect(name);
        assert_eq!(number("available") + number("held") + number("sold"), number("total"), "{stock}");
        (number("available"), number("held"), number("sold"))
    }

    /// Asks again and again until it is so.
    pub async fn until<F: AsyncFn() -> bool>(&self, what: &str, so: F) {
        let deadline = tokio::time::Instant::now() + SOON;
        while !so().await {
            assert!(tokio::time::Instant::now() < deadline, "still not so: {what}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Somebody with an account.
#[derive(Clone)]
pub struct Account {
    pub id: String,
    pub email: String,
    pub token: String,
    pub refresh: String,
}

pub async fn answer(response: Response) -> (StatusCode, Value) {
    let status = response.status();
    let text = response.text().await.expect("a body");
    let body = if text.is_empty() { Value::Null } else { serde_json::from_str(&text).unwrap_or(Value::String(text)) };
    (status, body)
}

/// Checks a problem document and returns it.
#[track_caller]
pub fn problem((status, body): (StatusCode, Value), expected: u16, code: &str) -> Value {
    assert_eq!(status.as_u16(), expected, "{body}");
    assert_eq!(body["code"], code, "{body}");
    assert_eq!(body["status"], expected, "{body}");
    assert_eq!(body["type"], format!("https://livedrop.dev/problems/{code}"));
    for member in ["title", "detail", "trace_id"] {
        assert!(body[member].as_str().is_some_and(|text| !text.is_empty()), "{member} of {body}");
    }
    body
}

fn client() -> Client {
    Client::builder().timeout(SOON).build().expect("a client")
}

pub fn livedrop() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_livedrop"));
    command.env("LIVEDROP_PASSWORD_HASHING", "rehearsal").env("LIVEDROP_LOG", "warn").stdin(Stdio::null());
    command
}

fn spawn(data: &Path, bind: &str, database_url: Option<&str>, extra: &[String]) -> (Child, String) {
    let mut command = livedrop();
    command.args(["serve", "--bind", bind, "--data-dir"]).arg(data).args(extra).stdout(Stdio::piped());
    if let Some(url) = database_url {
        command.args(["--database-url", url]);
    }
    let mut child = command.spawn().expect("livedrop to start");
    let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
    let base = lines
        .find_map(|line| line.ok()?.strip_prefix("livedrop listening on ").map(str::to_owned))
        .unwrap_or_else(|| panic!("livedrop ended before it listened: {:?}", child.wait()));
    (child, base)
}
