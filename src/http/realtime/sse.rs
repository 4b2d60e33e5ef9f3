//! Server-sent events (HTML Living Standard, section 9.2): the same topics for clients without WebSocket. The id of an
//! event is the offset to reconnect with, so a browser that lost its connection gets the missed events by itself.

use super::session::{Session, Wanted};
use super::ws_protocol::Closing;
use crate::http::Services;
use crate::http::problem::Problem;
use crate::http::transport::unsent::EventStream;
use crate::service::{Code, Failure, Message, Outgoing};
use actix_web::http::header::{CACHE_CONTROL, ContentType};
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use futures_util::Stream;
use std::convert::Infallible;
use std::fmt::Write;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

/// The index of this protocol's wire form in a message.
const WIRE: usize = 1;
/// A comment: it keeps proxies from closing an idle connection.
const HEARTBEAT: Bytes = Bytes::from_static(b":\n\n");

/// Answers `GET /notifications/stream` with an event stream.
///
/// # Errors
/// `validation_failed`, `unauthenticated`, `token_expired`, `overloaded`.
pub async fn stream(request: HttpRequest, services: web::Data<Services>) -> Result<HttpResponse, Problem> {
    let wanted = Wanted::of(&request, &services)?;
    let session = Session::open(&request, services, false)?;
    let refused = |(code, detail): (Code, String)| Failure::with(code, detail);
    session.begin(wanted).map_err(refused)?;
    let retry_ms = session.reconnect().draw(rand::random());
    let greeting = Some(Bytes::from(format!("retry: {retry_ms}\n\n")));
    let mut answer = HttpResponse::Ok()
        .content_type(ContentType(mime()))
        .insert_header((CACHE_CONTROL, "no-cache"))
        // nginx would collect events until its buffer is full.
        .insert_header(("X-Accel-Buffering", "no"))
        .streaming(Events { session, greeting, over: false });
    answer.extensions_mut().insert(EventStream);
    Ok(answer)
}

fn mime() -> actix_web::mime::Mime {
    actix_web::mime::TEXT_EVENT_STREAM
}

/// The body of one event stream.
struct Events {
    session: Rc<Session>,
    greeting: Option<Bytes>,
    over: bool,
}

impl Drop for Events {
    /// In every case: its tasks stop, and its connection is aborted soon.
    fn drop(&mut self) {
        self.session.subscriber.closing();
    }
}

impl Stream for Events {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(greeting) = self.greeting.take() {
            return Poll::Ready(Some(Ok(greeting)));
        }
        if self.over {
            return Poll::Ready(None);
        }
        match self.session.subscriber.next(context) {
            Some(Outgoing::Message(message)) => Poll::Ready(Some(Ok(message.wire(WIRE, event)))),
            Some(Outgoing::Ping) => Poll::Ready(Some(Ok(HEARTBEAT))),
            Some(Outgoing::Close(cause)) => {
                self.over = true;
                let retry_ms = self.session.reconnect().draw(rand::random());
                Poll::Ready(Some(Ok(farewell(cause.into(), retry_ms))))
            }
            None if self.session.subscriber.has_ended() => Poll::Ready(None),
            None => Poll::Pending,
        }
    }
}

/// A message as an event. JSON has no line breaks, so it is one line of data.
fn event(message: &Message) -> Bytes {
    let mut text = String::with_capacity(message.json.len() + 128);
    if let Some(id) = &message.id {
        let _ = writeln!(text, "id: {id}");
    }
    let _ = writeln!(text, "event: {}", message.kind);
    text.push_str("data: ");
    text.push_str(&String::from_utf8_lossy(&message.json));
    text.push_str("\n\n");
    text.into()
}

fn farewell(closing: Closing, retry_ms: u64) -> Bytes {
    let (code, reason) = (closing as u16, closing.reason());
    let data = format!(r#"{{"type":"close","code":{code},"reason":"{reason}","retry_ms":{retry_ms}}}"#);
    format!("retry: {retry_ms}\nevent: close\ndata: {data}\n\n").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_event_with_its_id() {
        let json = Bytes::from_static(br#"{"type":"sold_out"}"#);
        let message = Message {
            kind: "sold_out",
            id: Some("e-1".into()),
            order: 1,
            stock_of: None,
            json,
            wire: Default::default(),
        };
        assert_eq!(event(&message), "id: e-1\nevent: sold_out\ndata: {\"type\":\"sold_out\"}\n\n");
        let reply = Message { id: None, ..message };
        assert_eq!(event(&reply), "event: sold_out\ndata: {\"type\":\"sold_out\"}\n\n");
    }
}
