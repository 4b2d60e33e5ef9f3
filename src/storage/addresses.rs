//! Addresses of users. Only ciphertext comes here: see [`crate::service::encryption`].

use super::sql::{Columns, Database, Session, args};
use super::store::{SqlStore, timely};
use super::{AddressRow, AuditRow, StoreError, accounts, audit};
use crate::domain::limits::ADDRESSES_PER_USER_MAX;
use crate::domain::{AddressId, Timestamp, UserId};
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
    async fn change_address(&self, row: &AddressRow, from: Uuid, audit: &AuditRow) -> Result<bool, StoreError>;
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
        after: Option<Uuid>,
        limit: u32,
    ) -> Result<Vec<AddressRow>, StoreError>;
    /// Replaces the wrapped data key of version `id`, if the key `from` still wraps it. Returns whether it did.
    async fn rewrap(&self, id: Uuid, from: &str, key: &str, data_key: &[u8]) -> Result<bool, StoreError>;
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
    async fn change_address(&self, row: &AddressRow, from: Uuid, audit: &AuditRow) -> Result<bool, StoreError> {
        timely(change(self.database(), row, from, audit)).await
    }
    async fn delete_address(&self, user: UserId, id: AddressId, audit: &AuditRow) -> Result<bool, StoreError> {
        timely(delete(self.database(), user, id, audit)).await
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
        after: Option<Uuid>,
        limit: u32,
    ) -> Result<Vec<AddressRow>, StoreError> {
        timely(wrapped_by_others(self.database(), key, after, limit)).await
    }
    async fn rewrap(&self, id: Uuid, from: &str, key: &str, data_key: &[u8]) -> Result<bool, StoreError> {
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
        version: row.id("id")?,
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
    let values = args![*version, address.0, user.0, *updated_at, key, data_key.as_slice(), sealed.as_slice()];
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

async fn change<D: Database>(db: &D, row: &AddressRow, from: Uuid, audit: &AuditRow) -> Result<bool, StoreError> {
    let mut tx = db.transaction().await?;
    accounts::lock(&mut tx, row.user).await?;
    let sql = "DELETE FROM addresses WHERE id = $1 AND address_id = $2 AND user_id = $3";
    if tx.run(sql, args![from, row.address.0, row.user.0]).await? == 0 {
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
    let sql = "DELETE FROM addresses WHERE address_id = $1 AND user_id = $2";
    if tx.run(sql, args![id.0, user.0]).await? == 0 {
        return Ok(false);
    }
    audit::add(&mut tx, audit).await?;
    tx.commit().await?;
    Ok(true)
}

async fn has_any<D: Database>(db: &D) -> Result<bool, StoreError> {
    Ok(db.session().await?.one("SELECT id FROM addresses LIMIT 1", args![]).await?.is_some())
}

async fn wrapping_keys<D: Database>(db: &D) -> Result<Vec<(String, u64)>, StoreError> {
    let sql = "SELECT key_id, count(*) AS wrapped FROM addresses GROUP BY key_id ORDER BY key_id";
    let rows = db.session().await?.all(sql, args![]).await?;
    rows.iter().map(|row| Ok((row.text("key_id")?, row.int("wrapped")?.cast_unsigned()))).collect()
}

async fn wrapped_by_others<D: Database>(
    db: &D,
    key: &str,
    after: Option<Uuid>,
    limit: u32,
) -> Result<Vec<AddressRow>, StoreError> {
    let sql = rows_where!("key_id <> $1 AND id > $2 ORDER BY id LIMIT $3");
    let rows = db.session().await?.all(sql, args![key, after.unwrap_or_default(), limit]).await?;
    rows.iter().map(row).collect()
}

async fn rewrap<D: Database>(db: &D, id: Uuid, (from, key): (&str, &str), data_key: &[u8]) -> Result<bool, StoreError> {
    let sql = "UPDATE addresses SET key_id = $3, data_key = $4 WHERE id = $1 AND key_id = $2";
    let mut tx = db.transaction().await?;
    let changed = tx.run(sql, args![id, from, key, data_key]).await?;
    tx.commit().await?;
    Ok(changed > 0)
}
