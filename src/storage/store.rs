//! [`Store`] for any [`Database`]: every operation within a time limit, implemented in the file of its topic.

use super::cache::Cache;
use super::sql::{Database, OPERATION_TIMEOUT, Session, args};
use super::{Aside, DeadLetterRow, Found, SetAside, SetAsideDrop, UnreadRecord};
use super::{
    Attempted, AuditFilter, AuditRow, ConsumerOffset, EntryId, Heartbeat, InboxEntry, InboxView, KeptAnswer,
    KeyedAttempt, Mark, OrderNote, Owner, PaymentNote, Schema,
};
use super::{
    Creator, DropFilter, DropRow, Ledger, Product, ProductFilter, ProductSummary, ProjectionBatch, RefreshToken,
    Revoked, Store, StoreError, User, UserChange, Watermark,
};
use super::{accounts, audit, catalogue, dead_letters, inbox, keys, offsets, owners, products, reading};
use crate::domain::{CreatorId, DropId, DropStatus, OrderId, OrderView, ProductId, Timestamp, UserId};
use crate::storage::projection::{apply, aside, retry};
use async_trait::async_trait;
use prometheus::{IntCounterVec, Opts, Registry};
use std::{future::Future, path::Path, time::Duration};
use uuid::Uuid;

/// The store of one database, and its caches.
pub(super) struct SqlStore<D> {
    db: D,
    creators: Cache<CreatorId, Creator>,
    products: Cache<ProductId, Product>,
    /// Only drops that are over: the others change with every order, and are in the registry.
    drops: Cache<DropId, DropRow>,
    reads: IntCounterVec,
    fan_out_max: u32,
}

/// Bytes of rows in each cache, roughly.
const CACHE_BYTES_MAX: u64 = 16 << 20;

impl<D> SqlStore<D> {
    /// The database, for operations in files of their own.
    pub fn database(&self) -> &D {
        &self.db
    }

    /// `fan_out_max`: see [`super::StoreOptions`].
    pub fn new(db: D, fan_out_max: u32) -> Self {
        let help = "Reads of single rows, by what was read and whether memory had it.";
        let reads = IntCounterVec::new(Opts::new("livedrop_cache_reads_total", help), &["of", "result"]);
        let reads = reads.expect("a valid name");
        let counters = |of: &str| ["hit", "miss"].map(|result| reads.with_label_values(&[of, result]));
        let [creators, products, drops] = ["creator", "product", "drop"].map(counters);
        Self {
            db,
            creators: Cache::new(CACHE_BYTES_MAX, weigh_creator, creators),
            products: Cache::new(CACHE_BYTES_MAX, weigh_product, products),
            drops: Cache::new(CACHE_BYTES_MAX, weigh_drop, drops),
            reads,
            fan_out_max,
        }
    }
}

fn weigh_creator(creator: &Creator) -> usize {
    size_of::<Creator>() + creator.handle.len() + creator.display_name.len() + creator.bio.len()
}

fn weigh_product(product: &Product) -> usize {
    let images = product.images.iter().map(|image| size_of_val(image) + image.url.len()).sum::<usize>();
    let variants = product.variants.iter().map(|variant| size_of_val(variant) + variant.name.len()).sum::<usize>();
    // An attribute is a name, a short value and a tree node.
    let attributes = product.attributes.len() * 256;
    size_of::<Product>() + product.name.len() + product.description.len() + images + variants + attributes
}

fn weigh_drop(drop: &DropRow) -> usize {
    let variants = drop.spec.variants.iter().map(|variant| size_of_val(variant) + variant.name.len()).sum::<usize>();
    size_of::<DropRow>() + drop.spec.title.len() + 2 * variants
}

/// Migrations may rewrite tables.
const MIGRATE_TIMEOUT: Duration = Duration::from_secs(3_600);
/// A copy reads every row.
const COPY_TIMEOUT: Duration = Duration::from_secs(6 * 3_600);

/// Aborts an operation at its time limit: a connection that is silent without being closed must not hold a request
/// forever.
async fn within<T>(limit: Duration, operation: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    let late = || StoreError::unavailable(std::io::ErrorKind::TimedOut, "the database did not answer in time");
    tokio::time::timeout(limit, operation).await.unwrap_or_else(|_| Err(late()))
}

