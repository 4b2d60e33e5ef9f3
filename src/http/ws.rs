//! WebSocket sessions: one actor a socket. The only file that names actix-web-actors, which is deprecated upstream.
//!
//! A session is polled as the body of its response, so a client that stops reading freezes it, timers included
//! (actix-web#2441). What waits for it is therefore bounded in its queue, outside of it, and a dead socket is cut by
//! the kernel (`TCP_USER_TIMEOUT`, see [`super::server`]).

use super::problem::Problem;
use super::ws_frames::BoundedFrames;
use super::ws_protocol::{self, Closing, Pace, Reply, Request, Subscriptions};
use super::{Services, auth};
use crate::domain::limits::{FOLLOWED_PER_SESSION_MAX, WS_MESSAGE_BYTES_MAX};
use crate::domain::{CreatorId, Timestamp, UserId};
use crate::service::creators::Creators;
use crate::service::tokens::{Access, Tokens};
use crate::service::{Code, Failure, Hub, Outgoing, Page, SessionId, SessionQueue};
use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, SpawnHandle, StreamHandler, WrapFuture};
use actix_http::ws::Item;
use actix_web::http::header::{HOST, ORIGIN};
use actix_web::{HttpRequest, HttpResponse, web};
use actix_web_actors::ws::{self, CloseCode, CloseReason, Message, ProtocolError, WebsocketContext};
use bytes::BytesMut;
use futures_util::StreamExt;
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

const HEARTBEAT: Duration = Duration::from_secs(25);
const PONG_DUE: Duration = Duration::from_secs(8);
/// How long a closed session waits for the other side's close frame. Without it the socket would be reset while our
/// close frame is on its way, and the client would not learn why.
const CLOSE_LINGER: Duration = Duration::from_secs(1);
/// When to ask for the followed creators again after the database did not answer.
const FOLLOWED_RETRY: Duration = Duration::from_secs(5);
/// Queued messages taken in one go: they leave in one write.
const OUTGOING_AT_ONCE: usize = 64;

type Context = WebsocketContext<Session>;

/// `GET /notifications`.
///
/// # Errors
/// Before the upgrade: `forbidden` (origin), `unauthenticated`, `token_expired`, `overloaded`.
pub async fn connect(
    request: HttpRequest,
    payload: web::Payload,
    services: web::Data<Services>,
) -> Result<HttpResponse, Problem> {
    let header = |name| request.headers().get(name).map(|value| value.to_str().unwrap_or("(not text)"));
    if !ws_protocol::origin_allowed(header(ORIGIN), header(HOST), &services.ws_allowed_origins) {
        return Err(Failure::with(Code::Forbidden, "The origin may not open a WebSocket here").into());
    }
    let access = auth::of(&request)?;
    let refused = |error: &dyn std::fmt::Display| {
        Problem::from(Failure::with(Code::ValidationFailed, format!("This is a WebSocket: {error}")))
    };
    ws::handshake(&request).map_err(|error| refused(&error))?;
    let queue = Arc::new(SessionQueue::default());
    let hub = services.hub.clone();
    let id = hub.connect(Arc::clone(&queue)).map_err(|_| Failure::retry(Code::Overloaded, 5))?;
    let (frames, overflown) = BoundedFrames::new(payload, WS_MESSAGE_BYTES_MAX);
    let now = Instant::now();
    let session = Session {
        seat: Seat { hub, id },
        queue,
        creators: services.creators.clone(),
        tokens: services.tokens.clone(),
        header_access: access,
        user: None,
        followed: Followed::Unknown,
        subscriptions: Subscriptions::default(),
        expiry: None,
        fragments: None,
        overflown,
        pace: Pace::new(now),
        heard_at: now,
        closing: false,
    };
    ws::WsResponseBuilder::new(session, &request, frames)
        .frame_size(WS_MESSAGE_BYTES_MAX)
        .start()
        .map_err(|error| refused(&error))
}

/// A place at the hub, given back however the session ends: also when it is dropped without ever having been polled.
struct Seat {
    hub: Hub,
    id: SessionId,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.hub.disconnect(self.id);
    }
}

/// Whether the hub knows whom the session's user follows.
#[derive(Clone, Copy)]
enum Followed {
    Unknown,
    Loading,
    Known(usize),
}

struct Session {
    seat: Seat,
    queue: Arc<SessionQueue>,
    creators: Creators,
    tokens: Tokens,
    /// From the `Authorization` header, until the session has started.
    header_access: Option<Access>,
    user: Option<UserId>,
    followed: Followed,
    subscriptions: Subscriptions,
    expiry: Option<SpawnHandle>,
    /// The beginning of a message that arrives in fragments, and whether it is text.
    fragments: Option<(bool, BytesMut)>,
    overflown: Rc<Cell<bool>>,
    pace: Pace,
    heard_at: Instant,
    /// Our close frame is out: nothing more is said, and nothing more is listened to.
    closing: bool,
}

impl Actor for Session {
    type Context = Context;

