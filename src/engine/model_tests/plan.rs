//! Random drops and random commands.

use super::World;
use crate::domain::{
    CreatorId, DeclineReason, DropId, DropSpec, Fingerprint, KeyDigest, Money, OrderId, PaymentEnd, PaymentMethod,
    PaymentProvider, ProductId, ReleaseReason, Timestamp, TraceId, UserId, VariantId, VariantSpec,
};
use crate::engine::{Command, NewEnd, Reserve};
use proptest::prelude::*;
use std::num::NonZeroU32;
use uuid::Uuid;

pub const BUYERS: u8 = 4;
const KEYS: u8 = 40;
const UNKNOWN: u8 = u8::MAX;
const STEPS_MAX: usize = 200;
const EPOCH_MS: i64 = 1_767_225_600_000;
const METHODS: [&str; 2] = ["card", "cash"];

/// A drop and the steps of its test.
#[derive(Clone, Debug)]
pub struct Plan {
    pub spec: DropSpec,
    pub steps: Vec<Step>,
}

/// One step, this long after the previous one.
#[derive(Clone, Debug)]
pub struct Step {
    pub wait_ms: i64,
    /// The wall clock is set by this much before the step.
    pub set_ms: i64,
    pub op: Op,
}

/// Indices are taken modulo the number of existing things; for orders, one index means an unknown id.
#[derive(Clone, Debug)]
pub enum Op {
    Reserve { buyer: u8, key: u8, variant: Option<u8>, quantity: u32, method: Option<u8> },
    Retry { which: usize },
    SameOrderId { which: usize, key: u8 },
    Begin { order: usize, method: u8 },
    Confirm { order: usize },
    Release { order: usize, reason: usize },
    Refund { order: usize },
    Settle { order: usize },
    EndPayment { order: usize, declined: bool },
    Await { order: usize, action: bool },
    Authorize { order: usize },
    Capture { order: usize, fails: bool },
    CapturesDue { limit: u8 },
    Find { order: usize },
    OrdersOf { buyer: u8 },
    RefundsDue { limit: u8 },
    Start,
    End,
    Cancel,
    Restock { variant: Option<u8>, quantity: u32 },
    Reschedule { starts_ms: i64, lasts_ms: Option<i64> },
    Tick,
    Replay,
    Restore,
}

pub fn plans() -> impl Strategy<Value = Plan> {
    (specs(), prop::collection::vec(steps(), 1..=STEPS_MAX)).prop_map(|(spec, steps)| Plan { spec, steps })
}

fn specs() -> impl Strategy<Value = DropSpec> {
    let variants = prop::collection::vec(
        (prop_oneof![3 => 0..8_u32, 2 => 8..60_u32], prop_oneof![1 => Just(0), 3 => Just(1999)]),
        1..=3,
    );
    let ends = prop_oneof![3 => Just(None), 1 => (10_000..400_000_i64).prop_map(Some)];
    let hold_ms = prop_oneof![Just(1_000), Just(5_000), Just(60_000)];
    let starts = prop_oneof![3 => Just(0), 1 => Just(5_000_i64)];
    (variants, prop_oneof![1 => Just(0), 1 => 1..6_u32, 1 => 6..30_u32], 0..4_u32, hold_ms, starts, ends).prop_map(
        |(variants, limit, low, hold_ms, starts, ends)| DropSpec {
            id: DropId(Uuid::from_u128(1)),
            creator_id: CreatorId(Uuid::from_u128(2)),
            product_id: ProductId(Uuid::from_u128(3)),
            title: "A drop".to_owned(),
            variants: (0..).zip(variants).map(|(index, (stock, amount))| variant(index, stock, amount)).collect(),
            per_buyer_limit: limit,
            low_stock_threshold: low,
            hold_ms,
            starts_at: Timestamp::from_millis(EPOCH_MS + starts),
            ends_at: ends.map(|ends| Timestamp::from_millis(EPOCH_MS + ends)),
            created_at: Timestamp::from_millis(EPOCH_MS),
            shipping: None,
        },
    )
}

fn variant(index: u8, stock: u32, amount: i64) -> VariantSpec {
    let price = Money { amount, currency: "EUR".parse().expect("a currency") };
    VariantSpec { id: VariantId(Uuid::from_u128(100 + u128::from(index))), name: format!("v{index}"), stock, price }
}

