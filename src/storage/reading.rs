//! Reads of projected rows: drops, and orders, also by their keys.

use super::catalogue::{before, past};
use super::rows::{self, drop_columns};
use super::search::{Condition, Search};
use super::sql::{Columns, Database, Session, args};
use super::{DropFilter, DropRow, Found, OrderNote, PaymentNote, Phase, StoreError};
use crate::domain::{CreatorId, DropId, KeyDigest, OrderId, OrderView, Timestamp, UserId};
use crate::storage::projection::fold::DropImage;

/// A page of drops in a subquery, joined with all variants of each. One statement, so that status and stock are
/// consistent.
macro_rules! drops_where {
    ($condition:literal) => {
        concat!(
            "SELECT ",
            drop_columns!(),
            " FROM (SELECT * FROM drops WHERE ",
            $condition,
            ") d LEFT JOIN drop_variants v ON v.drop_id = d.id ORDER BY d.id DESC, v.ordinal"
        )
    };
}

fn drop_rows<R: super::sql::Columns>(rows: &[R]) -> Result<Vec<DropRow>, StoreError> {
    Ok(rows::drops(rows)?.into_iter().map(DropImage::into_row).collect())
}

pub(super) async fn drop_row<D: Database>(db: &D, id: DropId) -> Result<Option<DropRow>, StoreError> {
    let rows = db.session().await?.all(drops_where!("id = $1"), args![id.0]).await?;
    Ok(drop_rows(&rows)?.pop())
}

pub(super) async fn drops<D: Database>(
    db: &D,
    filter: DropFilter,
    after: Option<DropId>,
    limit: u32,
) -> Result<Found<DropRow>, StoreError> {
    let mut conditions: Vec<Condition> = Vec::new();
    if let Some(status) = filter.status {
        conditions.push(("status = ?", Some(status.as_str().into())));
    }
    if let Some(creator) = filter.creator {
        conditions.push(("creator_id = ?", Some(creator.0.into())));
    }
    if let Some(user) = filter.followed_by {
        let followed = "creator_id IN (SELECT creator_id FROM follows WHERE user_id = ?)";
        conditions.push((followed, Some(user.0.into())));
    }
    conditions.extend(filter.phase.map(|phase| match phase {
        Phase::Upcoming => ("status = 'scheduled'", None),
        Phase::Live => ("status IN ('live', 'sold_out')", None),
        Phase::Over => ("status IN ('ended', 'cancelled')", None),
    }));
    let from = filter.starts_from.map(|from| ("starts_at >= ?", Some(from.into())));
    let before_then = filter.starts_before.map(|before| ("starts_at < ?", Some(before.into())));
    let range = from.into_iter().chain(before_then).collect();
    let search = Search { table: "drops", conditions, column: "starts_at", range, indexed: Some(0) };
    let head = concat!("SELECT ", drop_columns!(), " FROM (SELECT * FROM drops WHERE");
    let tail = ") d LEFT JOIN drop_variants v ON v.drop_id = d.id ORDER BY d.id DESC, v.ordinal";
    search.page(&mut db.browse().await?, (head, tail), (before(after.map(|id| id.0)), limit), drop_rows).await
}

pub(super) async fn unsettled_drops<D: Database>(db: &D) -> Result<Vec<DropRow>, StoreError> {
    drop_rows(&db.session().await?.all(drops_where!("NOT settled"), args![]).await?)
}

pub(super) async fn drops_to_load<D: Database>(db: &D, horizon: Timestamp) -> Result<Vec<DropRow>, StoreError> {
    let sql = drops_where!("NOT settled AND (status <> 'scheduled' OR starts_at <= $1)");
    drop_rows(&db.session().await?.all(sql, args![horizon]).await?)
}

/// The drops that [`drops_to_load`] leaves out, by start.
pub(super) async fn sleeping_drops<D: Database>(
    db: &D,
    (at, id): (Timestamp, DropId),
    limit: u32,
) -> Result<Vec<DropRow>, StoreError> {
    let sql = concat!(
        "SELECT ",
        drop_columns!(),
        " FROM (SELECT * FROM drops WHERE status = 'scheduled' AND (starts_at, id) > ($1, $2) \
         ORDER BY starts_at, id LIMIT $3) d \
         LEFT JOIN drop_variants v ON v.drop_id = d.id ORDER BY d.starts_at, d.id, v.ordinal"
    );
    drop_rows(&db.session().await?.all(sql, args![at, id.0, limit]).await?)
}

