//! Reads durable records in order: from memory while it keeps up, from the segment files when it does not.

use super::{
    error::JournalError,
    reader::{Chain, SegmentReader, Step},
    records::RecordIter,
    segment::file_name,
    shared::Shared,
    tail::Chunk,
};
use crate::domain::limits::JOURNAL_FRAME_BYTES_MAX;
use bytes::Bytes;
use std::{io, sync::Arc};

/// A batch takes no further frame once it has this many bytes.
const BATCH_BYTES: usize = JOURNAL_FRAME_BYTES_MAX;

/// Consecutive durable records, without gaps.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Sequence of the first record.
    pub first_sequence: u64,
    count: usize,
    parts: Vec<Bytes>,
}

impl Batch {
    /// The number of records, at least 1.
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "a batch is never empty")]
    pub fn len(&self) -> usize {
        self.count
    }

    /// Sequence of the last record.
    #[must_use]
    pub fn last_sequence(&self) -> u64 {
        self.first_sequence + self.count as u64 - 1
    }

    /// The records and their sequences, borrowed from the frames' own bytes.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &[u8])> {
        (self.first_sequence..).zip(self.parts.iter().flat_map(|part| RecordIter::new(part)))
    }

    /// Like [`Self::iter`], with each record as a slice of the frame's shared buffer: it keeps the whole frame in
    /// memory while it lives.
    pub fn shared(&self) -> impl Iterator<Item = (u64, Bytes)> {
        let records = self.parts.iter().flat_map(|part| RecordIter::new(part).map(|record| part.slice_ref(record)));
        (self.first_sequence..).zip(records)
    }
}

/// A consumer's position in the journal. Memory is bounded by one frame and one read-ahead buffer, however far behind
/// the consumer is.
pub struct Cursor {
    shared: Arc<Shared>,
    position: u64,
    /// The rest of a frame that did not fit into the last batch.
    rest: Option<Chunk>,
    files: Option<Source>,
}

struct Source {
    reader: SegmentReader,
    index: u64,
    chain: Chain,
    /// The durable sequence when the reader last started to read ahead.
    seen_durable: u64,
}

impl Cursor {
    pub(super) fn new(shared: Arc<Shared>, after: u64) -> Self {
        Self { shared, position: after, rest: None, files: None }
    }

    /// Sequence of the last returned record.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Goes back to a position before the current one, so that the next batch begins after it.
    pub fn go_back(&mut self, position: u64) {
        (self.position, self.rest, self.files) = (position, None, None);
    }

    /// The next records, at most `records_max` and about [`JOURNAL_FRAME_BYTES_MAX`] bytes; `None` if there are none
    /// yet. Never waits for new records, but may read a file: do not call it on an async thread unless the consumer
    /// keeps up.
    ///
    /// # Errors
    /// [`JournalError::Gone`] or [`JournalError::Unreadable`]; the position does not change.
    pub fn next_batch(&mut self, records_max: usize) -> Result<Option<Batch>, JournalError> {
        let durable = self.shared.durable();
        let mut batch = Batch { first_sequence: self.position + 1, count: 0, parts: Vec::new() };
        let mut bytes = 0;
        while batch.count < records_max && bytes < BATCH_BYTES {
            let mut chunk = match self.rest.take() {
                Some(rest) => rest,
                None => match self.fetch(durable) {
                    Ok(Some(chunk)) => chunk,
                    Ok(None) => break,
                    Err(error) if batch.count == 0 => return Err(error),
                    // Return the records read so far; the next call fails with the same error.
                    Err(_) => break,
                },
            };
            let taken = chunk.take(u32::try_from(records_max - batch.count).unwrap_or(u32::MAX));
            self.rest = (chunk.count > 0).then_some(chunk);
            self.position += u64::from(taken.count);
            batch.count += taken.count as usize;
            bytes += taken.payload.len();
            batch.parts.push(taken.payload);
        }
        Ok((batch.count > 0).then_some(batch))
    }

    /// The records after the position, up to the end of their frame.
    fn fetch(&mut self, durable: u64) -> Result<Option<Chunk>, JournalError> {
        if self.position >= durable {
            return Ok(None);
        }
        if let Some(chunk) = self.shared.tail.get(self.position + 1, durable) {
            self.files = None;
            return Ok(Some(chunk));
        }
        let chunk = self.fetch_from_files(durable);
        if chunk.is_err() {
            self.files = None;
        }
        chunk.map(Some)
    }

    fn fetch_from_files(&mut self, durable: u64) -> Result<Chunk, JournalError> {
        let wanted = self.position + 1;
        loop {
            let mut source = match self.files.take() {
                Some(source) => source,
                None => self.open(wanted, durable)?,
            };
            if source.seen_durable != durable {
                source.reader.forget();
                source.seen_durable = durable;
            }
            let offset = source.reader.offset();
            let unreadable = |what: &str| self.unreadable(source.index, offset, what);
            match source.reader.step().map_err(|error| unreadable(&error.to_string()))? {
                Step::Frame(header) => {
                    source.chain.follow(&header, source.reader.crc()).map_err(unreadable)?;
                    let skipped = wanted.saturating_sub(header.first_sequence);
                    let found = (header.last_sequence() >= wanted).then(|| {
                        let payload = Bytes::copy_from_slice(source.reader.payload(&header));
                        let (first_sequence, count) = (header.first_sequence, header.record_count);
                        let mut chunk = Chunk { first_sequence, count, payload };
                        chunk.take(skipped as u32);
                        chunk
                    });
                    self.files = Some(source);
                    if let Some(chunk) = found {
                        return Ok(chunk);
                    }
                }
                Step::End if self.shared.segment_manager.catalog.locate(wanted) == Some(source.index) => {
                    return Err(unreadable("the log ends before a durable record"));
                }
                // The next iteration opens the following segment.
                Step::End => {}
                Step::Bad(fault) => return Err(unreadable(&fault.to_string())),
            }
        }
    }

    fn open(&self, wanted: u64, durable: u64) -> Result<Source, JournalError> {
        let gone = || JournalError::Gone {
            after: self.position,
            oldest: self.shared.segment_manager.catalog.oldest_sequence(),
        };
        let index = self.shared.segment_manager.catalog.locate(wanted).ok_or_else(gone)?;
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound => gone(),
            _ => self.unreadable(index, 0, &error.to_string()),
        };
        let shared = &self.shared;
        let mut reader = SegmentReader::open(&*shared.device, &file_name(index), shared.seed).map_err(failed)?;
        let header = reader.header().map_err(failed)?.map_err(|what| self.unreadable(index, 0, what))?;
        if header.journal_id != shared.journal_id || header.index != index || header.base_sequence > wanted {
            return Err(self.unreadable(index, 0, "the segment changed since the journal was opened"));
        }
        Ok(Source { reader, index, chain: Chain::start(&header), seen_durable: durable })
    }

    fn unreadable(&self, index: u64, offset: u64, what: &str) -> JournalError {
        let file = self.shared.device.describe(&file_name(index)).into();
        JournalError::Unreadable { file, offset, what: what.into() }
    }
}
