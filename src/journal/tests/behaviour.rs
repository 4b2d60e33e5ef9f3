//! The journal's promises while nothing fails.

use super::support::*;
use crate::journal::{
    Device, Durability, Fault, FaultyDevice, Finding, Journal, JournalError, JournalOptions, LagBounds, MemoryDevice,
    RecoveryError, Space, read_identity, scan, segment::file_name,
};
use std::{sync::Arc, time::Duration};

fn all(cursor: &mut crate::journal::Cursor, records_max: usize) -> Vec<(u64, Vec<u8>)> {
    let mut found = Vec::new();
    while let Some(batch) = cursor.next_batch(records_max).unwrap() {
        assert!(batch.len() <= records_max);
        assert_eq!(batch.last_sequence(), cursor.position());
        assert!(batch.iter().zip(batch.shared()).all(|(a, b)| a.0 == b.0 && a.1 == b.1));
        found.extend(batch.iter().map(|(sequence, record)| (sequence, record.to_vec())));
    }
    found
}

fn counted(from: u64, to: u64) -> Vec<(u64, Vec<u8>)> {
    (from..=to).map(|n| (n, numbered(n))).collect()
}

#[test]
fn records_are_numbered_from_one_and_survive_a_reopen() {
    let device = MemoryDevice::new();
    let (journal, recovered) = open(device.clone());
    assert_eq!((recovered.epoch, recovered.first_sequence, recovered.last_sequence), (1, 1, 0));
    let handle = journal.handle();
    assert_eq!(append(&handle, &["a", "b"]), Ok(2));
    assert_eq!(append(&handle, &["c"]), Ok(3));
    assert_eq!(append(&handle, &[""; 0]), Ok(3), "a barrier has no record of its own");
    assert_eq!((handle.durable(), *handle.durable_watch().borrow()), (3, 3));
    journal.close().unwrap();
    assert!(handle.try_permit().is_none());
    let (journal, again) = open(device.clone());
    assert_eq!((again.journal_id, again.epoch, again.last_sequence), (recovered.journal_id, 2, 3));
    assert_eq!(again.findings, [], "a clean end leaves nothing to repair");
    assert_eq!(append(&journal.handle(), &["d"]), Ok(4));
    assert_eq!(read(&device, 4).unwrap().0, [b"a", b"b", b"c", b"d"]);
    assert_eq!(read_identity(&device).unwrap().unwrap().epoch, 2);
}

#[test]
fn entries_complete_in_order_with_their_last_sequence() {
    let device = MemoryDevice::new();
    let (journal, _) = open(device.clone());
    let handle = journal.handle();
    let (sender, outcomes) = crossbeam::channel::bounded(1_000);
    for n in 1..=300_u64 {
        let sender = sender.clone();
        let texts = vec!["x"; (n % 3) as usize];
        handle
            .try_permit()
            .unwrap()
            .submit(records(&texts), Box::new(move |outcome| sender.send((n, outcome)).unwrap()));
    }
    journal.close().unwrap();
    let mut last = 0;
    for n in 1..=300 {
        last += n % 3;
        assert_eq!(outcomes.recv().unwrap(), (n, Ok(last)));
    }
    assert_eq!(scan(&device, &mut |_, _| {}).unwrap().last_sequence, 300);
}

#[test]
fn permits_bound_the_queue_and_come_back() {
    let (journal, _) = open_with(&JournalOptions { queue_entries: 2, ..options() }, MemoryDevice::new());
    let handle = journal.handle();
    let (first, second) = (handle.try_permit().unwrap(), handle.try_permit().unwrap());
    assert!(handle.try_permit().is_none());
    drop(first);
    let (sender, receiver) = crossbeam::channel::bounded(1);
    second.submit(records(&["a"]), Box::new(move |outcome| sender.send(outcome).unwrap()));
    assert_eq!(receiver.recv().unwrap(), Ok(1));
    assert_eq!(append(&handle, &["b"]), Ok(2));
    let kept = handle.try_permit().unwrap();
    journal.close().unwrap();
    let (sender, receiver) = crossbeam::channel::bounded(1);
    kept.submit(records(&["late"]), Box::new(move |outcome| sender.send(outcome).unwrap()));
    assert_eq!(receiver.recv().unwrap(), Err(JournalError::Closed));
}

