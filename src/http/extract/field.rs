//! Fields of a request body that keep their errors, so that one answer can name every invalid field.
//!
//! Serde stops at the first value of a wrong type. A [`Field`] accepts any JSON value instead, and [`Checks`] collects
//! all errors under their JSON pointers.

use crate::domain::limits::{PRICE_MINOR_MAX, URL_CHARS_MAX};
use crate::domain::{CreatorId, Currency, DropId, Money, ProductId, Timestamp, VariantId};
use crate::http::extract::known::Known;
use crate::http::openapi::schema;
use crate::service::text::{self, Reason};
use crate::service::{Failure, FieldError, Offset};
use serde::Deserialize;
use serde::de::{self, DeserializeOwned, Deserializer, IgnoredAny, MapAccess, SeqAccess, value::MapAccessDeserializer};
use std::{borrow::Cow, fmt, marker::PhantomData, ops::RangeInclusive};
use url::Url;
use utoipa::ToSchema;

/// One field of a request body. `null` is the same as absent.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Field<T> {
    /// Omitted from the body, or `null`.
    #[default]
    Absent,
    /// Given, with the right type.
    Given(T),
    /// Given with a wrong type: the text says what it must be.
    Wrong(Cow<'static, str>),
}

/// A type that a [`Field`] can read. Methods that are not overridden report a wrong type.
pub trait FromJson: Sized {
    /// Begins with "must be …".
    const WANTED: &'static str;

    /// Takes the errors about unknown fields inside the value, with pointers relative to it.
    fn take_unknown(&mut self) -> Vec<FieldError> {
        Vec::new()
    }

    /// Reads a JSON string.
    fn from_text(_text: &str) -> Field<Self> {
        Field::Wrong(Self::WANTED.into())
    }
    /// Reads a whole number; one out of range is cut to the nearest that fits.
    fn from_integer(_integer: i64) -> Field<Self> {
        Field::Wrong(Self::WANTED.into())
    }
    /// Reads `true` or `false`.
    fn from_flag(_flag: bool) -> Field<Self> {
        Field::Wrong(Self::WANTED.into())
    }
    /// Reads a JSON array.
    fn from_seq<'de, A: SeqAccess<'de>>(mut seq: A) -> Result<Field<Self>, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Field::Wrong(Self::WANTED.into()))
    }
    /// Reads a JSON object.
    fn from_map<'de, A: MapAccess<'de>>(mut map: A) -> Result<Field<Self>, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Field::Wrong(Self::WANTED.into()))
    }
}

impl FromJson for String {
    const WANTED: &'static str = "must be a string";
    fn from_text(text: &str) -> Field<Self> {
        Field::Given(text.to_owned())
    }
}

impl FromJson for i64 {
    const WANTED: &'static str = "must be a whole number";
    fn from_integer(integer: i64) -> Field<Self> {
        Field::Given(integer)
    }
}

impl FromJson for bool {
    const WANTED: &'static str = "must be true or false";
    fn from_flag(flag: bool) -> Field<Self> {
        Field::Given(flag)
    }
}

macro_rules! parsed {
    ($($type:ty = $wanted:literal),+ $(,)?) => {$(
        impl FromJson for $type {
            const WANTED: &'static str = $wanted;
            fn from_text(text: &str) -> Field<Self> {
                text.parse().map_or(Field::Wrong(Self::WANTED.into()), Field::Given)
            }
        }
    )+};
}

parsed!(
    CreatorId = "must be the id of a creator (a UUID)",
    ProductId = "must be the id of a product (a UUID)",
    DropId = "must be the id of a drop (a UUID)",
    VariantId = "must be the id of a variant (a UUID)",
    Timestamp = "must be an RFC 3339 time, such as 2026-01-31T18:00:00Z",
    Offset = "must be the id of an event",
);

impl FromJson for Currency {
    const WANTED: &'static str = "must be a currency of ISO 4217 that one can pay with, such as USD";
    fn from_text(text: &str) -> Field<Self> {
        tender(text).map_or(Field::Wrong(Self::WANTED.into()), Field::Given)
    }
}

