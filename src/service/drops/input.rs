//! What drops are asked with.

use crate::domain::limits::{
    HOLD_MS_DEFAULT, HOLD_MS_MAX, HOLD_MS_MIN, NAME_CHARS_MAX, PER_BUYER_LIMIT_DEFAULT, SHIPPING_COUNTRIES_MAX,
    STOCK_PER_VARIANT_MAX, VARIANTS_PER_DROP_MAX,
};
use crate::domain::{Country, CreatorId, DropStatus, Money, ProductId, Timestamp, VariantId};
use crate::engine::NewEnd;
use crate::service::input::{Change, Checks, Field, Input, MoneyInput, Unvalidated};
use crate::storage::{DropFilter, Phase};

/// What a variant is called that its creator does not name.
pub const VARIANT_NAME_DEFAULT: &str = "default";

/// A drop to schedule: either `variants`, or `stock` for a drop of one.
#[derive(Debug, Default)]
pub struct DropInput {
    /// What it sells. Required.
    pub product_id: Field<ProductId>,
    /// One line, 1 to `NAME_CHARS_MAX` characters; the product's name if absent.
    pub title: Field<String>,
    /// At once if absent or past.
    pub starts_at: Field<Timestamp>,
    /// After `starts_at`.
    pub ends_at: Field<Timestamp>,
    /// 0: none. `PER_BUYER_LIMIT_DEFAULT` if absent.
    pub per_buyer_limit: Field<i64>,
    /// 0, or absent: never.
    pub low_stock_threshold: Field<i64>,
    /// `HOLD_MS_DEFAULT` if absent.
    pub hold_seconds: Field<i64>,
    /// 1 to `VARIANTS_PER_DROP_MAX`.
    pub variants: Field<Vec<Field<Unvalidated<DropVariantInput>>>>,
    /// Units, 1 to `STOCK_PER_VARIANT_MAX`.
    pub stock: Field<i64>,
    /// Where it is shipped to, 1 to `SHIPPING_COUNTRIES_MAX`; everywhere for nothing if absent.
    pub shipping: Field<Vec<Field<Unvalidated<ShippingInput>>>>,
}

/// A country that a drop is shipped to.
#[derive(Debug, Default)]
pub struct ShippingInput {
    /// Required.
    pub country: Field<Country>,
    /// For a whole order, in the drop's currency. Required.
    pub price: Field<Unvalidated<MoneyInput>>,
}

/// One variant of a drop to schedule.
#[derive(Debug, Default)]
pub struct DropVariantInput {
    /// One that the product comes in; one of this drop alone if absent.
    pub variant_id: Field<VariantId>,
    /// One line, 1 to `NAME_CHARS_MAX` characters; as the product calls it if absent.
    pub name: Field<String>,
    /// Units, 1 to `STOCK_PER_VARIANT_MAX`. Required.
    pub stock: Field<i64>,
    /// The usual one of the product's variant, or else of the product, if absent.
    pub price: Field<Unvalidated<MoneyInput>>,
}

/// A [`DropVariantInput`] that is valid.
#[derive(Clone, Debug)]
pub struct NewVariant {
    /// One that the product comes in; one of this drop alone if absent.
    pub id: Option<VariantId>,
    /// What buyers call it; as the product calls it if absent.
    pub name: Option<String>,
    /// Units, 1 to `STOCK_PER_VARIANT_MAX`.
    pub stock: u32,
    /// Price; the usual one of the product's variant, or else of the product, if absent.
    pub price: Option<Money>,
}

/// A [`DropInput`] that is valid.
#[derive(Clone, Debug)]
pub struct NewDrop {
    /// What it sells; must be the caller's.
    pub product_id: ProductId,
    /// The product's name if absent.
    pub title: Option<String>,
    /// 1 to `VARIANTS_PER_DROP_MAX`.
    pub variants: Vec<NewVariant>,
    /// Whether only a stock was given, which says nothing about which variant it is of.
    pub stock_alone: bool,
    /// 0: none.
    pub per_buyer_limit: u32,
    /// 0: never.
    pub low_stock_threshold: u32,
    /// `HOLD_MS_MIN` to `HOLD_MS_MAX`.
    pub hold_ms: u32,
    /// At once if absent or past.
    pub starts_at: Option<Timestamp>,
    /// After `starts_at`.
    pub ends_at: Option<Timestamp>,
    /// Where it is shipped to; everywhere for nothing if absent.
    pub shipping: Option<Vec<(Country, Money)>>,
}

