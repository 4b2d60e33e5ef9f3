//! The setting `allowed_origins`: pages of these origins (`https://shop.example`) may read answers
//! ([`cors`](super::cors)) and open WebSockets. The log names a refused origin, because browsers hide the reason from
//! the page.

use crate::domain::limits::REFUSED_ORIGINS_LOGGED_PER_MINUTE_MAX;
use actix_web::dev::ServiceRequest;
use actix_web::http::header::{HOST, HeaderValue, ORIGIN};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Bytes of an origin in the log: browsers send short ones.
const SHOWN_BYTES_MAX: usize = 128;
const WINDOW: Duration = Duration::from_secs(60);

/// The setting `allowed_origins`. Cheap to clone.
#[derive(Clone, Default)]
pub struct Origins {
    allowed: Arc<[String]>,
    refused: Arc<Mutex<Refused>>,
}

/// Refused origins of the current minute.
#[derive(Default)]
struct Refused {
    began: Option<Instant>,
    logged: Vec<String>,
    /// Refused requests without a line of their own since the last line.
    suppressed: u64,
}

impl Refused {
    /// The number of suppressed requests if a line is to be written: one a minute for an origin, and
    /// [`REFUSED_ORIGINS_LOGGED_PER_MINUTE_MAX`] in all, because any client can send any `Origin`.
    fn admit(&mut self, origin: &str, now: Instant) -> Option<u64> {
        if self.began.is_none_or(|began| now.duration_since(began) >= WINDOW) {
            self.began = Some(now);
            self.logged.clear();
        }
        if self.logged.len() >= REFUSED_ORIGINS_LOGGED_PER_MINUTE_MAX
            || self.logged.iter().any(|logged| logged == origin)
        {
            self.suppressed += 1;
            return None;
        }
        self.logged.push(origin.to_owned());
        Some(std::mem::take(&mut self.suppressed))
    }
}

impl Origins {
    /// Origins that are allowed besides the server's own.
    #[must_use]
    pub fn new(allowed: &[String]) -> Self {
        Self { allowed: allowed.into(), refused: Arc::default() }
    }

    /// The configured origins, without the server's own.
    #[must_use]
    pub fn allowed(&self) -> &[String] {
        &self.allowed
    }

    /// Whether a page of that origin may call. A request without `Origin` does not come from a page. `host`: the
    /// server's name in the request.
    #[must_use]
    pub fn allow(&self, origin: Option<&str>, host: Option<&str>) -> bool {
        let Some(origin) = origin else { return true };
        let authority = origin.split_once("://").map(|(_, authority)| authority);
        let own = authority.zip(host).is_some_and(|(theirs, ours)| theirs.eq_ignore_ascii_case(ours));
        own || self.allowed.iter().any(|one| one.eq_ignore_ascii_case(origin))
    }

    /// Logs a request from a page with a refused origin.
    pub fn log_refused(&self, request: &ServiceRequest) {
        let headers = request.headers();
        let Some(origin) = headers.get(ORIGIN).map(text) else { return };
        // HTTP/2 has the host in the target.
        let host =
            headers.get(HOST).map(text).or_else(|| request.uri().authority().map(|authority| authority.as_str()));
        // Behind a proxy the host may differ from the page's; then the browser's own header decides.
        let own_page = headers.get("sec-fetch-site").is_some_and(|site| site == "same-origin");
        if own_page || self.allow(Some(origin), host) {
            return;
        }
        let shown = origin.get(..SHOWN_BYTES_MAX).unwrap_or(origin);
        let admitted = self.refused.lock().unwrap_or_else(PoisonError::into_inner).admit(shown, Instant::now());
        if let Some(suppressed) = admitted {
            tracing::warn!(origin = shown, suppressed, "refused a page: its origin is not in allowed_origins");
        }
    }
}

/// A header as text; a value that is not text is no origin either.
fn text(value: &HeaderValue) -> &str {
    value.to_str().unwrap_or("(not text)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_compared_whole() {
        let allowed = Origins::new(&["https://shop.example".to_owned()]);
        let none = Origins::default();
        assert!(allowed.allow(None, None));
        assert!(allowed.allow(Some("https://shop.example"), Some("api.example")));
        for origins in [&allowed, &none] {
            assert!(origins.allow(Some("http://localhost:8080"), Some("localhost:8080")), "its own");
        }
        for (origin, host, origins) in [
            ("https://shop.example.evil.example", "api.example", &allowed),
            ("https://evil.example", "api.example", &allowed),
            ("http://shop.example", "api.example", &allowed),
            ("null", "api.example", &allowed),
            ("https://evil.example", "localhost", &none),
            ("http://localhost:8081", "localhost:8080", &none),
            ("null", "localhost", &none),
        ] {
            assert!(!origins.allow(Some(origin), Some(host)), "{origin}");
        }
    }

    #[test]
    fn a_flood_of_origins_is_a_few_lines() {
        let (mut refused, now) = (Refused::default(), Instant::now());
        assert_eq!(refused.admit("https://shop.example", now), Some(0));
        assert_eq!(refused.admit("https://shop.example", now), None);
        let lines = (0..10_000).filter(|n| refused.admit(&format!("https://{n}.example"), now).is_some()).count();
        assert_eq!(lines, REFUSED_ORIGINS_LOGGED_PER_MINUTE_MAX - 1);
        assert_eq!(refused.logged.len(), REFUSED_ORIGINS_LOGGED_PER_MINUTE_MAX);
        let later = now + WINDOW;
        assert_eq!(refused.admit("https://shop.example", later), Some(1 + 10_000 - lines as u64 - 1));
    }
}
