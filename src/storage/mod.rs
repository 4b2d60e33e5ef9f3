//! The SQL side: one [`Store`] contract, two databases, one conformance suite run against both.
//!
//! Accounts, profiles, products and follows are written here directly. Drops and orders are written only by
//! [`Ledger::project`], from journal records, in the same transaction as the journal's watermark: SQL holds the full
//! truth at the watermark, and applying a batch twice changes nothing.
//!
//! **The order of locks.** Every transaction that writes for an account takes locks in this order, so that two of them
//! on Postgres never deadlock:
//! 1. the account's lock (`lock` of a session, with its id), of one account only: a transaction that decides from an
//!    account's row (that it was not deleted, its password, its token version) holds it until the decision is written;
//! 2. the account's row in `users`;
//! 3. rows of `creators`, by rising id;
//! 4. `follows`, which refer to both (an insert locks the rows it refers to, so a follow needs no second account's
//!    lock), `products`, `inbox`, `refresh_tokens`, `addresses`;
//! 5. `audit`.
//!
//! A follow inserts its own row first and then changes one profile's count: no other transaction locks that row,
//! because its account is locked. The projection takes its watermark's row first and touches none of the above except
//! for inserts into `inbox`. SQLite has one writer, which is every lock at once.
//!
//! - [`model`]: rows, in domain types.
//! - `accounts`, `catalogue`, `products`, `reading`: the operations, written once for both databases over `sql`.
//! - `search`: lists that are filtered by a range.
//! - `inbox`: unacknowledged notifications, written with the event or computed on reading.
//! - `addresses`: addresses of users, encrypted.
//! - `webhooks`: the inbox of payment providers' webhooks.
//! - `projection`: journal records to rows. `memory`: a ledger in memory with the same fold, for the simulation.
//! - `cache`: single rows in memory, invalidated by writes.
//! - `deferred`: a store whose database was away at the start.
//! - `sqlite`, `postgres`: connections, and the few statements that differ. `sqlite::generations`: why SQLite's indexes
//!   start anew from time to time.

mod accounts;
mod addresses;
mod audit;
mod cache;
mod catalogue;
mod dead_letters;
mod deferred;
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
mod refund_requests;
mod rows;
mod search;
mod sold;
mod sql;
mod sqlite;
mod store;
mod webhooks;

use crate::domain::limits::{DATABASE_CONNECTIONS_DEFAULT, FAN_OUT_FOLLOWERS_DEFAULT};
use crate::domain::{CreatorId, DropId, DropStatus, OrderId, OrderView, ProductId, Timestamp, UserId};
pub use addresses::AddressBook;
use async_trait::async_trait;
pub use deferred::{Connected, Deferred};
pub use model::*;
pub use refund_requests::RefundRequests;
pub use sold::{Contact, SoldFilter, SoldOrder, SoldOrders};
use std::sync::Arc;
pub use webhooks::WebhookInbox;

