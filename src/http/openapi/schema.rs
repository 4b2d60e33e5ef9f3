//! Schemas of fields, from the same constants as the checks. For `#[schema(schema_with = …)]` and parameters.
//!
//! An optional field of a request may also be `null`, which is the same ([`Field`](crate::service::input::Field)).

use crate::domain::limits::{
    ADDRESS_REFERENCE_CHARS_MAX, ATTRIBUTE_NAME_CHARS_MAX, ATTRIBUTE_TEXT_CHARS_MAX, ATTRIBUTES_PER_PRODUCT_MAX,
    EMAIL_CHARS_MAX, EMAIL_CHARS_MIN, HOLD_MS_DEFAULT, HOLD_MS_MAX, HOLD_MS_MIN, IMAGES_PER_PRODUCT_MAX,
    INBOX_MARKED_MAX, NAME_CHARS_MAX, PASSWORD_CHARS_MAX, PASSWORD_CHARS_MIN, PER_BUYER_LIMIT_DEFAULT, PHONE_CHARS_MAX,
    POSTAL_CODE_CHARS_MAX, PRICE_MINOR_MAX, QUANTITY_PER_ORDER_MAX, REFRESH_TOKEN_CHARS_MAX, REFUND_REASON_CHARS_MAX,
    SHIPPING_COUNTRIES_MAX, STOCK_PER_VARIANT_MAX, TEXT_CHARS_MAX, URL_CHARS_MAX, VARIANTS_PER_DROP_MAX,
    VARIANTS_PER_PRODUCT_MAX,
};
use crate::domain::{Country, Currency};
use crate::payments::sandbox::Sandbox;
use serde_json::Value;
use std::ops::RangeInclusive;
use utoipa::openapi::schema::{
    AdditionalProperties, AnyOfBuilder, Array, ArrayBuilder, KnownFormat, ObjectBuilder, SchemaFormat, SchemaType, Type,
};
use utoipa::openapi::{Ref, RefOr, Schema};

/// The result of a schema function.
pub type Shape = RefOr<Schema>;

/// Invisible and direction-changing characters, for a class of a pattern. Those beyond `\uffff` are missing: a range of
/// them is an error where JavaScript reads a pattern without its `u` flag. Some are accepted where emoji and scripts
/// need them, see [`crate::service::text`].
macro_rules! hidden {
    () => {
        "\\u00ad\\u034f\\u061c\\u115f\\u1160\\u17b4\\u17b5\\u180b-\\u180f\\u200b-\\u200f\\u202a-\\u202e\\u2060-\\u206f\\u2800\\u3164\\ufe00-\\ufe0f\\ufeff\\uffa0\\ufff0-\\ufff8"
    };
}

/// One line that is not blank: no control characters, and a character besides white space, which is trimmed at both
/// ends. Spelled out, because `\s` differs between dialects of regular expressions.
pub const LINE: &str = concat!(
    "^[^\\u0000-\\u001f\\u007f-\\u009f\\u2028\\u2029",
    hidden!(),
    "]*[^\\u0000-\\u0020\\u007f-\\u00a0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000",
    hidden!(),
    "][^\\u0000-\\u001f\\u007f-\\u009f\\u2028\\u2029",
    hidden!(),
    "]*$"
);
/// Text of several lines, possibly blank.
pub const LINES: &str = concat!("^[^\\u0000-\\u0008\\u000b\\u000c\\u000e-\\u001f\\u007f-\\u009f", hidden!(), "]*$");
/// One line, possibly blank.
const LINE_OR_BLANK: &str = concat!("^[^\\u0000-\\u001f\\u007f-\\u009f\\u2028\\u2029", hidden!(), "]*$");
/// ASCII addresses, which are always accepted. Letters of one other script are accepted too; only Unicode's tables can
/// tell which of them are valid.
const EMAIL: &str = "^[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]+@[A-Za-z0-9]{1,12}(-[A-Za-z0-9]{1,12}){0,3}(\\.[A-Za-z0-9]{1,12}(-[A-Za-z0-9]{1,12}){0,3})*$";
/// Any characters except control characters.
const PASSWORD: &str = "^[^\\u0000-\\u001f\\u007f-\\u009f]*$";
/// The same rule as in [`crate::http::api::creators::dto`].
const HANDLE: &str = "^[a-z0-9_]{3,30}$";
/// The form of a [`crate::service::Offset`].
const EVENT_ID: &str = "^[0-9a-f]{16}-[0-9]{1,19}(-[0-9]{1,19})?$";
/// The form of a code; only codes in use are accepted.
pub const CURRENCY: &str = "^[A-Z]{3}$";
/// The years of a [`Timestamp`](crate::domain::Timestamp).
const YEAR: &str = "^(19[7-9][0-9]|[2-9][0-9]{3})-";
/// An absolute URL whose host is a name, with a path, all in ASCII (RFC 3986): clients should send these, and the
/// normal form does not make them longer. Others are accepted too; only a parser can tell which of them are valid.
const WEB_ADDRESS: &str = "^[Hh][Tt][Tt][Pp][Ss]?://([A-Za-z0-9]+(-[A-Za-z0-9]+)*\\.)*[A-Za-z][A-Za-z0-9]*(-[A-Za-z0-9]+)*(:[1-5]?[0-9]{1,4})?/[A-Za-z0-9._~:/?#@!$&()*+,;=%-]*$";
fn of(kind: Type) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(kind)
}