impl Input for DropInput {
    type Valid = NewDrop;

    fn check(self, checks: &mut Checks) -> Option<NewDrop> {
        let product_id = checks.required("/product_id", self.product_id);
        let title = checks.optional("/title", self.title);
        let title = checks.line("/title", title, 1..=NAME_CHARS_MAX);
        let starts_at = checks.optional("/starts_at", self.starts_at);
        let ends_at = checks.optional("/ends_at", self.ends_at);
        if let (Some(starts_at), Some(ends_at)) = (starts_at, ends_at)
            && ends_at <= starts_at
        {
            checks.conflict("/ends_at", "must be after starts_at");
        }
        let units = 0..=STOCK_PER_VARIANT_MAX;
        let per_buyer_limit = checks.number("/per_buyer_limit", self.per_buyer_limit, units.clone());
        let low_stock_threshold = checks.number("/low_stock_threshold", self.low_stock_threshold, units).unwrap_or(0);
        let hold = checks.number("/hold_seconds", self.hold_seconds, HOLD_MS_MIN / 1_000..=HOLD_MS_MAX / 1_000);
        let stock_alone = self.variants.is_absent();
        let variants = variants(checks, self.variants, self.stock);
        let shipping = shipping(checks, self.shipping);
        Some(NewDrop {
            product_id: product_id?,
            title,
            variants,
            stock_alone,
            per_buyer_limit: per_buyer_limit.unwrap_or(PER_BUYER_LIMIT_DEFAULT),
            low_stock_threshold,
            hold_ms: hold.map_or(HOLD_MS_DEFAULT, |seconds| seconds * 1_000),
            starts_at,
            ends_at,
            shipping,
        })
    }
}

fn shipping(
    checks: &mut Checks,
    field: Field<Vec<Field<Unvalidated<ShippingInput>>>>,
) -> Option<Vec<(Country, Money)>> {
    let inputs = checks.list("/shipping", field, SHIPPING_COUNTRIES_MAX)?;
    if inputs.is_empty() {
        checks.wrong("/shipping", "must have at least one item");
    }
    let mut valid: Vec<(Country, Money)> = Vec::with_capacity(inputs.len());
    for (index, input) in inputs.into_iter().enumerate() {
        let pointer = format!("/shipping/{index}");
        let Some(ShippingInput { country, price }) = checks.required_object(&pointer, input) else { continue };
        let country = checks.required(&format!("{pointer}/country"), country);
        if price.is_absent() {
            checks.wrong(format!("{pointer}/price"), "is required");
        }
        let (Some(country), Some(price)) = (country, checks.money(&format!("{pointer}/price"), price)) else {
            continue;
        };
        if valid.iter().any(|(other, _)| *other == country) {
            checks.conflict(format!("{pointer}/country"), "must not be the country of another item");
        }
        valid.push((country, price));
    }
    Some(valid)
}

/// Either `variants`, or `stock` for a drop of one.
fn variants(
    checks: &mut Checks,
    variants: Field<Vec<Field<Unvalidated<DropVariantInput>>>>,
    stock: Field<i64>,
) -> Vec<NewVariant> {
    let (inputs, stock) = match (variants, stock) {
        (Field::Absent, Field::Absent) => {
            checks.wrong("/variants", "is required, or else stock");
            return Vec::new();
        }
        (Field::Absent, stock) => {
            let stock = checks.number("/stock", stock, 1..=STOCK_PER_VARIANT_MAX);
            let only = |stock| NewVariant { id: None, name: None, stock, price: None };
            return stock.map(only).into_iter().collect();
        }
        (variants, stock) => (checks.optional("/variants", variants), stock),
    };
    if !stock.is_absent() {
        checks.wrong("/stock", "must be left out where there are variants");
    }
    let Some(inputs) = inputs else { return Vec::new() };
    if !(1..=VARIANTS_PER_DROP_MAX).contains(&inputs.len()) {
        checks.wrong("/variants", format!("must have 1 to {VARIANTS_PER_DROP_MAX} items"));
        return Vec::new();
    }
    let mut valid: Vec<NewVariant> = Vec::with_capacity(inputs.len());
    for (index, input) in inputs.into_iter().enumerate() {
        let pointer = format!("/variants/{index}");
        let Some(new) = variant(checks, &pointer, input) else { continue };
        if new.id.is_some() && valid.iter().any(|other| other.id == new.id) {
            checks.conflict(format!("{pointer}/variant_id"), "must not be that of another variant");
        }
        if name_of(&new).is_some() && valid.iter().any(|other| name_of(other) == name_of(&new)) {
            checks.conflict(format!("{pointer}/name"), "must not be the name of another variant");
        }
        let currency = |variant: &NewVariant| variant.price.map(|price| price.currency);
        let others = valid.iter().find_map(currency);
        if others.is_some() && currency(&new).is_some() && others != currency(&new) {
            checks.conflict(format!("{pointer}/price/currency"), "must be the same for all variants");
        }
        valid.push(new);
    }
    valid
}

