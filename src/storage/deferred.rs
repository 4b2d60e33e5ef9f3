//! A database that is connected to later: a server that starts without it has a [`Store`] at once, whose operations fail
//! with [`StoreError::Unavailable`] until the database is there.

use super::postgres::PostgresDatabase;
use super::sql::Database;
use super::store::SqlStore;
use super::{Store, StoreError, StoreOptions};
use std::io::ErrorKind;
use std::path::Path;
use std::sync::{Arc, OnceLock};

/// A database, or none yet. Clones share it.
struct Late<D>(Arc<OnceLock<Arc<D>>>);

impl<D> Default for Late<D> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<D> Clone for Late<D> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<D: Database> Late<D> {
    fn of(database: Arc<D>) -> Self {
        Self(Arc::new(OnceLock::from(database)))
    }

    fn get(&self) -> Result<&D, StoreError> {
        let away = || StoreError::unavailable(ErrorKind::NotConnected, "it was away at the start and is not back yet");
        self.0.get().map(|database| &**database).ok_or_else(away)
    }
}

impl<D: Database> Database for Late<D> {
    type Session = D::Session;
    const KIND: &'static str = D::KIND;
    const NOW_MS: &'static str = D::NOW_MS;
    const HAS_MIGRATIONS: &'static str = D::HAS_MIGRATIONS;
    const FIRST_IMAGE: &'static str = D::FIRST_IMAGE;
    const ORDERS_OF: &'static str = D::ORDERS_OF;
    const ORDER_OF_KEY: &'static str = D::ORDER_OF_KEY;
    const OF_INBOX: &'static str = D::OF_INBOX;

    async fn session(&self) -> Result<D::Session, StoreError> {
        self.get()?.session().await
    }
    async fn browse(&self) -> Result<D::Session, StoreError> {
        self.get()?.browse().await
    }
    async fn transaction(&self) -> Result<D::Session, StoreError> {
        self.get()?.transaction().await
    }
    fn latest_migration() -> i64 {
        D::latest_migration()
    }
    async fn migrate(&self) -> Result<(), StoreError> {
        self.get()?.migrate().await
    }
    fn erase_deleted(&self) {
        if let Ok(database) = self.get() {
            database.erase_deleted();
        }
    }
    async fn close(&self) {
        if let Ok(database) = self.get() {
            database.close().await;
        }
    }
    async fn copy_into(&self, file: &Path) -> Result<(), StoreError> {
        self.get()?.copy_into(file).await
    }
}

/// How to connect to a database that was away at the start.
pub struct Deferred {
    url: String,
    options: StoreOptions,
    late: Late<PostgresDatabase>,
}

impl Deferred {
    /// The store to serve with, and how to connect it. `None` for SQLite, which is a file: it is there, or waiting helps
    /// nobody.
    #[must_use]
    pub fn new(url: &str, options: &StoreOptions) -> Option<(Arc<dyn Store>, Self)> {
        if url.starts_with("sqlite:") {
            return None;
        }
        let late = Late::default();
        let store = Arc::new(SqlStore::new(late.clone(), options.fan_out_max));
        Some((store, Self { url: url.to_owned(), options: *options, late }))
    }

    /// Connects. The other store stays unavailable until [`Connected::open`]: what has to happen first can happen here.
    ///
    /// # Errors
    /// As [`super::connect`].
    pub async fn connect(&self) -> Result<Connected, StoreError> {
        let database = Arc::new(PostgresDatabase::connect(&self.url, self.options.connections).await?);
        let store = Arc::new(SqlStore::new(Late::of(Arc::clone(&database)), self.options.fan_out_max));
        Ok(Connected { store, database, late: self.late.clone() })
    }
}

/// A database that is there again.
pub struct Connected {
    /// Works at once.
    pub store: Arc<dyn Store>,
    database: Arc<PostgresDatabase>,
    late: Late<PostgresDatabase>,
}

impl Connected {
    /// Lets the server's store use the database from now on.
    pub fn open(self) {
        // A second one is the same database.
        let _ = self.late.0.set(self.database);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::sqlite::SqliteDatabase;
    use crate::storage::{Ledger, sqlite_url};

    #[tokio::test]
    async fn a_store_is_unavailable_until_its_database_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let late = Late::default();
        let store = SqlStore::new(late.clone(), 1);
        for answer in [store.ping().await, store.migrate().await, store.unsettled_drops().await.map(|_| ())] {
            assert!(matches!(answer, Err(StoreError::Unavailable(_))), "{answer:?}");
        }
        store.close().await;
        let database = SqliteDatabase::connect(&sqlite_url(&folder.path().join("a.db"))).await.unwrap();
        let database = Arc::new(database);
        let first = SqlStore::new(Late::of(Arc::clone(&database)), 1);
        first.migrate().await.unwrap();
        assert!(store.ping().await.is_err(), "not opened yet");
        assert!(late.0.set(database).is_ok());
        store.ping().await.unwrap();
        assert_eq!(store.unsettled_drops().await.unwrap().len(), 0);
        store.close().await;
    }

    #[test]
    fn a_file_is_not_waited_for() {
        let options = StoreOptions::default();
        assert!(Deferred::new("sqlite:///nowhere/a.db", &options).is_none());
        assert!(Deferred::new("postgres://nobody@127.0.0.1:1/none", &options).is_some());
    }
}
