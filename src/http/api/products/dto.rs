//! Bodies of requests and answers about products.

use crate::domain::{
    Attribute, Attributes, CreatorId, Image, ProductId, ProductStatus, ProductVariant, Timestamp, VariantId,
};
use crate::http::api::money::{MoneyBody, MoneyView};
use crate::http::extract::field::{FromJson, each};
use crate::http::openapi::schema;
use crate::service::input::{Change, Field, MoneyInput, Unvalidated};
use crate::service::products::{
    ATTRIBUTE_WANTED, AttributesInput, ImageInput, ProductChangeInput, ProductInput, ProductVariantInput,
};
use crate::service::{Product, ProductSummary};
use serde::de::MapAccess;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

type Images = Vec<Field<Unvalidated<ImageBody>>>;
type Variants = Vec<Field<Unvalidated<VariantBody>>>;

/// A product to add to the caller's catalogue.
#[derive(Deserialize, Default, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[schema(as = NewProduct, examples(json!({"name": "Winter jacket", "description": "Warm", "price": {"amount": 1999, "currency": "USD"}, "images": [{"url": "https://example.com/jacket.jpg", "alt": "Red, from the front"}], "attributes": {"material": "wool", "weight_kg": 1.2, "lined": true}, "variants": [{"name": "M"}, {"name": "XL", "price": {"amount": 2199, "currency": "USD"}}]})))]
pub struct NewProductBody {
    #[schema(required = true, schema_with = schema::name)]
    name: Field<String>,
    #[schema(schema_with = schema::text_or_null)]
    description: Field<String>,
    #[schema(required = true, schema_with = schema::price)]
    price: Field<Unvalidated<MoneyBody>>,
    #[schema(schema_with = schema::images_or_null)]
    images: Field<Images>,
    #[schema(schema_with = schema::attributes_or_null)]
    attributes: Field<AttributesBody>,
    #[schema(schema_with = schema::new_variants_or_null)]
    variants: Field<Variants>,
    #[schema(schema_with = schema::shipped_or_null)]
    shipped: Field<bool>,
}

/// A change of a product: omitted fields stay, `null` empties a field. `images` and `variants` replace the whole list.
#[derive(Deserialize, Default, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[schema(as = ProductChange, examples(json!({"description": "Warmer", "attributes": {"lined": null, "pockets": 4}, "variants": [{"id": "01890a5d-ac96-774b-bcce-b302099a8059", "name": "M"}, {"name": "L"}]})))]
pub struct ProductChangeBody {
    #[schema(schema_with = schema::name)]
    name: Change<String>,
    #[schema(schema_with = schema::text_or_null)]
    description: Change<String>,
    #[schema(schema_with = schema::price)]
    price: Change<Unvalidated<MoneyBody>>,
    #[schema(schema_with = schema::images_or_null)]
    images: Change<Images>,
    #[schema(schema_with = schema::attributes_or_null)]
    attributes: Change<AttributesBody>,
    #[schema(schema_with = schema::variants_or_null)]
    variants: Change<Variants>,
    #[schema(schema_with = schema::shipped)]
    shipped: Change<bool>,
}

/// One picture of a product.
#[derive(Deserialize, Default, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[schema(as = NewImage)]
pub struct ImageBody {
    #[schema(required = true, schema_with = schema::web_address)]
    url: Field<String>,
    #[schema(schema_with = schema::alt_or_null)]
    alt: Field<String>,
}

/// One variant of a product; a new one without an id.
#[derive(Deserialize, Default, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[schema(as = ProductVariantChange)]
pub struct VariantBody {
    #[schema(schema_with = schema::uuid_or_null)]
    id: Field<VariantId>,
    #[schema(required = true, schema_with = schema::name)]
    name: Field<String>,
    #[schema(schema_with = schema::price_or_null)]
    price: Field<Unvalidated<MoneyBody>>,
}

/// In the order in which they were sent; numbers keep their digits.
struct AttributesBody(AttributesInput);

