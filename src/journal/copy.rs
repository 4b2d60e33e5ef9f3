//! Copies a journal that may be in use: its whole frames, and nothing of a frame that is being written.
//!
//! The source is only read, without its lock. An open segment stays readable after its journal deletes it. So
//! [`HeldSegments`] opens segments early, and the caller copies them late, after the data that the copy has to be newer
//! than.

use super::{
    device::{Device, DeviceFile, STEP_BYTES},
    error::RecoveryError,
    frame,
    identity::{Identity, META_FILE, read_identity},
    reader::{Chain, SegmentReader, Step},
    segment::{SegmentHeader, file_name, parse_name},
};
use std::{collections::BTreeMap, io};

/// Why a journal was not copied.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The source has no journal.
    #[error("there is no journal with segments at {place}")]
    Absent {
        /// The directory that was searched.
        place: String,
    },
    /// The source changed during the copy. A retry from the start may help.
    #[error("the journal changed while it was copied: {0}")]
    Overtaken(String),
    /// The source is damaged, or a device failed.
    #[error(transparent)]
    Journal(#[from] RecoveryError),
}

/// The extent of a copy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Copied {
    /// The source's identity; the copy has the same.
    pub identity: Identity,
    /// Sequence of the oldest record.
    pub first_sequence: u64,
    /// Sequence of the last record; one less than the first if there are no records.
    pub last_sequence: u64,
}

struct HeldSegment {
    header: SegmentHeader,
    file: Box<dyn DeviceFile>,
}

/// Open segments of a journal, consecutive.
pub struct HeldSegments {
    identity: Identity,
    segments: BTreeMap<u64, HeldSegment>,
}

impl HeldSegments {
    /// Opens the segment with record `after` + 1 (or, if it is not written yet, the segment that will have it), and all
    /// later ones.
    ///
    /// # Errors
    /// [`CopyError::Overtaken`] if the journal is deleting segments at this moment, or no longer has that record.
    pub fn hold(device: &dyn Device, after: u64) -> Result<Self, CopyError> {
        let absent = || CopyError::Absent { place: device.describe("") };
        let identity = read_identity(device)?.ok_or_else(absent)?;
        let mut held = Self { identity, segments: BTreeMap::new() };
        let indices = indices(device)?;
        for (newest, &index) in indices.iter().rev().enumerate() {
            match open(device, index)? {
                Opened::Segment(segment) => {
                    let reached = segment.header.base_sequence <= after.saturating_add(1);
                    held.segments.insert(index, segment);
                    if reached {
                        return Ok(held);
                    }
                }
                // A crash during a rotation left it; nothing was written into it.
                Opened::WithoutHeader(_) if newest == 0 => {}
                Opened::WithoutHeader(what) => return Err(corrupt(device, index, 0, &what)),
                Opened::Gone => return Err(gone(device, index)),
            }
        }
        match held.segments.first_key_value() {
            None => Err(absent()),
            Some((_, oldest)) => Err(CopyError::Overtaken(format!(
                "its oldest record is {}, and record {} is needed",
                oldest.header.base_sequence,
                after + 1
            ))),
        }
    }

    /// Opens the segments added since the last call. Call it repeatedly while other data is copied: a segment must be
    /// opened before the journal deletes it.
    ///
    /// # Errors
    /// [`CopyError::Overtaken`] if a segment was deleted before it could be opened.
    pub fn extend(&mut self, device: &dyn Device) -> Result<(), CopyError> {
        for index in indices(device)? {
            let Some((&last, _)) = self.segments.last_key_value() else { return Ok(()) };
            if index <= last {
                continue;
            }
            if index > last + 1 {
                return Err(gone(device, last + 1));
            }
            match open(device, index)? {
                Opened::Segment(segment) => {
                    self.segments.insert(index, segment);
                }
                Opened::WithoutHeader(_) => return Ok(()),
                Opened::Gone => return Err(gone(device, index)),
            }
        }
        Ok(())
    }

