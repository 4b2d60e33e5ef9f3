//! What products are asked with.

use crate::domain::limits::{
    ATTRIBUTE_NAME_CHARS_MAX, ATTRIBUTE_NUMBER_CHARS_MAX, ATTRIBUTE_TEXT_CHARS_MAX, ATTRIBUTES_BYTES_MAX,
    ATTRIBUTES_PER_PRODUCT_MAX, IMAGES_PER_PRODUCT_MAX, NAME_CHARS_MAX, PRICE_MINOR_MAX, TEXT_CHARS_MAX,
    VARIANTS_PER_PRODUCT_MAX,
};
use crate::domain::{Attribute, Attributes, CreatorId, Currency, Image, Money, ProductStatus, VariantId};
use crate::service::FieldError;
use crate::service::input::{Change, Checks, Field, Input, MoneyInput, Unvalidated};
use crate::storage::ProductFilter;
use std::collections::BTreeMap;

/// A list of objects.
pub type Objects<T> = Vec<Field<Unvalidated<T>>>;
/// Names and values in their order, so that a name that is given twice is noticed. Absent: the attribute is removed.
pub type AttributesInput = Vec<(String, Field<Attribute>)>;

/// What an attribute is, where it is something else.
pub const ATTRIBUTE_WANTED: &str = "must be a string, a number, true or false";

/// A product to add.
#[derive(Debug, Default)]
pub struct ProductInput {
    /// One line, 1 to `NAME_CHARS_MAX` characters. Required.
    pub name: Field<String>,
    /// At most `TEXT_CHARS_MAX` characters; empty if absent.
    pub description: Field<String>,
    /// The usual price. Required.
    pub price: Field<Unvalidated<MoneyInput>>,
    /// At most `IMAGES_PER_PRODUCT_MAX`.
    pub images: Field<Objects<ImageInput>>,
    /// At most `ATTRIBUTES_PER_PRODUCT_MAX`.
    pub attributes: Field<AttributesInput>,
    /// At most `VARIANTS_PER_PRODUCT_MAX`, without ids.
    pub variants: Field<Objects<ProductVariantInput>>,
    /// `false` if absent.
    pub shipped: Field<bool>,
}

/// What to change in a product; what is absent stays.
#[derive(Debug, Default)]
pub struct ProductChangeInput {
    /// One line, 1 to `NAME_CHARS_MAX` characters.
    pub name: Change<String>,
    /// At most `TEXT_CHARS_MAX` characters.
    pub description: Change<String>,
    /// The usual price.
    pub price: Change<Unvalidated<MoneyInput>>,
    /// All of them.
    pub images: Change<Objects<ImageInput>>,
    /// Those that change.
    pub attributes: Change<AttributesInput>,
    /// All of them.
    pub variants: Change<Objects<ProductVariantInput>>,
    pub shipped: Change<bool>,
}

/// A picture of a product.
#[derive(Debug, Default)]
pub struct ImageInput {
    /// Absolute, `http` or `https`. Required.
    pub url: Field<String>,
    /// One line, at most `ATTRIBUTE_TEXT_CHARS_MAX` characters. Empty says that there is nothing to be said, as in HTML.
    pub alt: Field<String>,
}

/// A variant of a product.
#[derive(Debug, Default)]
pub struct ProductVariantInput {
    /// One that the product has already; a new one if absent.
    pub id: Field<VariantId>,
    /// One line, 1 to `NAME_CHARS_MAX` characters. Required.
    pub name: Field<String>,
    /// The product's price if absent.
    pub price: Field<Unvalidated<MoneyInput>>,
}

/// A [`ProductVariantInput`] that is valid.
#[derive(Clone, Debug)]
pub struct VariantChange {
    /// One that the product has already; a new one if absent.
    pub id: Option<VariantId>,
    /// What buyers call it.
    pub name: String,
    /// The product's price if absent.
    pub price: Option<Money>,
}

/// A [`ProductInput`] that is valid.
#[derive(Clone, Debug)]
pub struct NewProduct {
    /// Its name.
    pub name: String,
    /// May be empty.
    pub description: String,
    /// The usual price.
    pub price: Money,
    /// Its pictures.
    pub images: Vec<Image>,
    /// What else is to be known of it.
    pub attributes: Attributes,
    /// What it comes in. None has an id.
    pub variants: Vec<VariantChange>,
    /// Whether buyers get it by post.
    pub shipped: bool,
}

/// What becomes of a product's attributes.
#[derive(Clone, Debug, Default)]
pub enum AttributesChange {
    /// They stay.
    #[default]
    Keep,
    /// All of them go.
    Clear,
    /// These get values, or go where there is none. The others stay.
    Merge(BTreeMap<String, Option<Attribute>>),
}

