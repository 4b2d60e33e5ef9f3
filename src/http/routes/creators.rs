//! `/creators`, `/follows` and whom a user follows.

use super::{Answer, created};
use crate::domain::{CreatorId, DropId, ProductId, UserId};
use crate::http::Services;
use crate::http::auth::Whose;
use crate::http::conditional;
use crate::http::dto::creators::{
    CreatorBody, CreatorChangeBody, FollowBody, FollowedBody, FollowerBody, FollowingBody, NewCreatorBody,
};
use crate::http::dto::{drops::DropBody, products::ProductBody};
use crate::http::json::Body;
use crate::http::pages::{self, List, Paging};
use crate::http::path::{CreatorParameter, Id};
use crate::service::{Caller, DropFilter, ProductFilter};
use actix_web::{HttpRequest, HttpResponse, web};

/// `POST /creators`.
pub async fn create(services: web::Data<Services>, caller: Caller, Body(body): Body<NewCreatorBody>) -> Answer {
    let creator = services.creators.open_profile(caller.user, body.validate()?).await?;
    Ok(created(format!("/api/v1/creators/{}", creator.id), CreatorBody::from(&creator)))
}

/// `GET /creators/{id}`.
pub async fn get(services: web::Data<Services>, request: HttpRequest, Id(id): Id<CreatorId>) -> Answer {
    conditional::page(&request, CreatorBody::from(&services.creators.get(id).await?))
}

/// `PATCH /creators/{id}`.
pub async fn change(
    services: web::Data<Services>,
    caller: Caller,
    Id(id): Id<CreatorId>,
    Body(body): Body<CreatorChangeBody>,
) -> Answer {
    let creator = services.creators.change(&caller, id, body.validate()?).await?;
    Ok(HttpResponse::Ok().json(CreatorBody::from(&creator)))
}

/// `GET /creators`.
pub async fn list(services: web::Data<Services>, request: HttpRequest, paging: Paging) -> Answer {
    let after = paging.after(List::Creators)?.map(CreatorId);
    let page = services.creators.list(after, paging.limit).await?;
    Ok(pages::answer(&request, List::Creators, &page, |creator| creator.id.0, CreatorBody::from))
}

/// `GET /creators/{id}/products`.
pub async fn products(
    services: web::Data<Services>,
    request: HttpRequest,
    Id(id): Id<CreatorId>,
    paging: Paging,
) -> Answer {
    let filter = ProductFilter { creator: Some(id), ..paging.product_filter()? };
    let after = paging.after(List::Products)?.map(ProductId);
    services.creators.get(id).await?;
    let page = services.products.list(filter, after, paging.limit).await?;
    Ok(pages::answer(&request, List::Products, &page, |product| product.id.0, ProductBody::from))
}

/// `GET /creators/{id}/drops`.
pub async fn drops(
    services: web::Data<Services>,
    request: HttpRequest,
    Id(id): Id<CreatorId>,
    paging: Paging,
) -> Answer {
    let filter = DropFilter { creator: Some(id), ..paging.filter()? };
    let after = paging.after(List::Drops)?.map(DropId);
    services.creators.get(id).await?;
    let page = services.drops.list(filter, after, paging.limit).await?;
    Ok(pages::answer(&request, List::Drops, &page, |drop| drop.spec.id.0, DropBody::from))
}

/// `POST /creators/{id}/follow`.
pub async fn follow(services: web::Data<Services>, caller: Caller, Id(id): Id<CreatorId>) -> Answer {
    services.creators.follow(caller.user, id).await?;
    Ok(HttpResponse::Ok().json(FollowingBody { creator_id: id, following: true }))
}

/// `POST /follows`.
pub async fn follow_named(services: web::Data<Services>, caller: Caller, Body(body): Body<FollowBody>) -> Answer {
    let id = body.validate()?;
    services.creators.follow(caller.user, id).await?;
    Ok(HttpResponse::Ok().json(FollowingBody { creator_id: id, following: true }))
}

/// `DELETE /creators/{id}/follow`.
pub async fn unfollow(services: web::Data<Services>, caller: Caller, Id(id): Id<CreatorId>) -> Answer {
    services.creators.unfollow(caller.user, id).await?;
    Ok(HttpResponse::Ok().json(FollowingBody { creator_id: id, following: false }))
}

/// `GET /creators/{id}/followers`.
pub async fn followers(
    services: web::Data<Services>,
    request: HttpRequest,
    Id(id): Id<CreatorId>,
    paging: Paging,
) -> Answer {
    let after = paging.after(List::Followers)?.map(UserId);
    let page = services.creators.followers(id, after, paging.limit).await?;
    Ok(pages::answer(&request, List::Followers, &page, |user| user.0, |&user_id| FollowerBody { user_id }))
}

/// `GET /users/{id}/following`.
pub async fn following(
    services: web::Data<Services>,
    caller: Caller,
    request: HttpRequest,
    Whose(user): Whose,
    paging: Paging,
) -> Answer {
    let after = paging.after(List::Following)?.map(CreatorId);
    let page = services.creators.following(&caller, user, after, paging.limit).await?;
    Ok(pages::answer(&request, List::Following, &page, |id| id.0, |&creator_id| FollowedBody { creator_id }))
}

/// `GET /users/{id}/follows/{creator_id}`.
pub async fn follows(
    services: web::Data<Services>,
    caller: Caller,
    Whose(user): Whose,
    Id(CreatorParameter(creator_id)): Id<CreatorParameter>,
) -> Answer {
    let following = services.creators.follows(&caller, user, creator_id).await?;
    Ok(HttpResponse::Ok().json(FollowingBody { creator_id, following }))
}
