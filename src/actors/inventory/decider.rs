//! The logic of a live drop, without a mailbox, a clock or a timer. The actor is a thin shell around it, and the
//! simulation drives it directly.
//!
//! Before it decides it takes a slot in the journal's queue, so a decision can always be handed over. Decisions made
//! together are one entry of the journal: one buffer, one published stock, one message to the journal's thread.

use super::messages::{BeginCopy, CopyAnswer};
use crate::actors::OrderMetrics;
use crate::actors::inventory::snapshot::{Answer, AskError, Decisions, DropSnapshot, ReplyTo, SnapshotCell};
use crate::domain::limits::CHECKPOINT_CHANGES_MIN;
use crate::domain::{DropEvent, DropId, DropRecord, DropSpec, KeyDigest, Moment, Timestamp};
use crate::engine::checkpoint::Rows;
use crate::engine::state::Deadlines;
use crate::engine::{Command, DropState, Outcome};
use crate::journal::{JournalHandle, Permit, Records, Space};
use smallvec::{SmallVec, smallvec};
use std::sync::Arc;

/// Most records fit into this: a growing buffer would be reallocated several times for each.
const RECORD_BYTES: usize = 192;
/// Decisions are handed over at once beyond this many bytes: an entry is never split.
const BATCH_BYTES: usize = 16 << 10;

/// A live drop: its state, its published snapshot, and its journal.
pub struct Decider {
    drop: LiveDrop,
    journal: JournalHandle<Decisions>,
}

struct LiveDrop {
    id: DropId,
    state: DropState,
    cell: Arc<SnapshotCell>,
    /// Buffer for the events of the current command.
    events: Vec<DropEvent>,
    metrics: OrderMetrics,
    /// Whether the journal has (or will have) the drop's `Scheduled` record: no other record may precede it.
    announced: bool,
    retired: bool,
}

impl Decider {
    /// Wraps a state whose published snapshot is in `cell`. A new drop is not `announced` yet.
    #[must_use]
    pub fn new(
        state: DropState,
        announced: bool,
        cell: Arc<SnapshotCell>,
        journal: JournalHandle<Decisions>,
        metrics: OrderMetrics,
    ) -> Self {
        let id = state.spec().id;
        let drop = LiveDrop { id, state, cell, events: Vec::new(), metrics, announced, retired: false };
        Self { drop, journal }
    }

    /// Like [`Self::new`], with a snapshot and metrics of its own.
    #[must_use]
    pub fn alone(state: DropState, announced: bool, journal: JournalHandle<Decisions>) -> Self {
        let cell = Arc::new(SnapshotCell::new(DropSnapshot::of(&state, 0)));
        Self::new(state, announced, cell, journal, OrderMetrics::default())
    }

    #[must_use]
    pub fn id(&self) -> DropId {
        self.drop.id
    }

    /// Whether it may decide: the drop's existence is recorded.
    #[must_use]
    pub fn is_announced(&self) -> bool {
        self.drop.announced
    }

    /// The state with every decision so far, durable or not.
    #[must_use]
    pub fn state(&self) -> &DropState {
        &self.drop.state
    }

    /// A copy of the published snapshot, which is durable.
    #[must_use]
    pub fn published(&self) -> DropSnapshot {
        self.drop.cell.read()
    }

    /// When a tick has something to do next, if ever.
    #[must_use]
    pub fn deadlines(&self) -> Deadlines {
        self.drop.state.deadlines()
    }

    /// Prefetches the hash lines that these commands will probe.
    pub fn prefetch<'a>(&self, commands: impl ExactSizeIterator<Item = &'a Command>) {
        // A single command has no other cache misses to overlap with.
        if commands.len() > 1 {
            self.drop.state.prefetch(commands);
        }
    }

    /// A batch for about `expected` commands: decides them in order, and hands them to the journal together.
    pub fn batch(&mut self, expected: usize) -> Batch<'_> {
        let Self { drop, journal } = self;
        let replies = SmallVec::with_capacity(expected);
        Batch { drop, journal, expected, permit: None, records: Records::default(), replies }
    }

    /// Decides one command, and hands it over.
    ///
    /// # Errors
    /// As [`Batch::ask`].
    pub fn ask(&mut self, now: impl Into<Moment>, command: Command, reply: Option<ReplyTo>) -> Result<bool, AskError> {
        self.batch(1).ask(now, command, reply)
    }

    /// Records that the drop exists: the first decision of a new drop.
    pub fn announce(&mut self, reply: ReplyTo) {
        let mut batch = self.batch(1);
        if let Err(error) = batch.take_permit() {
            let _ = reply.send(Err(error));
            return;
        }
        batch.drop.announced = true;
        let spec = DropSpec::clone(batch.drop.state.spec());
        let record = DropRecord { drop: spec.id, at: spec.created_at, event: DropEvent::Scheduled(Box::new(spec)) };
        push(&mut batch.records, &record);
        batch.replies.push((reply, Outcome::Done(batch.drop.state.status())));
    }

    /// Makes the drop take no more commands, if it is settled or starts after `horizon`, so that it can leave memory.
    /// Returns the keys that it remembers, or `None` if it stays.
    pub fn retire(&mut self, horizon: Timestamp) -> Option<Vec<KeyDigest>> {
        let drop = &mut self.drop;
        // The published snapshot may lag behind the decisions: only if both agree is nothing in flight.
        let published = drop.cell.read();
        drop.retired = drop.state.can_leave(horizon) && published == DropSnapshot::of(&drop.state, published.position);
        drop.retired.then(|| drop.state.keys().collect())
    }
}

