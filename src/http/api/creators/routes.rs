//! `/creators`, `/follows` and the creators that a user follows.

use crate::domain::{CreatorId, DropId, ProductId, UserId};
use crate::http::answer::{Answer, created, location, ok};
use crate::http::api::creators::dto::{
    CreatorBody, CreatorChangeBody, FollowBody, FollowedBody, FollowerBody, FollowingBody, NewCreatorBody,
};
use crate::http::api::drops::dto::DropBody;
use crate::http::api::products::dto::ProductSummaryBody;
use crate::http::extract::auth::Whose;
use crate::http::extract::conditional::{self, Precondition, creator_revision};
use crate::http::extract::json::{self, Body};
use crate::http::extract::keyed::{MaybeKeyed, Repeated, once};
use crate::http::extract::pages::{self, List, PageBody, Paging};
use crate::http::extract::path::{CreatorParameter, Id};
use crate::http::openapi::parameters::{
    AndCreator, CreatorsQuery, DropsOfOneQuery, FollowersQuery, FollowingQuery, KeyedOrNot, OfCreator, OfUser,
    ProductsOfOneQuery, WithIfMatch,
};
use crate::http::openapi::problems::{Fails, codes};
use crate::http::{Services, declared};
use crate::service::creators::{FollowInput, ProfileChangeInput, ProfileInput};
use crate::service::{Caller, Code as C, DropFilter, ProductFilter};
use actix_web::{HttpRequest, web};

declared::table! {
    following __path_following OwnerOrAdmin Reads;
    follows __path_follows OwnerOrAdmin Reads;
    list __path_list Anybody Reads;
    create __path_create User Writes;
    get __path_get Anybody Reads;
    change __path_change Manager Writes;
    follow __path_follow User Writes;
    unfollow __path_unfollow User Writes;
    followers __path_followers Anybody Reads;
    products __path_products Anybody Reads;
    drops __path_drops Anybody Reads;
    follow_named __path_follow_named User Writes;
}

#[utoipa::path(
    post,
    path = "/api/v1/creators",
    tag = "Creators",
    operation_id = "create_creator",
    summary = "Become a creator",
    params(KeyedOrNot),
    request_body = NewCreatorBody,
    responses(
        (status = 201, description = "The profile", body = CreatorBody, headers(("Location" = String, description = "Where it lives"))),
        Fails<{ codes(&[C::UserNotFound, C::HandleTaken, C::AlreadyACreator]) }>,
    ),
    security(("bearer" = [])),
)]
pub async fn create(
    services: web::Data<Services>,
    caller: Caller,
    key: MaybeKeyed,
    Body(body): Body<NewCreatorBody>,
) -> Answer {
    let new = body.validate::<ProfileInput>()?;
    once(&services.keys, &caller, key, (Repeated::ChangesMore, &new), async |attempt| {
        let creator = services.creators.open_profile(caller.user, new.clone(), attempt).await?;
        Ok(created(location("creators", creator.id.0), json::write(&CreatorBody::from(&creator))?))
    })
    .await
}

#[utoipa::path(
    get,
    path = "/api/v1/creators/{id}",
    tag = "Creators",
    operation_id = "get_creator",
    summary = "One creator",
    params(OfCreator),
    responses(
        (status = 200, description = "The profile", body = CreatorBody),
        Fails<{ codes(&[C::CreatorNotFound]) }>,
    ),
)]
pub async fn get(services: web::Data<Services>, request: HttpRequest, Id(id): Id<CreatorId>) -> Answer {
    let creator = services.creators.get(id).await?;
    conditional::page(&request, Some(&creator_revision(&creator)), CreatorBody::from(&creator))
}

#[utoipa::path(
    patch,
    path = "/api/v1/creators/{id}",
    tag = "Creators",
    operation_id = "change_creator",
    summary = "Change a profile (its creator, admins)",
    description = "What is left out stays, and so does the handle.",
    params(OfCreator, WithIfMatch),
    request_body = CreatorChangeBody,
    responses(
        (status = 200, description = "The profile as it is now", body = CreatorBody),
        Fails<{ codes(&[C::CreatorNotFound, C::UserNotFound, C::Forbidden, C::Overloaded]) }>,
    ),
    security(("bearer" = [])),
)]
pub async fn change(
    services: web::Data<Services>,
    caller: Caller,
    Id(id): Id<CreatorId>,
    precondition: Precondition,
    Body(body): Body<CreatorChangeBody>,
) -> Answer {
    let change = body.validate::<ProfileChangeInput>()?;
    let only_if = precondition.holds(creator_revision);
    let creator = services.creators.change(&caller, id, change, only_if.as_deref()).await?;
    conditional::changed(Some(&creator_revision(&creator)), CreatorBody::from(&creator))
}

#[utoipa::path(
    get,
    path = "/api/v1/creators",
    tag = "Creators",
    operation_id = "list_creators",
    summary = "All creators",
    params(CreatorsQuery),
    responses(
        (status = 200, description = "One page", body = PageBody<CreatorBody>, headers(("Link" = Option<String>, description = "The next page, `rel=\"next\"`, where there is one"))),
    ),
)]
pub async fn list(services: web::Data<Services>, request: HttpRequest, paging: Paging) -> Answer {
    let after = paging.after(List::Creators)?.map(CreatorId);
    let page = services.creators.list(after, paging.limit).await?;
    Ok(pages::answer(&request, List::Creators, &page, |creator| creator.id.0, CreatorBody::from))
}

