//! Pages of other origins (the Fetch standard's CORS protocol): which of them may read our answers. None by default.

use crate::http::problem::Problem;
use crate::service::{Code, Failure};
use actix_cors::{Cors, CorsError};
use actix_web::body::{EitherBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::middleware::Next;
use actix_web::{Error, ResponseError};

const METHODS: [&str; 6] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"];
/// What pages may send besides what every page may.
const SENT: [&str; 8] = [
    "authorization",
    "content-type",
    "idempotency-key",
    "if-match",
    "if-none-match",
    "last-event-id",
    "traceparent",
    "tracestate",
];
/// What pages may read besides what every page may.
const READ: [&str; 10] = [
    "date",
    "etag",
    "idempotency-replayed",
    "link",
    "location",
    "ratelimit",
    "ratelimit-policy",
    "retry-after",
    "traceresponse",
    "www-authenticate",
];
/// For how long a browser need not ask again: the longest that any of them takes is a day, most take two hours.
const PREFLIGHT_SECONDS: usize = 7_200;

/// The middleware that tells browsers which origins (`https://shop.example`) may read what. No credentials: who calls is
/// in the `Authorization` header, which pages set themselves, never in a cookie.
pub fn allow(origins: &[String]) -> Cors {
    let cors = origins.iter().fold(Cors::default(), |cors, origin| cors.allowed_origin(origin));
    cors.allowed_methods(METHODS).allowed_headers(SENT).expose_headers(READ).max_age(PREFLIGHT_SECONDS)
}

/// Goes around [`allow`], and makes its refusals problems.
///
/// # Errors
/// What the handler says.
pub async fn refuse<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, Error> {
    let response = next.call(request).await?;
    let refusal = response.response().error().and_then(|error| error.as_error::<CorsError>()).map(ToString::to_string);
    Ok(match refusal {
        Some(why) => {
            let problem = Problem::from(Failure::with(Code::Forbidden, why)).error_response();
            response.into_response(problem.map_into_right_body())
        }
        None => response.map_into_left_body(),
    })
}
