//! Addresses of users. Only ciphertext comes here: see [`crate::service::encryption`].

use super::sql::{Columns, Database, Session, args};
use super::store::{SqlStore, timely};
use super::{AddressRow, AuditRow, StoreError, accounts, audit, rows};
use crate::domain::limits::ADDRESSES_PER_USER_MAX;
use crate::domain::{AddressId, AddressVersionId, OrderStatus, Timestamp, UserId};
use async_trait::async_trait;
use uuid::Uuid;

/// The addresses that are kept, and the keys that wrap them.
#[async_trait]
pub trait AddressBook: Send + Sync {
    /// All addresses of a user, the oldest first.
    async fn addresses(&self, user: UserId) -> Result<Vec<AddressRow>, StoreError>;
    /// One address of a user.
    async fn address(&self, user: UserId, id: AddressId) -> Result<Option<AddressRow>, StoreError>;
    /// Adds an address; `false` if the user has as many as are allowed. `Missing` if the account was deleted.
    async fn add_address(&self, row: &AddressRow, audit: &AuditRow) -> Result<bool, StoreError>;
    /// Puts another version in the place of version `from`; `false` if that is not the address's version.
    async fn change_address(
        &self,
        row: &AddressRow,
        from: AddressVersionId,
        audit: &AuditRow,
    ) -> Result<bool, StoreError>;
    /// A version of an address of a user, also one that was changed or deleted, if it is still kept.
    async fn address_version(&self, user: UserId, version: AddressVersionId) -> Result<Option<AddressRow>, StoreError>;
    /// Forgets some of the versions that were changed or deleted before `before`, unless an order names them; and those
    /// from before `long_before`. Returns where to go on, if there may be more.
    async fn forget_past_addresses(
        &self,
        before: Timestamp,
        long_before: Timestamp,
        after: Option<AddressVersionId>,
    ) -> Result<Option<AddressVersionId>, StoreError>;
    /// Deletes an address; `false` if the user has no such one.
    async fn delete_address(&self, user: UserId, id: AddressId, audit: &AuditRow) -> Result<bool, StoreError>;

    /// Whether anything is encrypted.
    async fn has_encrypted_rows(&self) -> Result<bool, StoreError>;
    /// The keys that wrap something, and how many rows each.
    async fn wrapping_keys(&self) -> Result<Vec<(String, u64)>, StoreError>;
    /// Rows that other keys than `key` wrap, by rising version, those after `after`.
    async fn wrapped_by_others(
        &self,
        key: &str,
        after: Option<AddressVersionId>,
        limit: u32,
    ) -> Result<Vec<AddressRow>, StoreError>;
    /// Replaces the wrapped data key of version `id`, if the key `from` still wraps it. Returns whether it did.
    async fn rewrap(&self, id: AddressVersionId, from: &str, key: &str, data_key: &[u8]) -> Result<bool, StoreError>;
}

#[async_trait]
impl<D: Database> AddressBook for SqlStore<D> {
    async fn addresses(&self, user: UserId) -> Result<Vec<AddressRow>, StoreError> {
        timely(of_user(self.database(), user)).await
    }
    async fn address(&self, user: UserId, id: AddressId) -> Result<Option<AddressRow>, StoreError> {
        timely(get(self.database(), user, id)).await
    }
    async fn add_address(&self, row: &AddressRow, audit: &AuditRow) -> Result<bool, StoreError> {
        timely(add(self.database(), row, audit)).await
    }
    async fn change_address(
        &self,
        row: &AddressRow,
        from: AddressVersionId,
        audit: &AuditRow,
    ) -> Result<bool, StoreError> {
        timely(change(self.database(), row, from, audit)).await
    }
    async fn delete_address(&self, user: UserId, id: AddressId, audit: &AuditRow) -> Result<bool, StoreError> {
        timely(delete(self.database(), user, id, audit)).await
    }
    async fn address_version(&self, user: UserId, version: AddressVersionId) -> Result<Option<AddressRow>, StoreError> {
        timely(version_of(self.database(), user, version)).await
    }
    async fn forget_past_addresses(
        &self,
        before: Timestamp,
        long_before: Timestamp,
        after: Option<AddressVersionId>,
    ) -> Result<Option<AddressVersionId>, StoreError> {
        timely(forget_past(self.database(), (before, long_before), after)).await
    }
    async fn has_encrypted_rows(&self) -> Result<bool, StoreError> {
        timely(has_any(self.database())).await
    }
    async fn wrapping_keys(&self) -> Result<Vec<(String, u64)>, StoreError> {
        timely(wrapping_keys(self.database())).await
    }
    async fn wrapped_by_others(
        &self,
        key: &str,
        after: Option<AddressVersionId>,
        limit: u32,
    ) -> Result<Vec<AddressRow>, StoreError> {
        timely(wrapped_by_others(self.database(), key, after, limit)).await
    }
    async fn rewrap(&self, id: AddressVersionId, from: &str, key: &str, data_key: &[u8]) -> Result<bool, StoreError> {
        timely(rewrap(self.database(), id, (from, key), data_key)).await
    }
}

