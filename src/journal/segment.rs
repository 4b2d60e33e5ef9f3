//! A segment's header and its file name. Segments have a fixed size and are numbered from 1 without gaps.

use super::frame::{FRAME_HEADER_BYTES, u32_at, u64_at};
use uuid::Uuid;

/// The header has a block of its own, so that a torn frame never touches it on any sector size.
pub const SEGMENT_HEADER_BYTES: usize = 4096;
/// The smallest segment: room for one small frame. For tests.
pub const SEGMENT_BYTES_MIN: usize = SEGMENT_HEADER_BYTES + 8 * FRAME_HEADER_BYTES;
/// The version of the format, in segments and in `journal.meta`.
pub const FORMAT_VERSION: u32 = 1;

const MAGIC: &[u8; 8] = b"LDJRNSEG";
const CRC_AT: usize = 68;
const SUFFIX: &str = ".seg";
/// Suffix of a file that is not yet, or no longer, part of the journal.
pub const TEMPORARY_SUFFIX: &str = ".tmp";
/// Suffix of a file with bytes that recovery cut.
pub const BROKEN_SUFFIX: &str = ".broken";

/// The header of a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SegmentHeader {
    /// The journal of this segment.
    pub journal_id: Uuid,
    /// The segment's number, from 1.
    pub index: u64,
    /// Sequence of the segment's first record.
    pub base_sequence: u64,
    /// Size of the file.
    pub segment_bytes: u64,
    /// The epoch that created the segment.
    pub epoch: u32,
    /// CRC of the last frame before it; the journal's seed if there is none.
    pub chain_crc: u32,
}

impl SegmentHeader {
    /// Encodes the header's block.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![0; SEGMENT_HEADER_BYTES];
        bytes[0..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.epoch.to_le_bytes());
        bytes[16..32].copy_from_slice(self.journal_id.as_bytes());
        bytes[32..40].copy_from_slice(&self.index.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.base_sequence.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.segment_bytes.to_le_bytes());
        bytes[56..60].copy_from_slice(&self.chain_crc.to_le_bytes());
        let crc = crc32c::crc32c(&bytes);
        bytes[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Decodes the header's block.
    ///
    /// # Errors
    /// The fault, in words.
    pub fn decode(bytes: &[u8]) -> Result<Self, &'static str> {
        let block = bytes.get(..SEGMENT_HEADER_BYTES).ok_or("the file ends within its segment header")?;
        if block[0..8] != *MAGIC {
            return Err("this is not a segment header");
        }
        let crc = crc32c::crc32c(&block[..CRC_AT]);
        let crc = crc32c::crc32c_append(crc, &[0; 4]);
        let crc = crc32c::crc32c_append(crc, &block[CRC_AT + 4..]);
        if crc != u32_at(block, CRC_AT) {
            return Err("the segment header's checksum does not match");
        }
        if u32_at(block, 8) != FORMAT_VERSION {
            return Err("the segment has a format version that this program does not know");
        }
        Ok(Self {
            epoch: u32_at(block, 12),
            journal_id: Uuid::from_slice(&block[16..32]).expect("sixteen bytes"),
            index: u64_at(block, 32),
            base_sequence: u64_at(block, 40),
            segment_bytes: u64_at(block, 48),
            chain_crc: u32_at(block, 56),
        })
    }
}

/// The file name of segment `index`; sorts by number.
#[must_use]
pub fn file_name(index: u64) -> String {
    format!("{index:020}{SUFFIX}")
}

/// The name of a segment that is being prepared.
#[must_use]
pub fn temporary_name(index: u64) -> String {
    format!("{index:020}{SUFFIX}{TEMPORARY_SUFFIX}")
}

/// The number in a segment's file name; `None` for other files.
#[must_use]
pub fn parse_name(name: &str) -> Option<u64> {
    let index = name.strip_suffix(SUFFIX)?;
    (index.len() == 20).then(|| index.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_comes_back_and_every_flipped_bit_is_noticed() {
        let header = SegmentHeader {
            journal_id: Uuid::from_u128(5),
            index: 2,
            base_sequence: 17,
            segment_bytes: 8192,
            epoch: 3,
            chain_crc: 99,
        };
        let bytes = header.encode();
        assert_eq!(SegmentHeader::decode(&bytes), Ok(header));
        for bit in 0..bytes.len() * 8 {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(SegmentHeader::decode(&bytes).is_err(), "bit {bit}");
        }
        assert!(SegmentHeader::decode(&bytes[..SEGMENT_HEADER_BYTES - 1]).is_err());
    }

    #[test]
    fn names_sort_by_number() {
        assert_eq!(file_name(1), "00000000000000000001.seg");
        assert!(file_name(9) < file_name(10));
        assert_eq!(parse_name(&file_name(12)), Some(12));
        assert_eq!(parse_name(&temporary_name(12)), None);
        assert_eq!(parse_name("12.seg"), None);
    }
}
