//! The projection's bulk writes: many rows in one statement.
//!
//! Statements are prepared once and kept, so they come in a few lengths only ([`lengths`]).

use super::query;
use crate::domain::{OrderStatus, OrderView};
use crate::storage::projection::fold::{DropImage, NewOrder, OrderImage, OrderNotification, VariantImage};
use crate::storage::rows::{fingerprint_bits, json_text, key_bits, key_text, tag_of};
use crate::storage::sql::Value;
use crate::storage::{OrderNote, PaymentNote};
use sqlx::{AssertSqlSafe, Result, SqliteConnection};
use uuid::Uuid;

/// Rows of one statement, the longest first. The widest has 23 values a row, and SQLite binds up to 32,766 values.
const LENGTHS: [usize; 5] = [512, 128, 32, 8, 1];

/// Splits a slice into pieces of [`LENGTHS`].
pub(super) fn lengths<T>(mut rest: &[T]) -> impl Iterator<Item = &[T]> {
    std::iter::from_fn(move || {
        let length = LENGTHS.into_iter().find(|&length| length <= rest.len())?;
        let (piece, after) = rest.split_at(length);
        rest = after;
        Some(piece)
    })
}

/// One row of a `VALUES` list, such as `(?,?,?)`.
pub(super) fn placeholders(count: usize) -> String {
    format!("({})", vec!["?"; count].join(","))
}

/// A `VALUES` list of `count` rows, such as `(?,?),(?,?)`.
pub(super) fn tuples(width: usize, count: usize) -> String {
    vec![placeholders(width); count].join(",")
}

/// Runs a statement over all rows: `head`, the rows as a `VALUES` list, `tail`.
async fn bulk<R, V: IntoIterator<Item = Value>>(
    connection: &mut SqliteConnection,
    head: &'static str,
    tail: &'static str,
    rows: &[R],
    values: impl Fn(&R) -> V,
) -> Result<()> {
    let Some(width) = rows.first().map(|row| values(row).into_iter().count()) else { return Ok(()) };
    for rows in lengths(rows) {
        let list = tuples(width, rows.len());
        let sql = AssertSqlSafe(format!("{head} VALUES {list}{tail}"));
        query(sql, rows.iter().flat_map(&values)).execute(&mut *connection).await?;
    }
    Ok(())
}

/// Packs a row's ids (16 bytes each) and texts into one value: binding a value takes three allocations, here and in
/// SQLite.
fn packed<const IDS: usize, const TEXTS: usize>(ids: [Uuid; IDS], texts: [&str; TEXTS]) -> Value {
    let ids = ids.map(Uuid::into_bytes);
    let mut bytes = Vec::with_capacity(16 * IDS + texts.map(str::len).iter().sum::<usize>());
    bytes.extend_from_slice(ids.as_flattened());
    texts.iter().for_each(|text| bytes.extend_from_slice(text.as_bytes()));
    Value::Bytes(bytes)
}

fn int(value: impl Into<i64>) -> Value {
    Value::Int(Some(value.into()))
}

fn ordinal(index: usize) -> Value {
    Value::Int(i64::try_from(index).ok())
}

fn maybe_text(value: Option<&str>) -> Value {
    Value::Text(value.map(str::to_owned))
}

pub(super) async fn insert_drops(connection: &mut SqliteConnection, drops: &[&DropImage]) -> Result<()> {
    let head = "INSERT INTO drops (id, creator_id, product_id, title, per_buyer_limit, low_stock_threshold, hold_ms, \
                starts_at, ends_at, created_at, status, started_at, ended_at, last_event_at, obligations, settled, shipping)";
    bulk(connection, head, "", drops, |drop| {
        let (row, spec) = (&drop.row, &drop.row.spec);
        [
            spec.id.0.into(),
            spec.creator_id.0.into(),
            spec.product_id.0.into(),
            spec.title.as_str().into(),
            spec.per_buyer_limit.into(),
            spec.low_stock_threshold.into(),
            spec.hold_ms.into(),
            spec.starts_at.into(),
            spec.ends_at.into(),
            spec.created_at.into(),
            row.status.as_str().into(),
            row.started_at.into(),
            row.ended_at.into(),
            row.last_event_at.into(),
            drop.obligations.into(),
            int(drop.is_settled()),
            json_text(spec.shipping.as_ref()).into(),
        ]
    })
    .await?;
    let head = "INSERT INTO drop_variants (drop_id, ordinal, id, name, stock, price_amount, price_currency, total, \
                available, held, sold, low)";
    let variants: Vec<_> = drops.iter().flat_map(|drop| drop.variants()).collect();
    bulk(connection, head, "", &variants, |(drop, index, spec, row)| {
        [
            drop.0.into(),
            ordinal(*index),
            spec.id.0.into(),
            spec.name.as_str().into(),
            spec.stock.into(),
            spec.price.amount.into(),
            spec.price.currency.as_str().into(),
            row.stock.total.into(),
            row.stock.available.into(),
            row.stock.held.into(),
            row.stock.sold.into(),
            int(row.low),
        ]
    })
    .await
}

