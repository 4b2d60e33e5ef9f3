//! Countries, and what an address in each must have.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::{fmt, str::FromStr};

/// A country's code of two upper-case ASCII letters (ISO 3166-1 alpha-2).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Country([u8; 2]);

/// A text that is no such code.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("this is not a country's code, such as US")]
pub struct NotACountry;

/// A part of an address that some countries require.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AddressPart {
    City,
    /// State, province, prefecture …
    Region,
    PostalCode,
}

/// Countries that are one city, or whose addresses name it elsewhere.
const WITHOUT_CITY: [&str; 7] = ["GI", "HK", "JP", "MC", "MO", "SG", "VA"];
/// Countries where a letter does not arrive without the state, the province or the like.
const WITH_REGION: [&str; 13] = ["AE", "AU", "BR", "CA", "CN", "HK", "ID", "IN", "JP", "KR", "MX", "TW", "US"];
/// Countries where a letter does not arrive, or arrives late, without a postal code.
const WITH_POSTAL_CODE: [&str; 51] = [
    "AT", "AU", "BE", "BR", "CA", "CH", "CN", "CY", "CZ", "DE", "DK", "EE", "ES", "FI", "FR", "GB", "GR", "HR", "HU",
    "IL", "IN", "IS", "IT", "JP", "KR", "LI", "LT", "LU", "LV", "MC", "MT", "MX", "MY", "NL", "NO", "NZ", "PH", "PL",
    "PT", "RO", "RU", "SE", "SG", "SI", "SK", "SM", "TH", "TR", "TW", "UA", "US",
];

impl Country {
    /// The code.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("two ASCII letters")
    }

    /// Whether ISO 3166 lists it now. Stored addresses stay readable whatever the list says.
    #[must_use]
    pub fn is_listed(self) -> bool {
        // The library takes lower case as well, and names besides codes.
        celes::Country::from_alpha2(self.as_str()).is_ok_and(|found| found.alpha2.as_bytes() == self.0)
    }

    /// All that are listed, in alphabetical order.
    pub fn all_listed() -> impl Iterator<Item = Self> {
        let letters = || b'A'..=b'Z';
        letters().flat_map(move |a| letters().map(move |b| Self([a, b]))).filter(|country| country.is_listed())
    }

    /// The parts that an address there must have besides a name, a street and the country.
    pub fn required_parts(self) -> impl Iterator<Item = AddressPart> {
        let is_in = move |list: &[&str]| list.contains(&self.as_str());
        let parts = [
            (AddressPart::City, !is_in(&WITHOUT_CITY)),
            (AddressPart::Region, is_in(&WITH_REGION)),
            (AddressPart::PostalCode, is_in(&WITH_POSTAL_CODE)),
        ];
        parts.into_iter().filter(|(_, required)| *required).map(|(part, _)| part)
    }
}

impl FromStr for Country {
    type Err = NotACountry;

    /// Any two upper-case letters: a stored code may be older than today's list.
    fn from_str(text: &str) -> Result<Self, NotACountry> {
        let letters: [u8; 2] = text.as_bytes().try_into().map_err(|_| NotACountry)?;
        if letters.iter().all(u8::is_ascii_uppercase) { Ok(Self(letters)) } else { Err(NotACountry) }
    }
}

impl fmt::Display for Country {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Country {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Country {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Country {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn country(code: &str) -> Country {
        code.parse().unwrap()
    }

    #[test]
    fn codes_are_those_of_the_standard() {
        for code in ["US", "DE", "JP", "AX", "BQ", "SS", "TW"] {
            assert!(country(code).is_listed(), "{code}");
        }
        for code in ["ZZ", "EU", "UK", "SU", "AN", "XX"] {
            assert!(!country(code).is_listed(), "{code}");
        }
        for text in ["", "U", "USA", "us", "U1", "Ü", "U\u{0}"] {
            assert!(text.parse::<Country>().is_err(), "{text}");
        }
        let all = Country::all_listed().count();
        // 249, and Kosovo's XK, which ISO leaves to its users.
        assert!((249..=250).contains(&all), "{all}");
    }

    #[test]
    fn the_lists_of_parts_name_countries_that_there_are() {
        for code in WITHOUT_CITY.iter().chain(&WITH_REGION).chain(&WITH_POSTAL_CODE) {
            assert!(country(code).is_listed(), "{code}");
        }
    }

    #[test]
    fn countries_require_what_their_post_needs() {
        use AddressPart::{City, PostalCode, Region};
        let parts = |code: &str| country(code).required_parts().collect::<Vec<_>>();
        assert_eq!(parts("US"), [City, Region, PostalCode]);
        assert_eq!(parts("DE"), [City, PostalCode]);
        assert_eq!(parts("IE"), [City]);
        assert_eq!(parts("HK"), [Region]);
        assert_eq!(parts("SG"), [PostalCode]);
        assert_eq!(parts("KE"), [City]);
    }
}
