//! The projection's bulk writes: one statement a table, with one array a column.
//!
//! `UNNEST` fills arrays of unequal length with nulls, so the columns of a table are always made from the same slice.

use super::text;
use crate::domain::{OrderView, Timestamp, TraceId};
use crate::storage::projection::fold::{DropImage, NewOrder, OrderImage, OrderNotification, VariantImage};
use crate::storage::rows::{fingerprint_bits, json_text, key_bits, key_text, tag_of};
use crate::storage::{OrderNote, PaymentNote};
use sqlx::{PgConnection, Result};
use uuid::Uuid;

/// One column of a slice of rows.
fn column<R, T>(rows: &[R], value: impl Fn(&R) -> T) -> Vec<T> {
    rows.iter().map(value).collect()
}

fn time(at: Option<Timestamp>) -> Option<i64> {
    at.map(Timestamp::as_millis)
}

fn maybe(value: Option<&String>) -> Option<String> {
    value.map(|value| text(value))
}

fn ordinal(index: usize) -> i64 {
    i64::try_from(index).unwrap_or(i64::MAX)
}

pub(super) async fn insert_drops(connection: &mut PgConnection, drops: &[&DropImage]) -> Result<()> {
    let sql = "INSERT INTO drops (id, creator_id, product_id, title, per_buyer_limit, low_stock_threshold, hold_ms, \
               starts_at, ends_at, created_at, status, started_at, ended_at, last_event_at, obligations, settled, shipping) \
               SELECT * FROM UNNEST($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::bigint[], $6::bigint[], \
               $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[], $11::text[], $12::bigint[], $13::bigint[], \
               $14::bigint[], $15::bigint[], $16::boolean[], $17::text[])";
    sqlx::query(sql)
        .bind(column(drops, |drop| drop.row.spec.id.0))
        .bind(column(drops, |drop| drop.row.spec.creator_id.0))
        .bind(column(drops, |drop| drop.row.spec.product_id.0))
        .bind(column(drops, |drop| text(&drop.row.spec.title)))
        .bind(column(drops, |drop| i64::from(drop.row.spec.per_buyer_limit)))
        .bind(column(drops, |drop| i64::from(drop.row.spec.low_stock_threshold)))
        .bind(column(drops, |drop| i64::from(drop.row.spec.hold_ms)))
        .bind(column(drops, |drop| drop.row.spec.starts_at.as_millis()))
        .bind(column(drops, |drop| time(drop.row.spec.ends_at)))
        .bind(column(drops, |drop| drop.row.spec.created_at.as_millis()))
        .bind(column(drops, |drop| drop.row.status.as_str()))
        .bind(column(drops, |drop| time(drop.row.started_at)))
        .bind(column(drops, |drop| time(drop.row.ended_at)))
        .bind(column(drops, |drop| drop.row.last_event_at.as_millis()))
        .bind(column(drops, |drop| i64::from(drop.obligations)))
        .bind(column(drops, |drop| drop.is_settled()))
        .bind(column(drops, |drop| json_text(drop.row.spec.shipping.as_ref())))
        .execute(&mut *connection)
        .await?;
    insert_variants(connection, drops).await
}

async fn insert_variants(connection: &mut PgConnection, drops: &[&DropImage]) -> Result<()> {
    let sql = "INSERT INTO drop_variants (drop_id, ordinal, id, name, stock, price_amount, price_currency, total, \
               available, held, sold, low) \
               SELECT * FROM UNNEST($1::uuid[], $2::bigint[], $3::uuid[], $4::text[], $5::bigint[], $6::bigint[], \
               $7::text[], $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[], $12::boolean[])";
    let variants: Vec<_> = drops.iter().flat_map(|drop| drop.variants()).collect();
    sqlx::query(sql)
        .bind(column(&variants, |(drop, ..)| drop.0))
        .bind(column(&variants, |(_, index, ..)| ordinal(*index)))
        .bind(column(&variants, |(.., spec, _)| spec.id.0))
        .bind(column(&variants, |(.., spec, _)| text(&spec.name)))
        .bind(column(&variants, |(.., spec, _)| i64::from(spec.stock)))
        .bind(column(&variants, |(.., spec, _)| spec.price.amount))
        .bind(column(&variants, |(.., spec, _)| spec.price.currency.as_str().to_owned()))
        .bind(column(&variants, |(.., row)| i64::from(row.stock.total)))
        .bind(column(&variants, |(.., row)| i64::from(row.stock.available)))
        .bind(column(&variants, |(.., row)| i64::from(row.stock.held)))
        .bind(column(&variants, |(.., row)| i64::from(row.stock.sold)))
        .bind(column(&variants, |(.., row)| row.low))
        .execute(connection)
        .await
        .map(|_| ())
}

