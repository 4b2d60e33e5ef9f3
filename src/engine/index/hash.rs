//! An open-addressing hash table from hashes to slot numbers; the keys are stored elsewhere.
//!
//! The table keeps 32 bits of hash with each number, so one cache line usually proves that a key is absent, and the
//! table grows without reading the keys. It grows a segment at a time, so no insertion waits for millions of others.
//!
//! The first bits of a hash choose the segment, the last bits a line in it. A full line overflows into the next.
//! Entries are never removed, and lines fill from the front: a search ends at the first free entry.

/// An entry's value: a slot number.
pub(in crate::engine) type Number = u32;

const LINE: usize = 8;
/// Lines of a segment. A segment doubles up to this size, and then splits.
const SEGMENT_LINES: usize = 512;
/// Lines that an insertion may probe before the segment grows.
const REACH: usize = 12;
/// The most bits of a hash that choose a segment; the other half chooses the line.
const DEPTH_MAX: u32 = 16;

/// One cache line: eight entries.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub(in crate::engine) struct Line {
    /// 32 bits of each entry's hash; 0 marks a free entry.
    tags: [u32; LINE],
    numbers: [Number; LINE],
}

const _: () = assert!(size_of::<Line>() == 64);

impl Line {
    const EMPTY: Self = Self { tags: [0; LINE], numbers: [0; LINE] };

    /// Reads the line to pull it into the cache. The read does not block until its result is used.
    pub fn read(&self) -> u32 {
        self.tags[0]
    }

    /// A bit mask of the entries with that tag.
    fn matching(&self, tag: u32) -> u32 {
        let mut bits = 0;
        for (at, &other) in self.tags.iter().enumerate() {
            bits |= u32::from(other == tag) << at;
        }
        bits
    }

    fn is_full(&self) -> bool {
        self.tags[LINE - 1] != 0
    }
}

struct Segment {
    lines: Vec<Line>,
    /// How many leading bits all hashes in the segment share.
    depth: u32,
}

impl Segment {
    fn empty(lines: usize, depth: u32) -> Self {
        Self { lines: vec![Line::EMPTY; lines], depth }
    }

    /// The line where a search begins.
    fn home(&self, tag: u32) -> usize {
        ((tag & 0xffff) as usize * self.lines.len()) >> 16
    }

    fn next(&self, line: usize) -> usize {
        if line + 1 == self.lines.len() { 0 } else { line + 1 }
    }

    /// The line and the position in it.
    fn find(&self, tag: u32, mut is_it: impl FnMut(Number) -> bool) -> Option<(usize, usize)> {
        let mut at = self.home(tag);
        for _ in 0..self.lines.len() {
            let line = &self.lines[at];
            let mut matching = line.matching(tag);
            while matching != 0 {
                let place = matching.trailing_zeros() as usize;
                if is_it(line.numbers[place]) {
                    return Some((at, place));
                }
                matching &= matching - 1;
            }
            if !line.is_full() {
                return None;
            }
            at = self.next(at);
        }
        None
    }

    /// Puts an entry into the first of `reach` lines with room; false if all are full.
    fn put(&mut self, tag: u32, number: Number, reach: usize) -> bool {
        let mut at = self.home(tag);
        for _ in 0..reach.min(self.lines.len()) {
            let line = &mut self.lines[at];
            if !line.is_full() {
                let place = line.matching(0).trailing_zeros() as usize;
                (line.tags[place], line.numbers[place]) = (tag, number);
                return true;
            }
            at = self.next(at);
        }
        false
    }

    /// Copies the entries with a chosen tag to another segment, which must have room for all of them.
    fn copy_to(&self, other: &mut Self, chosen: impl Fn(u32) -> bool) {
        let entries = self.lines.iter().flat_map(|line| line.tags.into_iter().zip(line.numbers));
        for (tag, number) in entries.filter(|&(tag, _)| tag != 0 && chosen(tag)) {
            assert!(other.put(tag, number, usize::MAX), "half as many as there is room for");
        }
    }
}

/// The table. The caller passes the hash and a predicate that recognises its number.
#[derive(Default)]
pub(in crate::engine) struct HashIndex {
    /// The segment for each prefix of a hash; empty until the first insertion.
    directory: Vec<u32>,
    /// Bits of that prefix.
    depth: u32,
    segments: Vec<Segment>,
}

impl HashIndex {
    pub fn find(&self, hash: u64, is_it: impl FnMut(Number) -> bool) -> Option<Number> {
        let tag = tag_of(hash);
        let segment = &self.segments[self.segment_of(tag)?];
        segment.find(tag, is_it).map(|(line, place)| segment.lines[line].numbers[place])
    }

    pub fn find_mut(&mut self, hash: u64, is_it: impl FnMut(Number) -> bool) -> Option<&mut Number> {
        let tag = tag_of(hash);
        let segment = self.segment_of(tag)?;
        let segment = &mut self.segments[segment];
        let (line, place) = segment.find(tag, is_it)?;
        Some(&mut segment.lines[line].numbers[place])
    }

    /// Adds a number, which must not be in the table yet.
    pub fn insert(&mut self, hash: u64, number: Number) {
        let tag = tag_of(hash);
        loop {
            if let Some(segment) = self.segment_of(tag) {
                let segment = &mut self.segments[segment];
                // Splitting cannot separate hashes that are equal in these bits: they may fill a segment to its end.
                let reach = if segment.depth == DEPTH_MAX { usize::MAX } else { REACH };
                if segment.put(tag, number, reach) {
                    return;
                }
            }
            self.grow(tag);
        }
    }

