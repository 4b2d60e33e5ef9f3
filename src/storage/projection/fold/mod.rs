//! The projection as a pure function: from a batch of journal records and the rows that it touches to the final rows.
//!
//! Each row is read once and written once, however many records of a batch are about its drop or order. A record that
//! cannot follow from the rows is an error: SQL and the journal disagree, and more writes would hide that.

use crate::domain::{DropEvent, DropId, DropRecord, KeyDigest, OrderId, OrderStatus, OrderView, PaymentFacts};
use crate::storage::model::{AuditRow, OrderNote, PaymentNote};
// The server makes these ids, so nobody can cause collisions on purpose: the faster hash is enough.
use hashbrown::{HashMap, HashSet};
use uuid::Uuid;

mod audit;
mod drop_image;
mod notifications;
mod order;
mod payment;
#[cfg(test)]
mod tests;

pub(in crate::storage) use drop_image::{DropImage, VariantImage};
pub(in crate::storage) use notifications::{DropNotification, OrderNotification};

/// The error for a record that cannot follow from the rows.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("record {sequence} of drop {drop}: {what}")]
pub(in crate::storage) struct Contradiction {
    pub sequence: u64,
    pub drop: DropId,
    /// The fault, in a few words.
    pub what: &'static str,
}

/// An order that the batch places.
#[derive(Debug)]
pub(in crate::storage) struct NewOrder {
    /// The order in its final state.
    pub view: OrderView,
    /// The digest of its key.
    pub digest: KeyDigest,
}

/// An order from before the batch, in its final state.
pub(in crate::storage) type OrderImage = OrderView;

/// The rows to read before a batch can be folded: those that it does not create.
#[derive(Debug, Default)]
pub(in crate::storage) struct Touched {
    /// Drops in the batch, each once.
    pub drops: Vec<DropId>,
    /// Orders in the batch, each once.
    pub orders: Vec<OrderId>,
}

/// A fold in progress.
#[derive(Debug, Default)]
pub(in crate::storage) struct Fold {
    drops: HashMap<DropId, DropImage>,
    /// In the order of their records, which is nearly the order of their ids.
    placed: Vec<NewOrder>,
    places: HashMap<OrderId, usize>,
    orders: HashMap<OrderId, OrderImage>,
    audits: Vec<AuditRow>,
    keyed: Vec<Uuid>,
    notes: Vec<OrderNote>,
    steps: Vec<PaymentNote>,
    order_notifications: Vec<OrderNotification>,
    drop_notifications: Vec<DropNotification>,
}

/// The rows to write.
#[derive(Debug, Default)]
pub(in crate::storage) struct Rows {
    /// Drops that the batch created or changed, in id order.
    pub drops: Vec<DropImage>,
    /// Changed variants of existing drops.
    pub variants: Vec<VariantImage>,
    /// Orders that the batch placed, by their drops' tags, then in id order.
    pub placed: Vec<NewOrder>,
    /// Changed orders from before the batch, in id order.
    pub orders: Vec<OrderImage>,
    /// Audit lines of commands given by hand, in sequence order.
    pub audits: Vec<AuditRow>,
    /// Attempts under idempotency keys with a record in the batch.
    pub keyed: Vec<Uuid>,
    /// History that the orders' rows do not keep, in sequence order.
    pub notes: Vec<OrderNote>,
    /// History of payments, in sequence order.
    pub steps: Vec<PaymentNote>,
    /// For the buyers' inboxes, in sequence order.
    pub order_notifications: Vec<OrderNotification>,
    /// For the followers' inboxes, in sequence order.
    pub drop_notifications: Vec<DropNotification>,
}

impl Touched {
    /// Finds the rows that a batch needs.
    pub fn by<'a>(records: impl IntoIterator<Item = &'a DropRecord>) -> Self {
        let (mut drops, mut orders) = (HashSet::new(), HashSet::new());
        let mut touched = Self::default();
        for record in records {
            match &record.event {
                DropEvent::Scheduled(_) => _ = drops.insert(record.drop),
                DropEvent::Reserved { order, .. } => _ = orders.insert(*order),
                event => touched.orders.extend(event.order().filter(|&id| orders.insert(id))),
            }
            if drops.insert(record.drop) {
                touched.drops.push(record.drop);
            }
        }
        touched
    }
}

