//! The form of a drop in a checkpoint: an *image* of the drop itself, and a *row* for each order. Pure: bytes in and out.
//!
//! A drop of millions of orders is copied a few thousand rows at a time while it goes on selling, and all of the copy is true at the moment at
//! which it began: [`DropState::begin_copy`] notes how many orders there are, and from then on [`DropState::evolve`] keeps the row of each order
//! that changes before it is copied. Orders that come later are not part of the copy. While nothing is copied this costs one comparison per event.
//!
//! A row has what a row in SQL has. Indexes, units per buyer and strikes follow from rows, see [`Restore`]; so nothing in a checkpoint depends on
//! how memory is laid out, and a restored drop is the one that recovery from SQL gives.

use super::copying::Copying;
use super::orders::{Order, Orders, Slot};
use super::state::{DropState, Restore};
use crate::domain::{
    AddressVersionId, DeclineReason, Delivery, DropEvent, DropId, DropRecord, DropSpec, DropStatus, Fingerprint,
    KeyDigest, OrderId, OrderStatus, OrderView, PaymentFacts, PaymentProvider, RefundCause, ReleaseReason, StockCounts,
    Timestamp, TraceId, UserId, VariantSpec,
};
use hashbrown::HashMap;
use uuid::Uuid;

/// Bytes of a row without its optional parts.
pub const ROW_BYTES_MIN: usize = 82;
/// Rows kept for a copy that has not come to them yet, at least; in a larger drop a quarter of its orders. Past it the copy is given up.
const KEPT_ROWS_MIN: usize = 65_536;

const HAS_PAYMENT_REF: u8 = 1;
const HAS_PAYMENT_PENDING: u8 = 1 << 1;
const HAS_REFUND_DUE: u8 = 1 << 2;
const HAS_REFUNDED_AT: u8 = 1 << 3;
const HAS_FAILED_TRACE: u8 = 1 << 4;
const HAS_PAYMENT_FACTS: u8 = 1 << 5;
const HAS_DELIVERY: u8 = 1 << 6;
const FLAGS: u8 = (1 << 7) - 1;

/// What a copy begins with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CopyStart {
    /// The drop itself.
    pub image: Vec<u8>,
    /// How many rows will follow.
    pub orders: u32,
    /// [`DropState::changes`] at this moment.
    pub changes: u64,
}

/// The next rows of a copy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rows {
    /// The rows, one behind the other.
    pub bytes: Vec<u8>,
    /// How many they are.
    pub count: u32,
    /// Whether they are the last.
    pub is_last: bool,
}

/// Bytes that no drop can be made of.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The drop itself cannot be read.
    #[error("the drop's image: {0}")]
    Image(String),
    /// A row cannot be read, or does not belong there.
    #[error("row {row}: {what}")]
    Row {
        /// Its number, from 0.
        row: u32,
        /// Why.
        what: String,
    },
    /// Rows and image contradict each other.
    #[error("{0}")]
    Contradiction(String),
}

impl DropState {
    /// Begins a copy of everything as it is now. A copy that was under way is given up.
    pub fn begin_copy(&mut self) -> CopyStart {
        let orders = u32::try_from(self.orders.len()).expect("KEYS_PER_DROP_MAX is below 2^32");
        self.copying = Some(Box::new(Copying { end: orders, next: 0, kept: HashMap::new() }));
        CopyStart { image: self.image(orders), orders, changes: self.changes() }
    }

    /// The next rows of the copy, `count_max` at most. `None` where there is no copy: it was ended, or given up because too much changed meanwhile.
    pub fn copy_rows(&mut self, count_max: u32) -> Option<Rows> {
        let copying = self.copying.as_deref_mut()?;
        let first = copying.next;
        let end = copying.end.min(first.saturating_add(count_max));
        let count = end - first;
        let mut bytes = Vec::with_capacity(count as usize * (ROW_BYTES_MIN + 40));
        for slot in first..end {
            match copying.kept.remove(&slot) {
                Some(row) => bytes.extend_from_slice(&row),
                None => write_row(&self.orders, slot, &mut bytes),
            }
        }
        copying.next = end;
        let is_last = end == copying.end;
        if is_last {
            self.copying = None;
        }
        Some(Rows { bytes, count, is_last })
    }

    /// Gives up the copy that is under way, if one is.
    pub fn end_copy(&mut self) {
        self.copying = None;
    }

