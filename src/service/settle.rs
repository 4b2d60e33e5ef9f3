//! Carries a payment from the gateway into the drop, and a refund from the drop to the gateway.
//!
//! Every charge runs in a task of its own: a client that hangs up, or a gateway that answers after we stopped waiting,
//! changes nothing about what is recorded. Before the gateway is asked, the drop knows that a payment is owed an outcome,
//! so after a crash [`Settler::resume`] asks the gateway what became of it.

use super::drops::ask_failure;
use super::payments::{Charge, ChargeOutcome, PaymentGateway};
use super::{Code, Failure};
use crate::actors::{Answer, AskError, DropHandle};
use crate::domain::{OrderId, OrderView, ReleaseReason, TraceId};
use crate::engine::{Command, Outcome, Rejection};
use dashmap::DashSet;
use std::{sync::Arc, time::Duration};
use tokio::sync::oneshot;
use tracing::{error, warn};

const RETRY_FIRST: Duration = Duration::from_millis(20);
const RETRY_LAST: Duration = Duration::from_secs(5);
/// Asking a drop again while it is overloaded: about a minute in all.
const ASKS_MAX: usize = 20;

/// How a payment ended for the one who waits for it.
pub enum Paid {
    /// Decided; the order says how.
    Order(Box<OrderView>),
    /// Another request is charging this order.
    Running,
    /// No answer within our patience. The task goes on.
    TimedOut,
}

/// See the module. Cheap to clone.
#[derive(Clone)]
pub struct Settler {
    gateway: Arc<dyn PaymentGateway>,
    charging: Arc<DashSet<OrderId>>,
    patience: Duration,
}

impl Settler {
    /// A settler that lets a request wait this long for the gateway.
    #[must_use]
    pub fn new(gateway: Arc<dyn PaymentGateway>, patience: Duration) -> Self {
        Self { gateway, charging: Arc::default(), patience }
    }

    /// Whether a charge of this order runs in this process.
    #[must_use]
    pub fn is_charging(&self, order: OrderId) -> bool {
        self.charging.contains(&order)
    }

    /// How many charges run.
    #[must_use]
    pub fn running(&self) -> usize {
        self.charging.len()
    }

    /// Tells the drop that a payment begins, then charges.
    ///
    /// # Errors
    /// `order_not_reserved` and the like, where the drop says no.
    pub async fn begin_and_charge(
        &self,
        handle: &Arc<DropHandle>,
        order: &OrderView,
        method: &str,
        trace: TraceId,
    ) -> Result<Paid, Failure> {
        let begin = Command::BeginPayment { order: order.id, method: method.into() };
        match handle.ask(begin).await.map_err(ask_failure)?.outcome {
            Outcome::Order { .. } => self.charge(handle, order, method, trace).await,
            // It was settled since we looked: show what it is now.
            Outcome::Rejected(Rejection::OrderIs(_)) => find(handle, order.id).await.map(Paid::Order),
            _ => Err(Failure::new(Code::OrderNotFound)),
        }
    }

