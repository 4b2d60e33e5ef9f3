//! The n-th operation fails, for every n of a run, once and permanently.

use super::support::*;
use crate::journal::{Device, Fault, FaultyDevice, Journal, JournalError, MemoryDevice, device::Operation};
use std::sync::Arc;

const ENTRIES: u64 = 180;

/// The answers of a run on a failing device.
struct Run {
    memory: MemoryDevice,
    device: FaultyDevice,
    acknowledged: u64,
    answers: Vec<Outcome>,
}

/// Opens, appends, reads, deletes and closes on a device with a fault.
fn run(fault: Option<Fault>) -> Run {
    let memory = MemoryDevice::new();
    let device = FaultyDevice::new(Arc::new(memory.clone()));
    device.set(fault);
    let mut run = Run { memory, device, acknowledged: 0, answers: Vec::new() };
    let Ok((journal, _)) = Journal::<Reply>::open(&options(), Arc::new(run.device.clone()), 0) else { return run };
    let handle = journal.handle();
    handle.register_cursor("sql", 0);
    let mut cursor = handle.cursor(0);
    for n in 1..=ENTRIES {
        // In pairs, so that an entry is queued behind the failing one.
        let pair = [submit(&handle, &[numbered(2 * n - 1)]), submit(&handle, &[numbered(2 * n)])];
        run.answers.extend(pair.map(|reply| reply.recv().unwrap()));
        if let Ok(Some(batch)) = cursor.next_batch(100)
            && n % 5 == 0
        {
            assert!(batch.iter().all(|(sequence, record)| record == numbered(sequence)));
            handle.advance_cursor("sql", cursor.position().saturating_sub(40));
        }
    }
    run.acknowledged = run.answers.iter().take_while(|answer| answer.is_ok()).count() as u64;
    let failed = run.acknowledged < 2 * ENTRIES;
    assert_eq!(handle.poisoned().borrow().is_some(), failed);
    let closed = journal.close();
    assert!(closed.is_err() || !failed);
    run
}

fn check(run: &Run, what: &str) {
    let (acknowledged, rest) = run.answers.split_at(run.acknowledged as usize);
    assert!(acknowledged.iter().zip(1..).all(|(answer, n)| *answer == Ok(n)), "{what}");
    assert!(rest.iter().all(Result::is_err), "{what}: an acknowledgement after the poison");
    let unknown = rest.iter().filter(|answer| matches!(answer, Err(JournalError::OutcomeUnknown { .. }))).count();
    assert!(unknown <= 2, "{what}: {unknown} entries of one frame");
    for image in [run.memory.killed(), run.memory.crash(None), run.memory.crash(Some(run.device.operations()))] {
        let (journal, recovered) = open(image.clone());
        assert!(recovered.last_sequence >= run.acknowledged, "{what}: {recovered:?}");
        assert!(
            recovered.last_sequence <= run.acknowledged + unknown as u64,
            "{what}: what was never written is there"
        );
        drop(journal);
        let (found, survey) = read(&image, run.acknowledged).unwrap();
        assert!((survey.first_sequence..).zip(&found).all(|(n, record)| *record == numbered(n)), "{what}");
    }
}

#[test]
fn the_nth_operation_fails() {
    let whole = run(None);
    assert_eq!(whole.acknowledged, 2 * ENTRIES);
    let operations = whole.device.operations();
    assert!(operations > 500, "{operations}");
    for nth in 1..=operations {
        for fault in [Fault::nth(nth), Fault::nth(nth).for_good(), Fault::nth(nth).torn(nth)] {
            check(&run(Some(fault)), &format!("{fault:?}"));
        }
    }
}

#[test]
fn a_failed_write_is_never_followed_by_another() {
    for operation in [Operation::Write, Operation::Sync, Operation::Rename, Operation::SyncDirectory] {
        let memory = MemoryDevice::new();
        let device = FaultyDevice::new(Arc::new(memory.clone()));
        let (journal, _) = open(device.clone());
        device.set(Some(Fault::nth(1).of(operation)));
        let handle = journal.handle();
        let mut next = 1;
        let failure = loop {
            match append(&handle, &[numbered(next)]) {
                Ok(_) => next += 1,
                Err(failure) => break failure,
            }
        };
        assert!(matches!(failure, JournalError::OutcomeUnknown { .. }), "{failure}");
        let names = memory.list().unwrap();
        let before: Vec<_> = names.iter().map(|name| memory.bytes(name)).collect();
        assert!(handle.try_permit().is_none() && handle.poisoned().borrow().is_some());
        assert!(append(&handle, &["more"]).is_err());
        assert_eq!(handle.durable(), next - 1, "{operation:?}: nobody sees what failed");
        assert_eq!(names.iter().map(|name| memory.bytes(name)).collect::<Vec<_>>(), before);
        assert!(journal.close().is_err());
    }
}