    /// Keeps the row of the order that an event is about to change, where the copy has not come to it yet.
    pub(super) fn keep_for_copy(&mut self, event: &DropEvent) {
        let Some(copying) = self.copying.as_deref_mut() else { return };
        let Some(slot) = event.order().and_then(|order| self.orders.find(order)) else { return };
        if slot >= copying.end || slot < copying.next {
            return;
        }
        copying.kept.entry(slot).or_insert_with(|| {
            let mut row = Vec::with_capacity(ROW_BYTES_MIN + 40);
            write_row(&self.orders, slot, &mut row);
            row.into_boxed_slice()
        });
        if copying.kept.len() > KEPT_ROWS_MIN.max(copying.end as usize / 4) {
            self.copying = None;
        }
    }

    fn image(&self, orders: u32) -> Vec<u8> {
        let mut out = Vec::with_capacity(512);
        let spec = DropSpec::clone(&self.spec);
        let record = DropRecord { drop: spec.id, at: self.last_at, event: DropEvent::Scheduled(Box::new(spec)) };
        let mut encoded = Vec::new();
        record.encode(&mut encoded);
        put_bytes(&mut out, &encoded);
        out.push(number_of(&DropStatus::ALL, self.status));
        put_time(&mut out, self.started_at);
        put_time(&mut out, self.ended_at);
        out.extend_from_slice(&orders.to_le_bytes());
        for variant in &self.variants {
            let StockCounts { total, available, held, sold } = variant.counts;
            [total, available, held, sold].iter().for_each(|count| out.extend_from_slice(&count.to_le_bytes()));
            out.push(u8::from(variant.low));
        }
        out
    }
}

