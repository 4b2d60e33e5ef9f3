//! Which pages of other origins may read answers (the Fetch standard's CORS protocol). None by default.

use crate::http::problem::Problem;
use crate::service::{Code, Failure};
use actix_cors::{Cors, CorsError};
use actix_web::body::{EitherBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::middleware::Next;
use actix_web::{Error, ResponseError};

const METHODS: [&str; 6] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"];
/// Request headers that pages may send beyond the safelisted ones.
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
/// Answer headers that pages may read beyond the safelisted ones.
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
/// How long a browser may cache a preflight: the longest that any browser accepts is a day, most accept two hours.
const PREFLIGHT_SECONDS: usize = 7_200;

/// The middleware that tells browsers which origins (`https://shop.example`) may read answers. Without credentials:
/// pages set the `Authorization` header themselves, and no cookie identifies a caller.
pub fn allow(origins: &[String]) -> Cors {
    let cors = origins.iter().fold(Cors::default(), |cors, origin| cors.allowed_origin(origin));
    cors.allowed_methods(METHODS).allowed_headers(SENT).expose_headers(READ).max_age(PREFLIGHT_SECONDS)
}

/// Wraps [`allow`], and turns its refusals into problems.
///
/// # Errors
/// Those of the handler.
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
