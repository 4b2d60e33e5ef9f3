//! Copies of a journal that is in use.

use super::support::*;
use crate::journal::{CopyError, Device, HeldSegments, MemoryDevice, frame::FRAME_HEADER_BYTES, segment::file_name};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

fn copied(source: &MemoryDevice, after: u64) -> (MemoryDevice, crate::journal::Copied) {
    let to = MemoryDevice::new();
    let copied = HeldSegments::hold(source, after).unwrap().copy(source, &to).unwrap();
    (to, copied)
}

#[test]
fn a_copy_beside_a_writer_opens_and_has_every_answered_record() {
    const RECORDS: u64 = 3_000;
    let source = MemoryDevice::new();
    let (journal, _) = open(source.clone());
    let (handle, answered) = (journal.handle(), AtomicU64::new(1));
    append_numbered(&handle, 1, 1);
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for n in 2..=RECORDS {
                append_numbered(&handle, n, n);
                answered.store(n, Ordering::Release);
            }
        });
        let mut copies = 0;
        while copies == 0 || !writer.is_finished() {
            let before = answered.load(Ordering::Acquire);
            let (copy, told) = copied(&source, 0);
            assert!(told.last_sequence >= before, "{told:?}, and {before} was answered");
            let (records, survey) = read(&copy, before).unwrap();
            assert_eq!((survey.first_sequence, survey.last_sequence), (1, told.last_sequence));
            assert!((1..).zip(&records).all(|(n, record)| *record == numbered(n)));
            assert_eq!(restart(&copy).last_sequence, told.last_sequence);
            copies += 1;
        }
    });
    assert_eq!(copied(&source, 0).1.last_sequence, RECORDS);
}

#[test]
fn what_is_held_is_copied_although_the_journal_deletes_it() {
    let source = MemoryDevice::new();
    let (journal, _) = open(source.clone());
    let (handle, reader) = (journal.handle(), journal.handle().reader());
    reader.register_cursor("projector", 0);
    append_numbered(&handle, 1, 40);
    let mut held = HeldSegments::hold(&source, 0).unwrap();
    append_numbered(&handle, 41, 80);
    held.extend(&source).unwrap();
    reader.advance_cursor("projector", 80);
    let segments = || source.list().unwrap().iter().filter(|name| name.ends_with(".seg")).count();
    while segments() > 1 {
        thread::yield_now();
    }
    let late = HeldSegments::hold(&source, 5).err().unwrap();
    assert!(matches!(&late, CopyError::Overtaken(why) if why.contains("record 6 is needed")), "{late}");
    let to = MemoryDevice::new();
    let told = held.copy(&source, &to).unwrap();
    assert_eq!((told.first_sequence, told.last_sequence), (1, 80));
    assert_eq!(read(&to, 80).unwrap().0.len(), 80);
    // A copy from a later record leaves the older segments out.
    let (_, survey) = read(&copied(&source, 79).0, 80).unwrap();
    assert!(survey.first_sequence > 1 && survey.first_sequence <= 80);
}

/// A reader may see the end of a write before its beginning, and the frame after it: copied, these bytes would look
/// like damage.
#[test]
fn nothing_behind_the_first_frame_that_is_not_whole_is_copied() {
    let source = MemoryDevice::new();
    let (journal, _) = open(source.clone());
    append_numbered(&journal.handle(), 1, 5);
    let (_, before) = copied(&source, 0);
    let end = read(&source, 0).unwrap().1.end_offset as usize;
    append_numbered(&journal.handle(), 6, 7);
    source.damage(&file_name(1), |bytes| bytes[end..end + FRAME_HEADER_BYTES].fill(0));
    assert!(read(&source, 0).is_err(), "as it is it looks like damage");
    let (copy, told) = copied(&source, 0);
    assert_eq!((told, copy.bytes(&file_name(1)).unwrap().len()), (before, end));
    assert_eq!(restart(&copy).last_sequence, 5);
}

#[test]
fn a_server_that_is_started_or_stopped_meanwhile_is_noticed() {
    let source = MemoryDevice::new();
    let (journal, _) = open(source.clone());
    append_numbered(&journal.handle(), 1, 5);
    let held = HeldSegments::hold(&source, 0).unwrap();
    journal.close().unwrap();
    let why = held.copy(&source, &MemoryDevice::new()).err().unwrap();
    assert!(matches!(why, CopyError::Overtaken(_)), "{why}");
    let (copy, told) = copied(&source, 0);
    assert_eq!((told.identity.durable, restart(&copy).last_sequence), (5, 5));
}

#[test]
fn without_a_journal_there_is_nothing_to_copy() {
    assert!(matches!(HeldSegments::hold(&MemoryDevice::new(), 0), Err(CopyError::Absent { .. })));
}
