//! One golden file for each event type: a published form never changes. A change that receivers would notice is a new
//! type.

use super::*;
use crate::domain::{Currency, DropSpec, Fingerprint, KeyDigest, PaymentEnd, Refusal, TraceId};
use std::collections::{BTreeMap, BTreeSet};

/// Every type and its golden text.
const GOLDEN: [(&str, &str); 15] = [
    ("com.livedrop.drop.back_in_stock.v1", include_str!("golden/drop.back_in_stock.v1.json")),
    ("com.livedrop.drop.cancelled.v1", include_str!("golden/drop.cancelled.v1.json")),
    ("com.livedrop.drop.ended.v1", include_str!("golden/drop.ended.v1.json")),
    ("com.livedrop.drop.rescheduled.v1", include_str!("golden/drop.rescheduled.v1.json")),
    ("com.livedrop.drop.restocked.v1", include_str!("golden/drop.restocked.v1.json")),
    ("com.livedrop.drop.scheduled.v1", include_str!("golden/drop.scheduled.v1.json")),
    ("com.livedrop.drop.sold_out.v1", include_str!("golden/drop.sold_out.v1.json")),
    ("com.livedrop.drop.started.v1", include_str!("golden/drop.started.v1.json")),
    ("com.livedrop.drop.stock_low.v1", include_str!("golden/drop.stock_low.v1.json")),
    ("com.livedrop.events.gap.v1", include_str!("golden/events.gap.v1.json")),
    ("com.livedrop.order.confirmed.v1", include_str!("golden/order.confirmed.v1.json")),
    ("com.livedrop.order.refund_due.v1", include_str!("golden/order.refund_due.v1.json")),
    ("com.livedrop.order.refunded.v1", include_str!("golden/order.refunded.v1.json")),
    ("com.livedrop.order.released.v1", include_str!("golden/order.released.v1.json")),
    ("com.livedrop.order.reserved.v1", include_str!("golden/order.reserved.v1.json")),
];

fn id(n: u128) -> Uuid {
    Uuid::from_u128(0x0190_a000_0000_7000_8000_0000_0000_0000 + n)
}

fn at(n: i64) -> Timestamp {
    Timestamp::from_millis(1_700_000_000_000 + n)
}

/// An event of each kind.
fn events() -> Vec<DropEvent> {
    let currency: Currency = "EUR".parse().unwrap();
    let price = Money { amount: 1_999, currency };
    let variant = VariantId(id(4));
    let line = OrderLine { order: OrderId(id(5)), buyer: UserId(id(6)), variant, quantity: 2 };
    let spec = DropSpec {
        id: DropId(id(1)),
        creator_id: CreatorId(id(2)),
        product_id: ProductId(id(3)),
        title: "Grün \"1\" 🎉".to_owned(),
        variants: vec![VariantSpec { id: variant, name: "M".to_owned(), stock: 100, price }],
        per_buyer_limit: 4,
        low_stock_threshold: 5,
        hold_ms: 600_000,
        starts_at: at(7),
        ends_at: None,
        created_at: at(8),
        shipping: None,
    };
    let (digest, fingerprint, trace) = (KeyDigest(id(9)), Fingerprint(10), TraceId(id(11)));
    let order = line.order;
    vec![
        DropEvent::Scheduled(Box::new(spec)),
        DropEvent::Rescheduled { starts_at: at(12), ends_at: Some(at(13)) },
        DropEvent::Started,
        DropEvent::Ended,
        DropEvent::Cancelled,
        DropEvent::SoldOut,
        DropEvent::BackInStock,
        DropEvent::Restocked { variant, quantity: 3 },
        DropEvent::StockLow { variant, available: 5 },
        DropEvent::Reserved {
            order,
            buyer: line.buyer,
            variant,
            quantity: line.quantity,
            unit_price: price,
            expires_at: at(14),
            key: "a key".into(),
            digest,
            fingerprint,
            payment_method: Some("pm".into()),
            delivery: None,
        },
        DropEvent::Confirmed { line, payment: Some("ch_1".into()), retaken: true },
        DropEvent::Released { line, reason: ReleaseReason::Expired, trace },
        DropEvent::RefundDue { line, payment: Some("ch_1".into()), cause: RefundCause::DropCancelled, was_sold: true },
        DropEvent::Refunded { line },
        DropEvent::Refused {
            buyer: line.buyer,
            key: "a key".into(),
            digest,
            fingerprint,
            refusal: Refusal::SoldOut,
            trace,
        },
        DropEvent::PaymentStarted { order, attempt: 1, method: "pm".into() },
        DropEvent::PaymentEnded { order, attempt: 1, end: PaymentEnd::NotMade },
    ]
}

#[test]
fn each_type_has_its_golden_text() {
    let mut golden: BTreeMap<&str, &str> = GOLDEN.into();
    assert_eq!(golden.len(), GOLDEN.len());
    let record = |event| DropRecord { drop: DropId(id(1)), at: at(99), event };
    let records: Vec<DropRecord> = events().into_iter().map(record).collect();
    let sent = records.iter().filter_map(|record| CloudEvent::of(id(100), 1_041, record));
    for event in sent.chain([CloudEvent::gap(id(100), Gap { first: 7, last: 1_040 }, at(99))]) {
        let text = serde_json::to_string_pretty(&event).unwrap() + "\n";
        assert_eq!(golden.remove(event.r#type).unwrap_or_default(), text, "{}", event.r#type);
    }
    assert!(golden.is_empty(), "nothing has the type {:?}", golden.keys());
}

#[test]
fn ids_are_the_same_again_and_nothing_about_people_leaves() {
    let records: Vec<DropRecord> =
        events().into_iter().map(|event| DropRecord { drop: DropId(id(1)), at: at(99), event }).collect();
    let texts = || {
        let sent = (1..).zip(&records).filter_map(|(sequence, record)| CloudEvent::of(id(100), sequence, record));
        sent.map(|event| (event.id.clone(), serde_json::to_string(&event).unwrap())).collect::<Vec<_>>()
    };
    assert_eq!(texts(), texts());
    let ids: BTreeSet<String> = texts().into_iter().map(|(id, _)| id).collect();
    assert_eq!(ids.len(), 14, "each has its own");
    for (id, text) in texts() {
        for secret in ["a key", "ch_1", "\"pm\""] {
            assert!(!text.contains(secret), "{id}: {text}");
        }
    }
}
