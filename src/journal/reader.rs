//! Reads a segment frame by frame, with bounded memory, and checks that frames follow each other.

use super::{
    device::{Device, DeviceFile},
    frame::{self, FRAME_HEADER_BYTES, FrameFault, FrameHeader},
    segment::{SEGMENT_HEADER_BYTES, SegmentHeader},
};
use std::io;

const READ_AHEAD_BYTES: usize = 256 << 10;

/// The bytes at the reader's offset.
pub(super) enum Step {
    /// A frame that verifies by itself; the reader has moved past it.
    Frame(FrameHeader),
    /// Zeros, or too few bytes for a frame.
    End,
    /// Neither a frame nor zeros.
    Bad(FrameFault),
}

/// One segment, from its first frame on.
pub(super) struct SegmentReader {
    file: Box<dyn DeviceFile>,
    seed: u32,
    /// Byte offset of the next frame.
    offset: u64,
    file_bytes: u64,
    buffer: Vec<u8>,
    buffer_at: u64,
    /// Byte offset of the last step's frame.
    frame_at: u64,
    crc: u32,
}

impl SegmentReader {
    pub(super) fn open(device: &dyn Device, name: &str, seed: u32) -> io::Result<Self> {
        Self::of(device.open_read_only(name)?, seed)
    }

    pub(super) fn of(file: Box<dyn DeviceFile>, seed: u32) -> io::Result<Self> {
        let file_bytes = file.len()?;
        let offset = SEGMENT_HEADER_BYTES as u64;
        Ok(Self { file, seed, offset, file_bytes, buffer: Vec::new(), buffer_at: 0, frame_at: 0, crc: 0 })
    }

    pub(super) fn header(&mut self) -> io::Result<Result<SegmentHeader, &'static str>> {
        let bytes = (SEGMENT_HEADER_BYTES as u64).min(self.file_bytes) as usize;
        Ok(SegmentHeader::decode(self.window(0, bytes)?))
    }

    pub(super) fn file(&self) -> &dyn DeviceFile {
        &*self.file
    }

    pub(super) fn into_file(self) -> Box<dyn DeviceFile> {
        self.file
    }

    pub(super) fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Reads the frame at the offset. A length is compared with the rest of the file before anything is read.
    pub(super) fn step(&mut self) -> io::Result<Step> {
        let (offset, seed) = (self.offset, self.seed);
        let left = self.file_bytes.saturating_sub(offset);
        if left < FRAME_HEADER_BYTES as u64 {
            return Ok(Step::End);
        }
        let bytes = self.window(offset, FRAME_HEADER_BYTES)?;
        let Some(bytes) = bytes.first_chunk() else { return Ok(Step::End) };
        let header = match FrameHeader::decode(bytes) {
            Ok(Some(header)) => header,
            Ok(None) => return Ok(Step::End),
            Err(fault) => return Ok(Step::Bad(fault)),
        };
        let frame_bytes = header.frame_bytes();
        if frame_bytes as u64 > left {
            return Ok(Step::Bad(FrameFault::Overrun));
        }
        let frame = self.window(offset, frame_bytes)?;
        if frame.len() < frame_bytes {
            return Ok(Step::Bad(FrameFault::Overrun));
        }
        match frame::verify(seed, &header, frame) {
            Ok(crc) => {
                self.crc = crc;
                self.frame_at = offset;
                self.offset = offset + frame_bytes as u64;
                Ok(Step::Frame(header))
            }
            Err(fault) => Ok(Step::Bad(fault)),
        }
    }

    /// The records of the last step's frame.
    pub(super) fn payload(&self, header: &FrameHeader) -> &[u8] {
        let start = (self.frame_at - self.buffer_at) as usize;
        frame::payload(header, &self.buffer[start..])
    }

    /// The CRC of the last step's frame.
    pub(super) fn crc(&self) -> u32 {
        self.crc
    }

    /// Discards the read-ahead buffer: the writer may have written these bytes since.
    pub(super) fn forget(&mut self) {
        self.buffer.clear();
    }

    /// `bytes` bytes from `offset`, fewer at the end of the file.
    fn window(&mut self, offset: u64, bytes: usize) -> io::Result<&[u8]> {
        let buffered = self.buffer_at..self.buffer_at + self.buffer.len() as u64;
        if offset < buffered.start || offset + bytes as u64 > buffered.end {
            let left = self.file_bytes.saturating_sub(offset);
            self.buffer.resize(left.min(bytes.max(READ_AHEAD_BYTES) as u64) as usize, 0);
            self.buffer_at = offset;
            let read = self.file.read_at(&mut self.buffer, offset)?;
            self.buffer.truncate(read);
        }
        let start = (offset - self.buffer_at) as usize;
        Ok(&self.buffer[start..self.buffer.len().min(start + bytes)])
    }
}

/// The state of the log after a frame, which the next frame has to continue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Chain {
    pub(super) crc: u32,
    pub(super) next_sequence: u64,
    pub(super) epoch: u32,
}

impl Chain {
    pub(super) fn start(header: &SegmentHeader) -> Self {
        Self { crc: header.chain_crc, next_sequence: header.base_sequence, epoch: header.epoch }
    }

    /// Checks that a frame continues the log, and moves past it.
    pub(super) fn follow(&mut self, header: &FrameHeader, crc: u32) -> Result<(), &'static str> {
        if header.prev_crc != self.crc {
            return Err("a whole frame that does not continue the frame before it");
        }
        if header.first_sequence != self.next_sequence {
            return Err("a whole frame with another sequence than the one expected");
        }
        if header.epoch < self.epoch {
            return Err("a whole frame of an earlier epoch than the frame before it");
        }
        *self = Self { crc, next_sequence: header.last_sequence() + 1, epoch: header.epoch };
        Ok(())
    }
}
