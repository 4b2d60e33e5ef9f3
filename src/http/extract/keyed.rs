//! Changes with an optional idempotency key: without one the change is simply made.

use super::idempotency::IdempotencyKey;
use super::json;
use crate::domain::limits::KEPT_ANSWER_BYTES_MAX;
use crate::http::answer::Answer;
use crate::http::problem::Problem;
use crate::service::keys::{Attempt, Begun, KeyedScope, Keys};
use crate::service::{Caller, Code, KeptAnswer};
use actix_web::body::MessageBody;
use actix_web::dev::Payload;
use actix_web::http::StatusCode;
use actix_web::http::header::{ETAG, HeaderName, HeaderValue, LOCATION};
use actix_web::{FromRequest, HttpRequest, HttpResponse, ResponseError};
use bytes::Bytes;
use std::fmt::Debug;
use std::future::{Ready, ready};

static REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
static TRUE: HeaderValue = HeaderValue::from_static("true");

/// The key of a request, if it has one, and the route that it counts for.
pub struct MaybeKeyed(Option<(String, String)>);

impl FromRequest for MaybeKeyed {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        if !request.headers().contains_key("idempotency-key") {
            return ready(Ok(Self(None)));
        }
        let route = format!("{} {}", request.method(), request.path());
        let key = IdempotencyKey::from_request(request, payload).into_inner();
        ready(key.map(|IdempotencyKey(key)| Self(Some((route, key)))))
    }
}

/// Whether repeating a change has a further effect. If not, it works even while the database is away.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Repeated {
    /// Such as ending a drop that has ended.
    ChangesNothing,
    /// Such as adding units to a drop.
    ChangesMore,
}

/// Makes a change once for each key. `asked`: the parsed request.
pub async fn once(
    keys: &Keys,
    caller: &Caller,
    MaybeKeyed(key): MaybeKeyed,
    (repeated, asked): (Repeated, &impl Debug),
    change: impl AsyncFnOnce(&Attempt) -> Answer,
) -> Answer {
    let Some((route, key)) = key else { return change(&Attempt::default()).await };
    let scope = KeyedScope::new(caller.user, &route, &key, &format!("{asked:?}"));
    let running = match keys.begin(scope).await {
        Ok(Begun::Go(running)) => running,
        Ok(Begun::Answered(answer)) => return again(answer),
        Err(failure) if failure.code == Code::DatabaseUnavailable && repeated == Repeated::ChangesNothing => {
            return change(&Attempt::default()).await;
        }
        Err(failure) => return Err(failure.into()),
    };
    failpoint!("keys.before_change");
    match change(running.attempt()).await {
        Ok(answer) => {
            failpoint!("keys.before_answer");
            let (mut answer, kept) = kept(answer);
            if let Some(kept) = kept {
                running.answered(&kept).await;
            }
            if running.attempt().was_found() {
                answer.headers_mut().insert(REPLAYED.clone(), TRUE.clone());
            }
            Ok(answer)
        }
        Err(problem) => {
            // A server error may have happened after the change: a retry with the key looks for it.
            if problem.status_code().is_client_error() {
                running.refused().await;
            }
            Err(problem)
        }
    }
}

/// The answer, and the part that is stored; `None` if it is too large, because then a retry computes it again.
fn kept(answer: HttpResponse) -> (HttpResponse, Option<KeptAnswer>) {
    let (answer, body) = answer.into_parts();
    let bytes = match body.try_into_bytes() {
        Ok(bytes) => bytes,
        Err(body) => return (answer.set_body(body), None),
    };
    let header = |name: HeaderName| answer.headers().get(name)?.to_str().ok().map(str::to_owned);
    let text = Some(&bytes).filter(|bytes| bytes.len() <= KEPT_ANSWER_BYTES_MAX);
    let kept = text.and_then(|bytes| String::from_utf8(bytes.to_vec()).ok()).map(|body| KeptAnswer {
        status: answer.status().as_u16(),
        location: header(LOCATION),
        etag: header(ETAG),
        body,
    });
    (answer.set_body(bytes).map_into_boxed_body(), kept)
}

/// The first answer, unchanged.
fn again(KeptAnswer { status, location, etag, body }: KeptAnswer) -> Answer {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
    let mut answer = json::answer(status, Bytes::from(body));
    for (name, value) in [(LOCATION, location), (ETAG, etag)] {
        if let Some(value) = value.and_then(|value| HeaderValue::try_from(value).ok()) {
            answer.headers_mut().insert(name, value);
        }
    }
    answer.headers_mut().insert(REPLAYED.clone(), TRUE.clone());
    Ok(answer)
}
