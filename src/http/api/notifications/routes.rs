//! `/notifications/ticket` and `/users/me/notifications`. The sessions themselves are in [`crate::http::realtime::ws`]
//! and [`crate::http::realtime::sse`].

use crate::http::Services;
use crate::http::answer::{Answer, ok};
use crate::http::api::notifications::dto::{
    AcknowledgeBody, InboxBody, NotificationBody, ReadBody, TicketBody, UnreadBody,
};
use crate::http::declared::{self, Declaration, Declared, Quota, Who};
use crate::http::extract::auth;
use crate::http::extract::json::Body;
use crate::http::extract::pages::{self, List, Paging};
use crate::http::openapi::parameters::InboxQuery;
use crate::http::openapi::problems::{Fails, codes};
use crate::http::realtime::{session, sse, ws};
use crate::service::inbox::{AcknowledgementInput, ReadMarkInput};
use crate::service::{Caller, Code as C, Failure, Offset};
use actix_web::http::Method;
use actix_web::http::header::CACHE_CONTROL;
use actix_web::{HttpRequest, HttpResponse, web};

declared::table! {
    ticket __path_ticket User Writes;
    list __path_list User Reads;
    acknowledge __path_acknowledge User Writes;
    read __path_read User Writes;
}

/// The routes of sessions. Their messages are described in docs/asyncapi.yaml, because they are not requests with
/// answers.
#[must_use]
pub fn sessions() -> Vec<Declared> {
    let session =
        |path: &str| Declaration { method: Method::GET, path: path.to_owned(), who: Who::Anybody, quota: Quota::Reads };
    vec![
        Declared::other(session("/api/v1/notifications"), ws::connect).query(session::PARAMETERS),
        Declared::other(session("/api/v1/notifications/stream"), sse::stream).query(session::PARAMETERS),
    ]
}

#[utoipa::path(
    post,
    path = "/api/v1/notifications/ticket",
    tag = "Notifications",
    operation_id = "issue_ticket",
    summary = "A ticket that opens one session, for browsers, which cannot send a header with it",
    description = "Each is another one and lasts 30 seconds, so it takes no `Idempotency-Key`.",
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

#[utoipa::path(
    get,
    path = "/api/v1/users/me/notifications",
    tag = "Notifications",
    operation_id = "list_notifications",
    summary = "The inbox: what none of one's sessions has acknowledged, newest first",
    description = "What became of one's orders, and the drops of followed creators (scheduled, rescheduled, started, cancelled) since one follows \
                   them. It is kept for thirty days.",
    params(InboxQuery),
    responses(
        (status = 200, description = "One page", body = InboxBody, headers(("Link" = Option<String>, description = "The next page, `rel=\"next\"`, where there is one"))),
    ),
    security(("bearer" = [])),
)]
pub async fn list(services: web::Data<Services>, caller: Caller, request: HttpRequest, paging: Paging) -> Answer {
    let unread = paging.unread()?;
    let after = paging.after(List::Inbox)?.map(Offset::from);
    let found = services.inbox.list(caller.user, unread, after, paging.limit).await?;
    let next_cursor = pages::next_cursor(List::Inbox, &found.page, |last| last.id.into());
    let body = InboxBody {
        items: found.page.items.iter().map(NotificationBody::from).collect(),
        next_cursor: next_cursor.clone(),
        unread_count: found.unread,
    };
    Ok(pages::linked(&request, next_cursor.as_deref()).json(body))
}

#[utoipa::path(
    post,
    path = "/api/v1/users/me/notifications/acknowledge",
    tag = "Notifications",
    operation_id = "acknowledge_notifications",
    summary = "Say that events have arrived: they leave the inbox",
    description = "As a WebSocket's `ack`, for those who have none. Ids of events that are not in the inbox change nothing. Again is as good as once, so it takes no `Idempotency-Key`.",
    request_body = AcknowledgeBody,
    responses(
        (status = 200, description = "So it is, whatever it was", body = UnreadBody),
        Fails<{ codes(&[C::Overloaded, C::ShuttingDown]) }>,
    ),
    security(("bearer" = [])),
)]
pub async fn acknowledge(services: web::Data<Services>, caller: Caller, Body(body): Body<AcknowledgeBody>) -> Answer {
    services.inbox.acknowledge(caller.user, body.validate::<AcknowledgementInput>()?, None).await?;
    left(&services, &caller).await
}

#[utoipa::path(
    post,
    path = "/api/v1/users/me/notifications/read",
    tag = "Notifications",
    operation_id = "read_notifications",
    summary = "Mark entries of the inbox as read, on all of one's devices",
    description = "Again is as good as once, so it takes no `Idempotency-Key`.",
    request_body = ReadBody,
    responses(
        (status = 200, description = "So it is, whatever it was", body = UnreadBody),
        Fails<{ codes(&[C::Overloaded, C::ShuttingDown]) }>,
    ),
    security(("bearer" = [])),
)]
pub async fn read(services: web::Data<Services>, caller: Caller, Body(body): Body<ReadBody>) -> Answer {
    services.inbox.read(caller.user, body.validate::<ReadMarkInput>()?).await?;
    left(&services, &caller).await
}

async fn left(services: &Services, caller: &Caller) -> Answer {
    let unread_count = services.inbox.unread(caller.user).await?;
    ok(UnreadBody { unread_count })
}