pub(super) async fn timely<T>(operation: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    within(OPERATION_TIMEOUT, operation).await
}

async fn ping<D: Database>(db: &D) -> Result<(), StoreError> {
    db.session().await?.one("SELECT 1", args![]).await.map(|_| ())
}

#[async_trait]
impl<D: Database> Ledger for SqlStore<D> {
    async fn watermark(&self, journal: Uuid) -> Result<Option<Watermark>, StoreError> {
        timely(apply::watermark(&self.db, journal)).await
    }
    async fn project_around(&self, batch: &ProjectionBatch, aside: &Aside) -> Result<(), StoreError> {
        let mut drops: Vec<DropId> = batch.records.iter().map(|record| record.drop).collect();
        drops.sort_unstable();
        drops.dedup();
        self.drops.write(drops, timely(apply::project(&self.db, batch, aside, self.fan_out_max))).await
    }
    async fn set_aside_unread(&self, journal: Uuid, epoch: u32, record: &UnreadRecord) -> Result<(), StoreError> {
        timely(apply::set_aside_unread(&self.db, journal, epoch, record)).await
    }
    async fn set_aside_drops(&self, journal: Uuid) -> Result<Vec<SetAsideDrop>, StoreError> {
        timely(aside::drops(&self.db, journal)).await
    }
    async fn set_aside(
        &self,
        journal: Uuid,
        drop: DropId,
        after: u64,
        limit: u32,
    ) -> Result<Vec<SetAside>, StoreError> {
        timely(aside::records(&self.db, journal, drop, after, limit)).await
    }
    async fn apply_set_aside(&self, journal: Uuid, epoch: u32, records: &[SetAside]) -> Result<(), StoreError> {
        let drops: Vec<DropId> = records.iter().map(|aside| aside.record.drop).collect();
        self.drops.write(drops, timely(retry::retry(&self.db, journal, epoch, records, self.fan_out_max))).await
    }
    async fn drop_row(&self, id: DropId) -> Result<Option<DropRow>, StoreError> {
        let over = |row: &DropRow| matches!(row.status, DropStatus::Ended | DropStatus::Cancelled);
        self.drops.get(id, over, timely(reading::drop_row(&self.db, id))).await
    }
    async fn unsettled_drops(&self) -> Result<Vec<DropRow>, StoreError> {
        timely(reading::unsettled_drops(&self.db)).await
    }
    async fn drops_to_load(&self, horizon: Timestamp) -> Result<Vec<DropRow>, StoreError> {
        timely(reading::drops_to_load(&self.db, horizon)).await
    }
    async fn drop_orders(
        &self,
        drop: DropId,
        after: Option<OrderId>,
        limit: u32,
    ) -> Result<Vec<OrderView>, StoreError> {
        timely(reading::drop_orders(&self.db, drop, after, limit)).await
    }
}

