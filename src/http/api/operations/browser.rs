//! `livedrop.js`, the client for pages in browsers, and its types. See docs/REALTIME.md.

use crate::http::extract::conditional::{holds, tag_of};
use crate::http::transport::unsent::Shared;
use actix_web::http::StatusCode;
use actix_web::http::header::{ACCESS_CONTROL_ALLOW_ORIGIN, CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderValue};
use actix_web::{HttpRequest, HttpResponse};
use bytes::Bytes;
use std::sync::LazyLock;

/// A file with its tag.
struct Shipped {
    body: Bytes,
    tag: HeaderValue,
}

static SCRIPT: LazyLock<Shipped> = LazyLock::new(|| Shipped::of(include_str!("browser/livedrop.js")));
/// As TypeScript's compiler writes them from the script's comments; a test compares.
static TYPES: LazyLock<Shipped> = LazyLock::new(|| Shipped::of(include_str!("browser/livedrop.d.ts")));

static JAVASCRIPT: HeaderValue = HeaderValue::from_static("text/javascript; charset=utf-8");
static TYPESCRIPT: HeaderValue = HeaderValue::from_static("application/typescript; charset=utf-8");
/// Long enough for a cache in front of the server to take a crowd's requests, short enough for a fix to arrive.
static FIVE_MINUTES: HeaderValue = HeaderValue::from_static("public, max-age=300");
/// A module is read across origins only where that is allowed; what it then asks for is up to `allowed_origins`.
static EVERYBODY: HeaderValue = HeaderValue::from_static("*");

impl Shipped {
    fn of(text: &'static str) -> Self {
        Self { body: Bytes::from_static(text.as_bytes()), tag: tag_of(text.as_bytes()) }
    }

    fn answer(&self, request: &HttpRequest, media_type: &HeaderValue) -> HttpResponse {
        let held = holds(request, &self.tag);
        let mut answer = if held {
            HttpResponse::new(StatusCode::NOT_MODIFIED)
        } else {
            let mut answer = HttpResponse::Ok().body(self.body.clone());
            answer.headers_mut().insert(CONTENT_TYPE, media_type.clone());
            // All connections share the memory.
            answer.extensions_mut().insert(Shared);
            answer
        };
        let headers = answer.headers_mut();
        headers.insert(ETAG, self.tag.clone());
        headers.insert(CACHE_CONTROL, FIVE_MINUTES.clone());
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, EVERYBODY.clone());
        answer
    }
}

/// `GET /livedrop.js`.
pub async fn script(request: HttpRequest) -> HttpResponse {
    SCRIPT.answer(&request, &JAVASCRIPT)
}

/// `GET /livedrop.d.ts`.
pub async fn types(request: HttpRequest) -> HttpResponse {
    TYPES.answer(&request, &TYPESCRIPT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::http::header::IF_NONE_MATCH;
    use actix_web::test::TestRequest;

    #[test]
    fn who_has_it_is_not_sent_it_again() {
        let first = SCRIPT.answer(&TestRequest::get().to_http_request(), &JAVASCRIPT);
        assert_eq!((first.status(), first.headers().get(CONTENT_TYPE)), (StatusCode::OK, Some(&JAVASCRIPT)));
        let tag = first.headers().get(ETAG).unwrap().clone();
        let again = SCRIPT
            .answer(&TestRequest::get().insert_header((IF_NONE_MATCH, tag.clone())).to_http_request(), &JAVASCRIPT);
        assert_eq!((again.status(), again.headers().get(ETAG)), (StatusCode::NOT_MODIFIED, Some(&tag)));
        assert_eq!(again.headers().get(ACCESS_CONTROL_ALLOW_ORIGIN), Some(&EVERYBODY));
        let other =
            TYPES.answer(&TestRequest::get().insert_header((IF_NONE_MATCH, tag)).to_http_request(), &TYPESCRIPT);
        assert_eq!(other.status(), StatusCode::OK);
    }
}
