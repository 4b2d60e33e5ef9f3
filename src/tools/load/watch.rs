//! Watching sessions: WebSockets that are subscribed to the run's first drop. A session that loses its connection
//! reconnects as the documented client does, and must have missed nothing.

use super::counters::{Waits, histogram, of};
use super::error::LoadError;
use super::setup::stock;
use super::target::Target;
use dashmap::{DashMap, Entry};
use futures_util::{SinkExt, StreamExt};
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

const OPENING_MAX: usize = 64;
/// Time limit for all sessions to open, and in the end for the last event to arrive everywhere.
const PATIENCE: Duration = Duration::from_secs(60);
/// The longest pause before a refused session is tried again.
const PAUSE_MS_MAX: u64 = 1_000;
/// Small, because there are many sessions.
const READ_BUFFER_BYTES: usize = 4 << 10;
/// Delays that a session collects before it hands them over.
const DELAYS_AT_ONCE: usize = 256;
/// The total is not known yet.
const UNKNOWN: u64 = u64::MAX;

/// The result of the watching sessions.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Watched {
    pub sessions: u32,
    /// Messages that arrived during the run.
    pub deliveries: u64,
    pub deliveries_per_second: f64,
    /// Sessions that were lost and opened again.
    pub came_back: u64,
    /// From sending a restock to receiving its event.
    pub delay: Waits,
}

/// Shared by all sessions.
pub struct Watch {
    target: Target,
    drop: String,
    /// When the restock with this resulting total was sent.
    sent: DashMap<u64, Instant>,
    /// The total that each session knows.
    totals: Vec<AtomicU64>,
    deliveries: AtomicU64,
    came_back: AtomicU64,
    /// Restocks that a session received twice, or not at all.
    gaps: AtomicU64,
    delays: Mutex<Histogram<u64>>,
    over: watch::Sender<bool>,
}

/// The needed fields of a message.
#[derive(Deserialize)]
struct Received<'a> {
    #[serde(borrow)]
    r#type: Cow<'a, str>,
    id: Option<Cow<'a, str>>,
    stock: Option<Total>,
    drops: Option<Vec<Snapshot>>,
}

#[derive(Deserialize)]
struct Snapshot {
    stock: Total,
}

#[derive(Deserialize)]
struct Total {
    total: u64,
}

/// One session, over all its connections.
struct Watcher {
    watch: Arc<Watch>,
    index: usize,
    /// The id of the last received event.
    since: Option<String>,
    /// Restocks received before their sender had the answer.
    early: Vec<(u64, Instant)>,
    delays: Vec<u64>,
}

impl Watch {
    /// Opens the sessions and waits until all of them are subscribed.
    ///
    /// # Errors
    /// [`LoadError::Setup`] if some are not admitted.
    pub async fn open(target: &Target, drop: &str, sessions: u32) -> Result<Arc<Self>, LoadError> {
        let watch = Arc::new(Self {
            target: target.clone(),
            drop: drop.to_owned(),
            sent: DashMap::new(),
            totals: (0..sessions).map(|_| AtomicU64::new(UNKNOWN)).collect(),
            deliveries: AtomicU64::new(0),
            came_back: AtomicU64::new(0),
            gaps: AtomicU64::new(0),
            delays: Mutex::new(histogram()),
            over: watch::Sender::new(false),
        });
        let doors = Arc::new(tokio::sync::Semaphore::new(OPENING_MAX));
        for index in 0..sessions as usize {
            let (watcher, doors) = (Watcher::new(Arc::clone(&watch), index), Arc::clone(&doors));
            tokio::spawn(watcher.stay(doors));
        }
        let known = |watch: &Self| watch.totals.iter().all(|total| total.load(Ordering::Relaxed) != UNKNOWN);
        if !watch.until(known).await {
            let missing = watch.totals.iter().filter(|total| total.load(Ordering::Relaxed) == UNKNOWN).count();
            return Err(LoadError::Setup(format!("{missing} of {sessions} watchers did not get in")));
        }
        watch.deliveries.store(0, Ordering::Relaxed);
        Ok(watch)
    }

    /// Records that a restock was sent at that time and answered with that total. The total may include another restock
    /// at the same time; then this restock belongs to the last earlier total without a sender.
    pub fn published(&self, total: u64, sent: Instant) {
        for own in (0..=total).rev() {
            if let Entry::Vacant(free) = self.sent.entry(own) {
                free.insert(sent);
                return;
            }
        }
    }