/// Allows `null` as well.
fn or_null(object: ObjectBuilder) -> Shape {
    let mut object = object.build();
    if let SchemaType::Type(kind) = &object.schema_type {
        object.schema_type = SchemaType::Array(vec![kind.clone(), Type::Null]);
    }
    if let Some(values) = &mut object.enum_values {
        values.push(Value::Null);
    }
    object.into()
}

fn array_or_null(mut array: Array) -> Shape {
    array.schema_type = SchemaType::Array(vec![Type::Array, Type::Null]);
    array.into()
}

/// A named component, or `null`.
fn component_or_null(name: &str) -> Shape {
    AnyOfBuilder::new().item(Ref::from_schema_name(name)).item(of(Type::Null)).into()
}

fn whole(range: RangeInclusive<u32>) -> ObjectBuilder {
    let (min, max) = range.into_inner();
    of(Type::Integer).format(Some(SchemaFormat::KnownFormat(KnownFormat::Int64))).minimum(Some(min)).maximum(Some(max))
}

fn line_of(chars_max: usize) -> ObjectBuilder {
    of(Type::String).min_length(Some(1)).max_length(Some(chars_max)).pattern(Some(LINE)).examples(["Winter jacket"])
}

fn uuid_of() -> ObjectBuilder {
    of(Type::String).format(Some(SchemaFormat::KnownFormat(KnownFormat::Uuid)))
}

fn time_of() -> ObjectBuilder {
    of(Type::String).format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime))).pattern(Some(YEAR))
}

pub fn uuid() -> Shape {
    uuid_of().into()
}

pub fn uuid_or_null() -> Shape {
    or_null(uuid_of())
}

pub fn time() -> Shape {
    time_of().description(Some("RFC 3339, any offset, from 1970 on")).into()
}

pub fn time_or_null() -> Shape {
    or_null(time_of().description(Some("RFC 3339, any offset, from 1970 on")))
}

pub fn new_start() -> Shape {
    time_of().description(Some("RFC 3339, any offset, from 1970 on; if it is left out, the start stays")).into()
}

pub fn new_end() -> Shape {
    or_null(time_of().description(Some("RFC 3339, any offset; if it is left out, the end stays, and `null` is no end")))
}

fn event_id_of() -> ObjectBuilder {
    let text = of(Type::String).pattern(Some(EVENT_ID)).examples(["8f3a0c1d2e4b5a69-41"]);
    text.description(Some("The `id` of an event, as it was told"))
}

pub fn event_id() -> Shape {
    event_id_of().into()
}

pub fn event_id_or_null() -> Shape {
    or_null(event_id_of())
}

fn event_ids_of() -> Array {
    ArrayBuilder::new().items(event_id()).min_items(Some(1)).max_items(Some(INBOX_MARKED_MAX)).build()
}

pub fn event_ids() -> Shape {
    event_ids_of().into()
}

pub fn event_ids_or_null() -> Shape {
    array_or_null(event_ids_of())
}

pub fn flag_or_null() -> Shape {
    or_null(of(Type::Boolean))
}

pub fn address_reference_or_null() -> Shape {
    let text = of(Type::String).max_length(Some(ADDRESS_REFERENCE_CHARS_MAX)).pattern(Some("^[A-Za-z0-9_-]+$"));
    let about = "The `reference` of one of the buyer's addresses, where the drop is shipped";
    or_null(text.description(Some(about)).examples(["AQGQoAAAAHAAgAAAAAAAAAFERQAAAaMbUbQAVJ0yQm1mVnR0c2VjcmV0"]))
}

/// The shipping table of a new drop.
pub fn shipping_or_null() -> Shape {
    let items = ArrayBuilder::new().items(Ref::from_schema_name("NewShipping"));
    let about = "Where it is shipped to, if its product is; everywhere for nothing if it is left out";
    let array = items.min_items(Some(1)).max_items(Some(SHIPPING_COUNTRIES_MAX)).description(Some(about));
    array_or_null(array.build())
}

fn shipped_of() -> ObjectBuilder {
    of(Type::Boolean).description(Some("Whether buyers get it by post; `false` if a new product does not say"))
}

