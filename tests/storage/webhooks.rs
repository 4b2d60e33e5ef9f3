//! The inbox of webhooks.

use crate::Database;
use livedrop::domain::{OrderId, PaymentIncident, Timestamp};
use livedrop::storage::{IncidentRow, WebhookRow};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(seconds * 1_000)
}

fn event(id: &str, received: i64) -> WebhookRow {
    WebhookRow {
        provider: "stripe".to_owned(),
        id: id.to_owned(),
        kind: "payment_intent.succeeded".to_owned(),
        reference: Some("pi_1".to_owned()),
        order: Some(OrderId::new()),
        attempt: Some(2),
        received_at: at(received),
        tries: 0,
    }
}

async fn due(db: &Database, now: i64, limit: u32) -> Vec<WebhookRow> {
    db.store.webhooks_due(at(now), limit).await.unwrap()
}

pub async fn an_event_is_kept_once(db: Database) {
    let (first, second) = (event("evt_1", 10), event("evt_2", 5));
    let bare = WebhookRow { reference: None, order: None, attempt: None, ..event("evt_3", 20) };
    for event in [&first, &second, &bare] {
        assert!(db.store.keep_webhook(event).await.unwrap());
        let copy = WebhookRow { kind: "another".to_owned(), received_at: at(1), ..event.clone() };
        assert!(!db.store.keep_webhook(&copy).await.unwrap(), "a copy");
    }
    let of_another = WebhookRow { provider: "another".to_owned(), ..event("evt_1", 30) };
    assert!(db.store.keep_webhook(&of_another).await.unwrap());
    assert_eq!(due(&db, 30, 100).await, [second.clone(), first.clone(), bare, of_another]);
    assert_eq!(due(&db, 9, 100).await, std::slice::from_ref(&second), "not before its time");
    assert_eq!(due(&db, 30, 1).await, [second]);
}

pub async fn a_hundred_copies_at_once_are_one_event(db: Database) {
    let event = event("evt_1", 1);
    let keep = (0..100).map(|_| db.store.keep_webhook(&event));
    let kept = futures_util::future::join_all(keep).await;
    assert_eq!(kept.into_iter().filter(|kept| *kept.as_ref().unwrap()).count(), 1);
}

pub async fn an_event_is_due_until_it_is_done(db: Database) {
    let (one, other) = (event("evt_1", 1), event("evt_2", 1));
    for event in [&one, &other] {
        db.store.keep_webhook(event).await.unwrap();
    }
    db.store.webhook_is_later(&one, at(60)).await.unwrap();
    db.store.webhook_is_done(&other, at(2)).await.unwrap();
    assert_eq!(due(&db, 59, 100).await, []);
    assert_eq!(due(&db, 60, 100).await, [WebhookRow { tries: 1, ..one.clone() }]);
    db.store.webhook_is_done(&one, at(61)).await.unwrap();
    // What is done stays done.
    db.store.webhook_is_later(&one, at(62)).await.unwrap();
    assert_eq!(due(&db, 1_000, 100).await, []);
    assert!(!db.store.keep_webhook(&one).await.unwrap());
}

pub async fn what_is_done_is_forgotten_some_at_a_time(db: Database) {
    for number in 0..1_001 {
        let event = event(&format!("evt_{number}"), 1);
        db.store.keep_webhook(&event).await.unwrap();
        db.store.webhook_is_done(&event, at(2)).await.unwrap();
    }
    let (late, waiting) = (event("evt_late", 1), event("evt_waiting", 1));
    for event in [&late, &waiting] {
        db.store.keep_webhook(event).await.unwrap();
    }
    db.store.webhook_is_done(&late, at(100)).await.unwrap();
    assert!(db.store.forget_webhooks(at(50)).await.unwrap());
    assert!(!db.store.forget_webhooks(at(50)).await.unwrap());
    assert!(db.store.keep_webhook(&event("evt_0", 1)).await.unwrap(), "forgotten");
    assert!(!db.store.keep_webhook(&late).await.unwrap() && !db.store.keep_webhook(&waiting).await.unwrap());
}

pub async fn an_incident_is_an_orders_and_kept_once(db: Database) {
    let (order, other) = (OrderId::new(), OrderId::new());
    let incident = |order: OrderId, id: &str, kind: PaymentIncident, seconds: i64| IncidentRow {
        order,
        provider: "stripe".to_owned(),
        id: id.to_owned(),
        kind,
        at: at(seconds),
    };
    let first = incident(order, "evt_2", PaymentIncident::DisputeOpened, 10);
    let second = incident(order, "evt_1", PaymentIncident::RefundFailed, 20);
    let of_another = incident(other, "evt_2", PaymentIncident::DisputeClosed, 5);
    for row in [&second, &first, &of_another, &IncidentRow { at: at(99), ..first.clone() }] {
        db.store.keep_incident(row).await.unwrap();
    }
    assert_eq!(db.store.incidents(order).await.unwrap(), [first, second]);
    assert_eq!(db.store.incidents(other).await.unwrap(), [of_another]);
    assert_eq!(db.store.incidents(OrderId::new()).await.unwrap(), []);
}
