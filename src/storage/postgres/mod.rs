//! Postgres: connecting, migrating and sessions.

mod opening;
mod requirements;
mod target;
mod write;

use super::failure::{from_migrate, from_sqlx};
use super::rows::tag_of;
use super::sql::{ACQUIRE_TIMEOUT, CLOSE_TIMEOUT, Database, Session, Slot, Slots, Value, args, columns};
use super::{OrderNote, PaymentNote, StoreError};
use crate::domain::OrderId;
use crate::storage::projection::fold::{DropImage, NewOrder, OrderImage, OrderNotification, VariantImage};
use opening::Opened;
use sqlx::migrate::Migrator;
use sqlx::postgres::{PgArguments, PgConnectOptions, PgPool, PgPoolOptions, PgRow};
use sqlx::{AssertSqlSafe, Connection, PgConnection, Postgres, SqlSafeStr, Transaction, pool::PoolConnection};
use std::path::Path;
use target::Target;
use uuid::Uuid;

static MIGRATIONS: Migrator = sqlx::migrate!("migrations/postgres");

columns!(PgRow);

/// A pool, and a slot in front of it for each connection.
pub(super) struct PostgresDatabase {
    pool: PgPool,
    slots: Slots,
    options: PgConnectOptions,
    /// The statement that begins a transaction, if its settings do not come from the session.
    begin: Option<String>,
}

fn pool(size: u32) -> PgPoolOptions {
    PgPoolOptions::new().max_connections(size).acquire_timeout(ACQUIRE_TIMEOUT)
}

/// Whether a URL can be one of a Postgres. Touches no file and no server.
///
/// # Errors
/// One line without a password.
pub(super) fn check_url(url: &str) -> Result<(), String> {
    Target::parse(url).map(|_| ())
}

/// `server/database` of a URL, without a user or a password.
pub(super) fn server_and_database(url: &str) -> Option<String> {
    let Target { options, place, .. } = Target::parse(url).ok()?;
    let database = options.get_database().unwrap_or_else(|| options.get_username());
    Some(format!("{place}/{database}"))
}

impl PostgresDatabase {
    /// Connects once to inspect the server, and makes a pool of up to `connections`, which connects on use.
    pub async fn connect(url: &str, connections: u32) -> Result<Self, StoreError> {
        let target = Target::parse(url).map_err(|reason| StoreError::Refused(format!("the database url {reason}")))?;
        let Opened { options, connections, pooled } = opening::open(&target, connections).await?;
        let pool = pool(connections).connect_lazy_with(options.clone());
        let set = |(name, value): (&str, String)| format!("; SET LOCAL {name} = '{value}'");
        let begin =
            pooled.then(|| opening::settings().into_iter().fold("BEGIN".to_owned(), |sql, one| sql + &set(one)));
        Ok(Self { pool, slots: Slots::new(connections), options, begin })
    }

    /// Migrates in one transaction, under a lock that ends with it. Behind a pooler a session lock would stay with the
    /// next user of that session.
    async fn migrate_in_transaction(&self) -> Result<(), StoreError> {
        let mut migrator = Migrator::with_migrations(MIGRATIONS.iter().cloned().collect());
        migrator.set_locking(false);
        let pool = pool(1).connect_with(self.options.clone()).await.map_err(from_sqlx)?;
        let mut connection = pool.acquire().await.map_err(from_sqlx)?;
        let migrated = async {
            let begin = "BEGIN; SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0";
            let mut tx = connection.begin_with(begin).await.map_err(from_sqlx)?;
            let lock = sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(MIGRATING);
            lock.execute(&mut *tx).await.map_err(from_sqlx)?;
            // `run` has lifetime bounds that a future sent between threads cannot meet.
            migrator.run_direct(None, &mut *tx, false).await.map_err(from_migrate)?;
            tx.commit().await.map_err(from_sqlx)
        };
        let migrated = migrated.await;
        drop(connection);
        pool.close().await;
        migrated
    }
}

/// The key of the lock that serialises migrations of several processes: any number that nothing else uses.
const MIGRATING: i64 = 0x6c69_7665_6472_6f70;

