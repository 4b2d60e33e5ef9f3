//! A simulated world: drops that decide, a journal on a disk that crashes, a database with outages, buyers who retry, a
//! slow gateway, and a clock that jumps.
//!
//! The deciders, the journal, recovery and the projector are the real ones. Everything runs on one thread, and the
//! story moves the journal: a seed always runs the same story.

use super::auditor::{Auditor, Finding};
use super::books::Books;
use super::checkpoints::Checkpoints;
use super::database::{Database, FlakyLedger};
use super::life::{Flying, Life, POLICY, Payment};
use super::outside::Outside;
use crate::actors::Projected;
use crate::actors::inventory::snapshot::Answer;
use crate::domain::limits::PAYMENT_ACTION_MS;
use crate::domain::{
    DropEvent, DropId, DropRecord, DropSpec, DropStatus, KeyDigest, Moment, OrderId, OrderStatus, OrderView,
    ReleaseReason, Timestamp, UserId,
};
use crate::engine::{Command, DropState, Outcome, Rejection, Reserve};
use crate::journal::{MemoryDevice, scan};
use crate::storage::{Ledger, StoreError};
use crate::tools::verify::difference;
use rand::{Rng, SeedableRng, rngs::StdRng};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use uuid::Uuid;

const EPOCH_MS: i64 = 1_767_225_600_000;
const HOUR_MS: i64 = 3_600_000;
/// The share of stories with SQLite: a file and its threads take some thirty times as long as tables in memory.
const SQLITE_SHARE: f64 = 0.05;
/// Decisions pending at the same time.
const IN_FLIGHT_MAX: usize = 6;

/// A reservation in its client's memory.
#[derive(Clone)]
pub(super) struct Request {
    pub drop: usize,
    pub reserve: Reserve,
}

/// Events that occurred, counted: a run with too few of them tests less than it seems to.
pub type Seen = BTreeMap<&'static str, u64>;

/// What is different in a story: mistakes made on purpose, for tests that they are found, and what is left out.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Variation {
    /// A consumer stores its offset before its effect.
    pub offset_first: bool,
    /// A refund counts as settled before the gateway has it.
    pub settle_first: bool,
    /// No consumer tells another system.
    pub no_consumer: bool,
}

/// The state of one story.
pub struct World {
    pub(super) dice: StdRng,
    pub(super) runtime: Arc<Runtime>,
    pub(super) auditor: Auditor,
    pub(super) specs: Vec<DropSpec>,
    pub(super) asked: Vec<Request>,
    /// Running charges without an answer of the gateway.
    pub(super) charging: Vec<(usize, OrderId)>,
    /// Orders that are about to be charged, are being charged, or were charged without the drop's answer.
    pub(super) claimed: BTreeSet<OrderId>,
    pub(super) now: Moment,
    /// When each hold expires by the steady clock, computed independently.
    pub(super) held: BTreeMap<(usize, OrderId), Timestamp>,
    pub(super) serial: u128,
    pub(super) seen: Seen,
    /// A digest of all decisions and answers.
    pub(super) trace: u64,
    pub(super) database: Database,
    pub(super) life: Option<Life>,
    pub(super) checkpoints: Checkpoints,
    pub(super) variation: Variation,
    /// Its own, so that a story without the consumer is the same otherwise.
    pub(super) consumer_dice: StdRng,
    pub(super) outside: Outside,
    /// Orders that are settled although their money has not gone back yet.
    pub(super) owed: Vec<(usize, OrderId)>,
    pub(super) books: Books,
    /// Holds that last longer because their buyers have to act.
    pub(super) extended: BTreeSet<(usize, OrderId)>,
}

impl World {
    /// A world with an empty disk and an empty database.
    ///
    /// # Errors
    /// Why it cannot start.
    pub fn new(seed: u64, runtime: Arc<Runtime>, variation: Variation) -> Result<Self, String> {
        let mut world = Self {
            dice: StdRng::seed_from_u64(seed),
            auditor: Auditor::default(),
            specs: Vec::new(),
            asked: Vec::new(),
            charging: Vec::new(),
            claimed: BTreeSet::new(),
            now: Timestamp::from_millis(EPOCH_MS).into(),
            held: BTreeMap::new(),
            serial: 0,
            seen: Seen::new(),
            trace: seed,
            database: Database::in_memory(Arc::clone(&runtime)),
            runtime,
            life: None,
            checkpoints: Checkpoints::default(),
            variation,
            consumer_dice: StdRng::seed_from_u64(!seed),
            outside: Outside::with_offset_first(variation.offset_first),
            owed: Vec::new(),
            books: Books::default(),
            extended: BTreeSet::new(),
        };
        if world.dice.random_bool(SQLITE_SHARE) {
            world.database = Database::in_a_file(Arc::clone(&world.runtime)).map_err(|error| error.to_string())?;
            world.count("a story over SQLite");
        } else {
            world.count("a story over tables in memory");
        }
        world.start(MemoryDevice::new())?;
        for index in 0..world.dice.random_range(1..=3) {
            world.schedule(index)?;
        }
        Ok(world)
    }

