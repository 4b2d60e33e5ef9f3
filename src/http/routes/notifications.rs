//! `/notifications/ticket`. The sessions themselves are in [`crate::http::ws`] and [`crate::http::sse`].

use super::Answer;
use crate::domain::Timestamp;
use crate::http::openapi::problems::{Fails, codes};
use crate::http::openapi::schema;
use crate::http::{Services, auth};
use crate::service::{Code as C, Failure};
use actix_web::http::header::CACHE_CONTROL;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;
use utoipa::ToSchema;

/// A ticket.
#[derive(Serialize, ToSchema)]
#[schema(as = Ticket)]
pub struct TicketBody {
    /// For the query of one session.
    ticket: String,
    /// When it ends unused.
    #[schema(schema_with = schema::time)]
    expires_at: Timestamp,
}

/// `POST /notifications/ticket`.
#[utoipa::path(
    post,
    path = "/api/v1/notifications/ticket",
    tag = "Notifications",
    operation_id = "issue_ticket",
    summary = "A ticket that opens one session, for browsers, which cannot send a header with it",
    responses(
        (status = 201, description = "The ticket", body = TicketBody),
        Fails<{ codes(&[C::Overloaded]) }>,
    ),
    security(("bearer" = [])),
)]
pub async fn ticket(services: web::Data<Services>, request: HttpRequest) -> Answer {
    let access = auth::of(&request)?.ok_or_else(|| Failure::new(C::Unauthenticated))?;
    let (ticket, expires_at) = services.tickets.issue(access)?;
    let body = TicketBody { ticket, expires_at };
    Ok(HttpResponse::Created().insert_header((CACHE_CONTROL, "no-store")).json(body))
}
