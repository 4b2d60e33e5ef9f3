//! Bodies of answers to sellers.

use crate::domain::{Timestamp, UserId};
use crate::http::api::orders::dto::OrderBody;
use crate::service::{Contact, SoldOrder};
use serde::Serialize;
use utoipa::ToSchema;

/// An order in the view of its seller.
#[derive(Serialize, ToSchema)]
#[schema(as = SoldOrder)]
pub struct SoldOrderBody<'a> {
    buyer_id: UserId,
    /// `null` once the account is deleted.
    #[schema(required = true)]
    buyer: Option<ContactBody<'a>>,
    #[serde(flatten)]
    order: OrderBody<'a>,
}

/// How to reach a buyer.
#[derive(Serialize, ToSchema)]
#[schema(as = Contact)]
pub struct ContactBody<'a> {
    #[schema(example = "Ann")]
    name: &'a str,
    #[schema(example = "ann@example.com")]
    email: &'a str,
}

impl<'a> From<&'a Contact> for ContactBody<'a> {
    fn from(Contact { name, email }: &'a Contact) -> Self {
        Self { name, email }
    }
}

impl<'a> From<&'a SoldOrder> for SoldOrderBody<'a> {
    fn from(SoldOrder { order, contact, .. }: &'a SoldOrder) -> Self {
        Self { buyer_id: order.buyer, buyer: contact.as_ref().map(Into::into), order: order.into() }
    }
}

/// The columns of an export.
pub const EXPORT_COLUMNS: [&str; 20] = [
    "id",
    "number",
    "buyer_id",
    "buyer_name",
    "buyer_email",
    "variant_id",
    "variant",
    "quantity",
    "unit_price",
    "total",
    "currency",
    "status",
    "release_reason",
    "created_at",
    "confirmed_at",
    "released_at",
    "refunded_at",
    "payment_ref",
    "shipping",
    "country",
];

/// A line of an export. Prices are in minor units.
#[must_use]
pub fn export_line(sold: &SoldOrder, variant: &str) -> [String; EXPORT_COLUMNS.len()] {
    let SoldOrder { order, contact, .. } = sold;
    let time = |at: Option<Timestamp>| at.map(|at| at.to_string()).unwrap_or_default();
    [
        order.id.to_string(),
        order.id.number().to_string(),
        order.buyer.to_string(),
        contact.as_ref().map(|contact| contact.name.clone()).unwrap_or_default(),
        contact.as_ref().map(|contact| contact.email.clone()).unwrap_or_default(),
        order.variant_id.to_string(),
        variant.to_owned(),
        order.quantity.to_string(),
        order.unit_price.amount.to_string(),
        order.total().amount.to_string(),
        order.unit_price.currency.to_string(),
        order.status.as_str().to_owned(),
        order.release_reason.map(|reason| reason.as_str().to_owned()).unwrap_or_default(),
        order.created_at.to_string(),
        time(order.confirmed_at),
        time(order.released_at),
        time(order.refunded_at),
        order.payment_ref.clone().unwrap_or_default(),
        order.shipping().amount.to_string(),
        order.delivery.as_ref().map(|delivery| delivery.country.to_string()).unwrap_or_default(),
    ]
}