    /// The events that occurred, and the digest of the story.
    #[must_use]
    pub fn result(&self) -> (&Seen, u64) {
        (&self.seen, self.trace)
    }

    /// Runs one step of the story.
    ///
    /// # Errors
    /// A broken promise.
    pub fn step(&mut self) -> Finding {
        let passed = [0, 1, 20, 400, 3_000][self.dice.random_range(0..5_usize)];
        self.pass(passed);
        self.copy_on();
        self.maybe_consume()?;
        match self.dice.random_range(0..100) {
            0..34 => self.reserve(),
            34..42 => self.retry(),
            42..60 => self.gateway_answers(),
            60..64 => self.pay(),
            64..67 => self.cancel_order(),
            67..70 if self.dice.random_bool(0.5) => self.settle_captures(),
            67..70 => self.settle_refunds(),
            70..74 => self.on_any_drop(|_| Command::Tick, "tick"),
            74..76 => self.by_hand(),
            76..88 => self.project().map(|_| ()),
            88..92 => self.land_all(),
            92..93 => self.database_comes_and_goes(),
            93..94 => self.clock_jumps(),
            94..95 => self.look_around(),
            _ => self.end_of_a_life(),
        }
    }

    // --- deciding, as an actor does ---------------------------------------------------------------------------------

    pub(super) fn submit(&mut self, drop: usize, command: Command, digest: Option<KeyDigest>) -> Finding {
        while self.life().flying.len() >= IN_FLIGHT_MAX {
            self.land()?;
        }
        let payment = Payment::of(&command);
        let decided = self.decide(drop, command, digest, payment);
        if let (Ok(false), Some(Payment::Begins(order))) = (&decided, payment) {
            self.claimed.remove(&order);
        }
        decided.map(|_| ())
    }

    /// Returns whether the drop accepted the command.
    fn decide(
        &mut self,
        drop: usize,
        command: Command,
        digest: Option<KeyDigest>,
        payment: Option<Payment>,
    ) -> Result<bool, String> {
        let (now, id) = (self.now, self.specs[drop].id);
        let life = self.life.as_mut().expect("a life");
        // A drop that is not in memory is settled: SQL has it.
        let Some(decider) = life.drops.get_mut(&id) else { return Ok(false) };
        let (sender, reply) = oneshot::channel();
        let opened =
            matches!(command, Command::Start | Command::Cancel) || decider.state().status() != DropStatus::Scheduled;
        let Ok(changed) = decider.ask(now, command, Some(sender)) else { return Ok(false) };
        decider.state().assert_invariants();
        if let Some(Payment::Begins(order)) = payment {
            self.claimed.insert(order);
        }
        life.flies(Flying { drop, digest, payment, reply, answer: None });
        let early =
            !life.journal.is_syncing() && life.flying.last().is_some_and(|last| matches!(last.answer, Some(Ok(_))));
        if changed && early {
            return Err("an answer left before its sync".to_owned());
        }
        self.keeps_time(drop, opened)?;
        self.note(&[drop as u64, u64::from(changed)]);
        Ok(true)
    }

    /// Makes the oldest decision durable, and its client reads the answer.
    pub(super) fn land(&mut self) -> Finding {
        let life = self.life.as_mut().expect("a life");
        let Some(first) = life.flying.first_mut() else { return Ok(()) };
        if !first.has_landed() {
            life.pass();
            return Ok(());
        }
        let mut flying = life.flying.remove(0);
        match flying.answer.take() {
            Some(Ok(answer)) => self.told(&flying, answer),
            _ => Ok(()),
        }
    }

    pub(super) fn land_all(&mut self) -> Finding {
        while !self.life().flying.is_empty() {
            self.land()?;
        }
        Ok(())
    }

