//! Opens database and journal and loads the drops: with the database, or without it, where it is away and the last claim
//! was ours (ADR 34).

use super::heartbeat::Pulse;
use super::last_claim::{self, LastClaim, NoClaim};
use super::steps::Steps;
use super::{AppError, ownership};
use crate::actors::Clock;
use crate::actors::Decisions;
use crate::actors::consumers::aside;
use crate::actors::inventory::checkpoint::loading::{self, Extent, Loaded};
use crate::actors::inventory::checkpoint::metrics::CheckpointMetrics;
use crate::actors::inventory::checkpoint::{self, Origin, SavedDrop, Unusable};
use crate::actors::inventory::recovery::{Known, Recovered, recover_from, recover_without};
use crate::config::{Config, StartWithoutDatabase};
use crate::domain::limits::WAKE_AHEAD_MS;
use crate::domain::{DropId, OrderId, Timestamp};
use crate::engine::DropState;
use crate::journal::{self, FileDevice, Identity, Journal, JournalOptions, JournalReader};
use crate::service::identity;
use crate::service::revocations::copy::{self, Copy, NoCopy};
use crate::storage::{self, Deferred, Store, StoreError, StoreOptions};
use std::{collections::HashMap, net::SocketAddr, sync::Arc, time::Duration};
use tokio::time::{Instant, timeout};
use tracing::{info, warn};

/// How long a start waits for the database to become available.
const DATABASE_PATIENCE: Duration = Duration::from_secs(30);
/// How long it waits where it can do without: as long as a restart of a small database takes.
const DATABASE_PATIENCE_SHORT: Duration = Duration::from_secs(3);
/// Pause between two attempts.
const DATABASE_RETRY: Duration = Duration::from_millis(500);

/// What a server starts with.
pub(super) struct Opened {
    pub store: Arc<dyn Store>,
    pub journal: Journal<Decisions>,
    pub reader: JournalReader,
    /// The journal's first and last record.
    pub extent: (u64, u64),
    /// The record up to which SQL has the journal; without the database, one that SQL has in any case.
    pub watermark: u64,
    pub recovered: Recovered,
    /// Drops that start later than this are not in memory.
    pub horizon: Timestamp,
    /// The checkpoint files that were used.
    pub saved: HashMap<DropId, SavedDrop>,
    pub saving: CheckpointMetrics,
    pub pulse: Pulse,
    /// What stands in for the database, if it is away.
    pub standby: Option<Standby>,
}

/// What stands in for the database at a start without it.
pub(super) struct Standby {
    pub deferred: Deferred,
    pub claim: LastClaim,
    pub revoked: Copy,
}

