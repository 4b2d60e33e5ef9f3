use super::*;
use crate::domain::{DropId, ReleaseReason};
use crate::domain::{
    Fingerprint, KeyDigest, Money, OrderStatus, PaymentFacts, RefundCause, Timestamp, UserId, VariantId,
};
use crate::payments::gateway::{Charge, GatewayHealth, PaymentPage, PaymentState, PaymentStatus, PaymentSums};
use crate::payments::provider::Gateways;
use crate::service::Code;
use std::collections::BTreeMap;
use std::sync::Mutex;

fn usd(amount: i64) -> Money {
    Money { amount, currency: "USD".parse().unwrap() }
}

/// A confirmed order of 19.99, whose money was taken as `pi_1` by its first attempt.
fn sold() -> OrderView {
    let (id, buyer, at) = (OrderId::new(), UserId::new(), Timestamp::from_millis(1_000));
    let payment = PaymentFacts::default().started(PaymentProvider::Stripe, 1);
    OrderView {
        id,
        drop_id: DropId::new(),
        variant_id: VariantId::new(),
        buyer,
        quantity: 1,
        unit_price: usd(1_999),
        status: OrderStatus::Confirmed,
        release_reason: None,
        digest: KeyDigest::of(buyer, "k"),
        fingerprint: Fingerprint(1),
        created_at: at,
        expires_at: at,
        confirmed_at: Some(at),
        released_at: None,
        refunded_at: None,
        payment_ref: Some("pi_1".to_owned()),
        payment_pending: None,
        refund_due: None,
        failed_trace: None,
        payment,
        delivery: None,
    }
}

fn payment(order: OrderId, state: PaymentState, [authorized, captured, refunded]: [i64; 3]) -> ListedPayment {
    let sums = PaymentSums { authorized: usd(authorized), captured: usd(captured), refunded: usd(refunded) };
    ListedPayment { order, attempt: 1, reference: "pi_1".to_owned(), state, sums: Some(sums) }
}

const PAID: (PaymentState, [i64; 3]) = (PaymentState::Captured, [1_999, 1_999, 0]);
const HELD: (PaymentState, [i64; 3]) = (PaymentState::Authorized, [1_999, 0, 0]);
const BACK: (PaymentState, [i64; 3]) = (PaymentState::Captured, [1_999, 1_999, 1_999]);
const OVER: (PaymentState, [i64; 3]) = (PaymentState::Over, [1_999, 0, 0]);
const OPEN: (PaymentState, [i64; 3]) = (PaymentState::Open, [1_999, 0, 0]);

fn kind(order: &OrderView, (state, sums): (PaymentState, [i64; 3])) -> Option<DifferenceKind> {
    compare(&payment(order.id, state, sums), Some(order)).map(|(kind, _)| kind)
}

#[test]
fn what_agrees_and_what_is_under_way_is_no_difference() {
    let order = sold();
    assert_eq!(kind(&order, PAID), None);
    let capture_due = OrderView { payment: PaymentFacts { capture_due: true, ..order.payment }, ..order.clone() };
    // The consumer of captures decides what a lapsed authorization means.
    for books in [HELD, PAID, OVER] {
        assert_eq!(kind(&capture_due, books), None, "{books:?}");
    }
    let pending = OrderView {
        status: OrderStatus::Reserved,
        payment_pending: Some("pm".to_owned()),
        payment_ref: None,
        confirmed_at: None,
        ..order.clone()
    };
    let refund_due = OrderView { refund_due: Some(RefundCause::Requested), ..order.clone() };
    let refunded = OrderView { status: OrderStatus::Refunded, refunded_at: Some(Timestamp::EPOCH), ..order.clone() };
    for books in [HELD, PAID, OVER, OPEN] {
        assert_eq!(kind(&pending, books), None, "{books:?}");
        assert_eq!(kind(&refund_due, books), None, "{books:?}");
    }
    // An authorization that was cancelled is a refund, too; so is one of a late payment of a lost hold.
    let late = OrderView {
        status: OrderStatus::Released,
        release_reason: Some(ReleaseReason::Expired),
        confirmed_at: None,
        ..refunded.clone()
    };
    for books in [BACK, OVER] {
        assert_eq!((kind(&refunded, books), kind(&late, books)), (None, None), "{books:?}");
    }
    // Attempts that took nothing, and what has gone back.
    for books in [OVER, OPEN, BACK] {
        let (state, sums) = books;
        let other = ListedPayment { reference: "pi_0".to_owned(), ..payment(order.id, state, sums) };
        assert_eq!((compare(&other, Some(&order)), compare(&other, None)), (None, None), "{books:?}");
    }
}

