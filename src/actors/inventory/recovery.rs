//! Loads drops into memory: from their checkpoint files, or as SQL has them at the watermark, and the journal's records
//! after that.

use super::all_cores::on_all_cores;
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
    /// Drops with records in the journal that only SQL could have completed: they are not in memory. Empty after a start
    /// with the database.
    pub left_out: Vec<DropId>,
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
    let horizon = Timestamp::from_millis(i64::MAX);
    recover_from(store, journal, Known { watermark, last, horizon, checkpoint: Vec::new() }).await
}

/// What a start knows before it loads drops.
pub struct Known {
    /// The record up to which SQL has the journal.
    pub watermark: u64,
    /// The journal's last record.
    pub last: u64,
    /// Drops that are scheduled to start after this stay out of memory, unless they have records after the watermark.
    pub horizon: Timestamp,
    /// Drops from their checkpoint files, each with the record at which it is true. The journal has all records after it.
    pub checkpoint: Vec<(DropState, u64)>,
}

/// Like [`recover`], with fewer drops from SQL: see [`Known`].
///
/// # Errors
/// As [`recover`].
pub async fn recover_from(
    store: &dyn Ledger,
    journal: &JournalReader,
    known: Known,
) -> Result<Recovered, RecoveryFailure> {
    recover_with(Some(store), journal, known).await
}

/// Like [`recover_from`], without the database: the checkpoint has every drop that was in memory at record
/// `known.watermark`. A drop that is settled stays in memory, because it is not known whether SQL has all of it.
///
/// # Errors
/// As [`recover`].
pub async fn recover_without(journal: &JournalReader, known: Known) -> Result<Recovered, RecoveryFailure> {
    recover_with(None, journal, known).await
}

async fn recover_with(
    store: Option<&dyn Ledger>,
    journal: &JournalReader,
    Known { watermark, last, horizon, checkpoint }: Known,
) -> Result<Recovered, RecoveryFailure> {
    if watermark > last {
        return Err(RecoveryFailure::JournalBehind { watermark, last });
    }
    let first = checkpoint.iter().map(|(_, position)| *position).min().map_or(watermark, |first| first.min(watermark));
    let ends = last_records(journal, first).map_err(|failure| match failure {
        RecoveryFailure::Journal(JournalError::Gone { oldest, .. }) => {
            RecoveryFailure::JournalBeginsLater { watermark, oldest }
        }
        other => other,
    })?;
    let mut loading =
        Loading { store, watermark, drops: HashMap::new(), aside: HashSet::new(), left_out: HashSet::new() };
    loading.load(horizon, checkpoint).await?;
    let mut replayed = loading.replay_set_aside(journal.journal_id()).await?;
    let mut last_at = loading.drops.values().map(|drop| drop.state.last_at()).max().unwrap_or_default();
    // Up to here some drops have records already.
    let known = loading.drops.values().map(|drop| drop.from).max().map_or(watermark, |known| known.max(watermark));
    let mut cursor = journal.cursor(first);
    while let Some(batch) = cursor.next_batch(BATCH)? {
        for (sequence, bytes) in batch.iter() {
            let failed = |error| RecoveryFailure::Record { sequence, error };
            if sequence <= known && loading.has(DropRecord::drop_of(bytes).map_err(failed)?, sequence) {
                continue;
            }
            let record = DropRecord::decode(bytes).map_err(failed)?;
            let id = record.drop;
            last_at = record.at;
            let is_settled = loading.replay(record).await?.is_some_and(DropState::is_settled);
            // Memory use follows the number of open drops, not the length of the history.
            if ends.get(&id) == Some(&sequence) && is_settled && !loading.may_be_aside(id) {
                loading.drops.remove(&id);
            }
            replayed += 1;
        }
    }
    let states = std::mem::take(&mut loading.drops).into_values().map(|drop| drop.state);
    // SQL lacks records of a drop that is set aside, so it stays in memory even if it is settled.
    let kept = |drop: &DropState| !drop.is_settled() || loading.may_be_aside(drop.spec().id);
    let drops: Vec<DropState> = states.filter(kept).collect();
    on_all_cores(&drops, usize::MAX, DropState::assert_invariants);
    Ok(Recovered { drops, replayed, last_at, left_out: loading.left_out.into_iter().collect() })
}