/// Why an operation of the store failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database cannot be reached, or took too long: a later retry may help.
    #[error("the database is not available: {}", reason(.0))]
    Unavailable(#[source] sqlx::Error),
    /// The database, or its URL, cannot be used, and waiting does not change that. Only from [`connect`] and
    /// [`Store::migrate`].
    #[error("{0}")]
    Refused(String),
    /// A unique constraint: `what` names the field that is taken (`email`, `handle`).
    #[error("{what} is already taken")]
    Taken {
        /// `email`, `handle` or `creator`.
        what: &'static str,
    },
    /// The account that the write depends on was deleted or never existed.
    #[error("there is no such {what}")]
    Missing {
        /// Either `account` or `creator`.
        what: &'static str,
    },
    /// Another process owns the watermark: its epoch is newer, so this one must not write.
    #[error("another server has taken this database over (epoch {theirs}, ours is {ours})")]
    Fenced {
        /// The epoch of this process.
        ours: u32,
        /// The epoch in the database.
        theirs: u32,
    },
    /// Another journal owns this database, and it holds drops that are not settled.
    #[error(
        "the database belongs to journal {by}, and it holds drops that are not settled: start with the data directory of \
         that journal; if it is lost, `livedrop adopt` gives the database to another, without what only that journal knew"
    )]
    Owned {
        /// The id of the other journal.
        by: uuid::Uuid,
    },
    /// There is no database, and none was created.
    #[error("there is no database at {0}; nothing was created")]
    Absent(String),
    /// The database was taken from this journal.
    #[error(
        "the database was taken from this data directory's journal, {journal}, by `livedrop adopt` or by a server with another \
         data directory; what it acknowledged and had not written there yet is in its journal alone. Where nobody has started on the \
         database since, `livedrop adopt --give-back` with this data directory undoes it; docs/OPERATIONS.md says what else can be done"
    )]
    Retired {
        /// The id of this process's journal.
        journal: uuid::Uuid,
    },
    /// A retired journal cannot get its database back, because another one has used it since.
    #[error(
        "journal {by} has had the database since it was taken from this data directory's journal: giving it back would forget what \
         that one has sold. Nothing was changed"
    )]
    Superseded {
        /// The id of the other journal.
        by: uuid::Uuid,
    },
    /// The batch does not start right after the watermark.
    #[error("the batch starts at record {first}, the watermark is {watermark}")]
    Gap {
        /// The batch's first sequence number.
        first: u64,
        /// The last applied sequence.
        watermark: u64,
    },
    /// The batch would write too many rows in one transaction; a smaller one may fit. Never for a single record.
    #[error("the batch would write too many rows in one transaction")]
    TooLarge,
    /// The database refuses these values, or they contradict its rows: no retry can succeed, while other records can be
    /// applied.
    #[error("the database refuses it for good: {0}")]
    Unacceptable(String),
    /// Rows that this program cannot have written, or a wrong query.
    #[error("the database holds something unexpected: {0}")]
    Corrupt(String),
}

/// The error's text, without the driver's prefix.
fn reason(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Io(error) => error.to_string(),
        sqlx::Error::Database(error) => error.message().to_owned(),
        other => other.to_string(),
    }
}

impl StoreError {
    /// Whether the database took too long: a smaller request may succeed.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        let Self::Unavailable(error) = self else { return false };
        match error {
            sqlx::Error::Io(error) => error.kind() == std::io::ErrorKind::TimedOut,
            // `query_canceled`: the statement timeout.
            sqlx::Error::Database(error) => error.code().is_some_and(|code| code == "57014"),
            _ => false,
        }
    }

    /// An error that the database cannot be reached, with its reason.
    pub(crate) fn unavailable(kind: std::io::ErrorKind, reason: &'static str) -> Self {
        Self::Unavailable(sqlx::Error::Io(std::io::Error::new(kind, reason)))
    }
}

/// Options of a store.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StoreOptions {
    /// Above this number of followers, a creator's followers get no inbox entries of their own: they are computed on
    /// reading.
    pub fan_out_max: u32,
    /// Connections to Postgres. There are fewer if the server, the role or the database allows no more.
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

/// Which database on which server a URL means, without a user or a password. `None` for SQLite, and for a URL that is
/// none.
#[must_use]
pub fn server_and_database(url: &str) -> Option<String> {
    if url.starts_with("sqlite:") { None } else { postgres::server_and_database(url) }
}

/// The URL of a SQLite database in a file.
#[must_use]
pub fn sqlite_url(path: &std::path::Path) -> String {
    sqlite::url_of(path)
}

/// The file of a SQLite URL; `None` for another database.
#[must_use]
pub fn sqlite_file(url: &str) -> Option<std::path::PathBuf> {
    if url.starts_with("sqlite:") { sqlite::file_of(url) } else { None }
}

/// Opens the database of a URL: `sqlite:///path/file.db` (created if it is missing) or `postgres://…`. The schema is
/// not changed, see [`Store::migrate`].
///
/// # Errors
/// [`StoreError::Unavailable`] if the database does not answer, or not yet: a retry may help. Once open, the store
/// reconnects by itself after an outage. [`StoreError::Refused`] if a retry cannot help: an invalid URL, a wrong
/// password, no such database or directory.
pub async fn connect(url: &str) -> Result<Arc<dyn Store>, StoreError> {
    connect_with(url, &StoreOptions::default()).await
}

/// As [`connect`], for an existing database: a missing one is not created.
///
/// # Errors
/// As [`connect`], and [`StoreError::Absent`].
pub async fn connect_existing(url: &str) -> Result<Arc<dyn Store>, StoreError> {
    if url.starts_with("sqlite:") {
        sqlite::require_file(url)?;
    }
    connect(url).await
}

