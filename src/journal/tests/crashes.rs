//! Power losses: every acknowledged record survives, and nothing appears that was never submitted.

use super::support::*;
use crate::journal::{
    Durability, Fault, FaultyDevice, JournalOptions, MemoryDevice,
    device::{Dice, Operation},
};
use std::sync::Arc;

const SEEDS: u64 = 10_000;

/// A record of up to a few sectors.
fn random_record(dice: &mut Dice, n: u64) -> Vec<u8> {
    let length = dice.below(450);
    format!("{n} ").into_bytes().into_iter().cycle().take(length).collect()
}

/// Asserts that an image holds the first of `submitted`, at least `acknowledged` of them, before and after a restart.
fn holds(image: &MemoryDevice, submitted: &[Vec<u8>], acknowledged: u64, what: &str) {
    let (found, survey) = read(image, acknowledged).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert!(survey.last_sequence >= acknowledged, "{what}: {} of {acknowledged}", survey.last_sequence);
    assert!(submitted.starts_with(&found), "{what}: a record that was never submitted");
    let (journal, recovered) = open(image.clone());
    drop(journal);
    assert_eq!(recovered.last_sequence, survey.last_sequence, "{what}");
    let (again, clean) = read(image, survey.last_sequence).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert!(again == found && clean.findings.is_empty(), "{what}: {:?}", clean.findings);
}

#[test]
fn a_torn_write_loses_nothing_that_was_acknowledged() {
    for seed in 0..SEEDS {
        let mut dice = Dice::new(seed);
        let memory = MemoryDevice::new();
        let device = FaultyDevice::new(Arc::new(memory.clone()));
        let (journal, _) = open(device.clone());
        let handle = journal.handle();
        let nth = 1 + dice.below(4) as u64;
        device.set(Some(Fault::nth(nth).of(Operation::Write).torn(seed)));
        let (mut submitted, mut acknowledged) = (Vec::new(), 0);
        for n in 1..=8 {
            submitted.push(random_record(&mut dice, n));
            match append(&handle, &submitted[submitted.len() - 1..]) {
                Ok(sequence) => acknowledged = sequence,
                Err(_) => break,
            }
        }
        assert!(device.failures() == 1 && submitted.len() as u64 == acknowledged + 1, "seed {seed}");
        holds(&memory.killed(), &submitted, acknowledged, &format!("seed {seed}, killed"));
        holds(&memory.crash(Some(seed)), &submitted, acknowledged, &format!("seed {seed}, power loss"));
    }
}

#[test]
fn a_power_loss_at_any_moment_loses_nothing_that_was_durable() {
    for seed in 0..SEEDS {
        let mut dice = Dice::new(seed);
        let durability =
            [Durability::Always, Durability::Interval { millis: 3_600_000 }, Durability::Interval { millis: 1 }];
        let options = JournalOptions { durability: durability[dice.below(3)], ..options() };
        let memory = MemoryDevice::new();
        let (journal, _) = open_with(&options, memory.clone());
        let handle = journal.handle();
        let mut submitted = Vec::new();
        let mut replies = Vec::new();
        for n in 1..=1 + dice.below(20) as u64 {
            let barrier = dice.below(6) == 0;
            let texts: Vec<_> =
                (0..if barrier { 0 } else { dice.below(3) }).map(|_| random_record(&mut dice, n)).collect();
            submitted.extend(texts.iter().cloned());
            replies.push(submit(&handle, &texts));
            if dice.coin() {
                replies.pop().unwrap().recv().unwrap().unwrap();
            }
        }
        // The writer may be at any point of its work now.
        let durable = handle.durable();
        let image = memory.crash(Some(seed));
        let killed = memory.killed();
        drop(journal);
        holds(&image, &submitted, durable, &format!("seed {seed}"));
        holds(&killed, &submitted, durable, &format!("seed {seed}, killed"));
    }
}

#[test]
fn bytes_that_only_the_page_cache_has_are_written_again() {
    let memory = MemoryDevice::new();
    let device = FaultyDevice::new(Arc::new(memory.clone()));
    let (journal, _) = open(device.clone());
    let handle = journal.handle();
    append_numbered(&handle, 1, 1);
    device.set(Some(Fault::nth(1).of(Operation::Sync)));
    append(&handle, &[numbered(2)]).unwrap_err();
    drop(journal);
    memory.forget_unsynced();
    assert_eq!(read(&memory.crash(None), 0).unwrap().1.last_sequence, 1, "the disk never got it");
    // The process restarts, the machine does not: the record is visible, so from now on it must be durable.
    let (journal, recovered) = open(memory.clone());
    assert_eq!((recovered.last_sequence, journal.handle().durable()), (2, 2));
    assert_eq!(read(&memory.crash(None), 2).unwrap().0, [numbered(1), numbered(2)]);
}

#[test]
fn a_crash_during_recovery_is_recovered_from() {
    let (original, last) = counting_log(2);
    let name = crate::journal::segment::file_name(2);
    original.damage(&name, |bytes| {
        let end = bytes.iter().rposition(|byte| *byte != 0).unwrap();
        bytes[end] ^= 1;
    });
    original.insert("journal.meta.tmp", vec![1]);
    for nth in 1.. {
        let image = original.killed();
        let device = FaultyDevice::new(Arc::new(image.clone()));
        device.set(Some(Fault::nth(nth).torn(nth)));
        let opened = crate::journal::Journal::<Reply>::open(&options(), Arc::new(device.clone()), 0);
        let whole = opened.is_ok();
        drop(opened);
        for seed in 0..20 {
            let crashed = image.crash(Some(seed));
            assert_eq!(restart(&crashed).last_sequence, last - 1, "operation {nth}, seed {seed}");
        }
        if whole && device.failures() == 0 {
            return;
        }
    }
}
