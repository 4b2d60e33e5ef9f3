//! The only thread that appends: drains the queue, writes, syncs, publishes, completes.

use super::{
    durability::Durability,
    error::JournalError,
    identity::Identity,
    log::Log,
    records::Records,
    shared::{Held, Shared},
};
use crossbeam::channel::{Receiver, RecvTimeoutError};
use std::{
    collections::VecDeque,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

/// Receives an entry's outcome: usually a waiting reply.
pub trait Completion: Send + 'static {
    /// Called once, in the order of the entries, on the writer thread: it must be quick and must not block. `Ok` is the
    /// sequence of the entry's last record, or for a barrier that of the last record before it.
    fn complete(self, outcome: Result<u64, JournalError>);
}

impl<F: FnOnce(Result<u64, JournalError>) + Send + 'static> Completion for F {
    fn complete(self, outcome: Result<u64, JournalError>) {
        self(outcome);
    }
}

/// Records queued for the journal, with their slots in the queue.
pub(super) struct Entry<C: Completion> {
    pub(super) records: Records,
    completion: Option<C>,
    held: Held,
}

impl<C: Completion> Entry<C> {
    pub(super) fn new(records: Records, completion: C, held: Held) -> Self {
        Self { records, completion: Some(completion), held }
    }

    pub(super) fn complete(mut self, outcome: Result<u64, JournalError>) {
        if let Some(completion) = self.completion.take() {
            completion.complete(outcome);
        }
    }
}

impl<C: Completion> Drop for Entry<C> {
    /// An entry lost in an abandoned queue still answers.
    fn drop(&mut self) {
        if let Some(completion) = self.completion.take() {
            completion.complete(Err(self.held.shared.refusal()));
        }
    }
}

pub(super) enum Message<C: Completion> {
    Append(Entry<C>),
    Close,
}

/// The state of the writer thread.
pub(super) struct Writer<C: Completion> {
    shared: Arc<Shared>,
    receiver: Receiver<Message<C>>,
    log: Log,
    identity: Identity,
    /// Payload bytes of the largest frame.
    frame_bytes_max: usize,
    /// The entries of the current frame.
    batch: VecDeque<Entry<C>>,
    /// An entry that did not fit into the current frame: the first of the next.
    carry: Option<Entry<C>>,
    closing: bool,
    /// When the next sync is due, if there is something to sync and the durability has an interval.
    sync_due: Option<Instant>,
}

impl<C: Completion> Writer<C> {
    pub(super) fn new(
        shared: Arc<Shared>,
        receiver: Receiver<Message<C>>,
        log: Log,
        identity: Identity,
        frame_bytes_max: usize,
    ) -> Self {
        let batch = VecDeque::new();
        Self { shared, receiver, log, identity, frame_bytes_max, batch, carry: None, closing: false, sync_due: None }
    }

    /// The first half of a turn, without a thread: takes the queued entries and writes them. Returns the last sequence
    /// before them, for [`Self::finish_queued`]; `None` if nothing is queued, or if the write failed and all waiters
    /// have the error.
    pub(super) fn write_queued(&mut self) -> Option<u64> {
        if self.shared.is_stopped() {
            self.refuse_queued(None);
            return None;
        }
        let bytes = self.carry.take().map_or(0, |entry| {
            let bytes = entry.records.as_bytes().len();
            self.batch.push_back(entry);
            bytes
        });
        self.collect_queued(bytes);
        if self.batch.is_empty() {
            return None;
        }
        let written = self.write_frame();
        self.or_poison(written)
    }

    /// The second half: syncs, publishes, completes.
    pub(super) fn finish_queued(&mut self, before: u64) {
        let finished = self.finish_frame(before);
        self.or_poison(finished);
    }

    /// Closes, without a thread.
    pub(super) fn close_queued(&mut self) -> Result<(), JournalError> {
        if self.shared.is_stopped() {
            return Err(self.shared.refusal());
        }
        self.shared.stop();
        let sealed = self.seal().map_err(|error| failed("close", &error));
        self.refuse_queued(None);
        sealed
    }