pub fn shipped() -> Shape {
    shipped_of().into()
}

pub fn shipped_or_null() -> Shape {
    or_null(shipped_of())
}

pub fn email() -> Shape {
    let text = of(Type::String).min_length(Some(EMAIL_CHARS_MIN)).max_length(Some(EMAIL_CHARS_MAX));
    text.pattern(Some(EMAIL))
        .description(Some("Not case-sensitive; unique in its normal form (RFC 8265, IDNA)"))
        .examples(["ada@example.com"])
        .into()
}

/// An address to look up; any text is accepted.
pub fn known_email() -> Shape {
    of(Type::String).examples(["ada@example.com"]).into()
}

pub fn new_password() -> Shape {
    let text = of(Type::String).format(Some(SchemaFormat::KnownFormat(KnownFormat::Password)));
    text.min_length(Some(PASSWORD_CHARS_MIN))
        .max_length(Some(PASSWORD_CHARS_MAX))
        .pattern(Some(PASSWORD))
        .description(Some("Not easily guessed: no common one, and not the account's address or name"))
        .examples(["open sesame, please"])
        .into()
}

pub fn known_password() -> Shape {
    let text = of(Type::String).format(Some(SchemaFormat::KnownFormat(KnownFormat::Password)));
    text.max_length(Some(PASSWORD_CHARS_MAX)).examples(["open sesame, please"]).into()
}

pub fn refresh_token() -> Shape {
    line_of(REFRESH_TOKEN_CHARS_MAX).examples(["Zk1hc3RlciBvZiBhbGwgcmVmcmVzaCB0b2tlbnMu"]).into()
}

pub fn handle() -> Shape {
    of(Type::String).pattern(Some(HANDLE)).examples(["ada_lovelace"]).into()
}

pub fn name() -> Shape {
    line_of(NAME_CHARS_MAX).into()
}

pub fn name_or_null() -> Shape {
    or_null(line_of(NAME_CHARS_MAX))
}

pub fn text_or_null() -> Shape {
    or_null(of(Type::String).max_length(Some(TEXT_CHARS_MAX)).pattern(Some(LINES)).examples(["Warm, and made to last"]))
}

pub fn quantity() -> Shape {
    whole(1..=QUANTITY_PER_ORDER_MAX).examples([1]).into()
}

pub fn units() -> Shape {
    whole(1..=STOCK_PER_VARIANT_MAX).examples([100]).into()
}

pub fn units_or_null() -> Shape {
    or_null(whole(1..=STOCK_PER_VARIANT_MAX).description(Some("Of the one variant; instead of `variants`")))
}

/// An optional number. Its default is in the description: from a `default`, client generators make a field that is
/// required, or always sent.
fn whole_or(range: RangeInclusive<u32>, default: u32, about: &str) -> Shape {
    or_null(whole(range).description(Some(format!("{about}; {default} if it is left out"))).examples([default]))
}

pub fn per_buyer_limit() -> Shape {
    whole_or(0..=STOCK_PER_VARIANT_MAX, PER_BUYER_LIMIT_DEFAULT, "How many units one buyer may have; 0: no limit")
}

pub fn low_stock_threshold() -> Shape {
    whole_or(0..=STOCK_PER_VARIANT_MAX, 0, "From how many free units on followers hear that stock is low; 0: never")
}

pub fn hold_seconds() -> Shape {
    whole_or(HOLD_MS_MIN / 1_000..=HOLD_MS_MAX / 1_000, HOLD_MS_DEFAULT / 1_000, "For how long an order is held")
}

fn method() -> ObjectBuilder {
    let text = of(Type::String).enum_values(Some(Sandbox::METHODS));
    text.description(Some(
        "Of the sandbox: `pm_sandbox_ok` pays, `pm_sandbox_slow` pays after two seconds, `pm_sandbox_declined` is declined (402 `payment_declined`), \
         `pm_sandbox_timeout` never answers (504 `payment_timeout`)",
    ))
}

pub fn payment_method() -> Shape {
    method().into()
}

pub fn payment_method_or_null() -> Shape {
    or_null(method())
}

fn reason() -> ObjectBuilder {
    line_of(REFUND_REASON_CHARS_MAX).description(Some("Why")).examples(["It does not fit"])
}

pub fn refund_reason() -> Shape {
    reason().into()
}

pub fn refund_reason_or_null() -> Shape {
    or_null(reason())
}

pub fn accepts_refund() -> Shape {
    of(Type::Boolean).description(Some("Whether the money goes back")).into()
}

pub fn amount() -> Shape {
    let amount = of(Type::Integer).format(Some(SchemaFormat::KnownFormat(KnownFormat::Int64)));
    amount.minimum(Some(0i64)).maximum(Some(PRICE_MINOR_MAX)).description(Some("Minor units")).examples([1999]).into()
}