    /// The line in which a search would begin, without reading it.
    pub fn home(&self, hash: u64) -> Option<&Line> {
        let tag = tag_of(hash);
        let segment = &self.segments[self.segment_of(tag)?];
        segment.lines.get(segment.home(tag))
    }

    fn segment_of(&self, tag: u32) -> Option<usize> {
        self.directory.get(beginning(tag, self.depth)).map(|&segment| segment as usize)
    }

    fn grow(&mut self, tag: u32) {
        let Some(at) = self.segment_of(tag) else {
            self.directory.push(0);
            self.segments.push(Segment::empty(1, 0));
            return;
        };
        let segment = &self.segments[at];
        let lines = segment.lines.len();
        if lines >= SEGMENT_LINES && segment.depth < DEPTH_MAX {
            return self.split(at, tag);
        }
        let most = if segment.depth == DEPTH_MAX { usize::MAX } else { SEGMENT_LINES };
        let mut larger = Segment::empty((2 * lines).min(most), segment.depth);
        segment.copy_to(&mut larger, |_| true);
        self.segments[at] = larger;
    }

    /// Splits a segment by the next bit of its hashes.
    fn split(&mut self, at: usize, tag: u32) {
        let depth = self.segments[at].depth + 1;
        if depth > self.depth {
            self.directory = self.directory.iter().flat_map(|&segment| [segment, segment]).collect();
            self.depth = depth;
        }
        let is_second = |tag| beginning(tag, depth) & 1 == 1;
        let mut halves = [Segment::empty(SEGMENT_LINES, depth), Segment::empty(SEGMENT_LINES, depth)];
        for (half, second) in halves.iter_mut().zip([false, true]) {
            self.segments[at].copy_to(half, |tag| is_second(tag) == second);
        }
        let [first, second] = halves;
        self.segments[at] = first;
        let new = u32::try_from(self.segments.len()).expect("at most 2^DEPTH_MAX segments");
        self.segments.push(second);
        // All prefixes that start with the second half's bits point to the new segment.
        let span = 1 << (self.depth - depth);
        let start = (beginning(tag, depth) | 1) * span;
        self.directory[start..start + span].fill(new);
    }
}

/// The stored part of a hash; never 0.
fn tag_of(hash: u64) -> u32 {
    ((hash >> u32::BITS) as u32).max(1)
}

/// The first bits of a tag, as a number.
fn beginning(tag: u32, bits: u32) -> usize {
    (u64::from(tag) >> (u32::BITS - bits)) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    /// Compares the table with the standard library's: keys are in a list, and `hash` gives their hashes.
    fn behaves(keys: impl IntoIterator<Item = u64>, hash: impl Fn(u64) -> u64) -> HashIndex {
        let (mut places, mut list, mut expected) = (HashIndex::default(), Vec::new(), HashMap::new());
        for key in keys {
            let found = places.find(hash(key), |number| list[number as usize] == key);
            assert_eq!(found, expected.get(&key).copied(), "{key}");
            let number = u32::try_from(list.len()).unwrap();
            list.push(key);
            match places.find_mut(hash(key), |number| list[number as usize] == key) {
                // As a buyer's newest order replaces the previous one.
                Some(place) => *place = number,
                None => places.insert(hash(key), number),
            }
            expected.insert(key, number);
        }
        for (&key, &number) in &expected {
            assert_ne!(places.home(hash(key)).unwrap().read(), 0, "lines fill from the front");
            assert_eq!(places.find(hash(key), |number| list[number as usize] == key), Some(number));
            assert_eq!(places.find(hash(!key), |number| list[number as usize] == !key), expected.get(&!key).copied());
        }
        places
    }

    fn well_mixed(key: u64) -> u64 {
        key.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32).wrapping_mul(0xd134_2543_de82_ef95)
    }

    proptest! {
        #[test]
        fn it_finds_what_a_hash_map_finds(
            keys in prop::collection::vec(0..300_u64, 0..600),
            // Few bits cause collisions within a line, within a segment and of the whole hash.
            mask in prop::sample::select(vec![u64::MAX, 0xffff << 48, 0xffff << 32, 7 << 32, 7 << 61, 0]),
        ) {
            behaves(keys, |key| well_mixed(key) & mask);
        }
    }

    #[test]
    fn segments_split_as_they_fill_and_keep_what_they_had() {
        let places = behaves(0..40_000, well_mixed);
        assert!(
            places.segments.len() > 8 && places.segments.iter().all(|segment| segment.lines.len() == SEGMENT_LINES)
        );
        let cells = places.segments.len() * SEGMENT_LINES * LINE;
        assert!(cells < 100_000, "{cells} for 40,000");
    }

    #[test]
    fn hashes_that_splitting_cannot_tell_apart_still_find_their_place() {
        for mask in [0, 0xffff << 48, 3 << 62] {
            behaves(0..4_000, |key| well_mixed(key) & mask);
        }
        // More entries of one hash than a segment has.
        let places = behaves(0..7_000, |_| 0);
        assert_eq!(places.depth, DEPTH_MAX);
    }
}
