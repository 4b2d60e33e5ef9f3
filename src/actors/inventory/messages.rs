//! The messages to a drop's actor.

use super::snapshot::ReplyTo;
use crate::domain::limits::DROP_MAILBOX_MAX;
use crate::domain::{KeyDigest, Timestamp};
use crate::engine::Command;
use crate::engine::checkpoint::{CopyStart, Rows};
use actix::Message;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A command and the receiver of its answer (none for a timer).
pub struct Ask {
    pub command: Command,
    pub reply: Option<ReplyTo>,
}

/// Commands that were sent together, in order.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Asks(
    /// At least one command.
    pub Vec<Ask>,
);

/// Records that the drop exists. The first message to a new drop.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Register(
    /// Receives the answer once the record is durable.
    pub ReplyTo,
);

/// Asks a drop to take no more commands, so that it can leave memory. The answer is the keys that it remembers, or
/// `None` if it stays.
#[derive(Message)]
#[rtype(result = "Option<Vec<KeyDigest>>")]
pub struct Retire(
    /// The horizon: a scheduled drop with a later start may leave.
    pub Timestamp,
);

/// Asks a drop to begin a copy of itself, see [`crate::engine::checkpoint`].
#[derive(Message)]
#[rtype(result = "CopyAnswer")]
pub struct BeginCopy {
    /// How many changes its last copy had, if there is one.
    pub saved: Option<u64>,
    /// Whether it begins however few changes have come since.
    pub is_overdue: bool,
    /// Receives the journal record at which the copy is true, once that is durable.
    pub behind: ReplyTo,
}

/// What a drop says to that.
pub enum CopyAnswer {
    /// It has begun.
    Begun(CopyStart),
    /// Nothing has changed since the last copy.
    Unchanged,
    /// Too little has changed.
    TooFew,
    /// It is not announced yet, it leaves memory, or the journal has no room for the question.
    NotNow,
}

/// Asks for the next rows of the copy, so many at most.
#[derive(Message)]
#[rtype(result = "Option<Rows>")]
pub struct CopyRows(pub u32);

/// Gives up the copy.
#[derive(Message)]
#[rtype(result = "()")]
pub struct EndCopy;

/// The number of commands sent to an actor and not taken out of its mailbox yet.
#[derive(Clone, Default)]
pub struct Queued(Arc<AtomicUsize>);

impl Queued {
    pub(super) fn admits(&self, commands: usize) -> bool {
        let admitted = self.0.fetch_add(commands, Ordering::Relaxed) + commands <= DROP_MAILBOX_MAX;
        if !admitted {
            self.taken(commands);
        }
        admitted
    }

    /// Subtracts commands that the actor has taken out.
    pub fn taken(&self, commands: usize) {
        self.0.fetch_sub(commands, Ordering::Relaxed);
    }
}