/// As [`connect`], with options.
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
    /// The watermark of a journal; `None` for a journal that was never applied.
    async fn watermark(&self, journal: uuid::Uuid) -> Result<Option<Watermark>, StoreError>;
    /// The sequence of a journal's last applied record, 0 if none was applied.
    async fn applied(&self, journal: uuid::Uuid) -> Result<u64, StoreError> {
        Ok(self.watermark(journal).await?.map_or(0, |watermark| watermark.sequence))
    }
    /// Applies a batch of journal records and moves the watermark to its last one, in one transaction.
    ///
    /// Records at or below the watermark are skipped, so a batch may come twice. `Gap` if records are missing between
    /// the watermark and the batch, `Fenced` if a newer epoch has written. `Unacceptable` if one of the records can
    /// never be applied, `TooLarge` if the batch is too large for one transaction; then nothing of the batch is
    /// applied.
    async fn project(&self, batch: &ProjectionBatch) -> Result<(), StoreError> {
        self.project_around(batch, &Aside::new()).await
    }
    /// Like [`Self::project`], but sets some of the records aside in the same transaction. If one record is set aside,
    /// the caller sets all later ones of the same drop aside too: they build on it.
    async fn project_around(&self, batch: &ProjectionBatch, aside: &Aside) -> Result<(), StoreError>;
    /// Sets aside the record after the watermark, which cannot be read, and moves the watermark to it, in one transaction. Skipped if it is at
    /// or below the watermark. `Gap` and `Fenced` as in [`Ledger::project`].
    async fn set_aside_unread(&self, journal: uuid::Uuid, epoch: u32, record: &UnreadRecord) -> Result<(), StoreError>;
    /// Drops with records set aside, in the order of their first one.
    async fn set_aside_drops(&self, journal: uuid::Uuid) -> Result<Vec<SetAsideDrop>, StoreError>;
    /// A drop's records that are set aside, in order, those after `after`.
    async fn set_aside(
        &self,
        journal: uuid::Uuid,
        drop: DropId,
        after: u64,
        limit: u32,
    ) -> Result<Vec<SetAside>, StoreError>;
    /// Applies the first of a drop's records that are set aside, and deletes them, in one transaction. `Unacceptable`
    /// as in [`Self::project`].
    async fn apply_set_aside(&self, journal: uuid::Uuid, epoch: u32, records: &[SetAside]) -> Result<(), StoreError>;

    /// A drop as projected.
    async fn drop_row(&self, id: DropId) -> Result<Option<DropRow>, StoreError>;
    /// Drops that recovery has to load: those not settled (scheduled, open, with holds, or with refunds due).
    async fn unsettled_drops(&self) -> Result<Vec<DropRow>, StoreError>;
    /// The unsettled drops that have to be in memory: all but those scheduled to start after `horizon`.
    async fn drops_to_load(&self, horizon: Timestamp) -> Result<Vec<DropRow>, StoreError> {
        let sleeps = |row: &DropRow| row.status == DropStatus::Scheduled && row.spec.starts_at > horizon;
        Ok(self.unsettled_drops().await?.into_iter().filter(|row| !sleeps(row)).collect())
    }
    /// Every order of a drop in id order, those after `after`.
    async fn drop_orders(&self, drop: DropId, after: Option<OrderId>, limit: u32)
    -> Result<Vec<OrderView>, StoreError>;
}

/// All operations on a database. Every method is safe to retry after [`StoreError::Unavailable`].
#[async_trait]
pub trait Store: AddressBook + Ledger + RefundRequests + SoldOrders + WebhookInbox {
    /// Either `sqlite` or `postgres`, for logs and `/readyz`.
    fn kind(&self) -> &'static str;
    /// Adds the store's metrics to a registry. Fails if the names are taken there.
    fn register_metrics(&self, registry: &prometheus::Registry) -> prometheus::Result<()>;
    /// Runs a trivial query.
    async fn ping(&self) -> Result<(), StoreError>;
    /// Applies the migrations that the schema lacks.
    async fn migrate(&self) -> Result<(), StoreError>;
    /// Waits a few seconds at most.
    async fn close(&self);
    /// Writes a consistent copy of the database into an empty file, without free pages, while others go on writing.
    /// SQLite only; a Postgres database is copied by its own tools.
    async fn copy_into(&self, file: &std::path::Path) -> Result<(), StoreError>;

