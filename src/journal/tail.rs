//! The most recent frames in memory, for consumers that keep up. Bounded in bytes: the oldest are dropped first.

use super::records::RECORD_HEADER_BYTES;
use bytes::{Buf, Bytes};
use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

/// Consecutive records of one frame, shared and cheap to clone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Chunk {
    pub(super) first_sequence: u64,
    pub(super) count: u32,
    pub(super) payload: Bytes,
}

impl Chunk {
    pub(super) fn last_sequence(&self) -> u64 {
        self.first_sequence + u64::from(self.count) - 1
    }

    /// Cuts off the first `count` records; all of them at most.
    pub(super) fn take(&mut self, count: u32) -> Self {
        let count = count.min(self.count);
        let mut bytes = 0;
        for _ in 0..count {
            let mut rest = &self.payload[bytes..];
            bytes += RECORD_HEADER_BYTES + rest.get_u32_le() as usize;
        }
        let taken = Self { first_sequence: self.first_sequence, count, payload: self.payload.split_to(bytes) };
        self.first_sequence += u64::from(count);
        self.count -= count;
        taken
    }
}

/// A ring of consecutive frames. It may hold frames that are written and not yet synced, but never returns them.
pub(super) struct Tail {
    bytes_max: usize,
    // A plain mutex: held for a push or a binary search, never across I/O.
    frames: Mutex<Frames>,
}

#[derive(Default)]
struct Frames {
    chunks: VecDeque<Chunk>,
    bytes: usize,
}

impl Tail {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, frames: Mutex::default() }
    }

    pub(super) fn push(&self, chunk: Chunk) {
        let mut frames = self.frames.lock().unwrap_or_else(PoisonError::into_inner);
        debug_assert!(frames.chunks.back().is_none_or(|last| last.last_sequence() + 1 == chunk.first_sequence));
        frames.bytes += chunk.payload.len();
        frames.chunks.push_back(chunk);
        while frames.bytes > self.bytes_max
            && let Some(oldest) = frames.chunks.pop_front()
        {
            frames.bytes -= oldest.payload.len();
        }
    }

    /// The records from `sequence` on, up to the end of their frame; `None` if that frame is not here or not durable.
    pub(super) fn get(&self, sequence: u64, durable: u64) -> Option<Chunk> {
        let frames = self.frames.lock().unwrap_or_else(PoisonError::into_inner);
        let at = frames.chunks.partition_point(|chunk| chunk.last_sequence() < sequence);
        let chunk = frames.chunks.get(at)?;
        if chunk.first_sequence > sequence || chunk.last_sequence() > durable {
            return None;
        }
        let mut chunk = chunk.clone();
        drop(frames);
        chunk.take((sequence - chunk.first_sequence) as u32);
        Some(chunk)
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.frames.lock().unwrap().bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::records::{RecordIter, Records};

    fn chunk(first_sequence: u64, texts: &[&str]) -> Chunk {
        let mut records = Records::new();
        texts.iter().for_each(|text| records.push(|buffer| buffer.extend_from_slice(text.as_bytes())).unwrap());
        Chunk { first_sequence, count: records.count(), payload: Bytes::copy_from_slice(records.as_bytes()) }
    }

    #[test]
    fn only_durable_frames_are_given_out_and_the_oldest_make_room() {
        let tail = Tail::new(30);
        tail.push(chunk(1, &["a", "b"]));
        tail.push(chunk(3, &["c", "d", "e"]));
        assert_eq!(tail.get(1, 0), None);
        assert_eq!(tail.get(1, 2), Some(chunk(1, &["a", "b"])));
        assert_eq!(tail.get(4, 4), None, "a frame is durable as a whole");
        assert_eq!(tail.get(4, 5), Some(chunk(4, &["d", "e"])));
        assert_eq!(tail.get(6, 5), None);
        tail.push(chunk(6, &["0123456789"]));
        assert_eq!(tail.get(1, 6), None, "made room");
        assert_eq!(tail.get(3, 6), Some(chunk(3, &["c", "d", "e"])));
        tail.push(chunk(7, &["larger than the whole ring: 0123456789 0123456789"]));
        assert_eq!((tail.bytes(), tail.get(7, 7)), (0, None));
        tail.push(chunk(8, &["h"]));
        assert_eq!(tail.get(8, 8), Some(chunk(8, &["h"])));
    }

    #[test]
    fn a_chunk_is_taken_apart_record_by_record() {
        let mut rest = chunk(5, &["a", "", "ccc"]);
        let first = rest.take(2);
        assert_eq!((first.first_sequence, first.count, rest.first_sequence, rest.count), (5, 2, 7, 1));
        assert_eq!(RecordIter::new(&rest.payload).collect::<Vec<_>>(), [b"ccc"]);
        assert_eq!(rest.take(9).count, 1);
        assert!(rest.payload.is_empty());
    }
}
