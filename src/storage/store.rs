//! [`Store`] over any [`Database`]: every operation within a time limit, each in the file of its concern.

use super::sql::{Database, OPERATION_TIMEOUT, Session, args};
use super::{AuditFilter, AuditRow, OrderNote, accounts, audit, catalogue, products, projection, reading};
use super::{
    Creator, DropFilter, DropRow, KeyAnswer, Ledger, Product, ProductFilter, ProjectionBatch, RefreshToken, RefusalRow,
    Store, StoreError, User, Watermark,
};
use crate::domain::{CreatorId, DropId, KeyDigest, OrderId, OrderView, ProductId, Timestamp, UserId};
use async_trait::async_trait;
use std::{future::Future, time::Duration};
use uuid::Uuid;

/// The store of one database.
pub(super) struct SqlStore<D>(pub D);

/// Migrations may rewrite tables.
const MIGRATE_TIMEOUT: Duration = Duration::from_secs(3_600);

/// Gives an operation up when its time is over: a connection that is silent without being closed must not hold a request
/// for ever.
async fn within<T>(limit: Duration, operation: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    let late = || StoreError::unavailable(std::io::ErrorKind::TimedOut, "the database did not answer in time");
    tokio::time::timeout(limit, operation).await.unwrap_or_else(|_| Err(late()))
}

async fn timely<T>(operation: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    within(OPERATION_TIMEOUT, operation).await
}

async fn ping<D: Database>(db: &D) -> Result<(), StoreError> {
    db.session().await?.one("SELECT 1", args![]).await.map(|_| ())
}

#[async_trait]
impl<D: Database> Ledger for SqlStore<D> {
    async fn watermark(&self, journal: Uuid) -> Result<Option<Watermark>, StoreError> {
        timely(projection::watermark(&self.0, journal)).await
    }
    async fn project(&self, batch: &ProjectionBatch) -> Result<(), StoreError> {
        timely(projection::project(&self.0, batch)).await
    }
    async fn drop_row(&self, id: DropId) -> Result<Option<DropRow>, StoreError> {
        timely(reading::drop_row(&self.0, id)).await
    }
    async fn unsettled_drops(&self) -> Result<Vec<DropRow>, StoreError> {
        timely(reading::unsettled_drops(&self.0)).await
    }
    async fn drop_orders(
        &self,
        drop: DropId,
        after: Option<OrderId>,
        limit: u32,
    ) -> Result<Vec<OrderView>, StoreError> {
        timely(reading::drop_orders(&self.0, drop, after, limit)).await
    }
    async fn drop_refusals(&self, drop: DropId, after: Option<u64>, limit: u32) -> Result<Vec<RefusalRow>, StoreError> {
        timely(reading::drop_refusals(&self.0, drop, after, limit)).await
    }
}