    /// A client reads its answer.
    pub(super) fn told(&mut self, flying: &Flying, answer: Answer) -> Finding {
        let Flying { drop, digest, payment, .. } = *flying;
        if let Some(Payment::Begins(order) | Payment::Ends(order)) = payment {
            self.claimed.remove(&order);
        }
        match answer.outcome {
            Outcome::Order { order, replayed } => {
                self.note(&[1, u64::from(replayed), order.status as u64]);
                if let Some(digest) = digest {
                    let known = self.auditor.order_of(digest);
                    if known.is_some() && !replayed {
                        return Err(format!("a key that was answered made another order, {}", order.id));
                    }
                    self.auditor.placed(digest, order.id)?;
                }
                self.auditor.shown(&order)?;
                match payment {
                    Some(Payment::Begins(_)) if order.status != OrderStatus::Reserved => Ok(()),
                    // A repeated request: the first one charges, or no request does yet.
                    Some(Payment::Begins(_)) if replayed && order.payment_pending.is_none() => {
                        self.begin_payment(drop, order.id)
                    }
                    // An attempt is pending: what became of it is asked, unless somebody does.
                    Some(Payment::Begins(_)) if replayed => {
                        let is_asked = self.charging.contains(&(drop, order.id)) || self.claimed.contains(&order.id);
                        if is_asked { Ok(()) } else { self.look_up_payment(drop, order.id) }
                    }
                    Some(Payment::Begins(_)) => {
                        self.claimed.insert(order.id);
                        self.charging.push((drop, order.id));
                        Ok(())
                    }
                    Some(Payment::Ends(_)) | None => Ok(()),
                }
            }
            Outcome::Rejected(Rejection::CoolingDown { .. }) => {
                self.count("a buyer cools down");
                Ok(())
            }
            Outcome::Rejected(Rejection::TooManyHolds | Rejection::TooManyHoldsFromNetwork) => {
                self.count("too many holds");
                Ok(())
            }
            Outcome::Refused(refusal) => {
                self.note(&[2, refusal.as_str().len() as u64, u64::from(refusal.available().unwrap_or(0))]);
                digest.map_or(Ok(()), |digest| self.auditor.refused(digest))
            }
            _ => Ok(()),
        }
    }

    // --- database, clock, audits ------------------------------------------------------------------------------------

    pub(super) fn database_comes_and_goes(&mut self) -> Finding {
        let database = self.database();
        database.set_away(!database.is_away());
        self.count("the database comes or goes");
        // It may be restored from an older backup while the server runs.
        if !database.is_away() && self.dice.random_bool(0.3) && self.database.restore()? {
            self.count("the database forgets");
        }
        Ok(())
    }

    pub(super) fn clock_jumps(&mut self) -> Finding {
        let by = [HOUR_MS, 30_000, 1_500][self.dice.random_range(0..3_usize)];
        let (by, what) =
            if self.dice.random_bool(0.5) { (by, "the clock is set ahead") } else { (-by, "the clock is set back") };
        self.now.wall = self.now.wall.plus_millis(by);
        self.count(what);
        Ok(())
    }

    pub(super) fn pass(&mut self, millis: i64) {
        self.now = Moment { wall: self.now.wall.plus_millis(millis), steady: self.now.steady.plus_millis(millis) };
    }

