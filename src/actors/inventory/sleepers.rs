//! Drops that start far ahead sleep: they are in SQL and the journal, not in memory. They wake some hours before their
//! start, or on the first command.

use super::recovery::RecoveryFailure;
use super::registry::{DropHandle, Registry};
use crate::actors::backoff::Backoff;
use crate::actors::clock::Clock;
use crate::actors::consumers::projector::Projection;
use crate::actors::realtime::hub::Hub;
use crate::domain::limits::WAKE_AHEAD_MS;
use crate::domain::{DropId, DropSpec, StockBoard, Timestamp};
use crate::storage::{Store, StoreError};
use std::{sync::Arc, time::Duration};
use uuid::Uuid;

/// How often the drops to wake are searched.
const ROUND: Duration = Duration::from_secs(60);
/// Drops read in one query.
const PAGE: u32 = 500;

/// Every drop that starts after `horizon`, from SQL: subscribers see them too.
///
/// # Errors
/// If the rows cannot be read.
pub async fn asleep(store: &dyn Store, horizon: Timestamp) -> Result<Vec<(Arc<DropSpec>, StockBoard)>, StoreError> {
    let (mut after, mut all) = ((horizon, DropId(Uuid::max())), Vec::new());
    loop {
        let rows = store.sleeping_drops(after, PAGE).await?;
        let Some(last) = rows.last() else { return Ok(all) };
        after = (last.spec.starts_at, last.spec.id);
        all.extend(rows.into_iter().map(|row| {
            let variants = row.variants.iter().map(|variant| (variant.id, variant.stock)).collect();
            (Arc::new(row.spec), StockBoard { status: row.status, variants })
        }));
    }
}

/// Wakes drops. Cheap to clone.
#[derive(Clone)]
pub struct Sleepers {
    registry: Registry,
    store: Arc<dyn Store>,
    projection: Projection,
    hub: Hub,
}

impl Sleepers {
    /// `hub` tells the broadcaster about drops that wake, so that their events are published.
    #[must_use]
    pub fn new(registry: Registry, store: Arc<dyn Store>, projection: Projection, hub: Hub) -> Self {
        Self { registry, store, projection, hub }
    }

    /// The drop, loaded into memory if it is not there yet. `None` if there is no such drop.
    ///
    /// # Errors
    /// [`RecoveryFailure`] if its rows cannot be read.
    pub async fn wake(&self, id: DropId) -> Result<Option<Arc<DropHandle>>, RecoveryFailure> {
        let Self { registry, store, projection, hub } = self;
        let tell = |state: &crate::engine::DropState| {
            let board = StockBoard { status: state.status(), variants: state.stock().collect() };
            hub.watch(Arc::clone(state.spec()), board);
        };
        registry.revive_after(id, &**store, projection, tell).await
    }

    /// Wakes drops that start within the next hours. Drops that start up to `until` are awake already. Never ends.
    pub async fn run(self, clock: Clock, until: Timestamp) {
        // No id is above this one, so no drop at `until` itself is left out.
        let mut reached = (until, DropId(Uuid::max()));
        // Until then SQL may lack records of a drop that is not in memory.
        while !self.projection.past_recovery(ROUND).await {}
        let mut backoff = Backoff::new(Duration::from_secs(1), ROUND);
        loop {
            let horizon = clock.now().plus_millis(WAKE_AHEAD_MS);
            match self.round(&mut reached, horizon).await {
                Ok(()) => {
                    backoff.reset();
                    tokio::time::sleep(ROUND).await;
                }
                Err(error) => {
                    tracing::warn!(%error, "drops that start within the next hours could not be loaded; trying again");
                    backoff.pause().await;
                }
            }
        }
    }

    async fn round(&self, reached: &mut (Timestamp, DropId), horizon: Timestamp) -> Result<(), RecoveryFailure> {
        // A drop that fell asleep a moment ago starts after every earlier horizon, even if the wall clock was set back
        // since.
        while reached.0 < horizon {
            let due = self.store.scheduled_drops(*reached, horizon, PAGE).await?;
            for &(starts_at, id) in &due {
                self.wake(id).await?;
                *reached = (starts_at, id);
            }
            if due.len() < PAGE as usize {
                *reached = (horizon, DropId(Uuid::max()));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actors::realtime::broadcaster::Broadcaster;
    use crate::actors::realtime::position::Epoch;
    use crate::actors::{Decisions, Projector, Scheduler};
    use crate::domain::fixtures::drop_of;
    use crate::domain::{DropEvent, DropRecord};
    use crate::journal::{Journal, JournalOptions, MemoryDevice};
    use crate::storage::{ProjectionBatch, connect};
    use actix::Actor;

    #[actix::test]
    async fn those_whose_start_is_near_wake_and_no_others() {
        let folder = tempfile::tempdir().unwrap();
        let store = connect(&format!("sqlite://{}", folder.path().join("sleepers.db").display())).await.unwrap();
        store.migrate().await.unwrap();
        let (journal, _) =
            Journal::<Decisions>::open(&JournalOptions::in_memory(), Arc::new(MemoryDevice::new()), 0).unwrap();
        let reader = journal.handle().reader();
        let at = |hours: i64| Timestamp::from_millis(1_800_000_000_000 + hours * 3_600_000);
        // Two drops start at the same time.
        let specs = [1, 6, 6, 10, 500_000].map(|hours| DropSpec { starts_at: at(hours), ..drop_of(5) });
        let record = |spec: &DropSpec| DropRecord {
            drop: spec.id,
            at: at(0),
            event: DropEvent::Scheduled(Box::new(spec.clone())),
        };
        let batch = ProjectionBatch {
            journal: reader.journal_id(),
            epoch: reader.epoch(),
            first_sequence: 1,
            records: specs.iter().map(record).collect(),
        };
        store.claim(batch.journal, batch.epoch).await.unwrap();
        store.project(&batch).await.unwrap();
        let sleeping = asleep(&*store, at(6)).await.unwrap();
        let sleeping: Vec<DropId> = sleeping.iter().map(|(spec, _)| spec.id).collect();
        assert_eq!(sleeping, [specs[3].id, specs[4].id]);
        let clock = Clock::default();
        let (_projector, projection) = Projector::new(store.clone(), &reader, 5);
        let registry = Registry::new(journal.handle(), clock.clone(), Scheduler::default(), 1);
        let hub = Hub::new(
            Broadcaster::new(Epoch(1), 0, clock.clone()).start(),
            clock,
            crate::actors::outage::Outage::default(),
        );
        let sleepers = Sleepers::new(registry.clone(), store, projection, hub);
        let awake = || specs.iter().filter(|spec| registry.get(spec.id).is_some()).count();
        let mut reached = (at(0), DropId(Uuid::max()));
        for (horizon, expected) in [(5, 1), (6, 3), (6, 3), (9, 3), (12, 4), (11, 4)] {
            sleepers.round(&mut reached, at(horizon)).await.unwrap();
            assert_eq!(awake(), expected, "at {horizon} hours");
        }
        assert_eq!(sleepers.wake(specs[4].id).await.unwrap().unwrap().spec.id, specs[4].id);
        assert_eq!(awake(), 5);
        assert!(sleepers.wake(DropId::new()).await.unwrap().is_none());
        registry.stop();
    }
}
