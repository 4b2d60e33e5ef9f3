//! The SQL side: one [`Store`] contract, two databases, one conformance suite run against both.
//!
//! Accounts, profiles, products and follows are written here directly. Drops and orders are written only by
//! [`Ledger::project`], from journal records, in the same transaction as the journal's watermark: SQL holds the full
//! truth at the watermark, and applying a batch twice changes nothing.
//!
//! **The order of locks.** Whatever writes for an account takes them in this order, so that two transactions on Postgres never wait for
//! each other in a circle:
//! 1. the account's lock (`lock` of a session, with its id), one account's only: a transaction that decides from an account's row (that it lives, its
//!    password, its token version) holds it until the decision is written;
//! 2. the account's row in `users`;
//! 3. rows of `creators`, by rising id;
//! 4. `follows`, which refer to both (an insert locks what it refers to, so a follow needs no second account's lock), `products`, `inbox`,
//!    `refresh_tokens`;
//! 5. `audit`.
//!
//! A follow inserts its own row first and then changes one profile's count: nobody else locks that row, because its account is locked. The
//! projection takes its watermark's row first and touches nothing of the above but inserts into `inbox`. SQLite has one writer, which is
//! every lock at once.
//!
//! - [`model`]: rows, in domain types.
//! - `accounts`, `catalogue`, `products`, `reading`: the operations, written once for both databases over `sql`.
//! - `search`: lists that are filtered by a range.
//! - `inbox`: what waits for people, written with the event or computed when they look.
//! - `projection`: journal records to rows. `memory`: a ledger in memory around the same arithmetic, for the simulation.
//! - `cache`: single rows in memory, forgotten when they are written.
//! - `sqlite`, `postgres`: connections, and the few statements that differ. `sqlite::generations`: why SQLite's trees begin anew now and then.

mod accounts;
mod audit;
mod cache;
mod catalogue;
mod failure;
mod inbox;
mod keys;
pub(crate) mod memory;
pub mod model;
mod offsets;
mod owners;
mod postgres;
mod products;
mod projection;
mod reading;
mod rows;
mod search;
mod sql;
mod sqlite;
mod store;

use crate::domain::limits::{DATABASE_CONNECTIONS_DEFAULT, FAN_OUT_FOLLOWERS_DEFAULT};
use crate::domain::{CreatorId, DropId, DropStatus, OrderId, OrderView, ProductId, Timestamp, UserId};
use async_trait::async_trait;
pub use model::*;
use std::sync::Arc;

/// Why the store could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database cannot be reached, or gave up on us: trying again later may help.
    #[error("the database is not available: {}", reason(.0))]
    Unavailable(#[source] sqlx::Error),
    /// The database, or what its URL says, cannot be used, and waiting does not change that. Only from [`connect`] and [`Store::migrate`].
    #[error("{0}")]
    Refused(String),
    /// A unique constraint: `what` names the field that is taken (`email`, `handle`).
    #[error("{what} is already taken")]
    Taken {
        /// The field.
        what: &'static str,
    },
    /// What the write is about was deleted, or never was.
    #[error("there is no such {what}")]
    Missing {
        /// `account` or `creator`.
        what: &'static str,
    },
    /// Another writer owns the watermark: its epoch is newer than ours, so we must not write.
    #[error("another server has taken this database over (epoch {theirs}, ours is {ours})")]
    Fenced {
        /// The epoch that tried to write.
        ours: u32,
        /// The epoch in the database.
        theirs: u32,
    },
    /// Another journal has this database, and drops in it that are not settled.
    #[error(
        "the database belongs to journal {by}, and it holds drops that are not settled: start with the data directory of \
         that journal; if it is lost, `livedrop adopt` gives the database to another, without what only that journal knew"
    )]
    Owned {
        /// The other journal.
        by: uuid::Uuid,
    },
    /// There is no database, and none was made.
    #[error("there is no database at {0}; nothing was created")]
    Absent(String),
    /// The database was taken from this journal.
    #[error(
        "the database was taken from this data directory's journal, {journal}, by `livedrop adopt` or by a server with another \
         data directory; what it acknowledged and had not written there yet is in its journal alone. Where nobody has started on the \
         database since, `livedrop adopt --give-back` with this data directory undoes it; docs/OPERATIONS.md says what else can be done"
    )]
    Retired {
        /// This journal.
        journal: uuid::Uuid,
    },
    /// A retired journal does not get its database back.
    #[error(
        "journal {by} has had the database since it was taken from this data directory's journal: giving it back would forget what \
         that one has sold. Nothing was changed"
    )]
    Superseded {
        /// The other journal.
        by: uuid::Uuid,
    },
    /// The batch does not start right after the watermark.
    #[error("the batch starts at record {first}, the watermark is {watermark}")]
    Gap {
        /// The batch's first sequence number.
        first: u64,
        /// The last one applied.
        watermark: u64,
    },
    /// The batch would write too many rows in one transaction: a part of it may not. Never of one record.
    #[error("the batch would write too many rows in one transaction")]
    TooLarge,
    /// The database refuses these very values, or they contradict its rows: no later try can do better, while others go on.
    #[error("the database refuses it for good: {0}")]
    Unacceptable(String),
    /// Rows that this program cannot have written, or a query that is wrong.
    #[error("the database holds something unexpected: {0}")]
    Corrupt(String),
}

