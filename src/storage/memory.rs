//! A [`Ledger`] in memory, for the simulation: the same fold as the databases', with maps as tables; a clone is a
//! backup.

use super::{Aside, DropRow, Ledger, ProjectionBatch, SetAside, SetAsideDrop, StoreError, UnreadRecord, Watermark};
use crate::domain::{DropId, DropRecord, KeyDigest, OrderId, OrderView};
use crate::storage::projection::apply::{NOTHING_APPLIED, around, is_next, notifications};
use crate::storage::projection::aside::AsideRow;
use crate::storage::projection::fold::{DropImage, Fold, Rows, Touched};
use async_trait::async_trait;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
};
use uuid::Uuid;

/// A ledger whose tables are behind one mutex.
#[derive(Default)]
pub(crate) struct MemoryLedger(Mutex<Tables>);

/// All tables of a ledger; a clone is a backup.
#[derive(Clone, Default)]
pub(crate) struct Tables {
    /// A drop, its number of obligations, and whether it is settled.
    drops: BTreeMap<DropId, (DropRow, u32, bool)>,
    orders: BTreeMap<OrderId, (OrderView, KeyDigest)>,
    /// A key has one order at each drop.
    keys: BTreeSet<(Uuid, DropId)>,
    aside: BTreeMap<(Uuid, DropId, u64), AsideRow>,
    /// Epoch and last applied sequence of each journal.
    watermarks: BTreeMap<Uuid, (u32, i64)>,
}

impl MemoryLedger {
    /// A copy of all tables.
    pub(crate) fn backup(&self) -> Tables {
        self.tables().clone()
    }

    /// Replaces all tables by a backup.
    pub(crate) fn restore(&self, tables: Tables) {
        *self.tables() = tables;
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tables {
    fn project(&mut self, batch: &ProjectionBatch, aside: &Aside) -> Result<(), StoreError> {
        let (theirs, applied) = self.watermarks.get(&batch.journal).copied().unwrap_or((batch.epoch, NOTHING_APPLIED));
        if theirs > batch.epoch {
            return Err(StoreError::Fenced { ours: batch.epoch, theirs });
        }
        if batch.records.is_empty() {
            return Ok(());
        }
        let (first, records) = notifications(batch, applied)?;
        let (taken, left) = around(first, records, aside);
        self.apply(&taken)?;
        for row in left {
            self.aside.insert((batch.journal, row.drop, row.sequence), row);
        }
        let last = i64::try_from(first).map_or(i64::MAX, |first| first.saturating_add_unsigned(records.len() as u64));
        self.watermarks.insert(batch.journal, (batch.epoch, last - 1));
        Ok(())
    }

    fn apply(&mut self, records: &[(u64, &DropRecord)]) -> Result<(), StoreError> {
        let mut fold = self.read(records);
        for (sequence, record) in records {
            fold.apply(*sequence, record)
                .map_err(|contradiction| StoreError::Unacceptable(contradiction.to_string()))?;
        }
        self.write(fold.finish())
    }

    fn read(&self, records: &[(u64, &DropRecord)]) -> Fold {
        let touched = Touched::by(records.iter().map(|(_, record)| *record));
        let drops = touched.drops.iter().filter_map(|id| self.drops.get(id));
        let drops = drops.map(|(row, owed, _)| DropImage::stored(row.clone(), *owed)).collect();
        let orders = touched.orders.iter().filter_map(|id| self.orders.get(id)).map(|(view, _)| view.clone()).collect();
        Fold::new(drops, orders)
    }

    fn write(&mut self, rows: Rows) -> Result<(), StoreError> {
        for drop in rows.drops {
            let (owed, settled) = (drop.obligations, drop.is_settled());
            let row = drop.into_row();
            self.drops.insert(row.spec.id, (row, owed, settled));
        }
        for order in rows.placed {
            self.take_key(order.digest, order.view.drop_id)?;
            if self.orders.insert(order.view.id, (order.view, order.digest)).is_some() {
                return Err(StoreError::Unacceptable("an order is in the ledger already".to_owned()));
            }
        }
        for view in rows.orders {
            if let Some((known, _)) = self.orders.get_mut(&view.id) {
                *known = view;
            }
        }
        Ok(())
    }

    fn take_key(&mut self, digest: KeyDigest, drop: DropId) -> Result<(), StoreError> {
        let fresh = self.keys.insert((digest.0, drop));
        if fresh { Ok(()) } else { Err(StoreError::Unacceptable("a key is in the ledger already".to_owned())) }
    }
}

#[async_trait]
impl Ledger for MemoryLedger {
    async fn watermark(&self, journal: Uuid) -> Result<Option<Watermark>, StoreError> {
        let known = self.tables().watermarks.get(&journal).copied();
        Ok(known.and_then(|(epoch, sequence)| Some(Watermark { sequence: u64::try_from(sequence).ok()?, epoch })))
    }

    async fn project_around(&self, batch: &ProjectionBatch, aside: &Aside) -> Result<(), StoreError> {
        // A transaction: a copy replaces the tables if everything succeeds.
        let mut tables = self.backup();
        tables.project(batch, aside)?;
        self.restore(tables);
        Ok(())
    }

    async fn set_aside_unread(&self, journal: Uuid, epoch: u32, record: &UnreadRecord) -> Result<(), StoreError> {
        let mut tables = self.tables();
        let (theirs, applied) = tables.watermarks.get(&journal).copied().unwrap_or((epoch, NOTHING_APPLIED));
        if theirs > epoch {
            return Err(StoreError::Fenced { ours: epoch, theirs });
        }
        if is_next(record.sequence, applied)? {
            let row = AsideRow::of_unread(record);
            tables.aside.insert((journal, row.drop, row.sequence), row);
            tables.watermarks.insert(journal, (epoch, record.sequence.cast_signed()));
        }
        Ok(())
    }

    async fn set_aside_drops(&self, journal: Uuid) -> Result<Vec<SetAsideDrop>, StoreError> {
        let tables = self.tables();
        let mut drops: BTreeMap<DropId, SetAsideDrop> = BTreeMap::new();
        for ((_, drop, sequence), row) in tables.aside.iter().filter(|((of, ..), _)| *of == journal) {
            let first =
                || SetAsideDrop { drop: *drop, first_sequence: *sequence, records: 0, reason: row.reason.clone() };
            drops.entry(*drop).or_insert_with(first).records += 1;
        }
        let mut drops: Vec<SetAsideDrop> = drops.into_values().collect();
        drops.sort_unstable_by_key(|drop| drop.first_sequence);
        Ok(drops)
    }

    async fn set_aside(
        &self,
        journal: Uuid,
        drop: DropId,
        after: u64,
        limit: u32,
    ) -> Result<Vec<SetAside>, StoreError> {
        let tables = self.tables();
        let rows = tables.aside.range((journal, drop, after + 1)..=(journal, drop, u64::MAX)).take(limit as usize);
        let read =
            |row: &AsideRow| DropRecord::decode(&row.bytes).map_err(|error| StoreError::Corrupt(error.to_string()));
        rows.map(|(_, row)| Ok(SetAside { sequence: row.sequence, record: read(row)? })).collect()
    }

    async fn apply_set_aside(&self, journal: Uuid, _epoch: u32, records: &[SetAside]) -> Result<(), StoreError> {
        let mut tables = self.backup();
        let numbered: Vec<(u64, &DropRecord)> = records.iter().map(|aside| (aside.sequence, &aside.record)).collect();
        tables.apply(&numbered)?;
        for SetAside { sequence, record } in records {
            tables.aside.remove(&(journal, record.drop, *sequence));
        }
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
}
