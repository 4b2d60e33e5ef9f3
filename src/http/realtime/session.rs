//! Common to WebSocket sessions and event streams: authentication, subscriptions, and the parameters of a request.

use super::ws_protocol::{Reconnect, Reply, Subscriptions, event_ids, since};
use crate::domain::limits::FOLLOWED_PER_SESSION_MAX;
use crate::domain::{CreatorId, Timestamp};
use crate::http::Services;
use crate::http::extract::auth;
use crate::http::problem::Problem;
use crate::http::transport::liveness;
use crate::service::tokens::Access;
use crate::service::{
    Attach, CloseCause, Code, Failure, FieldError, JoinError, Offset, Opening, Shard, Subscriber, Topic,
};
use actix_web::{HttpRequest, rt::spawn, web};
use bytes::Bytes;
use serde::Deserialize;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

/// How often the server pings a WebSocket.
pub const HEARTBEAT_MS: u64 = 25_000;
/// Pause before the followed creators are read again, after the database did not answer.
const FOLLOWED_RETRY: Duration = Duration::from_secs(5);

/// The query parameters of a session, the fields of `Query`.
pub const PARAMETERS: &[&str] = &["ticket", "topics", "since", "last_event_id"];

/// The query of a session: a browser can send nothing else.
#[derive(Deserialize, Default)]
struct Query {
    ticket: Option<String>,
    topics: Option<String>,
    since: Option<String>,
    last_event_id: Option<String>,
}

/// The parameters of a session's request.
pub struct Wanted {
    /// The authenticated account, if there is one.
    pub access: Option<Access>,
    /// The topics to subscribe to, by name.
    pub topics: Vec<String>,
    /// The offset of the client's last event.
    pub since: Option<Offset>,
}

impl Wanted {
    /// Reads the query, the `Authorization` header and, from a reconnecting browser, `Last-Event-ID`.
    ///
    /// # Errors
    /// `validation_failed`, `unauthenticated`, `token_expired`.
    pub fn of(request: &HttpRequest, services: &Services) -> Result<Self, Failure> {
        let bad = |pointer: &str, detail: &str| {
            Failure::invalid(vec![FieldError { pointer: pointer.to_owned(), detail: detail.to_owned() }])
        };
        let query = web::Query::<Query>::from_query(request.query_string())
            .map_err(|_| bad("/topics", "the query cannot be read"))?
            .into_inner();
        let header = request.headers().get("last-event-id").map(|value| value.to_str().unwrap_or("?").to_owned());
        let text = header.or(query.since).or(query.last_event_id).filter(|text| !text.is_empty());
        let since = since(text.as_deref()).map_err(|(_, detail)| bad("/since", &detail))?;
        let topics = query.topics.unwrap_or_default();
        let topics = topics.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect();
        let access = match query.ticket {
            // The token that the ticket was issued for may have been revoked since.
            Some(ticket) => Some(services.tokens.still(services.tickets.redeem(&ticket)?)?),
            None => auth::of(request)?,
        };
        Ok(Self { access, topics, since })
    }
}

/// Whether the hub knows the follows of the session's user.
#[derive(Clone, Copy)]
enum Followed {
    Unknown,
    Loading,
    Known(usize),
}

/// A session of either protocol.
pub struct Session {
    shard: Rc<Shard>,
    /// Its entry in the shard.
    pub subscriber: Rc<Subscriber>,
    services: web::Data<Services>,
    followed: Cell<Followed>,
    expires_at: Cell<Timestamp>,
    subscriptions: RefCell<Subscriptions>,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.shard.leave(&self.subscriber);
    }
}

