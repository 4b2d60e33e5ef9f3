//! The effect of each event on the rows. Every scenario is projected record by record: the batches of other tests must
//! give the same rows.

use crate::Database;
use crate::fixtures::{Ask, Journal, Sale, at};
use livedrop::domain::{
    AddressVersionId, CountryPrice, Delivery, DropEvent, DropRecord, DropStatus, OrderStatus, OrderView, PaymentFacts,
    PaymentProvider, RefundCause, Refusal, ReleaseReason, ShippingTable, Timestamp, TraceId,
};

/// Of an order that was tried to be paid with play money.
const TRIED: PaymentFacts =
    PaymentFacts { provider: Some(PaymentProvider::Sandbox), attempts: 1, capture_due: false, declined: None };

/// An open drop, projected.
async fn open(db: &Database, stocks: &[u32]) -> (Journal, Sale) {
    let (mut journal, sale) = (Journal::new(db), Sale::of(stocks));
    one_by_one(&mut journal, sale.opened()).await;
    (journal, sale)
}

async fn one_by_one(journal: &mut Journal, records: Vec<DropRecord>) {
    for record in records {
        journal.project(vec![record]).await;
    }
}

async fn order(db: &Database, ask: &Ask) -> OrderView {
    db.store.order(ask.line.order).await.unwrap().expect("the order is projected")
}

fn as_placed(ask: &Ask, millis: i64) -> OrderView {
    OrderView {
        id: ask.line.order,
        drop_id: ask.drop,
        variant_id: ask.line.variant,
        buyer: ask.line.buyer,
        quantity: ask.line.quantity,
        unit_price: ask.unit_price,
        status: OrderStatus::Reserved,
        release_reason: None,
        digest: ask.digest(),
        fingerprint: ask.fingerprint(),
        created_at: at(millis),
        expires_at: at(millis + 60_000),
        confirmed_at: None,
        released_at: None,
        refunded_at: None,
        payment_ref: None,
        payment_pending: None,
        payment: PaymentFacts::default(),
        refund_due: None,
        failed_trace: None,
        delivery: None,
    }
}

pub async fn scheduling_and_starting(db: Database) {
    let (mut journal, sale) = (Journal::new(&db), Sale::of(&[5, 7]));
    let [scheduled, started] = <[DropRecord; 2]>::try_from(sale.opened()).unwrap();
    journal.project(vec![scheduled]).await;
    let row = sale.row(&db).await;
    assert_eq!((row.status, row.started_at, row.ended_at), (DropStatus::Scheduled, None, None));
    assert_eq!(row.spec, sale.spec);
    assert_eq!(row.last_event_at, at(-1_000));
    assert_eq!((sale.stock(&db, 0).await, sale.stock(&db, 1).await), ((5, 0, 0), (7, 0, 0)));
    assert!(!sale.is_settled(&db).await);
    journal.project(vec![started]).await;
    let row = sale.row(&db).await;
    assert_eq!((row.status, row.started_at, row.last_event_at), (DropStatus::Live, Some(at(0)), at(0)));
    let (_, empty) = open(&db, &[0, 0]).await;
    assert_eq!(empty.row(&db).await.status, DropStatus::SoldOut, "nothing to sell from the start");
}

pub async fn a_hold_that_is_paid(db: Database) {
    let (mut journal, sale) = open(&db, &[1, 10]).await;
    let ask = sale.order(1, 3);
    journal.project(vec![ask.reserved(10, None)]).await;
    assert_eq!(order(&db, &ask).await, as_placed(&ask, 10));
    assert_eq!((sale.stock(&db, 0).await, sale.stock(&db, 1).await), ((1, 0, 0), (7, 3, 0)));
    journal.project(vec![ask.paying(20, "pm_sandbox_ok")]).await;
    let paying = OrderView { payment_pending: Some("pm_sandbox_ok".to_owned()), payment: TRIED, ..as_placed(&ask, 10) };
    assert_eq!(order(&db, &ask).await, paying);
    journal.project(vec![ask.confirmed(30, Some("pay_1"), false)]).await;
    let confirmed = OrderView {
        status: OrderStatus::Confirmed,
        confirmed_at: Some(at(30)),
        payment_ref: Some("pay_1".to_owned()),
        payment: TRIED,
        ..as_placed(&ask, 10)
    };
    assert_eq!(order(&db, &ask).await, confirmed);
    assert_eq!(sale.stock(&db, 1).await, (7, 0, 3));
    assert_eq!(sale.row(&db).await.last_event_at, at(30));
    let at_once = sale.order(1, 1);
    journal.project(vec![at_once.reserved(40, Some("pm_card"))]).await;
    assert_eq!(order(&db, &at_once).await.payment_pending.as_deref(), Some("pm_card"));
}

