//! Records payments of the gateway in the drop, and sends refunds of the drop to the gateway.
//!
//! Every charge runs in a task of its own: a client that disconnects, or a gateway that answers after the time limit,
//! changes nothing about the record. Before the gateway is called, the drop records that a payment is pending, so after
//! a crash [`Settler::resume`] asks the gateway for its outcome. Refunds follow the journal: see [`refunds`].

pub mod refunds;
#[cfg(test)]
mod tests;

use super::failure::ask_failure;
use super::{Code, Failure};
use crate::actors::{Answer, AskError, Backoff, DropHandle};
use crate::domain::{OrderId, OrderView, ReleaseReason, TraceId};
use crate::engine::{Command, Outcome, Rejection};
use crate::payments::gateway::{Charge, GatewayError, PaymentGateway, PaymentStatus};
use dashmap::DashSet;
use futures_util::{StreamExt, stream};
use std::{sync::Arc, time::Duration};
use tokio::sync::oneshot;
use tracing::{error, warn};

/// Pauses between attempts to reach the gateway, or an overloaded drop.
const RETRIES: Backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(5));
/// Attempts to reach an overloaded drop: about a minute in all.
const ASKS_MAX: usize = 20;
/// Time limit of a look-up or a refund: both may be repeated.
const CALL_MAX: Duration = Duration::from_secs(30);
/// The attempt at a payment: an order has one.
const ATTEMPT: u32 = 1;
/// Concurrent calls to the gateway without a waiting client.
const AT_ONCE_MAX: usize = 64;

/// The outcome of a payment for the waiting request.
pub enum Paid {
    /// Decided; the order's state has the result.
    Order(Box<OrderView>),
    /// Another request is charging this order.
    Running,
    /// No answer within the time limit (the task goes on), or no charge was made.
    TimedOut,
}

/// Runs charges and refunds. Cheap to clone.
#[derive(Clone)]
pub struct Settler {
    gateway: Arc<dyn PaymentGateway>,
    charging: Arc<DashSet<OrderId>>,
    time_limit: Duration,
}

impl Settler {
    /// `time_limit`: how long a request waits for the gateway.
    #[must_use]
    pub fn new(gateway: Arc<dyn PaymentGateway>, time_limit: Duration) -> Self {
        Self { gateway, charging: Arc::default(), time_limit }
    }

    /// The exclusive right to charge an order; `None` if it is taken. Taken before the drop records that a payment
    /// begins: in between no other task can end that payment.
    #[must_use]
    pub fn claim(&self, order: OrderId) -> Option<Charging> {
        // Not `then_some`: an unneeded claim would release the other one on drop.
        self.charging.insert(order).then(|| Charging { orders: Arc::clone(&self.charging), order })
    }

    /// Whether this process is charging this order.
    #[must_use]
    pub fn is_charging(&self, order: OrderId) -> bool {
        self.charging.contains(&order)
    }

    /// The number of running charges.
    #[must_use]
    pub fn running(&self) -> usize {
        self.charging.len()
    }

    /// Records in the drop that a payment begins, then charges.
    ///
    /// # Errors
    /// `order_not_reserved` and the like, if the drop refuses.
    pub async fn begin_and_charge(
        &self,
        handle: &Arc<DropHandle>,
        order: &OrderView,
        method: &str,
        trace: TraceId,
    ) -> Result<Paid, Failure> {
        let Some(charging) = self.claim(order.id) else { return Ok(Paid::Running) };
        let begin = Command::BeginPayment { order: order.id, method: method.into() };
        match handle.ask(begin).await.map_err(ask_failure)?.outcome {
            Outcome::Order { .. } => self.charge(charging, handle, order, method, trace).await,
            // It was settled since it was read: return its current state.
            Outcome::Rejected(Rejection::OrderIs(_)) => find(handle, order.id).await.map(Paid::Order),
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
        let (id, amount, buyer) = (order.id, order.total(), order.buyer);
        let charge = Charge { order: id, attempt: ATTEMPT, amount, method: method.to_owned(), buyer };
        let (done, wait) = oneshot::channel();
        let (this, handle) = (self.clone(), Arc::clone(handle));
        tokio::spawn(async move {
            let result = this.charge_and_record(&handle, &charge, trace).await;
            drop(charging);
            // The request was cancelled: the order's state has the result.
            let _ = done.send(result);
        });
        match tokio::time::timeout(self.time_limit, wait).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(ask_failure(AskError::OutcomeUnknown)),
            Err(_) => Ok(Paid::TimedOut),
        }
    }

