//! Tests of the fold: what a batch reads and writes, and that the split into batches does not matter.

use super::{Contradiction, DropImage, Fold, Rows, Touched};
use crate::domain::event::{OrderLine, VariantSpec};
use crate::domain::{
    CreatorId, DropEvent, DropId, DropRecord, DropSpec, DropStatus, Fingerprint, KeyDigest, Money, OrderId,
    OrderStatus, OrderView, PaymentEnd, ProductId, RefundCause, ReleaseReason, StockCounts, Timestamp, TraceId, UserId,
    VariantId,
};
use crate::storage::DropRow;
use std::collections::BTreeMap;

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

fn price() -> Money {
    Money { amount: 500, currency: "USD".parse().unwrap() }
}

fn spec(stocks: &[u32]) -> DropSpec {
    let variant = |&stock| VariantSpec { id: VariantId::new(), name: "one".to_owned(), stock, price: price() };
    DropSpec {
        id: DropId::new(),
        creator_id: CreatorId(uuid::Uuid::now_v7()),
        product_id: ProductId::new(),
        title: "a drop".to_owned(),
        variants: stocks.iter().map(variant).collect(),
        per_buyer_limit: 0,
        low_stock_threshold: 2,
        hold_ms: 1_000,
        starts_at: at(0),
        ends_at: None,
        created_at: at(0),
        shipping: None,
    }
}

fn reserved(line: OrderLine) -> DropEvent {
    DropEvent::Reserved {
        order: line.order,
        buyer: line.buyer,
        variant: line.variant,
        quantity: line.quantity,
        unit_price: price(),
        expires_at: at(1_000),
        key: "k".into(),
        digest: KeyDigest::of(line.buyer, "k"),
        fingerprint: Fingerprint(7),
        payment_method: Some("pm".into()),
        delivery: None,
    }
}

fn line(spec: &DropSpec, variant: usize, quantity: u32) -> OrderLine {
    OrderLine { order: OrderId::for_drop(spec.id), buyer: UserId::new(), variant: spec.variants[variant].id, quantity }
}

fn records(spec: &DropSpec, events: Vec<DropEvent>) -> Vec<DropRecord> {
    (0..).zip(events).map(|(millis, event)| DropRecord { drop: spec.id, at: at(millis), event }).collect()
}

/// The tables of a test, in memory.
#[derive(Default)]
struct Tables {
    drops: BTreeMap<DropId, (DropRow, u32)>,
    orders: BTreeMap<OrderId, OrderView>,
}

impl Tables {
    fn project(&mut self, first: u64, records: &[DropRecord]) -> Result<Rows, Contradiction> {
        let touched = Touched::by(records);
        let drops = touched.drops.iter().filter_map(|id| self.drops.get(id));
        let drops = drops.map(|(row, owed)| DropImage::stored(row.clone(), *owed)).collect();
        let orders = touched.orders.iter().filter_map(|id| self.orders.get(id).cloned()).collect();
        let mut fold = Fold::new(drops, orders);
        for (sequence, record) in (first..).zip(records) {
            fold.apply(sequence, record)?;
        }
        let rows = fold.finish();
        for image in &rows.drops {
            self.drops.insert(image.row.spec.id, (image.row.clone(), image.obligations));
        }
        let orders = rows.placed.iter().map(|order| &order.view).chain(&rows.orders);
        self.orders.extend(orders.map(|view| (view.id, view.clone())));
        Ok(rows)
    }
}

fn story(spec: &DropSpec) -> Vec<DropRecord> {
    let (a, b, c) = (line(spec, 0, 2), line(spec, 1, 3), line(spec, 1, 1));
    let trace = TraceId::default();
    let cause = RefundCause::DropCancelled;
    records(
        spec,
        vec![
            DropEvent::Scheduled(Box::new(spec.clone())),
            DropEvent::Started,
            reserved(a),
            reserved(b),
            DropEvent::StockLow { variant: b.variant, available: 1 },
            DropEvent::Confirmed { line: b, payment: Some("p".into()), retaken: false },
            reserved(c),
            DropEvent::Released { line: a, reason: ReleaseReason::PaymentFailed, trace },
            DropEvent::Cancelled,
            DropEvent::Released { line: c, reason: ReleaseReason::Cancelled, trace },
            DropEvent::RefundDue { line: b, payment: Some("p".into()), cause, was_sold: true },
            DropEvent::Refunded { line: b },
            DropEvent::PaymentEnded { order: c.order, attempt: 1, end: PaymentEnd::NotMade },
        ],
    )
}

