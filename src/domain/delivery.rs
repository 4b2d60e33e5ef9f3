//! Where orders are sent, and for how much.

use super::{AddressVersionId, Country};
use serde::{Deserialize, Serialize};

/// Where an order is sent, as it was decided when it was placed. Of the address it has no more than the country.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Delivery {
    /// A version of one of the buyer's addresses.
    pub address: AddressVersionId,
    pub country: Country,
    /// For the whole order, in minor units of its currency.
    pub shipping: i64,
}

/// The price of sending an order to a country.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CountryPrice {
    pub country: Country,
    /// For a whole order, in minor units of the drop's currency.
    pub price: i64,
}

/// Where a drop is shipped to.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ShippingTable {
    /// At most `SHIPPING_COUNTRIES_MAX`, each once. Empty: everywhere, for nothing.
    pub countries: Vec<CountryPrice>,
}

impl ShippingTable {
    /// The price of sending an order there; `None` if the drop is not shipped there.
    #[must_use]
    pub fn price_to(&self, country: Country) -> Option<i64> {
        if self.countries.is_empty() {
            return Some(0);
        }
        self.countries.iter().find(|row| row.country == country).map(|row| row.price)
    }

    /// Whether an order may cost more than its units.
    #[must_use]
    pub fn may_cost(&self) -> bool {
        self.countries.iter().any(|row| row.price > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_table_is_free_everywhere_and_another_is_for_its_countries() {
        let country = |code: &str| code.parse::<Country>().unwrap();
        assert_eq!(ShippingTable::default().price_to(country("DE")), Some(0));
        let row = |code: &str, price| CountryPrice { country: country(code), price };
        let table = ShippingTable { countries: vec![row("DE", 500), row("AT", 0)] };
        assert_eq!([table.price_to(country("DE")), table.price_to(country("AT"))], [Some(500), Some(0)]);
        assert_eq!(table.price_to(country("FR")), None);
        assert!(table.may_cost() && !ShippingTable::default().may_cost());
    }
}
