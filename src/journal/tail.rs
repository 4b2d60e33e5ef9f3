//! The newest durable frames, in memory, for consumers that keep up. Bounded in bytes.

use bytes::Bytes;
use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

/// The records of one durable frame.
#[derive(Clone, Debug)]
pub(super) struct Chunk {
    pub first_sequence: u64,
    pub count: u32,
    pub bytes: Bytes,
}

pub(super) struct Tail {
    bytes_max: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    chunks: VecDeque<Chunk>,
    bytes: usize,
}

impl Tail {
    pub fn new(bytes_max: usize) -> Self {
        Self { bytes_max, state: Mutex::default() }
    }

    pub fn push(&self, chunk: Chunk) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.bytes += chunk.bytes.len();
        state.chunks.push_back(chunk);
        while state.bytes > self.bytes_max && state.chunks.len() > 1 {
            if let Some(old) = state.chunks.pop_front() {
                state.bytes -= old.bytes.len();
            }
        }
    }

    /// The chunk that holds this record, if it is still here.
    pub fn find(&self, sequence: u64) -> Option<Chunk> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let after = state.chunks.partition_point(|chunk| chunk.first_sequence <= sequence);
        let chunk = state.chunks.get(after.checked_sub(1)?)?;
        (sequence < chunk.first_sequence + u64::from(chunk.count)).then(|| chunk.clone())
    }
}
