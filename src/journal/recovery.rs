//! What is found at start. Every case is named; only a torn tail is cut, everything else refuses.
//!
//! | found | done |
//! |---|---|
//! | no file at all | a new journal |
//! | segments without `journal.meta`, or of another journal | refuse |
//! | an index missing, a base or a chain that does not follow | refuse |
//! | a bad segment header | refuse (a header is on disk before the segment has its name) |
//! | a bad frame, or bytes after the end, in a segment that is not the last | refuse |
//! | the same in the last segment, a valid later frame behind it | refuse |
//! | the same, and a frame or the database proves that more was durable | refuse |
//! | the same, nothing behind it, nothing proves it | cut: kept in a `.broken` file, zeroed, synced |
//! | `*.tmp` | deleted |

use super::device::{Device, FileDevice, read_all};
use super::error::RecoveryError;
use super::frame::{self, Parsed};
use super::meta::Meta;
use super::records::split_record;
use super::segment::{self, SegmentHeader, file_name, parse_name};
use super::writer::End;
use std::{
    collections::BTreeMap,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};
use uuid::Uuid;

/// A torn tail that was cut.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CutTail {
    /// The segment.
    pub file: String,
    /// Where the cut begins.
    pub offset: u64,
    /// How many bytes were not zero there.
    pub bytes: u64,
    /// Why it was no frame.
    pub what: &'static str,
    /// Where the bytes are kept.
    pub kept_in: String,
}

/// What opening found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recovered {
    /// Whose journal it is.
    pub journal_id: Uuid,
    /// How often it was opened, this time included.
    pub epoch: u32,
    /// The oldest record still on disk; one more than the last where there is none.
    pub first_sequence: u64,
    /// The newest; 0 where there never was one.
    pub last_sequence: u64,
    /// What was cut.
    pub cut: Option<CutTail>,
    /// Segment files.
    pub segments: usize,
    /// How long it took.
    pub elapsed: Duration,
}

pub(super) struct Opened {
    pub recovered: Recovered,
    pub segments: BTreeMap<u64, u64>,
    pub end: End,
}

/// One segment that was read and checked.
struct Checked {
    header: SegmentHeader,
    bytes: Vec<u8>,
    /// Where the valid frames end, and why they do if not by zeros.
    end: usize,
    damage: Option<&'static str>,
    chain: u32,
    next_sequence: u64,
    /// The highest `durable_before` of its frames.
    proven: u64,
}

/// Opens for writing.
pub(super) fn open(device: &Arc<dyn Device>, segment_bytes: usize, proven: u64) -> Result<Opened, RecoveryError> {
    let started = Instant::now();
    device.lock().map_err(RecoveryError::Locked)?;
    let names = device.list().map_err(RecoveryError::io("list the journal's folder"))?;
    let indexes = segment_indexes(&names)?;
    let (journal_id, epoch) = match (Meta::read(&**device, &names)?, indexes.first()) {
        (Some(meta), _) => (meta.journal, meta.epoch + 1),
        (None, None) => (Uuid::now_v7(), 1),
        (None, Some(first)) => {
            return Err(RecoveryError::corrupt(
                &file_name(*first),
                0,
                "journal.meta is missing, so nothing says whose segment this is",
            ));
        }
    };
    let mut chain = Walk::new(journal_id);
    let mut segments = BTreeMap::new();
    let mut last = None;
    for (position, &index) in indexes.iter().enumerate() {
        let checked = chain.read(&**device, index)?;
        if position + 1 < indexes.len() {
            checked.refuse_damage(&file_name(index))?;
        }
        segments.insert(checked.header.base_sequence, index);
        last = Some(checked);
    }
    // From here on the folder changes: everything that could refuse without a cut has had its say.
    let cut = match &last {
        Some(checked) => checked.tail_to_cut(proven.max(chain.proven))?,
        None => None,
    };
    Meta { journal: journal_id, epoch }.write(&**device)?;
    for name in names.iter().filter(|name| name.ends_with(".tmp") && !name.starts_with("journal.meta")) {
        device.remove(name).map_err(RecoveryError::io(format!("delete {name}")))?;
    }
    let first_sequence = segments.keys().next().copied().unwrap_or(1);
    let (end, cut) = match last {
        Some(checked) => reopen(device, checked, cut, epoch)?,
        None => (first_segment(&**device, journal_id, segment_bytes, &mut segments)?, None),
    };
    let recovered = Recovered {
        journal_id,
        epoch,
        first_sequence,
        last_sequence: end.next_sequence - 1,
        cut,
        segments: segments.len(),
        elapsed: started.elapsed(),
    };
    Ok(Opened { recovered, segments, end })
}

fn segment_indexes(names: &[String]) -> Result<Vec<u64>, RecoveryError> {
    let mut indexes: Vec<u64> = names.iter().filter_map(|name| parse_name(name)).collect();
    indexes.sort_unstable();
    for pair in indexes.windows(2) {
        if pair[1] != pair[0] + 1 {
            return Err(RecoveryError::corrupt(&file_name(pair[0] + 1), 0, "this segment is missing"));
        }
    }
    Ok(indexes)
}