impl Database for PostgresDatabase {
    type Session = PostgresSession;
    const KIND: &'static str = "postgres";
    const NOW_MS: &'static str = "CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)";
    const HAS_MIGRATIONS: &'static str = "SELECT tablename FROM pg_tables WHERE tablename = '_sqlx_migrations' AND schemaname = ANY(current_schemas(false))";
    const FIRST_IMAGE: &'static str = "CAST(CAST(images AS json) -> 0 AS TEXT)";
    const OF_INBOX: &'static str = "";
    const ORDERS_OF: &'static str = "SELECT * FROM orders WHERE buyer_id = $1 AND id < $2 ORDER BY id DESC LIMIT $3";
    const ORDER_OF_KEY: &'static str = "SELECT * FROM orders WHERE buyer_id = $1 AND key_bits = $2 AND key IN ($3, $4) ORDER BY created_at, id LIMIT 1";

    async fn session(&self) -> Result<PostgresSession, StoreError> {
        let place = self.slots.take().await?;
        let link = Link::Plain(self.pool.acquire().await.map_err(from_sqlx)?);
        Ok(PostgresSession { link, _place: place })
    }

    async fn transaction(&self) -> Result<PostgresSession, StoreError> {
        let place = self.slots.take().await?;
        let transaction = match &self.begin {
            None => self.pool.begin().await,
            Some(begin) => self.pool.begin_with(AssertSqlSafe(begin.as_str())).await,
        };
        let link = Link::Transaction(transaction.map_err(from_sqlx)?);
        Ok(PostgresSession { link, _place: place })
    }

    async fn browse(&self) -> Result<PostgresSession, StoreError> {
        let place = self.slots.take_for_browsing().await?;
        let link = Link::Plain(self.pool.acquire().await.map_err(from_sqlx)?);
        Ok(PostgresSession { link, _place: place })
    }

    fn latest_migration() -> i64 {
        MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or(0)
    }

    async fn migrate(&self) -> Result<(), StoreError> {
        requirements::check(self).await?;
        if self.begin.is_some() {
            return self.migrate_in_transaction().await;
        }
        // A connection of the pool: the role may be allowed no other. A migration may take longer than any other
        // statement, so the connection is closed in any case. That also releases the lock under which two processes
        // that start at once migrate in turns.
        let _place = self.slots.take().await?;
        let mut connection = self.pool.acquire().await.map_err(from_sqlx)?.detach();
        sqlx::query("SET statement_timeout = 0").execute(&mut connection).await.map_err(from_sqlx)?;
        let result = MIGRATIONS.run_direct(None, &mut connection, false).await.map_err(from_migrate);
        // A server that is gone needs no orderly close.
        let _ = connection.close().await;
        result
    }

    async fn close(&self) {
        // A silent server would be waited for without end.
        if tokio::time::timeout(CLOSE_TIMEOUT, self.pool.close()).await.is_err() {
            tracing::warn!("the database did not let go of its connections; they are cut");
        }
    }

    async fn copy_into(&self, _file: &Path) -> Result<(), StoreError> {
        Err(StoreError::Corrupt("a Postgres database is copied by its own tools".to_owned()))
    }
}

/// A connection, or a transaction on one.
pub(super) struct PostgresSession {
    // Field order matters: the connection goes back before the slot is free.
    link: Link,
    _place: Slot,
}

enum Link {
    Plain(PoolConnection<Postgres>),
    Transaction(Transaction<'static, Postgres>),
}

impl PostgresSession {
    fn connection(&mut self) -> &mut PgConnection {
        match &mut self.link {
            Link::Plain(connection) => connection,
            Link::Transaction(transaction) => transaction,
        }
    }
}

/// Postgres has no text with a zero character. One in a journal record must not stop the projection forever, so it is
/// written as the replacement character.
fn text(value: &str) -> String {
    if value.contains('\0') { value.replace('\0', "\u{fffd}") } else { value.to_owned() }
}

fn query(sql: impl SqlSafeStr, args: Vec<Value>) -> sqlx::query::Query<'static, Postgres, PgArguments> {
    args.into_iter().fold(sqlx::query(sql), |query, value| match value {
        Value::Id(id) => query.bind(id),
        Value::Int(int) => query.bind(int),
        Value::Text(value) => query.bind(value.as_deref().map(text)),
        Value::Bytes(bytes) => query.bind(bytes),
    })
}

