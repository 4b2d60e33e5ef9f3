//! Money on the wire.

use crate::domain::{Currency, Money};
use crate::http::openapi::schema;
use crate::service::input::{Field, MoneyInput};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Money in a request body: `amount` in minor units, and an ISO 4217 `currency`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[schema(as = Price)]
pub struct MoneyBody {
    #[schema(required = true, schema_with = schema::amount)]
    amount: Field<i64>,
    #[schema(required = true, schema_with = schema::currency)]
    currency: Field<Currency>,
}

impl From<MoneyBody> for MoneyInput {
    fn from(MoneyBody { amount, currency }: MoneyBody) -> Self {
        Self { amount, currency }
    }
}

/// Money in an answer. Requests omit the exponent, which follows from the currency.
#[derive(Clone, Copy, Serialize, ToSchema)]
#[schema(as = Money)]
pub struct MoneyView {
    /// The amount in minor units of the currency.
    #[schema(minimum = 0, example = 1999)]
    amount: i64,
    currency: Currency,
    /// Decimals of the amount: 1999 is 19.99 with exponent 2, and 1999 with 0.
    #[schema(minimum = 0, maximum = 4, example = 2)]
    exponent: u8,
}

crate::http::api::plain::plain!(MoneyView, MoneyView { amount, currency, exponent });

impl From<Money> for MoneyView {
    fn from(Money { amount, currency }: Money) -> Self {
        Self { amount, currency, exponent: currency.exponent() }
    }
}