/// Without the driver's introduction.
fn reason(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Io(error) => error.to_string(),
        sqlx::Error::Database(error) => error.message().to_owned(),
        other => other.to_string(),
    }
}

impl StoreError {
    /// Whether the database took too long, and may do less in that time.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        let Self::Unavailable(error) = self else { return false };
        match error {
            sqlx::Error::Io(error) => error.kind() == std::io::ErrorKind::TimedOut,
            // `query_canceled`: a statement's time was over.
            sqlx::Error::Database(error) => error.code().is_some_and(|code| code == "57014"),
            _ => false,
        }
    }

    /// The database cannot be reached, for this reason.
    pub(crate) fn unavailable(kind: std::io::ErrorKind, reason: &'static str) -> Self {
        Self::Unavailable(sqlx::Error::Io(std::io::Error::new(kind, reason)))
    }
}

/// How a store works.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StoreOptions {
    /// Of a creator with more followers none gets a line of the inbox of their own: it is computed when they look.
    pub fan_out_max: u32,
    /// Connections to Postgres. There are fewer where the server, the role or the database allows no more.
    pub connections: u32,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self { fan_out_max: FAN_OUT_FOLLOWERS_DEFAULT, connections: DATABASE_CONNECTIONS_DEFAULT }
    }
}

/// Whether a URL can be one of a database. Touches no file and no server.
///
/// # Errors
/// One line that says what is wrong. It repeats no password.
pub fn check_url(url: &str) -> Result<(), String> {
    match url.split_once(':').map(|(scheme, _)| scheme) {
        Some("sqlite") => sqlite::check_url(url),
        Some("postgres" | "postgresql") if url.contains("://") => postgres::check_url(url),
        // The URL may hold a password, so it is not repeated.
        _ => Err("must begin with postgres:// or sqlite://".to_owned()),
    }
}

/// The URL of a SQLite database in a file.
#[must_use]
pub fn sqlite_url(path: &std::path::Path) -> String {
    sqlite::url_of(path)
}

/// The file that the URL of a SQLite database names; `None` for another database.
#[must_use]
pub fn sqlite_file(url: &str) -> Option<std::path::PathBuf> {
    if url.starts_with("sqlite:") { sqlite::file_of(url) } else { None }
}

/// Opens the database that a URL names: `sqlite:///path/file.db` (created if it is missing) or `postgres://…`. The schema
/// is left as it is, see [`Store::migrate`].
///
/// # Errors
/// [`StoreError::Unavailable`] where the database does not answer, or not yet: trying again may help. Once open, the store finds back
/// to a database that was away by itself. [`StoreError::Refused`] where trying again does not help: a URL that is not understood, a wrong
/// password, no such database or folder.
pub async fn connect(url: &str) -> Result<Arc<dyn Store>, StoreError> {
    connect_with(url, &StoreOptions::default()).await
}

/// As [`connect`], for a database that is there: one that is missing is not made.
///
/// # Errors
/// As [`connect`], and [`StoreError::Absent`].
pub async fn connect_existing(url: &str) -> Result<Arc<dyn Store>, StoreError> {
    if url.starts_with("sqlite:") {
        sqlite::require_file(url)?;
    }
    connect(url).await
}