impl FromJson for AttributesBody {
    const WANTED: &'static str = "must be an object";
    fn from_map<'de, A: MapAccess<'de>>(mut map: A) -> Result<Field<Self>, A::Error> {
        let mut all = Vec::new();
        while let Some((name, value)) = map.next_entry::<String, Box<RawValue>>()? {
            let value = match value.get() {
                "null" => Field::Absent,
                json => Attribute::from_json(json).map_or(Field::Wrong(ATTRIBUTE_WANTED.into()), Field::Given),
            };
            all.push((name, value));
        }
        Ok(Field::Given(Self(all)))
    }
}

impl From<NewProductBody> for ProductInput {
    fn from(body: NewProductBody) -> Self {
        let NewProductBody { name, description, price, images, attributes, variants, shipped } = body;
        Self {
            name,
            description,
            price: price.map(|price| price.map(MoneyInput::from)),
            images: images.map(each),
            attributes: attributes.map(|AttributesBody(all)| all),
            variants: variants.map(each),
            shipped,
        }
    }
}

impl From<ProductChangeBody> for ProductChangeInput {
    fn from(body: ProductChangeBody) -> Self {
        let ProductChangeBody { name, description, price, images, attributes, variants, shipped } = body;
        Self {
            name,
            description,
            price: price.map(|price| price.map(MoneyInput::from)),
            images: images.map(each),
            attributes: attributes.map(|AttributesBody(all)| all),
            variants: variants.map(each),
            shipped,
        }
    }
}

impl From<ImageBody> for ImageInput {
    fn from(ImageBody { url, alt }: ImageBody) -> Self {
        Self { url, alt }
    }
}

impl From<VariantBody> for ProductVariantInput {
    fn from(VariantBody { id, name, price }: VariantBody) -> Self {
        Self { id, name, price: price.map(|price| price.map(MoneyInput::from)) }
    }
}

/// A product with all its details.
#[derive(Serialize, ToSchema)]
#[schema(as = Product)]
pub struct ProductBody<'a> {
    id: ProductId,
    creator_id: CreatorId,
    name: &'a str,
    description: &'a str,
    price: MoneyView,
    #[schema(value_type = Vec<Image>)]
    images: &'a [Image],
    #[schema(value_type = BTreeMap<String, Attribute>)]
    attributes: &'a Attributes,
    variants: Vec<ProductVariantBody<'a>>,
    /// Whether buyers get it by post.
    shipped: bool,
    status: ProductStatus,
    created_at: Timestamp,
    updated_at: Timestamp,
}

#[derive(Serialize, ToSchema)]
#[schema(as = ProductVariant)]
struct ProductVariantBody<'a> {
    id: VariantId,
    name: &'a str,
    /// The variant's own price; `null` if it is the product's.
    #[schema(required = true)]
    price: Option<MoneyView>,
}

impl<'a> From<&'a ProductVariant> for ProductVariantBody<'a> {
    fn from(ProductVariant { id, name, price }: &'a ProductVariant) -> Self {
        Self { id: *id, name, price: price.map(MoneyView::from) }
    }
}

impl<'a> From<&'a Product> for ProductBody<'a> {
    fn from(product: &'a Product) -> Self {
        Self {
            id: product.id,
            creator_id: product.creator_id,
            name: &product.name,
            description: &product.description,
            price: product.price.into(),
            images: &product.images,
            attributes: &product.attributes,
            variants: product.variants.iter().map(ProductVariantBody::from).collect(),
            shipped: product.shipped,
            status: product.status,
            created_at: product.created_at,
            updated_at: product.updated_at,
        }
    }
}