pub async fn a_hold_that_is_released(db: Database) {
    let (mut journal, sale) = open(&db, &[10]).await;
    for reason in [ReleaseReason::Expired, ReleaseReason::Cancelled] {
        let ask = sale.order(0, 4);
        journal.project(vec![ask.reserved(10, Some("pm_card"))]).await;
        assert_eq!(sale.stock(&db, 0).await, (6, 4, 0));
        journal.project(vec![ask.released(20, reason, TraceId::random())]).await;
        let released = OrderView {
            status: OrderStatus::Released,
            release_reason: Some(reason),
            released_at: Some(at(20)),
            // Still pending: the gateway may answer later.
            payment_pending: Some("pm_card".to_owned()),
            payment: TRIED,
            ..as_placed(&ask, 10)
        };
        assert_eq!(order(&db, &ask).await, released);
        assert_eq!(sale.stock(&db, 0).await, (10, 0, 0));
    }
}

pub async fn a_payment_that_fails(db: Database) {
    let (mut journal, sale) = open(&db, &[10]).await;
    let (ask, trace) = (sale.order(0, 1), TraceId::random());
    journal.project(vec![ask.reserved(10, Some("pm_sandbox_declined"))]).await;
    journal.project(vec![ask.released(20, ReleaseReason::PaymentFailed, trace)]).await;
    let failed = OrderView {
        status: OrderStatus::Released,
        release_reason: Some(ReleaseReason::PaymentFailed),
        released_at: Some(at(20)),
        failed_trace: Some(trace),
        payment: TRIED,
        ..as_placed(&ask, 10)
    };
    assert_eq!(order(&db, &ask).await, failed);
}

pub async fn a_late_payment_that_gets_its_units_back(db: Database) {
    let (mut journal, sale) = open(&db, &[10]).await;
    let ask = sale.order(0, 2);
    journal.project(vec![ask.reserved(10, Some("pm_slow"))]).await;
    journal.project(vec![ask.released(20, ReleaseReason::Expired, TraceId::default())]).await;
    journal.project(vec![ask.confirmed(30, Some("pay_late"), true)]).await;
    let confirmed = OrderView {
        status: OrderStatus::Confirmed,
        confirmed_at: Some(at(30)),
        payment_ref: Some("pay_late".to_owned()),
        payment: TRIED,
        ..as_placed(&ask, 10)
    };
    assert_eq!(order(&db, &ask).await, confirmed, "nothing is left of the release");
    assert_eq!(notes(&db, &ask).await, [("released".to_owned(), at(20), "expired".to_owned())], "but its note");
    assert_eq!(sale.stock(&db, 0).await, (8, 0, 2));
}

pub async fn a_late_payment_that_is_refunded(db: Database) {
    let (mut journal, sale) = open(&db, &[2]).await;
    let ask = sale.order(0, 2);
    journal.project(vec![ask.reserved(10, Some("pm_slow"))]).await;
    journal.project(vec![ask.released(20, ReleaseReason::Expired, TraceId::default())]).await;
    journal.project(vec![ask.refund_due(30, "pay_late", RefundCause::LatePayment, false)]).await;
    let released = OrderView {
        status: OrderStatus::Released,
        release_reason: Some(ReleaseReason::Expired),
        released_at: Some(at(20)),
        payment_ref: Some("pay_late".to_owned()),
        payment: TRIED,
        refund_due: Some(RefundCause::LatePayment),
        ..as_placed(&ask, 10)
    };
    assert_eq!(order(&db, &ask).await, released);
    assert_eq!(sale.stock(&db, 0).await, (2, 0, 0), "nothing moves: the hold was gone already");
    journal.project(vec![ask.refunded(40)]).await;
    assert_eq!(order(&db, &ask).await, OrderView { refund_due: None, refunded_at: Some(at(40)), ..released });
    assert_eq!(sale.stock(&db, 0).await, (2, 0, 0));
}