/// As [`connect`].
///
/// # Errors
/// As [`connect`].
pub async fn connect_with(url: &str, options: &StoreOptions) -> Result<Arc<dyn Store>, StoreError> {
    check_url(url).map_err(|reason| StoreError::Refused(format!("the database url {reason}")))?;
    if url.starts_with("sqlite:") {
        let database = sqlite::SqliteDatabase::connect(url).await?;
        return Ok(Arc::new(store::SqlStore::new(database, options.fan_out_max)));
    }
    let database = postgres::PostgresDatabase::connect(url, options.connections).await?;
    Ok(Arc::new(store::SqlStore::new(database, options.fan_out_max)))
}

/// The part of a [`Store`] that the projector fills and recovery reads: the fold of the journal up to a watermark.
#[async_trait]
pub trait Ledger: Send + Sync + 'static {
    /// Up to where a journal has been applied; `None` for a journal that never was.
    async fn watermark(&self, journal: uuid::Uuid) -> Result<Option<Watermark>, StoreError>;
    /// The sequence number of the last record of a journal that has been applied, 0 if none has.
    async fn applied(&self, journal: uuid::Uuid) -> Result<u64, StoreError> {
        Ok(self.watermark(journal).await?.map_or(0, |watermark| watermark.sequence))
    }
    /// Applies a batch of journal records and moves the watermark to its last one, in one transaction.
    ///
    /// Records at or below the watermark are skipped, so a batch may come twice. `Gap` if records are missing
    /// between the watermark and the batch, `Fenced` if a newer epoch has written.
    /// `Unacceptable` if one of the records can never be applied, `TooLarge` for a batch that is more than one transaction should write;
    /// nothing of the batch is applied then.
    async fn project(&self, batch: &ProjectionBatch) -> Result<(), StoreError> {
        self.project_around(batch, &Aside::new()).await
    }
    /// The same around some of the records, which are set aside in the same transaction. Whoever sets one aside does so with all
    /// later ones of the same drop: they build on it.
    async fn project_around(&self, batch: &ProjectionBatch, aside: &Aside) -> Result<(), StoreError>;
    /// Drops of which records are set aside, in the order of their first one.
    async fn set_aside_drops(&self, journal: uuid::Uuid) -> Result<Vec<SetAsideDrop>, StoreError>;
    /// A drop's records that are set aside, in their order, those after `after`.
    async fn set_aside(
        &self,
        journal: uuid::Uuid,
        drop: DropId,
        after: u64,
        limit: u32,
    ) -> Result<Vec<SetAside>, StoreError>;
    /// Applies the first of a drop's records that are set aside, and forgets them, in one transaction. `Unacceptable` as before.
    async fn apply_set_aside(&self, journal: uuid::Uuid, epoch: u32, records: &[SetAside]) -> Result<(), StoreError>;

    /// A drop as projected.
    async fn drop_row(&self, id: DropId) -> Result<Option<DropRow>, StoreError>;
    /// Drops that recovery has to load: those not settled (scheduled, open, with holds, or with refunds due).
    async fn unsettled_drops(&self) -> Result<Vec<DropRow>, StoreError>;
    /// Of these, what has to be in memory: all but those that are scheduled to start after `horizon`.
    async fn drops_to_load(&self, horizon: Timestamp) -> Result<Vec<DropRow>, StoreError> {
        let sleeps = |row: &DropRow| row.status == DropStatus::Scheduled && row.spec.starts_at > horizon;
        Ok(self.unsettled_drops().await?.into_iter().filter(|row| !sleeps(row)).collect())
    }
    /// Every order of a drop in id order, those after `after`.
    async fn drop_orders(&self, drop: DropId, after: Option<OrderId>, limit: u32)
    -> Result<Vec<OrderView>, StoreError>;
    /// Every remembered refusal of a drop in sequence order, those after `after` (a journal sequence number).
    async fn drop_refusals(&self, drop: DropId, after: Option<u64>, limit: u32) -> Result<Vec<RefusalRow>, StoreError>;
}

/// What LiveDrop asks of a database. Every method is safe to call again after [`StoreError::Unavailable`].
#[async_trait]
pub trait Store: Ledger {
    /// `sqlite` or `postgres`, for logs and `/readyz`.
    fn kind(&self) -> &'static str;
    /// Shows what it counts in a registry. Fails if the names are taken there.
    fn register_meters(&self, registry: &prometheus::Registry) -> prometheus::Result<()>;
    /// Answers when the database does (a trivial query).
    async fn ping(&self) -> Result<(), StoreError>;
    /// Brings the schema up to date.
    async fn migrate(&self) -> Result<(), StoreError>;
    /// Closes every connection.
    async fn close(&self);
    /// Writes the database as it is now into an empty file, while others go on writing to it: one moment's rows, without free pages.
    /// SQLite only; a Postgres database is copied by its own tools.
    async fn copy_into(&self, file: &std::path::Path) -> Result<(), StoreError>;

