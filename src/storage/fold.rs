//! The projection's arithmetic, pure: a batch of journal records and the rows that it touches in, final rows out.
//!
//! However many records of a batch are about one drop or one order, each of its rows is read once and written once. A
//! record that cannot follow from the rows is an error: it would mean that SQL and the journal disagree, and writing on
//! would hide that.

use super::model::{DropRow, RefusalRow, VariantRow};
use crate::domain::event::OrderLine;
use crate::domain::stock::StockBoard;
use crate::domain::{
    DropEvent, DropId, DropRecord, DropSpec, DropStatus, KeyDigest, OrderId, OrderStatus, OrderView, ReleaseReason,
    StockCounts, VariantId, VariantSpec,
};
use std::collections::{HashMap, HashSet};

/// A record that cannot follow from the rows.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("record {sequence} of drop {drop}: {what}")]
pub(super) struct Contradiction {
    /// The record.
    pub sequence: u64,
    /// Its drop.
    pub drop: DropId,
    /// What is wrong with it.
    pub what: &'static str,
}

/// A drop on its way from its rows to its rows.
#[derive(Debug)]
pub(super) struct DropImage {
    /// The row; its stock and status are those before the batch until [`Fold::finish`].
    pub row: DropRow,
    /// Orders of which a refund is owed, or whose payment has no outcome yet.
    pub obligations: u32,
    is_new: bool,
    board: StockBoard,
    /// As the rows have it now.
    before: Vec<VariantRow>,
}

/// What changes in a variant's row.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct VariantImage {
    /// The drop.
    pub drop: DropId,
    /// Its place in the spec.
    pub ordinal: usize,
    /// Its stock.
    pub stock: StockCounts,
    /// Whether it is low.
    pub low: bool,
}

/// An order that the batch places.
#[derive(Debug)]
pub(super) struct NewOrder {
    /// The order in its final state.
    pub view: OrderView,
    /// The digest of its key.
    pub digest: KeyDigest,
}

/// An order that was there before the batch, in its final state.
pub(super) type OrderImage = OrderView;

/// Which rows have to be read before a batch can be folded: those that it does not make itself.
#[derive(Debug, Default)]
pub(super) struct Touched {
    /// Drops, each once.
    pub drops: Vec<DropId>,
    /// Orders, each once.
    pub orders: Vec<OrderId>,
}

/// A fold in progress.
#[derive(Debug, Default)]
pub(super) struct Fold {
    drops: HashMap<DropId, DropImage>,
    placed: HashMap<OrderId, NewOrder>,
    orders: HashMap<OrderId, OrderImage>,
    refusals: Vec<RefusalRow>,
}

/// What has to be written.
#[derive(Debug, Default)]
pub(super) struct Rows {
    /// Drops that the batch made and drops that were there, in id order.
    pub drops: Vec<DropImage>,
    /// Variants of drops that were there, where something changed.
    pub variants: Vec<VariantImage>,
    /// Orders that the batch placed, in id order.
    pub placed: Vec<NewOrder>,
    /// Orders that were there, in id order.
    pub orders: Vec<OrderImage>,
    /// Refusals in sequence order.
    pub refusals: Vec<RefusalRow>,
}

fn order_of(event: &DropEvent) -> Option<OrderId> {
    match event {
        DropEvent::PaymentStarted { order, .. } | DropEvent::PaymentEnded { order } => Some(*order),
        DropEvent::Confirmed { line, .. }
        | DropEvent::Released { line, .. }
        | DropEvent::RefundDue { line, .. }
        | DropEvent::Refunded { line } => Some(line.order),
        _ => None,
    }
}

impl Touched {
    /// Looks a batch through.
    pub fn by(records: &[DropRecord]) -> Self {
        let (mut drops, mut orders) = (HashSet::new(), HashSet::new());
        let mut touched = Self::default();
        for record in records {
            match &record.event {
                DropEvent::Scheduled(_) => _ = drops.insert(record.drop),
                DropEvent::Reserved { order, .. } => _ = orders.insert(*order),
                event => touched.orders.extend(order_of(event).filter(|&id| orders.insert(id))),
            }
            if drops.insert(record.drop) {
                touched.drops.push(record.drop);
            }
        }
        touched
    }
}

impl DropImage {
    /// A drop that is in the database.
    pub fn stored(row: DropRow, obligations: u32) -> Self {
        let variants = row.variants.iter().map(|variant| (variant.id, variant.stock)).collect();
        let board = StockBoard { status: row.status, variants };
        Self { before: row.variants.clone(), row, obligations, is_new: false, board }
    }

