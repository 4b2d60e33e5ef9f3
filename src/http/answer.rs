//! Helpers for handlers' answers.

use crate::http::extract::json;
use crate::http::problem::Problem;
use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::{HeaderValue, LOCATION};
use bytes::Bytes;
use serde::Serialize;
use uuid::{Uuid, fmt::Hyphenated};

/// The result of every handler.
pub type Answer = Result<HttpResponse, Problem>;

/// 200 with this body.
pub(in crate::http) fn ok(body: impl Serialize) -> Answer {
    Ok(json::answer(StatusCode::OK, json::write(&body)?))
}

/// 201 with the new resource and its location.
pub(in crate::http) fn created(location: HeaderValue, body: Bytes) -> HttpResponse {
    let mut answer = json::answer(StatusCode::CREATED, body);
    answer.headers_mut().insert(LOCATION, location);
    answer
}

/// The path of a resource: `/api/v1/<collection>/<id>`.
pub(in crate::http) fn location(collection: &str, id: Uuid) -> HeaderValue {
    const BELOW: &str = "/api/v1/";
    let mut text = Vec::with_capacity(BELOW.len() + collection.len() + 1 + Hyphenated::LENGTH);
    text.extend_from_slice(BELOW.as_bytes());
    text.extend_from_slice(collection.as_bytes());
    text.push(b'/');
    text.extend_from_slice(id.hyphenated().encode_lower(&mut [0; Hyphenated::LENGTH]).as_bytes());
    HeaderValue::from_maybe_shared(Bytes::from(text)).expect("a path of ours")
}