/// Parses a currency of a new request; a stored one may be older than today's list.
#[must_use]
pub fn tender(code: &str) -> Option<Currency> {
    code.parse().ok().filter(|currency: &Currency| currency.is_tender())
}

/// A field of a change (RFC 7396), where `null` is not the same as absent.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Change<T> {
    /// Omitted: the value stays.
    #[default]
    Keep,
    /// `null`: the value is removed.
    Clear,
    /// A new value, valid or not.
    To(Field<T>),
}

impl<'de, T: FromJson> Deserialize<'de> for Change<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Field::deserialize(deserializer).map(|field| match field {
            Field::Absent => Self::Clear,
            field => Self::To(field),
        })
    }
}

impl<T> Change<T> {
    /// For a value that can be empty: `null` empties it.
    #[must_use]
    pub fn or_empty(self, empty: T) -> Field<T> {
        match self {
            Self::Keep => Field::Absent,
            Self::Clear => Field::Given(empty),
            Self::To(field) => field,
        }
    }

    /// For a value that must not be empty: `null` is an error.
    #[must_use]
    pub fn or_wrong(self) -> Field<T> {
        match self {
            Self::Keep => Field::Absent,
            Self::Clear => Field::Wrong("must not be null".into()),
            Self::To(field) => field,
        }
    }
}

/// An object inside a body.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Nested<T>(pub Known<T>);

impl<T> Nested<T> {
    /// The known fields. [`Checks`] has the errors about others.
    #[must_use]
    pub fn fields(self) -> T {
        self.0.fields
    }
}

impl<T: DeserializeOwned> FromJson for Nested<T> {
    const WANTED: &'static str = "must be an object";
    fn from_map<'de, A: MapAccess<'de>>(map: A) -> Result<Field<Self>, A::Error> {
        Known::deserialize(MapAccessDeserializer::new(map)).map(|value| Field::Given(Nested(value)))
    }
    fn take_unknown(&mut self) -> Vec<FieldError> {
        std::mem::take(&mut self.0.unknown)
    }
}

impl<T: FromJson> FromJson for Vec<Field<T>> {
    const WANTED: &'static str = "must be an array";
    fn from_seq<'de, A: SeqAccess<'de>>(mut seq: A) -> Result<Field<Self>, A::Error> {
        let mut all = Vec::new();
        while let Some(item) = seq.next_element()? {
            all.push(item);
        }
        Ok(Field::Given(all))
    }
}

impl<'de, T: FromJson> Deserialize<'de> for Field<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Visitor(PhantomData))
    }
}

/// 2^53: a double represents every whole number up to here (RFC 8259, section 6).
const WHOLE_DOUBLE_MAX: f64 = 9_007_199_254_740_992.0;

struct Visitor<T>(PhantomData<T>);

impl<'de, T: FromJson> de::Visitor<'de> for Visitor<T> {
    type Value = Field<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::WANTED)
    }
    fn visit_unit<E>(self) -> Result<Field<T>, E> {
        Ok(Field::Absent)
    }
    fn visit_bool<E>(self, flag: bool) -> Result<Field<T>, E> {
        Ok(T::from_flag(flag))
    }
    fn visit_i64<E>(self, integer: i64) -> Result<Field<T>, E> {
        Ok(T::from_integer(integer))
    }
    fn visit_u64<E>(self, integer: u64) -> Result<Field<T>, E> {
        Ok(T::from_integer(i64::try_from(integer).unwrap_or(i64::MAX)))
    }
    fn visit_f64<E>(self, number: f64) -> Result<Field<T>, E> {
        // JSON has one kind of number: 5.0 is as whole as 5, while a double can represent it exactly.
        let whole = number.fract() == 0.0 && number.abs() <= WHOLE_DOUBLE_MAX;
        Ok(if whole { T::from_integer(number as i64) } else { Field::Wrong(T::WANTED.into()) })
    }
    fn visit_str<E>(self, text: &str) -> Result<Field<T>, E> {
        Ok(T::from_text(text))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Field<T>, A::Error> {
        T::from_seq(seq)
    }
    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Field<T>, A::Error> {
        T::from_map(map)
    }
}

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

