//! Routes below `/drops`, and the caller's feed.

use crate::domain::DropId;
use crate::domain::limits::DROP_BODY_BYTES_MAX;
use crate::http::answer::{Answer, created, location};
use crate::http::api::changing::Changing;
use crate::http::api::drops::dto::{DropBody, NewDropBody, RescheduleBody, RestockBody, StockBody};
use crate::http::extract::conditional::{self, View, drop_revision};
use crate::http::extract::json::{self, Body};
use crate::http::extract::keyed::Repeated::{ChangesMore, ChangesNothing};
use crate::http::extract::keyed::{MaybeKeyed, once};
use crate::http::extract::pages::{self, List, PageBody, Paging};
use crate::http::extract::path::Id;
use crate::http::openapi::parameters::{DropsQuery, KeyedOrNot, OfDrop, WithIfMatch};
use crate::http::openapi::problems::{ASKS, Fails, codes};
use crate::http::{Services, declared};
use crate::service::drops::{DropChange, DropInput, RestockInput, ScheduleInput};
use crate::service::{Caller, Code as C, DropFilter};
use actix_web::{HttpRequest, web};

declared::table! {
    list __path_list Anybody Reads;
    create __path_create Manager Announcements;
    get __path_get Anybody Reads;
    stock __path_stock Anybody Reads;
    start __path_start Manager Announcements;
    end __path_end Manager Writes;
    cancel __path_cancel Manager Announcements;
    restock __path_restock Manager Writes;
    reschedule __path_reschedule Manager Announcements;
    feed __path_feed User Reads;
}

#[utoipa::path(
    post,
    path = "/api/v1/drops",
    tag = "Drops",
    operation_id = "create_drop",
    summary = "Put a product on sale (its creator, admins)",
    description = "Either `variants`, or `stock` for a drop of one. Without `starts_at`, or with one that is past, it starts at once.",
    params(KeyedOrNot),
    request_body = NewDropBody,
    responses(
        (status = 201, description = "The drop", body = DropBody, headers(("Location" = String, description = "Where it lives"))),
        Fails<{ codes(&[C::ProductNotFound, C::CreatorNotFound, C::Forbidden, C::ProductArchived, C::TooManyDrops, C::ConflictingFields]) | codes(ASKS) }>,
    ),
    security(("bearer" = [])),
)]
pub async fn create(
    services: web::Data<Services>,
    caller: Caller,
    key: MaybeKeyed,
    Body(body): Body<NewDropBody, DROP_BODY_BYTES_MAX>,
) -> Answer {
    let new = body.validate::<DropInput>()?;
    once(&services.keys, &caller, key, (ChangesMore, &new), async |attempt| {
        let drop = services.drops.create(&caller, new.clone(), attempt).await?;
        Ok(created(location("drops", drop.spec.id.0), json::write(&DropBody::from(&drop))?))
    })
    .await
}

#[utoipa::path(
    get,
    path = "/api/v1/drops/{id}",
    tag = "Drops",
    operation_id = "get_drop",
    summary = "One drop with its live stock",
    params(OfDrop),
    responses(
        (status = 200, description = "The drop", body = DropBody),
        Fails<{ codes(&[C::DropNotFound]) }>,
    ),
)]
pub async fn get(services: web::Data<Services>, request: HttpRequest, Id(id): Id<DropId>) -> Answer {
    let drop = services.drops.get(id).await?;
    conditional::page_of(&request, (View::Drop, id), drop.stock.position, || {
        (Some(drop_revision(&drop)), DropBody::from(&drop))
    })
}

#[utoipa::path(
    get,
    path = "/api/v1/drops/{id}/stock",
    tag = "Drops",
    operation_id = "get_stock",
    summary = "Only the live stock",
    params(OfDrop),
    responses(
        (status = 200, description = "The stock", body = StockBody),
        Fails<{ codes(&[C::DropNotFound]) }>,
    ),
)]
pub async fn stock(services: web::Data<Services>, request: HttpRequest, Id(id): Id<DropId>) -> Answer {
    let stock = services.drops.stock(id).await?;
    conditional::page_of(&request, (View::Stock, id), stock.position, || (None, StockBody::new(id, &stock)))
}

#[utoipa::path(
    get,
    path = "/api/v1/drops",
    tag = "Drops",
    operation_id = "list_drops",
    summary = "All drops, newest first",
    description = "A page of a range of starts in which few of many are may be shorter than `limit`, and even empty: go on while there is a `next_cursor`.",
    params(DropsQuery),
    responses(
        (status = 200, description = "One page", body = PageBody<DropBody>, headers(("Link" = Option<String>, description = "The next page, `rel=\"next\"`, where there is one"))),
    ),
)]
pub async fn list(services: web::Data<Services>, request: HttpRequest, paging: Paging) -> Answer {
    let filter = paging.filter()?;
    let after = paging.after(List::Drops)?.map(DropId);
    let page = services.drops.list(filter, after, paging.limit).await?;
    Ok(pages::answer(&request, List::Drops, &page, |drop| drop.spec.id.0, DropBody::from))
}