    /// Adds an account. `Taken { what: "email" }` if the address or its key is in use.
    async fn insert_user(&self, user: &User) -> Result<(), StoreError>;
    /// Adds an account that is an admin, and the line of the audit trail that says so. Errors as [`Store::insert_user`].
    async fn insert_admin(&self, user: &User, audit: &AuditRow) -> Result<(), StoreError>;
    /// Makes an account an admin, replaces its password and revokes all its refresh tokens. `false` where there is none.
    async fn promote_to_admin(&self, user: UserId, hash: &str, audit: &AuditRow) -> Result<bool, StoreError>;
    /// The account with that id.
    async fn user(&self, id: UserId) -> Result<Option<User>, StoreError>;
    /// The account with that address to the letter, or else with that key of its address.
    async fn user_by_email(&self, email: &str, key: &str) -> Result<Option<User>, StoreError>;
    /// Accounts whose address has no key, and their addresses: in the order of ids, those after `after`.
    async fn accounts_without_key(
        &self,
        after: Option<UserId>,
        limit: u32,
    ) -> Result<Vec<(UserId, String)>, StoreError>;
    /// Gives addresses their keys, except those that another account has. Returns how many got theirs.
    async fn set_email_keys(&self, keys: &[(UserId, String)]) -> Result<usize, StoreError>;
    /// Replaces the hash of a password by another one of the same password, unless it has changed.
    async fn renew_password_hash(&self, user: UserId, old: &str, new: &str) -> Result<bool, StoreError>;

    /// Whether anybody ever registered.
    async fn has_accounts(&self) -> Result<bool, StoreError>;

    /// Opens a login with its first refresh token, if the account lives and still has the password whose hash was verified.
    /// Returns the account's token version then.
    async fn open_login(&self, token: &RefreshToken, password_hash: &str) -> Result<Option<u32>, StoreError>;
    /// Looks a refresh token up by its hash.
    async fn refresh_token(&self, hash: &[u8; 32]) -> Result<Option<RefreshToken>, StoreError>;
    /// Marks `old` as used at `at` and keeps `new`, atomically, if `old` is neither used nor revoked yet. Returns the account's token
    /// version if it did.
    async fn rotate_refresh_token(
        &self,
        old: &[u8; 32],
        at: Timestamp,
        new: &RefreshToken,
    ) -> Result<Option<u32>, StoreError>;
    /// The account's token version, while the refresh token of that hash is not revoked.
    async fn token_version(&self, hash: &[u8; 32]) -> Result<Option<u32>, StoreError>;
    /// Revokes every token of a family.
    async fn revoke_refresh_family(&self, family: uuid::Uuid, at: Timestamp) -> Result<(), StoreError>;

    /// Revokes every token of an account: it is signed out everywhere. Returns its new token version; access tokens of a lower one are
    /// revoked. `Missing` where there is no such account.
    async fn revoke_user_tokens(&self, user: UserId, at: Timestamp) -> Result<u32, StoreError>;
    /// The revocations of access tokens at `since` or later: of accounts and of single logins, up to `limit` of each, the oldest first.
    async fn revoked_since(&self, since: Timestamp, limit: u32) -> Result<Vec<Revoked>, StoreError>;
    /// Changes name and privacy of an account, and answers what it is then. `Missing` where there is no such account.
    async fn update_user(&self, user: UserId, change: &UserChange, audit: &AuditRow) -> Result<User, StoreError>;
    /// Changes the password of `login`'s account, signs the account out everywhere, and opens that login, all if the account still has
    /// the password of the hash `from`. Returns its new token version if it did.
    async fn set_password(
        &self,
        from: &str,
        to: &str,
        login: &RefreshToken,
        audit: &AuditRow,
    ) -> Result<Option<u32>, StoreError>;
    /// Empties the account of everything personal, ends its follows, archives its products, and signs it out everywhere, if it still has
    /// the password of that hash. Its id is not found any more; what refers to it (orders, audits) stays. Returns its last token version
    /// if it did.
    async fn delete_user(&self, user: UserId, password_hash: &str, audit: &AuditRow)
    -> Result<Option<u32>, StoreError>;

