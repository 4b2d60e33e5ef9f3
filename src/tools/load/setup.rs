//! Prepares the server for a run: accounts, drops, creators. Also writes requests.

use super::error::LoadError;
use super::http_connection::HttpConnection;
use super::options::{LoadOptions, Scenario};
use super::target::Target;
use serde::Deserialize;
use serde_json::{Value, json};
use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

const PASSWORD: &str = "a rehearsal only";
/// Connections that register accounts concurrently: hashing passwords is the server's heaviest work.
const REGISTRARS: u32 = 8;
/// Attempts of a request that the server asks to retry.
const PATIENCE: u32 = 60;

/// The accounts and drops of a run.
pub struct Setup {
    /// Tokens of the accounts used in turn.
    pub accounts: Vec<String>,
    pub drops: Vec<String>,
    pub products: Vec<String>,
    pub creators: Vec<String>,
    /// The token of the account that sells.
    pub maker: String,
}

/// A request's bytes, written into one reused buffer.
#[derive(Default)]
pub struct Request(String);

impl Request {
    /// Writes a request: method, path and JSON; a token and an idempotency key if given.
    pub fn write(
        &mut self,
        target: &Target,
        (method, path, body): (&str, &str, &str),
        (token, key): (Option<&str>, Option<&str>),
    ) {
        let text = &mut self.0;
        text.clear();
        // Appended part by part: formatting them would take a tenth of the driver's time.
        let mut push = |parts: &[&str]| parts.iter().for_each(|part| text.push_str(part));
        push(&[method, " ", path, " HTTP/1.1\r\nhost: ", &target.host]);
        if let Some(token) = token {
            push(&["\r\nauthorization: Bearer ", token]);
        }
        if let Some(key) = key {
            push(&["\r\nidempotency-key: ", key]);
        }
        if !body.is_empty() {
            push(&["\r\ncontent-type: application/json"]);
        }
        push(&["\r\ncontent-length: ", itoa::Buffer::new().format(body.len()), "\r\n\r\n", body]);
    }

    /// The bytes to send.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

/// Sends a necessary request, repeatedly while the server asks to wait.
async fn must(
    target: &Target,
    line: &mut HttpConnection,
    path: &str,
    token: Option<&str>,
    body: &Value,
) -> Result<Value, LoadError> {
    let (mut request, body) = (Request::default(), body.to_string());
    let path = format!("/api/v1{path}");
    for _ in 0..PATIENCE {
        request.write(target, ("POST", &path, &body), (token, None));
        let answer = line
            .exchange(request.as_bytes())
            .await
            .map_err(|error| LoadError::Setup(format!("POST {path}: {error}")))?;
        match answer.status {
            200..300 => {
                return serde_json::from_slice(answer.body)
                    .map_err(|error| LoadError::Setup(format!("POST {path}: {error}")));
            }
            429 | 503 => tokio::time::sleep(Duration::from_secs(1)).await,
            status => {
                let said = String::from_utf8_lossy(answer.body).into_owned();
                return Err(LoadError::Setup(format!("POST {path}: {status} {said}")));
            }
        }
    }
    Err(LoadError::Setup(format!(
        "POST {path}: the server still has no time for it (is it started with --rate-limits off?)"
    )))
}

fn text(value: &Value, pointer: &str) -> Result<String, LoadError> {
    let found = value.pointer(pointer).and_then(Value::as_str);
    found.map(str::to_owned).ok_or_else(|| LoadError::Setup(format!("the answer has no {pointer}: {value}")))
}

/// The stock of a drop.
#[derive(Debug, Deserialize)]
pub struct Stock {
    pub total: u64,
    pub available: u64,
    pub held: u64,
    pub sold: u64,
}

impl fmt::Display for Stock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { total, available, held, sold } = self;
        write!(f, "{available} available + {held} held + {sold} sold, {total} in all")
    }
}

/// Reads a drop's stock; `None` if there is no answer.
pub async fn stock(target: &Target, drop: &str) -> Option<Stock> {
    let mut line = HttpConnection::connect(target.address).await.ok()?;
    let mut request = Request::default();
    let path = format!("/api/v1/drops/{drop}/stock");
    request.write(target, ("GET", &path, ""), (None, None));
    let answer = line.exchange(request.as_bytes()).await.ok()?;
    serde_json::from_slice(answer.body).ok()
}

/// Creates everything.
///
/// # Errors
/// [`LoadError::Setup`], with the server's answer.
pub async fn set(target: &Target, options: &LoadOptions, run: &str) -> Result<Setup, LoadError> {
    let connect = || async {
        let line = HttpConnection::connect(target.address).await;
        line.map_err(|error| LoadError::Setup(format!("connect to {}: {error}", target.host)))
    };
    let mut line = connect().await?;
    let register = async |line: &mut HttpConnection, n: &str| {
        let body = json!({"email": format!("{n}-{run}@load.example"), "password": PASSWORD, "display_name": "Load"});
        text(&must(target, line, "/auth/register", None, &body).await?, "/access_token")
    };
    let follows = options.scenario == Scenario::Follows;
    let (mut creators, mut products, mut drops) = (Vec::new(), Vec::new(), Vec::new());
    let count =
        if matches!(options.scenario, Scenario::Rush | Scenario::Look | Scenario::Crowd) { 1 } else { options.drops };
    for n in 0..if follows { count } else { 1 } {
        let token = register(&mut line, &format!("maker{n}")).await?;
        let handle = json!({"handle": format!("load_{run}_{n}"), "display_name": "Load"});
        creators.push((text(&must(target, &mut line, "/creators", Some(&token), &handle).await?, "/id")?, token));
    }
    if !follows && options.scenario != Scenario::Floor {
        let token = &creators[0].1;
        let product = json!({"name": "Rehearsal", "price": {"amount": 1999, "currency": "USD"}});
        let product = text(&must(target, &mut line, "/products", Some(token), &product).await?, "/id")?;
        for _ in 0..count {
            let drop =
                json!({"product_id": product, "stock": options.stock, "hold_seconds": 3_600, "per_buyer_limit": 0});
            drops.push(text(&must(target, &mut line, "/drops", Some(token), &drop).await?, "/id")?);
        }
        products.push(product);
    }
    let next = AtomicU32::new(0);
    let registrars = (0..REGISTRARS.min(options.accounts)).map(async |_| {
        let mut line = connect().await?;
        let mut tokens = Vec::new();
        loop {
            let n = next.fetch_add(1, Ordering::Relaxed);
            if n >= options.accounts {
                return Ok::<_, LoadError>(tokens);
            }
            tokens.push(register(&mut line, &format!("buyer{n}")).await?);
        }
    });
    let mut accounts = Vec::new();
    for tokens in futures_util::future::join_all(registrars).await {
        accounts.extend(tokens?);
    }
    let maker = creators[0].1.clone();
    Ok(Setup { accounts, drops, products, creators: creators.into_iter().map(|(id, _)| id).collect(), maker })
}
