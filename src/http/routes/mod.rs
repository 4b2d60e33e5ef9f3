//! Handlers: read the request, ask a use case, write the answer. One file a resource.

pub mod accounts;
pub mod creators;
pub mod drops;
pub mod notifications;
pub mod orders;
pub mod products;
pub mod sales;

use super::problem::Problem;
use actix_web::HttpResponse;

/// What every handler returns.
pub type Answer = Result<HttpResponse, Problem>;

/// 201 with the new resource and where it lives.
fn created(location: String, body: impl serde::Serialize) -> HttpResponse {
    HttpResponse::Created().insert_header((actix_web::http::header::LOCATION, location)).json(body)
}
