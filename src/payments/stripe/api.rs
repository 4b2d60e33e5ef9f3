//! Calls of Stripe's API: form-encoded requests with an idempotency key, JSON answers of a bounded size, tries again
//! where that is safe.

use super::config::StripeConfig;
use super::limits::{
    ANSWER_BYTES_MAX, ANSWER_TIMEOUT, CONNECT_TIMEOUT, ERROR_CHARS_MAX, FIRST_PAUSE, PAUSE_MAX, TRIES_MAX,
};
use crate::payments::gateway::GatewayError;
use reqwest::header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use reqwest::{Client, Method, Response, redirect};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};
use url::form_urlencoded;

/// The version of the API whose requests and answers this client knows; without the header it would be whatever the
/// account was made with.
pub const API_VERSION: &str = "2026-08-26.dahlia";

/// When a provider without a connection may be asked again.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// A request's parameters, in order. Names are Stripe's, such as `metadata[order_id]`.
pub type Form = Vec<(&'static str, String)>;

/// The client of one account. Cheap to clone.
#[derive(Clone)]
pub struct Api {
    http: Client,
    config: StripeConfig,
}

/// Why a call has no answer of use.
#[derive(Debug)]
pub struct CallError {
    pub cause: Cause,
    /// Whether this call, in one of its tries, may have had its effect.
    pub may_have_happened: bool,
    /// When Stripe wants to be asked again.
    pub retry_after: Option<Duration>,
}

/// What went wrong.
#[derive(Debug)]
pub enum Cause {
    /// Stripe answered with an error.
    Answer(Box<ApiError>),
    /// There was no answer, or none that can be read.
    Lost(String),
}

/// An error as Stripe describes it.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct ApiError {
    /// The HTTP status.
    #[serde(skip)]
    pub status: u16,
    /// Such as `card_error`, `invalid_request_error`, `idempotency_error`.
    #[serde(rename = "type", default)]
    pub kind: String,
    #[serde(default)]
    pub code: Option<String>,
    #[serde(default)]
    pub decline_code: Option<String>,
    #[serde(default)]
    pub message: Option<String>,
    /// The parameter that is wrong.
    #[serde(default)]
    pub param: Option<String>,
    /// Whether it is the kept answer to an earlier request with the same key.
    #[serde(skip)]
    pub replayed: bool,
    /// The payment that the error is about, as an object of the API.
    #[serde(default)]
    pub payment_intent: Option<serde_json::Value>,
}

impl ApiError {
    /// Whether Stripe says that the idempotency key was used with other parameters.
    #[must_use]
    pub fn is_other_request(&self) -> bool {
        self.kind == "idempotency_error" && self.status != 409
    }

    /// Whether the code is this one.
    #[must_use]
    pub fn is(&self, code: &str) -> bool {
        self.code.as_deref() == Some(code)
    }
}

impl CallError {
    /// The error of Stripe, if it answered with one.
    #[must_use]
    pub fn answer(&self) -> Option<&ApiError> {
        match &self.cause {
            Cause::Answer(error) => Some(error),
            Cause::Lost(_) => None,
        }
    }

    fn text(&self) -> String {
        let text = match &self.cause {
            Cause::Lost(reason) => reason.clone(),
            Cause::Answer(error) => {
                let ApiError { status, kind, code, message, .. } = &**error;
                let code = code.as_deref().unwrap_or(kind);
                format!("{status} {code}: {}", message.as_deref().unwrap_or_default())
            }
        };
        text.chars().take(ERROR_CHARS_MAX).collect()
    }
}

impl From<CallError> for GatewayError {
    fn from(error: CallError) -> Self {
        let reason = error.text();
        if error.may_have_happened {
            return Self::Unreachable { reason, retry_after: error.retry_after };
        }
        // A provider that could not be asked may be asked again; a request that it refuses is wrong.
        let lost = matches!(error.cause, Cause::Lost(_)).then_some(ASK_AGAIN);
        Self::Refused { reason, retry_after: error.retry_after.or(lost) }
    }
}