impl Session {
    /// Opens a session. It ends on drop.
    ///
    /// # Errors
    /// `overloaded`, with a retry time that differs between callers.
    pub fn open(request: &HttpRequest, services: web::Data<Services>, answers: bool) -> Result<Rc<Self>, Problem> {
        let shard = request.app_data::<web::Data<Rc<Shard>>>().ok_or_else(|| Failure::new(Code::Internal))?;
        let shard = Rc::clone(shard);
        let opening = Opening { answers, abort_handle: liveness::of(request) };
        let subscriber = shard.open(opening).map_err(|error| {
            let longest_s = match error {
                JoinError::TooFast => 5,
                JoinError::Full => 30,
            };
            Failure::retry(Code::Overloaded, rand::random_range(1..=longest_s))
        })?;
        let session = Self {
            shard,
            subscriber,
            services,
            followed: Cell::new(Followed::Unknown),
            expires_at: Cell::default(),
            subscriptions: RefCell::default(),
        };
        Ok(Rc::new(session))
    }

    /// The time over which as many sessions as now should reconnect.
    #[must_use]
    pub fn reconnect(&self) -> Reconnect {
        Reconnect::of(self.shard.hub().sessions())
    }

    /// Sends the greeting, and starts what the request asked for.
    ///
    /// # Errors
    /// As [`Session::sign_in`] and [`Session::subscribe`].
    pub fn begin(self: &Rc<Self>, wanted: Wanted) -> Result<(), (Code, String)> {
        let session_id = self.subscriber.id().to_string();
        let (server_time, reconnect) = (self.services.tokens.now(), self.reconnect());
        self.say("hello", &Reply::Hello { session_id, server_time, heartbeat_ms: HEARTBEAT_MS, reconnect });
        let Wanted { access, topics, since } = wanted;
        match access {
            Some(access) => self.sign_in(access, &topics, since),
            None if topics.is_empty() => Ok(()),
            None => self.subscribe(&topics, since),
        }
    }

    /// Sends a message to this client only.
    pub fn say(&self, kind: &'static str, reply: &Reply<'_>) {
        let json = serde_json::to_vec(reply).expect("a reply of plain fields always encodes");
        self.shard.say(&self.subscriber, kind, Bytes::from(json));
    }

    /// Sends an error to this client.
    pub fn error(&self, code: Code, detail: &str) {
        self.say("error", &Reply::Error { code: code.as_str(), detail });
    }

    /// The contents of an access token.
    ///
    /// # Errors
    /// `unauthenticated`, `token_expired`.
    pub fn verify(&self, token: &str) -> Result<Access, Failure> {
        self.services.tokens.verify(token)
    }

    /// Assigns the session to a user, or prolongs it with a newer token.
    ///
    /// # Errors
    /// `forbidden` for another user's token, `overloaded`, and as [`Session::subscribe`]. A session whose token is
    /// revoked meanwhile closes by itself.
    pub fn sign_in(
        self: &Rc<Self>,
        access: Access,
        names: &[String],
        since: Option<Offset>,
    ) -> Result<(), (Code, String)> {
        let user = access.user;
        if self.subscriber.user().is_some_and(|owner| owner != user) {
            return Err((Code::Forbidden, "the session belongs to another user: open a new one".to_owned()));
        }
        let topics = match names {
            [] => Vec::new(),
            names => self.subscriptions.borrow_mut().add(names, Some(user))?,
        };
        self.subscriber.ends_with(access.login, access.expires_at);
        self.expires_at.set(access.expires_at);
        match self.followed.get() {
            Followed::Unknown => {
                // Before the list is read: the session then learns of a follow in between.
                self.shard.own(&self.subscriber, user).map_err(|_| busy())?;
                // A later revocation finds this session; an earlier one did not.
                self.close_if_revoked(access);
                self.followed.set(Followed::Loading);
                spawn(Rc::clone(self).load_followed(access, topics, since));
                return Ok(());
            }
            Followed::Loading => self.close_if_revoked(access),
            Followed::Known(following) => {
                self.close_if_revoked(access);
                let expires_at = access.expires_at;
                self.say("authenticated", &Reply::Authenticated { user_id: user, following, expires_at });
            }
        }
        if topics.is_empty() { Ok(()) } else { self.ask(topics, since) }
    }

    fn close_if_revoked(&self, access: Access) {
        if self.services.tokens.revocations().covers(access.user, access.login) {
            self.subscriber.close(CloseCause::Revoked);
        }
    }

