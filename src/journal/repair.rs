//! Repairs the findings of recovery and makes the journal ready to append. Only this code changes the past of an
//! existing journal, and only in the ways that `docs/JOURNAL_FORMAT.md` lists.

use super::{
    device::{Device, DeviceFile, STEP_BYTES},
    error::RecoveryError,
    frame,
    identity::{Identity, META_FILE},
    log::{Log, install},
    reader::Chain,
    recovery::{CutTail, Finding, Survey},
    segment::{BROKEN_SUFFIX, SEGMENT_HEADER_BYTES, SegmentHeader, file_name, temporary_name},
};
use std::{io, sync::Arc};
use uuid::Uuid;

/// A journal that is ready to append.
pub(super) struct Ready {
    pub(super) log: Log,
    pub(super) identity: Identity,
    pub(super) segments: Vec<SegmentHeader>,
    pub(super) cut: Option<CutTail>,
}

/// Repairs what `survey` found and opens a new epoch.
pub(super) fn prepare(device: &Arc<dyn Device>, survey: &Survey, segment_bytes: u64) -> Result<Ready, RecoveryError> {
    let device_ref = &**device;
    let mut cut = None;
    let epoch = survey.identity.map_or(1, |identity| identity.epoch + 1);
    for finding in &survey.findings {
        match finding {
            Finding::Temporary { file } => device_ref.remove(file).map_err(io_error(device_ref, "remove", file))?,
            Finding::UnfinishedSegment { file } => {
                let aside = format!("{file}.{epoch}{BROKEN_SUFFIX}");
                device_ref.rename(file, &aside).map_err(io_error(device_ref, "set aside", file))?;
            }
            Finding::Shortened { file, bytes } => lengthen(device_ref, survey, file, *bytes)?,
            Finding::TornTail(tail) => cut = Some(cut_tail(device_ref, tail, epoch)?),
        }
    }
    device_ref.sync_directory().map_err(io_error(device_ref, "sync", ""))?;
    rewrite_unproven(device_ref, survey)?;
    let mut identity = Identity {
        journal_id: survey.identity.map_or_else(Uuid::now_v7, |identity| identity.journal_id),
        epoch,
        started: !survey.segments.is_empty(),
        durable: survey.last_sequence,
    };
    identity.write(device_ref).map_err(io_error(device_ref, "write", META_FILE))?;
    let mut segments = survey.segments.clone();
    let log = match (segments.last(), survey.chain) {
        (Some(header), Some(chain)) => {
            let name = file_name(header.index);
            let file = device_ref.open(&name).map_err(io_error(device_ref, "open", &name))?;
            Log::resume(Arc::clone(device), file, header, chain, survey.end_offset, epoch)
        }
        _ => {
            let (header, file) = first_segment(device_ref, &identity, segment_bytes)?;
            identity.started = true;
            identity.write(device_ref).map_err(io_error(device_ref, "write", META_FILE))?;
            segments.push(header);
            let offset = SEGMENT_HEADER_BYTES as u64;
            Log::resume(Arc::clone(device), file, &header, Chain::start(&header), offset, epoch)
        }
    };
    Ok(Ready { log, identity, segments, cut })
}

fn io_error(device: &dyn Device, doing: &'static str, name: &str) -> impl FnOnce(io::Error) -> RecoveryError + use<> {
    RecoveryError::io(doing, device.describe(name))
}

fn first_segment(
    device: &dyn Device,
    identity: &Identity,
    segment_bytes: u64,
) -> Result<(SegmentHeader, Box<dyn DeviceFile>), RecoveryError> {
    let header = SegmentHeader {
        journal_id: identity.journal_id,
        index: 1,
        base_sequence: 1,
        segment_bytes,
        epoch: identity.epoch,
        chain_crc: frame::seed(identity.journal_id),
    };
    let temporary = temporary_name(1);
    let made = device.create(&temporary, segment_bytes).and_then(|file| {
        install(device, &*file, &header)?;
        Ok(file)
    });
    Ok((header, made.map_err(io_error(device, "create", &temporary))?))
}

/// Saves the bytes of a torn tail in a file of their own, durably, before they are overwritten with zeros.
fn cut_tail(device: &dyn Device, tail: &CutTail, epoch: u32) -> Result<CutTail, RecoveryError> {
    let saved_as = format!("{}.{epoch}{BROKEN_SUFFIX}", tail.file);
    let cut = || -> io::Result<()> {
        let file = device.open(&tail.file)?;
        // Left by an attempt that ended before the zeros were written: save the same bytes again.
        if device.list()?.contains(&saved_as) {
            device.remove(&saved_as)?;
        }
        let saved = device.create(&saved_as, tail.bytes)?;
        in_steps(tail.bytes, |at, buffer| {
            file.read_at(buffer, tail.offset + at)?;
            saved.write_at(buffer, at)
        })?;
        saved.sync_data()?;
        device.sync_directory()?;
        in_steps(tail.bytes, |at, buffer| {
            buffer.fill(0);
            file.write_at(buffer, tail.offset + at)
        })?;
        file.sync_data()
    };
    cut().map_err(io_error(device, "cut the torn tail of", &tail.file))?;
    Ok(CutTail { saved_as: Some(saved_as), ..tail.clone() })
}

/// Fills a shortened last segment up to the size in its header.
fn lengthen(device: &dyn Device, survey: &Survey, name: &str, bytes: u64) -> Result<(), RecoveryError> {
    let promised = survey.segments.last().map_or(bytes, |header| header.segment_bytes);
    let fill = || -> io::Result<()> {
        let file = device.open(name)?;
        in_steps(promised - bytes, |at, buffer| {
            buffer.fill(0);
            file.write_at(buffer, bytes + at)
        })?;
        file.sync_data()
    };
    fill().map_err(io_error(device, "lengthen", name))
}

/// Writes the frames that are not proven durable again, and syncs. Reading them proves little: after a failed sync the
/// page cache keeps bytes that the disk never got, marked clean, and only a new write makes them dirty.
fn rewrite_unproven(device: &dyn Device, survey: &Survey) -> Result<(), RecoveryError> {
    let Some(header) = survey.segments.last().filter(|_| survey.unproven_offset < survey.end_offset) else {
        return Ok(());
    };
    let name = file_name(header.index);
    let rewrite = || -> io::Result<()> {
        let file = device.open(&name)?;
        in_steps(survey.end_offset - survey.unproven_offset, |at, buffer| {
            let offset = survey.unproven_offset + at;
            file.read_at(buffer, offset)?;
            file.write_at(buffer, offset)
        })?;
        file.sync_data()
    };
    rewrite().map_err(io_error(device, "rewrite the end of", &name))
}

fn in_steps(bytes: u64, mut step: impl FnMut(u64, &mut [u8]) -> io::Result<()>) -> io::Result<()> {
    let mut buffer = vec![0; STEP_BYTES.min(bytes as usize)];
    let mut at = 0;
    while at < bytes {
        let length = (bytes - at).min(STEP_BYTES as u64) as usize;
        step(at, &mut buffer[..length])?;
        at += length as u64;
    }
    Ok(())
}
