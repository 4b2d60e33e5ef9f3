//! All consumers of the journal, and how each is supervised. A new consumer is added here: metrics, `/readyz` and
//! `livedrop consumers` show this list.

use super::supervisor::{Need, Supervisor};
use crate::actors::consumers::{About, Consumer, Lag, Progress, projector, runner};
use crate::actors::outage::Outage;
use crate::actors::realtime::broadcaster::{self, Broadcaster, Pump};
use crate::actors::{Clock, Hub, Projector, Registry};
use crate::domain::DropId;
use crate::journal::JournalReader;
use crate::service::events::{self, Events, EventsUrl, HttpTarget, Kept};
use crate::service::settle::Settler;
use crate::service::settle::relay::{self, Duty, Relay};
use crate::storage::Store;
use actix::{Actor, Arbiter};
use actix_web::rt::spawn;
use std::{io, rc::Rc, sync::Arc};
use tokio::{
    sync::{Mutex, watch},
    task::JoinHandle,
};

/// Every consumer, started or not.
pub const ALL: [&About; 5] =
    [&projector::ABOUT, &broadcaster::ABOUT, &relay::REFUNDS, &relay::CAPTURES, &events::ABOUT];

/// Starts consumers, each as a supervised task with its own name.
pub(super) struct Consumers {
    supervisor: Supervisor,
    stopped: watch::Receiver<bool>,
    running: Vec<Arc<Progress>>,
}

impl Consumers {
    /// When `stopped` becomes true, the consumers finish the durable records and end.
    pub fn new(supervisor: Supervisor, stopped: watch::Receiver<bool>) -> Self {
        Self { supervisor, stopped, running: Vec::new() }
    }

    /// Starts the projector, which fills SQL.
    pub fn project(&mut self, projector: Projector) -> JoinHandle<()> {
        self.keep(projector)
    }

    /// Runs a consumer that survives its panics: it is informed before it runs again.
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

    /// Starts the broadcaster's pump. The broadcaster cannot be restarted alone: without it, or without its pump,
    /// sessions would get no events, and a new process rebuilds its state.
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

    /// Starts a relay. `owing`: drops that owe something at record `last`. After a restart it asks all drops.
    pub fn relay(
        &mut self,
        duty: Duty,
        reader: &JournalReader,
        last: u64,
        owing: Vec<DropId>,
        (settler, registry): (&Settler, &Registry),
    ) -> JoinHandle<()> {
        let progress = Progress::new(duty.about());
        self.running.push(Arc::clone(&progress));
        let (with, reader) = ((settler.clone(), registry.clone()), reader.clone());
        let (mut owing, stopped) = (Some(owing), self.stopped.clone());
        let run = move |_| {
            let (progress, with, stopped) = (Arc::clone(&progress), with.clone(), stopped.clone());
            let mut relay = match owing.take() {
                Some(owing) => Relay::new(duty, progress, &reader, last, owing, with),
                None => Relay::of_state(duty, progress, &reader, with),
            };
            async move { runner::run(&mut relay, stopped).await }
        };
        spawn(self.supervisor.clone().keep(duty.about().name, Need::Useful, run))
    }

    /// Starts the sender of events, after this record, and a second task that copies the offset into the database.
    ///
    /// # Errors
    /// If its files in the data directory cannot be read.
    pub fn send_events(
        &mut self,
        reader: &JournalReader,
        after: u64,
        (kept, url): (Kept, EventsUrl),
        store: &Arc<dyn Store>,
    ) -> io::Result<[JoinHandle<()>; 2]> {
        let progress = Progress::new(&events::ABOUT);
        progress.sets_aside(kept.dead.count()?);
        let sending = self.keep(Events::new(Arc::clone(&progress), reader, after, kept.clone(), HttpTarget::new(url)));
        let (reader, store) = (reader.clone(), Arc::clone(store));
        let copy =
            move |_| events::copy_to_database(Arc::clone(&progress), reader.clone(), Arc::clone(&store), kept.clone());
        Ok([sending, spawn(self.supervisor.clone().keep("events_offset", Need::Useful, copy))])
    }

    /// A view of the started consumers, for metrics and `/readyz`.
    pub fn roster(&self, reader: &JournalReader, clock: &Clock) -> Roster {
        debug_assert!(self.running.iter().all(|running| ALL.contains(&running.about())));
        Roster { running: self.running.clone().into(), reader: reader.clone(), clock: clock.clone() }
    }
}

/// The state of the consumers. Cheap to clone.
#[derive(Clone)]
pub(super) struct Roster {
    running: Arc<[Arc<Progress>]>,
    reader: JournalReader,
    clock: Clock,
}

impl Roster {
    /// Each consumer's state and lag.
    pub fn each(&self) -> impl Iterator<Item = (&Progress, Lag)> {
        let now = self.clock.now();
        self.running.iter().map(move |progress| (&**progress, progress.lag(&self.reader, now)))
    }
}
