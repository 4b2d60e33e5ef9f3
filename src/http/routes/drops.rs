//! `/drops`.

use super::{Answer, created};
use crate::domain::DropId;
use crate::http::Services;
use crate::http::conditional;
use crate::http::dto::drops::{DropBody, NewDropBody, RescheduleBody, RestockBody, StockBody};
use crate::http::json::Body;
use crate::http::pages::{self, List, Paging};
use crate::http::path::Id;
use crate::service::{Caller, DropFilter};
use actix_web::{HttpRequest, HttpResponse, web};

/// `POST /drops`.
pub async fn create(services: web::Data<Services>, caller: Caller, Body(body): Body<NewDropBody>) -> Answer {
    let drop = services.drops.create(&caller, body.validate()?).await?;
    Ok(created(format!("/api/v1/drops/{}", drop.spec.id), DropBody::from(&drop)))
}

/// `GET /drops/{id}`.
pub async fn get(services: web::Data<Services>, request: HttpRequest, Id(id): Id<DropId>) -> Answer {
    conditional::page(&request, DropBody::from(&services.drops.get(id).await?))
}

/// `GET /drops/{id}/stock`.
pub async fn stock(services: web::Data<Services>, request: HttpRequest, Id(id): Id<DropId>) -> Answer {
    conditional::page(&request, StockBody::new(id, &services.drops.stock(id).await?))
}

/// `GET /drops`.
pub async fn list(services: web::Data<Services>, request: HttpRequest, paging: Paging) -> Answer {
    let filter = paging.filter()?;
    let after = paging.after(List::Drops)?.map(DropId);
    let page = services.drops.list(filter, after, paging.limit).await?;
    Ok(pages::answer(&request, List::Drops, &page, |drop| drop.spec.id.0, DropBody::from))
}

/// `POST /drops/{id}/start`.
pub async fn start(services: web::Data<Services>, caller: Caller, Id(id): Id<DropId>) -> Answer {
    Ok(HttpResponse::Ok().json(DropBody::from(&services.drops.start(&caller, id).await?)))
}

/// `POST /drops/{id}/end`.
pub async fn end(services: web::Data<Services>, caller: Caller, Id(id): Id<DropId>) -> Answer {
    Ok(HttpResponse::Ok().json(DropBody::from(&services.drops.end(&caller, id).await?)))
}

/// `POST /drops/{id}/cancel`.
pub async fn cancel(services: web::Data<Services>, caller: Caller, Id(id): Id<DropId>) -> Answer {
    Ok(HttpResponse::Ok().json(DropBody::from(&services.drops.cancel(&caller, id).await?)))
}

/// `POST /drops/{id}/restock`.
pub async fn restock(
    services: web::Data<Services>,
    caller: Caller,
    Id(id): Id<DropId>,
    Body(body): Body<RestockBody>,
) -> Answer {
    let (variant, quantity) = body.validate()?;
    let drop = services.drops.restock(&caller, id, variant, quantity).await?;
    Ok(HttpResponse::Ok().json(DropBody::from(&drop)))
}

/// `POST /drops/{id}/reschedule`.
pub async fn reschedule(
    services: web::Data<Services>,
    caller: Caller,
    Id(id): Id<DropId>,
    Body(body): Body<RescheduleBody>,
) -> Answer {
    let (starts_at, ends_at) = body.validate()?;
    let drop = services.drops.reschedule(&caller, id, starts_at, ends_at).await?;
    Ok(HttpResponse::Ok().json(DropBody::from(&drop)))
}

/// `GET /users/me/feed`.
pub async fn feed(services: web::Data<Services>, caller: Caller, request: HttpRequest, paging: Paging) -> Answer {
    let filter = DropFilter { followed_by: Some(caller.user), ..paging.filter()? };
    let after = paging.after(List::Drops)?.map(DropId);
    let page = services.drops.list(filter, after, paging.limit).await?;
    Ok(pages::answer(&request, List::Drops, &page, |drop| drop.spec.id.0, DropBody::from))
}
