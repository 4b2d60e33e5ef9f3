//! After a start without the database: connects when it is back, makes sure that it is still this journal's, and does
//! what the start left out.

use super::heartbeat::Pulse;
use super::{AppError, opening, ownership};
use crate::actors::inventory::recovery::RecoveryFailure;
use crate::actors::inventory::sleepers;
use crate::actors::{Backoff, Clock, Hub, Projection, Registry, Sleepers};
use crate::config::Config;
use crate::domain::DropId;
use crate::domain::limits::WAKE_AHEAD_MS;
use crate::journal::JournalReader;
use crate::service::revocations::Revocations;
use crate::storage::{Deferred, Store, StoreError};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tracing::{info, warn};

/// Pauses between attempts to connect.
const RETRIES: Backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(2));
/// How long the projector is waited for at a time.
const PROJECTION_LOOK: Duration = Duration::from_secs(60);

/// See the module.
pub(super) struct LateDatabase {
    pub deferred: Deferred,
    /// The server's store.
    pub store: Arc<dyn Store>,
    pub config: Config,
    pub reader: JournalReader,
    /// The journal's first and last record at the start.
    pub extent: (u64, u64),
    pub clock: Clock,
    pub registry: Registry,
    pub hub: Hub,
    pub sleepers: Sleepers,
    pub projection: Projection,
    pub revocations: Revocations,
    pub pulse: Pulse,
    /// Drops that could not be loaded.
    pub left_out: RefCell<Vec<DropId>>,
    /// Becomes `Some` when the database turns out to be another server's.
    pub lost: watch::Sender<Option<String>>,
    pub progress: Progress,
}

/// What was done already: the task may begin again.
#[derive(Default)]
pub(super) struct Progress {
    /// A claim was sent: if its answer was lost, the database may have it.
    claiming: Cell<bool>,
    is_open: Cell<bool>,
}

impl LateDatabase {
    /// Runs until everything that the start left out is done.
    pub async fn run(self: Rc<Self>) {
        let (mut retries, mut told) = (RETRIES, String::new());
        while !self.progress.is_open.get() {
            let Err(error) = self.connect().await else { break };
            if ownership::is_lost(&error) {
                self.pulse.lose().await;
                self.lost.send_replace(Some(error.to_string()));
                // The process ends.
                std::future::pending::<()>().await;
            }
            let reason = error.to_string();
            if !matches!(error, AppError::Store(StoreError::Unavailable(_))) && reason != told {
                warn!(%reason, "the database cannot be used; selling goes on, and it is tried again");
                told = reason;
            }
            retries.pause().await;
        }
        while !self.projection.past_recovery(PROJECTION_LOOK).await {}
        while let Err(error) = self.load_the_rest().await {
            warn!(%error, "drops that the start left out could not be loaded; trying again");
            retries.pause().await;
        }
        info!("what the start left out without the database is done");
    }

    /// Connects, and lets the server use the database, if it is still this journal's.
    async fn connect(&self) -> Result<(), AppError> {
        let connected = self.deferred.connect().await?;
        let store = &*connected.store;
        opening::prepare(store).await?;
        let former = ownership::require(&self.config, &self.reader, self.extent, store).await?;
        if !self.progress.claiming.get() {
            ownership::require_unclaimed(&self.reader, store).await?;
        }
        self.progress.claiming.set(true);
        let watermark = store.claim(self.reader.journal_id(), self.reader.epoch()).await?;
        let (first, last) = self.extent;
        if watermark + 1 < first {
            return Err(RecoveryFailure::JournalBeginsLater { watermark, oldest: first }.into());
        }
        if watermark > last {
            // Nothing that came after the start is projected yet, so somebody else's records are.
            return Err(RecoveryFailure::JournalBehind { watermark, last }.into());
        }
        ownership::tell(&former);
        opening::retry_set_aside(store, &self.reader).await?;
        self.revocations.recover(store).await?;
        opening::continue_orders(&[], Some(store)).await?;
        connected.open();
        self.progress.is_open.set(true);
        self.pulse.beat().await;
        info!(
            watermark,
            durable = self.reader.durable(),
            "the database is back, and still this journal's: projecting the rest"
        );
        Ok(())
    }

    /// Loads drops of which the journal had records, and shows subscribers those that start far ahead.
    async fn load_the_rest(&self) -> Result<(), RecoveryFailure> {
        loop {
            let Some(drop) = self.left_out.borrow().last().copied() else { break };
            // One that is settled leaves memory again.
            self.sleepers.wake(drop).await?;
            self.left_out.borrow_mut().pop();
        }
        let horizon = self.clock.now().plus_millis(WAKE_AHEAD_MS);
        for (spec, board) in sleepers::asleep(&*self.store, horizon).await? {
            if self.registry.get(spec.id).is_none() {
                self.hub.watch(Arc::clone(&spec), board);
            }
        }
        Ok(())
    }
}
