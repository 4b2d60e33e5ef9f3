//! Parameters of paths, queries and headers.

use super::clients::EXAMPLE_ID;
use super::domain::EXAMPLE_NUMBER;
use super::schema::{self, Shape};
use crate::domain::limits::{IDEMPOTENCY_KEY_CHARS_MAX, PAGE_LIMIT_DEFAULT, PAGE_LIMIT_MAX, PRICE_MINOR_MAX};
use crate::domain::{AddressId, CreatorId, DropId, DropStatus, OrderId, OrderStatus, ProductId, ProductStatus};
use crate::http::extract::pages::List;
use serde_json::json;
use utoipa::openapi::Required;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{AnyOfBuilder, ObjectBuilder, Type};
use utoipa::{IntoParams, PartialSchema};

macro_rules! parameters {
    ($($(#[$doc:meta])* $name:ident = [$($parameter:expr),+ $(,)?];)+) => {$(
        $(#[$doc])*
        pub struct $name;

        impl IntoParams for $name {
            fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
                let each: Vec<Vec<Parameter>> = vec![$($parameter.into()),+];
                each.into_iter().flatten().collect()
            }
        }
    )+};
}

parameters! {
    /// The parameter `{id}` of a creator.
    OfCreator = [path("id", CreatorId::schema(), "The creator")];
    /// The parameter `{id}` of a product.
    OfProduct = [path("id", ProductId::schema(), "The product")];
    /// The parameter `{id}` of a drop.
    OfDrop = [path("id", DropId::schema(), "The drop")];
    /// The parameter `{id}` of an order.
    OfOrder = [path("id", OrderId::schema(), "The order")];
    /// The parameter `{id}` of an address.
    OfAddress = [path("id", AddressId::schema(), "The address")];
    /// The parameter `{id}` of a user.
    OfUser = [path("id", user(), "The user; `me` is the caller")];
    /// The parameter `{creator_id}` beside a user's `{id}`.
    AndCreator = [path("creator_id", CreatorId::schema(), "The creator")];

    /// A list of creators.
    CreatorsQuery = [page(List::Creators)];
    /// A list of followers.
    FollowersQuery = [page(List::Followers)];
    /// A list of followed creators.
    FollowingQuery = [page(List::Following)];
    /// A list of orders.
    OrdersQuery = [page(List::Orders)];
    /// A list of one's own orders, or one of them.
    OwnOrdersQuery = [page(List::Orders), number()];
    /// A list of a drop's orders.
    SalesQuery = [page(List::Sales), sold_filter(), number()];
    /// A list of requests for refunds.
    RefundRequestsQuery = [page(List::RefundRequests)];
    /// A list of audit lines.
    AuditQuery = [
        page(List::Audit),
        query("actor_id", schema::uuid(), "Only what this user did"),
        query("object_id", schema::uuid(), "Only what was done to this"),
    ];
    /// A list of inbox entries.
    InboxQuery = [page(List::Inbox), query("unread", flag(), "Only what is unread")];
    /// A list of products.
    ProductsQuery = [page(List::Products), product_filter(), creator()];
    /// A list of a creator's products.
    ProductsOfOneQuery = [page(List::Products), product_filter()];
    /// A list of drops.
    DropsQuery = [page(List::Drops), drop_filter(), creator()];
    /// A list of a creator's drops.
    DropsOfOneQuery = [page(List::Drops), drop_filter()];
    /// The export of a drop's orders.
    ExportQuery = [query("format", names(&["csv", "ndjson"]), "`csv` if it is left out")];

    /// The optional header `If-Match`.
    WithIfMatch = [if_match()];

    /// The required header `Idempotency-Key`.
    Keyed = [idempotency_key()];
    /// The optional header `Idempotency-Key`.
    KeyedOrNot = [optional_key()];
}

fn parameter(name: &str, place: ParameterIn, required: Required, shape: Shape, about: &str) -> Vec<Parameter> {
    let parameter = ParameterBuilder::new().name(name).parameter_in(place).required(required);
    vec![parameter.schema(Some(shape)).description(Some(about)).build()]
}

fn path(name: &str, shape: Shape, about: &str) -> Vec<Parameter> {
    parameter(name, ParameterIn::Path, Required::True, shape, about)
}

fn query(name: &str, shape: Shape, about: &str) -> Vec<Parameter> {
    parameter(name, ParameterIn::Query, Required::False, shape, about)
}

fn names(values: &[&str]) -> Shape {
    ObjectBuilder::new().schema_type(Type::String).enum_values(Some(values.iter().copied())).into()
}

fn flag() -> Shape {
    ObjectBuilder::new().schema_type(Type::Boolean).into()
}

fn user() -> Shape {
    AnyOfBuilder::new().item(names(&["me"])).item(schema::uuid()).into()
}

fn page(list: List) -> Vec<Parameter> {
    let limit = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(1)).maximum(Some(PAGE_LIMIT_MAX));
    let limit = limit.default(Some(json!(PAGE_LIMIT_DEFAULT)));
    let cursor = ObjectBuilder::new().schema_type(Type::String).pattern(Some(list.cursor_pattern()));
    let cursor = cursor.examples([json!(list.cursor(EXAMPLE_ID))]);
    [
        query("limit", limit.into(), "How many at most"),
        query("cursor", cursor.into(), "`next_cursor` of the page before, as it is"),
    ]
    .concat()
}

