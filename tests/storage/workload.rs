//! Random workloads: the engine decides, its events are projected in random batches, and at the end (and now and then
//! before) every row must equal the engine's state.

use crate::Database;
use crate::fixtures::{Journal, at, spec};
use livedrop::domain::stock::StockBoard;
use livedrop::domain::{
    DeclineReason, DropEvent, DropRecord, Fingerprint, KeyDigest, OrderId, OrderView, PaymentEnd, PaymentMethod,
    PaymentProvider, Principal, ReleaseReason, Timestamp, TraceId, UserId,
};
use livedrop::engine::{Command, DropState, NewEnd, Reserve, state::Restore};
use livedrop::storage::{AuditFilter, ProjectionBatch, Store};
use rand::{Rng, SeedableRng, rngs::StdRng};
use std::collections::BTreeSet;

const SEEDS: std::ops::Range<u64> = 0..6;
const COMMANDS: usize = 400;

/// A drop in the engine, and facts that the engine does not expose.
struct Model {
    state: DropState,
    board: StockBoard,
    low: Vec<bool>,
    by_hand: usize,
    last_event_at: Timestamp,
    orders: Vec<OrderId>,
}

impl Model {
    fn new(rng: &mut StdRng, records: &mut Vec<DropRecord>) -> Self {
        let stocks: Vec<u32> = (0..rng.random_range(1..4)).map(|_| rng.random_range(0..12)).collect();
        let mut spec = spec(&stocks);
        spec.per_buyer_limit = rng.random_range(0..5);
        spec.hold_ms = 2_000;
        spec.starts_at = at(rng.random_range(0..500));
        if rng.random_bool(0.3) {
            spec.variants[0].price.amount = 0;
        }
        spec.ends_at = rng.random_bool(0.5).then(|| at(rng.random_range(5_000..30_000)));
        let scheduled = DropEvent::Scheduled(Box::new(spec.clone()));
        records.push(DropRecord { drop: spec.id, at: spec.created_at, event: scheduled });
        Self {
            board: StockBoard::new(&spec),
            low: vec![false; stocks.len()],
            by_hand: 0,
            last_event_at: spec.created_at,
            orders: Vec::new(),
            state: DropState::scheduled(spec),
        }
    }

    fn command(&self, rng: &mut StdRng, buyers: &[UserId]) -> Command {
        let order = if self.orders.is_empty() {
            OrderId::for_drop(self.state.spec().id)
        } else {
            self.orders[rng.random_range(0..self.orders.len())]
        };
        match rng.random_range(0..100) {
            0..40 => self.reserve(rng, buyers),
            40..44 => Command::BeginPayment { order, method: "pm_card".into() },
            44..50 => self.of_stripe(rng, order),
            50..68 => Command::Confirm { order, payment_ref: format!("pay_{}", rng.random::<u16>()).into() },
            68..78 => {
                let reason = ReleaseReason::ALL[rng.random_range(0..ReleaseReason::ALL.len())];
                Command::Release { order, reason, trace: TraceId::random() }
            }
            78..82 => Command::Refund { order },
            82..84 => Command::EndPayment { order, attempt: self.attempt(order), end: PaymentEnd::NotMade },
            84..90 => Command::SettleRefund { order },
            90..94 => {
                let variants = &self.state.spec().variants;
                let variant = Some(variants[rng.random_range(0..variants.len())].id);
                Command::Restock { variant, quantity: rng.random_range(1..6) }
            }
            94 if rng.random_bool(0.7) => {
                let (starts_at, ends_at) = (None, NewEnd::At(at(rng.random_range(5_000..60_000))));
                let actor = Principal { user: buyers[0], admin: true, origin: "::1".into(), trace: TraceId::random() };
                Command::AuditedCommand {
                    actor,
                    request: None,
                    command: Box::new(Command::Reschedule { starts_at, ends_at }),
                }
            }
            94 => Command::Start,
            95 if rng.random_bool(0.2) => Command::End,
            96 if rng.random_bool(0.2) => Command::Cancel,
            _ => Command::Tick,
        }
    }

    fn attempt(&self, order: OrderId) -> u32 {
        self.state.order(order).map_or(1, |order| order.attempt())
    }

