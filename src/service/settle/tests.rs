//! Payments and refunds against a scripted gateway, with real drops and a journal in memory.

mod down;
mod late;

use super::relay::{Duty, Relay};
use super::{Paid, Settler};
use crate::actors::consumers::{Progress, runner};
use crate::actors::{Answer, Clock, Decisions, DropHandle, Projector, Registry, Scheduler};
use crate::domain::fixtures::drop_of;
use crate::domain::{
    DropEvent, DropId, DropRecord, DropSpec, Money, OrderId, OrderStatus, OrderView, PaymentMethod, PaymentProvider,
    ReleaseReason, Timestamp, TraceId, UserId,
};
use crate::engine::fixtures::reserve_in;
use crate::engine::{Command, Outcome, Reserve};
use crate::journal::{Journal, JournalOptions, MemoryDevice, Records};
use crate::payments::gateway::{Charge, DeclineReason, GatewayError, GatewayHealth, PaymentGateway, PaymentStatus};
use crate::payments::provider::Gateways;
use crate::service::orders::{NewOrder, Orders};
use crate::storage;
use async_trait::async_trait;
use futures_util::FutureExt;
use smallvec::SmallVec;
use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Answers from a script, and records the calls.
#[derive(Default)]
struct Script {
    charges: Mutex<VecDeque<Result<PaymentStatus, GatewayError>>>,
    look_ups: Mutex<VecDeque<Result<PaymentStatus, GatewayError>>>,
    refund_failures: Mutex<u32>,
    refunded: Mutex<Vec<(OrderId, String)>>,
    captured: Mutex<Vec<(OrderId, Money)>>,
    /// The provider is known to be down for so long.
    down_for: Mutex<Option<Duration>>,
    /// Captures get no answer.
    captures_fail: AtomicBool,
    /// The authorization has lapsed.
    has_lapsed: AtomicBool,
    /// Refunds of these orders get no answer.
    silent: Mutex<BTreeSet<OrderId>>,
    /// Tests hold it to make charges wait.
    busy: tokio::sync::Mutex<()>,
}

fn silent<T>() -> Result<T, GatewayError> {
    Err(GatewayError::Unreachable { reason: "silence".to_owned(), retry_after: None })
}

fn paid() -> PaymentStatus {
    PaymentStatus::Captured { reference: "ch_1".to_owned() }
}

fn declined() -> PaymentStatus {
    PaymentStatus::Declined { reference: None, reason: DeclineReason::CardDeclined }
}

#[async_trait]
impl PaymentGateway for Script {
    fn name(&self) -> &'static str {
        "script"
    }

    fn accepts(&self, _: &str) -> bool {
        true
    }

    async fn authorize(&self, _: &Charge) -> Result<PaymentStatus, GatewayError> {
        let _turn = self.busy.lock().await;
        self.charges.lock().unwrap().pop_front().expect("no further charge")
    }

    async fn look_up(&self, _: OrderId, _: u32, _: Option<&str>) -> Result<PaymentStatus, GatewayError> {
        self.look_ups.lock().unwrap().pop_front().expect("no further question")
    }

    async fn capture(&self, order: OrderId, _: &str, amount: Money) -> Result<(), GatewayError> {
        if self.captures_fail.load(Ordering::Relaxed) {
            return silent();
        }
        if self.has_lapsed.load(Ordering::Relaxed) {
            return Err(GatewayError::Refused { reason: "it has lapsed".to_owned(), retry_after: None });
        }
        self.captured.lock().unwrap().push((order, amount));
        Ok(())
    }

    fn health(&self) -> GatewayHealth {
        GatewayHealth::Up
    }

    fn unavailable_for(&self) -> Option<Duration> {
        *self.down_for.lock().unwrap()
    }

    async fn give_back(
        &self,
        order: OrderId,
        payment_ref: &str,
        _: Option<Money>,
        _: &str,
    ) -> Result<(), GatewayError> {
        if self.silent.lock().unwrap().contains(&order) {
            std::future::pending::<()>().await;
        }
        let mut failures = self.refund_failures.lock().unwrap();
        if *failures > 0 {
            *failures -= 1;
            return silent();
        }
        self.refunded.lock().unwrap().push((order, payment_ref.to_owned()));
        Ok(())
    }
}

