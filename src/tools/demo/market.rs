//! Shared by all buyers: the client, the drop, and the phase of the sale.

use super::{
    client::{Answer, Call, Client},
    counters::{Counters, add},
    promises::Promise,
    wire::{BASE, Order},
};
use crate::domain::{DropId, OrderId};
use serde_json::json;
use std::{sync::Arc, time::Duration, time::Instant};
use tokio::sync::watch;

/// Codes of refusals, which leave their keys free.
const KEY_STAYS_FREE: [&str; 7] = [
    "drop_not_started",
    "too_many_holds",
    "hold_cooldown",
    "sold_out",
    "not_enough_stock",
    "limit_exceeded",
    "drop_ended",
];

/// The phase of the sale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The drop has not started.
    Waiting,
    /// The drop accepts orders.
    Rush,
    /// All units are sold or the time is up: nothing new is started.
    Over,
}

/// The state that all buyers share.
pub struct Market {
    pub client: Arc<Client>,
    pub counters: Arc<Counters>,
    pub drop_id: DropId,
    pub phase: watch::Receiver<Phase>,
    /// Pause between two attempts at a sold-out drop.
    pub polite_pause: Duration,
    /// How long a hold lasts.
    pub hold: Duration,
    /// Units that each buyer wants at least.
    pub units_wanted: u32,
    /// Seed of the run's random numbers.
    pub seed: u64,
}

/// How long a client retries before it gives up: longer than a server takes to recover from a crash.
pub const PATIENCE: Duration = Duration::from_secs(30);

impl Market {
    /// The request for one order.
    pub fn order_call(&self, token: &Arc<str>, key: String, quantity: u32, payment_method: Option<&str>) -> Call {
        let mut body = json!({"drop_id": self.drop_id, "quantity": quantity});
        if let Some(method) = payment_method {
            body["payment_method"] = method.into();
        }
        Call::post(format!("{BASE}/orders"), Some(token), Some(&body)).with_key(key)
    }

    /// The request to pay an order, with a card that works.
    pub fn pay_call(&self, token: &Arc<str>, order: OrderId) -> Call {
        let body = json!({"payment_method": "pm_sandbox_ok"});
        Call::post(format!("{BASE}/orders/{order}/pay"), Some(token), Some(&body))
    }

    /// The request to cancel an order.
    pub fn cancel_call(&self, token: &Arc<str>, order: OrderId) -> Call {
        Call::post(format!("{BASE}/orders/{order}/cancel"), Some(token), None)
    }

    /// Sends a call until it is answered. `None` breaks a promise, which is recorded here.
    pub async fn ask(&self, call: &Call) -> Option<Answer> {
        let answer = self.client.send_patiently(call, Instant::now() + PATIENCE, &self.counters).await;
        if answer.is_none() {
            add(&self.counters.unanswered);
            let text = format!("{} {} was not answered", call.method, call.path);
            self.counters.broke(Promise::EveryoneAnswered, text);
        }
        answer
    }

    /// Repeats a call with a known answer and compares the two answers.
    pub async fn ask_again(&self, call: &Call, first: &Answer) {
        if let Some(second) = self.ask(call).await {
            self.compare(first, &second);
        }
    }

    /// Compares two answers to one key: they must be identical, unless one is a refusal, which does not stay with the
    /// key.
    pub fn compare(&self, first: &Answer, second: &Answer) {
        if [first, second].iter().any(|answer| KEY_STAYS_FREE.contains(&answer.code().as_str())) {
            return;
        }
        add(&self.counters.repeated);
        if first.identical(second) {
            return add(&self.counters.identical);
        }
        let text = format!("one key, two answers: {}", first.difference(second));
        self.counters.broke(Promise::RetriesIdentical, text);
    }

    /// Parses the order in an answer; an answer without one breaks a promise.
    pub fn read_order(&self, answer: &Answer) -> Option<Order> {
        let order = answer.json::<Order>();
        order.map_err(|why| self.unlike_the_contract(&format!("no order in the answer: {why}"))).ok()
    }

    /// Records an answer that the API's contract does not allow for the request.
    pub fn unlike_the_contract(&self, text: &str) {
        self.counters.broke(Promise::EveryoneAnswered, text.to_owned());
    }

    /// Whether the rush is over.
    pub fn is_over(&self) -> bool {
        *self.phase.borrow() == Phase::Over
    }

    /// Waits for `pause`, or less if the rush ends.
    pub async fn pause(&self, pause: Duration) {
        let mut phase = self.phase.clone();
        // An elapsed timeout is a full pause; a closed channel is the end.
        let _ = tokio::time::timeout(pause, phase.wait_for(|phase| *phase == Phase::Over)).await;
    }

    /// Waits for the start. `false` if it will not come.
    pub async fn started(&self) -> bool {
        let mut phase = self.phase.clone();
        phase.wait_for(|phase| *phase != Phase::Waiting).await.is_ok_and(|phase| *phase == Phase::Rush)
    }
}