    async fn charge_and_record(&self, handle: &DropHandle, charge: &Charge, trace: TraceId) -> Result<Paid, Failure> {
        match self.gateway.authorize(charge).await {
            Ok(status) => match self.record_status(handle, charge.order, status, trace).await {
                Some(recorded) => recorded,
                None => self.find_out(handle, charge.order, trace).await,
            },
            Err(gateway) => {
                warn!(order = %charge.order, error = %gateway, "a charge was not answered; asking what became of it");
                self.find_out(handle, charge.order, trace).await
            }
        }
    }

    /// Asks the gateway for the outcome of a charge until it knows.
    async fn find_out(&self, handle: &DropHandle, order: OrderId, trace: TraceId) -> Result<Paid, Failure> {
        let mut retries = RETRIES;
        loop {
            match within_call(self.gateway.look_up(order, ATTEMPT, None)).await {
                Ok(status) => {
                    if let Some(recorded) = self.record_status(handle, order, status, trace).await {
                        return recorded;
                    }
                }
                Err(gateway) => warn!(%order, error = %gateway, "the gateway could not be asked about a charge"),
            }
            retries.pause().await;
        }
    }

    /// Records what the gateway says. `None`: it is not final, ask again.
    async fn record_status(
        &self,
        handle: &DropHandle,
        order: OrderId,
        status: PaymentStatus,
        trace: TraceId,
    ) -> Option<Result<Paid, Failure>> {
        Some(match status {
            PaymentStatus::Captured { reference } => {
                let paid = record(handle, Command::Confirm { order, payment_ref: reference.as_str().into() }).await;
                if paid.as_ref().is_err_and(|failure| failure.code == Code::DropNotFound) {
                    error!(%order, "a payment landed after its drop had left memory; it goes back");
                    self.give_back(order, &reference).await;
                }
                paid
            }
            PaymentStatus::Authorized { reference, .. } => {
                let amount = match find(handle, order).await {
                    Ok(order) => order.total(),
                    Err(failure) => return Some(Err(failure)),
                };
                if let Err(gateway) = within_call(self.gateway.capture(order, &reference, amount)).await {
                    warn!(%order, error = %gateway, "an authorized payment could not be captured yet");
                }
                return None;
            }
            PaymentStatus::RequiresAction { .. } | PaymentStatus::Pending { .. } => return None,
            PaymentStatus::Declined { .. } => {
                record(handle, Command::Release { order, reason: ReleaseReason::PaymentFailed, trace }).await
            }
            // Nothing was charged and nothing will be: the buyer can pay again, or the hold expires.
            PaymentStatus::Cancelled { .. } | PaymentStatus::Unknown => {
                record(handle, Command::EndPayment { order }).await.map(|_| Paid::TimedOut)
            }
        })
    }

    /// Refunds an order and records that in the drop, in one attempt. Returns whether it is settled.
    async fn refund(&self, handle: &DropHandle, order: OrderId, reference: &str) -> bool {
        if let Err(gateway) = within_call(self.gateway.give_back(order, reference, None, &whole(order))).await {
            warn!(%order, error = %gateway, "a refund did not go through; trying again later");
            return false;
        }
        let recorded = record(handle, Command::SettleRefund { order }).await;
        if let Err(failure) = &recorded {
            // The refund is idempotent at the gateway and still due in the drop: it is retried.
            warn!(%order, %failure, "a refund went out and could not be recorded yet");
        }
        recorded.is_ok()
    }