fn creator() -> Vec<Parameter> {
    query("creator_id", schema::uuid(), "Only those of this creator")
}

fn sold_filter() -> Vec<Parameter> {
    [
        query(
            "status",
            names(&OrderStatus::ALL.iter().map(|status| status.as_str()).collect::<Vec<_>>()),
            "Only those in this state",
        ),
        query("variant_id", schema::uuid(), "Only those of this variant"),
    ]
    .concat()
}

fn number() -> Vec<Parameter> {
    let number = ObjectBuilder::new().schema_type(Type::String).max_length(Some(64)).examples([json!(EXAMPLE_NUMBER)]);
    let about = "Only the order with this number, as it was typed: in any case, with spaces and hyphens or without. A number with a wrong \
                 character is `order_number_invalid`";
    query("number", number.into(), about)
}

fn drop_filter() -> Vec<Parameter> {
    use DropStatus as D;
    let status = [D::Scheduled, D::Live, D::SoldOut, D::Ended, D::Cancelled].map(D::as_str);
    [
        query("status", names(&status), "Only those in this state"),
        query(
            "phase",
            names(&["upcoming", "live", "ended"]),
            "`live` has those that are sold out, `ended` the cancelled",
        ),
        query("starts_from", schema::time(), "Only those that start then or later"),
        query("starts_before", schema::time(), "Only those that start earlier"),
    ]
    .concat()
}

fn product_filter() -> Vec<Parameter> {
    let status = [ProductStatus::Active, ProductStatus::Archived].map(ProductStatus::as_str);
    let amount = || ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(0i64)).maximum(Some(PRICE_MINOR_MAX));
    [
        query("status", names(&status), "`active` if it is left out"),
        query("currency", schema::currency(), "Only those with a price in this currency"),
        query("price_min", amount().into(), "Only those that cost as much or more, in minor units of their currency"),
        query("price_max", amount().into(), "Only those that cost as much or less, in minor units of their currency"),
    ]
    .concat()
}

fn if_match() -> Vec<Parameter> {
    let about = "Tags (`ETag`) of the versions that the change is meant for. Where none of them is current the answer is 412 and nothing is done, which \
                 is decided together with the change. `*` is any. What buyers and followers do makes no other version; `If-Unmodified-Offset` is \
                 not offered and ignored";
    let tags = ObjectBuilder::new().schema_type(Type::String);
    parameter("If-Match", ParameterIn::Header, Required::False, tags.into(), about)
}

fn key() -> Shape {
    let key = ObjectBuilder::new().schema_type(Type::String).min_length(Some(1));
    let key = key.max_length(Some(IDEMPOTENCY_KEY_CHARS_MAX)).pattern(Some("^[!#-~]([ -~]*[!-~])?$"));
    key.examples([json!("8e03978e-40d5-43dd-bc93-6894a57f9324")]).into()
}

fn optional_key() -> Vec<Parameter> {
    let about = "The same for each try at one change, which is then made once; quoted or bare. For a day the first answer is given again, with \
                 `Idempotency-Replayed: true`, if it was a success; a request that was refused changed nothing, and its key may be used again";
    parameter("Idempotency-Key", ParameterIn::Header, Required::False, key(), about)
}

fn idempotency_key() -> Vec<Parameter> {
    let about = "One for each order that is meant, the same for each try at it (a UUID, say); quoted or bare. A key that made an order gives that order \
                 again, with `Idempotency-Replayed: true`; a refusal leaves its key free";
    parameter("Idempotency-Key", ParameterIn::Header, Required::True, key(), about)
}