#[test]
fn a_cursor_reads_from_memory_and_from_files_alike() {
    for tail_bytes in [0, 300, 1 << 20] {
        let device = MemoryDevice::new();
        let (journal, _) = open_with(&JournalOptions { tail_bytes, ..options() }, device.clone());
        let handle = journal.handle();
        let mut follower = handle.cursor(0);
        assert!(follower.next_batch(10).unwrap().is_none());
        append_numbered(&handle, 1, 20);
        assert_eq!(append(&handle, &(21..=25).map(numbered).collect::<Vec<_>>()), Ok(25));
        assert_eq!(all(&mut follower, 3), counted(1, 25));
        append_numbered(&handle, 26, 60);
        assert!(read(&device, 0).unwrap().1.segments.len() > 2);
        assert_eq!(all(&mut follower, 1000), counted(26, 60));
        assert_eq!(all(&mut handle.cursor(0), 4), counted(1, 60));
        assert_eq!(all(&mut handle.reader().cursor(22), 1000), counted(23, 60), "from the middle of a frame");
        assert!(handle.cursor(99).next_batch(1).unwrap().is_none());
        // Behind at first, then keeping up record by record: the read-ahead never hides later records.
        let mut slow = handle.cursor(57);
        assert_eq!(slow.next_batch(1).unwrap().unwrap().first_sequence, 58);
        append_numbered(&handle, 61, 63);
        assert_eq!(all(&mut slow, 1), counted(59, 63));
    }
}

#[test]
fn a_cursor_after_a_restart_reads_the_files() {
    let (device, last) = counting_log(3);
    let (journal, recovered) = open(device);
    assert_eq!((recovered.segments, recovered.last_sequence), (3, last));
    append_numbered(&journal.handle(), last + 1, last + 2);
    assert_eq!(all(&mut journal.handle().cursor(0), 7), counted(1, last + 2));
}

#[test]
fn with_an_interval_replies_do_not_wait_and_consumers_do() {
    let device = MemoryDevice::new();
    let interval = JournalOptions { durability: Durability::Interval { millis: 3_600_000 }, ..options() };
    let (journal, _) = open_with(&interval, device.clone());
    let handle = journal.handle();
    assert_eq!(append(&handle, &["a"]), Ok(1));
    assert_eq!((handle.durable(), handle.cursor(0).next_batch(9).unwrap().is_none()), (0, true));
    assert_eq!(read(&device.crash(None), 0).unwrap().1.last_sequence, 0, "a power loss takes it");
    assert_eq!(read(&device.killed(), 0).unwrap().1.last_sequence, 1, "a crash does not");
    assert_eq!(append(&handle, &[""; 0]), Ok(1));
    assert_eq!((handle.durable(), all(&mut handle.cursor(0), 9).len()), (1, 1));
    assert_eq!(append(&handle, &["b"]), Ok(2));
    journal.close().unwrap();
    assert_eq!(read(&device.crash(None), 2).unwrap().1.last_sequence, 2, "a clean end syncs");
}

#[test]
fn an_interval_syncs_by_itself() {
    let interval = JournalOptions { durability: Durability::Interval { millis: 1 }, ..options() };
    let (journal, _) = open_with(&interval, MemoryDevice::new());
    let handle = journal.handle();
    append(&handle, &["a"]).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(handle.durable_watch().wait_for(|durable| *durable == 1)).unwrap();
}

#[test]
fn a_later_unsynced_frame_does_not_vouch_for_a_torn_one() {
    let device = MemoryDevice::new();
    let interval = JournalOptions { durability: Durability::Interval { millis: 3_600_000 }, ..options() };
    let (journal, _) = open_with(&interval, device.clone());
    append_numbered(&journal.handle(), 1, 4);
    let image = device.killed();
    let end = read(&image, 0).unwrap().1.end_offset as usize;
    image.damage(&file_name(1), |bytes| bytes[4096 + 50] ^= 1);
    let (found, survey) = read(&image, 0).unwrap();
    let cut = survey.findings.iter().find_map(|finding| match finding {
        Finding::TornTail(cut) => Some(cut),
        _ => None,
    });
    assert!(found.is_empty());
    assert!(cut.is_some_and(|cut| cut.offset == 4096 && cut.offset + cut.bytes <= end as u64), "{survey:?}");
}

#[test]
fn segments_go_when_every_registered_cursor_has_passed_them() {
    let device = MemoryDevice::new();
    let (journal, _) = open_with(&JournalOptions { tail_bytes: 0, ..options() }, device.clone());
    let handle = journal.handle();
    handle.register_cursor("sql", 0);
    handle.register_cursor("relay", 0);
    append_numbered(&handle, 1, 60);
    let segments = read(&device, 0).unwrap().1.segments;
    handle.advance_cursor("sql", 60);
    handle.advance_cursor("nobody", 60);
    handle.advance_cursor("relay", segments[1].base_sequence - 1);
    // The background thread works in order: the next purge comes after this one.
    handle.advance_cursor("relay", 1);
    while device.bytes(&file_name(1)).is_some() {
        std::thread::yield_now();
    }
    assert!(device.bytes(&file_name(2)).is_some());
    while !matches!(handle.cursor(0).next_batch(1), Err(JournalError::Gone { after: 0, .. })) {
        std::thread::yield_now();
    }
    handle.advance_cursor("relay", 1_000);
    journal.close().unwrap();
    let (found, survey) = read(&device, 60).unwrap();
    assert_eq!(found.last(), Some(&numbered(60)), "never the active one");
    assert!(survey.first_sequence >= segments[1].base_sequence);
    let (journal, recovered) = open(device);
    assert_eq!((recovered.first_sequence, recovered.last_sequence), (survey.first_sequence, 60));
    append_numbered(&journal.handle(), 61, 80);
}