    /// Adds an account. `Taken { what: "email" }` if the address or its key is in use.
    async fn insert_user(&self, user: &User) -> Result<(), StoreError>;
    /// Adds an admin account, and its line in the audit trail. Errors as [`Store::insert_user`].
    async fn insert_admin(&self, user: &User, audit: &AuditRow) -> Result<(), StoreError>;
    /// Makes an account an admin, replaces its password and revokes all its refresh tokens. `false` if there is no such
    /// account.
    async fn promote_to_admin(&self, user: UserId, hash: &str, audit: &AuditRow) -> Result<bool, StoreError>;
    /// The account with that id, unless it was deleted.
    async fn user(&self, id: UserId) -> Result<Option<User>, StoreError>;
    /// The account with exactly that address, or else with that key of its address.
    async fn user_by_email(&self, email: &str, key: &str) -> Result<Option<User>, StoreError>;
    /// Accounts whose address has no key, and their addresses: in the order of ids, those after `after`.
    async fn accounts_without_key(
        &self,
        after: Option<UserId>,
        limit: u32,
    ) -> Result<Vec<(UserId, String)>, StoreError>;
    /// Sets the keys of addresses, except those that another account has. Returns how many were set.
    async fn set_email_keys(&self, keys: &[(UserId, String)]) -> Result<usize, StoreError>;
    /// Replaces a password's hash by another one of the same password, unless the password has changed.
    async fn renew_password_hash(&self, user: UserId, old: &str, new: &str) -> Result<bool, StoreError>;

    /// Whether any account was ever registered.
    async fn has_accounts(&self) -> Result<bool, StoreError>;

    /// Opens a login with its first refresh token, if the account was not deleted and still has the password hash that
    /// was verified. Returns the account's token version then.
    async fn open_login(&self, token: &RefreshToken, password_hash: &str) -> Result<Option<u32>, StoreError>;
    /// Looks a refresh token up by its hash.
    async fn refresh_token(&self, hash: &[u8; 32]) -> Result<Option<RefreshToken>, StoreError>;
    /// Marks `old` as used at `at` and stores `new`, atomically, if `old` is neither used nor revoked yet. Returns the
    /// account's token version if it did.
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

    /// Revokes every token of an account: it is signed out everywhere. Returns its new token version; access tokens of
    /// a lower one are revoked. `Missing` if there is no such account.
    async fn revoke_user_tokens(&self, user: UserId, at: Timestamp) -> Result<u32, StoreError>;
    /// The revocations of access tokens at `since` or later: of accounts and of single logins, up to `limit` of each,
    /// the oldest first.
    async fn revoked_since(&self, since: Timestamp, limit: u32) -> Result<Vec<Revoked>, StoreError>;
    /// Changes name and privacy of an account, and returns the changed account. `Missing` if there is no such account.
    async fn update_user(&self, user: UserId, change: &UserChange, audit: &AuditRow) -> Result<User, StoreError>;
    /// Changes the password of `login`'s account, signs the account out everywhere, and opens that login, if the
    /// account still has the password hash `from`. Returns its new token version if it did.
    async fn set_password(
        &self,
        from: &str,
        to: &str,
        login: &RefreshToken,
        audit: &AuditRow,
    ) -> Result<Option<u32>, StoreError>;
    /// Deletes everything personal from the account, ends its follows, archives its products, and signs it out
    /// everywhere, if it still has that password hash. Its id is no longer found; rows that refer to it (orders,
    /// audits) stay. Returns its last token version if it did.
    async fn delete_user(&self, user: UserId, password_hash: &str, audit: &AuditRow)
    -> Result<Option<u32>, StoreError>;

    /// Adds a line to the audit trail for an act that writes no other row.
    async fn record_audit(&self, row: &AuditRow) -> Result<(), StoreError>;
    /// The audit trail, newest first, those before `after`.
    async fn audit(
        &self,
        filter: AuditFilter,
        after: Option<uuid::Uuid>,
        limit: u32,
    ) -> Result<Vec<AuditRow>, StoreError>;

    /// Records that an attempt under an idempotency key begins, unless the key is known.
    async fn keyed_attempt(&self, attempt: &KeyedAttempt) -> Result<Attempted, StoreError>;
    /// Stores the answer to an attempt.
    async fn keyed_answer(&self, attempt: uuid::Uuid, answer: &KeptAnswer) -> Result<(), StoreError>;
    /// Deletes an attempt without effect.
    async fn keyed_release(&self, attempt: uuid::Uuid) -> Result<(), StoreError>;
    /// Whether the projection has reached the journal record of an attempt.
    async fn keyed_is_done(&self, attempt: uuid::Uuid) -> Result<bool, StoreError>;
    /// Deletes some of the keys older than `before`; returns whether there may be more.
    async fn keyed_forget(&self, before: Timestamp) -> Result<bool, StoreError>;

