//! What a live drop does with a command, without a mailbox, a clock or a timer: the actor is a thin shell around this, and
//! the simulation drives it directly.
//!
//! Before it decides it takes a permit for the journal's queue, so a decision can always be handed over.

use super::Tally;
use super::publish::{AskError, Decision, DropCell, Published, ReplyTo};
use crate::domain::{DropEvent, DropId, DropRecord, DropSpec, Timestamp};
use crate::engine::{Command, DropState, Outcome};
use crate::journal::{JournalHandle, JournalReader, Permit, Records, Space};
use std::sync::Arc;

/// What most records fit into: a buffer that grew would be made anew some times for each.
const RECORD_BYTES: usize = 192;

/// See the module.
pub struct Decider {
    id: DropId,
    state: DropState,
    cell: Arc<DropCell>,
    journal: JournalHandle<Decision>,
    space: JournalReader,
    events: Vec<DropEvent>,
    tally: Tally,
    /// Whether the journal has (or will have) its `Scheduled` record: nothing else may come before it.
    announced: bool,
    retired: bool,
}

impl Decider {
    /// Around a state whose published picture is in `cell`. A new drop is not `announced` yet.
    #[must_use]
    pub fn new(
        state: DropState,
        announced: bool,
        cell: Arc<DropCell>,
        journal: JournalHandle<Decision>,
        tally: Tally,
    ) -> Self {
        let (id, space) = (state.spec().id, journal.reader());
        Self { id, state, cell, journal, space, events: Vec::new(), tally, announced, retired: false }
    }

    /// The drop.
    #[must_use]
    pub fn id(&self) -> DropId {
        self.id
    }

    /// Whether it may decide: its existence is recorded.
    #[must_use]
    pub fn is_announced(&self) -> bool {
        self.announced
    }

    /// What it has decided so far, durable or not.
    #[must_use]
    pub fn state(&self) -> &DropState {
        &self.state
    }

    /// What everybody can read of it.
    #[must_use]
    pub fn published(&self) -> Published {
        self.cell.read()
    }

    /// When a tick has something to do next, if ever.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Timestamp> {
        self.state.next_deadline()
    }

    /// Reads ahead what commands will look for.
    pub fn expect<'a>(&self, commands: impl ExactSizeIterator<Item = &'a Command>) {
        // One alone waits as long either way.
        if commands.len() > 1 {
            self.state.expect(commands);
        }
    }

    /// Decides a command at a time and hands the decision to the journal; the answer leaves once it is durable. Returns whether
    /// anything changed.
    ///
    /// # Errors
    /// [`AskError`], which `reply` has been told too: nothing was decided.
    pub fn ask(&mut self, now: Timestamp, command: Command, reply: Option<ReplyTo>) -> Result<bool, AskError> {
        let permit = match self.refusal(&command) {
            None => self.journal.try_permit().ok_or_else(|| self.no_permit()),
            Some(error) => Err(error),
        };
        let permit = match permit {
            Ok(permit) => permit,
            Err(error) => {
                if let Some(reply) = reply {
                    let _ = reply.send(Err(error));
                }
                return Err(error);
            }
        };
        self.events.clear();
        let (outcome, at) = self.state.apply(now, command, &mut self.events);
        let mut records = Records::with_capacity(RECORD_BYTES * self.events.len());
        for event in self.events.drain(..) {
            self.tally.count(&event);
            push(&mut records, &DropRecord { drop: self.id, at, event });
        }
        let changed = !records.is_empty();
        self.submit(permit, records, reply, outcome);
        Ok(changed)
    }

    /// Records that the drop exists: what a new drop does first.
    pub fn announce(&mut self, reply: ReplyTo) {
        let Some(permit) = self.journal.try_permit() else {
            let _ = reply.send(Err(self.no_permit()));
            return;
        };
        self.announced = true;
        let spec = DropSpec::clone(self.state.spec());
        let record = DropRecord { drop: self.id, at: spec.created_at, event: DropEvent::Scheduled(Box::new(spec)) };
        let mut records = Records::default();
        push(&mut records, &record);
        self.submit(permit, records, Some(reply), Outcome::Done(self.state.status()));
    }

    /// Whether a settled drop agrees to take no more commands, so that it can leave memory.
    pub fn retire(&mut self) -> bool {
        // What is published may lag behind what is decided: only when both agree is nothing on its way.
        let published = self.cell.read();
        self.retired = self.state.is_settled() && published == Published::of(&self.state, published.position);
        self.retired
    }

    /// Why a command is not even decided.
    fn refusal(&self, command: &Command) -> Option<AskError> {
        if self.retired || !self.announced {
            return Some(AskError::Gone);
        }
        // Confirms and releases of existing holds may use the reserved segment; new holds may not.
        let full = matches!(command, Command::Reserve(_)) && self.space.space() == Space::Full;
        full.then_some(AskError::DiskFull)
    }

    /// A full queue passes, a journal that failed does not: who retries for ever would only hold up the end.
    fn no_permit(&self) -> AskError {
        if self.space.is_stopped() { AskError::Stopped } else { AskError::Overloaded }
    }

    fn submit(&self, permit: Permit<'_, Decision>, records: Records, reply: Option<ReplyTo>, outcome: Outcome) {
        // The position is filled in when the journal has given one.
        let publish = (!records.is_empty()).then(|| (Arc::clone(&self.cell), Published::of(&self.state, 0)));
        permit.submit(records, Decision { publish, reply: reply.map(|reply| (reply, outcome)) });
    }
}

/// A record's fields are bounded far below a journal record's size, and a sweep far below an entry's.
fn push(records: &mut Records, record: &DropRecord) {
    records.push(|buffer| record.encode(buffer)).expect("bounds of the domain keep records small");
}
