//! `/orders`: the hot path. One parse of the body, no SQL, no needless copy.

use crate::domain::OrderId;
use crate::http::answer::{Answer, created, location, ok};
use crate::http::api::orders::dto::{NewOrderBody, OrderBody, PayBody};
use crate::http::api::orders::payments::PaymentsBody;
use crate::http::extract::auth::Own;
use crate::http::extract::idempotency::IdempotencyKey;
use crate::http::extract::json::{self, Body};
use crate::http::extract::keyed::{MaybeKeyed, Repeated, once};
use crate::http::extract::pages::{self, List, PageBody, Paging};
use crate::http::extract::path::Id;
use crate::http::middleware::current_trace;
use crate::http::openapi::parameters::{Keyed, KeyedOrNot, OfOrder, OfUser, OrdersQuery, OwnOrdersQuery};
use crate::http::openapi::problems::{ASKS, Fails, codes};
use crate::http::problem::Problem;
use crate::http::{Services, declared};
use crate::service::caller::network;
use crate::service::orders::{OrderInput, PaymentInput};
use crate::service::{Caller, Code as C};
use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::{HttpRequest, web};

declared::table! {
    place __path_place User Orders;
    get __path_get Buyer Reads;
    pay __path_pay Buyer Orders;
    cancel __path_cancel Buyer Orders;
    payments __path_payments Buyer Reads;
    search __path_search User Reads;
    list __path_list Owner Reads;
}

#[utoipa::path(
    post,
    path = "/api/v1/orders",
    tag = "Orders",
    operation_id = "place_order",
    summary = "Place an order",
    description = "With `payment_method` it reserves, charges and confirms in one call. `variant_id` may be left out where the drop has one variant.",
    params(Keyed),
    request_body = NewOrderBody,
    responses(
        (status = 201, description = "The order: `reserved`, or `confirmed` where it is paid or free", body = OrderBody, headers(("Location" = String, description = "Where it lives"), ("Idempotency-Replayed" = Option<String>, description = "`true` where this is the first answer again"))),
        Fails<{ codes(&[C::DropNotFound, C::DropNotStarted, C::DropEnded, C::DropCancelled, C::SoldOut, C::NotEnoughStock, C::LimitExceeded, C::TooManyHolds, C::HoldCooldown, C::UnknownVariant, C::ConflictingFields, C::AddressRequired, C::AddressReferenceInvalid, C::NotShippedThere, C::PaymentMethodUnknown, C::PaymentDeclined, C::PaymentInProgress, C::PaymentTimeout, C::PaymentActionRequired, C::PaymentUnavailable, C::PaymentsOff, C::HoldExpired, C::OrderNotFound, C::OrderNotReserved, C::OrderAlreadyConfirmed]) | codes(ASKS) }>,
    ),
    security(("bearer" = [])),
)]
pub async fn place(
    services: web::Data<Services>,
    caller: Caller,
    IdempotencyKey(key): IdempotencyKey,
    Body(body): Body<NewOrderBody>,
) -> Answer {
    let mut new = body.validate::<OrderInput>()?;
    services.orders.read_address(caller.user, &mut new)?;
    let keyed = services.orders.place(caller.user, &key, &new, caller.trace, caller.origin.map(network)).await?;
    match keyed.answer {
        Ok(order) => {
            let mut response = created(location("orders", order.id.0), json::write_plain(&OrderBody::from(&*order)));
            if keyed.replayed {
                let name = HeaderName::from_static("idempotency-replayed");
                response.headers_mut().insert(name, HeaderValue::from_static("true"));
            }
            Ok(response)
        }
        Err(refusal) => Err(Problem::from(refusal).replayed(keyed.replayed)),
    }
}

#[utoipa::path(
    post,
    path = "/api/v1/orders/{id}/pay",
    tag = "Orders",
    operation_id = "pay_order",
    summary = "Pay a reserved order",
    params(OfOrder, KeyedOrNot),
    request_body = PayBody,
    responses(
        (status = 200, description = "The order; on a confirmed one: the same again", body = OrderBody),
        Fails<{ codes(&[C::OrderNotFound, C::OrderNotReserved, C::OrderAlreadyConfirmed, C::HoldExpired, C::PaymentMethodUnknown, C::PaymentDeclined, C::PaymentInProgress, C::PaymentTimeout, C::PaymentActionRequired, C::PaymentUnavailable]) | codes(ASKS) }>,
    ),
    security(("bearer" = [])),
)]
pub async fn pay(
    services: web::Data<Services>,
    caller: Caller,
    Id(id): Id<OrderId>,
    key: MaybeKeyed,
    Body(body): Body<PayBody>,
) -> Answer {
    let method = body.validate::<PaymentInput>()?;
    once(&services.keys, &caller, key, (Repeated::ChangesNothing, &method), async |_| {
        let order = services.orders.pay(caller.user, id, method.clone(), current_trace::id()).await?;
        ok(OrderBody::from(&order))
    })
    .await
}