/// A [`ProductChangeInput`] that is valid.
#[derive(Clone, Debug, Default)]
pub struct ProductChange {
    /// Its name.
    pub name: Option<String>,
    /// May be empty.
    pub description: Option<String>,
    /// The usual price.
    pub price: Option<Money>,
    /// All its pictures.
    pub images: Option<Vec<Image>>,
    /// What else is to be known of it.
    pub attributes: AttributesChange,
    /// All that it comes in. What is not named goes.
    pub variants: Option<Vec<VariantChange>>,
    /// Whether buyers get it by post.
    pub shipped: Option<bool>,
}

impl Input for ProductInput {
    type Valid = NewProduct;

    fn check(self, checks: &mut Checks) -> Option<NewProduct> {
        let name = checks.required("/name", self.name);
        let name = checks.line("/name", name, 1..=NAME_CHARS_MAX);
        let description = checks.optional("/description", self.description).unwrap_or_default();
        let description = checks.lines("/description", Some(description), 0..=TEXT_CHARS_MAX);
        if self.price.is_absent() {
            checks.wrong("/price", "is required");
        }
        let price = checks.money("/price", self.price);
        let images = images(checks, self.images).unwrap_or_default();
        let given = attributes(checks, self.attributes).unwrap_or_default();
        let attributes: Attributes = given.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
        let variants = variants(checks, self.variants, false).unwrap_or_default();
        if let Some(price) = price {
            let prices: Vec<_> = variants.iter().map(|variant| variant.price).collect();
            for error in contradictions(price, &prices, &attributes) {
                checks.conflict(error.pointer, error.detail);
            }
        }
        let shipped = checks.optional("/shipped", self.shipped).unwrap_or(false);
        let (name, description, price) = (name?, description?, price?);
        Some(NewProduct { name, description, price, images, attributes, variants, shipped })
    }
}

impl Input for ProductChangeInput {
    type Valid = ProductChange;

    fn check(self, checks: &mut Checks) -> Option<ProductChange> {
        let name = checks.optional("/name", self.name.or_wrong());
        let name = checks.line("/name", name, 1..=NAME_CHARS_MAX);
        let description = checks.optional("/description", self.description.or_empty(String::new()));
        let description = checks.lines("/description", description, 0..=TEXT_CHARS_MAX);
        let price = checks.money("/price", self.price.or_wrong());
        let images = images(checks, self.images.or_empty(Vec::new()));
        let attributes = match self.attributes {
            Change::Keep => AttributesChange::Keep,
            Change::Clear => AttributesChange::Clear,
            Change::To(given) => AttributesChange::Merge(attributes(checks, given).unwrap_or_default()),
        };
        let variants = variants(checks, self.variants.or_empty(Vec::new()), true);
        let shipped = checks.optional("/shipped", self.shipped.or_wrong());
        Some(ProductChange { name, description, price, images, attributes, variants, shipped })
    }
}

fn images(checks: &mut Checks, field: Field<Objects<ImageInput>>) -> Option<Vec<Image>> {
    let inputs = checks.list("/images", field, IMAGES_PER_PRODUCT_MAX)?;
    let mut valid = Vec::with_capacity(inputs.len());
    for (index, input) in inputs.into_iter().enumerate() {
        let pointer = format!("/images/{index}");
        let Some(input) = checks.required_object(&pointer, input) else { continue };
        let url = checks.required(&format!("{pointer}/url"), input.url);
        let url = checks.web_address(&format!("{pointer}/url"), url);
        let alt = checks.optional(&format!("{pointer}/alt"), input.alt);
        let alt = checks.line(&format!("{pointer}/alt"), alt, 0..=ATTRIBUTE_TEXT_CHARS_MAX);
        valid.extend(url.map(|url| Image { url, alt }));
    }
    Some(valid)
}

/// `may_have_ids`: whether there can be variants already.
fn variants(
    checks: &mut Checks,
    field: Field<Objects<ProductVariantInput>>,
    may_have_ids: bool,
) -> Option<Vec<VariantChange>> {
    let inputs = checks.list("/variants", field, VARIANTS_PER_PRODUCT_MAX)?;
    let mut valid: Vec<VariantChange> = Vec::with_capacity(inputs.len());
    for (index, input) in inputs.into_iter().enumerate() {
        let pointer = format!("/variants/{index}");
        let Some(input) = checks.required_object(&pointer, input) else { continue };
        let id = checks.optional(&format!("{pointer}/id"), input.id);
        let name = checks.required(&format!("{pointer}/name"), input.name);
        let name = checks.line(&format!("{pointer}/name"), name, 1..=NAME_CHARS_MAX);
        let price = checks.money(&format!("{pointer}/price"), input.price);
        if id.is_some() && !may_have_ids {
            checks.wrong(format!("{pointer}/id"), "must be left out: a new product has no variants yet");
        } else if id.is_some() && valid.iter().any(|other| other.id == id) {
            checks.conflict(format!("{pointer}/id"), "must not be the id of another variant");
        }
        let Some(name) = name else { continue };
        if valid.iter().any(|other| other.name == name) {
            checks.conflict(format!("{pointer}/name"), "must not be the name of another variant");
        }
        valid.push(VariantChange { id, name, price });
    }
    Some(valid)
}