/// Collects the errors of a body.
#[derive(Default)]
pub struct Checks {
    errors: Vec<FieldError>,
    /// Whether some errors are not conflicts between fields that are valid alone.
    some_are_wrong: bool,
}

impl Checks {
    /// Records an invalid field.
    pub fn wrong(&mut self, pointer: impl Into<String>, detail: impl Into<String>) {
        self.errors.push(FieldError { pointer: pointer.into(), detail: detail.into() });
        self.some_are_wrong = true;
    }

    /// Records a field that is valid alone, but conflicts with others.
    pub fn conflict(&mut self, pointer: impl Into<String>, detail: impl Into<String>) {
        self.errors.push(FieldError { pointer: pointer.into(), detail: detail.into() });
    }

    /// The value of an optional field.
    pub fn optional<T: FromJson>(&mut self, pointer: &str, field: Field<T>) -> Option<T> {
        match field {
            Field::Absent => None,
            Field::Given(mut value) => {
                for FieldError { pointer: below, detail } in value.take_unknown() {
                    self.wrong(format!("{pointer}{below}"), detail);
                }
                Some(value)
            }
            Field::Wrong(detail) => {
                self.wrong(pointer, detail);
                None
            }
        }
    }

    /// The value of a required field.
    pub fn required<T: FromJson>(&mut self, pointer: &str, field: Field<T>) -> Option<T> {
        if matches!(field, Field::Absent) {
            self.wrong(pointer, "is required");
        }
        self.optional(pointer, field)
    }

    /// A whole number within a range, if it is given.
    pub fn number(&mut self, pointer: &str, field: Field<i64>, range: RangeInclusive<u32>) -> Option<u32> {
        let value = self.optional(pointer, field)?;
        match u32::try_from(value) {
            Ok(value) if range.contains(&value) => Some(value),
            _ => {
                self.wrong(pointer, format!("must be {} to {}", range.start(), range.end()));
                None
            }
        }
    }

    /// A required whole number within a range.
    pub fn required_number(&mut self, pointer: &str, field: Field<i64>, range: RangeInclusive<u32>) -> Option<u32> {
        if matches!(field, Field::Absent) {
            self.wrong(pointer, "is required");
        }
        self.number(pointer, field, range)
    }

    /// Records the error of a rule, if there is one.
    pub fn accept<T>(&mut self, pointer: &str, checked: Result<T, Reason>) -> Option<T> {
        checked.map_err(|reason| self.wrong(pointer, reason)).ok()
    }

    /// One line of text, trimmed, with a length in characters.
    pub fn line(&mut self, pointer: &str, text: Option<String>, chars: RangeInclusive<usize>) -> Option<String> {
        self.accept(pointer, text::line(text?, chars))
    }

    /// Text of several lines, with a length in characters.
    pub fn lines(&mut self, pointer: &str, text: Option<String>, chars: RangeInclusive<usize>) -> Option<String> {
        self.accept(pointer, text::lines(text?, chars))
    }