/// A live drop of five units, with everything that it needs.
struct World {
    gateway: Arc<Script>,
    settler: Settler,
    registry: Registry,
    drop: Arc<DropHandle>,
    journal: Journal<Decisions>,
}

impl World {
    async fn new() -> Self {
        Self::of(drop_of(5)).await
    }

    async fn of(spec: DropSpec) -> Self {
        Self::with(spec, PaymentProvider::Sandbox).await
    }

    /// With a provider that moves money.
    async fn real() -> Self {
        Self::with(DropSpec { hold_ms: 60_000, ..drop_of(5) }, PaymentProvider::Stripe).await
    }

    async fn with(spec: DropSpec, provider: PaymentProvider) -> Self {
        let options = JournalOptions::in_memory();
        let (journal, _) = Journal::open(&options, Arc::new(MemoryDevice::new()), 0).unwrap();
        let registry = Registry::new(journal.handle(), Clock::default(), Scheduler::default(), 1);
        let (drop, _) = registry.schedule(spec).await.unwrap();
        let gateway = Arc::new(Script::default());
        let table = [(provider, Arc::clone(&gateway) as Arc<dyn PaymentGateway>)];
        let settler = Settler::new(Gateways::new(table), Duration::from_secs(30));
        Self { gateway, settler, registry, drop, journal }
    }

    /// A running refund relay that starts after this record.
    fn relay(&self, after: u64, owing: Vec<DropId>) -> (tokio::task::JoinHandle<()>, Arc<Progress>) {
        self.relay_of(Duty::Refund, after, owing)
    }

    fn relay_of(&self, duty: Duty, after: u64, owing: Vec<DropId>) -> (tokio::task::JoinHandle<()>, Arc<Progress>) {
        let (progress, reader) = (Progress::new(duty.about()), self.journal.handle().reader());
        let with = (self.settler.clone(), self.registry.clone());
        let mut relay = Relay::new(duty, Arc::clone(&progress), &reader, after, owing, with);
        let run = async move {
            let never = tokio::sync::watch::Sender::new(false);
            runner::run(&mut relay, never.subscribe()).await;
        };
        (actix::spawn(run), progress)
    }

    /// The use cases over an empty database.
    async fn orders(&self) -> (Orders, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let store = storage::connect(&format!("sqlite://{}", folder.path().join("a.db").display())).await.unwrap();
        store.migrate().await.unwrap();
        let (_, projection) = Projector::new(store.clone(), &self.journal.handle().reader(), 0);
        (Orders::new(store, self.registry.clone(), projection, self.settler.clone()), folder)
    }

    async fn orders_of(&self, buyer: UserId) -> Vec<OrderView> {
        match self.ask(Command::OrdersOf { buyer }).await {
            Outcome::Orders(orders) => orders,
            other => panic!("{other:?}"),
        }
    }

