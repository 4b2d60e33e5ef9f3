//! All stages of the demo.

use super::{
    AuditVerdict, DemoError, audit,
    client::Client,
    counters::Counters,
    follower::{self, Listeners, Received},
    market::{Market, Phase},
    options::{DemoOptions, HOLD_SECONDS},
    place::Place,
    promises::Promise,
    readback,
    report::{Findings, Report},
    rush::{self, CrashNote, CrashPlan, Outcome, Stand},
    server::Server,
    setup::{self, Participants},
};
use std::{
    path::PathBuf,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};
use tokio::{sync::watch, task::JoinSet, time};

/// Time limit for all followers to connect.
const CONNECT_PATIENCE: Duration = Duration::from_secs(60);
/// Time limit for the last event to reach all followers.
const LAST_EVENT_PATIENCE: Duration = Duration::from_secs(5);

/// The state that every stage needs.
pub struct Show<'a> {
    pub options: &'a DemoOptions,
    pub place: &'a Place,
    pub counters: Arc<Counters>,
    pub seed: u64,
}

/// The sessions of all followers.
struct Audience {
    sessions: JoinSet<Received>,
    leave: watch::Sender<bool>,
}

impl Show<'_> {
    /// Runs all stages and returns the report.
    ///
    /// # Errors
    /// [`DemoError`] if the demo could not be completed; a broken promise is not an error but a finding.
    pub async fn play(
        &self,
        audit: impl AsyncFnOnce(PathBuf, Option<String>) -> Result<AuditVerdict, String>,
    ) -> Result<Report, DemoError> {
        self.counters.enter("starting the server", 0);
        let mut server = self.place.launch(self.options)?.start().await?;
        let client = Arc::new(Client::new(server.addr(), self.options.buyer_connections()));
        let participants = alive(&mut server, setup::gather(&client, &self.counters, self.options)).await?;
        let addr = server.addr();
        let audience = alive(&mut server, self.seat_followers(addr, &participants)).await?;
        let (phase, phases) = watch::channel(Phase::Waiting);
        let market = Arc::new(self.market(client, participants.drop_id, phases));
        let (outcome, crash) = self.rush(&mut server, &participants, market.clone(), phase).await?;
        let rest = async {
            self.dismiss(audience, outcome.end).await;
            readback::read_back(&market, &outcome.stories).await;
            Ok(())
        };
        alive(&mut server, rest).await?;
        // Open connections would only delay the server's end.
        drop(market);
        self.counters.enter("stopping the server", 0);
        if let Err(what) = server.stop().await {
            self.counters.broke(Promise::CleanShutdown, format!("asked to stop, the server ended so: {what}"));
        }
        self.counters.enter("auditing journal and database", 0);
        let verdict = audit(self.place.data_dir(), self.options.database_url.clone()).await;
        audit::compare(&verdict, participants.drop_id, outcome.stock, &self.counters);
        self.counters.enter("done", 0);
        let findings = Findings {
            seed: self.seed,
            rush_ms: u64::try_from(outcome.took.as_millis()).unwrap_or(u64::MAX),
            stock: outcome.stock,
            crash,
            audited_orders: verdict.map_or(0, |verdict| verdict.orders),
        };
        Ok(Report::new(self.options, &self.counters, findings))
    }

    fn market(&self, client: Arc<Client>, drop_id: crate::domain::DropId, phase: watch::Receiver<Phase>) -> Market {
        Market {
            client,
            counters: self.counters.clone(),
            drop_id,
            phase,
            polite_pause: self.options.polite_pause(),
            hold: Duration::from_secs(HOLD_SECONDS.into()),
            units_wanted: self.options.units_wanted(),
            seed: self.seed,
        }
    }

    async fn seat_followers(
        &self,
        addr: std::net::SocketAddr,
        participants: &Participants,
    ) -> Result<Audience, DemoError> {
        let count = participants.followers.len() as u64;
        self.counters.enter("connecting the followers", 0);
        let (leave, leaving) = watch::channel(false);
        let listeners = Arc::new(Listeners {
            addr,
            drop_id: participants.drop_id,
            counters: self.counters.clone(),
            leave: leaving,
        });
        let mut sessions = JoinSet::new();
        for token in &participants.followers {
            sessions.spawn(follower::listen(listeners.clone(), token.clone()));
        }
        match follower::all_listening(&self.counters, count, CONNECT_PATIENCE).await {
            Ok(()) => Ok(Audience { sessions, leave }),
            Err(connected) => Err(DemoError::Setup {
                what: "connect every follower",
                why: format!("{connected} of {count} listened after {CONNECT_PATIENCE:?}"),
            }),
        }
    }

    async fn rush(
        &self,
        server: &mut Server,
        participants: &Participants,
        market: Arc<Market>,
        phase: watch::Sender<Phase>,
    ) -> Result<(Outcome, Option<CrashNote>), DemoError> {
        self.counters.enter("the rush", 0);
        let (upright, seen_upright) = watch::channel(!self.options.crash);
        let stand = Stand {
            market,
            client: Client::new(server.addr(), 1),
            participants,
            phase,
            time_limit: self.options.time_limit(),
            upright: seen_upright,
        };
        let plan = self.options.crash.then(|| CrashPlan {
            accepted: u64::from(self.options.stock.div_ceil(3)),
            latest: Instant::now() + self.options.time_limit() / 2,
        });
        let mut note = None;
        let outcome = tokio::select! {
            outcome = stand.run() => outcome?,
            error = rush::look_after(server, plan, &self.counters, &upright, &mut note) => return Err(error),
        };
        Ok((outcome, note))
    }

    /// Waits for the last events, disconnects the followers and records what they missed.
    async fn dismiss(&self, mut audience: Audience, end: Instant) {
        let count = audience.sessions.len() as u64;
        let everyone_heard = async {
            while self.counters.heard_the_end.load(Relaxed) < count {
                time::sleep(Duration::from_millis(10)).await;
            }
        };
        // Followers without the last event are named below.
        let _ = time::timeout(LAST_EVENT_PATIENCE, everyone_heard).await;
        audience.leave.send_replace(true);
        let sold_out = self.counters.sold_out.load(Relaxed);
        while let Some(heard) = audience.sessions.join_next().await {
            match heard.map(|heard| heard.missed(sold_out, end)) {
                Ok(None) => {}
                Ok(Some(missed)) => self.counters.broke(Promise::EveryoneHeard, format!("a follower {missed}")),
                Err(why) => self.counters.broke(Promise::EveryoneHeard, format!("a follower failed: {why}")),
            }
        }
    }
}

/// Does `work` unless the server exits.
async fn alive<T>(server: &mut Server, work: impl Future<Output = Result<T, DemoError>>) -> Result<T, DemoError> {
    tokio::select! {
        result = work => result,
        error = server.died() => Err(error),
    }
}
