//! Bodies of requests and answers about addresses.

use crate::domain::{AddressId, AddressVersionId, Country, Timestamp};
use crate::http::openapi::schema;
use crate::service::addresses::{Address, AddressChangeInput, AddressInput, KnownAddress};
use crate::service::input::{Change, Field};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// An address to add. Which of city, region and postal code it must have depends on the country.
#[derive(Deserialize, Default, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[schema(as = NewAddress, examples(json!({"name": "Ada Lovelace", "line1": "1 Main Street", "line2": "Flat 2", "city": "Springfield", "region": "IL", "postal_code": "62701", "country": "US", "phone": "+1 217 555 0100"})))]
pub struct NewAddressBody {
    #[schema(required = true, schema_with = schema::name)]
    name: Field<String>,
    #[schema(schema_with = schema::company_or_null)]
    company: Field<String>,
    #[schema(required = true, schema_with = schema::street)]
    line1: Field<String>,
    #[schema(schema_with = schema::second_line_or_null)]
    line2: Field<String>,
    #[schema(schema_with = schema::city_or_null)]
    city: Field<String>,
    #[schema(schema_with = schema::region_or_null)]
    region: Field<String>,
    #[schema(schema_with = schema::postal_code_or_null)]
    postal_code: Field<String>,
    #[schema(required = true, schema_with = schema::country)]
    country: Field<Country>,
    #[schema(schema_with = schema::phone_or_null)]
    phone: Field<String>,
}

impl From<NewAddressBody> for AddressInput {
    fn from(body: NewAddressBody) -> Self {
        let NewAddressBody { name, company, line1, line2, city, region, postal_code, country, phone } = body;
        Self { name, company, line1, line2, city, region, postal_code, country, phone }
    }
}

/// A change of an address: omitted fields stay, `null` empties a field.
#[derive(Deserialize, Default, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[schema(as = AddressChange, examples(json!({"line1": "2 Main Street", "line2": null})))]
pub struct AddressChangeBody {
    #[schema(schema_with = schema::name)]
    name: Change<String>,
    #[schema(schema_with = schema::company_or_null)]
    company: Change<String>,
    #[schema(schema_with = schema::street)]
    line1: Change<String>,
    #[schema(schema_with = schema::second_line_or_null)]
    line2: Change<String>,
    #[schema(schema_with = schema::city_or_null)]
    city: Change<String>,
    #[schema(schema_with = schema::region_or_null)]
    region: Change<String>,
    #[schema(schema_with = schema::postal_code_or_null)]
    postal_code: Change<String>,
    #[schema(schema_with = schema::country)]
    country: Change<Country>,
    #[schema(schema_with = schema::phone_or_null)]
    phone: Change<String>,
}

impl From<AddressChangeBody> for AddressChangeInput {
    fn from(body: AddressChangeBody) -> Self {
        let AddressChangeBody { name, company, line1, line2, city, region, postal_code, country, phone } = body;
        Self { name, company, line1, line2, city, region, postal_code, country, phone }
    }
}

/// One of the caller's addresses.
#[derive(Serialize, ToSchema)]
#[schema(as = Address)]
pub struct AddressBody<'a> {
    id: AddressId,
    /// Changes with every change of the address.
    version: AddressVersionId,
    #[schema(example = "Ada Lovelace")]
    name: &'a str,
    #[schema(required = true)]
    company: Option<&'a str>,
    #[schema(example = "1 Main Street")]
    line1: &'a str,
    #[schema(required = true)]
    line2: Option<&'a str>,
    #[schema(required = true)]
    city: Option<&'a str>,
    #[schema(required = true)]
    region: Option<&'a str>,
    #[schema(required = true)]
    postal_code: Option<&'a str>,
    country: Country,
    #[schema(required = true)]
    phone: Option<&'a str>,
    /// When this version was made.
    updated_at: Timestamp,
    /// What an order names this version of the address with, as `address`.
    #[schema(example = "AQGQoAAAAHAAgAAAAAAAAAFERQAAAaMbUbQAVJ0yQm1mVnR0c2VjcmV0")]
    reference: &'a str,
    reference_expires_at: Timestamp,
}

