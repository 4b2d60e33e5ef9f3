//! The metrics of `/metrics`: the parts' own counters, and gauges that are read at each scrape.

use super::consumers::Roster;
use super::supervisor::Supervisor;
use crate::actors::inventory::checkpoint::metrics::CheckpointMetrics;
use crate::actors::{Hub, Projection, Registry};
use crate::domain::{DropStatus, StockCounts};
use crate::http::Connections;
use crate::http::middleware::metrics::HttpMetrics;
use crate::journal::{JournalReader, Space};
use crate::payments::breaker::GuardMetrics;
use crate::service::login_log::LoginLog;
use crate::service::orders::Orders;
use crate::service::reconcile::Reconciler;
use crate::service::webhooks::Webhooks;
use crate::storage::Store;
use prometheus::core::Collector;
use prometheus::process_collector::ProcessCollector;
use prometheus::{GaugeVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts};
use std::sync::Arc;

/// The sources of the gauges.
pub(super) struct Sources {
    pub reader: JournalReader,
    pub registry: Registry,
    pub projection: Projection,
    pub hub: Hub,
    pub store: Arc<dyn Store>,
    /// Counted by the broadcaster.
    pub contradictions: IntCounter,
    pub logins: LoginLog,
    pub payments: GuardMetrics,
    pub webhooks: Webhooks,
    pub reconciler: Reconciler,
    pub supervisor: Supervisor,
    pub connections: Connections,
    pub consumers: Roster,
    pub checkpoint: CheckpointMetrics,
}

struct Gauges {
    durable: IntGauge,
    queued: IntGauge,
    disk_full: IntGauge,
    lag: IntGauge,
    aside: IntGauge,
    drops: IntGaugeVec,
    stock: IntGaugeVec,
    unbalanced: IntGauge,
    sessions: IntGauge,
    consumers: ConsumerGauges,
}

/// One value for each consumer.
struct ConsumerGauges {
    records: IntGaugeVec,
    bytes: IntGaugeVec,
    seconds: GaugeVec,
    lost: IntGaugeVec,
    failing: IntGaugeVec,
    errors: IntCounterVec,
    gaps: IntCounterVec,
    skipped: IntCounterVec,
    dead: IntGaugeVec,
}

impl ConsumerGauges {
    fn register(registry: &prometheus::Registry) -> prometheus::Result<Self> {
        let options = |name: &str, help: &str| Opts::new(format!("livedrop_consumer_{name}"), help);
        let by_name =
            |name: &str, help: &str| registered(registry, IntGaugeVec::new(options(name, help), &["consumer"]));
        let counted =
            |name: &str, help: &str| registered(registry, IntCounterVec::new(options(name, help), &["consumer"]));
        let help = "The oldest durable record that the consumer has not passed is not older than this.";
        let seconds = registered(registry, GaugeVec::new(options("lag_seconds", help), &["consumer"]))?;
        Ok(Self {
            records: by_name("lag_records", "Durable journal records that the consumer has not passed.")?,
            bytes: by_name("lag_bytes", "About how many bytes of journal these are.")?,
            seconds,
            lost: by_name("lost_records", "Of these, how many the journal has no more: they will be skipped.")?,
            failing: by_name("failing", "1 while the consumer makes no progress; /readyz says why.")?,
            errors: counted("errors_total", "How often a step of the consumer failed.")?,
            gaps: counted(
                "gaps_total",
                "How often it skipped records that the journal did not keep for it any longer.",
            )?,
            skipped: counted("skipped_records_total", "How many records it skipped.")?,
            dead: by_name("dead_letters", "Effects that its target refused for good, and that are set aside.")?,
        })
    }

    fn refresh(&self, roster: &Roster) {
        for (progress, lag) in roster.each() {
            let name = &[progress.about().name];
            let (gaps, skipped) = progress.gaps();
            self.records.with_label_values(name).set(signed(lag.records));
            self.bytes.with_label_values(name).set(signed(lag.bytes));
            self.seconds.with_label_values(name).set(lag.age.as_secs_f64());
            self.lost.with_label_values(name).set(signed(lag.lost));
            self.failing.with_label_values(name).set(i64::from(progress.trouble().is_some()));
            self.dead.with_label_values(name).set(signed(progress.dead_letters()));
            for (counter, count) in [(&self.errors, progress.errors()), (&self.gaps, gaps), (&self.skipped, skipped)] {
                let counter = counter.with_label_values(name);
                counter.inc_by(count.saturating_sub(counter.get()));
            }
        }
    }
}

