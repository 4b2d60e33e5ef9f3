//! One request of an HTTP/2 connection, from its arrival to its answer.

use super::shared::Shared;
use crate::domain::limits::STREAMS_PER_CONNECTION_MAX;
use crate::http::transport::unsent::EventStream;
use actix_http::error::PayloadError;
use actix_http::header::{
    CONNECTION, CONTENT_LENGTH, DATE, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING, TryIntoHeaderValue,
    UPGRADE,
};
use actix_http::{BoxedPayloadStream, HttpMessage, Method, Payload, Request, Response, Uri, Version};
use actix_service::Service;
use actix_web::Error;
use actix_web::body::{BodySize, MessageBody};
use actix_web::dev::ServiceResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::HttpDate;
use bytes::Bytes;
use futures_util::Stream;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::SystemTime;
use tokio::time::{Sleep, sleep};

/// The end of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum End {
    /// The answer was handed over, or failed in the server.
    Answered,
    /// The client cancelled it.
    Cancelled,
    /// The client read too little of it, but more of others.
    SlowStream,
    /// The client read nothing of any request.
    SlowConnection,
}

/// Runs the application on a request, and sends the answer.
pub(super) async fn answer<S, B>(
    shared: Rc<Shared<S>>,
    request: http::Request<RecvStream>,
    mut answer: SendResponse<Bytes>,
) -> End
where
    S: Service<Request, Response = ServiceResponse<B>, Error = Error>,
    B: MessageBody,
{
    let head_only = request.method() == http::Method::HEAD;
    let Some(request) = shared.request(request) else {
        answer.send_reset(Reason::PROTOCOL_ERROR);
        return End::Cancelled;
    };
    let handled = tokio::select! {
        handled = shared.service.call(request) => handled,
        _ = poll_fn(|context| answer.poll_reset(context)) => return End::Cancelled,
    };
    match handled {
        Ok(response) => shared.send(answer, Response::from(response), head_only).await,
        Err(error) => shared.send(answer, error.error_response().into(), head_only).await,
    }
}

impl<S> Shared<S> {
    /// The request in actix-http's types. `None` if they cannot express it.
    fn request(&self, request: http::Request<RecvStream>) -> Option<Request> {
        let (parts, body) = request.into_parts();
        let payload = if body.is_end_stream() {
            Payload::None
        } else {
            let upload: BoxedPayloadStream = Box::pin(Upload { stream: body, held: 0 });
            Payload::Stream { payload: upload }
        };
        let mut request = Request::with_payload(payload);
        let head = request.head_mut();
        head.method = Method::from_bytes(parts.method.as_str().as_bytes()).ok()?;
        head.uri = Uri::from_maybe_shared(Bytes::from(parts.uri.to_string())).ok()?;
        head.version = Version::HTTP_2;
        head.peer_addr = self.peer;
        for (name, value) in &parts.headers {
            let name = HeaderName::from_bytes(name.as_str().as_bytes()).ok()?;
            head.headers.append(name, HeaderValue::from_bytes(value.as_bytes()).ok()?);
        }
        request.extensions_mut().insert(std::sync::Arc::clone(&self.connection));
        Some(request)
    }

    async fn send<B: MessageBody>(
        &self,
        mut answer: SendResponse<Bytes>,
        response: Response<B>,
        head_only: bool,
    ) -> End {
        let bounded_elsewhere = response.extensions().contains::<EventStream>();
        let (response, body) = response.into_parts();
        let size = if response.status() == StatusCode::NO_CONTENT { BodySize::None } else { body.size() };
        let ends = head_only || matches!(size, BodySize::None | BodySize::Sized(0));
        let Some(head) = head(&response, size) else {
            answer.send_reset(Reason::INTERNAL_ERROR);
            return End::Answered;
        };
        let Ok(stream) = answer.send_response(head, ends) else { return End::Cancelled };
        if ends {
            return End::Answered;
        }
        let mut sending = Sending { shared: self, stream, taken: 0, window: None, bounded_elsewhere };
        match sending.body(body, size).await {
            Ok(()) => End::Answered,
            Err(end) => {
                sending.stream.send_reset(Reason::CANCEL);
                end
            }
        }
    }
}

/// An answer's head in HTTP/2: without the headers that delimit it in HTTP/1 (RFC 9113, section 8.2.2).
fn head(response: &Response<()>, size: BodySize) -> Option<http::Response<()>> {
    let mut head = http::Response::new(());
    *head.status_mut() = http::StatusCode::from_u16(response.status().as_u16()).ok()?;
    *head.version_mut() = http::Version::HTTP_2;
    let headers = head.headers_mut();
    let mut add = |name: &HeaderName, value: &HeaderValue| {
        let name = http::HeaderName::from_bytes(name.as_str().as_bytes()).ok()?;
        headers.append(name, http::HeaderValue::from_bytes(value.as_bytes()).ok()?);
        Some(())
    };
    let ours: &HeaderMap = response.headers();
    for (name, value) in ours {
        let hop_by_hop = [CONNECTION, TRANSFER_ENCODING, UPGRADE, CONTENT_LENGTH].contains(name);
        if !hop_by_hop && name.as_str() != "keep-alive" {
            add(name, value)?;
        }
    }
    if let BodySize::Sized(bytes) = size {
        add(&CONTENT_LENGTH, &HeaderValue::from(bytes))?;
    }
    if !ours.contains_key(DATE) {
        add(&DATE, &HttpDate::from(SystemTime::now()).try_into_value().ok()?)?;
    }
    Some(head)
}

