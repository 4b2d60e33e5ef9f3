//! `/notifications/ticket`. The sessions themselves are in [`crate::http::ws`] and [`crate::http::sse`].

use super::Answer;
use crate::domain::Timestamp;
use crate::http::{Services, auth};
use crate::service::{Code, Failure};
use actix_web::http::header::CACHE_CONTROL;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;

/// A ticket.
#[derive(Serialize)]
pub struct TicketBody {
    /// For the query of one session.
    ticket: String,
    /// When it ends unused.
    expires_at: Timestamp,
}

/// `POST /notifications/ticket`.
pub async fn ticket(services: web::Data<Services>, request: HttpRequest) -> Answer {
    let access =
        auth::access(request.headers(), &services.tokens)?.ok_or_else(|| Failure::new(Code::Unauthenticated))?;
    let (ticket, expires_at) = services.tickets.issue(access)?;
    let body = TicketBody { ticket, expires_at };
    Ok(HttpResponse::Created().insert_header((CACHE_CONTROL, "no-store")).json(body))
}