    /// Makes an account a creator. `Missing` if there is no such account, `Taken` with `handle` or `creator` (the
    /// account has a profile already).
    async fn insert_creator(&self, creator: &Creator) -> Result<(), StoreError>;
    /// Writes a profile's name and text, and a line of the audit trail, if the profile still equals `old` (its follower
    /// count apart); returns whether it did.
    async fn update_creator(&self, new: &Creator, old: &Creator, audit: &AuditRow) -> Result<bool, StoreError>;
    /// The profile with that id, its follower count included.
    async fn creator(&self, id: CreatorId) -> Result<Option<Creator>, StoreError>;
    /// Creators in id order (newest first), those before `after` if it is given.
    async fn creators(&self, after: Option<CreatorId>, limit: u32) -> Result<Vec<Creator>, StoreError>;

    /// Follows; returns whether that is new. The follower count changes in the same transaction. `Missing` if one of
    /// the two accounts was deleted.
    async fn follow(&self, user: UserId, creator: CreatorId, at: Timestamp) -> Result<bool, StoreError>;
    /// Unfollows; returns whether there was a follow.
    async fn unfollow(&self, user: UserId, creator: CreatorId) -> Result<bool, StoreError>;
    /// Whether `user` follows `creator`.
    async fn follows(&self, user: UserId, creator: CreatorId) -> Result<bool, StoreError>;
    /// The creators that `user` follows, in creator id order (ascending), those after `after`.
    async fn following(&self, user: UserId, after: Option<CreatorId>, limit: u32)
    -> Result<Vec<CreatorId>, StoreError>;
    /// The public followers of `creator`, in user id order (ascending), those after `after`.
    async fn followers(&self, creator: CreatorId, after: Option<UserId>, limit: u32)
    -> Result<Vec<UserId>, StoreError>;

    /// Adds a product. `Missing` if its creator's account was deleted.
    async fn insert_product(&self, product: &Product) -> Result<(), StoreError>;
    /// The product with that id.
    async fn product(&self, id: ProductId) -> Result<Option<Product>, StoreError>;
    /// Rewrites a product that is still at `from_version`, and adds its line of the audit trail. Returns whether it
    /// was. `Missing` if its creator's account was deleted.
    async fn update_product(&self, product: &Product, from_version: u32, audit: &AuditRow) -> Result<bool, StoreError>;
    /// Summaries of products, newest id first, those before `after`, filtered. A page filtered by a range of prices may
    /// be shorter than `limit`.
    async fn products(
        &self,
        filter: ProductFilter,
        after: Option<ProductId>,
        limit: u32,
    ) -> Result<Found<ProductSummary>, StoreError>;