#[test]
fn how_a_story_is_cut_into_batches_does_not_matter() {
    let spec = spec(&[5, 4]);
    let story = story(&spec);
    let mut whole = Tables::default();
    whole.project(1, &story).unwrap();
    for length in 1..story.len() {
        let mut pieces = Tables::default();
        for piece in story.chunks(length) {
            pieces.project(1, piece).unwrap();
        }
        assert_eq!(pieces.drops, whole.drops, "in batches of {length}");
        assert_eq!(pieces.orders, whole.orders, "in batches of {length}");
    }
    let (row, obligations) = &whole.drops[&spec.id];
    assert_eq!((row.status, *obligations, row.last_event_at), (DropStatus::Cancelled, 0, at(12)));
    let stocks: Vec<StockCounts> = row.variants.iter().map(|variant| variant.stock).collect();
    assert_eq!(stocks, [StockCounts::full(5), StockCounts::full(4)]);
    assert!(!row.variants[1].low, "four free units are above the threshold");
    let statuses: Vec<OrderStatus> = whole.orders.values().map(|order| order.status).collect();
    assert_eq!(statuses, [OrderStatus::Released, OrderStatus::Refunded, OrderStatus::Released]);
}

#[test]
fn a_batch_reads_only_what_it_does_not_make_and_writes_each_row_once() {
    let (spec, other) = (spec(&[5, 4]), spec(&[1]));
    let story = story(&spec);
    assert!(Touched::by(&story).drops.is_empty() && Touched::by(&story).orders.is_empty());
    let later = Touched::by(&story[4..]);
    assert_eq!(later.drops, [spec.id]);
    assert_eq!(later.orders.len(), 2, "the third is placed by the batch");
    let mut tables = Tables::default();
    tables.project(1, &records(&other, vec![DropEvent::Scheduled(Box::new(other.clone()))])).unwrap();
    tables.project(2, &story[..4]).unwrap();
    let rows = tables.project(6, &story[4..6]).unwrap();
    assert_eq!((rows.drops.len(), rows.variants.len()), (1, 1), "one variant of one drop changed");
    assert_eq!((rows.variants[0].ordinal, rows.variants[0].low), (1, true));
    assert_eq!((rows.placed.len(), rows.orders.len()), (0, 1));
}

#[test]
fn a_settled_drop_needs_no_orders_to_be_known_as_such() {
    let spec = spec(&[5, 4]);
    let story = story(&spec);
    for length in 1..=story.len() {
        let mut tables = Tables::default();
        let rows = tables.project(1, &story[..length]).unwrap();
        assert_eq!(rows.drops[0].is_settled(), length == story.len(), "after {length} records");
    }
}

#[test]
fn a_contradiction_names_its_record() {
    let spec = spec(&[1]);
    let mut tables = Tables::default();
    let too_many = line(&spec, 0, 2);
    let events = vec![DropEvent::Scheduled(Box::new(spec.clone())), DropEvent::Started, reserved(too_many)];
    let error = tables.project(40, &records(&spec, events)).unwrap_err();
    assert_eq!(error, Contradiction { sequence: 42, drop: spec.id, what: "the stock cannot follow" });
    assert_eq!(error.to_string(), format!("record 42 of drop {}: the stock cannot follow", spec.id));
}

#[test]
fn a_row_says_when_its_last_event_was_by_the_clock_as_it_was_then() {
    let spec = spec(&[1]);
    let mut story = records(&spec, vec![DropEvent::Scheduled(Box::new(spec.clone())), DropEvent::Started]);
    story[0].at = at(9);
    let rows = Tables::default().project(1, &story).unwrap();
    assert_eq!((rows.drops[0].row.last_event_at, rows.drops[0].row.started_at), (at(1), Some(at(1))));
}
