//! The cursor that fills SQL: write-behind, in batches, with the watermark in the same transaction.
//!
//! A database that is down delays it and nothing else. It then falls back from the journal's tail in memory to its
//! segment files, so an outage costs no memory.

use crate::domain::DropRecord;
use crate::domain::limits::PROJECTOR_BATCH_RECORDS_MAX;
use crate::journal::{Batch, Cursor, JournalReader};
use crate::storage::{ProjectionBatch, Store, StoreError};
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::sync::watch;
use tracing::{error, info, warn};

/// The journal cursor's name.
pub const CURSOR: &str = "projector";

const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_LAST: Duration = Duration::from_secs(5);

/// What others may know of the projector. Cheap to clone.
#[derive(Clone)]
pub struct Projection {
    watermark: watch::Receiver<u64>,
    trouble: Arc<Mutex<Option<String>>>,
    fenced: watch::Receiver<bool>,
    /// The journal's end when this process began.
    recovered: u64,
}

impl Projection {
    /// Turns `true` when another server has taken the database over: this one must not go on selling.
    #[must_use]
    pub fn fenced(&self) -> watch::Receiver<bool> {
        self.fenced.clone()
    }

    /// Everything up to this sequence number is in SQL.
    #[must_use]
    pub fn watermark(&self) -> u64 {
        *self.watermark.borrow()
    }

    /// Why it makes no progress, if it doesn't.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until SQL has everything that was in the journal when this process began, or not longer than `patience`. Until
    /// then a drop that is not in memory may have ended in records that SQL has not seen. Returns whether it has.
    pub async fn past_recovery(&self, patience: Duration) -> bool {
        self.watermark() >= self.recovered || self.reached(self.recovered, patience).await
    }

    /// Waits until `sequence` is in SQL, or not longer than `patience`. Returns whether it is.
    pub async fn reached(&self, sequence: u64, patience: Duration) -> bool {
        let mut watermark = self.watermark.clone();
        let wait = watermark.wait_for(|reached| *reached >= sequence);
        matches!(tokio::time::timeout(patience, wait).await, Ok(Ok(_)))
    }
}

/// See the module.
pub struct Projector {
    store: Arc<dyn Store>,
    journal: JournalReader,
    cursor: Cursor,
    watermark: watch::Sender<u64>,
    trouble: Arc<Mutex<Option<String>>>,
    fenced: watch::Sender<bool>,
}

impl Projector {
    /// A projector that goes on after `watermark`.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, journal: JournalReader, watermark: u64) -> (Self, Projection) {
        let (sender, receiver) = watch::channel(watermark);
        let trouble = Arc::new(Mutex::new(None));
        let cursor = journal.cursor(watermark);
        journal.register_cursor(CURSOR, watermark);
        let fenced = watch::Sender::new(false);
        let recovered = journal.durable();
        let view =
            Projection { watermark: receiver, trouble: Arc::clone(&trouble), fenced: fenced.subscribe(), recovered };
        (Self { store, journal, cursor, watermark: sender, trouble, fenced }, view)
    }

    /// Runs until `stop` says so and everything durable then is projected, or the database will not take it.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut durable = self.journal.durable_watch();
        loop {
            match self.cursor.next_batch(PROJECTOR_BATCH_RECORDS_MAX) {
                Ok(Some(batch)) => {
                    if !self.project(batch, &stop).await {
                        return;
                    }
                }
                Ok(None) if *stop.borrow() => return,
                Ok(None) => {
                    tokio::select! {
                        changed = durable.changed() => if changed.is_err() { return },
                        changed = stop.changed() => if changed.is_err() { return },
                    }
                }
                Err(journal) => {
                    error!(error = %journal, "the projector cannot read the journal");
                    self.set_trouble(Some(journal.to_string()));
                    return;
                }
            }
        }
    }

    /// Writes one batch, as often as it takes. Returns whether to go on.
    async fn project(&mut self, batch: Batch, stop: &watch::Receiver<bool>) -> bool {
        let projection = match self.decode(&batch) {
            Ok(projection) => projection,
            Err(reason) => {
                error!(%reason, "the projector stops: the journal holds a record that it cannot read");
                self.set_trouble(Some(reason));
                return false;
            }
        };
        drop(batch);
        let mut delay = RETRY_FIRST;
        loop {
            match self.store.project(&projection).await {
                Ok(()) => {
                    self.done(&projection);
                    return true;
                }
                Err(StoreError::Unavailable(reason)) if *stop.borrow() => {
                    warn!(%reason, "the database is not there to take the rest; the journal keeps it for the next start");
                    return false;
                }
                Err(StoreError::Unavailable(reason)) => self.note_outage(&reason.to_string()),
                Err(StoreError::Gap { first, watermark }) if watermark + 1 < first => {
                    warn!(
                        watermark,
                        first, "the database has forgotten rows that it had; filling it again from the journal"
                    );
                    self.cursor = self.journal.cursor(watermark);
                    self.watermark.send_replace(watermark);
                    return true;
                }
                Err(fatal) => {
                    error!(error = %fatal, first = projection.first_sequence, "the projector stops");
                    self.set_trouble(Some(fatal.to_string()));
                    self.fenced.send_replace(matches!(fatal, StoreError::Fenced { .. }));
                    return false;
                }
            }
            tokio::time::sleep(delay).await;
            delay = (delay * 2).min(RETRY_LAST);
        }
    }

    fn decode(&self, batch: &Batch) -> Result<ProjectionBatch, String> {
        let records: Result<Vec<DropRecord>, _> = batch.iter().map(|(_, bytes)| DropRecord::decode(bytes)).collect();
        Ok(ProjectionBatch {
            journal: self.journal.journal_id(),
            epoch: self.journal.epoch(),
            first_sequence: batch.first_sequence,
            records: records.map_err(|error| format!("record near {}: {error}", batch.first_sequence))?,
        })
    }

    fn done(&self, batch: &ProjectionBatch) {
        let last = batch.first_sequence + batch.records.len() as u64 - 1;
        self.watermark.send_replace(last);
        self.journal.advance_cursor(CURSOR, last);
        if self.set_trouble(None).is_some() {
            info!(watermark = last, "the database takes rows again");
        }
    }

    fn note_outage(&self, reason: &str) {
        if self.set_trouble(Some(reason.to_owned())).is_none() {
            warn!(%reason, "the database is down; orders go on, rows wait in the journal");
        }
    }

    fn set_trouble(&self, trouble: Option<String>) -> Option<String> {
        std::mem::replace(&mut *self.trouble.lock().unwrap_or_else(PoisonError::into_inner), trouble)
    }
}