    /// Drops a request, as the server does when its client disconnects, once the payment of the buyer's `nth` order has
    /// begun. Returns when that order is confirmed.
    async fn hang_up<T>(&self, request: impl Future<Output = T>, buyer: UserId, nth: usize) {
        {
            let _busy = self.gateway.busy.lock().await;
            tokio::pin!(request);
            let begun = |order: &&OrderView| order.payment_pending.is_some() || order.status == OrderStatus::Confirmed;
            while self.orders_of(buyer).await.iter().filter(begun).count() < nth {
                assert!((&mut request).now_or_never().is_none());
            }
        }
        let confirmed = |order: &&OrderView| order.status == OrderStatus::Confirmed;
        tokio::time::timeout(Duration::from_secs(20), async {
            while self.orders_of(buyer).await.iter().filter(confirmed).count() < nth || self.settler.running() > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
        .expect("the payment ends");
    }

    fn charges(&self, answers: impl IntoIterator<Item = Result<PaymentStatus, GatewayError>>) {
        self.gateway.charges.lock().unwrap().extend(answers);
    }

    fn knows(&self, answers: impl IntoIterator<Item = Result<PaymentStatus, GatewayError>>) {
        self.gateway.look_ups.lock().unwrap().extend(answers);
    }

    async fn ask(&self, command: Command) -> Outcome {
        let Answer { outcome, .. } = self.drop.ask(command).await.unwrap();
        outcome
    }

    async fn order(&self, method: Option<&str>) -> OrderView {
        let reserve = Reserve { payment_method: method.map(Into::into), ..reserve_in(&self.drop.spec) };
        self.view(self.ask(Command::Reserve(Box::new(reserve))).await)
    }

    async fn look(&self, order: OrderId) -> OrderView {
        self.view(self.ask(Command::Find { order }).await)
    }

    fn view(&self, outcome: Outcome) -> OrderView {
        match outcome {
            Outcome::Order { order, .. } => *order,
            other => panic!("{other:?}"),
        }
    }

    async fn charge(&self, order: &OrderView) -> Option<OrderView> {
        let charging = self.settler.claim(order.id).expect("nobody else charges");
        match self.settler.charge(charging, &self.drop, order, "pm", TraceId::random()).await.unwrap() {
            Paid::Order(order) => Some(*order),
            Paid::TimedOut => None,
            Paid::Running => panic!("nobody else charges"),
            Paid::Action(_) | Paid::Declined(_) | Paid::Unavailable(_) => panic!("play money is taken at once"),
        }
    }
}

#[actix::test]
async fn a_charge_without_an_answer_is_looked_up() {
    let world = World::new().await;
    let ends = [
        (paid(), OrderStatus::Confirmed, None),
        (declined(), OrderStatus::Released, Some(ReleaseReason::PaymentFailed)),
    ];
    for (outcome, status, reason) in ends {
        let order = world.order(Some("pm")).await;
        world.charges([silent()]);
        world.knows([silent(), silent(), Ok(outcome)]);
        let order = world.charge(&order).await.expect("an outcome");
        assert_eq!((order.status, order.release_reason, order.payment_pending), (status, reason, None));
    }
}

#[actix::test]
async fn a_charge_that_was_never_made_leaves_the_hold_and_can_be_tried_again() {
    let world = World::new().await;
    let order = world.order(Some("pm")).await;
    assert_eq!(order.payment_pending.as_deref(), Some("pm"));
    world.charges([silent(), Ok(paid())]);
    world.knows([Ok(PaymentStatus::Unknown)]);
    assert!(world.charge(&order).await.is_none());
    let order = world.look(order.id).await;
    assert_eq!((order.status, &order.payment_pending), (OrderStatus::Reserved, &None));
    let again = world.settler.begin_and_charge(&world.drop, order.id, "pm".into(), TraceId::random()).await.unwrap();
    assert!(matches!(again, Paid::Order(order) if order.status == OrderStatus::Confirmed));
}

fn authorized() -> PaymentStatus {
    PaymentStatus::Authorized { reference: "pi_1".to_owned(), capture_before: None }
}

fn requires_action() -> PaymentStatus {
    let client_secret = Some("secret".to_owned());
    PaymentStatus::RequiresAction { reference: "pi_1".to_owned(), client_secret, url: None }
}

impl World {
    /// An order that is being paid by the real provider.
    async fn real_order(&self) -> OrderView {
        let order = self.order(None).await;
        let method = PaymentMethod { provider: PaymentProvider::Stripe, name: "pm_1".into() };
        self.view(self.ask(Command::BeginPayment { order: order.id, method }).await)
    }

    async fn pay(&self, order: &OrderView) -> Paid {
        let charging = self.settler.claim(order.id).expect("nobody else charges");
        self.settler.charge(charging, &self.drop, order, "pm_1", TraceId::random()).await.unwrap()
    }

    async fn until(&self, order: OrderId, is_so: impl Fn(&OrderView) -> bool) -> OrderView {
        let wait = async {
            loop {
                let order = self.look(order).await;
                if is_so(&order) {
                    return order;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), wait).await.expect("it happens")
    }
}

#[actix::test]
async fn money_is_authorized_then_the_order_is_confirmed_and_then_it_is_captured() {
    let world = World::real().await;
    let order = world.real_order().await;
    world.charges([Ok(authorized())]);
    let Paid::Order(paid) = world.pay(&order).await else { panic!("it is paid") };
    assert_eq!((paid.status, paid.payment.capture_due), (OrderStatus::Confirmed, true));
    assert!(world.gateway.captured.lock().unwrap().is_empty(), "not before the order is confirmed");
    let (relay, _) = world.relay_of(Duty::Capture, 0, Vec::new());
    let settled = world.until(order.id, |order| !order.payment.capture_due).await;
    assert_eq!(settled.status, OrderStatus::Confirmed);
    assert_eq!(*world.gateway.captured.lock().unwrap(), [(order.id, order.total())]);
    relay.abort();
}

#[actix::test]
async fn money_that_cannot_be_captured_any_more_gives_the_order_back() {
    let world = World::real().await;
    let order = world.real_order().await;
    world.charges([Ok(authorized())]);
    assert!(matches!(world.pay(&order).await, Paid::Order(_)));
    world.gateway.has_lapsed.store(true, Ordering::Relaxed);
    world.knows([Ok(PaymentStatus::Cancelled { reference: "pi_1".to_owned() })]);
    let (captures, _) = world.relay_of(Duty::Capture, 0, Vec::new());
    let (refunds, _) = world.relay(0, Vec::new());
    let back = world.until(order.id, |order| order.status == OrderStatus::Refunded).await;
    assert!(!back.payment.capture_due && back.refund_due.is_none());
    assert!(world.gateway.captured.lock().unwrap().is_empty());
    captures.abort();
    refunds.abort();
}

#[actix::test]
async fn a_buyer_who_has_to_act_gets_time_once_and_news_bring_the_outcome() {
    let world = World::real().await;
    let order = world.real_order().await;
    world.charges([Ok(requires_action())]);
    let Paid::Action(action) = world.pay(&order).await else { panic!("the buyer has to act") };
    assert_eq!(action.client_secret.as_deref(), Some("secret"));
    let waits = world.look(order.id).await;
    assert_eq!((waits.status, waits.payment_ref.as_deref()), (OrderStatus::Reserved, Some("pi_1")));
    assert!(waits.expires_at > order.expires_at, "the hold lasts longer");
    assert_eq!(world.settler.action(order.id), Some(*action));
    assert!(!format!("{:?}", requires_action()).contains("secret"), "it is in no log");
    // The same news twice, and once more after the outcome.
    world.knows([Ok(requires_action()), Ok(authorized())]);
    world.settler.news(&world.drop, &waits);
    world.settler.news(&world.drop, &waits);
    let paid = world.until(order.id, |order| order.status == OrderStatus::Confirmed).await;
    assert_eq!(paid.payment_pending, None);
    world.settler.news(&world.drop, &paid);
    assert_eq!(world.settler.action(order.id), None);
}

#[actix::test]
async fn a_hold_that_is_lost_while_its_buyer_should_act_is_cancelled_at_the_provider() {
    let world = World::real().await;
    let order = world.real_order().await;
    world.charges([Ok(requires_action())]);
    assert!(matches!(world.pay(&order).await, Paid::Action(_)));
    let trace = TraceId::random();
    let lost =
        world.view(world.ask(Command::Release { order: order.id, reason: ReleaseReason::Cancelled, trace }).await);
    world.knows([Ok(requires_action()), Ok(PaymentStatus::Cancelled { reference: "pi_1".to_owned() })]);
    world.settler.news(&world.drop, &lost);
    let ended = world.until(order.id, |order| order.payment_pending.is_none()).await;
    assert_eq!((ended.status, ended.refund_due), (OrderStatus::Released, None));
    assert_eq!(*world.gateway.refunded.lock().unwrap(), [(order.id, "pi_1".to_owned())]);
}

#[actix::test]
async fn a_declined_card_keeps_the_hold_and_an_absent_provider_charges_nothing() {
    let world = World::real().await;
    let order = world.real_order().await;
    let reason = DeclineReason::InsufficientFunds;
    world.charges([Ok(PaymentStatus::Declined { reference: None, reason })]);
    assert!(matches!(world.pay(&order).await, Paid::Declined(DeclineReason::InsufficientFunds)));
    let held = world.look(order.id).await;
    assert_eq!((held.status, held.payment.declined), (OrderStatus::Reserved, Some(reason)));
    let retry_after = Some(Duration::from_millis(6_500));
    world.charges([Err(GatewayError::Refused { reason: "it is down".to_owned(), retry_after }), Ok(authorized())]);
    for attempt in [2, 3] {
        let method = PaymentMethod { provider: PaymentProvider::Stripe, name: "pm_2".into() };
        let paid = world.settler.begin_and_charge(&world.drop, order.id, method, TraceId::random()).await.unwrap();
        let order = world.look(order.id).await;
        assert_eq!(order.payment.attempts, attempt);
        match paid {
            Paid::Unavailable(7) if attempt == 2 => assert_eq!(order.status, OrderStatus::Reserved),
            Paid::Order(paid) if attempt == 3 => assert_eq!(paid.status, OrderStatus::Confirmed),
            _ => panic!("attempt {attempt}"),
        }
    }
}

#[actix::test]
async fn an_order_that_waits_is_small() {
    let world = World::new().await;
    let (orders, _folder) = world.orders().await;
    let new =
        NewOrder { drop_id: world.drop.spec.id, variant_id: None, quantity: 1, payment_method: None, address: None };
    let waits = orders.place(UserId::new(), "key", &new, TraceId::random(), None);
    // With the handler and the request's extractors around it, about 1,000: larger ones do not fit glibc's cached
    // sizes.
    assert!(size_of_val(&waits) <= 488, "{}", size_of_val(&waits));
}

#[actix::test]
async fn a_payment_goes_on_when_its_client_hangs_up() {
    let world = World::new().await;
    let (orders, _folder) = world.orders().await;
    let (buyer, trace) = (UserId::new(), TraceId::random());
    let new = NewOrder {
        drop_id: world.drop.spec.id,
        variant_id: None,
        quantity: 1,
        payment_method: Some("pm".to_owned()),
        address: None,
    };
    world.charges([Ok(paid())]);
    world.hang_up(orders.place(buyer, "at once", &new, trace, None), buyer, 1).await;

    let held = orders.place(buyer, "later", &NewOrder { payment_method: None, ..new }, trace, None).await.unwrap();
    world.charges([Ok(paid())]);
    world.hang_up(orders.pay(buyer, held.answer.unwrap().id, "pm".to_owned(), trace), buyer, 2).await;
}

#[actix::test]
async fn refunds_follow_the_journal_until_the_gateway_has_them() {
    let world = World::new().await;
    *world.gateway.refund_failures.lock().unwrap() = 3;
    let mut orders = Vec::new();
    for _ in 0..2 {
        let order = world.order(Some("pm")).await;
        world.charges([Ok(paid())]);
        orders.push(world.charge(&order).await.expect("paid").id);
    }
    let (relay, _) = world.relay(0, Vec::new());
    assert!(matches!(world.ask(Command::Cancel).await, Outcome::Done(_)));
    for &order in &orders {
        while world.look(order).await.status != OrderStatus::Refunded {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    let mut refunded = world.gateway.refunded.lock().unwrap().clone();
    refunded.sort();
    assert_eq!(refunded, orders.iter().map(|&order| (order, "ch_1".to_owned())).collect::<Vec<_>>());
    assert!(world.drop.cell.read().settled);
    relay.abort();
}

/// A gateway that answers none of as many refunds as there are slots delays neither the journal nor the others.
#[actix::test]
async fn a_record_of_a_later_version_may_say_that_money_is_due_so_the_drops_are_asked() {
    for with_drop in [true, false] {
        let world = World::new().await;
        let order = world.order(Some("pm")).await;
        world.charges([Ok(paid())]);
        world.charge(&order).await.expect("paid");
        assert!(matches!(world.ask(Command::Cancel).await, Outcome::Done(_)));
        let handle = world.journal.handle();
        // It does not know of the refund that is due.
        let (relay, progress) = world.relay(handle.durable(), Vec::new());
        let mut bytes = Vec::new();
        let (drop, at) = (world.drop.spec.id, Timestamp::EPOCH);
        DropRecord { drop, at, event: DropEvent::Started }.encode(&mut bytes);
        bytes[0] = if with_drop { DropRecord::VERSION + 1 } else { 0 };
        let mut records = Records::new();
        records.push(|buffer| buffer.extend_from_slice(&bytes)).unwrap();
        handle.try_permit().unwrap().submit(records, Decisions { publish: None, replies: SmallVec::new() });
        while world.look(order.id).await.status != OrderStatus::Refunded {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        while progress.passed() < handle.durable() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(progress.errors(), 0);
        relay.abort();
    }
}

#[actix::test]
async fn refunds_without_an_answer_hold_up_nothing() {
    const STUCK: usize = 70;
    let world = World::of(drop_of(200)).await;
    let mut orders = Vec::new();
    for _ in 0..STUCK + 5 {
        let order = world.order(None).await.id;
        world.ask(Command::Confirm { order, payment_ref: "ch_1".into() }).await;
        orders.push(order);
    }
    let (stuck, fine) = orders.split_at(STUCK);
    *world.gateway.silent.lock().unwrap() = stuck.iter().copied().collect();
    let reader = world.journal.handle().reader();
    tokio::time::pause();
    let (relay, progress) = world.relay(0, Vec::new());
    world.ask(Command::Cancel).await;
    // The drop settles a cancellation in batches.
    while world.look(orders[STUCK + 4]).await.refund_due.is_none() {
        world.ask(Command::Tick).await;
    }
    let last = reader.durable();
    while progress.passed() < last {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for &order in fine {
        while world.look(order).await.status != OrderStatus::Refunded {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
    assert!(stuck.iter().all(|order| !world.gateway.refunded.lock().unwrap().iter().any(|(done, _)| done == order)));
    world.gateway.silent.lock().unwrap().clear();
    for &order in stuck {
        while world.look(order).await.status != OrderStatus::Refunded {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
    assert_eq!(world.gateway.refunded.lock().unwrap().len(), orders.len(), "each once");
    relay.abort();
}

#[actix::test]
async fn what_was_open_before_a_restart_is_brought_to_an_end() {
    let world = World::new().await;
    let (paid_for, refused, never) =
        (world.order(Some("pm")).await.id, world.order(Some("pm")).await.id, world.order(Some("pm")).await.id);
    let owed = world.order(Some("pm")).await.id;
    world.ask(Command::Confirm { order: owed, payment_ref: "ch_2".into() }).await;
    world.ask(Command::Refund { order: owed }).await;
    // In sequence, so that the script's answers meet the right calls.
    for (order, outcome) in [(paid_for, paid()), (refused, declined()), (never, PaymentStatus::Unknown)] {
        world.knows([silent(), Ok(outcome)]);
        world.settler.clone().resume(Arc::clone(&world.drop), vec![order]).await;
    }
    let (relay, _) = world.relay(world.journal.handle().reader().durable(), vec![world.drop.spec.id]);
    while world.look(owed).await.status != OrderStatus::Refunded {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    relay.abort();
    assert_eq!(world.look(paid_for).await.status, OrderStatus::Confirmed);
    assert_eq!(world.look(refused).await.release_reason, Some(ReleaseReason::PaymentFailed));
    let never = world.look(never).await;
    assert_eq!((never.status, never.payment_pending), (OrderStatus::Reserved, None));
    assert_eq!(world.look(owed).await.status, OrderStatus::Refunded);
    assert_eq!(*world.gateway.refunded.lock().unwrap(), [(owed, "ch_2".to_owned())]);
    assert_eq!(world.settler.running(), 0);
}

#[actix::test]
async fn money_that_comes_when_the_drop_has_left_memory_goes_back() {
    let world = World::new().await;
    let order = world.order(None).await;
    world.ask(Command::Release { order: order.id, reason: ReleaseReason::Cancelled, trace: TraceId::random() }).await;
    world.ask(Command::End).await;
    assert!(world.registry.retire(&world.drop, Timestamp::EPOCH).await.is_some());
    world.charges([Ok(paid())]);
    let charging = world.settler.claim(order.id).unwrap();
    let failure = world.settler.charge(charging, &world.drop, &order, "pm", TraceId::random()).await;
    assert!(failure.is_err_and(|failure| failure.code == crate::service::Code::DropNotFound));
    assert_eq!(*world.gateway.refunded.lock().unwrap(), [(order.id, "ch_1".to_owned())]);
}
