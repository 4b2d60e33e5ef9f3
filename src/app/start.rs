//! Starts a server from its configuration.

use super::consumers::Consumers;
use super::health::Monitor;
use super::heartbeat::Pulse;
use super::metrics::{self, Sources};
use super::supervisor::{Need, Supervisor};
use super::{App, AppError, Signals, ownership, privacy, spawn_server};
use crate::actors::consumers::{Run, TailError, aside};
use crate::actors::inventory::checkpoint::loading::{self, Extent};
use crate::actors::inventory::checkpoint::metrics::CheckpointMetrics;
use crate::actors::inventory::checkpoint::writer::Checkpointer;
use crate::actors::inventory::checkpoint::{self, Origin};
use crate::actors::inventory::recovery::{Known, recover_from};
use crate::actors::inventory::{evictor, sleepers, timer};
use crate::actors::outage::Outage;
use crate::actors::realtime::broadcaster::Broadcaster;
use crate::actors::realtime::position::Epoch;
use crate::actors::{Clock, Decisions, Hub, Projection, Projector, Registry, Scheduler, Sleepers};
use crate::config::Config;
use crate::domain::limits::{HISTORY_REFILL_RECORDS_MAX, WAKE_AHEAD_MS};
use crate::domain::{DropId, DropSpec, OrderId, StockBoard, Timestamp};
use crate::engine::DropState;
use crate::http::middleware::metrics::HttpMetrics;
use crate::http::middleware::origins::Origins;
use crate::http::transport::connection::descriptors_per_connection;
use crate::http::transport::server::{self, ServerOptions};
use crate::http::{ConnectionBounds, Connections, HealthSource, Limits, Services, ShutdownSignal, TlsConfig, TlsFiles};
use crate::journal::{self, FileDevice, Journal, JournalOptions, JournalReader};
use crate::service::accounts::Accounts;
use crate::service::activity::{AccountLocks, InDrops};
use crate::service::creators::Creators;
use crate::service::drops::Drops;
use crate::service::events::{self, Keep, Kept};
use crate::service::identity;
use crate::service::inbox::{Inbox, MarkWriter};
use crate::service::keys::Keys;
use crate::service::login_log::LoginLog;
use crate::service::orders::Orders;
use crate::service::passwords::Passwords;
use crate::service::products::Products;
use crate::service::revocations::Revocations;
use crate::service::sales::Sales;
use crate::service::settle::Settler;
use crate::service::tickets::Tickets;
use crate::service::tokens::Tokens;
use crate::service::webhooks::Webhooks;
use crate::storage::{self, Store, StoreError, StoreOptions};
use actix_web::rt::spawn;
use std::{
    io,
    net::TcpListener,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};
use tokio::{
    sync::{Mutex, watch},
    task::JoinHandle,
};
use tracing::{info, warn};

/// Without its scheduler no drop starts and no hold ends: after this many failures in a row (half a minute) the process
/// ends.
const SCHEDULER_RESTARTS_MAX: u32 = 8;
/// How long a start waits for the database to become available.
const DATABASE_PATIENCE: Duration = Duration::from_secs(30);
/// Pause between two attempts.
const DATABASE_RETRY: Duration = Duration::from_millis(500);

