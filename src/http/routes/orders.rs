//! `/orders`: the hot path. One parse of the body, no SQL, nothing copied that can be handed on.

use super::{Answer, created};
use crate::domain::OrderId;
use crate::http::Services;
use crate::http::auth::Own;
use crate::http::dto::orders::{NewOrderBody, OrderBody, PayBody};
use crate::http::idempotency::IdempotencyKey;
use crate::http::json::Body;
use crate::http::pages::{self, List, Paging};
use crate::http::path::Id;
use crate::http::problem::Problem;
use crate::http::trace;
use crate::service::Caller;
use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::{HttpRequest, HttpResponse, web};

/// `POST /orders`.
pub async fn place(
    services: web::Data<Services>,
    Caller { user: buyer, .. }: Caller,
    IdempotencyKey(key): IdempotencyKey,
    Body(body): Body<NewOrderBody>,
) -> Answer {
    let keyed = services.orders.place(buyer, &key, body.validate()?, trace::current_id()).await?;
    match keyed.answer {
        Ok(order) => {
            let mut response = created(format!("/api/v1/orders/{}", order.id), OrderBody::from(&order));
            if keyed.replayed {
                let name = HeaderName::from_static("idempotency-replayed");
                response.headers_mut().insert(name, HeaderValue::from_static("true"));
            }
            Ok(response)
        }
        Err(refusal) => Err(Problem::from(refusal).replayed(keyed.replayed)),
    }
}

/// `POST /orders/{id}/pay`.
pub async fn pay(
    services: web::Data<Services>,
    Caller { user: buyer, .. }: Caller,
    Id(id): Id<OrderId>,
    Body(body): Body<PayBody>,
) -> Answer {
    let order = services.orders.pay(buyer, id, body.validate()?, trace::current_id()).await?;
    Ok(HttpResponse::Ok().json(OrderBody::from(&order)))
}

/// `POST /orders/{id}/cancel`.
pub async fn cancel(services: web::Data<Services>, Caller { user: buyer, .. }: Caller, Id(id): Id<OrderId>) -> Answer {
    let order = services.orders.cancel(buyer, id, trace::current_id()).await?;
    Ok(HttpResponse::Ok().json(OrderBody::from(&order)))
}

/// `GET /orders/{id}`.
pub async fn get(services: web::Data<Services>, Caller { user: buyer, .. }: Caller, Id(id): Id<OrderId>) -> Answer {
    Ok(HttpResponse::Ok().json(OrderBody::from(&services.orders.get(buyer, id).await?)))
}

/// `GET /users/{id}/orders`.
pub async fn list(services: web::Data<Services>, request: HttpRequest, Own(buyer): Own, paging: Paging) -> Answer {
    let after = paging.after(List::Orders)?.map(OrderId);
    let page = services.orders.list(buyer, after, paging.limit).await?;
    Ok(pages::answer(&request, List::Orders, &page, |order| order.id.0, OrderBody::from))
}
