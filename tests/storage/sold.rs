//! Orders in the view of their seller.

use crate::Database;
use crate::fixtures::{Ask, Journal, Sale, at, audit, user};
use livedrop::domain::{FulfilmentStatus, OrderId, OrderStatus, RefundCause, ReleaseReason, TraceId, UserId};
use livedrop::storage::{AuditFilter, Contact, SoldFilter, SoldOrder, User};

/// Every page of the list, and how many there are.
async fn all(db: &Database, sale: &Sale, filter: &SoldFilter, limit: u32) -> Vec<SoldOrder> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let line = audit(UserId::new(), 1);
        let found = db.store.sold_orders(sale.id(), filter, (after, limit), line).await.unwrap();
        assert!(found.rows.len() <= limit as usize);
        let last = found.rows.last().map(|row| row.order.id);
        all.extend(found.rows);
        after = found.stopped_at.map(OrderId).or(last);
        if last.is_none() && found.stopped_at.is_none() {
            return all;
        }
    }
}

fn ids(rows: &[SoldOrder]) -> Vec<OrderId> {
    rows.iter().map(|row| row.order.id).collect()
}

/// Forty orders of two variants: of each ten, seven are confirmed, one is released, one refunded, one held.
async fn sold(journal: &mut Journal, sale: &Sale, buyer: UserId) -> Vec<Ask> {
    journal.project(sale.opened()).await;
    let mut asks = Vec::new();
    for nth in 0..40 {
        let mut ask = sale.order(nth % 2, 1);
        ask.line.buyer = if nth == 7 { buyer } else { ask.line.buyer };
        journal.project(vec![ask.reserved(1, Some("pm"))]).await;
        let after = match nth % 10 {
            8 => vec![ask.released(2, ReleaseReason::Cancelled, TraceId::random())],
            9 => vec![],
            _ => vec![ask.confirmed(2, Some("p"), false)],
        };
        if !after.is_empty() {
            journal.project(after).await;
        }
        asks.push(ask);
    }
    asks
}

pub async fn a_seller_lists_newest_first_what_a_filter_lets_through(db: Database) {
    let (mut journal, sale, other) = (Journal::new(&db), Sale::of(&[100, 100]), Sale::of(&[100, 100]));
    let asks = sold(&mut journal, &sale, UserId::new()).await;
    sold(&mut journal, &other, UserId::new()).await;
    let wanted = |is_wanted: &dyn Fn(usize) -> bool| {
        let mut ids: Vec<OrderId> =
            asks.iter().enumerate().filter(|(nth, _)| is_wanted(*nth)).map(|(_, ask)| ask.line.order).collect();
        ids.sort_by(|a, b| b.cmp(a));
        ids
    };
    let status = |status| SoldFilter { status: Some(status), ..SoldFilter::default() };
    let variant = Some(sale.spec.variants[1].id);
    for limit in [1, 7, 100] {
        assert_eq!(ids(&all(&db, &sale, &SoldFilter::default(), limit).await), wanted(&|_| true));
        let found = all(&db, &sale, &status(OrderStatus::Confirmed), limit).await;
        assert_eq!(ids(&found), wanted(&|nth| nth % 10 < 8));
        assert!(found.iter().all(|row| row.fulfilment == FulfilmentStatus::Unfulfilled));
        assert_eq!(ids(&all(&db, &sale, &status(OrderStatus::Released), limit).await), wanted(&|nth| nth % 10 == 8));
        assert_eq!(ids(&all(&db, &sale, &status(OrderStatus::Refunded), limit).await), wanted(&|_| false));
        let filter = SoldFilter { variant, ..status(OrderStatus::Confirmed) };
        assert_eq!(ids(&all(&db, &sale, &filter, limit).await), wanted(&|nth| nth % 10 < 8 && nth % 2 == 1));
        let filter = SoldFilter { variant, ..SoldFilter::default() };
        assert_eq!(ids(&all(&db, &sale, &filter, limit).await), wanted(&|nth| nth % 2 == 1));
    }
    for ask in [&asks[0], &asks[39]] {
        let filter = SoldFilter { number: Some(ask.line.order.number()), ..SoldFilter::default() };
        assert_eq!(ids(&all(&db, &sale, &filter, 1).await), [ask.line.order]);
        assert_eq!(ids(&all(&db, &other, &filter, 1).await), []);
        let filter = SoldFilter { variant, ..filter };
        assert_eq!(all(&db, &sale, &filter, 1).await.len(), usize::from(ask.line.order == asks[39].line.order));
    }

    for (nth, state) in ["packed", "shipped", "delivered"].into_iter().enumerate() {
        let id = asks[nth].line.order.0;
        let blob = if db.store.kind() == "sqlite" { format!("x'{}'", id.simple()) } else { format!("'{id}'") };
        let sql = format!("UPDATE orders SET fulfilment = '{state}' WHERE id = {blob}");
        db.raw(sql.leak()).await.unwrap();
    }
    journal.project(vec![asks[1].refund_due(3, "p", RefundCause::Requested, true), asks[1].refunded(4)]).await;
    let fulfilment = |fulfilment| SoldFilter { fulfilment: Some(fulfilment), ..SoldFilter::default() };
    for (status, nth) in [(FulfilmentStatus::Packed, 0), (FulfilmentStatus::Delivered, 2)] {
        assert_eq!(ids(&all(&db, &sale, &fulfilment(status), 3).await), [asks[nth].line.order]);
    }
    assert_eq!(ids(&all(&db, &sale, &fulfilment(FulfilmentStatus::Shipped), 3).await), [], "it is refunded");
    let filter = SoldFilter { status: Some(OrderStatus::Refunded), ..fulfilment(FulfilmentStatus::Shipped) };
    assert_eq!(ids(&all(&db, &sale, &filter, 3).await), [asks[1].line.order]);
    assert_eq!(
        ids(&all(&db, &sale, &status(OrderStatus::Confirmed), 5).await),
        wanted(&|nth| nth % 10 < 8 && nth != 1)
    );
}