    /// An absolute `http` or `https` URL, in its normal form. One with a password is refused, because it would be
    /// public.
    pub fn web_address(&mut self, pointer: &str, text: Option<String>) -> Option<String> {
        let text = self.line(pointer, text, 1..=URL_CHARS_MAX)?;
        let absolute = text
            .split_once("://")
            .is_some_and(|(scheme, _)| scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https"));
        let url =
            Url::parse(&text).ok().filter(|url| absolute && url.username().is_empty() && url.password().is_none());
        match url.map(String::from) {
            Some(url) if url.len() <= URL_CHARS_MAX => Some(url),
            Some(_) => {
                self.wrong(pointer, format!("must have at most {URL_CHARS_MAX} characters in its normal form"));
                None
            }
            None => {
                self.wrong(pointer, "must be an http or https URL, such as https://example.com/a.jpg");
                None
            }
        }
    }

    /// An amount of money, if it is given.
    pub fn money(&mut self, pointer: &str, field: Field<Nested<MoneyBody>>) -> Option<Money> {
        let MoneyBody { amount, currency } = self.optional(pointer, field)?.fields();
        let amount_pointer = format!("{pointer}/amount");
        let amount = self.required(&amount_pointer, amount);
        let currency = self.required(&format!("{pointer}/currency"), currency);
        let amount = amount?;
        if !(0..=PRICE_MINOR_MAX).contains(&amount) {
            self.wrong(amount_pointer, format!("must be 0 to {PRICE_MINOR_MAX} minor units"));
            return None;
        }
        Some(Money { amount, currency: currency? })
    }

    /// The value, if there were no errors.
    ///
    /// # Errors
    /// `validation_failed` with every invalid field; `conflicting_fields` if each was valid alone.
    pub fn finish<T>(self, value: Option<T>) -> Result<T, Failure> {
        match value {
            Some(value) if self.errors.is_empty() => Ok(value),
            Some(_) if !self.some_are_wrong => Err(Failure::conflicting(self.errors)),
            _ => Err(Failure::invalid(self.errors)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::Code;

    fn field<T: FromJson>(json: &str) -> Field<T> {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn a_field_takes_any_json_value() {
        assert_eq!(field::<i64>("null"), Field::Absent);
        assert_eq!(field::<i64>("-3"), Field::Given(-3));
        assert_eq!(field::<i64>("18446744073709551615"), Field::Given(i64::MAX));
        assert_eq!(field::<i64>("64.0"), Field::Given(64));
        assert_eq!(field::<i64>("-1e3"), Field::Given(-1_000));
        for wrong in [
            "1.5",
            "1e17",
            "5e-324",
            "1e400000",
            "true",
            "\"1\"",
            "[1,[2]]",
            r#"{"a":{"b":1}}"#,
            "123456789012345678901234",
        ] {
            // Serde itself refuses numbers beyond a double; all other values are reported here.
            if let Ok(field) = serde_json::from_str::<Field<i64>>(wrong) {
                assert_eq!(field, Field::Wrong(i64::WANTED.into()), "{wrong}");
            }
        }
        assert_eq!(field::<String>(r#""gr\u00fcn""#), Field::Given("grün".into()));
        assert!(matches!(field::<DropId>(r#""not an id""#), Field::Wrong(_)));
        assert!(matches!(field::<Currency>(r#""JPY""#), Field::Given(_)));
        for no_money in [r#""ZZZ""#, r#""XXX""#, r#""XAU""#, r#""usd""#] {
            assert!(matches!(field::<Currency>(no_money), Field::Wrong(_)), "{no_money}");
        }
        assert!(matches!(field::<Timestamp>("1700000000"), Field::Wrong(_)));
        assert!(matches!(field::<Vec<Field<i64>>>(r#"[1,"x"]"#), Field::Given(items) if items.len() == 2));
        assert!(matches!(field::<Nested<MoneyBody>>(r#"[1999,"USD"]"#), Field::Wrong(_)));
    }

    #[test]
    fn a_conflict_is_no_wrong_field() {
        let mut checks = Checks::default();
        checks.conflict("/b", "must be after a");
        let failure = checks.finish(Some(())).unwrap_err();
        assert_eq!((failure.code, failure.fields.len()), (Code::ConflictingFields, 1));
        let mut checks = Checks::default();
        checks.conflict("/b", "must be after a");
        checks.wrong("/c", "is required");
        let failure = checks.finish(Some(())).unwrap_err();
        assert_eq!((failure.code, failure.fields.len()), (Code::ValidationFailed, 2));
    }

    #[test]
    fn in_a_change_null_is_not_absent() {
        #[derive(Deserialize)]
        struct Body {
            #[serde(default)]
            text: Change<String>,
        }
        let change = |json: &str| serde_json::from_str::<Body>(json).unwrap().text;
        assert_eq!(change("{}"), Change::Keep);
        assert_eq!(change(r#"{"text":null}"#), Change::Clear);
        assert_eq!(change(r#"{"text":"x"}"#), Change::To(Field::Given("x".into())));
        assert!(matches!(change(r#"{"text":1}"#), Change::To(Field::Wrong(_))));
        assert_eq!(Change::Clear.or_empty(String::new()), Field::Given(String::new()));
        assert!(matches!(Change::<String>::Clear.or_wrong(), Field::Wrong(_)));
        assert_eq!(Change::<String>::Keep.or_wrong(), Field::Absent);
    }

    #[test]
    fn addresses_are_absolute_and_normal() {
        let address = |text: &str| Checks::default().web_address("/url", Some(text.to_owned()));
        for (text, normal) in [
            ("https://example.com/a.jpg", "https://example.com/a.jpg"),
            (" HTTP://EXAMPLE.com:80/a b?q=\"#x ", "http://example.com/a%20b?q=%22#x"),
            ("https://bücher.example/größe.png", "https://xn--bcher-kva.example/gr%C3%B6%C3%9Fe.png"),
            ("https://[2001:db8::1]:8443", "https://[2001:db8::1]:8443/"),
        ] {
            assert_eq!(address(text).as_deref(), Some(normal), "{text}");
        }
        for wrong in
            ["", "a.jpg", "/a.jpg", "//example.com/a", "http:example.com", "https://", "https:///", "ftp://x/y"]
        {
            assert_eq!(address(wrong), None, "{wrong}");
        }
        for wrong in
            ["javascript:alert(1)//https://x", "data:,x", "https://a:b@example.com", "https://a@x", "http://a\tb"]
        {
            assert_eq!(address(wrong), None, "{wrong}");
        }
        let at_most = "x".repeat(URL_CHARS_MAX - "https://a/".len());
        assert!(address(&format!("https://a/{at_most}")).is_some());
        assert_eq!(address(&format!("https://a/{at_most}x")), None);
        assert_eq!(address(&format!("https://a/{}", "ü".repeat(1_000))), None, "the normal form is what counts");
    }

    #[test]
    fn every_bad_field_is_named() {
        let mut checks = Checks::default();
        checks.required::<String>("/a", Field::Absent);
        checks.number("/b", Field::Given(-1), 0..=5);
        checks.required_number("/c", field("\"x\""), 0..=5);
        checks.line("/d", Some(" \u{a0} ".into()), 1..=3);
        checks.line("/e", Some("a\nb".into()), 1..=3);
        checks.money("/f", field(r#"{"amount":-1}"#));
        let failure = checks.finish(Some(())).unwrap_err();
        let pointers: Vec<_> = failure.fields.iter().map(|field| field.pointer.as_str()).collect();
        assert_eq!(pointers, ["/a", "/b", "/c", "/d", "/e", "/f/currency", "/f/amount"]);
    }

    #[test]
    fn text_is_trimmed_and_counted_in_characters() {
        let mut checks = Checks::default();
        assert_eq!(checks.line("/a", Some("  äöü€ ".into()), 1..=4), Some("äöü€".into()));
        assert_eq!(checks.line("/a", Some("äöü€x".into()), 1..=4), None);
        assert_eq!(checks.lines("/b", Some("two\nlines".into()), 0..=9), Some("two\nlines".into()));
        assert_eq!(checks.lines("/b", Some("a\u{1b}[2Jb".into()), 0..=9), None);
        assert_eq!(checks.money("/c", field(r#"{"amount":0,"currency":"EUR"}"#)).map(|money| money.amount), Some(0));
        assert_eq!(checks.money("/c", field(r#"{"amount":99999999999999,"currency":"EUR"}"#)), None);
    }
}