impl Fold {
    /// Starts from the rows that [`Touched`] names.
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
        let open =
            |order: &OrderView| i64::from(order.payment_pending.is_some()) + i64::from(order.payment.capture_due);
        let mut payments = 0;
        match &record.event {
            DropEvent::Scheduled(spec) => {
                if spec.id != record.drop {
                    return Err("the schedule is another drop's");
                }
                let known = self.drops.insert(record.drop, DropImage::scheduled(spec, record));
                self.drop_notifications.extend(notifications::of_drop(sequence, record, spec.creator_id));
                return if known.is_none() { Ok(()) } else { Err("it was scheduled before") };
            }
            DropEvent::Reserved { payment_method, .. } => {
                payments = i64::from(payment_method.is_some());
                self.reserve(sequence, record)?;
            }
            // Only older journals have it; it changes no row.
            DropEvent::Refused { .. } => {}
            DropEvent::AuditedCommand { actor, act, request } => {
                self.audits.push(audit::line(sequence, record, actor, *act));
                self.keyed.extend(request.map(|request| request.digest.0));
            }
            event => {
                if let Some(id) = event.order() {
                    let order = self.order(id)?;
                    let before = open(order);
                    let note = order::note(order, sequence, record);
                    order::settle(order, record)?;
                    payments = open(order) - before;
                    let step = payment::step(order, sequence, record);
                    self.notes.extend(note);
                    self.steps.extend(step);
                }
            }
        }
        let drop = self.drops.get_mut(&record.drop).ok_or("the drop was never scheduled")?;
        drop.owe(payments)?;
        drop.fold(record)?;
        self.drop_notifications.extend(notifications::of_drop(sequence, record, drop.row.spec.creator_id));
        self.order_notifications.extend(notifications::of_order(sequence, record));
        Ok(())
    }

    fn order(&mut self, id: OrderId) -> Result<&mut OrderView, &'static str> {
        match self.places.get(&id).and_then(|&place| self.placed.get_mut(place)) {
            Some(order) => Ok(&mut order.view),
            None => self.orders.get_mut(&id).ok_or("the order was never placed"),
        }
    }

    fn reserve(&mut self, sequence: u64, record: &DropRecord) -> Result<(), &'static str> {
        let DropEvent::Reserved {
            order,
            buyer,
            variant,
            quantity,
            unit_price,
            expires_at,
            key: _,
            digest,
            fingerprint,
            payment_method,
            delivery,
        } = &record.event
        else {
            return Ok(());
        };
        // Otherwise the order could not be found by its id.
        if order.drop_tag() != record.drop.tag() {
            return Err("the order's id is another drop's");
        }
        let view = OrderView {
            id: *order,
            drop_id: record.drop,
            variant_id: *variant,
            buyer: *buyer,
            quantity: *quantity,
            unit_price: *unit_price,
            status: OrderStatus::Reserved,
            release_reason: None,
            digest: *digest,
            fingerprint: *fingerprint,
            created_at: record.at,
            expires_at: *expires_at,
            confirmed_at: None,
            released_at: None,
            refunded_at: None,
            payment_ref: None,
            payment_pending: payment_method.as_ref().map(|method| method.name.to_string()),
            refund_due: None,
            failed_trace: None,
            payment: payment_method
                .as_ref()
                .map_or_else(PaymentFacts::default, |method| PaymentFacts::default().started(method.provider, 1)),
            delivery: delivery.clone(),
        };
        self.steps.extend(payment::step(&view, sequence, record));
        let known = self.places.insert(*order, self.placed.len());
        self.placed.push(NewOrder { view, digest: *digest });
        if known.is_none() { Ok(()) } else { Err("the order was placed before") }
    }

    /// The final rows of the batch.
    pub fn finish(self) -> Rows {
        let Self {
            drops,
            mut placed,
            places: _,
            orders,
            audits,
            keyed,
            notes,
            steps,
            order_notifications,
            mut drop_notifications,
        } = self;
        notifications::latest(&mut drop_notifications);
        let mut drops: Vec<DropImage> = drops.into_values().collect();
        drops.iter_mut().for_each(DropImage::finish);
        drops.sort_unstable_by_key(|image| image.row.spec.id);
        let variants = drops.iter().flat_map(DropImage::changed_variants).collect();
        placed.sort_by_key(|order| (order.view.id.drop_tag(), order.view.id));
        let mut orders: Vec<OrderImage> = orders.into_values().collect();
        orders.sort_unstable_by_key(|view| view.id);
        Rows { drops, variants, placed, orders, audits, keyed, notes, steps, order_notifications, drop_notifications }
    }
}
