//! Handlers: read the request, ask a use case, write the answer. One file a resource.

pub mod accounts;
pub mod creators;
pub mod drops;
pub mod notifications;
pub mod operations;
pub mod orders;
pub mod products;
pub mod sales;

use super::Services;
use super::conditional::Precondition;
use super::json;
use super::keyed::MaybeKeyed;
use super::path::Id;
use super::problem::Problem;
use crate::service::Caller;
use actix_web::http::StatusCode;
use actix_web::http::header::{HeaderValue, LOCATION};
use actix_web::{HttpResponse, web};
use bytes::Bytes;
use serde::Serialize;
use uuid::{Uuid, fmt::Hyphenated};

/// What every handler returns.
pub type Answer = Result<HttpResponse, Problem>;

/// A change that somebody asks of the one of an id, once for each key.
type Changing<T> = (web::Data<Services>, Caller, Id<T>, Precondition, MaybeKeyed);

/// 200 with this body.
fn ok(body: impl Serialize) -> Answer {
    Ok(json::answer(StatusCode::OK, json::write(&body)?))
}

/// 201 with the new resource and where it lives.
fn created(location: HeaderValue, body: Bytes) -> HttpResponse {
    let mut answer = json::answer(StatusCode::CREATED, body);
    answer.headers_mut().insert(LOCATION, location);
    answer
}

/// Where the one of that id lives, below `/api/v1/<collection>/`.
fn location(collection: &str, id: Uuid) -> HeaderValue {
    const BELOW: &str = "/api/v1/";
    let mut text = Vec::with_capacity(BELOW.len() + collection.len() + 1 + Hyphenated::LENGTH);
    text.extend_from_slice(BELOW.as_bytes());
    text.extend_from_slice(collection.as_bytes());
    text.push(b'/');
    text.extend_from_slice(id.hyphenated().encode_lower(&mut [0; Hyphenated::LENGTH]).as_bytes());
    HeaderValue::from_maybe_shared(Bytes::from(text)).expect("a path of ours")
}
