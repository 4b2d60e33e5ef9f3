//! The journal's thread: drain, one write, one sync, publish, complete.

use super::device::DeviceFile;
use super::durability::Durability;
use super::error::JournalError;
use super::frame::{self, FrameHeader};
use super::handle::Completion;
use super::records::Records;
use super::segment::{self, NEXT, SegmentHeader, file_name};
use super::shared::Shared;
use super::space::Preparer;
use super::tail::Chunk;
use crate::domain::limits::JOURNAL_FRAME_BYTES_MAX;
use bytes::Bytes;
use crossbeam::channel::{Receiver, RecvTimeoutError};
use std::{
    io,
    sync::{Arc, PoisonError, atomic::Ordering},
    time::Duration,
};

/// What comes through the queue.
pub(super) enum Message<C> {
    Entry(Records, C),
    Close,
}

/// Where the next frame goes.
pub(super) struct End {
    pub file: Arc<dyn DeviceFile>,
    pub index: u64,
    pub offset: usize,
    pub len: usize,
    pub chain: u32,
    pub next_sequence: u64,
}

pub(super) struct Writer<C: Completion> {
    shared: Arc<Shared>,
    queue: Receiver<Message<C>>,
    preparer: Preparer,
    end: End,
    segment_bytes: usize,
    buffer: Vec<u8>,
    waiting: Vec<(u64, C)>,
    /// Written and not synced (only where durability is not `always`).
    dirty: bool,
    closing: bool,
}

impl<C: Completion> Writer<C> {
    pub fn new(shared: Arc<Shared>, queue: Receiver<Message<C>>, end: End, segment_bytes: usize) -> io::Result<Self> {
        let preparer = Preparer::start(Arc::clone(&shared.device), segment_bytes, Arc::clone(&shared.full))?;
        shared.left.store(end.len - end.offset, Ordering::Relaxed);
        let (buffer, waiting) = (Vec::new(), Vec::new());
        Ok(Self { shared, queue, preparer, end, segment_bytes, buffer, waiting, dirty: false, closing: false })
    }

    pub fn run(mut self) {
        let poison_on_panic = PoisonOnPanic(Arc::clone(&self.shared));
        while !self.closing {
            self.gather();
            if let Err(error) = self.commit() {
                self.fail(&error.to_string());
                return;
            }
        }
        if let Err(error) = self.prove_the_end() {
            self.fail(&error.to_string());
        }
        drop(poison_on_panic);
    }

