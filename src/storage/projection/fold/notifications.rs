//! What a record is to those whom it concerns, for their inboxes.

use crate::domain::{CreatorId, DropEvent, DropId, DropRecord, OrderLine, Timestamp};
use hashbrown::HashSet;

/// What became of somebody's order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::storage) struct OrderNotification {
    /// Its record.
    pub sequence: u64,
    /// Its type on the wire.
    pub kind: &'static str,
    /// When.
    pub at: Timestamp,
    /// Of which drop.
    pub drop: DropId,
    /// The order, and whose it is.
    pub line: OrderLine,
    /// Why it was released, or the money goes back.
    pub reason: Option<&'static str>,
}

/// What happened to a drop, for the followers of its creator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::storage) struct DropNotification {
    /// Its record.
    pub sequence: u64,
    /// Its type on the wire.
    pub kind: &'static str,
    /// When.
    pub at: Timestamp,
    /// Which drop.
    pub drop: DropId,
    /// Whose.
    pub creator: CreatorId,
}

const RESCHEDULED: &str = "drop_rescheduled";

impl DropNotification {
    /// Whether earlier ones of the same kind are of no use any more.
    pub fn replaces_earlier(&self) -> bool {
        self.kind == RESCHEDULED
    }
}

/// Leaves out what later notifications of the same batch replace.
pub(super) fn latest(notifications: &mut Vec<DropNotification>) {
    let mut replaced = HashSet::new();
    notifications.reverse();
    notifications.retain(|notifications| !notifications.replaces_earlier() || replaced.insert(notifications.drop));
    notifications.reverse();
}

/// A hold is none: it is the answer to its buyer's own request, who has it before anybody could be told.
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

/// Only what is still of use to somebody who was away: how the stock stood meanwhile is not.
pub(super) fn of_drop(sequence: u64, record: &DropRecord, creator: CreatorId) -> Option<DropNotification> {
    let lasting = matches!(
        record.event,
        DropEvent::Scheduled(_) | DropEvent::Rescheduled { .. } | DropEvent::Started | DropEvent::Cancelled
    );
    let kind = record.event.kind().filter(|_| lasting)?;
    Some(DropNotification { sequence, kind, at: record.at, drop: record.drop, creator })
}
