//! Texts in contiguous chunks, each after its length.

use std::num::NonZeroU32;

/// The position of a text, in steps of [`TEXT_STEP`] bytes.
pub(in crate::engine) type TextAt = NonZeroU32;

const TEXT_STEP: usize = 4;
const TEXT_HEAD: usize = size_of::<u16>();

/// Bytes of a chunk. A text that does not fit into the rest of one begins the next.
const TEXT_CHUNK: usize = 1 << 18;
const _: () = assert!(TEXT_STEP + TEXT_HEAD + u16::MAX as usize <= TEXT_CHUNK);

/// Texts stored contiguously, each after its length: an allocation for each would cost half as much again. Texts are
/// never moved, except in the first chunk, which grows.
#[derive(Default)]
pub(in crate::engine) struct StringArena(Vec<Vec<u8>>);

impl StringArena {
    pub fn push(&mut self, text: &str) -> TextAt {
        let length = u16::try_from(text.len()).expect("a text is shorter than a journal record");
        let bytes = self.room_for(TEXT_HEAD + text.len());
        let at = bytes.len();
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(text.as_bytes());
        let at = (self.0.len() - 1) * TEXT_CHUNK + at;
        u32::try_from(at / TEXT_STEP)
            .ok()
            .and_then(NonZeroU32::new)
            .expect("ORDERS_PER_DROP_MAX texts of 800 bytes fit")
    }

    /// The chunk with room for `length` bytes, padded to the next step.
    fn room_for(&mut self, length: usize) -> &mut Vec<u8> {
        let chunks = &mut self.0;
        let end = chunks.last().map(|last| last.len().next_multiple_of(TEXT_STEP));
        match end {
            // Position 0 means no text.
            None => chunks.push(vec![0; TEXT_STEP]),
            Some(end) if end + length > TEXT_CHUNK => chunks.push(Vec::with_capacity(TEXT_CHUNK)),
            Some(end) => chunks.last_mut().expect("it has an end").resize(end, 0),
        }
        chunks.last_mut().expect("there is one now")
    }

    pub fn get(&self, at: TextAt) -> &str {
        let at = at.get() as usize * TEXT_STEP;
        let (head, text) = self.0[at / TEXT_CHUNK][at % TEXT_CHUNK..].split_at(TEXT_HEAD);
        let length = usize::from(u16::from_le_bytes([head[0], head[1]]));
        std::str::from_utf8(&text[..length]).expect("it was a text")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_come_back_as_they_were() {
        let mut texts = StringArena::default();
        // More than a chunk, and the longest possible text.
        let all: Vec<String> = (0..900).chain([32_767]).map(|n| "é".repeat(n)).chain(["a".repeat(65_535)]).collect();
        let places: Vec<_> = all.iter().map(|text| texts.push(text)).collect();
        for (text, at) in all.iter().zip(places) {
            assert_eq!(texts.get(at), text);
        }
        assert!(texts.0.len() > 3 && texts.0.iter().all(|chunk| chunk.len() <= TEXT_CHUNK));
    }
}
