//! Refunds that buyers ask for.

use super::sql::{Columns, Database, Session, args};
use super::store::{SqlStore, timely};
use super::{RefundRequestRow, StoreError, accounts};
use crate::domain::{DropId, OrderId, RefundRequestStatus, Timestamp, UserId};
use async_trait::async_trait;
use uuid::Uuid;

/// The requests that are kept: one for each order at most.
#[async_trait]
pub trait RefundRequests: Send + Sync {
    /// Keeps a buyer's request for an order of a drop. Returns whether it is the order's first: of another one nothing is
    /// kept.
    async fn ask_refund(&self, request: &RefundRequestRow, drop: DropId, buyer: UserId) -> Result<bool, StoreError>;
    /// The request for an order, if there is one.
    async fn refund_request(&self, order: OrderId) -> Result<Option<RefundRequestRow>, StoreError>;
    /// The requests for a drop's orders in order of the orders, those after `after`.
    async fn refund_requests(
        &self,
        drop: DropId,
        after: Option<OrderId>,
        limit: u32,
    ) -> Result<Vec<RefundRequestRow>, StoreError>;
    /// Records the seller's answer: status, answer and its time of `request`. Returns whether the request was open.
    async fn answer_refund(&self, request: &RefundRequestRow) -> Result<bool, StoreError>;
}

#[async_trait]
impl<D: Database> RefundRequests for SqlStore<D> {
    async fn ask_refund(&self, request: &RefundRequestRow, drop: DropId, buyer: UserId) -> Result<bool, StoreError> {
        timely(ask(self.database(), request, drop, buyer)).await
    }
    async fn refund_request(&self, order: OrderId) -> Result<Option<RefundRequestRow>, StoreError> {
        timely(get(self.database(), order)).await
    }
    async fn refund_requests(
        &self,
        drop: DropId,
        after: Option<OrderId>,
        limit: u32,
    ) -> Result<Vec<RefundRequestRow>, StoreError> {
        timely(list(self.database(), drop, after, limit)).await
    }
    async fn answer_refund(&self, request: &RefundRequestRow) -> Result<bool, StoreError> {
        timely(answer(self.database(), request)).await
    }
}

async fn ask<D: Database>(db: &D, request: &RefundRequestRow, drop: DropId, buyer: UserId) -> Result<bool, StoreError> {
    let sql = "INSERT INTO refund_requests (order_id, drop_id, buyer_id, reason, asked_at, status) \
               VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (order_id) DO NOTHING";
    let RefundRequestRow { order, reason, asked_at, status, .. } = request;
    let mut tx = db.transaction().await?;
    // Nothing is kept for an account that was deleted.
    accounts::lock(&mut tx, buyer).await?;
    let is_first = tx.run(sql, args![order.0, drop.0, buyer.0, reason, *asked_at, status.as_str()]).await? > 0;
    tx.commit().await?;
    Ok(is_first)
}

async fn get<D: Database>(db: &D, order: OrderId) -> Result<Option<RefundRequestRow>, StoreError> {
    let sql = "SELECT order_id, reason, asked_at, status, answer, answered_at FROM refund_requests WHERE order_id = $1";
    db.session().await?.one(sql, args![order.0]).await?.as_ref().map(request).transpose()
}

async fn list<D: Database>(
    db: &D,
    drop: DropId,
    after: Option<OrderId>,
    limit: u32,
) -> Result<Vec<RefundRequestRow>, StoreError> {
    let sql = "SELECT order_id, reason, asked_at, status, answer, answered_at FROM refund_requests \
               WHERE drop_id = $1 AND order_id > $2 ORDER BY order_id LIMIT $3";
    let after = after.map_or(Uuid::nil(), |order| order.0);
    db.session().await?.all(sql, args![drop.0, after, limit]).await?.iter().map(request).collect()
}

async fn answer<D: Database>(db: &D, request: &RefundRequestRow) -> Result<bool, StoreError> {
    let sql =
        "UPDATE refund_requests SET status = $2, answer = $3, answered_at = $4 WHERE order_id = $1 AND status = $5";
    let RefundRequestRow { order, status, answer, answered_at, .. } = request;
    let open = RefundRequestStatus::Open.as_str();
    let mut tx = db.transaction().await?;
    let was_open = tx.run(sql, args![order.0, status.as_str(), answer, *answered_at, open]).await? > 0;
    tx.commit().await?;
    Ok(was_open)
}

fn request<R: Columns>(row: &R) -> Result<RefundRequestRow, StoreError> {
    let status = row.text("status")?;
    let known = RefundRequestStatus::parse(&status);
    Ok(RefundRequestRow {
        order: OrderId(row.id("order_id")?),
        reason: row.text("reason")?,
        asked_at: Timestamp::from_millis(row.int("asked_at")?),
        status: known.ok_or_else(|| StoreError::Corrupt(format!("{status} is no status of a refund request")))?,
        answer: row.maybe_text("answer")?,
        answered_at: row.maybe_int("answered_at")?.map(Timestamp::from_millis),
    })
}
