//! What addresses are asked with.

use super::Address;
use crate::domain::Country;
use crate::domain::limits::{NAME_CHARS_MAX, PHONE_CHARS_MAX, POSTAL_CODE_CHARS_MAX};
use crate::service::input::{Change, Checks, Field, Input};
use std::fmt;

/// An address to add. Optional parts may be blank, which is as if they were absent.
#[derive(Default)]
pub struct AddressInput {
    /// Required.
    pub name: Field<String>,
    pub company: Field<String>,
    /// Required.
    pub line1: Field<String>,
    pub line2: Field<String>,
    pub city: Field<String>,
    pub region: Field<String>,
    pub postal_code: Field<String>,
    /// Required.
    pub country: Field<Country>,
    pub phone: Field<String>,
}

/// An optional line that may be blank.
fn part(checks: &mut Checks, pointer: &str, field: Field<String>, chars_max: usize) -> Option<String> {
    let text = checks.optional(pointer, field);
    checks.line(pointer, text, 0..=chars_max).filter(|text| !text.is_empty())
}

impl Input for AddressInput {
    type Valid = Address;

    fn check(self, checks: &mut Checks) -> Option<Address> {
        let name = checks.required("/name", self.name);
        let name = checks.line("/name", name, 1..=NAME_CHARS_MAX);
        let company = part(checks, "/company", self.company, NAME_CHARS_MAX);
        let line1 = checks.required("/line1", self.line1);
        let line1 = checks.line("/line1", line1, 1..=NAME_CHARS_MAX);
        let line2 = part(checks, "/line2", self.line2, NAME_CHARS_MAX);
        let city = part(checks, "/city", self.city, NAME_CHARS_MAX);
        let region = part(checks, "/region", self.region, NAME_CHARS_MAX);
        let postal_code = part(checks, "/postal_code", self.postal_code, POSTAL_CODE_CHARS_MAX);
        let country = checks.required("/country", self.country);
        let phone = part(checks, "/phone", self.phone, PHONE_CHARS_MAX);
        let (name, line1, country) = (name?, line1?, country?);
        let address = Address { name, company, line1, line2, city, region, postal_code, country, phone };
        for missing in address.missing() {
            checks.conflict(missing.pointer, missing.detail);
        }
        Some(address)
    }
}

/// What to change in an address; what is absent stays, and null empties an optional part.
#[derive(Default)]
pub struct AddressChangeInput {
    pub name: Change<String>,
    pub company: Change<String>,
    pub line1: Change<String>,
    pub line2: Change<String>,
    pub city: Change<String>,
    pub region: Change<String>,
    pub postal_code: Change<String>,
    pub country: Change<Country>,
    pub phone: Change<String>,
}

/// An [`AddressChangeInput`] that is valid. Of a part that can be empty, `Some(None)` empties it.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct AddressChange {
    name: Option<String>,
    company: Option<Option<String>>,
    line1: Option<String>,
    line2: Option<Option<String>>,
    city: Option<Option<String>>,
    region: Option<Option<String>>,
    postal_code: Option<Option<String>>,
    country: Option<Country>,
    phone: Option<Option<String>>,
}

impl fmt::Debug for AddressChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(change of an address)")
    }
}

impl AddressChange {
    /// The changed address.
    #[must_use]
    pub fn of(&self, old: &Address) -> Address {
        let changed = |new: &Option<String>, old: &String| new.clone().unwrap_or_else(|| old.clone());
        let part = |new: &Option<Option<String>>, old: &Option<String>| new.clone().unwrap_or_else(|| old.clone());
        Address {
            name: changed(&self.name, &old.name),
            company: part(&self.company, &old.company),
            line1: changed(&self.line1, &old.line1),
            line2: part(&self.line2, &old.line2),
            city: part(&self.city, &old.city),
            region: part(&self.region, &old.region),
            postal_code: part(&self.postal_code, &old.postal_code),
            country: self.country.unwrap_or(old.country),
            phone: part(&self.phone, &old.phone),
        }
    }

    /// Each field, and whether the change gives it.
    pub(super) fn fields(&self) -> [(&'static str, bool); 9] {
        [
            ("name", self.name.is_some()),
            ("company", self.company.is_some()),
            ("line1", self.line1.is_some()),
            ("line2", self.line2.is_some()),
            ("city", self.city.is_some()),
            ("region", self.region.is_some()),
            ("postal_code", self.postal_code.is_some()),
            ("country", self.country.is_some()),
            ("phone", self.phone.is_some()),
        ]
    }
}

fn changed_part(
    checks: &mut Checks,
    pointer: &str,
    change: Change<String>,
    chars_max: usize,
) -> Option<Option<String>> {
    match change {
        Change::Keep => None,
        Change::Clear => Some(None),
        Change::To(field) => Some(part(checks, pointer, field, chars_max)),
    }
}

fn changed_line(checks: &mut Checks, pointer: &str, change: Change<String>) -> Option<String> {
    let text = checks.optional(pointer, change.or_wrong());
    checks.line(pointer, text, 1..=NAME_CHARS_MAX)
}

impl Input for AddressChangeInput {
    type Valid = AddressChange;

    fn check(self, checks: &mut Checks) -> Option<AddressChange> {
        Some(AddressChange {
            name: changed_line(checks, "/name", self.name),
            company: changed_part(checks, "/company", self.company, NAME_CHARS_MAX),
            line1: changed_line(checks, "/line1", self.line1),
            line2: changed_part(checks, "/line2", self.line2, NAME_CHARS_MAX),
            city: changed_part(checks, "/city", self.city, NAME_CHARS_MAX),
            region: changed_part(checks, "/region", self.region, NAME_CHARS_MAX),
            postal_code: changed_part(checks, "/postal_code", self.postal_code, POSTAL_CODE_CHARS_MAX),
            country: checks.optional("/country", self.country.or_wrong()),
            phone: changed_part(checks, "/phone", self.phone, PHONE_CHARS_MAX),
        })
    }
}