    /// Makes this journal the owner of the database, before anything is loaded from it: two servers that sold the same
    /// drops would oversell them. Any other journal is retired, and a server that still runs with it is fenced.
    ///
    /// Returns the last applied sequence of the journal, 0 if there is none. A transaction that a server with an older
    /// epoch left behind, its commit still on the way, has ended by then, and none can follow: a watermark read before
    /// may be too low.
    ///
    /// `Owned` if there are unsettled drops and another journal may be ahead of them, `Retired` if the database was
    /// taken from this journal, `Fenced` if the journal has a newer epoch there.
    async fn claim(&self, journal: uuid::Uuid, epoch: u32) -> Result<u64, StoreError>;
    /// Every journal that owns or owned the database, by age.
    async fn owners(&self) -> Result<Vec<Owner>, StoreError>;
    /// Makes a retired journal the owner again; returns whether it was retired. `Superseded` if another has owned the
    /// database since.
    async fn reinstate(&self, journal: uuid::Uuid, epoch: u32) -> Result<bool, StoreError>;
    /// Stores a heartbeat of a server. An older epoch of the same journal does not overwrite a newer one. Returns whether
    /// the database is this journal's, as claimed by that epoch.
    async fn beat(&self, journal: uuid::Uuid, epoch: u32, server: &str) -> Result<bool, StoreError>;
    /// Deletes the heartbeat of a server that stops.
    async fn rest(&self, journal: uuid::Uuid, epoch: u32) -> Result<(), StoreError>;
    /// The latest heartbeat of every server that did not stop by itself.
    async fn heartbeats(&self) -> Result<Vec<Heartbeat>, StoreError>;
    /// A consumer's dead letters of a journal in the order of their records, `limit` at most.
    async fn dead_letters(
        &self,
        consumer: &str,
        journal: uuid::Uuid,
        limit: u32,
    ) -> Result<Vec<DeadLetterRow>, StoreError>;
    /// How many there are.
    async fn dead_letter_count(&self, consumer: &str, journal: uuid::Uuid) -> Result<u64, StoreError>;
    /// Keeps dead letters. One that is there already, by record and id, is replaced.
    async fn keep_dead_letters(
        &self,
        consumer: &str,
        journal: uuid::Uuid,
        letters: &[DeadLetterRow],
    ) -> Result<(), StoreError>;
    /// Removes a dead letter, if it is there.
    async fn remove_dead_letter(
        &self,
        consumer: &str,
        journal: uuid::Uuid,
        letter: &DeadLetterRow,
    ) -> Result<(), StoreError>;
    /// A consumer's offset in a journal, if it is stored here.
    async fn consumer_offset(&self, consumer: &str, journal: uuid::Uuid) -> Result<Option<ConsumerOffset>, StoreError>;
    /// Stores a consumer's offset. An older epoch of the same journal does not overwrite a newer one.
    async fn keep_consumer_offset(
        &self,
        consumer: &str,
        journal: uuid::Uuid,
        offset: ConsumerOffset,
    ) -> Result<(), StoreError>;
    /// The version of the schema, compared with this program's. Changes nothing.
    async fn schema(&self) -> Result<Schema, StoreError>;
    /// Retires every journal, so that the next one may claim the database: for an operator whose data directory is
    /// lost. Returns how many were not retired before.
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
    /// Drops, newest id first, those before `after`, filtered. A page filtered by a range of starts may be shorter than
    /// `limit`.
    async fn drops(&self, filter: DropFilter, after: Option<DropId>, limit: u32) -> Result<Found<DropRow>, StoreError>;

    /// An order as projected.
    async fn order(&self, id: OrderId) -> Result<Option<OrderView>, StoreError>;
    /// The history of an order's payments, oldest first; none of play money.
    async fn payment_notes(&self, order: OrderId) -> Result<Vec<PaymentNote>, StoreError>;
    /// The part of an order's history that its row does not keep, oldest first.
    async fn order_notes(&self, order: OrderId) -> Result<Vec<OrderNote>, StoreError>;
    /// The entries of an inbox, newest first, those before `after`. Acknowledged entries are not listed.
    async fn inbox(&self, view: InboxView, after: Option<EntryId>, limit: u32) -> Result<Vec<InboxEntry>, StoreError>;
    /// How many of these are unread, counted up to `max`.
    async fn inbox_unread(&self, view: InboxView, max: u32) -> Result<u32, StoreError>;
    /// Marks entries of several users. Entries that are not in the user's inbox, or are marked already, are not
    /// changed.
    async fn inbox_mark(&self, mark: Mark, entries: &[(UserId, EntryId)], at: Timestamp) -> Result<(), StoreError>;
    /// Marks the entries of an inbox up to `last` as read.
    async fn inbox_mark_read_up_to(&self, view: InboxView, last: EntryId, at: Timestamp) -> Result<(), StoreError>;
    /// Deletes some entries from before `before`; returns whether there may be more.
    async fn inbox_forget(&self, before: Timestamp) -> Result<bool, StoreError>;
    /// Every journal with a watermark here.
    async fn journals(&self) -> Result<Vec<uuid::Uuid>, StoreError>;

    /// The newest order, by its id, that any journal has projected into this database.
    async fn newest_order(&self) -> Result<Option<OrderId>, StoreError>;
    /// A buyer's orders, newest id first, those before `after`.
    async fn orders_of(&self, buyer: UserId, after: Option<OrderId>, limit: u32) -> Result<Vec<OrderView>, StoreError>;
    /// The order of a buyer's idempotency key, at any drop; the first if the key was used at two.
    async fn order_of_key(&self, buyer: UserId, key: &str) -> Result<Option<OrderView>, StoreError>;
}
