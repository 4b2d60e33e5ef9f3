//! Webhooks of payment providers: received into a durable inbox at once, worked on behind it.
//!
//! A webhook says that a payment has news, and nothing more is believed: copies and lost ones happen, and they arrive in
//! any order, before or after the API's own answer. The payment's order is given to [`PaymentNews`], which asks the
//! provider what is true. An event that cannot be worked on now is tried again, at growing intervals; one of another kind
//! is kept and done.

use super::clock::Clock;
use super::{Code, Failure};
use crate::domain::limits::{
    WEBHOOK_KEPT_MS, WEBHOOK_PAUSE_MS, WEBHOOK_PAUSE_MS_MAX, WEBHOOKS_AT_ONCE_MAX, WEBHOOKS_READ_MAX,
};
use crate::domain::{OrderId, PaymentIncident, PaymentProvider};
use crate::payments::gateway::GatewayError;
use crate::payments::stripe::secret::StripeSecret;
use crate::payments::stripe::signature;
use crate::payments::stripe::webhook::{Event, Subject, incident};
use crate::payments::stripe::{self, Stripe};
use crate::storage::{IncidentRow, Store, StoreError, WebhookRow};
use async_trait::async_trait;
use futures_util::{StreamExt, stream};
use prometheus::{IntCounterVec, Opts, Registry};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tracing::{debug, warn};

/// How often the inbox is read without a signal: events that are due again have none.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often old events are forgotten.
const FORGET_EVERY: Duration = Duration::from_secs(3_600);
/// The pause between two deletions.
const FORGET_PAUSE: Duration = Duration::from_millis(100);

/// Something may have happened to a payment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct News {
    pub provider: PaymentProvider,
    pub order: OrderId,
    /// From 1: which attempt to pay the order.
    pub attempt: u32,
    /// The provider's reference of the payment, if the news name it.
    pub reference: Option<String>,
}

/// What hears of payments: asks the provider what is true of an order's payments, and records it.
#[async_trait]
pub trait PaymentNews: Send + Sync + 'static {
    /// Brings an order's payment up to date; one that the order does not count goes back. Nothing for an order that is not
    /// known: several servers may share an account. Repeated calls change nothing.
    ///
    /// # Errors
    /// If it is not known to be up to date: the news come again.
    async fn payment_news(&self, news: &News) -> Result<(), Failure>;
}

/// Finds the order of a payment by the provider's reference.
#[async_trait]
pub trait OrderOfPayment: Send + Sync + 'static {
    /// The order and the attempt; `None` if it is no payment of ours.
    ///
    /// # Errors
    /// If the provider cannot be asked.
    async fn order_of(&self, reference: &str) -> Result<Option<(OrderId, u32)>, GatewayError>;
}

#[async_trait]
impl OrderOfPayment for Stripe {
    async fn order_of(&self, reference: &str) -> Result<Option<(OrderId, u32)>, GatewayError> {
        Stripe::order_of(self, reference).await
    }
}

/// The webhooks of a server. Cheap to clone.
#[derive(Clone)]
pub struct Webhooks(Arc<Inner>);

struct Inner {
    store: Arc<dyn Store>,
    clock: Clock,
    /// Empty where no webhooks are taken.
    secrets: Vec<StripeSecret>,
    /// Signalled when an event was kept.
    kept: Notify,
    received: IntCounterVec,
    incidents: IntCounterVec,
}

