//! The WebSocket protocol: messages, close codes, and the rules of subscriptions. No I/O, and without actix. The
//! broadcaster's messages (events, `subscribed`, `authenticated`, snapshots) are in `actors::realtime::wire`.

use crate::domain::limits::{INBOX_MARKED_MAX, SESSIONS_ACCEPTED_PER_SECOND_MAX, SUBSCRIPTIONS_PER_SESSION_MAX};
use crate::domain::{Timestamp, UserId};
use crate::service::{CloseCause, Code, Offset, Topic};
use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::time::{Duration, Instant};

/// Messages (pings included) that a client may send in a second.
pub const INBOUND_PER_SECOND_MAX: u32 = 30;

/// Why a session ends, as its close code. 1012 and 4000–4099 mean "reconnect, with jitter", 4400–4499 mean "do not
/// reconnect until something has changed".
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Closing {
    /// Frames that violate the WebSocket protocol.
    Protocol = 1002,
    /// Text that is not UTF-8.
    NotText = 1007,
    /// A message past `WS_MESSAGE_BYTES_MAX`.
    TooLarge = 1009,
    /// The server is shutting down.
    Restart = 1012,
    /// The client read too slowly, or its pong did not come.
    TooSlow = 4000,
    /// The user opened too many sessions; this was the oldest.
    SessionLimit = 4001,
    /// An invalid message, or too many messages.
    BadMessage = 4400,
    /// The token is invalid or has expired.
    Unauthenticated = 4401,
    /// The login has ended: a logout, a new password, a deleted account.
    Revoked = 4403,
}

impl Closing {
    /// The text of the close frame.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::Protocol => "protocol error",
            Self::NotText => "not UTF-8",
            Self::TooLarge => "message too large",
            Self::Restart => "the server restarts",
            Self::TooSlow => "too slow",
            Self::SessionLimit => "too many sessions",
            Self::BadMessage => "bad message",
            Self::Unauthenticated => "authentication failed",
            Self::Revoked => "the login has ended",
        }
    }
}

impl From<CloseCause> for Closing {
    fn from(cause: CloseCause) -> Self {
        match cause {
            CloseCause::Restart => Self::Restart,
            CloseCause::TooSlow => Self::TooSlow,
            CloseCause::SessionLimit => Self::SessionLimit,
            CloseCause::TokenExpired => Self::Unauthenticated,
            CloseCause::Revoked => Self::Revoked,
        }
    }
}

/// A message from the client.
#[derive(Deserialize, PartialEq, Eq, Debug)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Authenticates the session, or prolongs it with a newer token.
    Auth {
        /// An access token, without `Bearer`.
        token: String,
        /// Topics to subscribe to as well.
        #[serde(default)]
        topics: Vec<String>,
        /// The id of the last event that the client has.
        #[serde(default)]
        since: Option<String>,
    },
    /// Subscribes to further topics.
    Subscribe {
        /// Such as `drop:{id}`, `creator:{id}`, `user:{own id}`.
        topics: Vec<String>,
        /// The id of the last event that the client has.
        #[serde(default)]
        since: Option<String>,
    },
    /// Ends subscriptions to topics.
    Unsubscribe {
        /// Names as in `subscribe`.
        topics: Vec<String>,
    },
    /// Acknowledges events: they leave the inbox.
    Ack {
        /// The ids of the events.
        ids: Vec<String>,
    },
    /// Requests a pong: browsers cannot send ping frames.
    Ping {},
}

/// A message to the client that is no event.
#[derive(Serialize, PartialEq, Eq, Debug)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Reply<'a> {
    /// The session is open.
    Hello {
        /// The session's id in the server's log.
        session_id: String,
        /// The server's time, for a countdown on a machine with a wrong clock.
        server_time: Timestamp,
        /// The interval of the server's pings.
        heartbeat_ms: u64,
        /// How long to wait before reconnecting after a close without a time.
        reconnect: Reconnect,
    },
    /// The session was prolonged with a newer token.
    Authenticated {
        /// The authenticated account's id.
        user_id: UserId,
        /// The number of followed creators whose events it gets.
        following: usize,
        /// When the token expires.
        expires_at: Timestamp,
    },
    /// These entries have left the inbox.
    Acknowledged {
        /// The ids as the client sent them.
        ids: &'a [String],
    },
    /// The answer to a ping.
    Pong,
    /// A request was refused; if the session ends, a close frame follows.
    Error {
        /// A code as in problems.
        code: &'static str,
        /// An explanation for people.
        detail: &'a str,
    },
}

