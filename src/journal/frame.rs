//! One frame is one group commit: a header of 40 bytes, the records, zeros up to a multiple of 8. Pure functions on
//! bytes.
//!
//! The CRC covers the header (its own field as zero), payload and padding. It starts from a seed derived from the
//! journal's id, so another journal's bytes never validate. The header has the CRC of the previous frame, which makes a
//! chain; a frame after damage can still be verified by itself.

use super::records::{RECORD_HEADER_BYTES, covers};
use crate::domain::limits::JOURNAL_FRAME_BYTES_MAX;
use uuid::Uuid;

/// Bytes of a frame's header.
pub const FRAME_HEADER_BYTES: usize = 40;
/// Frames start at multiples of this, so that a sector border never tears a header field.
pub const FRAME_ALIGNMENT: usize = 8;
/// The largest frame: a full payload and its header.
pub const FRAME_BYTES_MAX: usize = frame_bytes(JOURNAL_FRAME_BYTES_MAX);

const CRC_AT: usize = 4;

const _: () = {
    assert!(FRAME_HEADER_BYTES.is_multiple_of(FRAME_ALIGNMENT));
    assert!(JOURNAL_FRAME_BYTES_MAX <= u32::MAX as usize);
};

/// Bytes on disk of a frame with `payload_bytes` of records.
#[must_use]
pub const fn frame_bytes(payload_bytes: usize) -> usize {
    FRAME_HEADER_BYTES + payload_bytes.next_multiple_of(FRAME_ALIGNMENT)
}

/// The initial CRC value of all frames of a journal.
#[must_use]
pub fn seed(journal_id: Uuid) -> u32 {
    crc32c::crc32c(journal_id.as_bytes())
}

/// The fields of a frame's header, except the CRC.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FrameHeader {
    /// Bytes of records, without the padding.
    pub payload_bytes: u32,
    /// CRC of the previous frame, possibly in another segment; the seed for the very first.
    pub prev_crc: u32,
    /// The epoch (the number of the opening) that wrote it.
    pub epoch: u32,
    /// Sequence of the first record.
    pub first_sequence: u64,
    /// Everything up to this sequence was durable before this frame was written.
    pub last_durable: u64,
    /// Records in the payload, at least one.
    pub record_count: u32,
}

/// Why bytes are not a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FrameFault {
    /// A header field is out of range; the rest is not checked.
    #[error("a frame header with an impossible {0}")]
    Field(&'static str),
    /// The frame would end after the file.
    #[error("a frame that is longer than what is left of the file")]
    Overrun,
    /// Header or payload changed since they were written, or were never written in full.
    #[error("a frame whose checksum does not match")]
    Checksum,
    /// The checksum is right, but the records do not fill the payload.
    #[error("a frame whose records do not fill its payload")]
    Records,
}

impl FrameHeader {
    /// Sequence of the last record.
    #[must_use]
    pub fn last_sequence(&self) -> u64 {
        self.first_sequence + u64::from(self.record_count) - 1
    }

    /// Size on disk, padding included.
    #[must_use]
    pub fn frame_bytes(&self) -> usize {
        frame_bytes(self.payload_bytes as usize)
    }

    /// Decodes a header and checks the range of every field. `None` is the end of the log: all zeros.
    ///
    /// # Errors
    /// [`FrameFault::Field`].
    pub fn decode(bytes: &[u8; FRAME_HEADER_BYTES]) -> Result<Option<Self>, FrameFault> {
        if bytes.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let header = Self {
            payload_bytes: u32_at(bytes, 0),
            prev_crc: u32_at(bytes, 8),
            epoch: u32_at(bytes, 12),
            first_sequence: u64_at(bytes, 16),
            last_durable: u64_at(bytes, 24),
            record_count: u32_at(bytes, 32),
        };
        let fault = |field| Err(FrameFault::Field(field));
        let payload = header.payload_bytes as usize;
        if header.record_count == 0 || (header.record_count as usize).saturating_mul(RECORD_HEADER_BYTES) > payload {
            return fault("record count");
        }
        if payload > JOURNAL_FRAME_BYTES_MAX {
            return fault("length");
        }
        if header.first_sequence == 0 || header.first_sequence.checked_add(u64::from(header.record_count)).is_none() {
            return fault("sequence");
        }
        if header.last_durable >= header.first_sequence {
            return fault("durable sequence");
        }
        if u32_at(bytes, 36) != 0 {
            return fault("reserved field");
        }
        Ok(Some(header))
    }

    fn write(&self, bytes: &mut [u8]) {
        bytes[0..4].copy_from_slice(&self.payload_bytes.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.prev_crc.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.epoch.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.first_sequence.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.last_durable.to_le_bytes());
        bytes[32..36].copy_from_slice(&self.record_count.to_le_bytes());
    }
}