pub(super) async fn update_drops(connection: &mut PgConnection, drops: &[&DropImage]) -> Result<()> {
    let sql = "UPDATE drops SET status = new.status, starts_at = new.starts_at, ends_at = new.ends_at, \
               started_at = new.started_at, ended_at = new.ended_at, last_event_at = new.last_event_at, \
               obligations = new.obligations, settled = new.settled \
               FROM UNNEST($1::uuid[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], \
               $7::bigint[], $8::bigint[], $9::boolean[]) \
               AS new (id, status, starts_at, ends_at, started_at, ended_at, last_event_at, obligations, settled) \
               WHERE drops.id = new.id";
    sqlx::query(sql)
        .bind(column(drops, |drop| drop.row.spec.id.0))
        .bind(column(drops, |drop| drop.row.status.as_str()))
        .bind(column(drops, |drop| drop.row.spec.starts_at.as_millis()))
        .bind(column(drops, |drop| time(drop.row.spec.ends_at)))
        .bind(column(drops, |drop| time(drop.row.started_at)))
        .bind(column(drops, |drop| time(drop.row.ended_at)))
        .bind(column(drops, |drop| drop.row.last_event_at.as_millis()))
        .bind(column(drops, |drop| i64::from(drop.obligations)))
        .bind(column(drops, |drop| drop.is_settled()))
        .execute(connection)
        .await
        .map(|_| ())
}

pub(super) async fn update_variants(connection: &mut PgConnection, variants: &[VariantImage]) -> Result<()> {
    let sql = "UPDATE drop_variants SET total = new.total, available = new.available, held = new.held, \
               sold = new.sold, low = new.low \
               FROM UNNEST($1::uuid[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], \
               $7::boolean[]) AS new (drop_id, ordinal, total, available, held, sold, low) \
               WHERE drop_variants.drop_id = new.drop_id AND drop_variants.ordinal = new.ordinal";
    sqlx::query(sql)
        .bind(column(variants, |variant| variant.drop.0))
        .bind(column(variants, |variant| ordinal(variant.ordinal)))
        .bind(column(variants, |variant| i64::from(variant.stock.total)))
        .bind(column(variants, |variant| i64::from(variant.stock.available)))
        .bind(column(variants, |variant| i64::from(variant.stock.held)))
        .bind(column(variants, |variant| i64::from(variant.stock.sold)))
        .bind(column(variants, |variant| variant.low))
        .execute(connection)
        .await
        .map(|_| ())
}

fn provider(order: &OrderView) -> Option<&'static str> {
    order.kept_payment().and_then(|facts| facts.provider).map(|provider| provider.as_str())
}

fn attempts(order: &OrderView) -> Option<i64> {
    order.kept_payment().map(|facts| facts.attempts.into())
}

fn capture_due(order: &OrderView) -> Option<bool> {
    order.kept_payment().map(|facts| facts.capture_due)
}

fn declined(order: &OrderView) -> Option<&'static str> {
    order.kept_payment().and_then(|facts| facts.declined).map(|reason| reason.as_str())
}

