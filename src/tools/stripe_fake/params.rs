//! A request's parameters, form-encoded as Stripe takes them. Unknown ones are errors, as there.

use super::model::Refusal;
use std::collections::BTreeMap;
use url::form_urlencoded;

/// Parameters in order.
pub struct Params(Vec<(String, String)>);

impl Params {
    /// Reads a query or a body.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        Self(form_urlencoded::parse(text.as_bytes()).into_owned().collect())
    }

    /// Refuses parameters that are neither among these nor metadata.
    ///
    /// # Errors
    /// 400 `parameter_unknown`.
    pub fn only(&self, known: &[&str]) -> Result<&Self, Refusal> {
        let unknown = self.0.iter().find(|(name, _)| !known.contains(&name.as_str()) && metadata_name(name).is_none());
        match unknown {
            None => Ok(self),
            Some((name, _)) => {
                Err(Refusal::invalid("parameter_unknown", None, format!("Received unknown parameter: {name}")))
            }
        }
    }

    /// A parameter's text; empty equals absent.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// A parameter that must be there.
    ///
    /// # Errors
    /// 400 `parameter_missing`.
    pub fn need(&self, name: &'static str) -> Result<&str, Refusal> {
        let missing = || Refusal::invalid("parameter_missing", Some(name), format!("Missing required param: {name}."));
        self.text(name).ok_or_else(missing)
    }

    /// A whole number.
    ///
    /// # Errors
    /// 400 `parameter_invalid_integer`.
    pub fn number(&self, name: &'static str) -> Result<Option<i64>, Refusal> {
        let invalid =
            |text: &str| Refusal::invalid("parameter_invalid_integer", Some(name), format!("Invalid integer: {text}"));
        self.text(name).map(|text| text.parse().map_err(|_| invalid(text))).transpose()
    }

    /// `metadata[…]`.
    #[must_use]
    pub fn metadata(&self) -> BTreeMap<String, String> {
        let of = |(name, value): &(String, String)| Some((metadata_name(name)?.to_owned(), value.clone()));
        self.0.iter().filter_map(of).collect()
    }

    /// Whether an `expand[]` asks for this.
    #[must_use]
    pub fn expands(&self, what: &str) -> bool {
        self.0.iter().any(|(name, value)| name == "expand[]" && value == what)
    }
}

fn metadata_name(name: &str) -> Option<&str> {
    name.strip_prefix("metadata[")?.strip_suffix(']')
}

/// The conditions of a search such as `metadata['a']:'1' AND metadata['b']:'2'`; `None` for any other form.
#[must_use]
pub fn search(query: &str) -> Option<Vec<(&str, &str)>> {
    query.split(" AND ").map(condition).collect()
}

fn condition(text: &str) -> Option<(&str, &str)> {
    let (name, value) = text.strip_prefix("metadata['")?.split_once("']:'")?;
    Some((name, value.strip_suffix('\'')?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_read_and_unknown_ones_refused() {
        let params = Params::parse("amount=5&metadata%5Border_id%5D=a+b&expand%5B%5D=latest_charge&empty=");
        assert_eq!((params.number("amount"), params.text("empty")), (Ok(Some(5)), None));
        assert_eq!(params.metadata().get("order_id").map(String::as_str), Some("a b"));
        assert!(params.expands("latest_charge") && !params.expands("other"));
        assert_eq!(params.only(&["amount", "expand[]"]).err().unwrap().code, "parameter_unknown");
        assert_eq!(params.need("currency").unwrap_err().code, "parameter_missing");
        assert!(Params::parse("amount=1.5").number("amount").is_err());
    }

    #[test]
    fn a_search_has_conditions() {
        let query = "metadata['order_id']:'o-1' AND metadata['attempt']:'2'";
        assert_eq!(search(query), Some(vec![("order_id", "o-1"), ("attempt", "2")]));
        assert_eq!(search("amount>5"), None);
    }
}
