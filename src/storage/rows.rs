//! Rows to domain types.

use super::sql::Columns;
use super::{
    AuditRow, Concern, Creator, DropRow, EntryId, InboxEntry, OrderNote, PaymentNote, Product, ProductSummary,
    RefreshToken, StoreError, User, VariantRow,
};
use crate::domain::{
    CreatorId, DeclineReason, DropId, DropSpec, DropStatus, Fingerprint, FulfilmentStatus, KeyDigest, Money, OrderId,
    OrderStatus, OrderView, PaymentFacts, PaymentProvider, PaymentStep, ProductId, ProductStatus, RefundCause,
    ReleaseReason, StockCounts, Timestamp, TraceId, UserId, VariantId, VariantSpec,
};
use crate::storage::projection::fold::DropImage;
use serde::Serialize;
use serde::de::DeserializeOwned;

fn corrupt(column: &str, value: impl std::fmt::Display) -> StoreError {
    StoreError::Corrupt(format!("column {column} holds {value}"))
}

pub(super) fn time<R: Columns>(row: &R, column: &'static str) -> Result<Timestamp, StoreError> {
    row.int(column).map(Timestamp::from_millis)
}

fn maybe_time<R: Columns>(row: &R, column: &'static str) -> Result<Option<Timestamp>, StoreError> {
    Ok(row.maybe_int(column)?.map(Timestamp::from_millis))
}

pub(super) fn count<R: Columns>(row: &R, column: &'static str) -> Result<u32, StoreError> {
    let value = row.int(column)?;
    u32::try_from(value).map_err(|_| corrupt(column, value))
}

/// Parses a column with the name of an enum's value.
fn named<R: Columns, T>(row: &R, column: &'static str, parse: impl Fn(&str) -> Option<T>) -> Result<T, StoreError> {
    let text = row.text(column)?;
    parse(&text).ok_or_else(|| corrupt(column, text))
}

fn maybe_named<R: Columns, T>(
    row: &R,
    column: &'static str,
    parse: fn(&str) -> Option<T>,
) -> Result<Option<T>, StoreError> {
    row.maybe_text(column)?.map(|text| parse(&text).ok_or_else(|| corrupt(column, text))).transpose()
}

/// Parses a JSON column.
fn json<R: Columns, T: DeserializeOwned>(row: &R, column: &'static str) -> Result<T, StoreError> {
    let text = row.text(column)?;
    serde_json::from_str(&text).map_err(|error| StoreError::Corrupt(format!("column {column}: {error}")))
}

fn maybe_json<R: Columns, T: DeserializeOwned>(row: &R, column: &'static str) -> Result<Option<T>, StoreError> {
    let parsed = row.maybe_text(column)?.map(|text| serde_json::from_str(&text));
    parsed.transpose().map_err(|error| StoreError::Corrupt(format!("column {column}: {error}")))
}

/// A value for a JSON column.
pub(super) fn json_text(value: Option<&impl Serialize>) -> Option<String> {
    value.map(|value| serde_json::to_string(value).expect("plain fields"))
}

fn price<R: Columns>(row: &R) -> Result<Money, StoreError> {
    let currency = named(row, "price_currency", |text| text.parse().ok())?;
    Ok(Money { amount: row.int("price_amount")?, currency })
}

/// An order's tag as the signed number of its column.
pub(super) fn tag_of(order: OrderId) -> i32 {
    order.drop_tag().cast_signed()
}

/// The bits of a key's digest in an order's row: enough to exclude most other keys.
pub(super) fn key_bits(digest: KeyDigest) -> i32 {
    let [a, b, c, d, ..] = *digest.0.as_bytes();
    i32::from_be_bytes([a, b, c, d])
}

/// A fingerprint as a signed number, which SQL can store.
pub(super) fn fingerprint_bits(fingerprint: Fingerprint) -> i64 {
    fingerprint.0.cast_signed()
}

pub(super) fn user<R: Columns>(row: &R) -> Result<User, StoreError> {
    Ok(User {
        id: UserId(row.id("id")?),
        email: row.text("email")?,
        email_key: row.maybe_text("email_key")?,
        display_name: row.text("display_name")?,
        password_hash: row.text("password_hash")?,
        role: row.text("role")?,
        created_at: time(row, "created_at")?,
        private_follows: row.int("private_follows")? != 0,
        token_version: count(row, "token_version")?,
    })
}

/// How far an order is on its way.
pub(super) fn fulfilment<R: Columns>(row: &R) -> Result<FulfilmentStatus, StoreError> {
    named(row, "fulfilment", FulfilmentStatus::parse)
}

pub(super) fn order_note<R: Columns>(row: &R) -> Result<OrderNote, StoreError> {
    let sequence = row.int("sequence")?;
    Ok(OrderNote {
        order: OrderId(row.id("order_id")?),
        sequence: u64::try_from(sequence).map_err(|_| corrupt("sequence", sequence))?,
        kind: row.text("kind")?,
        at: time(row, "at")?,
        reason: row.text("reason")?,
    })
}

