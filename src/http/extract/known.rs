//! Objects that collect their unknown fields instead of failing at the first: an answer lists every error.

use crate::domain::limits::UNKNOWN_FIELDS_TOLD_MAX;
use crate::service::FieldError;
use crate::service::input::Unvalidated;
use crate::suggest::nearest;
use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, IntoDeserializer, MapAccess};
use serde::{Deserialize, forward_to_deserialize_any};
use std::borrow::Cow;
use std::fmt;

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Unvalidated<T> {
    /// Its errors are the fields that do not exist, no more than `UNKNOWN_FIELDS_TOLD_MAX` of them.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut errors = Vec::new();
        let fields = T::deserialize(Noting { inner: deserializer, unknown: &mut errors })?;
        Ok(Self { fields, errors })
    }
}

/// Passes only the known fields to a derived struct.
struct Noting<'a, D> {
    inner: D,
    unknown: &'a mut Vec<FieldError>,
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Noting<'_, D> {
    type Error = D::Error;

    fn deserialize_any<V: de::Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.inner.deserialize_any(visitor)
    }

    fn deserialize_struct<V: de::Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.inner.deserialize_struct(name, fields, Fields { visitor, fields, unknown: self.unknown })
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

struct Fields<'a, V> {
    visitor: V,
    fields: &'static [&'static str],
    unknown: &'a mut Vec<FieldError>,
}

impl<'de, V: de::Visitor<'de>> de::Visitor<'de> for Fields<'_, V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.visitor.expecting(f)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<V::Value, A::Error> {
        let Self { visitor, fields, unknown } = self;
        visitor.visit_map(Entries { map, fields, unknown })
    }
}

struct Entries<'a, A> {
    map: A,
    fields: &'static [&'static str],
    unknown: &'a mut Vec<FieldError>,
}

impl<A> Entries<'_, A> {
    fn note(&mut self, name: &str) {
        if self.unknown.len() < UNKNOWN_FIELDS_TOLD_MAX {
            let detail = match nearest(name, self.fields.iter().copied()) {
                Some(meant) => format!("is not a field here; did you mean {meant}?"),
                None => format!("is not a field here; there are {}", self.fields.join(", ")),
            };
            let pointer = format!("/{}", name.replace('~', "~0").replace('/', "~1"));
            self.unknown.push(FieldError { pointer, detail });
        }
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Entries<'_, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        while let Some(Name(name)) = self.map.next_key()? {
            if self.fields.contains(&name.as_ref()) {
                return seed.deserialize(name.into_deserializer()).map(Some);
            }
            self.note(&name);
            self.map.next_value::<IgnoredAny>()?;
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        self.map.next_value_seed(seed)
    }
}

/// A field's name, borrowed if it has no escapes.
struct Name<'de>(Cow<'de, str>);

impl<'de> Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Name<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a field's name")
            }
            fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Borrowed(name)))
            }
            fn visit_str<E>(self, name: &str) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Owned(name.to_owned())))
            }
        }
        deserializer.deserialize_str(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize, PartialEq, Debug, Default)]
    #[serde(default, deny_unknown_fields)]
    struct Point {
        x: i64,
        wide: Option<bool>,
    }

    fn read(json: &str) -> Result<Unvalidated<Point>, serde_json::Error> {
        serde_json::from_str(json)
    }

    #[test]
    fn what_nobody_knows_is_noted_and_the_rest_is_read() {
        let known = read(r#"{"y": {"a": [1, "}"]}, "x": 7, "w\u0069de": true, "a/b~": null, "wid": 1}"#).unwrap();
        assert_eq!(known.fields, Point { x: 7, wide: Some(true) });
        let told: Vec<_> = known.errors.iter().map(|error| (error.pointer.as_str(), error.detail.as_str())).collect();
        let none = "is not a field here; there are x, wide";
        assert_eq!(told[0], ("/y", "is not a field here; did you mean x?"));
        assert_eq!(told[1..], [("/a~1b~0", none), ("/wid", "is not a field here; did you mean wide?")]);
        assert!(read("{}").unwrap().errors.is_empty());
        let many: Vec<String> = (0..1_000).map(|n| format!("\"u{n}\":0")).collect();
        assert_eq!(read(&format!("{{{}}}", many.join(","))).unwrap().errors.len(), UNKNOWN_FIELDS_TOLD_MAX);
        for broken in ["[1]", "1", "{\"x\":1,\"x\":2}", "{\"y\":}", "{\"x\":1", "{\"x\":\"1\"}"] {
            assert!(read(broken).is_err(), "{broken}");
        }
    }
}
