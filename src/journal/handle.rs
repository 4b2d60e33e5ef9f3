//! How to reach the journal: open it, get a permit, hand entries over, read what is durable.

use super::cursor::Cursor;
use super::device::Device;
use super::durability::Durability;
use super::error::{JournalError, RecoveryError};
use super::records::Records;
use super::recovery::{self, Recovered};
use super::shared::Shared;
use super::space::Space;
use super::writer::{Message, Writer};
use crossbeam::channel::{Sender, bounded};
use std::{
    marker::PhantomData,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread::JoinHandle,
};
use tokio::sync::watch;
use uuid::Uuid;

/// What happens when an entry is durable, or is known not to become so.
pub trait Completion: Send + 'static {
    /// Called once, on the journal's thread, in the order in which entries were handed over. `Ok` carries the sequence
    /// number of the entry's last record (for a barrier, of the last record before it). Must not block.
    fn complete(self, outcome: Result<u64, JournalError>);
}

/// How a journal is opened.
#[derive(Clone, Debug)]
pub struct JournalOptions {
    /// When an entry counts as durable.
    pub durability: Durability,
    /// Bytes of a segment file.
    pub segment_bytes: usize,
    /// Bytes of durable records kept in memory.
    pub tail_bytes: usize,
    /// Entries that may be in flight.
    pub queue_entries: usize,
}

/// The journal's owner: closing it ends the thread.
pub struct Journal<C: Completion> {
    handle: JournalHandle<C>,
    thread: Option<JoinHandle<()>>,
}

/// For producers. Cheap to clone.
pub struct JournalHandle<C: Completion> {
    shared: Arc<Shared>,
    queue: Sender<Message<C>>,
}

impl<C: Completion> Clone for JournalHandle<C> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), queue: self.queue.clone() }
    }
}

/// For consumers. Cheap to clone.
#[derive(Clone)]
pub struct JournalReader {
    shared: Arc<Shared>,
}

/// The right to hand over one entry. Dropping it unused gives it back.
pub struct Permit<C: Completion> {
    shared: Arc<Shared>,
    queue: Sender<Message<C>>,
    unused: bool,
    _completion: PhantomData<C>,
}

impl<C: Completion> Journal<C> {
    /// Opens a journal: locks it, checks all of it, cuts an unacknowledged torn tail, starts the thread.
    /// `proven_durable` is the highest sequence number that anyone (the database) knows to have been durable.
    ///
    /// # Errors
    /// [`RecoveryError`]; nothing was changed then.
    pub fn open(
        options: &JournalOptions,
        device: Arc<dyn Device>,
        proven_durable: u64,
    ) -> Result<(Self, Recovered), RecoveryError> {
        let opened = recovery::open(&device, options.segment_bytes, proven_durable)?;
        let recovered = opened.recovered.clone();
        let last = recovered.last_sequence;
        let shared = Arc::new(Shared {
            device,
            journal: recovered.journal_id,
            epoch: recovered.epoch,
            durability: options.durability,
            queue_max: options.queue_entries,
            in_flight: AtomicUsize::new(0),
            closed: false.into(),
            durable: watch::Sender::new(last),
            poison: watch::Sender::new(None),
            tail: super::tail::Tail::new(options.tail_bytes),
            segments: opened.segments.into(),
            cursors: std::sync::Mutex::default(),
            full: Arc::default(),
            left: AtomicUsize::new(0),
            reserve: options.segment_bytes / 3,
        });
        let (queue, entries) = bounded(options.queue_entries + 1);
        let writer = Writer::new(Arc::clone(&shared), entries, opened.end, options.segment_bytes)
            .map_err(RecoveryError::io("start the journal's threads"))?;
        let thread = std::thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || writer.run())
            .map_err(RecoveryError::io("start the journal's thread"))?;
        Ok((Self { handle: JournalHandle { shared, queue }, thread: Some(thread) }, recovered))
    }

    /// For producers.
    #[must_use]
    pub fn handle(&self) -> JournalHandle<C> {
        self.handle.clone()
    }

    /// Takes no more entries, makes those in flight durable, ends the thread.
    ///
    /// # Errors
    /// Where the journal failed before or on the way.
    pub fn close(mut self) -> Result<(), JournalError> {
        self.handle.shared.closed.store(true, Ordering::Release);
        let _ = self.handle.queue.send(Message::Close);
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            return Err(JournalError::Poisoned("its thread panicked".to_owned()));
        }
        self.handle.shared.poisoned().map_or(Ok(()), Err)
    }
}