    fn or_poison<T>(&mut self, outcome: Result<T, JournalError>) -> Option<T> {
        outcome
            .inspect_err(|failure| {
                self.shared.poison(failure);
                self.refuse_queued(Some(failure));
            })
            .ok()
    }

    /// The thread: serves until the journal is closed or fails, and answers everything that comes after.
    pub(super) fn run(mut self) -> Result<(), JournalError> {
        let served = catch_unwind(AssertUnwindSafe(|| self.serve()));
        let outcome = served.unwrap_or_else(|_| Err(unknown("the journal's thread panicked")));
        match &outcome {
            Ok(()) => self.shared.stop(),
            Err(failure) => {
                tracing::error!(error = %failure, "the journal stops for good");
                // Before any waiter gets the error, so that nothing new is accepted in between.
                self.shared.poison(failure);
            }
        }
        self.refuse_the_rest(outcome.as_ref().err());
        outcome
    }

    fn serve(&mut self) -> Result<(), JournalError> {
        while !self.closing {
            if self.collect() {
                self.commit()?;
            } else {
                self.sync().map_err(|error| failed("sync", &error))?;
            }
        }
        self.seal().map_err(|error| failed("close", &error))
    }

    /// Waits for an entry and takes all queued ones, up to one frame. `false` if a sync is due before anything arrives.
    fn collect(&mut self) -> bool {
        let mut bytes = 0;
        if let Some(entry) = self.carry.take() {
            bytes = entry.records.as_bytes().len();
            self.batch.push_back(entry);
        } else {
            let message = match self.sync_due {
                Some(due) => self.receiver.recv_deadline(due),
                None => self.receiver.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match message {
                Ok(Message::Append(entry)) => {
                    bytes = entry.records.as_bytes().len();
                    self.batch.push_back(entry);
                }
                Ok(Message::Close) | Err(RecvTimeoutError::Disconnected) => self.closing = true,
                Err(RecvTimeoutError::Timeout) => return false,
            }
        }
        self.collect_queued(bytes);
        true
    }

    /// Takes queued entries, up to one frame, after the `bytes` already taken.
    fn collect_queued(&mut self, mut bytes: usize) {
        while !self.closing
            && let Ok(message) = self.receiver.try_recv()
        {
            match message {
                Message::Append(entry) => {
                    bytes += entry.records.as_bytes().len();
                    if bytes > self.frame_bytes_max {
                        self.carry = Some(entry);
                        break;
                    }
                    self.batch.push_back(entry);
                }
                Message::Close => self.closing = true,
            }
        }
    }

    /// Commits one frame: writes it, syncs as the durability requires, publishes, completes.
    fn commit(&mut self) -> Result<(), JournalError> {
        let first = self.write_frame()?;
        self.finish_frame(first)
    }

    /// Writes the batch. Returns the last sequence before it.
    fn write_frame(&mut self) -> Result<u64, JournalError> {
        let payload_bytes = self.batch.iter().map(|entry| entry.records.as_bytes().len()).sum::<usize>();
        let count = self.batch.iter().map(|entry| entry.records.count()).sum::<u32>();
        let before = self.log.last_sequence();
        if count > 0 {
            if payload_bytes > self.frame_bytes_max {
                return Err(unknown("an entry is larger than a segment"));
            }
            if !self.log.fits(payload_bytes) {
                self.rotate()?;
            }
            let parts = self.batch.iter().map(|entry| entry.records.as_bytes());
            let chunk = self.log.append(payload_bytes, count, parts).map_err(|error| failed("write", &error))?;
            self.shared.tail.push(chunk);
            self.shared.metrics.frame(count, payload_bytes);
            self.shared.active_bytes.store(self.log.offset(), Ordering::Relaxed);
        }
        Ok(before)
    }

    /// Syncs, publishes and completes the batch that [`Self::write_frame`] wrote.
    fn finish_frame(&mut self, before: u64) -> Result<(), JournalError> {
        let mut sequence = before;
        self.sync_if_due().map_err(|error| failed("sync", &error))?;
        failpoint!("journal.before_reply");
        while let Some(entry) = self.batch.pop_front() {
            sequence += u64::from(entry.records.count());
            entry.complete(Ok(sequence));
            failpoint!("journal.after_reply");
        }
        Ok(())
    }

    fn sync_if_due(&mut self) -> io::Result<()> {
        match self.shared.durability {
            Durability::Always => self.sync(),
            Durability::Never => {
                self.shared.publish(self.log.last_sequence());
                Ok(())
            }
            Durability::Interval { millis } => {
                let barrier = self.batch.iter().any(|entry| entry.records.is_empty());
                let now = Instant::now();
                if barrier || self.sync_due.is_some_and(|due| due <= now) {
                    return self.sync();
                }
                if self.log.durable() < self.log.last_sequence() {
                    self.sync_due.get_or_insert(now + Duration::from_millis(millis));
                }
                Ok(())
            }
        }
    }

    fn sync(&mut self) -> io::Result<()> {
        if self.log.durable() < self.log.last_sequence() {
            let began = Instant::now();
            self.log.sync()?;
            self.shared.metrics.synced(began.elapsed());
        }
        self.sync_due = None;
        self.shared.publish(self.log.durable());
        Ok(())
    }

    fn rotate(&mut self) -> Result<(), JournalError> {
        let next = self.shared.segment_manager.take().map_err(|error| match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => JournalError::DiskFull,
            _ => failed("prepare a segment", &error),
        })?;
        failpoint!("journal.before_rotate");
        let header = self.log.rotate(next).map_err(|error| failed("rotate", &error))?;
        self.sync_due = None;
        self.shared.segment_manager.catalog.add(header.base_sequence, header.index);
        self.shared.publish(self.log.durable());
        self.shared.segment_manager.want(self.log.next_index());
        failpoint!("journal.after_rotate");
        Ok(())
    }

