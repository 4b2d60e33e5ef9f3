//! A drop's orders as its seller sees them: newest first, filtered, with their buyers' names and addresses.

use super::sql::{Columns, Database, Session, Value, args};
use super::store::{SqlStore, timely};
use super::{AuditRow, StoreError, audit, rows};
use crate::domain::{DropId, FulfilmentStatus, OrderId, OrderNumber, OrderStatus, OrderView, UserId, VariantId};
use crate::storage::Found;
use async_trait::async_trait;
use hashbrown::HashMap;
use sqlx::AssertSqlSafe;
use std::fmt::Write;
use uuid::Uuid;

/// Orders read at once while those of one variant, or the one of a number, are looked for.
const BATCH: u32 = 250;
/// Orders read for one page.
const WALK: u32 = 5_000;

/// Selects orders of a drop.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SoldFilter {
    /// Only orders of this status. If absent while `fulfilment` is given: confirmed ones.
    pub status: Option<OrderStatus>,
    pub fulfilment: Option<FulfilmentStatus>,
    pub variant: Option<VariantId>,
    pub number: Option<OrderNumber>,
}

/// An order in the view of its seller.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SoldOrder {
    pub order: OrderView,
    pub fulfilment: FulfilmentStatus,
    /// Absent once the account is deleted.
    pub contact: Option<Contact>,
}

/// How a seller reaches a buyer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Contact {
    pub name: String,
    pub email: String,
}

/// The orders that sellers read.
#[async_trait]
pub trait SoldOrders: Send + Sync {
    /// A drop's orders, newest id first, those before `after`. `audit` is kept in the same transaction, with what was
    /// read in it: nobody reads who the buyers are without a trace. A page of one variant may be shorter than `limit`.
    async fn sold_orders(
        &self,
        drop: DropId,
        filter: &SoldFilter,
        page: (Option<OrderId>, u32),
        audit: AuditRow,
    ) -> Result<Found<SoldOrder>, StoreError>;
}

#[async_trait]
impl<D: Database> SoldOrders for SqlStore<D> {
    async fn sold_orders(
        &self,
        drop: DropId,
        filter: &SoldFilter,
        page: (Option<OrderId>, u32),
        audit: AuditRow,
    ) -> Result<Found<SoldOrder>, StoreError> {
        timely(sold_orders(self.database(), drop, filter, page, audit)).await
    }
}

async fn sold_orders<D: Database>(
    db: &D,
    drop: DropId,
    filter: &SoldFilter,
    (after, limit): (Option<OrderId>, u32),
    mut audit: AuditRow,
) -> Result<Found<SoldOrder>, StoreError> {
    let mut found = walk(&mut db.session().await?, drop, filter, (after, limit)).await?;
    if found.rows.is_empty() {
        return Ok(found);
    }
    // One transaction: what is read is what the account still has, and the line is there before anybody has it.
    let mut tx = db.transaction().await?;
    add_contacts(&mut tx, &mut found.rows).await?;
    audit.detail = detail(&audit.detail, &found.rows)?;
    audit::add(&mut tx, &audit).await?;
    tx.commit().await?;
    Ok(found)
}

/// The line's detail, completed with what was read.
fn detail(detail: &str, rows: &[SoldOrder]) -> Result<String, StoreError> {
    let wrong = |error: serde_json::Error| StoreError::Corrupt(format!("a detail for the audit trail: {error}"));
    let mut detail: serde_json::Map<String, serde_json::Value> = serde_json::from_str(detail).map_err(wrong)?;
    let ids = [rows.first(), rows.last()].map(|row| row.map(|row| row.order.id));
    detail.insert("orders".to_owned(), rows.len().into());
    for (name, id) in ["newest", "oldest"].into_iter().zip(ids) {
        detail.insert(name.to_owned(), serde_json::to_value(id).map_err(wrong)?);
    }
    serde_json::to_string(&detail).map_err(wrong)
}

async fn add_contacts<S: Session>(session: &mut S, rows: &mut [SoldOrder]) -> Result<(), StoreError> {
    let mut buyers: Vec<Uuid> = rows.iter().map(|row| row.order.buyer.0).collect();
    buyers.sort_unstable();
    buyers.dedup();
    let sql = "SELECT id, email, display_name FROM users WHERE deleted_at IS NULL AND id";
    let mut contacts = HashMap::new();
    for row in session.all_of(sql, &buyers, "").await? {
        let contact = Contact { name: row.text("display_name")?, email: row.text("email")? };
        contacts.insert(UserId(row.id("id")?), contact);
    }
    for row in rows {
        row.contact = contacts.get(&row.order.buyer).cloned();
    }
    Ok(())
}

