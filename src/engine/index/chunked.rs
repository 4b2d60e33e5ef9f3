//! A list that never moves its elements.
//!
//! A full vector is copied into one of twice its size. With millions of orders one buyer would wait for all of that
//! copying, and for a moment the memory of three lists would be in use.

use std::ops::{Index, IndexMut};

/// Elements of a chunk.
const CHUNK: usize = 4_096;

/// An append-only list in chunks of [`CHUNK`] elements.
pub(in crate::engine) struct Chunked<T> {
    /// All chunks are full except the last.
    chunks: Vec<Vec<T>>,
}

impl<T> Default for Chunked<T> {
    fn default() -> Self {
        Self { chunks: Vec::new() }
    }
}

impl<T> Chunked<T> {
    pub fn len(&self) -> usize {
        self.chunks.last().map_or(0, |last| (self.chunks.len() - 1) * CHUNK + last.len())
    }

    pub fn get(&self, at: usize) -> Option<&T> {
        self.chunks.get(at / CHUNK)?.get(at % CHUNK)
    }

    pub fn push(&mut self, entry: T) {
        match self.chunks.last_mut() {
            Some(last) if last.len() < CHUNK => last.push(entry),
            last => {
                // The first chunk grows like a vector: most drops are small.
                let mut chunk = if last.is_none() { Vec::new() } else { Vec::with_capacity(CHUNK) };
                chunk.push(entry);
                self.chunks.push(chunk);
            }
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.chunks.iter().flatten()
    }
}

impl<T> Index<usize> for Chunked<T> {
    type Output = T;

    fn index(&self, at: usize) -> &T {
        &self.chunks[at / CHUNK][at % CHUNK]
    }
}

impl<T> IndexMut<usize> for Chunked<T> {
    fn index_mut(&mut self, at: usize) -> &mut T {
        &mut self.chunks[at / CHUNK][at % CHUNK]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_holds_what_a_vector_holds_and_moves_none_of_it() {
        let (mut list, mut expected, mut first_of_second) = (Chunked::default(), Vec::new(), None);
        for entry in 0..2 * CHUNK + 2 {
            assert_eq!((list.len(), list.get(entry)), (entry, None));
            list.push(entry);
            expected.push(entry);
            if entry == CHUNK {
                first_of_second = Some(&raw const list[CHUNK]);
            }
        }
        assert_eq!(first_of_second, Some(&raw const list[CHUNK]));
        assert!(list.iter().eq(&expected));
        list[CHUNK] = 7;
        assert_eq!((list[CHUNK - 1], list[CHUNK], list.get(CHUNK + 1)), (CHUNK - 1, 7, Some(&(CHUNK + 1))));
        assert_eq!((list.len(), list.get(usize::MAX)), (expected.len(), None));
    }
}