pub async fn who_buyers_are_is_read_with_a_trace_until_they_are_deleted(db: Database) {
    let ann = User { display_name: "Ann".to_owned(), ..user("ann@example.com") };
    db.store.insert_user(&ann).await.unwrap();
    let (mut journal, sale) = (Journal::new(&db), Sale::of(&[100, 100]));
    let asks = sold(&mut journal, &sale, ann.id).await;
    let seller = UserId::new();
    let contact = async |limit| {
        let mut line = audit(seller, 9);
        line.detail = r#"{"as":"list"}"#.to_owned();
        line.object = Some(sale.id().0);
        let found = db.store.sold_orders(sale.id(), &SoldFilter::default(), (None, limit), line).await.unwrap();
        assert!(found.rows.iter().all(|row| row.contact.is_none() || row.order.buyer == ann.id));
        found.rows.into_iter().find_map(|row| row.contact)
    };
    assert_eq!(contact(3).await, None);
    let known = Contact { name: "Ann".to_owned(), email: "ann@example.com".to_owned() };
    assert_eq!(contact(100).await, Some(known));
    let filter = AuditFilter { actor: Some(seller), object: None };
    let lines = db.store.audit(filter, None, 9).await.unwrap();
    assert_eq!(lines.len(), 2);
    let detail: serde_json::Value = serde_json::from_str(&lines[0].detail).unwrap();
    let ids = [&asks[39], &asks[0]].map(|ask| ask.line.order.to_string());
    assert_eq!(detail, serde_json::json!({"as": "list", "orders": 40, "newest": ids[0], "oldest": ids[1]}));

    db.store.delete_user(ann.id, &ann.password_hash, &audit(ann.id, 10)).await.unwrap().expect("deleted");
    assert_eq!(contact(100).await, None, "an erased account shows nothing");
    let nothing = SoldFilter { status: Some(OrderStatus::Refunded), ..SoldFilter::default() };
    let found = db.store.sold_orders(sale.id(), &nothing, (None, 9), audit(seller, 11)).await.unwrap();
    assert_eq!(found.rows, []);
    assert_eq!(db.store.audit(filter, None, 9).await.unwrap().len(), 3, "nothing was read the last time");
    assert_eq!(lines[0].at, at(9));
}
