//! `/products`.

use super::{Answer, created};
use crate::domain::ProductId;
use crate::http::Services;
use crate::http::conditional;
use crate::http::dto::products::{NewProductBody, ProductBody, ProductChangeBody};
use crate::http::json::Body;
use crate::http::pages::{self, List, Paging};
use crate::http::path::Id;
use crate::service::Caller;
use actix_web::{HttpRequest, HttpResponse, web};

/// `POST /products`.
pub async fn create(services: web::Data<Services>, caller: Caller, Body(body): Body<NewProductBody>) -> Answer {
    let product = services.products.create(caller.user, body.validate()?).await?;
    Ok(created(format!("/api/v1/products/{}", product.id), ProductBody::from(&product)))
}

/// `GET /products/{id}`.
pub async fn get(services: web::Data<Services>, request: HttpRequest, Id(id): Id<ProductId>) -> Answer {
    conditional::page(&request, ProductBody::from(&services.products.get(id).await?))
}

/// `GET /products`.
pub async fn list(services: web::Data<Services>, request: HttpRequest, paging: Paging) -> Answer {
    let filter = paging.product_filter()?;
    let after = paging.after(List::Products)?.map(ProductId);
    let page = services.products.list(filter, after, paging.limit).await?;
    Ok(pages::answer(&request, List::Products, &page, |product| product.id.0, ProductBody::from))
}

/// `PATCH /products/{id}`.
pub async fn change(
    services: web::Data<Services>,
    caller: Caller,
    Id(id): Id<ProductId>,
    Body(body): Body<ProductChangeBody>,
) -> Answer {
    let product = services.products.change(&caller, id, &body.validate()?).await?;
    Ok(HttpResponse::Ok().json(ProductBody::from(&product)))
}

/// `POST /products/{id}/archive`.
pub async fn archive(services: web::Data<Services>, caller: Caller, Id(id): Id<ProductId>) -> Answer {
    Ok(HttpResponse::Ok().json(ProductBody::from(&services.products.archive(&caller, id).await?)))
}

/// `POST /products/{id}/restore`.
pub async fn restore(services: web::Data<Services>, caller: Caller, Id(id): Id<ProductId>) -> Answer {
    Ok(HttpResponse::Ok().json(ProductBody::from(&services.products.restore(&caller, id).await?)))
}
