//! Fields of a JSON body: which type a value has.
//!
//! Serde stops at the first value of a wrong type. A [`Field`] takes any JSON value instead, and validation (`service::input`) names all that
//! are wrong.

use crate::service::input::{Change, Field, FromText, Unvalidated};
use serde::Deserialize;
use serde::de::{self, DeserializeOwned, Deserializer, IgnoredAny, MapAccess, SeqAccess, value::MapAccessDeserializer};
use std::{fmt, marker::PhantomData};

/// A type that a [`Field`] can be read as. What is not overridden is a wrong type.
pub trait FromJson: Sized {
    /// Begins with "must be …".
    const WANTED: &'static str;

    /// From a JSON string.
    fn from_string(_text: &str) -> Field<Self> {
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

impl<T: FromText> FromJson for T {
    const WANTED: &'static str = T::WANTED;
    fn from_string(text: &str) -> Field<Self> {
        Field::of_text(text)
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

impl<'de, T: FromJson> Deserialize<'de> for Change<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Field::deserialize(deserializer).map(|field| match field {
            Field::Absent => Self::Clear,
            field => Self::To(field),
        })
    }
}

impl<T: DeserializeOwned> FromJson for Unvalidated<T> {
    const WANTED: &'static str = "must be an object";
    fn from_map<'de, A: MapAccess<'de>>(map: A) -> Result<Field<Self>, A::Error> {
        Unvalidated::deserialize(MapAccessDeserializer::new(map)).map(Field::Given)
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
        Ok(T::from_string(text))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Field<T>, A::Error> {
        T::from_seq(seq)
    }
    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Field<T>, A::Error> {
        T::from_map(map)
    }
}

/// The same list of other objects.
#[must_use]
pub fn each<A, B: From<A>>(list: Vec<Field<Unvalidated<A>>>) -> Vec<Field<Unvalidated<B>>> {
    list.into_iter().map(|item| item.map(|object| object.map(B::from))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{DropId, Timestamp};
    use crate::http::api::money::MoneyBody;

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
                assert_eq!(field, Field::Wrong(<i64 as FromJson>::WANTED.into()), "{wrong}");
            }
        }
        assert_eq!(field::<String>(r#""gr\u00fcn""#), Field::Given("grün".into()));
        assert!(matches!(field::<DropId>(r#""not an id""#), Field::Wrong(_)));
        assert!(matches!(field::<Timestamp>("1700000000"), Field::Wrong(_)));
        assert!(matches!(field::<Vec<Field<i64>>>(r#"[1,"x"]"#), Field::Given(items) if items.len() == 2));
        assert!(matches!(field::<Unvalidated<MoneyBody>>(r#"[1999,"USD"]"#), Field::Wrong(_)));
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
    }
}
