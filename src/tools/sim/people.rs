//! Actions of buyers, the gateway, and the drops' creators.

use super::auditor::Finding;
use super::life::{Flying, POLICY};
use super::world::{Request, World};
use crate::actors::Decider;
use crate::domain::{
    CreatorId, DropId, DropSpec, Fingerprint, KeyDigest, Money, OrderId, OrderStatus, OrderView, PaymentEnd,
    PaymentMethod, PaymentProvider, ProductId, ReleaseReason, TraceId, UserId, VariantId, VariantSpec,
};
use crate::engine::{Command, DropState, Reserve};
use rand::Rng;
use std::num::NonZeroU32;
use tokio::sync::oneshot;
use uuid::Uuid;

const BUYERS: u32 = 6;

/// The sandbox's, or that of the provider that authorizes first.
fn method_of(name: &str) -> PaymentMethod {
    let provider = if name == "card" { PaymentProvider::Stripe } else { PaymentProvider::Sandbox };
    PaymentMethod { provider, name: name.into() }
}

impl World {
    pub(super) fn schedule(&mut self, index: u32) -> Finding {
        let id = DropId(self.id());
        let variants = (0..self.dice.random_range(1..=2))
            .map(|n| VariantSpec {
                id: VariantId(self.id()),
                name: format!("v{n}"),
                stock: self.dice.random_range(1..25),
                price: Money {
                    amount: [0, 1999, 1999][self.dice.random_range(0..3_usize)],
                    currency: "EUR".parse().expect("a currency"),
                },
            })
            .collect();
        let starts = self.now.wall.plus_millis(i64::from(index) * 2_000);
        let spec = DropSpec {
            id,
            creator_id: CreatorId(self.id()),
            product_id: ProductId(self.id()),
            title: "A drop".to_owned(),
            variants,
            per_buyer_limit: [0, 0, 4, 9][self.dice.random_range(0..4_usize)],
            low_stock_threshold: self.dice.random_range(0..4),
            hold_ms: [1_000, 5_000, 60_000][self.dice.random_range(0..3_usize)],
            starts_at: starts,
            ends_at: self.dice.random_bool(0.3).then(|| starts.plus_millis(120_000)),
            created_at: self.now.wall,
            shipping: None,
        };
        let life = self.life.as_mut().expect("a life");
        let (sender, reply) = oneshot::channel();
        let mut state = DropState::scheduled(spec.clone());
        state.set_hold_policy(POLICY);
        let mut decider = Decider::alone(state, false, life.journal.handle());
        decider.announce(sender);
        if !decider.is_announced() {
            return Err("no permit for a new drop".to_owned());
        }
        life.drops.insert(id, decider);
        life.flies(Flying { drop: self.specs.len(), digest: None, payment: None, reply, answer: None });
        self.specs.push(spec);
        self.land_all()
    }

    pub(super) fn reserve(&mut self) -> Finding {
        let drop = self.dice.random_range(0..self.specs.len());
        let (buyer, key) = (self.dice.random_range(0..BUYERS), self.dice.random_range(0..4_000_u32));
        let variants = &self.specs[drop].variants;
        let variant = variants[self.dice.random_range(0..variants.len())].id;
        let quantity = self.dice.random_range(1..4);
        let method = [Some("pm"), Some("card"), None][self.dice.random_range(0..3_usize)];
        let buyer_number = buyer;
        let (buyer, key) = (UserId(Uuid::from_u128(u128::from(buyer) + 1)), format!("{drop}-{key}"));
        let reserve = Reserve {
            order: OrderId(Uuid::nil()),
            buyer,
            digest: KeyDigest::of(buyer, &key),
            key: key.into(),
            fingerprint: Fingerprint::of_order(self.specs[drop].id, variant, quantity, method),
            variant: Some(variant),
            quantity,
            payment_method: method.map(method_of),
            network: NonZeroU32::new(buyer_number / 2 + 1),
            delivery: None,
        };
        // Each key belongs to one request; repeating it is `retry`.
        if self.asked.iter().any(|asked| asked.reserve.digest == reserve.digest) {
            return Ok(());
        }
        self.asked.push(Request { drop, reserve });
        self.count("reservation");
        self.send(self.asked.len() - 1)
    }

    pub(super) fn retry(&mut self) -> Finding {
        if self.asked.is_empty() {
            return Ok(());
        }
        self.count("retry");
        let which = self.dice.random_range(0..self.asked.len());
        self.send(which)
    }

    pub(super) fn send(&mut self, which: usize) -> Finding {
        let Request { drop, mut reserve } = self.asked[which].clone();
        reserve.order = OrderId(self.id());
        let digest = reserve.digest;
        self.submit(drop, Command::Reserve(Box::new(reserve)), Some(digest))
    }

    /// A charge is answered: paid, declined, or unknown to the gateway.
    pub(super) fn gateway_answers(&mut self) -> Finding {
        if self.charging.is_empty() {
            return Ok(());
        }
        let (drop, order) = self.charging.swap_remove(self.dice.random_range(0..self.charging.len()));
        if self.is_of_provider(drop, order) {
            return self.provider_answers(drop, order);
        }
        let command = match self.dice.random_range(0..10) {
            // Charged before with a lost answer: the same charge again.
            _ if self.auditor.is_charged(order) => Command::Confirm { order, payment_ref: "ch".into() },
            0..6 => {
                self.auditor.charge(order);
                self.count("charge");
                if self.dice.random_bool(0.1) {
                    // Charged, but the answer is lost.
                    self.charging.push((drop, order));
                    return Ok(());
                }
                Command::Confirm { order, payment_ref: "ch".into() }
            }
            6..8 => Command::Release { order, reason: ReleaseReason::PaymentFailed, trace: TraceId(self.id()) },
            _ => self.end_payment(drop, order),
        };
        self.submit(drop, command, None)
    }

