//! The command `livedrop payments reconcile`: compares the orders in the database with the provider's books.

use super::payments::Payments;
use crate::actors::Clock;
use crate::config::{Config, ServeArgs};
use crate::console::JsonReport;
use crate::domain::limits::{RECONCILE_DAYS, RECONCILE_DAYS_MAX, RECONCILE_REPAIR_MINUTES, RECONCILE_SETTLED_MS};
use crate::domain::{OrderId, OrderView};
use crate::service::Failure;
use crate::service::reconcile::{OrderBooks, ReconcileReport, Reconciler, Repair, Window};
use crate::service::settle::Settler;
use crate::storage::{self, Store};
use async_trait::async_trait;
use std::sync::Arc;

/// The commands about payments.
#[derive(clap::Subcommand)]
pub enum PaymentsTask {
    /// Compare the payments of the last days with the provider's books, beside a running server: exit 0 if they agree, 1 if
    /// differences are left, 2 if they cannot be compared
    Reconcile(Box<ReconcileArgs>),
}

/// The arguments of `livedrop payments reconcile`.
#[derive(clap::Args)]
pub struct ReconcileArgs {
    /// Repair what has one right answer: what no order counts goes back, missing captures and refunds are made. The database
    /// must have caught up with the server
    #[arg(long)]
    repair: bool,
    /// How many days back, 1 to 90
    #[arg(long, value_name = "DAYS", default_value_t = RECONCILE_DAYS, value_parser = clap::value_parser!(u32).range(1..=i64::from(RECONCILE_DAYS_MAX)))]
    days: u32,
    /// Leave out younger payments: they may be under way [default: 15, with --repair 1440]
    #[arg(long, value_name = "MINUTES", value_parser = clap::value_parser!(u32).range(..=100_000))]
    min_age: Option<u32>,
    #[command(flatten)]
    json: JsonReport,
    #[command(flatten)]
    serve: ServeArgs,
}

impl ReconcileArgs {
    /// Where the report goes.
    #[must_use]
    pub fn target(&self) -> &JsonReport {
        &self.json
    }
}

/// The orders that the database has.
struct StoredOrders(Arc<dyn Store>);

#[async_trait]
impl OrderBooks for StoredOrders {
    async fn order(&self, id: OrderId) -> Result<Option<OrderView>, Failure> {
        Ok(self.0.order(id).await?)
    }
}

/// Compares, and repairs if that is asked for.
///
/// # Errors
/// One line, if there is no provider with books, or it or the database cannot be read.
pub async fn reconcile(args: &ReconcileArgs) -> Result<ReconcileReport, String> {
    let config = Config::load(&args.serve).map_err(|error| error.to_string())?;
    let store = storage::connect_existing(config.database_url.expose()).await.map_err(|error| error.to_string())?;
    let report = match super::require_schema(&*store).await {
        Ok(()) => compare(args, &config, &store).await,
        Err(error) => Err(error),
    };
    store.close().await;
    report
}

async fn compare(args: &ReconcileArgs, config: &Config, store: &Arc<dyn Store>) -> Result<ReconcileReport, String> {
    let clock = Clock::default();
    let payments = Payments::open(config, store, &clock).map_err(|error| error.to_string())?;
    let settler = Settler::new(payments.gateways, config.payment_timeout);
    let reconciler = Reconciler::new(settler, Arc::new(StoredOrders(Arc::clone(store))), clock);
    let provider = reconciler.providers().first().copied();
    let provider = provider.ok_or("payments: names no provider that has books, such as stripe")?;
    // What the database does not have yet must not be taken for missing.
    let (repair, usual_ms) = match args.repair {
        true => (Repair::All, i64::from(RECONCILE_REPAIR_MINUTES) * 60_000),
        false => (Repair::Nothing, RECONCILE_SETTLED_MS),
    };
    let min_age_ms = args.min_age.map_or(usual_ms, |minutes| i64::from(minutes) * 60_000);
    reconciler.run(provider, Window { days: args.days, min_age_ms }, repair).await
}
