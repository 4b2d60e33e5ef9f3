//! Schemas of domain types: the domain does not depend on OpenAPI.

use super::schema::{CURRENCY, Shape};
use crate::domain::{
    AddressId, AddressVersionId, Attribute, Country, CreatorId, Currency, DropId, DropStatus, Image, OrderId,
    OrderNumber, OrderStatus, ProductId, ProductStatus, RefundCause, RefundRequestStatus, ReleaseReason, StockCounts,
    Timestamp, UserId, VariantId,
};
use serde_json::json;
use utoipa::openapi::schema::{AnyOfBuilder, KnownFormat, Object, ObjectBuilder, SchemaFormat, SchemaType, Type};
use utoipa::{PartialSchema, ToSchema};

/// A number that an order can have.
pub const EXAMPLE_NUMBER: &str = "8P32-V4W2-VF9N";

macro_rules! shapes {
    ($($type:ty = $shape:expr;)+) => {$(
        impl PartialSchema for $type {
            fn schema() -> Shape {
                $shape.into()
            }
        }
        impl ToSchema for $type {}
    )+};
}

fn id(of: &str) -> ObjectBuilder {
    let uuid = Some(SchemaFormat::KnownFormat(KnownFormat::Uuid));
    ObjectBuilder::new().schema_type(Type::String).format(uuid).description(Some(of))
}

fn one_of<const N: usize>(names: [&'static str; N]) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String).enum_values(Some(names))
}

fn all<T: Copy>(values: &[T], name: fn(T) -> &'static str) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String).enum_values(Some(values.iter().map(|value| name(*value))))
}

fn text() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String)
}

fn units() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(0))
}

shapes! {
    UserId = id("An account");
    CreatorId = id("A creator: the id of the account whose profile it is");
    ProductId = id("A product");
    DropId = id("A drop");
    VariantId = id("A size, a colour …: the same in a product and its drops");
    OrderId = id("An order");
    OrderNumber = ObjectBuilder::new()
        .schema_type(Type::String)
        .pattern(Some("^([2-9CDFHJKMNPRTVWXY]{4}-){2,4}[2-9CDFHJKMNPRTVWXY]{4}$"))
        .description(Some("A number of an order, for people. 12 characters in groups of four; orders of earlier versions have 20"))
        .examples([json!(EXAMPLE_NUMBER)]);
    AddressVersionId = id("A version of an address, which never changes");
    AddressId = id("An address: the same one after a change");
    Timestamp = ObjectBuilder::new()
        .schema_type(Type::String)
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
        .pattern(Some("^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{3}Z$"))
        .description(Some("RFC 3339, UTC, with milliseconds"))
        .examples([json!("2026-12-01T18:00:00.000Z")]);
    Currency = ObjectBuilder::new().schema_type(Type::String).pattern(Some(CURRENCY)).examples([json!("USD")]);
    Country = ObjectBuilder::new()
        .schema_type(Type::String)
        .pattern(Some("^[A-Z]{2}$"))
        .description(Some("ISO 3166-1 alpha-2"))
        .examples([json!("US")]);
    Image = ObjectBuilder::new()
        .property("url", text().examples([json!("https://example.com/jacket.jpg")]))
        .property("alt", ObjectBuilder::new().schema_type(SchemaType::Array(vec![Type::String, Type::Null])))
        .required("url")
        .required("alt");
    ProductStatus = one_of([ProductStatus::Active, ProductStatus::Archived].map(ProductStatus::as_str));
    DropStatus = one_of(
        [DropStatus::Scheduled, DropStatus::Live, DropStatus::SoldOut, DropStatus::Ended, DropStatus::Cancelled]
            .map(DropStatus::as_str)
    );
    OrderStatus = all(OrderStatus::ALL, OrderStatus::as_str);
    ReleaseReason = all(ReleaseReason::ALL, ReleaseReason::as_str);
    RefundCause = all(RefundCause::ALL, RefundCause::as_str);
    RefundRequestStatus = all(RefundRequestStatus::ALL, RefundRequestStatus::as_str);
    StockCounts = ObjectBuilder::new()
        .property("total", units())
        .property("available", units())
        .property("held", units())
        .property("sold", units())
        .required("total")
        .required("available")
        .required("held")
        .required("sold")
        .description(Some("Units: at every instant `available + held + sold = total`"));
    Attribute = AnyOfBuilder::new()
        .item(Object::with_type(Type::String))
        .item(Object::with_type(Type::Number))
        .item(Object::with_type(Type::Boolean));
}