impl<'a> From<&'a KnownAddress> for AddressBody<'a> {
    fn from(known: &'a KnownAddress) -> Self {
        let KnownAddress { id, version, updated_at, address, reference, reference_expires_at } = known;
        let Address { name, company, line1, line2, city, region, postal_code, country, phone } = address;
        Self {
            id: *id,
            version: *version,
            name,
            company: company.as_deref(),
            line1,
            line2: line2.as_deref(),
            city: city.as_deref(),
            region: region.as_deref(),
            postal_code: postal_code.as_deref(),
            country: *country,
            phone: phone.as_deref(),
            updated_at: *updated_at,
            reference,
            reference_expires_at: *reference_expires_at,
        }
    }
}

/// Where an order is sent, as its address was when it was ordered.
#[derive(Serialize, ToSchema)]
#[schema(as = OrderAddress)]
pub struct OrderAddressBody<'a> {
    #[schema(example = "Ada Lovelace")]
    name: &'a str,
    #[schema(required = true)]
    company: Option<&'a str>,
    #[schema(example = "1 Main Street")]
    line1: &'a str,
    #[schema(required = true)]
    line2: Option<&'a str>,
    #[schema(required = true)]
    city: Option<&'a str>,
    #[schema(required = true)]
    region: Option<&'a str>,
    #[schema(required = true)]
    postal_code: Option<&'a str>,
    country: Country,
    #[schema(required = true)]
    phone: Option<&'a str>,
}

impl<'a> From<&'a Address> for OrderAddressBody<'a> {
    fn from(address: &'a Address) -> Self {
        Self {
            name: &address.name,
            company: address.company.as_deref(),
            line1: &address.line1,
            line2: address.line2.as_deref(),
            city: address.city.as_deref(),
            region: address.region.as_deref(),
            postal_code: address.postal_code.as_deref(),
            country: address.country,
            phone: address.phone.as_deref(),
        }
    }
}

/// All addresses of the caller, the oldest first.
#[derive(Serialize, ToSchema)]
#[schema(as = Addresses)]
pub struct AddressesBody<'a> {
    items: Vec<AddressBody<'a>>,
}

impl<'a> AddressesBody<'a> {
    /// The body with these addresses.
    pub fn of(all: &'a [KnownAddress]) -> Self {
        Self { items: all.iter().map(AddressBody::from).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::limits::{NAME_CHARS_MAX, PHONE_CHARS_MAX, POSTAL_CODE_CHARS_MAX};
    use crate::http::extract::json::pointers;
    use serde_json::json;

    const NONE: [&str; 0] = [];

    #[test]
    fn addresses_are_checked_field_by_field() {
        let address = |json| pointers::<NewAddressBody, AddressInput>(&json);
        assert_eq!(address(json!({})), ["/name", "/line1", "/country"]);
        let irish = json!({"name": "A", "line1": "B", "city": "C", "country": "IE", "region": " ", "phone": null});
        assert_eq!(address(irish), NONE);
        assert_eq!(
            address(json!({"name": "A", "line1": "B", "country": "US"})),
            ["/city", "/region", "/postal_code"],
            "what the country requires"
        );
        let long = |chars: usize| "x".repeat(chars + 1);
        let wrong = json!({
            "name": long(NAME_CHARS_MAX), "company": 1, "line1": "a\nb", "line2": long(NAME_CHARS_MAX), "city": [],
            "region": "\u{202e}", "postal_code": long(POSTAL_CODE_CHARS_MAX), "country": "us",
            "phone": long(PHONE_CHARS_MAX), "more": 1,
        });
        let named = [
            "/more",
            "/name",
            "/company",
            "/line1",
            "/line2",
            "/city",
            "/region",
            "/postal_code",
            "/country",
            "/phone",
        ];
        assert_eq!(address(wrong), named);
        for country in ["ZZ", "USA", "", "EU"] {
            assert_eq!(address(json!({"name": "A", "line1": "B", "city": "C", "country": country})), ["/country"]);
        }
    }

    #[test]
    fn a_change_keeps_what_it_does_not_name() {
        let change = |json| pointers::<AddressChangeBody, AddressChangeInput>(&json);
        assert_eq!(change(json!({})), NONE);
        assert_eq!(change(json!({"company": null, "city": null, "phone": ""})), NONE);
        assert_eq!(change(json!({"name": null, "line1": null, "country": null})), ["/name", "/line1", "/country"]);
        assert_eq!(change(json!({"name": " ", "country": "ZZ", "id": 1})), ["/id", "/name", "/country"]);
    }
}