#[utoipa::path(
    post,
    path = "/api/v1/orders/{id}/cancel",
    tag = "Orders",
    operation_id = "cancel_order",
    summary = "Give a reservation back",
    params(OfOrder, KeyedOrNot),
    responses(
        (status = 200, description = "The order; repeated: unchanged", body = OrderBody),
        Fails<{ codes(&[C::OrderNotFound, C::OrderNotReserved, C::OrderAlreadyConfirmed, C::PaymentInProgress]) | codes(ASKS) }>,
    ),
    security(("bearer" = [])),
)]
pub async fn cancel(services: web::Data<Services>, caller: Caller, Id(id): Id<OrderId>, key: MaybeKeyed) -> Answer {
    once(&services.keys, &caller, key, (Repeated::ChangesNothing, &()), async |_| {
        let order = services.orders.cancel(caller.user, id, current_trace::id()).await?;
        ok(OrderBody::from(&order))
    })
    .await
}

#[utoipa::path(
    get,
    path = "/api/v1/orders/{id}",
    tag = "Orders",
    operation_id = "get_order",
    summary = "One's own order",
    params(OfOrder),
    responses(
        (status = 200, description = "The order", body = OrderBody),
        Fails<{ codes(&[C::OrderNotFound]) | codes(ASKS) }>,
    ),
    security(("bearer" = [])),
)]
pub async fn get(services: web::Data<Services>, Caller { user: buyer, .. }: Caller, Id(id): Id<OrderId>) -> Answer {
    ok(OrderBody::from(&services.orders.get(buyer, id).await?))
}

#[utoipa::path(
    get,
    path = "/api/v1/orders/{id}/payments",
    tag = "Orders",
    operation_id = "list_payments",
    summary = "The payments of one's own order",
    description = "Every attempt to pay it, with a status of its own. `client_secret` and `action_url` say what the buyer has to do before the pending one goes on.",
    params(OfOrder),
    responses(
        (status = 200, description = "All attempts, oldest first", body = PaymentsBody),
        Fails<{ codes(&[C::OrderNotFound]) | codes(ASKS) }>,
    ),
    security(("bearer" = [])),
)]
pub async fn payments(
    services: web::Data<Services>,
    Caller { user: buyer, .. }: Caller,
    Id(id): Id<OrderId>,
) -> Answer {
    ok(PaymentsBody::from(&services.orders.payments(buyer, id).await?))
}

#[utoipa::path(
    get,
    path = "/api/v1/orders",
    tag = "Orders",
    operation_id = "search_orders",
    summary = "One's own orders, newest first, or the one with a number",
    params(OwnOrdersQuery),
    responses(
        (status = 200, description = "One page", body = PageBody<OrderBody>, headers(("Link" = Option<String>, description = "The next page, `rel=\"next\"`, where there is one"))),
        Fails<{ codes(ASKS) }>,
    ),
    security(("bearer" = [])),
)]
pub async fn search(services: web::Data<Services>, caller: Caller, request: HttpRequest, paging: Paging) -> Answer {
    let after = paging.after(List::Orders)?.map(OrderId);
    let page = match paging.number()? {
        None => services.orders.list(caller.user, after, paging.limit).await?,
        Some(number) => services.orders.numbered(caller.user, number).await?,
    };
    Ok(pages::answer(&request, List::Orders, &page, |order| order.id.0, OrderBody::from))
}

#[utoipa::path(
    get,
    path = "/api/v1/users/{id}/orders",
    tag = "Orders",
    operation_id = "list_orders",
    summary = "One's own orders, newest first",
    params(OfUser, OrdersQuery),
    responses(
        (status = 200, description = "One page", body = PageBody<OrderBody>, headers(("Link" = Option<String>, description = "The next page, `rel=\"next\"`, where there is one"))),
        Fails<{ codes(&[C::UserNotFound, C::Forbidden]) | codes(ASKS) }>,
    ),
    security(("bearer" = [])),
)]
pub async fn list(services: web::Data<Services>, request: HttpRequest, Own(buyer): Own, paging: Paging) -> Answer {
    let after = paging.after(List::Orders)?.map(OrderId);
    let page = services.orders.list(buyer, after, paging.limit).await?;
    Ok(pages::answer(&request, List::Orders, &page, |order| order.id.0, OrderBody::from))
}