impl Decider {
    /// Begins a copy for a checkpoint. It is true behind everything that was decided so far: `begin.behind` is told which record that is by a barrier.
    pub fn begin_copy(&mut self, begin: BeginCopy) -> CopyAnswer {
        let Self { drop, journal } = self;
        if !drop.announced || drop.retired {
            return CopyAnswer::NotNow;
        }
        if let Some(saved) = begin.saved {
            let (changes, orders) = (drop.state.changes().saturating_sub(saved), drop.state.order_count() as u64);
            if changes == 0 {
                return CopyAnswer::Unchanged;
            }
            if !begin.is_overdue && changes < CHECKPOINT_CHANGES_MIN.max(orders / 4) {
                return CopyAnswer::TooFew;
            }
        }
        let Some(permit) = journal.try_permit() else { return CopyAnswer::NotNow };
        let start = drop.state.begin_copy();
        let outcome = Outcome::Done(drop.state.status());
        permit.submit(Records::default(), Decisions { publish: None, replies: smallvec![(begin.behind, outcome)] });
        CopyAnswer::Begun(start)
    }

    /// The next rows of the copy, see [`DropState::copy_rows`].
    pub fn copy_rows(&mut self, rows_max: u32) -> Option<Rows> {
        self.drop.state.copy_rows(rows_max)
    }

    /// Gives up the copy.
    pub fn end_copy(&mut self) {
        self.drop.state.end_copy();
    }
}

/// Decisions that go to the journal together, when this is dropped.
pub struct Batch<'a> {
    drop: &'a mut LiveDrop,
    journal: &'a JournalHandle<Decisions>,
    expected: usize,
    permit: Option<Permit<'a, Decisions>>,
    records: Records,
    replies: SmallVec<[(ReplyTo, Outcome); 1]>,
}

impl Batch<'_> {
    /// Decides a command. The answer is sent once it is durable, a refusal at once. Returns whether anything changed.
    ///
    /// # Errors
    /// [`AskError`], which is also sent to `reply`: nothing was decided.
    pub fn ask(&mut self, now: impl Into<Moment>, command: Command, reply: Option<ReplyTo>) -> Result<bool, AskError> {
        let taken = match self.refusal(&command) {
            None => self.take_permit(),
            Some(error) => Err(error),
        };
        if let Err(error) = taken {
            if let Some(reply) = reply {
                let _ = reply.send(Err(error));
            }
            return Err(error);
        }
        let Self { drop: LiveDrop { id, state, events, metrics, .. }, records, expected, .. } = self;
        let (outcome, at) = state.apply(now, command, events);
        let changed = !events.is_empty();
        if changed && records.is_empty() {
            *records = Records::with_capacity(RECORD_BYTES * events.len().max(*expected));
        }
        for event in events.drain(..) {
            metrics.count(&event);
            push(records, &DropRecord { drop: *id, at, event });
        }
        let answered = match outcome {
            Outcome::Refused(_) => {
                metrics.count_refused();
                // A refusal leaves no record, so it need not wait for the disk. A crash may lose the decisions that it
                // rests on; then there is more stock than the refusal said.
                !changed
            }
            _ => false,
        };
        if answered {
            let answer = Answer { outcome, sequence: self.drop.cell.position() };
            // The receiver may be gone already.
            let _ = reply.map(|reply| reply.send(Ok(answer)));
            return Ok(false);
        }
        self.replies.extend(reply.map(|reply| (reply, outcome)));
        if self.records.bytes() >= BATCH_BYTES {
            self.hand_over();
        }
        Ok(changed)
    }

    /// Why a command is rejected before the decision.
    fn refusal(&self, command: &Command) -> Option<AskError> {
        if self.drop.retired || !self.drop.announced {
            return Some(AskError::Gone);
        }
        // Confirms and releases of existing holds may use the reserved segment; new holds may not.
        let full = matches!(command, Command::Reserve(_)) && self.journal.space() == Space::Full;
        full.then_some(AskError::DiskFull)
    }

    fn take_permit(&mut self) -> Result<(), AskError> {
        let taken = match &mut self.permit {
            Some(permit) => permit.add_place(),
            none => {
                *none = self.journal.try_permit();
                none.is_some()
            }
        };
        // A full queue passes, a failed journal does not: a caller that retries forever would only delay the shutdown.
        let refused = || if self.journal.is_stopped() { AskError::Stopped } else { AskError::Overloaded };
        if taken { Ok(()) } else { Err(refused()) }
    }

    fn hand_over(&mut self) {
        let (records, replies) = (std::mem::take(&mut self.records), std::mem::take(&mut self.replies));
        let Some(permit) = self.permit.take() else { return };
        if records.is_empty() && replies.is_empty() {
            return;
        }
        // The position is set when the journal has assigned it.
        let publish =
            (!records.is_empty()).then(|| (Arc::clone(&self.drop.cell), DropSnapshot::of(&self.drop.state, 0)));
        permit.submit(records, Decisions { publish, replies });
    }
}