fn steps() -> impl Strategy<Value = Step> {
    let wait_ms = prop_oneof![4 => Just(0), 8 => 1..1_000_i64, 1 => Just(1_000), 2 => 1_000..8_000_i64];
    let set_ms = prop_oneof![30 => Just(0), 1 => -20_000..0_i64, 1 => 0..20_000_i64];
    (wait_ms, set_ms, ops()).prop_map(|(wait_ms, set_ms, op)| Step { wait_ms, set_ms, op })
}

fn ops() -> impl Strategy<Value = Op> {
    let quantity =
        || prop_oneof![1 => Just(0), 20 => Just(1), 10 => Just(2), 5 => Just(3), 1 => Just(1_001), 1 => Just(u32::MAX)];
    let some_variant = || prop_oneof![1 => Just(None), 9 => (0..3_u8).prop_map(Some), 1 => Just(Some(UNKNOWN))];
    let method = prop_oneof![2 => Just(None), 1 => (0..2_u8).prop_map(Some)];
    let any = || any::<usize>();
    let reserve = (0..BUYERS, 0..KEYS, some_variant(), quantity(), method)
        .prop_map(|(buyer, key, variant, quantity, method)| Op::Reserve { buyer, key, variant, quantity, method });
    prop_oneof![
        30 => reserve,
        5 => any().prop_map(|which| Op::Retry { which }),
        1 => (any(), 0..KEYS).prop_map(|(which, key)| Op::SameOrderId { which, key }),
        8 => (any(), 0..2_u8).prop_map(|(order, method)| Op::Begin { order, method }),
        20 => any().prop_map(|order| Op::Confirm { order }),
        12 => (any(), 0..3_usize).prop_map(|(order, reason)| Op::Release { order, reason }),
        8 => any().prop_map(|order| Op::Refund { order }),
        5 => any().prop_map(|order| Op::Settle { order }),
        4 => (any(), prop::bool::ANY).prop_map(|(order, declined)| Op::EndPayment { order, declined }),
        4 => (any(), prop::bool::ANY).prop_map(|(order, action)| Op::Await { order, action }),
        6 => any().prop_map(|order| Op::Authorize { order }),
        4 => (any(), prop::bool::weighted(0.3)).prop_map(|(order, fails)| Op::Capture { order, fails }),
        1 => (0..4_u8).prop_map(|limit| Op::CapturesDue { limit }),
        1 => any().prop_map(|order| Op::Find { order }),
        1 => (0..BUYERS).prop_map(|buyer| Op::OrdersOf { buyer }),
        1 => (0..4_u8).prop_map(|limit| Op::RefundsDue { limit }),
        1 => Just(Op::Start),
        // Rare, so that most drops live for a while.
        3 => prop_oneof![12 => Just(Op::Tick), 1 => Just(Op::End), 1 => Just(Op::Cancel)],
        3 => (some_variant(), quantity()).prop_map(|(variant, quantity)| Op::Restock { variant, quantity }),
        1 => (0..20_000_i64, prop::option::of(0..200_000_i64))
            .prop_map(|(starts_ms, lasts_ms)| Op::Reschedule { starts_ms, lasts_ms }),
        1 => Just(Op::Replay),
        1 => Just(Op::Restore),
    ]
}

