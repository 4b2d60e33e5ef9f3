//! Compares a payment provider's books with the orders, and repairs what has one right answer.
//!
//! The provider's payments of the last days are read page by page, and each is compared with its order. Both change while
//! they are read. So a difference counts only if the payment is read once more between two equal readings of its order;
//! what is under way by the order's own record (a pending attempt, a capture or a refund that is due) is none.

mod compare;
mod report;
#[cfg(test)]
mod tests;

pub use compare::DifferenceKind;
pub use report::{Difference, ReconcileReport};

use super::Failure;
use super::clock::Clock;
use super::settle::{Settler, within_call};
use crate::domain::limits::{RECONCILE_DAYS, RECONCILE_PAGES_MAX, RECONCILE_SETTLED_MS};
use crate::domain::{OrderId, OrderView, PaymentProvider};
use crate::payments::gateway::{GatewayError, ListedPayment, PaymentGateway};
use async_trait::async_trait;
use compare::compare;
use prometheus::{IntCounterVec, IntGaugeVec, Opts, Registry};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;
use tracing::{info, warn};

/// How long after a start payments are compared first: a rush after a restart goes first.
const FIRST_AFTER: Duration = Duration::from_secs(10 * 60);
/// How often they are compared.
const EVERY: Duration = Duration::from_secs(24 * 60 * 60);
/// When it is tried again after a failure.
const AGAIN_AFTER: Duration = Duration::from_secs(60 * 60);
const DAY_MS: i64 = 24 * 60 * 60 * 1_000;

/// The orders to compare with.
#[async_trait]
pub trait OrderBooks: Send + Sync + 'static {
    /// An order as it is now; `None` if there is none.
    ///
    /// # Errors
    /// If it cannot be read.
    async fn order(&self, id: OrderId) -> Result<Option<OrderView>, Failure>;
}

/// What is repaired.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Repair {
    Nothing,
    /// Payments that a known order does not count are given back.
    Strays,
    /// Also: authorizations for orders that are not known are cancelled, missing captures and refunds are made.
    All,
}

impl Repair {
    /// Money for an order that is not known is never given back: an old backup of the database lacks orders, too.
    fn has(self, kind: DifferenceKind, order_is_known: bool) -> bool {
        match kind {
            DifferenceKind::AuthorizedWithoutOrder => self == Self::All || (self == Self::Strays && order_is_known),
            DifferenceKind::CapturedWithoutOrder => self != Self::Nothing && order_is_known,
            DifferenceKind::CaptureMissing | DifferenceKind::RefundMissing => self == Self::All,
            DifferenceKind::RefundUnknown | DifferenceKind::PaymentGone | DifferenceKind::AmountDiffers => false,
        }
    }
}

/// Which payments are compared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Window {
    /// Those of so many days.
    pub days: u32,
    /// Those that are at least so old, in milliseconds: younger ones may be under way.
    pub min_age_ms: i64,
}

impl Default for Window {
    fn default() -> Self {
        Self { days: RECONCILE_DAYS, min_age_ms: RECONCILE_SETTLED_MS }
    }
}

/// What is counted of reconciliations.
#[derive(Clone)]
struct Metrics {
    differences: IntGaugeVec,
    repairs: IntCounterVec,
    at: IntGaugeVec,
}

impl Default for Metrics {
    fn default() -> Self {
        let help = "Differences between a payment provider and the orders that the last reconciliation left, by kind.";
        let opts = Opts::new("livedrop_payment_differences", help);
        let differences = IntGaugeVec::new(opts, &["provider", "kind"]).expect("a valid name");
        let help = "Differences that reconciliations have repaired, by kind.";
        let opts = Opts::new("livedrop_payment_repairs_total", help);
        let repairs = IntCounterVec::new(opts, &["provider", "kind"]).expect("a valid name");
        let help = "When the last complete reconciliation ended, in seconds since 1970; 0 before the first one.";
        let opts = Opts::new("livedrop_payment_reconciled_seconds", help);
        Self { differences, repairs, at: IntGaugeVec::new(opts, &["provider"]).expect("a valid name") }
    }
}

impl Metrics {
    fn set(&self, report: &ReconcileReport, now_ms: i64) {
        let provider = report.provider.as_str();
        for kind in DifferenceKind::ALL {
            let all = report.by_kind.get(&kind).copied().unwrap_or_default();
            let repaired = report.repaired_of(kind);
            let labels = [provider, kind.as_str()];
            self.differences.with_label_values(&labels).set(i64::try_from(all - repaired).unwrap_or(i64::MAX));
            self.repairs.with_label_values(&labels).inc_by(repaired);
        }
        if report.complete {
            self.at.with_label_values(&[provider]).set(now_ms / 1_000);
        }
    }
}

/// Compares providers with orders. Cheap to clone.
#[derive(Clone)]
pub struct Reconciler {
    settler: Settler,
    orders: Arc<dyn OrderBooks>,
    clock: Clock,
    metrics: Metrics,
}

impl Reconciler {
    #[must_use]
    pub fn new(settler: Settler, orders: Arc<dyn OrderBooks>, clock: Clock) -> Self {
        Self { settler, orders, clock, metrics: Metrics::default() }
    }

