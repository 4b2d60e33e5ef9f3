//! The audit trail: written in the transaction of the act itself, so that neither exists without the other.

use super::sql::{Database, Session, args};
use super::{AuditFilter, AuditRow, StoreError, rows};
use uuid::Uuid;

/// Adds a line within a transaction.
pub(super) async fn add<S: Session>(tx: &mut S, row: &AuditRow) -> Result<(), StoreError> {
    let sql = "INSERT INTO audit (id, at, actor_id, actor_role, origin, act, object_kind, object_id, detail, trace) \
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
    let AuditRow { id, at, actor, role, origin, act, object_kind, object, detail, trace } = row;
    let actor = actor.map(|id| id.0);
    tx.run(sql, args![*id, *at, actor, role, origin, act, object_kind, *object, detail, trace.0]).await.map(|_| ())
}

pub(super) async fn record<D: Database>(db: &D, row: &AuditRow) -> Result<(), StoreError> {
    let mut tx = db.transaction().await?;
    add(&mut tx, row).await?;
    tx.commit().await
}

macro_rules! lines {
    ($condition:literal) => {
        concat!(
            "SELECT id, at, actor_id, actor_role, origin, act, object_kind, object_id, detail, trace FROM audit \
             WHERE id < $1",
            $condition,
            " ORDER BY id DESC LIMIT $2"
        )
    };
}

pub(super) async fn list<D: Database>(
    db: &D,
    filter: AuditFilter,
    after: Option<Uuid>,
    limit: u32,
) -> Result<Vec<AuditRow>, StoreError> {
    let after = after.unwrap_or(Uuid::max());
    let (sql, args) = match (filter.actor, filter.object) {
        (None, None) => (lines!(""), args![after, limit]),
        (Some(actor), None) => (lines!(" AND actor_id = $3"), args![after, limit, actor.0]),
        (None, Some(object)) => (lines!(" AND object_id = $3"), args![after, limit, object]),
        (Some(actor), Some(object)) => {
            (lines!(" AND actor_id = $3 AND object_id = $4"), args![after, limit, actor.0, object])
        }
    };
    db.session().await?.all(sql, args).await?.iter().map(rows::audit).collect()
}
