//! A light HTTP/1.1 client: a bounded pool of keep-alive connections, with timeouts and polite retries.

use super::{counters::Counters, wire::Problem};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{
    Method, Request,
    client::conn::http1::{self, SendRequest},
    header::{AUTHORIZATION, CONTENT_TYPE, HOST, RETRY_AFTER},
};
use hyper_util::rt::TokioIo;
use rand::Rng;
use serde::de::DeserializeOwned;
use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use tokio::{net::TcpStream, sync::Semaphore, time};

/// Time limit of an answer; past it the answer counts as lost.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest obeyed `Retry-After`: the demo is short.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(2);

/// A request to the API.
#[derive(Debug, Clone)]
pub struct Call {
    pub method: Method,
    /// The full path with the query.
    pub path: String,
    pub token: Option<Arc<str>>,
    pub key: Option<String>,
    pub body: Option<Bytes>,
}

impl Call {
    /// A GET request with a token.
    pub fn get(path: String, token: &Arc<str>) -> Self {
        Self { method: Method::GET, path, token: Some(token.clone()), key: None, body: None }
    }

    /// A POST request with an optional token and body.
    pub fn post(path: String, token: Option<&Arc<str>>, body: Option<&serde_json::Value>) -> Self {
        let body = body.map(|json| Bytes::from(json.to_string()));
        Self { method: Method::POST, path, token: token.cloned(), key: None, body }
    }

    /// Adds an idempotency key.
    pub fn with_key(self, key: String) -> Self {
        Self { key: Some(key), ..self }
    }
}

/// The server's answer, read in full.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub retry_after: Option<Duration>,
    pub body: Bytes,
    /// From the request's first byte to the answer's last. Waiting for a shared connection is not included: that is the
    /// demo's bound, not the server's.
    pub took: Duration,
}

/// The connection was refused or broke, or the time limit passed. Whether the server acted is unknown.
#[derive(Debug, thiserror::Error)]
#[error("no answer: {0}")]
pub struct NoAnswer(String);

impl Answer {
    /// Whether the status is 2xx.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Parses the body as JSON.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, String> {
        serde_json::from_slice(&self.body).map_err(|why| format!("{why} in {}", self.text()))
    }

    /// The machine-readable code of a refusal; `http_<status>` for an answer that is not a problem document.
    pub fn code(&self) -> String {
        self.json::<Problem>().map_or_else(|_| format!("http_{}", self.status), |problem| problem.code)
    }

    /// Status and body for a message to people, cut to a readable length.
    pub fn text(&self) -> String {
        let body = String::from_utf8_lossy(&self.body);
        format!("{} {}", self.status, body.chars().take(200).collect::<String>())
    }

    /// Whether the request should be repeated later: overloaded, restarting, or still busy with the first one.
    pub fn asks_to_wait(&self) -> bool {
        match self.status {
            429 | 503 => true,
            409 => matches!(self.code().as_str(), "request_in_progress" | "payment_in_progress"),
            _ => false,
        }
    }

    /// Whether two answers have the same status and the same body, byte by byte.
    pub fn identical(&self, other: &Answer) -> bool {
        self.status == other.status && self.body == other.body
    }

    /// The first difference between two answers that should be identical, with some context.
    pub fn difference(&self, other: &Answer) -> String {
        if self.status != other.status {
            return format!("{} and then {}", self.text(), other.text());
        }
        let at = self.body.iter().zip(&other.body).take_while(|(a, b)| a == b).count();
        let around = |body: &Bytes| {
            let (from, to) = (at.saturating_sub(40).min(body.len()), (at + 40).min(body.len()));
            String::from_utf8_lossy(&body[from..to]).into_owned()
        };
        format!("{} from byte {at} on {:?} and then {:?}", self.status, around(&self.body), around(&other.body))
    }
}

/// Connections to one server, opened on demand and shared by all users of the client.
pub struct Client {
    addr: SocketAddr,
    places: Semaphore,
    // A std Mutex: it guards a push and a pop and is never held over an await.
    idle: Mutex<Vec<SendRequest<Full<Bytes>>>>,
}

impl Client {
    /// A client of the server at `addr` that opens at most `connections_max` connections.
    pub fn new(addr: SocketAddr, connections_max: u32) -> Self {
        Self { addr, places: Semaphore::new(connections_max as usize), idle: Mutex::new(Vec::new()) }
    }

    /// Sends `call` once.
    ///
    /// # Errors
    /// [`NoAnswer`]; the server may or may not have acted on it.
    pub async fn send(&self, call: &Call) -> Result<Answer, NoAnswer> {
        let _place = self.places.acquire().await.expect("the semaphore is never closed");
        let request = self.request(call)?;
        match time::timeout(ANSWER_TIMEOUT, self.exchange(request)).await {
            Ok(result) => result,
            Err(_) => Err(NoAnswer(format!("{} {} took over {ANSWER_TIMEOUT:?}", call.method, call.path))),
        }
    }

    /// Sends `call` repeatedly, with pauses, while the server asks to wait or does not answer. `None` if that is still
    /// so at the deadline.
    pub async fn send_patiently(&self, call: &Call, deadline: Instant, counters: &Counters) -> Option<Answer> {
        for attempt in 0u32.. {
            let pause = match self.send(call).await {
                Ok(answer) if !answer.asks_to_wait() => return Some(answer),
                Ok(answer) => {
                    counters.asked_to_wait(answer.code());
                    answer.retry_after.map_or_else(|| backoff(attempt), with_jitter)
                }
                Err(_) => {
                    counters.lost_answer();
                    backoff(attempt)
                }
            };
            if Instant::now() + pause > deadline {
                return None;
            }
            time::sleep(pause).await;
        }
        None
    }