    fn started(&mut self, context: &mut Context) {
        let heartbeat_ms = HEARTBEAT.as_millis() as u64;
        self.tell(&Reply::Hello { session_id: self.seat.id.0.to_string(), heartbeat_ms }, context);
        context.add_stream(self.queue.stream().ready_chunks(OUTGOING_AT_ONCE));
        context.run_interval(HEARTBEAT, Self::beat);
        if let Some(access) = self.header_access.take() {
            self.sign_in(access, context);
        }
    }
}

impl StreamHandler<Vec<Outgoing>> for Session {
    fn handle(&mut self, outgoing: Vec<Outgoing>, context: &mut Context) {
        for one in outgoing {
            match one {
                _ if self.closing => return,
                Outgoing::Text(bytes) => match bytes.try_into() {
                    Ok(text) => context.write_raw(Message::Text(text)),
                    Err(_) => tracing::error!("an event that is not UTF-8 was not sent"),
                },
                Outgoing::Close(cause) => self.close(cause.into(), context),
            }
        }
    }

    /// The queue ends after its close, which has its own way to stop the session.
    fn finished(&mut self, _: &mut Context) {}
}

impl StreamHandler<Result<Message, ProtocolError>> for Session {
    fn handle(&mut self, message: Result<Message, ProtocolError>, context: &mut Context) {
        if self.closing {
            // Only the answer to our close frame still matters; an error may come again and again.
            if !matches!(message, Ok(message) if !matches!(message, Message::Close(_))) {
                context.stop();
            }
            return;
        }
        let message = match message {
            Ok(message) => message,
            Err(error) => return self.fail(&error, context),
        };
        let now = Instant::now();
        self.heard_at = now;
        if !matches!(message, Message::Pong(_) | Message::Close(_)) && !self.pace.admits(now) {
            self.error(Code::Overloaded, "too many messages a second", context);
            return self.close(Closing::BadMessage, context);
        }
        match message {
            Message::Text(text) => self.receive(&text, context),
            Message::Continuation(item) => self.assemble(item, context),
            Message::Binary(_) => {
                self.error(Code::MalformedJson, "messages are text", context);
                self.close(Closing::BadMessage, context);
            }
            Message::Ping(bytes) => context.pong(&bytes),
            Message::Pong(_) | Message::Nop => {}
            Message::Close(reason) => {
                context.close(reason);
                context.stop();
            }
        }
    }

    /// The other side is gone; or has said too much, and is to read why.
    fn finished(&mut self, context: &mut Context) {
        if !self.closing {
            context.stop();
        }
    }
}

impl Session {
    fn receive(&mut self, text: &str, context: &mut Context) {
        match ws_protocol::parse(text) {
            Ok(Request::Ping {}) => self.tell(&Reply::Pong, context),
            Ok(Request::Auth { token }) => match self.tokens.verify(&token) {
                Ok(access) => self.sign_in(access, context),
                Err(failure) => {
                    self.error(failure.code, &failure.detail, context);
                    self.close(Closing::Unauthenticated, context);
                }
            },
            Ok(Request::Subscribe { topics }) => {
                let done = self.subscriptions.add(&topics, self.user).and_then(|new| {
                    let reply = frame(&Reply::Subscribed { topics });
                    self.seat.hub.subscribe(self.seat.id, new, reply.into()).map_err(|_| busy())
                });
                self.refuse(done, context);
            }
            Ok(Request::Unsubscribe { topics }) => {
                let done = self.subscriptions.remove(&topics).and_then(|old| {
                    let reply = frame(&Reply::Unsubscribed { topics });
                    self.seat.hub.unsubscribe(self.seat.id, old, reply.into()).map_err(|_| busy())
                });
                self.refuse(done, context);
            }
            Err((code, detail)) => {
                self.error(code, &detail, context);
                self.close(Closing::BadMessage, context);
            }
        }
    }

    /// Says why something was not done; the hub answers what was. Where the hub was too busy to hear of it, hub and
    /// session do not agree any more about the topics, so the session ends, to be opened again.
    fn refuse(&mut self, done: Result<(), (Code, String)>, context: &mut Context) {
        if let Err((code, detail)) = done {
            self.error(code, &detail, context);
            if code == Code::Overloaded {
                self.close(Closing::TooSlow, context);
            }
        }
    }

    /// Puts the fragments of a message together (RFC 6455, section 5.4). The codec checks their order.
    fn assemble(&mut self, item: Item, context: &mut Context) {
        let (bytes, last) = match item {
            Item::FirstText(bytes) => {
                self.fragments = Some((true, BytesMut::from(bytes)));
                return;
            }
            Item::FirstBinary(bytes) => {
                self.fragments = Some((false, BytesMut::from(bytes)));
                return;
            }
            Item::Continue(bytes) => (bytes, false),
            Item::Last(bytes) => (bytes, true),
        };
        let Some((is_text, message)) = &mut self.fragments else { return self.close(Closing::Protocol, context) };
        if message.len() + bytes.len() > WS_MESSAGE_BYTES_MAX {
            return self.close(Closing::TooLarge, context);
        }
        message.extend_from_slice(&bytes);
        if !last {
            return;
        }
        let is_text = *is_text;
        let whole = self.fragments.take().map(|(_, message)| message).unwrap_or_default();
        match std::str::from_utf8(&whole) {
            Ok(text) if is_text => self.receive(text, context),
            Ok(_) => self.close(Closing::BadMessage, context),
            Err(_) if is_text => self.close(Closing::NotText, context),
            Err(_) => self.close(Closing::BadMessage, context),
        }
    }

