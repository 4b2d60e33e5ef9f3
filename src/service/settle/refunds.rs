//! The refund relay: every refund that the journal says is due goes to the gateway, whatever made it due (a payment that
//! came too late, a drop that was called off, an order that was given back).
//!
//! It follows the journal while the server runs. What was due before is found by recovery, so its place needs no keeping.

use super::{AT_ONCE_MAX, Settler};
use crate::actors::{Registry, Tail};
use crate::domain::DropEvent;
use crate::domain::limits::PROJECTOR_BATCH_RECORDS_MAX;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// The name of its place in the journal.
pub const CURSOR: &str = "refunds";

/// Nearly nothing in the journal is a refund, so it is looked through now and then, and not after every `fdatasync`.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Runs until it is aborted, or the journal cannot be read.
pub async fn relay(mut tail: Tail, settler: Settler, registry: Registry) {
    let slots = Arc::new(Semaphore::new(AT_ONCE_MAX));
    while let Some(run) = tail.next().await {
        let last = run.last_sequence();
        for record in run.records {
            let DropEvent::RefundDue { line, payment_ref, .. } = record.event else { continue };
            // Nothing was paid: the drop has settled it by itself.
            if payment_ref.is_empty() {
                continue;
            }
            let Some(handle) = registry.get(record.drop) else {
                tracing::error!(order = %line.order, "a refund is due for a drop that is not in memory");
                continue;
            };
            let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
            let settler = settler.clone();
            tokio::spawn(async move {
                settler.refund(&handle, line.order, &payment_ref).await;
                drop(slot);
            });
        }
        tail.passed(last);
        if tail.journal().durable() - last < PROJECTOR_BATCH_RECORDS_MAX as u64 {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}
