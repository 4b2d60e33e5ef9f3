//! Products: the catalogue that drops sell from.

mod input;

pub use input::{
    ATTRIBUTE_WANTED, AttributesChange, AttributesInput, ImageInput, NewProduct, Objects, ProductChange,
    ProductChangeInput, ProductInput, ProductListInput, ProductVariantInput, VariantChange,
};

use super::keys::Attempt;
use super::{
    Caller, Code, Failure, FieldError, Object, OnlyIf, Page,
    clock::Clock,
    creators::{ROW_BYTES, page_found},
    must_still_hold,
};
use crate::domain::limits::PRODUCT_CHANGE_ATTEMPTS_MAX;
use crate::domain::{CreatorId, ProductId, ProductStatus, ProductVariant, UserId, VariantId};
use crate::storage::{Product, ProductFilter, ProductSummary, Store};
use input::contradictions;
use serde_json::json;
use std::sync::Arc;

/// The product use cases.
#[derive(Clone)]
pub struct Products {
    store: Arc<dyn Store>,
    clock: Clock,
}

impl Products {
    #[must_use]
    pub fn new(store: Arc<dyn Store>, clock: Clock) -> Self {
        Self { store, clock }
    }

    /// Adds a product to the caller's catalogue.
    ///
    /// # Errors
    /// `not_a_creator`, `user_not_found`, `database_unavailable`.
    pub async fn create(&self, caller: UserId, new: NewProduct, attempt: &Attempt) -> Result<Product, Failure> {
        let id = ProductId(attempt.id());
        if attempt.is_resumed()
            && let Some(made) = self.store.product(id).await?
        {
            attempt.found();
            return Ok(made);
        }
        let creator_id = CreatorId::from(caller);
        self.store.creator(creator_id).await?.ok_or_else(|| Failure::new(Code::NotACreator))?;
        let now = self.clock.now();
        let product = Product {
            id,
            creator_id,
            name: new.name,
            description: new.description,
            price: new.price,
            images: new.images,
            attributes: new.attributes,
            variants: new.variants.into_iter().map(|variant| named(variant, VariantId::new())).collect(),
            shipped: new.shipped,
            status: ProductStatus::Active,
            created_at: now,
            updated_at: now,
            version: 0,
        };
        self.store.insert_product(&product).await?;
        Ok(product)
    }

    /// One product.
    ///
    /// # Errors
    /// `product_not_found`, `database_unavailable`.
    pub async fn get(&self, id: ProductId) -> Result<Product, Failure> {
        self.store.product(id).await?.ok_or_else(|| Failure::new(Code::ProductNotFound))
    }

    /// Newest first, those before `after`; fewer than `limit` if they are large.
    ///
    /// # Errors
    /// `database_unavailable`.
    pub async fn list(
        &self,
        filter: ProductFilter,
        after: Option<ProductId>,
        limit: u32,
    ) -> Result<Page<ProductSummary>, Failure> {
        let weigh = |product: &ProductSummary| {
            let image = product.image.iter().map(|image| image.url.len() + image.alt.as_ref().map_or(0, String::len));
            ROW_BYTES + product.name.len() + image.sum::<usize>()
        };
        Ok(page_found(self.store.products(filter, after, limit + 1).await?, limit, weigh))
    }

    /// Changes the given fields. Drops scheduled earlier keep their names and prices.
    ///
    /// # Errors
    /// `product_not_found`, `forbidden`, `precondition_failed`, `conflicting_fields` (variants that it does not have,
    /// currencies, the total size of its attributes), `overloaded` after too many concurrent changes,
    /// `database_unavailable`.
    pub async fn change(
        &self,
        caller: &Caller,
        id: ProductId,
        change: &ProductChange,
        only_if: OnlyIf<'_, Product>,
    ) -> Result<Product, Failure> {
        self.rewrite(caller, id, "product_changed", only_if, |product| changed(product, change)).await
    }

