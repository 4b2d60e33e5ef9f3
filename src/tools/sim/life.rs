//! One process of the simulated server, from its start to its crash.

use super::auditor::Finding;
use super::database::FlakyLedger;
use super::device::SimDevice;
use super::outside::Outside;
use crate::actors::inventory::snapshot::{Answer, AskError, Decisions, DropSnapshot};
use crate::actors::{Decider, Projection, Projector};
use crate::domain::{DropId, KeyDigest, OrderId, ReleaseReason};
use crate::engine::Command;
use crate::engine::admission::HoldPolicy;
use crate::journal::SteppedJournal;
use crate::service::events::Events;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::oneshot;

/// Tight enough that the few buyers of a story reach the bounds.
pub(super) const POLICY: HoldPolicy = HoldPolicy { per_buyer: 3, per_network: 5, cool_down_ms: 2_000 };

/// A decision whose client has not read the answer yet.
pub(super) struct Flying {
    pub drop: usize,
    pub digest: Option<KeyDigest>,
    /// The step of a payment that it records.
    pub payment: Option<Payment>,
    pub reply: oneshot::Receiver<Result<Answer, AskError>>,
    pub answer: Option<Result<Answer, AskError>>,
}

/// A step of a payment. The first step claims the order until the last one is on disk, as in the service.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Payment {
    Begins(OrderId),
    Ends(OrderId),
}

impl Payment {
    /// The step of a payment that a command records.
    pub fn of(command: &Command) -> Option<Self> {
        match command {
            Command::Reserve(reserve) => reserve.payment_method.as_ref().map(|_| Self::Begins(reserve.order)),
            Command::BeginPayment { order, .. } => Some(Self::Begins(*order)),
            Command::Confirm { order, .. }
            | Command::Authorize { order, .. }
            | Command::EndPayment { order, .. }
            | Command::Release { order, reason: ReleaseReason::PaymentFailed, .. } => Some(Self::Ends(*order)),
            _ => None,
        }
    }
}

impl Flying {
    /// Whether the answer has arrived.
    pub fn has_landed(&mut self) -> bool {
        if self.answer.is_none() {
            self.answer = match self.reply.try_recv() {
                Ok(answer) => Some(answer),
                Err(oneshot::error::TryRecvError::Empty) => None,
                Err(oneshot::error::TryRecvError::Closed) => Some(Err(AskError::OutcomeUnknown)),
            };
        }
        self.answer.is_some()
    }
}

/// The parts of a running process.
pub(super) struct Life {
    pub device: SimDevice,
    pub journal: SteppedJournal<Decisions>,
    pub database: Arc<FlakyLedger>,
    pub projector: Projector,
    pub projection: Projection,
    pub events: Events<Outside, Outside>,
    pub drops: BTreeMap<DropId, Decider>,
    pub flying: Vec<Flying>,
}

impl Life {
    /// Adds a pending decision. It is written at once, unless a frame waits for its sync: then it goes into the next
    /// frame.
    pub fn flies(&mut self, flying: Flying) {
        self.flying.push(flying);
        self.write();
    }

    /// Checks that without pending decisions the snapshots show exactly the decisions.
    pub fn shows_what_it_decided(&self) -> Finding {
        for (id, decider) in &self.drops {
            let shown = decider.published();
            let decided = DropSnapshot::of(decider.state(), shown.position);
            if shown != decided {
                return Err(format!("drop {id} shows {}, and decided {}", in_words(&shown), in_words(&decided)));
            }
        }
        Ok(())
    }

    /// Why the projector stopped.
    pub fn why_the_projector_stops(&self) -> String {
        format!("the projector stops: {}", self.projection.trouble().unwrap_or_default())
    }

    /// Writes what is queued, unless a frame waits for its sync.
    pub fn write(&mut self) {
        self.journal.write();
        self.flying.iter_mut().for_each(|flying| _ = flying.has_landed());
    }

    /// Lets the pending sync happen, and writes the next frame.
    pub fn pass(&mut self) {
        self.journal.finish();
        self.write();
    }
}

fn in_words(shown: &DropSnapshot) -> String {
    let stock: Vec<String> = shown.variants.iter().map(|(variant, stock)| format!("{variant}: {stock}")).collect();
    format!("{} at record {}, {}", shown.status.as_str(), shown.position, stock.join(", "))
}