/// What each attribute becomes; `None` where it is removed.
fn attributes(checks: &mut Checks, field: Field<AttributesInput>) -> Option<BTreeMap<String, Option<Attribute>>> {
    let given = checks.optional("/attributes", field)?;
    // Twice as many, because a change may take as many away as it brings.
    if given.len() > 2 * ATTRIBUTES_PER_PRODUCT_MAX {
        checks.wrong("/attributes", format!("must be at most {ATTRIBUTES_PER_PRODUCT_MAX}"));
        return None;
    }
    let mut valid = BTreeMap::new();
    for (name, value) in given {
        // The pointer of a name that is not valid would repeat it, whatever is in it.
        let Some(name) = checks.line("/attributes", Some(name), 1..=ATTRIBUTE_NAME_CHARS_MAX) else { continue };
        let pointer = format!("/attributes/{}", name.replace('~', "~0").replace('/', "~1"));
        let value = match value {
            Field::Absent => None,
            value => match attribute(checks, &pointer, value) {
                Some(value) => Some(value),
                None => continue,
            },
        };
        if valid.insert(name, value).is_some() {
            checks.conflict(pointer, "must not be given twice");
        }
    }
    Some(valid)
}

fn attribute(checks: &mut Checks, pointer: &str, value: Field<Attribute>) -> Option<Attribute> {
    let value = checks.optional(pointer, value)?;
    match value.as_text() {
        Some(text) => checks.lines(pointer, Some(text), 0..=ATTRIBUTE_TEXT_CHARS_MAX).as_deref().map(Attribute::from),
        None if value.as_json().len() > ATTRIBUTE_NUMBER_CHARS_MAX => {
            checks.wrong(pointer, format!("must have at most {ATTRIBUTE_NUMBER_CHARS_MAX} characters"));
            None
        }
        None => Some(value),
    }
}

/// What is wrong with a product although each of its fields is right. `prices`: the variants' own, in their order.
#[must_use]
pub(super) fn contradictions(price: Money, prices: &[Option<Money>], attributes: &Attributes) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (index, own) in prices.iter().enumerate() {
        if own.is_some_and(|own| own.currency != price.currency) {
            let detail = format!("must be that of the product, here {}", price.currency);
            errors.push(FieldError { pointer: format!("/variants/{index}/price/currency"), detail });
        }
    }
    // Names and values as JSON, with their quotes, colons and commas.
    let bytes: usize = attributes.iter().map(|(name, value)| name.len() + value.as_json().len() + 4).sum();
    if attributes.len() > ATTRIBUTES_PER_PRODUCT_MAX || bytes > ATTRIBUTES_BYTES_MAX {
        let detail =
            format!("must be at most {ATTRIBUTES_PER_PRODUCT_MAX}, of {ATTRIBUTES_BYTES_MAX} bytes all together");
        errors.push(FieldError { pointer: "/attributes".to_owned(), detail });
    }
    errors
}

/// Which products to list.
#[derive(Debug, Default)]
pub struct ProductListInput {
    /// The active ones if absent.
    pub status: Field<ProductStatus>,
    /// Of this creator.
    pub creator_id: Field<CreatorId>,
    /// With a price in this currency.
    pub currency: Field<Currency>,
    /// Minor units, 0 to `PRICE_MINOR_MAX`.
    pub price_min: Field<i64>,
    /// Minor units, 0 to `PRICE_MINOR_MAX`.
    pub price_max: Field<i64>,
}

impl Input for ProductListInput {
    type Valid = ProductFilter;

    fn check(self, checks: &mut Checks) -> Option<ProductFilter> {
        Some(ProductFilter {
            status: checks.optional("/status", self.status).unwrap_or_default(),
            creator: checks.optional("/creator_id", self.creator_id),
            currency: checks.optional("/currency", self.currency),
            price_min: amount(checks, "/price_min", self.price_min),
            price_max: amount(checks, "/price_max", self.price_max),
        })
    }
}

/// A bound on a list's prices.
fn amount(checks: &mut Checks, pointer: &str, field: Field<i64>) -> Option<i64> {
    let amount = checks.optional(pointer, field)?;
    if !(0..=PRICE_MINOR_MAX).contains(&amount) {
        checks.wrong(pointer, format!("must be a whole number of minor units, from 0 to {PRICE_MINOR_MAX}"));
        return None;
    }
    Some(amount)
}
