//! SQLite, the default: a file in the data directory.

mod erasure;
mod file;
mod generations;
mod write;

use super::failure::{from_migrate, from_sqlx};
use super::rows::tag_of;
use super::sql::{ACQUIRE_TIMEOUT, CLOSE_TIMEOUT, Database, Session, Slot, Slots, Value, args, columns};
use super::{OrderNote, PaymentNote, StoreError};
use crate::domain::OrderId;
use crate::storage::projection::fold::{DropImage, NewOrder, OrderImage, OrderNotification, VariantImage};
use rustix::process::{Pid, getpriority_process, setpriority_process};
use sqlx::migrate::Migrator;
use sqlx::sqlite::{
    SqliteArguments, SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteRow,
    SqliteSynchronous,
};
use sqlx::{Connection, SqlSafeStr, Sqlite, SqliteConnection, Transaction, pool::PoolConnection};
use std::{
    fs,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::Duration,
};
use uuid::Uuid;

pub(super) use file::{check_url, url_of};

/// Size of the pool of reading connections.
const READERS_MAX: u32 = 8;
/// How long a connection waits for another process (a backup, a shell) to unlock the file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Prepared statements cached by a connection: there are several dozen, and bulk writes have a few lengths each.
const STATEMENTS_MAX: usize = 256;

/// Name of the thread of the writing connection. The kernel truncates names to 15 bytes.
const WRITER: &str = "sqlite-writer";
/// How much lower the writer's priority is than the process's (`nice`). Under a spike rows can wait, because the
/// journal has them, and buyers cannot: at equal priority the projection takes a third of the buyers' time. A quarter
/// of an equal share is enough for accounts and follows.
const WRITER_NICE: i32 = 5;
/// The lowest priority of the system.
const NICE_MAX: i32 = 19;
/// Pages (of 4 KiB) after which the WAL is written into the file. Orders and their keys come in random order, so a
/// batch changes many pages, and the next changes most of them again: a longer wait writes fewer pages.
const CHECKPOINT_PAGES: &str = "8192";

static MIGRATIONS: Migrator = sqlx::migrate!("migrations/sqlite");

columns!(SqliteRow);

/// One writing connection and a pool of reading ones: SQLite allows one writer at a time, and a writer that queues here
/// cannot fail with "database is locked".
pub(super) struct SqliteDatabase {
    writer: SqlitePool,
    writer_slots: Slots,
    readers: SqlitePool,
    reader_slots: Slots,
    migrating: SqliteConnectOptions,
    eraser: erasure::Eraser,
}

impl SqliteDatabase {
    /// Opens the file, and creates it if it is missing.
    pub async fn connect(url: &str) -> Result<Self, StoreError> {
        let options = parse(url)?;
        let path = options.get_filename().to_owned();
        file::usable(&path).map_err(StoreError::Refused)?;
        make_private(&path);
        let options = options
            .journal_mode(SqliteJournalMode::Wal)
            // In WAL mode `NORMAL` may lose the last commits at a power loss, such as an account that was answered with
            // 201.
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY_TIMEOUT)
            .foreign_keys(true)
            .statement_cache_capacity(STATEMENTS_MAX);
        let pool = |size| {
            let pool = SqlitePoolOptions::new().max_connections(size).acquire_timeout(ACQUIRE_TIMEOUT);
            // A connection to a file does not age.
            pool.idle_timeout(None).max_lifetime(None)
        };
        let writing = options.clone().create_if_missing(true).pragma("cache_size", "-65536");
        // Deleted data is overwritten, not only unlinked.
        let writing = writing.pragma("secure_delete", "ON");
        let writing = writing.pragma("wal_autocheckpoint", CHECKPOINT_PAGES);
        let migrating = writing.clone();
        // A statement of many rows keeps the old contents of its pages for a rollback, and would write them to a file.
        let writing = writing.pragma("temp_store", "MEMORY").thread_name(|_| WRITER.to_owned());
        // When the disk is full, SQLite ends a transaction by itself. sqlx still counts it as open and would refuse the
        // next one on this connection, forever.
        let polite = pool(1).after_connect(|_, _| {
            stand_back();
            Box::pin(async { Ok(()) })
        });
        let usable = polite.before_acquire(|link, _| Box::pin(async move { Ok(!link.is_in_transaction()) }));
        let writer = usable.connect_with(writing).await.map_err(|error| file::sorted(&path, error))?;
        let reading = options.pragma("query_only", "1");
        let readers = pool(READERS_MAX).connect_with(reading).await.map_err(|error| file::sorted(&path, error))?;
        let (writer_slots, reader_slots) = (Slots::new(1), Slots::new(READERS_MAX));
        let eraser = erasure::Eraser::new(writer.clone(), writer_slots.clone());
        Ok(Self { writer, writer_slots, readers, reader_slots, migrating, eraser })
    }
}

