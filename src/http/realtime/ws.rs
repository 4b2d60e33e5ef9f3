//! WebSocket sessions: their start, and inbound and outbound messages. The only file that names actix-web-actors, which
//! is deprecated upstream: it does the handshake.
//!
//! A message is encoded once for all sessions of a worker. A session has no timers: its timeouts are checked from
//! outside ([`Subscriber`](crate::service::Subscriber)), where a client that does not read cannot block them.

use super::handover::{Opened, Upgradable};
use super::session::{Session, Wanted};
use super::ws_frames::Meter;
use super::ws_protocol::since;
use super::ws_protocol::{self, Closing, Pace, Reply, Request, close_reason, text_frame};
use crate::domain::limits::WS_MESSAGE_BYTES_MAX;
use crate::http::Services;
use crate::http::extract::auth;
use crate::http::problem::Problem;
use crate::service::{Code, Failure, Message, Outgoing};
use actix_http::ws::{Codec, Item};
use actix_web::http::header::{HOST, ORIGIN};
use actix_web::{HttpMessage, HttpRequest, HttpResponse, web};
use actix_web_actors::ws::{self, CloseCode, CloseReason, Frame, ProtocolError};
use bytes::{Bytes, BytesMut};
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::Context;
use std::time::Instant;
use tokio_util::codec::{Decoder, Encoder};

/// The index of this protocol's wire form in a message.
const WIRE: usize = 0;
/// A ping frame without payload.
const PING: Bytes = Bytes::from_static(&[0x89, 0]);

/// Answers `GET /notifications` with an upgrade.
///
/// # Errors
/// Before the upgrade: `forbidden` (origin), `validation_failed`, `unauthenticated`, `token_expired`, `overloaded`.
pub async fn connect(request: HttpRequest, services: web::Data<Services>) -> Result<HttpResponse, Problem> {
    let header = |name| request.headers().get(name).map(|value| value.to_str().unwrap_or("(not text)"));
    if !services.origins.allow(header(ORIGIN), header(HOST)) {
        return Err(Failure::with(Code::Forbidden, "The origin may not open a WebSocket here").into());
    }
    // An invalid token is reported before other errors.
    auth::of(&request)?;
    let no_websocket =
        |why: &str| Problem::from(Failure::with(Code::ValidationFailed, format!("This is a WebSocket: {why}")));
    let mut response = ws::handshake(&request).map_err(|error| no_websocket(&error.to_string()))?;
    if !request.extensions().contains::<Upgradable>() {
        return Err(no_websocket("the upgrade is to be to nothing else"));
    }
    let wanted = Wanted::of(&request, &services)?;
    let session = Session::open(&request, services, true)?;
    let mut response = response.finish();
    response.extensions_mut().insert(Opened { session, wanted });
    Ok(response)
}

/// The conversation on one connection.
pub(in crate::http) struct Talk {
    session: Rc<Session>,
    meter: Meter,
    codec: Codec,
    /// The received part of a frame.
    inbound: BytesMut,
    /// The received fragments of a message, and whether it is text.
    fragments: Option<Box<(bool, BytesMut)>>,
    /// Pongs, and the answer to a close. Bounded by the pace of inbound messages.
    replies: VecDeque<Bytes>,
    pace: Pace,
    /// Why the session closes, until the close frame is sent.
    closing: Option<Closing>,
    /// The close frame is sent: nothing more is sent or read.
    last_word: bool,
    /// No more input is expected.
    done: bool,
}

impl Drop for Talk {
    /// In every case: the session's tasks stop.
    fn drop(&mut self) {
        self.leave();
    }
}

impl Talk {
    /// Sends the greeting, and starts what the request asked for.
    pub fn begin(Opened { session, wanted }: Opened) -> Self {
        let begun = session.begin(wanted);
        let mut talk = Self {
            session,
            meter: Meter::new(WS_MESSAGE_BYTES_MAX),
            codec: Codec::new().max_size(WS_MESSAGE_BYTES_MAX),
            inbound: BytesMut::new(),
            fragments: None,
            replies: VecDeque::new(),
            pace: Pace::new(Instant::now()),
            closing: None,
            last_word: false,
            done: false,
        };
        talk.refuse(begun);
        talk
    }

    /// Records that the client can send nothing more.
    pub fn end(&mut self) {
        self.done = true;
    }

    /// Whether input is ignored.
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// Whether the connection may end once everything is written.
    pub fn is_over(&self) -> bool {
        self.done || self.has_no_time()
    }

    /// Whether it has to end at once.
    pub fn has_no_time(&self) -> bool {
        self.session.subscriber.has_ended()
    }

    /// Aborts the connection soon.
    pub fn leave(&self) {
        self.session.subscriber.closing();
    }

    /// Handles received bytes, in any split into chunks.
    pub fn take(&mut self, chunk: &[u8]) {
        if self.meter.is_overflown() {
            // Discarded: a client that is blocked in writing would not read the close frame.
        } else if self.meter.admits(chunk) {
            self.inbound.extend_from_slice(chunk);
            self.read();
        } else {
            self.close(Closing::TooLarge);
        }
    }

    fn read(&mut self) {
        while !self.inbound.is_empty() && !self.done {
            match self.codec.decode(&mut self.inbound) {
                Ok(Some(Frame::Close(_))) if self.last_word => self.done = true,
                Ok(Some(_)) if self.closing.is_some() => {}
                Ok(Some(frame)) => self.hear(frame),
                Ok(None) => return,
                Err(_) if self.closing.is_some() => self.inbound.clear(),
                Err(ProtocolError::Overflow) => self.close(Closing::TooLarge),
                Err(_) => self.close(Closing::Protocol),
            }
        }
        // An idle session keeps no buffer.
        self.inbound = BytesMut::new();
    }