#[test]
fn each_difference_has_its_name() {
    use DifferenceKind as K;
    let order = sold();
    let differs = |books, expected| assert_eq!(kind(&order, books), Some(expected), "{books:?}");
    differs(HELD, K::CaptureMissing);
    differs(OVER, K::PaymentGone);
    differs(OPEN, K::PaymentGone);
    differs((PaymentState::Captured, [1_999, 1_000, 0]), K::AmountDiffers);
    differs((PaymentState::Authorized, [2_000, 0, 0]), K::AmountDiffers);
    differs((PaymentState::Captured, [1_999, 1_999, 500]), K::RefundUnknown);
    differs(BACK, K::RefundUnknown);
    let unreadable = ListedPayment { sums: None, ..payment(order.id, PaymentState::Captured, [0; 3]) };
    assert_eq!(compare(&unreadable, Some(&order)).unwrap().0, K::AmountDiffers);
    let refunded = OrderView { status: OrderStatus::Refunded, refunded_at: Some(Timestamp::EPOCH), ..order.clone() };
    for books in [PAID, HELD, (PaymentState::Captured, [1_999, 1_999, 500])] {
        assert_eq!(kind(&refunded, books), Some(K::RefundMissing), "{books:?}");
    }
    // A payment that the order does not count, of another attempt than the pending one, or of no order.
    let released = OrderView { status: OrderStatus::Released, payment_ref: None, confirmed_at: None, ..order.clone() };
    let held = OrderView { status: OrderStatus::Reserved, payment_pending: Some("pm".to_owned()), ..released.clone() };
    for (books, expected) in [(HELD, K::AuthorizedWithoutOrder), (PAID, K::CapturedWithoutOrder)] {
        let payment = payment(order.id, books.0, books.1);
        let second = ListedPayment { reference: "pi_0".to_owned(), ..payment.clone() };
        let earlier = ListedPayment { attempt: 7, ..payment.clone() };
        for found in [
            compare(&second, Some(&order)),
            compare(&payment, Some(&released)),
            compare(&earlier, Some(&held)),
            compare(&payment, None),
        ] {
            assert_eq!(found.map(|(kind, _)| kind), Some(expected), "{books:?}");
        }
    }
}

/// A provider with books in memory, in pages of two, and orders.
#[derive(Default)]
struct Books {
    payments: Mutex<Vec<ListedPayment>>,
    orders: Mutex<BTreeMap<OrderId, OrderView>>,
    /// What an order becomes once it was read so many times.
    later: Mutex<BTreeMap<OrderId, (u32, OrderView)>>,
    /// What a payment becomes once it was listed.
    then: Mutex<BTreeMap<String, ListedPayment>>,
    returned: Mutex<Vec<String>>,
    captured: Mutex<Vec<String>>,
    is_down: std::sync::atomic::AtomicBool,
}

#[async_trait]
impl PaymentGateway for Books {
    fn name(&self) -> &'static str {
        "stripe"
    }
    fn accepts(&self, _: &str) -> bool {
        true
    }
    async fn authorize(&self, _: &Charge) -> Result<PaymentStatus, GatewayError> {
        panic!("nothing is authorized")
    }
    async fn look_up(&self, _: OrderId, _: u32, reference: Option<&str>) -> Result<PaymentStatus, GatewayError> {
        let reference = reference.expect("a reference").to_owned();
        let payments = self.payments.lock().unwrap();
        let known = payments.iter().find(|payment| payment.reference == reference).expect("a payment");
        Ok(match known.state {
            PaymentState::Authorized => PaymentStatus::Authorized { reference, capture_before: None },
            PaymentState::Captured => PaymentStatus::Captured { reference },
            PaymentState::Open => PaymentStatus::Pending { reference },
            PaymentState::Over => PaymentStatus::Cancelled { reference },
        })
    }
    async fn capture(&self, _: OrderId, reference: &str, _: Money) -> Result<(), GatewayError> {
        self.captured.lock().unwrap().push(reference.to_owned());
        Ok(())
    }
    async fn give_back(&self, _: OrderId, reference: &str, _: Option<Money>, _: &str) -> Result<(), GatewayError> {
        if self.is_down.load(std::sync::atomic::Ordering::Relaxed) {
            return Err(GatewayError::NotYet { reason: "later".to_owned() });
        }
        self.returned.lock().unwrap().push(reference.to_owned());
        Ok(())
    }
    fn health(&self) -> GatewayHealth {
        GatewayHealth::Up
    }
    async fn list(&self, _: Timestamp, _: Timestamp, after: Option<&str>) -> Result<PaymentPage, GatewayError> {
        let payments = self.payments.lock().unwrap();
        let from = after
            .map_or(0, |after| 1 + payments.iter().position(|payment| payment.reference == after).expect("a payment"));
        let page: Vec<ListedPayment> = payments[from..].iter().take(2).cloned().collect();
        let next = page.last().filter(|_| payments.len() > from + 2).map(|last| last.reference.clone());
        Ok(PaymentPage { payments: page, next })
    }
    async fn payment(&self, reference: &str) -> Result<Option<ListedPayment>, GatewayError> {
        if let Some(then) = self.then.lock().unwrap().get(reference) {
            return Ok(Some(then.clone()));
        }
        Ok(self.payments.lock().unwrap().iter().find(|payment| payment.reference == reference).cloned())
    }
}