pub fn currency() -> Shape {
    let codes: Vec<String> = Currency::all_tender().map(|currency| currency.to_string()).collect();
    of(Type::String)
        .enum_values(Some(codes))
        .description(Some("ISO 4217, what one can pay with"))
        .examples(["USD"])
        .into()
}

pub fn country() -> Shape {
    let codes: Vec<String> = Country::all_listed().map(|country| country.to_string()).collect();
    let about = "ISO 3166-1 alpha-2. It decides which other fields an address must have";
    of(Type::String).enum_values(Some(codes)).description(Some(about)).examples(["US"]).into()
}

/// A part of an address that may be left out. Blank is the same.
fn part_of(chars_max: usize, about: &str, example: &str) -> Shape {
    let text = of(Type::String).max_length(Some(chars_max)).pattern(Some(LINE_OR_BLANK));
    or_null(text.description(Some(about)).examples([example]))
}

pub fn company_or_null() -> Shape {
    part_of(NAME_CHARS_MAX, "Company, or care of", "Analytical Engines Ltd")
}

pub fn street() -> Shape {
    line_of(NAME_CHARS_MAX).description(Some("Street and number")).examples(["1 Main Street"]).into()
}

pub fn second_line_or_null() -> Shape {
    part_of(NAME_CHARS_MAX, "Flat, floor, building", "Flat 2")
}

pub fn city_or_null() -> Shape {
    part_of(NAME_CHARS_MAX, "City or town; most countries require it", "Springfield")
}

pub fn region_or_null() -> Shape {
    part_of(NAME_CHARS_MAX, "State, province, prefecture; some countries require it", "IL")
}

pub fn postal_code_or_null() -> Shape {
    part_of(POSTAL_CODE_CHARS_MAX, "Postal code; many countries require it", "62701")
}

pub fn phone_or_null() -> Shape {
    part_of(PHONE_CHARS_MAX, "Telephone, for the carrier", "+1 217 555 0100")
}

pub fn price() -> Shape {
    Ref::from_schema_name("Price").into()
}

pub fn price_or_null() -> Shape {
    component_or_null("Price")
}

pub fn web_address() -> Shape {
    let text = of(Type::String).max_length(Some(URL_CHARS_MAX)).pattern(Some(WEB_ADDRESS));
    let text =
        text.description(Some("Absolute, `http` or `https`, without a user name; comes back in its normal form"));
    text.examples(["https://example.com/jacket.jpg"]).into()
}

pub fn alt_or_null() -> Shape {
    let text = of(Type::String)
        .max_length(Some(ATTRIBUTE_TEXT_CHARS_MAX))
        .pattern(Some(LINE_OR_BLANK))
        .examples(["Red, from the front"]);
    or_null(text.description(Some("What it shows")))
}

pub fn images_or_null() -> Shape {
    let items = ArrayBuilder::new().items(Ref::from_schema_name("NewImage"));
    array_or_null(items.max_items(Some(IMAGES_PER_PRODUCT_MAX)).build())
}

/// The attributes of a product. `null` removes one, or leaves it out of a new product.
pub fn attributes_or_null() -> Shape {
    let text = of(Type::String).max_length(Some(ATTRIBUTE_TEXT_CHARS_MAX)).pattern(Some(LINES)).examples(["wool"]);
    let value = AnyOfBuilder::new().item(text).item(of(Type::Number)).item(of(Type::Boolean)).item(of(Type::Null));
    let all = of(Type::Object)
        .property_names(Some(Schema::from(line_of(ATTRIBUTE_NAME_CHARS_MAX).examples(["material"]).build())))
        .additional_properties(Some(AdditionalProperties::RefOr(value.into())))
        .max_properties(Some(2 * ATTRIBUTES_PER_PRODUCT_MAX));
    or_null(
        all.description(Some("At most 32 that are not `null`, of 8 KiB together; numbers of at most 40 characters")),
    )
}

/// The variants of a new product, without ids.
pub fn new_variants_or_null() -> Shape {
    let items = ArrayBuilder::new().items(Ref::from_schema_name("NewProductVariant"));
    array_or_null(items.max_items(Some(VARIANTS_PER_PRODUCT_MAX)).build())
}

/// The variants of a changed product.
pub fn variants_or_null() -> Shape {
    let items = ArrayBuilder::new().items(Ref::from_schema_name("ProductVariantChange"));
    array_or_null(items.max_items(Some(VARIANTS_PER_PRODUCT_MAX)).build())
}

/// The variants of a new drop.
pub fn sold_variants_or_null() -> Shape {
    let items = ArrayBuilder::new().items(Ref::from_schema_name("NewDropVariant"));
    array_or_null(items.min_items(Some(1)).max_items(Some(VARIANTS_PER_DROP_MAX)).build())
}
