//! The seller's side of orders: a drop's orders, refunds, and an order's history.

mod input;
mod requests;

pub use input::SoldListInput;
pub use requests::{RefundAnswer, RefundAnswerInput, RefundRequestInput};

use super::addresses::{Address, Addresses};
use super::creators::page;
use super::drops::not_revived;
use super::failure::ask_failure;
use super::failure::ensure_projected;
use super::keys::Attempt;
use super::orders::{locate, rejected};
use super::{Caller, Code, Failure, Object, Page};
use crate::actors::{DropHandle, Projection, Registry};
use crate::domain::{CreatorId, DropId, OrderId, OrderStatus, OrderView, Timestamp, VariantId};
use crate::engine::{Command, Outcome};
use crate::storage::{AuditRow, Found, SoldFilter, SoldOrder, Store};
use futures_util::{Stream, stream};
use serde_json::json;
use std::{collections::HashMap, sync::Arc, time::Duration};

/// How long a list waits until SQL has every decision of its drop.
const PATIENCE: Duration = Duration::from_secs(5);
/// Orders read in one query of an export.
const EXPORT_PAGE: u32 = 1_000;

/// One step in an order's history.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Transition {
    /// `reserved`, `released`, `confirmed`, `refund_due`, `refunded`, or the name of a [`crate::domain::PaymentIncident`].
    pub kind: String,
    pub at: Timestamp,
    /// The reason of a release or a refund.
    pub reason: Option<String>,
}

/// All orders of a drop, with the names of its variants.
pub struct Export {
    /// The names of the drop's variants.
    pub variants: HashMap<VariantId, String>,
    sales: Sales,
    caller: Caller,
    drop: DropId,
}

/// The seller's use cases.
#[derive(Clone)]
pub struct Sales {
    store: Arc<dyn Store>,
    registry: Registry,
    projection: Projection,
}

impl Sales {
    #[must_use]
    pub fn new(store: Arc<dyn Store>, registry: Registry, projection: Projection) -> Self {
        Self { store, registry, projection }
    }

    /// Refunds a confirmed order and frees its units. Repeated: unchanged.
    ///
    /// # Errors
    /// `order_not_found` (also for callers who may not know of it), `forbidden` for its buyer, `order_not_confirmed`.
    pub async fn refund(&self, caller: &Caller, id: OrderId, attempt: &Attempt) -> Result<OrderView, Failure> {
        let (handle, order) = locate(&self.registry, &*self.store, &self.projection, id).await?;
        match caller.may_manage(self.creator_of(handle.as_deref(), order.drop_id).await?) {
            Err(refusal) if order.buyer == caller.user => return Err(refusal),
            Err(_) => return Err(Failure::new(Code::OrderNotFound)),
            Ok(()) => {}
        }
        match order.status {
            OrderStatus::Refunded => return Ok(order),
            OrderStatus::Confirmed => {}
            status => {
                let detail = format!("the order is {}", status.as_str());
                return Err(Failure::with(Code::OrderNotConfirmed, detail));
            }
        }
        let handle = match handle {
            Some(handle) => handle,
            None => self.revive(order.drop_id).await?,
        };
        let command = Command::AuditedCommand {
            actor: caller.actor(),
            request: attempt.request().map(Box::new),
            command: Box::new(Command::Refund { order: id }),
        };
        match handle.ask(command).await.map_err(ask_failure)?.outcome {
            Outcome::Order { order, .. } => Ok(*order),
            outcome => Err(rejected(&outcome)),
        }
    }

    /// The address that a confirmed order is sent to, as it was when it was ordered: for the drop's creator and admins. Each
    /// reading is in the audit trail before it is answered.
    ///
    /// # Errors
    /// `order_not_found` (also for callers who may not know of it), `forbidden` for its buyer, `order_not_confirmed`,
    /// `address_not_found` where nothing is shipped, `address_unreadable`, `database_unavailable`.
    pub async fn address(&self, caller: &Caller, addresses: &Addresses, id: OrderId) -> Result<Address, Failure> {
        let (handle, order) = locate(&self.registry, &*self.store, &self.projection, id).await?;
        match caller.may_manage(self.creator_of(handle.as_deref(), order.drop_id).await?) {
            Err(refusal) if order.buyer == caller.user => return Err(refusal),
            Err(_) => return Err(Failure::new(Code::OrderNotFound)),
            Ok(()) => {}
        }
        if order.status != OrderStatus::Confirmed {
            let detail = format!("the order is {}", order.status.as_str());
            return Err(Failure::with(Code::OrderNotConfirmed, detail));
        }
        let address = addresses.of_order(&order).await?.ok_or_else(|| Failure::new(Code::AddressNotFound))?;
        let object = Object { kind: "order", id: id.0 };
        let now = self.registry.clock().now();
        self.store.record_audit(&caller.audit(now, "address_read", object, &serde_json::json!({}))).await?;
        Ok(address)
    }

    async fn revive(&self, id: DropId) -> Result<Arc<DropHandle>, Failure> {
        let revived = self.registry.revive(id, &*self.store, &self.projection).await;
        revived.map_err(not_revived)?.ok_or_else(|| Failure::new(Code::DropNotFound))
    }