fn parse(url: &str) -> Result<SqliteConnectOptions, StoreError> {
    file::parse(url).map_err(|reason| StoreError::Refused(format!("the database url {reason}")))
}

pub(super) fn file_of(url: &str) -> Option<PathBuf> {
    parse(url).ok().map(|options| options.get_filename().to_owned())
}

/// `Absent` if the file of the URL does not exist.
pub(super) fn require_file(url: &str) -> Result<(), StoreError> {
    let options = parse(url)?;
    let file = options.get_filename();
    if file.is_file() { Ok(()) } else { Err(StoreError::Absent(file.display().to_string())) }
}

/// A new database holds e-mail addresses from its first day: the file is created here, readable by its owner only, and
/// SQLite gives its companions (`-wal`, `-shm`) the same mode. SQLite itself reports an obstacle to its creation.
fn make_private(file: &Path) {
    let _ = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(file);
}

/// Lowers the priority of writer threads; Linux has one for each thread. Where that is not possible they keep their
/// priority.
fn stand_back() {
    // This thread has the priority that the process was started with.
    let nice = getpriority_process(None).unwrap_or_default() + WRITER_NICE;
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    for task in tasks {
        let name = std::fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        let thread = task.file_name().to_str().and_then(|id| id.parse().ok()).and_then(Pid::from_raw);
        if name.trim_end() == WRITER && thread.is_some() {
            let _ = setpriority_process(thread, nice.min(NICE_MAX));
        }
    }
}

impl Database for SqliteDatabase {
    type Session = SqliteSession;
    const KIND: &'static str = "sqlite";
    const NOW_MS: &'static str = "CAST(unixepoch('subsec') * 1000 AS INTEGER)";
    const HAS_MIGRATIONS: &'static str =
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name = '_sqlx_migrations'";
    const FIRST_IMAGE: &'static str = "json_extract(images, '$[0]')";
    const OF_INBOX: &'static str = generations::OF_INBOX;
    const ORDERS_OF: &'static str = generations::ORDERS_OF;
    const ORDER_OF_KEY: &'static str = generations::ORDER_OF_KEY;

    async fn session(&self) -> Result<SqliteSession, StoreError> {
        let place = self.reader_slots.take().await?;
        let link = Link::Plain(self.readers.acquire().await.map_err(from_sqlx)?);
        Ok(SqliteSession { link, _place: place })
    }

    async fn browse(&self) -> Result<SqliteSession, StoreError> {
        let place = self.reader_slots.take_for_browsing().await?;
        let link = Link::Plain(self.readers.acquire().await.map_err(from_sqlx)?);
        Ok(SqliteSession { link, _place: place })
    }

    async fn transaction(&self) -> Result<SqliteSession, StoreError> {
        let place = self.writer_slots.take().await?;
        // A transaction that begins with a read and writes later fails if another process writes in between.
        let link = Link::Transaction(self.writer.begin_with("BEGIN IMMEDIATE").await.map_err(from_sqlx)?);
        Ok(SqliteSession { link, _place: place })
    }

