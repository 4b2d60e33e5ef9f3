//! One follower: a websocket that hears the creator's drops, connects again when it must, and checks what it hears.

use super::{
    promises::Promise,
    tally::{Tally, add},
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

/// A connection that is not open and authenticated by then is given up and tried again.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// Close codes from here to 4499 mean "do not come back".
const DO_NOT_RECONNECT: std::ops::RangeInclusive<u16> = 4400..=4499;

/// What all followers share.
pub struct Hall {
    pub addr: SocketAddr,
    pub drop_id: DropId,
    pub tally: Arc<Tally>,
    /// Turns true when the followers may leave.
    pub leave: watch::Receiver<bool>,
}

/// What one follower heard.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Heard {
    pub started: bool,
    pub sold_out: bool,
    pub ended: bool,
    /// How often it was connected and authenticated.
    pub connections: u32,
    /// Since when it is, unless it was cut off and is not back.
    pub connected_since: Option<Instant>,
    /// Why it was sent away for good.
    pub sent_away: Option<String>,
}

impl Heard {
    /// What this follower should have heard and did not, of a drop that was `sold_out` or not and was ended at
    /// `end`. A follower who was connected again may have missed what was told before that.
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

/// Listens until the followers may leave.
pub async fn listen(hall: Arc<Hall>, token: Arc<str>) -> Heard {
    let mut heard = Heard::default();
    let mut leave = hall.leave.clone();
    while !*leave.borrow() {
        let session = async {
            if let Ok(Ok(socket)) = time::timeout(CONNECT_TIMEOUT, connect(hall.addr, &token)).await {
                hear(&hall, socket, &mut heard).await;
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
        // With jitter, as the contract asks: a crowd that comes back at once is the next outage.
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

/// Counts a follower among the listening ones for as long as it lives, however its session ends.
struct Listening<'a>(&'a Tally);

impl<'a> Listening<'a> {
    fn new(tally: &'a Tally) -> Self {
        add(&tally.listening);
        Self(tally)
    }
}

impl Drop for Listening<'_> {
    fn drop(&mut self) {
        self.0.listening.fetch_sub(1, Relaxed);
    }
}

/// One session, until it is closed from the other side.
async fn hear(hall: &Hall, mut socket: Socket, heard: &mut Heard) {
    let mut listening = None;
    while let Some(Ok(message)) = socket.next().await {
        match message {
            Message::Text(text) => {
                let Ok(message) = serde_json::from_str::<Heading>(&text) else {
                    hall.tally.broke(Promise::EveryoneHeard, format!("an unreadable message: {text}"));
                    continue;
                };
                if message.kind == "authenticated" && listening.is_none() {
                    listening = Some(Listening::new(&hall.tally));
                    authenticated(hall, message.following, heard);
                }
                event(hall, &message, heard);
            }
            Message::Close(frame) => {
                heard.sent_away = frame.as_ref().and_then(for_good);
                // The answer to the close; the other side may be gone already.
                let _ = socket.flush().await;
                return;
            }
            // Pings are answered by the library; nothing else is part of the contract.
            _ => {}
        }
    }
}

fn authenticated(hall: &Hall, following: Option<u32>, heard: &mut Heard) {
    heard.connections += 1;
    heard.connected_since = Some(Instant::now());
    if heard.connections > 1 {
        add(&hall.tally.reconnections);
    }
    if following == Some(0) {
        hall.tally.broke(Promise::EveryoneHeard, "a follower's session follows nobody".to_owned());
    }
}

fn for_good(frame: &CloseFrame) -> Option<String> {
    let code = u16::from(frame.code);
    let sent_away = DO_NOT_RECONNECT.contains(&code) || frame.code == CloseCode::Size;
    sent_away.then(|| format!("{code} {}", frame.reason))
}

fn event(hall: &Hall, message: &Heading<'_>, heard: &mut Heard) {
    if message.drop_id != Some(hall.drop_id) {
        return;
    }
    let tally = &hall.tally;
    add(&tally.events);
    match message.kind.as_ref() {
        "drop_started" => heard.started = true,
        "sold_out" => heard.sold_out = true,
        "drop_ended" if !heard.ended => {
            heard.ended = true;
            add(&tally.heard_the_end);
        }
        _ => {}
    }
    if let Some(at) = message.at {
        let histogram = if message.kind == "stock_changed" { &tally.stock_event_latency } else { &tally.event_latency };
        histogram.record(since(at));
    }
    if let Some(stock) = message.stock {
        tally.check_stock(stock, &message.variants, &message.kind);
    }
}

/// From `at`, which is cut to the millisecond, to now: at most one millisecond too long, never too short.
fn since(at: Timestamp) -> Duration {
    let at = Duration::from_millis(at.as_millis().unsigned_abs());
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().saturating_sub(at)
}

/// Waits until `count` followers listen.
///
/// # Errors
/// How many did, when they are not enough in time.
pub async fn all_listening(tally: &Tally, count: u64, patience: Duration) -> Result<(), u64> {
    let everyone = async {
        while tally.listening.load(Relaxed) < count {
            time::sleep(Duration::from_millis(5)).await;
        }
    };
    time::timeout(patience, everyone).await.map_err(|_| tally.listening.load(Relaxed))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hall() -> Hall {
        let (_, leave) = watch::channel(false);
        let addr = SocketAddr::from(([127, 0, 0, 1], 1));
        Hall { addr, drop_id: DropId::new(), tally: Arc::new(Tally::new(10)), leave }
    }

    fn connected(connections: u32) -> Heard {
        Heard { connections, connected_since: Some(Instant::now()), ..Default::default() }
    }

    fn send(hall: &Hall, kind: &str, drop: DropId, sold: u32, heard: &mut Heard) {
        let at = crate::demo::setup::now();
        let text = format!(
            r#"{{"type":"{kind}","at":"{at}","drop_id":"{drop}",
                "stock":{{"total":10,"available":{},"held":0,"sold":{sold}}}}}"#,
            10 - sold.min(10)
        );
        event(hall, &serde_json::from_str(&text).unwrap(), heard);
    }

    #[test]
    fn a_follower_notes_what_it_hears_of_its_drop_only() {
        let (hall, mut heard) = (hall(), connected(1));
        send(&hall, "drop_started", DropId::new(), 0, &mut heard);
        assert_eq!((heard.started, hall.tally.events.load(Relaxed)), (false, 0));
        for (kind, sold) in [("drop_started", 0), ("stock_changed", 5), ("sold_out", 10), ("drop_ended", 10)] {
            send(&hall, kind, hall.drop_id, sold, &mut heard);
        }
        assert_eq!(heard.missed(true, Instant::now()), None);
        assert_eq!(hall.tally.events.load(Relaxed), 4);
        assert_eq!(hall.tally.event_latency.percentiles().count, 3);
        assert_eq!(hall.tally.stock_event_latency.percentiles().count, 1);
        assert!(hall.tally.promises().iter().all(|kept| kept.kept));
        send(&hall, "stock_changed", hall.drop_id, 11, &mut heard);
        assert_eq!(hall.tally.oversold(), 1);
    }

    #[test]
    fn what_was_missed_is_named_unless_a_reconnection_explains_it() {
        let end = Instant::now() + Duration::from_secs(1);
        let heard = Heard { started: true, ended: true, ..connected(1) };
        assert_eq!(heard.missed(false, end), None);
        assert_eq!(heard.missed(true, end).as_deref(), Some("did not hear sold_out"));
        assert_eq!(Heard { connections: 2, ..heard.clone() }.missed(true, end), None);
        assert_eq!(connected(1).missed(false, end).as_deref(), Some("did not hear drop_started and drop_ended"));
        assert_eq!(connected(2).missed(true, end).as_deref(), Some("did not hear drop_ended"));
        let before = Instant::now();
        assert_eq!(connected(2).missed(true, before), None, "it came back after the end");
        assert!(Heard::default().missed(false, end).is_some(), "never connected");
        assert!(Heard { sent_away: Some("4401".into()), ..heard }.missed(false, end).is_some());
    }

    #[test]
    fn only_some_close_codes_are_final() {
        let frame = |code: u16| CloseFrame { code: code.into(), reason: "".into() };
        assert!([4400, 4401, 1009].iter().all(|code| for_good(&frame(*code)).is_some()));
        assert!([1000, 1001, 1012, 4000, 4001].iter().all(|code| for_good(&frame(*code)).is_none()));
    }
}
