//! Turns a command given by hand into a line of the audit trail.

use crate::domain::{AdminAction, DropRecord, Principal};
use crate::storage::model::AuditRow;
use serde_json::json;
use uuid::{Builder, Uuid};

/// The audit line of a record. Its id follows from the record, so it is the same each time.
pub(super) fn line(sequence: u64, record: &DropRecord, actor: &Principal, act: AdminAction) -> AuditRow {
    let drop = record.drop.0;
    let (name, object, detail) = match act {
        AdminAction::Started => ("drop_started", ("drop", drop), json!({})),
        AdminAction::Ended => ("drop_ended", ("drop", drop), json!({})),
        AdminAction::Cancelled => ("drop_cancelled", ("drop", drop), json!({})),
        AdminAction::Restocked(variant, quantity) => {
            ("drop_restocked", ("drop", drop), json!({"variant_id": variant, "quantity": quantity}))
        }
        AdminAction::Rescheduled(starts_at, ends_at) => {
            ("drop_rescheduled", ("drop", drop), json!({"starts_at": starts_at, "ends_at": ends_at}))
        }
        AdminAction::Refunded(order) => ("order_refunded", ("order", order.0), json!({"drop_id": record.drop})),
    };
    AuditRow {
        id: id(sequence, record),
        at: record.at,
        actor: Some(actor.user),
        role: if actor.admin { "admin" } else { "creator" }.to_owned(),
        origin: actor.origin.to_string(),
        act: name.to_owned(),
        object_kind: object.0.to_owned(),
        object: Some(object.1),
        detail: detail.to_string(),
        trace: actor.trace,
    }
}

/// A UUIDv7 of the record's time, made unique by its sequence and its drop.
fn id(sequence: u64, record: &DropRecord) -> Uuid {
    let mut tail = [0; 10];
    tail[..8].copy_from_slice(&sequence.to_be_bytes());
    tail[8..].copy_from_slice(&record.drop.0.as_bytes()[14..]);
    Builder::from_unix_timestamp_millis(record.at.as_millis().unsigned_abs(), &tail).into_uuid()
}
