//! Checks at startup that a database belongs to this data directory, and that no other server is alive on it.

use super::AppError;
use super::heartbeat::{DEAD_AFTER, lives};
use crate::actors::inventory::recovery::RecoveryFailure;
use crate::config::Config;
use crate::journal::JournalReader;
use crate::storage::{Owner, Store, StoreError};
use tracing::warn;
use uuid::Uuid;

/// Refuses a database that does not know a journal with history, and one with a living server of another journal.
/// Changes nothing. Returns the owners until now, for [`tell`].
pub(super) async fn require(
    config: &Config,
    reader: &JournalReader,
    (first, last): (u64, u64),
    store: &dyn Store,
) -> Result<Vec<Uuid>, AppError> {
    let (journal, owners) = (reader.journal_id(), store.owners().await?);
    require_own_database(config, (journal, first, last), &owners, store).await?;
    require_nobody_else(journal, store).await?;
    Ok(owners.iter().filter(|owner| !owner.retired && owner.journal != journal).map(|owner| owner.journal).collect())
}

/// Whether an error says that the database is not this journal's any more.
pub(super) fn is_lost(error: &AppError) -> bool {
    match error {
        AppError::UnknownDatabase(_) | AppError::Recovery(RecoveryFailure::JournalBehind { .. }) => true,
        AppError::Store(error) => {
            matches!(error, StoreError::Fenced { .. } | StoreError::Owned { .. } | StoreError::Retired { .. })
        }
        _ => false,
    }
}

/// Refuses a database that another opening of the same journal has claimed: a copy of the data directory runs with it.
/// Only for an opening that has not claimed it yet.
pub(super) async fn require_unclaimed(reader: &JournalReader, store: &dyn Store) -> Result<(), AppError> {
    let (journal, ours) = (reader.journal_id(), reader.epoch());
    let owners = store.owners().await?;
    match owners.iter().find(|owner| owner.journal == journal && !owner.retired && owner.epoch >= ours) {
        Some(owner) => Err(StoreError::Fenced { ours, theirs: owner.epoch }.into()),
        None => Ok(()),
    }
}

/// Logs that the database has a new owner.
pub(super) fn tell(former: &[Uuid]) {
    for journal in former {
        warn!(%journal, "this database belonged to another data directory, which does not start on it any more");
    }
}

/// Taking a database from a living server would stop it, and its data directory would not start again.
async fn require_nobody_else(journal: Uuid, store: &dyn Store) -> Result<(), AppError> {
    let beats = store.heartbeats().await?;
    let Some(beat) = beats.iter().find(|beat| beat.journal != journal && lives(beat)) else { return Ok(()) };
    Err(AppError::UnknownDatabase(format!(
        "a server lives on this database with another data directory: {}, with journal {}, heard of {:.0} s ago. Check data_dir and \
         database_url, or stop that server first. One that was killed counts as living for {} s. Nothing was changed",
        beat.server,
        beat.journal,
        beat.ago_ms.max(0) as f64 / 1_000.0,
        DEAD_AFTER.as_secs()
    )))
}

/// A journal with decisions has been known to its database since its first start. A database that does not know it
/// belongs to another journal, or was emptied: the journal's drops would be served without their creators, products and
/// accounts.
async fn require_own_database(
    config: &Config,
    (journal, first, last): (Uuid, u64, u64),
    owners: &[Owner],
    store: &dyn Store,
) -> Result<(), AppError> {
    if last == 0 || config.accept_empty_database || owners.iter().any(|owner| owner.journal == journal) {
        return Ok(());
    }
    let found = match owners.iter().max_by_key(|owner| (!owner.retired, owner.applied)) {
        Some(owner) => format!("belongs to another journal, {}", owner.journal),
        None if store.has_accounts().await? => "has accounts and has never been used with a journal".to_owned(),
        None => "is empty".to_owned(),
    };
    Err(AppError::UnknownDatabase(format!(
        "the journal in {} has history (journal {journal}, records {first} to {last}), and the {} database {found}. Starting would serve the \
         journal's drops without their creators, products and accounts. Check database_url and data_dir; or restore the database that belongs to \
         this journal (docs/OPERATIONS.md); or, to begin anew, name another data_dir; or, if it is meant, start once with \
         --accept-empty-database, which fills the database with what the journal still has: drops and orders. Nothing was changed there",
        config.data_dir.display(),
        store.kind(),
    )))
}
