//! Creators and their followers.

use super::sql::{Columns, Database, Session, args};
use super::{AuditRow, Creator, StoreError, accounts, audit, rows};
use crate::domain::{CreatorId, Timestamp, UserId};
use uuid::Uuid;

/// The start of a descending list: no real id is as large.
pub(super) fn before(id: Option<Uuid>) -> Uuid {
    id.unwrap_or(Uuid::max())
}

/// The start of an ascending list: no real id is as small.
pub(super) fn past(id: Option<Uuid>) -> Uuid {
    id.unwrap_or(Uuid::nil())
}

pub(super) async fn insert_creator<D: Database>(db: &D, creator: &Creator) -> Result<(), StoreError> {
    let sql = "INSERT INTO creators (id, handle, display_name, bio, follower_count, created_at) \
               VALUES ($1, $2, $3, $4, $5, $6)";
    let Creator { id, handle, display_name, bio, follower_count, created_at } = creator;
    let mut tx = db.transaction().await?;
    accounts::lock(&mut tx, UserId(id.0)).await?;
    tx.run(sql, args![id.0, handle, display_name, bio, *follower_count, *created_at]).await?;
    tx.commit().await
}

/// Writes the profile, not its follower count, if it still is what the change was based on.
pub(super) async fn update_creator<D: Database>(
    db: &D,
    new: &Creator,
    old: &Creator,
    audit: &AuditRow,
) -> Result<bool, StoreError> {
    let sql = "UPDATE creators SET display_name = $2, bio = $3 WHERE id = $1 AND handle = $4 AND display_name = $5 AND bio = $6";
    let mut tx = db.transaction().await?;
    accounts::lock(&mut tx, UserId(new.id.0)).await?;
    let from = [&old.handle, &old.display_name, &old.bio];
    if tx.run(sql, args![new.id.0, &new.display_name, &new.bio, from[0], from[1], from[2]]).await? == 0 {
        return Ok(false);
    }
    audit::add(&mut tx, audit).await?;
    tx.commit().await?;
    Ok(true)
}

const NO_CREATOR: StoreError = StoreError::Missing { what: "creator" };

pub(super) async fn creator<D: Database>(db: &D, id: CreatorId) -> Result<Option<Creator>, StoreError> {
    one_creator(&mut db.session().await?, id).await
}

async fn one_creator<S: Session>(session: &mut S, id: CreatorId) -> Result<Option<Creator>, StoreError> {
    let sql = "SELECT id, handle, display_name, bio, follower_count, created_at FROM creators WHERE id = $1";
    session.one(sql, args![id.0]).await?.as_ref().map(rows::creator).transpose()
}

pub(super) async fn creators<D: Database>(
    db: &D,
    after: Option<CreatorId>,
    limit: u32,
) -> Result<Vec<Creator>, StoreError> {
    let sql = "SELECT id, handle, display_name, bio, follower_count, created_at FROM creators \
               WHERE id < $1 ORDER BY id DESC LIMIT $2";
    let rows = db.browse().await?.all(sql, args![before(after.map(|id| id.0)), limit]).await?;
    rows.iter().map(rows::creator).collect()
}

pub(super) async fn follow<D: Database>(
    db: &D,
    user: UserId,
    creator: CreatorId,
    at: Timestamp,
) -> Result<bool, StoreError> {
    let sql = "INSERT INTO follows (creator_id, user_id, created_at, listed) \
               SELECT $1, $2, $3, 1 - private_follows FROM users WHERE id = $2 ON CONFLICT DO NOTHING";
    let mut tx = db.transaction().await?;
    // A concurrent change of privacy is either read here, or finds this row.
    accounts::lock(&mut tx, user).await?;
    if tx.run(sql, args![creator.0, user.0, at]).await? == 0 {
        return Ok(false);
    }
    // The row above refers to the profile, so a deletion of that account has either ended or comes after this.
    let sql = "UPDATE creators SET follower_count = follower_count + 1 \
               WHERE id = $1 AND EXISTS (SELECT 1 FROM users WHERE id = $1 AND deleted_at IS NULL)";
    if tx.run(sql, args![creator.0]).await? == 0 {
        return Err(NO_CREATOR);
    }
    tx.commit().await?;
    Ok(true)
}

pub(super) async fn unfollow<D: Database>(db: &D, user: UserId, creator: CreatorId) -> Result<bool, StoreError> {
    let sql = "DELETE FROM follows WHERE creator_id = $1 AND user_id = $2";
    let mut tx = db.transaction().await?;
    tx.lock(user.0).await?;
    if tx.run(sql, args![creator.0, user.0]).await? == 0 {
        return Ok(false);
    }
    tx.run("UPDATE creators SET follower_count = follower_count - 1 WHERE id = $1", args![creator.0]).await?;
    tx.commit().await?;
    Ok(true)
}

pub(super) async fn follows<D: Database>(db: &D, user: UserId, creator: CreatorId) -> Result<bool, StoreError> {
    let sql = "SELECT user_id FROM follows WHERE creator_id = $1 AND user_id = $2";
    Ok(db.session().await?.one(sql, args![creator.0, user.0]).await?.is_some())
}

pub(super) async fn following<D: Database>(
    db: &D,
    user: UserId,
    after: Option<CreatorId>,
    limit: u32,
) -> Result<Vec<CreatorId>, StoreError> {
    let sql = "SELECT creator_id FROM follows WHERE user_id = $1 AND creator_id > $2 ORDER BY creator_id LIMIT $3";
    let rows = db.session().await?.all(sql, args![user.0, past(after.map(|id| id.0)), limit]).await?;
    rows.iter().map(|row| row.id("creator_id").map(CreatorId)).collect()
}

pub(super) async fn followers<D: Database>(
    db: &D,
    creator: CreatorId,
    after: Option<UserId>,
    limit: u32,
) -> Result<Vec<UserId>, StoreError> {
    let sql = "SELECT user_id FROM follows WHERE creator_id = $1 AND user_id > $2 AND listed = 1 \
               ORDER BY user_id LIMIT $3";
    let rows = db.session().await?.all(sql, args![creator.0, past(after.map(|id| id.0)), limit]).await?;
    rows.iter().map(|row| row.id("user_id").map(UserId)).collect()
}