/// A range of waiting times; the client picks one at random.
#[derive(Serialize, Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reconnect {
    /// The shortest wait, in milliseconds.
    pub min_ms: u64,
    /// The longest wait, in milliseconds.
    pub max_ms: u64,
}

impl Reconnect {
    /// For this many sessions: twice as long as it takes to admit them all again.
    #[must_use]
    pub fn of(sessions: usize) -> Self {
        let spread_ms = (sessions as u64 * 2_000 / SESSIONS_ACCEPTED_PER_SECOND_MAX as u64).clamp(1_000, 60_000);
        Self { min_ms: 500, max_ms: 500 + spread_ms }
    }

    /// A wait from the range; `random` is any number.
    #[must_use]
    pub fn draw(self, random: u64) -> u64 {
        self.min_ms + random % (self.max_ms - self.min_ms + 1)
    }
}

/// The text of a close frame (at most 123 bytes, RFC 6455, section 5.5).
#[must_use]
pub fn close_reason(closing: Closing, retry_ms: u64) -> String {
    let reason = closing.reason();
    match closing as u16 {
        1012 | 4000..4100 => format!(r#"{{"reason":"{reason}","retry_ms":{retry_ms}}}"#),
        _ => format!(r#"{{"reason":"{reason}"}}"#),
    }
}

/// A text message to clients (RFC 6455, section 5.2): unmasked, in one frame.
#[must_use]
pub fn text_frame(json: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(json.len() + 10);
    frame.put_u8(0x81);
    match json.len() {
        short @ 0..126 => frame.put_u8(short as u8),
        medium @ 126..65_536 => {
            frame.put_u8(126);
            frame.put_u16(medium as u16);
        }
        long => {
            frame.put_u8(127);
            frame.put_u64(long as u64);
        }
    }
    frame.put_slice(json);
    frame.freeze()
}

/// Parses the id that a client reconnects with.
///
/// # Errors
/// `validation_failed`.
pub fn since(text: Option<&str>) -> Result<Option<Offset>, (Code, String)> {
    let read = |text: &str| {
        text.parse().map_err(|()| (Code::ValidationFailed, "since is not the id of an event or an answer".to_owned()))
    };
    text.map(read).transpose()
}

/// Parses the ids of events, 1 to `INBOX_MARKED_MAX`.
///
/// # Errors
/// `validation_failed`.
pub fn event_ids(texts: &[String]) -> Result<Vec<Offset>, (Code, String)> {
    if !(1..=INBOX_MARKED_MAX).contains(&texts.len()) {
        return Err((Code::ValidationFailed, format!("1 to {INBOX_MARKED_MAX} ids at once")));
    }
    let ids: Result<_, ()> = texts.iter().map(|text| text.parse()).collect();
    ids.map_err(|()| (Code::ValidationFailed, "ids are those of events".to_owned()))
}

/// Parses a client's message.
///
/// # Errors
/// The fault, in serde's words.
pub fn parse(text: &str) -> Result<Request, (Code, String)> {
    serde_json::from_str(text).map_err(|error| match error.classify() {
        serde_json::error::Category::Data => (Code::ValidationFailed, error.to_string()),
        _ => (Code::MalformedJson, error.to_string()),
    })
}

/// The topics of one session, by name.
#[derive(Default)]
pub struct Subscriptions {
    topics: HashSet<Topic>,
}

impl Subscriptions {
    /// Adds topics, all or none; returns the new ones. A user's own topic comes with the account, so subscribing to it
    /// changes nothing.
    ///
    /// # Errors
    /// `unauthenticated` or `forbidden` for topics of other users, `validation_failed` for no topic or too many.
    pub fn add(&mut self, names: &[String], user: Option<UserId>) -> Result<Vec<Topic>, (Code, String)> {
        let mut new = HashSet::new();
        for topic in read(names)? {
            match topic {
                Topic::User(id) if user == Some(id) => {}
                Topic::User(_) | Topic::Creator(_) if user.is_none() => {
                    return Err((Code::Unauthenticated, format!("{topic} needs authentication")));
                }
                Topic::User(_) => return Err((Code::Forbidden, format!("{topic} is not yours"))),
                Topic::Drop(_) | Topic::Creator(_) => {
                    if !self.topics.contains(&topic) {
                        new.insert(topic);
                    }
                }
            }
        }
        if self.topics.len() + new.len() > SUBSCRIPTIONS_PER_SESSION_MAX {
            let detail = format!("a session may subscribe to {SUBSCRIPTIONS_PER_SESSION_MAX} topics");
            return Err((Code::ValidationFailed, detail));
        }
        self.topics.extend(&new);
        Ok(new.into_iter().collect())
    }

    /// Removes topics; returns those that were subscribed.
    ///
    /// # Errors
    /// `validation_failed` for no topic.
    pub fn remove(&mut self, names: &[String]) -> Result<Vec<Topic>, (Code, String)> {
        let topics = read(names)?;
        Ok(topics.into_iter().filter(|topic| self.topics.remove(topic)).collect())
    }
}

fn read(names: &[String]) -> Result<Vec<Topic>, (Code, String)> {
    // A longer list can only have repetitions.
    if names.len() > SUBSCRIPTIONS_PER_SESSION_MAX {
        return Err((Code::ValidationFailed, format!("at most {SUBSCRIPTIONS_PER_SESSION_MAX} topics at once")));
    }
    let topic = |name: &String| {
        name.parse().map_err(|()| {
            let shown: String = name.chars().take(64).collect();
            (Code::ValidationFailed, format!("{shown:?} is not a topic"))
        })
    };
    names.iter().map(topic).collect()
}

/// Limits a client's messages in each second.
pub struct Pace {
    window_began: Instant,
    count: u32,
}

impl Pace {
    /// Starts a window at `now`.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self { window_began: now, count: 0 }
    }

    /// Counts a message; `false` if it exceeds the limit.
    pub fn admits(&mut self, now: Instant) -> bool {
        if now.duration_since(self.window_began) >= Duration::from_secs(1) {
            *self = Self::new(now);
        }
        self.count += 1;
        self.count <= INBOUND_PER_SECOND_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{CreatorId, DropId};
    use serde_json::json;

    #[test]
    fn requests_are_read_strictly() {
        assert_eq!(parse(r#"{"op":"ping"}"#), Ok(Request::Ping {}));
        assert_eq!(
            parse(r#"{"op":"auth","token":"t"}"#),
            Ok(Request::Auth { token: "t".into(), topics: vec![], since: None })
        );
        let subscribe = Request::Subscribe { topics: vec![], since: Some("x".into()) };
        assert_eq!(parse(r#"{"topics":[],"op":"subscribe","since":"x"}"#), Ok(subscribe));
        for shape in [
            "[]",
            "{}",
            "3",
            "null",
            r#"{"op":"dance"}"#,
            r#"{"op":"auth"}"#,
            r#"{"op":"auth","token":null}"#,
            r#"{"op":"auth","token":"t","user":"x"}"#,
            r#"{"op":"ping","x":1}"#,
            r#"{"op":"subscribe","topics":"drop:1"}"#,
            r#"{"op":"subscribe","topics":[1]}"#,
            r#"{"op":"ping","op":"ping"}"#,
        ] {
            assert_eq!(parse(shape).unwrap_err().0, Code::ValidationFailed, "{shape}");
        }
        for broken in ["", "ping", "{\"op\":\"ping\"", "{\"op\":\"ping\"} x", "\u{0}"] {
            assert_eq!(parse(broken).unwrap_err().0, Code::MalformedJson, "{broken}");
        }
    }

    #[test]
    fn replies_are_tagged() {
        let user_id = UserId::new();
        for (reply, expected) in [
            (
                Reply::Hello {
                    session_id: "7".into(),
                    server_time: Timestamp::from_millis(1),
                    heartbeat_ms: 25_000,
                    reconnect: Reconnect::of(0),
                },
                json!({"type": "hello", "session_id": "7", "server_time": "1970-01-01T00:00:00.001Z", "heartbeat_ms": 25000,
                    "reconnect": {"min_ms": 500, "max_ms": 1500}}),
            ),
            (
                Reply::Authenticated { user_id, following: 2, expires_at: Timestamp::from_millis(0) },
                json!({"type": "authenticated", "user_id": user_id, "following": 2,
                    "expires_at": "1970-01-01T00:00:00.000Z"}),
            ),
            (Reply::Pong, json!({"type": "pong"})),
            (
                Reply::Error { code: "forbidden", detail: "no" },
                json!({"type": "error", "code": "forbidden", "detail": "no"}),
            ),
        ] {
            assert_eq!(serde_json::to_value(reply).unwrap(), expected);
        }
    }

    #[test]
    fn users_topics_are_their_own() {
        let (me, other) = (UserId::new(), UserId::new());
        let mut subscriptions = Subscriptions::default();
        let own = vec![format!("user:{me}")];
        assert_eq!(subscriptions.add(&own, Some(me)), Ok(vec![]));
        assert_eq!(subscriptions.add(&own, None).unwrap_err().0, Code::Unauthenticated);
        assert_eq!(subscriptions.add(&own, Some(other)).unwrap_err().0, Code::Forbidden);
    }

    #[test]
    fn subscribing_is_all_or_nothing_and_bounded() {
        let mut subscriptions = Subscriptions::default();
        let (drop, creator) = (DropId::new(), CreatorId(uuid::Uuid::now_v7()));
        let both = vec![format!("drop:{drop}"), format!("creator:{creator}"), format!("drop:{drop}")];
        assert_eq!(subscriptions.add(&both, None).unwrap_err().0, Code::Unauthenticated, "drops alone are for all");
        let someone = Some(UserId::new());
        assert_eq!(subscriptions.add(&both, someone).unwrap().len(), 2);
        assert_eq!(subscriptions.add(&both, someone).unwrap(), []);
        for bad in ["", "drop", "drop:", "drop:x", "shop:1", "Drop:00000000-0000-0000-0000-000000000000"] {
            let names = vec![format!("drop:{}", DropId::new()), bad.to_owned()];
            assert_eq!(subscriptions.add(&names, None).unwrap_err().0, Code::ValidationFailed, "{bad}");
        }
        let names = |count| (0..count).map(|_| format!("drop:{}", DropId::new())).collect::<Vec<_>>();
        assert!(subscriptions.add(&names(SUBSCRIPTIONS_PER_SESSION_MAX - 1), None).is_err());
        assert!(subscriptions.add(&names(SUBSCRIPTIONS_PER_SESSION_MAX - 2), None).is_ok());
        assert!(subscriptions.add(&names(1), None).is_err());
        assert_eq!(subscriptions.remove(&both).unwrap().len(), 2);
        assert!(subscriptions.add(&names(2), None).is_ok());
    }

    #[test]
    fn a_crowd_is_spread_over_twice_the_time_that_it_takes() {
        let crowd = Reconnect::of(SESSIONS_ACCEPTED_PER_SECOND_MAX * 10);
        assert_eq!((crowd.min_ms, crowd.max_ms), (500, 20_500));
        assert_eq!(Reconnect::of(usize::MAX >> 12).max_ms, 60_500);
        assert!((0..100_000).all(|random| (500..=20_500).contains(&crowd.draw(random))));
        assert_eq!(close_reason(Closing::Restart, 7), r#"{"reason":"the server restarts","retry_ms":7}"#);
        assert_eq!(close_reason(Closing::BadMessage, 7), r#"{"reason":"bad message"}"#);
    }

    #[test]
    fn frames_have_the_shortest_length_that_fits() {
        for (bytes, header) in [(0, 2), (125, 2), (126, 4), (65_535, 4), (65_536, 10)] {
            let frame = text_frame(&vec![b'x'; bytes]);
            assert_eq!(frame.len(), bytes + header);
            assert_eq!(frame[0], 0x81);
        }
        assert_eq!(text_frame(&[b'x'; 300])[..4], [0x81, 126, 1, 44]);
    }

    #[test]
    fn the_pace_is_per_second() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        assert!((0..INBOUND_PER_SECOND_MAX).all(|_| pace.admits(start)));
        assert!(!pace.admits(start + Duration::from_millis(999)));
        assert!(pace.admits(start + Duration::from_millis(1_000)));
    }
}
