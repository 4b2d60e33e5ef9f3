//! Bodies of requests and answers about orders.

use crate::domain::{
    AddressVersionId, Country, DropId, OrderId, OrderNumber, OrderStatus, OrderView, RefundCause, ReleaseReason,
    Timestamp, VariantId,
};
use crate::http::api::money::MoneyView;
use crate::http::api::plain::plain;
use crate::http::openapi::schema;
use crate::service::input::Field;
use crate::service::orders::{OrderInput, PaymentInput};
use crate::service::sales::Transition;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// An order to place. `variant_id` may be omitted if the drop has one variant; without `payment_method` the units are
/// only reserved.
#[derive(Deserialize, Default, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[schema(as = NewOrder, examples(json!({"drop_id": "01890a5d-ac96-774b-bcce-b302099a8058", "variant_id": "01890a5d-ac96-774b-bcce-b302099a8059", "quantity": 1})))]
pub struct NewOrderBody {
    #[schema(required = true, schema_with = schema::uuid)]
    drop_id: Field<DropId>,
    #[schema(schema_with = schema::uuid_or_null)]
    variant_id: Field<VariantId>,
    #[schema(required = true, schema_with = schema::quantity)]
    quantity: Field<i64>,
    #[schema(schema_with = schema::payment_method_or_null)]
    payment_method: Field<String>,
    #[schema(schema_with = schema::address_reference_or_null)]
    address: Field<String>,
}

impl From<NewOrderBody> for OrderInput {
    fn from(NewOrderBody { drop_id, variant_id, quantity, payment_method, address }: NewOrderBody) -> Self {
        Self { drop_id, variant_id, quantity, payment_method, address }
    }
}

/// The payment method to charge for a reserved order.
#[derive(Deserialize, Default, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[schema(as = Payment, examples(json!({"payment_method": "pm_sandbox_ok"})))]
pub struct PayBody {
    #[schema(required = true, schema_with = schema::payment_method)]
    payment_method: Field<String>,
}

impl From<PayBody> for PaymentInput {
    fn from(PayBody { payment_method }: PayBody) -> Self {
        Self { payment_method }
    }
}

/// An order in the view of its buyer.
#[derive(Serialize, ToSchema)]
#[schema(as = Order)]
pub struct OrderBody<'a> {
    id: OrderId,
    /// For people: unique, and the last character checks the others.
    number: OrderNumber,
    drop_id: DropId,
    variant_id: VariantId,
    #[schema(minimum = 1)]
    quantity: u32,
    unit_price: MoneyView,
    /// What is charged: its units, and shipping.
    total: MoneyView,
    /// Where it is sent, and the parts of the total; `null` if nothing is shipped.
    #[schema(required = true)]
    delivery: Option<DeliveryBody>,
    status: OrderStatus,
    #[schema(required = true)]
    release_reason: Option<ReleaseReason>,
    created_at: Timestamp,
    expires_at: Timestamp,
    #[schema(required = true)]
    confirmed_at: Option<Timestamp>,
    #[schema(required = true)]
    released_at: Option<Timestamp>,
    #[schema(required = true)]
    refunded_at: Option<Timestamp>,
    #[schema(required = true)]
    payment_ref: Option<&'a str>,
    #[schema(required = true)]
    refund_due: Option<RefundCause>,
    /// Whether it was paid, or tried to be, with play money.
    test: bool,
}

plain!(
    OrderBody<'_>,
    OrderBody {
        id,
        number,
        drop_id,
        variant_id,
        quantity,
        unit_price,
        total,
        delivery,
        status,
        release_reason,
        created_at,
        expires_at,
        confirmed_at,
        released_at,
        refunded_at,
        payment_ref,
        refund_due,
        test,
    }
);

impl<'a> From<&'a OrderView> for OrderBody<'a> {
    fn from(order: &'a OrderView) -> Self {
        Self {
            id: order.id,
            number: order.id.number(),
            drop_id: order.drop_id,
            variant_id: order.variant_id,
            quantity: order.quantity,
            unit_price: order.unit_price.into(),
            total: order.total().into(),
            delivery: DeliveryBody::of(order),
            status: order.status,
            release_reason: order.release_reason,
            created_at: order.created_at,
            expires_at: order.expires_at,
            confirmed_at: order.confirmed_at,
            released_at: order.released_at,
            refunded_at: order.refunded_at,
            payment_ref: order.payment_ref.as_deref(),
            refund_due: order.refund_due,
            test: order.is_test(),
        }
    }
}

/// Where an order is sent, and the parts of its total.
#[derive(Serialize, ToSchema)]
#[schema(as = Delivery)]
pub struct DeliveryBody {
    address_version: AddressVersionId,
    country: Country,
    units: MoneyView,
    shipping: MoneyView,
}

plain!(DeliveryBody, DeliveryBody { address_version, country, units, shipping });

