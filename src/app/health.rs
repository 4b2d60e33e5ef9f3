//! The report of `/readyz`: the state of each part.

use super::consumers::Roster;
use super::payments;
use super::supervisor::Supervisor;
use crate::actors::consumers::{Lag, Progress};
use crate::actors::outage::Outage;
use crate::actors::{Clock, Projection};
use crate::http::api::operations::health::{
    Checks, ConsumerCheck, ConsumersCheck, DatabaseCheck, Health, JournalCheck, ProjectorCheck, Readiness, TasksCheck,
};
use crate::http::{HealthSource, ShutdownSignal};
use crate::journal::{JournalReader, Space};
use crate::payments::provider::{Gateways, Providers};
use crate::storage::Store;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

const PING_EVERY: Duration = Duration::from_secs(1);
/// Records that the projector may lag before it counts as degraded: some seconds of a hot drop.
const LAG_MAX: u64 = 200_000;

/// The report names at most this many drops with records set aside.
const DROPS_NAMED_MAX: usize = 10;

/// Reports the state of all parts, from memory.
pub(super) struct Monitor {
    pub reader: JournalReader,
    pub projection: Projection,
    pub store: Arc<dyn Store>,
    pub database_up: AtomicBool,
    pub payments: Providers,
    pub gateways: Gateways,
    pub clock: Clock,
    pub shutdown: ShutdownSignal,
    pub supervisor: Supervisor,
    pub consumers: Roster,
}

impl Monitor {
    /// Pings the database periodically, so that a probe never has to, and updates the outage state.
    pub async fn watch_database(self: Arc<Self>, outage: Outage, clock: Clock) {
        loop {
            let asked_at = clock.steady();
            let up = self.store.ping().await.is_ok();
            outage.observe(up, asked_at, clock.steady());
            if self.database_up.swap(up, Ordering::AcqRel) != up {
                match up {
                    true => tracing::info!("the database is back"),
                    false => tracing::warn!("the database is away: selling goes on, access tokens stay good meanwhile"),
                }
            }
            tokio::time::sleep(PING_EVERY).await;
        }
    }
}

/// A consumer that lags for longer counts as degraded, whether it reports an error or hangs.
const STALLED: Duration = Duration::from_secs(30);

/// The check of each consumer. One with a gap, past or ahead, is degraded until it has caught up.
fn consumers(roster: &Roster) -> ConsumersCheck {
    let check = |(progress, lag): (&Progress, Lag)| {
        let trouble = progress.trouble();
        let (gaps, skipped_records) = progress.gaps();
        let stalled = lag.age > STALLED || lag.lost > 0;
        let degraded = stalled || trouble.is_some() || progress.dead_letters() > 0 || (gaps > 0 && lag.records > 0);
        ConsumerCheck {
            name: progress.about().name,
            status: if degraded { Health::Degraded } else { Health::Ready },
            lag_records: lag.records,
            lag_bytes: lag.bytes,
            lag_ms: u64::try_from(lag.age.as_millis()).unwrap_or(u64::MAX),
            errors: progress.errors(),
            last_error: progress.last_error(),
            lost_records: lag.lost,
            gaps,
            skipped_records,
            dead_letters: progress.dead_letters(),
            last_gap: progress.last_gap().map(|gap| [gap.first, gap.last]),
        }
    };
    let each: Vec<ConsumerCheck> = roster.each().map(check).collect();
    let status = each.iter().map(|consumer| consumer.status).max().unwrap_or(Health::Ready);
    ConsumersCheck { status, each }
}

impl HealthSource for Monitor {
    fn readiness(&self) -> Readiness {
        let worse_if = |bad: bool, how: Health| if bad { how } else { Health::Ready };
        let failed = self.reader.poisoned().borrow().is_some() || self.shutdown.is_set();
        let journal =
            worse_if(failed, Health::Unavailable).max(worse_if(self.reader.space() == Space::Full, Health::Degraded));
        let database_up = self.database_up.load(Ordering::Acquire);
        let lag_records = self.reader.durable().saturating_sub(self.projection.watermark());
        let aside = self.projection.set_aside();
        let behind = lag_records > LAG_MAX || self.projection.trouble().is_some() || !aside.is_empty();
        let projector = worse_if(behind, Health::Degraded);
        // Orders work without the database, so its absence only degrades.
        let failing = self.supervisor.failing();
        let tasks = worse_if(!failing.is_empty(), Health::Degraded);
        let consumers = consumers(&self.consumers);
        let payments = payments::check(&self.gateways, &self.clock);
        let status = journal
            .max(projector)
            .max(tasks)
            .max(consumers.status)
            .max(payments.status)
            .max(worse_if(!database_up, Health::Degraded));
        Readiness {
            status,
            payments: self.payments.to_string(),
            checks: Checks {
                journal: JournalCheck { status: journal, durability: self.reader.durability().to_string() },
                database: DatabaseCheck {
                    status: worse_if(!database_up, Health::Unavailable),
                    kind: self.store.kind(),
                },
                projector: ProjectorCheck {
                    status: projector,
                    lag_records,
                    set_aside_records: aside.iter().map(|drop| drop.records).sum(),
                    set_aside_drops: aside.iter().take(DROPS_NAMED_MAX).map(|drop| drop.drop.to_string()).collect(),
                },
                consumers,
                payments,
                tasks: TasksCheck { status: tasks, failing },
            },
        }
    }
}