#[async_trait]
impl<D: Database> Store for SqlStore<D> {
    fn kind(&self) -> &'static str {
        D::KIND
    }
    async fn ping(&self) -> Result<(), StoreError> {
        timely(ping(&self.0)).await
    }
    async fn migrate(&self) -> Result<(), StoreError> {
        within(MIGRATE_TIMEOUT, self.0.migrate()).await
    }
    async fn close(&self) {
        self.0.close().await;
    }

    async fn insert_user(&self, user: &User) -> Result<(), StoreError> {
        timely(accounts::insert_user(&self.0, user)).await
    }
    async fn user(&self, id: UserId) -> Result<Option<User>, StoreError> {
        timely(accounts::user(&self.0, id)).await
    }
    async fn user_by_email(&self, email: &str) -> Result<Option<User>, StoreError> {
        timely(accounts::user_by_email(&self.0, email)).await
    }
    async fn insert_refresh_token(&self, token: &RefreshToken) -> Result<(), StoreError> {
        timely(accounts::insert_refresh_token(&self.0, token)).await
    }
    async fn refresh_token(&self, hash: &[u8; 32]) -> Result<Option<RefreshToken>, StoreError> {
        timely(accounts::refresh_token(&self.0, hash)).await
    }
    async fn rotate_refresh_token(
        &self,
        old: &[u8; 32],
        at: Timestamp,
        new: &RefreshToken,
    ) -> Result<bool, StoreError> {
        timely(accounts::rotate_refresh_token(&self.0, old, at, new)).await
    }
    async fn revoke_refresh_family(&self, family: Uuid, at: Timestamp) -> Result<(), StoreError> {
        timely(accounts::revoke_refresh_family(&self.0, family, at)).await
    }

    async fn revoke_user_tokens(&self, user: UserId, at: Timestamp) -> Result<(), StoreError> {
        timely(accounts::revoke_user_tokens(&self.0, user, at)).await
    }
    async fn update_user(&self, user: &User, audit: &AuditRow) -> Result<(), StoreError> {
        timely(accounts::update_user(&self.0, user, audit)).await
    }
    async fn set_password(&self, user: UserId, hash: &str, audit: &AuditRow) -> Result<(), StoreError> {
        timely(accounts::set_password(&self.0, user, hash, audit)).await
    }
    async fn delete_user(&self, user: UserId, audit: &AuditRow) -> Result<(), StoreError> {
        timely(accounts::delete_user(&self.0, user, audit)).await
    }

    async fn record_audit(&self, row: &AuditRow) -> Result<(), StoreError> {
        timely(audit::record(&self.0, row)).await
    }
    async fn audit(&self, filter: AuditFilter, after: Option<Uuid>, limit: u32) -> Result<Vec<AuditRow>, StoreError> {
        timely(audit::list(&self.0, filter, after, limit)).await
    }

    async fn insert_creator(&self, creator: &Creator) -> Result<(), StoreError> {
        timely(catalogue::insert_creator(&self.0, creator)).await
    }
    async fn creator(&self, id: CreatorId) -> Result<Option<Creator>, StoreError> {
        timely(catalogue::creator(&self.0, id)).await
    }
    async fn creators(&self, after: Option<CreatorId>, limit: u32) -> Result<Vec<Creator>, StoreError> {
        timely(catalogue::creators(&self.0, after, limit)).await
    }
    async fn follow(&self, user: UserId, creator: CreatorId, at: Timestamp) -> Result<bool, StoreError> {
        timely(catalogue::follow(&self.0, user, creator, at)).await
    }
    async fn unfollow(&self, user: UserId, creator: CreatorId) -> Result<bool, StoreError> {
        timely(catalogue::unfollow(&self.0, user, creator)).await
    }
    async fn follows(&self, user: UserId, creator: CreatorId) -> Result<bool, StoreError> {
        timely(catalogue::follows(&self.0, user, creator)).await
    }
    async fn following(
        &self,
        user: UserId,
        after: Option<CreatorId>,
        limit: u32,
    ) -> Result<Vec<CreatorId>, StoreError> {
        timely(catalogue::following(&self.0, user, after, limit)).await
    }
    async fn followers(
        &self,
        creator: CreatorId,
        after: Option<UserId>,
        limit: u32,
    ) -> Result<Vec<UserId>, StoreError> {
        timely(catalogue::followers(&self.0, creator, after, limit)).await
    }

    async fn insert_product(&self, product: &Product) -> Result<(), StoreError> {
        timely(products::insert(&self.0, product)).await
    }
    async fn product(&self, id: ProductId) -> Result<Option<Product>, StoreError> {
        timely(products::get(&self.0, id)).await
    }
    async fn update_product(&self, product: &Product, from_version: u32, audit: &AuditRow) -> Result<bool, StoreError> {
        timely(products::update(&self.0, product, from_version, audit)).await
    }
    async fn products(
        &self,
        filter: ProductFilter,
        after: Option<ProductId>,
        limit: u32,
    ) -> Result<Vec<Product>, StoreError> {
        timely(products::list(&self.0, filter, after, limit)).await
    }

    async fn claim(&self, journal: Uuid, epoch: u32) -> Result<(), StoreError> {
        timely(projection::claim(&self.0, journal, epoch)).await
    }
    async fn disown(&self) -> Result<u64, StoreError> {
        timely(projection::disown(&self.0)).await
    }

    async fn drops(&self, filter: DropFilter, after: Option<DropId>, limit: u32) -> Result<Vec<DropRow>, StoreError> {
        timely(reading::drops(&self.0, filter, after, limit)).await
    }
    async fn order(&self, id: OrderId) -> Result<Option<OrderView>, StoreError> {
        timely(reading::order(&self.0, id)).await
    }
    async fn order_notes(&self, order: OrderId) -> Result<Vec<OrderNote>, StoreError> {
        timely(reading::order_notes(&self.0, order)).await
    }
    async fn orders_of(&self, buyer: UserId, after: Option<OrderId>, limit: u32) -> Result<Vec<OrderView>, StoreError> {
        timely(reading::orders_of(&self.0, buyer, after, limit)).await
    }
    async fn answer_for_key(&self, digest: KeyDigest) -> Result<Option<KeyAnswer>, StoreError> {
        timely(reading::answer_for_key(&self.0, digest)).await
    }
}
