//! Bodies of requests and answers, one file a resource. A request's `validate` names every bad field at once; what
//! only the use case can know (whose product, which currency) is checked there.

use crate::domain::{Currency, Money};
use serde::Serialize;
use utoipa::ToSchema;

pub mod accounts;
pub mod creators;
pub mod drops;
pub mod notifications;
pub mod orders;
pub mod products;

/// Money in an answer. Requests have it without the exponent, which the currency says.
#[derive(Clone, Copy, Serialize, ToSchema)]
#[schema(as = Money)]
pub struct MoneyView {
    /// In minor units.
    #[schema(minimum = 0, example = 1999)]
    amount: i64,
    currency: Currency,
    /// How many decimals the amount has: 1999 is 19.99 with 2, and 1999 with 0.
    #[schema(minimum = 0, maximum = 4, example = 2)]
    exponent: u8,
}

crate::http::plain::plain!(MoneyView, MoneyView { amount, currency, exponent });

impl From<Money> for MoneyView {
    fn from(Money { amount, currency }: Money) -> Self {
        Self { amount, currency, exponent: currency.exponent() }
    }
}

/// Reads and validates a body in a test.
#[cfg(test)]
fn pointers<B: serde::de::DeserializeOwned, T>(
    json: &serde_json::Value,
    validate: fn(B) -> Result<T, crate::service::Failure>,
) -> Vec<String> {
    let parsed = super::json::parse::<super::known::Known<B>>(json.to_string().as_bytes());
    match parsed.and_then(|body| body.validated(validate)) {
        Ok(_) => Vec::new(),
        Err(failure) => failure.fields.into_iter().map(|field| field.pointer).collect(),
    }
}