impl Session for PostgresSession {
    type Row = PgRow;

    async fn all(&mut self, sql: impl SqlSafeStr + Send, args: Vec<Value>) -> Result<Vec<PgRow>, StoreError> {
        query(sql, args).fetch_all(self.connection()).await.map_err(from_sqlx)
    }

    async fn run(&mut self, sql: impl SqlSafeStr + Send, args: Vec<Value>) -> Result<u64, StoreError> {
        Ok(query(sql, args).execute(self.connection()).await.map_err(from_sqlx)?.rows_affected())
    }

    async fn all_of(&mut self, sql: &'static str, ids: &[Uuid], tail: &'static str) -> Result<Vec<PgRow>, StoreError> {
        let sql = AssertSqlSafe(format!("{sql} = ANY($1){tail}"));
        sqlx::query(sql).bind(ids).fetch_all(self.connection()).await.map_err(from_sqlx)
    }

    async fn orders(&mut self, ids: &[OrderId]) -> Result<Vec<PgRow>, StoreError> {
        let sql = "SELECT orders.* FROM UNNEST($1::integer[], $2::uuid[]) AS asked (drop_tag, id) JOIN orders USING (drop_tag, id)";
        let tags: Vec<i32> = ids.iter().copied().map(tag_of).collect();
        let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
        sqlx::query(sql).bind(tags).bind(ids).fetch_all(self.connection()).await.map_err(from_sqlx)
    }

    async fn lock(&mut self, key: Uuid) -> Result<(), StoreError> {
        let (high, low) = key.as_u64_pair();
        self.all("SELECT pg_advisory_xact_lock($1)", args![(high ^ low).cast_signed()]).await.map(|_| ())
    }

    async fn lock_profiles(&mut self, user: Uuid) -> Result<(), StoreError> {
        let sql = "SELECT id FROM creators \
                   WHERE id = $1 OR id IN (SELECT creator_id FROM follows WHERE user_id = $1) ORDER BY id FOR UPDATE";
        self.all(sql, args![user]).await.map(|_| ())
    }

    async fn lock_watermark(&mut self, journal: Uuid) -> Result<Option<PgRow>, StoreError> {
        self.one("SELECT epoch, sequence FROM watermarks WHERE journal_id = $1 FOR UPDATE", args![journal]).await
    }

    async fn insert_drops(&mut self, drops: &[&DropImage]) -> Result<(), StoreError> {
        write::insert_drops(self.connection(), drops).await.map_err(from_sqlx)
    }
    async fn update_drops(&mut self, drops: &[&DropImage]) -> Result<(), StoreError> {
        write::update_drops(self.connection(), drops).await.map_err(from_sqlx)
    }
    async fn update_variants(&mut self, variants: &[VariantImage]) -> Result<(), StoreError> {
        write::update_variants(self.connection(), variants).await.map_err(from_sqlx)
    }
    async fn insert_orders(&mut self, orders: &[NewOrder]) -> Result<(), StoreError> {
        write::insert_orders(self.connection(), orders).await.map_err(from_sqlx)
    }
    async fn update_orders(&mut self, orders: &[OrderImage]) -> Result<(), StoreError> {
        write::update_orders(self.connection(), orders).await.map_err(from_sqlx)
    }

    async fn insert_payment_notes(&mut self, notes: &[PaymentNote]) -> Result<(), StoreError> {
        write::insert_payment_notes(self.connection(), notes).await.map_err(from_sqlx)
    }
    async fn insert_notes(&mut self, notes: &[OrderNote]) -> Result<(), StoreError> {
        write::insert_notes(self.connection(), notes).await.map_err(from_sqlx)
    }

    async fn insert_order_news(
        &mut self,
        journal: Uuid,
        notifications: &[OrderNotification],
    ) -> Result<(), StoreError> {
        write::insert_order_news(self.connection(), journal, notifications).await.map_err(from_sqlx)
    }

    async fn commit(self) -> Result<(), StoreError> {
        match self.link {
            Link::Plain(_) => Ok(()),
            Link::Transaction(transaction) => transaction.commit().await.map_err(from_sqlx),
        }
    }
}