pub(super) fn audit<R: Columns>(row: &R) -> Result<AuditRow, StoreError> {
    Ok(AuditRow {
        id: row.id("id")?,
        at: time(row, "at")?,
        actor: row.maybe_id("actor_id")?.map(UserId),
        role: row.text("actor_role")?,
        origin: row.text("origin")?,
        act: row.text("act")?,
        object_kind: row.text("object_kind")?,
        object: row.maybe_id("object_id")?,
        detail: row.text("detail")?,
        trace: TraceId(row.id("trace")?),
    })
}

pub(super) fn refresh_token<R: Columns>(row: &R) -> Result<RefreshToken, StoreError> {
    let hash = row.bytes("hash")?;
    Ok(RefreshToken {
        hash: hash.try_into().map_err(|_| corrupt("hash", "a number of bytes other than 32"))?,
        family: row.id("family")?,
        user_id: UserId(row.id("user_id")?),
        created_at: time(row, "created_at")?,
        expires_at: time(row, "expires_at")?,
        used_at: maybe_time(row, "used_at")?,
        revoked_at: maybe_time(row, "revoked_at")?,
    })
}

pub(super) fn creator<R: Columns>(row: &R) -> Result<Creator, StoreError> {
    Ok(Creator {
        id: CreatorId(row.id("id")?),
        handle: row.text("handle")?,
        display_name: row.text("display_name")?,
        bio: row.text("bio")?,
        follower_count: row.int("follower_count")?,
        created_at: time(row, "created_at")?,
    })
}

pub(super) fn product<R: Columns>(row: &R) -> Result<Product, StoreError> {
    Ok(Product {
        id: ProductId(row.id("id")?),
        creator_id: CreatorId(row.id("creator_id")?),
        name: row.text("name")?,
        description: row.text("description")?,
        price: price(row)?,
        images: json(row, "images")?,
        attributes: json(row, "attributes")?,
        variants: json(row, "variants")?,
        shipped: row.int("shipped")? != 0,
        status: named(row, "status", ProductStatus::parse)?,
        created_at: time(row, "created_at")?,
        updated_at: time(row, "updated_at")?,
        version: count(row, "version")?,
    })
}

pub(super) fn product_summary<R: Columns>(row: &R) -> Result<ProductSummary, StoreError> {
    let image = row.maybe_text("image")?.map(|text| serde_json::from_str(&text));
    Ok(ProductSummary {
        id: ProductId(row.id("id")?),
        creator_id: CreatorId(row.id("creator_id")?),
        name: row.text("name")?,
        price: price(row)?,
        image: image.transpose().map_err(|error| StoreError::Corrupt(format!("column image: {error}")))?,
        status: named(row, "status", ProductStatus::parse)?,
        created_at: time(row, "created_at")?,
        updated_at: time(row, "updated_at")?,
    })
}

/// The columns that [`drops`] reads, of drops `d` with their variants `v`.
macro_rules! drop_columns {
    () => {
        "d.id, d.creator_id, d.product_id, d.title, d.per_buyer_limit, d.low_stock_threshold, d.hold_ms, \
         d.starts_at, d.ends_at, d.created_at, d.status, d.started_at, d.ended_at, d.last_event_at, d.obligations, d.shipping, \
         v.id AS variant_id, v.name, v.stock, v.price_amount, v.price_currency, v.total, v.available, v.held, \
         v.sold, v.low"
    };
}
pub(super) use drop_columns;

/// Drops, from rows of drops joined with their variants, with consecutive rows of a drop in the spec's order. One
/// statement reads both, so they are consistent.
pub(super) fn drops<R: Columns>(rows: &[R]) -> Result<Vec<DropImage>, StoreError> {
    let mut drops: Vec<(DropRow, u32)> = Vec::new();
    for row in rows {
        let id = DropId(row.id("id")?);
        if drops.last().is_none_or(|(drop, _)| drop.spec.id != id) {
            drops.push((drop_alone(row, id)?, count(row, "obligations")?));
        }
        // A drop without any variant still has a row, with nulls.
        if let (Some(variant), Some((drop, _))) = (row.maybe_id("variant_id")?, drops.last_mut()) {
            add_variant(drop, row, VariantId(variant))?;
        }
    }
    Ok(drops.into_iter().map(|(row, obligations)| DropImage::stored(row, obligations)).collect())
}

fn drop_alone<R: Columns>(row: &R, id: DropId) -> Result<DropRow, StoreError> {
    Ok(DropRow {
        spec: DropSpec {
            id,
            creator_id: CreatorId(row.id("creator_id")?),
            product_id: ProductId(row.id("product_id")?),
            title: row.text("title")?,
            variants: Vec::new(),
            per_buyer_limit: count(row, "per_buyer_limit")?,
            low_stock_threshold: count(row, "low_stock_threshold")?,
            hold_ms: count(row, "hold_ms")?,
            starts_at: time(row, "starts_at")?,
            ends_at: maybe_time(row, "ends_at")?,
            created_at: time(row, "created_at")?,
            shipping: maybe_json(row, "shipping")?,
        },
        status: named(row, "status", DropStatus::parse)?,
        started_at: maybe_time(row, "started_at")?,
        ended_at: maybe_time(row, "ended_at")?,
        last_event_at: time(row, "last_event_at")?,
        variants: Vec::new(),
    })
}