impl<C: Completion> JournalHandle<C> {
    /// The right to hand over one entry; `None` where the queue is full, the space is used up, or the journal has ended.
    #[must_use]
    pub fn try_permit(&self) -> Option<Permit<C>> {
        if !self.shared.admits() || self.shared.poison.borrow().is_some() {
            return None;
        }
        if self.shared.in_flight.fetch_add(1, Ordering::AcqRel) >= self.shared.queue_max {
            self.shared.in_flight.fetch_sub(1, Ordering::AcqRel);
            return None;
        }
        let (shared, queue) = (Arc::clone(&self.shared), self.queue.clone());
        Some(Permit { shared, queue, unused: true, _completion: PhantomData })
    }

    /// Whether new reservations may be taken.
    #[must_use]
    pub fn space(&self) -> Space {
        if self.shared.full.load(Ordering::Acquire) { Space::Full } else { Space::Ok }
    }

    /// For consumers.
    #[must_use]
    pub fn reader(&self) -> JournalReader {
        JournalReader { shared: Arc::clone(&self.shared) }
    }
}

impl<C: Completion> Permit<C> {
    /// Hands an entry over. No record makes it a barrier: it completes when everything before it is durable.
    pub fn submit(mut self, records: Records, completion: C) {
        self.unused = false;
        let message = Message::Entry(records, completion);
        // There is room: permits never outnumber places. It fails only when the thread is gone.
        if let Err(error) = self.queue.try_send(message) {
            self.shared.in_flight.fetch_sub(1, Ordering::AcqRel);
            if let Message::Entry(_, completion) = error.into_inner() {
                completion.complete(Err(self.shared.poisoned().unwrap_or(JournalError::Closed)));
            }
        }
    }
}

impl<C: Completion> Drop for Permit<C> {
    fn drop(&mut self) {
        if self.unused {
            self.shared.in_flight.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

impl JournalReader {
    /// The last durable sequence number; 0 before the first record.
    #[must_use]
    pub fn durable(&self) -> u64 {
        self.shared.durable()
    }

    /// Changes when more is durable.
    #[must_use]
    pub fn durable_watch(&self) -> watch::Receiver<u64> {
        self.shared.durable.subscribe()
    }

    /// Says why the journal failed, once it has.
    #[must_use]
    pub fn poison_watch(&self) -> watch::Receiver<Option<String>> {
        self.shared.poison.subscribe()
    }

    /// A consumer that goes on after a sequence number.
    #[must_use]
    pub fn cursor(&self, after: u64) -> Cursor {
        Cursor::new(Arc::clone(&self.shared), after)
    }

    /// Keeps every segment that a durable consumer has not passed.
    pub fn register_cursor(&self, name: &str, sequence: u64) {
        self.shared.advance(name, sequence);
    }

    /// A durable consumer has everything up to here.
    pub fn advance_cursor(&self, name: &str, sequence: u64) {
        self.shared.advance(name, sequence);
    }

    /// Whether new reservations may be taken.
    #[must_use]
    pub fn space(&self) -> Space {
        if self.shared.full.load(Ordering::Acquire) { Space::Full } else { Space::Ok }
    }

    /// Whose journal it is.
    #[must_use]
    pub fn journal_id(&self) -> Uuid {
        self.shared.journal
    }

    /// How often it was opened.
    #[must_use]
    pub fn epoch(&self) -> u32 {
        self.shared.epoch
    }

    /// When an entry counts as durable.
    #[must_use]
    pub fn durability(&self) -> Durability {
        self.shared.durability
    }

    /// Segment files on disk.
    #[must_use]
    pub fn segments(&self) -> usize {
        self.shared.segments.lock().unwrap_or_else(std::sync::PoisonError::into_inner).len()
    }
}