/// `signals` are for the running server. If a signal comes earlier, the caller drops this future.
pub(super) async fn start(config: &Config, signals: Signals) -> Result<App, AppError> {
    let tls = config.tls.as_ref().map(TlsFiles::load).transpose()?;
    let data_dir = &config.data_dir;
    privacy::create_data_dir(data_dir).map_err(AppError::io(format!("create {}", data_dir.display())))?;
    privacy::take_from_others(data_dir, config.database_url.expose());
    // Bound first: a used port must not cost a recovery.
    let listener = TcpListener::bind(config.bind).map_err(AppError::io(format!("listen on {}", config.bind)))?;
    let address = listener.local_addr().map_err(AppError::io("read the socket's address"))?;
    let connections = connections(config)?;
    let store = open_store(config).await?;
    let (journal, first, last) = open_journal(config, &*store).await?;
    let reader = journal.handle().reader();
    let former = ownership::require(config, &reader, (first, last), &*store).await?;
    let watermark = store.claim(reader.journal_id(), reader.epoch()).await?;
    ownership::tell(&former);
    let pulse = Pulse::new(Arc::clone(&store), reader.journal_id(), reader.epoch(), address);
    pulse.beat().await;
    let began = Instant::now();
    let retried = aside::retry(&*store, reader.journal_id(), reader.epoch()).await?;
    if retried.applied > 0 {
        info!(records = retried.applied, "what was set aside is in the database now");
    }
    let horizon = Clock::default().now().plus_millis(WAKE_AHEAD_MS);
    let saving = CheckpointMetrics::default();
    let loaded = load_checkpoint(config, &reader, (first, last), &saving)?;
    let from_checkpoint = loaded.drops.len();
    let known = Known { watermark, last, horizon, checkpoint: loaded.drops };
    let recovered = recover_from(&*store, &reader, known).await?;
    let took_ms = began.elapsed().as_millis();
    let (drops, replayed) = (recovered.drops.len(), recovered.replayed);
    info!(drops, from_checkpoint, replayed, watermark, last, took_ms, "recovered");

    let clock = Clock::not_before(recovered.last_at);
    let scheduler = Scheduler::default();
    let registry = Registry::with_policy(
        journal.handle(),
        clock.clone(),
        scheduler.clone(),
        1,
        config.hold_policy,
        config.refusals_kept,
    );
    let (projector, projection) = Projector::new(store.clone(), &reader, watermark);
    let (stop_consumers, stopped) = watch::channel(false);
    let asleep = sleepers::asleep(&*store, horizon).await?;
    let broadcaster = remember(&reader, (first, last), &clock, asleep, &recovered.drops);
    let outage = Outage::new(config.outage_grace);
    let contradictions = broadcaster.contradictions().clone();
    let supervisor = Supervisor::default();
    let mut consumers = Consumers::new(supervisor.clone(), stopped);
    let hub = consumers.broadcast(broadcaster, &reader, last, &registry, (&clock, &outage));
    let gateway = config.payments.gateway();
    info!(payments = config.payments.name(), "{}", config.payments.meaning());
    let settler = Settler::new(Arc::clone(&gateway), config.payment_timeout);
    let mut background = Background { supervisor: supervisor.clone(), tasks: Vec::new() };
    let owing = resume(&registry, &settler, recovered.drops, last, &mut background);
    background.tasks.push(consumers.relay_refunds(&reader, last, owing, &settler, &registry));
    background.follow_time(scheduler, &registry, &projection, &clock);
    if let Some(interval) = config.checkpoint_interval {
        let (folder, files) = (data_dir.join(checkpoint::FOLDER), (loaded.saved, saving.clone()));
        let writer = Checkpointer::new(folder, registry.clone(), reader.clone(), clock.clone(), interval, files);
        background.write_checkpoint(writer);
    }
    background.tell_sessions(&hub);
    background.beat(&pulse);
    let projector = consumers.project(projector);
    if let Some(url) = config.events_url.clone() {
        let (kept, copy) = (Kept::new(data_dir), store.consumer_offset(events::ABOUT.name, reader.journal_id()).await?);
        if let Err(error) = events::file_into(&*store, &kept.dead, reader.journal_id()).await {
            warn!(consumer = events::ABOUT.name, %error, "dead letters stay in their file");
        }
        let sending = kept
            .resume(&reader, first, copy)
            .and_then(|after| consumers.send_events(&reader, after, (kept, url), &store));
        background.tasks.extend(sending.map_err(AppError::io("read or write what the consumer events keeps"))?);
    }
    let roster = consumers.roster(&reader, &clock);

    let shutdown = ShutdownSignal::default();
    let monitor = Arc::new(Monitor {
        reader: reader.clone(),
        projection: projection.clone(),
        store: Arc::clone(&store),
        database_up: AtomicBool::new(true),
        payments: config.payments,
        shutdown: shutdown.clone(),
        supervisor: supervisor.clone(),
        consumers: roster.clone(),
    });
    background.watch_database(&monitor, &outage, &clock);
    let orders = Orders::new(Arc::clone(&store), registry.clone(), projection.clone(), gateway, settler.clone());
    let sales = Sales::new(Arc::clone(&store), registry.clone(), projection.clone());
    let logins = LoginLog::new(clock.clone());
    background.write_logins(&logins, &store);
    let secret = signing_secret(config, last, &*store).await?;
    let tokens = Tokens::with(&secret, config.access_token_seconds, clock.clone(), outage);
    let revocations = tokens.revocations().clone();
    // Complete before the first request: revocations from before the start stay effective.
    revocations.recover(&*store).await?;
    revocations.close_sessions_of(hub.clone());
    background.follow_revocations(&revocations, &store);
    let locks = AccountLocks::default();
    let activity = Arc::new(InDrops::new(registry.clone(), settler.clone()));
    let passwords = Passwords::new(config.password_hashing);
    let accounts = Accounts::new(Arc::clone(&store), passwords, tokens.clone(), activity, locks.clone())
        .with_login_log(logins.clone());
    let sleepers = Sleepers::new(registry.clone(), Arc::clone(&store), projection.clone(), hub.clone());
    background.wake_drops(&sleepers, &clock, horizon);
    let quota = config.drops_per_creator;
    let alone = (revocations, locks);
    let drops =
        Drops::new(Arc::clone(&store), registry.clone(), projection.clone(), sleepers, clock.clone(), quota, alone);
    let sources = Sources {
        reader: reader.clone(),
        registry: registry.clone(),
        projection: projection.clone(),
        hub: hub.clone(),
        store: Arc::clone(&store),
        contradictions,
        logins: logins.clone(),
        supervisor: supervisor.clone(),
        connections: connections.clone(),
        consumers: roster,
        checkpoint: saving,
    };
    let metrics = metrics::metrics(sources, &orders).expect("every metric has a name of its own");
    let (inbox, marks) = Inbox::new(Arc::clone(&store), reader.clone(), projection.clone(), hub.clone(), clock.clone());
    background.write_marks(marks);
    let keys = Keys::new(Arc::clone(&store), clock.clone());
    background.forget_keys(&keys);
    let selling = Selling { accounts, tokens, drops, orders, sales, inbox, keys };
    let services = services(config, &store, &hub, &clock, selling, (monitor, metrics));
    let limits = Limits::new(config.sizes, &config.rate_limits);
    background.sweep_limits(&limits);
    let server =
        server::build(services, listener, options(config, tls, connections, &supervisor), shutdown.clone(), limits)
            .map_err(AppError::io("start the HTTP server"))?;
    let (handle, server) = spawn_server(server);
    Ok(App {
        address,
        server: Some(server),
        handle,
        journal,
        reader,
        registry,
        hub,
        settler,
        store,
        logins,
        projector,
        stop_consumers,
        background: background.tasks,
        supervisor,
        shutdown,
        pulse,
        fenced: projection.fenced(),
        time_limit: config.shutdown,
        signals,
    })
}

