//! Accounts and their refresh tokens.

use super::sql::{Columns, Database, Session, args};
use super::{AuditRow, RefreshToken, Revoked, StoreError, User, UserChange, audit, inbox, keys, rows};
use crate::domain::{Revocation, Timestamp, UserId};
use uuid::Uuid;

pub(super) async fn has_any<D: Database>(db: &D) -> Result<bool, StoreError> {
    Ok(db.session().await?.one("SELECT id FROM users LIMIT 1", args![]).await?.is_some())
}

pub(super) async fn insert_user<D: Database>(db: &D, user: &User, audit: Option<&AuditRow>) -> Result<(), StoreError> {
    let sql = "INSERT INTO users (id, email, display_name, password_hash, role, created_at, private_follows, email_key) \
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
    let User { id, email, email_key, display_name, password_hash, role, created_at, private_follows, .. } = user;
    let email_key = email_key.as_deref();
    let mut tx = db.transaction().await?;
    let args = args![id.0, email, display_name, password_hash, role, *created_at, *private_follows, email_key];
    tx.run(sql, args).await?;
    if let Some(audit) = audit {
        audit::add(&mut tx, audit).await?;
    }
    tx.commit().await
}

/// A query for a user who was not deleted.
macro_rules! user_where {
    ($condition:literal) => {
        concat!(
            "SELECT id, email, email_key, display_name, password_hash, role, created_at, private_follows, token_version FROM users \
             WHERE deleted_at IS NULL AND ",
            $condition
        )
    };
}

pub(super) async fn user<D: Database>(db: &D, id: UserId) -> Result<Option<User>, StoreError> {
    one_user(&mut db.session().await?, id).await
}

async fn one_user<S: Session>(session: &mut S, id: UserId) -> Result<Option<User>, StoreError> {
    session.one(user_where!("id = $1"), args![id.0]).await?.as_ref().map(rows::user).transpose()
}

pub(super) async fn user_by_email<D: Database>(db: &D, email: &str, key: &str) -> Result<Option<User>, StoreError> {
    // If two accounts match, the exact address wins over the normalised one.
    let sql = user_where!("(email_key = $2 OR email = $1) ORDER BY CASE WHEN email = $1 THEN 0 ELSE 1 END LIMIT 1");
    db.session().await?.one(sql, args![email, key]).await?.as_ref().map(rows::user).transpose()
}

pub(super) async fn accounts_without_key<D: Database>(
    db: &D,
    after: Option<UserId>,
    limit: u32,
) -> Result<Vec<(UserId, String)>, StoreError> {
    let sql = "SELECT id, email FROM users WHERE email_key IS NULL AND deleted_at IS NULL AND id > $1 \
               ORDER BY id LIMIT $2";
    let after = after.map_or(Uuid::nil(), |id| id.0);
    let rows = db.session().await?.all(sql, args![after, limit]).await?;
    rows.iter().map(|row| Ok((UserId(row.id("id")?), row.text("email")?))).collect()
}

pub(super) async fn set_email_keys<D: Database>(db: &D, keys: &[(UserId, String)]) -> Result<usize, StoreError> {
    let sql = "UPDATE users SET email_key = $2 WHERE id = $1 AND email_key IS NULL AND deleted_at IS NULL \
               AND NOT EXISTS (SELECT 1 FROM users AS others WHERE others.email_key = $2)";
    let mut tx = db.transaction().await?;
    let mut set = 0;
    for (id, key) in keys {
        set += tx.run(sql, args![id.0, key]).await? as usize;
    }
    tx.commit().await?;
    Ok(set)
}

pub(super) async fn renew_password_hash<D: Database>(
    db: &D,
    user: UserId,
    old: &str,
    new: &str,
) -> Result<bool, StoreError> {
    let sql = "UPDATE users SET password_hash = $3 WHERE id = $1 AND password_hash = $2 AND deleted_at IS NULL";
    let mut tx = db.transaction().await?;
    tx.lock(user.0).await?;
    let renewed = tx.run(sql, args![user.0, old, new]).await? > 0;
    tx.commit().await?;
    Ok(renewed)
}