    /// Adds topics. The broadcaster answers.
    ///
    /// # Errors
    /// As [`Subscriptions::add`]; `overloaded`.
    pub fn subscribe(&self, names: &[String], since: Option<Offset>) -> Result<(), (Code, String)> {
        let new = self.subscriptions.borrow_mut().add(names, self.subscriber.user())?;
        self.ask(new, since)
    }

    fn ask(&self, topics: Vec<Topic>, since: Option<Offset>) -> Result<(), (Code, String)> {
        self.shard.hub().subscribe(self.shard.reference(&self.subscriber), topics, since).map_err(|_| busy())
    }

    /// Removes topics. The broadcaster answers.
    ///
    /// # Errors
    /// As [`Subscriptions::remove`]; `overloaded`.
    pub fn unsubscribe(&self, names: &[String]) -> Result<(), (Code, String)> {
        let old = self.subscriptions.borrow_mut().remove(names)?;
        self.shard.hub().unsubscribe(self.shard.reference(&self.subscriber), old).map_err(|_| busy())
    }

    /// Acknowledges events, and answers when that is written.
    ///
    /// # Errors
    /// `unauthenticated`; `validation_failed` for invalid ids. Later errors are sent to the session.
    pub fn acknowledge(self: &Rc<Self>, names: Vec<String>) -> Result<(), (Code, String)> {
        let Some(user) = self.subscriber.user() else {
            return Err((Code::Unauthenticated, "an inbox needs authentication".to_owned()));
        };
        let ids = event_ids(&names)?;
        let session = Rc::clone(self);
        spawn(async move {
            let asked_by = Some(session.shard.reference(&session.subscriber));
            match session.services.inbox.acknowledge(user, ids, asked_by).await {
                Ok(()) => session.say("acknowledged", &Reply::Acknowledged { ids: &names }),
                Err(failure) => session.error(failure.code, &failure.detail),
            }
        });
        Ok(())
    }

    /// Loads the user's follows. While the database is away the session still gets events of the user's own orders:
    /// these start at once, the creators as soon as they are known.
    async fn load_followed(self: Rc<Self>, access: Access, mut topics: Vec<Topic>, mut since: Option<Offset>) {
        let mut told = false;
        while !self.subscriber.is_closing() {
            let loaded = self.services.creators.all_followed(access.user, FOLLOWED_PER_SESSION_MAX).await;
            let (following, failure) = match loaded {
                Ok(page) if page.more => {
                    let detail = format!("only the first {FOLLOWED_PER_SESSION_MAX} creators are heard without asking");
                    (Some(page.items), Some(Failure::with(Code::ValidationFailed, detail)))
                }
                Ok(page) => (Some(page.items), None),
                Err(failure) => (None, Some(failure)),
            };
            let known = following.is_some();
            if known || !told {
                let following = following.unwrap_or_default();
                // Missed events of the creators can be replayed only once the creators are known.
                let since = if known { since.take() } else { since };
                let topics = std::mem::take(&mut topics);
                if self.attach(access, following, known, topics, since).is_err() {
                    let (code, detail) = busy();
                    self.error(code, &detail);
                    return self.subscriber.close(CloseCause::TooSlow);
                }
            }
            if let Some(failure) = failure.filter(|_| !told) {
                self.error(failure.code, &failure.detail);
            }
            told = true;
            if known {
                return;
            }
            actix_web::rt::time::sleep(FOLLOWED_RETRY).await;
        }
    }

    fn attach(
        &self,
        access: Access,
        following: Vec<CreatorId>,
        complete: bool,
        topics: Vec<Topic>,
        since: Option<Offset>,
    ) -> Result<(), JoinError> {
        self.followed.set(Followed::Known(following.len()));
        let expires_at = self.expires_at.get();
        let joining = Attach { user: access.user, following, complete, expires_at, topics, since };
        self.shard.hub().attach(self.shard.reference(&self.subscriber), joining)
    }
}

fn busy() -> (Code, String) {
    (Code::Overloaded, Code::Overloaded.title().to_owned())
}