    /// Makes the session a user's, or prolongs that with a newer token.
    fn sign_in(&mut self, access: Access, context: &mut Context) {
        if self.user.is_some_and(|user| user != access.user) {
            let detail = "the session belongs to another user: open a new one";
            return self.error(Code::Forbidden, detail, context);
        }
        self.user = Some(access.user);
        self.expire_at(access.expires_at, context);
        match self.followed {
            Followed::Known(following) => {
                self.tell(&Reply::Authenticated { user_id: access.user, following }, context);
            }
            Followed::Loading => {}
            Followed::Unknown => self.load_followed(access.user, context),
        }
    }

    fn load_followed(&mut self, user: UserId, context: &mut Context) {
        self.followed = Followed::Loading;
        let creators = self.creators.clone();
        let load = async move { creators.all_followed(user, FOLLOWED_PER_SESSION_MAX).await };
        context.spawn(load.into_actor(self).map(move |loaded, session, context| {
            session.join(user, loaded, context);
        }));
    }

    /// Tells the hub whose session this is. A database that is down keeps nobody from hearing of their own orders:
    /// the session becomes the user's at once, and hears the creators as soon as they are known.
    fn join(&mut self, user: UserId, loaded: Result<Page<CreatorId>, Failure>, context: &mut Context) {
        if self.closing {
            return;
        }
        let (creators, failure) = match loaded {
            Ok(page) if page.more => {
                let detail = format!("only the first {FOLLOWED_PER_SESSION_MAX} creators are heard without asking");
                (page.items, Some(Failure::with(Code::ValidationFailed, detail)))
            }
            Ok(page) => (page.items, None),
            Err(failure) => {
                context.run_later(FOLLOWED_RETRY, move |session, context| {
                    if !session.closing {
                        session.load_followed(user, context);
                    }
                });
                (Vec::new(), Some(failure))
            }
        };
        let following = creators.len();
        let reply = frame(&Reply::Authenticated { user_id: user, following });
        if self.seat.hub.authenticate(self.seat.id, user, creators, reply.into()).is_err() {
            let (code, detail) = busy();
            self.error(code, &detail, context);
            return self.close(Closing::TooSlow, context);
        }
        self.followed = Followed::Known(following);
        if let Some(failure) = failure {
            self.error(failure.code, &failure.detail, context);
        }
    }

    /// Ends the session with its token, unless a newer one comes first.
    fn expire_at(&mut self, at: Timestamp, context: &mut Context) {
        if let Some(earlier) = self.expiry.take() {
            context.cancel_future(earlier);
        }
        let left = Duration::from_millis(at.millis_since(self.tokens.now()).unsigned_abs());
        self.expiry = Some(context.run_later(left, |session, context| {
            session.error(Code::TokenExpired, Code::TokenExpired.title(), context);
            session.close(Closing::Unauthenticated, context);
        }));
    }

    /// Pings, and looks a little later whether anything has been heard since.
    fn beat(&mut self, context: &mut Context) {
        if self.closing {
            return;
        }
        let pinged_at = Instant::now();
        context.ping(b"");
        context.run_later(PONG_DUE, move |session, context| {
            if session.heard_at < pinged_at {
                session.close(Closing::TooSlow, context);
            }
        });
    }

    fn fail(&mut self, error: &ProtocolError, context: &mut Context) {
        let closing = match error {
            _ if self.overflown.get() => Closing::TooLarge,
            ProtocolError::Overflow => Closing::TooLarge,
            // Text that is not UTF-8 arrives as an I/O error, and so does a broken connection, which hears nothing.
            ProtocolError::Io(_) => Closing::NotText,
            _ => Closing::Protocol,
        };
        self.close(closing, context);
    }

    fn error(&self, code: Code, detail: &str, context: &mut Context) {
        self.tell(&Reply::Error { code: code.as_str(), detail }, context);
    }

    fn tell(&self, reply: &Reply<'_>, context: &mut Context) {
        if !self.closing {
            context.text(frame(reply));
        }
    }

    fn close(&mut self, closing: Closing, context: &mut Context) {
        if self.closing {
            return;
        }
        let code = CloseCode::from(closing as u16);
        context.close(Some(CloseReason { code, description: Some(closing.reason().to_owned()) }));
        self.closing = true;
        context.run_later(CLOSE_LINGER, |_, context| context.stop());
    }
}

fn frame(reply: &Reply<'_>) -> String {
    serde_json::to_string(reply).expect("a reply of plain fields always encodes")
}

fn busy() -> (Code, String) {
    (Code::Overloaded, Code::Overloaded.title().to_owned())
}
