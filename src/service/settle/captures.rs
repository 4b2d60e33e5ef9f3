//! Takes the money of confirmed orders, and watches until when it can be taken.
//!
//! An authorization ends by itself, after some days. A capture that fails is tried again; the first failure also asks the
//! provider what became of the payment and until when it can be captured.

use super::calls::{record, within_call};
use super::deadlines::assumed_end;
use super::{Attempt, Settler};
use crate::actors::DropHandle;
use crate::domain::{OrderView, Timestamp, TraceId};
use crate::engine::Command;
use crate::payments::gateway::{GatewayError, PaymentGateway, PaymentStatus};
use tracing::{error, warn};

/// What became of an authorization.
enum Taken {
    /// The money was taken.
    Captured,
    /// The authorization is over: nothing was taken, and nothing can be.
    Lost,
    /// It is not known yet, or the money can still be taken.
    Open,
}

impl Settler {
    /// Takes an order's authorized money and records that in the drop, in one attempt; an order whose authorization is over
    /// is given back. Returns whether it is settled. `now` is the time of day.
    pub(super) async fn capture(&self, handle: &DropHandle, due: &OrderView, now: Timestamp) -> bool {
        let (order, attempt) = (due.id, Attempt::of(due, TraceId::default()));
        let taken = match self.gateway(attempt.provider) {
            Ok(gateway) => self.take(&**gateway, attempt, due).await,
            Err(_) => Taken::Open,
        };
        let command = match taken {
            Taken::Captured => Command::SettleCapture { order },
            Taken::Lost => Command::FailCapture { order },
            Taken::Open => {
                self.captures.watch(due, now);
                return false;
            }
        };
        if record(handle, command).await.is_err() {
            return false;
        }
        if matches!(taken, Taken::Lost) {
            error!(%order, "authorized money cannot be taken any more; the order is given back");
            self.captures.lost();
        }
        self.captures.forget(order);
        true
    }

    async fn take(&self, gateway: &dyn PaymentGateway, attempt: Attempt, due: &OrderView) -> Taken {
        let order = due.id;
        let reference = due.payment_ref.as_deref().unwrap_or_default();
        match within_call(gateway.capture(order, reference, due.total())).await {
            Ok(()) => return Taken::Captured,
            Err(GatewayError::Refused { reason, retry_after: None }) => {
                warn!(%order, reason, "a capture was refused; asking what became of the payment");
            }
            Err(gateway) => {
                warn!(%order, error = %gateway, "a payment could not be captured; trying again later");
                if self.captures.is_known(order) {
                    return Taken::Open;
                }
            }
        }
        match within_call(gateway.look_up(order, attempt.number, Some(reference))).await {
            Ok(PaymentStatus::Captured { .. }) => Taken::Captured,
            Ok(PaymentStatus::Cancelled { .. } | PaymentStatus::Declined { .. } | PaymentStatus::Unknown) => {
                Taken::Lost
            }
            Ok(PaymentStatus::Authorized { capture_before, .. }) => {
                self.captures.learn(order, capture_before.unwrap_or_else(|| assumed_end(due)));
                Taken::Open
            }
            _ => Taken::Open,
        }
    }
}
