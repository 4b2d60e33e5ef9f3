//! Loads drops into memory: the unsettled drops as SQL has them at the watermark, and the journal's records after it.

use crate::domain::{DropEvent, DropId, DropRecord, Timestamp, event::RecordError};
use crate::engine::{DropState, state::Restore};
use crate::journal::{JournalError, JournalReader};
use crate::storage::{DropRow, Ledger, SetAside, StoreError};
use std::collections::{HashMap, HashSet, hash_map::Entry};
use tracing::warn;
use uuid::Uuid;

/// Rows read in one query.
const PAGE: u32 = 1_000;
/// Records replayed in one batch.
const BATCH: usize = 4_096;

/// Why recovery failed. The server does not start then: going on would forget acknowledged decisions.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryFailure {
    /// The database cannot be read.
    #[error("cannot load drops from the database: {0}")]
    Store(#[from] StoreError),
    /// The journal cannot be read.
    #[error("cannot read the journal: {0}")]
    Journal(#[from] JournalError),
    /// A record that this version cannot read.
    #[error("cannot read journal record {sequence}: {error}")]
    Record {
        sequence: u64,
        /// Why it cannot be read.
        error: RecordError,
    },
    /// SQL has applied records that the journal lacks.
    #[error(
        "the database holds this journal up to record {watermark}, but the journal ends at {last}: \
         records that were acknowledged are missing from the data directory; restore it from a backup"
    )]
    JournalBehind {
        /// The last record in SQL.
        watermark: u64,
        /// The last record in the journal.
        last: u64,
    },
    /// The journal does not reach back to SQL's watermark.
    #[error(
        "the database holds this journal up to record {watermark}, and the journal in the data directory begins with record {oldest}: the records \
         in between were deleted once the database had them. This database is older than the data directory: restore both from one backup, \
         see docs/OPERATIONS.md"
    )]
    JournalBeginsLater {
        /// The last record in SQL.
        watermark: u64,
        /// The oldest record in the journal.
        oldest: u64,
    },
    /// Rows that contradict each other.
    #[error("the database holds something unexpected: {0}")]
    Corrupt(String),
}

/// The result of recovery.
pub struct Recovered {
    /// The drops that belong in memory.
    pub drops: Vec<DropState>,
    /// The number of journal records replayed after the watermark.
    pub replayed: u64,
    /// The latest known timestamp: the steady clock starts no earlier.
    pub last_at: Timestamp,
}

/// Loads and replays. `last` is the journal's last sequence.
///
/// # Errors
/// [`RecoveryFailure`], one readable sentence.
pub async fn recover(
    store: &dyn Ledger,
    journal: &JournalReader,
    watermark: u64,
    last: u64,
) -> Result<Recovered, RecoveryFailure> {
    recover_until(store, journal, watermark, last, Timestamp::from_millis(i64::MAX)).await
}

/// Like [`recover`], without drops that are scheduled to start after `horizon`, unless they have records after the
/// watermark.
///
/// # Errors
/// As [`recover`].
pub async fn recover_until(
    store: &dyn Ledger,
    journal: &JournalReader,
    watermark: u64,
    last: u64,
    horizon: Timestamp,
) -> Result<Recovered, RecoveryFailure> {
    if watermark > last {
        return Err(RecoveryFailure::JournalBehind { watermark, last });
    }
    let ends = last_records(journal, watermark).map_err(|failure| match failure {
        RecoveryFailure::Journal(JournalError::Gone { oldest, .. }) => {
            RecoveryFailure::JournalBeginsLater { watermark, oldest }
        }
        other => other,
    })?;
    let mut drops = HashMap::new();
    for row in store.drops_to_load(horizon).await? {
        drops.insert(row.spec.id, load(store, row).await?);
    }
    let (aside, mut replayed) = replay_set_aside(store, journal.journal_id(), &mut drops).await?;
    let mut last_at = drops.values().map(DropState::last_at).max().unwrap_or_default();
    let mut cursor = journal.cursor(watermark);
    while let Some(batch) = cursor.next_batch(BATCH)? {
        for (sequence, bytes) in batch.iter() {
            let record = DropRecord::decode(bytes).map_err(|error| RecoveryFailure::Record { sequence, error })?;
            let id = record.drop;
            last_at = record.at;
            let state = replay(store, &mut drops, record).await?;
            // Memory use follows the number of open drops, not the length of the history.
            if ends.get(&id) == Some(&sequence) && state.is_settled() && !aside.contains(&id) {
                drops.remove(&id);
            }
            replayed += 1;
        }
    }
    // SQL lacks records of a drop that is set aside, so it stays in memory even if it is settled.
    let kept = |drop: &DropState| !drop.is_settled() || aside.contains(&drop.spec().id);
    let drops: Vec<DropState> = drops.into_values().filter(kept).collect();
    drops.iter().for_each(DropState::assert_invariants);
    Ok(Recovered { drops, replayed, last_at })
}

