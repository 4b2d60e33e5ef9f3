//! Bodies of requests and answers about drops.

use crate::domain::{
    Country, CountryPrice, CreatorId, DropId, DropSpec, DropStatus, Money, ProductId, StockCounts, Timestamp, VariantId,
};
use crate::http::api::money::{MoneyBody, MoneyView};
use crate::http::extract::field::each;
use crate::http::openapi::schema;
use crate::service::drops::{DropInput, DropVariantInput, RestockInput, ScheduleInput, ShippingInput};
use crate::service::input::{Change, Field, MoneyInput, Unvalidated};
use crate::service::{DropView, StockView};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A drop to schedule: either with `variants`, or with `stock` for a drop of one variant.
#[derive(Deserialize, Default, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[schema(as = NewDrop, examples(json!({"product_id": "01890a5d-ac96-774b-bcce-b302099a8057", "title": "Winter jacket, first run", "starts_at": "2099-12-01T18:00:00Z", "ends_at": "2099-12-02T18:00:00Z", "per_buyer_limit": 2, "low_stock_threshold": 10, "hold_seconds": 300, "variants": [{"variant_id": "01890a5d-ac96-774b-bcce-b302099a8059", "stock": 100}, {"name": "Sample", "stock": 5, "price": {"amount": 999, "currency": "USD"}}]})))]
pub struct NewDropBody {
    #[schema(required = true, schema_with = schema::uuid)]
    product_id: Field<ProductId>,
    #[schema(schema_with = schema::name_or_null)]
    title: Field<String>,
    #[schema(schema_with = schema::time_or_null)]
    starts_at: Field<Timestamp>,
    #[schema(schema_with = schema::time_or_null)]
    ends_at: Field<Timestamp>,
    #[schema(schema_with = schema::per_buyer_limit)]
    per_buyer_limit: Field<i64>,
    #[schema(schema_with = schema::low_stock_threshold)]
    low_stock_threshold: Field<i64>,
    #[schema(schema_with = schema::hold_seconds)]
    hold_seconds: Field<i64>,
    #[schema(schema_with = schema::sold_variants_or_null)]
    variants: Field<Vec<Field<Unvalidated<NewVariantBody>>>>,
    #[schema(schema_with = schema::units_or_null)]
    stock: Field<i64>,
    #[schema(schema_with = schema::shipping_or_null)]
    shipping: Field<Vec<Field<Unvalidated<NewShippingBody>>>>,
}

/// A country that a new drop is shipped to, and the price for a whole order.
#[derive(Deserialize, Default, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[schema(as = NewShipping)]
pub struct NewShippingBody {
    #[schema(required = true, schema_with = schema::country)]
    country: Field<Country>,
    #[schema(required = true, schema_with = schema::price)]
    price: Field<Unvalidated<MoneyBody>>,
}

impl From<NewShippingBody> for ShippingInput {
    fn from(NewShippingBody { country, price }: NewShippingBody) -> Self {
        Self { country, price: price.map(|price| price.map(MoneyInput::from)) }
    }
}

/// One variant of a new drop; omitted fields come from the product.
#[derive(Deserialize, Default, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[schema(as = NewDropVariant)]
pub struct NewVariantBody {
    #[schema(schema_with = schema::uuid_or_null)]
    variant_id: Field<VariantId>,
    #[schema(schema_with = schema::name_or_null)]
    name: Field<String>,
    #[schema(required = true, schema_with = schema::units)]
    stock: Field<i64>,
    #[schema(schema_with = schema::price_or_null)]
    price: Field<Unvalidated<MoneyBody>>,
}

impl From<NewDropBody> for DropInput {
    fn from(body: NewDropBody) -> Self {
        Self {
            product_id: body.product_id,
            title: body.title,
            starts_at: body.starts_at,
            ends_at: body.ends_at,
            per_buyer_limit: body.per_buyer_limit,
            low_stock_threshold: body.low_stock_threshold,
            hold_seconds: body.hold_seconds,
            variants: body.variants.map(each),
            stock: body.stock,
            shipping: body.shipping.map(each),
        }
    }
}

impl From<NewVariantBody> for DropVariantInput {
    fn from(NewVariantBody { variant_id, name, stock, price }: NewVariantBody) -> Self {
        Self { variant_id, name, stock, price: price.map(|price| price.map(MoneyInput::from)) }
    }
}

/// Units to add to one variant; `variant_id` may be omitted if there is only one.
#[derive(Deserialize, Default, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[schema(as = Restock, examples(json!({"variant_id": "01890a5d-ac96-774b-bcce-b302099a8059", "quantity": 50})))]
pub struct RestockBody {
    #[schema(schema_with = schema::uuid_or_null)]
    variant_id: Field<VariantId>,
    #[schema(required = true, schema_with = schema::units)]
    quantity: Field<i64>,
}

impl From<RestockBody> for RestockInput {
    fn from(RestockBody { variant_id, quantity }: RestockBody) -> Self {
        Self { variant_id, quantity }
    }
}

