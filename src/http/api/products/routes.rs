//! Routes of products, below `/products`.

use crate::domain::limits::PRODUCT_BODY_BYTES_MAX;
use crate::domain::{ProductId, ProductStatus};
use crate::http::answer::{Answer, created, location};
use crate::http::api::changing::Changing;
use crate::http::api::products::dto::{NewProductBody, ProductBody, ProductChangeBody, ProductSummaryBody};
use crate::http::extract::conditional::{self, Precondition, product_revision};
use crate::http::extract::json::{self, Body};
use crate::http::extract::keyed::Repeated::{ChangesMore, ChangesNothing};
use crate::http::extract::keyed::{MaybeKeyed, once};
use crate::http::extract::pages::{self, List, PageBody, Paging};
use crate::http::extract::path::Id;
use crate::http::openapi::parameters::{KeyedOrNot, OfProduct, ProductsQuery, WithIfMatch};
use crate::http::openapi::problems::{Fails, codes};
use crate::http::{Services, declared};
use crate::service::products::{ProductChangeInput, ProductInput};
use crate::service::{Caller, Code as C};
use actix_web::{HttpRequest, web};

declared::table! {
    list __path_list Anybody Reads;
    create __path_create Creator Writes;
    get __path_get Anybody Reads;
    change __path_change Manager Writes;
    archive __path_archive Manager Writes;
    restore __path_restore Manager Writes;
}

#[utoipa::path(
    post,
    path = "/api/v1/products",
    tag = "Products",
    operation_id = "create_product",
    summary = "Add a product (creators)",
    params(KeyedOrNot),
    request_body = NewProductBody,
    responses(
        (status = 201, description = "The product", body = ProductBody, headers(("Location" = String, description = "Where it lives"))),
        Fails<{ codes(&[C::NotACreator, C::UserNotFound, C::ConflictingFields]) }>,
    ),
    security(("bearer" = [])),
)]
pub async fn create(
    services: web::Data<Services>,
    caller: Caller,
    key: MaybeKeyed,
    Body(body): Body<NewProductBody, PRODUCT_BODY_BYTES_MAX>,
) -> Answer {
    let new = body.validate::<ProductInput>()?;
    once(&services.keys, &caller, key, (ChangesMore, &new), async |attempt| {
        let product = services.products.create(caller.user, new.clone(), attempt).await?;
        Ok(created(location("products", product.id.0), json::write(&ProductBody::from(&product))?))
    })
    .await
}

#[utoipa::path(
    get,
    path = "/api/v1/products/{id}",
    tag = "Products",
    operation_id = "get_product",
    summary = "One product",
    params(OfProduct),
    responses(
        (status = 200, description = "The product", body = ProductBody),
        Fails<{ codes(&[C::ProductNotFound]) }>,
    ),
)]
pub async fn get(services: web::Data<Services>, request: HttpRequest, Id(id): Id<ProductId>) -> Answer {
    conditional::page(&request, None, ProductBody::from(&services.products.get(id).await?))
}

#[utoipa::path(
    get,
    path = "/api/v1/products",
    tag = "Products",
    operation_id = "list_products",
    summary = "All products, newest first",
    description = "Summaries: descriptions, attributes, variants and further images are in each product. A page whose rows are large, or of which few are in the range of prices, may be shorter than `limit`, and even empty: go on while there is a `next_cursor`.",
    params(ProductsQuery),
    responses(
        (status = 200, description = "One page", body = PageBody<ProductSummaryBody>, headers(("Link" = Option<String>, description = "The next page, `rel=\"next\"`, where there is one"))),
    ),
)]
pub async fn list(services: web::Data<Services>, request: HttpRequest, paging: Paging) -> Answer {
    let filter = paging.product_filter()?;
    let after = paging.after(List::Products)?.map(ProductId);
    let page = services.products.list(filter, after, paging.limit).await?;
    Ok(pages::answer(&request, List::Products, &page, |product| product.id.0, ProductSummaryBody::from))
}

#[utoipa::path(
    patch,
    path = "/api/v1/products/{id}",
    tag = "Products",
    operation_id = "change_product",
    summary = "Change a product (its creator, admins)",
    description = "A merge (RFC 7396): what is left out stays, `null` empties, attributes are merged by name, everything else is replaced as a whole.",
    params(OfProduct, WithIfMatch),
    request_body = ProductChangeBody,
    responses(
        (status = 200, description = "The product", body = ProductBody),
        Fails<{ codes(&[C::ProductNotFound, C::UserNotFound, C::Forbidden, C::ConflictingFields, C::Overloaded]) }>,
    ),
    security(("bearer" = [])),
)]
pub async fn change(
    services: web::Data<Services>,
    caller: Caller,
    Id(id): Id<ProductId>,
    precondition: Precondition,
    Body(body): Body<ProductChangeBody, PRODUCT_BODY_BYTES_MAX>,
) -> Answer {
    let change = body.validate::<ProductChangeInput>()?;
    let only_if = precondition.holds(product_revision);
    let product = services.products.change(&caller, id, &change, only_if.as_deref()).await?;
    conditional::changed(None, ProductBody::from(&product))
}

#[utoipa::path(
    post,
    path = "/api/v1/products/{id}/archive",
    tag = "Products",
    operation_id = "archive_product",
    summary = "Take a product out of the lists (its creator, admins)",
    params(OfProduct, WithIfMatch, KeyedOrNot),
    responses(
        (status = 200, description = "The product; repeated: unchanged", body = ProductBody),
        Fails<{ codes(&[C::ProductNotFound, C::UserNotFound, C::Forbidden, C::Overloaded]) }>,
    ),
    security(("bearer" = [])),
)]
pub async fn archive(asked: Changing<ProductId>) -> Answer {
    set_status(asked, ProductStatus::Archived).await
}

#[utoipa::path(
    post,
    path = "/api/v1/products/{id}/restore",
    tag = "Products",
    operation_id = "restore_product",
    summary = "Bring a product back (its creator, admins)",
    params(OfProduct, WithIfMatch, KeyedOrNot),
    responses(
        (status = 200, description = "The product; repeated: unchanged", body = ProductBody),
        Fails<{ codes(&[C::ProductNotFound, C::UserNotFound, C::Forbidden, C::Overloaded]) }>,
    ),
    security(("bearer" = [])),
)]
pub async fn restore(asked: Changing<ProductId>) -> Answer {
    set_status(asked, ProductStatus::Active).await
}

async fn set_status(
    (services, caller, Id(id), precondition, key): Changing<ProductId>,
    status: ProductStatus,
) -> Answer {
    let only_if = precondition.holds(product_revision);
    once(&services.keys, &caller, key, (ChangesNothing, &()), async |_| {
        let product = services.products.set_status(&caller, id, status, only_if.as_deref()).await?;
        conditional::changed(None, ProductBody::from(&product))
    })
    .await
}
