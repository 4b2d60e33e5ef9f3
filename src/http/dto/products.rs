//! Products on the wire.

use crate::domain::limits::{NAME_CHARS_MAX, TEXT_CHARS_MAX};
use crate::domain::{CreatorId, Money, ProductId, Timestamp};
use crate::http::field::{Checks, Field, MoneyBody, Nested};
use crate::service::products::NewProduct;
use crate::service::{Failure, Product};
use serde::{Deserialize, Serialize};

/// `POST /products`.
#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
pub struct NewProductBody {
    name: Field<String>,
    description: Field<String>,
    price: Field<Nested<MoneyBody>>,
}

impl NewProductBody {
    /// # Errors
    /// `validation_failed`.
    pub fn validate(self) -> Result<NewProduct, Failure> {
        let mut checks = Checks::default();
        let name = checks.required("/name", self.name);
        let name = checks.line("/name", name, 1..=NAME_CHARS_MAX);
        let description = checks.optional("/description", self.description).unwrap_or_default();
        let description = checks.lines("/description", Some(description), 0..=TEXT_CHARS_MAX);
        if matches!(self.price, Field::Absent) {
            checks.wrong("/price", "is required");
        }
        let price = checks.money("/price", self.price);
        let product = match (name, description, price) {
            (Some(name), Some(description), Some(price)) => Some(NewProduct { name, description, price }),
            _ => None,
        };
        checks.finish(product)
    }
}

/// A product.
#[derive(Serialize)]
pub struct ProductBody<'a> {
    id: ProductId,
    creator_id: CreatorId,
    name: &'a str,
    description: &'a str,
    price: Money,
    created_at: Timestamp,
}

impl<'a> From<&'a Product> for ProductBody<'a> {
    fn from(product: &'a Product) -> Self {
        Self {
            id: product.id,
            creator_id: product.creator_id,
            name: &product.name,
            description: &product.description,
            price: product.price,
            created_at: product.created_at,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::dto::pointers;
    use serde_json::json;

    #[test]
    fn products_are_checked() {
        let product = |json| pointers(&json, NewProductBody::validate);
        let none: [&str; 0] = [];
        assert_eq!(product(json!({"name": "Jacket", "price": {"amount": 0, "currency": "USD"}})), none);
        assert_eq!(product(json!({})), ["/name", "/price"]);
        assert_eq!(product(json!({"name": "", "price": {}})), ["/name", "/price/amount", "/price/currency"]);
        assert_eq!(
            product(json!({"name": "J", "price": {"amount": -1, "currency": "usd"}})),
            ["/price/currency", "/price/amount"]
        );
        assert_eq!(product(json!({"name": "J", "price": {"amount": 1.5, "currency": "USD"}})), ["/price/amount"]);
        assert_eq!(product(json!({"name": "J", "price": 5})), ["/price"]);
        assert_eq!(product(json!({"name": "J", "price": {"amount": 5, "currency": "USD", "tax": 1}})), [""]);
    }
}
