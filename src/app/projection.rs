//! The command `livedrop projection`: journal records that the database refused permanently. For a stopped server.

use crate::actors::consumers::aside;
use crate::config::Config;
use crate::journal::{self, FileDevice, Identity};
use crate::storage::{SetAsideDrop, Store};

/// Drops with records set aside (`livedrop projection list`).
///
/// # Errors
/// One readable line: a running server, no journal, or the database.
pub async fn list(config: &Config, store: &dyn Store) -> Result<Vec<SetAsideDrop>, String> {
    let journal = resting_journal(config)?.journal_id;
    store.set_aside_drops(journal).await.map_err(|error| error.to_string())
}

/// Applies the records set aside (`livedrop projection retry`).
///
/// # Errors
/// As [`list`].
pub async fn retry(config: &Config, store: &dyn Store) -> Result<aside::Retried, String> {
    let journal = resting_journal(config)?.journal_id;
    let watermark = store.watermark(journal).await.map_err(|error| error.to_string())?;
    let epoch = watermark.ok_or("the database knows nothing of this journal")?.epoch;
    aside::retry(store, journal, epoch).await.map_err(|error| error.to_string())
}

/// The identity of the data directory's journal, which no server may be using.
pub(super) fn resting_journal(config: &Config) -> Result<Identity, String> {
    let dir = config.data_dir.join("journal");
    let device = FileDevice::existing(&dir).map_err(|_| format!("no journal in {}", dir.display()))?;
    match device.is_locked() {
        Ok(false) => {}
        Ok(true) => return Err(format!("a server runs on {}: stop it first", config.data_dir.display())),
        Err(error) => return Err(format!("cannot see whether a server runs: {error}")),
    }
    let known = journal::read_identity(&device).map_err(|error| error.to_string())?;
    known.ok_or_else(|| format!("no journal in {}", dir.display()))
}
