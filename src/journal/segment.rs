//! One segment file: a header, then frames.

use uuid::Uuid;

/// Bytes before the first frame: one sector of its own, so that no frame write can tear the header.
pub const HEADER: usize = 512;
/// The name of the segment that is being prepared.
pub const NEXT: &str = "next.tmp";
const MAGIC: &[u8; 8] = b"LDJOURN1";
const VERSION: u32 = 1;

/// What a segment's header says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SegmentHeader {
    /// Whose it is.
    pub journal: Uuid,
    /// Counts from 1 without a gap.
    pub index: u64,
    /// The sequence number of the first record that it will hold.
    pub base_sequence: u64,
    /// The CRC of the last frame before it.
    pub chain: u32,
}

impl SegmentHeader {
    /// The first sector.
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[0..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[16..32].copy_from_slice(self.journal.as_bytes());
        bytes[32..40].copy_from_slice(&self.index.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.base_sequence.to_le_bytes());
        bytes[48..52].copy_from_slice(&self.chain.to_le_bytes());
        let crc = crc32c::crc32c(&bytes);
        bytes[12..16].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads it back.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn decode(bytes: &[u8]) -> Result<Self, &'static str> {
        let bytes = bytes.first_chunk::<HEADER>().ok_or("the file is shorter than a segment header")?;
        let mut unsigned = *bytes;
        unsigned[12..16].fill(0);
        let u32_at = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
        if &bytes[0..8] != MAGIC {
            return Err("not a segment of a LiveDrop journal");
        }
        if u32_at(8) != VERSION {
            return Err("a segment format that this version does not know");
        }
        if crc32c::crc32c(&unsigned) != u32_at(12) {
            return Err("the segment header's checksum does not hold");
        }
        let journal = Uuid::from_slice(&bytes[16..32]).map_err(|_| "no journal id")?;
        Ok(Self { journal, index: u64_at(32), base_sequence: u64_at(40), chain: u32_at(48) })
    }
}

/// The file name of a segment.
#[must_use]
pub fn file_name(index: u64) -> String {
    format!("{index:020}.seg")
}

/// The index in a file name, if it is a segment's.
#[must_use]
pub fn parse_name(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".seg").filter(|digits| digits.len() == 20)?;
    digits.parse().ok()
}