    /// Closes cleanly: syncs everything and records that in `journal.meta`, so that no tail can be mistaken for a torn
    /// one.
    fn seal(&mut self) -> io::Result<()> {
        self.sync()?;
        Identity { durable: self.log.durable(), ..self.identity }.write(&*self.shared.device)
    }

    /// Answers the failed frame's entries, those queued behind, and those yet to come, until the journal is closed.
    fn refuse_the_rest(&mut self, failure: Option<&JournalError>) {
        self.refuse_queued(failure);
        while !self.closing
            && let Ok(message) = self.receiver.recv()
        {
            self.refuse(message);
        }
        self.refuse_queued(None);
    }

    /// Answers the failed frame's entries and those queued behind.
    fn refuse_queued(&mut self, failure: Option<&JournalError>) {
        for entry in std::mem::take(&mut self.batch) {
            refuse(entry, failure.cloned().unwrap_or(JournalError::Closed));
        }
        if let Some(entry) = self.carry.take() {
            refuse(entry, self.shared.refusal());
        }
        while let Ok(message) = self.receiver.try_recv() {
            self.refuse(message);
        }
    }

    fn refuse(&mut self, message: Message<C>) {
        match message {
            Message::Append(entry) => refuse(entry, self.shared.refusal()),
            Message::Close => self.closing = true,
        }
    }
}

/// A panicking completion must not keep the others from their answers.
fn refuse<C: Completion>(entry: Entry<C>, error: JournalError) {
    let _ = catch_unwind(AssertUnwindSafe(|| entry.complete(Err(error))));
}

fn failed(doing: &str, error: &io::Error) -> JournalError {
    unknown(&format!("cannot {doing}: {error}"))
}

fn unknown(reason: &str) -> JournalError {
    JournalError::OutcomeUnknown { reason: reason.into() }
}
