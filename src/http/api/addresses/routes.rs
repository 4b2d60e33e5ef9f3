//! `/users/me/addresses`.

use crate::domain::AddressId;
use crate::http::answer::{Answer, created, location, ok};
use crate::http::api::addresses::dto::{AddressBody, AddressChangeBody, AddressesBody, NewAddressBody};
use crate::http::extract::json::{self, Body};
use crate::http::extract::path::Id;
use crate::http::openapi::parameters::OfAddress;
use crate::http::openapi::problems::{Fails, codes};
use crate::http::{Services, declared};
use crate::service::addresses::{AddressChangeInput, AddressInput};
use crate::service::{Caller, Code as C};
use actix_web::{HttpResponse, web};

declared::table! {
    list __path_list User Reads;
    get __path_get Addressee Reads;
    add __path_add User Writes;
    change __path_change Addressee Writes;
    delete __path_delete Addressee Writes;
}

#[utoipa::path(
    get,
    path = "/api/v1/users/me/addresses",
    tag = "Addresses",
    operation_id = "list_addresses",
    summary = "One's own addresses, the oldest first",
    responses(
        (status = 200, description = "All of them", body = AddressesBody),
        Fails<{ codes(&[C::AddressUnreadable]) }>,
    ),
    security(("bearer" = [])),
)]
pub async fn list(services: web::Data<Services>, caller: Caller) -> Answer {
    ok(AddressesBody::of(&services.addresses.list(caller.user).await?))
}

#[utoipa::path(
    get,
    path = "/api/v1/users/me/addresses/{id}",
    tag = "Addresses",
    operation_id = "get_address",
    summary = "One of one's own addresses",
    params(OfAddress),
    responses(
        (status = 200, description = "The address", body = AddressBody),
        Fails<{ codes(&[C::AddressNotFound, C::AddressUnreadable]) }>,
    ),
    security(("bearer" = [])),
)]
pub async fn get(services: web::Data<Services>, caller: Caller, Id(id): Id<AddressId>) -> Answer {
    ok(AddressBody::from(&services.addresses.get(caller.user, id).await?))
}

#[utoipa::path(
    post,
    path = "/api/v1/users/me/addresses",
    tag = "Addresses",
    operation_id = "add_address",
    summary = "Add an address",
    description = "The very same address again is that address, with 200. It takes no `Idempotency-Key`: the answers of keys are kept, and this one is not.",
    request_body = NewAddressBody,
    responses(
        (status = 200, description = "The address that there is already", body = AddressBody),
        (status = 201, description = "The new address", body = AddressBody, headers(("Location" = String, description = "Where it lives"))),
        Fails<{ codes(&[C::ConflictingFields, C::TooManyAddresses, C::UserNotFound, C::AddressUnreadable]) }>,
    ),
    security(("bearer" = [])),
)]
pub async fn add(services: web::Data<Services>, caller: Caller, Body(body): Body<NewAddressBody>) -> Answer {
    let (known, is_new) = services.addresses.add(&caller, body.validate::<AddressInput>()?).await?;
    let body = AddressBody::from(&known);
    if is_new { Ok(created(location("users/me/addresses", known.id.0), json::write(&body)?)) } else { ok(body) }
}

#[utoipa::path(
    patch,
    path = "/api/v1/users/me/addresses/{id}",
    tag = "Addresses",
    operation_id = "change_address",
    summary = "Change an address",
    description = "What is left out stays. The id stays too, and `version` is a new one.",
    params(OfAddress),
    request_body = AddressChangeBody,
    responses(
        (status = 200, description = "The address as it is now", body = AddressBody),
        Fails<{ codes(&[C::AddressNotFound, C::ConflictingFields, C::UserNotFound, C::Overloaded, C::AddressUnreadable]) }>,
    ),
    security(("bearer" = [])),
)]
pub async fn change(
    services: web::Data<Services>,
    caller: Caller,
    Id(id): Id<AddressId>,
    Body(body): Body<AddressChangeBody>,
) -> Answer {
    let change = body.validate::<AddressChangeInput>()?;
    ok(AddressBody::from(&services.addresses.change(&caller, id, &change).await?))
}

#[utoipa::path(
    delete,
    path = "/api/v1/users/me/addresses/{id}",
    tag = "Addresses",
    operation_id = "delete_address",
    summary = "Delete an address",
    params(OfAddress),
    responses(
        (status = 204, description = "It is deleted"),
        Fails<{ codes(&[C::AddressNotFound]) }>,
    ),
    security(("bearer" = [])),
)]
pub async fn delete(services: web::Data<Services>, caller: Caller, Id(id): Id<AddressId>) -> Answer {
    services.addresses.delete(&caller, id).await?;
    Ok(HttpResponse::NoContent().finish())
}
