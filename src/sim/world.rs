//! One simulated life after another: drops that decide, a journal on a disk that crashes, SQL that comes and goes, buyers who retry,
//! a gateway that is slow, and a clock that jumps.
//!
//! The engine, the journal, recovery and the projection are the real ones. What an actor does around the engine (a permit, a decision,
//! an entry, a reply) is done here in its order, on one thread, and the journal's thread moves only when the gate of its disk opens:
//! so a seed plays the same story every time.

use super::auditor::{Auditor, Finding, Told};
use super::life::{Flying, Life};
use crate::actors::publish::{Answer, AskError, Decision};
use crate::domain::{DropEvent, DropId, DropRecord, DropSpec, KeyDigest, OrderId, OrderStatus, OrderView, Timestamp};
use crate::engine::{Command, DropState, Outcome, Reserve};
use crate::journal::{MemoryDevice, Records, scan};
use crate::storage::{self, ProjectionBatch, Store};
use rand::{Rng, SeedableRng, rngs::StdRng};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use uuid::Uuid;

const EPOCH_MS: i64 = 1_767_225_600_000;
const HOUR_MS: i64 = 3_600_000;
/// Decisions that are on their way at the same time.
const IN_FLIGHT_MAX: usize = 6;
/// Records of one projection.
const BATCH: usize = 64;

/// A reservation as its client remembers it.
#[derive(Clone)]
pub(super) struct Asked {
    pub drop: usize,
    pub reserve: Reserve,
}

/// What happened, counted: a run that saw too little tests less than it seems to.
pub type Seen = BTreeMap<&'static str, u64>;

/// See the module.
pub struct World {
    pub(super) dice: StdRng,
    pub(super) runtime: Arc<Runtime>,
    pub(super) auditor: Auditor,
    pub(super) specs: Vec<DropSpec>,
    pub(super) asked: Vec<Asked>,
    /// Charges that run: the gateway's answer is still to come.
    pub(super) charging: Vec<(usize, OrderId)>,
    pub(super) now_ms: i64,
    pub(super) serial: u128,
    pub(super) seen: Seen,
    /// A digest of everything that was decided and told.
    pub(super) trace: u64,
    pub(super) database: PathBuf,
    pub(super) store: Option<Arc<dyn Store>>,
    pub(super) database_up: bool,
    /// A copy of the database, as old as its last backup.
    pub(super) backup: Option<PathBuf>,
    pub(super) life: Option<Life>,
}

impl World {
    /// A world on an empty disk and an empty database in this folder.
    ///
    /// # Errors
    /// What keeps it from starting.
    pub fn new(seed: u64, folder: &std::path::Path, runtime: Arc<Runtime>) -> Result<Self, String> {
        let mut world = Self {
            dice: StdRng::seed_from_u64(seed),
            runtime,
            auditor: Auditor::default(),
            specs: Vec::new(),
            asked: Vec::new(),
            charging: Vec::new(),
            now_ms: EPOCH_MS,
            serial: 0,
            seen: Seen::new(),
            trace: seed,
            database: folder.join("livedrop.db"),
            store: None,
            database_up: true,
            backup: None,
            life: None,
        };
        world.start(MemoryDevice::new())?;
        for index in 0..world.dice.random_range(1..=3) {
            world.schedule(index)?;
        }
        Ok(world)
    }

    /// What was seen, and the digest of the story.
    #[must_use]
    pub fn result(&self) -> (&Seen, u64) {
        (&self.seen, self.trace)
    }

