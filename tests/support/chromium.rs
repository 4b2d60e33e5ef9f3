//! A real Chromium, driven by `tests/clients/chromium.mjs`.

use crate::{node, packages};
use serde_json::{Value, json};
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::Mutex;

/// The limit for one command, on a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_secs(120);

/// The browser; it is killed when this is dropped.
pub struct Chromium {
    input: Mutex<ChildStdin>,
    output: Mutex<Lines<BufReader<ChildStdout>>>,
    next: AtomicU64,
    /// The port of the empty page of another origin.
    port: u64,
    _driver: Child,
}

/// A page of the browser.
pub struct Page<'a> {
    browser: &'a Chromium,
    name: u64,
}

impl Chromium {
    /// # Panics
    /// If there is no Chromium and it cannot be installed; the message says what to do.
    pub async fn start() -> Self {
        packages::need("chromium", "chromium");
        let executable = packages::find("chromium").expect("it is there");
        let mut command = Command::new("node");
        command.arg(node::script("chromium.mjs")).arg(executable).kill_on_drop(true);
        let mut driver = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("node");
        let input = driver.stdin.take().expect("its input");
        let mut output = BufReader::new(driver.stdout.take().expect("its output")).lines();
        let begun = tokio::time::timeout(PATIENCE, output.next_line()).await.expect("chromium to start in time");
        let begun = begun.expect("text").expect("chromium, which this test needs: see what it said above");
        let begun: Value = serde_json::from_str(&begun).expect("JSON");
        let port = begun["port"].as_u64().expect("a port");
        Self { input: input.into(), output: output.into(), next: AtomicU64::new(1), port, _driver: driver }
    }

    /// An origin of this machine other than the server's. The browser trusts pages of `127.0.0.1` as if they came over
    /// HTTPS, but not those of `shop.test`.
    pub fn origin(&self, host: &str) -> String {
        format!("http://{host}:{}", self.port)
    }

    /// Opens a page. `first` is a script that runs before all others, also after a reload.
    pub async fn open(&self, profile: &str, url: &str, first: &str) -> Page<'_> {
        let name = self.next.fetch_add(1, Ordering::Relaxed);
        self.ask(json!({"command": "open", "page": name, "profile": profile, "url": url, "first": first})).await;
        Page { browser: self, name }
    }

    async fn ask(&self, mut command: Value) -> Value {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        command["id"] = id.into();
        // One command at a time: concurrent steps must be in one script.
        let mut output = self.output.lock().await;
        self.input.lock().await.write_all(format!("{command}\n").as_bytes()).await.expect("a driver that listens");
        let line = tokio::time::timeout(PATIENCE, output.next_line())
            .await
            .unwrap_or_else(|_| panic!("no answer to {command}"));
        let answer: Value = serde_json::from_str(&line.expect("text").expect("an answer")).expect("JSON");
        assert!(answer["id"] == id && answer.get("error").is_none(), "{command}: {answer}");
        answer["value"].clone()
    }
}

impl Page<'_> {
    /// Runs an asynchronous function with this body and returns its result.
    pub async fn run(&self, script: &str) -> Value {
        self.browser.ask(json!({"command": "run", "page": self.name, "script": script})).await
    }

    pub async fn reload(&self) {
        self.browser.ask(json!({"command": "reload", "page": self.name})).await;
    }

    /// Waits until a JavaScript expression is true.
    pub async fn until(&self, expression: &str) {
        let script = format!(
            "for (const end = performance.now() + 60000; !({expression}); await new Promise((go) => setTimeout(go, 20))) {{
               if (performance.now() > end) throw new Error(`still not so: {} ${{JSON.stringify(globalThis.heard ?? null)}}`);
             }}",
            expression.replace(['`', '$', '\\'], "")
        );
        self.run(&script).await;
    }
}