    /// Adds a line to the audit trail for something that writes no other row.
    async fn record_audit(&self, row: &AuditRow) -> Result<(), StoreError>;
    /// The audit trail, newest first, those before `after`.
    async fn audit(
        &self,
        filter: AuditFilter,
        after: Option<uuid::Uuid>,
        limit: u32,
    ) -> Result<Vec<AuditRow>, StoreError>;

    /// Notes that an attempt under an idempotency key begins, unless the key is known.
    async fn keyed_attempt(&self, attempt: &KeyedAttempt) -> Result<Attempted, StoreError>;
    /// Keeps the answer to an attempt.
    async fn keyed_answer(&self, attempt: uuid::Uuid, answer: &KeptAnswer) -> Result<(), StoreError>;
    /// Forgets an attempt that did nothing.
    async fn keyed_release(&self, attempt: uuid::Uuid) -> Result<(), StoreError>;
    /// Whether the projection has come to the journal record of an attempt.
    async fn keyed_is_done(&self, attempt: uuid::Uuid) -> Result<bool, StoreError>;
    /// Forgets some of the keys that are older; returns whether there may be more.
    async fn keyed_forget(&self, before: Timestamp) -> Result<bool, StoreError>;

    /// Makes an account a creator. `Missing` where there is no such account, `Taken` with `handle` or `creator` (the account has a profile already).
    async fn insert_creator(&self, creator: &Creator) -> Result<(), StoreError>;
    /// Writes a profile's name and text, and a line of the audit trail, if the profile still is what the change was made from (its
    /// followers apart); returns whether it was.
    async fn update_creator(&self, new: &Creator, old: &Creator, audit: &AuditRow) -> Result<bool, StoreError>;
    /// The profile with that id, its follower count included.
    async fn creator(&self, id: CreatorId) -> Result<Option<Creator>, StoreError>;
    /// Creators in id order (newest first), those before `after` if it is given.
    async fn creators(&self, after: Option<CreatorId>, limit: u32) -> Result<Vec<Creator>, StoreError>;

    /// Follows; returns whether that is new. The count on the profile moves in the same transaction. `Missing` where one of the two
    /// accounts was deleted.
    async fn follow(&self, user: UserId, creator: CreatorId, at: Timestamp) -> Result<bool, StoreError>;
    /// Unfollows; returns whether there was something to undo.
    async fn unfollow(&self, user: UserId, creator: CreatorId) -> Result<bool, StoreError>;
    /// Whether `user` follows `creator`.
    async fn follows(&self, user: UserId, creator: CreatorId) -> Result<bool, StoreError>;
    /// Whom `user` follows, in creator id order (ascending), those after `after`.
    async fn following(&self, user: UserId, after: Option<CreatorId>, limit: u32)
    -> Result<Vec<CreatorId>, StoreError>;
    /// Who follows `creator` and lets others see it, in user id order (ascending), those after `after`.
    async fn followers(&self, creator: CreatorId, after: Option<UserId>, limit: u32)
    -> Result<Vec<UserId>, StoreError>;

    /// Adds a product. `Missing` where its creator's account was deleted.
    async fn insert_product(&self, product: &Product) -> Result<(), StoreError>;
    /// The product with that id.
    async fn product(&self, id: ProductId) -> Result<Option<Product>, StoreError>;
    /// Rewrites a product that is still at `from_version`, with its line of the audit trail. Returns whether it was. `Missing` where its
    /// creator's account was deleted.
    async fn update_product(&self, product: &Product, from_version: u32, audit: &AuditRow) -> Result<bool, StoreError>;
    /// Summaries of products, newest id first, those before `after`, filtered. A page of a range of prices may be shorter than `limit`.
    async fn products(
        &self,
        filter: ProductFilter,
        after: Option<ProductId>,
        limit: u32,
    ) -> Result<Found<ProductSummary>, StoreError>;

