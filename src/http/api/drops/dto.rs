//! Bodies of requests and answers about drops.

use crate::domain::limits::{
    HOLD_MS_DEFAULT, HOLD_MS_MAX, HOLD_MS_MIN, NAME_CHARS_MAX, PER_BUYER_LIMIT_DEFAULT, STOCK_PER_VARIANT_MAX,
    VARIANTS_PER_DROP_MAX,
};
use crate::domain::{CreatorId, DropId, DropStatus, ProductId, StockCounts, Timestamp, VariantId};
use crate::http::api::money::MoneyView;
use crate::http::extract::field::{Change, Checks, Field, MoneyBody, Nested};
use crate::http::openapi::schema;
use crate::service::drops::{NewDrop, NewEnd, NewVariant, VARIANT_NAME_DEFAULT};
use crate::service::{DropView, Failure, StockView};
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
    variants: Field<Vec<Field<Nested<NewVariantBody>>>>,
    #[schema(schema_with = schema::units_or_null)]
    stock: Field<i64>,
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
    price: Field<Nested<MoneyBody>>,
}

impl NewDropBody {
    /// # Errors
    /// `validation_failed`, `conflicting_fields`.
    pub fn validate(self) -> Result<NewDrop, Failure> {
        let mut checks = Checks::default();
        let product_id = checks.required("/product_id", self.product_id);
        let title = checks.optional("/title", self.title);
        let title = checks.line("/title", title, 1..=NAME_CHARS_MAX);
        let starts_at = checks.optional("/starts_at", self.starts_at);
        let ends_at = checks.optional("/ends_at", self.ends_at);
        if let (Some(starts_at), Some(ends_at)) = (starts_at, ends_at)
            && ends_at <= starts_at
        {
            checks.conflict("/ends_at", "must be after starts_at");
        }
        let units = 0..=STOCK_PER_VARIANT_MAX;
        let per_buyer_limit = checks.number("/per_buyer_limit", self.per_buyer_limit, units.clone());
        let low_stock_threshold = checks.number("/low_stock_threshold", self.low_stock_threshold, units).unwrap_or(0);
        let hold = checks.number("/hold_seconds", self.hold_seconds, HOLD_MS_MIN / 1_000..=HOLD_MS_MAX / 1_000);
        let stock_alone = matches!(self.variants, Field::Absent);
        let variants = variants(&mut checks, self.variants, self.stock);
        let new = product_id.map(|product_id| NewDrop {
            product_id,
            title,
            variants,
            stock_alone,
            per_buyer_limit: per_buyer_limit.unwrap_or(PER_BUYER_LIMIT_DEFAULT),
            low_stock_threshold,
            hold_ms: hold.map_or(HOLD_MS_DEFAULT, |seconds| seconds * 1_000),
            starts_at,
            ends_at,
        });
        checks.finish(new)
    }
}

/// Reads either `variants`, or `stock` for a drop of one.
fn variants(
    checks: &mut Checks,
    variants: Field<Vec<Field<Nested<NewVariantBody>>>>,
    stock: Field<i64>,
) -> Vec<NewVariant> {
    let (bodies, stock) = match (variants, stock) {
        (Field::Absent, Field::Absent) => {
            checks.wrong("/variants", "is required, or else stock");
            return Vec::new();
        }
        (Field::Absent, stock) => {
            let stock = checks.number("/stock", stock, 1..=STOCK_PER_VARIANT_MAX);
            let only = |stock| NewVariant { id: None, name: None, stock, price: None };
            return stock.map(only).into_iter().collect();
        }
        (variants, stock) => (checks.optional("/variants", variants), stock),
    };
    if !matches!(stock, Field::Absent) {
        checks.wrong("/stock", "must be left out where there are variants");
    }
    let Some(bodies) = bodies else { return Vec::new() };
    if !(1..=VARIANTS_PER_DROP_MAX).contains(&bodies.len()) {
        checks.wrong("/variants", format!("must have 1 to {VARIANTS_PER_DROP_MAX} items"));
        return Vec::new();
    }
    let mut valid: Vec<NewVariant> = Vec::with_capacity(bodies.len());
    for (index, body) in bodies.into_iter().enumerate() {
        let pointer = format!("/variants/{index}");
        let Some(new) = variant(checks, &pointer, body) else { continue };
        if new.id.is_some() && valid.iter().any(|other| other.id == new.id) {
            checks.conflict(format!("{pointer}/variant_id"), "must not be that of another variant");
        }
        if name_of(&new).is_some() && valid.iter().any(|other| name_of(other) == name_of(&new)) {
            checks.conflict(format!("{pointer}/name"), "must not be the name of another variant");
        }
        let currency = |variant: &NewVariant| variant.price.map(|price| price.currency);
        let others = valid.iter().find_map(currency);
        if others.is_some() && currency(&new).is_some() && others != currency(&new) {
            checks.conflict(format!("{pointer}/price/currency"), "must be the same for all variants");
        }
        valid.push(new);
    }
    valid
}

