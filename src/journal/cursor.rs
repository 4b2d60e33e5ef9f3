//! Reads durable records in order: from memory when it keeps up, from the segment files when it fell behind.

use super::device::DeviceFile;
use super::error::JournalError;
use super::frame::{self, FrameHeader};
use super::records::split_record;
use super::segment;
use super::shared::Shared;
use super::tail::Chunk;
use bytes::Bytes;
use std::sync::Arc;

/// A run of records without a gap.
#[derive(Clone, Debug)]
pub struct Batch {
    first_sequence: u64,
    count: usize,
    parts: Vec<Bytes>,
}

impl Batch {
    /// The sequence number of the first record.
    #[must_use]
    pub fn first_sequence(&self) -> u64 {
        self.first_sequence
    }

    /// How many records.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count
    }

    /// Never true of a batch that a cursor returns.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The records, in order.
    pub fn records(&self) -> impl Iterator<Item = &[u8]> {
        self.parts.iter().flat_map(|part| {
            let mut rest = &part[..];
            std::iter::from_fn(move || {
                let (record, after) = split_record(rest)?;
                rest = after;
                Some(record)
            })
        })
    }
}

/// A consumer's place in the journal.
pub struct Cursor {
    shared: Arc<Shared>,
    after: u64,
    file: Option<FilePlace>,
}

struct FilePlace {
    file: Arc<dyn DeviceFile>,
    base: u64,
    offset: u64,
    len: u64,
}

impl Cursor {
    pub(super) fn new(shared: Arc<Shared>, after: u64) -> Self {
        Self { shared, after, file: None }
    }

    /// The last record that was returned.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.after
    }

    /// The next records, at most so many; `None` when there is nothing more that is durable. Never waits for a record.
    ///
    /// # Errors
    /// Where a segment file cannot be read back.
    pub fn next_batch(&mut self, records_max: usize) -> Result<Option<Batch>, JournalError> {
        let mut batch = Batch { first_sequence: self.after + 1, count: 0, parts: Vec::new() };
        let durable = self.shared.durable();
        while batch.count < records_max && self.after < durable {
            let chunk = match self.shared.tail.find(self.after + 1) {
                Some(chunk) => {
                    self.file = None;
                    chunk
                }
                None => self.read_file()?,
            };
            let (part, taken) = cut(&chunk, self.after + 1, records_max - batch.count).ok_or_else(|| {
                JournalError::Unreadable(format!("record {} is not where it belongs", self.after + 1))
            })?;
            // A frame may be longer than what is left of the batch: the rest of it comes next time.
            if taken < chunk_left(&chunk, self.after)
                && let Some(place) = &mut self.file
            {
                place.offset -= frame_bytes(&chunk);
            }
            self.after += taken as u64;
            batch.count += taken;
            batch.parts.push(part);
        }
        Ok((batch.count > 0).then_some(batch))
    }

    /// Reads frames until the one that holds the next record.
    fn read_file(&mut self) -> Result<Chunk, JournalError> {
        let wanted = self.after + 1;
        loop {
            if self.file.is_none() {
                let (base, name) = self.shared.segment_of(wanted).ok_or_else(|| missing(wanted))?;
                let file = self.shared.device.open(&name).map_err(unreadable)?;
                let len = file.len().map_err(unreadable)?;
                self.file = Some(FilePlace { file, base, offset: segment::HEADER as u64, len });
            }
            let place = self.file.as_mut().ok_or_else(|| missing(wanted))?;
            match read_frame(place)? {
                Some(chunk) if chunk.first_sequence + u64::from(chunk.count) > wanted => return Ok(chunk),
                Some(_) => {}
                None => {
                    let base = place.base;
                    let next = self.shared.segment_after(base).filter(|next| *next <= wanted);
                    next.ok_or_else(|| missing(wanted))?;
                    self.file = None;
                }
            }
        }
    }
}

/// The next frame of a file; `None` at its end.
fn read_frame(place: &mut FilePlace) -> Result<Option<Chunk>, JournalError> {
    let left =
        usize::try_from(place.len - place.offset).map_err(|error| JournalError::Unreadable(error.to_string()))?;
    if left < frame::HEADER {
        return Ok(None);
    }
    let mut head = [0; frame::HEADER];
    place.file.read_at(place.offset, &mut head).map_err(unreadable)?;
    if head.iter().all(|&byte| byte == 0) {
        return Ok(None);
    }
    let header: FrameHeader = frame::parse_header(&head, left).ok_or_else(|| {
        JournalError::Unreadable(format!("no frame at offset {} of segment {}", place.offset, place.base))
    })?;
    let mut payload = vec![0; header.payload_bytes as usize];
    place.file.read_at(place.offset + frame::HEADER as u64, &mut payload).map_err(unreadable)?;
    if frame::checksum(&head, &payload) != header.crc {
        let place = format!("offset {} of segment {}", place.offset, place.base);
        return Err(JournalError::Unreadable(format!("the checksum at {place} does not hold")));
    }
    place.offset += header.frame_bytes() as u64;
    Ok(Some(Chunk { first_sequence: header.first_sequence, count: header.record_count, bytes: payload.into() }))
}

/// The part of a chunk from a record on, at most so many records, and how many.
fn cut(chunk: &Chunk, from: u64, records_max: usize) -> Option<(Bytes, usize)> {
    let skip = usize::try_from(from.checked_sub(chunk.first_sequence)?).ok()?;
    let (mut rest, mut start) = (&chunk.bytes[..], 0);
    for _ in 0..skip {
        let (_, after) = split_record(rest)?;
        start += rest.len() - after.len();
        rest = after;
    }
    let available = chunk.count as usize - skip;
    let taken = available.min(records_max);
    if taken == available {
        return Some((chunk.bytes.slice(start..), taken));
    }
    let mut end = start;
    for _ in 0..taken {
        let (_, after) = split_record(rest)?;
        end += rest.len() - after.len();
        rest = after;
    }
    Some((chunk.bytes.slice(start..end), taken))
}

fn chunk_left(chunk: &Chunk, after: u64) -> usize {
    usize::try_from(chunk.first_sequence + u64::from(chunk.count) - 1 - after).unwrap_or(usize::MAX)
}

fn frame_bytes(chunk: &Chunk) -> u64 {
    (frame::HEADER + chunk.bytes.len()).next_multiple_of(frame::ALIGN) as u64
}

fn unreadable(error: std::io::Error) -> JournalError {
    JournalError::Unreadable(error.to_string())
}

fn missing(sequence: u64) -> JournalError {
    JournalError::Unreadable(format!("record {sequence} is in no segment on disk"))
}