    /// Archives a product, so that lists omit it and it gets no new drops, or restores it. Repeated: unchanged.
    ///
    /// # Errors
    /// As [`Products::change`].
    pub async fn set_status(
        &self,
        caller: &Caller,
        id: ProductId,
        status: ProductStatus,
        only_if: OnlyIf<'_, Product>,
    ) -> Result<Product, Failure> {
        let act = match status {
            ProductStatus::Active => "product_restored",
            ProductStatus::Archived => "product_archived",
        };
        self.rewrite(caller, id, act, only_if, |product| Ok(Product { status, ..product.clone() })).await
    }

    /// Reads, changes and writes, again after a concurrent write. A change without effect writes nothing.
    async fn rewrite(
        &self,
        caller: &Caller,
        id: ProductId,
        act: &str,
        only_if: OnlyIf<'_, Product>,
        change: impl Fn(&Product) -> Result<Product, Failure>,
    ) -> Result<Product, Failure> {
        for _ in 0..PRODUCT_CHANGE_ATTEMPTS_MAX {
            let old = self.get(id).await?;
            caller.may_manage(old.creator_id)?;
            must_still_hold(only_if, &old)?;
            let mut new = change(&old)?;
            if new == old {
                return Ok(old);
            }
            let now = self.clock.now();
            new.updated_at = now.max(old.updated_at);
            new.version = old.version.wrapping_add(1);
            let audit = caller.audit(now, act, Object { kind: "product", id: id.0 }, &difference(&old, &new));
            if self.store.update_product(&new, old.version, &audit).await? {
                return Ok(new);
            }
        }
        Err(Failure { detail: "Others are changing this product".into(), ..Failure::retry(Code::Overloaded, 1) })
    }
}

fn named(VariantChange { name, price, .. }: VariantChange, id: VariantId) -> ProductVariant {
    ProductVariant { id, name, price }
}

/// The changed product, if its fields do not contradict each other.
fn changed(old: &Product, change: &ProductChange) -> Result<Product, Failure> {
    let mut errors = Vec::new();
    let mut new = old.clone();
    let ProductChange { name, description, price, images, attributes, variants, shipped } = change.clone();
    new.name = name.unwrap_or(new.name);
    new.description = description.unwrap_or(new.description);
    new.price = price.unwrap_or(new.price);
    new.images = images.unwrap_or(new.images);
    new.shipped = shipped.unwrap_or(new.shipped);
    match attributes {
        AttributesChange::Keep => {}
        AttributesChange::Clear => new.attributes.clear(),
        AttributesChange::Merge(changes) => {
            for (name, value) in changes {
                match value {
                    Some(value) => new.attributes.insert(name, value),
                    None => new.attributes.remove(&name),
                };
            }
        }
    }
    if let Some(variants) = variants {
        new.variants.clear();
        for (index, variant) in variants.into_iter().enumerate() {
            let known = |id: &VariantId| old.variants.iter().any(|variant| variant.id == *id);
            if variant.id.as_ref().is_some_and(|id| !known(id)) {
                let detail = "must be the id of a variant of this product".to_owned();
                errors.push(FieldError { pointer: format!("/variants/{index}/id"), detail });
            }
            let id = variant.id.unwrap_or_else(VariantId::new);
            new.variants.push(named(variant, id));
        }
    }
    let prices: Vec<_> = new.variants.iter().map(|variant| variant.price).collect();
    errors.extend(contradictions(new.price, &prices, &new.attributes));
    if errors.is_empty() { Ok(new) } else { Err(Failure::conflicting(errors)) }
}