#[test]
fn a_full_disk_is_told_early_and_recovers() {
    let memory = MemoryDevice::new();
    let device = FaultyDevice::new(Arc::new(memory.clone()));
    let (journal, _) = open(device.clone());
    let handle = journal.handle();
    handle.register_cursor("sql", 0);
    // Waits until the background thread has reserved the next segment or failed to.
    let settle = || {
        let reserved = || memory.list().unwrap().iter().any(|name| name.ends_with(".tmp"));
        while handle.space() == Space::Ok && !reserved() {
            std::thread::yield_now();
        }
    };
    let mut last = 0;
    for _ in 0..3 {
        settle();
        device.set(Some(Fault::disk_full()));
        while handle.space() == Space::Ok {
            last += 1;
            append_numbered(&handle, last, last);
            settle();
        }
        append_numbered(&handle, last + 1, last + 5);
        device.set(None);
        // Deleting an unneeded segment triggers a retry.
        handle.advance_cursor("sql", last);
        while handle.space() == Space::Full {
            std::thread::yield_now();
        }
        last += 40;
        append_numbered(&handle, last - 34, last);
    }
    journal.close().unwrap();
    assert_eq!(restart(&memory).last_sequence, last);
}

#[test]
fn a_disk_that_stays_full_ends_in_a_clear_error_and_nothing_half_written() {
    let memory = MemoryDevice::new();
    let device = FaultyDevice::new(Arc::new(memory.clone()));
    let (journal, _) = open(device.clone());
    let handle = journal.handle();
    device.set(Some(Fault::disk_full()));
    let mut last = 0;
    let failure = loop {
        match append(&handle, &[numbered(last + 1)]) {
            Ok(sequence) => last = sequence,
            Err(failure) => break failure,
        }
    };
    assert_eq!(failure, JournalError::DiskFull);
    assert!(handle.try_permit().is_none(), "what follows may build on what failed");
    assert_eq!(*handle.poisoned().borrow(), Some(JournalError::DiskFull));
    assert_eq!(journal.close(), Err(JournalError::DiskFull));
    device.set(None);
    assert_eq!(restart(&memory).last_sequence, last);
}

#[test]
fn a_journal_without_a_descriptor_waits_for_one() {
    let memory = MemoryDevice::new();
    let device = FaultyDevice::new(Arc::new(memory.clone()));
    let (journal, _) = open(device.clone());
    let handle = journal.handle();
    device.set(Some(Fault::no_descriptor()));
    let appending = {
        let handle = handle.clone();
        std::thread::spawn(move || append_numbered(&handle, 1, 400))
    };
    // The thread retries by itself.
    while handle.space() == Space::Ok || device.failures() < 3 {
        std::thread::yield_now();
    }
    assert_eq!(*handle.poisoned().borrow(), None);
    assert!(!appending.is_finished(), "the next segment is needed");
    device.set(None);
    appending.join().unwrap();
    assert_eq!(handle.space(), Space::Ok);
    journal.close().unwrap();
    assert_eq!(restart(&memory).last_sequence, 400);
}

#[test]
fn two_processes_never_share_a_journal() {
    let device = MemoryDevice::new();
    let (journal, _) = open(device.clone());
    let second = Journal::<Reply>::open(&options(), Arc::new(device.clone()), 0);
    assert!(matches!(second.err(), Some(RecoveryError::Locked { .. })));
    drop(journal);
    restart(&device);
}

#[test]
fn a_panicking_completion_poisons() {
    let (journal, _) = open(MemoryDevice::new());
    let handle = journal.handle();
    handle.try_permit().unwrap().submit(records(&["a"]), Box::new(|_| panic!("a completion's own bug")));
    let after = submit(&handle, &["b"]).recv().unwrap();
    assert!(after.is_err() || after == Ok(2), "{after:?}");
    assert!(journal.close().is_err());
    assert!(handle.poisoned().borrow().is_some());
}

#[test]
fn options_that_make_no_sense_are_refused() {
    for options in [
        JournalOptions { segment_bytes: 4096, ..options() },
        JournalOptions { segment_bytes: 8191, ..options() },
        JournalOptions { queue_entries: 0, ..options() },
    ] {
        let opened = Journal::<Reply>::open(&options, Arc::new(MemoryDevice::new()), 0);
        assert!(matches!(opened.err(), Some(RecoveryError::Options(_))));
    }
}