    /// One step of the story.
    ///
    /// # Errors
    /// A broken promise.
    pub fn step(&mut self) -> Finding {
        self.now_ms += [0, 1, 20, 400, 3_000][self.dice.random_range(0..5_usize)];
        match self.dice.random_range(0..100) {
            0..34 => self.reserve(),
            34..42 => self.retry(),
            42..60 => self.gateway_answers(),
            60..64 => self.pay(),
            64..67 => self.cancel_order(),
            67..70 => self.settle_refunds(),
            70..74 => self.on_any_drop(|_| Command::Tick, "tick"),
            74..76 => self.by_hand(),
            76..88 => self.project(),
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
        let now = Timestamp::from_millis(self.now_ms);
        let id = self.specs[drop].id;
        let life = self.life.as_mut().expect("a life");
        // A drop that is not in memory is settled: SQL has it.
        let Some(state) = life.drops.get_mut(&id) else { return Ok(()) };
        let Some(permit) = life.journal.handle().try_permit() else { return Ok(()) };
        let mut events = Vec::new();
        let (outcome, at) = state.apply(now, command, &mut events);
        state.assert_invariants();
        let mut records = Records::default();
        let mut bits = vec![drop as u64, events.len() as u64];
        for event in events {
            let record = DropRecord { drop: id, at, event };
            bits.push(kind_of(&record.event));
            records.push(|buffer| record.encode(buffer)).expect("bounds of the domain keep records small");
        }
        let changes = !records.is_empty();
        let (sender, reply) = oneshot::channel();
        permit.submit(records, Decision { publish: None, reply: Some((sender, outcome)) });
        life.flying.push(Flying { drop, digest, reply, answer: None });
        if !life.syncing {
            life.settle();
            let early = life.flying.last().is_some_and(|last| matches!(last.answer, Some(Ok(_))));
            if changes && early {
                return Err("an answer left before its sync".to_owned());
            }
        }
        self.note(&bits);
        Ok(())
    }

    /// Lets the oldest decision become durable and its client hear of it.
    pub(super) fn land(&mut self) -> Finding {
        let life = self.life.as_mut().expect("a life");
        let Some(first) = life.flying.first_mut() else { return Ok(()) };
        if !first.has_landed() {
            life.pass();
            return Ok(());
        }
        let Flying { drop, digest, answer, .. } = life.flying.remove(0);
        match answer {
            Some(answer) => self.told(drop, digest, answer),
            None => Ok(()),
        }
    }

    pub(super) fn land_all(&mut self) -> Finding {
        while !self.life().flying.is_empty() {
            self.land()?;
        }
        Ok(())
    }

    /// A client reads its answer.
    pub(super) fn told(&mut self, drop: usize, digest: Option<KeyDigest>, answer: Result<Answer, AskError>) -> Finding {
        let Ok(answer) = answer else { return Ok(()) };
        match answer.outcome {
            Outcome::Order { order, replayed } => {
                self.note(&[1, u64::from(replayed), order.status as u64]);
                if let Some(digest) = digest {
                    let known = self.auditor.answer(digest);
                    if known.is_some() && !replayed {
                        return Err(format!("a key that was answered made another order, {}", order.id));
                    }
                    self.auditor.answered(digest, Told::Order(order.id))?;
                }
                self.auditor.shown(&order)?;
                if order.status == OrderStatus::Reserved && order.payment_pending.is_some() {
                    self.charging.push((drop, order.id));
                }
                Ok(())
            }
            Outcome::Refused { refusal, trace, .. } => {
                self.note(&[2, refusal as u64]);
                match digest {
                    Some(digest) => self.auditor.answered(digest, Told::Refused(refusal, trace)),
                    None => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }

    // --- database, clock, audits ------------------------------------------------------------------------------------

    pub(super) fn database_comes_and_goes(&mut self) -> Finding {
        self.database_up = !self.database_up;
        self.count("the database comes or goes");
        Ok(())
    }

    pub(super) fn clock_jumps(&mut self) -> Finding {
        self.now_ms += if self.dice.random_bool(0.5) { HOUR_MS } else { -HOUR_MS };
        self.count("the clock jumps");
        Ok(())
    }

    pub(super) fn project(&mut self) -> Finding {
        if !self.database_up {
            return Ok(());
        }
        let twice = self.dice.random_bool(0.15);
        self.project_once(twice).map(|_| ())
    }

    /// Projects one batch; `twice`: as if the answer to the first commit had been lost. Returns whether there was one.
    pub(super) fn project_once(&mut self, twice: bool) -> Result<bool, String> {
        let store = Arc::clone(self.store.as_ref().ok_or("no store")?);
        let life = self.life.as_mut().expect("a life");
        let reader = life.journal.handle().reader();
        let Some(batch) = life.cursor.next_batch(BATCH).map_err(|error| error.to_string())? else { return Ok(false) };
        let records: Result<Vec<_>, _> = batch.iter().map(|(_, bytes)| DropRecord::decode(bytes)).collect();
        let projection = ProjectionBatch {
            journal: reader.journal_id(),
            epoch: reader.epoch(),
            first_sequence: batch.first_sequence,
            records: records.map_err(|error| error.to_string())?,
        };
        for _ in 0..=u32::from(twice) {
            self.runtime.block_on(store.project(&projection)).map_err(|error| format!("projection: {error}"))?;
        }
        self.count(if twice { "batch projected twice" } else { "batch projected" });
        Ok(true)
    }

    /// Reads what a buyer could read, and compares the journal with itself.
    pub(super) fn look_around(&mut self) -> Finding {
        self.land_all()?;
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

    /// Lets everything come to rest, and audits the books: money, stock, SQL.
    ///
    /// # Errors
    /// A broken promise.
    pub fn finish(&mut self) -> Finding {
        self.land_all()?;
        // Every charge has an end.
        while let Some((drop, order)) = self.charging.pop() {
            let command = if self.auditor.is_charged(order) {
                Command::Confirm { order, payment_ref: "ch".into() }
            } else {
                Command::EndPayment { order }
            };
            self.submit(drop, command, None)?;
            self.land_all()?;
        }
        self.now_ms += 10 * HOUR_MS;
        for drop in 0..self.specs.len() {
            self.submit(drop, Command::Start, None)?;
            self.submit(drop, Command::End, None)?;
            self.submit(drop, Command::Tick, None)?;
        }
        self.land_all()?;
        while let Some((drop, order)) = self.any_order(|order| order.refund_due.is_some()) {
            self.auditor.give_back(order)?;
            self.submit(drop, Command::SettleRefund { order }, None)?;
            self.land_all()?;
        }
        self.database_up = true;
        while self.project_once(false)? {}
        let records = self.records()?;
        Auditor::audit_journal(&records)?;
        let orders = orders_of(&records);
        self.auditor.nothing_lost(|id| orders.get(&id).cloned())?;
        self.auditor.money_adds_up(orders.values())?;
        self.sql_is_the_journal(&records)
    }

    /// Every row is what a fold over the journal alone gives.
    pub(super) fn sql_is_the_journal(&mut self, records: &[DropRecord]) -> Finding {
        let store = Arc::clone(self.store.as_ref().ok_or("no store")?);
        for (id, state) in folded(records) {
            let read = self.runtime.block_on(async {
                Ok::<_, storage::StoreError>((store.drop_row(id).await?, store.drop_orders(id, None, 100_000).await?))
            });
            let (row, rows) = read.map_err(|error| error.to_string())?;
            let row = row.ok_or_else(|| format!("drop {id} is not in the database"))?;
            let stock: Vec<_> = row.variants.iter().map(|variant| (variant.id, variant.stock)).collect();
            if row.status != state.status() || stock != state.stock().collect::<Vec<_>>() {
                return Err(format!("drop {id}: SQL has {:?} {stock:?}", row.status));
            }
            let mut expected: Vec<OrderView> = state.orders().collect();
            expected.sort_by_key(|order| order.id);
            let rows: Vec<OrderView> = rows.into_iter().map(|row| OrderView { key: String::new(), ..row }).collect();
            if rows != expected {
                return Err(format!("drop {id}: the orders in SQL are not the journal's"));
            }
        }
        Ok(())
    }

    // --- small things -----------------------------------------------------------------------------------------------

    /// Ids that grow, and follow from the seed alone.
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
    /// The journal's thread must not wait for ever before its gate.
    fn drop(&mut self) {
        if let Some(life) = &self.life {
            life.device.kill();
        }
        if let Some(store) = self.store.take() {
            self.runtime.block_on(store.close());
        }
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
    // Version, drop (17 bytes), time (1 byte), and then the kind.
    bytes.get(19).copied().map_or(0, u64::from)
}