    fn scheduled(spec: &DropSpec, record: &DropRecord) -> Self {
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

    /// Whether nothing can change any more: over, nothing held, no refund owed, no payment open, nobody left to refund. Held units are
    /// exactly the units of reserved orders, and sold ones those of confirmed orders that are owed no refund, so no
    /// order has to be looked at.
    pub fn is_settled(&self) -> bool {
        let sum = |count: fn(&VariantRow) -> u32| self.row.variants.iter().map(|v| u64::from(count(v))).sum::<u64>();
        let over = match self.row.status {
            DropStatus::Ended => true,
            DropStatus::Cancelled => sum(|variant| variant.stock.sold) == 0,
            DropStatus::Scheduled | DropStatus::Live | DropStatus::SoldOut => false,
        };
        over && self.obligations == 0 && sum(|variant| variant.stock.held) == 0
    }

    fn fold(&mut self, record: &DropRecord) -> Result<(), &'static str> {
        let row = &mut self.row;
        row.last_event_at = row.last_event_at.max(record.at);
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
            _ => {}
        }
        Ok(())
    }

    fn owe(&mut self, change: i64) -> Result<(), &'static str> {
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

    fn finish(&mut self) {
        self.row.status = self.board.status;
        for (variant, &(_, stock)) in self.row.variants.iter_mut().zip(&self.board.variants) {
            variant.stock = stock;
        }
    }

    fn changed_variants(&self) -> impl Iterator<Item = VariantImage> + '_ {
        let drop = self.row.spec.id;
        let pairs = self.before.iter().zip(&self.row.variants).enumerate();
        pairs.filter(|(_, (before, after))| before != after).map(move |(ordinal, (_, after))| VariantImage {
            drop,
            ordinal,
            stock: after.stock,
            low: after.low,
        })
    }

    /// Every variant: its drop, its place, its spec, its row.
    pub fn variants(&self) -> impl Iterator<Item = (DropId, usize, &VariantSpec, &VariantRow)> {
        let pairs = self.row.spec.variants.iter().zip(&self.row.variants).enumerate();
        pairs.map(|(ordinal, (spec, row))| (self.row.spec.id, ordinal, spec, row))
    }

    /// The row alone.
    pub fn into_row(self) -> DropRow {
        self.row
    }

    /// Whether the batch made it.
    pub fn is_new(&self) -> bool {
        self.is_new
    }
}

impl Fold {
    /// Begins with the rows that [`Touched`] asked for.
    pub fn new(drops: Vec<DropImage>, orders: Vec<OrderImage>) -> Self {
        Self {
            drops: drops.into_iter().map(|image| (image.row.spec.id, image)).collect(),
            orders: orders.into_iter().map(|view| (view.id, view)).collect(),
            ..Self::default()
        }
    }

    /// Folds one record in.
    pub fn apply(&mut self, sequence: u64, record: &DropRecord) -> Result<(), Contradiction> {
        self.try_apply(sequence, record).map_err(|what| Contradiction { sequence, drop: record.drop, what })
    }

