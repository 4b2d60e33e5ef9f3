//! What the parts of a running fake share.

use super::api::Api;
use super::delivery::{Change, Delivery};
use super::faults::Faults;
use super::limits::CALLS_MAX;
use serde_json::Value;
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// The parts of a running fake.
pub struct Shared {
    api: Mutex<Api>,
    faults: Mutex<Faults>,
    delivery: Mutex<Delivery>,
    /// The latest calls of the API, oldest first.
    calls: Mutex<VecDeque<Value>>,
    /// Signalled when there may be events to send.
    pub(super) changed: Notify,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// A fake at this address without anything in its books.
    #[must_use]
    pub fn new(base: String, delivery: Delivery) -> Self {
        let mut api = Api::default();
        api.books.base = base;
        Self {
            api: Mutex::new(api),
            faults: Mutex::default(),
            delivery: Mutex::new(delivery),
            calls: Mutex::default(),
            changed: Notify::new(),
        }
    }

    pub(super) fn api(&self) -> MutexGuard<'_, Api> {
        locked(&self.api)
    }

    /// Remembers a call.
    pub(super) fn note(&self, call: Value) {
        let mut calls = locked(&self.calls);
        if calls.len() >= CALLS_MAX {
            calls.pop_front();
        }
        calls.push_back(call);
    }

    pub(super) fn calls(&self) -> Vec<Value> {
        locked(&self.calls).iter().cloned().collect()
    }

    pub(super) fn faults(&self) -> MutexGuard<'_, Faults> {
        locked(&self.faults)
    }

    pub(super) fn delivery(&self) -> Delivery {
        locked(&self.delivery).clone()
    }

    pub(super) fn change_delivery(&self, change: Change) {
        locked(&self.delivery).change(change);
        self.changed.notify_waiters();
    }

    pub(super) fn event(&self, index: usize) -> Option<Value> {
        self.api().books.events().get(index).cloned()
    }
}
