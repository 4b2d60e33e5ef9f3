//! Everything that follows the journal, and how each of them is kept up. A consumer that is added is added here: metrics, `/readyz` and
//! `livedrop consumers` show what is listed.

use super::supervisor::{Need, Supervisor};
use crate::actors::consumers::{About, Consumer, Lag, Progress, projector, runner};
use crate::actors::outage::Outage;
use crate::actors::realtime::broadcaster::{self, Broadcaster, Pump};
use crate::actors::{Clock, Hub, Projector, Registry};
use crate::domain::DropId;
use crate::journal::JournalReader;
use crate::service::events::{self, Events, EventsUrl, HttpTarget, Kept};
use crate::service::settle::Settler;
use crate::service::settle::refunds::{self, Relay};
use crate::storage::Store;
use actix::{Actor, Arbiter};
use actix_web::rt::spawn;
use std::{io, rc::Rc, sync::Arc};
use tokio::{
    sync::{Mutex, watch},
    task::JoinHandle,
};

/// All there are.
pub const ALL: [&About; 4] = [&projector::ABOUT, &broadcaster::ABOUT, &refunds::ABOUT, &events::ABOUT];

/// Starts consumers, each under the supervisor by its own name.
pub(super) struct Consumers {
    supervisor: Supervisor,
    stopped: watch::Receiver<bool>,
    running: Vec<Arc<Progress>>,
}

impl Consumers {
    /// They do what is durable when `stopped` says so, and end.
    pub fn new(supervisor: Supervisor, stopped: watch::Receiver<bool>) -> Self {
        Self { supervisor, stopped, running: Vec::new() }
    }

    /// Fills SQL.
    pub fn project(&mut self, projector: Projector) -> JoinHandle<()> {
        self.keep(projector)
    }

    /// Runs a consumer that outlives its panics, and is told when it begins again.
    fn keep<C: Consumer + 'static>(&mut self, consumer: C) -> JoinHandle<()> {
        let name = consumer.tail().about().name;
        self.running.push(Arc::clone(consumer.tail().progress()));
        let (consumer, stopped) = (Rc::new(Mutex::new(consumer)), self.stopped.clone());
        let run = move |again| {
            let (consumer, stopped) = (Rc::clone(&consumer), stopped.clone());
            async move {
                let mut consumer = consumer.lock().await;
                if again {
                    consumer.begin_again();
                }
                runner::run(&mut *consumer, stopped).await;
            }
        };
        spawn(self.supervisor.clone().keep(name, Need::Useful, run))
    }

    /// Tells sessions. The broadcaster's state is its own: without it, or without what feeds it, sessions would hear nothing, and a new
    /// process rebuilds it.
    pub fn broadcast(
        &mut self,
        broadcaster: Broadcaster,
        reader: &JournalReader,
        last: u64,
        registry: &Registry,
        (clock, outage): (&Clock, &Outage),
    ) -> Hub {
        let arbiter = Arbiter::new();
        let address = Broadcaster::start_in_arbiter(&arbiter.handle(), |_| broadcaster);
        let pump = Pump::new(reader, last, address.clone(), registry.clone());
        self.running.push(Arc::clone(pump.tail().progress()));
        let (mut pump, stopped) = (Some(pump), self.stopped.clone());
        let run = move |_| {
            let (pump, stopped) = (pump.take(), stopped.clone());
            async move {
                if let Some(mut pump) = pump {
                    runner::run(&mut pump, stopped).await;
                }
            }
        };
        let kept = self.supervisor.clone().keep(broadcaster::ABOUT.name, Need::Vital { restarts_max: 0 }, run);
        arbiter.spawn(kept);
        Hub::new(address, clock.clone(), outage.clone())
    }

    /// Gives money back. `owing`: drops that owed refunds at record `last`. When it begins again it asks all drops.
    pub fn relay_refunds(
        &mut self,
        reader: &JournalReader,
        last: u64,
        owing: Vec<DropId>,
        settler: &Settler,
        registry: &Registry,
    ) -> JoinHandle<()> {
        let progress = Progress::new(&refunds::ABOUT);
        self.running.push(Arc::clone(&progress));
        let (with, reader) = ((settler.clone(), registry.clone()), reader.clone());
        let (mut owing, stopped) = (Some(owing), self.stopped.clone());
        let run = move |_| {
            let (progress, with, stopped) = (Arc::clone(&progress), with.clone(), stopped.clone());
            let mut relay = match owing.take() {
                Some(owing) => Relay::new(progress, &reader, last, owing, with),
                None => Relay::of_state(progress, &reader, with),
            };
            async move { runner::run(&mut relay, stopped).await }
        };
        spawn(self.supervisor.clone().keep(refunds::ABOUT.name, Need::Useful, run))
    }

    /// Sends events to another system, from after this record. Two tasks: the other one copies the offset into the database.
    ///
    /// # Errors
    /// Where what it keeps in the data directory cannot be read.
    pub fn send_events(
        &mut self,
        reader: &JournalReader,
        after: u64,
        (kept, url): (Kept, EventsUrl),
        store: &Arc<dyn Store>,
    ) -> io::Result<[JoinHandle<()>; 2]> {
        let progress = Progress::new(&events::ABOUT);
        progress.sets_aside(kept.dead.all()?.len());
        let sending = self.keep(Events::new(Arc::clone(&progress), reader, after, kept, HttpTarget::new(url)));
        let (reader, store) = (reader.clone(), Arc::clone(store));
        let copy = move |_| events::copy_offset(Arc::clone(&progress), reader.clone(), Arc::clone(&store));
        Ok([sending, spawn(self.supervisor.clone().keep("events_offset", Need::Useful, copy))])
    }

    /// Those that were started.
    pub fn roster(&self, reader: &JournalReader, clock: &Clock) -> Roster {
        debug_assert!(self.running.iter().all(|running| ALL.contains(&running.about())));
        Roster { running: self.running.clone().into(), reader: reader.clone(), clock: clock.clone() }
    }
}

/// How the consumers do. Cheap to clone.
#[derive(Clone)]
pub(super) struct Roster {
    running: Arc<[Arc<Progress>]>,
    reader: JournalReader,
    clock: Clock,
}

impl Roster {
    /// Each of them, and how far it is behind.
    pub fn each(&self) -> impl Iterator<Item = (&Progress, Lag)> {
        let now = self.clock.now();
        self.running.iter().map(move |progress| (&**progress, progress.lag(&self.reader, now)))
    }
}