    /// An order's history, oldest first: for its buyer, the creator and admins.
    ///
    /// # Errors
    /// `order_not_found`, `database_unavailable`.
    pub async fn history(&self, caller: &Caller, id: OrderId) -> Result<Vec<Transition>, Failure> {
        let (handle, order) = locate(&self.registry, &*self.store, &self.projection, id).await?;
        if order.buyer != caller.user {
            let creator = self.creator_of(handle.as_deref(), order.drop_id).await?;
            caller.may_manage(creator).map_err(|_| Failure::new(Code::OrderNotFound))?;
        }
        self.projected(handle.as_deref()).await?;
        let step = |kind: &str, at: Option<Timestamp>, reason: Option<&str>| {
            at.map(|at| Transition { kind: kind.to_owned(), at, reason: reason.map(str::to_owned) })
        };
        let notes = self.store.order_notes(id).await?;
        let incidents = self.store.incidents(id).await?;
        let mut steps: Vec<Transition> = notes
            .into_iter()
            .map(|note| Transition { kind: note.kind, at: note.at, reason: Some(note.reason) })
            .chain(step("reserved", Some(order.created_at), None))
            .chain(step("released", order.released_at, order.release_reason.map(|reason| reason.as_str())))
            .chain(step("confirmed", order.confirmed_at, None))
            .chain(step("refunded", order.refunded_at, None))
            .chain(incidents.into_iter().filter_map(|row| step(row.kind.as_str(), Some(row.at), None)))
            .collect();
        // Steps at the same time are sorted in the order of an order's life.
        let rank = |kind: &str| ["reserved", "released", "confirmed", "refund_due"].iter().position(|k| *k == kind);
        steps.sort_by_key(|step| (step.at, rank(&step.kind).unwrap_or(usize::MAX)));
        Ok(steps)
    }

    /// A drop's orders, newest first, with their buyers' names and addresses: for its creator and admins. Each page that
    /// is read is a line of the audit trail.
    ///
    /// # Errors
    /// `drop_not_found`, `forbidden`, `database_unavailable`.
    pub async fn list(
        &self,
        caller: &Caller,
        drop: DropId,
        filter: &SoldFilter,
        after: Option<OrderId>,
        limit: u32,
    ) -> Result<Page<SoldOrder>, Failure> {
        self.open(caller, drop).await?;
        let audit = self.reading(caller, drop, "list");
        let Found { rows, stopped_at } = self.store.sold_orders(drop, filter, (after, limit + 1), audit).await?;
        let page = page(rows, limit);
        Ok(if page.more { page } else { Page { more: stopped_at.is_some(), stopped_at, ..page } })
    }

    /// All orders of a drop, for reading page by page.
    ///
    /// # Errors
    /// As [`Sales::list`].
    pub async fn export(&self, caller: &Caller, drop: DropId) -> Result<Export, Failure> {
        self.open(caller, drop).await?;
        let row = self.store.drop_row(drop).await?.ok_or_else(|| Failure::new(Code::DropNotFound))?;
        let variants = row.spec.variants.into_iter().map(|variant| (variant.id, variant.name)).collect();
        Ok(Export { variants, sales: self.clone(), caller: caller.clone(), drop })
    }

    /// The line of the audit trail about somebody who reads who the buyers are.
    fn reading(&self, caller: &Caller, drop: DropId, form: &str) -> AuditRow {
        let drop = Object { kind: "drop", id: drop.0 };
        caller.audit(self.registry.clock().now(), "buyers_read", drop, &json!({"as": form}))
    }

    /// Checks that the caller may see a drop's orders; waits until SQL has them.
    async fn open(&self, caller: &Caller, drop: DropId) -> Result<(), Failure> {
        let handle = self.registry.get(drop);
        caller.may_manage(self.creator_of(handle.as_deref(), drop).await?)?;
        self.projected(handle.as_deref()).await
    }

    async fn projected(&self, handle: Option<&DropHandle>) -> Result<(), Failure> {
        let position = handle.map_or(0, |handle| handle.cell.position());
        let complete = handle.is_none_or(|handle| !self.projection.is_set_aside(handle.spec.id));
        if self.projection.reached(position, PATIENCE).await && complete {
            return Ok(());
        }
        let detail = if complete {
            "The database has not caught up with the drop yet"
        } else {
            "The database refuses a record of the drop; an operator has to look at it"
        };
        Err(Failure { detail: detail.into(), ..Failure::retry(Code::DatabaseUnavailable, 2) })
    }

    async fn creator_of(&self, handle: Option<&DropHandle>, drop: DropId) -> Result<CreatorId, Failure> {
        if let Some(handle) = handle {
            return Ok(handle.spec.creator_id);
        }
        ensure_projected(&self.projection).await?;
        let row = self.store.drop_row(drop).await?.ok_or_else(|| Failure::new(Code::DropNotFound))?;
        Ok(row.spec.creator_id)
    }
}

impl Export {
    /// The orders, newest first, a page at a time. Ends after the first error.
    pub fn pages(self) -> impl Stream<Item = Result<Vec<SoldOrder>, Failure>> {
        stream::try_unfold((self, None), |(export, after)| async move {
            let Self { sales, caller, drop, .. } = &export;
            let (audit, filter) = (sales.reading(caller, *drop, "export"), SoldFilter::default());
            let found = sales.store.sold_orders(*drop, &filter, (after, EXPORT_PAGE), audit).await?;
            let last = found.rows.last().map(|row| row.order.id);
            Ok(last.map(|last| (found.rows, (export, Some(last)))))
        })
    }
}
