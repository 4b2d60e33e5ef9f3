//! The background tasks of a server.

use super::health::Monitor;
use super::heartbeat::Pulse;
use super::late_database::LateDatabase;
use super::supervisor::{Need, Supervisor};
use crate::actors::inventory::checkpoint::writer::Checkpointer;
use crate::actors::inventory::{evictor, timer};
use crate::actors::outage::Outage;
use crate::actors::{Clock, Hub, Projection, Registry, Scheduler, Sleepers};
use crate::domain::Timestamp;
use crate::http::Limits;
use crate::payments::stripe::Stripe;
use crate::service::addresses::Addresses;
use crate::service::inbox::MarkWriter;
use crate::service::keys::Keys;
use crate::service::login_log::LoginLog;
use crate::service::orders::Orders;
use crate::service::reconcile::Reconciler;
use crate::service::revocations::Revocations;
use crate::service::webhooks::Webhooks;
use crate::storage::Store;
use actix_web::rt::spawn;
use std::{path::Path, rc::Rc, sync::Arc};
use tokio::{sync::Mutex, task::JoinHandle};

/// Without its scheduler no drop starts and no hold ends: after this many failures in a row (half a minute) the process
/// ends.
const SCHEDULER_RESTARTS_MAX: u32 = 8;

/// The background tasks, each with its name in `/readyz`, `/metrics` and the log.
pub(super) struct Background {
    pub supervisor: Supervisor,
    pub tasks: Vec<JoinHandle<()>>,
}

impl Background {
    fn keep<T: Future<Output = ()> + 'static>(
        &mut self,
        task: &'static str,
        need: Need,
        begin: impl FnMut(bool) -> T + 'static,
    ) {
        self.tasks.push(spawn(self.supervisor.clone().keep(task, need, begin)));
    }

    /// Tasks for starts, ends and expired holds, and for evicting drops.
    pub fn follow_time(&mut self, scheduler: Scheduler, registry: &Registry, projection: &Projection, clock: &Clock) {
        let (drops, time) = (registry.clone(), clock.clone());
        self.keep("scheduler", Need::Vital { restarts_max: SCHEDULER_RESTARTS_MAX }, move |again| {
            timer::run(scheduler.clone(), drops.clone(), time.clone(), again)
        });
        let (registry, projection, clock) = (registry.clone(), projection.clone(), clock.clone());
        let gone = Rc::new(Mutex::new(evictor::Gone::new()));
        self.keep("evictor", Need::Useful, move |_| {
            let (registry, projection, clock, gone) =
                (registry.clone(), projection.clone(), clock.clone(), Rc::clone(&gone));
            async move { evictor::run(registry, projection, clock, &mut *gone.lock().await).await }
        });
    }

    /// Not vital: without it a start takes longer.
    pub fn write_checkpoint(&mut self, writer: Checkpointer) {
        let writer = Rc::new(Mutex::new(writer));
        self.keep("checkpoint", Need::Useful, move |_| {
            let writer = Rc::clone(&writer);
            async move { writer.lock().await.run().await }
        });
    }

    pub fn wake_drops(&mut self, sleepers: &Sleepers, clock: &Clock, until: Timestamp) {
        let (sleepers, clock) = (sleepers.clone(), clock.clone());
        self.keep("sleepers", Need::Vital { restarts_max: SCHEDULER_RESTARTS_MAX }, move |_| {
            sleepers.clone().run(clock.clone(), until)
        });
    }

    pub fn tell_sessions(&mut self, hub: &Hub) {
        let hub = hub.clone();
        self.keep("sessions", Need::Vital { restarts_max: 0 }, move |_| {
            let hub = hub.clone();
            async move { hub.broken().await }
        });
    }

    pub fn beat(&mut self, pulse: &Pulse, revocations: &Revocations) {
        let (pulse, revocations) = (pulse.clone(), revocations.clone());
        self.keep("heartbeat", Need::Useful, move |_| pulse.clone().run(revocations.clone()));
    }

    /// For a later start without the database.
    pub fn keep_revocations(&mut self, revocations: &Revocations, data_dir: &Path) {
        let (revocations, data_dir) = (revocations.clone(), data_dir.to_owned());
        revocations.wants_copy();
        self.keep("revocations_copy", Need::Useful, move |_| revocations.clone().keep_copy(data_dir.clone()));
    }

    /// After a start without the database.
    pub fn wait_for_database(&mut self, late: LateDatabase) {
        let (late, supervisor) = (Rc::new(late), self.supervisor.clone());
        self.tasks.push(spawn(supervisor.finish("late_database", move |_| Rc::clone(&late).run())));
    }

    pub fn watch_database(&mut self, monitor: &Arc<Monitor>, outage: &Outage, clock: &Clock) {
        let (monitor, outage, clock) = (Arc::clone(monitor), outage.clone(), clock.clone());
        self.keep("database_watch", Need::Useful, move |_| {
            Arc::clone(&monitor).watch_database(outage.clone(), clock.clone())
        });
    }

    pub fn follow_revocations(&mut self, revocations: &Revocations, store: &Arc<dyn Store>) {
        let (revocations, store) = (revocations.clone(), Arc::clone(store));
        self.keep("revocations", Need::Useful, move |_| revocations.clone().follow(Arc::clone(&store)));
    }

    pub fn write_logins(&mut self, logins: &LoginLog, store: &Arc<dyn Store>) {
        let (logins, store) = (logins.clone(), Arc::clone(store));
        self.keep("login_log", Need::Useful, move |_| logins.clone().run(Arc::clone(&store)));
    }

    pub fn write_marks(&mut self, marks: MarkWriter) {
        let marks = Rc::new(Mutex::new(marks));
        self.keep("inbox_marks", Need::Useful, move |_| {
            let marks = Rc::clone(&marks);
            async move { marks.lock().await.run().await }
        });
    }

    pub fn forget_keys(&mut self, keys: &Keys) {
        let keys = keys.clone();
        self.keep("idempotency_keys", Need::Useful, move |_| keys.clone().forget());
    }

    pub fn forget_addresses(&mut self, addresses: &Addresses) {
        let addresses = addresses.clone();
        self.keep("past_addresses", Need::Useful, move |_| addresses.clone().forget());
    }

    /// Where no provider sends webhooks, there is nothing to do.
    pub fn work_on_webhooks(&mut self, webhooks: &Webhooks, orders: &Orders, stripe: Option<Stripe>) {
        let Some(stripe) = stripe else { return };
        let (webhooks, news, stripe) = (webhooks.clone(), Arc::new(orders.clone()), Arc::new(stripe));
        self.keep("webhooks", Need::Useful, move |_| webhooks.clone().work(news.clone(), stripe.clone()));
    }

    /// Where no provider has books, there is nothing to do.
    pub fn reconcile(&mut self, reconciler: &Reconciler) {
        if !reconciler.providers().is_empty() {
            let reconciler = reconciler.clone();
            self.keep("reconciliation", Need::Useful, move |_| reconciler.clone().run_daily());
        }
    }

    pub fn sweep_limits(&mut self, limits: &Limits) {
        let limits = limits.clone();
        self.keep("rate_limits", Need::Useful, move |_| limits.clone().sweep());
    }
}