/// New times of a drop: both before its start, only the end after it.
#[derive(Deserialize, Default, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[schema(as = Schedule, examples(json!({"starts_at": "2099-12-03T18:00:00Z", "ends_at": "2099-12-04T18:00:00+01:00"})))]
pub struct RescheduleBody {
    #[schema(schema_with = schema::new_start)]
    starts_at: Change<Timestamp>,
    #[schema(schema_with = schema::new_end)]
    ends_at: Change<Timestamp>,
}

impl From<RescheduleBody> for ScheduleInput {
    fn from(RescheduleBody { starts_at, ends_at }: RescheduleBody) -> Self {
        Self { starts_at, ends_at }
    }
}

/// A drop with its current stock. `started_at` and `ended_at` are `null` until it has started or ended, `ends_at` if it
/// has no planned end.
#[derive(Serialize, ToSchema)]
#[schema(as = Drop)]
pub struct DropBody<'a> {
    id: DropId,
    creator_id: CreatorId,
    product_id: ProductId,
    title: &'a str,
    status: DropStatus,
    starts_at: Timestamp,
    #[schema(required = true)]
    started_at: Option<Timestamp>,
    #[schema(required = true)]
    ends_at: Option<Timestamp>,
    #[schema(required = true)]
    ended_at: Option<Timestamp>,
    per_buyer_limit: u32,
    low_stock_threshold: u32,
    hold_seconds: u32,
    created_at: Timestamp,
    stock: StockCounts,
    variants: Vec<VariantBody<'a>>,
    /// Where it is shipped to: empty is everywhere for nothing, `null` is that nothing is shipped.
    #[schema(required = true)]
    shipping: Option<Vec<ShippingBody>>,
}

/// A country that a drop is shipped to, and the price for a whole order.
#[derive(Serialize, ToSchema)]
#[schema(as = Shipping)]
struct ShippingBody {
    country: Country,
    price: MoneyView,
}

fn shipping_of(spec: &DropSpec) -> Option<Vec<ShippingBody>> {
    let currency = spec.variants.first()?.price.currency;
    let row = |row: &CountryPrice| {
        let price = Money { amount: row.price, currency };
        ShippingBody { country: row.country, price: price.into() }
    };
    Some(spec.shipping.as_ref()?.countries.iter().map(row).collect())
}

#[derive(Serialize, ToSchema)]
#[schema(as = DropVariant)]
struct VariantBody<'a> {
    id: VariantId,
    name: &'a str,
    price: MoneyView,
    stock: StockCounts,
}

impl<'a> From<&'a DropView> for DropBody<'a> {
    fn from(DropView { spec, stock, started_at, ended_at }: &'a DropView) -> Self {
        let variants = spec.variants.iter().zip(&stock.variants);
        Self {
            id: spec.id,
            creator_id: spec.creator_id,
            product_id: spec.product_id,
            title: &spec.title,
            status: stock.status,
            starts_at: spec.starts_at,
            started_at: *started_at,
            ends_at: spec.ends_at,
            ended_at: *ended_at,
            per_buyer_limit: spec.per_buyer_limit,
            low_stock_threshold: spec.low_stock_threshold,
            hold_seconds: spec.hold_ms / 1_000,
            created_at: spec.created_at,
            stock: stock.total(),
            variants: variants
                .map(|(variant, (_, stock))| VariantBody {
                    id: variant.id,
                    name: &variant.name,
                    price: variant.price.into(),
                    stock: *stock,
                })
                .collect(),
            shipping: shipping_of(spec),
        }
    }
}

/// The current stock of a drop, in all and by variant. `position` rises with each change; 0 if it is unknown.
#[derive(Serialize, ToSchema)]
#[schema(as = DropStock)]
pub struct StockBody {
    drop_id: DropId,
    status: DropStatus,
    #[serde(flatten)]
    total: StockCounts,
    variants: Vec<VariantStockBody>,
    #[schema(minimum = 0)]
    position: u64,
}

#[derive(Serialize, ToSchema)]
#[schema(as = VariantStock)]
struct VariantStockBody {
    id: VariantId,
    #[serde(flatten)]
    stock: StockCounts,
}