    /// Writes the whole frames of the held segments and `journal.meta` into the empty directory `to`, and syncs them. A
    /// copied segment is as long as its frames: recovery fills the last one up.
    ///
    /// # Errors
    /// [`CopyError::Overtaken`] if the journal was opened or closed in between.
    pub fn copy(mut self, device: &dyn Device, to: &dyn Device) -> Result<Copied, CopyError> {
        self.extend(device)?;
        let Self { identity, segments } = self;
        let mut first_sequence = None;
        let mut chain: Option<Chain> = None;
        for (index, HeldSegment { header, file }) in segments {
            let start = Chain::start(&header);
            if header.journal_id != identity.journal_id || chain.is_some_and(|chain| !continues(chain, start)) {
                return Err(corrupt(device, index, 0, "the segment does not continue the one before it"));
            }
            first_sequence.get_or_insert(header.base_sequence);
            chain = Some(copy_frames(device, (index, file), frame::seed(identity.journal_id), start, to)?);
        }
        if read_identity(device)? != Some(identity) {
            return Err(CopyError::Overtaken("its server was started or stopped".to_owned()));
        }
        identity.write(to).map_err(RecoveryError::io("write", to.describe(META_FILE)))?;
        let first_sequence = first_sequence.unwrap_or(1);
        let last_sequence = chain.map_or(0, |chain| chain.next_sequence - 1);
        Ok(Copied { identity, first_sequence, last_sequence })
    }
}

/// Whether a segment continues the previous one, by the rule of recovery: the next record, and the checksum of the last
/// frame.
fn continues(chain: Chain, start: Chain) -> bool {
    (chain.next_sequence, chain.crc) == (start.next_sequence, start.crc)
}

enum Opened {
    Segment(HeldSegment),
    WithoutHeader(String),
    Gone,
}

fn open(device: &dyn Device, index: u64) -> Result<Opened, CopyError> {
    let name = file_name(index);
    let failed = || RecoveryError::io("read", device.describe(&name));
    let file = match device.open_read_only(&name) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Opened::Gone),
        Err(error) => return Err(failed()(error).into()),
    };
    let mut reader = SegmentReader::of(file, 0).map_err(failed())?;
    match reader.header().map_err(failed())? {
        Ok(header) => Ok(Opened::Segment(HeldSegment { header, file: reader.into_file() })),
        Err(what) => Ok(Opened::WithoutHeader(what.to_owned())),
    }
}

/// Copies the header and all frames before the first incomplete one. Those never change again, even while the journal
/// appends.
fn copy_frames(
    device: &dyn Device,
    (index, file): (u64, Box<dyn DeviceFile>),
    seed: u32,
    mut chain: Chain,
    to: &dyn Device,
) -> Result<Chain, CopyError> {
    let name = file_name(index);
    let reading = || RecoveryError::io("read", device.describe(&name));
    let mut reader = SegmentReader::of(file, seed).map_err(reading())?;
    loop {
        let offset = reader.offset();
        let Step::Frame(frame) = reader.step().map_err(reading())? else { break };
        chain.follow(&frame, reader.crc()).map_err(|what| corrupt(device, index, offset, what))?;
    }
    let bytes = reader.offset();
    let writing = || RecoveryError::io("write", to.describe(&name));
    let copy = to.create(&name, bytes).map_err(writing())?;
    let mut buffer = vec![0; STEP_BYTES];
    let mut at = 0;
    while at < bytes {
        let part = &mut buffer[..(bytes - at).min(STEP_BYTES as u64) as usize];
        if reader.file().read_at(part, at).map_err(reading())? < part.len() {
            return Err(corrupt(device, index, at, "the file became shorter while it was read"));
        }
        copy.write_at(part, at).map_err(writing())?;
        at += part.len() as u64;
    }
    copy.sync_data().map_err(writing())?;
    Ok(chain)
}

/// The numbers of all segments, ascending.
fn indices(device: &dyn Device) -> Result<Vec<u64>, CopyError> {
    let names = device.list().map_err(RecoveryError::io("list", device.describe("")))?;
    let mut indices: Vec<u64> = names.iter().filter_map(|name| parse_name(name)).collect();
    indices.sort_unstable();
    Ok(indices)
}

fn gone(device: &dyn Device, index: u64) -> CopyError {
    CopyError::Overtaken(format!("{} was deleted before it could be read", device.describe(&file_name(index))))
}

fn corrupt(device: &dyn Device, index: u64, offset: u64, what: &str) -> CopyError {
    RecoveryError::Corrupt { file: device.describe(&file_name(index)), offset, what: what.to_owned() }.into()
}
