//! Routes of refunds that buyers ask for.

use crate::domain::{DropId, OrderId};
use crate::http::answer::{Answer, ok};
use crate::http::api::refunds::dto::{NewRefundRequestBody, RefundAnswerBody, RefundRequestBody, RefundRequestsBody};
use crate::http::extract::json::Body;
use crate::http::extract::pages::{self, List, PageBody, Paging};
use crate::http::extract::path::Id;
use crate::http::openapi::parameters::{OfDrop, OfOrder, RefundRequestsQuery};
use crate::http::openapi::problems::{ASKS, Fails, codes};
use crate::http::{Services, declared};
use crate::service::sales::{RefundAnswerInput, RefundRequestInput};
use crate::service::{Caller, Code as C};
use actix_web::{HttpRequest, web};

declared::table! {
    list __path_list Manager Reads;
    get __path_get Party Reads;
    ask __path_ask Buyer Writes;
    answer __path_answer Seller Orders;
}

#[utoipa::path(
    get,
    path = "/api/v1/drops/{id}/refund-requests",
    tag = "Sales",
    operation_id = "list_refund_requests",
    summary = "Refunds that a drop's buyers ask for, the oldest order first (its creator, admins)",
    params(OfDrop, RefundRequestsQuery),
    responses(
        (status = 200, description = "One page", body = PageBody<RefundRequestBody>, headers(("Link" = Option<String>, description = "The next page, `rel=\"next\"`, where there is one"))),
        Fails<{ codes(&[C::DropNotFound, C::Forbidden]) }>,
    ),
    security(("bearer" = [])),
)]
pub async fn list(
    services: web::Data<Services>,
    caller: Caller,
    request: HttpRequest,
    Id(id): Id<DropId>,
    paging: Paging,
) -> Answer {
    let after = paging.after(List::RefundRequests)?.map(OrderId);
    let page = services.sales.refund_requests(&caller, id, after, paging.limit).await?;
    Ok(pages::answer(&request, List::RefundRequests, &page, |row| row.order.0, RefundRequestBody::from))
}

#[utoipa::path(
    get,
    path = "/api/v1/orders/{id}/refund-requests",
    tag = "Orders",
    operation_id = "get_refund_requests",
    summary = "The refund that an order's buyer asks for, and its answer (its buyer, the drop's creator, admins)",
    params(OfOrder),
    responses(
        (status = 200, description = "One, or none", body = RefundRequestsBody),
        Fails<{ codes(&[C::OrderNotFound, C::DropNotFound]) | codes(ASKS) }>,
    ),
    security(("bearer" = [])),
)]
pub async fn get(services: web::Data<Services>, caller: Caller, Id(id): Id<OrderId>) -> Answer {
    ok(RefundRequestsBody::from(&services.sales.refund_request(&caller, id).await?))
}

#[utoipa::path(
    post,
    path = "/api/v1/orders/{id}/refund-requests",
    tag = "Orders",
    operation_id = "request_refund",
    summary = "Ask the seller for a refund",
    description = "An order has one request: repeated, the answer is the first one as it is now.",
    params(OfOrder),
    request_body = NewRefundRequestBody,
    responses(
        (status = 200, description = "The request", body = RefundRequestBody),
        Fails<{ codes(&[C::OrderNotFound, C::UserNotFound, C::OrderNotConfirmed, C::RefundRequestNotOpen]) | codes(ASKS) }>,
    ),
    security(("bearer" = [])),
)]
pub async fn ask(
    services: web::Data<Services>,
    caller: Caller,
    Id(id): Id<OrderId>,
    Body(body): Body<NewRefundRequestBody>,
) -> Answer {
    let reason = body.validate::<RefundRequestInput>()?;
    ok(RefundRequestBody::from(&services.sales.ask_refund(&caller, id, reason).await?))
}

#[utoipa::path(
    post,
    path = "/api/v1/orders/{id}/refund-requests/answer",
    tag = "Sales",
    operation_id = "answer_refund_request",
    summary = "Accept or refuse a refund that a buyer asks for (the drop's creator, admins)",
    description = "One that is accepted is refunded as a whole, as by `refund_order`. Repeated: unchanged.",
    params(OfOrder),
    request_body = RefundAnswerBody,
    responses(
        (status = 200, description = "The request with its answer", body = RefundRequestBody),
        Fails<{ codes(&[C::OrderNotFound, C::DropNotFound, C::Forbidden, C::OrderNotConfirmed, C::OrderNotReserved, C::RefundRequestNotOpen]) | codes(ASKS) }>,
    ),
    security(("bearer" = [])),
)]
pub async fn answer(
    services: web::Data<Services>,
    caller: Caller,
    Id(id): Id<OrderId>,
    Body(body): Body<RefundAnswerBody>,
) -> Answer {
    let answer = body.validate::<RefundAnswerInput>()?;
    ok(RefundRequestBody::from(&services.sales.answer_refund(&caller, id, answer).await?))
}
