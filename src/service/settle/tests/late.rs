//! Payments that come late: strays, and captures whose time runs out.

use super::*;
use crate::domain::RefundCause;
use crate::domain::limits::{CAPTURE_WARNING_MS, CAPTURE_WINDOW_MS};
use crate::service::webhooks::{News, PaymentNews};

fn authorized_until(until: Timestamp) -> Result<PaymentStatus, GatewayError> {
    Ok(PaymentStatus::Authorized { reference: "pi_1".to_owned(), capture_before: Some(until) })
}

impl World {
    fn refunded(&self) -> Vec<(OrderId, String)> {
        self.gateway.refunded.lock().unwrap().clone()
    }

    /// An order that is confirmed by its second attempt, with the first one ended.
    async fn paid_by_its_second_attempt(&self) -> OrderView {
        let order = self.real_order().await;
        self.charges([Ok(PaymentStatus::Declined { reference: None, reason: DeclineReason::CardDeclined })]);
        assert!(matches!(self.pay(&order).await, Paid::Declined(_)));
        self.charges([Ok(authorized())]);
        let method = PaymentMethod { provider: PaymentProvider::Stripe, name: "pm_2".into() };
        let paid = self.settler.begin_and_charge(&self.drop, order.id, method, TraceId::random()).await.unwrap();
        let Paid::Order(paid) = paid else { panic!("it is paid") };
        assert_eq!((paid.status, paid.payment.attempts), (OrderStatus::Confirmed, 2));
        *paid
    }
}

#[actix::test]
async fn a_second_payment_of_an_order_is_news_until_it_has_gone_back() {
    let world = World::real().await;
    let (orders, _folder) = world.orders().await;
    let order = world.paid_by_its_second_attempt().await;
    let news = |order: OrderId, attempt: u32, reference: &str| News {
        provider: PaymentProvider::Stripe,
        order,
        attempt,
        reference: Some(reference.to_owned()),
    };
    // The declined attempt was authorized after all.
    let stray = news(order.id, 1, "pi_0");
    let taken = || Ok(PaymentStatus::Authorized { reference: "pi_0".to_owned(), capture_before: None });
    world.knows([silent(), taken(), taken()]);
    *world.gateway.refund_failures.lock().unwrap() = 1;
    for _ in 0..2 {
        assert!(orders.payment_news(&stray).await.is_err(), "it comes again");
        assert_eq!(world.refunded(), []);
    }
    orders.payment_news(&stray).await.unwrap();
    assert_eq!(world.refunded(), [(order.id, "pi_0".to_owned())]);
    // Once it has gone back, and for what never took anything, there is nothing to do.
    let reason = DeclineReason::CardDeclined;
    world.knows([
        Ok(PaymentStatus::Cancelled { reference: "pi_0".to_owned() }),
        Ok(PaymentStatus::Declined { reference: None, reason }),
        Ok(PaymentStatus::Unknown),
    ]);
    for _ in 0..3 {
        orders.payment_news(&stray).await.unwrap();
    }
    // Of the payment that counts nobody is asked.
    orders.payment_news(&news(order.id, 2, "pi_1")).await.unwrap();
    orders.payment_news(&News { reference: None, ..stray }).await.unwrap();
    assert_eq!(world.refunded().len(), 1);
    assert_eq!(world.look(order.id).await, order);
}

#[actix::test]
async fn news_of_the_pending_attempt_do_not_cancel_it_and_another_one_goes_back_meanwhile() {
    let world = World::real().await;
    let (orders, _folder) = world.orders().await;
    let order = world.real_order().await;
    let news =
        News { provider: PaymentProvider::Stripe, order: order.id, attempt: 1, reference: Some("pi_1".to_owned()) };
    world.knows([Ok(paid_as("pi_0"))]);
    orders.payment_news(&News { attempt: 7, reference: Some("pi_0".to_owned()), ..news.clone() }).await.unwrap();
    assert_eq!(world.refunded(), [(order.id, "pi_0".to_owned())]);
    world.knows([Ok(authorized())]);
    orders.payment_news(&news).await.unwrap();
    world.until(order.id, |order| order.status == OrderStatus::Confirmed).await;
    assert_eq!(world.refunded().len(), 1);
}

fn paid_as(reference: &str) -> PaymentStatus {
    PaymentStatus::Captured { reference: reference.to_owned() }
}

#[actix::test]
async fn a_capture_that_fails_is_told_before_its_authorization_ends_and_ends_right() {
    let world = World::real().await;
    let now = world.registry.clock().now();
    let mut orders = Vec::new();
    for _ in 0..3 {
        let order = world.real_order().await;
        world.charges([Ok(authorized())]);
        let Paid::Order(order) = world.pay(&order).await else { panic!("it is paid") };
        orders.push(order);
    }
    let [taken, lost, unanswered] = &orders[..] else { panic!("three orders") };
    let capture = async |order: &OrderView, now: Timestamp| world.settler.capture(&world.drop, order, now).await;
    let late = || world.settler.captures.counted().0;
    world.gateway.captures_fail.store(true, Ordering::Relaxed);
    // The provider says until when, once: then it is known.
    let until = now.plus_millis(3 * CAPTURE_WARNING_MS);
    world.knows([authorized_until(until)]);
    for (at, is_late) in [(now, 0), (now.plus_millis(2 * CAPTURE_WARNING_MS), 1), (until, 1)] {
        assert!(!capture(taken, at).await);
        assert_eq!(late(), is_late);
    }
    // Of one that nobody can be asked about, the shortest time is assumed.
    world.knows([silent(), silent()]);
    assert!(!capture(unanswered, now).await);
    assert_eq!(late(), 1);
    assert!(!capture(unanswered, now.plus_millis(CAPTURE_WINDOW_MS)).await);
    assert_eq!(late(), 2);
    // Its bank has ended it: the order is given back.
    world.knows([Ok(PaymentStatus::Cancelled { reference: "pi_1".to_owned() })]);
    assert!(capture(lost, until).await);
    assert_eq!((late(), world.settler.captures.counted().1), (2, 1));
    let back = world.look(lost.id).await;
    assert_eq!((back.payment.capture_due, back.refund_due), (false, Some(RefundCause::CaptureFailed)));
    // It was captured, and only the answer was lost; the other one succeeds at last.
    world.knows([Ok(paid_as("pi_1"))]);
    assert!(capture(unanswered, until).await);
    world.gateway.captures_fail.store(false, Ordering::Relaxed);
    assert!(capture(taken, until).await);
    assert_eq!((late(), world.settler.captures.counted().1), (0, 1));
    for order in [taken, unanswered] {
        let order = world.look(order.id).await;
        assert_eq!((order.status, order.payment.capture_due), (OrderStatus::Confirmed, false));
    }
    assert_eq!(*world.gateway.captured.lock().unwrap(), [(taken.id, taken.total())]);
}
