//! Lists and look-ups of what was projected.

use crate::Database;
use crate::fixtures::{Journal, Sale, at};
use livedrop::domain::{DropEvent, DropId, DropStatus, KeyDigest, OrderId, Refusal, UserId};
use livedrop::storage::{DropFilter, DropRow, KeyAnswer};

pub async fn drops_are_filtered_and_paged(db: Database) {
    let mut journal = Journal::new(&db);
    let mut sales: Vec<Sale> = (0..9).map(|i| Sale::of(&vec![3; 1 + i % 3])).collect();
    let creator = sales[0].spec.creator_id;
    for (i, sale) in sales.iter_mut().enumerate() {
        if i % 2 == 0 {
            sale.spec.creator_id = creator;
        }
        let mut records = sale.opened();
        if i % 3 == 0 {
            records.push(sale.event(5, DropEvent::Ended));
        }
        journal.project(records).await;
    }
    sales.reverse();
    let ids = |rows: &[DropRow]| rows.iter().map(|row| row.spec.id).collect::<Vec<DropId>>();
    let all = db.store.drops(DropFilter::default(), None, 100).await.unwrap();
    assert_eq!(ids(&all), sales.iter().map(Sale::id).collect::<Vec<_>>());
    assert!(all.iter().zip(&sales).all(|(row, sale)| row.spec == sale.spec), "variants in the spec's order");
    for status in [None, Some(DropStatus::Live), Some(DropStatus::Ended), Some(DropStatus::Cancelled)] {
        for creator in [None, Some(creator)] {
            let wanted: Vec<DropRow> = (all.iter())
                .filter(|row| status.is_none_or(|status| row.status == status))
                .filter(|row| creator.is_none_or(|creator| row.spec.creator_id == creator))
                .cloned()
                .collect();
            let (mut seen, mut after) = (Vec::new(), None);
            loop {
                let page = db.store.drops(DropFilter { status, creator }, after, 2).await.unwrap();
                let Some(last) = page.last() else { break };
                after = Some(last.spec.id);
                seen.extend(page);
            }
            assert_eq!(seen, wanted);
        }
    }
    let mut unsettled = db.store.unsettled_drops().await.unwrap();
    unsettled.sort_by_key(|row| std::cmp::Reverse(row.spec.id));
    let open: Vec<DropRow> = all.into_iter().filter(|row| row.status == DropStatus::Live).collect();
    assert_eq!(unsettled, open);
    assert_eq!(db.store.drop_row(DropId::new()).await.unwrap(), None);
}

pub async fn orders_of_a_buyer_and_of_a_drop_are_paged(db: Database) {
    let (mut journal, sale, other) = (Journal::new(&db), Sale::of(&[100]), Sale::of(&[100]));
    journal.project([sale.opened(), other.opened()].concat()).await;
    let buyer = UserId::new();
    let mut asks = Vec::new();
    for i in 0..7 {
        let mut ask = if i % 2 == 0 { sale.order(0, 1) } else { other.order(0, 1) };
        ask.line.buyer = buyer;
        asks.push(ask);
        asks.push(sale.order(0, 1));
    }
    journal.project(asks.iter().map(|ask| ask.reserved(1, None)).collect()).await;
    let mut wanted: Vec<OrderId> =
        asks.iter().filter(|ask| ask.line.buyer == buyer).map(|ask| ask.line.order).collect();
    wanted.sort_by(|a, b| b.cmp(a));
    let all = db.store.orders_of(buyer, None, 100).await.unwrap();
    assert_eq!(all.iter().map(|order| order.id).collect::<Vec<_>>(), wanted, "newest first");
    assert_eq!(db.store.orders_of(buyer, Some(wanted[2]), 3).await.unwrap(), all[3..6]);
    let mut wanted: Vec<OrderId> = asks.iter().filter(|ask| ask.drop == sale.id()).map(|ask| ask.line.order).collect();
    wanted.sort();
    let all = db.store.drop_orders(sale.id(), None, 100).await.unwrap();
    assert_eq!(all.iter().map(|order| order.id).collect::<Vec<_>>(), wanted, "in id order");
    assert_eq!(db.store.drop_orders(sale.id(), Some(wanted[4]), 2).await.unwrap(), all[5..7]);
    assert_eq!(db.store.order(OrderId::for_drop(sale.id())).await.unwrap(), None);
}

pub async fn a_key_leads_to_its_answer(db: Database) {
    let (mut journal, sale) = (Journal::new(&db), Sale::of(&[5]));
    journal.project(sale.opened()).await;
    let (bought, refused) = (sale.order(0, 1), sale.order(0, 9));
    journal.project(vec![bought.reserved(1, None), sale.refused(2, &refused, Refusal::SoldOut)]).await;
    let order = db.store.order(bought.line.order).await.unwrap().unwrap();
    assert_eq!(order.created_at, at(1));
    let answer = db.store.answer_for_key(bought.digest()).await.unwrap();
    assert_eq!(answer, Some(KeyAnswer::Order(Box::new(order))));
    let refusals = db.store.drop_refusals(sale.id(), None, 10).await.unwrap();
    let answer = db.store.answer_for_key(refused.digest()).await.unwrap();
    assert_eq!(answer, Some(KeyAnswer::Refused(refusals[0].clone())));
    let unknown = db.store.answer_for_key(KeyDigest::of(UserId::new(), &bought.key)).await.unwrap();
    assert_eq!(unknown, None, "another buyer's key is another key");
}
