//! Parts of a product besides its name and price.

use super::{Money, VariantId};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};
use serde_json::value::RawValue;
use std::collections::BTreeMap;

/// Whether a product can get new drops.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProductStatus {
    /// New drops are possible, and lists include it.
    #[default]
    Active,
    /// No new drops are possible. Earlier drops keep the product.
    Archived,
}

impl ProductStatus {
    /// The name on the wire and in SQL.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Archived => "archived",
        }
    }

    /// The status of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Active, Self::Archived].into_iter().find(|status| status.as_str() == name)
    }
}

/// A picture of a product, hosted elsewhere.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Image {
    /// Absolute, `http` or `https`.
    pub url: String,
    /// Alternative text: what the picture shows.
    pub alt: Option<String>,
}

/// A size or a colour of a product. A drop sells it under the same id.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ProductVariant {
    pub id: VariantId,
    /// What buyers call it.
    pub name: String,
    /// The usual price; the product's if absent.
    pub price: Option<Money>,
}

/// Facts about a product by their names.
pub type Attributes = BTreeMap<String, Attribute>;

/// A string, a number or a flag, as its JSON text: a number stays as it was written, to the last digit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Attribute(Box<str>);

impl Attribute {
    /// Reads the JSON text of one value. `None` if it is not a string, number or flag, or if the number is too large
    /// for a double.
    #[must_use]
    pub fn from_json(json: &str) -> Option<Self> {
        match json.as_bytes().first()? {
            b'"' => Some(Self::from(serde_json::from_str::<String>(json).ok()?.as_str())),
            b't' | b'f' => matches!(json, "true" | "false").then(|| Self(json.into())),
            b'-' | b'0'..=b'9' => {
                serde_json::from_str::<&RawValue>(json).ok()?;
                json.parse::<f64>().is_ok_and(f64::is_finite).then(|| Self(json.into()))
            }
            _ => None,
        }
    }

    /// The JSON text, as it was written.
    #[must_use]
    pub fn as_json(&self) -> &str {
        &self.0
    }

    /// The text, if it is a string.
    #[must_use]
    pub fn as_text(&self) -> Option<String> {
        serde_json::from_str(&self.0).ok()
    }
}

impl From<&str> for Attribute {
    fn from(text: &str) -> Self {
        Self(serde_json::Value::from(text).to_string().into())
    }
}

impl Serialize for Attribute {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serde_json::from_str::<&RawValue>(&self.0).map_err(ser::Error::custom)?.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Attribute {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        Self::from_json(raw.get()).ok_or_else(|| de::Error::custom("not a string, a number or a flag"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attribute_stays_as_it_was_written() {
        let text = r#"{"big":18446744073709551617,"fine":0.1000000000000000055511151231257827,"flag":true,"name":"Größe \"M\""}"#;
        let attributes: Attributes = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&attributes).unwrap(), text);
        assert_eq!(attributes["name"].as_text().as_deref(), Some("Größe \"M\""));
        assert_eq!(attributes["flag"].as_text(), None);
        assert_eq!(Attribute::from_json(r#""\u0041""#), Some(Attribute::from("A")), "text has one form");
    }

    #[test]
    fn what_is_no_plain_value_is_none() {
        for json in
            ["", "null", "[]", "{}", "1e999", "-", "01", "1 2", "truer", "\"x", "\"\\ud800\"", "NaN", " 1", "true "]
        {
            assert_eq!(Attribute::from_json(json), None, "{json}");
        }
        for json in ["0", "-0.5e-3", "true", "false", "\"\""] {
            assert_eq!(Attribute::from_json(json).unwrap().as_json(), json);
        }
    }

    #[test]
    fn a_status_has_one_name() {
        for status in [ProductStatus::Active, ProductStatus::Archived] {
            assert_eq!(ProductStatus::parse(status.as_str()), Some(status));
            assert_eq!(serde_json::to_value(status).unwrap(), status.as_str());
        }
        assert_eq!(ProductStatus::parse("Active"), None);
    }
}