/// The bounds on a record's fields are far below the bound on a journal record, and those on a sweep far below the
/// bound on an entry.
fn push(records: &mut Records, record: &DropRecord) {
    records.push(|buffer| record.encode(buffer)).expect("bounds of the domain keep records small");
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        // A state with broken invariants publishes nothing.
        if !std::thread::panicking() {
            self.hand_over();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actors::Answer;
    use crate::domain::fixtures::drop_of;
    use crate::engine::fixtures::reserve_in;
    use crate::journal::{Journal, JournalOptions, MemoryDevice};
    use tokio::sync::oneshot::{Receiver, channel};

    type Reply = Receiver<Result<Answer, AskError>>;

    /// A live drop over a journal with this many slots.
    fn live(places: usize, stock: u32) -> (Journal<Decisions>, Decider, Timestamp) {
        let options = JournalOptions { queue_entries: places, ..JournalOptions::in_memory() };
        let (journal, _) = Journal::open(&options, Arc::new(MemoryDevice::new()), 0).unwrap();
        let mut decider = Decider::alone(DropState::scheduled(drop_of(stock)), false, journal.handle());
        let (reply, announced) = channel();
        decider.announce(reply);
        assert_eq!(answer(announced).unwrap().sequence, 1);
        // The answer comes a moment before the place in the queue is given back.
        settled(&journal, 1);
        let now = decider.state().spec().starts_at;
        decider.ask(now, Command::Start, None).unwrap();
        settled(&journal, 2);
        (journal, decider, now)
    }

    fn answer(reply: Reply) -> Result<Answer, AskError> {
        reply.blocking_recv().expect("an answer")
    }

    /// Waits until everything is durable and the queue is empty.
    fn settled(journal: &Journal<Decisions>, sequence: u64) {
        while journal.handle().durable() < sequence || journal.handle().queued() > 0 {
            std::thread::yield_now();
        }
    }

    fn reserve(batch: &mut Batch<'_>, now: Timestamp) -> Reply {
        let (reply, answer) = channel();
        let ask = Command::Reserve(Box::new(reserve_in(batch.drop.state.spec())));
        let _ = batch.ask(now, ask, Some(reply));
        answer
    }

    #[test]
    fn what_is_decided_together_is_durable_and_published_together() {
        let (journal, mut decider, now) = live(10, 5);
        let mut batch = decider.batch(3);
        let mut replies: Vec<Reply> = (0..3).map(|_| reserve(&mut batch, now)).collect();
        assert!(replies.iter_mut().all(|reply| reply.try_recv().is_err()), "nothing leaves before");
        assert_eq!(journal.handle().queued(), 3);
        drop(batch);
        let answers: Vec<Answer> = replies.into_iter().map(|reply| answer(reply).unwrap()).collect();
        assert!(answers.iter().all(|answer| matches!(answer.outcome, Outcome::Order { replayed: false, .. })));
        assert!(answers.iter().all(|answer| answer.sequence == 5));
        let published = decider.published();
        assert_eq!((published.position, published.variants[0].1.available), (5, 2));
        settled(&journal, 5);
    }

    #[test]
    fn who_finds_no_place_is_told_so_and_the_others_are_decided() {
        let (journal, mut decider, now) = live(3, 100);
        for round in 1..=2 {
            let mut batch = decider.batch(5);
            let replies: Vec<Reply> = (0..5).map(|_| reserve(&mut batch, now)).collect();
            drop(batch);
            let answers: Vec<_> = replies.into_iter().map(answer).collect();
            assert!(answers[..3].iter().all(Result::is_ok));
            assert_eq!(answers[3..], [const { Err(AskError::Overloaded) }; 2]);
            settled(&journal, 2 + 3 * round);
            assert_eq!(decider.published().variants[0].1.held, 3 * round as u32);
        }
    }

    #[test]
    fn what_changes_nothing_and_answers_nobody_takes_no_place() {
        let (journal, mut decider, now) = live(1, 1);
        assert_eq!(decider.ask(now, Command::Tick, None), Ok(false));
        assert_eq!(journal.handle().queued(), 0);
        drop(decider.batch(7));
        assert_eq!(journal.handle().queued(), 0);
    }

    #[test]
    fn a_batch_without_end_is_handed_over_in_parts() {
        let (journal, mut decider, now) = live(1_000, 1_000);
        let mut batch = decider.batch(2);
        let replies: Vec<Reply> = (0..500).map(|_| reserve(&mut batch, now)).collect();
        drop(batch);
        let sequences: Vec<u64> = replies.into_iter().map(|reply| answer(reply).unwrap().sequence).collect();
        assert!(sequences.is_sorted() && sequences[0] > 3 && sequences[0] < sequences[499]);
        assert_eq!(sequences[499], 502);
        settled(&journal, 502);
    }
}