fn first_segment(
    device: &dyn Device,
    journal: Uuid,
    segment_bytes: usize,
    segments: &mut BTreeMap<u64, u64>,
) -> Result<End, RecoveryError> {
    let create = || {
        let header = SegmentHeader { journal, index: 1, base_sequence: 1, chain: 0 };
        let file = device.create(segment::NEXT, segment_bytes)?;
        file.write_at(0, &header.encode())?;
        file.sync()?;
        device.rename(segment::NEXT, &file_name(1))?;
        device.sync_dir()?;
        Ok(file)
    };
    let file = create().map_err(RecoveryError::io("create the first journal segment"))?;
    segments.insert(1, 1);
    Ok(End { file, index: 1, offset: segment::HEADER, len: segment_bytes, chain: 0, next_sequence: 1 })
}

/// Makes the last segment ready to be written on.
fn reopen(
    device: &Arc<dyn Device>,
    checked: Checked,
    cut: Option<&'static str>,
    epoch: u32,
) -> Result<(End, Option<CutTail>), RecoveryError> {
    let name = file_name(checked.header.index);
    let file = device.open(&name).map_err(RecoveryError::io(format!("open {name}")))?;
    let tail = &checked.bytes[checked.end..];
    let dirty = tail.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    let cut = match cut {
        None => None,
        Some(what) => {
            let kept_in = format!("{name}.{epoch}.broken");
            let keep = || {
                let broken = device.create(&kept_in, dirty)?;
                broken.write_at(0, &tail[..dirty])?;
                broken.sync()?;
                device.sync_dir()?;
                file.write_at(checked.end as u64, &vec![0; dirty])?;
                file.sync()
            };
            keep().map_err(RecoveryError::io(format!("cut the torn tail of {name}")))?;
            let (offset, bytes) = (checked.end as u64, dirty as u64);
            Some(CutTail { file: name, offset, bytes, what, kept_in })
        }
    };
    let Checked { header, bytes, end, chain, next_sequence, .. } = checked;
    Ok((End { file, index: header.index, offset: end, len: bytes.len(), chain, next_sequence }, cut))
}

/// Follows the chain from segment to segment.
struct Walk {
    journal: Uuid,
    before: Option<(u32, u64)>,
    proven: u64,
}

impl Walk {
    fn new(journal: Uuid) -> Self {
        Self { journal, before: None, proven: 0 }
    }

    fn read(&mut self, device: &dyn Device, index: u64) -> Result<Checked, RecoveryError> {
        let name = file_name(index);
        let file = device.open(&name).map_err(RecoveryError::io(format!("open {name}")))?;
        let bytes = read_all(&*file).map_err(RecoveryError::io(format!("read {name}")))?;
        let header = SegmentHeader::decode(&bytes).map_err(|what| RecoveryError::corrupt(&name, 0, what))?;
        if header.journal != self.journal || header.index != index {
            return Err(RecoveryError::corrupt(&name, 0, "the segment belongs to another journal or another place"));
        }
        if let Some((chain, next)) = self.before
            && (chain, next) != (header.chain, header.base_sequence)
        {
            return Err(RecoveryError::corrupt(&name, 0, format!("the segment before it ends at record {}", next - 1)));
        }
        let checked = check_frames(header, bytes);
        self.before = Some((checked.chain, checked.next_sequence));
        self.proven = self.proven.max(checked.proven);
        Ok(checked)
    }
}

fn check_frames(header: SegmentHeader, bytes: Vec<u8>) -> Checked {
    let (mut chain, mut next_sequence) = (header.chain, header.base_sequence);
    let (mut offset, mut proven) = (segment::HEADER, 0);
    let damage = loop {
        match frame::parse(&bytes[offset.min(bytes.len())..]) {
            Parsed::Frame(found) if found.previous_crc != chain => {
                break Some("the frame does not follow from the one before");
            }
            Parsed::Frame(found) if found.first_sequence != next_sequence => {
                break Some("the frame's records do not follow");
            }
            Parsed::Frame(found) => {
                chain = found.crc;
                next_sequence += u64::from(found.record_count);
                proven = proven.max(found.durable_before);
                offset += found.frame_bytes();
            }
            Parsed::Invalid(what) => break Some(what),
            Parsed::End if bytes[offset.min(bytes.len())..].iter().any(|&byte| byte != 0) => {
                break Some("bytes after the end of the frames");
            }
            Parsed::End => break None,
        }
    };
    Checked { header, bytes, end: offset, damage, chain, next_sequence, proven }
}

impl Checked {
    fn refuse_damage(&self, name: &str) -> Result<(), RecoveryError> {
        match self.damage {
            Some(what) => Err(RecoveryError::corrupt(name, self.end, what)),
            None => Ok(()),
        }
    }

