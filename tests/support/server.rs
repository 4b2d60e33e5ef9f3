//! The server under test, and people who use it.
//!
//! Use it from another test binary with `#[path = "../support/server.rs"] mod server;`.
#![allow(dead_code, reason = "each test binary uses a part of it")]

#[path = "documented.rs"]
mod documented;

use reqwest::{Client, Method, Response, StatusCode};
use serde_json::{Value, json};
use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};
use tempfile::TempDir;

/// The limit of a wait for an expected event; far longer than it takes, because no test depends on speed.
pub const SOON: Duration = Duration::from_secs(30);

/// A server's settings besides the defaults.
#[derive(Default)]
pub struct Setup {
    /// SQLite in the data directory, if absent.
    pub database_url: Option<String>,
    /// Further command-line arguments.
    pub extra: Vec<String>,
    /// The data directory; if absent, a temporary one.
    pub data: Option<PathBuf>,
    /// Whether it logs into [`Server::log`] and not into the test's own output.
    pub quiet: bool,
    /// The limit of open files, if not the test's own.
    pub open_files: Option<u64>,
}

const FAILPOINT: &str = "failpoint";
const LOG: &str = "log";

/// A running `livedrop serve` and its data.
pub struct Server {
    child: Child,
    pub base: String,
    pub data: PathBuf,
    setup: Setup,
    /// Deleted with the server: its failpoint and its log, and the data unless a directory was given.
    scratch: TempDir,
    pub http: Client,
}

impl Server {
    /// Starts a server on the embedded SQLite with the defaults.
    pub async fn start() -> Self {
        Self::with(None, &[]).await
    }

    /// Starts a server on another database, with further arguments.
    pub async fn with(database_url: Option<String>, extra: &[&str]) -> Self {
        let extra = extra.iter().map(|text| (*text).to_owned()).collect();
        Self::set_up(Setup { database_url, extra, ..Setup::default() })
    }

    /// Starts a server with these settings.
    pub fn set_up(setup: Setup) -> Self {
        let scratch = TempDir::new().expect("a temporary folder");
        let data = setup.data.clone().unwrap_or_else(|| scratch.path().join("data"));
        let (child, base) = spawn(&data, "127.0.0.1:0", &setup, scratch.path()).expect("livedrop to listen");
        Self { child, base, data, setup, scratch, http: client() }
    }