    fn latest_migration() -> i64 {
        MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or(0)
    }

    async fn migrate(&self) -> Result<(), StoreError> {
        let _place = self.writer_slots.take().await?;
        // A separate connection without the in-memory temp store: a migration may sort more than fits into memory.
        let alone = SqlitePoolOptions::new().max_connections(1).acquire_timeout(ACQUIRE_TIMEOUT);
        let pool = alone.connect_with(self.migrating.clone()).await.map_err(from_sqlx)?;
        let result = MIGRATIONS.run(&pool).await.map_err(from_migrate);
        pool.close().await;
        result
    }

    fn erase_deleted(&self) {
        self.eraser.erase();
    }

    async fn close(&self) {
        // The last connection to close writes the WAL back into the file, so the writer closes last.
        let closed = async {
            self.readers.close().await;
            self.writer.close().await;
        };
        if tokio::time::timeout(CLOSE_TIMEOUT, closed).await.is_err() {
            tracing::warn!("the database's file did not close in time; the next start reads its WAL");
        }
    }

    async fn copy_into(&self, file: &Path) -> Result<(), StoreError> {
        // `VACUUM INTO` reads in one transaction, which blocks no writer. The backup API would restart with every
        // commit of another process, and under load never end.
        let options = self.migrating.clone().create_if_missing(false);
        let mut link = SqliteConnection::connect_with(&options).await.map_err(from_sqlx)?;
        let copied = sqlx::query("VACUUM INTO $1").bind(file.display().to_string()).execute(&mut link).await;
        link.close().await.map_err(from_sqlx)?;
        copied.map(|_| ()).map_err(from_sqlx)
    }
}

/// A reading connection, or a transaction on the writing one.
pub(super) struct SqliteSession {
    // Field order matters: the connection goes back before the slot is free.
    link: Link,
    _place: Slot,
}

enum Link {
    Plain(PoolConnection<Sqlite>),
    Transaction(Transaction<'static, Sqlite>),
}

impl SqliteSession {
    fn connection(&mut self) -> &mut SqliteConnection {
        match &mut self.link {
            Link::Plain(connection) => connection,
            Link::Transaction(transaction) => transaction,
        }
    }
}

fn query(
    sql: impl SqlSafeStr,
    args: impl IntoIterator<Item = Value>,
) -> sqlx::query::Query<'static, Sqlite, SqliteArguments> {
    args.into_iter().fold(sqlx::query(sql), |query, value| match value {
        Value::Id(id) => query.bind(id),
        Value::Int(int) => query.bind(int),
        Value::Text(text) => query.bind(text),
        Value::Bytes(bytes) => query.bind(bytes),
    })
}

impl Session for SqliteSession {
    type Row = SqliteRow;

    async fn all(&mut self, sql: impl SqlSafeStr + Send, args: Vec<Value>) -> Result<Vec<SqliteRow>, StoreError> {
        query(sql, args).fetch_all(self.connection()).await.map_err(from_sqlx)
    }

    async fn run(&mut self, sql: impl SqlSafeStr + Send, args: Vec<Value>) -> Result<u64, StoreError> {
        Ok(query(sql, args).execute(self.connection()).await.map_err(from_sqlx)?.rows_affected())
    }

    async fn all_of(
        &mut self,
        sql: &'static str,
        ids: &[Uuid],
        tail: &'static str,
    ) -> Result<Vec<SqliteRow>, StoreError> {
        let mut rows = Vec::with_capacity(ids.len());
        for ids in write::lengths(ids) {
            let sql = sqlx::AssertSqlSafe(format!("{sql} IN {}{tail}", write::placeholders(ids.len())));
            let args = ids.iter().map(|&id| Value::from(id));
            rows.append(&mut query(sql, args).fetch_all(self.connection()).await.map_err(from_sqlx)?);
        }
        Ok(rows)
    }