/// Encodes a frame. `header.payload_bytes` must be the sum of the parts. Returns the bytes, and the CRC that the next
/// frame refers to.
///
/// # Panics
/// If the parts do not add up: the frame would be unreadable.
pub fn encode<'a>(seed: u32, header: &FrameHeader, parts: impl Iterator<Item = &'a [u8]>) -> (Vec<u8>, u32) {
    let mut frame = Vec::with_capacity(header.frame_bytes());
    frame.resize(FRAME_HEADER_BYTES, 0);
    header.write(&mut frame);
    for part in parts {
        frame.extend_from_slice(part);
    }
    assert_eq!(frame.len(), FRAME_HEADER_BYTES + header.payload_bytes as usize, "a frame's parts must add up");
    frame.resize(header.frame_bytes(), 0);
    let crc = crc32c::crc32c_append(seed, &frame);
    frame[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_le_bytes());
    (frame, crc)
}

/// Verifies a whole frame: its checksum and records, not its position in the chain. `frame` is exactly
/// [`FrameHeader::frame_bytes`] long. Returns its CRC.
///
/// # Errors
/// [`FrameFault::Checksum`] or [`FrameFault::Records`].
pub fn verify(seed: u32, header: &FrameHeader, frame: &[u8]) -> Result<u32, FrameFault> {
    let written = u32_at(frame, CRC_AT);
    let crc = crc32c::crc32c_append(seed, &frame[..CRC_AT]);
    let crc = crc32c::crc32c_append(crc, &[0; 4]);
    let crc = crc32c::crc32c_append(crc, &frame[CRC_AT + 4..]);
    if crc != written {
        return Err(FrameFault::Checksum);
    }
    if !covers(payload(header, frame), header.record_count) {
        return Err(FrameFault::Records);
    }
    Ok(crc)
}

/// The records of a frame.
#[must_use]
pub fn payload<'a>(header: &FrameHeader, frame: &'a [u8]) -> &'a [u8] {
    &frame[FRAME_HEADER_BYTES..FRAME_HEADER_BYTES + header.payload_bytes as usize]
}

/// A valid frame at the start of `bytes`, whatever precedes it.
#[must_use]
pub fn self_verified(seed: u32, bytes: &[u8]) -> Option<FrameHeader> {
    let header = FrameHeader::decode(bytes.first_chunk()?).ok()??;
    let frame = bytes.get(..header.frame_bytes())?;
    verify(seed, &header, frame).ok().map(|_| header)
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::records::Records;
    use proptest::prelude::*;

    fn sample(texts: &[&[u8]]) -> (FrameHeader, Vec<u8>, u32) {
        let mut records = Records::new();
        texts.iter().for_each(|text| records.push(|buffer| buffer.extend_from_slice(text)).unwrap());
        let header = FrameHeader {
            payload_bytes: records.as_bytes().len() as u32,
            prev_crc: 7,
            epoch: 3,
            first_sequence: 41,
            last_durable: 40,
            record_count: records.count(),
        };
        let (frame, crc) = encode(9, &header, std::iter::once(records.as_bytes()));
        (header, frame, crc)
    }

    #[test]
    fn a_frame_comes_back_as_it_went_in() {
        let (header, frame, crc) = sample(&[b"one", b"", b"three"]);
        assert_eq!(frame.len() % FRAME_ALIGNMENT, 0);
        assert_eq!(FrameHeader::decode(frame.first_chunk().unwrap()), Ok(Some(header)));
        assert_eq!(verify(9, &header, &frame), Ok(crc));
        assert_eq!(header.last_sequence(), 43);
        assert_eq!(self_verified(9, &frame), Some(header));
        assert_eq!(self_verified(8, &frame), None, "another journal's seed");
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let (_, frame, _) = sample(&[b"one", b"two"]);
        for bit in 0..frame.len() * 8 {
            let mut frame = frame.clone();
            frame[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(self_verified(9, &frame), None, "bit {bit}");
        }
    }

    #[test]
    fn zeros_are_the_end() {
        assert_eq!(FrameHeader::decode(&[0; FRAME_HEADER_BYTES]), Ok(None));
    }

    proptest! {
        #[test]
        fn any_bytes_are_refused_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(self_verified(9, &bytes), None);
        }

        #[test]
        fn any_records_come_back(texts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 1..20)) {
            let texts: Vec<&[u8]> = texts.iter().map(Vec::as_slice).collect();
            let (header, frame, _) = sample(&texts);
            let read: Vec<&[u8]> = crate::journal::records::RecordIter::new(payload(&header, &frame)).collect();
            prop_assert_eq!(read, texts);
        }
    }
}
