//! What is said on a WebSocket: messages, close codes, and the rules of subscribing. Pure, and without actix.

use crate::domain::UserId;
use crate::domain::limits::SUBSCRIPTIONS_PER_SESSION_MAX;
use crate::service::{CloseCause, Code, Topic};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::time::{Duration, Instant};

/// Messages (pings included) that a client may send in a second.
pub const INBOUND_PER_SECOND_MAX: u32 = 30;

/// Why a session ends, as the close code that says it. 1012 and 4000–4099 mean "come back, with jitter", 4400–4499
/// mean "don't, until you have changed something".
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Closing {
    /// Frames that are no WebSocket protocol.
    Protocol = 1002,
    /// Text that is not UTF-8.
    NotText = 1007,
    /// A message past `WS_MESSAGE_BYTES_MAX`.
    TooLarge = 1009,
    /// The server goes down.
    Restart = 1012,
    /// It read too slowly, or its pong did not come.
    TooSlow = 4000,
    /// The user opened too many sessions; this was the oldest.
    SessionLimit = 4001,
    /// A message that we don't understand, or too many of them.
    BadMessage = 4400,
    /// A token that is not valid, or not any more.
    Unauthenticated = 4401,
}

impl Closing {
    /// For the close frame.
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
        }
    }
}

impl From<CloseCause> for Closing {
    fn from(cause: CloseCause) -> Self {
        match cause {
            CloseCause::Restart => Self::Restart,
            CloseCause::TooSlow => Self::TooSlow,
            CloseCause::SessionLimit => Self::SessionLimit,
        }
    }
}

/// From the client.
#[derive(Deserialize, PartialEq, Eq, Debug)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Signs in, or prolongs it with a newer token.
    Auth {
        /// An access token.
        token: String,
    },
    /// Adds topics.
    Subscribe {
        /// `drop:{id}`, `creator:{id}`, `user:{own id}`.
        topics: Vec<String>,
    },
    /// Removes topics.
    Unsubscribe {
        /// As above.
        topics: Vec<String>,
    },
    /// Asks for a pong: browsers cannot send ping frames.
    Ping {},
}

/// To the client, besides events.
#[derive(Serialize, PartialEq, Eq, Debug)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Reply<'a> {
    /// The session is open.
    Hello {
        /// Names it in our logs.
        session_id: String,
        /// How often we ping.
        heartbeat_ms: u64,
    },
    /// It is a user's now.
    Authenticated {
        /// Whose.
        user_id: UserId,
        /// Creators whose drops it hears without asking.
        following: usize,
    },
    /// Topics were added (or had been before).
    Subscribed {
        /// As asked for.
        topics: Vec<String>,
    },
    /// Topics were removed (or had never been there).
    Unsubscribed {
        /// As asked for.
        topics: Vec<String>,
    },
    /// To a ping.
    Pong,
    /// Something was refused; where the session ends, a close frame follows.
    Error {
        /// As in problems.
        code: &'static str,
        /// For a person.
        detail: &'a str,
    },
}

/// Reads a message.
///
/// # Errors
/// What is wrong with it, in serde's words.
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
    /// Adds topics, all or none; returns those that are new. One's own topic is heard without asking, so asking for
    /// it changes nothing.
    ///
    /// # Errors
    /// `unauthenticated` or `forbidden` for another's topic, `validation_failed` for no topic or too many.
    pub fn add(&mut self, names: &[String], user: Option<UserId>) -> Result<Vec<Topic>, (Code, String)> {
        let mut new = HashSet::new();
        for topic in read(names)? {
            match topic {
                Topic::User(id) if user == Some(id) => {}
                Topic::User(_) if user.is_none() => {
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

    /// Removes topics; returns those that were there.
    ///
    /// # Errors
    /// `validation_failed` for no topic.
    pub fn remove(&mut self, names: &[String]) -> Result<Vec<Topic>, (Code, String)> {
        let topics = read(names)?;
        Ok(topics.into_iter().filter(|topic| self.topics.remove(topic)).collect())
    }
}

fn read(names: &[String]) -> Result<Vec<Topic>, (Code, String)> {
    // Longer lists could only repeat themselves.
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

/// How fast a client may talk: so many messages in any second that begins with one.
pub struct Pace {
    window_began: Instant,
    count: u32,
}

impl Pace {
    /// From now on.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self { window_began: now, count: 0 }
    }

    /// Counts a message; `false` if it is one too many.
    pub fn admits(&mut self, now: Instant) -> bool {
        if now.duration_since(self.window_began) >= Duration::from_secs(1) {
            *self = Self::new(now);
        }
        self.count += 1;
        self.count <= INBOUND_PER_SECOND_MAX
    }
}

/// Whether a page of that origin may open a session. Browsers always send an origin and let nobody forge it; whoever
/// sends none is no browser and carries no one's cookies.
#[must_use]
pub fn origin_allowed(origin: Option<&str>, host: Option<&str>, allowed: &[String]) -> bool {
    let Some(origin) = origin else { return true };
    if allowed.is_empty() {
        let authority = origin.split_once("://").map(|(_, authority)| authority);
        return authority.zip(host).is_some_and(|(ours, theirs)| ours.eq_ignore_ascii_case(theirs));
    }
    allowed.iter().any(|one| one.eq_ignore_ascii_case(origin))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{CreatorId, DropId};
    use serde_json::json;

    #[test]
    fn requests_are_read_strictly() {
        assert_eq!(parse(r#"{"op":"ping"}"#), Ok(Request::Ping {}));
        assert_eq!(parse(r#"{"op":"auth","token":"t"}"#), Ok(Request::Auth { token: "t".into() }));
        assert_eq!(parse(r#"{"topics":[],"op":"subscribe"}"#), Ok(Request::Subscribe { topics: vec![] }));
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
                Reply::Hello { session_id: "7".into(), heartbeat_ms: 25_000 },
                json!({"type": "hello", "session_id": "7", "heartbeat_ms": 25000}),
            ),
            (
                Reply::Authenticated { user_id, following: 2 },
                json!({"type": "authenticated", "user_id": user_id, "following": 2}),
            ),
            (Reply::Subscribed { topics: vec!["x".into()] }, json!({"type": "subscribed", "topics": ["x"]})),
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
        assert_eq!(subscriptions.add(&both, None).unwrap().len(), 2);
        assert_eq!(subscriptions.add(&both, None).unwrap(), []);
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
    fn the_pace_is_per_second() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        assert!((0..INBOUND_PER_SECOND_MAX).all(|_| pace.admits(start)));
        assert!(!pace.admits(start + Duration::from_millis(999)));
        assert!(pace.admits(start + Duration::from_millis(1_000)));
    }

    #[test]
    fn origins_are_compared_whole() {
        let allowed = vec!["https://shop.example".to_owned()];
        assert!(origin_allowed(None, None, &allowed));
        assert!(origin_allowed(Some("https://shop.example"), Some("api.example"), &allowed));
        assert!(origin_allowed(Some("http://localhost:8080"), Some("localhost:8080"), &[]));
        for (origin, host, allowed) in [
            ("https://shop.example.evil.example", "api.example", &allowed[..]),
            ("http://shop.example", "api.example", &allowed[..]),
            ("https://api.example", "api.example", &allowed[..]),
            ("null", "api.example", &[]),
            ("https://evil.example", "api.example", &[]),
            ("http://localhost:3000", "localhost:8080", &[]),
            ("", "", &[]),
        ] {
            assert!(!origin_allowed(Some(origin), Some(host), allowed), "{origin}");
        }
    }
}