/// Registers a new metric and returns it.
fn registered<M: Collector + Clone + 'static>(
    registry: &prometheus::Registry,
    metric: prometheus::Result<M>,
) -> prometheus::Result<M> {
    let metric = metric?;
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

/// The registry of a server's metrics.
pub(super) fn metrics(sources: Sources, orders: &Orders) -> prometheus::Result<HttpMetrics> {
    let registry = prometheus::Registry::new();
    registry.register(Box::new(ProcessCollector::for_self()))?;
    sources.reader.metrics().register(&registry)?;
    sources.supervisor.register(&registry)?;
    sources.registry.metrics().register(&registry)?;
    orders.outcomes().register(&registry)?;
    orders.settler().register_metrics(&registry)?;
    registry.register(Box::new(sources.contradictions.clone()))?;
    sources.store.register_metrics(&registry)?;
    sources.logins.register_metrics(&registry)?;
    sources.payments.register(&registry)?;
    sources.webhooks.register_metrics(&registry)?;
    sources.reconciler.register_metrics(&registry)?;
    sources.checkpoint.register(&registry)?;
    sources.connections.register(&registry)?;
    let gauge = |name: &str, help: &str| registered(&registry, IntGauge::new(name, help));
    let by =
        |name: &str, help: &str, label: &str| registered(&registry, IntGaugeVec::new(Opts::new(name, help), &[label]));
    let gauges = Gauges {
        durable: gauge("livedrop_journal_durable_sequence", "The last durable record of the journal.")?,
        queued: gauge("livedrop_journal_queued_entries", "Decisions that wait for the disk.")?,
        disk_full: gauge("livedrop_journal_disk_full", "1 while new reservations are refused for lack of space.")?,
        lag: gauge("livedrop_projector_lag_records", "Durable records that are not in SQL yet.")?,
        aside: gauge(
            "livedrop_projector_set_aside_records",
            "Records that the database refused for good, with those of the same drops after them.",
        )?,
        drops: by("livedrop_drops", "Drops in memory, by where they stand.", "status")?,
        stock: by("livedrop_stock_units", "Units of the drops in memory, by where they are.", "state")?,
        unbalanced: gauge(
            "livedrop_stock_equation_violations",
            "Variants in memory for which available + held + sold is not the total. Anything but 0 is a bug.",
        )?,
        sessions: gauge("livedrop_sessions", "Open real-time sessions.")?,
        consumers: ConsumerGauges::register(&registry)?,
    };
    HttpMetrics::new(registry, move || gauges.refresh(&sources))
}

impl Gauges {
    fn refresh(&self, sources: &Sources) {
        let Sources { reader, registry, projection, hub, .. } = sources;
        let durable = reader.durable();
        self.durable.set(signed(durable));
        self.queued.set(signed(reader.queued() as u64));
        self.disk_full.set(i64::from(reader.space() == Space::Full));
        self.lag.set(signed(durable.saturating_sub(projection.watermark())));
        self.aside.set(projection.set_aside().iter().map(|drop| signed(drop.records)).sum());
        self.sessions.set(signed(hub.sessions() as u64));
        self.consumers.refresh(&sources.consumers);
        sources.checkpoint.refresh();
        let mut drops = [0_i64; DropStatus::ALL.len()];
        let (mut units, mut unbalanced) = ([0_i64; 3], 0);
        for handle in registry.all() {
            let published = handle.cell.read();
            if let Some(at) = DropStatus::ALL.iter().position(|status| *status == published.status) {
                drops[at] += 1;
            }
            for (_, counts) in &published.variants {
                let StockCounts { available, held, sold, .. } = *counts;
                units.iter_mut().zip([available, held, sold]).for_each(|(sum, more)| *sum += i64::from(more));
                unbalanced += i64::from(!counts.balances());
            }
        }
        for (status, drops) in DropStatus::ALL.iter().zip(drops) {
            self.drops.with_label_values(&[status.as_str()]).set(drops);
        }
        for (state, units) in ["available", "held", "sold"].iter().zip(units) {
            self.stock.with_label_values(&[state]).set(units);
        }
        self.unbalanced.set(unbalanced);
    }
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