pub(super) async fn update_drops(connection: &mut SqliteConnection, drops: &[&DropImage]) -> Result<()> {
    let head = "WITH new (id, status, starts_at, ends_at, started_at, ended_at, last_event_at, obligations, settled) \
                AS (";
    let tail = ") UPDATE drops SET status = new.status, starts_at = new.starts_at, ends_at = new.ends_at, \
                started_at = new.started_at, ended_at = new.ended_at, last_event_at = new.last_event_at, obligations = new.obligations, settled = new.settled \
                FROM new WHERE drops.id = new.id";
    bulk(connection, head, tail, drops, |drop| {
        let row = &drop.row;
        [
            row.spec.id.0.into(),
            row.status.as_str().into(),
            row.spec.starts_at.into(),
            row.spec.ends_at.into(),
            row.started_at.into(),
            row.ended_at.into(),
            row.last_event_at.into(),
            drop.obligations.into(),
            int(drop.is_settled()),
        ]
    })
    .await
}

pub(super) async fn update_variants(connection: &mut SqliteConnection, variants: &[VariantImage]) -> Result<()> {
    let head = "WITH new (drop_id, ordinal, total, available, held, sold, low) AS (";
    let tail = ") UPDATE drop_variants SET total = new.total, available = new.available, held = new.held, \
                sold = new.sold, low = new.low \
                FROM new WHERE drop_variants.drop_id = new.drop_id AND drop_variants.ordinal = new.ordinal";
    bulk(connection, head, tail, variants, |variant| {
        [
            variant.drop.0.into(),
            ordinal(variant.ordinal),
            variant.stock.total.into(),
            variant.stock.available.into(),
            variant.stock.held.into(),
            variant.stock.sold.into(),
            int(variant.low),
        ]
    })
    .await
}

/// The statement before and after the list of new orders. `changing`: the changing columns, each after a comma; they
/// have their defaults while an order is held and no payment has begun.
macro_rules! orders_from {
    ($changing:literal) => {
        (
            concat!(
                "WITH new (packed, drop_tag, era, quantity, price_amount, key_bits, fingerprint, created_at, expires_at",
                $changing,
                ") AS ("
            ),
            concat!(
                ") INSERT INTO orders (id, drop_id, variant_id, buyer_id, price_currency, key, drop_tag, era, quantity, \
                 price_amount, key_bits, fingerprint, created_at, expires_at",
                $changing,
                ") SELECT substr(packed, 1, 16), substr(packed, 17, 16), substr(packed, 33, 16), substr(packed, 49, 16), \
                 CAST(substr(packed, 65, 3) AS TEXT), CAST(substr(packed, 68) AS TEXT), drop_tag, era, quantity, price_amount, \
                 key_bits, fingerprint, created_at, expires_at",
                $changing,
                " FROM new"
            ),
        )
    };
}

fn lasting(generation: i64, order: &NewOrder) -> [Value; 9] {
    let view = &order.view;
    [
        packed(
            [view.id.0, view.drop_id.0, view.variant_id.0, view.buyer.0],
            [view.unit_price.currency.as_str(), &key_text(order.digest)],
        ),
        tag_of(view.id).into(),
        generation.into(),
        view.quantity.into(),
        view.unit_price.amount.into(),
        key_bits(order.digest).into(),
        fingerprint_bits(view.fingerprint).into(),
        view.created_at.into(),
        view.expires_at.into(),
    ]
}

/// The changing columns of an order's row.
fn changing(view: &OrderView) -> [Value; 13] {
    let facts = view.kept_payment();
    let provider = facts.and_then(|facts| facts.provider);
    [
        view.status.as_str().into(),
        maybe_text(view.release_reason.map(|reason| reason.as_str())),
        view.confirmed_at.into(),
        view.released_at.into(),
        view.refunded_at.into(),
        maybe_text(view.payment_ref.as_deref()),
        maybe_text(view.payment_pending.as_deref()),
        maybe_text(view.refund_due.map(|cause| cause.as_str())),
        Value::Id(view.failed_trace.map(|trace| trace.0)),
        maybe_text(provider.map(|provider| provider.as_str())),
        Value::Int(facts.map(|facts| facts.attempts.into())),
        Value::Int(facts.map(|facts| facts.capture_due.into())),
        maybe_text(facts.and_then(|facts| facts.declined).map(|reason| reason.as_str())),
    ]
}

