//! Asks the payment gateways for what orders need, and records their answers in the drops.
//!
//! Every payment runs in a task of its own: a client that disconnects, or a gateway that answers after the time limit,
//! changes nothing about the record. Before a gateway is called, the drop records that an attempt is pending, so after a
//! crash [`Settler::resume`] asks what became of it. Whatever brings news of an attempt, the gateway's own answer, a
//! webhook or the passing of time, ends in one question to the gateway and one place that records its answer
//! (`Settler::record_status`): so their order does not matter.
//!
//! Captures and refunds follow the journal: see [`relay`]. A payment that its order does not count goes back: see
//! [`Settler::give_back_stray`].

mod active;
mod calls;
mod captures;
mod deadlines;
pub mod relay;
mod stray;
#[cfg(test)]
mod tests;

pub use active::{Action, Charging};

use super::failure::ask_failure;
use super::{Code, Failure};
use crate::actors::{Answer, AskError, Backoff, DropHandle};
use crate::domain::limits::PAYMENT_ATTEMPTS_MAX;
use crate::domain::{
    DeclineReason, OrderId, OrderStatus, OrderView, PaymentEnd, PaymentMethod, PaymentProvider, ReleaseReason, TraceId,
};
use crate::engine::{Command, Outcome, Rejection};
use crate::payments::gateway::{Charge, GatewayError, PaymentGateway, PaymentStatus};
use crate::payments::provider::Gateways;
use active::Active;
pub(super) use calls::within_call;
use calls::{RETRIES, find, record};
use deadlines::Deadlines;
use futures_util::{StreamExt, stream};
use std::{sync::Arc, time::Duration};
use tokio::sync::oneshot;
use tracing::{error, warn};

/// Pauses between questions about an attempt that waits for its buyer or its bank: news come by webhook as well.
const WAITS: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));
/// Concurrent calls to the gateway without a waiting client.
const AT_ONCE_MAX: usize = 64;
/// Seconds after which a client may try again where the gateway named no time.
const RETRY_AFTER_DEFAULT_S: u32 = 30;

/// The outcome of a payment for the waiting request.
pub enum Paid {
    /// Decided; the order's state has the result.
    Order(Box<OrderView>),
    /// Another request is charging this order.
    Running,
    /// No answer within the time limit (the task goes on), or no charge was made.
    TimedOut,
    /// The buyer has to act; the task goes on.
    Action(Box<Action>),
    /// Declined, and the hold stands.
    Declined(DeclineReason),
    /// The provider cannot be asked: no charge was made. May be tried again after this many seconds.
    Unavailable(u32),
}

/// Whole seconds, at least one.
fn seconds(wait: Duration) -> u32 {
    u32::try_from(wait.as_millis().div_ceil(1_000)).unwrap_or(u32::MAX).max(1)
}

/// An attempt without an outcome.
#[derive(Clone, Copy)]
struct Attempt {
    order: OrderId,
    number: u32,
    provider: PaymentProvider,
    trace: TraceId,
}

impl Attempt {
    fn of(order: &OrderView, trace: TraceId) -> Self {
        let provider = order.payment.provider.unwrap_or(PaymentProvider::Sandbox);
        Self { order: order.id, number: order.attempt(), provider, trace }
    }
}

/// What was recorded of an attempt.
enum Recorded {
    /// Its outcome.
    Done(Result<Paid, Failure>),
    /// It has none yet.
    Waits(Paid),
}

/// Runs payments, captures and refunds. Cheap to clone.
#[derive(Clone)]
pub struct Settler {
    gateways: Gateways,
    active: Active,
    captures: Deadlines,
    time_limit: Duration,
}

impl Settler {
    /// `time_limit`: how long a request waits for the gateway.
    #[must_use]
    pub fn new(gateways: Gateways, time_limit: Duration) -> Self {
        Self { gateways, active: Active::default(), captures: Deadlines::default(), time_limit }
    }

    /// Adds the metrics of captures to a registry.
    ///
    /// # Errors
    /// If their names are taken there.
    pub fn register_metrics(&self, registry: &prometheus::Registry) -> prometheus::Result<()> {
        self.captures.register(registry)
    }

