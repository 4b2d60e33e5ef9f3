//! The common interface of the two databases, so that everything else is written once: sessions that run statements,
//! values as parameters, rows as results, and the projection's bulk writes.
//!
//! Both understand `$1`, the same `SELECT`s and `ON CONFLICT`, so most statements are one text. The differences (bulk
//! writes, lists of ids, locks) are methods of [`Session`].

use super::StoreError;
use crate::domain::{OrderId, Timestamp};
use crate::storage::projection::fold::{DropImage, NewOrder, OrderImage, OrderNotification, VariantImage};
use crate::storage::{OrderNote, PaymentNote};
use sqlx::SqlSafeStr;
use std::{future::Future, path::Path, sync::Arc, time::Duration};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use uuid::Uuid;

/// A value for a placeholder.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Id(Option<Uuid>),
    Int(Option<i64>),
    Text(Option<String>),
    Bytes(Vec<u8>),
}

macro_rules! value_from {
    ($($from:ty => |$value:ident| $make:expr),+ $(,)?) => {
        $(impl From<$from> for Value {
            fn from($value: $from) -> Self {
                $make
            }
        })+
    };
}

value_from! {
    Uuid => |id| Self::Id(Some(id)),
    Option<Uuid> => |id| Self::Id(id),
    bool => |flag| Self::Int(Some(i64::from(flag))),
    Option<bool> => |flag| Self::Int(flag.map(i64::from)),
    i64 => |int| Self::Int(Some(int)),
    i32 => |int| Self::Int(Some(i64::from(int))),
    u32 => |int| Self::Int(Some(i64::from(int))),
    Option<u32> => |int| Self::Int(int.map(i64::from)),
    u64 => |int| Self::Int(Some(int.cast_signed())),
    &str => |text| Self::Text(Some(text.to_owned())),
    Option<&str> => |text| Self::Text(text.map(str::to_owned)),
    Option<String> => |text| Self::Text(text),
    &String => |text| Self::Text(Some(text.clone())),
    &Option<String> => |text| Self::Text(text.clone()),
    &[u8; 32] => |hash| Self::Bytes(hash.to_vec()),
    &[u8] => |bytes| Self::Bytes(bytes.to_vec()),
    Timestamp => |at| Self::Int(Some(at.as_millis())),
    Option<Timestamp> => |at| Self::Int(at.map(Timestamp::as_millis)),
}

/// The values of a statement's placeholders, in order.
macro_rules! args {
    ($($value:expr),* $(,)?) => { vec![$($crate::storage::sql::Value::from($value)),*] };
}
pub(super) use args;

