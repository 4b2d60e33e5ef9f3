//! Starts, ends and crashes of a story's server.

use super::auditor::{Auditor, Finding};
use super::device::{Failure, SimDevice};
use super::life::{Flying, Life, POLICY};
use super::world::{World, orders_of};
use crate::actors::Answer;
use crate::actors::consumers::Progress;
use crate::actors::inventory::recovery::{Known, recover_from};
use crate::actors::{Decider, Projector};
use crate::domain::limits::PAYMENT_ACTION_MS;
use crate::domain::{OrderId, OrderStatus, Timestamp};
use crate::engine::{DropState, Outcome};
use crate::journal::{JournalOptions, MemoryDevice, SteppedJournal};
use crate::service::events::{self, Events, Keep};
use crate::storage::Ledger;
use rand::Rng;
use std::sync::Arc;

/// Small, so that a story uses several segments.
const SEGMENT_BYTES: usize = 16 << 10;

impl World {
    pub(super) fn life(&mut self) -> &mut Life {
        self.life.as_mut().expect("a step happens within a life")
    }

    pub(super) fn start(&mut self, image: MemoryDevice) -> Finding {
        let device = SimDevice::new(image);
        let options = JournalOptions {
            segment_bytes: SEGMENT_BYTES,
            tail_bytes: 1 << 14,
            queue_entries: 64,
            ..JournalOptions::new("unused")
        };
        let database = self.database.open()?;
        let known = crate::journal::read_identity(&device).map_err(|error| error.to_string())?;
        let watermark = match known {
            Some(known) => {
                self.runtime.block_on(database.applied(known.journal_id)).map_err(|error| error.to_string())?
            }
            None => 0,
        };
        let opened = SteppedJournal::open(&options, Arc::new(device.clone()), watermark);
        let (journal, found) = opened.map_err(|error| format!("the journal refuses: {error}"))?;
        let reader = journal.handle().reader();
        // The audits read the story from its first record on.
        reader.register_cursor("audit", 0);
        let last = found.last_sequence;
        let horizon = Timestamp::from_millis(i64::MAX);
        let known = Known { watermark, last, horizon, checkpoint: self.load_checkpoints(last)? };
        let recovered = self.runtime.block_on(recover_from(&*database, &reader, known));
        let recovered = recovered.map_err(|error| format!("recovery: {error}"))?;
        // As a server's clock at its start. Hold times are those published to the buyers.
        self.now.steady = self.now.wall.max(recovered.last_at);
        self.held.clear();
        self.extended.clear();
        for (index, spec) in self.specs.iter().enumerate() {
            let Some(state) = recovered.drops.iter().find(|state| state.spec().id == spec.id) else { continue };
            let reserved = state.orders().filter(|order| order.status == OrderStatus::Reserved);
            let latest = self.now.steady.plus_millis(spec.hold_ms.into());
            for order in reserved {
                let is_extended = order.expires_at.millis_since(order.created_at) > i64::from(spec.hold_ms);
                let longer = if is_extended { i64::from(PAYMENT_ACTION_MS) } else { 0 };
                self.held.insert((index, order.id), order.expires_at.min(latest.plus_millis(longer)));
                if is_extended {
                    self.extended.insert((index, order.id));
                }
            }
        }
        self.note(&[found.last_sequence, watermark, recovered.replayed, recovered.drops.len() as u64]);
        let drops = recovered.drops.into_iter();
        let steady = self.now.steady;
        let alive = |mut state: DropState| {
            state.set_hold_policy(POLICY);
            state.resume(steady);
            (state.spec().id, Decider::alone(state, true, journal.handle()))
        };
        let drops = drops.map(alive).collect();
        let (projector, projection) = Projector::new(database.clone(), &reader, watermark);
        let after = self.outside.resume(&reader, 1, None).map_err(|error| error.to_string())?;
        let (progress, outside) = (Progress::new(&events::ABOUT), self.outside.clone());
        let events = Events::new(progress, &reader, after, outside.clone(), outside);
        self.owed.clear();
        let flying = Vec::new();
        self.life = Some(Life { device, journal, database, projector, projection, events, drops, flying });
        self.after_start()
    }