    /// Checks the times of a drop after a command, whatever the clocks were set to: it has started and ended by the
    /// wall clock, and each of its holds lasts exactly as long as published. `opened`: it may be open at any time.
    fn keeps_time(&mut self, drop: usize, opened: bool) -> Finding {
        let (spec, Moment { wall, steady }) = (&self.specs[drop], self.now);
        let Some(decider) = self.life.as_ref().and_then(|life| life.drops.get(&spec.id)) else { return Ok(()) };
        let state = decider.state();
        match state.status() {
            DropStatus::Scheduled if wall >= spec.starts_at => return Err(format!("drop {drop} has not started")),
            DropStatus::Scheduled | DropStatus::Cancelled => {}
            _ if !opened && wall < spec.starts_at => return Err(format!("drop {drop} started too early")),
            status if status.is_open() && spec.ends_at.is_some_and(|end| end <= wall) => {
                return Err(format!("drop {drop} has not ended"));
            }
            _ => {}
        }
        let holds: BTreeSet<OrderId> = state.holds().map(|(order, _)| order).collect();
        let mut of_buyer: BTreeMap<UserId, u16> = BTreeMap::new();
        for buyer in holds.iter().filter_map(|order| Some(state.order(*order)?.buyer)) {
            let holds = of_buyer.entry(buyer).or_default();
            *holds += 1;
            if *holds > POLICY.per_buyer || *holds > state.holds_of(buyer) {
                return Err(format!("buyer {buyer} has {holds} unpaid holds in drop {drop}"));
            }
        }
        for &order in &holds {
            let fresh = steady.plus_millis(i64::from(spec.hold_ms));
            let view = state.order(order);
            let is_extended =
                view.is_some_and(|view| view.expires_at.millis_since(view.created_at) > i64::from(spec.hold_ms));
            if is_extended && self.extended.insert((drop, order)) {
                self.held.insert((drop, order), steady.plus_millis(i64::from(PAYMENT_ACTION_MS)));
                *self.seen.entry("a hold is extended").or_default() += 1;
            }
            let until = *self.held.entry((drop, order)).or_insert(fresh);
            if steady >= until {
                return Err(format!("the hold of order {order} lasts longer than it was said"));
            }
        }
        let of_drop = (drop, OrderId(Uuid::nil()))..=(drop, OrderId(Uuid::max()));
        let gone = self.held.range(of_drop).filter(|((_, order), _)| !holds.contains(order));
        let gone: Vec<((usize, OrderId), Timestamp)> = gone.map(|(key, until)| (*key, *until)).collect();
        let mut ran_out = 0;
        for &((_, order), until) in &gone {
            let expired = state.order(order).is_some_and(|view| view.release_reason == Some(ReleaseReason::Expired));
            if expired && steady < until {
                return Err(format!("the hold of order {order} ended before its time"));
            }
            ran_out += u64::from(expired);
        }
        gone.iter().for_each(|(key, _)| _ = self.held.remove(key));
        *self.seen.entry("a hold runs out").or_default() += ran_out;
        Ok(())
    }

    /// Runs one step of the projector. Returns whether there may be more to do.
    pub(super) fn project(&mut self) -> Result<bool, String> {
        if self.dice.random_bool(0.15) {
            self.database().lose_an_answer();
        }
        let (life, runtime) = (self.life.as_mut().expect("a life"), &self.runtime);
        let what = match runtime.block_on(life.projector.step()) {
            Projected::Batch => "a batch projected",
            Projected::Nothing => return Ok(false),
            Projected::Unavailable => "a projection without an answer",
            Projected::Rewound => "a projection begins again",
            Projected::Narrowed => "a batch cut in two",
            Projected::Stopped => return Err(life.why_the_projector_stops()),
        };
        self.count(what);
        Ok(true)
    }

    /// The projector's check while there is nothing to project: the database may have lost rows. Returns whether it
    /// has.
    fn look_again(&mut self) -> Result<bool, String> {
        let (life, runtime) = (self.life.as_mut().expect("a life"), &self.runtime);
        match runtime.block_on(life.projector.look_again()) {
            Projected::Rewound => {
                self.count("an idle projection begins again");
                Ok(true)
            }
            Projected::Stopped => Err(life.why_the_projector_stops()),
            _ => Ok(false),
        }
    }

    /// Reads what a buyer could read, and checks the journal's consistency.
    pub(super) fn look_around(&mut self) -> Finding {
        self.land_all()?;
        self.life().shows_what_it_decided()?;
        let records = self.records()?;
        Auditor::audit_journal(&records)?;
        let orders = orders_of(&records);
        self.auditor.nothing_lost(|id| orders.get(&id).cloned())
    }

    pub(super) fn records(&self) -> Result<Vec<DropRecord>, String> {
        let life = self.life.as_ref().expect("a life");
        let mut records = Vec::new();
        let mut bad = None;
        let mut read = |_: u64, bytes: &[u8]| match DropRecord::decode(bytes) {
            Ok(record) => records.push(record),
            Err(error) => bad = Some(error.to_string()),
        };
        scan(&life.device, &mut read).map_err(|error| format!("the journal cannot be read: {error}"))?;
        bad.map_or(Ok(records), Err)
    }