impl Api {
    /// Opens no connection yet.
    ///
    /// # Errors
    /// If TLS cannot be set up, such as without root certificates.
    pub fn new(config: StripeConfig) -> Result<Self, String> {
        let mut client = Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(redirect::Policy::none())
            .user_agent(concat!("livedrop/", env!("CARGO_PKG_VERSION")));
        if config.api.is_loopback() {
            client = client.no_proxy();
        }
        let http = client.build().map_err(|error| format!("cannot set up the client of Stripe: {}", chain(&error)))?;
        Ok(Self { http, config })
    }

    /// The settings.
    #[must_use]
    pub fn config(&self) -> &StripeConfig {
        &self.config
    }

    /// Reads an object or a list.
    pub async fn get<T: DeserializeOwned>(&self, path: &str, query: &Form) -> Result<T, CallError> {
        let query = encoded(query);
        let url = if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") };
        self.call(Method::GET, &url, None, None).await
    }

    /// Makes a change, once for each key.
    pub async fn post<T: DeserializeOwned>(&self, path: &str, form: &Form, key: &str) -> Result<T, CallError> {
        self.call(Method::POST, path, Some(encoded(form)), Some(key)).await
    }

    /// Makes a change that a payment's state allows once. Without a key: Stripe would keep the refusal of a call that
    /// came too early, and repeat it to one that comes in time.
    pub async fn advance<T: DeserializeOwned>(&self, path: &str, form: &Form) -> Result<T, CallError> {
        self.call(Method::POST, path, Some(encoded(form)), None).await
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<String>,
        key: Option<&str>,
    ) -> Result<T, CallError> {
        let deadline = Instant::now() + self.config.call_timeout;
        let (mut may_have_happened, mut pause) = (false, FIRST_PAUSE);
        for tried in 1.. {
            let left = deadline.saturating_duration_since(Instant::now()).min(ANSWER_TIMEOUT);
            let failed = match timeout(left, self.attempt(&method, path, body.clone(), key)).await {
                Ok(Ok(value)) => return Ok(value),
                Ok(Err(failed)) => failed,
                Err(_) => Failed::lost(format!("no answer within {} ms", left.as_millis()), true),
            };
            // A GET changes nothing.
            may_have_happened |= failed.may_have_happened && method == Method::POST;
            let wait = failed.retry_after.unwrap_or_else(|| pause.mul_f64(1.0 + rand::random::<f64>() / 2.0));
            let enough = tried >= TRIES_MAX || wait > PAUSE_MAX || Instant::now() + wait >= deadline;
            if enough || !failed.again {
                let Failed { cause, retry_after, definite, .. } = failed;
                // The answer to a repeated request is that of the first one.
                return Err(CallError { cause, may_have_happened: may_have_happened && !definite, retry_after });
            }
            sleep(wait).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
        unreachable!("the last try returns")
    }

    async fn attempt<T: DeserializeOwned>(
        &self,
        method: &Method,
        path: &str,
        body: Option<String>,
        key: Option<&str>,
    ) -> Result<T, Failed> {
        let mut request = self.http.request(method.clone(), self.config.api.of(path));
        request = request.bearer_auth(self.config.key.expose()).header("Stripe-Version", API_VERSION);
        if let Some(key) = key {
            request = request.header("Idempotency-Key", key);
        }
        if let Some(body) = body {
            request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(body);
        }
        let sent = request.send().await;
        let answer = sent.map_err(|error| {
            let may_have_arrived = !(error.is_connect() || error.is_builder());
            Failed { retry_after: None, ..Failed::lost(chain(&error.without_url()), may_have_arrived) }
        })?;
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        let bytes = bounded(answer).await.map_err(|reason| Failed::lost(reason, true))?;
        if (200..300).contains(&status) {
            let read = serde_json::from_slice(&bytes);
            return read.map_err(|error| Failed {
                again: false,
                ..Failed::lost(format!("the answer is not readable: {error}"), true)
            });
        }
        Err(Failed::answered(status, &headers, &bytes))
    }
}

/// A try without a result.
struct Failed {
    cause: Cause,
    /// Whether this try may have had its effect.
    may_have_happened: bool,
    /// Whether what Stripe says of this try holds for all earlier ones.
    definite: bool,
    again: bool,
    retry_after: Option<Duration>,
}

impl Failed {
    fn lost(reason: String, may_have_happened: bool) -> Self {
        Self { cause: Cause::Lost(reason), may_have_happened, definite: false, again: true, retry_after: None }
    }