    /// What to cut from the last segment, if anything; refuses where the damage hits what was acknowledged.
    fn tail_to_cut(&self, proven: u64) -> Result<Option<&'static str>, RecoveryError> {
        let name = file_name(self.header.index);
        let last = self.next_sequence - 1;
        if let Some(what) = self.damage {
            if let Some((offset, sequence)) = self.later_frame() {
                let what = format!("{what}, and a valid frame with record {sequence} follows at offset {offset}");
                return Err(RecoveryError::corrupt(&name, self.end, what));
            }
            if proven > last {
                let what = format!("{what}, and records up to {proven} are known to have been durable");
                return Err(RecoveryError::corrupt(&name, self.end, what));
            }
        }
        Ok(self.damage)
    }

    /// A frame behind the damage whose own checksum holds and whose records come later.
    fn later_frame(&self) -> Option<(usize, u64)> {
        let tail = &self.bytes[self.end..];
        (frame::ALIGN..tail.len()).step_by(frame::ALIGN).find_map(|offset| {
            let head = tail[offset..].first_chunk::<{ frame::HEADER }>()?;
            frame::parse_header(head, tail.len() - offset)?;
            match frame::parse(&tail[offset..]) {
                Parsed::Frame(found) if found.first_sequence >= self.next_sequence => {
                    Some((self.end + offset, found.first_sequence))
                }
                _ => None,
            }
        })
    }
}

/// Every record of a journal, read without changing anything. See [`scan`].
pub struct Scan {
    device: Box<dyn Device>,
    walk: Walk,
    indexes: std::vec::IntoIter<u64>,
    segments: usize,
    current: Option<(Checked, usize, u64)>,
    records: std::vec::IntoIter<(u64, Vec<u8>)>,
}

/// Reads a journal's folder, for audits. A torn tail that a start would cut is passed over in silence; everything
/// that a start would refuse is an error.
///
/// # Errors
/// [`RecoveryError`] where there is no journal.
pub fn scan(dir: &Path) -> Result<Scan, RecoveryError> {
    let device = FileDevice::existing(dir);
    let names = device.list().map_err(RecoveryError::io("list the journal's folder"))?;
    let meta =
        Meta::read(&device, &names)?.ok_or_else(|| RecoveryError::corrupt("journal.meta", 0, "the file is missing"))?;
    let indexes = segment_indexes(&names)?;
    Ok(Scan {
        device: Box::new(device),
        walk: Walk::new(meta.journal),
        segments: indexes.len(),
        indexes: indexes.into_iter(),
        current: None,
        records: Vec::new().into_iter(),
    })
}

impl Scan {
    /// Whose journal it is.
    #[must_use]
    pub fn journal_id(&self) -> Uuid {
        self.walk.journal
    }

    /// Segment files.
    #[must_use]
    pub fn segments(&self) -> usize {
        self.segments
    }

    /// Loads the next frame's records; `false` at the end.
    fn advance(&mut self) -> Result<bool, RecoveryError> {
        if let Some((checked, offset, sequence)) = &mut self.current
            && *offset < checked.end
            && let Parsed::Frame(header) = frame::parse(&checked.bytes[*offset..])
        {
            let start = *offset + frame::HEADER;
            let mut rest = &checked.bytes[start..start + header.payload_bytes as usize];
            let mut records = Vec::with_capacity(header.record_count as usize);
            while let Some((record, after)) = split_record(rest) {
                records.push((*sequence, record.to_vec()));
                *sequence += 1;
                rest = after;
            }
            *offset += header.frame_bytes();
            self.records = records.into_iter();
            return Ok(true);
        }
        let Some(index) = self.indexes.next() else { return Ok(false) };
        let checked = self.walk.read(&*self.device, index)?;
        if self.indexes.len() > 0 {
            checked.refuse_damage(&file_name(index))?;
        } else {
            checked.tail_to_cut(self.walk.proven)?;
        }
        let base = checked.header.base_sequence;
        self.current = Some((checked, segment::HEADER, base));
        Ok(true)
    }
}

impl Iterator for Scan {
    type Item = Result<(u64, Vec<u8>), RecoveryError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(record) = self.records.next() {
                return Some(Ok(record));
            }
            match self.advance() {
                Ok(true) => {}
                Ok(false) => return None,
                Err(error) => {
                    self.indexes = Vec::new().into_iter();
                    self.current = None;
                    return Some(Err(error));
                }
            }
        }
    }
}

/// Whose journal lies on a device; `None` where there is none yet. What the database knows of it must be read before
/// it is opened.
///
/// # Errors
/// Where it cannot be told.
pub fn identity(device: &dyn Device) -> Result<Option<Uuid>, RecoveryError> {
    let names = device.list().map_err(RecoveryError::io("list the journal's folder"))?;
    Ok(Meta::read(device, &names)?.map(|meta| meta.journal))
}
