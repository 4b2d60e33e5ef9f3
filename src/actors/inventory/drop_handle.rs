//! A drop in memory, as others reach it.

use super::mailbox::Mailbox;
use super::messages::{Ask, BeginCopy, CopyAnswer};
use super::snapshot::{Answer, AskError, SnapshotCell};
use crate::domain::{DropSpec, Timestamp};
use crate::engine::Command;
use crate::engine::checkpoint::Rows;
use std::sync::Arc;
use tokio::sync::oneshot;

/// One drop in memory.
pub struct DropHandle {
    /// The spec, with its times as of loading.
    pub spec: Arc<DropSpec>,
    /// The drop's published snapshot.
    pub cell: Arc<SnapshotCell>,
    pub(super) mailbox: Mailbox,
    /// Until this time refusals from before the start may be unknown, see [`DropHandle::may_have_refused`].
    pub(super) unsure_until: Option<Timestamp>,
}

impl DropHandle {
    /// Sends a command and waits until the answer is durable.
    ///
    /// # Errors
    /// [`AskError`]; `Overloaded` at once if the mailbox is full.
    pub async fn ask(&self, command: Command) -> Result<Answer, AskError> {
        let (reply, answer) = oneshot::channel();
        self.mailbox.ask(Ask { command, reply: Some(reply) });
        // The sender is dropped without an answer only if the actor or the journal has stopped.
        answer.await.unwrap_or(Err(AskError::OutcomeUnknown))
    }

    /// Journals a new drop.
    pub(super) async fn announce(&self) -> Result<Answer, AskError> {
        let (reply, answer) = oneshot::channel();
        self.mailbox.announce(reply)?;
        answer.await.unwrap_or(Err(AskError::OutcomeUnknown))
    }

    /// The milliseconds from `now` (the steady clock) during which a one-call payment may still be a late copy of a
    /// request that was refused before the process started. `None` once they are over, and for drops that were not sold
    /// out at the start.
    #[must_use]
    pub fn may_have_refused(&self, now: Timestamp) -> Option<i64> {
        self.unsure_until.map(|until| until.millis_since(now)).filter(|left| *left > 0)
    }

    /// Asks it to begin a copy for a checkpoint.
    pub async fn begin_copy(&self, begin: BeginCopy) -> CopyAnswer {
        self.mailbox.begin_copy(begin).await
    }

    /// The next rows of the copy. `None` where it was given up.
    pub async fn copy_rows(&self, rows_max: u32) -> Option<Rows> {
        self.mailbox.copy_rows(rows_max).await
    }

    /// Gives up the copy.
    pub async fn end_copy(&self) {
        self.mailbox.end_copy().await;
    }

    /// Sends a tick.
    ///
    /// # Errors
    /// `Overloaded` if the mailbox is full, `Gone` if the actor has stopped.
    pub fn tick(&self) -> Result<(), AskError> {
        self.mailbox.tick()
    }
}
