//! Bodies of requests and answers about refunds that buyers ask for.

use crate::domain::{OrderId, RefundRequestStatus, Timestamp};
use crate::http::openapi::schema;
use crate::service::RefundRequestRow;
use crate::service::input::Field;
use crate::service::sales::{RefundAnswerInput, RefundRequestInput};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A request for a refund.
#[derive(Deserialize, Default, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[schema(as = NewRefundRequest, examples(json!({"reason": "It does not fit"})))]
pub struct NewRefundRequestBody {
    #[schema(required = true, schema_with = schema::refund_reason)]
    reason: Field<String>,
}

impl From<NewRefundRequestBody> for RefundRequestInput {
    fn from(NewRefundRequestBody { reason }: NewRefundRequestBody) -> Self {
        Self { reason }
    }
}

/// The seller's answer to a request for a refund.
#[derive(Deserialize, Default, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[schema(as = RefundAnswer, examples(json!({"accept": false, "reason": "It was worn"})))]
pub struct RefundAnswerBody {
    #[schema(required = true, schema_with = schema::accepts_refund)]
    accept: Field<bool>,
    #[schema(schema_with = schema::refund_reason_or_null)]
    reason: Field<String>,
}

impl From<RefundAnswerBody> for RefundAnswerInput {
    fn from(RefundAnswerBody { accept, reason }: RefundAnswerBody) -> Self {
        Self { accept, reason }
    }
}

/// A request for a refund, and its answer.
#[derive(Serialize, ToSchema)]
#[schema(as = RefundRequest)]
pub struct RefundRequestBody<'a> {
    order_id: OrderId,
    #[schema(example = "It does not fit")]
    reason: &'a str,
    asked_at: Timestamp,
    status: RefundRequestStatus,
    /// The seller's reason.
    #[schema(required = true)]
    answer: Option<&'a str>,
    #[schema(required = true)]
    answered_at: Option<Timestamp>,
}

impl<'a> From<&'a RefundRequestRow> for RefundRequestBody<'a> {
    fn from(row: &'a RefundRequestRow) -> Self {
        Self {
            order_id: row.order,
            reason: &row.reason,
            asked_at: row.asked_at,
            status: row.status,
            answer: row.answer.as_deref(),
            answered_at: row.answered_at,
        }
    }
}

/// The requests for refunds of one order: one at most.
#[derive(Serialize, ToSchema)]
#[schema(as = RefundRequestsOfOrder)]
pub struct RefundRequestsBody<'a> {
    items: Vec<RefundRequestBody<'a>>,
}

impl<'a> From<&'a Option<RefundRequestRow>> for RefundRequestsBody<'a> {
    fn from(request: &'a Option<RefundRequestRow>) -> Self {
        Self { items: request.iter().map(RefundRequestBody::from).collect() }
    }
}
