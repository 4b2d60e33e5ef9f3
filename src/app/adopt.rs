//! The command `livedrop adopt`: takes a database away from a journal with a lost data directory, and gives it back if
//! that was a mistake.

use super::heartbeat::lives;
use crate::config::Config;
use crate::journal::{self, FileDevice};
use crate::storage::{Owner, Schema, Store, StoreError};

/// Checks that a command may work on a database: it has a schema, in this program's version.
///
/// # Errors
/// One readable line.
pub async fn require_schema(store: &dyn Store) -> Result<(), String> {
    match store.schema().await.map_err(|error| error.to_string())? {
        Schema::Current => Ok(()),
        Schema::Absent => Err("there is nothing of LiveDrop in that database; nothing was changed".to_owned()),
        Schema::Older => {
            Err("that database has an earlier version's schema: stop its server and run `livedrop migrate`".to_owned())
        }
        Schema::Newer => Err("that database has a later version's schema: use that version of livedrop".to_owned()),
    }
}

/// Retires every journal that owns the database. Without `yes`, or while a server is alive, nothing changes and the
/// error says what would be lost.
///
/// # Errors
/// One readable paragraph.
pub async fn adopt(store: &dyn Store, yes: bool) -> Result<String, String> {
    let text = |error: StoreError| error.to_string();
    let owners = store.owners().await.map_err(text)?;
    let owners: Vec<Owner> = owners.into_iter().filter(|owner| !owner.retired).collect();
    if owners.is_empty() {
        return Ok("no journal has this database: the next start may have it as it is".to_owned());
    }
    let drops = store.unsettled_drops().await.map_err(text)?.len();
    let lost = owners.iter().map(lost).collect::<Vec<_>>().join("; ");
    let consequence = format!(
        "Adopting gives up what {lost}, and its data directory does not start on this database any more. {drops} drops are not settled: \
         the next data directory goes on with them as the database has them"
    );
    let beats = store.heartbeats().await.map_err(text)?;
    if let Some(beat) =
        beats.iter().find(|beat| lives(beat) && owners.iter().any(|owner| owner.journal == beat.journal))
    {
        return Err(format!(
            "a server lives on this database: {}, with journal {}, heard of {:.0} s ago. {consequence}. Nothing was changed: stop that \
             server first, then nothing is lost. One that was killed counts as living for {} s",
            beat.server,
            beat.journal,
            beat.ago_ms.max(0) as f64 / 1_000.0,
            super::heartbeat::DEAD_AFTER.as_secs()
        ));
    }
    if !yes {
        return Err(format!("{consequence}. Nothing was changed; where that data directory is lost, --yes does it"));
    }
    let journals = store.disown().await.map_err(text)?;
    Ok(format!(
        "retired {journals} journals; the next start takes the database, with {drops} drops that are not settled"
    ))
}

fn lost(owner: &Owner) -> String {
    match owner.applied {
        Some(record) => format!("journal {} acknowledged after record {record}", owner.journal),
        None => format!("journal {} acknowledged, of which nothing is in the database", owner.journal),
    }
}

/// Undoes [`adopt`] for the data directory's journal, while no other journal has started on the database.
///
/// # Errors
/// One readable paragraph.
pub async fn give_back(config: &Config, store: &dyn Store) -> Result<String, String> {
    let place = config.data_dir.join("journal");
    let absent = || format!("there is no journal at {}", place.display());
    let device = FileDevice::existing(&place).map_err(|_| absent())?;
    let known = journal::read_identity(&device).map_err(|error| error.to_string())?.ok_or_else(absent)?;
    let given = store.reinstate(known.journal_id, known.epoch).await.map_err(|error| error.to_string())?;
    Ok(match given {
        true => {
            format!("the database is journal {}'s again: start with {}", known.journal_id, config.data_dir.display())
        }
        false => format!("the database was not taken from journal {}: there is nothing to undo", known.journal_id),
    })
}