/// A query for addresses.
macro_rules! rows_where {
    ($condition:literal) => {
        concat!(
            "SELECT id, address_id, user_id, updated_at, key_id, data_key, sealed FROM addresses WHERE ",
            $condition
        )
    };
}

fn row<R: Columns>(row: &R) -> Result<AddressRow, StoreError> {
    Ok(AddressRow {
        version: AddressVersionId(row.id("id")?),
        address: AddressId(row.id("address_id")?),
        user: UserId(row.id("user_id")?),
        updated_at: Timestamp::from_millis(row.int("updated_at")?),
        key: row.text("key_id")?,
        data_key: row.bytes("data_key")?,
        sealed: row.bytes("sealed")?,
    })
}

async fn of_user<D: Database>(db: &D, user: UserId) -> Result<Vec<AddressRow>, StoreError> {
    let sql = rows_where!("user_id = $1 ORDER BY address_id");
    let rows = db.session().await?.all(sql, args![user.0]).await?;
    rows.iter().map(row).collect()
}

async fn get<D: Database>(db: &D, user: UserId, id: AddressId) -> Result<Option<AddressRow>, StoreError> {
    let sql = rows_where!("address_id = $1 AND user_id = $2");
    db.session().await?.one(sql, args![id.0, user.0]).await?.as_ref().map(row).transpose()
}

async fn insert<S: Session>(tx: &mut S, row: &AddressRow) -> Result<(), StoreError> {
    let sql = "INSERT INTO addresses (id, address_id, user_id, updated_at, key_id, data_key, sealed) \
               VALUES ($1, $2, $3, $4, $5, $6, $7)";
    let AddressRow { version, address, user, updated_at, key, data_key, sealed } = row;
    let values = args![version.0, address.0, user.0, *updated_at, key, data_key.as_slice(), sealed.as_slice()];
    tx.run(sql, values).await.map(|_| ())
}

async fn add<D: Database>(db: &D, row: &AddressRow, audit: &AuditRow) -> Result<bool, StoreError> {
    let mut tx = db.transaction().await?;
    // One user's additions happen one at a time, and none after the account was deleted.
    accounts::lock(&mut tx, row.user).await?;
    let sql = "SELECT count(*) AS kept FROM addresses WHERE user_id = $1";
    let kept = tx.one(sql, args![row.user.0]).await?.map(|row| row.int("kept")).transpose()?.unwrap_or(0);
    if kept >= i64::from(ADDRESSES_PER_USER_MAX) {
        return Ok(false);
    }
    insert(&mut tx, row).await?;
    audit::add(&mut tx, audit).await?;
    tx.commit().await?;
    Ok(true)
}

async fn change<D: Database>(
    db: &D,
    row: &AddressRow,
    from: AddressVersionId,
    audit: &AuditRow,
) -> Result<bool, StoreError> {
    let mut tx = db.transaction().await?;
    accounts::lock(&mut tx, row.user).await?;
    if !retire(&mut tx, row.user, row.address, Some(from), audit.at).await? {
        return Ok(false);
    }
    insert(&mut tx, row).await?;
    audit::add(&mut tx, audit).await?;
    tx.commit().await?;
    Ok(true)
}

async fn delete<D: Database>(db: &D, user: UserId, id: AddressId, audit: &AuditRow) -> Result<bool, StoreError> {
    let mut tx = db.transaction().await?;
    tx.lock(user.0).await?;
    if !retire(&mut tx, user, id, None, audit.at).await? {
        return Ok(false);
    }
    audit::add(&mut tx, audit).await?;
    tx.commit().await?;
    Ok(true)
}

/// Moves the latest version of an address to the past ones, if it is `version` or that is not given.
async fn retire<S: Session>(
    tx: &mut S,
    user: UserId,
    id: AddressId,
    version: Option<AddressVersionId>,
    at: Timestamp,
) -> Result<bool, StoreError> {
    let sql = "INSERT INTO past_addresses (id, address_id, user_id, updated_at, key_id, data_key, sealed, retired_at) \
               SELECT id, address_id, user_id, updated_at, key_id, data_key, sealed, $3 FROM addresses \
               WHERE address_id = $1 AND user_id = $2";
    let known = tx.one("SELECT id FROM addresses WHERE address_id = $1 AND user_id = $2", args![id.0, user.0]).await?;
    let Some(known) = known.map(|row| row.id("id")).transpose()? else { return Ok(false) };
    if version.is_some_and(|version| version.0 != known) {
        return Ok(false);
    }
    tx.run(sql, args![id.0, user.0, at]).await?;
    tx.run("DELETE FROM addresses WHERE id = $1", args![known]).await?;
    Ok(true)
}