    /// The result over this many seconds, and its faults.
    pub async fn finish(&self, seconds: f64) -> (Watched, Vec<String>) {
        let deliveries = self.deliveries.load(Ordering::Relaxed);
        let mut findings = Vec::new();
        match stock(&self.target, &self.drop).await {
            Some(last) => {
                let current = |watch: &Self| watch.behind(last.total) == 0;
                if !self.until(current).await {
                    let behind = self.behind(last.total);
                    findings.push(format!("{behind} watchers did not hear of the last restock"));
                }
            }
            None => findings.push(format!("drop {}: its stock cannot be read", self.drop)),
        }
        let gaps = self.gaps.load(Ordering::Relaxed);
        if gaps > 0 {
            findings.push(format!("{gaps} restocks were heard twice, out of order, or not at all by somebody"));
        }
        self.over.send_replace(true);
        // Waits until the last delays are handed over.
        while self.over.receiver_count() > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let watched = Watched {
            sessions: self.totals.len() as u32,
            deliveries,
            deliveries_per_second: deliveries as f64 / seconds,
            came_back: self.came_back.load(Ordering::Relaxed),
            delay: of(&self.delays.lock().unwrap_or_else(PoisonError::into_inner)),
        };
        (watched, findings)
    }

    fn behind(&self, total: u64) -> usize {
        self.totals.iter().filter(|known| known.load(Ordering::Relaxed) != total).count()
    }

    async fn until(&self, done: impl Fn(&Self) -> bool) -> bool {
        let deadline = Instant::now() + PATIENCE;
        while !done(self) {
            if Instant::now() >= deadline {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        true
    }
}

impl Watcher {
    fn new(watch: Arc<Watch>, index: usize) -> Self {
        Self { watch, index, since: None, early: Vec::new(), delays: Vec::new() }
    }

    /// Receives events until the run is over.
    async fn stay(mut self, doors: Arc<tokio::sync::Semaphore>) {
        let mut over = self.watch.over.subscribe();
        let mut first = true;
        while !*over.borrow() {
            let opened = async {
                // The semaphore is never closed.
                let _door = doors.acquire().await.ok()?;
                self.connect().await.ok()
            };
            let session = tokio::select! {
                session = opened => session,
                _ = over.changed() => break,
            };
            match session {
                Some(session) => {
                    if !std::mem::take(&mut first) {
                        self.watch.came_back.fetch_add(1, Ordering::Relaxed);
                    }
                    tokio::select! {
                        () = self.listen(session) => {}
                        _ = over.changed() => {}
                    }
                }
                None => {
                    let pause = Duration::from_millis(rand::random_range(0..PAUSE_MS_MAX));
                    tokio::select! {
                        () = tokio::time::sleep(pause) => {}
                        _ = over.changed() => {}
                    }
                }
            }
        }
        self.match_early();
        self.hand_over();
    }

    async fn connect(&self) -> Result<WebSocketStream<TcpStream>, Error> {
        let Watch { target, drop, .. } = &*self.watch;
        let socket = TcpStream::connect(target.address).await?;
        let since = self.since.as_ref().map(|since| format!("&since={since}")).unwrap_or_default();
        let url = format!("ws://{}/api/v1/notifications?topics=drop:{drop}{since}", target.host);
        let config = WebSocketConfig::default().read_buffer_size(READ_BUFFER_BYTES);
        Ok(client_async_with_config(url, socket, Some(config)).await?.0)
    }

    async fn listen(&mut self, mut session: WebSocketStream<TcpStream>) {
        while let Some(Ok(message)) = session.next().await {
            match message {
                Message::Text(text) => self.hear(&text),
                // Sends queued answers to pings and closes.
                _ => _ = session.flush().await,
            }
        }
    }

    fn hear(&mut self, text: &str) {
        let Ok(heard) = serde_json::from_str::<Received<'_>>(text) else { return };
        self.watch.deliveries.fetch_add(1, Ordering::Relaxed);
        if let Some(id) = heard.id {
            self.since = Some(id.into_owned());
        }
        let known = &self.watch.totals[self.index];
        match (&*heard.r#type, heard.stock, heard.drops) {
            ("snapshot", _, Some(drops)) => {
                if let Some(Snapshot { stock }) = drops.first() {
                    known.store(stock.total, Ordering::Relaxed);
                }
            }
            ("restocked", Some(Total { total }), _) => {
                let before = known.swap(total, Ordering::Relaxed);
                if before.checked_add(1) != Some(total) {
                    self.watch.gaps.fetch_add(1, Ordering::Relaxed);
                }
                self.match_early();
                self.early.push((total, Instant::now()));
                self.match_early();
            }
            _ => {}
        }
    }

    /// Times received restocks whose sending time is known.
    fn match_early(&mut self) {
        let (sent, delays) = (&self.watch.sent, &mut self.delays);
        self.early.retain(|(total, heard)| {
            let Some(sent) = sent.get(total) else { return true };
            delays.push(u64::try_from(heard.saturating_duration_since(*sent).as_micros()).unwrap_or(u64::MAX));
            false
        });
        if self.delays.len() >= DELAYS_AT_ONCE {
            self.hand_over();
        }
    }

    fn hand_over(&mut self) {
        let mut all = self.watch.delays.lock().unwrap_or_else(PoisonError::into_inner);
        self.delays.drain(..).for_each(|delay| all.saturating_record(delay.max(1)));
    }
}
