//! Checkpoints of a story: drops are copied while they sell, and a start reads what was complete by then, some of it torn.

use super::checkpoints::Copy;
use super::world::World;
use crate::actors::inventory::checkpoint::Origin;
use crate::actors::inventory::checkpoint::file::{self, Encoder, Header};
use crate::actors::inventory::messages::{BeginCopy, CopyAnswer};
use crate::domain::Timestamp;
use crate::engine::DropState;
use rand::Rng;
use tokio::sync::oneshot;

/// How often a copy begins while none is under way.
const BEGINS: f64 = 0.1;
/// How often a file is torn by the time of a start.
const TORN: f64 = 0.15;

impl World {
    /// Copies on, or begins a copy now and then.
    pub(super) fn copy_on(&mut self) {
        let Some(mut copy) = self.checkpoints.copy.take() else { return self.begin_copy() };
        let rows_max = self.dice.random_range(1..=3);
        let Some(drop) = self.life.as_mut().and_then(|life| life.drops.get_mut(&copy.drop)) else { return };
        if copy.rows.last().is_none_or(|rows| !rows.is_last) {
            let Some(rows) = drop.copy_rows(rows_max) else { return };
            copy.rows.push(rows);
        }
        if copy.position.is_none() {
            match copy.behind.try_recv() {
                Ok(Ok(answer)) => copy.position = Some(answer.sequence),
                Err(oneshot::error::TryRecvError::Empty) => {}
                // The journal has failed: nothing of it counts.
                Ok(Err(_)) | Err(_) => return,
            }
        }
        match copy.position.filter(|_| copy.rows.last().is_some_and(|rows| rows.is_last)) {
            Some(position) => self.complete(&copy, position),
            None => self.checkpoints.copy = Some(copy),
        }
    }

    fn begin_copy(&mut self) {
        if self.specs.is_empty() || !self.dice.random_bool(BEGINS) {
            return;
        }
        let drop = self.specs[self.dice.random_range(0..self.specs.len())].id;
        let Some(life) = self.life.as_mut() else { return };
        let Some(decider) = life.drops.get_mut(&drop) else { return };
        let (reply, behind) = oneshot::channel();
        if let CopyAnswer::Begun(start) = decider.begin_copy(BeginCopy { saved: None, is_overdue: true, behind: reply })
        {
            life.write();
            self.checkpoints.copy = Some(Copy { drop, start, rows: Vec::new(), behind, position: None });
        }
    }

    fn complete(&mut self, copy: &Copy, position: u64) {
        self.count("a checkpoint");
        let reader = self.life().journal.handle().reader();
        let origin = Origin { journal: reader.journal_id(), epoch: reader.epoch() };
        let (drop, orders) = (copy.drop, copy.start.orders);
        let header = Header { origin, drop, position, written_at: Timestamp::EPOCH, orders };
        let mut bytes = Vec::new();
        let mut encoder = Encoder::begin(&header, &mut bytes);
        encoder.chunk(&copy.start.image, 0, &mut bytes);
        for rows in copy.rows.iter().filter(|rows| rows.count > 0) {
            encoder.chunk(&rows.bytes, rows.count, &mut bytes);
        }
        encoder.end(&mut bytes);
        self.checkpoints.files.insert(drop, bytes);
    }

    /// What a start reads of it. `last`: the journal's last record.
    pub(super) fn load_checkpoints(&mut self, last: u64) -> Result<Vec<(DropState, u64)>, String> {
        self.checkpoints.copy = None;
        let mut loaded = Vec::new();
        for (drop, mut bytes) in self.checkpoints.files.clone() {
            let is_torn = self.dice.random_bool(TORN);
            if is_torn {
                self.tear(&mut bytes);
            }
            match file::read(&mut &bytes[..]) {
                Ok(_) if is_torn => return Err(format!("the checkpoint of drop {drop} is torn and was read")),
                Ok((header, _)) if header.position > last => {
                    return Err(format!("the checkpoint of drop {drop} is ahead of the journal, which ends at {last}"));
                }
                Ok((header, state)) => {
                    self.count("a drop loaded from its checkpoint");
                    loaded.push((state, header.position));
                }
                Err(_) if is_torn => {
                    self.count("a torn checkpoint");
                    self.checkpoints.files.remove(&drop);
                }
                Err(why) => return Err(format!("the checkpoint of drop {drop} cannot be used: {why}")),
            }
        }
        self.note(&[loaded.len() as u64]);
        Ok(loaded)
    }

    fn tear(&mut self, bytes: &mut Vec<u8>) {
        let at = self.dice.random_range(0..bytes.len());
        match self.dice.random_range(0..3) {
            0 => bytes.truncate(at),
            1 => bytes[at] ^= 1 << self.dice.random_range(0..8_u32),
            _ => {
                let before = bytes[at..].to_vec();
                bytes[at..].fill(0);
                // It must not be what it was.
                if bytes[at..] == before[..] {
                    bytes.truncate(at);
                }
            }
        }
    }
}