pub(super) async fn insert_orders(connection: &mut PgConnection, orders: &[NewOrder]) -> Result<()> {
    let sql = "INSERT INTO orders (drop_tag, id, drop_id, variant_id, buyer_id, quantity, price_amount, price_currency, key, \
               key_bits, fingerprint, created_at, expires_at, status, release_reason, confirmed_at, released_at, \
               refunded_at, payment_ref, payment_pending, refund_due, failed_trace, payment_provider, payment_attempts, \
               capture_due, payment_declined, delivery) \
               SELECT * FROM UNNEST($1::integer[], $2::uuid[], $3::uuid[], $4::uuid[], $5::uuid[], $6::bigint[], $7::bigint[], \
               $8::text[], $9::text[], $10::integer[], $11::bigint[], $12::bigint[], $13::bigint[], $14::text[], \
               $15::text[], $16::bigint[], $17::bigint[], $18::bigint[], $19::text[], $20::text[], $21::text[], \
               $22::uuid[], $23::text[], $24::bigint[], $25::boolean[], $26::text[], $27::text[])";
    sqlx::query(sql)
        .bind(column(orders, |order| tag_of(order.view.id)))
        .bind(column(orders, |order| order.view.id.0))
        .bind(column(orders, |order| order.view.drop_id.0))
        .bind(column(orders, |order| order.view.variant_id.0))
        .bind(column(orders, |order| order.view.buyer.0))
        .bind(column(orders, |order| i64::from(order.view.quantity)))
        .bind(column(orders, |order| order.view.unit_price.amount))
        .bind(column(orders, |order| order.view.unit_price.currency.as_str().to_owned()))
        .bind(column(orders, |order| key_text(order.digest)))
        .bind(column(orders, |order| key_bits(order.digest)))
        .bind(column(orders, |order| fingerprint_bits(order.view.fingerprint)))
        .bind(column(orders, |order| order.view.created_at.as_millis()))
        .bind(column(orders, |order| order.view.expires_at.as_millis()))
        .bind(column(orders, |order| order.view.status.as_str()))
        .bind(column(orders, |order| order.view.release_reason.map(|reason| reason.as_str())))
        .bind(column(orders, |order| time(order.view.confirmed_at)))
        .bind(column(orders, |order| time(order.view.released_at)))
        .bind(column(orders, |order| time(order.view.refunded_at)))
        .bind(column(orders, |order| maybe(order.view.payment_ref.as_ref())))
        .bind(column(orders, |order| maybe(order.view.payment_pending.as_ref())))
        .bind(column(orders, |order| order.view.refund_due.map(|cause| cause.as_str())))
        .bind(column(orders, |order| order.view.failed_trace.map(|TraceId(trace)| trace)))
        .bind(column(orders, |order| provider(&order.view)))
        .bind(column(orders, |order| attempts(&order.view)))
        .bind(column(orders, |order| capture_due(&order.view)))
        .bind(column(orders, |order| declined(&order.view)))
        .bind(column(orders, |order| json_text(order.view.delivery.as_ref())))
        .execute(connection)
        .await
        .map(|_| ())
}

pub(super) async fn update_orders(connection: &mut PgConnection, orders: &[OrderImage]) -> Result<()> {
    let sql = "UPDATE orders SET status = new.status, release_reason = new.release_reason, \
               confirmed_at = new.confirmed_at, released_at = new.released_at, refunded_at = new.refunded_at, \
               payment_ref = new.payment_ref, payment_pending = new.payment_pending, refund_due = new.refund_due, \
               failed_trace = new.failed_trace, payment_provider = new.payment_provider, \
               payment_attempts = new.payment_attempts, capture_due = new.capture_due, \
               payment_declined = new.payment_declined, expires_at = new.expires_at \
               FROM UNNEST($1::integer[], $2::uuid[], $3::text[], $4::text[], $5::bigint[], $6::bigint[], $7::bigint[], $8::text[], \
               $9::text[], $10::text[], $11::uuid[], $12::text[], $13::bigint[], $14::boolean[], $15::text[], $16::bigint[]) \
               AS new (drop_tag, id, status, release_reason, confirmed_at, released_at, refunded_at, payment_ref, \
               payment_pending, refund_due, failed_trace, payment_provider, payment_attempts, capture_due, payment_declined, \
               expires_at) \
               WHERE orders.drop_tag = new.drop_tag AND orders.id = new.id";
    sqlx::query(sql)
        .bind(column(orders, |order| tag_of(order.id)))
        .bind(column(orders, |order| order.id.0))
        .bind(column(orders, |order| order.status.as_str()))
        .bind(column(orders, |order| order.release_reason.map(|reason| reason.as_str())))
        .bind(column(orders, |order| time(order.confirmed_at)))
        .bind(column(orders, |order| time(order.released_at)))
        .bind(column(orders, |order| time(order.refunded_at)))
        .bind(column(orders, |order| maybe(order.payment_ref.as_ref())))
        .bind(column(orders, |order| maybe(order.payment_pending.as_ref())))
        .bind(column(orders, |order| order.refund_due.map(|cause| cause.as_str())))
        .bind(column(orders, |order| order.failed_trace.map(|TraceId(trace)| trace)))
        .bind(column(orders, provider))
        .bind(column(orders, attempts))
        .bind(column(orders, capture_due))
        .bind(column(orders, declined))
        .bind(column(orders, |order| order.expires_at.as_millis()))
        .execute(connection)
        .await
        .map(|_| ())
}