/// Reads on until the page is full, the orders end, or enough were read.
async fn walk<S: Session>(
    session: &mut S,
    drop: DropId,
    filter: &SoldFilter,
    (mut after, limit): (Option<OrderId>, u32),
) -> Result<Found<SoldOrder>, StoreError> {
    let is_whole = filter.variant.is_none() && filter.number.is_none();
    let batch = if is_whole { limit } else { limit.max(BATCH) };
    // Two drops may share a tag, though hardly any do.
    let wanted = |order: &OrderView| {
        order.drop_id == drop
            && filter.variant.is_none_or(|variant| order.variant_id == variant)
            && filter.number.is_none_or(|number| order.id.number() == number)
    };
    let (mut rows, mut read) = (Vec::new(), 0);
    loop {
        let found = page(session, drop, filter, (after, batch)).await?;
        let (last, count) = (found.last().map(|row| row.order.id), found.len() as u32);
        read += count;
        rows.extend(found.into_iter().filter(|row| wanted(&row.order)));
        let is_full = rows.len() >= limit as usize;
        rows.truncate(limit as usize);
        if is_full || count < batch {
            return Ok(Found { rows, stopped_at: None });
        }
        if read >= WALK {
            return Ok(Found { rows, stopped_at: last.map(|id| id.0) });
        }
        after = last;
    }
}

/// The newest orders of a state, of any variant.
async fn page<S: Session>(
    session: &mut S,
    drop: DropId,
    filter: &SoldFilter,
    (after, limit): (Option<OrderId>, u32),
) -> Result<Vec<SoldOrder>, StoreError> {
    let ids = filter.number.map(OrderNumber::ids);
    let (first, last) = ids.map_or((Uuid::nil(), Uuid::max()), |ids| (ids.start().0, ids.end().0));
    let before = after.map_or(Uuid::max(), |id| id.0);
    let mut values = args![drop.tag().cast_signed(), before, first, last, limit];
    let sql = statement(filter, &mut values);
    // The text consists of this program's literals only.
    let rows = session.all(AssertSqlSafe(sql), values).await?;
    rows.iter()
        .map(|row| Ok(SoldOrder { order: rows::order(row)?, fulfilment: rows::fulfilment(row)?, contact: None }))
        .collect()
}

/// A statement that finds orders through the trees alone: each combination of status and fulfilment is one range of a
/// tree, from which it takes a page, and the newest of all are the result.
pub(super) fn statement(filter: &SoldFilter, values: &mut Vec<Value>) -> String {
    let mut ranges = String::new();
    for (number, condition) in combinations(filter).into_iter().enumerate() {
        if number > 0 {
            ranges += " UNION ALL ";
        }
        ranges += "SELECT id FROM (SELECT id FROM orders WHERE drop_tag = $1 AND ";
        if let Some((status, fulfilment)) = condition {
            values.extend(args![status.as_str(), fulfilment.as_str()]);
            let _ = write!(ranges, "status = ${} AND fulfilment = ${} AND ", values.len() - 1, values.len());
        }
        ranges += "id < $2 AND id >= $3 AND id <= $4 ORDER BY id DESC LIMIT $5) AS part";
    }
    format!(
        "SELECT * FROM orders WHERE drop_tag = $1 AND id IN (SELECT id FROM ({ranges}) AS parts ORDER BY id DESC LIMIT $5) \
         ORDER BY id DESC"
    )
}

/// The combinations of status and fulfilment that a filter lets through; one `None` for all orders.
fn combinations(filter: &SoldFilter) -> Vec<Option<(OrderStatus, FulfilmentStatus)>> {
    let status = match (filter.status, filter.fulfilment) {
        (None, None) => return vec![None],
        (status, _) => status.unwrap_or(OrderStatus::Confirmed),
    };
    let is_sold = matches!(status, OrderStatus::Confirmed | OrderStatus::Refunded);
    let possible = if is_sold { FulfilmentStatus::ALL } else { &[FulfilmentStatus::Unfulfilled] };
    match filter.fulfilment {
        Some(fulfilment) => vec![Some((status, fulfilment))],
        None => possible.iter().map(|fulfilment| Some((status, *fulfilment))).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sql(filter: SoldFilter) -> (String, usize) {
        let mut values = args![0, Uuid::nil(), Uuid::nil(), Uuid::nil(), 1];
        let sql = statement(&filter, &mut values);
        (sql, values.len())
    }

    #[test]
    fn each_combination_is_one_range() {
        let (all, values) = sql(SoldFilter::default());
        assert!(!all.contains("status =") && values == 5, "{all}");
        let (held, values) = sql(SoldFilter { status: Some(OrderStatus::Reserved), ..SoldFilter::default() });
        assert!(held.contains("status = $6 AND fulfilment = $7") && values == 7, "{held}");
        let (sold, values) = sql(SoldFilter { status: Some(OrderStatus::Confirmed), ..SoldFilter::default() });
        assert!(sold.matches("UNION ALL").count() == 3 && values == 13, "{sold}");
        let shipped = SoldFilter { fulfilment: Some(FulfilmentStatus::Shipped), ..SoldFilter::default() };
        assert_eq!(combinations(&shipped), [Some((OrderStatus::Confirmed, FulfilmentStatus::Shipped))]);
    }
}
