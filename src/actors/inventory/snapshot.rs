//! The effects of a durable decision: a published snapshot and a reply. Both happen on the journal's thread, in this
//! order, so a caller with a reply also reads the new stock.

use crate::domain::{DropSpec, DropStatus, Refusal, StockCounts, Timestamp, VariantId};
use crate::engine::{DropState, Outcome};
use crate::journal::{Completion, JournalError};
use smallvec::SmallVec;
use std::{
    num::NonZeroU32,
    sync::{Arc, PoisonError, RwLock},
};
use tokio::sync::oneshot;

/// The stock of each variant; inline for a drop with one.
pub type VariantStocks = SmallVec<[(VariantId, StockCounts); 1]>;

/// A drop's public state: never ahead of the journal.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DropSnapshot {
    pub status: DropStatus,
    /// The spec with its current times.
    pub spec: Arc<DropSpec>,
    /// In the spec's order.
    pub variants: VariantStocks,
    /// The journal sequence of this state; 0 before the first record.
    pub position: u64,
    /// When it was started; absent before.
    pub started_at: Option<Timestamp>,
    /// When it ended or was cancelled; absent before.
    pub ended_at: Option<Timestamp>,
    /// Whether nothing can change any more.
    pub settled: bool,
}

impl DropSnapshot {
    /// A snapshot of the state, to be published once `position` is durable.
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

/// A drop's current snapshot. Reads never reach the actor.
pub struct SnapshotCell(RwLock<DropSnapshot>);

impl SnapshotCell {
    /// A cell with a first snapshot.
    #[must_use]
    pub fn new(published: DropSnapshot) -> Self {
        Self(RwLock::new(published))
    }

    /// A copy of the current snapshot.
    #[must_use]
    pub fn read(&self) -> DropSnapshot {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Why no unit of this variant can be had, according to the published snapshot; `None` if one may be free. Without
    /// a variant, the drop's only one.
    #[must_use]
    pub fn refuses(&self, variant: Option<VariantId>) -> Option<Refusal> {
        let published = self.0.read().unwrap_or_else(PoisonError::into_inner);
        match published.status {
            DropStatus::Scheduled => None,
            DropStatus::Ended => Some(Refusal::Ended),
            DropStatus::Cancelled => Some(Refusal::DropCancelled),
            DropStatus::Live | DropStatus::SoldOut => {
                let stock = match (variant, &published.variants[..]) {
                    (None, [(_, only)]) => Some(only),
                    (None, _) => None,
                    (Some(id), all) => all.iter().find(|(variant, _)| *variant == id).map(|(_, stock)| stock),
                };
                stock.filter(|stock| stock.available == 0).map(|_| Refusal::SoldOut)
            }
        }
    }

    /// The sequence of the current snapshot.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.0.read().unwrap_or_else(PoisonError::into_inner).position
    }

    /// Whether the drop is scheduled or live.
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
    pub outcome: Outcome,
    /// Everything up to this journal sequence is durable.
    pub sequence: u64,
}

/// Why a command has no answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AskError {
    /// The mailbox or the journal's queue is full. Nothing was decided.
    #[error("the drop is overloaded")]
    Overloaded,
    /// The creator has reached the bound on open drops. Nothing was decided.
    #[error("a creator has at most {quota} drops scheduled or live")]
    TooManyDrops { quota: NonZeroU32 },
    /// No space for new reservations. Nothing was decided.
    #[error("no space left for new reservations")]
    DiskFull,
    /// The journal accepts nothing any more. Nothing was decided.
    #[error("the server is shutting down")]
    Stopped,
    /// Decided, but the journal failed before the decision was known to be durable.
    #[error("the outcome is not known")]
    OutcomeUnknown,
    /// The drop is no longer in memory: SQL has all its records.
    #[error("the drop is not in memory")]
    Gone,
}

/// The sender of an answer.
pub type ReplyTo = oneshot::Sender<Result<Answer, AskError>>;

/// One or more decisions in an entry of the journal, in order.
pub struct Decisions {
    /// The drop after the last decision, published when durable. `None` if nothing changed.
    pub publish: Option<(Arc<SnapshotCell>, DropSnapshot)>,
    /// Sent when durable, in order. Timers get no answer.
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
            // A cancelled caller finds its answer in the journal: it retries with its key.
            let _ = reply.send(answer);
        }
    }
}