struct Ledger(Arc<Books>);

#[async_trait]
impl OrderBooks for Ledger {
    async fn order(&self, id: OrderId) -> Result<Option<OrderView>, Failure> {
        if let Some((left, then)) = self.0.later.lock().unwrap().get_mut(&id) {
            match left.checked_sub(1) {
                Some(fewer) => *left = fewer,
                None => return Ok(Some(then.clone())),
            }
        }
        match self.0.is_down.load(std::sync::atomic::Ordering::Relaxed) && self.0.orders.lock().unwrap().is_empty() {
            true => Err(Failure::new(Code::DatabaseUnavailable)),
            false => Ok(self.0.orders.lock().unwrap().get(&id).cloned()),
        }
    }
}

struct Bench {
    books: Arc<Books>,
    reconciler: Reconciler,
}

impl Bench {
    fn new() -> Self {
        let books = Arc::new(Books::default());
        let table = [(PaymentProvider::Stripe, Arc::clone(&books) as Arc<dyn PaymentGateway>)];
        let settler = Settler::new(Gateways::new(table), Duration::from_secs(1));
        let reconciler = Reconciler::new(settler, Arc::new(Ledger(Arc::clone(&books))), Clock::default());
        Self { books, reconciler }
    }

    /// Adds a payment; `order`: which order it names, if that is known.
    fn add(&self, reference: &str, (state, sums): (PaymentState, [i64; 3]), order: Option<&OrderView>) -> OrderId {
        let id = order.map_or_else(OrderId::new, |order| order.id);
        let reference = reference.to_owned();
        self.books.payments.lock().unwrap().push(ListedPayment { reference, ..payment(id, state, sums) });
        if let Some(order) = order {
            self.books.orders.lock().unwrap().insert(id, order.clone());
        }
        id
    }

    async fn run(&self, repair: Repair) -> ReconcileReport {
        self.reconciler.run(PaymentProvider::Stripe, Window::default(), repair).await.unwrap()
    }

    fn returned(&self) -> Vec<String> {
        std::mem::take(&mut self.books.returned.lock().unwrap())
    }
}