    /// Sends SIGKILL, if it still runs.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        self.child.wait().expect("its end");
    }

    pub fn restart(&mut self) {
        assert!(self.try_restart(), "livedrop ended before it listened:\n{}", self.log());
    }

    /// Starts again on the same port; returns whether it listens. If not, it has ended.
    pub fn try_restart(&mut self) -> bool {
        let address = self.base.trim_start_matches("http://").to_owned();
        // A new client, because connections to the old process must not be reused.
        self.http = client();
        let Ok((child, base)) = spawn(&self.data, &address, &self.setup, self.scratch.path()) else { return false };
        (self.child, self.base) = (child, base);
        true
    }

    /// Sets the failpoint of the next process, see `src/failpoint.rs`; for one process only.
    pub fn arm(&self, plan: &str) {
        let file = self.scratch.path().join(FAILPOINT);
        let written = file.with_extension("new");
        fs::write(&written, plan).expect("a failpoint");
        fs::rename(written, file).expect("a failpoint");
    }

    /// Removes the failpoint, so that the next process has none.
    pub fn disarm(&self) {
        let _ = fs::remove_file(self.scratch.path().join(FAILPOINT));
    }

    /// The log of a quiet server so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.scratch.path().join(LOG)).unwrap_or_default()
    }

    /// Waits for the server's end and returns its status.
    pub fn ended(&mut self) -> ExitStatus {
        self.child.wait().expect("its end")
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Resident memory, in KiB.
    pub fn resident_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("a running process");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }

    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status();
        assert!(sent.expect("the kill command").success());
    }

    /// The exit code, if the server has ended.
    pub fn has_ended(&mut self) -> Option<i32> {
        self.child.try_wait().expect("a process of ours").and_then(|status| status.code())
    }

    /// SIGTERM; returns the exit code.
    pub fn terminate(&mut self) -> Option<i32> {
        self.signal("TERM");
        self.wait()
    }

    /// Waits for the server's end; returns the exit code.
    pub fn wait(&mut self) -> Option<i32> {
        self.child.wait().expect("its end").code()
    }

    /// `livedrop verify` on this server's data; the server must be down. Returns the exit code and the report.
    pub fn verify(&self) -> (Option<i32>, Value) {
        let mut command = livedrop();
        command.args(["verify", "--json", "--data-dir"]).arg(&self.data);
        if let Some(url) = &self.setup.database_url {
            command.args(["--database-url", url]);
        }
        let output = command.output().expect("livedrop verify to run");
        let text = String::from_utf8_lossy(&output.stdout);
        let report = serde_json::from_str(&text)
            .unwrap_or_else(|_| panic!("no report: {text} {}", String::from_utf8_lossy(&output.stderr)));
        (output.status.code(), report)
    }

    /// The status and body of `/readyz`.
    pub async fn readiness(&self) -> (u16, Value) {
        let response = self.http.get(format!("{}/readyz", self.base)).send().await.expect("an answer");
        let (status, body) = answer(response).await;
        (status.as_u16(), body)
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}/api/v1{path}", self.base)
    }

    /// Sends one request; returns status and JSON body.
    pub async fn call(
        &self,
        method: Method,
        path: &str,
        who: Option<&Account>,
        body: Option<Value>,
    ) -> (StatusCode, Value) {
        let mut request = self.http.request(method.clone(), self.url(path));
        if let Some(who) = who {
            request = request.bearer_auth(&who.token);
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        let (status, body) = answer(request.send().await.expect("an answer")).await;
        documented::check(&method, path, status, &body);
        (status, body)
    }

    pub async fn get(&self, path: &str, who: Option<&Account>) -> (StatusCode, Value) {
        self.call(Method::GET, path, who, None).await
    }

    pub async fn post(&self, path: &str, who: Option<&Account>, body: Value) -> (StatusCode, Value) {
        self.call(Method::POST, path, who, Some(body)).await
    }

    /// Places an order; returns the whole response, for its headers.
    pub async fn order_raw(&self, who: &Account, key: &str, body: &Value) -> reqwest::Result<Response> {
        let request = self.http.post(self.url("/orders")).bearer_auth(&who.token);
        request.header("Idempotency-Key", key).json(body).send().await
    }

    pub async fn order(&self, who: &Account, key: &str, body: &Value) -> (StatusCode, Value) {
        let (status, body) = answer(self.order_raw(who, key, body).await.expect("an answer")).await;
        documented::check(&Method::POST, "/orders", status, &body);
        (status, body)
    }

    /// Asks again while the answer is 503: on a busy machine a database can be too slow for one request, and what prepares a test
    /// does not test that.
    pub async fn patiently(&self, ask: impl AsyncFn() -> (StatusCode, Value)) -> (StatusCode, Value) {
        let deadline = tokio::time::Instant::now() + SOON;
        loop {
            let (status, answer) = ask().await;
            if status != StatusCode::SERVICE_UNAVAILABLE || tokio::time::Instant::now() >= deadline {
                return (status, answer);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Registers a new user.
    pub async fn account(&self, name: &str) -> Account {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let new = async || {
            let email = format!("{name}{}@example.com", NEXT.fetch_add(1, Ordering::Relaxed));
            self.post(
                "/auth/register",
                None,
                json!({"email": email, "password": "correct horse", "display_name": name}),
            )
            .await
        };
        let (status, answer) = self.patiently(new).await;
        assert_eq!(status, 201, "{answer}");
        let text = |pointer: &str| answer.pointer(pointer).and_then(Value::as_str).expect(pointer).to_owned();
        let email = text("/user/email");
        Account { id: text("/user/id"), email, token: text("/access_token"), refresh: text("/refresh_token") }
    }

    /// Makes an administrator, as an operator does, and signs in.
    pub async fn admin(&self) -> Account {
        let (email, password) = ("root@example.com".to_owned(), "a long password");
        let mut command = livedrop();
        command.args(["admin", "create", "--email", &email, "--data-dir"]).arg(&self.data);
        if let Some(url) = &self.setup.database_url {
            command.args(["--database-url", url]);
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("livedrop to start");
        child.stdin.take().expect("a pipe").write_all(password.as_bytes()).expect("a password is read");
        assert!(child.wait().expect("its end").success());
        let (status, answer) = self.post("/auth/login", None, json!({"email": email, "password": password})).await;
        assert_eq!(status, 200, "{answer}");
        let text = |pointer: &str| answer.pointer(pointer).and_then(Value::as_str).expect(pointer).to_owned();
        Account { id: text("/user/id"), email, token: text("/access_token"), refresh: text("/refresh_token") }
    }

    /// Registers a user, and makes them a creator with one product.
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
        let mut body = json!({"product_id": product, "stock": stock, "hold_seconds": 60, "per_buyer_limit": 0});
        body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        let (status, drop) = self.post("/drops", Some(&creator), body).await;
        assert_eq!(status, 201, "{drop}");
        (creator, drop["id"].as_str().expect("an id").to_owned())
    }

    /// `(available, held, sold)`; checks that they add up.
    pub async fn stock(&self, drop: &str) -> (u64, u64, u64) {
        let (status, stock) = self.get(&format!("/drops/{drop}/stock"), None).await;
        assert_eq!(status, 200, "{stock}");
        let number = |name: &str| stock[name].as_u64().expect(name);
        assert_eq!(number("available") + number("held") + number("sold"), number("total"), "{stock}");
        (number("available"), number("held"), number("sold"))
    }

    /// Polls until the condition is true; fails after [`SOON`].
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

/// A registered user, and their token.
#[derive(Clone)]
pub struct Account {
    pub id: String,
    pub email: String,
    pub token: String,
    pub refresh: String,
}

/// Panics for an answer that the API's description does not have. `path`: below `/api/v1`.
#[track_caller]
pub fn check_documented(method: &Method, path: &str, status: StatusCode, body: &Value) {
    documented::check(method, path, status, body);
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
    // Settings of the tests themselves (`LIVEDROP_FUZZ_RUNS` …) are unknown to the program.
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("LIVEDROP_")) {
        command.env_remove(name);
    }
    command.env("LIVEDROP_PASSWORD_HASHING", "rehearsal").env("LIVEDROP_LOG", "warn").stdin(Stdio::null());
    // Short, because after a restart a drop that was sold out takes no payments in one call for as long.
    command.env("LIVEDROP_REFUSALS_KEPT_SECONDS", "1");
    // Crowds come from one address; tests of the limits set them by a flag.
    command.env("LIVEDROP_RATE_LIMITS", "off,announcements=off").env("LIVEDROP_CONNECTIONS_PER_ADDRESS_MAX", "0");
    command
}

/// The same command, in a shell that lowers the limit of open files first.
fn limited(command: Command, open_files: Option<u64>) -> Command {
    let Some(open_files) = open_files else { return command };
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("ulimit -n {open_files}; exec \"$0\" \"$@\"")]);
    shell.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        shell.env(name, value.expect("nothing is removed"));
    }
    shell.stdin(Stdio::null()).stdout(Stdio::piped());
    shell
}

/// The process and its base URL once it listens; its exit status if it ends before that.
fn spawn(data: &Path, bind: &str, setup: &Setup, scratch: &Path) -> Result<(Child, String), ExitStatus> {
    let mut command = livedrop();
    command.args(["serve", "--bind", bind, "--data-dir"]).arg(data).args(&setup.extra).stdout(Stdio::piped());
    command.env("LIVEDROP_FAILPOINT_FILE", scratch.join(FAILPOINT));
    if let Some(url) = &setup.database_url {
        command.args(["--database-url", url]);
    }
    let mut command = limited(command, setup.open_files);
    if setup.quiet {
        let log = File::options().create(true).append(true).open(scratch.join(LOG)).expect("a log file");
        command.stderr(log);
    }
    let mut child = command.spawn().expect("livedrop to start");
    let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
    match lines.find_map(|line| line.ok()?.strip_prefix("livedrop listening on ").map(str::to_owned)) {
        Some(base) => Ok((child, base)),
        None => Err(child.wait().expect("its end")),
    }
}
