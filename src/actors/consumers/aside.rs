//! Applies records that were set aside, once the cause is fixed: at every start, and by `livedrop projection retry`.
//! The projector must not run at the same time.

use crate::domain::DropId;
use crate::storage::{Ledger, SetAsideDrop, StoreError};
use tracing::warn;
use uuid::Uuid;

/// Records applied in one transaction.
const PAGE: u32 = 1_000;

/// The result of a retry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Retried {
    /// Records that are in SQL now.
    pub applied: u64,
    /// Drops that still have records set aside.
    pub left: Vec<SetAsideDrop>,
}

/// Applies each drop's records in order, up to the first that is still refused.
///
/// # Errors
/// [`StoreError`] if the database is unavailable; records applied before that stay applied.
pub async fn retry(store: &dyn Ledger, journal: Uuid, epoch: u32) -> Result<Retried, StoreError> {
    let mut applied = 0;
    for drop in store.set_aside_drops(journal).await? {
        applied += retry_drop(store, journal, epoch, drop.drop).await?;
    }
    Ok(Retried { applied, left: store.set_aside_drops(journal).await? })
}

async fn retry_drop(store: &dyn Ledger, journal: Uuid, epoch: u32, drop: DropId) -> Result<u64, StoreError> {
    let (mut size, mut applied) = (PAGE, 0);
    loop {
        let page = store.set_aside(journal, drop, 0, size).await?;
        let Some(first) = page.first() else { return Ok(applied) };
        match store.apply_set_aside(journal, epoch, &page).await {
            Ok(()) => {
                applied += page.len() as u64;
                size = PAGE;
            }
            Err(StoreError::Unacceptable(reason)) if page.len() == 1 => {
                warn!(%drop, record = first.sequence, %reason, "the database still refuses a record");
                return Ok(applied);
            }
            Err(StoreError::Unacceptable(_) | StoreError::TooLarge) => {
                size = u32::try_from(page.len() / 2).unwrap_or(1).max(1)
            }
            Err(error) => return Err(error),
        }
    }
}