    async fn give_back(&self, order: OrderId, reference: &str) {
        let mut retries = RETRIES;
        let refund = whole(order);
        while let Err(gateway) = within_call(self.gateway.give_back(order, reference, None, &refund)).await {
            warn!(%order, error = %gateway, "a refund did not go through; trying again");
            retries.pause().await;
        }
    }

    /// After recovery: finds the outcome of every payment that had begun.
    pub async fn resume(self, handle: Arc<DropHandle>, pending: Vec<OrderId>) {
        let (this, handle) = (&self, &*handle);
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
    async fn resume_one(&self, handle: &DropHandle, order: OrderId) -> bool {
        // Meanwhile a client's retry gets `payment_in_progress`.
        let Some(_charging) = self.claim(order) else { return true };
        match within_call(self.gateway.look_up(order, ATTEMPT, None)).await {
            Ok(status) => match self.record_status(handle, order, status, TraceId::random()).await {
                Some(Ok(_)) => true,
                Some(Err(failure)) => {
                    warn!(%order, %failure, "what became of a payment could not be recorded yet");
                    true
                }
                None => false,
            },
            Err(gateway) => {
                warn!(%order, error = %gateway, "the gateway could not be asked about a charge");
                false
            }
        }
    }
}

/// The gateway's idempotency reference of an order's whole refund.
fn whole(order: OrderId) -> String {
    order.to_string()
}

/// A repeatable call to the gateway, with a time limit.
async fn within_call<T>(call: impl Future<Output = Result<T, GatewayError>>) -> Result<T, GatewayError> {
    let reason = || format!("no answer in {} s", CALL_MAX.as_secs());
    let late = || GatewayError::Unreachable { reason: reason(), retry_after: None };
    tokio::time::timeout(CALL_MAX, call).await.unwrap_or_else(|_| Err(late()))
}

/// Sends a command until the drop is no longer overloaded: the gateway's answer must be recorded.
async fn record(handle: &DropHandle, command: Command) -> Result<Paid, Failure> {
    let mut retries = RETRIES;
    for _ in 0..ASKS_MAX {
        match handle.ask(command.clone()).await {
            Ok(Answer { outcome: Outcome::Order { order, .. }, .. }) => return Ok(Paid::Order(order)),
            Ok(Answer { outcome: Outcome::Rejected(Rejection::OrderIs(_)), .. }) => {
                return reread(handle, &command).await;
            }
            Ok(_) => return Err(Failure::new(Code::OrderNotFound)),
            Err(AskError::Overloaded | AskError::DiskFull | AskError::TooManyDrops { .. }) => retries.pause().await,
            Err(AskError::Gone) => return Err(Failure::new(Code::DropNotFound)),
            // The gateway's answer is not recorded: the next start asks again.
            Err(AskError::Stopped | AskError::OutcomeUnknown) => return Err(ask_failure(AskError::OutcomeUnknown)),
        }
    }
    Err(ask_failure(AskError::Overloaded))
}

async fn reread(handle: &DropHandle, command: &Command) -> Result<Paid, Failure> {
    let (Command::Confirm { order, .. } | Command::Release { order, .. } | Command::SettleRefund { order }) = command
    else {
        return Err(Failure::new(Code::OrderNotFound));
    };
    find(handle, *order).await.map(Paid::Order)
}

async fn find(handle: &DropHandle, order: OrderId) -> Result<Box<OrderView>, Failure> {
    match handle.ask(Command::Find { order }).await.map_err(ask_failure)?.outcome {
        Outcome::Order { order, .. } => Ok(order),
        _ => Err(Failure::new(Code::OrderNotFound)),
    }
}

/// The exclusive right to charge an order while this lives, see [`Settler::claim`].
pub struct Charging {
    orders: Arc<DashSet<OrderId>>,
    order: OrderId,
}

impl Drop for Charging {
    fn drop(&mut self) {
        self.orders.remove(&self.order);
    }
}
