//! Random commands against a deliberately simple [`model`], with restarts among them.
//!
//! Every run takes a new seed and prints it; `LIVEDROP_TEST_SEED=<seed>` repeats a run.

mod model;
mod plan;

use super::checkpoint::CheckpointDecoder;
use super::scenario_tests::reopen::{assert_same, replayed, restored};
use super::scenario_tests::stage;
use super::{Command, DropState, Outcome};
use crate::domain::{
    DropEvent, DropRecord, DropSpec, Fingerprint, KeyDigest, Moment, OrderId, Principal, StockBoard, Timestamp, TraceId,
};
use model::Model;
use plan::{Op, Step};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};

const CASES_MIN: u32 = 512;

/// Outcomes that must occur somewhere in a run; otherwise it has tested less than it seems to.
const SEEN: [&str; 18] = [
    "copied",
    "started",
    "ended",
    "cancelled",
    "restocked",
    "stock_low",
    "sold_out",
    "back_in_stock",
    "reserved",
    "payment_started",
    "payment_ended",
    "rescheduled",
    "by_hand",
    "confirmed",
    "retaken",
    "released",
    "refund_due",
    "refunded",
];

#[test]
fn a_drop_does_what_the_model_does() {
    let seed: u64 = match std::env::var("LIVEDROP_TEST_SEED") {
        Ok(text) => text.parse().expect("LIVEDROP_TEST_SEED is a number"),
        Err(_) => uuid::Uuid::new_v4().as_u64_pair().0,
    };
    println!("LIVEDROP_TEST_SEED={seed}");
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let cases = Config::default().cases.max(CASES_MIN);
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 4096, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let seen: RefCell<BTreeMap<&str, usize>> = RefCell::default();
    let result = runner.run(&plan::plans(), |plan| {
        let mut world = World::new(plan.spec.clone());
        for step in &plan.steps {
            world.step(step);
        }
        *seen.borrow_mut().entry("copied").or_default() += world.copied;
        for record in &world.journal {
            *seen.borrow_mut().entry(stage::name(&record.event)).or_default() += 1;
        }
        Ok(())
    });
    if let Err(error) = result {
        panic!("LIVEDROP_TEST_SEED={seed}: {error}");
    }
    println!("{:?}", seen.borrow());
    for name in SEEN {
        assert!(
            seen.borrow().get(name).is_some_and(|count| *count > 0),
            "no {name} in {cases} cases with LIVEDROP_TEST_SEED={seed}"
        );
    }
}

/// The drop and the models that follow it.
struct World {
    spec: DropSpec,
    state: DropState,
    model: Model,
    /// A state that only applies the events and decides nothing.
    follower: DropState,
    board: StockBoard,
    journal: Vec<DropRecord>,
    /// A copy for a checkpoint that is under way, and how many records there were when it began.
    copy: Option<(CheckpointDecoder, usize)>,
    copied: usize,
    /// Every reservation so far.
    asked: Vec<super::Reserve>,
    /// The order of each key.
    placed: HashMap<KeyDigest, (Fingerprint, OrderId)>,
    /// For each variant, whether `stock_low` may be published next.
    armed: Vec<bool>,
    clock: Moment,
    serial: u128,
}

impl World {
    fn new(spec: DropSpec) -> Self {
        Self {
            state: DropState::scheduled(spec.clone()),
            model: Model::new(spec.clone()),
            follower: DropState::scheduled(spec.clone()),
            board: StockBoard::new(&spec),
            journal: Vec::new(),
            copy: None,
            copied: 0,
            asked: Vec::new(),
            placed: HashMap::new(),
            armed: vec![true; spec.variants.len()],
            clock: spec.created_at.into(),
            serial: 0,
            spec,
        }
    }

    fn step(&mut self, step: &Step) {
        let Moment { wall, steady } = self.clock;
        self.clock.wall = wall.plus_millis(step.wait_ms + step.set_ms);
        self.clock.steady = steady.plus_millis(step.wait_ms);
        self.serial += 1;
        let command = match step.op {
            Op::Replay => {
                self.state = replayed(&self.spec, &self.journal);
                self.restart()
            }
            Op::Restore => {
                self.state = restored(&self.state, &self.journal);
                self.restart()
            }
            _ => self.command(&step.op),
        };
        // Commands that an administrator can give are given by hand every other time.
        let command = match command {
            Command::Reserve(_) => command,
            command if self.serial.is_multiple_of(2) => {
                let (user, origin, trace) = (plan::buyer(0), "".into(), TraceId::default());
                let actor = Principal { user, admin: false, origin, trace };
                Command::AuditedCommand { actor, request: None, command: Box::new(command) }
            }
            command => command,
        };
        // Some commands carry the current revision, or the first one.
        let command = match command {
            Command::Reserve(_) => command,
            command if self.serial.is_multiple_of(3) => {
                let seen = if self.serial.is_multiple_of(4) { None } else { Some(self.state.revision()) };
                let revision = seen.unwrap_or_else(|| DropState::scheduled(self.spec.clone()).revision());
                Command::If { revision: Box::new(revision), command: Box::new(command) }
            }
            command => command,
        };
        let expected = self.model.apply(self.clock, &command);
        let mut events = Vec::new();
        let (outcome, at) = self.state.apply(self.clock, command.clone(), &mut events);
        assert_eq!(outcome, expected, "{command:?} at {at}");
        self.take_in(at, events);
        self.check_key(&command, &outcome);
        self.check_state();
        self.copy_on();
        // Nothing due is left, so no timer fires in a loop.
        assert!(!self.state.deadlines().have_come(self.clock), "still due at {at}");
    }