impl Webhooks {
    /// An inbox for events that are signed with one of these secrets; without one none is taken.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, clock: Clock, secrets: Vec<StripeSecret>) -> Self {
        let help = "Webhooks of payment providers, by what became of them: kept, repeated (a copy), refused (the signature), worked \
                    (done), later (tried again).";
        let received = IntCounterVec::new(Opts::new("livedrop_webhooks_total", help), &["provider", "result"]);
        let received = received.expect("a valid name");
        for result in ["kept", "repeated", "refused", "worked", "later"] {
            received.with_label_values(&[stripe::NAME, result]);
        }
        let help = "Refunds that banks have refused, and disputes, as payment providers tell of them.";
        let opts = Opts::new("livedrop_payment_incidents_total", help);
        let incidents = IntCounterVec::new(opts, &["provider", "kind"]).expect("a valid name");
        for kind in PaymentIncident::ALL {
            incidents.with_label_values(&[stripe::NAME, kind.as_str()]);
        }
        Self(Arc::new(Inner { store, clock, secrets, kept: Notify::new(), received, incidents }))
    }

    /// Adds the counters to a registry.
    ///
    /// # Errors
    /// If the names are taken there.
    pub fn register_metrics(&self, registry: &Registry) -> prometheus::Result<()> {
        registry.register(Box::new(self.0.received.clone()))?;
        registry.register(Box::new(self.0.incidents.clone()))
    }

    fn count(&self, result: &str) {
        self.0.received.with_label_values(&[stripe::NAME, result]).inc();
    }

    /// Receives a webhook of Stripe's. It is in the inbox, durably, when this returns.
    ///
    /// # Errors
    /// `validation_failed` for a signature that is not Stripe's, a wrong time, or a body that is no event;
    /// `database_unavailable`: Stripe sends it again.
    pub async fn receive(&self, signature: &str, body: &[u8]) -> Result<(), Failure> {
        let Inner { store, clock, secrets, .. } = &*self.0;
        let now = clock.now();
        let event = signature::verify(signature, body, secrets, now).map_err(|error| error.to_string());
        let event = event.and_then(|()| Event::parse(body)).map_err(|reason| {
            self.count("refused");
            debug!(%reason, "a webhook was refused");
            Failure::with(Code::ValidationFailed, reason)
        })?;
        let Event { id, kind, reference, attempt } = event;
        let (order, attempt) = attempt.unzip();
        let provider = stripe::NAME.to_owned();
        let row = WebhookRow { provider, id, kind, reference, order, attempt, received_at: now, tries: 0 };
        let new = store.keep_webhook(&row).await?;
        self.count(if new { "kept" } else { "repeated" });
        if new {
            self.0.kept.notify_one();
        }
        Ok(())
    }

    /// Works on the inbox. Never ends.
    pub async fn work(self, news: Arc<dyn PaymentNews>, orders: Arc<dyn OrderOfPayment>) {
        let mut forget = tokio::time::interval(FORGET_EVERY);
        loop {
            tokio::select! {
                () = self.0.kept.notified() => {}
                () = tokio::time::sleep(LOOK_EVERY) => {}
                _ = forget.tick() => self.forget().await,
            }
            if let Err(error) = self.pass(&*news, &*orders).await {
                debug!(%error, "the inbox of webhooks waits for the database");
            }
        }
    }

    /// Works on every event that is due, several at once. Returns how many were done.
    ///
    /// # Errors
    /// Of the database. What is done and not recorded is done again.
    pub async fn pass(&self, news: &dyn PaymentNews, orders: &dyn OrderOfPayment) -> Result<usize, StoreError> {
        let mut done = 0;
        loop {
            let due = self.0.store.webhooks_due(self.0.clock.now(), WEBHOOKS_READ_MAX).await?;
            let last = due.len() < WEBHOOKS_READ_MAX as usize;
            let working = due.into_iter().map(|event| self.work_on(event, news, orders));
            let worked: Vec<Result<bool, StoreError>> =
                stream::iter(working).buffer_unordered(WEBHOOKS_AT_ONCE_MAX).collect().await;
            for result in worked {
                done += usize::from(result?);
            }
            if last {
                return Ok(done);
            }
        }
    }

    /// Works on one event; returns whether it is done.
    async fn work_on(
        &self,
        event: WebhookRow,
        news: &dyn PaymentNews,
        orders: &dyn OrderOfPayment,
    ) -> Result<bool, StoreError> {
        let Inner { store, clock, .. } = &*self.0;
        match learn(&event, &**store, news, orders).await {
            Ok(()) => {
                self.count("worked");
                if let Some(kind) = incident(&event.kind) {
                    self.0.incidents.with_label_values(&[&event.provider, kind.as_str()]).inc();
                }
                store.webhook_is_done(&event, clock.now()).await?;
                Ok(true)
            }
            Err(reason) => {
                self.count("later");
                let next_at = clock.now().plus_millis(pause_ms(event.tries));
                debug!(id = %event.id, kind = %event.kind, %reason, %next_at, "a webhook is worked on later");
                store.webhook_is_later(&event, next_at).await?;
                Ok(false)
            }
        }
    }

    async fn forget(&self) {
        let before = self.0.clock.now().plus_millis(-WEBHOOK_KEPT_MS);
        loop {
            match self.0.store.forget_webhooks(before).await {
                Ok(true) => tokio::time::sleep(FORGET_PAUSE).await,
                Ok(false) => return,
                Err(error) => {
                    debug!(%error, "old webhooks stay until the next round");
                    return;
                }
            }
        }
    }
}

/// Brings the order of an event up to date, and keeps what its seller has to know. An event without an order of ours is
/// done.
async fn learn(
    event: &WebhookRow,
    store: &dyn Store,
    news: &dyn PaymentNews,
    orders: &dyn OrderOfPayment,
) -> Result<(), String> {
    let subject = Subject::of(&event.kind);
    if subject == Subject::Other {
        return Ok(());
    }
    let known = match (event.order.zip(event.attempt), &event.reference) {
        (Some(known), _) => Some(known),
        (None, Some(reference)) => orders.order_of(reference).await.map_err(|error| error.to_string())?,
        (None, None) => None,
    };
    let (Some((order, attempt)), Some(provider)) = (known, PaymentProvider::parse(&event.provider)) else {
        return Ok(());
    };
    if let Some(kind) = incident(&event.kind) {
        warn!(%order, incident = kind.as_str(), "a payment has an incident: see to it in the provider's dashboard");
        let WebhookRow { provider, id, received_at, .. } = event;
        let row = IncidentRow { order, provider: provider.clone(), id: id.clone(), kind, at: *received_at };
        store.keep_incident(&row).await.map_err(|error| error.to_string())?;
    }
    let about = News { provider, order, attempt, reference: event.reference.clone() };
    news.payment_news(&about).await.map_err(|failure| failure.to_string())
}

/// The pause before the next try: doubled each time up to a bound. Not random: events come at their own times.
fn pause_ms(tries: u32) -> i64 {
    WEBHOOK_PAUSE_MS.saturating_mul(1_i64.checked_shl(tries.min(32)).unwrap_or(i64::MAX)).min(WEBHOOK_PAUSE_MS_MAX)
}

#[cfg(test)]
mod tests;