/// A product in a list: without its description, its attributes, its variants and its further images, which `GET
/// /products/{id}` has.
#[derive(Serialize, ToSchema)]
#[schema(as = ProductSummary)]
pub struct ProductSummaryBody<'a> {
    id: ProductId,
    creator_id: CreatorId,
    name: &'a str,
    price: MoneyView,
    /// The first image; `null` if there is none.
    #[schema(value_type = Option<Image>, required = true)]
    image: Option<&'a Image>,
    status: ProductStatus,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl<'a> From<&'a ProductSummary> for ProductSummaryBody<'a> {
    fn from(product: &'a ProductSummary) -> Self {
        Self {
            id: product.id,
            creator_id: product.creator_id,
            name: &product.name,
            price: product.price.into(),
            image: product.image.as_ref(),
            status: product.status,
            created_at: product.created_at,
            updated_at: product.updated_at,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::extract::json::pointers;
    use crate::service::products::AttributesChange;
    use serde_json::{Value, json};
    use std::collections::BTreeMap;

    fn new_with(fields: Value) -> Vec<String> {
        let mut body = json!({"name": "Jacket", "price": {"amount": 5, "currency": "USD"}});
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        pointers::<NewProductBody, ProductInput>(&body)
    }

    fn change(body: Value) -> Vec<String> {
        pointers::<ProductChangeBody, ProductChangeInput>(&body)
    }

    const NONE: [&str; 0] = [];

    #[test]
    fn products_are_checked() {
        let product = |json| pointers::<NewProductBody, ProductInput>(&json);
        assert_eq!(product(json!({"name": "Jacket", "price": {"amount": 0, "currency": "USD"}})), NONE);
        assert_eq!(product(json!({})), ["/name", "/price"]);
        assert_eq!(product(json!({"name": "", "price": {}})), ["/name", "/price/amount", "/price/currency"]);
        assert_eq!(
            product(json!({"name": "J", "price": {"amount": -1, "currency": "usd"}})),
            ["/price/currency", "/price/amount"]
        );
        assert_eq!(product(json!({"name": "J", "price": {"amount": 1.5, "currency": "USD"}})), ["/price/amount"]);
        assert_eq!(product(json!({"name": "J", "price": 5})), ["/price"]);
        assert_eq!(product(json!({"name": "J", "price": {"amount": 5, "currency": "USD", "tax": 1}})), ["/price/tax"]);
        assert_eq!(new_with(json!({"status": "archived"})), ["/status"]);
        assert_eq!(new_with(json!({"shipped": true})), NONE);
        assert_eq!(
            (new_with(json!({"shipped": null})), new_with(json!({"shipped": 1}))),
            (vec![], vec!["/shipped".to_owned()])
        );
        assert_eq!(change(json!({"shipped": null})), ["/shipped"]);
        assert_eq!(new_with(json!({"images": null, "attributes": null, "variants": null})), NONE);
        assert_eq!(
            new_with(json!({"images": 1, "attributes": [], "variants": {}})),
            ["/images", "/attributes", "/variants"]
        );
    }

    #[test]
    fn images_are_checked() {
        let url = "https://example.com/a.jpg";
        assert_eq!(new_with(json!({"images": [{"url": url}, {"url": url, "alt": "Größe 🧥"}]})), NONE);
        assert_eq!(
            new_with(json!({"images": [null, url, {}, {"url": "a.jpg"}, {"url": url, "alt": "x".repeat(501)}]})),
            ["/images/0", "/images/1", "/images/2/url", "/images/3/url", "/images/4/alt"]
        );
        assert_eq!(new_with(json!({"images": [{"url": url, "width": 5}]})), ["/images/0/width"]);
        assert_eq!(new_with(json!({"images": vec![json!({"url": url}); 10]})), NONE);
        assert_eq!(new_with(json!({"images": vec![json!({"url": url}); 11]})), ["/images"]);
    }

    #[test]
    fn attributes_are_checked() {
        let good = json!({"colour": "rot", "weight_kg": 1.25, "waterproof": true, "größe": "", "gone": null});
        assert_eq!(new_with(json!({"attributes": good})), NONE);
        assert_eq!(
            new_with(json!({"attributes": {"a/b~c": [1], "b": {"x": 1}, "c": "x".repeat(501), "d": "\u{1b}[2J"}})),
            ["/attributes/a~1b~0c", "/attributes/b", "/attributes/c", "/attributes/d"]
        );
        let long = "x".repeat(65);
        assert_eq!(new_with(json!({"attributes": {"": 1, long: 1}})), ["/attributes", "/attributes"]);
        let many: BTreeMap<String, u32> = (0..33).map(|n| (format!("a{n}"), n)).collect();
        assert_eq!(new_with(json!({"attributes": many})), ["/attributes"]);
        let many: BTreeMap<String, u32> = (0..65).map(|n| (format!("a{n}"), n)).collect();
        assert_eq!(change(json!({"attributes": many})), ["/attributes"]);
        let large: BTreeMap<String, String> = (0..20).map(|n| (format!("a{n}"), "x".repeat(500))).collect();
        assert_eq!(new_with(json!({"attributes": large})), ["/attributes"]);
    }

    #[test]
    fn attributes_are_read_to_the_digit() {
        let validate = |attributes: &str| {
            let body = format!(r#"{{"name":"J","price":{{"amount":5,"currency":"USD"}},"attributes":{attributes}}}"#);
            crate::http::extract::json::parse::<Unvalidated<NewProductBody>>(body.as_bytes())
                .and_then(Unvalidated::validate::<ProductInput>)
        };
        let product = validate(r#"{"n": 12345678901234567890.10 , "t": "\u0041 "}"#).unwrap();
        assert_eq!(serde_json::to_string(&product.attributes).unwrap(), r#"{"n":12345678901234567890.10,"t":"A"}"#);
        let pointer = |attributes: &str| validate(attributes).unwrap_err().fields[0].pointer.clone();
        assert_eq!(pointer(r#"{"a": 1, " a": 2}"#), "/attributes/a");
        assert_eq!(pointer(r#"{"a": 1e999}"#), "/attributes/a");
        assert_eq!(pointer(&format!(r#"{{"a": {}}}"#, "1".repeat(41))), "/attributes/a");
        assert!(validate(r#"{"a": "\ud800"}"#).is_err(), "half a character");
    }

    #[test]
    fn variants_are_checked() {
        let (usd, eur) = (json!({"amount": 1, "currency": "USD"}), json!({"amount": 1, "currency": "EUR"}));
        assert_eq!(new_with(json!({"variants": [{"name": "S", "price": usd}, {"name": "M"}]})), NONE);
        assert_eq!(
            new_with(json!({"variants": [null, 1, {}, {"name": " "}, {"name": "S", "price": 1}]})),
            ["/variants/0", "/variants/1", "/variants/2/name", "/variants/3/name", "/variants/4/price"]
        );
        let twice = json!([{"name": "S"}, {"name": "S "}, {"name": "M", "price": eur}]);
        assert_eq!(new_with(json!({"variants": twice})), ["/variants/1/name", "/variants/2/price/currency"]);
        let id = VariantId::new();
        assert_eq!(new_with(json!({"variants": [{"name": "S", "id": id}]})), ["/variants/0/id"]);
        assert_eq!(change(json!({"variants": [{"name": "S", "id": id}]})), NONE);
        let twice = json!([{"name": "S", "id": id}, {"name": "M", "id": id}, {"name": "L", "id": 5}]);
        assert_eq!(change(json!({"variants": twice})), ["/variants/1/id", "/variants/2/id"]);
        assert_eq!(new_with(json!({"variants": [{"name": "S", "stock": 5}]})), ["/variants/0/stock"]);
        let many: Vec<_> = (0..65).map(|n| json!({"name": n.to_string()})).collect();
        assert_eq!(new_with(json!({"variants": many})), ["/variants"]);
    }

    #[test]
    fn a_change_tells_null_from_absent() {
        let read = |json: Value| {
            let body = serde_json::from_str::<ProductChangeBody>(&json.to_string()).unwrap();
            Unvalidated::from(body).validate::<ProductChangeInput>().unwrap()
        };
        let kept = read(json!({}));
        assert!(kept.name.is_none() && kept.description.is_none() && kept.images.is_none() && kept.variants.is_none());
        assert!(matches!(kept.attributes, AttributesChange::Keep));
        let cleared = read(json!({"description": null, "images": null, "attributes": null, "variants": null}));
        assert_eq!(cleared.description.as_deref(), Some(""));
        assert!(cleared.images.is_some_and(|images| images.is_empty()));
        assert!(cleared.variants.is_some_and(|variants| variants.is_empty()));
        assert!(matches!(cleared.attributes, AttributesChange::Clear));
        let merged = read(json!({"attributes": {"a": null, "b": "c"}}));
        assert!(matches!(merged.attributes, AttributesChange::Merge(all) if all["a"].is_none() && all["b"].is_some()));
        assert_eq!(change(json!({"name": null, "price": null})), ["/name", "/price"]);
        assert_eq!(change(json!({"name": "", "price": {"amount": -5, "currency": "USD"}})), ["/name", "/price/amount"]);
        assert_eq!(change(json!({"status": "archived"})), ["/status"]);
        assert_eq!(change(json!({"creator_id": CreatorId(uuid::Uuid::now_v7())})), ["/creator_id"]);
    }
}
