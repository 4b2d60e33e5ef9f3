//! Random histories against a list of records, with restarts, kills and power losses among the operations.

use super::support::*;
use crate::journal::{Cursor, Durability, Journal, JournalError, JournalOptions, MemoryDevice};
use proptest::prelude::*;
use std::sync::Arc;

#[derive(Clone, Debug)]
enum Step {
    /// One entry of records with these sizes; the test waits for it.
    Append(Vec<usize>),
    /// Several entries of one record each; the test waits for all together.
    Burst(usize),
    Barrier,
    /// The follower reads batches of this size until it has caught up.
    Follow(usize),
    /// The durable consumer advances to the follower's position.
    Advance,
    CleanRestart,
    Kill,
    PowerLoss(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => prop::collection::vec(0..200_usize, 1..4).prop_map(Step::Append),
        2 => (1..30_usize).prop_map(Step::Burst),
        1 => Just(Step::Barrier),
        2 => (1..20_usize).prop_map(Step::Follow),
        1 => Just(Step::Advance),
        1 => Just(Step::CleanRestart),
        1 => Just(Step::Kill),
        1 => any::<u64>().prop_map(Step::PowerLoss),
    ]
}

struct World {
    options: JournalOptions,
    device: MemoryDevice,
    journal: Option<Journal<Reply>>,
    cursor: Cursor,
    /// Every acknowledged record: the model.
    model: Vec<Vec<u8>>,
    followed: u64,
    passed: u64,
}

impl World {
    fn new(durability: Durability, tail_bytes: usize) -> Self {
        let options = JournalOptions { durability, tail_bytes, ..options() };
        let device = MemoryDevice::new();
        let (journal, _) = open_with(&options, device.clone());
        let cursor = journal.handle().cursor(0);
        journal.handle().register_cursor("sql", 0);
        Self { options, device, journal: Some(journal), cursor, model: Vec::new(), followed: 0, passed: 0 }
    }

    fn journal(&self) -> &Journal<Reply> {
        self.journal.as_ref().unwrap()
    }

    fn record(&self, bytes: usize) -> Vec<u8> {
        format!("{} ", self.model.len()).into_bytes().into_iter().cycle().take(bytes).collect()
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Append(sizes) => {
                let mut texts = Vec::new();
                for bytes in sizes {
                    texts.push(self.record(*bytes));
                    self.model.push(texts[texts.len() - 1].clone());
                }
                assert_eq!(append(&self.journal().handle(), &texts), Ok(self.model.len() as u64));
            }
            Step::Burst(entries) => {
                let mut replies = Vec::new();
                for _ in 0..*entries {
                    let text = self.record(30);
                    replies.push((
                        submit(&self.journal().handle(), std::slice::from_ref(&text)),
                        self.model.len() as u64 + 1,
                    ));
                    self.model.push(text);
                }
                replies.into_iter().for_each(|(reply, sequence)| assert_eq!(reply.recv().unwrap(), Ok(sequence)));
            }
            Step::Barrier => {
                let handle = self.journal().handle();
                assert_eq!(append(&handle, &[""; 0]), Ok(self.model.len() as u64));
                assert_eq!(handle.durable(), self.model.len() as u64);
            }
            Step::Follow(records_max) => self.follow(*records_max),
            Step::Advance => {
                self.passed = self.followed;
                self.journal().handle().advance_cursor("sql", self.passed);
            }
            Step::CleanRestart => self.restart(|device| device.clone(), true),
            Step::Kill => self.restart(MemoryDevice::killed, false),
            Step::PowerLoss(seed) => self.restart(|device| device.crash(Some(*seed)), false),
        }
    }

    fn follow(&mut self, records_max: usize) {
        loop {
            match self.cursor.next_batch(records_max) {
                Ok(None) => break,
                Ok(Some(batch)) => {
                    for (sequence, record) in batch.iter() {
                        self.followed += 1;
                        assert_eq!((sequence, record), (self.followed, &self.model[sequence as usize - 1][..]));
                    }
                }
                Err(JournalError::Gone { after, oldest }) => panic!("{after} is kept by the consumer, oldest {oldest}"),
                Err(error) => panic!("{error}"),
            }
        }
        assert_eq!(self.followed, self.journal().handle().durable());
    }

    fn restart(&mut self, image: impl FnOnce(&MemoryDevice) -> MemoryDevice, clean: bool) {
        let journal = self.journal.take().unwrap();
        let (durable, device) = if clean {
            journal.close().unwrap();
            (self.model.len() as u64, image(&self.device))
        } else {
            let durable = journal.handle().durable();
            (durable, image(&self.device))
        };
        let (journal, recovered) =
            Journal::open(&self.options, Arc::new(device.clone()), durable.min(self.followed)).unwrap();
        let last = recovered.last_sequence;
        assert!((durable..=self.model.len() as u64).contains(&last), "{durable} durable, {last} found: {recovered:?}");
        assert!(recovered.first_sequence <= self.passed + 1);
        self.model.truncate(last as usize);
        let kept = recovered.first_sequence as usize - 1;
        assert_eq!(read(&device, 0).unwrap().0, self.model[kept..]);
        journal.handle().register_cursor("sql", self.passed);
        (self.cursor, self.device, self.journal) = (journal.handle().cursor(self.followed), device, Some(journal));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_history_with_restarts(
        steps in prop::collection::vec(step(), 1..60),
        tail_bytes in prop_oneof![Just(0_usize), Just(500), Just(1 << 20)],
        always in prop::bool::weighted(0.7),
    ) {
        let durability = if always { Durability::Always } else { Durability::Interval { millis: 3_600_000 } };
        let mut world = World::new(durability, tail_bytes);
        steps.iter().for_each(|step| world.step(step));
    }
}