pub async fn a_refund_returns_the_units(db: Database) {
    let (mut journal, sale) = open(&db, &[10]).await;
    let ask = sale.order(0, 3);
    journal.project(vec![ask.reserved(10, None)]).await;
    journal.project(vec![ask.confirmed(20, Some("pay_1"), false)]).await;
    journal.project(vec![ask.refund_due(30, "pay_1", RefundCause::Requested, true)]).await;
    let due = OrderView {
        status: OrderStatus::Confirmed,
        confirmed_at: Some(at(20)),
        payment_ref: Some("pay_1".to_owned()),
        payment: TRIED,
        refund_due: Some(RefundCause::Requested),
        ..as_placed(&ask, 10)
    };
    assert_eq!(order(&db, &ask).await, due);
    assert_eq!(sale.stock(&db, 0).await, (10, 0, 0), "the units are free before the money is back");
    journal.project(vec![ask.refunded(40)]).await;
    let refunded = OrderView { status: OrderStatus::Refunded, refund_due: None, refunded_at: Some(at(40)), ..due };
    assert_eq!(order(&db, &ask).await, refunded);
    assert_eq!(sale.stock(&db, 0).await, (10, 0, 0));
    assert_eq!(notes(&db, &ask).await, [("refund_due".to_owned(), at(30), "requested".to_owned())]);
}

async fn notes(db: &Database, ask: &Ask) -> Vec<(String, Timestamp, String)> {
    let notes = db.store.order_notes(ask.line.order).await.unwrap();
    notes.into_iter().map(|note| (note.kind, note.at, note.reason)).collect()
}

pub async fn a_free_order_is_refunded_without_a_reference(db: Database) {
    let (mut journal, sale) = open(&db, &[10]).await;
    let ask = sale.order(0, 1);
    one_by_one(&mut journal, vec![ask.reserved(10, None), ask.confirmed(10, None, false)]).await;
    assert_eq!(order(&db, &ask).await.payment_ref, None);
    let refund = vec![ask.refund_due(20, "", RefundCause::Requested, true), ask.refunded(20)];
    one_by_one(&mut journal, refund).await;
    let refunded = order(&db, &ask).await;
    assert_eq!((refunded.status, refunded.payment_ref), (OrderStatus::Refunded, None));
}

pub async fn low_and_sold_out_and_back_again(db: Database) {
    let (mut journal, sale) = open(&db, &[4]).await;
    let (ask, variant) = (sale.order(0, 4), sale.spec.variants[0].id);
    let low = async || sale.row(&db).await.variants[0].low;
    let status = async || sale.row(&db).await.status;
    journal.project(vec![ask.reserved(10, None)]).await;
    journal.project(vec![sale.event(10, DropEvent::StockLow { variant, available: 0 })]).await;
    journal.project(vec![sale.event(10, DropEvent::SoldOut)]).await;
    assert_eq!((low().await, status().await), (true, DropStatus::SoldOut));
    journal.project(vec![sale.event(20, DropEvent::Restocked { variant, quantity: 2 })]).await;
    journal.project(vec![sale.event(20, DropEvent::BackInStock)]).await;
    assert_eq!((low().await, status().await), (true, DropStatus::Live), "2 is not above the threshold");
    let row = sale.row(&db).await;
    assert_eq!((row.variants[0].stock.total, row.spec.variants[0].stock), (6, 4), "the spec stays as scheduled");
    journal.project(vec![ask.released(30, ReleaseReason::Cancelled, TraceId::random())]).await;
    assert!(!low().await, "6 is");
    assert_eq!(sale.stock(&db, 0).await, (6, 0, 0));
}

