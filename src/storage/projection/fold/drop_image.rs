//! One drop in the fold: its row, the rows of its variants, and whether it is settled.

use crate::domain::stock::StockBoard;
use crate::domain::{DropEvent, DropId, DropRecord, DropSpec, DropStatus, StockCounts, VariantId, VariantSpec};
use crate::storage::model::{DropRow, VariantRow};

/// A drop's rows while a batch is folded in.
#[derive(Debug)]
pub(in crate::storage) struct DropImage {
    /// The row; its stock and status are those before the batch until the fold is finished.
    pub row: DropRow,
    /// Orders with a refund due, or with a payment of unknown outcome.
    pub obligations: u32,
    is_new: bool,
    board: StockBoard,
    /// The stored rows, to find changed variants.
    before: Vec<VariantRow>,
}

/// The changed columns of a variant's row.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::storage) struct VariantImage {
    pub drop: DropId,
    /// The variant's index in the spec.
    pub ordinal: usize,
    pub stock: StockCounts,
    /// Whether `stock_low` was published since the free units were last above the threshold.
    pub low: bool,
}

impl DropImage {
    /// An existing drop, as stored.
    pub fn stored(row: DropRow, obligations: u32) -> Self {
        let variants = row.variants.iter().map(|variant| (variant.id, variant.stock)).collect();
        let board = StockBoard { status: row.status, variants };
        Self { before: row.variants.clone(), row, obligations, is_new: false, board }
    }

    pub(super) fn scheduled(spec: &DropSpec, record: &DropRecord) -> Self {
        let board = StockBoard::new(spec);
        let variants = board.variants.iter().map(|&(id, stock)| VariantRow { id, stock, low: false }).collect();
        let row = DropRow {
            spec: spec.clone(),
            status: board.status,
            started_at: None,
            ended_at: None,
            last_event_at: record.at,
            variants,
        };
        Self { before: Vec::new(), row, obligations: 0, is_new: true, board }
    }

    /// Whether nothing can change any more: over, nothing held, no refund due, no open payment, no sold order left to
    /// refund. Held units are exactly the units of reserved orders, and sold ones those of confirmed orders without a
    /// refund due, so no order has to be read.
    pub fn is_settled(&self) -> bool {
        let sum = |count: fn(&VariantRow) -> u32| self.row.variants.iter().map(|v| u64::from(count(v))).sum::<u64>();
        let over = match self.row.status {
            DropStatus::Ended => true,
            DropStatus::Cancelled => sum(|variant| variant.stock.sold) == 0,
            DropStatus::Scheduled | DropStatus::Live | DropStatus::SoldOut => false,
        };
        over && self.obligations == 0 && sum(|variant| variant.stock.held) == 0
    }

    pub(super) fn fold(&mut self, record: &DropRecord) -> Result<(), &'static str> {
        let row = &mut self.row;
        row.last_event_at = record.at;
        self.board.fold(&record.event).ok_or("the stock cannot follow")?;
        match &record.event {
            DropEvent::Started => row.started_at = Some(record.at),
            DropEvent::Ended | DropEvent::Cancelled => row.ended_at = Some(record.at),
            DropEvent::StockLow { variant, .. } => {
                self.variant(*variant)?.low = true;
            }
            DropEvent::Restocked { variant, .. } => self.settle_low(*variant)?,
            DropEvent::Released { line, .. } => self.settle_low(line.variant)?,
            DropEvent::RefundDue { line, was_sold, .. } => {
                self.owe(1)?;
                if *was_sold {
                    self.settle_low(line.variant)?;
                }
            }
            DropEvent::Refunded { .. } => self.owe(-1)?,
            DropEvent::Rescheduled { starts_at, ends_at } => {
                (row.spec.starts_at, row.spec.ends_at) = (*starts_at, *ends_at);
            }
            _ => {}
        }
        Ok(())
    }

    /// Adds `change` to the number of obligations.
    pub(super) fn owe(&mut self, change: i64) -> Result<(), &'static str> {
        let owed = i64::from(self.obligations) + change;
        self.obligations = u32::try_from(owed).map_err(|_| "nothing is owed in this drop")?;
        Ok(())
    }

    fn variant(&mut self, id: VariantId) -> Result<&mut VariantRow, &'static str> {
        self.row.variants.iter_mut().find(|variant| variant.id == id).ok_or("the drop has no such variant")
    }

    /// `low` ends when free units rise above the threshold.
    fn settle_low(&mut self, id: VariantId) -> Result<(), &'static str> {
        let available =
            self.board.variants.iter().find(|(variant, _)| *variant == id).map(|(_, stock)| stock.available);
        let above = available.is_some_and(|available| available > self.row.spec.low_stock_threshold);
        let variant = self.variant(id)?;
        variant.low &= !above;
        Ok(())
    }

    pub(super) fn finish(&mut self) {
        self.row.status = self.board.status;
        for (variant, &(_, stock)) in self.row.variants.iter_mut().zip(&self.board.variants) {
            variant.stock = stock;
        }
    }

    pub(super) fn changed_variants(&self) -> impl Iterator<Item = VariantImage> + '_ {
        let drop = self.row.spec.id;
        let pairs = self.before.iter().zip(&self.row.variants).enumerate();
        pairs.filter(|(_, (before, after))| before != after).map(move |(ordinal, (_, after))| VariantImage {
            drop,
            ordinal,
            stock: after.stock,
            low: after.low,
        })
    }

    /// Every variant: its drop, its index, its spec, its row.
    pub fn variants(&self) -> impl Iterator<Item = (DropId, usize, &VariantSpec, &VariantRow)> {
        let pairs = self.row.spec.variants.iter().zip(&self.row.variants).enumerate();
        pairs.map(|(ordinal, (spec, row))| (self.row.spec.id, ordinal, spec, row))
    }

    pub fn into_row(self) -> DropRow {
        self.row
    }

    /// Whether the batch created the drop.
    pub fn is_new(&self) -> bool {
        self.is_new
    }
}
