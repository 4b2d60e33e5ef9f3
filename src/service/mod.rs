//! Use cases shared by REST and WebSocket: authorize, load, decide, answer.

pub mod accounts;
pub mod activity;
pub mod addresses;
pub mod caller;
pub use crate::actors::clock;
pub mod creators;
pub mod drops;
pub mod encryption;
pub mod events;
pub mod failure;
pub mod hash_queue;
pub mod identity;
pub mod inbox;
pub mod input;
pub mod keys;
pub mod login_log;
pub mod orders;
pub mod outcomes;
pub mod passwords;
pub mod products;
mod recent;
pub mod reconcile;
pub mod revocations;
pub mod sales;
pub mod settle;
pub mod text;
pub mod tickets;
pub mod tokens;
pub mod views;
pub mod webhooks;

use tracing::Instrument;

pub use caller::{Caller, Object, Visitor};
pub use failure::{Code, Failure, FieldError};
pub use views::{DropView, Page, StockView};

// Re-exports for the protocols, so that they import only services and the domain.
pub use crate::actors::inventory::mailbox::collect_turns;
pub use crate::actors::outage::Outage;
pub use crate::actors::realtime::event::{CloseCause, Topic};
pub use crate::actors::realtime::hub::{Hub, JoinError};
pub use crate::actors::realtime::messages::Attach;
pub use crate::actors::realtime::outbox::{Message, Outgoing};
pub use crate::actors::realtime::position::Offset;
pub use crate::actors::realtime::shard::{AbortHandle, Opening, Shard, Subscriber};
pub use crate::storage::{
    AuditFilter, AuditRow, Concern, Contact, Creator, DropFilter, KeptAnswer, Phase, Product, ProductFilter,
    ProductSummary, RefundRequestRow, SoldFilter, SoldOrder, User,
};

/// A precondition on an object, checked on its current state at the time of the change. Absent: no precondition.
pub type OnlyIf<'a, T> = Option<&'a (dyn Fn(&T) -> bool + Send + Sync)>;

/// Checks a precondition.
///
/// # Errors
/// `precondition_failed` if it does not hold.
fn must_still_hold<T>(only_if: OnlyIf<'_, T>, thing: &T) -> Result<(), Failure> {
    match only_if {
        Some(holds) if !holds(thing) => {
            Err(Failure::with(Code::PreconditionFailed, "If-Match names no version that is current: read it again"))
        }
        _ => Ok(()),
    }
}

/// Runs work that must not stop halfway in a task of its own: the server drops a request when its client disconnects.
/// `broken` makes the failure if the task panics. The waiting caller holds only the task's handle.
fn spawn_detached<T: Send + 'static>(
    broken: fn() -> Failure,
    request: impl Future<Output = Result<T, Failure>> + Send + 'static,
) -> impl Future<Output = Result<T, Failure>> {
    let task = tokio::spawn(request.in_current_span());
    async move { task.await.unwrap_or_else(|_| Err(broken())) }
}
