//! What a drop's actor can be sent.

use super::snapshot::ReplyTo;
use crate::domain::limits::DROP_MAILBOX_MAX;
use crate::domain::{KeyDigest, Timestamp};
use crate::engine::Command;
use actix::Message;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A command, and where its answer goes (nowhere, for a timer).
pub struct Ask {
    /// What is asked.
    pub command: Command,
    /// Who asks.
    pub reply: Option<ReplyTo>,
}

/// Commands that came together, in their order.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Asks(
    /// One at least.
    pub Vec<Ask>,
);

/// Records that the drop exists. The first message of a new drop.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Register(
    /// Who asks.
    pub ReplyTo,
);

/// Asks a drop to take no more commands, so that it can leave memory. Answers whether it agreed.
#[derive(Message)]
#[rtype(result = "Option<Vec<KeyDigest>>")]
pub struct Retire(
    /// A drop that starts after this may go.
    pub Timestamp,
);

/// How many commands are on their way to an actor or in its mailbox.
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

    /// So many have arrived.
    pub fn taken(&self, commands: usize) {
        self.0.fetch_sub(commands, Ordering::Relaxed);
    }
}