fn options(
    config: &Config,
    tls: Option<TlsConfig>,
    connections: Connections,
    supervisor: &Supervisor,
) -> ServerOptions {
    ServerOptions {
        workers: config.workers,
        tls,
        head_timeout: config.head_timeout,
        keep_alive: config.keep_alive,
        send_timeout: config.send_timeout,
        connections,
        shutdown: config.shutdown,
        keep: supervisor.for_workers(),
    }
}

/// The number of connections: the system's limit of open files, minus the files for everything else.
fn connections(config: &Config) -> Result<Connections, AppError> {
    let open_files = server::raise_open_files().map_err(AppError::io("read and raise the limit of open files"))?;
    let free = open_files.saturating_sub(config.database_connections.into());
    let bounds = ConnectionBounds::of(free, descriptors_per_connection(), config.connections_per_address_max)
        .ok_or_else(|| {
            AppError::io("serve")(io::Error::other(format!(
                "the limit of open files (ulimit -n) is {open_files}: too few"
            )))
        })?;
    info!(open_files, connections = bounds.open_max, per_address = bounds.per_address_max, "connections are bounded");
    Ok(Connections::new(bounds, config.trusted_proxies.clone()))
}

/// The use cases of orders, drops and accounts.
struct Selling {
    accounts: Accounts,
    tokens: Tokens,
    drops: Drops,
    orders: Orders,
    sales: Sales,
    inbox: Inbox,
    keys: Keys,
}

