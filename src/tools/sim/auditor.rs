//! An independent auditor: it tracks the clients' answers and the journal's records with numbers of its own. It uses
//! neither the engine nor the store's arithmetic.

use crate::domain::{DropEvent, DropId, DropRecord, KeyDigest, OrderId, OrderStatus, OrderView, VariantId};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// The facts that an order's buyer knows.
#[derive(Clone, Copy, Default, Debug)]
struct Known {
    confirmed: bool,
    released: bool,
    refunded: bool,
}

impl Known {
    /// Checks that permanent facts about an order still hold.
    fn allows(&self, order: &OrderView) -> Finding {
        let id = order.id;
        if self.confirmed && !is_sold(order) {
            return Err(format!("order {id} was confirmed and is {} now", order.status.as_str()));
        }
        if self.refunded && order.refunded_at.is_none() {
            return Err(format!("order {id} was refunded and is not any more"));
        }
        if self.released && order.status == OrderStatus::Reserved {
            return Err(format!("order {id} was released and is held again"));
        }
        Ok(())
    }
}

fn is_sold(order: &OrderView) -> bool {
    matches!(order.status, OrderStatus::Confirmed | OrderStatus::Refunded)
}

/// Everything that clients, the gateway and the journal have reported.
#[derive(Default)]
pub struct Auditor {
    /// The order of each key, as its client was answered.
    placed: HashMap<KeyDigest, OrderId>,
    orders: BTreeMap<OrderId, Known>,
    /// Orders that the gateway charged, and those that it refunded.
    charged: BTreeSet<OrderId>,
    given_back: BTreeSet<OrderId>,
    /// Records that another system has heard of, and the last of each drop.
    heard: BTreeSet<u64>,
    last_heard: HashMap<DropId, u64>,
}

/// The counts of one variant, summed up from the journal's records.
#[derive(Clone, Copy, Default)]
struct Count {
    total: i64,
    held: i64,
    sold: i64,
}

/// `Err` describes a broken promise in a sentence.
pub type Finding = Result<(), String>;

impl Auditor {
    /// A client received the order of its key.
    pub fn placed(&mut self, digest: KeyDigest, order: OrderId) -> Finding {
        match self.placed.insert(digest, order) {
            Some(first) if first != order => Err(format!("a key made order {first} and then {order}")),
            _ => Ok(()),
        }
    }

    /// A client received a refusal: a key with an order is never refused.
    pub fn refused(&self, digest: KeyDigest) -> Finding {
        match self.placed.get(&digest) {
            Some(order) => Err(format!("a key made order {order} and was refused then")),
            None => Ok(()),
        }
    }

    /// The order of a key, if a client received it.
    #[must_use]
    pub fn order_of(&self, digest: KeyDigest) -> Option<OrderId> {
        self.placed.get(&digest).copied()
    }

    /// A client reads an order.
    pub fn shown(&mut self, order: &OrderView) -> Finding {
        let known = self.orders.entry(order.id).or_default();
        known.allows(order)?;
        known.confirmed |= is_sold(order);
        known.released |= order.status == OrderStatus::Released;
        known.refunded |= order.refunded_at.is_some();
        Ok(())
    }

    /// The gateway charged for an order.
    pub fn charge(&mut self, order: OrderId) {
        self.charged.insert(order);
    }

    /// Whether the gateway charged for an order.
    #[must_use]
    pub fn is_charged(&self, order: OrderId) -> bool {
        self.charged.contains(&order)
    }

    /// The gateway refunded an order. Returns whether it had done so before.
    pub fn give_back(&mut self, order: OrderId) -> Result<bool, String> {
        if !self.charged.contains(&order) {
            return Err(format!("money goes back for order {order}, which was never charged"));
        }
        Ok(!self.given_back.insert(order))
    }

    /// Another system hears of a record. Returns whether it had before, as it may after a crash.
    pub fn hears(&mut self, drop: DropId, sequence: u64) -> Result<bool, String> {
        if !self.heard.insert(sequence) {
            return Ok(true);
        }
        match self.last_heard.insert(drop, sequence) {
            Some(last) if last > sequence => Err(format!("record {sequence} of a drop was told after record {last}")),
            _ => Ok(false),
        }
    }