impl World {
    /// The command that an op means in the current state.
    pub(super) fn command(&mut self, op: &Op) -> Command {
        let trace = TraceId(Uuid::from_u128(self.serial));
        match *op {
            Op::Reserve { buyer, key, variant, quantity, method } => {
                self.reserve(ask(self.spec.id, buyer, key, self.variant(variant), quantity, method))
            }
            Op::Retry { which } if self.asked.is_empty() => self.command(&Op::Find { order: which }),
            Op::Retry { which } => self.reserve(self.asked[which % self.asked.len()].clone()),
            Op::SameOrderId { which, key } => {
                let mut ask = ask(self.spec.id, 0, key, None, 1, None);
                ask.order = self.order(which);
                Command::Reserve(Box::new(ask))
            }
            Op::Begin { order, method } => {
                let provider = PaymentProvider::ALL[usize::from(method)];
                let method = PaymentMethod { provider, name: METHODS[usize::from(method)].into() };
                Command::BeginPayment { order: self.order(order), method }
            }
            Op::EndPayment { order, declined } => {
                let (order, attempt) = self.attempt(order);
                let end = if declined { PaymentEnd::Declined(DeclineReason::ExpiredCard) } else { PaymentEnd::NotMade };
                Command::EndPayment { order, attempt, end }
            }
            Op::Await { order, action } => {
                let (order, attempt) = self.attempt(order);
                Command::AwaitPayment { order, attempt, reference: format!("wait_{attempt}").into(), action }
            }
            Op::Authorize { order } => {
                Command::Authorize { order: self.order(order), payment_ref: format!("pay_{}", self.serial).into() }
            }
            Op::Capture { order, fails: false } => Command::SettleCapture { order: self.order(order) },
            Op::Capture { order, fails: true } => Command::FailCapture { order: self.order(order) },
            Op::CapturesDue { limit } => Command::CapturesDue { after: None, limit: limit.into() },
            Op::Confirm { order } => {
                Command::Confirm { order: self.order(order), payment_ref: format!("pay_{}", self.serial).into() }
            }
            Op::Release { order, reason } => {
                Command::Release { order: self.order(order), reason: ReleaseReason::ALL[reason], trace }
            }
            Op::Refund { order } => Command::Refund { order: self.order(order) },
            Op::Settle { order } => Command::SettleRefund { order: self.order(order) },
            Op::Find { order } => Command::Find { order: self.order(order) },
            Op::OrdersOf { buyer: index } => Command::OrdersOf { buyer: buyer(index) },
            Op::RefundsDue { limit } => Command::RefundsDue { after: None, limit: limit.into() },
            Op::Start => Command::Start,
            Op::End => Command::End,
            Op::Cancel => Command::Cancel,
            Op::Restock { variant, quantity } => Command::Restock { variant: self.variant(variant), quantity },
            Op::Reschedule { starts_ms, lasts_ms } => {
                // Half of them leave the start unchanged, as an open drop requires, and some the end.
                let starts_at = (starts_ms % 2 == 1).then(|| Timestamp::from_millis(EPOCH_MS + starts_ms));
                let start = starts_at.unwrap_or(self.state.spec().starts_at);
                let ends_at = match lasts_ms {
                    Some(lasts) => NewEnd::At(start.plus_millis(lasts)),
                    None if starts_ms % 3 == 0 => NewEnd::Unchanged,
                    None => NewEnd::Never,
                };
                Command::Reschedule { starts_at, ends_at }
            }
            Op::Tick | Op::Replay | Op::Restore => Command::Tick,
        }
    }

    /// A request as a client sends it: every attempt proposes a new order id.
    fn reserve(&mut self, mut ask: Reserve) -> Command {
        ask.order = OrderId(Uuid::from_u128(self.serial));
        self.asked.push(ask.clone());
        Command::Reserve(Box::new(ask))
    }

    /// An existing variant, or an unknown one for `UNKNOWN`.
    fn variant(&self, index: Option<u8>) -> Option<VariantId> {
        let variants = &self.spec.variants;
        let id = |index: u8| match index {
            UNKNOWN => VariantId(Uuid::max()),
            index => variants[usize::from(index) % variants.len()].id,
        };
        index.map(id)
    }

    /// An order and its last attempt to pay.
    fn attempt(&self, index: usize) -> (OrderId, u32) {
        let order = self.order(index);
        (order, self.state.order(order).map_or(0, |order| order.payment.attempts))
    }

    fn order(&self, index: usize) -> OrderId {
        let count = self.state.order_count();
        self.state.orders().nth(index % (count + 1)).map_or(OrderId(Uuid::max()), |order| order.id)
    }
}

fn ask(drop: DropId, index: u8, key: u8, variant: Option<VariantId>, quantity: u32, method: Option<u8>) -> Reserve {
    let (buyer, key) = (buyer(index), format!("k{key}"));
    let method = method.map(|index| METHODS[usize::from(index)]);
    Reserve {
        order: OrderId(Uuid::nil()),
        buyer,
        digest: KeyDigest::of(buyer, &key),
        key: key.into(),
        fingerprint: Fingerprint::of_order(drop, variant.unwrap_or(VariantId(Uuid::nil())), quantity, method),
        variant,
        quantity,
        payment_method: method.map(Into::into),
        network: NonZeroU32::new(u32::from(index) / 2 + 1),
        delivery: None,
    }
}

pub fn buyer(index: u8) -> UserId {
    UserId(Uuid::from_u128(1000 + u128::from(index)))
}