/// Replays the records that SQL has set aside, on top of the rows. Returns their drops and their number.
async fn replay_set_aside(
    store: &dyn Ledger,
    journal: Uuid,
    drops: &mut HashMap<DropId, DropState>,
) -> Result<(HashSet<DropId>, u64), RecoveryFailure> {
    let (mut aside, mut replayed) = (HashSet::new(), 0);
    for drop in store.set_aside_drops(journal).await? {
        let id = drop.drop;
        warn!(drop = %id, records = drop.records, first = drop.first_sequence, reason = %drop.reason,
            "records are set aside; `livedrop projection retry` applies them once the reason is gone");
        aside.insert(id);
        let mut after = 0;
        loop {
            let page = store.set_aside(journal, id, after, PAGE).await?;
            let Some(last) = page.last() else { break };
            after = last.sequence;
            for SetAside { record, .. } in page {
                replay(store, drops, record).await?;
                replayed += 1;
            }
        }
    }
    Ok((aside, replayed))
}

/// The sequence of each drop's last record. A settled drop may still get records (a late payment, a refund), so only
/// its last record tells that it is over.
fn last_records(journal: &JournalReader, watermark: u64) -> Result<HashMap<DropId, u64>, RecoveryFailure> {
    let mut ends = HashMap::new();
    let mut cursor = journal.cursor(watermark);
    while let Some(batch) = cursor.next_batch(BATCH)? {
        for (sequence, bytes) in batch.iter() {
            let id = DropRecord::drop_of(bytes).map_err(|error| RecoveryFailure::Record { sequence, error })?;
            ends.insert(id, sequence);
        }
    }
    Ok(ends)
}

async fn replay<'a>(
    store: &dyn Ledger,
    drops: &'a mut HashMap<DropId, DropState>,
    record: DropRecord,
) -> Result<&'a DropState, RecoveryFailure> {
    if let DropEvent::Scheduled(spec) = record.event {
        let place = drops.entry(record.drop).insert_entry(DropState::scheduled(*spec));
        return Ok(place.into_mut());
    }
    let state = match drops.entry(record.drop) {
        Entry::Occupied(known) => known.into_mut(),
        // Settled at SQL's watermark, but with later records: load it too.
        Entry::Vacant(place) => {
            let row = store.drop_row(record.drop).await?;
            let row =
                row.ok_or_else(|| RecoveryFailure::Corrupt(format!("drop {} is in the journal only", record.drop)))?;
            place.insert(load(store, row).await?)
        }
    };
    state.evolve(record.at, &record.event);
    Ok(state)
}

/// Rebuilds a drop from its rows, as of SQL's watermark.
pub(in crate::actors) async fn load(store: &dyn Ledger, row: DropRow) -> Result<DropState, RecoveryFailure> {
    let id = row.spec.id;
    let variants: Vec<_> = row.variants.iter().map(|variant| (variant.stock, variant.low)).collect();
    let times: (Option<Timestamp>, Option<Timestamp>, Timestamp) = (row.started_at, row.ended_at, row.last_event_at);
    let mut restore = Restore::new(row.spec, row.status, times, &variants);
    let mut after = None;
    loop {
        let orders = store.drop_orders(id, after, PAGE).await?;
        let Some(last) = orders.last() else { break };
        after = Some(last.id);
        for order in orders {
            restore.order(order).map_err(RecoveryFailure::Corrupt)?;
        }
    }
    Ok(restore.finish())
}
