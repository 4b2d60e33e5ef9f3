//! Starts a server from its configuration.

use super::background::Background;
use super::consumers::Consumers;
use super::health::Monitor;
use super::last_claim::ClaimFile;
use super::late_database::{LateDatabase, Progress};
use super::metrics::{self, Sources};
use super::opening::{self, Opened, Standby};
use super::payments::Payments;
use super::steps::Steps;
use super::supervisor::Supervisor;
use super::{App, AppError, Signals, privacy, spawn_server};
use crate::actors::consumers::{Run, TailError};
use crate::actors::inventory::all_cores::on_all_cores;
use crate::actors::inventory::checkpoint;
use crate::actors::inventory::checkpoint::writer::Checkpointer;
use crate::actors::inventory::sleepers;
use crate::actors::outage::Outage;
use crate::actors::realtime::broadcaster::Broadcaster;
use crate::actors::realtime::position::Epoch;
use crate::actors::{Clock, Hub, Projector, Registry, Scheduler, Sleepers};
use crate::config::Config;
use crate::domain::limits::HISTORY_REFILL_RECORDS_MAX;
use crate::domain::{DropId, DropSpec, OrderId, StockBoard, Timestamp};
use crate::engine::DropState;
use crate::http::middleware::metrics::HttpMetrics;
use crate::http::middleware::origins::Origins;
use crate::http::transport::connection::descriptors_per_connection;
use crate::http::transport::server::{self, ServerOptions};
use crate::http::{ConnectionBounds, Connections, HealthSource, Limits, Services, ShutdownSignal, TlsConfig, TlsFiles};
use crate::journal::JournalReader;
use crate::service::accounts::Accounts;
use crate::service::activity::{AccountLocks, InDrops};
use crate::service::addresses::Addresses;
use crate::service::addresses::references::References;
use crate::service::creators::Creators;
use crate::service::drops::Drops;
use crate::service::encryption::key_file::KeyFile;
use crate::service::events::{self, Keep, Kept};
use crate::service::inbox::Inbox;
use crate::service::keys::Keys;
use crate::service::login_log::LoginLog;
use crate::service::orders::Orders;
use crate::service::passwords::Passwords;
use crate::service::products::Products;
use crate::service::reconcile::Reconciler;
use crate::service::sales::Sales;
use crate::service::settle::Settler;
use crate::service::settle::relay::Duty;
use crate::service::tickets::Tickets;
use crate::service::tokens::Tokens;
use crate::service::webhooks::Webhooks;
use crate::storage::{ConsumerOffset, Store};
use actix_web::rt::spawn;
use std::{
    cell::RefCell,
    io,
    net::TcpListener,
    sync::{Arc, atomic::AtomicBool},
};
use tokio::sync::watch;
use tracing::{error, info, warn};

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
    let mut steps = Steps::begin();
    let Opened { store, journal, reader, extent, watermark, recovered, horizon, saved, saving, pulse, standby } =
        opening::open(config, address, &mut steps).await?;
    let (first, last) = extent;

    let claimed_at = standby.as_ref().map(|standby| standby.claim.confirmed_at());
    let clock = Clock::not_before(recovered.last_at.max(claimed_at.unwrap_or_default()));
    let pulse = pulse.recording(claim_file(config, &reader, &clock)?);
    let scheduler = Scheduler::default();
    let registry = Registry::with_policy(
        journal.handle(),
        clock.clone(),
        scheduler.clone(),
        1,
        (config.hold_policy, config.refusals_kept),
        recovered.drops.iter().map(DropState::order_count).sum(),
    );
    let (projector, projection) = match standby {
        None => Projector::new(store.clone(), &reader, watermark),
        Some(_) => Projector::unplaced(store.clone(), &reader, watermark),
    };
    let (stop_consumers, stopped) = watch::channel(false);
    let asleep = match standby {
        None => sleepers::asleep(&*store, horizon).await?,
        Some(_) => Vec::new(),
    };
    let broadcaster = remember(&reader, extent, &clock, asleep, &recovered.drops);
    let outage = Outage::new(config.outage_grace);
    if let Some(answered) = claimed_at {
        outage.observe(true, answered, answered);
        outage.observe(false, clock.steady(), clock.steady());
    }
    let contradictions = broadcaster.contradictions().clone();
    let supervisor = Supervisor::default();
    let mut consumers = Consumers::new(supervisor.clone(), stopped);
    let hub = consumers.broadcast(broadcaster, &reader, last, &registry, (&clock, &outage));
    let payments = Payments::open(config, &store, &clock)?;
    let settler = Settler::new(payments.gateways.clone(), config.payment_timeout);
    let mut background = Background { supervisor: supervisor.clone(), tasks: Vec::new() };
    let (refunds, captures) = resume(&registry, &settler, recovered.drops, last, &mut background);
    background.tasks.push(consumers.relay(Duty::Refund, &reader, last, refunds, (&settler, &registry)));
    // Play money is never only authorized, and each reading of the journal costs something in a rush.
    if settler.gateways().are_real() {
        background.tasks.push(consumers.relay(Duty::Capture, &reader, last, captures, (&settler, &registry)));
    } else if !captures.is_empty() {
        warn!(drops = captures.len(), "authorized payments wait for a provider that is not configured");
    }
    background.follow_time(scheduler, &registry, &projection, &clock);
    if let Some(interval) = config.checkpoint_interval {
        let (folder, files) = (data_dir.join(checkpoint::FOLDER), (saved, saving.clone()));
        let writer = Checkpointer::new(folder, registry.clone(), reader.clone(), clock.clone(), interval, files);
        background.write_checkpoint(writer);
    }
    background.tell_sessions(&hub);
    let projector = consumers.project(projector);
    if let Some(url) = config.events_url.clone() {
        let kept = Kept::new(data_dir);
        let copy = match standby {
            None => offset_in_sql(&*store, &kept, &reader).await?,
            // Where its file is lost, too, all events that the journal has are sent again: none may be missing.
            Some(_) => Some(ConsumerOffset { epoch: 0, sequence: 0 }),
        };
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
        database_up: AtomicBool::new(standby.is_none()),
        payments: config.payments.clone(),
        gateways: payments.gateways,
        clock: clock.clone(),
        shutdown: shutdown.clone(),
        supervisor: supervisor.clone(),
        consumers: roster.clone(),
    });
    background.watch_database(&monitor, &outage, &clock);
    let secret = signing_secret(config, last, standby.is_none().then_some(&*store)).await?;
    let references = References::new(&secret);
    let orders = Orders::new(Arc::clone(&store), registry.clone(), projection.clone(), settler.clone())
        .with_references(references.clone());
    let sales = Sales::new(Arc::clone(&store), registry.clone(), projection.clone());
    let logins = LoginLog::new(clock.clone());
    background.write_logins(&logins, &store);
    let tokens = Tokens::with(&secret, config.access_token_seconds, clock.clone(), outage);
    let addresses = Addresses::new(
        Arc::clone(&store),
        encryption_keys(config, standby.is_none().then_some(&*store)).await?,
        clock.clone(),
        references,
    );
    let revocations = tokens.revocations().clone();
    // Complete before the first request: revocations from before the start stay effective.
    match &standby {
        None => revocations.recover(&*store).await?,
        Some(standby) => revocations.restore(&standby.revoked),
    }
    revocations.close_sessions_of(hub.clone());
    background.follow_revocations(&revocations, &store);
    if opening::prepares(config).is_some() {
        background.keep_revocations(&revocations, data_dir);
    }
    background.beat(&pulse, &revocations);
    let locks = AccountLocks::default();
    let activity = Arc::new(InDrops::new(registry.clone(), settler.clone()));
    let passwords = Passwords::new(config.password_hashing);
    let accounts = Accounts::new(Arc::clone(&store), passwords, tokens.clone(), activity, locks.clone())
        .with_login_log(logins.clone());
    let sleepers = Sleepers::new(registry.clone(), Arc::clone(&store), projection.clone(), hub.clone());
    // Without the database none was looked for.
    background.wake_drops(&sleepers, &clock, standby.as_ref().map_or(horizon, |_| Timestamp::EPOCH));
    let (lost_claim, claim_lost) = watch::channel(None);
    if let Some(Standby { deferred, .. }) = standby {
        background.wait_for_database(LateDatabase {
            deferred,
            store: Arc::clone(&store),
            config: config.clone(),
            reader: reader.clone(),
            extent,
            clock: clock.clone(),
            registry: registry.clone(),
            hub: hub.clone(),
            sleepers: sleepers.clone(),
            projection: projection.clone(),
            revocations: revocations.clone(),
            pulse: pulse.clone(),
            left_out: RefCell::new(recovered.left_out),
            lost: lost_claim,
            progress: Progress::default(),
        });
    }
    let quota = config.drops_per_creator;
    let alone = (revocations, locks);
    let drops =
        Drops::new(Arc::clone(&store), registry.clone(), projection.clone(), sleepers, clock.clone(), quota, alone);
    let reconciler = Reconciler::new(orders.settler().clone(), Arc::new(orders.clone()), clock.clone());
    background.reconcile(&reconciler);
    let sources = Sources {
        reader: reader.clone(),
        registry: registry.clone(),
        projection: projection.clone(),
        hub: hub.clone(),
        store: Arc::clone(&store),
        contradictions,
        logins: logins.clone(),
        payments: payments.metrics,
        webhooks: payments.webhooks.clone(),
        reconciler,
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
    background.forget_addresses(&addresses);
    background.work_on_webhooks(&payments.webhooks, &orders, payments.stripe);
    let webhooks = payments.webhooks;
    let selling = Selling { accounts, addresses, tokens, drops, orders, sales, inbox, keys, webhooks };
    let services = services(config, &store, &hub, &clock, selling, (monitor, metrics));
    let limits = Limits::new(config.sizes, &config.rate_limits);
    background.sweep_limits(&limits);
    let server =
        server::build(services, listener, options(config, tls, connections, &supervisor), shutdown.clone(), limits)
            .map_err(AppError::io("start the HTTP server"))?;
    let (handle, server) = spawn_server(server);
    steps.done("serving");
    info!(took_ms = steps.total_ms(), %steps, "started");
    Ok(App {
        address,
        server: Some(server),
        handle,
        journal: Some(journal),
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
        claim_lost,
        recovered: last,
        data_dir: data_dir.clone(),
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
    addresses: Addresses,
    tokens: Tokens,
    drops: Drops,
    orders: Orders,
    sales: Sales,
    inbox: Inbox,
    keys: Keys,
    webhooks: Webhooks,
}

/// The record of this opening's claim of the database, where a later start may need it.
fn claim_file(config: &Config, reader: &JournalReader, clock: &Clock) -> Result<Option<ClaimFile>, AppError> {
    let file = opening::prepares(config).map(|database| {
        let opening = (reader.journal_id(), reader.epoch());
        ClaimFile::new(&config.data_dir, opening, database, clock.clone())
    });
    file.transpose().map_err(AppError::io("look at the journal's directory"))
}

/// The copy of the event sender's offset in SQL, which has its dead letters afterwards.
async fn offset_in_sql(
    store: &dyn Store,
    kept: &Kept,
    reader: &JournalReader,
) -> Result<Option<ConsumerOffset>, AppError> {
    let journal = reader.journal_id();
    let copy = store.consumer_offset(events::ABOUT.name, journal).await?;
    if let Err(error) = events::file_into(store, &kept.dead, journal).await {
        warn!(consumer = events::ABOUT.name, %error, "dead letters stay in their file");
    }
    Ok(copy)
}

/// A new key beside existing data is worth a log line: a copy of the data directory may lack it.
async fn signing_secret(config: &Config, last: u64, store: Option<&dyn Store>) -> Result<Vec<u8>, AppError> {
    let secret = config.signing_secret().map_err(AppError::io("read or write the token secret"))?;
    let has_accounts = match store {
        Some(store) if secret.made && last == 0 => store.has_accounts().await?,
        _ => last > 0,
    };
    if secret.made && has_accounts {
        warn!(
            data_dir = %config.data_dir.display(),
            "secret.key was missing although there are accounts or orders, and a new one was made: every access token that was \
             issued before is refused from now on. To undo this, put the old secret.key back and start again"
        );
    }
    Ok(secret.bytes)
}

/// The keys of encrypted data. New ones beside data that others encrypted are worth a log line.
async fn encryption_keys(config: &Config, store: Option<&dyn Store>) -> Result<KeyFile, AppError> {
    let path = &config.encryption_key_file;
    let (keys, made) = KeyFile::open(path).map_err(AppError::io("read or write the keys of encrypted data"))?;
    let has_rows = match store {
        Some(store) if made => store.has_encrypted_rows().await?,
        _ => false,
    };
    if has_rows {
        error!(
            file = %path.display(),
            "the keys of encrypted data were missing, and a new one was made: the addresses from before cannot be read. To undo this, \
             add the lines of the old file above the new one"
        );
    }
    Ok(keys)
}

fn services(
    config: &Config,
    store: &Arc<dyn Store>,
    hub: &Hub,
    clock: &Clock,
    Selling { accounts, addresses, tokens, drops, orders, sales, inbox, keys, webhooks }: Selling,
    (health, metrics): (Arc<dyn HealthSource>, HttpMetrics),
) -> Services {
    Services {
        accounts,
        addresses,
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
        webhooks,
        origins: Origins::new(&config.allowed_origins),
        trusted_proxies: config.trusted_proxies.clone(),
        sizes: config.sizes,
    }
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

/// Starts the recovered drops, and resolves their pending payments. Returns the drops with due refunds, and those with due
/// captures.
fn resume(
    registry: &Registry,
    settler: &Settler,
    drops: Vec<DropState>,
    last: u64,
    background: &mut Background,
) -> (Vec<DropId>, Vec<DropId>) {
    let (mut owing, mut to_capture) = (Vec::new(), Vec::new());
    on_all_cores(&drops, usize::MAX, |drop| drop.keys().for_each(|digest| registry.bind(digest, drop.spec().id)));
    for drop in drops {
        let pending: Vec<OrderId> = drop.payments_pending().map(|(order, _)| order).collect();
        let (refunds, captures) = (drop.refunds_due().count(), drop.captures_due().count());
        let handle = registry.restore(drop, last);
        if pending.len() + refunds + captures > 0 {
            info!(drop = %handle.spec.id, pending = pending.len(), refunds, captures, "resuming payments");
        }
        if captures > 0 {
            to_capture.push(handle.spec.id);
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
    (owing, to_capture)
}