/// A new key beside existing data is worth a log line: a copy of the data directory may lack it.
async fn signing_secret(config: &Config, last: u64, store: &dyn Store) -> Result<Vec<u8>, AppError> {
    let secret = config.signing_secret().map_err(AppError::io("read or write the token secret"))?;
    if secret.made && (last > 0 || store.has_accounts().await?) {
        warn!(
            data_dir = %config.data_dir.display(),
            "secret.key was missing although there are accounts or orders, and a new one was made: every access token that was \
             issued before is refused from now on. To undo this, put the old secret.key back and start again"
        );
    }
    Ok(secret.bytes)
}

fn services(
    config: &Config,
    store: &Arc<dyn Store>,
    hub: &Hub,
    clock: &Clock,
    Selling { accounts, tokens, drops, orders, sales, inbox, keys }: Selling,
    (health, metrics): (Arc<dyn HealthSource>, HttpMetrics),
) -> Services {
    Services {
        accounts,
        creators: Creators::new(Arc::clone(store), hub.clone(), clock.clone()),
        products: Products::new(Arc::clone(store), clock.clone()),
        drops,
        orders,
        sales,
        inbox,
        keys,
        hub: hub.clone(),
        health,
        metrics,
        tokens,
        tickets: Tickets::new(clock.clone()),
        webhooks: Webhooks::new(Arc::clone(store), clock.clone(), Vec::new()),
        origins: Origins::new(&config.allowed_origins),
        trusted_proxies: config.trusted_proxies.clone(),
        sizes: config.sizes,
    }
}

