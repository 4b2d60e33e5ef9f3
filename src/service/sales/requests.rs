//! Refunds that buyers ask for: a request with a reason, and the seller's answer.

use super::Sales;
use crate::domain::limits::REFUND_REASON_CHARS_MAX;
use crate::domain::{DropId, OrderId, OrderStatus, RefundRequestStatus};
use crate::service::creators::page;
use crate::service::input::{Checks, Field, Input};
use crate::service::keys::Attempt;
use crate::service::orders::locate;
use crate::service::{Caller, Code, Failure, Page};
use crate::storage::RefundRequestRow;

/// A request for a refund.
#[derive(Debug, Default)]
pub struct RefundRequestInput {
    /// Why. Required.
    pub reason: Field<String>,
}

impl Input for RefundRequestInput {
    /// The reason.
    type Valid = String;

    fn check(self, checks: &mut Checks) -> Option<String> {
        let reason = checks.required("/reason", self.reason);
        checks.line("/reason", reason, 1..=REFUND_REASON_CHARS_MAX)
    }
}

/// A seller's answer.
#[derive(Debug, Default)]
pub struct RefundAnswerInput {
    /// Whether the money goes back. Required.
    pub accept: Field<bool>,
    /// Why.
    pub reason: Field<String>,
}

/// A [`RefundAnswerInput`] that is valid.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RefundAnswer {
    pub accept: bool,
    pub reason: Option<String>,
}

impl Input for RefundAnswerInput {
    type Valid = RefundAnswer;

    fn check(self, checks: &mut Checks) -> Option<RefundAnswer> {
        let accept = checks.required("/accept", self.accept);
        let reason = checks.optional("/reason", self.reason);
        let reason = checks.line("/reason", reason, 1..=REFUND_REASON_CHARS_MAX);
        Some(RefundAnswer { accept: accept?, reason })
    }
}

impl Sales {
    /// Asks for a refund of one of the caller's own orders. An order has one request: repeated, it is the first one.
    ///
    /// # Errors
    /// `order_not_found`, also for orders of others; `order_not_confirmed`, also for one whose money goes back already.
    pub async fn ask_refund(&self, caller: &Caller, id: OrderId, reason: String) -> Result<RefundRequestRow, Failure> {
        let (_, order) = locate(&self.registry, &*self.store, &self.projection, id).await?;
        if order.buyer != caller.user {
            return Err(Failure::new(Code::OrderNotFound));
        }
        if let Some(known) = self.store.refund_request(id).await? {
            return Ok(known);
        }
        if order.status != OrderStatus::Confirmed || order.refund_due.is_some() {
            return Err(Failure::new(Code::OrderNotConfirmed));
        }
        let asked_at = self.registry.clock().now();
        let status = RefundRequestStatus::Open;
        let request = RefundRequestRow { order: id, reason, asked_at, status, answer: None, answered_at: None };
        self.store.ask_refund(&request, order.drop_id, order.buyer).await?;
        self.request_of(id).await
    }

    /// The request for an order, if there is one: for its buyer, the drop's creator and admins.
    ///
    /// # Errors
    /// `order_not_found`.
    pub async fn refund_request(&self, caller: &Caller, id: OrderId) -> Result<Option<RefundRequestRow>, Failure> {
        let (handle, order) = locate(&self.registry, &*self.store, &self.projection, id).await?;
        if order.buyer != caller.user {
            let creator = self.creator_of(handle.as_deref(), order.drop_id).await?;
            caller.may_manage(creator).map_err(|_| Failure::new(Code::OrderNotFound))?;
        }
        Ok(self.store.refund_request(id).await?)
    }

    /// The requests for a drop's orders, the oldest order first: for its creator and admins.
    ///
    /// # Errors
    /// `drop_not_found`, `forbidden`.
    pub async fn refund_requests(
        &self,
        caller: &Caller,
        drop: DropId,
        after: Option<OrderId>,
        limit: u32,
    ) -> Result<Page<RefundRequestRow>, Failure> {
        let handle = self.registry.get(drop);
        caller.may_manage(self.creator_of(handle.as_deref(), drop).await?)?;
        Ok(page(self.store.refund_requests(drop, after, limit + 1).await?, limit))
    }

    /// Answers a request; one that is accepted is refunded as a whole. Repeated: unchanged, and what an accepted request still
    /// owes is refunded.
    ///
    /// # Errors
    /// As [`Sales::refund`]; `refund_request_not_open` if there is none, or it has another answer.
    pub async fn answer_refund(
        &self,
        caller: &Caller,
        id: OrderId,
        RefundAnswer { accept, reason }: RefundAnswer,
    ) -> Result<RefundRequestRow, Failure> {
        self.check_seller(caller, id).await?;
        let status = if accept { RefundRequestStatus::Accepted } else { RefundRequestStatus::Refused };
        let known = self.request_of(id).await?;
        if known.status == RefundRequestStatus::Open {
            let answered_at = Some(self.registry.clock().now());
            let answered = RefundRequestRow { status, answer: reason, answered_at, ..known };
            self.store.answer_refund(&answered).await?;
        }
        // Another answer may have come first.
        let answered = self.request_of(id).await?;
        if answered.status != status {
            let detail = format!("it is {}", answered.status.as_str());
            return Err(Failure::with(Code::RefundRequestNotOpen, detail));
        }
        if accept {
            self.refund(caller, id, &Attempt::default()).await?;
        }
        Ok(answered)
    }

    /// Who may refund an order: the same answers as [`Sales::refund`] gives.
    async fn check_seller(&self, caller: &Caller, id: OrderId) -> Result<(), Failure> {
        let (handle, order) = locate(&self.registry, &*self.store, &self.projection, id).await?;
        match caller.may_manage(self.creator_of(handle.as_deref(), order.drop_id).await?) {
            Err(refusal) if order.buyer == caller.user => Err(refusal),
            Err(_) => Err(Failure::new(Code::OrderNotFound)),
            Ok(()) => Ok(()),
        }
    }

    async fn request_of(&self, id: OrderId) -> Result<RefundRequestRow, Failure> {
        self.store.refund_request(id).await?.ok_or_else(|| Failure::new(Code::RefundRequestNotOpen))
    }
}