    /// Whatever the journal says to the world was told, or is set aside.
    pub fn nothing_skipped(&self, records: &[DropRecord], aside: &BTreeSet<u64>) -> Finding {
        for (sequence, record) in (1_u64..).zip(records) {
            let stays_inside = matches!(
                record.event,
                DropEvent::Refused { .. }
                    | DropEvent::PaymentStarted { .. }
                    | DropEvent::PaymentEnded { .. }
                    | DropEvent::PaymentWaits { .. }
                    | DropEvent::PaymentCaptured { .. }
                    | DropEvent::AuditedCommand { .. }
            );
            if !stays_inside && !self.heard.contains(&sequence) && !aside.contains(&sequence) {
                return Err(format!("record {sequence} never had its effect"));
            }
        }
        Ok(())
    }

    /// Checks that every known order exists, and that every key leads to its order.
    pub fn nothing_lost(&self, order: impl Fn(OrderId) -> Option<OrderView>) -> Finding {
        if let Some(id) = self.placed.values().find(|id| order(**id).is_none()) {
            return Err(format!("order {id} was acknowledged and is gone"));
        }
        for (id, known) in &self.orders {
            let order = order(*id).ok_or_else(|| format!("order {id} was shown and is gone"))?;
            known.allows(&order)?;
        }
        Ok(())
    }

    /// Checks, when everything is settled, that every charged buyer has either the goods or a refund, and nobody has
    /// both or neither.
    pub fn money_adds_up<'a>(&self, orders: impl Iterator<Item = &'a OrderView>) -> Finding {
        let of_provider = |order: &&OrderView| order.payment.provider.is_some_and(|provider| !provider.is_test());
        for order in orders.filter(|order| !of_provider(order)) {
            let (charged, back) = (self.charged.contains(&order.id), self.given_back.contains(&order.id));
            let paid_for = charged && !back;
            let free = order.is_free();
            match order.status {
                OrderStatus::Confirmed if !paid_for && !free => {
                    return Err(format!("order {} is confirmed and not paid for", order.id));
                }
                OrderStatus::Released | OrderStatus::Refunded if paid_for => {
                    return Err(format!("order {} is {}, and its money was kept", order.id, order.status.as_str()));
                }
                OrderStatus::Reserved => return Err(format!("order {} is still held", order.id)),
                _ => {}
            }
        }
        Ok(())
    }

    /// Sums up the journal: after each record the stock adds up, nothing is below zero, and no order is placed twice.
    pub fn audit_journal(records: &[DropRecord]) -> Finding {
        let mut counts: BTreeMap<(DropId, VariantId), Count> = BTreeMap::new();
        let mut placed = BTreeSet::new();
        let mut keys = HashSet::new();
        for (sequence, record) in (1_u64..).zip(records) {
            let broken = |what: &str| Err(format!("record {sequence}: {what}"));
            let mut change = |variant: VariantId, total: i64, held: i64, sold: i64| {
                let count = counts.entry((record.drop, variant)).or_default();
                count.total += total;
                count.held += held;
                count.sold += sold;
                let fits = count.held >= 0 && count.sold >= 0 && count.held + count.sold <= count.total;
                if fits { Ok(()) } else { broken("oversold, or a count below zero") }
            };
            match &record.event {
                DropEvent::Scheduled(spec) => {
                    for variant in &spec.variants {
                        change(variant.id, i64::from(variant.stock), 0, 0)?;
                    }
                }
                DropEvent::Restocked { variant, quantity } => change(*variant, i64::from(*quantity), 0, 0)?,
                DropEvent::Reserved { order, variant, quantity, digest, .. } => {
                    if !placed.insert(*order) || !keys.insert(*digest) {
                        return broken("an order or a key is placed twice");
                    }
                    change(*variant, 0, i64::from(*quantity), 0)?;
                }
                DropEvent::Refused { .. } => return broken("a refusal is in the journal"),
                DropEvent::Confirmed { line, retaken, .. } => {
                    let held = if *retaken { 0 } else { i64::from(line.quantity) };
                    change(line.variant, 0, -held, i64::from(line.quantity))?;
                }
                DropEvent::Released { line, .. } => change(line.variant, 0, -i64::from(line.quantity), 0)?,
                DropEvent::RefundDue { line, was_sold: true, .. } => {
                    change(line.variant, 0, 0, -i64::from(line.quantity))?;
                }
                _ => {}
            }
        }
        Ok(())
    }
}