    fn hear(&mut self, frame: Frame) {
        let now = Instant::now();
        self.session.subscriber.heard(now);
        if !matches!(frame, Frame::Pong(_) | Frame::Close(_)) && !self.pace.admits(now) {
            self.session.error(Code::Overloaded, "too many messages a second");
            return self.close(Closing::BadMessage);
        }
        match frame {
            Frame::Text(bytes) => match std::str::from_utf8(&bytes) {
                Ok(text) => self.receive(text),
                Err(_) => self.close(Closing::NotText),
            },
            Frame::Continuation(item) => self.assemble(item),
            Frame::Binary(_) => {
                self.session.error(Code::MalformedJson, "messages are text");
                self.close(Closing::BadMessage);
            }
            Frame::Ping(bytes) => self.reply(ws::Message::Pong(bytes)),
            Frame::Pong(_) => {}
            Frame::Close(reason) => {
                self.reply(ws::Message::Close(reason.map(|reason| CloseReason { description: None, ..reason })));
                self.done = true;
            }
        }
    }

    fn receive(&mut self, text: &str) {
        let session = Rc::clone(&self.session);
        let done = match ws_protocol::parse(text) {
            Ok(Request::Ping {}) => {
                session.say("pong", &Reply::Pong);
                Ok(())
            }
            Ok(Request::Auth { token, topics, since: text }) => match session.verify(&token) {
                Ok(access) => since(text.as_deref()).and_then(|since| session.sign_in(access, &topics, since)),
                Err(failure) => {
                    session.error(failure.code, &failure.detail);
                    return self.close(Closing::Unauthenticated);
                }
            },
            Ok(Request::Subscribe { topics, since: text }) => {
                since(text.as_deref()).and_then(|since| session.subscribe(&topics, since))
            }
            Ok(Request::Unsubscribe { topics }) => session.unsubscribe(&topics),
            Ok(Request::Ack { ids }) => session.acknowledge(ids),
            Err((code, detail)) => {
                session.error(code, &detail);
                return self.close(Closing::BadMessage);
            }
        };
        self.refuse(done);
    }

    /// Reports why a request failed; the broadcaster answers successful ones. If the broadcaster was too busy, it and
    /// the session no longer agree about the topics, so the session closes, to be opened again.
    fn refuse(&mut self, done: Result<(), (Code, String)>) {
        let Err((code, detail)) = done else { return };
        self.session.error(code, &detail);
        if code == Code::Overloaded {
            self.close(Closing::TooSlow);
        }
    }

    /// Assembles the fragments of a message (RFC 6455, section 5.4). The codec checks their order.
    fn assemble(&mut self, item: Item) {
        let (bytes, last) = match item {
            Item::FirstText(bytes) => {
                self.fragments = Some(Box::new((true, BytesMut::from(bytes))));
                return;
            }
            Item::FirstBinary(bytes) => {
                self.fragments = Some(Box::new((false, BytesMut::from(bytes))));
                return;
            }
            Item::Continue(bytes) => (bytes, false),
            Item::Last(bytes) => (bytes, true),
        };
        let Some(message) = self.fragments.as_deref_mut() else { return self.close(Closing::Protocol) };
        if message.1.len() + bytes.len() > WS_MESSAGE_BYTES_MAX {
            self.fragments = None;
            return self.close(Closing::TooLarge);
        }
        message.1.extend_from_slice(&bytes);
        if !last {
            return;
        }
        let Some((is_text, whole)) = self.fragments.take().map(|whole| *whole) else { return };
        match std::str::from_utf8(&whole) {
            Ok(text) if is_text => self.receive(text),
            Err(_) if is_text => self.close(Closing::NotText),
            _ => self.close(Closing::BadMessage),
        }
    }

    fn reply(&mut self, message: ws::Message) {
        let mut bytes = BytesMut::new();
        if self.codec.encode(message, &mut bytes).is_ok() {
            self.replies.push_back(bytes.freeze());
        }
    }

    /// Closes after the queued messages; the first cause counts.
    fn close(&mut self, closing: Closing) {
        self.closing.get_or_insert(closing);
        self.session.subscriber.closing();
    }

    /// The next bytes to write, if there are any.
    pub fn next(&mut self, context: &mut Context<'_>) -> Option<Bytes> {
        if let Some(reply) = self.replies.pop_front() {
            return Some(reply);
        }
        let next = self.session.subscriber.next(context);
        if self.last_word || self.done {
            return None;
        }
        match next {
            Some(Outgoing::Message(message)) => Some(message.wire(WIRE, |Message { json, .. }| text_frame(json))),
            Some(Outgoing::Ping) => Some(PING),
            Some(Outgoing::Close(cause)) => Some(self.last_word(cause.into())),
            None => self.closing.map(|closing| self.last_word(closing)),
        }
    }

    fn last_word(&mut self, closing: Closing) -> Bytes {
        self.last_word = true;
        self.closing = Some(closing);
        let reason = close_reason(closing, self.session.reconnect().draw(rand::random()));
        self.reply(ws::Message::Close(Some(CloseReason {
            code: CloseCode::from(closing as u16),
            description: Some(reason),
        })));
        self.replies.pop_back().unwrap_or_default()
    }
}