fn add_variant<R: Columns>(drop: &mut DropRow, row: &R, id: VariantId) -> Result<(), StoreError> {
    let stock = StockCounts {
        total: count(row, "total")?,
        available: count(row, "available")?,
        held: count(row, "held")?,
        sold: count(row, "sold")?,
    };
    let spec = VariantSpec { id, name: row.text("name")?, stock: count(row, "stock")?, price: price(row)? };
    drop.spec.variants.push(spec);
    drop.variants.push(VariantRow { id, stock, low: row.flag("low")? });
    Ok(())
}

/// The first character of an order's column `key` if it holds a digest.
const DIGEST: char = '#';

/// The text of an order's column `key`. A key may identify a person, so its text is not stored.
pub(super) fn key_text(digest: KeyDigest) -> String {
    format!("{DIGEST}{}", digest.0.simple())
}

/// Whether a row has the text of its key, as old rows do.
pub(super) fn has_plain_key<R: Columns>(row: &R) -> Result<bool, StoreError> {
    Ok(!row.text("key")?.starts_with(DIGEST))
}

fn order_digest<R: Columns>(row: &R) -> Result<KeyDigest, StoreError> {
    let text = row.text("key")?;
    let digest = text.strip_prefix(DIGEST).and_then(|hex| uuid::Uuid::try_parse(hex).ok());
    Ok(digest.map_or(KeyDigest::of(UserId(row.id("buyer_id")?), &text), KeyDigest))
}

pub(super) fn order<R: Columns>(row: &R) -> Result<OrderView, StoreError> {
    let mut order = order_without_facts(row)?;
    order.payment = match maybe_named(row, "payment_provider", PaymentProvider::parse)? {
        Some(provider) => PaymentFacts {
            provider: Some(provider),
            attempts: count(row, "payment_attempts")?,
            capture_due: row.flag("capture_due")?,
            declined: maybe_named(row, "payment_declined", DeclineReason::parse)?,
        },
        None => PaymentFacts::assumed(order.was_tried()),
    };
    Ok(order)
}

fn order_without_facts<R: Columns>(row: &R) -> Result<OrderView, StoreError> {
    Ok(OrderView {
        id: OrderId(row.id("id")?),
        drop_id: DropId(row.id("drop_id")?),
        variant_id: VariantId(row.id("variant_id")?),
        buyer: UserId(row.id("buyer_id")?),
        quantity: count(row, "quantity")?,
        unit_price: price(row)?,
        status: named(row, "status", OrderStatus::parse)?,
        release_reason: maybe_named(row, "release_reason", ReleaseReason::parse)?,
        digest: order_digest(row)?,
        fingerprint: Fingerprint(row.int("fingerprint")?.cast_unsigned()),
        created_at: time(row, "created_at")?,
        expires_at: time(row, "expires_at")?,
        confirmed_at: maybe_time(row, "confirmed_at")?,
        released_at: maybe_time(row, "released_at")?,
        refunded_at: maybe_time(row, "refunded_at")?,
        payment_ref: row.maybe_text("payment_ref")?,
        payment_pending: row.maybe_text("payment_pending")?,
        refund_due: maybe_named(row, "refund_due", RefundCause::parse)?,
        failed_trace: row.maybe_id("failed_trace")?.map(TraceId),
        payment: PaymentFacts::default(),
        delivery: maybe_json(row, "delivery")?,
    })
}

pub(super) fn payment_note<R: Columns>(row: &R) -> Result<PaymentNote, StoreError> {
    Ok(PaymentNote {
        order: OrderId(row.id("order_id")?),
        sequence: row.int("sequence")?.cast_unsigned(),
        attempt: count(row, "attempt")?,
        provider: named(row, "provider", PaymentProvider::parse)?,
        step: named(row, "step", PaymentStep::parse)?,
        at: time(row, "at")?,
        reference: row.maybe_text("reference")?,
        detail: row.maybe_text("detail")?,
    })
}

pub(super) fn inbox_entry<R: Columns>(row: &R) -> Result<InboxEntry, StoreError> {
    let sequence = row.int("sequence")?;
    let concern = match row.maybe_id("creator_id")? {
        Some(creator) => Concern::Follower(CreatorId(creator)),
        None => Concern::Buyer {
            order: OrderId(row.id("order_id")?),
            variant: VariantId(row.id("variant_id")?),
            quantity: count(row, "quantity")?,
            reason: row.maybe_text("reason")?,
        },
    };
    Ok(InboxEntry {
        id: EntryId { journal: row.id("journal_id")?, sequence: sequence.cast_unsigned() },
        kind: row.text("kind")?,
        at: time(row, "at")?,
        drop: DropId(row.id("drop_id")?),
        title: row.text("title")?,
        starts_at: time(row, "starts_at")?,
        concern,
        read_at: maybe_time(row, "read_at")?,
    })
}
