//! Reads the whole journal and decides what each irregularity means, without changing anything.
//!
//! A crash can leave exactly three things, each a [`Finding`]: a temporary file, a last segment without a header, and
//! bytes of an unacknowledged frame. Everything else is damage, and the answer is [`RecoveryError::Corrupt`].

use super::{
    device::{Device, read_to_end, used_end},
    error::RecoveryError,
    frame::{self, FRAME_ALIGNMENT, FrameHeader},
    identity::{Identity, META_FILE, read_identity},
    reader::{Chain, SegmentReader, Step},
    records::RecordIter,
    segment::{SEGMENT_HEADER_BYTES, SegmentHeader, TEMPORARY_SUFFIX, file_name, parse_name},
};
use std::collections::VecDeque;

/// An irregularity that recovery may repair.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Finding {
    /// A file that was being prepared when the process ended. It is deleted.
    Temporary { file: String },
    /// The last segment has no valid header, and nothing after it. It is set aside; the rotation is done again.
    UnfinishedSegment { file: String },
    /// The last segment is shorter than its header says, and the missing part was not proven durable. It is filled up
    /// with zeros.
    Shortened {
        file: String,
        /// Bytes that the file has.
        bytes: u64,
    },
    /// Bytes after the last whole frame that cannot be an acknowledged frame. They are saved, then zeroed.
    TornTail(CutTail),
}

/// The bytes that recovery cuts from the last segment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CutTail {
    /// The segment's file name.
    pub file: String,
    /// Byte offset where the cut starts.
    pub offset: u64,
    /// Length of the cut, up to the last byte that is not zero.
    pub bytes: u64,
    /// Sequence of the last record before the cut, which is kept.
    pub last_sequence: u64,
    /// Why the bytes are not a frame.
    pub what: String,
    /// The file with the saved bytes; `None` until they are cut.
    pub saved_as: Option<String>,
}

/// The contents of a journal.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Survey {
    /// `None` before the journal was first opened.
    pub identity: Option<Identity>,
    /// The oldest kept record; one more than the last if there is none.
    pub first_sequence: u64,
    /// The last record; 0 if there is none.
    pub last_sequence: u64,
    /// Everything up to this sequence was certainly durable.
    pub durable: u64,
    /// Headers of the segments, in order.
    pub segments: Vec<SegmentHeader>,
    /// The repairs to make.
    pub findings: Vec<Finding>,
    /// Byte offset of the next frame in the last segment.
    pub(super) end_offset: u64,
    /// Byte offset of the first frame in the last segment that is not proven durable; `end_offset` if there is none.
    pub(super) unproven_offset: u64,
    pub(super) chain: Option<Chain>,
}

/// Called with each record's sequence and bytes, in order.
pub type Visit<'a> = &'a mut dyn FnMut(u64, &[u8]);

/// Reads every record of a journal that may be in use, without a lock and without changing anything, for offline
/// checks. A torn tail is reported as a finding, and its records are not visited.
///
/// # Errors
/// [`RecoveryError::Corrupt`] at the first damage; records before it have been visited.
pub fn scan(device: &dyn Device, visit: Visit<'_>) -> Result<Survey, RecoveryError> {
    survey(device, 0, visit)
}

/// Reads everything and decides. `proven_durable`: a sequence known to be durable from elsewhere (a database
/// watermark).
pub(super) fn survey(device: &dyn Device, proven_durable: u64, visit: Visit<'_>) -> Result<Survey, RecoveryError> {
    let identity = read_identity(device)?;
    let mut names = device.list().map_err(RecoveryError::io("list", device.describe("")))?;
    names.sort_unstable();
    let temporary = names.iter().filter(|name| name.ends_with(TEMPORARY_SUFFIX));
    let findings = temporary.map(|file| Finding::Temporary { file: file.clone() }).collect();
    let indices: Vec<u64> = names.iter().filter_map(|name| parse_name(name)).collect();
    let corrupt =
        |what: &str| RecoveryError::Corrupt { file: device.describe(META_FILE), offset: 0, what: what.into() };
    let Some(known) = identity else {
        return match (indices.is_empty(), proven_durable) {
            (true, 0) => Ok(Survey::fresh(None, findings)),
            (true, _) => Err(corrupt("there is no journal, yet something was durable in it")),
            (false, _) => Err(corrupt("the file is missing, yet there are segments")),
        };
    };
    let durable = known.durable.max(proven_durable);
    if indices.is_empty() {
        return match (known.started, durable) {
            (false, 0) => Ok(Survey::fresh(identity, findings)),
            _ => Err(corrupt("the journal was started, yet all its segments are missing")),
        };
    }
    let survey = Survey { durable, ..Survey::fresh(identity, findings) };
    let seed = frame::seed(known.journal_id);
    let mut walk = Walk { device, known, seed, survey, unproven: VecDeque::new() };
    for (position, index) in indices.iter().enumerate() {
        let expected = indices[0] + position as u64;
        if *index != expected {
            return Err(walk.corrupt(expected, 0, "the segment is missing, yet there are later ones"));
        }
        walk.segment(*index, position + 1 == indices.len(), visit)?;
    }
    walk.finish()
}

