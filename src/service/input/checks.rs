//! Collects the errors of an input.

use super::field::{Field, Unvalidated};
use crate::domain::limits::{PRICE_MINOR_MAX, URL_CHARS_MAX};
use crate::domain::{Currency, Money};
use crate::service::text::{self, Reason};
use crate::service::{Failure, FieldError};
use std::ops::RangeInclusive;
use url::Url;

/// An amount of money, before validation.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct MoneyInput {
    /// 0 to `PRICE_MINOR_MAX` minor units.
    pub amount: Field<i64>,
    /// One that can be paid with.
    pub currency: Field<Currency>,
}

/// The errors of an input so far, by JSON pointers (RFC 6901) from its root.
#[derive(Debug, Default)]
pub struct Checks {
    errors: Vec<FieldError>,
    /// Whether some errors are not conflicts between fields that are valid alone.
    some_are_wrong: bool,
}

impl Checks {
    /// Starts with the errors that a protocol has found.
    #[must_use]
    pub(super) fn after(errors: Vec<FieldError>) -> Self {
        Self { some_are_wrong: !errors.is_empty(), errors }
    }

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
    pub fn optional<T>(&mut self, pointer: &str, field: Field<T>) -> Option<T> {
        match field {
            Field::Absent => None,
            Field::Given(value) => Some(value),
            Field::Wrong(detail) => {
                self.wrong(pointer, detail);
                None
            }
        }
    }

    /// The value of a required field.
    pub fn required<T>(&mut self, pointer: &str, field: Field<T>) -> Option<T> {
        if field.is_absent() {
            self.wrong(pointer, "is required");
        }
        self.optional(pointer, field)
    }

    /// The fields of an optional object.
    pub fn object<T>(&mut self, pointer: &str, field: Field<Unvalidated<T>>) -> Option<T> {
        let Unvalidated { fields, errors } = self.optional(pointer, field)?;
        for FieldError { pointer: below, detail } in errors {
            self.wrong(format!("{pointer}{below}"), detail);
        }
        Some(fields)
    }

    /// The fields of a required object.
    pub fn required_object<T>(&mut self, pointer: &str, field: Field<Unvalidated<T>>) -> Option<T> {
        if field.is_absent() {
            self.wrong(pointer, "is required");
        }
        self.object(pointer, field)
    }

    /// An optional list of at most `max` items.
    pub fn list<T>(&mut self, pointer: &str, field: Field<Vec<T>>, max: usize) -> Option<Vec<T>> {
        let items = self.optional(pointer, field)?;
        if items.len() > max {
            self.wrong(pointer, format!("must have at most {max} items"));
            return None;
        }
        Some(items)
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
        if field.is_absent() {
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
    pub fn money(&mut self, pointer: &str, field: Field<Unvalidated<MoneyInput>>) -> Option<Money> {
        let MoneyInput { amount, currency } = self.object(pointer, field)?;
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
    pub(super) fn finish<T>(self, value: Option<T>) -> Result<T, Failure> {
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

    fn money(amount: Field<i64>, currency: &str) -> Field<Unvalidated<MoneyInput>> {
        Field::Given(MoneyInput { amount, currency: Field::of_text(currency) }.into())
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
        checks.required_number("/c", Field::Wrong("must be a whole number".into()), 0..=5);
        checks.line("/d", Some(" \u{a0} ".into()), 1..=3);
        checks.line("/e", Some("a\nb".into()), 1..=3);
        checks.money("/f", Field::Given(MoneyInput { amount: Field::Given(-1), currency: Field::Absent }.into()));
        let unknown = FieldError { pointer: "/tax".into(), detail: "is not a field here".into() };
        checks.money("/g", Field::Given(Unvalidated { fields: MoneyInput::default(), errors: vec![unknown] }));
        let failure = checks.finish(Some(())).unwrap_err();
        let pointers: Vec<_> = failure.fields.iter().map(|field| field.pointer.as_str()).collect();
        let of_money = ["/f/currency", "/f/amount", "/g/tax", "/g/amount", "/g/currency"];
        assert_eq!(pointers, [&["/a", "/b", "/c", "/d", "/e"][..], &of_money].concat());
    }

    #[test]
    fn text_is_trimmed_and_counted_in_characters() {
        let mut checks = Checks::default();
        assert_eq!(checks.line("/a", Some("  äöü€ ".into()), 1..=4), Some("äöü€".into()));
        assert_eq!(checks.line("/a", Some("äöü€x".into()), 1..=4), None);
        assert_eq!(checks.lines("/b", Some("two\nlines".into()), 0..=9), Some("two\nlines".into()));
        assert_eq!(checks.lines("/b", Some("a\u{1b}[2Jb".into()), 0..=9), None);
        assert_eq!(checks.money("/c", money(Field::Given(0), "EUR")).map(|money| money.amount), Some(0));
        assert_eq!(checks.money("/c", money(Field::Given(99_999_999_999_999), "EUR")), None);
    }
}