    /// Checks after a start that everything acknowledged is there, and asks about payments that had begun.
    pub(super) fn after_start(&mut self) -> Finding {
        let records = self.records()?;
        Auditor::audit_journal(&records)?;
        let orders = orders_of(&records);
        self.auditor.nothing_lost(|id| orders.get(&id).cloned())?;
        self.charging.clear();
        self.claimed.clear();
        let drops = &self.life.as_ref().expect("a life").drops;
        let mut pending: Vec<(usize, OrderId)> = Vec::new();
        for (index, spec) in self.specs.iter().enumerate() {
            let Some(drop) = drops.get(&spec.id) else { continue };
            drop.state().assert_invariants();
            pending.extend(drop.state().payments_pending().map(|(order, _)| (index, order)));
        }
        pending.sort_unstable();
        for (drop, order) in pending {
            self.count("a payment looked up after a restart");
            self.look_up_payment(drop, order)?;
        }
        self.land_all()
    }

    pub(super) fn end_of_a_life(&mut self) -> Finding {
        let seed = self.dice.random();
        let kind = self.dice.random_range(0..10);
        let life = self.life.as_mut().expect("a life");
        let image = match kind {
            0..4 => {
                let image = life.device.after_power_loss(seed);
                self.count("power loss");
                image
            }
            4..7 => {
                let image = life.device.after_kill();
                self.count("kill");
                image
            }
            7 => {
                let failure = if seed % 2 == 0 { Failure::Write } else { Failure::Sync };
                life.device.fail_next(failure);
                self.count(if failure == Failure::Write { "write error" } else { "sync error" });
                self.submit_anything()?;
                self.poisoned()?;
                let life = self.life.as_mut().expect("a life");
                // The process ends; the machine may lose power as well.
                if seed % 4 < 2 { life.device.after_kill() } else { life.device.after_power_loss(seed) }
            }
            8 => {
                // Synced, but the reply was never sent.
                self.count("kill between sync and reply");
                self.submit_anything()?;
                let life = self.life.as_mut().expect("a life");
                life.pass();
                life.device.after_kill()
            }
            _ => {
                self.count("clean end");
                self.land_all()?;
                let Life { device, journal, .. } = self.life.take().expect("a life");
                journal.close().map_err(|error| format!("a clean end fails: {error}"))?;
                let image = device.after_power_loss(seed);
                return self.restart(image);
            }
        };
        self.life = None;
        self.restart(image)
    }

    /// The process ends, or the machine loses its power.
    pub(super) fn end_now(&mut self) -> Finding {
        let seed: u64 = self.consumer_dice.random();
        let device = &self.life().device;
        let image = if seed.is_multiple_of(2) { device.after_kill() } else { device.after_power_loss(seed) };
        self.life = None;
        self.restart(image)
    }

    pub(super) fn restart(&mut self, image: MemoryDevice) -> Finding {
        self.database.close();
        // A database restored from an older backup is filled again; one copied without a writer is a backup.
        if self.dice.random_bool(0.1) {
            if self.database.restore()? {
                self.count("the database forgets");
            }
        } else if self.dice.random_bool(0.2) {
            self.database.back_up()?;
        }
        self.start(image)
    }

    /// After a failure all waiting requests get an unknown outcome, and nothing is accepted any more.
    pub(super) fn poisoned(&mut self) -> Finding {
        let life = self.life.as_mut().expect("a life");
        while !life.flying.iter_mut().all(Flying::has_landed) {
            life.pass();
        }
        if !life.device.has_failed() {
            return Ok(());
        }
        let mut failed = false;
        for mut flying in std::mem::take(&mut life.flying) {
            match flying.answer.take() {
                // A refusal promises nothing, so it does not wait for the disk.
                Some(Ok(Answer { outcome: Outcome::Refused(_), .. })) => {}
                Some(Ok(_)) if failed => return Err("an answer after the journal had failed".to_owned()),
                Some(Ok(answer)) => self.told(&flying, answer)?,
                _ => failed = true,
            }
        }
        match self.life().journal.handle().try_permit() {
            None => Ok(()),
            Some(_) => Err("a journal that has failed takes entries".to_owned()),
        }
    }
}