/// The account, locked until the transaction ends: decisions based on it still hold when they are written.
///
/// # Errors
/// `Missing` if it was deleted or never existed.
pub(super) async fn lock<S: Session>(tx: &mut S, id: UserId) -> Result<User, StoreError> {
    lock_living(tx, id).await?.ok_or(StoreError::Missing { what: "account" })
}

/// Like [`lock`], but `None` if it was deleted or never existed.
async fn lock_living<S: Session>(tx: &mut S, id: UserId) -> Result<Option<User>, StoreError> {
    tx.lock(id.0).await?;
    one_user(tx, id).await
}

/// The account, locked, if it was not deleted and still has this password hash.
async fn lock_with<S: Session>(tx: &mut S, id: UserId, password_hash: &str) -> Result<Option<User>, StoreError> {
    Ok(lock_living(tx, id).await?.filter(|user| user.password_hash == password_hash))
}

pub(super) async fn open_login<D: Database>(
    db: &D,
    token: &RefreshToken,
    password_hash: &str,
) -> Result<Option<u32>, StoreError> {
    let mut tx = db.transaction().await?;
    let Some(user) = lock_with(&mut tx, token.user_id, password_hash).await? else { return Ok(None) };
    add_token(&mut tx, token).await?;
    tx.commit().await?;
    Ok(Some(user.token_version))
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

/// One statement: a revocation is seen as a whole or not at all.
pub(super) async fn token_version<D: Database>(db: &D, hash: &[u8; 32]) -> Result<Option<u32>, StoreError> {
    let sql = "SELECT users.token_version FROM refresh_tokens JOIN users ON users.id = refresh_tokens.user_id \
               WHERE refresh_tokens.hash = $1 AND refresh_tokens.revoked_at IS NULL AND users.deleted_at IS NULL";
    let row = db.session().await?.one(sql, args![hash]).await?;
    row.as_ref().map(|row| rows::count(row, "token_version")).transpose()
}

/// Locks the account, so that a concurrent revocation either comes first and stops the rotation, or comes after it and
/// sees the new token. Row locks alone would miss a token.
pub(super) async fn rotate_refresh_token<D: Database>(
    db: &D,
    old: &[u8; 32],
    at: Timestamp,
    new: &RefreshToken,
) -> Result<Option<u32>, StoreError> {
    let mut tx = db.transaction().await?;
    let Some(user) = lock_living(&mut tx, new.user_id).await? else { return Ok(None) };
    let sql = "UPDATE refresh_tokens SET used_at = $2 WHERE hash = $1 AND used_at IS NULL AND revoked_at IS NULL";
    if tx.run(sql, args![old, at]).await? == 0 {
        return Ok(None);
    }
    add_token(&mut tx, new).await?;
    tx.commit().await?;
    Ok(Some(user.token_version))
}

pub(super) async fn revoke_refresh_family<D: Database>(db: &D, family: Uuid, at: Timestamp) -> Result<(), StoreError> {
    let mut tx = db.transaction().await?;
    let owner = tx.one("SELECT user_id FROM refresh_tokens WHERE family = $1 LIMIT 1", args![family]).await?;
    let Some(owner) = owner.map(|row| row.id("user_id")).transpose()? else { return Ok(()) };
    tx.lock(owner).await?;
    let sql = "UPDATE refresh_tokens SET revoked_at = $2 WHERE family = $1 AND revoked_at IS NULL";
    tx.run(sql, args![family, at]).await?;
    tx.commit().await
}

pub(super) async fn revoke_user_tokens<D: Database>(db: &D, user: UserId, at: Timestamp) -> Result<u32, StoreError> {
    let mut tx = db.transaction().await?;
    let version = lock(&mut tx, user).await?.token_version + 1;
    revoke_all(&mut tx, user, version, at).await?;
    tx.commit().await?;
    Ok(version)
}

/// Ends every login of a locked account, and every access token of a version below this one.
async fn revoke_all<S: Session>(tx: &mut S, user: UserId, version: u32, at: Timestamp) -> Result<(), StoreError> {
    let sql = "UPDATE users SET token_version = $2, tokens_revoked_at = $3 WHERE id = $1";
    tx.run(sql, args![user.0, version, at]).await?;
    let sql = "UPDATE refresh_tokens SET revoked_at = $2 WHERE user_id = $1 AND revoked_at IS NULL";
    tx.run(sql, args![user.0, at]).await.map(|_| ())
}

pub(super) async fn revoked_since<D: Database>(
    db: &D,
    since: Timestamp,
    limit: u32,
) -> Result<Vec<Revoked>, StoreError> {
    let mut session = db.session().await?;
    let sql = "SELECT id, token_version, tokens_revoked_at FROM users WHERE tokens_revoked_at >= $1 \
               ORDER BY tokens_revoked_at LIMIT $2";
    let accounts = session.all(sql, args![since, limit]).await?;
    let accounts = accounts.iter().map(|row| {
        let what = Revocation::Below(rows::count(row, "token_version")?);
        Ok(Revoked { user: UserId(row.id("id")?), what, at: rows::time(row, "tokens_revoked_at")? })
    });
    let mut revoked = accounts.collect::<Result<Vec<_>, StoreError>>()?;
    let sql = "SELECT family, user_id, revoked_at FROM refresh_tokens \
               WHERE revoked_at >= $1 AND used_at IS NULL ORDER BY revoked_at LIMIT $2";
    for row in session.all(sql, args![since, limit]).await? {
        let what = Revocation::Login(row.id("family")?);
        revoked.push(Revoked { user: UserId(row.id("user_id")?), what, at: rows::time(&row, "revoked_at")? });
    }
    Ok(revoked)
}

/// Applies the change to the locked account: of two concurrent changes, neither undoes the other.
pub(super) async fn update_user<D: Database>(
    db: &D,
    user: UserId,
    change: &UserChange,
    audit: &AuditRow,
) -> Result<User, StoreError> {
    let sql = "UPDATE users SET display_name = $2, private_follows = $3 WHERE id = $1";
    let UserChange { display_name, private_follows } = change;
    let mut tx = db.transaction().await?;
    let mut changed = lock(&mut tx, user).await?;
    if let Some(name) = display_name {
        changed.display_name.clone_from(name);
    }
    if let Some(private) = *private_follows {
        changed.private_follows = private;
        let sql = "UPDATE follows SET listed = $2 WHERE user_id = $1 AND listed <> $2";
        tx.run(sql, args![user.0, !private]).await?;
    }
    tx.run(sql, args![user.0, &changed.display_name, changed.private_follows]).await?;
    audit::add(&mut tx, audit).await?;
    tx.commit().await?;
    Ok(changed)
}

pub(super) async fn set_password<D: Database>(
    db: &D,
    from: &str,
    to: &str,
    login: &RefreshToken,
    audit: &AuditRow,
) -> Result<Option<u32>, StoreError> {
    let user = login.user_id;
    let mut tx = db.transaction().await?;
    let Some(found) = lock_with(&mut tx, user, from).await? else { return Ok(None) };
    let version = found.token_version + 1;
    tx.run("UPDATE users SET password_hash = $2 WHERE id = $1", args![user.0, to]).await?;
    revoke_all(&mut tx, user, version, login.created_at).await?;
    add_token(&mut tx, login).await?;
    audit::add(&mut tx, audit).await?;
    tx.commit().await?;
    Ok(Some(version))
}

/// Raises the token version under the account's lock, so that a login checked against the old password does not
/// survive.
pub(super) async fn promote_to_admin<D: Database>(
    db: &D,
    user: UserId,
    hash: &str,
    audit: &AuditRow,
) -> Result<bool, StoreError> {
    let mut tx = db.transaction().await?;
    let Some(found) = lock_living(&mut tx, user).await? else { return Ok(false) };
    let sql = "UPDATE users SET role = 'admin', password_hash = $2 WHERE id = $1";
    tx.run(sql, args![user.0, hash]).await?;
    revoke_all(&mut tx, user, found.token_version + 1, audit.at).await?;
    audit::add(&mut tx, audit).await?;
    tx.commit().await?;
    Ok(true)
}

/// Orders read at once.
const ORDERS_AT_ONCE: u32 = 500;

/// Hashes the keys of old orders, whose text may identify the buyer.
async fn hash_keys<D: Database>(tx: &mut D::Session, buyer: UserId) -> Result<(), StoreError> {
    let mut before = Uuid::max();
    loop {
        let rows = tx.all(D::ORDERS_OF, args![buyer.0, before, ORDERS_AT_ONCE]).await?;
        let Some(last) = rows.last() else { return Ok(()) };
        before = last.id("id")?;
        let mut plain = Vec::new();
        for row in &rows {
            if rows::has_plain_key(row)? {
                plain.push(rows::order(row)?);
            }
        }
        // Rows are not kept over an await: a driver's rows need not be shareable between threads.
        drop(rows);
        for order in plain {
            let sql = "UPDATE orders SET key = $3 WHERE drop_tag = $1 AND id = $2";
            tx.run(sql, args![rows::tag_of(order.id), order.id.0, &rows::key_text(order.digest)]).await?;
        }
    }
}

/// Deletes everything personal. The rest refers to nobody: an address that cannot be registered, placeholder names, and
/// no password. Its products are no longer for sale.
pub(super) async fn delete_user<D: Database>(
    db: &D,
    user: UserId,
    password_hash: &str,
    audit: &AuditRow,
) -> Result<Option<u32>, StoreError> {
    let mut tx = db.transaction().await?;
    // Takes this lock first, as all code does: a concurrent follow or login holds it while it waits for rows.
    let Some(found) = lock_with(&mut tx, user, password_hash).await? else { return Ok(None) };
    let version = found.token_version + 1;
    let (nobody, none) = (format!("deleted:{user}"), "");
    let sql = "UPDATE users SET email = $2, email_key = NULL, display_name = 'deleted', password_hash = $3, role = 'user', \
               private_follows = 1, deleted_at = $4 WHERE id = $1";
    tx.run(sql, args![user.0, &nobody, none, audit.at]).await?;
    tx.lock_profiles(user.0).await?;
    let sql = "UPDATE creators SET handle = $2, display_name = 'deleted', bio = $3 WHERE id = $1";
    tx.run(sql, args![user.0, &nobody, none]).await?;
    let sql = "UPDATE creators SET follower_count = follower_count - 1 \
               WHERE id IN (SELECT creator_id FROM follows WHERE user_id = $1)";
    tx.run(sql, args![user.0]).await?;
    tx.run("DELETE FROM follows WHERE user_id = $1", args![user.0]).await?;
    let sql = "UPDATE products SET status = 'archived', updated_at = $2, version = version + 1 \
               WHERE creator_id = $1 AND status = 'active'";
    tx.run(sql, args![user.0, audit.at]).await?;
    inbox::delete::<D>(&mut tx, user).await?;
    revoke_all(&mut tx, user, version, audit.at).await?;
    hash_keys::<D>(&mut tx, user).await?;
    tx.run("DELETE FROM refresh_tokens WHERE user_id = $1", args![user.0]).await?;
    // An order may name them: what is not needed is forgotten within a day or two.
    let sql = "INSERT INTO past_addresses (id, address_id, user_id, updated_at, key_id, data_key, sealed, retired_at) \
               SELECT id, address_id, user_id, updated_at, key_id, data_key, sealed, $2 FROM addresses WHERE user_id = $1";
    tx.run(sql, args![user.0, audit.at]).await?;
    tx.run("DELETE FROM addresses WHERE user_id = $1", args![user.0]).await?;
    tx.run("DELETE FROM refund_requests WHERE buyer_id = $1", args![user.0]).await?;
    keys::forget_user(&mut tx, user).await?;
    audit::add(&mut tx, audit).await?;
    // The trail keeps the act and its actor, but no longer the address.
    tx.run("UPDATE audit SET origin = '' WHERE actor_id = $1 AND origin <> ''", args![user.0]).await?;
    let sql = "UPDATE audit SET origin = '' WHERE object_id = $1 AND actor_id IS NULL AND origin <> ''";
    tx.run(sql, args![user.0]).await?;
    tx.commit().await?;
    Ok(Some(version))
}