#[utoipa::path(
    get,
    path = "/api/v1/creators/{id}/products",
    tag = "Creators",
    operation_id = "list_creator_products",
    summary = "A creator's products, newest first",
    params(OfCreator, ProductsOfOneQuery),
    responses(
        (status = 200, description = "One page", body = PageBody<ProductSummaryBody>, headers(("Link" = Option<String>, description = "The next page, `rel=\"next\"`, where there is one"))),
        Fails<{ codes(&[C::CreatorNotFound]) }>,
    ),
)]
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
    Ok(pages::answer(&request, List::Products, &page, |product| product.id.0, ProductSummaryBody::from))
}

#[utoipa::path(
    get,
    path = "/api/v1/creators/{id}/drops",
    tag = "Creators",
    operation_id = "list_creator_drops",
    summary = "A creator's drops, newest first",
    params(OfCreator, DropsOfOneQuery),
    responses(
        (status = 200, description = "One page", body = PageBody<DropBody>, headers(("Link" = Option<String>, description = "The next page, `rel=\"next\"`, where there is one"))),
        Fails<{ codes(&[C::CreatorNotFound]) }>,
    ),
)]
pub async fn drops(
    services: web::Data<Services>,
    request: HttpRequest,
    Id(id): Id<CreatorId>,
    paging: Paging,
) -> Answer {
    let filter = DropFilter { creator: Some(id), ..paging.filter()? };
    let after = paging.after(List::Drops)?.map(DropId);
    let page = services.drops.list(filter, after, paging.limit).await?;
    // A creator with drops exists. The list may come from memory; this check needs the database.
    if page.items.is_empty() {
        services.creators.get(id).await?;
    }
    Ok(pages::answer(&request, List::Drops, &page, |drop| drop.spec.id.0, DropBody::from))
}

#[utoipa::path(
    post,
    path = "/api/v1/creators/{id}/follow",
    tag = "Follows",
    operation_id = "follow",
    summary = "Follow a creator",
    description = "Again is as good as once, so it takes no `Idempotency-Key`.",
    params(OfCreator),
    responses(
        (status = 200, description = "So it is, whatever it was", body = FollowingBody),
        Fails<{ codes(&[C::CreatorNotFound, C::UserNotFound]) }>,
    ),
    security(("bearer" = [])),
)]
pub async fn follow(services: web::Data<Services>, caller: Caller, Id(id): Id<CreatorId>) -> Answer {
    services.creators.follow(caller.user, id).await?;
    ok(FollowingBody { creator_id: id, following: true })
}

#[utoipa::path(
    post,
    path = "/api/v1/follows",
    tag = "Follows",
    operation_id = "follow_named",
    summary = "Follow the creator that the body names",
    description = "Again is as good as once, so it takes no `Idempotency-Key`.",
    request_body = FollowBody,
    responses(
        (status = 200, description = "So it is, whatever it was", body = FollowingBody),
        Fails<{ codes(&[C::CreatorNotFound, C::UserNotFound]) }>,
    ),
    security(("bearer" = [])),
)]
pub async fn follow_named(services: web::Data<Services>, caller: Caller, Body(body): Body<FollowBody>) -> Answer {
    let id = body.validate::<FollowInput>()?;
    services.creators.follow(caller.user, id).await?;
    ok(FollowingBody { creator_id: id, following: true })
}

#[utoipa::path(
    delete,
    path = "/api/v1/creators/{id}/follow",
    tag = "Follows",
    operation_id = "unfollow",
    summary = "Follow a creator no more",
    params(OfCreator),
    responses(
        (status = 200, description = "So it is, whatever it was", body = FollowingBody),
        Fails<{ codes(&[C::CreatorNotFound, C::UserNotFound]) }>,
    ),
    security(("bearer" = [])),
)]
pub async fn unfollow(services: web::Data<Services>, caller: Caller, Id(id): Id<CreatorId>) -> Answer {
    services.creators.unfollow(caller.user, id).await?;
    ok(FollowingBody { creator_id: id, following: false })
}

#[utoipa::path(
    get,
    path = "/api/v1/creators/{id}/followers",
    tag = "Follows",
    operation_id = "list_followers",
    summary = "Who follows a creator and lets others see it",
    params(OfCreator, FollowersQuery),
    responses(
        (status = 200, description = "One page", body = PageBody<FollowerBody>, headers(("Link" = Option<String>, description = "The next page, `rel=\"next\"`, where there is one"))),
        Fails<{ codes(&[C::CreatorNotFound]) }>,
    ),
)]
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

#[utoipa::path(
    get,
    path = "/api/v1/users/{id}/following",
    tag = "Follows",
    operation_id = "list_following",
    summary = "Whom a user follows",
    description = "One's own, or those of a user who does not keep them private.",
    params(OfUser, FollowingQuery),
    responses(
        (status = 200, description = "One page", body = PageBody<FollowedBody>, headers(("Link" = Option<String>, description = "The next page, `rel=\"next\"`, where there is one"))),
        Fails<{ codes(&[C::UserNotFound, C::Forbidden]) }>,
    ),
    security(("bearer" = [])),
)]
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

#[utoipa::path(
    get,
    path = "/api/v1/users/{id}/follows/{creator_id}",
    tag = "Follows",
    operation_id = "get_follow",
    summary = "Whether a user follows a creator",
    description = "One's own, or those of a user who does not keep them private.",
    params(OfUser, AndCreator),
    responses(
        (status = 200, description = "Whether", body = FollowingBody),
        Fails<{ codes(&[C::UserNotFound, C::CreatorNotFound, C::Forbidden]) }>,
    ),
    security(("bearer" = [])),
)]
pub async fn follows(
    services: web::Data<Services>,
    caller: Caller,
    Whose(user): Whose,
    Id(CreatorParameter(creator_id)): Id<CreatorParameter>,
) -> Answer {
    let following = services.creators.follows(&caller, user, creator_id).await?;
    ok(FollowingBody { creator_id, following })
}