    /// Charges an order whose drop already knows that a payment begins.
    ///
    /// # Errors
    /// Where the drop cannot be asked afterwards.
    pub async fn charge(
        &self,
        handle: &Arc<DropHandle>,
        order: &OrderView,
        method: &str,
        trace: TraceId,
    ) -> Result<Paid, Failure> {
        if !self.charging.insert(order.id) {
            return Ok(Paid::Running);
        }
        let charge = Charge { order: order.id, amount: order.total(), method: method.to_owned() };
        let (done, wait) = oneshot::channel();
        let (this, handle) = (self.clone(), Arc::clone(handle));
        tokio::spawn(async move {
            let _charging = Charging { orders: &this.charging, order: charge.order };
            let result = this.charge_and_record(&handle, &charge, trace).await;
            // Nobody waits any more: the order itself tells.
            let _ = done.send(result);
        });
        match tokio::time::timeout(self.patience, wait).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(ask_failure(AskError::OutcomeUnknown)),
            Err(_) => Ok(Paid::TimedOut),
        }
    }

    async fn charge_and_record(&self, handle: &DropHandle, charge: &Charge, trace: TraceId) -> Result<Paid, Failure> {
        match self.gateway.charge(charge).await {
            Ok(ChargeOutcome::Paid(reference)) => self.record_paid(handle, charge.order, &reference).await,
            Ok(ChargeOutcome::Declined | ChargeOutcome::Unknown) => {
                let reason = ReleaseReason::PaymentFailed;
                record(handle, Command::Release { order: charge.order, reason, trace }).await
            }
            Err(gateway) => {
                warn!(order = %charge.order, error = %gateway, "a charge has no outcome; the hold runs out by itself");
                Ok(Paid::TimedOut)
            }
        }
    }

    async fn record_paid(&self, handle: &DropHandle, order: OrderId, reference: &str) -> Result<Paid, Failure> {
        let paid = record(handle, Command::Confirm { order, payment_ref: reference.into() }).await;
        match &paid {
            // Too late, and the units are gone: the drop says that the money has to go back.
            Ok(Paid::Order(view)) if view.refund_due.is_some() => self.refund(handle, order, reference).await,
            Err(failure) if failure.code == Code::DropNotFound => {
                error!(%order, "a payment landed after its drop had left memory; it goes back");
                self.give_back(order, reference).await;
            }
            _ => {}
        }
        paid
    }

    /// Gives money back and tells the drop.
    pub async fn refund(&self, handle: &DropHandle, order: OrderId, reference: &str) {
        self.give_back(order, reference).await;
        if let Err(failure) = record(handle, Command::SettleRefund { order }).await {
            // The refund is idempotent at the gateway and still owed in the journal: the next start settles it.
            warn!(%order, %failure, "a refund went out and could not be recorded yet");
        }
    }

    async fn give_back(&self, order: OrderId, reference: &str) {
        let mut delay = RETRY_FIRST;
        while let Err(gateway) = self.gateway.refund(order, reference).await {
            warn!(%order, error = %gateway, "a refund did not go through; trying again");
            tokio::time::sleep(delay).await;
            delay = (delay * 2).min(RETRY_LAST);
        }
    }

    /// After recovery: asks the gateway about every payment that had begun and settles every refund that is owed.
    pub async fn resume(&self, handle: Arc<DropHandle>, pending: Vec<OrderId>, refunds: Vec<(OrderId, String)>) {
        for order in pending {
            match self.gateway.look_up(order).await {
                Ok(ChargeOutcome::Paid(reference)) => {
                    if let Err(failure) = self.record_paid(&handle, order, &reference).await {
                        warn!(%order, %failure, "a payment found at the gateway could not be recorded yet");
                    }
                }
                Ok(ChargeOutcome::Declined) => {
                    let (reason, trace) = (ReleaseReason::PaymentFailed, TraceId::random());
                    let _ = record(&handle, Command::Release { order, reason, trace }).await;
                }
                // Never charged: the buyer's retry charges, or the hold runs out.
                Ok(ChargeOutcome::Unknown) => {}
                Err(gateway) => warn!(%order, error = %gateway, "the gateway could not be asked about a payment"),
            }
        }
        for (order, reference) in refunds {
            self.refund(&handle, order, &reference).await;
        }
    }
}

/// Asks a drop as long as it is merely busy: what the gateway said must be recorded.
async fn record(handle: &DropHandle, command: Command) -> Result<Paid, Failure> {
    let mut delay = RETRY_FIRST;
    for _ in 0..ASKS_MAX {
        match handle.ask(command.clone()).await {
            Ok(Answer { outcome: Outcome::Order { order, .. }, .. }) => return Ok(Paid::Order(order)),
            Ok(Answer { outcome: Outcome::Rejected(Rejection::OrderIs(_)), .. }) => {
                return reread(handle, &command).await;
            }
            Ok(_) => return Err(Failure::new(Code::OrderNotFound)),
            Err(AskError::Overloaded | AskError::DiskFull) => {
                tokio::time::sleep(delay).await;
                delay = (delay * 2).min(RETRY_LAST);
            }
            Err(AskError::Gone) => return Err(Failure::new(Code::DropNotFound)),
            Err(error @ AskError::OutcomeUnknown) => return Err(ask_failure(error)),
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

/// Marks an order as being charged for as long as it lives.
struct Charging<'a> {
    orders: &'a DashSet<OrderId>,
    order: OrderId,
}

impl Drop for Charging<'_> {
    fn drop(&mut self) {
        self.orders.remove(&self.order);
    }
}