impl StockBody {
    /// The stock of the drop `drop_id`, from its view.
    #[must_use]
    pub fn new(drop_id: DropId, view: &StockView) -> Self {
        Self {
            drop_id,
            status: view.status,
            total: view.total(),
            variants: view.variants.iter().map(|&(id, stock)| VariantStockBody { id, stock }).collect(),
            position: view.position,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::extract::json::pointers;
    use crate::service::drops::NewEnd;
    use serde_json::{Value, json};

    fn drop_with(fields: Value) -> Vec<String> {
        let mut body = json!({"product_id": ProductId(uuid::Uuid::now_v7()), "stock": 100});
        for (name, value) in fields.as_object().unwrap() {
            body[name] = value.clone();
        }
        pointers::<NewDropBody, DropInput>(&body)
    }

    #[test]
    fn the_shortest_drop_has_one_variant_and_every_default() {
        let body: NewDropBody =
            serde_json::from_value(json!({"product_id": ProductId(uuid::Uuid::now_v7()), "stock": 100})).unwrap();
        let new = Unvalidated::from(body).validate::<DropInput>().unwrap();
        assert_eq!((new.variants.len(), &new.variants[0].name, new.variants[0].stock), (1, &None, 100));
        assert_eq!((new.hold_ms, new.per_buyer_limit, new.low_stock_threshold), (300_000, 10, 0));
        assert!(new.title.is_none() && new.starts_at.is_none() && new.ends_at.is_none());
    }

    #[test]
    fn drops_are_checked() {
        let none: [&str; 0] = [];
        let eur = json!({"amount": 1, "currency": "EUR"});
        let usd = json!({"amount": 1, "currency": "USD"});
        assert_eq!(drop_with(json!({"hold_seconds": 3600, "title": "Jacke 🧥", "ends_at": null})), none);
        assert_eq!(
            drop_with(json!({"hold_seconds": 0, "per_buyer_limit": -1, "low_stock_threshold": 1e12})),
            ["/per_buyer_limit", "/low_stock_threshold", "/hold_seconds"]
        );
        assert_eq!(
            drop_with(json!({"starts_at": "2026-01-02T00:00:00Z", "ends_at": "2026-01-01T00:00:00Z"})),
            ["/ends_at"]
        );
        assert_eq!(drop_with(json!({"stock": 0})), ["/stock"]);
        assert_eq!(drop_with(json!({"stock": null})), ["/variants"]);
        assert_eq!(drop_with(json!({"stock": null, "variants": []})), ["/variants"]);
        assert_eq!(drop_with(json!({"variants": [{"stock": 1}]})), ["/stock"]);
        assert_eq!(drop_with(json!({"stock": null, "variants": [{"stock": 1}, {"stock": 1}]})), ["/variants/1/name"]);
        assert_eq!(
            drop_with(json!({"stock": null, "variants": [null, 3, {}, {"stock": 10_000_001, "name": ""}]})),
            ["/variants/0", "/variants/1", "/variants/2/stock", "/variants/3/name", "/variants/3/stock"]
        );
        let id = VariantId::new();
        let usual = json!([{"variant_id": id, "stock": 1}, {"variant_id": VariantId::new(), "stock": 1}, {"stock": 1}]);
        assert_eq!(drop_with(json!({"stock": null, "variants": usual})), none);
        let twice =
            json!([{"variant_id": id, "stock": 1}, {"variant_id": id, "stock": 1}, {"variant_id": 7, "stock": 1}]);
        assert_eq!(
            drop_with(json!({"stock": null, "variants": twice})),
            ["/variants/1/variant_id", "/variants/2/variant_id"]
        );
        let mixed = json!([{"name": "M", "stock": 1, "price": eur}, {"name": "L", "stock": 1, "price": usd}]);
        assert_eq!(drop_with(json!({"stock": null, "variants": mixed})), ["/variants/1/price/currency"]);
        let many: Vec<_> = (0..65).map(|n| json!({"name": n.to_string(), "stock": 1})).collect();
        assert_eq!(drop_with(json!({"stock": null, "variants": many})), ["/variants"]);
    }

    #[test]
    fn in_a_schedule_absent_stays_and_null_empties() {
        let read = |json: Value| {
            Unvalidated::from(serde_json::from_value::<RescheduleBody>(json).unwrap()).validate::<ScheduleInput>()
        };
        let time = |text: &str| text.parse::<Timestamp>().unwrap();
        let (start, end) = ("2030-01-01T00:00:00Z", "2031-01-01T00:00:00Z");
        assert_eq!(read(json!({})), Ok((None, NewEnd::Unchanged)));
        assert_eq!(read(json!({"starts_at": start})), Ok((Some(time(start)), NewEnd::Unchanged)));
        assert_eq!(read(json!({"ends_at": null})), Ok((None, NewEnd::Never)));
        assert_eq!(read(json!({"ends_at": end})), Ok((None, NewEnd::At(time(end)))));
        let wrong = json!({"starts_at": null, "ends_at": 5, "starts": 1});
        assert_eq!(pointers::<RescheduleBody, ScheduleInput>(&wrong), ["/starts", "/starts_at", "/ends_at"]);
    }

    #[test]
    fn stock_is_flat_on_the_wire() {
        let (drop, variant) = (DropId::new(), VariantId::new());
        let stock = StockCounts { total: 5, available: 2, held: 2, sold: 1 };
        let variants = std::iter::once((variant, stock)).collect();
        let view = StockView { status: DropStatus::SoldOut, variants, position: 9 };
        assert_eq!(
            serde_json::to_value(StockBody::new(drop, &view)).unwrap(),
            json!({"drop_id": drop, "status": "sold_out", "total": 5, "available": 2, "held": 2, "sold": 1,
                "variants": [{"id": variant, "total": 5, "available": 2, "held": 2, "sold": 1}], "position": 9})
        );
    }
}
