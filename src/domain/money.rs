//! Money in minor units.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::{fmt, str::FromStr, sync::LazyLock};

/// An ISO 4217 alphabetic code, three upper-case ASCII letters.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Currency([u8; 3]);

/// Decimals of a currency that is not in the list: what nearly all have. Only amounts stored under an older list can
/// have such a currency.
const EXPONENT_DEFAULT: u8 = 2;
const LETTERS: usize = 26;
/// Marks a code that is not a currency for payments.
const NOT_TENDER: u8 = u8::MAX;

/// The exponent of each three-letter code, so that answering an order needs no search in a list of names.
static EXPONENTS: LazyLock<Box<[u8]>> = LazyLock::new(|| {
    let letters = || b'A'..=b'Z';
    let codes = letters().flat_map(|a| letters().flat_map(move |b| letters().map(move |c| [a, b, c])));
    codes.map(|code| tender_exponent(code).unwrap_or(NOT_TENDER)).collect()
});

/// ISO 4217 also has funds, metals, test codes and replaced currencies, with which no payment is possible.
fn tender_exponent(code: [u8; 3]) -> Option<u8> {
    let found = iso_currency::Currency::from_code(std::str::from_utf8(&code).ok()?)?;
    let tender = !found.is_fund() && !found.is_special() && found.is_superseded().is_none();
    found.exponent().filter(|_| tender).and_then(|exponent| u8::try_from(exponent).ok())
}

impl Currency {
    fn listed_exponent(self) -> Option<u8> {
        let index = self.0.iter().fold(0, |index, letter| index * LETTERS + usize::from(letter - b'A'));
        Some(EXPONENTS[index]).filter(|exponent| *exponent != NOT_TENDER)
    }

    /// Whether ISO 4217 lists it as a currency for payments. Stored amounts stay readable whatever the list says.
    #[must_use]
    pub fn is_tender(self) -> bool {
        self.listed_exponent().is_some()
    }

    /// All currencies for payments, in alphabetical order.
    pub fn all_tender() -> impl Iterator<Item = Currency> {
        let letter = |number: usize| b'A' + (number % LETTERS) as u8;
        let listed = EXPONENTS.iter().enumerate().filter(|(_, exponent)| **exponent != NOT_TENDER);
        listed.map(move |(index, _)| Self([letter(index / LETTERS / LETTERS), letter(index / LETTERS), letter(index)]))
    }

    /// How many decimals an amount has: 1999 of USD (2) is 19.99, of JPY (0) 1999, of KWD (3) 1.999.
    #[must_use]
    pub fn exponent(self) -> u8 {
        self.listed_exponent().unwrap_or(EXPONENT_DEFAULT)
    }

    /// The code as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("three ASCII letters")
    }
}

/// The text was not three upper-case ASCII letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotACurrency;

impl fmt::Display for NotACurrency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a currency is three upper-case letters, such as USD")
    }
}

impl std::error::Error for NotACurrency {}

impl FromStr for Currency {
    type Err = NotACurrency;
    fn from_str(text: &str) -> Result<Self, NotACurrency> {
        let code: [u8; 3] = text.as_bytes().try_into().map_err(|_| NotACurrency)?;
        if code.iter().all(u8::is_ascii_uppercase) { Ok(Self(code)) } else { Err(NotACurrency) }
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Currency {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Currency {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Currency;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a three-letter currency code")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Currency, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Visitor)
    }
}

/// An amount in minor units (cents) of one currency. Never negative on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Money {
    /// In the currency's smallest unit.
    pub amount: i64,
    pub currency: Currency,
}

/// In the currency's usual units, such as `19.99 USD`.
impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { amount, currency } = self;
        let (digits, sign) = (usize::from(currency.exponent()), if *amount < 0 { "-" } else { "" });
        let (amount, scale) = (amount.unsigned_abs(), 10_u64.pow(u32::from(currency.exponent())));
        match digits {
            0 => write!(f, "{sign}{amount} {currency}"),
            _ => write!(f, "{sign}{}.{:0digits$} {currency}", amount / scale, amount % scale),
        }
    }
}

impl Money {
    /// `quantity` times this amount, `None` on overflow.
    #[must_use]
    pub fn times(self, quantity: u32) -> Option<Money> {
        Some(Money { amount: self.amount.checked_mul(i64::from(quantity))?, ..self })
    }

    /// The sum of two amounts, `None` on overflow.
    ///
    /// # Panics
    /// If the currencies differ: such a sum means nothing.
    #[must_use]
    pub fn plus(self, other: Money) -> Option<Money> {
        assert_eq!(self.currency, other.currency, "amounts of two currencies");
        Some(Money { amount: self.amount.checked_add(other.amount)?, ..self })
    }

    /// Whether nothing has to be paid.
    #[must_use]
    pub fn is_zero(self) -> bool {
        self.amount == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_currency_is_three_capitals() {
        assert_eq!("USD".parse::<Currency>().unwrap().as_str(), "USD");
        for bad in ["", "usd", "US", "USDT", "U$D", "ÄÖ", "€"] {
            assert_eq!(bad.parse::<Currency>(), Err(NotACurrency), "{bad}");
        }
    }

    #[test]
    fn currencies_are_those_that_one_can_pay_with() {
        let currency = |code: &str| code.parse::<Currency>().unwrap();
        for (code, exponent) in [("USD", 2), ("EUR", 2), ("JPY", 0), ("KRW", 0), ("KWD", 3), ("BHD", 3), ("ISK", 0)] {
            assert!(currency(code).is_tender(), "{code}");
            assert_eq!(currency(code).exponent(), exponent, "{code}");
        }
        for code in ["ZZZ", "AAA", "XXX", "XTS", "XAU", "XDR", "CLF", "CHE", "USN", "MXV", "HRK", "DEM"] {
            assert!(!currency(code).is_tender(), "{code}");
        }
        assert_eq!(currency("ZZZ").exponent(), 2, "an old record can be read");
        let all: Vec<Currency> = Currency::all_tender().collect();
        assert!(all.len() > 150 && all.contains(&currency("USD")) && all.iter().all(|one| one.is_tender()), "{all:?}");
    }

    #[test]
    fn totals_do_not_overflow() {
        let price = Money { amount: i64::MAX / 2, currency: "EUR".parse().unwrap() };
        assert!(price.times(2).is_some());
        assert!(price.times(3).is_none());
    }

    #[test]
    fn amounts_are_written_with_their_decimals() {
        for (amount, code, text) in [
            (1_999, "USD", "19.99 USD"),
            (5, "USD", "0.05 USD"),
            (-105, "EUR", "-1.05 EUR"),
            (500, "JPY", "500 JPY"),
            (5_120, "KWD", "5.120 KWD"),
        ] {
            assert_eq!(Money { amount, currency: code.parse().unwrap() }.to_string(), text);
        }
    }
}