/// The position of a value in the list of all of them: such lists only ever grow at their end.
fn number_of<T: PartialEq>(all: &[T], value: T) -> u8 {
    let at = all.iter().position(|other| *other == value).expect("a list of all values");
    u8::try_from(at).expect("a handful of values")
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = u32::try_from(bytes.len()).expect("smaller than a journal record");
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(bytes);
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    let length = u16::try_from(text.len()).expect("a text is shorter than a journal record");
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn put_time(out: &mut Vec<u8>, at: Option<Timestamp>) {
    out.push(u8::from(at.is_some()));
    out.extend_from_slice(&at.map_or(0, Timestamp::as_millis).to_le_bytes());
}

fn write_row(orders: &Orders, slot: Slot, out: &mut Vec<u8>) {
    let order: &Order = orders.get(slot);
    out.extend_from_slice(order.id.0.as_bytes());
    out.extend_from_slice(order.buyer.0.as_bytes());
    out.extend_from_slice(order.digest.0.as_bytes());
    out.extend_from_slice(&order.fingerprint.0.to_le_bytes());
    out.extend_from_slice(&order.created_at.as_millis().to_le_bytes());
    // While it is reserved, memory has the end of its hold by this process's steady clock, which says nothing to the next process.
    let settled_at = if order.status == OrderStatus::Reserved { order.expires_at() } else { order.settled_at };
    out.extend_from_slice(&settled_at.as_millis().to_le_bytes());
    out.extend_from_slice(&order.hold_ms().to_le_bytes());
    let quantity = u16::try_from(order.quantity()).expect("QUANTITY_PER_ORDER_MAX fits into 16 bits");
    out.extend_from_slice(&quantity.to_le_bytes());
    out.push(u8::try_from(order.variant()).expect("VARIANTS_PER_DROP_MAX fits into 8 bits"));
    out.push(number_of(OrderStatus::ALL, order.status));
    out.push(order.reason.map_or(0, |reason| number_of(ReleaseReason::ALL, reason) + 1));
    let payment_ref = orders.payment_ref(slot);
    let pending = lookup(!orders.paying.is_empty(), || orders.paying.get(&slot));
    let refund_due = lookup(!orders.refunds.is_empty(), || orders.refunds.get(&slot).copied());
    let refunded_at = lookup(!orders.refunded.is_empty(), || orders.refunded.get(&slot).copied());
    let failed_trace = lookup(!orders.failed.is_empty(), || orders.failed.get(&slot).copied());
    let facts = orders.kept_facts(slot);
    let delivery = lookup(!orders.deliveries.is_empty(), || orders.deliveries.get(&slot));
    let flag = |is_there: bool, flag: u8| if is_there { flag } else { 0 };
    out.push(
        flag(payment_ref.is_some(), HAS_PAYMENT_REF)
            | flag(pending.is_some(), HAS_PAYMENT_PENDING)
            | flag(refund_due.is_some(), HAS_REFUND_DUE)
            | flag(refunded_at.is_some(), HAS_REFUNDED_AT)
            | flag(failed_trace.is_some(), HAS_FAILED_TRACE)
            | flag(facts.is_some(), HAS_PAYMENT_FACTS)
            | flag(delivery.is_some(), HAS_DELIVERY),
    );
    if let Some(text) = payment_ref {
        put_text(out, text);
    }
    if let Some(text) = pending {
        put_text(out, text);
    }
    if let Some(cause) = refund_due {
        out.push(number_of(RefundCause::ALL, cause));
    }
    if let Some(at) = refunded_at {
        out.extend_from_slice(&at.as_millis().to_le_bytes());
    }
    if let Some(trace) = failed_trace {
        out.extend_from_slice(trace.0.as_bytes());
    }
    if let Some(facts) = facts {
        out.push(facts.provider.map_or(0, |provider| number_of(PaymentProvider::ALL, provider) + 1));
        out.extend_from_slice(&facts.attempts.to_le_bytes());
        out.push(u8::from(facts.capture_due));
        out.push(facts.declined.map_or(0, |reason| number_of(DeclineReason::ALL, reason) + 1));
    }
    if let Some(Delivery { address, country, shipping }) = delivery {
        out.extend_from_slice(address.0.as_bytes());
        out.extend_from_slice(country.as_str().as_bytes());
        out.extend_from_slice(&shipping.to_le_bytes());
    }
}

/// Most drops have nothing in most of these maps: no hash is computed for them.
fn lookup<T>(has_any: bool, get: impl FnOnce() -> Option<T>) -> Option<T> {
    if has_any { get() } else { None }
}

/// Makes a drop of an image and its rows: [`CheckpointDecoder::begin`], all rows in their order, [`CheckpointDecoder::finish`].
pub struct CheckpointDecoder {
    restore: Restore,
    drop: DropId,
    variants: Vec<VariantSpec>,
    /// Of each variant the units that the image says are held and sold, less those of the rows so far.
    missing: Vec<(i64, i64)>,
    orders: u32,
    read: u32,
}

impl CheckpointDecoder {
    /// Reads an image.
    ///
    /// # Errors
    /// [`CheckpointError::Image`] for anything that [`DropState::begin_copy`] did not write.
    pub fn begin(image: &[u8]) -> Result<Self, CheckpointError> {
        let mut input = Input(image);
        let malformed = |what: &str| CheckpointError::Image(what.to_owned());
        let short = || malformed("it is cut off");
        let length = input.u32().ok_or_else(short)? as usize;
        let record = DropRecord::decode(input.take(length).ok_or_else(short)?)
            .map_err(|error| CheckpointError::Image(error.to_string()))?;
        let DropEvent::Scheduled(spec) = record.event else { return Err(malformed("it describes no drop")) };
        let status = input.one_of(&DropStatus::ALL).ok_or_else(|| malformed("an unknown status"))?;
        let started_at = input.time().ok_or_else(short)?;
        let ended_at = input.time().ok_or_else(short)?;
        let orders = input.u32().ok_or_else(short)?;
        let mut variants = Vec::with_capacity(spec.variants.len());
        for _ in &spec.variants {
            let mut count = || input.u32().ok_or_else(short);
            let counts = StockCounts { total: count()?, available: count()?, held: count()?, sold: count()? };
            if !counts.balances() {
                return Err(malformed("the stock equation does not hold"));
            }
            variants.push((counts, input.u8().ok_or_else(short)? != 0));
        }
        if !input.0.is_empty() {
            return Err(malformed("bytes follow it"));
        }
        Ok(Self {
            drop: spec.id,
            variants: spec.variants.clone(),
            missing: variants.iter().map(|(counts, _)| (counts.held.into(), counts.sold.into())).collect(),
            restore: Restore::new(*spec, status, (started_at, ended_at, record.at), &variants),
            orders,
            read: 0,
        })
    }

    /// The drop.
    #[must_use]
    pub fn drop_id(&self) -> DropId {
        self.drop
    }

    /// Reads the next rows.
    ///
    /// # Errors
    /// [`CheckpointError::Row`]; the drop cannot be made any more.
    pub fn rows(&mut self, bytes: &[u8]) -> Result<(), CheckpointError> {
        let mut input = Input(bytes);
        while !input.0.is_empty() {
            let row = self.read;
            let failed = |what: &str| CheckpointError::Row { row, what: what.to_owned() };
            if row == self.orders {
                return Err(failed("more rows than the drop has orders"));
            }
            let order = self.row(&mut input).ok_or_else(|| failed("it is no row"))?;
            self.restore.order(order).map_err(|what| CheckpointError::Row { row, what })?;
            self.read += 1;
        }
        Ok(())
    }

    fn row(&mut self, input: &mut Input<'_>) -> Option<OrderView> {
        let (id, buyer, digest) = (OrderId(input.uuid()?), UserId(input.uuid()?), KeyDigest(input.uuid()?));
        let fingerprint = Fingerprint(u64::from_le_bytes(input.array()?));
        let created_at = Timestamp::from_millis(input.i64()?);
        let settled_at = Timestamp::from_millis(input.i64()?);
        let hold_ms = input.u32()?;
        let quantity = u32::from(u16::from_le_bytes(input.array()?));
        let at = usize::from(input.u8()?);
        let variant = self.variants.get(at)?;
        let status = input.one_of(OrderStatus::ALL)?;
        let release_reason = input.maybe_one_of(ReleaseReason::ALL)?;
        let flags = input.u8().filter(|flags| flags & !FLAGS == 0)?;
        let has = |flag: u8| flags & flag != 0;
        let payment_ref = if has(HAS_PAYMENT_REF) { Some(input.text()?.to_owned()) } else { None };
        let payment_pending = if has(HAS_PAYMENT_PENDING) { Some(input.text()?.to_owned()) } else { None };
        let refund_due = if has(HAS_REFUND_DUE) { Some(input.one_of(RefundCause::ALL)?) } else { None };
        let refunded_at = if has(HAS_REFUNDED_AT) { Some(Timestamp::from_millis(input.i64()?)) } else { None };
        let failed_trace = if has(HAS_FAILED_TRACE) { Some(TraceId(input.uuid()?)) } else { None };
        let was_tried = payment_ref.is_some() || payment_pending.is_some() || failed_trace.is_some();
        let payment = if has(HAS_PAYMENT_FACTS) { input.facts()? } else { PaymentFacts::assumed(was_tried) };
        let delivery = if has(HAS_DELIVERY) { Some(Box::new(input.delivery()?)) } else { None };
        let (held, sold) = self.missing.get_mut(at)?;
        match status {
            OrderStatus::Reserved => *held -= i64::from(quantity),
            OrderStatus::Confirmed if refund_due.is_none() => *sold -= i64::from(quantity),
            _ => {}
        }
        let was_confirmed = matches!(status, OrderStatus::Confirmed | OrderStatus::Refunded);
        Some(OrderView {
            id,
            drop_id: self.drop,
            variant_id: variant.id,
            buyer,
            quantity,
            unit_price: variant.price,
            status,
            release_reason,
            digest,
            fingerprint,
            created_at,
            expires_at: created_at.plus_millis(hold_ms.into()),
            confirmed_at: was_confirmed.then_some(settled_at),
            released_at: (status == OrderStatus::Released).then_some(settled_at),
            refunded_at,
            payment_ref,
            payment_pending,
            refund_due,
            failed_trace,
            payment,
            delivery,
        })
    }

    /// The drop, ready for the journal's records after the checkpoint.
    ///
    /// # Errors
    /// [`CheckpointError::Contradiction`] where rows are missing, or are not those that the stock was counted from.
    pub fn finish(self) -> Result<DropState, CheckpointError> {
        let Self { restore, missing, orders, read, .. } = self;
        if read != orders {
            return Err(CheckpointError::Contradiction(format!("{read} rows of {orders} orders")));
        }
        if missing.iter().any(|missing| *missing != (0, 0)) {
            return Err(CheckpointError::Contradiction("the stock and the rows disagree".to_owned()));
        }
        Ok(restore.finish())
    }
}

/// What is left to read.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn i64(&mut self) -> Option<i64> {
        self.array().map(i64::from_le_bytes)
    }

    fn uuid(&mut self) -> Option<Uuid> {
        self.array().map(Uuid::from_bytes)
    }

    fn text(&mut self) -> Option<&'a str> {
        let length = u16::from_le_bytes(self.array()?);
        std::str::from_utf8(self.take(length.into())?).ok()
    }

    fn time(&mut self) -> Option<Option<Timestamp>> {
        let (is_there, millis) = (self.u8()?, self.i64()?);
        Some((is_there != 0).then(|| Timestamp::from_millis(millis)))
    }

    fn delivery(&mut self) -> Option<Delivery> {
        let address = AddressVersionId(self.uuid()?);
        let country = std::str::from_utf8(self.take(2)?).ok()?.parse().ok()?;
        Some(Delivery { address, country, shipping: self.i64()? })
    }

    fn facts(&mut self) -> Option<PaymentFacts> {
        Some(PaymentFacts {
            provider: self.maybe_one_of(PaymentProvider::ALL)?,
            attempts: self.u32()?,
            capture_due: self.u8()? != 0,
            declined: self.maybe_one_of(DeclineReason::ALL)?,
        })
    }

    /// 0 for none, else the number of a value, from 1.
    fn maybe_one_of<T: Copy>(&mut self, all: &[T]) -> Option<Option<T>> {
        match self.u8()? {
            0 => Some(None),
            number => all.get(usize::from(number) - 1).copied().map(Some),
        }
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> Option<T> {
        all.get(usize::from(self.u8()?)).copied()
    }
}

#[cfg(test)]
mod tests;
