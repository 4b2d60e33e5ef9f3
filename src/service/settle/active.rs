//! Which orders this process is asking a gateway about: one task for each.

use crate::domain::OrderId;
use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use std::sync::Arc;
use tokio::sync::Notify;

/// What a buyer has to do before a payment goes on. For the buyer alone: never logged, never stored.
#[derive(Clone, PartialEq, Eq)]
pub struct Action {
    /// For the provider's script in the buyer's browser.
    pub client_secret: Option<String>,
    /// A page to send the buyer to.
    pub url: Option<String>,
}

impl std::fmt::Debug for Action {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Action")
    }
}

/// A task's state.
#[derive(Default)]
struct Task {
    /// Set while it waits for news, and not for an answer of the gateway.
    waiting: Option<Arc<Notify>>,
    /// Whether news came since its last question.
    has_news: bool,
    action: Option<Action>,
}

/// Tasks by order. Clones share them.
#[derive(Clone, Default)]
pub(super) struct Active(Arc<DashMap<OrderId, Task>>);

impl Active {
    /// The exclusive right to ask about an order; `None` if it is taken.
    pub fn claim(&self, order: OrderId) -> Option<Charging> {
        match self.0.entry(order) {
            Entry::Occupied(_) => None,
            Entry::Vacant(entry) => {
                entry.insert(Task::default());
                Some(Charging { active: self.clone(), order })
            }
        }
    }

    /// Whether a gateway is being asked about this order at this moment.
    pub fn is_asking(&self, order: OrderId) -> bool {
        self.0.get(&order).is_some_and(|task| task.waiting.is_none())
    }

    /// How many gateways are being asked at this moment.
    pub fn asking(&self) -> usize {
        self.0.iter().filter(|task| task.waiting.is_none()).count()
    }

    /// Tells an order's task that something may have changed. Returns whether there is one.
    pub fn news(&self, order: OrderId) -> bool {
        let Some(mut task) = self.0.get_mut(&order) else { return false };
        task.has_news = true;
        if let Some(waiting) = &task.waiting {
            waiting.notify_one();
        }
        true
    }

    /// What the buyer has to do, if anything.
    pub fn action(&self, order: OrderId) -> Option<Action> {
        self.0.get(&order)?.action.clone()
    }
}

/// The exclusive right to ask about an order while this lives.
pub struct Charging {
    active: Active,
    order: OrderId,
}

impl Charging {
    /// Sets what the buyer has to do.
    pub(super) fn set_action(&self, action: Option<Action>) {
        if let Some(mut task) = self.active.0.get_mut(&self.order) {
            task.action = action;
        }
    }

    /// Lets others cancel the order meanwhile, until [`Self::ask`].
    pub(super) fn wait(&self) -> Arc<Notify> {
        let notify = Arc::new(Notify::new());
        if let Some(mut task) = self.active.0.get_mut(&self.order) {
            // News that came while the gateway was asked: its answer may be older.
            if std::mem::take(&mut task.has_news) {
                notify.notify_one();
            }
            task.waiting = Some(Arc::clone(&notify));
        }
        notify
    }

    /// The gateway is asked again.
    pub(super) fn ask(&self) {
        if let Some(mut task) = self.active.0.get_mut(&self.order) {
            (task.waiting, task.has_news) = (None, false);
        }
    }
}

impl Drop for Charging {
    fn drop(&mut self) {
        self.active.0.remove(&self.order);
    }
}