/// A request's body. Its bytes count against the connection's window until the handler has released them, so that a
/// client cannot have a hundred bodies collected at once.
struct Upload {
    stream: RecvStream,
    held: usize,
}

impl Stream for Upload {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let chunk = ready!(self.stream.poll_data(context));
        if let Some(Ok(chunk)) = &chunk {
            self.held += chunk.len();
        }
        Poll::Ready(chunk.map(|chunk| chunk.map_err(|error| PayloadError::Io(io::Error::other(error)))))
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        // A stream that is gone needs no credit.
        let _ = self.stream.flow_control().release_capacity(self.held);
    }
}

/// An answer on its way; the client's flow control sets its pace.
struct Sending<'a, S> {
    shared: &'a Shared<S>,
    stream: SendStream<Bytes>,
    /// Bytes of this answer handed over.
    taken: u64,
    /// Runs while the client's window is full.
    window: Option<Window>,
    /// Whether another component ends it if its client is too slow.
    bounded_elsewhere: bool,
}

/// A period in which a client must read something.
struct Window {
    end: Pin<Box<Sleep>>,
    taken: u64,
    taken_by_all: u64,
}

impl<S> Sending<'_, S> {
    /// Hands a body over, chunk by chunk.
    async fn body<B: MessageBody>(&mut self, body: B, size: BodySize) -> Result<(), End> {
        let mut body = pin!(body);
        let mut left = match size {
            BodySize::Sized(bytes) => Some(bytes),
            _ => None,
        };
        loop {
            let chunk = poll_fn(|context| {
                if self.stream.poll_reset(context).is_ready() {
                    return Poll::Ready(Err(End::Cancelled));
                }
                let chunk = body.as_mut().poll_next(context);
                if chunk.is_pending() {
                    // The server is the slow side.
                    self.window = None;
                }
                chunk.map(Ok)
            });
            match chunk.await? {
                Some(Ok(chunk)) => {
                    left = left.map(|left| left.saturating_sub(chunk.len() as u64));
                    self.chunk(chunk, left == Some(0)).await?;
                    if left == Some(0) {
                        return Ok(());
                    }
                }
                Some(Err(error)) => {
                    let error: Box<dyn std::error::Error> = error.into();
                    tracing::error!(%error, "an answer broke off");
                    self.stream.send_reset(Reason::INTERNAL_ERROR);
                    return Ok(());
                }
                None => return self.stream.send_data(Bytes::new(), true).map_err(|_| End::Cancelled),
            }
        }
    }

    async fn chunk(&mut self, mut chunk: Bytes, is_last: bool) -> Result<(), End> {
        while !chunk.is_empty() {
            self.stream.reserve_capacity(chunk.len());
            let room = poll_fn(|context| self.poll_room(context)).await?;
            let piece = chunk.split_to(room.min(chunk.len()));
            self.taken += piece.len() as u64;
            self.shared.taken.set(self.shared.taken.get() + piece.len() as u64);
            self.stream.send_data(piece, is_last && chunk.is_empty()).map_err(|_| End::Cancelled)?;
        }
        Ok(())
    }

    /// How many bytes the client accepts now.
    fn poll_room(&mut self, context: &mut Context<'_>) -> Poll<Result<usize, End>> {
        loop {
            let room = self.stream.capacity();
            if room > 0 {
                return Poll::Ready(Ok(room));
            }
            match self.stream.poll_capacity(context) {
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(_) => return Poll::Ready(Err(End::Cancelled)),
                Poll::Pending if self.bounded_elsewhere => return Poll::Pending,
                Poll::Pending => {
                    ready!(self.poll_window(context))?;
                }
            }
        }
    }

    /// Ready at a window's end: with an error if the client read too little in it.
    fn poll_window(&mut self, context: &mut Context<'_>) -> Poll<Result<(), End>> {
        let (taken, taken_by_all) = (self.taken, self.shared.taken.get());
        let timeouts = self.shared.settings.timeouts;
        let window =
            self.window.get_or_insert_with(|| Window { end: Box::pin(sleep(timeouts.send)), taken, taken_by_all });
        ready!(window.end.as_mut().poll(context));
        let (mine, all) = (taken - window.taken, taken_by_all - window.taken_by_all);
        self.window = None;
        let crowded = self.shared.connection.connections().is_crowded();
        // A share of the connection's minimum rate: the connection may be busy with its other requests.
        let share = timeouts.bytes_min(crowded) / u64::from(STREAMS_PER_CONNECTION_MAX);
        Poll::Ready(if mine >= share.max(1) {
            Ok(())
        } else if all == 0 {
            Err(End::SlowConnection)
        } else {
            Err(End::SlowStream)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_without_what_only_http_1_has() {
        let mut response = Response::new(StatusCode::OK);
        for (name, value) in [
            ("connection", "close"),
            ("keep-alive", "timeout=5"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("content-length", "7"),
            ("etag", "\"x\""),
        ] {
            response.headers_mut().insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let response = response.drop_body();
        let sized = head(&response, BodySize::Sized(3)).unwrap();
        let mut names: Vec<_> = sized.headers().keys().map(http::HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["content-length", "date", "etag"]);
        assert_eq!(sized.headers()["content-length"], "3");
        assert!(!head(&response, BodySize::Stream).unwrap().headers().contains_key("content-length"));
    }
}