#[test]
fn it_runs_on_real_files() {
    let directory = tempfile::tempdir().unwrap();
    let options = JournalOptions { dir: directory.path().join("journal"), tail_bytes: 0, ..options() };
    for opening in 0..3 {
        let (journal, recovered) = Journal::<Reply>::open_directory(&options, opening * 40).unwrap();
        assert_eq!((u64::from(recovered.epoch), recovered.last_sequence), (opening + 1, opening * 40));
        assert!(matches!(Journal::<Reply>::open_directory(&options, 0).err(), Some(RecoveryError::Locked { .. })));
        append_numbered(&journal.handle(), opening * 40 + 1, opening * 40 + 40);
        assert_eq!(all(&mut journal.handle().cursor(0), 100), counted(1, opening * 40 + 40));
        if opening != 1 {
            journal.close().unwrap();
        }
    }
}

/// Waits for the background thread.
fn wait_until(what: impl Fn() -> bool) {
    while !what() {
        std::thread::yield_now();
    }
}

#[test]
fn a_consumer_that_lags_holds_segments_up_to_the_bound_and_finds_a_gap() {
    let device = MemoryDevice::new();
    let bounds = LagBounds { bytes: 3 * options().segment_bytes as u64, age: Duration::from_secs(3_600) };
    let (journal, _) = open_with(&JournalOptions { lag_bounds: bounds, tail_bytes: 0, ..options() }, device.clone());
    let handle = journal.handle();
    handle.register_cursor("sql", 0);
    handle.register_lagging("hangs", 0);
    let segments = || device.list().unwrap().iter().filter(|name| name.ends_with(".seg")).count();
    let mut most = 0;
    for last in 1..=400 {
        append_numbered(&handle, last, last);
        handle.advance_cursor("sql", last);
        most = most.max(segments());
    }
    // The next segment may exist while one is being deleted.
    wait_until(|| segments() <= 3);
    assert!((3..=5).contains(&most), "{most}");
    assert_eq!(handle.cursor_position("hangs"), Some(0));
    let mut cursor = handle.cursor(0);
    let Err(JournalError::Gone { after: 0, oldest }) = cursor.next_batch(1) else { panic!("a gap") };
    let kept = handle.cursor(oldest - 1).next_batch(1_000).unwrap().unwrap();
    assert_eq!((kept.first_sequence, kept.last_sequence()), (oldest, 400), "what comes after the gap is whole");
    let (all, half) = (handle.bytes_after(oldest - 1), handle.bytes_after(oldest - 1 + kept.len() as u64 / 2));
    let segment = options().segment_bytes as u64;
    assert!((2 * segment..=3 * segment).contains(&all) && (all / 3..all * 2 / 3).contains(&half), "{all} {half}");
    assert_eq!(handle.bytes_after(400), 0);
}

#[test]
fn what_is_too_old_is_not_kept_for_those_that_lag() {
    let bounds = LagBounds { bytes: u64::MAX, age: Duration::ZERO };
    let device = MemoryDevice::new();
    let (journal, _) = open_with(&JournalOptions { lag_bounds: bounds, ..options() }, device.clone());
    let handle = journal.handle();
    handle.register_cursor("sql", 0);
    handle.register_lagging("hangs", 0);
    append_numbered(&handle, 1, 100);
    assert!(device.bytes(&file_name(1)).is_some(), "the one that pins has not passed it");
    handle.advance_cursor("sql", 100);
    wait_until(|| device.bytes(&file_name(1)).is_none());
}

#[test]
fn a_full_disk_has_the_room_of_those_that_lag() {
    let memory = MemoryDevice::new();
    let device = FaultyDevice::new(Arc::new(memory.clone()));
    let (journal, _) = open(device.clone());
    let handle = journal.handle();
    handle.register_cursor("sql", 0);
    handle.register_lagging("hangs", 0);
    append_numbered(&handle, 1, 100);
    handle.advance_cursor("sql", 100);
    assert!(memory.bytes(&file_name(1)).is_some(), "kept for the one that lags");
    device.set(Some(Fault::disk_full()));
    let mut last = 100;
    while memory.bytes(&file_name(1)).is_some() {
        if handle.space() == Space::Ok {
            last += 1;
            append_numbered(&handle, last, last);
        }
        std::thread::yield_now();
    }
    device.set(None);
    wait_until(|| handle.space() == Space::Ok);
    append_numbered(&handle, last + 1, last + 40);
    journal.close().unwrap();
    assert_eq!(restart(&memory).last_sequence, last + 40);
}