/// The detail of the audit line: the changed fields, and the price, because money depends on it.
fn difference(old: &Product, new: &Product) -> serde_json::Value {
    let fields: Vec<&str> = [
        ("name", old.name != new.name),
        ("description", old.description != new.description),
        ("price", old.price != new.price),
        ("images", old.images != new.images),
        ("attributes", old.attributes != new.attributes),
        ("variants", old.variants != new.variants),
        ("shipped", old.shipped != new.shipped),
        ("status", old.status != new.status),
    ]
    .into_iter()
    .filter_map(|(name, changed)| changed.then_some(name))
    .collect();
    let mut detail = json!({"fields": fields});
    if old.price != new.price {
        detail["price"] = json!({"from": old.price, "to": new.price});
    }
    detail
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Attribute, Attributes, Money, Timestamp};
    use std::collections::BTreeMap;

    fn money(amount: i64, currency: &str) -> Money {
        Money { amount, currency: currency.parse().unwrap() }
    }

    fn product() -> Product {
        let at = Timestamp::from_millis(1_800_000_000_000);
        Product {
            id: ProductId::new(),
            creator_id: CreatorId(uuid::Uuid::now_v7()),
            name: "Jacket".to_owned(),
            description: "Warm".to_owned(),
            price: money(1_999, "EUR"),
            images: Vec::new(),
            attributes: Attributes::from([("colour".to_owned(), "red".into()), ("fit".to_owned(), "wide".into())]),
            variants: ["S", "M"]
                .map(|name| ProductVariant { id: VariantId::new(), name: name.to_owned(), price: None })
                .to_vec(),
            shipped: false,
            status: ProductStatus::Active,
            created_at: at,
            updated_at: at,
            version: 3,
        }
    }

    fn pointers(result: Result<Product, Failure>) -> Vec<String> {
        result.unwrap_err().fields.into_iter().map(|field| field.pointer).collect()
    }

    #[test]
    fn what_is_absent_stays() {
        let old = product();
        assert_eq!(changed(&old, &ProductChange::default()).unwrap(), old);
        let name = ProductChange { name: Some("Coat".to_owned()), ..ProductChange::default() };
        assert_eq!(changed(&old, &name).unwrap(), Product { name: "Coat".to_owned(), ..old });
    }

    #[test]
    fn attributes_are_merged_by_name() {
        let old = product();
        let merge = BTreeMap::from([("colour".to_owned(), None), ("lined".to_owned(), Attribute::from_json("true"))]);
        let change = ProductChange { attributes: AttributesChange::Merge(merge), ..ProductChange::default() };
        let new = changed(&old, &change).unwrap();
        assert_eq!(serde_json::to_value(&new.attributes).unwrap(), json!({"fit": "wide", "lined": true}));
        let clear = ProductChange { attributes: AttributesChange::Clear, ..ProductChange::default() };
        assert!(changed(&old, &clear).unwrap().attributes.is_empty());
        let many = (0..31).map(|n| (format!("a{n}"), Some("x".into()))).collect();
        let many = ProductChange { attributes: AttributesChange::Merge(many), ..ProductChange::default() };
        assert_eq!(pointers(changed(&old, &many)), ["/attributes"]);
        let large = (0..20).map(|n| (format!("a{n}"), Some("x".repeat(500).as_str().into()))).collect();
        let large = ProductChange { attributes: AttributesChange::Merge(large), ..ProductChange::default() };
        assert_eq!(pointers(changed(&old, &large)), ["/attributes"]);
    }

    #[test]
    fn variants_keep_the_ids_that_are_named() {
        let old = product();
        let variant = |id, name: &str| VariantChange { id, name: name.to_owned(), price: Some(money(5, "EUR")) };
        let listed = vec![variant(Some(old.variants[1].id), "Medium"), variant(None, "L")];
        let change = ProductChange { variants: Some(listed), ..ProductChange::default() };
        let new = changed(&old, &change).unwrap();
        assert_eq!(new.variants.iter().map(|v| v.name.as_str()).collect::<Vec<_>>(), ["Medium", "L"]);
        assert_eq!(new.variants[0].id, old.variants[1].id);
        assert!(old.variants.iter().all(|v| v.id != new.variants[1].id));
        let strange = vec![variant(Some(VariantId::new()), "S")];
        let strange = ProductChange { variants: Some(strange), ..ProductChange::default() };
        assert_eq!(pointers(changed(&old, &strange)), ["/variants/0/id"]);
        let dollars = ProductChange { price: Some(money(1, "USD")), ..ProductChange::default() };
        assert_eq!(pointers(changed(&new, &dollars)), ["/variants/0/price/currency", "/variants/1/price/currency"]);
    }

    #[test]
    fn the_audit_trail_says_what_changed() {
        let old = product();
        let new = Product { price: money(1, "EUR"), status: ProductStatus::Archived, ..old.clone() };
        let price = json!({"from": {"amount": 1999, "currency": "EUR"}, "to": {"amount": 1, "currency": "EUR"}});
        assert_eq!(difference(&old, &new), json!({"fields": ["price", "status"], "price": price}));
    }
}