#[utoipa::path(
    post,
    path = "/api/v1/drops/{id}/start",
    tag = "Drops",
    operation_id = "start_drop",
    summary = "Start it now (its creator, admins)",
    params(OfDrop, WithIfMatch, KeyedOrNot),
    responses(
        (status = 200, description = "The drop; repeated: unchanged", body = DropBody),
        Fails<{ codes(&[C::DropNotFound, C::Forbidden, C::DropStateConflict]) | codes(ASKS) }>,
    ),
    security(("bearer" = [])),
)]
pub async fn start(asked: Changing<DropId>) -> Answer {
    change(asked, DropChange::Start).await
}

#[utoipa::path(
    post,
    path = "/api/v1/drops/{id}/end",
    tag = "Drops",
    operation_id = "end_drop",
    summary = "End it now (its creator, admins)",
    params(OfDrop, WithIfMatch, KeyedOrNot),
    responses(
        (status = 200, description = "The drop; repeated: unchanged", body = DropBody),
        Fails<{ codes(&[C::DropNotFound, C::Forbidden, C::DropStateConflict]) | codes(ASKS) }>,
    ),
    security(("bearer" = [])),
)]
pub async fn end(asked: Changing<DropId>) -> Answer {
    change(asked, DropChange::End).await
}

#[utoipa::path(
    post,
    path = "/api/v1/drops/{id}/cancel",
    tag = "Drops",
    operation_id = "cancel_drop",
    summary = "Call it off: holds are released, sold orders refunded (its creator, admins)",
    params(OfDrop, WithIfMatch, KeyedOrNot),
    responses(
        (status = 200, description = "The drop; repeated: unchanged", body = DropBody),
        Fails<{ codes(&[C::DropNotFound, C::Forbidden, C::DropStateConflict]) | codes(ASKS) }>,
    ),
    security(("bearer" = [])),
)]
pub async fn cancel(asked: Changing<DropId>) -> Answer {
    change(asked, DropChange::Cancel).await
}

#[utoipa::path(
    post,
    path = "/api/v1/drops/{id}/restock",
    tag = "Drops",
    operation_id = "restock_drop",
    summary = "Add units (its creator, admins)",
    description = "`variant_id` may be left out where the drop has one variant.",
    params(OfDrop, WithIfMatch, KeyedOrNot),
    request_body = RestockBody,
    responses(
        (status = 200, description = "The drop", body = DropBody),
        Fails<{ codes(&[C::DropNotFound, C::Forbidden, C::DropStateConflict, C::UnknownVariant, C::ConflictingFields]) | codes(ASKS) }>,
    ),
    security(("bearer" = [])),
)]
pub async fn restock(asked: Changing<DropId>, Body(body): Body<RestockBody>) -> Answer {
    let (variant, quantity) = body.validate::<RestockInput>()?;
    change(asked, DropChange::Restock { variant, quantity }).await
}

#[utoipa::path(
    post,
    path = "/api/v1/drops/{id}/reschedule",
    tag = "Drops",
    operation_id = "reschedule_drop",
    summary = "Give it another schedule (its creator, admins)",
    description = "What is left out stays; an end that is `null` goes.",
    params(OfDrop, WithIfMatch, KeyedOrNot),
    request_body = RescheduleBody,
    responses(
        (status = 200, description = "The drop", body = DropBody),
        Fails<{ codes(&[C::DropNotFound, C::Forbidden, C::DropStateConflict, C::ConflictingFields]) | codes(ASKS) }>,
    ),
    security(("bearer" = [])),
)]
pub async fn reschedule(asked: Changing<DropId>, Body(body): Body<RescheduleBody>) -> Answer {
    let (starts_at, ends_at) = body.validate::<ScheduleInput>()?;
    change(asked, DropChange::Reschedule { starts_at, ends_at }).await
}

async fn change((services, caller, Id(id), precondition, key): Changing<DropId>, change: DropChange) -> Answer {
    let only_if = precondition.holds(drop_revision);
    let repeated = if change.is_idempotent() { ChangesNothing } else { ChangesMore };
    once(&services.keys, &caller, key, (repeated, &change), async |attempt| {
        let drop = services.drops.change(&caller, id, change, only_if.as_deref(), attempt).await?;
        conditional::changed(Some(&drop_revision(&drop)), DropBody::from(&drop))
    })
    .await
}

#[utoipa::path(
    get,
    path = "/api/v1/users/me/feed",
    tag = "Drops",
    operation_id = "list_feed",
    summary = "Drops of followed creators, newest first",
    params(DropsQuery),
    responses(
        (status = 200, description = "One page", body = PageBody<DropBody>, headers(("Link" = Option<String>, description = "The next page, `rel=\"next\"`, where there is one"))),
    ),
    security(("bearer" = [])),
)]
pub async fn feed(services: web::Data<Services>, caller: Caller, request: HttpRequest, paging: Paging) -> Answer {
    let filter = DropFilter { followed_by: Some(caller.user), ..paging.filter()? };
    let after = paging.after(List::Drops)?.map(DropId);
    let page = services.drops.list(filter, after, paging.limit).await?;
    Ok(pages::answer(&request, List::Drops, &page, |drop| drop.spec.id.0, DropBody::from))
}
