//! Calls to gateways and drops that are repeated, or bounded in time.

use crate::actors::{Answer, AskError, Backoff, DropHandle};
use crate::domain::{OrderId, OrderView};
use crate::engine::{Command, Outcome, Rejection};
use crate::payments::gateway::GatewayError;
use crate::service::failure::ask_failure;
use crate::service::{Code, Failure};
use std::time::Duration;

/// Pauses between attempts to reach the gateway, or an overloaded drop.
pub(super) const RETRIES: Backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(5));
/// Attempts to reach an overloaded drop: about a minute in all.
const ASKS_MAX: usize = 20;
/// Time limit of every call to a gateway that may be repeated: all but the first authorization.
const CALL_MAX: Duration = Duration::from_secs(30);

/// A repeatable call to the gateway, with a time limit.
pub(in crate::service) async fn within_call<T>(
    call: impl Future<Output = Result<T, GatewayError>>,
) -> Result<T, GatewayError> {
    let reason = || format!("no answer in {} s", CALL_MAX.as_secs());
    let late = || GatewayError::Unreachable { reason: reason(), retry_after: None };
    tokio::time::timeout(CALL_MAX, call).await.unwrap_or_else(|_| Err(late()))
}

/// Sends a command until the drop is no longer overloaded: the gateway's answer must be recorded.
pub(super) async fn record(handle: &DropHandle, command: Command) -> Result<Box<OrderView>, Failure> {
    let mut retries = RETRIES;
    for _ in 0..ASKS_MAX {
        match handle.ask(command.clone()).await {
            Ok(Answer { outcome: Outcome::Order { order, .. }, .. }) => return Ok(order),
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

/// Only a release is rejected because of the order's status.
async fn reread(handle: &DropHandle, command: &Command) -> Result<Box<OrderView>, Failure> {
    let Command::Release { order, .. } = command else { return Err(Failure::new(Code::OrderNotFound)) };
    find(handle, *order).await
}

/// An order as it is now.
pub(super) async fn find(handle: &DropHandle, order: OrderId) -> Result<Box<OrderView>, Failure> {
    match handle.ask(Command::Find { order }).await.map_err(ask_failure)?.outcome {
        Outcome::Order { order, .. } => Ok(order),
        _ => Err(Failure::new(Code::OrderNotFound)),
    }
}
