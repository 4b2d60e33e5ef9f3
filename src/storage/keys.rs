//! Idempotency keys of changes other than orders: the attempt of a key, and its answer.

use super::sql::{Columns, Database, Session, args};
use super::{Attempted, KeptAnswer, KeyedAttempt, StoreError};
use crate::domain::limits::{KEPT_KEYS_PER_USER_MAX, KEY_KEPT_MS};
use crate::domain::{Timestamp, UserId};
use uuid::Uuid;

/// Keys deleted by one statement, so that it blocks nobody for long.
const FORGOTTEN_AT_ONCE: u32 = 1_000;

/// Records that an attempt begins, unless its key is known. One user's attempts begin one at a time.
pub(super) async fn begin<D: Database>(db: &D, attempt: &KeyedAttempt) -> Result<Attempted, StoreError> {
    let KeyedAttempt { user, scope, fingerprint, id, at } = attempt;
    let mut tx = db.transaction().await?;
    tx.lock(user.0).await?;
    let sql = "SELECT fingerprint, attempt, status, location, etag, body FROM idempotency_keys \
               WHERE user_id = $1 AND scope = $2 AND created_at > $3";
    let kept_since = at.plus_millis(-KEY_KEPT_MS);
    if let Some(row) = tx.one(sql, args![user.0, scope, kept_since]).await? {
        return Ok(Attempted::Before {
            id: row.id("attempt")?,
            same: row.bytes("fingerprint")? == fingerprint,
            answer: answer(&row)?,
        });
    }
    let sql = "SELECT count(*) AS kept FROM idempotency_keys WHERE user_id = $1";
    let kept = tx.one(sql, args![user.0]).await?.map(|row| row.int("kept")).transpose()?.unwrap_or(0);
    if kept >= i64::from(KEPT_KEYS_PER_USER_MAX) {
        return Ok(Attempted::TooMany);
    }
    // An expired one that was not deleted yet.
    tx.run("DELETE FROM idempotency_keys WHERE user_id = $1 AND scope = $2", args![user.0, scope]).await?;
    let sql = "INSERT INTO idempotency_keys (user_id, scope, fingerprint, attempt, done, created_at) \
               VALUES ($1, $2, $3, $4, 0, $5)";
    tx.run(sql, args![user.0, scope, fingerprint, *id, *at]).await?;
    tx.commit().await?;
    Ok(Attempted::New)
}

fn answer(row: &impl Columns) -> Result<Option<KeptAnswer>, StoreError> {
    let Some(status) = row.maybe_int("status")? else { return Ok(None) };
    Ok(Some(KeptAnswer {
        status: u16::try_from(status).map_err(|_| StoreError::Corrupt(format!("status {status}")))?,
        location: row.maybe_text("location")?,
        etag: row.maybe_text("etag")?,
        body: row.text("body")?,
    }))
}

/// Stores the answer of an attempt.
pub(super) async fn answered<D: Database>(db: &D, attempt: Uuid, answer: &KeptAnswer) -> Result<(), StoreError> {
    let KeptAnswer { status, location, etag, body } = answer;
    let mut tx = db.transaction().await?;
    let sql = "UPDATE idempotency_keys SET status = $2, location = $3, etag = $4, body = $5 WHERE attempt = $1";
    let status = u32::from(*status);
    tx.run(sql, args![attempt, status, location.clone(), etag.clone(), body]).await?;
    tx.commit().await
}

/// Deletes an attempt without effect: its key may be used again.
pub(super) async fn release<D: Database>(db: &D, attempt: Uuid) -> Result<(), StoreError> {
    let mut tx = db.transaction().await?;
    tx.run("DELETE FROM idempotency_keys WHERE attempt = $1 AND done = 0", args![attempt]).await?;
    tx.commit().await
}

/// Records, within the projection, that the journal has an attempt's record.
pub(super) async fn done<S: Session>(tx: &mut S, attempt: Uuid) -> Result<(), StoreError> {
    tx.run("UPDATE idempotency_keys SET done = 1 WHERE attempt = $1", args![attempt]).await.map(|_| ())
}

/// Whether the projection has reached an attempt's record.
pub(super) async fn is_done<D: Database>(db: &D, attempt: Uuid) -> Result<bool, StoreError> {
    let sql = "SELECT done FROM idempotency_keys WHERE attempt = $1";
    let row = db.session().await?.one(sql, args![attempt]).await?;
    Ok(row.map(|row| row.int("done")).transpose()? == Some(1))
}

/// Deletes some keys older than `before`; returns whether there may be more.
pub(super) async fn forget<D: Database>(db: &D, before: Timestamp) -> Result<bool, StoreError> {
    let mut tx = db.transaction().await?;
    let sql = "DELETE FROM idempotency_keys WHERE attempt IN \
               (SELECT attempt FROM idempotency_keys WHERE created_at < $1 ORDER BY created_at LIMIT $2)";
    let forgotten = tx.run(sql, args![before, FORGOTTEN_AT_ONCE]).await?;
    tx.commit().await?;
    Ok(forgotten == u64::from(FORGOTTEN_AT_ONCE))
}

/// Deletes all keys of a user, within the transaction that deletes the account.
pub(super) async fn forget_user<S: Session>(tx: &mut S, user: UserId) -> Result<(), StoreError> {
    tx.run("DELETE FROM idempotency_keys WHERE user_id = $1", args![user.0]).await.map(|_| ())
}
