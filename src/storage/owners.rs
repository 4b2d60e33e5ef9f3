//! Owners of the database and their heartbeats: an operator needs both before the database is given to another journal.

use super::sql::{Columns, Database, Session, args};
use super::{Heartbeat, Owner, Schema, StoreError};
use crate::storage::projection::apply::{CLAIM_LOCK, RETIRED, epoch_of};
use sqlx::AssertSqlSafe;
use uuid::Uuid;

/// Every journal that ever owned the database, by age.
pub(super) async fn owners<D: Database>(db: &D) -> Result<Vec<Owner>, StoreError> {
    list(&mut db.session().await?).await
}

async fn list<S: Session>(session: &mut S) -> Result<Vec<Owner>, StoreError> {
    let sql = "SELECT journal_id, epoch, sequence FROM watermarks ORDER BY journal_id";
    let rows = session.all(sql, args![]).await?;
    rows.iter().map(owner).collect()
}

fn owner<R: Columns>(row: &R) -> Result<Owner, StoreError> {
    let (journal, epoch) = (row.id("journal_id")?, epoch_of(row)?);
    Ok(Owner { journal, epoch, retired: epoch == RETIRED, applied: u64::try_from(row.int("sequence")?).ok() })
}

/// Gives a retired journal its database back, unless another has used it since.
pub(super) async fn reinstate<D: Database>(db: &D, journal: Uuid, epoch: u32) -> Result<bool, StoreError> {
    let mut tx = db.transaction().await?;
    tx.lock(CLAIM_LOCK).await?;
    let owners = list(&mut tx).await?;
    let known = owners.iter().find(|owner| owner.journal == journal);
    let known = known.ok_or_else(|| StoreError::Corrupt(format!("the database does not know journal {journal}")))?;
    if !known.retired {
        return Ok(false);
    }
    // Journals' ids sort by age: a younger one with records here came after this one was retired.
    let since = |owner: &&Owner| !owner.retired || (owner.journal > journal && owner.applied.is_some());
    if let Some(other) = owners.iter().find(since) {
        return Err(StoreError::Superseded { by: other.journal });
    }
    let sql = "UPDATE watermarks SET epoch = $2 WHERE journal_id = $1 AND epoch = $3";
    tx.run(sql, args![journal, epoch, RETIRED]).await?;
    tx.commit().await?;
    Ok(true)
}

pub(super) async fn beat<D: Database>(db: &D, journal: Uuid, epoch: u32, server: &str) -> Result<bool, StoreError> {
    let sql = format!(
        "INSERT INTO heartbeats (journal_id, epoch, at, server) VALUES ($1, $2, {now}, $3) ON CONFLICT (journal_id) DO UPDATE \
         SET epoch = excluded.epoch, at = excluded.at, server = excluded.server WHERE heartbeats.epoch <= excluded.epoch",
        now = D::NOW_MS
    );
    let mut tx = db.transaction().await?;
    tx.run(AssertSqlSafe(sql), args![journal, epoch, server]).await?;
    let claimed = tx.one("SELECT epoch FROM watermarks WHERE journal_id = $1", args![journal]).await?;
    let is_ours = claimed.map(|row| epoch_of(&row)).transpose()? == Some(epoch);
    tx.commit().await?;
    Ok(is_ours)
}

pub(super) async fn rest<D: Database>(db: &D, journal: Uuid, epoch: u32) -> Result<(), StoreError> {
    let mut tx = db.transaction().await?;
    tx.run("DELETE FROM heartbeats WHERE journal_id = $1 AND epoch <= $2", args![journal, epoch]).await?;
    tx.commit().await
}

pub(super) async fn heartbeats<D: Database>(db: &D) -> Result<Vec<Heartbeat>, StoreError> {
    let sql = format!("SELECT journal_id, server, {} - at AS ago FROM heartbeats ORDER BY journal_id", D::NOW_MS);
    let rows = db.session().await?.all(AssertSqlSafe(sql), args![]).await?;
    rows.iter().map(heartbeat).collect()
}

fn heartbeat<R: Columns>(row: &R) -> Result<Heartbeat, StoreError> {
    Ok(Heartbeat { journal: row.id("journal_id")?, server: row.text("server")?, ago_ms: row.int("ago")? })
}

/// Compares the schema with this program's. Changes nothing.
pub(super) async fn schema<D: Database>(db: &D) -> Result<Schema, StoreError> {
    let mut session = db.session().await?;
    if session.one(D::HAS_MIGRATIONS, args![]).await?.is_none() {
        return Ok(Schema::Absent);
    }
    let sql = "SELECT version FROM _sqlx_migrations WHERE success ORDER BY version DESC LIMIT 1";
    let Some(row) = session.one(sql, args![]).await? else { return Ok(Schema::Absent) };
    Ok(match row.int("version")?.cmp(&D::latest_migration()) {
        std::cmp::Ordering::Less => Schema::Older,
        std::cmp::Ordering::Equal => Schema::Current,
        std::cmp::Ordering::Greater => Schema::Newer,
    })
}