/// Only older journals have refusals: they change nothing, and leave their keys free.
pub async fn a_refusal_leaves_nothing(db: Database) {
    let (mut journal, sale) = open(&db, &[4]).await;
    let before = sale.row(&db).await;
    let ask = sale.order(0, 1);
    for refusal in [Refusal::NotStarted, Refusal::SoldOut, Refusal::NotEnoughStock { available: u32::MAX }] {
        journal.project(vec![sale.refused(10, &ask, refusal)]).await;
        assert_eq!(db.store.order_of_key(ask.line.buyer, &ask.key).await.unwrap(), None);
    }
    assert_eq!(sale.row(&db).await.variants, before.variants);
    journal.project(vec![ask.reserved(11, None)]).await;
    let found = db.store.order_of_key(ask.line.buyer, &ask.key).await.unwrap().expect("the order");
    assert_eq!(found.id, ask.line.order);
}

pub async fn a_cancelled_drop_is_settled_when_everyone_has_their_money(db: Database) {
    let (mut journal, sale) = open(&db, &[10]).await;
    let (holding, owning) = (sale.order(0, 1), sale.order(0, 2));
    one_by_one(&mut journal, vec![holding.reserved(1, None), owning.reserved(1, None)]).await;
    one_by_one(&mut journal, vec![owning.confirmed(2, Some("pay_1"), false)]).await;
    let mut steps = vec![
        sale.event(10, DropEvent::Cancelled),
        holding.released(11, ReleaseReason::Cancelled, TraceId::default()),
        owning.refund_due(12, "pay_1", RefundCause::DropCancelled, true),
        owning.refunded(13),
    ];
    let last = steps.pop().unwrap();
    for step in steps {
        assert!(!sale.is_settled(&db).await);
        journal.project(vec![step]).await;
    }
    assert!(!sale.is_settled(&db).await, "the refund is owed");
    journal.project(vec![last]).await;
    assert!(sale.is_settled(&db).await);
    let row = sale.row(&db).await;
    assert_eq!((row.status, row.ended_at), (DropStatus::Cancelled, Some(at(10))));
}

pub async fn an_ended_drop_is_settled_when_nothing_is_held(db: Database) {
    let (mut journal, sale) = open(&db, &[10]).await;
    let (holding, owning) = (sale.order(0, 1), sale.order(0, 2));
    one_by_one(&mut journal, vec![holding.reserved(1, None), owning.reserved(1, None)]).await;
    one_by_one(&mut journal, vec![owning.confirmed(2, Some("pay_1"), false)]).await;
    journal.project(vec![sale.event(10, DropEvent::Ended)]).await;
    assert!(!sale.is_settled(&db).await);
    journal.project(vec![holding.released(11, ReleaseReason::Expired, TraceId::default())]).await;
    assert!(sale.is_settled(&db).await, "sold orders of an ended drop stay sold");
    journal.project(vec![owning.refund_due(12, "pay_1", RefundCause::Requested, true)]).await;
    assert!(!sale.is_settled(&db).await, "a refund opens it again");
    journal.project(vec![owning.refunded(13)]).await;
    assert!(sale.is_settled(&db).await);
    assert_eq!(sale.row(&db).await.ended_at, Some(at(10)));
}

pub async fn an_order_that_is_sent_keeps_where_and_for_how_much(db: Database) {
    let mut sale = Sale::of(&[5]);
    let row = |code: &str, price| CountryPrice { country: code.parse().unwrap(), price };
    sale.spec.shipping = Some(Box::new(ShippingTable { countries: vec![row("DE", 490), row("AT", 0)] }));
    let mut journal = Journal::new(&db);
    journal.project(sale.opened()).await;
    let (sent, kept) = (sale.order(0, 2), sale.order(0, 1));
    let delivery = Delivery { address: AddressVersionId::new(), country: "DE".parse().unwrap(), shipping: 490 };
    let mut record = sent.reserved(10, None);
    if let DropEvent::Reserved { delivery: of, .. } = &mut record.event {
        *of = Some(Box::new(delivery));
    }
    journal.project(vec![record, kept.reserved(10, None)]).await;
    let placed = OrderView { delivery: Some(Box::new(delivery)), ..as_placed(&sent, 10) };
    assert_eq!(order(&db, &sent).await, placed);
    assert_eq!(order(&db, &kept).await.delivery, None);
    journal.project(vec![sent.confirmed(20, Some("ch"), false)]).await;
    assert_eq!(order(&db, &sent).await.delivery, placed.delivery);
    assert_eq!(sale.row(&db).await.spec.shipping, sale.spec.shipping);
}