    /// The gateways by provider.
    #[must_use]
    pub fn gateways(&self) -> &Gateways {
        &self.gateways
    }

    /// A method with its provider, if that may be asked now: an order with it begins with its first attempt.
    #[must_use]
    pub fn payable(&self, method: &str) -> Option<PaymentMethod> {
        self.gateways.method(method).filter(|method| self.gateways.unavailable_for(method.provider).is_none())
    }

    /// The exclusive right to charge an order; `None` if it is taken. Taken before the drop records that a payment
    /// begins: in between no other task can end that payment.
    #[must_use]
    pub fn claim(&self, order: OrderId) -> Option<Charging> {
        self.active.claim(order)
    }

    /// Whether this process is asking a gateway about this order at this moment.
    #[must_use]
    pub fn is_charging(&self, order: OrderId) -> bool {
        self.active.is_asking(order)
    }

    /// The number of running calls for payments.
    #[must_use]
    pub fn running(&self) -> usize {
        self.active.asking()
    }

    /// What the buyer of an order has to do before its payment goes on, as far as this process knows.
    #[must_use]
    pub fn action(&self, order: OrderId) -> Option<Action> {
        self.active.action(order)
    }

    /// Something may have happened to an order's payment: its gateway is asked.
    pub fn news(&self, handle: &Arc<DropHandle>, order: &OrderView) {
        if self.active.news(order.id) || order.payment_pending.is_none() {
            return;
        }
        let Some(charging) = self.claim(order.id) else { return };
        let (this, handle, attempt) = (self.clone(), Arc::clone(handle), Attempt::of(order, TraceId::random()));
        tokio::spawn(async move {
            if let Recorded::Waits(_) = this.find_out(&handle, attempt, &charging).await {
                this.follow(&handle, attempt, &charging).await;
            }
        });
    }

    /// Records in the drop that a payment begins, then charges. Nothing is recorded while the provider is known to be down.
    ///
    /// # Errors
    /// `order_not_reserved` and the like, if the drop refuses.
    pub async fn begin_and_charge(
        &self,
        handle: &Arc<DropHandle>,
        order: OrderId,
        method: PaymentMethod,
        trace: TraceId,
    ) -> Result<Paid, Failure> {
        let Some(charging) = self.claim(order) else {
            self.active.news(order);
            return Ok(self.action(order).map_or(Paid::Running, |action| Paid::Action(Box::new(action))));
        };
        // An attempt that would certainly not be made is not recorded, and does not count.
        if let Some(wait) = self.gateways.unavailable_for(method.provider) {
            return Ok(Paid::Unavailable(seconds(wait)));
        }
        let name = method.name.to_string();
        match handle.ask(Command::BeginPayment { order, method }).await.map_err(ask_failure)?.outcome {
            Outcome::Order { order, replayed: false } => self.charge(charging, handle, &order, &name, trace).await,
            // An attempt from before a restart, for instance: first of all, what became of it.
            Outcome::Order { order, replayed: true } => self.run(charging, handle, &order, None, trace).await,
            // It was settled since it was read: return its current state.
            Outcome::Rejected(Rejection::OrderIs(_)) => find(handle, order).await.map(Paid::Order),
            Outcome::Rejected(Rejection::TooManyAttempts) => {
                let detail = format!("order {order} was tried to be paid {PAYMENT_ATTEMPTS_MAX} times");
                Err(Failure::with(Code::PaymentDeclined, detail))
            }
            _ => Err(Failure::new(Code::OrderNotFound)),
        }
    }

    /// Charges an order whose drop has already recorded that a payment begins.
    ///
    /// # Errors
    /// If the drop cannot be reached afterwards.
    pub async fn charge(
        &self,
        charging: Charging,
        handle: &Arc<DropHandle>,
        order: &OrderView,
        method: &str,
        trace: TraceId,
    ) -> Result<Paid, Failure> {
        let (attempt, amount, buyer) = (order.attempt(), order.total(), order.buyer);
        let charge = Charge { order: order.id, attempt, amount, method: method.to_owned(), buyer };
        self.run(charging, handle, order, Some(charge), trace).await
    }

