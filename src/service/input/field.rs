//! Fields as they come: absent, of the right type or of another one.

use crate::actors::realtime::position::Offset;
use crate::domain::{
    AddressId, Country, CreatorId, Currency, DropId, DropStatus, OrderStatus, ProductId, ProductStatus, Timestamp,
    UserId, VariantId,
};
use crate::service::FieldError;
use crate::storage::Phase;
use std::borrow::Cow;
use uuid::Uuid;

/// One field of an input.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Field<T> {
    /// Omitted, or null.
    #[default]
    Absent,
    /// Given, with the right type.
    Given(T),
    /// Given with a wrong type: the text says what it must be.
    Wrong(Cow<'static, str>),
}

impl<T> Field<T> {
    /// Whether it was omitted.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }

    /// Converts the value, if it is given.
    #[must_use]
    pub fn map<U>(self, convert: impl FnOnce(T) -> U) -> Field<U> {
        match self {
            Self::Absent => Field::Absent,
            Self::Given(value) => Field::Given(convert(value)),
            Self::Wrong(detail) => Field::Wrong(detail),
        }
    }
}

impl<T: FromText> Field<T> {
    /// Reads a value from text.
    #[must_use]
    pub fn of_text(text: &str) -> Self {
        T::from_text(text).map_or(Self::Wrong(T::WANTED.into()), Self::Given)
    }
}

impl Field<i64> {
    /// Reads a number from text. Other text is outside of every range, so that the error names the range.
    #[must_use]
    pub fn of_digits(text: &str) -> Self {
        Self::Given(text.parse().unwrap_or(i64::MIN))
    }
}

/// A field of a change (RFC 7396), where null is not the same as absent.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Change<T> {
    /// Omitted: the value stays.
    #[default]
    Keep,
    /// Null: the value is removed.
    Clear,
    /// A new value, valid or not.
    To(Field<T>),
}

impl<T> Change<T> {
    /// For a value that can be empty: null empties it.
    #[must_use]
    pub fn or_empty(self, empty: T) -> Field<T> {
        match self {
            Self::Keep => Field::Absent,
            Self::Clear => Field::Given(empty),
            Self::To(field) => field,
        }
    }

    /// For a value that must not be empty: null is an error.
    #[must_use]
    pub fn or_wrong(self) -> Field<T> {
        match self {
            Self::Keep => Field::Absent,
            Self::Clear => Field::Wrong("must not be null".into()),
            Self::To(field) => field,
        }
    }

    /// Converts the new value, if it is given.
    #[must_use]
    pub fn map<U>(self, convert: impl FnOnce(T) -> U) -> Change<U> {
        match self {
            Self::Keep => Change::Keep,
            Self::Clear => Change::Clear,
            Self::To(field) => Change::To(field.map(convert)),
        }
    }
}

/// The fields of an object, with the errors that its protocol found in it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Unvalidated<T> {
    /// Without any rule applied to them.
    pub fields: T,
    /// Errors such as unknown fields, with pointers relative to the object.
    pub errors: Vec<FieldError>,
}

impl<T> From<T> for Unvalidated<T> {
    fn from(fields: T) -> Self {
        Self { fields, errors: Vec::new() }
    }
}

impl<T> Unvalidated<T> {
    /// Converts the fields and keeps the errors.
    #[must_use]
    pub fn map<U>(self, convert: impl FnOnce(T) -> U) -> Unvalidated<U> {
        Unvalidated { fields: convert(self.fields), errors: self.errors }
    }
}

/// A value that has a form as text, in JSON and in queries.
pub trait FromText: Sized {
    /// "must be …": the error where it is another type or another text.
    const WANTED: &'static str;

    /// The value, if the text is one.
    fn from_text(text: &str) -> Option<Self>;
}

impl FromText for String {
    const WANTED: &'static str = "must be a string";

    fn from_text(text: &str) -> Option<Self> {
        Some(text.to_owned())
    }
}

macro_rules! parsed {
    ($($type:ty = $wanted:literal, $parse:expr;)+) => {$(
        impl FromText for $type {
            const WANTED: &'static str = $wanted;

            fn from_text(text: &str) -> Option<Self> {
                ($parse)(text)
            }
        }
    )+};
}

fn parse<T: std::str::FromStr>(text: &str) -> Option<T> {
    text.parse().ok()
}

parsed! {
    Uuid = "must be a UUID", parse;
    UserId = "must be the id of a user (a UUID)", parse;
    OrderStatus = "must be reserved, confirmed, released or refunded", OrderStatus::parse;
    CreatorId = "must be the id of a creator (a UUID)", parse;
    ProductId = "must be the id of a product (a UUID)", parse;
    DropId = "must be the id of a drop (a UUID)", parse;
    VariantId = "must be the id of a variant (a UUID)", parse;
    Timestamp = "must be an RFC 3339 time, such as 2026-01-31T18:00:00Z", parse;
    Offset = "must be the id of an event", parse;
    AddressId = "must be the id of an address (a UUID)", parse;
    Country = "must be a country of ISO 3166, such as US", listed;
    Currency = "must be a currency of ISO 4217 that one can pay with, such as USD", tender;
    DropStatus = "must be scheduled, live, sold_out, ended or cancelled", DropStatus::parse;
    ProductStatus = "must be active or archived", ProductStatus::parse;
    Phase = "must be upcoming, live or ended", phase;
}

/// Parses a currency of a new request; a stored one may be older than today's list.
fn tender(code: &str) -> Option<Currency> {
    parse(code).filter(|currency: &Currency| currency.is_tender())
}

/// Parses a country of a new request; a stored one may be older than today's list.
fn listed(code: &str) -> Option<Country> {
    parse(code).filter(|country: &Country| country.is_listed())
}

fn phase(name: &str) -> Option<Phase> {
    match name {
        "upcoming" => Some(Phase::Upcoming),
        "live" => Some(Phase::Live),
        "ended" => Some(Phase::Over),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_a_change_null_is_not_absent() {
        assert_eq!(Change::Clear.or_empty(String::new()), Field::Given(String::new()));
        assert!(matches!(Change::<String>::Clear.or_wrong(), Field::Wrong(_)));
        assert_eq!(Change::<String>::Keep.or_wrong(), Field::Absent);
        assert_eq!(Change::To(Field::Given(1)).map(|n| n + 1).or_wrong(), Field::Given(2));
    }

    #[test]
    fn text_has_a_type_or_says_which_it_must_have() {
        assert!(matches!(Field::<DropId>::of_text("not an id"), Field::Wrong(detail) if detail == DropId::WANTED));
        assert!(matches!(Field::<Currency>::of_text("JPY"), Field::Given(_)));
        for no_money in ["ZZZ", "XXX", "XAU", "usd"] {
            assert!(matches!(Field::<Currency>::of_text(no_money), Field::Wrong(_)), "{no_money}");
        }
        for status in [DropStatus::Scheduled, DropStatus::SoldOut, DropStatus::Cancelled] {
            assert_eq!(Field::of_text(status.as_str()), Field::Given(status));
        }
        assert_eq!(Field::of_digits("7"), Field::Given(7));
    }
}