    fn try_apply(&mut self, sequence: u64, record: &DropRecord) -> Result<(), &'static str> {
        let mut payments = 0;
        match &record.event {
            DropEvent::Scheduled(spec) => {
                if spec.id != record.drop {
                    return Err("the schedule is another drop's");
                }
                let known = self.drops.insert(record.drop, DropImage::scheduled(spec, record));
                return if known.is_none() { Ok(()) } else { Err("it was scheduled before") };
            }
            DropEvent::Reserved { payment_method, .. } => {
                payments = i64::from(payment_method.is_some());
                self.reserve(record)?;
            }
            DropEvent::Refused { .. } => self.refuse(sequence, record),
            event => {
                if let Some(id) = order_of(event) {
                    let order = self.order(id)?;
                    let paying = order.payment_pending.is_some();
                    settle(order, record)?;
                    payments = i64::from(order.payment_pending.is_some()) - i64::from(paying);
                }
            }
        }
        let drop = self.drops.get_mut(&record.drop).ok_or("the drop was never scheduled")?;
        drop.owe(payments)?;
        drop.fold(record)
    }

    fn order(&mut self, id: OrderId) -> Result<&mut OrderView, &'static str> {
        match self.placed.get_mut(&id) {
            Some(order) => Ok(&mut order.view),
            None => self.orders.get_mut(&id).ok_or("the order was never placed"),
        }
    }

    fn reserve(&mut self, record: &DropRecord) -> Result<(), &'static str> {
        let DropEvent::Reserved {
            order,
            buyer,
            variant,
            quantity,
            unit_price,
            expires_at,
            key,
            digest,
            fingerprint,
            payment_method,
        } = &record.event
        else {
            return Ok(());
        };
        let view = OrderView {
            id: *order,
            drop_id: record.drop,
            variant_id: *variant,
            buyer: *buyer,
            quantity: *quantity,
            unit_price: *unit_price,
            status: OrderStatus::Reserved,
            release_reason: None,
            key: key.to_string(),
            fingerprint: *fingerprint,
            created_at: record.at,
            expires_at: *expires_at,
            confirmed_at: None,
            released_at: None,
            refunded_at: None,
            payment_ref: None,
            payment_pending: payment_method.as_deref().map(str::to_owned),
            refund_due: None,
            failed_trace: None,
        };
        let known = self.placed.insert(*order, NewOrder { view, digest: *digest });
        if known.is_none() { Ok(()) } else { Err("the order was placed before") }
    }

    fn refuse(&mut self, sequence: u64, record: &DropRecord) {
        if let DropEvent::Refused { buyer, key, digest, fingerprint, refusal, trace } = &record.event {
            self.refusals.push(RefusalRow {
                sequence,
                drop_id: record.drop,
                buyer: *buyer,
                key: key.to_string(),
                digest: *digest,
                fingerprint: *fingerprint,
                refusal: *refusal,
                trace: *trace,
                at: record.at,
            });
        }
    }

    /// The rows to write.
    pub fn finish(self) -> Rows {
        let mut drops: Vec<DropImage> = self.drops.into_values().collect();
        drops.iter_mut().for_each(DropImage::finish);
        drops.sort_unstable_by_key(|image| image.row.spec.id);
        let variants = drops.iter().flat_map(DropImage::changed_variants).collect();
        let mut placed: Vec<NewOrder> = self.placed.into_values().collect();
        placed.sort_unstable_by_key(|order| order.view.id);
        let mut orders: Vec<OrderImage> = self.orders.into_values().collect();
        orders.sort_unstable_by_key(|view| view.id);
        Rows { drops, variants, placed, orders, refusals: self.refusals }
    }
}

/// Folds a later event into its order.
fn settle(order: &mut OrderView, record: &DropRecord) -> Result<(), &'static str> {
    if order.drop_id != record.drop {
        return Err("the order is another drop's");
    }
    match &record.event {
        DropEvent::PaymentEnded { .. } => order.payment_pending = None,
        DropEvent::PaymentStarted { method, .. } => {
            expect(order, OrderStatus::Reserved)?;
            order.payment_pending = Some(method.to_string());
        }
        DropEvent::Confirmed { line, payment_ref, retaken } => {
            same_line(order, line)?;
            expect(order, if *retaken { OrderStatus::Released } else { OrderStatus::Reserved })?;
            order.status = OrderStatus::Confirmed;
            order.confirmed_at = Some(record.at);
            (order.release_reason, order.released_at) = (None, None);
            order.payment_ref = payment_ref.as_deref().map(str::to_owned);
            order.payment_pending = None;
        }
        DropEvent::Released { line, reason, trace } => {
            same_line(order, line)?;
            expect(order, OrderStatus::Reserved)?;
            order.status = OrderStatus::Released;
            (order.release_reason, order.released_at) = (Some(*reason), Some(record.at));
            if *reason == ReleaseReason::PaymentFailed {
                order.payment_pending = None;
                order.failed_trace = Some(*trace);
            }
        }
        DropEvent::RefundDue { line, payment_ref, cause, was_sold } => {
            same_line(order, line)?;
            expect(order, if *was_sold { OrderStatus::Confirmed } else { OrderStatus::Released })?;
            if order.refund_due.is_some() {
                return Err("the refund is owed already");
            }
            order.refund_due = Some(*cause);
            // A free order has no payment to refer to.
            order.payment_ref = Some(payment_ref.to_string()).filter(|text| !text.is_empty());
            order.payment_pending = None;
        }
        DropEvent::Refunded { line } => {
            same_line(order, line)?;
            if order.refund_due.take().is_none() {
                return Err("no refund is owed for the order");
            }
            order.refunded_at = Some(record.at);
            // Where the money came too late the order was never confirmed: it stays released.
            if order.status == OrderStatus::Confirmed {
                order.status = OrderStatus::Refunded;
            }
        }
        _ => {}
    }
    Ok(())
}

fn expect(order: &OrderView, status: OrderStatus) -> Result<(), &'static str> {
    if order.status == status { Ok(()) } else { Err("the order's state does not allow it") }
}

/// An event says by itself what it is about; that has to be what the order says, or the stock goes wrong.
fn same_line(order: &OrderView, line: &OrderLine) -> Result<(), &'static str> {
    let same = order.variant_id == line.variant && order.quantity == line.quantity && order.buyer == line.buyer;
    if same { Ok(()) } else { Err("buyer, variant or quantity are not the order's") }
}
