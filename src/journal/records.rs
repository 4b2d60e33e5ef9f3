//! Records of an entry to append, and the iterator over a frame's records.
//!
//! A record is a little-endian `u32` length and that many bytes. Only the caller knows their meaning.

use crate::domain::limits::{JOURNAL_FRAME_BYTES_MAX, JOURNAL_RECORD_BYTES_MAX};

/// Bytes before each record.
pub const RECORD_HEADER_BYTES: usize = 4;

/// A record or an entry beyond its bound; nothing was added.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TooLarge {
    /// One record exceeds [`JOURNAL_RECORD_BYTES_MAX`].
    #[error("a journal record of {bytes} bytes exceeds the limit of {JOURNAL_RECORD_BYTES_MAX}")]
    Record {
        /// Size of the rejected record.
        bytes: usize,
    },
    /// The entry exceeds [`JOURNAL_FRAME_BYTES_MAX`], and an entry is never split.
    #[error("a journal entry of {bytes} bytes exceeds the limit of {JOURNAL_FRAME_BYTES_MAX}")]
    Entry {
        /// Size that the entry would have had.
        bytes: usize,
    },
}

/// The records of one entry: they become durable together or not at all. An entry without records is a barrier.
#[derive(Clone, Default, Debug)]
pub struct Records {
    buffer: Vec<u8>,
    count: u32,
}

impl Records {
    /// A barrier, until a record is pushed.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Reserves memory for `bytes` of records, their length prefixes included.
    #[must_use]
    pub fn with_capacity(bytes: usize) -> Self {
        Self { buffer: Vec::with_capacity(bytes), count: 0 }
    }

    /// Adds one record, which `encode` appends to the buffer. `encode` must only append.
    ///
    /// # Errors
    /// [`TooLarge`]; the records are unchanged.
    ///
    /// # Panics
    /// If `encode` shortens the buffer: earlier records would be damaged.
    pub fn push(&mut self, encode: impl FnOnce(&mut Vec<u8>)) -> Result<(), TooLarge> {
        let start = self.buffer.len();
        let body = start + RECORD_HEADER_BYTES;
        self.buffer.extend_from_slice(&[0; RECORD_HEADER_BYTES]);
        encode(&mut self.buffer);
        assert!(self.buffer.len() >= body, "a record's encoder must only append");
        let bytes = self.buffer.len() - body;
        let entry = self.buffer.len();
        if bytes > JOURNAL_RECORD_BYTES_MAX || entry > JOURNAL_FRAME_BYTES_MAX {
            self.buffer.truncate(start);
            let record = bytes > JOURNAL_RECORD_BYTES_MAX;
            return Err(if record { TooLarge::Record { bytes } } else { TooLarge::Entry { bytes: entry } });
        }
        self.buffer[start..body].copy_from_slice(&(bytes as u32).to_le_bytes());
        self.count += 1;
        Ok(())
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether the entry is a barrier.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Size in bytes, length prefixes included.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.buffer.len()
    }

    pub(super) fn count(&self) -> u32 {
        self.count
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.buffer
    }
}

/// Iterates over the records of a payload. Ends at the first length that does not fit; [`covers`] tells whether that
/// was the end.
#[derive(Clone, Debug)]
pub struct RecordIter<'a> {
    rest: &'a [u8],
}

impl<'a> RecordIter<'a> {
    /// `payload` must not have padding.
    #[must_use]
    pub fn new(payload: &'a [u8]) -> Self {
        Self { rest: payload }
    }

    /// The bytes not read yet.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

impl<'a> Iterator for RecordIter<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (length, rest) = self.rest.split_first_chunk::<RECORD_HEADER_BYTES>()?;
        let length = u32::from_le_bytes(*length) as usize;
        let (record, rest) = rest.split_at_checked(length)?;
        self.rest = rest;
        Some(record)
    }
}

/// Whether `payload` is exactly `count` records.
#[must_use]
pub fn covers(payload: &[u8], count: u32) -> bool {
    let mut records = RecordIter::new(payload);
    let walked = records.by_ref().take(count as usize).count();
    walked == count as usize && records.rest().is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_back_as_they_went_in() {
        let mut records = Records::new();
        for text in ["one", "", "three"] {
            records.push(|buffer| buffer.extend_from_slice(text.as_bytes())).unwrap();
        }
        assert_eq!(RecordIter::new(records.as_bytes()).collect::<Vec<_>>(), [&b"one"[..], b"", b"three"]);
        assert!(covers(records.as_bytes(), 3));
        assert!(!covers(records.as_bytes(), 2));
        assert!(!covers(records.as_bytes(), 4));
        assert!(!covers(&records.as_bytes()[..records.as_bytes().len() - 1], 3));
    }

    #[test]
    fn beyond_a_bound_nothing_is_added() {
        let mut records = Records::new();
        records.push(|buffer| buffer.push(1)).unwrap();
        let bytes = JOURNAL_RECORD_BYTES_MAX + 1;
        assert_eq!(records.push(|buffer| buffer.resize(buffer.len() + bytes, 0)), Err(TooLarge::Record { bytes }));
        assert_eq!((records.len(), records.as_bytes().len()), (1, 5));
        let mut refused = None;
        while refused.is_none() {
            refused = records.push(|buffer| buffer.resize(buffer.len() + JOURNAL_RECORD_BYTES_MAX, 7)).err();
        }
        assert!(matches!(refused, Some(TooLarge::Entry { .. })));
        assert!(records.as_bytes().len() <= JOURNAL_FRAME_BYTES_MAX);
        assert!(covers(records.as_bytes(), records.count()));
    }
}
