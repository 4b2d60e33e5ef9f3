//! From one start to the next crash.

use super::auditor::{Auditor, Finding};
use super::device::{Failure, SimDevice};
use super::world::{World, orders_of};
use crate::actors::publish::{Answer, AskError, Decision};
use crate::actors::recovery::recover;
use crate::domain::{DropId, KeyDigest, OrderId};
use crate::engine::{Command, DropState};
use crate::journal::{Cursor, Durability, Journal, JournalOptions, MemoryDevice};
use crate::storage;
use rand::Rng;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::oneshot;

/// A decision whose client has not read its answer.
pub(super) struct Flying {
    pub drop: usize,
    pub digest: Option<KeyDigest>,
    pub reply: oneshot::Receiver<Result<Answer, AskError>>,
    pub answer: Option<Result<Answer, AskError>>,
}

impl Flying {
    /// Whether the answer has come.
    pub fn has_landed(&mut self) -> bool {
        if self.answer.is_none() {
            self.answer = match self.reply.try_recv() {
                Ok(answer) => Some(answer),
                Err(oneshot::error::TryRecvError::Empty) => None,
                Err(oneshot::error::TryRecvError::Closed) => Some(Err(AskError::OutcomeUnknown)),
            };
        }
        self.answer.is_some()
    }
}

/// From one start to the next crash.
pub(super) struct Life {
    pub device: SimDevice,
    pub journal: Journal<Decision>,
    pub cursor: Cursor,
    pub drops: BTreeMap<DropId, DropState>,
    pub flying: Vec<Flying>,
    /// The journal's thread stands before the sync of a frame: what is submitted now waits for the next one.
    pub syncing: bool,
}

impl Life {
    /// Waits until the journal's thread stands before a sync, or has answered everything.
    pub fn settle(&mut self) {
        let flying = &mut self.flying;
        self.syncing = self.device.wait_for_sync(|| flying.iter_mut().all(Flying::has_landed));
        self.flying.iter_mut().for_each(|flying| _ = flying.has_landed());
    }

    /// Lets the sync happen before which the journal's thread stands.
    pub fn pass(&mut self) {
        if self.syncing {
            self.device.pass();
        }
        self.settle();
    }
}

impl World {
    pub(super) fn life(&mut self) -> &mut Life {
        self.life.as_mut().expect("a step happens within a life")
    }

    pub(super) fn start(&mut self, image: MemoryDevice) -> Finding {
        let device = SimDevice::new(image);
        device.open_gate();
        let options = JournalOptions {
            dir: "unused".into(),
            durability: Durability::Always,
            segment_bytes: 1 << 20,
            tail_bytes: 1 << 14,
            queue_entries: 64,
        };
        let url = format!("sqlite://{}", self.database.display());
        let store = self.runtime.block_on(async {
            let store = storage::connect(&url).await.map_err(|error| error.to_string())?;
            store.migrate().await.map_err(|error| error.to_string())?;
            Ok::<_, String>(store)
        })?;
        let known = crate::journal::read_identity(&device).map_err(|error| error.to_string())?;
        let watermark = match known {
            Some(known) => {
                self.runtime.block_on(store.watermark(known.journal_id)).map_err(|error| error.to_string())?
            }
            None => None,
        };
        let watermark = watermark.map_or(0, |watermark| watermark.sequence);
        let opened = Journal::open(&options, Arc::new(device.clone()), watermark);
        let (journal, found) = opened.map_err(|error| format!("the journal refuses: {error}"))?;
        let reader = journal.handle().reader();
        let recovered = self.runtime.block_on(recover(&*store, &reader, watermark, found.last_sequence));
        let recovered = recovered.map_err(|error| format!("recovery: {error}"))?;
        device.wait_until_prepared();
        device.close_gate();
        self.note(&[found.last_sequence, watermark, recovered.replayed, recovered.drops.len() as u64]);
        let drops = recovered.drops.into_iter().map(|drop| (drop.spec().id, drop)).collect();
        self.store = Some(store);
        self.life =
            Some(Life { device, cursor: reader.cursor(watermark), journal, drops, flying: Vec::new(), syncing: false });
        self.after_start()
    }

    /// What a start owes: everything acknowledged is there, and payments that had begun are asked about.
    pub(super) fn after_start(&mut self) -> Finding {
        let records = self.records()?;
        Auditor::audit_journal(&records)?;
        let orders = orders_of(&records);
        self.auditor.nothing_lost(|id| orders.get(&id).cloned())?;
        self.charging.clear();
        let drops = &self.life.as_ref().expect("a life").drops;
        let mut pending: Vec<(usize, OrderId)> = Vec::new();
        for (index, spec) in self.specs.iter().enumerate() {
            let Some(drop) = drops.get(&spec.id) else { continue };
            drop.assert_invariants();
            pending.extend(drop.payments_pending().map(|(order, _)| (index, order)));
        }
        pending.sort_unstable();
        for (drop, order) in pending {
            self.count("a payment looked up after a restart");
            let command = if self.auditor.is_charged(order) {
                Command::Confirm { order, payment_ref: "ch".into() }
            } else {
                Command::EndPayment { order }
            };
            self.submit(drop, command, None)?;
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
                // The process ends; the machine may lose its power, too.
                if seed % 4 < 2 { life.device.after_kill() } else { life.device.after_power_loss(seed) }
            }
            8 => {
                // Synced, and the reply never left.
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
                device.open_gate();
                journal.close().map_err(|error| format!("a clean end fails: {error}"))?;
                let image = device.after_power_loss(seed);
                return self.restart(image);
            }
        };
        let Life { device, journal, flying, .. } = self.life.take().expect("a life");
        drop(flying);
        device.kill();
        drop(journal);
        self.restart(image)
    }

    pub(super) fn restart(&mut self, image: MemoryDevice) -> Finding {
        if let Some(store) = self.store.take() {
            self.runtime.block_on(store.close());
        }
        // A database that comes back older than it was is filled again; one that is copied while nobody writes is a backup.
        if self.dice.random_bool(0.1) {
            if let Some(backup) = &self.backup {
                std::fs::copy(backup, &self.database).map_err(|error| error.to_string())?;
                self.count("the database forgets");
            }
        } else if self.dice.random_bool(0.2) {
            let backup = self.database.with_extension("backup");
            std::fs::copy(&self.database, &backup).map_err(|error| error.to_string())?;
            self.backup = Some(backup);
        }
        // A start needs its database.
        self.database_up = true;
        self.start(image)
    }

    /// After a failure everyone who waits hears that the outcome is not known, and nothing is accepted any more.
    pub(super) fn poisoned(&mut self) -> Finding {
        let life = self.life.as_mut().expect("a life");
        while !life.flying.iter_mut().all(Flying::has_landed) {
            life.pass();
        }
        if !life.device.has_failed() {
            return Ok(());
        }
        let mut failed = false;
        for Flying { drop, digest, answer, .. } in std::mem::take(&mut life.flying) {
            match answer {
                Some(Ok(_)) if failed => return Err("an answer after the journal had failed".to_owned()),
                Some(Ok(answer)) => self.told(drop, digest, Ok(answer))?,
                _ => failed = true,
            }
        }
        match self.life().journal.handle().try_permit() {
            None => Ok(()),
            Some(_) => Err("a journal that has failed takes entries".to_owned()),
        }
    }
}