impl Survey {
    fn fresh(identity: Option<Identity>, findings: Vec<Finding>) -> Self {
        Self {
            identity,
            first_sequence: 1,
            last_sequence: 0,
            durable: 0,
            segments: Vec::new(),
            findings,
            end_offset: SEGMENT_HEADER_BYTES as u64,
            unproven_offset: SEGMENT_HEADER_BYTES as u64,
            chain: None,
        }
    }
}

struct Walk<'a> {
    device: &'a dyn Device,
    known: Identity,
    seed: u32,
    survey: Survey,
    /// Offset and last sequence of the frames of the current segment that are not proven durable yet.
    unproven: VecDeque<(u64, u64)>,
}

impl Walk<'_> {
    fn corrupt(&self, index: u64, offset: u64, what: impl Into<String>) -> RecoveryError {
        RecoveryError::Corrupt { file: self.device.describe(&file_name(index)), offset, what: what.into() }
    }

    fn io(&self, index: u64) -> impl FnOnce(std::io::Error) -> RecoveryError + use<> {
        RecoveryError::io("read", self.device.describe(&file_name(index)))
    }

    fn segment(&mut self, index: u64, last: bool, visit: Visit<'_>) -> Result<(), RecoveryError> {
        let name = file_name(index);
        let mut reader = SegmentReader::open(self.device, &name, self.seed).map_err(self.io(index))?;
        let header = match reader.header().map_err(self.io(index))? {
            Ok(header) => header,
            Err(what) => return self.without_header(index, last, what, &reader),
        };
        let mut chain = self.check_header(index, &header, reader.file_bytes())?;
        self.unproven.clear();
        self.survey.segments.push(header);
        let what = loop {
            let offset = reader.offset();
            match reader.step().map_err(self.io(index))? {
                Step::Frame(frame) => {
                    chain.follow(&frame, reader.crc()).map_err(|what| self.corrupt(index, offset, what))?;
                    if frame.epoch > self.known.epoch {
                        return Err(self.corrupt(index, offset, "a frame of a later epoch than journal.meta knows"));
                    }
                    let records = RecordIter::new(reader.payload(&frame));
                    (frame.first_sequence..).zip(records).for_each(|(sequence, record)| visit(sequence, record));
                    self.prove(frame.last_durable);
                    self.unproven.push_back((offset, frame.last_sequence()));
                }
                Step::End => break None,
                Step::Bad(fault) => break Some(fault.to_string()),
            }
        };
        self.survey.chain = Some(chain);
        self.survey.last_sequence = chain.next_sequence - 1;
        self.survey.end_offset = reader.offset();
        self.tail(index, last, what, &header, &reader)
    }

    fn check_header(&mut self, index: u64, header: &SegmentHeader, file_bytes: u64) -> Result<Chain, RecoveryError> {
        let corrupt = |what: &str| Err(self.corrupt(index, 0, what));
        if header.journal_id != self.known.journal_id {
            return corrupt("the segment belongs to another journal");
        }
        if header.index != index {
            return corrupt("the segment was renamed: its header has another number");
        }
        if header.epoch > self.known.epoch {
            return corrupt("the segment has a later epoch than journal.meta knows");
        }
        if file_bytes > header.segment_bytes {
            return corrupt("the file is longer than its segment was made");
        }
        let start = Chain::start(header);
        match self.survey.chain {
            Some(chain) if chain.next_sequence != start.next_sequence || chain.crc != start.crc => {
                corrupt("the segment does not continue the one before it, whose last frames are missing or changed")
            }
            Some(chain) if chain.epoch > start.epoch => {
                corrupt("the segment is of an earlier epoch than the one before it")
            }
            Some(_) => {
                // A segment gets its name only after the previous one was synced.
                self.prove(start.next_sequence - 1);
                Ok(start)
            }
            None if index == 1 && (start.next_sequence, start.crc) != (1, self.seed) => {
                corrupt("the first segment does not start with record 1")
            }
            None => {
                self.survey.first_sequence = start.next_sequence;
                Ok(start)
            }
        }
    }

    /// Decides about a segment without a valid header: an unfinished last segment, or damage.
    fn without_header(
        &mut self,
        index: u64,
        last: bool,
        what: &str,
        reader: &SegmentReader,
    ) -> Result<(), RecoveryError> {
        let used_end = used_end(reader.file(), SEGMENT_HEADER_BYTES as u64).map_err(self.io(index))?;
        let replaceable = index == 1 || !self.survey.segments.is_empty();
        if !last || !replaceable || used_end.is_some() {
            return Err(self.corrupt(index, 0, what));
        }
        // The segment's name alone proves that everything before it was synced.
        self.prove(self.survey.last_sequence);
        self.survey.findings.push(Finding::UnfinishedSegment { file: file_name(index) });
        Ok(())
    }

    /// Decides about the bytes after the last whole frame: nothing, a torn unacknowledged frame, or damage.
    fn tail(
        &mut self,
        index: u64,
        last: bool,
        what: Option<String>,
        header: &SegmentHeader,
        reader: &SegmentReader,
    ) -> Result<(), RecoveryError> {
        let offset = reader.offset();
        let file = || file_name(index);
        if last && reader.file_bytes() < header.segment_bytes {
            self.survey.findings.push(Finding::Shortened { file: file(), bytes: reader.file_bytes() });
        }
        let Some(end) = used_end(reader.file(), offset).map_err(self.io(index))? else { return Ok(()) };
        let rest = read_to_end(reader.file(), offset).map_err(self.io(index))?;
        let what = what.unwrap_or_else(|| "bytes after the end of the log".into());
        if !last {
            return Err(self.corrupt(index, offset, what));
        }
        let next = self.survey.last_sequence + 1;
        for (at, later) in frames_within(self.seed, &rest) {
            // Only a frame written after the damaged one was synced proves anything: without a sync in between
            // (durability `interval`), a power loss may keep the later one and lose the earlier.
            if later.first_sequence >= next && later.last_durable >= next {
                let text =
                    format!("{what}, but the whole frame at byte {} says that it was durable", offset + at as u64);
                return Err(self.corrupt(index, offset, text));
            }
        }
        if self.survey.durable >= next {
            return Err(self.corrupt(index, offset, format!("{what}, but record {next} was durable")));
        }
        let (bytes, last_sequence) = (end - offset, next - 1);
        let cut = CutTail { file: file(), offset, bytes, last_sequence, what, saved_as: None };
        self.survey.findings.push(Finding::TornTail(cut));
        Ok(())
    }

    fn prove(&mut self, sequence: u64) {
        self.survey.durable = self.survey.durable.max(sequence);
    }

    fn finish(mut self) -> Result<Survey, RecoveryError> {
        let (last, durable) = (self.survey.last_sequence, self.survey.durable);
        if durable > last {
            let index = self.survey.segments.last().map_or(1, |header| header.index);
            let what = format!("the journal ends with record {last}, but record {durable} was durable");
            return Err(self.corrupt(index, self.survey.end_offset, what));
        }
        while self.unproven.front().is_some_and(|(_, sequence)| *sequence <= durable) {
            self.unproven.pop_front();
        }
        self.survey.unproven_offset = self.unproven.front().map_or(self.survey.end_offset, |(offset, _)| *offset);
        if self.survey.segments.is_empty() {
            self.survey.first_sequence = 1;
        }
        Ok(self.survey)
    }
}

/// Every frame within `bytes` that verifies by itself, at any aligned offset.
fn frames_within(seed: u32, bytes: &[u8]) -> impl Iterator<Item = (usize, FrameHeader)> {
    let starts = (0..bytes.len()).step_by(FRAME_ALIGNMENT);
    starts.filter_map(move |at| {
        let nothing = bytes[at..].first_chunk() == Some(&[0; FRAME_ALIGNMENT]);
        (!nothing).then(|| frame::self_verified(seed, &bytes[at..])).flatten().map(|header| (at, header))
    })
}
