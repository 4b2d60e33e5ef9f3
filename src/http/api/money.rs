//! The form of money in answers.

use crate::domain::{Currency, Money};
use serde::Serialize;
use utoipa::ToSchema;

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