    /// Makes the database this journal's, before anything is loaded from it: two servers that sold the same drops would
    /// oversell them. Any other journal is retired, and a server that still runs with it is fenced.
    ///
    /// Returns up to where the journal has been applied, 0 if it never was. A transaction that a server with an older epoch has left
    /// behind, its commit on the way, has ended by then, and none can follow: a watermark read before may be too low.
    ///
    /// `Owned` where there are unsettled drops and another journal may be ahead of them, `Retired` where the database was taken from
    /// this one, `Fenced` where it has a newer epoch.
    async fn claim(&self, journal: uuid::Uuid, epoch: u32) -> Result<u64, StoreError>;
    /// Every journal that has the database or had it, by age.
    async fn owners(&self) -> Result<Vec<Owner>, StoreError>;
    /// Gives a retired journal the database back, and says whether it was retired. `Superseded` where another has had it since.
    async fn reinstate(&self, journal: uuid::Uuid, epoch: u32) -> Result<bool, StoreError>;
    /// Says that a server lives. An older epoch of the same journal does not overwrite a newer one.
    async fn beat(&self, journal: uuid::Uuid, epoch: u32, server: &str) -> Result<(), StoreError>;
    /// Says that it does not live any more.
    async fn rest(&self, journal: uuid::Uuid, epoch: u32) -> Result<(), StoreError>;
    /// The latest sign of life of every server that did not stop by itself.
    async fn heartbeats(&self) -> Result<Vec<Heartbeat>, StoreError>;
    /// How far a consumer of a journal has come, if it was kept here.
    async fn consumer_offset(&self, consumer: &str, journal: uuid::Uuid) -> Result<Option<ConsumerOffset>, StoreError>;
    /// Keeps that. An older epoch of the same journal does not overwrite a newer one.
    async fn keep_consumer_offset(
        &self,
        consumer: &str,
        journal: uuid::Uuid,
        offset: ConsumerOffset,
    ) -> Result<(), StoreError>;
    /// How far the schema is. Changes nothing.
    async fn schema(&self) -> Result<Schema, StoreError>;
    /// Retires every journal, so that the next one may claim the database: for an operator whose data directory is lost.
    /// Returns how many were not retired before.
    async fn disown(&self) -> Result<u64, StoreError>;

    /// Drops that are scheduled to start up to `until`, with their starts, the earliest first, those after `after`.
    async fn scheduled_drops(
        &self,
        after: (Timestamp, DropId),
        until: Timestamp,
        limit: u32,
    ) -> Result<Vec<(Timestamp, DropId)>, StoreError>;
    /// Drops that are scheduled, the earliest start first, those after `after`.
    async fn sleeping_drops(&self, after: (Timestamp, DropId), limit: u32) -> Result<Vec<DropRow>, StoreError>;
    /// Drops of a creator that are scheduled or live.
    async fn open_drops_of(&self, creator: CreatorId, limit: u32) -> Result<Vec<DropId>, StoreError>;
    /// Drops, newest id first, those before `after`, filtered. A page of a range of starts may be shorter than `limit`.
    async fn drops(&self, filter: DropFilter, after: Option<DropId>, limit: u32) -> Result<Found<DropRow>, StoreError>;

    /// An order as projected.
    async fn order(&self, id: OrderId) -> Result<Option<OrderView>, StoreError>;
    /// What an order's history has beyond its row, oldest first.
    async fn order_notes(&self, order: OrderId) -> Result<Vec<OrderNote>, StoreError>;
    /// What waits in an inbox, newest first, those told before `after`. An entry that was acknowledged waits no more.
    async fn inbox(&self, view: InboxView, after: Option<EntryId>, limit: u32) -> Result<Vec<InboxEntry>, StoreError>;
    /// How much of that is unread, counted up to `max`.
    async fn inbox_unread(&self, view: InboxView, max: u32) -> Result<u32, StoreError>;
    /// Marks entries, each of its owner's. What is not in that inbox, or marked already, stays as it is.
    async fn inbox_mark(&self, mark: Mark, entries: &[(UserId, EntryId)], at: Timestamp) -> Result<(), StoreError>;
    /// Marks as read what waits in an inbox up to `last`.
    async fn inbox_mark_read_up_to(&self, view: InboxView, last: EntryId, at: Timestamp) -> Result<(), StoreError>;
    /// Forgets some of what happened before `before`; returns whether there may be more.
    async fn inbox_forget(&self, before: Timestamp) -> Result<bool, StoreError>;
    /// Every journal whose records are here.
    async fn journals(&self) -> Result<Vec<uuid::Uuid>, StoreError>;

    /// A buyer's orders, newest id first, those before `after`.
    async fn orders_of(&self, buyer: UserId, after: Option<OrderId>, limit: u32) -> Result<Vec<OrderView>, StoreError>;
    /// What a buyer's idempotency key was answered first, wherever it was used.
    async fn answer_for_key(&self, buyer: UserId, key: &str) -> Result<Option<KeyAnswer>, StoreError>;
}
