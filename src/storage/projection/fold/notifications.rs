//! Turns records into notifications for inboxes.

use crate::domain::{CreatorId, DropEvent, DropId, DropRecord, OrderLine, Timestamp};
use hashbrown::HashSet;

/// A change of a buyer's order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::storage) struct OrderNotification {
    pub sequence: u64,
    /// Its type on the wire.
    pub kind: &'static str,
    pub at: Timestamp,
    pub drop: DropId,
    /// The order and its buyer.
    pub line: OrderLine,
    /// The release reason, or the cause of the refund.
    pub reason: Option<&'static str>,
}

/// A change of a drop, for the followers of its creator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::storage) struct DropNotification {
    pub sequence: u64,
    /// Its type on the wire.
    pub kind: &'static str,
    pub at: Timestamp,
    pub drop: DropId,
    pub creator: CreatorId,
}

const RESCHEDULED: &str = "drop_rescheduled";

impl DropNotification {
    /// Whether it makes earlier ones of the same kind obsolete.
    pub fn replaces_earlier(&self) -> bool {
        self.kind == RESCHEDULED
    }
}

/// Removes notifications that later ones of the same batch replace.
pub(super) fn latest(notifications: &mut Vec<DropNotification>) {
    let mut replaced = HashSet::new();
    notifications.reverse();
    notifications.retain(|notifications| !notifications.replaces_earlier() || replaced.insert(notifications.drop));
    notifications.reverse();
}

/// The notification of a record, if its buyer gets one. A hold makes none: the buyer gets it as the answer to the
/// request, before any notification could arrive.
pub(super) fn of_order(sequence: u64, record: &DropRecord) -> Option<OrderNotification> {
    let reason = match &record.event {
        DropEvent::Confirmed { .. } | DropEvent::Refunded { .. } => None,
        DropEvent::Released { reason, .. } => Some(reason.as_str()),
        DropEvent::RefundDue { cause, .. } => Some(cause.as_str()),
        _ => return None,
    };
    let (kind, line) = (record.event.kind()?, record.event.line()?);
    Some(OrderNotification { sequence, kind, at: record.at, drop: record.drop, line, reason })
}

/// The notification of a record for followers. Only changes that still matter after an absence: past levels of stock do
/// not.
pub(super) fn of_drop(sequence: u64, record: &DropRecord, creator: CreatorId) -> Option<DropNotification> {
    let lasting = matches!(
        record.event,
        DropEvent::Scheduled(_) | DropEvent::Rescheduled { .. } | DropEvent::Started | DropEvent::Cancelled
    );
    let kind = record.event.kind().filter(|_| lasting)?;
    Some(DropNotification { sequence, kind, at: record.at, drop: record.drop, creator })
}