/// Reads a row by column name. A column that is missing or of another type is [`StoreError::Corrupt`].
pub(super) trait Columns: Send {
    fn maybe_id(&self, column: &'static str) -> Result<Option<Uuid>, StoreError>;
    fn maybe_int(&self, column: &'static str) -> Result<Option<i64>, StoreError>;
    fn maybe_text(&self, column: &'static str) -> Result<Option<String>, StoreError>;
    fn bytes(&self, column: &'static str) -> Result<Vec<u8>, StoreError>;
    fn flag(&self, column: &'static str) -> Result<bool, StoreError>;

    fn id(&self, column: &'static str) -> Result<Uuid, StoreError> {
        self.maybe_id(column)?.ok_or_else(|| unexpected_null(column))
    }
    fn int(&self, column: &'static str) -> Result<i64, StoreError> {
        self.maybe_int(column)?.ok_or_else(|| unexpected_null(column))
    }
    fn text(&self, column: &'static str) -> Result<String, StoreError> {
        self.maybe_text(column)?.ok_or_else(|| unexpected_null(column))
    }
}

fn unexpected_null(column: &'static str) -> StoreError {
    StoreError::Corrupt(format!("column {column} is null"))
}

/// Implements [`Columns`] for a driver's row type.
macro_rules! columns {
    ($row:ty) => {
        impl $crate::storage::sql::Columns for $row {
            fn maybe_id(&self, column: &'static str) -> Result<Option<uuid::Uuid>, $crate::storage::StoreError> {
                sqlx::Row::try_get(self, column).map_err($crate::storage::failure::from_sqlx)
            }
            fn maybe_int(&self, column: &'static str) -> Result<Option<i64>, $crate::storage::StoreError> {
                sqlx::Row::try_get(self, column).map_err($crate::storage::failure::from_sqlx)
            }
            fn maybe_text(&self, column: &'static str) -> Result<Option<String>, $crate::storage::StoreError> {
                sqlx::Row::try_get(self, column).map_err($crate::storage::failure::from_sqlx)
            }
            fn bytes(&self, column: &'static str) -> Result<Vec<u8>, $crate::storage::StoreError> {
                sqlx::Row::try_get(self, column).map_err($crate::storage::failure::from_sqlx)
            }
            fn flag(&self, column: &'static str) -> Result<bool, $crate::storage::StoreError> {
                sqlx::Row::try_get(self, column).map_err($crate::storage::failure::from_sqlx)
            }
        }
    };
}
pub(super) use columns;

/// A connection, taken from the pool for one operation and returned on drop. One from [`Database::transaction`] rolls
/// back unless [`Session::commit`] returns.
pub(super) trait Session: Send {
    /// A row of the driver.
    type Row: Columns;

    /// All rows of a query.
    fn all(
        &mut self,
        sql: impl SqlSafeStr + Send,
        args: Vec<Value>,
    ) -> impl Future<Output = Result<Vec<Self::Row>, StoreError>> + Send;

    /// Runs a statement; returns the number of changed rows.
    fn run(
        &mut self,
        sql: impl SqlSafeStr + Send,
        args: Vec<Value>,
    ) -> impl Future<Output = Result<u64, StoreError>> + Send;

    /// All rows with an id in `ids`: `sql` is completed with the list, then with `tail`. Any number of ids, any order.
    fn all_of(
        &mut self,
        sql: &'static str,
        ids: &[Uuid],
        tail: &'static str,
    ) -> impl Future<Output = Result<Vec<Self::Row>, StoreError>> + Send;

    /// The rows of orders. Any number, any order.
    fn orders(&mut self, ids: &[OrderId]) -> impl Future<Output = Result<Vec<Self::Row>, StoreError>> + Send;

    /// Blocks other transactions that take the same lock until this one ends. An account's key is its id: see the order
    /// of locks in [`crate::storage`].
    fn lock(&mut self, key: Uuid) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Locks the profiles of an account and of all creators it follows, in the order of their ids. The caller holds the
    /// account's lock.
    fn lock_profiles(&mut self, user: Uuid) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// The row of a watermark, locked until this transaction ends.
    fn lock_watermark(&mut self, journal: Uuid) -> impl Future<Output = Result<Option<Self::Row>, StoreError>> + Send;

    /// Adds drops with all their variants.
    fn insert_drops(&mut self, drops: &[&DropImage]) -> impl Future<Output = Result<(), StoreError>> + Send;
    /// Rewrites the changing columns of drops.
    fn update_drops(&mut self, drops: &[&DropImage]) -> impl Future<Output = Result<(), StoreError>> + Send;
    /// Rewrites the stock of variants.
    fn update_variants(&mut self, variants: &[VariantImage]) -> impl Future<Output = Result<(), StoreError>> + Send;
    /// Adds orders in their final state.
    fn insert_orders(&mut self, orders: &[NewOrder]) -> impl Future<Output = Result<(), StoreError>> + Send;
    /// Rewrites the changing columns of orders.
    fn update_orders(&mut self, orders: &[OrderImage]) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Adds history that orders' rows do not keep.
    fn insert_payment_notes(&mut self, notes: &[PaymentNote]) -> impl Future<Output = Result<(), StoreError>> + Send;
    fn insert_notes(&mut self, notes: &[OrderNote]) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Adds notifications of orders to their buyers' inboxes.
    fn insert_order_news(
        &mut self,
        journal: Uuid,
        notifications: &[OrderNotification],
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Commits the transaction; a commit without an answer may have happened.
    fn commit(self) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// The only row of a query, if there is one.
    fn one(
        &mut self,
        sql: impl SqlSafeStr + Send,
        args: Vec<Value>,
    ) -> impl Future<Output = Result<Option<Self::Row>, StoreError>> + Send {
        async move { Ok(self.all(sql, args).await?.into_iter().next()) }
    }
}

/// A database: a bounded number of sessions, and the statements that differ.
pub(super) trait Database: Send + Sync + 'static {
    /// The type of its sessions.
    type Session: Session + 'static;
    /// Either `sqlite` or `postgres`.
    const KIND: &'static str;

    /// An expression: the time of the database's clock, in milliseconds.
    const NOW_MS: &'static str;
    /// A query that returns a row if there is a table of migrations.
    const HAS_MIGRATIONS: &'static str;
    /// An expression: the first of a product's `images`, as JSON text, null if there is none.
    const FIRST_IMAGE: &'static str;
    /// A query: `$1`'s orders with ids below `$2`, newest first, at most `$3`.
    const ORDERS_OF: &'static str;
    /// A query: the first order that `$1` placed with a key of the bits `$2`, stored as `$3` or `$4`.
    const ORDER_OF_KEY: &'static str;
    /// The prefix of a condition on the user of inbox entries, if the index begins with another column.
    const OF_INBOX: &'static str;

    /// A session for reading.
    fn session(&self) -> impl Future<Output = Result<Self::Session, StoreError>> + Send;
    /// A session for public lists, which may only take some of all sessions.
    fn browse(&self) -> impl Future<Output = Result<Self::Session, StoreError>> + Send;
    /// A session that commits or rolls back as a whole.
    fn transaction(&self) -> impl Future<Output = Result<Self::Session, StoreError>> + Send;
    /// The number of this program's last migration.
    fn latest_migration() -> i64;
    /// Applies the migrations that the schema lacks.
    fn migrate(&self) -> impl Future<Output = Result<(), StoreError>> + Send;
    /// Removes deleted data from the files in which this database would leave it. Returns at once; the work is done
    /// moments later.
    fn erase_deleted(&self) {}
    /// Waits at most [`CLOSE_TIMEOUT`].
    fn close(&self) -> impl Future<Output = ()> + Send;
    /// Writes a consistent copy of the database into an empty file.
    fn copy_into(&self, file: &Path) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// How long an operation waits for a slot, and then for a connection.
pub(super) const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(2);
/// How long one statement may run in the database, and a client's whole operation may take.
pub(super) const STATEMENT_TIMEOUT: Duration = Duration::from_secs(20);
/// The client-side limit of an operation: a connection that hangs (no answer, no reset) is given up after this.
pub(super) const OPERATION_TIMEOUT: Duration = Duration::from_secs(30);

const _: () = assert!(ACQUIRE_TIMEOUT.as_secs() + STATEMENT_TIMEOUT.as_secs() < OPERATION_TIMEOUT.as_secs());

/// How long connections may take to close.
pub(super) const CLOSE_TIMEOUT: Duration = Duration::from_secs(3);

/// Slots for operations, so that a crowd waits here and not in the pool, which would open and close connections. Reads
/// of public lists take at most half of them: the others are for logins and for users' own requests.
#[derive(Clone)]
pub(super) struct Slots {
    all: Arc<Semaphore>,
    browsing: Arc<Semaphore>,
}

/// A taken slot, until it is dropped.
pub(super) struct Slot {
    _of_all: OwnedSemaphorePermit,
    _of_browsing: Option<OwnedSemaphorePermit>,
}

impl Slots {
    pub fn new(count: u32) -> Self {
        let count = count as usize;
        Self { all: Arc::new(Semaphore::new(count)), browsing: Arc::new(Semaphore::new((count / 2).max(1))) }
    }

    /// Waits for a slot, up to [`ACQUIRE_TIMEOUT`].
    pub async fn take(&self) -> Result<Slot, StoreError> {
        Ok(Slot { _of_all: permit(&self.all).await?, _of_browsing: None })
    }

    /// Like [`Self::take`], among the slots for public lists.
    pub async fn take_for_browsing(&self) -> Result<Slot, StoreError> {
        let browsing = permit(&self.browsing).await?;
        Ok(Slot { _of_all: permit(&self.all).await?, _of_browsing: Some(browsing) })
    }
}

async fn permit(slots: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, StoreError> {
    match tokio::time::timeout(ACQUIRE_TIMEOUT, Arc::clone(slots).acquire_owned()).await {
        Ok(Ok(permit)) => Ok(permit),
        Ok(Err(_)) => Err(StoreError::Unavailable(sqlx::Error::PoolClosed)),
        Err(_) => Err(StoreError::Unavailable(sqlx::Error::PoolTimedOut)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[tokio::test]
    async fn a_crowd_that_browses_leaves_half_of_the_places_to_the_others() {
        let slots = Slots::new(8);
        let mut crowd = Vec::new();
        while let Some(place) = slots.take_for_browsing().now_or_never() {
            crowd.push(place.expect("a place"));
        }
        assert_eq!(crowd.len(), 4);
        let others: Vec<_> = (0..4).map(|_| slots.take().now_or_never().expect("a place at once")).collect();
        assert!(others.iter().all(Result::is_ok) && slots.take().now_or_never().is_none());
        drop(crowd);
        assert!(slots.take_for_browsing().now_or_never().is_some());
        assert!(Slots::new(1).take_for_browsing().now_or_never().is_some());
    }
}
