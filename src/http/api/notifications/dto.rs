//! Bodies of requests and answers about tickets and inboxes.

use crate::domain::{CreatorId, DropId, OrderId, Timestamp, VariantId};
use crate::http::openapi::schema;
use crate::service::inbox::{AcknowledgementInput, Notification, ReadMarkInput};
use crate::service::input::Field;
use crate::service::{Concern, Offset};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A ticket that opens one session.
#[derive(Serialize, ToSchema)]
#[schema(as = Ticket)]
pub struct TicketBody {
    /// Goes into the query of one session: `?ticket=`.
    pub ticket: String,
    /// When an unused ticket expires.
    #[schema(schema_with = schema::time)]
    pub expires_at: Timestamp,
}

/// An entry of the inbox: an event that no session has acknowledged.
#[derive(Serialize, ToSchema)]
#[schema(as = Notification)]
pub struct NotificationBody<'a> {
    /// The `id` of the published event.
    #[schema(schema_with = schema::event_id)]
    id: String,
    /// The `type` of the published event.
    #[schema(example = "order_confirmed")]
    r#type: &'a str,
    at: Timestamp,
    #[schema(required = true)]
    read_at: Option<Timestamp>,
    drop_id: DropId,
    /// The drop's current title, which may have changed since the event.
    drop_title: &'a str,
    /// The drop's current start, which may have changed since the event.
    drop_starts_at: Timestamp,
    /// The followed creator of the drop; absent if the entry is about an own order.
    #[serde(skip_serializing_if = "Option::is_none")]
    creator_id: Option<CreatorId>,
    /// The own order; absent if the entry is about a followed creator's drop.
    #[serde(skip_serializing_if = "Option::is_none")]
    order_id: Option<OrderId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    variant_id: Option<VariantId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    quantity: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    release_reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refund_cause: Option<&'a str>,
}

impl<'a> From<&'a Notification> for NotificationBody<'a> {
    fn from(Notification { id, entry }: &'a Notification) -> Self {
        let mut body = Self {
            id: id.to_string(),
            r#type: &entry.kind,
            at: entry.at,
            read_at: entry.read_at,
            drop_id: entry.drop,
            drop_title: &entry.title,
            drop_starts_at: entry.starts_at,
            creator_id: None,
            order_id: None,
            variant_id: None,
            quantity: None,
            release_reason: None,
            refund_cause: None,
        };
        match &entry.concern {
            Concern::Follower(creator) => body.creator_id = Some(*creator),
            Concern::Buyer { order, variant, quantity, reason } => {
                (body.order_id, body.variant_id, body.quantity) = (Some(*order), Some(*variant), Some(*quantity));
                let place = if entry.kind == "refund_due" { &mut body.refund_cause } else { &mut body.release_reason };
                *place = reason.as_deref();
            }
        }
        body
    }
}

/// One page of the inbox.
#[derive(Serialize, ToSchema)]
#[schema(as = Inbox)]
pub struct InboxBody<'a> {
    /// The entries, newest first.
    pub items: Vec<NotificationBody<'a>>,
    /// The cursor of the next page; `null` on the last one.
    #[schema(required = true)]
    pub next_cursor: Option<String>,
    /// Unread entries of the whole inbox; 1000 means that many or more.
    #[schema(minimum = 0, maximum = 1000)]
    pub unread_count: u32,
}

/// The number of entries left to read.
#[derive(Serialize, ToSchema)]
#[schema(as = Unread)]
pub struct UnreadBody {
    /// Unread entries of the whole inbox; 1000 means that many or more.
    #[schema(minimum = 0, maximum = 1000)]
    pub unread_count: u32,
}

/// The ids of received events, which then leave the inbox.
#[derive(Deserialize, Default, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[schema(as = Acknowledgement, examples(json!({"ids": ["8f3a0c1d2e4b5a69-41"]})))]
pub struct AcknowledgeBody {
    #[schema(required = true, schema_with = schema::event_ids)]
    ids: Field<Vec<Field<Offset>>>,
}

impl From<AcknowledgeBody> for AcknowledgementInput {
    fn from(AcknowledgeBody { ids }: AcknowledgeBody) -> Self {
        Self { ids }
    }
}

/// The entries to mark as read: either `ids` or `up_to`.
#[derive(Deserialize, Default, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[schema(as = ReadMark, examples(json!({"up_to": "8f3a0c1d2e4b5a69-41"})))]
pub struct ReadBody {
    /// The ids of the entries to mark.
    #[schema(schema_with = schema::event_ids_or_null)]
    ids: Field<Vec<Field<Offset>>>,
    /// The id of the newest entry to mark; all older ones are marked too.
    #[schema(schema_with = schema::event_id_or_null)]
    up_to: Field<Offset>,
}

impl From<ReadBody> for ReadMarkInput {
    fn from(ReadBody { ids, up_to }: ReadBody) -> Self {
        Self { ids, up_to }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::extract::json::pointers;
    use serde_json::json;

    #[test]
    fn marks_are_checked() {
        let none: [&str; 0] = [];
        let id = "8f3a0c1d2e4b5a69-41";
        let acknowledge = |json| pointers::<AcknowledgeBody, AcknowledgementInput>(&json);
        assert_eq!(acknowledge(json!({"ids": [id, id]})), none);
        assert_eq!(acknowledge(json!({"ids": ["8f3a0c1d2e4b5a69-41-40"]})), none, "any event's id will do");
        assert_eq!(acknowledge(json!({})), ["/ids"]);
        assert_eq!(acknowledge(json!({"ids": []})), ["/ids"]);
        assert_eq!(acknowledge(json!({"ids": id})), ["/ids"]);
        assert_eq!(acknowledge(json!({"ids": vec![id; 101]})), ["/ids"]);
        assert_eq!(acknowledge(json!({"ids": [id, "x", null, 7]})), ["/ids/1", "/ids/2", "/ids/3"]);
        let read = |json| pointers::<ReadBody, ReadMarkInput>(&json);
        assert_eq!(read(json!({"ids": [id]})), none);
        assert_eq!(read(json!({"up_to": id, "ids": null})), none);
        assert_eq!(read(json!({})), [""]);
        assert_eq!(read(json!({"up_to": id, "ids": [id]})), [""]);
        assert_eq!(read(json!({"up_to": "41"})), ["/up_to"]);
    }
}