    /// Waits for an entry and takes whatever else is there, up to a frame.
    fn gather(&mut self) {
        self.buffer.clear();
        self.buffer.resize(frame::HEADER, 0);
        let mut sequence = self.end.next_sequence - 1;
        let first = match self.shared.durability {
            Durability::Interval(every) => self.queue.recv_timeout(every),
            _ => self.queue.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        let mut message = match first {
            Ok(message) => Some(message),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(Message::Close),
        };
        while let Some(next) = message {
            match next {
                Message::Entry(records, completion) => {
                    sequence += u64::from(records.len());
                    self.buffer.extend_from_slice(records.bytes());
                    self.waiting.push((sequence, completion));
                }
                Message::Close => self.closing = true,
            }
            if self.buffer.len() >= JOURNAL_FRAME_BYTES_MAX {
                break;
            }
            message = self.queue.try_recv().ok();
        }
    }

    /// Makes what was gathered durable, then tells everyone.
    fn commit(&mut self) -> io::Result<()> {
        let first_sequence = self.end.next_sequence;
        let last = self.waiting.last().map_or(first_sequence - 1, |(sequence, _)| *sequence);
        let count = u32::try_from(last + 1 - first_sequence).map_err(io::Error::other)?;
        if count > 0 {
            let records = Bytes::copy_from_slice(&self.buffer[frame::HEADER..]);
            self.append(count)?;
            self.end.next_sequence = last + 1;
            self.shared.tail.push(Chunk { first_sequence, count, bytes: records });
        }
        if self.dirty && self.sync_is_due() {
            self.end.file.sync()?;
            self.dirty = false;
        }
        if count > 0 {
            self.shared.durable.send_replace(last);
        }
        self.shared.in_flight.fetch_sub(self.waiting.len(), Ordering::AcqRel);
        for (sequence, completion) in self.waiting.drain(..) {
            completion.complete(Ok(sequence));
        }
        Ok(())
    }

    fn sync_is_due(&self) -> bool {
        match self.shared.durability {
            Durability::Always => true,
            // Every commit that is not full follows a wait of at most the interval; full ones follow each other fast.
            Durability::Interval(_) => self.buffer.len() < JOURNAL_FRAME_BYTES_MAX,
            Durability::Never => self.closing,
        }
    }

    /// Writes the buffer as one frame, into the next segment if this one has no room.
    fn append(&mut self, record_count: u32) -> io::Result<()> {
        if self.end.offset + self.buffer.len().next_multiple_of(frame::ALIGN) > self.end.len {
            self.rotate()?;
        }
        let header = FrameHeader {
            payload_bytes: 0,
            crc: 0,
            previous_crc: self.end.chain,
            epoch: self.shared.epoch,
            first_sequence: self.end.next_sequence,
            durable_before: self.shared.durable(),
            record_count,
        };
        self.end.chain = frame::seal(&mut self.buffer, header);
        self.end.file.write_at(self.end.offset as u64, &self.buffer)?;
        self.end.offset += self.buffer.len();
        self.dirty = true;
        self.shared.left.store(self.end.len - self.end.offset, Ordering::Relaxed);
        Ok(())
    }

    /// Old segment on disk, new header on disk, new name on disk: in this order.
    fn rotate(&mut self) -> io::Result<()> {
        self.end.file.sync()?;
        let index = self.end.index + 1;
        let base_sequence = self.end.next_sequence;
        let header = SegmentHeader { journal: self.shared.journal, index, base_sequence, chain: self.end.chain };
        let file = self.preparer.take()?;
        file.write_at(0, &header.encode())?;
        file.sync()?;
        self.shared.device.rename(NEXT, &file_name(index))?;
        self.shared.device.sync_dir()?;
        self.preparer.renamed();
        self.shared.segments.lock().unwrap_or_else(PoisonError::into_inner).insert(base_sequence, index);
        let (chain, next_sequence) = (self.end.chain, self.end.next_sequence);
        self.end = End { file, index, offset: segment::HEADER, len: self.segment_bytes, chain, next_sequence };
        Ok(())
    }

    /// A last frame without records: it proves that everything before it was durable, so a damaged end is never taken
    /// for an unacknowledged one after a graceful stop.
    fn prove_the_end(&mut self) -> io::Result<()> {
        self.buffer.clear();
        self.buffer.resize(frame::HEADER, 0);
        if self.end.offset + frame::HEADER <= self.end.len && self.shared.durable() > 0 {
            self.append(0)?;
        }
        self.end.file.sync()
    }

    /// Nothing is appended any more; whoever waits, and whoever still comes, hears that the outcome is not known.
    fn fail(&mut self, reason: &str) {
        tracing::error!(reason, "the journal failed; nothing is accepted any more");
        self.shared.poison.send_replace(Some(reason.to_owned()));
        let error = JournalError::Poisoned(reason.to_owned());
        for (_, completion) in self.waiting.drain(..) {
            self.shared.in_flight.fetch_sub(1, Ordering::AcqRel);
            completion.complete(Err(error.clone()));
        }
        while !self.closing {
            match self.queue.recv_timeout(Duration::from_secs(60)) {
                Ok(Message::Entry(_, completion)) => {
                    self.shared.in_flight.fetch_sub(1, Ordering::AcqRel);
                    completion.complete(Err(error.clone()));
                }
                Ok(Message::Close) | Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }
}

/// A thread that panicked made nothing durable: whoever watches must learn it.
struct PoisonOnPanic(Arc<Shared>);

impl Drop for PoisonOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.poison.send_replace(Some("the journal's thread panicked".to_owned()));
        }
    }
}
