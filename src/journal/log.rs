//! The end of the log: appends frames to the active segment and rotates to the next one. One thread, no queue, no
//! policy.

use super::{
    device::{Device, DeviceFile},
    frame::{self, FRAME_HEADER_BYTES, FrameHeader, frame_bytes},
    reader::Chain,
    segment::{SEGMENT_HEADER_BYTES, SegmentHeader, file_name, temporary_name},
    tail::Chunk,
};
use bytes::Bytes;
use std::{io, sync::Arc};
use uuid::Uuid;

/// The active segment. Unusable after any error.
pub(super) struct Log {
    device: Arc<dyn Device>,
    file: Box<dyn DeviceFile>,
    journal_id: Uuid,
    seed: u32,
    epoch: u32,
    index: u64,
    segment_bytes: u64,
    /// Byte offset of the next frame.
    offset: u64,
    chain_crc: u32,
    next_sequence: u64,
    durable: u64,
}

impl Log {
    /// Continues the segment in `file` at `offset`; everything before is durable.
    pub(super) fn resume(
        device: Arc<dyn Device>,
        file: Box<dyn DeviceFile>,
        header: &SegmentHeader,
        chain: Chain,
        offset: u64,
        epoch: u32,
    ) -> Self {
        Self {
            device,
            file,
            journal_id: header.journal_id,
            seed: frame::seed(header.journal_id),
            epoch,
            index: header.index,
            segment_bytes: header.segment_bytes,
            offset,
            chain_crc: chain.crc,
            next_sequence: chain.next_sequence,
            durable: chain.next_sequence - 1,
        }
    }

    /// Sequence of the last written record.
    pub(super) fn last_sequence(&self) -> u64 {
        self.next_sequence - 1
    }

    /// Everything up to this sequence is synced.
    pub(super) fn durable(&self) -> u64 {
        self.durable
    }

    /// Byte offset of the next frame in the active segment.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    pub(super) fn next_index(&self) -> u64 {
        self.index + 1
    }

    pub(super) fn fits(&self, payload_bytes: usize) -> bool {
        frame_bytes(payload_bytes) as u64 <= self.segment_bytes - self.offset
    }

    /// Writes one frame of `count` records, at least one. Sequences continue from the last one.
    pub(super) fn append<'a>(
        &mut self,
        payload_bytes: usize,
        count: u32,
        parts: impl Iterator<Item = &'a [u8]>,
    ) -> io::Result<Chunk> {
        let header = FrameHeader {
            payload_bytes: payload_bytes as u32,
            prev_crc: self.chain_crc,
            epoch: self.epoch,
            first_sequence: self.next_sequence,
            last_durable: self.durable,
            record_count: count,
        };
        let (frame, crc) = frame::encode(self.seed, &header, parts);
        failpoint!("journal.before_write", error);
        self.file.write_at(&frame, self.offset)?;
        failpoint!("journal.after_write");
        self.offset += frame.len() as u64;
        self.chain_crc = crc;
        self.next_sequence += u64::from(count);
        let payload = Bytes::from(frame).slice(FRAME_HEADER_BYTES..FRAME_HEADER_BYTES + payload_bytes);
        Ok(Chunk { first_sequence: header.first_sequence, count, payload })
    }

    /// Syncs everything written so far.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        if self.durable < self.last_sequence() {
            failpoint!("journal.before_sync", error);
            self.file.sync_data()?;
            failpoint!("journal.after_sync");
            self.durable = self.last_sequence();
        }
        Ok(())
    }

    /// Rotates to `next`, a prepared file of zeros under its temporary name. The old segment is synced before the new
    /// one exists.
    pub(super) fn rotate(&mut self, next: Box<dyn DeviceFile>) -> io::Result<SegmentHeader> {
        self.sync()?;
        let header = SegmentHeader {
            journal_id: self.journal_id,
            index: self.next_index(),
            base_sequence: self.next_sequence,
            segment_bytes: next.len()?,
            epoch: self.epoch,
            chain_crc: self.chain_crc,
        };
        install(&*self.device, &*next, &header)?;
        self.file = next;
        self.index = header.index;
        self.segment_bytes = header.segment_bytes;
        self.offset = SEGMENT_HEADER_BYTES as u64;
        Ok(header)
    }
}

/// Turns a prepared file into a segment: its header is durable before its name.
pub(super) fn install(device: &dyn Device, file: &dyn DeviceFile, header: &SegmentHeader) -> io::Result<()> {
    file.write_at(&header.encode(), 0)?;
    file.sync_data()?;
    failpoint!("segment.before_rename");
    device.rename(&temporary_name(header.index), &file_name(header.index))?;
    failpoint!("segment.before_directory_sync");
    device.sync_directory()?;
    failpoint!("segment.after_directory_sync");
    Ok(())
}
