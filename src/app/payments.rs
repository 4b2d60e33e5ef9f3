//! The payment providers of a server, put together: each real one behind a breaker and a bulkhead.

use super::AppError;
use crate::actors::Clock;
use crate::config::Config;
use crate::http::api::operations::health::{Health, PaymentCheck, PaymentsCheck};
use crate::payments::breaker::{GuardBounds, GuardMetrics, Guarded};
use crate::payments::gateway::{GatewayHealth, PaymentGateway};
use crate::payments::provider::Gateways;
use crate::payments::stripe::Stripe;
use crate::service::webhooks::Webhooks;
use crate::storage::Store;
use std::io;
use std::sync::Arc;
use tracing::{info, warn};

/// The gateways of a server, and what belongs to them.
pub(super) struct Payments {
    pub gateways: Gateways,
    pub metrics: GuardMetrics,
    pub webhooks: Webhooks,
    /// For the webhooks of the account.
    pub stripe: Option<Stripe>,
}

impl Payments {
    /// Opens the configured gateways. Asks nobody yet.
    pub fn open(config: &Config, store: &Arc<dyn Store>, clock: &Clock) -> Result<Self, AppError> {
        info!(payments = %config.payments, "{}", config.payments.meaning());
        let (metrics, mut secrets, mut stripe) = (GuardMetrics::default(), Vec::new(), None);
        if let Some(settings) = &config.stripe {
            if settings.webhook_secrets.is_empty() {
                warn!(
                    "stripe_webhook_secret is not set: no webhooks are taken, and what happens later at Stripe is only found by asking"
                );
            }
            info!(test_mode = settings.key.is_for_tests(), api = settings.api.of(""), "payments by Stripe");
            secrets = settings.webhook_secrets.clone();
            let wall = clock.clone();
            let opened = Stripe::new(settings.clone(), Arc::new(move || wall.now()));
            stripe = Some(opened.map_err(|reason| AppError::io("set up Stripe")(io::Error::other(reason)))?);
        }
        let guarded = stripe.clone().map(|stripe| {
            let steady = clock.clone();
            let clock = Arc::new(move || steady.steady());
            let guarded = Guarded::new(Arc::new(stripe), GuardBounds::default(), clock, metrics.clone());
            Arc::new(guarded) as Arc<dyn PaymentGateway>
        });
        let gateways = config.payments.gateways(guarded);
        let webhooks = Webhooks::new(Arc::clone(store), clock.clone(), secrets);
        Ok(Self { gateways, metrics, webhooks, stripe })
    }
}

/// The state of each provider, for `/readyz`. A provider that is down degrades: free drops and running holds go on.
pub(super) fn check(gateways: &Gateways, clock: &Clock) -> PaymentsCheck {
    let check = |gateway: &Arc<dyn PaymentGateway>| {
        let (status, down_since, retry_at) = match gateway.health() {
            GatewayHealth::Up => (Health::Ready, None, None),
            GatewayHealth::Down { since, retry_at } => {
                (Health::Degraded, Some(clock.wall_at(since)), Some(clock.wall_at(retry_at)))
            }
        };
        PaymentCheck { provider: gateway.name(), status, down_since, retry_at }
    };
    let each: Vec<PaymentCheck> = gateways.all().map(check).collect();
    PaymentsCheck { status: each.iter().map(|one| one.status).max().unwrap_or(Health::Ready), each }
}
