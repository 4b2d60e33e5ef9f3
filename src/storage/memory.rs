//! A [`Ledger`] in memory, for the simulation: the same fold as the databases', tables that are maps, and a copy is a backup.

use super::fold::{DropImage, Fold, Rows, Touched};
use super::projection::{NOTHING_APPLIED, news};
use super::{DropRow, Ledger, ProjectionBatch, RefusalRow, StoreError, Watermark};
use crate::domain::{DropId, DropRecord, KeyDigest, OrderId, OrderView};
use async_trait::async_trait;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
};
use uuid::Uuid;

/// See the module.
#[derive(Default)]
pub(crate) struct MemoryLedger(Mutex<Tables>);

/// The rows.
#[derive(Clone, Default)]
pub(crate) struct Tables {
    /// A drop, what it owes, and whether it is settled.
    drops: BTreeMap<DropId, (DropRow, u32, bool)>,
    orders: BTreeMap<OrderId, (OrderView, KeyDigest)>,
    refusals: BTreeMap<(Uuid, u64), RefusalRow>,
    /// A drop answers a key once, be it with an order or with a refusal.
    keys: BTreeSet<(Uuid, DropId)>,
    /// Epoch and sequence.
    watermarks: BTreeMap<Uuid, (u32, i64)>,
}

impl MemoryLedger {
    /// A copy of everything.
    pub(crate) fn backup(&self) -> Tables {
        self.tables().clone()
    }

    /// Everything as it was then.
    pub(crate) fn restore(&self, tables: Tables) {
        *self.tables() = tables;
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tables {
    fn project(&mut self, batch: &ProjectionBatch) -> Result<(), StoreError> {
        let (theirs, applied) = self.watermarks.get(&batch.journal).copied().unwrap_or((batch.epoch, NOTHING_APPLIED));
        if theirs > batch.epoch {
            return Err(StoreError::Fenced { ours: batch.epoch, theirs });
        }
        if batch.records.is_empty() {
            return Ok(());
        }
        let (first, records) = news(batch, applied)?;
        let mut fold = self.read(records);
        for (sequence, record) in (first..).zip(records) {
            fold.apply(sequence, record).map_err(|contradiction| StoreError::Corrupt(contradiction.to_string()))?;
        }
        self.write(batch.journal, fold.finish())?;
        let last = i64::try_from(first).map_or(i64::MAX, |first| first.saturating_add_unsigned(records.len() as u64));
        self.watermarks.insert(batch.journal, (batch.epoch, last - 1));
        Ok(())
    }

    fn read(&self, records: &[DropRecord]) -> Fold {
        let touched = Touched::by(records);
        let drops = touched.drops.iter().filter_map(|id| self.drops.get(id));
        let drops = drops.map(|(row, owed, _)| DropImage::stored(row.clone(), *owed)).collect();
        let orders = touched.orders.iter().filter_map(|id| self.orders.get(id)).map(|(view, _)| view.clone()).collect();
        Fold::new(drops, orders)
    }

    fn write(&mut self, journal: Uuid, rows: Rows) -> Result<(), StoreError> {
        for drop in rows.drops {
            let (owed, settled) = (drop.obligations, drop.is_settled());
            let row = drop.into_row();
            self.drops.insert(row.spec.id, (row, owed, settled));
        }
        for order in rows.placed {
            self.take_key(order.digest, order.view.drop_id)?;
            if self.orders.insert(order.view.id, (order.view, order.digest)).is_some() {
                return Err(StoreError::Corrupt("an order is in the ledger already".to_owned()));
            }
        }
        for view in rows.orders {
            if let Some((known, _)) = self.orders.get_mut(&view.id) {
                *known = view;
            }
        }
        for row in rows.refusals {
            self.take_key(row.digest, row.drop_id)?;
            self.refusals.insert((journal, row.sequence), row);
        }
        Ok(())
    }

    fn take_key(&mut self, digest: KeyDigest, drop: DropId) -> Result<(), StoreError> {
        let fresh = self.keys.insert((digest.0, drop));
        if fresh { Ok(()) } else { Err(StoreError::Corrupt("a key is in the ledger already".to_owned())) }
    }
}

#[async_trait]
impl Ledger for MemoryLedger {
    async fn watermark(&self, journal: Uuid) -> Result<Option<Watermark>, StoreError> {
        let known = self.tables().watermarks.get(&journal).copied();
        Ok(known.and_then(|(epoch, sequence)| Some(Watermark { sequence: u64::try_from(sequence).ok()?, epoch })))
    }

    async fn project(&self, batch: &ProjectionBatch) -> Result<(), StoreError> {
        // A transaction: a copy that takes the place of the tables when all went well.
        let mut tables = self.backup();
        tables.project(batch)?;
        self.restore(tables);
        Ok(())
    }

    async fn drop_row(&self, id: DropId) -> Result<Option<DropRow>, StoreError> {
        Ok(self.tables().drops.get(&id).map(|(row, ..)| row.clone()))
    }

    async fn unsettled_drops(&self) -> Result<Vec<DropRow>, StoreError> {
        let tables = self.tables();
        Ok(tables.drops.values().filter(|(.., settled)| !settled).map(|(row, ..)| row.clone()).collect())
    }

    async fn drop_orders(
        &self,
        drop: DropId,
        after: Option<OrderId>,
        limit: u32,
    ) -> Result<Vec<OrderView>, StoreError> {
        let tables = self.tables();
        let orders = tables.orders.values().map(|(view, _)| view);
        let orders = orders.filter(|view| view.drop_id == drop && after.is_none_or(|after| view.id > after));
        Ok(orders.take(limit as usize).cloned().collect())
    }

    async fn drop_refusals(&self, drop: DropId, after: Option<u64>, limit: u32) -> Result<Vec<RefusalRow>, StoreError> {
        let tables = self.tables();
        let mut rows: Vec<RefusalRow> = tables.refusals.values().filter(|row| row.drop_id == drop).cloned().collect();
        rows.retain(|row| after.is_none_or(|after| row.sequence > after));
        rows.sort_unstable_by_key(|row| row.sequence);
        rows.truncate(limit as usize);
        Ok(rows)
    }
}
