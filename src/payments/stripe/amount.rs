//! Amounts in Stripe's units, which are not always those of ISO 4217.

use crate::domain::{Currency, Money};

/// Currencies without decimals at Stripe, by its documentation.
const WHOLE: [&str; 15] =
    ["BIF", "CLP", "DJF", "GNF", "JPY", "KMF", "KRW", "MGA", "PYG", "RWF", "VND", "VUV", "XAF", "XOF", "XPF"];
/// Currencies with three decimals. Card networks take two: the last digit must be zero.
const THREE: [&str; 5] = ["BHD", "JOD", "KWD", "OMR", "TND"];

/// Why Stripe cannot take an amount.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AmountError {
    #[error("{0} takes whole units only: {1} is no multiple of {2} minor units")]
    NotAMultiple(Currency, i64, i64),
    #[error("{0} {1} is too large for the provider")]
    TooLarge(Currency, i64),
}

/// Decimals of a currency at Stripe.
fn decimals(currency: Currency) -> u8 {
    let among = |list: &[&str]| list.contains(&currency.as_str());
    match () {
        () if among(&WHOLE) => 0,
        () if among(&THREE) => 3,
        () => 2,
    }
}

/// The smallest amount in our minor units of which an amount in this currency must be a multiple.
fn step(currency: Currency) -> i64 {
    if THREE.contains(&currency.as_str()) {
        return 10;
    }
    10_i64.pow(u32::from(currency.exponent().saturating_sub(decimals(currency))))
}

/// An amount in Stripe's units.
///
/// # Errors
/// If Stripe has no such amount: nothing is rounded, because the buyer would pay another sum than was shown.
pub fn to_stripe(money: Money) -> Result<i64, AmountError> {
    let Money { amount, currency } = money;
    let step = step(currency);
    if amount % step != 0 {
        return Err(AmountError::NotAMultiple(currency, amount, step));
    }
    let (ours, theirs) = (u32::from(currency.exponent()), u32::from(decimals(currency)));
    let scaled = match theirs.checked_sub(ours) {
        Some(more) => amount.checked_mul(10_i64.pow(more)),
        None => Some(amount / 10_i64.pow(ours - theirs)),
    };
    scaled.ok_or(AmountError::TooLarge(currency, amount))
}

/// An amount of Stripe's in our minor units, `None` if it has no such form.
#[must_use]
pub fn from_stripe(amount: i64, currency: Currency) -> Option<Money> {
    let (ours, theirs) = (u32::from(currency.exponent()), u32::from(decimals(currency)));
    let amount = match ours.checked_sub(theirs) {
        Some(more) => amount.checked_mul(10_i64.pow(more))?,
        None => Some(10_i64.pow(theirs - ours)).filter(|factor| amount % factor == 0).map(|factor| amount / factor)?,
    };
    Some(Money { amount, currency })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn money(amount: i64, code: &str) -> Money {
        Money { amount, currency: code.parse().unwrap() }
    }

    #[test]
    fn amounts_are_written_in_stripes_units() {
        for (amount, code, theirs) in [
            (1_999, "USD", 1_999),
            (1_999, "EUR", 1_999),
            (500, "JPY", 500),
            (500, "KRW", 500),
            (500, "CLP", 500),
            (5_120, "KWD", 5_120),
            (5, "ISK", 500),
            (5, "UGX", 500),
            (500, "MGA", 5),
            (1_045, "HUF", 1_045),
            (80_045, "TWD", 80_045),
            (0, "USD", 0),
        ] {
            assert_eq!(to_stripe(money(amount, code)), Ok(theirs), "{code}");
            assert_eq!(from_stripe(theirs, code.parse().unwrap()), Some(money(amount, code)), "{code}");
        }
    }

    #[test]
    fn nothing_is_rounded() {
        for (amount, code, step) in [(5_124, "KWD", 10), (1, "BHD", 10), (505, "MGA", 100), (1, "MGA", 100)] {
            let error = AmountError::NotAMultiple(code.parse().unwrap(), amount, step);
            assert_eq!(to_stripe(money(amount, code)), Err(error), "{code}");
        }
        assert_eq!(from_stripe(550, "ISK".parse().unwrap()), None);
        assert!(matches!(to_stripe(money(i64::MAX / 50, "ISK")), Err(AmountError::TooLarge(..))));
        assert_eq!(from_stripe(i64::MAX, "MGA".parse().unwrap()), None);
    }

    #[test]
    fn stripes_decimals_differ_from_the_standards_where_it_says_so_and_nowhere_else() {
        // Two without decimals that Stripe writes with two, which must be zero; and one that it takes without.
        let listed = |code: &str| ["ISK", "UGX", "MGA"].contains(&code);
        // Currencies of the standard with three decimals that Stripe does not take, and units of account.
        let unknown = |code: &str| ["IQD", "LYD", "UYI", "UYW", "CLF"].contains(&code);
        for currency in Currency::all_tender().filter(|currency| !unknown(currency.as_str())) {
            let same = decimals(currency) == currency.exponent();
            assert_eq!(same, !listed(currency.as_str()), "{currency}: {} decimals", currency.exponent());
        }
    }

    #[test]
    fn an_amount_comes_back_as_it_went() {
        for currency in Currency::all_tender() {
            for amount in [0, 1, 10, 99, 100, 12_345, 10_000_000_000] {
                let ours = Money { amount, currency };
                if let Ok(theirs) = to_stripe(ours) {
                    assert_eq!(from_stripe(theirs, currency), Some(ours), "{currency} {amount}");
                }
            }
        }
    }
}