    /// A step of a payment that is authorized before it is captured.
    fn of_stripe(&self, rng: &mut StdRng, order: OrderId) -> Command {
        let (attempt, reference) = (self.attempt(order), "pi_1");
        match rng.random_range(0..6) {
            0 | 1 => {
                let method = PaymentMethod { provider: PaymentProvider::Stripe, name: "pm_1".into() };
                Command::BeginPayment { order, method }
            }
            2 => Command::AwaitPayment { order, attempt, reference: reference.into(), action: rng.random() },
            3 => Command::Authorize { order, payment_ref: reference.into() },
            4 => Command::EndPayment { order, attempt, end: PaymentEnd::Declined(DeclineReason::ExpiredCard) },
            _ => {
                let due = self.state.captures_due().next().unwrap_or(order);
                if rng.random() { Command::SettleCapture { order: due } } else { Command::FailCapture { order: due } }
            }
        }
    }

    fn reserve(&self, rng: &mut StdRng, buyers: &[UserId]) -> Command {
        let spec = self.state.spec();
        let buyer = buyers[rng.random_range(0..buyers.len())];
        // Some keys are used twice.
        let key = format!("key-{}", rng.random_range(0..400));
        let (quantity, variant) = (rng.random_range(1..4), spec.variants[rng.random_range(0..spec.variants.len())].id);
        let payment_method: Option<&str> = rng.random_bool(0.5).then_some("pm_sandbox_ok");
        Command::Reserve(Box::new(Reserve {
            order: OrderId::for_drop(spec.id),
            buyer,
            digest: KeyDigest::of(buyer, &key),
            key: key.into(),
            fingerprint: Fingerprint::of_order(spec.id, variant, quantity, payment_method),
            variant: Some(variant),
            quantity,
            payment_method: payment_method.map(Into::into),
            network: None,
            delivery: None,
        }))
    }

    fn apply(&mut self, now: Timestamp, command: Command, records: &mut Vec<DropRecord>) {
        let mut events = Vec::new();
        let (_, at) = self.state.apply(now, command, &mut events);
        self.state.assert_invariants();
        for event in events {
            self.note(&event);
            self.last_event_at = at;
            records.push(DropRecord { drop: self.state.spec().id, at, event });
        }
    }

    fn note(&mut self, event: &DropEvent) {
        self.board.fold(event).expect("the engine's events follow each other");
        match event {
            DropEvent::Reserved { order, .. } => self.orders.push(*order),
            DropEvent::AuditedCommand { .. } => self.by_hand += 1,
            DropEvent::StockLow { variant, .. } => {
                let index = self.board.variants.iter().position(|(id, _)| id == variant).unwrap();
                self.low[index] = true;
            }
            _ => {}
        }
        for (low, (_, stock)) in self.low.iter_mut().zip(&self.board.variants) {
            *low &= stock.available <= self.state.spec().low_stock_threshold;
        }
    }

    fn orders(&self) -> Vec<OrderView> {
        let mut orders: Vec<OrderView> = self.state.orders().collect();
        orders.sort_by_key(|order| order.id);
        orders
    }