pub(super) async fn insert_notes(connection: &mut PgConnection, notes: &[OrderNote]) -> Result<()> {
    let sql = "INSERT INTO order_notes (order_id, sequence, kind, at, reason) \
               SELECT * FROM UNNEST($1::uuid[], $2::bigint[], $3::text[], $4::bigint[], $5::text[])";
    sqlx::query(sql)
        .bind(column(notes, |note| note.order.0))
        .bind(column(notes, |note| note.sequence.cast_signed()))
        .bind(column(notes, |note| note.kind.clone()))
        .bind(column(notes, |note| note.at.as_millis()))
        .bind(column(notes, |note| note.reason.clone()))
        .execute(connection)
        .await
        .map(|_| ())
}

pub(super) async fn insert_payment_notes(connection: &mut PgConnection, notes: &[PaymentNote]) -> Result<()> {
    let sql = "INSERT INTO payment_notes (order_id, sequence, attempt, provider, step, at, reference, detail) \
               SELECT * FROM UNNEST($1::uuid[], $2::bigint[], $3::bigint[], $4::text[], $5::text[], $6::bigint[], \
               $7::text[], $8::text[])";
    sqlx::query(sql)
        .bind(column(notes, |note| note.order.0))
        .bind(column(notes, |note| note.sequence.cast_signed()))
        .bind(column(notes, |note| i64::from(note.attempt)))
        .bind(column(notes, |note| note.provider.as_str()))
        .bind(column(notes, |note| note.step.as_str()))
        .bind(column(notes, |note| note.at.as_millis()))
        .bind(column(notes, |note| maybe(note.reference.as_ref())))
        .bind(column(notes, |note| maybe(note.detail.as_ref())))
        .execute(connection)
        .await
        .map(|_| ())
}

pub(super) async fn insert_order_news(
    connection: &mut PgConnection,
    journal: Uuid,
    notifications: &[OrderNotification],
) -> Result<()> {
    let sql = "INSERT INTO inbox (user_id, journal_id, sequence, kind, at, drop_id, order_id, variant_id, quantity, \
               reason) \
               SELECT user_id, $1, sequence, kind, at, drop_id, order_id, variant_id, quantity, reason \
               FROM UNNEST($2::uuid[], $3::bigint[], $4::text[], $5::bigint[], $6::uuid[], $7::uuid[], $8::uuid[], \
               $9::bigint[], $10::text[]) \
               AS new (user_id, sequence, kind, at, drop_id, order_id, variant_id, quantity, reason) \
               ON CONFLICT DO NOTHING";
    sqlx::query(sql)
        .bind(journal)
        .bind(column(notifications, |notifications| notifications.line.buyer.0))
        .bind(column(notifications, |notifications| notifications.sequence.cast_signed()))
        .bind(column(notifications, |notifications| notifications.kind))
        .bind(column(notifications, |notifications| notifications.at.as_millis()))
        .bind(column(notifications, |notifications| notifications.drop.0))
        .bind(column(notifications, |notifications| notifications.line.order.0))
        .bind(column(notifications, |notifications| notifications.line.variant.0))
        .bind(column(notifications, |notifications| i64::from(notifications.line.quantity)))
        .bind(column(notifications, |notifications| notifications.reason))
        .execute(connection)
        .await
        .map(|_| ())
}