    fn request(&self, call: &Call) -> Result<Request<Full<Bytes>>, NoAnswer> {
        let mut request = Request::builder().method(&call.method).uri(&call.path).header(HOST, self.addr.to_string());
        if let Some(token) = &call.token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        if let Some(key) = &call.key {
            // A structured-field string, as in the IETF draft.
            request = request.header("idempotency-key", format!("\"{key}\""));
        }
        if call.body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let body = Full::new(call.body.clone().unwrap_or_default());
        request.body(body).map_err(|why| NoAnswer(why.to_string()))
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<Answer, NoAnswer> {
        let lost = |why: hyper::Error| NoAnswer(why.to_string());
        let mut connection = self.connection().await?;
        let start = Instant::now();
        let response = connection.send_request(request).await.map_err(lost)?;
        let status = response.status().as_u16();
        let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| retry_after(value.to_str().ok()?));
        let body = response.into_body().collect().await.map_err(lost)?.to_bytes();
        let took = start.elapsed();
        if !connection.is_closed() {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
        }
        Ok(Answer { status, retry_after, body, took })
    }

    async fn connection(&self) -> Result<SendRequest<Full<Bytes>>, NoAnswer> {
        loop {
            let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let Some(mut connection) = idle else { break };
            if connection.ready().await.is_ok() {
                return Ok(connection);
            }
        }
        let stream = TcpStream::connect(self.addr).await.map_err(|why| NoAnswer(why.to_string()))?;
        stream.set_nodelay(true).map_err(|why| NoAnswer(why.to_string()))?;
        let handshake = http1::handshake(TokioIo::new(stream)).await;
        let (connection, driver) = handshake.map_err(|why| NoAnswer(why.to_string()))?;
        // It ends with the connection; its errors reach the request that waits there.
        tokio::spawn(driver);
        Ok(connection)
    }
}

/// A pause that doubles from about 20 ms to about 300 ms.
fn backoff(attempt: u32) -> Duration {
    let ceiling_ms = (30 << attempt.min(4)).min(400);
    Duration::from_millis(rand::rng().random_range(ceiling_ms / 2..=ceiling_ms))
}

/// The requested wait plus up to a quarter, so that a crowd does not return at once.
fn with_jitter(asked: Duration) -> Duration {
    asked.min(RETRY_AFTER_MAX).mul_f64(rand::rng().random_range(1.0..1.25))
}

fn retry_after(value: &str) -> Option<Duration> {
    value.trim().parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &'static str) -> Answer {
        Answer { status, retry_after: None, body: Bytes::from_static(body.as_bytes()), took: Duration::ZERO }
    }

    #[test]
    fn identical_means_status_and_every_byte() {
        let first = answer(201, r#"{"id":"1","status":"confirmed"}"#);
        assert!(first.identical(&first.clone()));
        assert!(!first.identical(&answer(200, r#"{"id":"1","status":"confirmed"}"#)));
        assert!(!first.identical(&answer(201, r#"{"id":"1", "status":"confirmed"}"#)), "the same JSON, other bytes");
        assert!(!first.identical(&answer(201, "")));
        let longer = answer(201, r#"{"id":"1","status":"confirmed"} "#);
        assert_eq!(
            first.difference(&longer),
            r#"201 from byte 31 on "{\"id\":\"1\",\"status\":\"confirmed\"}" and then "{\"id\":\"1\",\"status\":\"confirmed\"} ""#
        );
        assert!(first.difference(&answer(409, "{}")).ends_with("and then 409 {}"));
        // The duration is not part of an answer's identity.
        assert!(first.identical(&Answer { took: Duration::from_secs(1), ..first.clone() }));
    }

    #[test]
    fn only_answers_that_say_so_are_waited_for() {
        assert!(answer(503, "").asks_to_wait());
        assert!(answer(429, r#"{"code":"rate_limited"}"#).asks_to_wait());
        assert!(answer(409, r#"{"code":"request_in_progress"}"#).asks_to_wait());
        assert!(!answer(409, r#"{"code":"sold_out"}"#).asks_to_wait());
        assert!(!answer(201, "{}").asks_to_wait());
        assert!(!answer(402, r#"{"code":"payment_declined"}"#).asks_to_wait());
    }

    #[test]
    fn a_refusal_is_named_by_its_code() {
        assert_eq!(answer(409, r#"{"code":"sold_out","detail":"x"}"#).code(), "sold_out");
        assert_eq!(answer(500, "oops").code(), "http_500");
    }

    #[test]
    fn pauses_grow_and_stay_bounded() {
        for attempt in 0..40 {
            let pause = backoff(attempt);
            assert!((15..=400).contains(&pause.as_millis()), "{pause:?}");
        }
        assert!(backoff(9) > backoff(0));
        let asked = with_jitter(Duration::from_secs(100));
        assert!(asked >= RETRY_AFTER_MAX && asked < RETRY_AFTER_MAX.mul_f64(1.25));
        assert_eq!(retry_after("3"), Some(Duration::from_secs(3)));
        assert_eq!(retry_after("Wed, 21 Oct 2026 07:28:00 GMT"), None);
    }
}
