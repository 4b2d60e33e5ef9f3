//! Accounts and their refresh tokens.

use super::sql::{Columns, Database, Session, args};
use super::{RefreshToken, StoreError, User, rows};
use crate::domain::{Timestamp, UserId};
use uuid::Uuid;

pub(super) async fn insert_user<D: Database>(db: &D, user: &User) -> Result<(), StoreError> {
    let sql = "INSERT INTO users (id, email, display_name, password_hash, role, created_at) \
               VALUES ($1, $2, $3, $4, $5, $6)";
    let User { id, email, display_name, password_hash, role, created_at } = user;
    let mut tx = db.transaction().await?;
    tx.run(sql, args![id.0, email, display_name, password_hash, role, *created_at]).await?;
    tx.commit().await
}

pub(super) async fn user<D: Database>(db: &D, id: UserId) -> Result<Option<User>, StoreError> {
    let sql = "SELECT id, email, display_name, password_hash, role, created_at FROM users WHERE id = $1";
    db.session().await?.one(sql, args![id.0]).await?.as_ref().map(rows::user).transpose()
}

pub(super) async fn user_by_email<D: Database>(db: &D, email: &str) -> Result<Option<User>, StoreError> {
    let sql = "SELECT id, email, display_name, password_hash, role, created_at FROM users WHERE email = $1";
    db.session().await?.one(sql, args![email]).await?.as_ref().map(rows::user).transpose()
}

pub(super) async fn insert_refresh_token<D: Database>(db: &D, token: &RefreshToken) -> Result<(), StoreError> {
    let mut tx = db.transaction().await?;
    add_token(&mut tx, token).await?;
    tx.commit().await
}

async fn add_token<S: Session>(tx: &mut S, token: &RefreshToken) -> Result<(), StoreError> {
    let sql = "INSERT INTO refresh_tokens (hash, family, user_id, created_at, expires_at, used_at, revoked_at) \
               VALUES ($1, $2, $3, $4, $5, $6, $7)";
    let RefreshToken { hash, family, user_id, created_at, expires_at, used_at, revoked_at } = token;
    let args = args![hash, *family, user_id.0, *created_at, *expires_at, *used_at, *revoked_at];
    tx.run(sql, args).await.map(|_| ())
}

pub(super) async fn refresh_token<D: Database>(db: &D, hash: &[u8; 32]) -> Result<Option<RefreshToken>, StoreError> {
    let sql = "SELECT hash, family, user_id, created_at, expires_at, used_at, revoked_at \
               FROM refresh_tokens WHERE hash = $1";
    db.session().await?.one(sql, args![hash]).await?.as_ref().map(rows::refresh_token).transpose()
}

/// The family is locked, so that a revocation which runs at the same time either comes first and stops the rotation,
/// or comes after it and sees the new token. Row locks alone would let a token slip through.
pub(super) async fn rotate_refresh_token<D: Database>(
    db: &D,
    old: &[u8; 32],
    at: Timestamp,
    new: &RefreshToken,
) -> Result<bool, StoreError> {
    let mut tx = db.transaction().await?;
    let family = tx.one("SELECT family FROM refresh_tokens WHERE hash = $1", args![old]).await?;
    let Some(family) = family.map(|row| row.id("family")).transpose()? else { return Ok(false) };
    tx.lock(family).await?;
    let sql = "UPDATE refresh_tokens SET used_at = $2 WHERE hash = $1 AND used_at IS NULL AND revoked_at IS NULL";
    if tx.run(sql, args![old, at]).await? == 0 {
        return Ok(false);
    }
    add_token(&mut tx, new).await?;
    tx.commit().await?;
    Ok(true)
}

pub(super) async fn revoke_refresh_family<D: Database>(db: &D, family: Uuid, at: Timestamp) -> Result<(), StoreError> {
    let mut tx = db.transaction().await?;
    tx.lock(family).await?;
    let sql = "UPDATE refresh_tokens SET revoked_at = $2 WHERE family = $1 AND revoked_at IS NULL";
    tx.run(sql, args![family, at]).await?;
    tx.commit().await
}