async fn version_of<D: Database>(
    db: &D,
    user: UserId,
    version: AddressVersionId,
) -> Result<Option<AddressRow>, StoreError> {
    let mut session = db.session().await?;
    let sql = rows_where!("id = $1 AND user_id = $2");
    if let Some(found) = session.one(sql, args![version.0, user.0]).await? {
        return row(&found).map(Some);
    }
    let sql = "SELECT id, address_id, user_id, updated_at, key_id, data_key, sealed FROM past_addresses \
               WHERE id = $1 AND user_id = $2";
    session.one(sql, args![version.0, user.0]).await?.as_ref().map(row).transpose()
}

/// Past versions looked at by one transaction, and orders read at once for each.
const FORGOTTEN_AT_ONCE: u32 = 50;
const ORDERS_AT_ONCE: u32 = 500;

async fn forget_past<D: Database>(
    db: &D,
    (before, long_before): (Timestamp, Timestamp),
    after: Option<AddressVersionId>,
) -> Result<Option<AddressVersionId>, StoreError> {
    let after = after.map_or(Uuid::nil(), |version| version.0);
    let sql =
        "SELECT id, user_id, retired_at FROM past_addresses WHERE retired_at < $1 AND id > $2 ORDER BY id LIMIT $3";
    let mut tx = db.transaction().await?;
    let rows = tx.all(sql, args![before, after, FORGOTTEN_AT_ONCE]).await?;
    let past: Vec<(Uuid, Uuid, i64)> = rows
        .iter()
        .map(|row| Ok((row.id("id")?, row.id("user_id")?, row.int("retired_at")?)))
        .collect::<Result<_, StoreError>>()?;
    drop(rows);
    for &(version, user, retired_at) in &past {
        let is_old = retired_at < long_before.as_millis();
        if is_old || !is_named::<D>(&mut tx, user, AddressVersionId(version)).await? {
            tx.run("DELETE FROM past_addresses WHERE id = $1", args![version]).await?;
        }
    }
    tx.commit().await?;
    let is_full = past.len() == FORGOTTEN_AT_ONCE as usize;
    Ok(past.last().filter(|_| is_full).map(|(version, ..)| AddressVersionId(*version)))
}

/// Whether an order of a user that was not released names a version.
async fn is_named<D: Database>(tx: &mut D::Session, user: Uuid, version: AddressVersionId) -> Result<bool, StoreError> {
    let mut before = Uuid::max();
    loop {
        let found = tx.all(D::ORDERS_OF, args![user, before, ORDERS_AT_ONCE]).await?;
        let Some(last) = found.last() else { return Ok(false) };
        before = last.id("id")?;
        for row in &found {
            let order = rows::order(row)?;
            let names = order.delivery.as_ref().is_some_and(|delivery| delivery.address == version);
            if names && order.status != OrderStatus::Released {
                return Ok(true);
            }
        }
    }
}

async fn has_any<D: Database>(db: &D) -> Result<bool, StoreError> {
    Ok(db
        .session()
        .await?
        .one("SELECT id FROM addresses UNION ALL SELECT id FROM past_addresses LIMIT 1", args![])
        .await?
        .is_some())
}

async fn wrapping_keys<D: Database>(db: &D) -> Result<Vec<(String, u64)>, StoreError> {
    let sql = "SELECT key_id, count(*) AS wrapped FROM (SELECT key_id FROM addresses UNION ALL SELECT key_id FROM past_addresses) each_row \
               GROUP BY key_id ORDER BY key_id";
    let rows = db.session().await?.all(sql, args![]).await?;
    rows.iter().map(|row| Ok((row.text("key_id")?, row.int("wrapped")?.cast_unsigned()))).collect()
}

async fn wrapped_by_others<D: Database>(
    db: &D,
    key: &str,
    after: Option<AddressVersionId>,
    limit: u32,
) -> Result<Vec<AddressRow>, StoreError> {
    let sql = "SELECT id, address_id, user_id, updated_at, key_id, data_key, sealed FROM \
               (SELECT id, address_id, user_id, updated_at, key_id, data_key, sealed FROM addresses UNION ALL \
               SELECT id, address_id, user_id, updated_at, key_id, data_key, sealed FROM past_addresses) each_row \
               WHERE key_id <> $1 AND id > $2 ORDER BY id LIMIT $3";
    let rows = db.session().await?.all(sql, args![key, after.map_or(Uuid::nil(), |version| version.0), limit]).await?;
    rows.iter().map(row).collect()
}

async fn rewrap<D: Database>(
    db: &D,
    id: AddressVersionId,
    (from, key): (&str, &str),
    data_key: &[u8],
) -> Result<bool, StoreError> {
    let sql = [
        "UPDATE addresses SET key_id = $3, data_key = $4 WHERE id = $1 AND key_id = $2",
        "UPDATE past_addresses SET key_id = $3, data_key = $4 WHERE id = $1 AND key_id = $2",
    ];
    let mut tx = db.transaction().await?;
    let mut changed = 0;
    for sql in sql {
        changed += tx.run(sql, args![id.0, from, key, data_key]).await?;
    }
    tx.commit().await?;
    Ok(changed > 0)
}
