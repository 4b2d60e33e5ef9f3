//! The rush itself: start, watch, perhaps crash, end, and wait until no hold is left.

use super::{
    DemoError,
    buyer::{self, Story},
    client::{Answer, Call, Client},
    counters::Counters,
    follower,
    market::{Market, PATIENCE, Phase},
    promises::Promise,
    server::Server,
    setup::Participants,
    wire::{BASE, StockReading},
};
use crate::domain::StockCounts;
use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};
use tokio::{sync::watch, task::JoinSet, time};

/// Time between two readings of the stock.
const WATCH_INTERVAL: Duration = Duration::from_millis(40);
/// How long the demo waits for holds past their expiry.
const HOLDS_PATIENCE: Duration = Duration::from_secs(20);

/// How long disconnected followers have to reconnect.
const RETURN_PATIENCE: Duration = Duration::from_secs(10);

/// The state of the rush besides the market.
pub struct Stand<'a> {
    pub market: Arc<Market>,
    /// The creator's own client: it does not queue with the buyers.
    pub client: Client,
    pub participants: &'a Participants,
    pub phase: watch::Sender<Phase>,
    pub time_limit: Duration,
    /// False before a planned crash and while the server is away.
    pub upright: watch::Receiver<bool>,
}

/// The result of the rush.
pub struct Outcome {
    pub stories: Vec<Story>,
    /// The stock when no hold was left.
    pub stock: StockCounts,
    /// From the start to the last unit sold, or to the time limit.
    pub took: Duration,
    /// When the drop was ended.
    pub end: Instant,
}

impl Stand<'_> {
    /// Runs the crowd, and returns when the drop has ended and no hold is left.
    ///
    /// # Errors
    /// [`DemoError::Setup`] if the drop cannot be started, ended or read.
    pub async fn run(self) -> Result<Outcome, DemoError> {
        let mut crowd = JoinSet::new();
        for (number, token) in (0u32..).zip(&self.participants.buyers) {
            crowd.spawn(buyer::play(self.market.clone(), number, token.clone()));
        }
        self.command("start").await?;
        let start = Instant::now();
        self.phase.send_replace(Phase::Rush);
        self.watch(start).await;
        let took = start.elapsed();
        self.back_on_its_feet().await;
        self.phase.send_replace(Phase::Over);
        self.counters().enter("settling", 0);
        let end = Instant::now();
        self.command("end").await?;
        let stories = crowd.join_all().await;
        let stock = self.settled().await?;
        Ok(Outcome { stories, stock, took, end })
    }

    /// Waits for a planned crash, and until everybody is connected again: both come before the drop's end.
    async fn back_on_its_feet(&self) {
        let mut upright = self.upright.clone();
        let _ = upright.wait_for(|upright| *upright).await;
        let everyone = self.participants.followers.len() as u64;
        // Followers who are still disconnected are named when the followers leave.
        let _ = follower::all_listening(self.counters(), everyone, RETURN_PATIENCE).await;
    }

    fn counters(&self) -> &Counters {
        &self.market.counters
    }

    async fn command(&self, verb: &'static str) -> Result<(), DemoError> {
        let path = format!("{BASE}/drops/{}/{verb}", self.market.drop_id);
        let answer =
            self.ask(Call::post(path, Some(&self.participants.creator), None), Instant::now() + PATIENCE).await?;
        if answer.is_success() { Ok(()) } else { Err(DemoError::Setup { what: verb, why: answer.text() }) }
    }

    async fn ask(&self, call: Call, deadline: Instant) -> Result<Answer, DemoError> {
        let answer = self.client.send_patiently(&call, deadline, self.counters()).await;
        answer.ok_or(DemoError::Setup { what: "get an answer", why: call.path })
    }

    /// Watches the stock until all units are sold or the time is up.
    async fn watch(&self, start: Instant) {
        let mut ticks = time::interval(WATCH_INTERVAL);
        ticks.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
        while start.elapsed() < self.time_limit {
            ticks.tick().await;
            // While the server is away the reading fails; the next one will show.
            if let Ok(stock) = self.stock(Instant::now() + WATCH_INTERVAL).await
                && stock.sold == stock.total
            {
                return;
            }
        }
    }

    /// Waits until the last hold is paid or expired.
    async fn settled(&self) -> Result<StockCounts, DemoError> {
        let deadline = Instant::now() + self.market.hold + HOLDS_PATIENCE;
        loop {
            let stock = self.stock(deadline).await?;
            if stock.held == 0 {
                return Ok(stock);
            }
            if Instant::now() > deadline {
                let text = format!("{} units are still held long after every hold's end", stock.held);
                self.counters().broke(Promise::NothingLost, text);
                return Ok(stock);
            }
            time::sleep(WATCH_INTERVAL).await;
        }
    }

    async fn stock(&self, deadline: Instant) -> Result<StockCounts, DemoError> {
        let call = Call::get(format!("{BASE}/drops/{}/stock", self.market.drop_id), &self.participants.creator);
        let answer = self.ask(call, deadline).await?;
        if !answer.is_success() {
            return Err(DemoError::Setup { what: "read the stock", why: answer.text() });
        }
        let reading: StockReading = answer.json().map_err(|why| DemoError::Setup { what: "read the stock", why })?;
        self.counters().stock_read(reading.stock, &reading.variants);
        Ok(reading.stock)
    }
}

/// When to kill the server: after this many accepted orders, or at this time if there are never so many.
pub struct CrashPlan {
    pub accepted: u64,
    pub latest: Instant,
}

/// The data of a crash.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct CrashNote {
    /// Orders that had been accepted when the server was killed.
    pub accepted_before: u64,
    /// From `kill -9` to the new server's first line, recovery included.
    pub back_after_ms: u64,
}

/// Watches the server's process during the rush: kills and restarts it if that is planned, and returns an error if it
/// ever exits by itself.
pub async fn look_after(
    server: &mut Server,
    plan: Option<CrashPlan>,
    counters: &Counters,
    upright: &watch::Sender<bool>,
    note: &mut Option<CrashNote>,
) -> DemoError {
    if let Some(plan) = plan {
        let due = async {
            while counters.accepted.load(Relaxed) < plan.accepted && Instant::now() < plan.latest {
                time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::select! {
            () = due => {}
            error = server.died() => return error,
        }
        let accepted_before = counters.accepted.load(Relaxed);
        let killed = Instant::now();
        counters.enter("killed the server (kill -9), starting it again", 0);
        if let Err(error) = server.crash_and_restart().await {
            return error;
        }
        let back_after_ms = u64::try_from(killed.elapsed().as_millis()).unwrap_or(u64::MAX);
        *note = Some(CrashNote { accepted_before, back_after_ms });
        counters.enter("the rush goes on after the crash", 0);
        upright.send_replace(true);
    }
    server.died().await
}