/// The variant's future name, if it can be known without the product.
fn name_of(variant: &NewVariant) -> Option<&str> {
    variant.name.as_deref().or(variant.id.is_none().then_some(VARIANT_NAME_DEFAULT))
}

fn variant(checks: &mut Checks, pointer: &str, body: Field<Nested<NewVariantBody>>) -> Option<NewVariant> {
    let body = checks.required(pointer, body)?.fields();
    let id = checks.optional(&format!("{pointer}/variant_id"), body.variant_id);
    let name = checks.optional(&format!("{pointer}/name"), body.name);
    let name = checks.line(&format!("{pointer}/name"), name, 1..=NAME_CHARS_MAX);
    let stock = checks.required_number(&format!("{pointer}/stock"), body.stock, 1..=STOCK_PER_VARIANT_MAX);
    let price = checks.money(&format!("{pointer}/price"), body.price);
    Some(NewVariant { id, name, stock: stock?, price })
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

impl RestockBody {
    /// Returns the variant, if it is given, and the units.
    ///
    /// # Errors
    /// `validation_failed`.
    pub fn validate(self) -> Result<(Option<VariantId>, u32), Failure> {
        let mut checks = Checks::default();
        let variant = checks.optional("/variant_id", self.variant_id);
        let quantity = checks.required_number("/quantity", self.quantity, 1..=STOCK_PER_VARIANT_MAX);
        checks.finish(quantity.map(|quantity| (variant, quantity)))
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

impl RescheduleBody {
    /// Returns the new start, if it changes, and the change of the end.
    ///
    /// # Errors
    /// `validation_failed`.
    pub fn validate(self) -> Result<(Option<Timestamp>, NewEnd), Failure> {
        let mut checks = Checks::default();
        let starts_at = checks.optional("/starts_at", self.starts_at.or_wrong());
        let ends_at = match self.ends_at {
            Change::Keep => NewEnd::Unchanged,
            Change::Clear => NewEnd::Never,
            Change::To(end) => checks.optional("/ends_at", end).map_or(NewEnd::Unchanged, NewEnd::At),
        };
        checks.finish(Some((starts_at, ends_at)))
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
    use serde_json::{Value, json};

    fn drop_with(fields: Value) -> Vec<String> {
        let mut body = json!({"product_id": ProductId(uuid::Uuid::now_v7()), "stock": 100});
        for (name, value) in fields.as_object().unwrap() {
            body[name] = value.clone();
        }
        pointers(&body, NewDropBody::validate)
    }

    #[test]
    fn the_shortest_drop_has_one_variant_and_every_default() {
        let body: NewDropBody =
            serde_json::from_value(json!({"product_id": ProductId(uuid::Uuid::now_v7()), "stock": 100})).unwrap();
        let new = body.validate().unwrap();
        assert_eq!((new.variants.len(), name_of(&new.variants[0]), new.variants[0].stock), (1, Some("default"), 100));
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
        let read = |json: Value| serde_json::from_value::<RescheduleBody>(json).unwrap().validate();
        let time = |text: &str| text.parse::<Timestamp>().unwrap();
        let (start, end) = ("2030-01-01T00:00:00Z", "2031-01-01T00:00:00Z");
        assert_eq!(read(json!({})), Ok((None, NewEnd::Unchanged)));
        assert_eq!(read(json!({"starts_at": start})), Ok((Some(time(start)), NewEnd::Unchanged)));
        assert_eq!(read(json!({"ends_at": null})), Ok((None, NewEnd::Never)));
        assert_eq!(read(json!({"ends_at": end})), Ok((None, NewEnd::At(time(end)))));
        let wrong = json!({"starts_at": null, "ends_at": 5, "starts": 1});
        assert_eq!(pointers(&wrong, RescheduleBody::validate), ["/starts", "/starts_at", "/ends_at"]);
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
