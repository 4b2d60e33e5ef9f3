//! Postgres.

mod write;

use super::failure::{from_migrate, from_sqlx};
use super::fold::{DropImage, NewOrder, OrderImage, OrderNews, VariantImage};
use super::rows::tag_of;
use super::sql::{ACQUIRE_TIMEOUT, Database, Places, STATEMENT_TIMEOUT, Session, Value, args, columns};
use super::{OrderNote, RefusalRow, StoreError};
use crate::domain::OrderId;
use sqlx::migrate::Migrator;
use sqlx::postgres::{PgArguments, PgConnectOptions, PgPool, PgPoolOptions, PgRow};
use sqlx::{AssertSqlSafe, PgConnection, Postgres, SqlSafeStr, Transaction, pool::PoolConnection};
use std::path::Path;
use std::str::FromStr;
use tokio::sync::OwnedSemaphorePermit;
use uuid::Uuid;

/// Connections of one process; Postgres allows a hundred by default, for everyone together.
const CONNECTIONS_MAX: u32 = 16;

static MIGRATIONS: Migrator = sqlx::migrate!("migrations/postgres");

columns!(PgRow);

/// A pool, and a place in front of it for each connection.
pub(super) struct PostgresDatabase {
    pool: PgPool,
    places: Places,
    options: PgConnectOptions,
}

fn pool(size: u32) -> PgPoolOptions {
    PgPoolOptions::new().max_connections(size).acquire_timeout(ACQUIRE_TIMEOUT)
}

impl PostgresDatabase {
    /// Opens the pool and one connection.
    pub async fn connect(url: &str) -> Result<Self, StoreError> {
        let options = PgConnectOptions::from_str(url)
            .map_err(|error| StoreError::Corrupt(format!("the database url is not understood: {error}")))?
            .application_name("livedrop")
            .options([
                // The journal deletes what a commit has taken over, so a commit has to last, whatever the server's default is.
                ("synchronous_commit", "on".to_owned()),
                ("statement_timeout", format!("{}ms", STATEMENT_TIMEOUT.as_millis())),
                ("idle_in_transaction_session_timeout", format!("{}ms", STATEMENT_TIMEOUT.as_millis())),
            ]);
        let pool = pool(CONNECTIONS_MAX).connect_with(options.clone()).await.map_err(from_sqlx)?;
        Ok(Self { pool, places: Places::new(CONNECTIONS_MAX), options })
    }
}

impl Database for PostgresDatabase {
    type Session = PostgresSession;
    const KIND: &'static str = "postgres";
    const NOW_MS: &'static str = "CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)";
    const HAS_MIGRATIONS: &'static str = "SELECT tablename FROM pg_tables WHERE tablename = '_sqlx_migrations' AND schemaname = ANY(current_schemas(false))";
    const OF_INBOX: &'static str = "";
    const ORDERS_OF: &'static str = "SELECT * FROM orders WHERE buyer_id = $1 AND id < $2 ORDER BY id DESC LIMIT $3";
    const ORDER_OF_KEY: &'static str =
        "SELECT * FROM orders WHERE buyer_id = $1 AND key_bits = $2 AND key = $3 ORDER BY created_at, id LIMIT 1";
    const REFUSAL_OF_KEY: &'static str = "SELECT * FROM refusals WHERE digest = $1 ORDER BY at, sequence LIMIT 1";

    async fn session(&self) -> Result<PostgresSession, StoreError> {
        let place = self.places.take().await?;
        let link = Link::Plain(self.pool.acquire().await.map_err(from_sqlx)?);
        Ok(PostgresSession { link, _place: place })
    }

    async fn transaction(&self) -> Result<PostgresSession, StoreError> {
        let place = self.places.take().await?;
        let link = Link::Transaction(self.pool.begin().await.map_err(from_sqlx)?);
        Ok(PostgresSession { link, _place: place })
    }

    fn latest_migration() -> i64 {
        MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or(0)
    }

    async fn migrate(&self) -> Result<(), StoreError> {
        // A migration may take longer than a statement of ours ever should. Its connection is closed in any case, and
        // with it goes the lock under which two processes that start at once migrate one after the other.
        let options = self.options.clone().options([("statement_timeout", "0")]);
        let pool = pool(1).connect_with(options).await.map_err(from_sqlx)?;
        let result = MIGRATIONS.run(&pool).await.map_err(from_migrate);
        pool.close().await;
        result
    }

    async fn close(&self) {
        self.pool.close().await;
    }

    async fn copy_into(&self, _file: &Path) -> Result<(), StoreError> {
        Err(StoreError::Corrupt("a Postgres database is copied by its own tools".to_owned()))
    }
}

/// A connection, or a transaction on one.
pub(super) struct PostgresSession {
    // In this order: the connection goes back before the place is free.
    link: Link,
    _place: OwnedSemaphorePermit,
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

/// Postgres has no text with a zero character in it. One that comes from a journal must not stop the projection for ever,
/// so it is written as the replacement character.
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
    async fn insert_refusals(&mut self, journal: Uuid, refusals: &[RefusalRow]) -> Result<(), StoreError> {
        write::insert_refusals(self.connection(), journal, refusals).await.map_err(from_sqlx)
    }

    async fn insert_notes(&mut self, notes: &[OrderNote]) -> Result<(), StoreError> {
        write::insert_notes(self.connection(), notes).await.map_err(from_sqlx)
    }

    async fn insert_order_news(&mut self, journal: Uuid, news: &[OrderNews]) -> Result<(), StoreError> {
        write::insert_order_news(self.connection(), journal, news).await.map_err(from_sqlx)
    }

    async fn commit(self) -> Result<(), StoreError> {
        match self.link {
            Link::Plain(_) => Ok(()),
            Link::Transaction(transaction) => transaction.commit().await.map_err(from_sqlx),
        }
    }
}