impl DeliveryBody {
    fn of(order: &OrderView) -> Option<Self> {
        let delivery = order.delivery.as_ref()?;
        Some(Self {
            address_version: delivery.address,
            country: delivery.country,
            units: order.units().into(),
            shipping: order.shipping().into(),
        })
    }
}

/// One step in an order's history; `reason` is set for a release or a refund.
#[derive(Serialize, ToSchema)]
#[schema(as = Transition)]
pub struct TransitionBody<'a> {
    #[schema(example = "reserved")]
    r#type: &'a str,
    at: Timestamp,
    #[schema(required = true)]
    reason: Option<&'a str>,
}

/// The history of an order, oldest step first.
#[derive(Serialize, ToSchema)]
#[schema(as = History)]
pub struct HistoryBody<'a> {
    items: Vec<TransitionBody<'a>>,
}

impl<'a> From<&'a [Transition]> for HistoryBody<'a> {
    fn from(steps: &'a [Transition]) -> Self {
        let step =
            |step: &'a Transition| TransitionBody { r#type: &step.kind, at: step.at, reason: step.reason.as_deref() };
        Self { items: steps.iter().map(step).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Fingerprint, KeyDigest, Money, UserId};
    use crate::http::api::plain::Plain;
    use crate::http::extract::json::pointers;
    use serde_json::json;

    #[test]
    fn orders_are_checked() {
        let order = |json| pointers::<NewOrderBody, OrderInput>(&json);
        let none: [&str; 0] = [];
        let drop = DropId::new();
        assert_eq!(order(json!({"drop_id": drop, "quantity": 1})), none);
        assert_eq!(order(json!({"drop_id": drop, "quantity": 1000, "variant_id": null, "payment_method": null})), none);
        assert_eq!(order(json!({})), ["/drop_id", "/quantity"]);
        for bad in [json!(0), json!(-1), json!(1001), json!(u64::MAX), json!(1.5), json!("1"), json!([1]), json!(true)]
        {
            assert_eq!(order(json!({"drop_id": drop, "quantity": bad})), ["/quantity"], "{bad}");
        }
        assert_eq!(
            order(json!({"drop_id": "x", "variant_id": 3, "quantity": 0, "payment_method": ""})),
            ["/drop_id", "/variant_id", "/quantity", "/payment_method"]
        );
        assert_eq!(order(json!({"drop_id": drop, "quantity": 1, "price": 0})), ["/price"]);
        assert_eq!(order(json!({"quantity": 0, "price": 0, "qty": 1})), ["/price", "/qty", "/drop_id", "/quantity"]);
    }

    #[test]
    fn an_order_is_written_as_serde_would() {
        let at = |millis: i64| Timestamp::from_millis(1_767_225_600_000 + millis);
        let held = OrderView {
            id: OrderId::new(),
            drop_id: DropId::new(),
            variant_id: VariantId::new(),
            buyer: UserId::new(),
            quantity: 3,
            unit_price: Money { amount: 1_999, currency: "EUR".parse().unwrap() },
            status: OrderStatus::Reserved,
            release_reason: None,
            digest: KeyDigest::of(UserId::new(), "k"),
            fingerprint: Fingerprint(1),
            created_at: at(0),
            expires_at: at(1),
            confirmed_at: None,
            released_at: None,
            refunded_at: None,
            payment_ref: None,
            payment_pending: None,
            payment: crate::domain::PaymentFacts::default(),
            refund_due: None,
            failed_trace: None,
            delivery: None,
        };
        let late = OrderView {
            quantity: u32::MAX,
            // The largest price whose total still fits.
            unit_price: Money { amount: i64::MAX / i64::from(u32::MAX), ..held.unit_price },
            status: OrderStatus::Released,
            release_reason: Some(ReleaseReason::PaymentFailed),
            confirmed_at: Some(at(2)),
            released_at: Some(at(3)),
            refunded_at: Some(Timestamp::from_millis(0)),
            payment_ref: Some("\"\\\u{1}\n€𝄞".to_owned()),
            refund_due: Some(RefundCause::LatePayment),
            ..held.clone()
        };
        for order in [held, late] {
            let body = OrderBody::from(&order);
            let mut written = Vec::new();
            body.write(&mut written);
            assert_eq!(String::from_utf8(written).unwrap(), serde_json::to_string(&body).unwrap());
        }
    }

    #[test]
    fn paying_needs_a_method() {
        let pay = |json| pointers::<PayBody, PaymentInput>(&json);
        assert_eq!(pay(json!({})), ["/payment_method"]);
        assert_eq!(pay(json!({"payment_method": "p".repeat(65)})), ["/payment_method"]);
        assert_eq!(pay(json!({"payment_method": "pm_sandbox_ok"})), [] as [&str; 0]);
    }
}
