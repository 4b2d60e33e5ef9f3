//! A provider that is known to be down.

use super::*;
use crate::domain::limits::PAYMENT_ATTEMPTS_MAX;
use crate::service::Code;

#[actix::test]
async fn no_attempt_is_recorded_while_the_provider_is_known_to_be_down() {
    let world = World::real().await;
    let (orders, _folder) = world.orders().await;
    let (buyer, trace) = (UserId::new(), TraceId::random());
    let method = || PaymentMethod { provider: PaymentProvider::Stripe, name: "pm_1".into() };
    *world.gateway.down_for.lock().unwrap() = Some(Duration::from_millis(6_500));
    let order = world.order(None).await;
    let before = world.journal.handle().durable();
    for _ in 0..2 * PAYMENT_ATTEMPTS_MAX {
        let paid = world.settler.begin_and_charge(&world.drop, order.id, method(), trace).await.unwrap();
        assert!(matches!(paid, Paid::Unavailable(7)));
    }
    assert_eq!(world.journal.handle().durable(), before, "nothing is recorded");
    assert_eq!(world.look(order.id).await, order, "the hold stands");
    // An order that pays at once is held, and no attempt of it has begun either.
    let new = NewOrder {
        drop_id: world.drop.spec.id,
        variant_id: None,
        quantity: 1,
        payment_method: Some("pm_1".to_owned()),
        address: None,
    };
    for replayed in [false, true] {
        let keyed = orders.place(buyer, "key", &new, trace, None).await.unwrap();
        let failure = keyed.answer.unwrap_err();
        assert_eq!((failure.code, failure.retry_after, keyed.replayed), (Code::PaymentUnavailable, Some(7), replayed));
    }
    let [held] = &world.orders_of(buyer).await[..] else { panic!("one order") };
    assert_eq!((held.status, held.payment.attempts), (OrderStatus::Reserved, 0));
    // It is back: both are paid by their first attempts.
    *world.gateway.down_for.lock().unwrap() = None;
    world.charges([Ok(authorized()), Ok(authorized())]);
    let keyed = orders.place(buyer, "key", &new, trace, None).await.unwrap();
    assert_eq!(keyed.answer.unwrap().payment.attempts, 1);
    let paid = world.settler.begin_and_charge(&world.drop, order.id, method(), trace).await.unwrap();
    assert!(matches!(paid, Paid::Order(paid) if paid.payment.attempts == 1));
}