    /// Adds the metrics to a registry.
    ///
    /// # Errors
    /// If their names are taken there.
    pub fn register_metrics(&self, registry: &Registry) -> prometheus::Result<()> {
        for provider in self.providers() {
            self.metrics.at.with_label_values(&[provider.as_str()]);
        }
        registry.register(Box::new(self.metrics.differences.clone()))?;
        registry.register(Box::new(self.metrics.repairs.clone()))?;
        registry.register(Box::new(self.metrics.at.clone()))
    }

    /// The configured providers that have books.
    #[must_use]
    pub fn providers(&self) -> Vec<PaymentProvider> {
        let is_configured = |provider: &PaymentProvider| self.settler.gateways().get(*provider).is_some();
        PaymentProvider::ALL.iter().copied().filter(|one| !one.is_test()).filter(is_configured).collect()
    }

    /// Compares every day, and gives back what known orders do not count. Never ends.
    pub async fn run_daily(self) {
        let mut pause = FIRST_AFTER;
        loop {
            sleep(pause).await;
            pause = EVERY;
            for provider in self.providers() {
                if let Err(reason) = self.run_once(provider).await {
                    warn!(provider = provider.as_str(), reason, "payments could not be compared with the provider's");
                    pause = AGAIN_AFTER;
                }
            }
        }
    }

    async fn run_once(&self, provider: PaymentProvider) -> Result<(), String> {
        let report = self.run(provider, Window::default(), Repair::Strays).await?;
        self.metrics.set(&report, self.clock.now().as_millis());
        for Difference { kind, order_id, payment, detail, repaired, .. } in &report.findings {
            warn!(kind = kind.as_str(), order = %order_id, payment, detail, repaired, "the provider and an order differ");
        }
        let ReconcileReport { payments, differences, repaired, complete, .. } = report;
        info!(provider = provider.as_str(), payments, differences, repaired, complete, "payments compared");
        Ok(())
    }

    /// Compares the payments of a provider in this window with the orders.
    ///
    /// # Errors
    /// In words, if the provider or an order cannot be read.
    pub async fn run(
        &self,
        provider: PaymentProvider,
        window: Window,
        repair: Repair,
    ) -> Result<ReconcileReport, String> {
        let missing = || format!("this server is not configured with {}", provider.as_str());
        let gateway = self.settler.gateways().get(provider).ok_or_else(missing)?;
        let now = self.clock.now();
        let (from, to) = (now.plus_millis(-DAY_MS * i64::from(window.days)), now.plus_millis(-window.min_age_ms));
        let mut report = ReconcileReport::new(provider, from, to);
        let mut after: Option<String> = None;
        for _ in 0..RECONCILE_PAGES_MAX {
            let page = within_call(gateway.list(from, to, after.as_deref())).await.map_err(said)?;
            for payment in &page.payments {
                report.payments += 1;
                if let Some(difference) = self.examine(&**gateway, provider, payment, repair).await? {
                    report.add(difference);
                }
            }
            after = page.next;
            if after.is_none() {
                report.complete = true;
                break;
            }
        }
        Ok(report)
    }

    async fn examine(
        &self,
        gateway: &dyn PaymentGateway,
        provider: PaymentProvider,
        listed: &ListedPayment,
        repair: Repair,
    ) -> Result<Option<Difference>, String> {
        let read = async |order| self.orders.order(order).await.map_err(|failure| failure.to_string());
        let order = read(listed.order).await?;
        if compare(listed, order.as_ref()).is_none() {
            return Ok(None);
        }
        let payment = within_call(gateway.payment(&listed.reference)).await.map_err(said)?;
        let Some(payment) = payment.filter(|payment| payment.order == listed.order) else { return Ok(None) };
        let Some((kind, detail)) = compare(&payment, order.as_ref()) else { return Ok(None) };
        if read(payment.order).await? != order {
            return Ok(None);
        }
        let may_repair = repair.has(kind, order.is_some());
        let repaired = may_repair && self.repair(gateway, provider, kind, (&payment, order.as_ref())).await;
        let ListedPayment { order, attempt, reference, .. } = payment;
        Ok(Some(Difference { kind, order_id: order, attempt, payment: reference, detail, repaired }))
    }

    /// Returns whether it is repaired.
    async fn repair(
        &self,
        gateway: &dyn PaymentGateway,
        provider: PaymentProvider,
        kind: DifferenceKind,
        (payment, order): (&ListedPayment, Option<&OrderView>),
    ) -> bool {
        let ListedPayment { order: id, attempt, reference, .. } = payment;
        let done = match (kind, order) {
            (DifferenceKind::AuthorizedWithoutOrder | DifferenceKind::CapturedWithoutOrder, _) => {
                self.settler.give_back_stray(provider, (*id, *attempt), reference).await.map(|_| ())
            }
            // The name of an order's whole refund is the order: one that the bank has refused is made again.
            (DifferenceKind::RefundMissing, _) => {
                within_call(gateway.give_back(*id, reference, None, &id.to_string())).await
            }
            (DifferenceKind::CaptureMissing, Some(order)) => {
                within_call(gateway.capture(*id, reference, order.total())).await
            }
            _ => return false,
        };
        if let Err(error) = &done {
            warn!(order = %id, payment = reference, %error, "a difference could not be repaired");
        }
        done.is_ok()
    }
}

fn said(error: GatewayError) -> String {
    error.to_string()
}