/// A drop on its way into memory.
struct Loaded {
    state: DropState,
    /// The record at which it was loaded: the journal's records up to here are in it.
    from: u64,
    /// Whether it is its checkpoint's, which has set-aside records, too.
    has_all: bool,
}

/// Drops on their way into memory.
struct Loading<'a> {
    /// `None` if the database is away.
    store: Option<&'a dyn Ledger>,
    watermark: u64,
    drops: HashMap<DropId, Loaded>,
    /// Drops of which SQL has set records aside.
    aside: HashSet<DropId>,
    /// Drops that could not be loaded without the database.
    left_out: HashSet<DropId>,
}

impl Loading<'_> {
    /// Whether SQL may lack records of a drop that the journal does not have after the watermark.
    fn may_be_aside(&self, drop: DropId) -> bool {
        self.store.is_none() || self.aside.contains(&drop)
    }

    async fn load(&mut self, horizon: Timestamp, checkpoint: Vec<(DropState, u64)>) -> Result<(), RecoveryFailure> {
        for (state, from) in checkpoint {
            self.drops.insert(state.spec().id, Loaded { state, from, has_all: true });
        }
        let Some(store) = self.store else { return Ok(()) };
        let rows = store.drops_to_load(horizon).await?;
        let in_sql: HashSet<DropId> = rows.iter().map(|row| row.spec.id).collect();
        for row in rows {
            if let Entry::Vacant(place) = self.drops.entry(row.spec.id) {
                let state = load(store, row).await?;
                place.insert(Loaded { state, from: self.watermark, has_all: false });
            }
        }
        // A drop that SQL does not know yet comes from the journal, or it is no drop of this database.
        let others: Vec<DropId> = self.drops.keys().filter(|id| !in_sql.contains(*id)).copied().collect();
        for id in others {
            if store.drop_row(id).await?.is_none() {
                self.drops.remove(&id);
            }
        }
        Ok(())
    }

    /// Replays the records that SQL has set aside, on top of the rows. Returns their number.
    async fn replay_set_aside(&mut self, journal: Uuid) -> Result<u64, RecoveryFailure> {
        let mut replayed = 0;
        let Some(store) = self.store else { return Ok(0) };
        for drop in store.set_aside_drops(journal).await? {
            let id = drop.drop;
            warn!(drop = %id, records = drop.records, first = drop.first_sequence, reason = %drop.reason,
                "records are set aside; `livedrop projection retry` applies them once the reason is gone");
            self.aside.insert(id);
            if self.drops.get(&id).is_some_and(|drop| drop.has_all) {
                continue;
            }
            let mut after = 0;
            loop {
                let page = store.set_aside(journal, id, after, PAGE).await?;
                let Some(last) = page.last() else { break };
                after = last.sequence;
                for SetAside { record, .. } in page {
                    self.replay(record).await?;
                    replayed += 1;
                }
            }
        }
        Ok(replayed)
    }

    /// Whether a record needs no replay: it is in the drop already, or SQL has it and nothing after it is missing.
    fn has(&self, drop: DropId, sequence: u64) -> bool {
        sequence <= self.drops.get(&drop).map_or(self.watermark, |drop| drop.from)
    }

    /// The drop after a record; `None` if only SQL could tell.
    async fn replay(&mut self, record: DropRecord) -> Result<Option<&DropState>, RecoveryFailure> {
        let from = self.watermark;
        if let DropEvent::Scheduled(spec) = record.event {
            let new = Loaded { state: DropState::scheduled(*spec), from, has_all: false };
            return Ok(Some(&self.drops.entry(record.drop).insert_entry(new).into_mut().state));
        }
        let drop = match self.drops.entry(record.drop) {
            Entry::Occupied(known) => known.into_mut(),
            // Settled at SQL's watermark, but with later records: load it too.
            Entry::Vacant(place) => {
                let Some(store) = self.store else {
                    self.left_out.insert(record.drop);
                    return Ok(None);
                };
                let row = store.drop_row(record.drop).await?;
                let row = row
                    .ok_or_else(|| RecoveryFailure::Corrupt(format!("drop {} is in the journal only", record.drop)))?;
                place.insert(Loaded { state: load(store, row).await?, from, has_all: false })
            }
        };
        drop.state.evolve(record.at, &record.event);
        Ok(Some(&drop.state))
    }
}