pub(super) async fn scheduled_drops<D: Database>(
    db: &D,
    (at, id): (Timestamp, DropId),
    until: Timestamp,
    limit: u32,
) -> Result<Vec<(Timestamp, DropId)>, StoreError> {
    let sql = "SELECT id, starts_at FROM drops WHERE status = 'scheduled' AND (starts_at, id) > ($1, $2) \
               AND starts_at <= $3 ORDER BY starts_at, id LIMIT $4";
    let rows = db.session().await?.all(sql, args![at, id.0, until, limit]).await?;
    rows.iter().map(|row| Ok((Timestamp::from_millis(row.int("starts_at")?), DropId(row.id("id")?)))).collect()
}

pub(super) async fn open_drops_of<D: Database>(
    db: &D,
    creator: CreatorId,
    limit: u32,
) -> Result<Vec<DropId>, StoreError> {
    let sql = "SELECT id FROM drops WHERE creator_id = $1 AND NOT settled \
               AND status <> 'ended' AND status <> 'cancelled' LIMIT $2";
    let rows = db.session().await?.all(sql, args![creator.0, limit]).await?;
    rows.iter().map(|row| row.id("id").map(DropId)).collect()
}

pub(super) async fn drop_orders<D: Database>(
    db: &D,
    drop: DropId,
    after: Option<OrderId>,
    limit: u32,
) -> Result<Vec<OrderView>, StoreError> {
    // Two drops may share a tag, though hardly any do.
    let sql = "SELECT * FROM orders WHERE drop_tag = $1 AND id > $2 AND drop_id = $3 ORDER BY id LIMIT $4";
    let args = args![drop.tag().cast_signed(), past(after.map(|id| id.0)), drop.0, limit];
    let rows = db.session().await?.all(sql, args).await?;
    rows.iter().map(rows::order).collect()
}

pub(super) async fn order<D: Database>(db: &D, id: OrderId) -> Result<Option<OrderView>, StoreError> {
    let sql = "SELECT * FROM orders WHERE drop_tag = $1 AND id = $2";
    let row = db.session().await?.one(sql, args![rows::tag_of(id), id.0]).await?;
    row.as_ref().map(rows::order).transpose()
}

pub(super) async fn payment_notes<D: Database>(db: &D, order: OrderId) -> Result<Vec<PaymentNote>, StoreError> {
    let sql = "SELECT * FROM payment_notes WHERE order_id = $1 ORDER BY sequence";
    db.session().await?.all(sql, args![order.0]).await?.iter().map(rows::payment_note).collect()
}

pub(super) async fn order_notes<D: Database>(db: &D, order: OrderId) -> Result<Vec<OrderNote>, StoreError> {
    let sql = "SELECT * FROM order_notes WHERE order_id = $1 ORDER BY sequence";
    db.session().await?.all(sql, args![order.0]).await?.iter().map(rows::order_note).collect()
}

pub(super) async fn orders_of<D: Database>(
    db: &D,
    buyer: UserId,
    after: Option<OrderId>,
    limit: u32,
) -> Result<Vec<OrderView>, StoreError> {
    let args = args![buyer.0, before(after.map(|id| id.0)), limit];
    let rows = db.session().await?.all(D::ORDERS_OF, args).await?;
    rows.iter().map(rows::order).collect()
}

/// The first order of a key. The key may have been used at two drops concurrently, because each drop knows only its own
/// keys.
pub(super) async fn order_of_key<D: Database>(
    db: &D,
    buyer: UserId,
    key: &str,
) -> Result<Option<OrderView>, StoreError> {
    let digest = KeyDigest::of(buyer, key);
    let args = args![buyer.0, rows::key_bits(digest), &rows::key_text(digest), key];
    let order = db.session().await?.one(D::ORDER_OF_KEY, args).await?;
    order.as_ref().map(rows::order).transpose()
}