/// Why a start needs the database.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
enum NeedsDatabase {
    /// The operator wants it so, or there are no checkpoints, or it is SQLite: nothing is said of it.
    #[error("it is not configured")]
    NotConfigured,
    #[error("there is no journal")]
    NoJournal,
    #[error("{0}")]
    Claim(#[from] NoClaim),
    #[error("{0}")]
    Revocations(#[from] NoCopy),
    #[error("the checkpoint cannot be used: {0}")]
    Checkpoint(#[from] Unusable),
    #[error("the checkpoint lacks drops that were in memory")]
    Incomplete,
}

/// The state of the data directory that a start without the database rests on.
struct Grounds {
    claim: LastClaim,
    revoked: Copy,
    /// The journal had this record when the checkpoint was written.
    complete_at: u64,
}

/// Whether the data directory gets what a start without the database needs.
pub(super) fn prepares(config: &Config) -> Option<String> {
    let wanted = config.start_without_database == StartWithoutDatabase::WhenLastClaimWasOurs;
    let wanted = wanted && config.checkpoint_interval.is_some();
    wanted.then(|| storage::server_and_database(config.database_url.expose())).flatten()
}

impl Grounds {
    fn look(config: &Config) -> Result<Self, NeedsDatabase> {
        let database = prepares(config).ok_or(NeedsDatabase::NotConfigured)?;
        let journal = known_journal(config).ok().flatten().ok_or(NeedsDatabase::NoJournal)?;
        let now = (Clock::default().now(), config.outage_grace);
        let claim = LastClaim::standing(&config.data_dir, &journal, &database, now)?;
        let revoked = Copy::read(&config.data_dir)?;
        let origin = Origin { journal: journal.journal_id, epoch: journal.epoch };
        let complete_at = loading::complete_at(&config.data_dir.join(checkpoint::FOLDER), origin)?;
        Ok(Self { claim, revoked, complete_at: complete_at.ok_or(NeedsDatabase::Incomplete)? })
    }
}

/// The journal as it was left, without opening it.
fn known_journal(config: &Config) -> Result<Option<Identity>, AppError> {
    let dir = config.data_dir.join("journal");
    // A first start has no directory.
    let Ok(device) = FileDevice::existing(&dir) else { return Ok(None) };
    Ok(journal::read_identity(&device)?)
}

/// Opens everything. `address`: where the server will listen.
pub(super) async fn open(config: &Config, address: SocketAddr, steps: &mut Steps) -> Result<Opened, AppError> {
    if prepares(config).is_none() {
        // Neither would be kept up to date: a later start must not find them.
        let deleted = last_claim::forget_in(&config.data_dir).and_then(|()| copy::delete(&config.data_dir));
        deleted.map_err(AppError::io("delete the record of the claim and the copy of the revocations"))?;
    }
    let grounds = Grounds::look(config);
    let store = reach(config, grounds.as_ref()).await?;
    steps.done("database");
    let proven_durable = match (&store, &grounds, known_journal(config)?) {
        (Some(store), _, Some(known)) => store.applied(known.journal_id).await?,
        (None, Ok(grounds), _) => grounds.complete_at,
        _ => 0,
    };
    let (journal, first, last) = open_journal(config, proven_durable)?;
    let (reader, extent) = (journal.handle().reader(), (first, last));
    steps.done("journal");
    let saving = CheckpointMetrics::default();
    let loaded = load_checkpoint(config, &reader, extent, &saving)?;
    steps.done("checkpoint");
    let grounds = grounds.ok().filter(|_| loaded.complete_at.is_some());
    let store = match store {
        None if grounds.is_none() => Some(wait_for(config, &NeedsDatabase::Incomplete).await?),
        store => store,
    };
    let opening = Opening { config, reader: &reader, extent, address, horizon: horizon() };
    let claimed = match store {
        None => None,
        Some(store) => opening.claim(store, grounds.is_some()).await?,
    };
    steps.done("claim");
    let saved = loaded.saved.clone();
    let (store, watermark, recovered, standby) = match (claimed, grounds) {
        (Some((store, watermark)), _) => {
            let recovered = opening.recover(&*store, watermark, loaded).await?;
            (store, watermark, recovered, None)
        }
        (None, Some(grounds)) => opening.recover_without(grounds, loaded).await?,
        (None, None) => unreachable!("without grounds the database was waited for, and its absence ended the start"),
    };
    steps.done("drops");
    continue_orders(&recovered.drops, standby.is_none().then_some(&*store)).await?;
    let pulse = opening.pulse(&store);
    let horizon = opening.horizon;
    Ok(Opened { store, journal, reader, extent, watermark, recovered, horizon, saved, saving, pulse, standby })
}

/// Lets new orders have ids, and so numbers, after those of all orders that are known: the wall clock may have been set
/// back.
pub(super) async fn continue_orders(drops: &[DropState], store: Option<&dyn Store>) -> Result<(), StoreError> {
    drops.iter().filter_map(DropState::newest_order).for_each(OrderId::continue_after);
    if let Some(store) = store {
        store.newest_order().await?.into_iter().for_each(OrderId::continue_after);
    }
    Ok(())
}

fn horizon() -> Timestamp {
    Clock::default().now().plus_millis(WAKE_AHEAD_MS)
}

/// A start whose journal is open.
struct Opening<'a> {
    config: &'a Config,
    reader: &'a JournalReader,
    extent: (u64, u64),
    address: SocketAddr,
    horizon: Timestamp,
}

impl Opening<'_> {
    fn pulse(&self, store: &Arc<dyn Store>) -> Pulse {
        Pulse::new(Arc::clone(store), self.reader.journal_id(), self.reader.epoch(), self.address)
    }

    /// Takes the database for this journal. `None` if it is away and `can_do_without`.
    async fn claim(
        &self,
        store: Arc<dyn Store>,
        can_do_without: bool,
    ) -> Result<Option<(Arc<dyn Store>, u64)>, AppError> {
        let (journal, epoch) = (self.reader.journal_id(), self.reader.epoch());
        let claim = async {
            let former = ownership::require(self.config, self.reader, self.extent, &*store).await?;
            let watermark = store.claim(journal, epoch).await?;
            ownership::tell(&former);
            self.pulse(&store).beat().await;
            retry_set_aside(&*store, self.reader).await?;
            Ok(watermark)
        };
        match claim.await {
            Ok(watermark) => Ok(Some((store, watermark))),
            Err(AppError::Store(error @ StoreError::Unavailable(_))) if can_do_without => {
                warn!(%error, "the database went away while it was claimed");
                Ok(None)
            }
            Err(error) => {
                if ownership::is_lost(&error) {
                    let forgotten = last_claim::forget_in(&self.config.data_dir);
                    forgotten.map_err(AppError::io("delete the record of the claim"))?;
                }
                Err(error)
            }
        }
    }

    async fn recover(&self, store: &dyn Store, watermark: u64, loaded: Loaded) -> Result<Recovered, AppError> {
        let (began, from_checkpoint, last) = (Instant::now(), loaded.drops.len(), self.extent.1);
        let known = Known { watermark, last, horizon: self.horizon, checkpoint: loaded.drops };
        let recovered = recover_from(store, self.reader, known).await?;
        let (drops, replayed) = (recovered.drops.len(), recovered.replayed);
        let took_ms = began.elapsed().as_millis();
        info!(drops, from_checkpoint, replayed, watermark, last, took_ms, "recovered");
        Ok(recovered)
    }

    async fn recover_without(
        &self,
        Grounds { claim, revoked, complete_at }: Grounds,
        loaded: Loaded,
    ) -> Result<(Arc<dyn Store>, u64, Recovered, Option<Standby>), AppError> {
        let url = self.config.database_url.expose();
        let (store, deferred) = Deferred::new(url, &store_options(self.config)).expect("SQLite has no grounds");
        last_claim::pass_on(&self.config.data_dir, &claim, self.reader.epoch())
            .map_err(AppError::io("write the record of the claim"))?;
        let (first, last) = self.extent;
        let from_checkpoint = loaded.drops.len();
        let watermark = loaded.complete_at.unwrap_or(complete_at);
        let known = Known { watermark, last, horizon: self.horizon, checkpoint: loaded.drops };
        let recovered = recover_without(self.reader, known).await?;
        let (drops, replayed, left_out) = (recovered.drops.len(), recovered.replayed, recovered.left_out.len());
        let claimed_ago_ms = Clock::default().now().millis_since(claim.confirmed_at());
        warn!(
            drops,
            from_checkpoint,
            replayed,
            left_out,
            claimed_ago_ms,
            "starting without the database: the drops that were in memory are sold on, and the rest waits for it"
        );
        // What is not in the journal any more was projected.
        Ok((store, first - 1, recovered, Some(Standby { deferred, claim, revoked })))
    }
}

/// Applies what was set aside, as far as its reason is gone.
pub(super) async fn retry_set_aside(store: &dyn Store, reader: &JournalReader) -> Result<(), AppError> {
    let retried = aside::retry(store, reader.journal_id(), reader.epoch()).await?;
    if retried.applied > 0 {
        info!(records = retried.applied, "what was set aside is in the database now");
    }
    Ok(())
}

/// Migrates, and gives older accounts the key of their address.
pub(super) async fn prepare(store: &dyn Store) -> Result<(), StoreError> {
    store.migrate().await?;
    let twins = identity::key_accounts(store).await?;
    if twins > 0 {
        warn!(
            accounts = twins,
            "accounts whose address an older account has in another form: they sign in as they registered"
        );
    }
    Ok(())
}

fn store_options(config: &Config) -> StoreOptions {
    StoreOptions { fan_out_max: config.fan_out_followers, connections: config.database_connections }
}

/// The database, or `None` if it is away and there are grounds to start without it.
async fn reach(config: &Config, grounds: Result<&Grounds, &NeedsDatabase>) -> Result<Option<Arc<dyn Store>>, AppError> {
    if let Err(why) = grounds {
        return wait_for(config, why).await.map(Some);
    }
    // One that hangs is away, too.
    let connecting = repeatedly(DATABASE_PATIENCE_SHORT, || connect(config));
    let store = match timeout(DATABASE_PATIENCE_SHORT, connecting).await {
        Ok(Ok(store)) => store,
        Ok(Err(StoreError::Unavailable(_))) | Err(_) => {
            warn!(seconds = DATABASE_PATIENCE_SHORT.as_secs(), "the database does not answer");
            return Ok(None);
        }
        Ok(Err(error)) => return Err(error.into()),
    };
    match prepare(&*store).await {
        Ok(()) => Ok(Some(store)),
        // Nothing is known of the state of its tables.
        Err(StoreError::Unavailable(_)) => wait_for(config, &NeedsDatabase::NotConfigured).await.map(Some),
        Err(error) => Err(error.into()),
    }
}

async fn connect(config: &Config) -> Result<Arc<dyn Store>, StoreError> {
    storage::connect_with(config.database_url.expose(), &store_options(config)).await
}

/// Waits for the database, and migrates it. `why`: the reason why a start needs it.
async fn wait_for(config: &Config, why: &NeedsDatabase) -> Result<Arc<dyn Store>, AppError> {
    let mut is_told = matches!(why, NeedsDatabase::NotConfigured | NeedsDatabase::NoJournal);
    let opened = repeatedly(DATABASE_PATIENCE, async || {
        let opened = async {
            let store = connect(config).await?;
            prepare(&*store).await.map(|()| store)
        };
        opened.await.inspect_err(|error| {
            if matches!(error, StoreError::Unavailable(_)) && !std::mem::replace(&mut is_told, true) {
                warn!(reason = %why, "a start without the database is not possible");
            }
        })
    });
    opened.await.map_err(|error| match error {
        error @ StoreError::Unavailable(_) => AppError::NoDatabase { seconds: DATABASE_PATIENCE.as_secs(), error },
        error => error.into(),
    })
}

/// Tries until it succeeds: a passing failure is waited for, `patience` at most, any other is returned at once.
async fn repeatedly<T>(
    patience: Duration,
    mut attempt: impl AsyncFnMut() -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let deadline = Instant::now() + patience;
    let mut told = String::new();
    loop {
        match attempt().await {
            Err(error @ StoreError::Unavailable(_)) if Instant::now() < deadline => {
                let reason = error.to_string();
                if reason != told {
                    warn!(seconds_max = patience.as_secs(), "waiting: {reason}");
                }
                told = reason;
                tokio::time::sleep(DATABASE_RETRY).await;
            }
            ended => return ended,
        }
    }
}

/// Returns the journal, and its first and last record.
fn open_journal(config: &Config, proven_durable: u64) -> Result<(Journal<Decisions>, u64, u64), AppError> {
    let dir = config.data_dir.join("journal");
    let device = FileDevice::new(&dir).map_err(AppError::io(format!("open {}", dir.display())))?;
    let options = JournalOptions {
        durability: config.durability,
        segment_bytes: config.journal_segment_bytes,
        lag_bounds: config.consumer_lag,
        ..JournalOptions::new(dir)
    };
    let (journal, found) = Journal::open(&options, Arc::new(device), proven_durable)?;
    if let Some(cut) = &found.cut {
        warn!(file = %cut.file, offset = cut.offset, bytes = cut.bytes, why = %cut.what, kept = ?cut.saved_as,
            "cut a torn tail that was never acknowledged");
    }
    info!(id = %found.journal_id, epoch = found.epoch, segments = found.segments, last = found.last_sequence,
        took_ms = found.elapsed_ms, "journal open");
    Ok((journal, found.first_sequence, found.last_sequence))
}

/// The drops' checkpoint files, where there are some of use. Without checkpoints none may stay: a later start would find it.
fn load_checkpoint(
    config: &Config,
    reader: &JournalReader,
    (oldest, last): (u64, u64),
    metrics: &CheckpointMetrics,
) -> Result<Loaded, AppError> {
    let folder = config.data_dir.join(checkpoint::FOLDER);
    if config.checkpoint_interval.is_none() {
        loading::delete(&folder).map_err(AppError::io(format!("delete {}", folder.display())))?;
        return Ok(Loaded::default());
    }
    let origin = Origin { journal: reader.journal_id(), epoch: reader.epoch() };
    loading::load(&folder, Extent { origin, oldest, last }, metrics)
        .map_err(AppError::io(format!("delete files that are ahead of the journal in {}", folder.display())))
}