/// The sequence of each drop's last record after this one. A settled drop may still get records (a late payment, a
/// refund), so only its last record tells that it is over.
fn last_records(journal: &JournalReader, after: u64) -> Result<HashMap<DropId, u64>, RecoveryFailure> {
    let mut ends = HashMap::new();
    let mut cursor = journal.cursor(after);
    while let Some(batch) = cursor.next_batch(BATCH)? {
        for (sequence, bytes) in batch.iter() {
            let id = DropRecord::drop_of(bytes).map_err(|error| RecoveryFailure::Record { sequence, error })?;
            ends.insert(id, sequence);
        }
    }
    Ok(ends)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actors::Decisions;
    use crate::domain::DropSpec;
    use crate::domain::fixtures::drop_of;
    use crate::journal::{Journal, JournalOptions, MemoryDevice, Records};
    use std::sync::Arc;

    fn record(drop: DropId, event: DropEvent) -> DropRecord {
        DropRecord { drop, at: Timestamp::from_millis(1_000), event }
    }

    fn state(spec: &DropSpec, events: &[DropEvent]) -> DropState {
        let mut state = DropState::scheduled(spec.clone());
        events.iter().for_each(|event| state.evolve(Timestamp::from_millis(1_000), event));
        state
    }

    #[tokio::test]
    async fn without_the_database_a_checkpoint_and_the_journal_give_every_drop_but_those_that_only_sql_has() {
        let (journal, _) =
            Journal::<Decisions>::open(&JournalOptions::in_memory(), Arc::new(MemoryDevice::new()), 0).unwrap();
        let [on_sale, over, new, slept] = [1, 2, 3, 4].map(drop_of);
        let scheduled = |spec: &DropSpec| record(spec.id, DropEvent::Scheduled(Box::new(spec.clone())));
        let all = [
            // The checkpoint has these.
            scheduled(&on_sale),
            scheduled(&over),
            scheduled(&slept),
            record(on_sale.id, DropEvent::Started),
            // And not these.
            record(over.id, DropEvent::Started),
            record(over.id, DropEvent::Ended),
            scheduled(&new),
            // It was not in memory at the checkpoint.
            record(slept.id, DropEvent::Started),
            record(slept.id, DropEvent::Ended),
        ];
        let mut records = Records::default();
        all.iter().for_each(|one| records.push(|buffer| one.encode(buffer)).unwrap());
        let (reply, durable) = tokio::sync::oneshot::channel();
        let behind = (reply, crate::engine::Outcome::Orders(Vec::new()));
        let decisions = Decisions { publish: None, replies: smallvec::smallvec![behind] };
        journal.handle().try_permit().unwrap().submit(records, decisions);
        durable.await.unwrap().unwrap();
        let checkpoint = vec![(state(&on_sale, &[DropEvent::Started]), 4), (state(&over, &[]), 4)];
        let horizon = Timestamp::EPOCH;
        let known = Known { watermark: 4, last: 9, horizon, checkpoint };
        let recovered = recover_without(&journal.handle().reader(), known).await.unwrap();
        let mut found: Vec<_> = recovered.drops.iter().map(|drop| (drop.spec().id, drop.status())).collect();
        found.sort_unstable_by_key(|(id, _)| [on_sale.id, over.id, new.id].iter().position(|known| known == id));
        use crate::domain::DropStatus::{Ended, Live, Scheduled};
        // Of the one that is over it is not known whether SQL has all.
        assert_eq!(found, [(on_sale.id, Live), (over.id, Ended), (new.id, Scheduled)]);
        assert_eq!((recovered.left_out, recovered.replayed), (vec![slept.id], 5));
    }
}
