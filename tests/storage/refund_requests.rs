//! Refunds that buyers ask for.

use crate::Database;
use crate::fixtures::{audit, user};
use livedrop::domain::{DropId, OrderId, RefundRequestStatus, Timestamp, UserId};
use livedrop::storage::{RefundRequestRow, StoreError};

fn request(order: OrderId, reason: &str) -> RefundRequestRow {
    RefundRequestRow {
        order,
        reason: reason.to_owned(),
        asked_at: Timestamp::from_millis(1_000),
        status: RefundRequestStatus::Open,
        answer: None,
        answered_at: None,
    }
}

async fn buyer(db: &Database) -> UserId {
    let buyer = user("buyer@example.com");
    db.store.insert_user(&buyer).await.unwrap();
    buyer.id
}

pub async fn an_order_has_one_request_and_one_answer(db: Database) {
    let (order, drop, buyer) = (OrderId::new(), DropId::new(), buyer(&db).await);
    let first = request(order, "It does not fit");
    assert!(db.store.ask_refund(&first, drop, buyer).await.unwrap());
    assert!(!db.store.ask_refund(&request(order, "Another"), drop, buyer).await.unwrap());
    assert_eq!(db.store.refund_request(order).await.unwrap(), Some(first.clone()));
    assert_eq!(db.store.refund_request(OrderId::new()).await.unwrap(), None);
    let answered_at = Some(Timestamp::from_millis(2_000));
    let refused = RefundRequestRow {
        status: RefundRequestStatus::Refused,
        answer: Some("It was worn".to_owned()),
        answered_at,
        ..first.clone()
    };
    let accepted = RefundRequestRow { status: RefundRequestStatus::Accepted, answered_at, ..first };
    let answers = [&refused, &accepted].map(|answer| db.store.answer_refund(answer));
    let answered = futures_util::future::join_all(answers).await;
    let first = answered.into_iter().map(Result::unwrap).collect::<Vec<_>>();
    assert_eq!(first.iter().filter(|was_open| **was_open).count(), 1, "one of two answers at once");
    let expected = if first[0] { refused } else { accepted };
    assert_eq!(db.store.refund_request(order).await.unwrap(), Some(expected));
    assert!(!db.store.answer_refund(&request(OrderId::new(), "x")).await.unwrap());
}

pub async fn a_drops_requests_are_pages_in_order_of_their_orders(db: Database) {
    let (drop, buyer) = (DropId::new(), buyer(&db).await);
    let mut orders: Vec<OrderId> = (0..5).map(|_| OrderId::new()).collect();
    orders.sort();
    for order in orders.iter().rev() {
        db.store.ask_refund(&request(*order, "x"), drop, buyer).await.unwrap();
    }
    db.store.ask_refund(&request(OrderId::new(), "of another drop"), DropId::new(), buyer).await.unwrap();
    let page = async |after: Option<OrderId>, limit: u32| {
        let rows = db.store.refund_requests(drop, after, limit).await.unwrap();
        rows.into_iter().map(|row| row.order).collect::<Vec<_>>()
    };
    assert_eq!(page(None, 3).await, orders[..3]);
    assert_eq!(page(Some(orders[2]), 3).await, orders[3..]);
    assert_eq!(page(Some(orders[4]), 3).await, []);
}

pub async fn nothing_is_left_of_a_deleted_account(db: Database) {
    let (order, drop, buyer) = (OrderId::new(), DropId::new(), user("buyer@example.com"));
    db.store.insert_user(&buyer).await.unwrap();
    assert!(db.store.ask_refund(&request(order, "It does not fit"), drop, buyer.id).await.unwrap());
    db.store.delete_user(buyer.id, &buyer.password_hash, &audit(buyer.id, 1)).await.unwrap().unwrap();
    assert_eq!(db.store.refund_request(order).await.unwrap(), None);
    let late = db.store.ask_refund(&request(order, "It does not fit"), drop, buyer.id).await;
    assert!(matches!(late, Err(StoreError::Missing { .. })), "{late:?}");
}
