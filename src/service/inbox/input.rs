//! What inboxes are asked with.

use crate::actors::realtime::position::Offset;
use crate::domain::limits::INBOX_MARKED_MAX;
use crate::service::input::{Checks, Field, Input};

/// Events that have arrived.
#[derive(Debug, Default)]
pub struct AcknowledgementInput {
    /// 1 to `INBOX_MARKED_MAX`. Required.
    pub ids: Field<Vec<Field<Offset>>>,
}

impl Input for AcknowledgementInput {
    type Valid = Vec<Offset>;

    fn check(self, checks: &mut Checks) -> Option<Vec<Offset>> {
        let ids = checks.required("/ids", self.ids)?;
        all(checks, ids)
    }
}

/// Entries to mark as read: one of the two.
#[derive(Debug, Default)]
pub struct ReadMarkInput {
    /// These, 1 to `INBOX_MARKED_MAX`.
    pub ids: Field<Vec<Field<Offset>>>,
    /// This one and everything before.
    pub up_to: Field<Offset>,
}

/// A [`ReadMarkInput`] that is valid.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Which {
    /// These, at the most `INBOX_MARKED_MAX`.
    These(Vec<Offset>),
    /// This one and everything before.
    UpTo(Offset),
}

impl Input for ReadMarkInput {
    type Valid = Which;

    fn check(self, checks: &mut Checks) -> Option<Which> {
        match (self.ids, self.up_to) {
            (ids, Field::Absent) if !ids.is_absent() => {
                let ids = checks.optional("/ids", ids)?;
                all(checks, ids).map(Which::These)
            }
            (Field::Absent, up_to) if !up_to.is_absent() => checks.optional("/up_to", up_to).map(Which::UpTo),
            _ => {
                checks.wrong("", "must have either ids or up_to");
                None
            }
        }
    }
}

/// Each of the ids, 1 to `INBOX_MARKED_MAX`.
fn all(checks: &mut Checks, ids: Vec<Field<Offset>>) -> Option<Vec<Offset>> {
    if !(1..=INBOX_MARKED_MAX).contains(&ids.len()) {
        checks.wrong("/ids", format!("must have 1 to {INBOX_MARKED_MAX} ids"));
        return None;
    }
    let each = ids.into_iter().enumerate().map(|(index, id)| checks.required(&format!("/ids/{index}"), id));
    // Each is looked at, so that all that are wrong are named.
    each.collect::<Vec<_>>().into_iter().collect()
}

/// Which entries to list.
#[derive(Debug, Default)]
pub struct InboxListInput {
    /// Only those that nobody has read; all of them if absent.
    pub unread: Field<bool>,
}

impl Input for InboxListInput {
    /// Whether only those that nobody has read.
    type Valid = bool;

    fn check(self, checks: &mut Checks) -> Option<bool> {
        Some(checks.optional("/unread", self.unread).unwrap_or(false))
    }
}