    /// Asks the gateway for the outcome of a charge, and informs the drop.
    pub(super) fn look_up_payment(&mut self, drop: usize, order: OrderId) -> Finding {
        if self.is_of_provider(drop, order) {
            return self.look_up_attempt(drop, order, false);
        }
        let command = if self.auditor.is_charged(order) {
            Command::Confirm { order, payment_ref: "ch".into() }
        } else {
            self.end_payment(drop, order)
        };
        self.submit(drop, command, None)
    }

    /// The order's last attempt took no money.
    fn end_payment(&self, drop: usize, order: OrderId) -> Command {
        let decider = self.life.as_ref().and_then(|life| life.drops.get(&self.specs[drop].id));
        let attempt = decider.and_then(|decider| decider.state().order(order)).map_or(1, |order| order.attempt());
        Command::EndPayment { order, attempt, end: PaymentEnd::NotMade }
    }

    pub(super) fn any_order(&mut self, wanted: impl Fn(&OrderView) -> bool) -> Option<(usize, OrderId)> {
        let life = self.life.as_ref().expect("a life");
        let mut all = Vec::new();
        for (index, spec) in self.specs.iter().enumerate() {
            let Some(drop) = life.drops.get(&spec.id) else { continue };
            all.extend(drop.state().orders().filter(&wanted).map(|order| (index, order.id)));
        }
        (!all.is_empty()).then(|| all[self.dice.random_range(0..all.len())])
    }

    pub(super) fn pay(&mut self) -> Finding {
        let unpaid = |order: &OrderView| order.status == OrderStatus::Reserved && order.payment_pending.is_none();
        match self.any_order(unpaid) {
            Some((drop, order)) => self.begin_payment(drop, order),
            None => Ok(()),
        }
    }

    /// Claims the order first, as the service does: another payment may begin while the decision waits for room.
    pub(super) fn begin_payment(&mut self, drop: usize, order: OrderId) -> Finding {
        if !self.claimed.insert(order) {
            return Ok(());
        }
        let method = method_of(if self.dice.random_bool(0.5) { "card" } else { "pm" });
        self.submit(drop, Command::BeginPayment { order, method }, None)
    }

    pub(super) fn cancel_order(&mut self) -> Finding {
        let Some((drop, order)) = self.any_order(|order| order.status == OrderStatus::Reserved) else { return Ok(()) };
        let (reason, trace) = (ReleaseReason::Cancelled, TraceId(self.id()));
        self.submit(drop, Command::Release { order, reason, trace }, None)
    }

    /// The relay: refunds what is due according to the journal, and settles it.
    pub(super) fn settle_refunds(&mut self) -> Finding {
        self.land_all()?;
        let Some((drop, order)) = self.any_order(|order| order.refund_due.is_some()) else { return Ok(()) };
        self.count("refund");
        if self.variation.settle_first {
            self.pay_what_is_owed()?;
            self.owed.push((drop, order));
        } else {
            self.give_back(drop, order)?;
        }
        self.submit(drop, Command::SettleRefund { order }, None)
    }

    /// The gateway refunds an order: perhaps again, after a crash before the refund was settled.
    pub(super) fn give_back(&mut self, drop: usize, order: OrderId) -> Finding {
        let is_known = if self.is_of_provider(drop, order) {
            self.provider_gives_back(drop, order)?
        } else {
            self.auditor.give_back(order)?
        };
        if is_known {
            self.count("a refund that is asked for again");
        }
        Ok(())
    }

    pub(super) fn pay_what_is_owed(&mut self) -> Finding {
        let owed = std::mem::take(&mut self.owed);
        owed.into_iter().try_for_each(|(drop, order)| self.give_back(drop, order))
    }

    pub(super) fn by_hand(&mut self) -> Finding {
        let dice = self.dice.random_range(0..12);
        match dice {
            0 => self.on_any_drop(|_| Command::Start, "start"),
            1 => self.on_any_drop(|_| Command::End, "end"),
            2 => self.on_any_drop(|_| Command::Cancel, "cancel"),
            3..6 => match self.any_order(|order| order.status == OrderStatus::Confirmed && !order.is_free()) {
                Some((drop, order)) => self.submit(drop, Command::Refund { order }, None),
                None => Ok(()),
            },
            _ => {
                let quantity = self.dice.random_range(1..4);
                let restock = |spec: &DropSpec| Command::Restock { variant: Some(spec.variants[0].id), quantity };
                self.on_any_drop(restock, "restock")
            }
        }
    }

    pub(super) fn on_any_drop(&mut self, command: impl Fn(&DropSpec) -> Command, what: &'static str) -> Finding {
        self.count(what);
        let drop = self.dice.random_range(0..self.specs.len());
        let command = command(&self.specs[drop]);
        self.submit(drop, command, None)
    }

    pub(super) fn submit_anything(&mut self) -> Finding {
        self.on_any_drop(|spec| Command::Restock { variant: Some(spec.variants[0].id), quantity: 1 }, "restock")
    }
}
