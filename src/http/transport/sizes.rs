//! Limits on the size and the arrival time of a request.

use crate::domain::limits::{HEAD_BYTES_DEFAULT, PRODUCT_BODY_BYTES_MAX};
use crate::service::{Code, Failure};
use actix_web::dev::RequestHead;
use actix_web::http::header::{CONTENT_LENGTH, HeaderMap};
use std::time::Duration;

/// The limits of one request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sizes {
    /// Bytes of target and headers.
    pub head_bytes_max: usize,
    /// Bytes of the body; most routes accept less.
    pub body_bytes_max: usize,
    /// Time limit of the whole body: a client may not hold a connection by sending a byte now and then.
    pub body_timeout: Duration,
}

impl Default for Sizes {
    fn default() -> Self {
        Self {
            head_bytes_max: HEAD_BYTES_DEFAULT,
            body_bytes_max: PRODUCT_BODY_BYTES_MAX,
            body_timeout: Duration::from_secs(10),
        }
    }
}

impl Sizes {
    /// Checks the sizes that the head tells. The body is measured again while it arrives.
    ///
    /// # Errors
    /// `headers_too_large`, `body_too_large`.
    pub fn check(&self, head: &RequestHead) -> Result<(), Failure> {
        let target = head.uri.path().len() + head.uri.query().map_or(0, str::len);
        // Each line also has a colon, a space and its end.
        let lines = head.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4);
        if target + lines.sum::<usize>() > self.head_bytes_max {
            let detail = format!("A request's target and headers may have {} bytes", self.head_bytes_max);
            return Err(Failure::with(Code::HeadersTooLarge, detail));
        }
        if announced(&head.headers) > self.body_bytes_max as u64 { Err(self.body_too_large()) } else { Ok(()) }
    }

    /// The failure for a longer body.
    #[must_use]
    pub fn body_too_large(&self) -> Failure {
        Failure::with(Code::BodyTooLarge, format!("A body may have {} bytes", self.body_bytes_max))
    }
}

/// The announced length of a body; 0 without one.
#[must_use]
pub fn announced(headers: &HeaderMap) -> u64 {
    let length = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok());
    length.and_then(|length| length.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::test::TestRequest;

    #[test]
    fn what_the_head_tells_is_checked() {
        let sizes = Sizes { head_bytes_max: 100, body_bytes_max: 10, ..Sizes::default() };
        let check = |path: &str, name: &'static str, value: &str| {
            let request = TestRequest::with_uri(path).insert_header((name, value.to_owned())).to_http_request();
            sizes.check(request.head()).err().map(|failure| failure.code)
        };
        assert_eq!(check("/", "content-length", "10"), None);
        assert_eq!(check("/", "content-length", "11"), Some(Code::BodyTooLarge));
        assert_eq!(check("/", "content-length", "x"), None, "the parser of HTTP has refused it before");
        assert_eq!(check("/", "x", &"v".repeat(94)), None);
        assert_eq!(check("/", "x", &"v".repeat(95)), Some(Code::HeadersTooLarge));
        assert_eq!(check(&format!("/?{}", "q".repeat(94)), "x", "v"), Some(Code::HeadersTooLarge));
    }
}