    async fn orders(&mut self, ids: &[OrderId]) -> Result<Vec<SqliteRow>, StoreError> {
        let mut rows = Vec::with_capacity(ids.len());
        for ids in write::lengths(ids) {
            // Not `JOIN`: the planner must not start from all orders.
            let sql = sqlx::AssertSqlSafe(format!(
                "WITH asked (drop_tag, id) AS (VALUES {}) SELECT orders.* FROM asked CROSS JOIN orders USING (drop_tag, id)",
                write::tuples(2, ids.len())
            ));
            let args = ids.iter().flat_map(|&id| [Value::from(tag_of(id)), id.0.into()]);
            rows.append(&mut query(sql, args).fetch_all(self.connection()).await.map_err(from_sqlx)?);
        }
        Ok(rows)
    }

    async fn lock(&mut self, _key: Uuid) -> Result<(), StoreError> {
        // There is only one writer.
        Ok(())
    }

    async fn lock_profiles(&mut self, _user: Uuid) -> Result<(), StoreError> {
        Ok(())
    }

    async fn lock_watermark(&mut self, journal: Uuid) -> Result<Option<SqliteRow>, StoreError> {
        self.one("SELECT epoch, sequence FROM watermarks WHERE journal_id = $1", args![journal]).await
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
        let generation = generations::take(self.connection(), orders.len()).await?;
        write::insert_orders(self.connection(), generation, orders).await.map_err(from_sqlx)
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
        let generation = generations::take(self.connection(), notifications.len()).await?;
        write::insert_order_news(self.connection(), journal, generation, notifications).await.map_err(from_sqlx)
    }

    async fn commit(self) -> Result<(), StoreError> {
        match self.link {
            Link::Plain(_) => Ok(()),
            Link::Transaction(transaction) => transaction.commit().await.map_err(from_sqlx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn the_writer_stands_back_and_the_readers_do_not() {
        // The test process itself may run at a lower priority.
        let own = getpriority_process(None).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", directory.path().join("polite.db").display());
        let database = SqliteDatabase::connect(&url).await.unwrap();
        let _reading = database.session().await.unwrap();
        let mut nice = Vec::new();
        for task in std::fs::read_dir("/proc/self/task").unwrap().flatten() {
            let name = std::fs::read_to_string(task.path().join("comm")).unwrap_or_default();
            let thread = Pid::from_raw(task.file_name().to_str().unwrap().parse().unwrap());
            if let (true, Ok(priority)) = (name.starts_with("sql"), getpriority_process(thread)) {
                nice.push((name.trim_end() == WRITER, priority));
            }
        }
        assert!(
            nice.contains(&(true, (own + WRITER_NICE).min(NICE_MAX)))
                && nice.iter().all(|(writer, nice)| *writer || *nice == own),
            "{nice:?}"
        );
    }

    /// <https://www.sqlite.org/lang_transaction.html>, section 3: on SQLITE_FULL it may roll back by itself.
    #[tokio::test]
    async fn after_a_full_disk_the_next_transaction_begins() {
        let directory = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", directory.path().join("full.db").display());
        let database = SqliteDatabase::connect(&url).await.unwrap();
        let fill = async |bytes: u32| {
            let mut tx = database.transaction().await?;
            let sql = sqlx::AssertSqlSafe(format!("INSERT INTO filling VALUES (zeroblob({bytes}))"));
            query(sql, std::iter::empty()).execute(tx.connection()).await.map_err(from_sqlx)?;
            tx.commit().await
        };
        sqlx::query("CREATE TABLE filling (bytes BLOB)").execute(&database.writer).await.unwrap();
        sqlx::query("PRAGMA max_page_count = 8").execute(&database.writer).await.unwrap();
        assert!(matches!(fill(1 << 20).await, Err(StoreError::Unavailable(_))));
        // The limit belonged to that connection. Its successor has none: there is space again.
        fill(1 << 20).await.unwrap();
    }
}
