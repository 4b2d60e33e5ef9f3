//! One follower: a WebSocket session that gets the creator's drops, reconnects when necessary, and checks the events.

use super::{
    counters::{Counters, add},
    promises::Promise,
    wire::{BASE, Message as Heading},
};
use crate::domain::{DropId, Timestamp};
use futures_util::{SinkExt, StreamExt};
use rand::Rng;
use std::{
    net::SocketAddr,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use tokio::{net::TcpStream, sync::watch, time};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Message, client::IntoClientRequest, protocol::CloseFrame, protocol::frame::coding::CloseCode},
};

/// Time limit for opening and authenticating a connection; past it the follower tries again.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// Close codes that mean "do not reconnect".
const DO_NOT_RECONNECT: std::ops::RangeInclusive<u16> = 4400..=4499;

/// Shared by all followers.
pub struct Listeners {
    pub addr: SocketAddr,
    pub drop_id: DropId,
    pub counters: Arc<Counters>,
    /// Becomes true when the followers may leave.
    pub leave: watch::Receiver<bool>,
}

/// The events that one follower received.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Received {
    pub started: bool,
    pub sold_out: bool,
    pub ended: bool,
    /// How often it was connected and authenticated.
    pub connections: u32,
    /// The start of the current connection; absent while disconnected.
    pub connected_since: Option<Instant>,
    /// Why the server closed it without reconnection.
    pub sent_away: Option<String>,
}

impl Received {
    /// The event that this follower should have received and did not, for a drop that was `sold_out` or not and ended
    /// at `end`. A follower that reconnected may have missed earlier events.
    #[must_use]
    pub fn missed(&self, sold_out: bool, end: Instant) -> Option<String> {
        if let Some(why) = &self.sent_away {
            return Some(format!("was sent away: {why}"));
        }
        let Some(since) = self.connected_since else {
            return Some(format!("was connected {} times and is not any more", self.connections));
        };
        let all_along = self.connections == 1;
        let in_time = since < end;
        let missed: Vec<&str> = [
            ("drop_started", all_along && !self.started),
            ("sold_out", all_along && sold_out && !self.sold_out),
            ("drop_ended", in_time && !self.ended),
        ]
        .iter()
        .filter_map(|(event, missed)| missed.then_some(*event))
        .collect();
        (!missed.is_empty()).then(|| format!("did not hear {}", missed.join(" and ")))
    }
}

type Socket = WebSocketStream<TcpStream>;

/// Receives events until the followers may leave.
pub async fn listen(listeners: Arc<Listeners>, token: Arc<str>) -> Received {
    let mut heard = Received::default();
    let mut leave = listeners.leave.clone();
    while !*leave.borrow() {
        let session = async {
            if let Ok(Ok(socket)) = time::timeout(CONNECT_TIMEOUT, connect(listeners.addr, &token)).await {
                hear(&listeners, socket, &mut heard).await;
                heard.connected_since = None;
            }
        };
        tokio::select! {
            () = session => {}
            _ = leave.wait_for(|leave| *leave) => break,
        }
        if heard.sent_away.is_some() {
            break;
        }
        // With jitter, as the API requires: a crowd that reconnects at once is the next outage.
        let pause = Duration::from_millis(rand::rng().random_range(50..500));
        let _ = time::timeout(pause, leave.wait_for(|leave| *leave)).await;
    }
    heard
}

async fn connect(addr: SocketAddr, token: &str) -> Result<Socket, String> {
    let text = |why: &dyn std::fmt::Display| why.to_string();
    let mut request = format!("ws://{addr}{BASE}/notifications").into_client_request().map_err(|why| text(&why))?;
    let bearer = format!("Bearer {token}").parse().map_err(|_| "the token is no header value".to_owned())?;
    request.headers_mut().insert("authorization", bearer);
    let stream = TcpStream::connect(addr).await.map_err(|why| text(&why))?;
    stream.set_nodelay(true).map_err(|why| text(&why))?;
    let (socket, _) = client_async(request, stream).await.map_err(|why| text(&why))?;
    Ok(socket)
}

/// Counts a follower as connected while it lives, however its session ends.
struct Listening<'a>(&'a Counters);

impl<'a> Listening<'a> {
    fn new(counters: &'a Counters) -> Self {
        add(&counters.listening);
        Self(counters)
    }
}

impl Drop for Listening<'_> {
    fn drop(&mut self) {
        self.0.listening.fetch_sub(1, Relaxed);
    }
}

/// Runs one session until it is closed.
async fn hear(listeners: &Listeners, mut socket: Socket, heard: &mut Received) {
    let mut listening = None;
    while let Some(Ok(message)) = socket.next().await {
        match message {
            Message::Text(text) => {
                let Ok(message) = serde_json::from_str::<Heading>(&text) else {
                    listeners.counters.broke(Promise::EveryoneHeard, format!("an unreadable message: {text}"));
                    continue;
                };
                if message.kind == "authenticated" && listening.is_none() {
                    listening = Some(Listening::new(&listeners.counters));
                    authenticated(listeners, message.following, heard);
                }
                event(listeners, &message, heard);
            }
            Message::Close(frame) => {
                heard.sent_away = frame.as_ref().and_then(for_good);
                // The answer to the close; the server may be gone already.
                let _ = socket.flush().await;
                return;
            }
            // The library answers pings; other messages are not expected.
            _ => {}
        }
    }
}