    /// A restart: the steady clock begins at the wall clock's time, but not before the last record. Hold times come
    /// from the journal.
    fn restart(&mut self) -> Command {
        self.copy = None;
        let recorded = self.journal.last().map_or(self.spec.created_at, |record| record.at);
        self.clock.steady = self.clock.wall.max(recorded);
        self.state.resume(self.clock.steady);
        self.model.restart(self.clock.steady);
        Command::Tick
    }

    /// Copies a row of the drop at each step. A copy that is complete is the drop as it was when the copy began, and becomes the drop as it is by the
    /// records since.
    fn copy_on(&mut self) {
        let Some((mut decoder, records)) = self.copy.take() else {
            let start = self.state.begin_copy();
            let decoder = CheckpointDecoder::begin(&start.image).expect("an image");
            self.copy = Some((decoder, self.journal.len()));
            return;
        };
        let rows = self.state.copy_rows(1).expect("it is not given up");
        decoder.rows(&rows.bytes).expect("a row");
        if !rows.is_last {
            self.copy = Some((decoder, records));
            return;
        }
        let mut copy = decoder.finish().expect("a drop");
        copy.assert_invariants();
        assert_same(&copy, &replayed(&self.spec, &self.journal[..records]));
        self.journal[records..].iter().for_each(|record| copy.evolve(record.at, &record.event));
        copy.order_holds();
        assert_same(&copy, &self.state);
        self.copied += 1;
    }

    fn take_in(&mut self, at: Timestamp, events: Vec<DropEvent>) {
        let threshold = self.spec.low_stock_threshold;
        let mut must_tell = vec![false; self.armed.len()];
        for event in events {
            self.follower.evolve(at, &event);
            if let DropEvent::Reserved { unit_price, payment_method, .. } = &event {
                assert!(payment_method.is_none() || !unit_price.is_zero(), "a payment is owed for a free order");
            }
            let before = self.board.status;
            let changed = self.board.fold(&event).expect("an event that follows from the ones before");
            if matches!(event, DropEvent::SoldOut | DropEvent::BackInStock) {
                assert!(changed && before.is_open(), "{event:?} was told to nobody's use");
            }
            for (index, (id, counts)) in self.board.variants.iter().enumerate() {
                if counts.available > threshold {
                    (self.armed[index], must_tell[index]) = (true, false);
                }
                match &event {
                    DropEvent::StockLow { variant, available } if variant == id => {
                        assert!(*available == counts.available && *available <= threshold, "stock_low told too early");
                        assert!(std::mem::take(&mut self.armed[index]), "stock_low told twice");
                        must_tell[index] = false;
                    }
                    DropEvent::Reserved { variant, .. } if variant == id => {
                        must_tell[index] = threshold > 0 && self.armed[index] && counts.available <= threshold;
                    }
                    DropEvent::Confirmed { line, retaken: true, .. } if line.variant == *id => {
                        must_tell[index] = threshold > 0 && self.armed[index] && counts.available <= threshold;
                    }
                    _ => {}
                }
            }
            self.journal.push(DropRecord { drop: self.spec.id, at, event });
        }
        assert!(!must_tell.contains(&true), "stock_low was not told");
    }

    /// Checks that a key leads to one order, and that no key with an order is refused.
    fn check_key(&mut self, command: &Command, outcome: &Outcome) {
        let Command::Reserve(ask) = command else { return };
        match outcome {
            Outcome::Order { order, replayed } => {
                let made = (ask.fingerprint, order.id);
                let known = self.placed.insert(ask.digest, made);
                assert_eq!(known.is_some(), *replayed);
                assert!(known.is_none_or(|known| known == made), "a key has made another order");
            }
            Outcome::Refused(_) => {
                assert!(!self.placed.contains_key(&ask.digest), "a key that made an order is refused")
            }
            _ => {}
        }
    }

    fn check_state(&self) {
        self.state.assert_invariants();
        assert_same(&self.state, &self.follower);
        assert_eq!(self.state.status(), self.model.status());
        assert_eq!(self.board.status, self.model.status());
        assert_eq!(self.state.is_settled(), self.model.is_settled());
        assert!(self.state.orders().eq(self.model.views().cloned()), "orders differ from the model's");
        for (index, (id, counts)) in self.state.stock().enumerate() {
            assert!(counts.balances(), "{counts:?}");
            assert_eq!(counts, self.model.stock(index));
            assert_eq!(self.board.variants[index], (id, counts));
        }
        let limit = self.spec.per_buyer_limit;
        for index in 0..plan::BUYERS {
            let buyer = plan::buyer(index);
            assert_eq!(self.state.units_of(buyer), self.model.units_of(buyer));
            assert!(limit == 0 || self.state.units_of(buyer) <= limit, "{buyer} is over the limit");
        }
    }
}
