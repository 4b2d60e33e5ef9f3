//! One frame: one group commit. A pure codec.

use super::records::split_record;
use crate::domain::limits::JOURNAL_FRAME_BYTES_MAX;

/// Bytes of a frame's header.
pub const HEADER: usize = 40;
/// Frames begin at multiples of this, so a length never lies across a sector boundary.
pub const ALIGN: usize = 8;
/// Marks a frame, so that a search for stray frames is cheap.
const MAGIC: u32 = 0x5246_444c;
/// One entry may push a frame past `JOURNAL_FRAME_BYTES_MAX`, because entries are never split; it can't double it.
pub const PAYLOAD_MAX: usize = 2 * JOURNAL_FRAME_BYTES_MAX;

/// What a frame's header says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FrameHeader {
    /// Bytes of records.
    pub payload_bytes: u32,
    /// CRC-32C of the header (with this field zero) and the payload.
    pub crc: u32,
    /// The CRC of the frame before, across segments: a stale frame never fits.
    pub previous_crc: u32,
    /// The process generation that wrote it.
    pub epoch: u32,
    /// The sequence number of its first record (the next one, if it has none).
    pub first_sequence: u64,
    /// The last sequence number that was durable when this was written.
    pub durable_before: u64,
    /// How many records.
    pub record_count: u32,
}

impl FrameHeader {
    /// Bytes that the frame takes, padding included.
    #[must_use]
    pub fn frame_bytes(&self) -> usize {
        (HEADER + self.payload_bytes as usize).next_multiple_of(ALIGN)
    }

    /// The sequence number of its last record (the one before, if it has none).
    #[must_use]
    pub fn last_sequence(&self) -> u64 {
        self.first_sequence + u64::from(self.record_count) - 1
    }

    fn encode(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[0..4].copy_from_slice(&self.payload_bytes.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.crc.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.previous_crc.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.epoch.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.first_sequence.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.durable_before.to_le_bytes());
        bytes[32..36].copy_from_slice(&self.record_count.to_le_bytes());
        bytes[36..40].copy_from_slice(&MAGIC.to_le_bytes());
        bytes
    }
}

/// What lies at an offset.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Parsed {
    /// A header of zeros: nothing was written here.
    End,
    /// A frame whose checksum holds.
    Frame(FrameHeader),
    /// Something else, and why.
    Invalid(&'static str),
}

/// Turns a buffer that holds [`HEADER`] spare bytes and then records into a frame; returns its CRC.
pub fn seal(buffer: &mut Vec<u8>, mut header: FrameHeader) -> u32 {
    header.payload_bytes = u32::try_from(buffer.len() - HEADER).expect("frames are far below 4 GiB");
    header.crc = 0;
    buffer[..HEADER].copy_from_slice(&header.encode());
    header.crc = crc32c::crc32c(buffer);
    buffer[..HEADER].copy_from_slice(&header.encode());
    buffer.resize(buffer.len().next_multiple_of(ALIGN), 0);
    header.crc
}

/// Reads a header without its payload; `None` where it cannot be one. `left` is how many bytes the file has from here.
#[must_use]
pub fn parse_header(bytes: &[u8; HEADER], left: usize) -> Option<FrameHeader> {
    let u32_at = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
    let header = FrameHeader {
        payload_bytes: u32_at(0),
        crc: u32_at(4),
        previous_crc: u32_at(8),
        epoch: u32_at(12),
        first_sequence: u64_at(16),
        durable_before: u64_at(24),
        record_count: u32_at(32),
    };
    let fits = header.payload_bytes as usize <= PAYLOAD_MAX && header.frame_bytes() <= left;
    let sane = header.first_sequence > 0
        && header.durable_before < header.first_sequence
        && header.first_sequence.checked_add(u64::from(header.record_count)).is_some()
        && u64::from(header.record_count) * 4 <= u64::from(header.payload_bytes);
    (fits && sane && u32_at(36) == MAGIC).then_some(header)
}

/// Looks at what `bytes` begins with. Never reads or allocates past it.
#[must_use]
pub fn parse(bytes: &[u8]) -> Parsed {
    let Some(head) = bytes.first_chunk::<HEADER>() else {
        return if bytes.iter().all(|&byte| byte == 0) {
            Parsed::End
        } else {
            Parsed::Invalid("the file ends in a header")
        };
    };
    if head.iter().all(|&byte| byte == 0) {
        return Parsed::End;
    }
    let Some(header) = parse_header(head, bytes.len()) else {
        return Parsed::Invalid("not a frame header");
    };
    let end = HEADER + header.payload_bytes as usize;
    if checksum(head, &bytes[HEADER..end]) != header.crc {
        return Parsed::Invalid("the checksum does not hold");
    }
    if bytes[end..header.frame_bytes()].iter().any(|&byte| byte != 0) {
        return Parsed::Invalid("the padding is not zero");
    }
    if count_records(&bytes[HEADER..end]) != Some(header.record_count) {
        return Parsed::Invalid("the records do not fill the frame");
    }
    Parsed::Frame(header)
}

/// The CRC that a frame of this header and payload must have.
#[must_use]
pub fn checksum(head: &[u8; HEADER], payload: &[u8]) -> u32 {
    let mut head = *head;
    head[4..8].fill(0);
    crc32c::crc32c_append(crc32c::crc32c(&head), payload)
}

fn count_records(mut payload: &[u8]) -> Option<u32> {
    let mut count = 0;
    while !payload.is_empty() {
        payload = split_record(payload)?.1;
        count += 1;
    }
    Some(count)
}
