//! Helpers of the tests: a small journal in memory, entries that wait for their answer, and the records of an image.

use crate::journal::{
    Device, Journal, JournalError, JournalHandle, JournalOptions, MemoryDevice, Records, Recovered, RecoveryError,
    Survey, recovery, segment::SEGMENT_HEADER_BYTES,
};
use crossbeam::channel::{Receiver, bounded};
use std::sync::Arc;

pub type Outcome = Result<u64, JournalError>;
pub type Reply = Box<dyn FnOnce(Outcome) + Send>;

/// Segments with room for about a dozen small frames.
pub fn options() -> JournalOptions {
    JournalOptions {
        segment_bytes: SEGMENT_HEADER_BYTES + 1024,
        tail_bytes: 1 << 20,
        queue_entries: 1024,
        ..JournalOptions::new("unused")
    }
}

pub fn open(device: impl Device + 'static) -> (Journal<Reply>, Recovered) {
    open_with(&options(), device)
}

pub fn open_with(options: &JournalOptions, device: impl Device + 'static) -> (Journal<Reply>, Recovered) {
    Journal::open(options, Arc::new(device), 0).unwrap()
}

pub fn records(texts: &[impl AsRef<[u8]>]) -> Records {
    let mut records = Records::new();
    texts.iter().for_each(|text| records.push(|buffer| buffer.extend_from_slice(text.as_ref())).unwrap());
    records
}

/// Returns before the entry is durable.
pub fn submit(handle: &JournalHandle<Reply>, texts: &[impl AsRef<[u8]>]) -> Receiver<Outcome> {
    let (sender, receiver) = bounded(1);
    let reply: Reply = Box::new(move |outcome| sender.send(outcome).unwrap_or_default());
    match handle.try_permit() {
        Some(permit) => permit.submit(records(texts), reply),
        None => reply(Err(JournalError::Closed)),
    }
    receiver
}

/// Returns the entry's outcome.
pub fn append(handle: &JournalHandle<Reply>, texts: &[impl AsRef<[u8]>]) -> Outcome {
    submit(handle, texts).recv().unwrap()
}

/// The `n`-th record of a counting log, from 1.
pub fn numbered(n: u64) -> Vec<u8> {
    let length = 20 + n as usize * 7 % 50;
    format!("record {n} ").into_bytes().into_iter().cycle().take(length).collect()
}

/// Appends records `from..=to`, a frame each.
pub fn append_numbered(handle: &JournalHandle<Reply>, from: u64, to: u64) {
    for n in from..=to {
        assert_eq!(append(handle, &[numbered(n)]), Ok(n));
    }
}

/// Reads an image without changing it; checks that sequences have no gap.
pub fn read(device: &dyn Device, proven_durable: u64) -> Result<(Vec<Vec<u8>>, Survey), RecoveryError> {
    let mut found: Vec<Vec<u8>> = Vec::new();
    let mut expected = None;
    let survey = recovery::survey(device, proven_durable, &mut |sequence, record| {
        assert_eq!(*expected.get_or_insert(sequence), sequence);
        expected = Some(sequence + 1);
        found.push(record.to_vec());
    })?;
    assert_eq!(found.len() as u64, survey.last_sequence + 1 - survey.first_sequence);
    Ok((found, survey))
}

/// Opens an image for writing, which repairs it, and closes it again, as a restart does.
pub fn restart(image: &MemoryDevice) -> Recovered {
    let (journal, recovered) = open(image.clone());
    journal.close().unwrap();
    recovered
}

/// A crash image (not a clean end) of a counting log with `segments` segments, and its last record.
pub fn counting_log(segments: usize) -> (MemoryDevice, u64) {
    let device = MemoryDevice::new();
    let (journal, _) = open(device.clone());
    let handle = journal.handle();
    let mut last = 0;
    loop {
        last += 1;
        append_numbered(&handle, last, last);
        let (_, survey) = read(&device, 0).unwrap();
        if survey.segments.len() == segments && survey.last_sequence >= survey.segments[segments - 1].base_sequence + 3
        {
            return (device.crash(None), last);
        }
    }
}