    /// By Stripe's documentation: 4xx says that nothing was done, except that another request with the key is running
    /// (409); 429 was not looked at; of 5xx nothing is known.
    fn answered(status: u16, headers: &HeaderMap, bytes: &[u8]) -> Self {
        #[derive(Deserialize)]
        struct Body {
            error: ApiError,
        }
        let error = serde_json::from_slice::<Body>(bytes).map_or_else(|_| ApiError::default(), |body| body.error);
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let replayed = text("Idempotent-Replayed") == Some("true");
        let passing = matches!(status, 409 | 429) || status >= 500;
        let again = match text("Stripe-Should-Retry") {
            Some("true") => true,
            Some("false") => false,
            _ => passing,
        };
        let seconds = text(RETRY_AFTER.as_str()).and_then(|text| text.trim().parse().ok());
        // Without a number: 429 is worth a pause of its own.
        let retry_after = seconds.map(Duration::from_secs);
        Self {
            may_have_happened: status == 409 || status >= 500 || (300..400).contains(&status),
            definite: matches!(status, 400 | 402 | 404) && !error.is_other_request(),
            again,
            retry_after: retry_after.or((status == 429).then_some(FIRST_PAUSE)),
            cause: Cause::Answer(Box::new(ApiError { status, replayed, ..error })),
        }
    }
}

fn encoded(form: &Form) -> String {
    let mut text = form_urlencoded::Serializer::new(String::new());
    text.extend_pairs(form);
    text.finish()
}

/// Reads an answer, but no more than the bound.
async fn bounded(mut answer: Response) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|error| chain(&error.without_url()))? {
        if bytes.len() + chunk.len() > ANSWER_BYTES_MAX {
            return Err(format!("the answer is longer than {ANSWER_BYTES_MAX} bytes"));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// An error with its causes: the outermost one alone says little.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(status: u16, headers: &[(&'static str, &'static str)], body: &str) -> Failed {
        let headers = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        Failed::answered(status, &headers, body.as_bytes())
    }

    #[test]
    fn it_is_known_which_errors_may_have_had_an_effect() {
        for (status, may, again) in [
            (400, false, false),
            (401, false, false),
            (402, false, false),
            (403, false, false),
            (404, false, false),
            (409, true, true),
            (429, false, true),
            (500, true, true),
            (502, true, true),
            (503, true, true),
            (302, true, false),
        ] {
            let failed = answered(status, &[], "<html>");
            assert_eq!((failed.may_have_happened, failed.again), (may, again), "{status}");
        }
    }

    #[test]
    fn stripe_decides_about_another_try() {
        assert!(!answered(500, &[("stripe-should-retry", "false")], "").again);
        assert!(answered(400, &[("stripe-should-retry", "true")], "").again);
        let busy = answered(429, &[("retry-after", "7")], "{}");
        assert_eq!(busy.retry_after, Some(Duration::from_secs(7)));
        assert_eq!(answered(429, &[("retry-after", "soon")], "{}").retry_after, Some(FIRST_PAUSE));
    }

    #[test]
    fn an_error_is_read_with_its_codes() {
        let body = r#"{"error":{"type":"card_error","code":"card_declined","decline_code":"insufficient_funds",
            "message":"Your card has insufficient funds.","payment_intent":{"id":"pi_1"},"unknown":[1]}}"#;
        let failed = answered(402, &[], body);
        let Cause::Answer(error) = &failed.cause else { panic!("{:?}", failed.cause) };
        assert!(error.is("card_declined") && error.decline_code.as_deref() == Some("insufficient_funds"));
        assert!(failed.definite && !error.is_other_request());
        let reused = answered(400, &[], r#"{"error":{"type":"idempotency_error","message":"other parameters"}}"#);
        let Cause::Answer(error) = &reused.cause else { panic!("{:?}", reused.cause) };
        assert!(error.is_other_request() && !reused.definite, "an earlier request may have had an effect");
    }

    #[test]
    fn parameters_are_encoded() {
        let form = vec![("metadata[order_id]", "a b&c=é".to_owned()), ("amount", "1".to_owned())];
        assert_eq!(encoded(&form), "metadata%5Border_id%5D=a+b%26c%3D%C3%A9&amount=1");
    }
}