/// What it will be called, as far as that can be known without the product.
fn name_of(variant: &NewVariant) -> Option<&str> {
    variant.name.as_deref().or(variant.id.is_none().then_some(VARIANT_NAME_DEFAULT))
}

fn variant(checks: &mut Checks, pointer: &str, input: Field<Unvalidated<DropVariantInput>>) -> Option<NewVariant> {
    let input = checks.required_object(pointer, input)?;
    let id = checks.optional(&format!("{pointer}/variant_id"), input.variant_id);
    let name = checks.optional(&format!("{pointer}/name"), input.name);
    let name = checks.line(&format!("{pointer}/name"), name, 1..=NAME_CHARS_MAX);
    let stock = checks.required_number(&format!("{pointer}/stock"), input.stock, 1..=STOCK_PER_VARIANT_MAX);
    let price = checks.money(&format!("{pointer}/price"), input.price);
    Some(NewVariant { id, name, stock: stock?, price })
}

/// Units to add to a drop.
#[derive(Debug, Default)]
pub struct RestockInput {
    /// May be left out where there is one.
    pub variant_id: Field<VariantId>,
    /// 1 to `STOCK_PER_VARIANT_MAX`. Required.
    pub quantity: Field<i64>,
}

impl Input for RestockInput {
    /// The variant, if one is named, and the units.
    type Valid = (Option<VariantId>, u32);

    fn check(self, checks: &mut Checks) -> Option<Self::Valid> {
        let variant = checks.optional("/variant_id", self.variant_id);
        let quantity = checks.required_number("/quantity", self.quantity, 1..=STOCK_PER_VARIANT_MAX);
        Some((variant, quantity?))
    }
}

/// Another schedule for a drop.
#[derive(Debug, Default)]
pub struct ScheduleInput {
    /// As it is, if absent. A drop always has one.
    pub starts_at: Change<Timestamp>,
    /// As it is, if absent.
    pub ends_at: Change<Timestamp>,
}

impl Input for ScheduleInput {
    /// The start, if it moves, and what becomes of the end.
    type Valid = (Option<Timestamp>, NewEnd);

    fn check(self, checks: &mut Checks) -> Option<Self::Valid> {
        let starts_at = checks.optional("/starts_at", self.starts_at.or_wrong());
        let ends_at = match self.ends_at {
            Change::Keep => NewEnd::Unchanged,
            Change::Clear => NewEnd::Never,
            Change::To(end) => checks.optional("/ends_at", end).map_or(NewEnd::Unchanged, NewEnd::At),
        };
        Some((starts_at, ends_at))
    }
}

/// Which drops to list: all, if nothing is given.
#[derive(Debug, Default)]
pub struct DropListInput {
    /// In this state.
    pub status: Field<DropStatus>,
    /// In one of these states.
    pub phase: Field<Phase>,
    /// Of this creator.
    pub creator_id: Field<CreatorId>,
    /// That start at this time or later.
    pub starts_from: Field<Timestamp>,
    /// That start earlier.
    pub starts_before: Field<Timestamp>,
}

impl Input for DropListInput {
    type Valid = DropFilter;

    fn check(self, checks: &mut Checks) -> Option<DropFilter> {
        Some(DropFilter {
            status: checks.optional("/status", self.status),
            phase: checks.optional("/phase", self.phase),
            creator: checks.optional("/creator_id", self.creator_id),
            followed_by: None,
            starts_from: checks.optional("/starts_from", self.starts_from),
            starts_before: checks.optional("/starts_before", self.starts_before),
        })
    }
}
