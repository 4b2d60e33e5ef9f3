//! What a decision becomes once it is durable: a published stock and an answer. Both happen on the journal's thread,
//! in this order, so whoever has an answer also reads the stock that it made.

use crate::domain::{DropSpec, DropStatus, StockCounts, Timestamp, VariantId};
use crate::engine::{DropState, Outcome};
use crate::journal::{Completion, JournalError};
use smallvec::SmallVec;
use std::{
    num::NonZeroU32,
    sync::{Arc, PoisonError, RwLock},
};
use tokio::sync::oneshot;

/// The stock of each variant; inline for the common drop with one.
pub type VariantStocks = SmallVec<[(VariantId, StockCounts); 1]>;

/// A drop as the world may see it: never ahead of the journal.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DropSnapshot {
    /// Where it stands.
    pub status: DropStatus,
    /// What was scheduled, with its times as they were moved last.
    pub spec: Arc<DropSpec>,
    /// In the spec's order.
    pub variants: VariantStocks,
    /// The journal sequence number that this is true at.
    pub position: u64,
    /// When it was started.
    pub started_at: Option<Timestamp>,
    /// When it ended or was cancelled.
    pub ended_at: Option<Timestamp>,
    /// Nothing can change any more.
    pub settled: bool,
}

impl DropSnapshot {
    /// A picture of the state, to be published once `position` is durable.
    #[must_use]
    pub fn of(state: &DropState, position: u64) -> Self {
        Self {
            status: state.status(),
            spec: Arc::clone(state.spec()),
            variants: state.stock().collect(),
            position,
            started_at: state.started_at(),
            ended_at: state.ended_at(),
            settled: state.is_settled(),
        }
    }
}

/// Where a drop's published state lies. Reads never reach the actor.
pub struct SnapshotCell(RwLock<DropSnapshot>);

impl SnapshotCell {
    /// A cell that shows this.
    #[must_use]
    pub fn new(published: DropSnapshot) -> Self {
        Self(RwLock::new(published))
    }

    /// What is published now.
    #[must_use]
    pub fn read(&self) -> DropSnapshot {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The sequence number of what is published now.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.0.read().unwrap_or_else(PoisonError::into_inner).position
    }

    /// Whether it is scheduled or live.
    #[must_use]
    pub fn is_open(&self) -> bool {
        let status = self.0.read().unwrap_or_else(PoisonError::into_inner).status;
        status == DropStatus::Scheduled || status.is_open()
    }

    fn publish(&self, published: DropSnapshot) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = published;
    }
}

/// An actor's answer to an [`crate::actors::Ask`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// What was decided.
    pub outcome: Outcome,
    /// Everything up to this journal sequence number is durable.
    pub sequence: u64,
}

/// Why there is no answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AskError {
    /// The mailbox or the journal's queue is full. Nothing was decided.
    #[error("the drop is overloaded")]
    Overloaded,
    /// The creator has as many drops as one may have. Nothing was decided.
    #[error("a creator has at most {quota} drops scheduled or live")]
    TooManyDrops {
        /// How many one may have.
        quota: NonZeroU32,
    },
    /// No space for new reservations. Nothing was decided.
    #[error("no space left for new reservations")]
    DiskFull,
    /// The journal takes nothing any more. Nothing was decided.
    #[error("the server is going down")]
    Stopped,
    /// Decided, but the journal failed before it was known to be durable.
    #[error("the outcome is not known")]
    OutcomeUnknown,
    /// The drop is not in memory any more: SQL has the whole truth about it.
    #[error("the drop is not in memory")]
    Gone,
}

/// Where an answer goes.
pub type ReplyTo = oneshot::Sender<Result<Answer, AskError>>;

/// Decisions on their way to the disk, one at least, made one after the other.
pub struct Decisions {
    /// DropSnapshot when durable: the drop after the last of them. Absent where nothing changed.
    pub publish: Option<(Arc<SnapshotCell>, DropSnapshot)>,
    /// Answered when durable, in their order. Timers get no answer.
    pub replies: SmallVec<[(ReplyTo, Outcome); 1]>,
}

impl Completion for Decisions {
    fn complete(self, durable: Result<u64, JournalError>) {
        if let (Ok(sequence), Some((cell, published))) = (&durable, self.publish) {
            cell.publish(DropSnapshot { position: *sequence, ..published });
        }
        for (reply, outcome) in self.replies {
            let answer = match durable {
                Ok(sequence) => Ok(Answer { outcome, sequence }),
                Err(_) => Err(AskError::OutcomeUnknown),
            };
            // A caller that went away has its answer in the journal: it asks again with its key.
            let _ = reply.send(answer);
        }
    }
}