/// Recovery reads the database, so a start needs it; afterwards the server can run without. A passing failure is waited
/// for, any other is reported at once.
async fn open_store(config: &Config) -> Result<Arc<dyn Store>, AppError> {
    let options = StoreOptions { fan_out_max: config.fan_out_followers, connections: config.database_connections };
    let deadline = tokio::time::Instant::now() + DATABASE_PATIENCE;
    let mut told = String::new();
    loop {
        let open = async {
            let store = storage::connect_with(config.database_url.expose(), &options).await?;
            store.migrate().await?;
            let twins = identity::key_accounts(&*store).await?;
            if twins > 0 {
                warn!(
                    accounts = twins,
                    "accounts whose address an older account has in another form: they sign in as they registered"
                );
            }
            Ok(store)
        };
        match open.await {
            Ok(store) => return Ok(store),
            Err(error @ StoreError::Unavailable(_)) if tokio::time::Instant::now() < deadline => {
                let reason = error.to_string();
                if reason != told {
                    warn!(seconds_max = DATABASE_PATIENCE.as_secs(), "waiting: {reason}");
                }
                told = reason;
                tokio::time::sleep(DATABASE_RETRY).await;
            }
            Err(error @ StoreError::Unavailable(_)) => {
                return Err(AppError::NoDatabase { seconds: DATABASE_PATIENCE.as_secs(), error });
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Returns the journal, and its first and last record.
async fn open_journal(config: &Config, store: &dyn Store) -> Result<(Journal<Decisions>, u64, u64), AppError> {
    let dir = config.data_dir.join("journal");
    let device = FileDevice::new(&dir).map_err(AppError::io(format!("open {}", dir.display())))?;
    let proven_durable = match journal::read_identity(&device)? {
        Some(known) => store.applied(known.journal_id).await?,
        None => 0,
    };
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
) -> Result<loading::Loaded, AppError> {
    let folder = config.data_dir.join(checkpoint::FOLDER);
    if config.checkpoint_interval.is_none() {
        loading::delete(&folder).map_err(AppError::io(format!("delete {}", folder.display())))?;
        return Ok(loading::Loaded::default());
    }
    let origin = Origin { journal: reader.journal_id(), epoch: reader.epoch() };
    loading::load(&folder, Extent { origin, oldest, last }, metrics)
        .map_err(AppError::io(format!("delete files that are ahead of the journal in {}", folder.display())))
}

/// A broadcaster with the recovered drops and, as far as the journal has them, their recent events. Unreadable records
/// count as missing: clients that reconnect get a snapshot.
fn remember(
    reader: &JournalReader,
    (first, last): (u64, u64),
    clock: &Clock,
    asleep: Vec<(Arc<DropSpec>, StockBoard)>,
    drops: &[DropState],
) -> Broadcaster {
    let mut broadcaster = Broadcaster::new(Epoch::of(reader), last, clock.clone());
    let after = (first - 1).max(last.saturating_sub(HISTORY_REFILL_RECORDS_MAX));
    let mut history = reader.cursor(after);
    let remembered = loop {
        match Run::next(&mut history) {
            Ok(Some(run)) => broadcaster.remember(&run),
            Ok(None) => break Ok(()),
            // Of its drop it is not known any more what was published: only what comes after it is remembered.
            Err(TailError::Unread(_)) => broadcaster = Broadcaster::new(Epoch::of(reader), last, clock.clone()),
            Err(error) => break Err(error),
        }
    };
    if let Err(error) = remembered {
        warn!(%error, "listeners who come back will get snapshots: what was told lately cannot be read");
        broadcaster = Broadcaster::new(Epoch::of(reader), last, clock.clone());
    }
    let known = drops.iter().map(|drop| {
        let board = StockBoard { status: drop.status(), variants: drop.stock().collect() };
        (Arc::clone(drop.spec()), board)
    });
    // For drops with later records, memory is newer than SQL.
    broadcaster.watch(asleep.into_iter().chain(known).collect(), last);
    broadcaster
}

/// The background tasks, each with its name in `/readyz`, `/metrics` and the log.
struct Background {
    supervisor: Supervisor,
    tasks: Vec<JoinHandle<()>>,
}

impl Background {
    fn keep<T: Future<Output = ()> + 'static>(
        &mut self,
        task: &'static str,
        need: Need,
        begin: impl FnMut(bool) -> T + 'static,
    ) {
        self.tasks.push(spawn(self.supervisor.clone().keep(task, need, begin)));
    }

    /// Tasks for starts, ends and expired holds, and for evicting drops.
    fn follow_time(&mut self, scheduler: Scheduler, registry: &Registry, projection: &Projection, clock: &Clock) {
        let (drops, time) = (registry.clone(), clock.clone());
        self.keep("scheduler", Need::Vital { restarts_max: SCHEDULER_RESTARTS_MAX }, move |again| {
            timer::run(scheduler.clone(), drops.clone(), time.clone(), again)
        });
        let (registry, projection, clock) = (registry.clone(), projection.clone(), clock.clone());
        let gone = Rc::new(Mutex::new(evictor::Gone::new()));
        self.keep("evictor", Need::Useful, move |_| {
            let (registry, projection, clock, gone) =
                (registry.clone(), projection.clone(), clock.clone(), Rc::clone(&gone));
            async move { evictor::run(registry, projection, clock, &mut *gone.lock().await).await }
        });
    }

    /// Not vital: without it a start takes longer.
    fn write_checkpoint(&mut self, writer: Checkpointer) {
        let writer = Rc::new(Mutex::new(writer));
        self.keep("checkpoint", Need::Useful, move |_| {
            let writer = Rc::clone(&writer);
            async move { writer.lock().await.run().await }
        });
    }

    fn wake_drops(&mut self, sleepers: &Sleepers, clock: &Clock, until: Timestamp) {
        let (sleepers, clock) = (sleepers.clone(), clock.clone());
        self.keep("sleepers", Need::Vital { restarts_max: SCHEDULER_RESTARTS_MAX }, move |_| {
            sleepers.clone().run(clock.clone(), until)
        });
    }

    fn tell_sessions(&mut self, hub: &Hub) {
        let hub = hub.clone();
        self.keep("sessions", Need::Vital { restarts_max: 0 }, move |_| {
            let hub = hub.clone();
            async move { hub.broken().await }
        });
    }

    fn beat(&mut self, pulse: &Pulse) {
        let pulse = pulse.clone();
        self.keep("heartbeat", Need::Useful, move |_| pulse.clone().run());
    }

    fn watch_database(&mut self, monitor: &Arc<Monitor>, outage: &Outage, clock: &Clock) {
        let (monitor, outage, clock) = (Arc::clone(monitor), outage.clone(), clock.clone());
        self.keep("database_watch", Need::Useful, move |_| {
            Arc::clone(&monitor).watch_database(outage.clone(), clock.clone())
        });
    }

    fn follow_revocations(&mut self, revocations: &Revocations, store: &Arc<dyn Store>) {
        let (revocations, store) = (revocations.clone(), Arc::clone(store));
        self.keep("revocations", Need::Useful, move |_| revocations.clone().follow(Arc::clone(&store)));
    }

    fn write_logins(&mut self, logins: &LoginLog, store: &Arc<dyn Store>) {
        let (logins, store) = (logins.clone(), Arc::clone(store));
        self.keep("login_log", Need::Useful, move |_| logins.clone().run(Arc::clone(&store)));
    }

    fn write_marks(&mut self, marks: MarkWriter) {
        let marks = Rc::new(Mutex::new(marks));
        self.keep("inbox_marks", Need::Useful, move |_| {
            let marks = Rc::clone(&marks);
            async move { marks.lock().await.run().await }
        });
    }

    fn forget_keys(&mut self, keys: &Keys) {
        let keys = keys.clone();
        self.keep("idempotency_keys", Need::Useful, move |_| keys.clone().forget());
    }

    fn sweep_limits(&mut self, limits: &Limits) {
        let limits = limits.clone();
        self.keep("rate_limits", Need::Useful, move |_| limits.clone().sweep());
    }
}

/// Binds every order's key to its drop, on all cores: there may be ten million.
fn bind_keys(registry: &Registry, drops: &[DropState]) {
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some(drop) = drops.get(next.fetch_add(1, Ordering::Relaxed)) {
            drop.keys().for_each(|digest| registry.bind(digest, drop.spec().id));
        }
    };
    thread::scope(|scope| {
        for _ in 1..thread::available_parallelism().map_or(1, usize::from).min(drops.len()) {
            scope.spawn(work);
        }
        work();
    });
}

/// Starts the recovered drops, and resolves their pending payments. Returns the drops with due refunds.
fn resume(
    registry: &Registry,
    settler: &Settler,
    drops: Vec<DropState>,
    last: u64,
    background: &mut Background,
) -> Vec<DropId> {
    let mut owing = Vec::new();
    bind_keys(registry, &drops);
    for drop in drops {
        let pending: Vec<OrderId> = drop.payments_pending().map(|(order, _)| order).collect();
        let refunds = drop.refunds_due().count();
        let handle = registry.restore(drop, last);
        if !pending.is_empty() || refunds > 0 {
            info!(drop = %handle.spec.id, pending = pending.len(), refunds, "resuming payments");
        }
        if refunds > 0 {
            owing.push(handle.spec.id);
        }
        if !pending.is_empty() {
            let settler = settler.clone();
            let ask = move |_| settler.clone().resume(Arc::clone(&handle), pending.clone());
            background.tasks.push(spawn(background.supervisor.clone().finish("payments_resume", ask)));
        }
    }
    owing
}