fn authenticated(listeners: &Listeners, following: Option<u32>, heard: &mut Received) {
    heard.connections += 1;
    heard.connected_since = Some(Instant::now());
    if heard.connections > 1 {
        add(&listeners.counters.reconnections);
    }
    if following == Some(0) {
        listeners.counters.broke(Promise::EveryoneHeard, "a follower's session follows nobody".to_owned());
    }
}

fn for_good(frame: &CloseFrame) -> Option<String> {
    let code = u16::from(frame.code);
    let sent_away = DO_NOT_RECONNECT.contains(&code) || frame.code == CloseCode::Size;
    sent_away.then(|| format!("{code} {}", frame.reason))
}

fn event(listeners: &Listeners, message: &Heading<'_>, heard: &mut Received) {
    if message.drop_id != Some(listeners.drop_id) {
        return;
    }
    let counters = &listeners.counters;
    add(&counters.events);
    match message.kind.as_ref() {
        "drop_started" => heard.started = true,
        "sold_out" => heard.sold_out = true,
        "drop_ended" if !heard.ended => {
            heard.ended = true;
            add(&counters.heard_the_end);
        }
        _ => {}
    }
    if let Some(at) = message.at {
        let histogram =
            if message.kind == "stock_changed" { &counters.stock_event_latency } else { &counters.event_latency };
        histogram.record(since(at));
    }
    if let Some(stock) = message.stock {
        counters.check_stock(stock, &message.variants, &message.kind);
    }
}

/// From `at`, which is cut to the millisecond, to now: at most one millisecond too long, never too short.
fn since(at: Timestamp) -> Duration {
    let at = Duration::from_millis(at.as_millis().unsigned_abs());
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().saturating_sub(at)
}

/// Waits until `count` followers are connected.
///
/// # Errors
/// The number of connected ones, if the time limit passes.
pub async fn all_listening(counters: &Counters, count: u64, time_limit: Duration) -> Result<(), u64> {
    let everyone = async {
        while counters.listening.load(Relaxed) < count {
            time::sleep(Duration::from_millis(5)).await;
        }
    };
    time::timeout(time_limit, everyone).await.map_err(|_| counters.listening.load(Relaxed))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listeners() -> Listeners {
        let (_, leave) = watch::channel(false);
        let addr = SocketAddr::from(([127, 0, 0, 1], 1));
        Listeners { addr, drop_id: DropId::new(), counters: Arc::new(Counters::new(10)), leave }
    }

    fn connected(connections: u32) -> Received {
        Received { connections, connected_since: Some(Instant::now()), ..Default::default() }
    }

    fn send(listeners: &Listeners, kind: &str, drop: DropId, sold: u32, heard: &mut Received) {
        let at = crate::actors::clock::system_time();
        let text = format!(
            r#"{{"type":"{kind}","at":"{at}","drop_id":"{drop}",
                "stock":{{"total":10,"available":{},"held":0,"sold":{sold}}}}}"#,
            10 - sold.min(10)
        );
        event(listeners, &serde_json::from_str(&text).unwrap(), heard);
    }

    #[test]
    fn a_follower_notes_what_it_hears_of_its_drop_only() {
        let (listeners, mut heard) = (listeners(), connected(1));
        send(&listeners, "drop_started", DropId::new(), 0, &mut heard);
        assert_eq!((heard.started, listeners.counters.events.load(Relaxed)), (false, 0));
        for (kind, sold) in [("drop_started", 0), ("stock_changed", 5), ("sold_out", 10), ("drop_ended", 10)] {
            send(&listeners, kind, listeners.drop_id, sold, &mut heard);
        }
        assert_eq!(heard.missed(true, Instant::now()), None);
        assert_eq!(listeners.counters.events.load(Relaxed), 4);
        assert_eq!(listeners.counters.event_latency.percentiles().count, 3);
        assert_eq!(listeners.counters.stock_event_latency.percentiles().count, 1);
        assert!(listeners.counters.promises().iter().all(|kept| kept.kept));
        send(&listeners, "stock_changed", listeners.drop_id, 11, &mut heard);
        assert_eq!(listeners.counters.oversold(), 1);
    }

    #[test]
    fn what_was_missed_is_named_unless_a_reconnection_explains_it() {
        let end = Instant::now() + Duration::from_secs(1);
        let heard = Received { started: true, ended: true, ..connected(1) };
        assert_eq!(heard.missed(false, end), None);
        assert_eq!(heard.missed(true, end).as_deref(), Some("did not hear sold_out"));
        assert_eq!(Received { connections: 2, ..heard.clone() }.missed(true, end), None);
        assert_eq!(connected(1).missed(false, end).as_deref(), Some("did not hear drop_started and drop_ended"));
        assert_eq!(connected(2).missed(true, end).as_deref(), Some("did not hear drop_ended"));
        let before = Instant::now();
        assert_eq!(connected(2).missed(true, before), None, "it came back after the end");
        assert!(Received::default().missed(false, end).is_some(), "never connected");
        assert!(Received { sent_away: Some("4401".into()), ..heard }.missed(false, end).is_some());
    }

    #[test]
    fn only_some_close_codes_are_final() {
        let frame = |code: u16| CloseFrame { code: code.into(), reason: "".into() };
        assert!([4400, 4401, 1009].iter().all(|code| for_good(&frame(*code)).is_some()));
        assert!([1000, 1001, 1012, 4000, 4001].iter().all(|code| for_good(&frame(*code)).is_none()));
    }
}
