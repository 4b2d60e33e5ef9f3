//! The payments of an order: a status and a history of their own.

use super::lists::LISTING_PATIENCE;
use super::{Orders, locate};
use crate::actors::DropHandle;
use crate::domain::{OrderId, OrderView, PaymentProvider, PaymentStep, Timestamp, UserId};
use crate::service::reconcile::OrderBooks;
use crate::service::settle::Action;
use crate::service::webhooks::{News, PaymentNews};
use crate::service::{Code, Failure};
use crate::storage::PaymentNote;
use async_trait::async_trait;
use std::sync::Arc;

/// All attempts to pay an order, oldest first, and the order.
#[derive(Clone, Debug)]
pub struct PaymentHistory {
    pub order: OrderView,
    pub payments: Vec<PaymentView>,
    /// What the buyer has to do before the pending payment goes on.
    pub action: Option<Action>,
}

/// One attempt to pay an order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PaymentView {
    /// From 1.
    pub attempt: u32,
    pub provider: PaymentProvider,
    pub status: PaymentStep,
    /// The provider's reference, once it is known.
    pub reference: Option<String>,
    pub decline_reason: Option<String>,
    /// Oldest first.
    pub steps: Vec<(PaymentStep, Timestamp)>,
}

impl Orders {
    /// The payments of one of the buyer's own orders.
    ///
    /// # Errors
    /// `order_not_found`, also for orders of others; `database_unavailable` if the database lacks some of the history.
    pub async fn payments(&self, buyer: UserId, id: OrderId) -> Result<PaymentHistory, Failure> {
        let (handle, order) = self.find(buyer, id).await?;
        if order.is_test() || order.payment.provider.is_none() {
            let payments = of_play_money(&order).into_iter().collect();
            return Ok(PaymentHistory { payments, action: self.settler.action(id), order });
        }
        if let Some(handle) = handle
            && !self.projection.reached(handle.cell.position(), LISTING_PATIENCE).await
        {
            return Err(Failure::retry(Code::DatabaseUnavailable, 2));
        }
        let payments = of_steps(self.store.payment_notes(id).await?);
        Ok(PaymentHistory { payments, action: self.settler.action(id), order })
    }
}

impl Orders {
    /// An order of any buyer and, if its drop is in memory, the drop; `None` if there is no such order.
    async fn known(&self, id: OrderId) -> Result<Option<(Option<Arc<DropHandle>>, OrderView)>, Failure> {
        match locate(&self.registry, &*self.store, &self.projection, id).await {
            Ok(found) => Ok(Some(found)),
            Err(failure) if failure.code == Code::OrderNotFound => Ok(None),
            Err(failure) => Err(failure),
        }
    }
}

#[async_trait]
impl OrderBooks for Orders {
    async fn order(&self, id: OrderId) -> Result<Option<OrderView>, Failure> {
        Ok(self.known(id).await?.map(|(_, order)| order))
    }
}

#[async_trait]
impl PaymentNews for Orders {
    /// Asks the provider what became of a pending attempt, in a task of its own: that attempt is in the journal, so a crash
    /// forgets no news. A payment that is neither pending nor the one that counts goes back before this returns.
    async fn payment_news(&self, news: &News) -> Result<(), Failure> {
        let Some((handle, order)) = self.known(news.order).await? else { return Ok(()) };
        if order.payment_pending.is_some() && order.attempt() == news.attempt {
            if let Some(handle) = handle {
                self.settler.news(&handle, &order);
            }
            return Ok(());
        }
        let Some(reference) = news.reference.as_deref() else { return Ok(()) };
        if order.payment_ref.as_deref() == Some(reference) {
            return Ok(());
        }
        let gone = self.settler.give_back_stray(news.provider, (order.id, news.attempt), reference).await;
        gone.map(|_| ()).map_err(|gateway| Failure::with(Code::PaymentUnavailable, gateway.to_string()))
    }
}

fn of_steps(notes: Vec<PaymentNote>) -> Vec<PaymentView> {
    let mut payments: Vec<PaymentView> = Vec::new();
    for note in notes {
        if payments.last().is_none_or(|last| last.attempt != note.attempt) {
            payments.push(PaymentView {
                attempt: note.attempt,
                provider: note.provider,
                status: note.step,
                reference: None,
                decline_reason: None,
                steps: Vec::new(),
            });
        }
        if let Some(payment) = payments.last_mut() {
            payment.status = note.step;
            payment.steps.push((note.step, note.at));
            payment.reference = note.reference.or(payment.reference.take());
            if note.step == PaymentStep::Declined {
                payment.decline_reason = note.detail;
            }
        }
    }
    payments
}

/// Play money leaves no history of its own: the order says what there is to say.
fn of_play_money(order: &OrderView) -> Option<PaymentView> {
    let provider = order.payment.provider?;
    let mut steps = Vec::new();
    match (order.confirmed_at, order.payment_ref.as_ref(), order.payment_pending.as_ref()) {
        (Some(at), Some(_), _) => steps.push((PaymentStep::Captured, at)),
        (None, _, Some(_)) => steps.push((PaymentStep::Pending, order.created_at)),
        // A late payment is owed back, or went back; anything else was declined or never made.
        (None, Some(_), None) => steps.push((PaymentStep::Captured, order.released_at.unwrap_or(order.expires_at))),
        _ if order.failed_trace.is_some() => {
            steps.push((PaymentStep::Declined, order.released_at.unwrap_or(order.created_at)));
        }
        _ => steps.push((PaymentStep::NotMade, order.created_at)),
    }
    if order.refund_due.is_some() {
        let (_, at) = *steps.last()?;
        steps.push((PaymentStep::RefundDue, at));
    }
    steps.extend(order.refunded_at.map(|at| (PaymentStep::Refunded, at)));
    let (status, _) = *steps.last()?;
    let decline_reason = order.payment.declined.map(|reason| reason.code().to_owned());
    let reference = order.payment_ref.clone();
    Some(PaymentView { attempt: order.attempt(), provider, status, reference, decline_reason, steps })
}
