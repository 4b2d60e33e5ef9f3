//! An account's activity in drops: checked, and ended, when the account is deleted.

use super::settle::Settler;
use crate::actors::{Answer, AskError, Backoff, DropHandle, Registry};
use crate::domain::{CreatorId, DropStatus, OrderId, OrderStatus, ReleaseReason, TraceId, UserId};
use crate::engine::{Command, Outcome};
use async_trait::async_trait;
use futures_util::{StreamExt, stream};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};
use tracing::warn;

/// Drops that release holds concurrently.
const ASKED_AT_ONCE: usize = 16;
/// Pauses between attempts to reach an overloaded drop.
const RETRIES: Backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(2));
/// Attempts per drop: about ten seconds in all. A hold that is not released then expires by itself.
const ASKS_MAX: u32 = 12;
/// Lock stripes: two accounts on one stripe only contend.
const STRIPES: usize = 256;

/// An account's activity in drops.
#[async_trait]
pub trait Activity: Send + Sync {
    /// Whether a creator has drops that are scheduled or on sale.
    fn sells(&self, creator: CreatorId) -> bool;
    /// Releases every hold of a buyer without a running payment.
    async fn release_holds(&self, buyer: UserId, trace: TraceId);
}

/// For programs that sell nothing, such as an operator's command.
pub struct Nothing;

#[async_trait]
impl Activity for Nothing {
    fn sells(&self, _: CreatorId) -> bool {
        false
    }
    async fn release_holds(&self, _: UserId, _: TraceId) {}
}

/// Activity in the drops in memory: every drop that sells or has holds is there.
pub struct InDrops {
    registry: Registry,
    settler: Settler,
}

impl InDrops {
    #[must_use]
    pub fn new(registry: Registry, settler: Settler) -> Self {
        Self { registry, settler }
    }

    async fn release_in(&self, drop: &DropHandle, buyer: UserId, trace: TraceId) -> Result<(), AskError> {
        let Outcome::Orders(orders) = ask(drop, &Command::OrdersOf { buyer }).await?.outcome else { return Ok(()) };
        let held = orders.iter().filter(|order| order.status == OrderStatus::Reserved);
        for id in held.map(|order| order.id).filter(|id: &OrderId| !self.settler.is_charging(*id)) {
            // Any answer is fine: the hold is over, or its payment has begun and will end it.
            ask(drop, &Command::Release { order: id, reason: ReleaseReason::Cancelled, trace }).await?;
        }
        Ok(())
    }
}

async fn ask(drop: &DropHandle, command: &Command) -> Result<Answer, AskError> {
    let mut retries = RETRIES;
    for _ in 1..ASKS_MAX {
        match drop.ask(command.clone()).await {
            Err(AskError::Overloaded) => retries.pause().await,
            answer => return answer,
        }
    }
    drop.ask(command.clone()).await
}

#[async_trait]
impl Activity for InDrops {
    fn sells(&self, creator: CreatorId) -> bool {
        let over = |status| matches!(status, DropStatus::Ended | DropStatus::Cancelled);
        self.registry.of_creator(creator).iter().any(|drop| !over(drop.cell.read().status))
    }

    async fn release_holds(&self, buyer: UserId, trace: TraceId) {
        let holds = |drop: &Arc<DropHandle>| drop.cell.read().variants.iter().any(|(_, stock)| stock.held > 0);
        let drops = self.registry.all().into_iter().filter(holds);
        let released = stream::iter(drops).for_each_concurrent(ASKED_AT_ONCE, async |drop| {
            match self.release_in(&drop, buyer, trace).await {
                // An evicted drop has no holds.
                Ok(()) | Err(AskError::Gone) => {}
                Err(error) => warn!(drop = %drop.spec.id, %error, "holds of a deleted account are left to expire"),
            }
        });
        released.await;
    }
}

/// Locks that prevent the deletion of an account while a request starts something for it outside the database. Cheap to
/// clone.
#[derive(Clone)]
pub struct AccountLocks(Arc<[Arc<RwLock<()>>]>);

impl Default for AccountLocks {
    fn default() -> Self {
        Self((0..STRIPES).map(|_| Arc::default()).collect())
    }
}

impl AccountLocks {
    /// The account is not deleted while the guard is held.
    pub async fn keep(&self, user: UserId) -> OwnedRwLockReadGuard<()> {
        self.of(user).read_owned().await
    }

    /// Nothing starts for the account while the guard is held.
    pub async fn delete(&self, user: UserId) -> OwnedRwLockWriteGuard<()> {
        self.of(user).write_owned().await
    }

    fn of(&self, user: UserId) -> Arc<RwLock<()>> {
        // The random end of an id.
        Arc::clone(&self.0[user.0.as_u64_pair().1 as usize % self.0.len()])
    }
}