#[async_trait]
impl<D: Database> Store for SqlStore<D> {
    fn kind(&self) -> &'static str {
        D::KIND
    }
    fn register_metrics(&self, registry: &Registry) -> prometheus::Result<()> {
        registry.register(Box::new(self.reads.clone()))
    }
    async fn ping(&self) -> Result<(), StoreError> {
        timely(ping(&self.db)).await
    }
    async fn migrate(&self) -> Result<(), StoreError> {
        within(MIGRATE_TIMEOUT, self.db.migrate()).await
    }
    async fn close(&self) {
        self.db.close().await;
    }
    async fn copy_into(&self, file: &Path) -> Result<(), StoreError> {
        within(COPY_TIMEOUT, self.db.copy_into(file)).await
    }

    async fn insert_user(&self, user: &User) -> Result<(), StoreError> {
        timely(accounts::insert_user(&self.db, user, None)).await
    }
    async fn insert_admin(&self, user: &User, audit: &AuditRow) -> Result<(), StoreError> {
        timely(accounts::insert_user(&self.db, user, Some(audit))).await
    }
    async fn promote_to_admin(&self, user: UserId, hash: &str, audit: &AuditRow) -> Result<bool, StoreError> {
        timely(accounts::promote_to_admin(&self.db, user, hash, audit)).await
    }
    async fn user(&self, id: UserId) -> Result<Option<User>, StoreError> {
        timely(accounts::user(&self.db, id)).await
    }
    async fn user_by_email(&self, email: &str, key: &str) -> Result<Option<User>, StoreError> {
        timely(accounts::user_by_email(&self.db, email, key)).await
    }
    async fn accounts_without_key(
        &self,
        after: Option<UserId>,
        limit: u32,
    ) -> Result<Vec<(UserId, String)>, StoreError> {
        timely(accounts::accounts_without_key(&self.db, after, limit)).await
    }
    async fn set_email_keys(&self, keys: &[(UserId, String)]) -> Result<usize, StoreError> {
        timely(accounts::set_email_keys(&self.db, keys)).await
    }
    async fn renew_password_hash(&self, user: UserId, old: &str, new: &str) -> Result<bool, StoreError> {
        timely(accounts::renew_password_hash(&self.db, user, old, new)).await
    }
    async fn has_accounts(&self) -> Result<bool, StoreError> {
        timely(accounts::has_any(&self.db)).await
    }
    async fn open_login(&self, token: &RefreshToken, password_hash: &str) -> Result<Option<u32>, StoreError> {
        timely(accounts::open_login(&self.db, token, password_hash)).await
    }
    async fn refresh_token(&self, hash: &[u8; 32]) -> Result<Option<RefreshToken>, StoreError> {
        timely(accounts::refresh_token(&self.db, hash)).await
    }
    async fn rotate_refresh_token(
        &self,
        old: &[u8; 32],
        at: Timestamp,
        new: &RefreshToken,
    ) -> Result<Option<u32>, StoreError> {
        timely(accounts::rotate_refresh_token(&self.db, old, at, new)).await
    }
    async fn token_version(&self, hash: &[u8; 32]) -> Result<Option<u32>, StoreError> {
        timely(accounts::token_version(&self.db, hash)).await
    }
    async fn revoke_refresh_family(&self, family: Uuid, at: Timestamp) -> Result<(), StoreError> {
        timely(accounts::revoke_refresh_family(&self.db, family, at)).await
    }

    async fn revoke_user_tokens(&self, user: UserId, at: Timestamp) -> Result<u32, StoreError> {
        timely(accounts::revoke_user_tokens(&self.db, user, at)).await
    }
    async fn revoked_since(&self, since: Timestamp, limit: u32) -> Result<Vec<Revoked>, StoreError> {
        timely(accounts::revoked_since(&self.db, since, limit)).await
    }
    async fn update_user(&self, user: UserId, change: &UserChange, audit: &AuditRow) -> Result<User, StoreError> {
        timely(accounts::update_user(&self.db, user, change, audit)).await
    }
    async fn set_password(
        &self,
        from: &str,
        to: &str,
        login: &RefreshToken,
        audit: &AuditRow,
    ) -> Result<Option<u32>, StoreError> {
        timely(accounts::set_password(&self.db, from, to, login, audit)).await
    }
    async fn delete_user(
        &self,
        user: UserId,
        password_hash: &str,
        audit: &AuditRow,
    ) -> Result<Option<u32>, StoreError> {
        let write = timely(accounts::delete_user(&self.db, user, password_hash, audit));
        let version = self.products.write_any(self.creators.write_any(write)).await?;
        self.db.erase_deleted();
        Ok(version)
    }

    async fn record_audit(&self, row: &AuditRow) -> Result<(), StoreError> {
        timely(audit::record(&self.db, row)).await
    }
    async fn audit(&self, filter: AuditFilter, after: Option<Uuid>, limit: u32) -> Result<Vec<AuditRow>, StoreError> {
        timely(audit::list(&self.db, filter, after, limit)).await
    }

    async fn keyed_attempt(&self, attempt: &KeyedAttempt) -> Result<Attempted, StoreError> {
        timely(keys::begin(&self.db, attempt)).await
    }
    async fn keyed_answer(&self, attempt: Uuid, answer: &KeptAnswer) -> Result<(), StoreError> {
        timely(keys::answered(&self.db, attempt, answer)).await
    }
    async fn keyed_release(&self, attempt: Uuid) -> Result<(), StoreError> {
        timely(keys::release(&self.db, attempt)).await
    }
    async fn keyed_is_done(&self, attempt: Uuid) -> Result<bool, StoreError> {
        timely(keys::is_done(&self.db, attempt)).await
    }
    async fn keyed_forget(&self, before: Timestamp) -> Result<bool, StoreError> {
        timely(keys::forget(&self.db, before)).await
    }

    async fn insert_creator(&self, creator: &Creator) -> Result<(), StoreError> {
        timely(catalogue::insert_creator(&self.db, creator)).await
    }
    async fn update_creator(&self, new: &Creator, old: &Creator, audit: &AuditRow) -> Result<bool, StoreError> {
        self.creators.write([new.id], timely(catalogue::update_creator(&self.db, new, old, audit))).await
    }
    async fn creator(&self, id: CreatorId) -> Result<Option<Creator>, StoreError> {
        self.creators.get(id, |_| true, timely(catalogue::creator(&self.db, id))).await
    }
    async fn creators(&self, after: Option<CreatorId>, limit: u32) -> Result<Vec<Creator>, StoreError> {
        timely(catalogue::creators(&self.db, after, limit)).await
    }
    async fn follow(&self, user: UserId, creator: CreatorId, at: Timestamp) -> Result<bool, StoreError> {
        self.creators.write([creator], timely(catalogue::follow(&self.db, user, creator, at))).await
    }
    async fn unfollow(&self, user: UserId, creator: CreatorId) -> Result<bool, StoreError> {
        self.creators.write([creator], timely(catalogue::unfollow(&self.db, user, creator))).await
    }
    async fn follows(&self, user: UserId, creator: CreatorId) -> Result<bool, StoreError> {
        timely(catalogue::follows(&self.db, user, creator)).await
    }
    async fn following(
        &self,
        user: UserId,
        after: Option<CreatorId>,
        limit: u32,
    ) -> Result<Vec<CreatorId>, StoreError> {
        timely(catalogue::following(&self.db, user, after, limit)).await
    }
    async fn followers(
        &self,
        creator: CreatorId,
        after: Option<UserId>,
        limit: u32,
    ) -> Result<Vec<UserId>, StoreError> {
        timely(catalogue::followers(&self.db, creator, after, limit)).await
    }

    async fn insert_product(&self, product: &Product) -> Result<(), StoreError> {
        timely(products::insert(&self.db, product)).await
    }
    async fn product(&self, id: ProductId) -> Result<Option<Product>, StoreError> {
        self.products.get(id, |_| true, timely(products::get(&self.db, id))).await
    }
    async fn update_product(&self, product: &Product, from_version: u32, audit: &AuditRow) -> Result<bool, StoreError> {
        let write = timely(products::update(&self.db, product, from_version, audit));
        self.products.write([product.id], write).await
    }
    async fn products(
        &self,
        filter: ProductFilter,
        after: Option<ProductId>,
        limit: u32,
    ) -> Result<Found<ProductSummary>, StoreError> {
        timely(products::list(&self.db, filter, after, limit)).await
    }

    async fn claim(&self, journal: Uuid, epoch: u32) -> Result<u64, StoreError> {
        timely(apply::claim(&self.db, journal, epoch)).await
    }
    async fn owners(&self) -> Result<Vec<Owner>, StoreError> {
        timely(owners::owners(&self.db)).await
    }
    async fn reinstate(&self, journal: Uuid, epoch: u32) -> Result<bool, StoreError> {
        timely(owners::reinstate(&self.db, journal, epoch)).await
    }
    async fn beat(&self, journal: Uuid, epoch: u32, server: &str) -> Result<bool, StoreError> {
        timely(owners::beat(&self.db, journal, epoch, server)).await
    }
    async fn rest(&self, journal: Uuid, epoch: u32) -> Result<(), StoreError> {
        timely(owners::rest(&self.db, journal, epoch)).await
    }
    async fn heartbeats(&self) -> Result<Vec<Heartbeat>, StoreError> {
        timely(owners::heartbeats(&self.db)).await
    }
    async fn dead_letters(&self, consumer: &str, journal: Uuid, limit: u32) -> Result<Vec<DeadLetterRow>, StoreError> {
        timely(dead_letters::all(&self.db, consumer, journal, limit)).await
    }
    async fn dead_letter_count(&self, consumer: &str, journal: Uuid) -> Result<u64, StoreError> {
        timely(dead_letters::count(&self.db, consumer, journal)).await
    }
    async fn keep_dead_letters(
        &self,
        consumer: &str,
        journal: Uuid,
        letters: &[DeadLetterRow],
    ) -> Result<(), StoreError> {
        timely(dead_letters::keep(&self.db, consumer, journal, letters)).await
    }
    async fn remove_dead_letter(
        &self,
        consumer: &str,
        journal: Uuid,
        letter: &DeadLetterRow,
    ) -> Result<(), StoreError> {
        timely(dead_letters::remove(&self.db, consumer, journal, letter)).await
    }
    async fn consumer_offset(&self, consumer: &str, journal: Uuid) -> Result<Option<ConsumerOffset>, StoreError> {
        timely(offsets::get(&self.db, consumer, journal)).await
    }
    async fn keep_consumer_offset(
        &self,
        consumer: &str,
        journal: Uuid,
        offset: ConsumerOffset,
    ) -> Result<(), StoreError> {
        timely(offsets::keep(&self.db, consumer, journal, offset)).await
    }
    async fn schema(&self) -> Result<Schema, StoreError> {
        timely(owners::schema(&self.db)).await
    }
    async fn disown(&self) -> Result<u64, StoreError> {
        timely(apply::disown(&self.db)).await
    }

    async fn scheduled_drops(
        &self,
        after: (Timestamp, DropId),
        until: Timestamp,
        limit: u32,
    ) -> Result<Vec<(Timestamp, DropId)>, StoreError> {
        timely(reading::scheduled_drops(&self.db, after, until, limit)).await
    }
    async fn open_drops_of(&self, creator: CreatorId, limit: u32) -> Result<Vec<DropId>, StoreError> {
        timely(reading::open_drops_of(&self.db, creator, limit)).await
    }
    async fn sleeping_drops(&self, after: (Timestamp, DropId), limit: u32) -> Result<Vec<DropRow>, StoreError> {
        timely(reading::sleeping_drops(&self.db, after, limit)).await
    }
    async fn drops(&self, filter: DropFilter, after: Option<DropId>, limit: u32) -> Result<Found<DropRow>, StoreError> {
        timely(reading::drops(&self.db, filter, after, limit)).await
    }
    async fn order(&self, id: OrderId) -> Result<Option<OrderView>, StoreError> {
        timely(reading::order(&self.db, id)).await
    }
    async fn payment_notes(&self, order: OrderId) -> Result<Vec<PaymentNote>, StoreError> {
        timely(reading::payment_notes(&self.db, order)).await
    }
    async fn order_notes(&self, order: OrderId) -> Result<Vec<OrderNote>, StoreError> {
        timely(reading::order_notes(&self.db, order)).await
    }
    async fn orders_of(&self, buyer: UserId, after: Option<OrderId>, limit: u32) -> Result<Vec<OrderView>, StoreError> {
        timely(reading::orders_of(&self.db, buyer, after, limit)).await
    }
    async fn inbox(&self, view: InboxView, after: Option<EntryId>, limit: u32) -> Result<Vec<InboxEntry>, StoreError> {
        timely(inbox::list(&self.db, view, after, limit)).await
    }
    async fn inbox_unread(&self, view: InboxView, max: u32) -> Result<u32, StoreError> {
        timely(inbox::unread(&self.db, view, max)).await
    }
    async fn inbox_mark(&self, mark: Mark, entries: &[(UserId, EntryId)], at: Timestamp) -> Result<(), StoreError> {
        timely(inbox::mark(&self.db, mark, entries, at)).await
    }
    async fn inbox_mark_read_up_to(&self, view: InboxView, last: EntryId, at: Timestamp) -> Result<(), StoreError> {
        timely(inbox::mark_read_up_to(&self.db, view, last, at)).await
    }
    async fn inbox_forget(&self, before: Timestamp) -> Result<bool, StoreError> {
        timely(inbox::forget(&self.db, before)).await
    }
    async fn journals(&self) -> Result<Vec<Uuid>, StoreError> {
        timely(inbox::journals(&self.db)).await
    }
    async fn newest_order(&self) -> Result<Option<OrderId>, StoreError> {
        timely(apply::newest_order(&self.db)).await
    }
    async fn order_of_key(&self, buyer: UserId, key: &str) -> Result<Option<OrderView>, StoreError> {
        timely(reading::order_of_key(&self.db, buyer, key)).await
    }
}