    /// Runs an attempt in a task of its own: `charge` is asked for, or else what became of it.
    async fn run(
        &self,
        charging: Charging,
        handle: &Arc<DropHandle>,
        order: &OrderView,
        charge: Option<Charge>,
        trace: TraceId,
    ) -> Result<Paid, Failure> {
        let (done, wait) = oneshot::channel();
        let (this, handle, attempt) = (self.clone(), Arc::clone(handle), Attempt::of(order, trace));
        tokio::spawn(async move {
            let recorded = match &charge {
                Some(charge) => this.authorize(&handle, attempt, charge, &charging).await,
                None => this.find_out(&handle, attempt, &charging).await,
            };
            // If the request was cancelled, the order's state has the result.
            match recorded {
                Recorded::Done(result) => {
                    drop(charging);
                    let _ = done.send(result);
                }
                Recorded::Waits(paid) => {
                    let _ = done.send(Ok(paid));
                    this.follow(&handle, attempt, &charging).await;
                }
            }
        });
        match tokio::time::timeout(self.time_limit, wait).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(ask_failure(AskError::OutcomeUnknown)),
            Err(_) => Ok(Paid::TimedOut),
        }
    }

    async fn authorize(&self, handle: &DropHandle, attempt: Attempt, charge: &Charge, charging: &Charging) -> Recorded {
        let order = attempt.order;
        let asked = match self.gateway(attempt.provider) {
            Ok(gateway) => gateway.authorize(charge).await,
            Err(missing) => Err(missing),
        };
        match asked {
            Ok(status) => self.record_status(handle, attempt, status, charging).await,
            // The first question of this attempt was not asked: there is nothing to look up.
            Err(GatewayError::Refused { reason, retry_after }) => {
                if retry_after.is_none() {
                    error!(%order, reason, "the payment gateway cannot do what was asked; no repetition helps");
                }
                let after_s = retry_after.map_or(RETRY_AFTER_DEFAULT_S, seconds);
                let ended = self.end(handle, attempt, PaymentEnd::NotMade).await;
                Recorded::Done(ended.map(|_| Paid::Unavailable(after_s)))
            }
            Err(gateway) => {
                warn!(%order, error = %gateway, "a charge was not answered; asking what became of it");
                self.find_out(handle, attempt, charging).await
            }
        }
    }

    /// Asks the gateway about an attempt until it answers.
    async fn find_out(&self, handle: &DropHandle, attempt: Attempt, charging: &Charging) -> Recorded {
        let mut retries = RETRIES;
        loop {
            match self.look_up(handle, attempt).await {
                Ok(status) => return self.record_status(handle, attempt, status, charging).await,
                Err(gateway) => {
                    warn!(order = %attempt.order, error = %gateway, "the gateway could not be asked about a charge");
                }
            }
            retries.pause().await;
        }
    }

    /// Follows an attempt that waits, until it has an outcome.
    async fn follow(&self, handle: &DropHandle, attempt: Attempt, charging: &Charging) {
        let mut pauses = WAITS;
        loop {
            let news = charging.wait();
            tokio::select! {
                () = news.notified() => pauses.reset(),
                () = pauses.pause() => {}
            }
            charging.ask();
            if let Recorded::Done(result) = self.find_out(handle, attempt, charging).await {
                if let Err(failure) = result {
                    warn!(order = %attempt.order, %failure, "what became of a payment could not be recorded yet");
                }
                return;
            }
        }
    }

    async fn look_up(&self, handle: &DropHandle, attempt: Attempt) -> Result<PaymentStatus, GatewayError> {
        let gateway = self.gateway(attempt.provider)?;
        let known = match handle.ask(Command::Find { order: attempt.order }).await {
            Ok(Answer { outcome: Outcome::Order { order, .. }, .. }) => Some(order),
            Ok(_) | Err(AskError::Gone) => None,
            // Without the reference the provider could find less than there is.
            Err(error) => return Err(GatewayError::NotYet { reason: error.to_string() }),
        };
        let known = known.filter(|order| order.payment_pending.is_some() && order.attempt() == attempt.number);
        let reference = known.and_then(|order| order.payment_ref);
        within_call(gateway.look_up(attempt.order, attempt.number, reference.as_deref())).await
    }

    fn gateway(&self, provider: PaymentProvider) -> Result<&Arc<dyn PaymentGateway>, GatewayError> {
        self.gateways.get(provider).ok_or_else(|| GatewayError::Refused {
            reason: format!("this server is not configured with {}", provider.as_str()),
            retry_after: None,
        })
    }

    /// Records what the gateway says of an attempt: the one place for all its answers.
    async fn record_status(
        &self,
        handle: &DropHandle,
        attempt: Attempt,
        status: PaymentStatus,
        charging: &Charging,
    ) -> Recorded {
        let order = attempt.order;
        charging.set_action(None);
        Recorded::Done(match status {
            PaymentStatus::Captured { reference } => {
                let payment_ref = reference.as_str().into();
                self.record_paid(handle, attempt, Command::Confirm { order, payment_ref }, &reference).await
            }
            PaymentStatus::Authorized { reference, .. } => {
                let payment_ref = reference.as_str().into();
                self.record_paid(handle, attempt, Command::Authorize { order, payment_ref }, &reference).await
            }
            PaymentStatus::RequiresAction { reference, client_secret, url } => {
                let action = Action { client_secret, url };
                return self.record_waiting(handle, attempt, (reference, Some(action)), charging).await;
            }
            PaymentStatus::Pending { reference } => {
                return self.record_waiting(handle, attempt, (reference, None), charging).await;
            }
            PaymentStatus::Declined { reason, .. } => self.decline(handle, attempt, reason).await,
            PaymentStatus::Cancelled { .. } => self.end(handle, attempt, PaymentEnd::Cancelled).await,
            // Nothing was charged and nothing will be: the buyer can pay again, or the hold expires.
            PaymentStatus::Unknown => self.end(handle, attempt, PaymentEnd::NotMade).await,
        })
    }

    async fn record_paid(
        &self,
        handle: &DropHandle,
        attempt: Attempt,
        command: Command,
        reference: &str,
    ) -> Result<Paid, Failure> {
        let order = attempt.order;
        let paid = record(handle, command).await;
        match &paid {
            Err(failure) if failure.code == Code::DropNotFound => {
                error!(%order, "a payment landed after its drop had left memory; it goes back");
                self.give_back(attempt, reference).await;
            }
            // The order was paid by another attempt.
            Ok(view) if view.payment_ref.as_deref().is_some_and(|known| known != reference) => {
                error!(%order, attempt = attempt.number, "an order was paid twice; the second payment goes back");
                self.give_back(attempt, reference).await;
            }
            _ => {}
        }
        paid.map(Paid::Order)
    }

    async fn record_waiting(
        &self,
        handle: &DropHandle,
        attempt: Attempt,
        (reference, action): (String, Option<Action>),
        charging: &Charging,
    ) -> Recorded {
        let Attempt { order, number, .. } = attempt;
        let waits = Command::AwaitPayment {
            order,
            attempt: number,
            reference: reference.as_str().into(),
            action: action.is_some(),
        };
        match record(handle, waits).await {
            Ok(view) if view.status == OrderStatus::Reserved => {
                charging.set_action(action.clone());
                Recorded::Waits(action.map_or(Paid::TimedOut, |action| Paid::Action(Box::new(action))))
            }
            // The hold is lost: what the buyer may still authorize is cancelled first, so that nobody is charged.
            Ok(_) => {
                if let Err(gateway) = self.cancel(attempt, &reference).await {
                    warn!(%order, error = %gateway, "a payment whose hold is lost could not be cancelled yet");
                }
                Recorded::Waits(Paid::TimedOut)
            }
            Err(failure) if failure.code == Code::DropNotFound => {
                self.give_back(attempt, &reference).await;
                Recorded::Done(Err(failure))
            }
            Err(failure) => Recorded::Done(Err(failure)),
        }
    }

    async fn decline(&self, handle: &DropHandle, attempt: Attempt, reason: DeclineReason) -> Result<Paid, Failure> {
        let release =
            Command::Release { order: attempt.order, reason: ReleaseReason::PaymentFailed, trace: attempt.trace };
        if attempt.provider.releases_declined() {
            return record(handle, release).await.map(Paid::Order);
        }
        self.end(handle, attempt, PaymentEnd::Declined(reason)).await?;
        if attempt.number < PAYMENT_ATTEMPTS_MAX {
            return Ok(Paid::Declined(reason));
        }
        record(handle, release).await.map(Paid::Order)
    }

    async fn end(&self, handle: &DropHandle, attempt: Attempt, end: PaymentEnd) -> Result<Paid, Failure> {
        let command = Command::EndPayment { order: attempt.order, attempt: attempt.number, end };
        record(handle, command).await.map(|_| Paid::TimedOut)
    }

    /// Cancels an authorization, or refunds what was captured meanwhile, once.
    async fn cancel(&self, attempt: Attempt, reference: &str) -> Result<(), GatewayError> {
        let name = format!("{}-{}", attempt.order, attempt.number);
        let gateway = self.gateway(attempt.provider)?;
        within_call(gateway.give_back(attempt.order, reference, None, &name)).await
    }

    async fn give_back(&self, attempt: Attempt, reference: &str) {
        let mut retries = RETRIES;
        while let Err(gateway) = self.cancel(attempt, reference).await {
            warn!(order = %attempt.order, error = %gateway, "a refund did not go through; trying again");
            retries.pause().await;
        }
    }

    /// Refunds an order and records that in the drop, in one attempt. Returns whether it is settled.
    async fn refund(&self, handle: &DropHandle, due: &OrderView) -> bool {
        let (order, attempt) = (due.id, Attempt::of(due, TraceId::default()));
        let reference = due.payment_ref.as_deref().unwrap_or_default();
        let asked = match self.gateway(attempt.provider) {
            // The gateway's reference of an order's whole refund is the order.
            Ok(gateway) => within_call(gateway.give_back(order, reference, None, &order.to_string())).await,
            Err(missing) => Err(missing),
        };
        if let Err(gateway) = asked {
            warn!(%order, error = %gateway, "a refund did not go through; trying again later");
            return false;
        }
        let recorded = record(handle, Command::SettleRefund { order }).await;
        if let Err(failure) = &recorded {
            // The refund is idempotent at the gateway and still due in the drop: it is retried.
            warn!(%order, %failure, "a refund went out and could not be recorded yet");
        }
        // An order that goes back has no capture that could come too late.
        self.captures.forget(order);
        recorded.is_ok()
    }

    /// After recovery: finds the outcome of every payment that had begun.
    pub async fn resume(self, handle: Arc<DropHandle>, pending: Vec<OrderId>) {
        let (this, handle) = (&self, &handle);
        // One attempt each, in turn: an order without an answer from the gateway delays no other.
        let (mut open, mut retries) = (pending, RETRIES);
        loop {
            let tried = stream::iter(open).map(|order| async move { (order, this.resume_one(handle, order).await) });
            open = tried
                .buffer_unordered(AT_ONCE_MAX)
                .filter_map(|(order, done)| async move { (!done).then_some(order) })
                .collect()
                .await;
            if open.is_empty() {
                return;
            }
            retries.pause().await;
        }
    }

    /// Asks once for an order's payment. Returns whether its outcome is known, or another task is finding it.
    async fn resume_one(&self, handle: &Arc<DropHandle>, order: OrderId) -> bool {
        // Meanwhile a client's retry gets `payment_in_progress`.
        let Some(charging) = self.claim(order) else { return true };
        let view = match find(handle, order).await {
            Ok(view) => view,
            Err(failure) => return failure.code == Code::OrderNotFound,
        };
        if view.payment_pending.is_none() {
            return true;
        }
        let attempt = Attempt::of(&view, TraceId::random());
        match self.look_up(handle, attempt).await {
            Ok(status) => {
                match self.record_status(handle, attempt, status, &charging).await {
                    Recorded::Done(Ok(_)) => {}
                    Recorded::Done(Err(failure)) => {
                        warn!(%order, %failure, "what became of a payment could not be recorded yet");
                    }
                    Recorded::Waits(_) => {
                        let (this, handle) = (self.clone(), Arc::clone(handle));
                        tokio::spawn(async move { this.follow(&handle, attempt, &charging).await });
                    }
                }
                true
            }
            Err(gateway) => {
                warn!(%order, error = %gateway, "the gateway could not be asked about a charge");
                false
            }
        }
    }
}