#[tokio::test]
async fn only_what_has_one_right_answer_is_repaired() {
    let bench = Bench::new();
    let orders: Vec<OrderView> =
        (0..5).map(|number| OrderView { payment_ref: Some(format!("pi_{number}")), ..sold() }).collect();
    let refunded =
        OrderView { status: OrderStatus::Refunded, refunded_at: Some(Timestamp::EPOCH), ..orders[1].clone() };
    bench.add("pi_0", PAID, Some(&orders[0]));
    bench.add("stray_held", HELD, Some(&orders[0]));
    bench.add("stray_paid", PAID, Some(&orders[0]));
    bench.add("foreign_held", HELD, None);
    bench.add("foreign_paid", PAID, None);
    bench.add("pi_1", PAID, Some(&refunded));
    bench.add("pi_2", HELD, Some(&orders[2]));
    bench.add("pi_3", BACK, Some(&orders[3]));
    bench.add("pi_4", OVER, Some(&orders[4]));
    let cases = [
        (Repair::Nothing, 8, vec![], vec![]),
        (Repair::Strays, 6, vec!["stray_held", "stray_paid"], vec![]),
        (Repair::All, 3, vec!["stray_held", "stray_paid", "foreign_held", "pi_1"], vec!["pi_2"]),
    ];
    for (repair, left, returned, captured) in cases {
        let report = bench.run(repair).await;
        assert_eq!((report.payments, report.differences, report.repaired), (9, left, 8 - left), "{repair:?}");
        assert_eq!((report.complete, report.is_clean()), (true, false));
        assert_eq!(bench.returned(), returned, "{repair:?}");
        assert_eq!(std::mem::take(&mut *bench.books.captured.lock().unwrap()), captured, "{repair:?}");
        let by_kind: Vec<_> = report.by_kind.iter().map(|(kind, count)| (kind.as_str(), *count)).collect();
        let expected = [
            ("authorized_without_order", 2),
            ("captured_without_order", 2),
            ("capture_missing", 1),
            ("refund_missing", 1),
            ("refund_unknown", 1),
            ("payment_gone", 1),
        ];
        assert_eq!(by_kind, expected);
        assert!(report.findings.iter().all(|found| report.render().contains(&found.payment)));
    }
    // What cannot be repaired now is left.
    bench.books.is_down.store(true, std::sync::atomic::Ordering::Relaxed);
    let report = bench.run(Repair::Strays).await;
    assert_eq!((report.differences, report.repaired), (8, 0));
    // The daily comparison has its numbers in the metrics.
    bench.reconciler.run_once(PaymentProvider::Stripe).await.unwrap();
    let gauge = |kind: &str| bench.reconciler.metrics.differences.with_label_values(&["stripe", kind]).get();
    assert_eq!((gauge("authorized_without_order"), gauge("amount_differs")), (2, 0));
    assert!(bench.reconciler.metrics.at.with_label_values(&["stripe"]).get() > 0);
}

#[tokio::test]
async fn what_changes_while_it_is_read_is_no_difference() {
    let bench = Bench::new();
    // Confirmed between the list and the reading of the order.
    let confirmed = sold();
    let reserved =
        OrderView { status: OrderStatus::Reserved, payment_ref: None, confirmed_at: None, ..confirmed.clone() };
    bench.add("pi_1", HELD, Some(&reserved));
    let late = payment(confirmed.id, PaymentState::Captured, PAID.1);
    bench.books.later.lock().unwrap().insert(confirmed.id, (1, confirmed.clone()));
    assert!(bench.run(Repair::All).await.is_clean());
    // Captured since it was listed.
    let captured = OrderView { payment_ref: Some("pi_2".to_owned()), ..sold() };
    bench.add("pi_2", HELD, Some(&captured));
    let then = ListedPayment { reference: "pi_2".to_owned(), order: captured.id, ..late };
    bench.books.then.lock().unwrap().insert("pi_2".to_owned(), then);
    bench.books.later.lock().unwrap().clear();
    bench.books.payments.lock().unwrap().remove(0);
    assert!(bench.run(Repair::All).await.is_clean());
    assert_eq!((bench.returned(), bench.books.captured.lock().unwrap().len()), (vec![], 0));
}

#[tokio::test]
async fn a_comparison_that_cannot_be_made_is_an_error_and_a_bounded_one_is_not_complete() {
    let bench = Bench::new();
    bench.add("pi_1", PAID, None);
    bench.books.is_down.store(true, std::sync::atomic::Ordering::Relaxed);
    let failed = bench.reconciler.run(PaymentProvider::Stripe, Window::default(), Repair::All).await;
    assert!(failed.is_err());
    assert!(bench.reconciler.run(PaymentProvider::Sandbox, Window::default(), Repair::All).await.is_err());
    assert_eq!(bench.reconciler.providers(), [PaymentProvider::Stripe]);
    let mut report = ReconcileReport::new(PaymentProvider::Stripe, Timestamp::EPOCH, Timestamp::EPOCH);
    assert!(!report.is_clean() && report.render().contains("not all payments were read"));
    for _ in 0..200 {
        let (kind, detail) = (DifferenceKind::PaymentGone, "gone".to_owned());
        let payment = "pi_1".to_owned();
        report.add(Difference { kind, order_id: OrderId::new(), attempt: 1, payment, detail, repaired: false });
    }
    assert!(report.findings.len() == 100 && report.render().contains("… and 100 more"));
}