pub(super) async fn insert_orders(
    connection: &mut SqliteConnection,
    generation: i64,
    orders: &[NewOrder],
) -> Result<()> {
    // A held order that nobody tried to pay, and that is not sent, has only the columns that it was placed with.
    let (held, gone_on): (Vec<&NewOrder>, Vec<&NewOrder>) = orders.iter().partition(|NewOrder { view, .. }| {
        view.status == OrderStatus::Reserved && view.payment.attempts == 0 && view.delivery.is_none()
    });
    let (head, tail) = orders_from!("");
    bulk(connection, head, tail, &held, |order| lasting(generation, order)).await?;
    let (head, tail) = orders_from!(
        ", status, release_reason, confirmed_at, released_at, refunded_at, payment_ref, payment_pending, refund_due, \
         failed_trace, payment_provider, payment_attempts, capture_due, payment_declined, delivery"
    );
    bulk(connection, head, tail, &gone_on, |order| {
        let delivery = json_text(order.view.delivery.as_ref()).into();
        lasting(generation, order).into_iter().chain(changing(&order.view)).chain([delivery])
    })
    .await
}

pub(super) async fn update_orders(connection: &mut SqliteConnection, orders: &[OrderImage]) -> Result<()> {
    let head = "WITH new (drop_tag, id, status, release_reason, confirmed_at, released_at, refunded_at, payment_ref, \
                payment_pending, refund_due, failed_trace, payment_provider, payment_attempts, capture_due, \
                payment_declined, expires_at) AS (";
    // `OR FAIL`: a violated constraint ends the whole transaction, so the statement need not be able to undo itself
    // alone (https://www.sqlite.org/lang_conflict.html).
    let tail = ") UPDATE OR FAIL orders SET status = new.status, release_reason = new.release_reason, \
                confirmed_at = new.confirmed_at, released_at = new.released_at, refunded_at = new.refunded_at, \
                payment_ref = new.payment_ref, payment_pending = new.payment_pending, refund_due = new.refund_due, \
                failed_trace = new.failed_trace, payment_provider = new.payment_provider, \
                payment_attempts = new.payment_attempts, capture_due = new.capture_due, \
                payment_declined = new.payment_declined, expires_at = new.expires_at FROM new \
                WHERE orders.drop_tag = new.drop_tag AND orders.id = new.id";
    bulk(connection, head, tail, orders, |order| {
        let expires_at = [order.expires_at.into()];
        [tag_of(order.id).into(), order.id.0.into()].into_iter().chain(changing(order)).chain(expires_at)
    })
    .await
}

pub(super) async fn insert_notes(connection: &mut SqliteConnection, notes: &[OrderNote]) -> Result<()> {
    let head = "INSERT INTO order_notes (order_id, sequence, kind, at, reason)";
    bulk(connection, head, "", notes, |note| {
        [
            note.order.0.into(),
            int(note.sequence.cast_signed()),
            note.kind.as_str().into(),
            note.at.into(),
            note.reason.as_str().into(),
        ]
    })
    .await
}

pub(super) async fn insert_payment_notes(connection: &mut SqliteConnection, notes: &[PaymentNote]) -> Result<()> {
    let head = "INSERT INTO payment_notes (order_id, sequence, attempt, provider, step, at, reference, detail)";
    bulk(connection, head, "", notes, |note| {
        [
            note.order.0.into(),
            int(note.sequence.cast_signed()),
            note.attempt.into(),
            note.provider.as_str().into(),
            note.step.as_str().into(),
            note.at.into(),
            maybe_text(note.reference.as_deref()),
            maybe_text(note.detail.as_deref()),
        ]
    })
    .await
}

pub(super) async fn insert_order_news(
    connection: &mut SqliteConnection,
    journal: Uuid,
    generation: i64,
    notifications: &[OrderNotification],
) -> Result<()> {
    let head = "WITH new (packed, era, sequence, at, quantity, reason) AS (";
    // `WHERE true`: otherwise `ON` would begin a join's condition (https://www.sqlite.org/lang_upsert.html, section
    // 2.2).
    let tail = ") INSERT INTO inbox (user_id, journal_id, drop_id, order_id, variant_id, kind, era, sequence, at, quantity, reason) \
                SELECT substr(packed, 1, 16), substr(packed, 17, 16), substr(packed, 33, 16), substr(packed, 49, 16), \
                substr(packed, 65, 16), CAST(substr(packed, 81) AS TEXT), era, sequence, at, quantity, reason FROM new WHERE true ON CONFLICT DO NOTHING";
    bulk(connection, head, tail, notifications, |notifications| {
        let line = &notifications.line;
        [
            packed([line.buyer.0, journal, notifications.drop.0, line.order.0, line.variant.0], [notifications.kind]),
            generation.into(),
            notifications.sequence.into(),
            notifications.at.into(),
            line.quantity.into(),
            maybe_text(notifications.reason),
        ]
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_is_cut_into_few_lengths() {
        let rows: Vec<usize> = (0..810).collect();
        let pieces: Vec<&[usize]> = lengths(&rows).collect();
        assert_eq!(pieces.concat(), rows);
        let sizes: Vec<usize> = pieces.iter().map(|piece| piece.len()).collect();
        assert_eq!(sizes, [512, 128, 128, 32, 8, 1, 1]);
        assert_eq!(placeholders(3), "(?,?,?)");
    }
}