    /// Compares every row of the drop, and recovery from these rows, with the engine.
    async fn check(&self, store: &dyn Store, seed: u64) {
        let (spec, id) = (self.state.spec(), self.state.spec().id);
        let row = store.drop_row(id).await.unwrap().expect("the drop is projected");
        assert_eq!(row.spec, **spec, "seed {seed}");
        assert_eq!(row.status, self.state.status(), "seed {seed}");
        assert_eq!((row.started_at, row.ended_at), (self.state.started_at(), self.state.ended_at()), "seed {seed}");
        assert_eq!(row.last_event_at, self.last_event_at, "seed {seed}");
        let stock: Vec<_> = row.variants.iter().map(|variant| (variant.id, variant.stock)).collect();
        assert_eq!(stock, self.state.stock().collect::<Vec<_>>(), "seed {seed}");
        assert_eq!(row.variants.iter().map(|variant| variant.low).collect::<Vec<_>>(), self.low, "seed {seed}");
        let unsettled = store.unsettled_drops().await.unwrap();
        assert_eq!(unsettled.contains(&row), !self.state.is_settled(), "seed {seed}");
        let filter = AuditFilter { actor: None, object: Some(id.0) };
        assert_eq!(store.audit(filter, None, 10_000).await.unwrap().len(), self.by_hand, "seed {seed}");
        let orders = store.drop_orders(id, None, 10_000).await.unwrap();
        assert_eq!(orders, self.orders(), "seed {seed}");
        let variants: Vec<_> = row.variants.iter().map(|variant| (variant.stock, variant.low)).collect();
        let times = (row.started_at, row.ended_at, row.last_event_at);
        let mut restore = Restore::new(row.spec, row.status, times, &variants);
        orders.into_iter().for_each(|order| restore.order(order).unwrap());
        let restored = restore.finish();
        restored.assert_invariants();
        let of = |state: &DropState| {
            let mut orders: Vec<OrderView> = state.orders().collect();
            orders.sort_by_key(|order| order.id);
            orders
        };
        assert_eq!(of(&restored), of(&self.state), "seed {seed}");
        assert_eq!(restored.is_settled(), self.state.is_settled(), "seed {seed}");
    }
}

/// The kinds of events; rare cases count as kinds of their own.
fn kind(event: &DropEvent) -> &'static str {
    match event {
        DropEvent::Scheduled(_) => "scheduled",
        DropEvent::Started => "started",
        DropEvent::Ended => "ended",
        DropEvent::Cancelled => "cancelled",
        DropEvent::Restocked { .. } => "restocked",
        DropEvent::StockLow { .. } => "stock low",
        DropEvent::SoldOut => "sold out",
        DropEvent::BackInStock => "back in stock",
        DropEvent::Reserved { .. } => "reserved",
        DropEvent::Refused { .. } => "refused",
        DropEvent::PaymentStarted { .. } => "payment started",
        DropEvent::PaymentEnded { .. } => "payment ended",
        DropEvent::PaymentWaits { .. } => "payment waits",
        DropEvent::HoldExtended { .. } => "hold extended",
        DropEvent::PaymentCaptured { .. } => "payment captured",
        DropEvent::Rescheduled { .. } => "rescheduled",
        DropEvent::AuditedCommand { .. } => "by hand",
        DropEvent::Confirmed { retaken: false, .. } => "confirmed",
        DropEvent::Confirmed { retaken: true, .. } => "confirmed late",
        DropEvent::Released { .. } => "released",
        DropEvent::RefundDue { was_sold: true, .. } => "refund due",
        DropEvent::RefundDue { was_sold: false, .. } => "refund due for a late payment",
        DropEvent::Refunded { .. } => "refunded",
    }
}

const KINDS: usize = 22;

pub async fn random_workloads_give_the_rows_of_the_engine(db: Database) {
    let mut kinds = BTreeSet::new();
    for seed in SEEDS {
        let mut rng = StdRng::seed_from_u64(seed);
        let buyers: Vec<UserId> = (0..12).map(|_| UserId::new()).collect();
        let (journal, mut records) = (Journal::new(&db), Vec::new());
        let mut models: Vec<Model> = (0..4).map(|_| Model::new(&mut rng, &mut records)).collect();
        let (mut now, mut projected) = (0, 0);
        for step in 0..COMMANDS {
            now += rng.random_range(0..80);
            let model = rng.random_range(0..models.len());
            let command = models[model].command(&mut rng, &buyers);
            models[model].apply(at(now), command, &mut records);
            if rng.random_bool(0.05) || step == COMMANDS - 1 {
                // Batches may begin before the watermark.
                let first = projected - rng.random_range(0..=projected.min(5));
                let batch =
                    ProjectionBatch { first_sequence: first as u64 + 1, ..journal.batch(records[first..].to_vec()) };
                db.store.project(&batch).await.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
                projected = records.len();
                for model in &models {
                    model.check(&*db.store, seed).await;
                }
            }
        }
        kinds.extend(records.iter().map(|record| kind(&record.event)));
    }
    assert_eq!(kinds.len(), KINDS, "the seeds must reach every event: {kinds:?}");
}