    /// Lets everything settle, and audits the database: money, stock, SQL.
    ///
    /// # Errors
    /// A broken promise.
    pub fn finish(&mut self) -> Finding {
        self.land_all()?;
        // Resolves every charge.
        while let Some((drop, order)) = self.charging.pop() {
            if self.is_of_provider(drop, order) {
                self.look_up_attempt(drop, order, true)?;
            } else {
                self.look_up_payment(drop, order)?;
            }
            self.land_all()?;
        }
        self.pass(10 * HOUR_MS);
        for drop in 0..self.specs.len() {
            self.submit(drop, Command::Start, None)?;
            self.submit(drop, Command::End, None)?;
            self.submit(drop, Command::Tick, None)?;
        }
        self.land_all()?;
        while let Some((drop, order)) = self.any_order(|order| order.payment.capture_due) {
            self.capture(drop, order)?;
            self.land_all()?;
        }
        while let Some((drop, order)) = self.any_order(|order| order.refund_due.is_some()) {
            self.give_back(drop, order)?;
            self.submit(drop, Command::SettleRefund { order }, None)?;
            self.land_all()?;
        }
        self.pay_what_is_owed()?;
        self.database().set_away(false);
        while self.project()? || self.look_again()? {}
        let records = self.records()?;
        records.iter().for_each(|record| self.note(&[kind_of(&record.event)]));
        Auditor::audit_journal(&records)?;
        let orders = orders_of(&records);
        self.auditor.nothing_lost(|id| orders.get(&id).cloned())?;
        self.auditor.money_adds_up(orders.values())?;
        self.books.add_up(orders.values())?;
        self.sql_is_the_journal(&records)?;
        self.finish_consuming(&records)
    }

    /// Checks that every row equals the fold over the journal alone.
    pub(super) fn sql_is_the_journal(&mut self, records: &[DropRecord]) -> Finding {
        let store = self.database();
        for (id, state) in folded(records) {
            let read = self.runtime.block_on(async {
                Ok::<_, StoreError>((store.drop_row(id).await?, store.drop_orders(id, None, 100_000).await?))
            });
            let (row, rows) = read.map_err(|error| error.to_string())?;
            let row = row.ok_or_else(|| format!("drop {id} is not in the database"))?;
            if let Some(difference) = difference::of_drops(&state, &row) {
                return Err(format!("drop {id} differs in {difference}"));
            }
            if rows.len() != state.order_count() {
                return Err(format!(
                    "drop {id}: {} orders in the journal, {} in the database",
                    state.order_count(),
                    rows.len()
                ));
            }
            for row in &rows {
                let order = state.order(row.id);
                let order =
                    order.ok_or_else(|| format!("order {} is in the database and not in the journal", row.id))?;
                if let Some(difference) = difference::of_orders(&order, row) {
                    return Err(format!("order {} differs in {difference}", row.id));
                }
            }
        }
        Ok(())
    }

    // --- small things -----------------------------------------------------------------------------------------------

    pub(super) fn database(&self) -> Arc<FlakyLedger> {
        Arc::clone(&self.life.as_ref().expect("a step happens within a life").database)
    }

    /// Rising ids that depend only on the seed.
    pub(super) fn id(&mut self) -> Uuid {
        self.serial += 1;
        Uuid::from_u128(self.serial << 64)
    }

    pub(super) fn count(&mut self, what: &'static str) {
        *self.seen.entry(what).or_default() += 1;
    }

    pub(super) fn note(&mut self, bits: &[u64]) {
        for bit in bits {
            self.trace = (self.trace ^ bit).wrapping_mul(0x0100_0000_01b3).rotate_left(17);
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.database.close();
    }
}

/// The state of every drop, from the journal alone.
fn folded(records: &[DropRecord]) -> BTreeMap<DropId, DropState> {
    let mut drops: BTreeMap<DropId, DropState> = BTreeMap::new();
    for record in records {
        if let DropEvent::Scheduled(spec) = &record.event {
            drops.insert(record.drop, DropState::scheduled((**spec).clone()));
        } else if let Some(state) = drops.get_mut(&record.drop) {
            state.evolve(record.at, &record.event);
        }
    }
    drops
}

pub(super) fn orders_of(records: &[DropRecord]) -> BTreeMap<OrderId, OrderView> {
    folded(records).values().flat_map(|drop| drop.orders().collect::<Vec<_>>()).map(|order| (order.id, order)).collect()
}

fn kind_of(event: &DropEvent) -> u64 {
    let mut bytes = Vec::new();
    DropRecord { drop: DropId(Uuid::nil()), at: Timestamp::from_millis(0), event: event.clone() }.encode(&mut bytes);
    // Version, drop (17 bytes), time (1 byte), then the kind.
    bytes.get(19).copied().map_or(0, u64::from)
}
