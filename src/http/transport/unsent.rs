//! Large answers: they are counted as long as they are in memory, and sent in small pieces.
//!
//! actix-http copies a whole chunk into its buffer, so an answer of one chunk would be in memory twice until its client
//! has read it. A piece shares the answer's memory, and the answer counts until its last piece is gone from all
//! buffers.

use super::connection::Connection;
use crate::domain::limits::COUNTED_ANSWER_BYTES_MIN;
use crate::http::problem::Problem;
use crate::http::transport::liveness;
use crate::service::{Code, Failure};
use actix_web::ResponseError;
use actix_web::body::{BodySize, EitherBody, MessageBody};
use actix_web::dev::ServiceResponse;
use actix_web::http::Version;
use bytes::Bytes;
use pin_project_lite::pin_project;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

/// Bytes of a piece: as much as one HTTP/2 frame, and little enough to wait in a buffer.
const PIECE_BYTES: usize = 16 << 10;
/// Seconds after which a client may retry a refused answer.
const RETRY_AFTER_S: u32 = 5;

/// A marker in an answer's extensions: its body is in memory anyway, for any number of waiting clients.
#[derive(Clone, Copy)]
pub struct Shared;

/// A marker in an answer's extensions: its body is a stream of events, which never ends by itself and has a bound of
/// its own for slow clients.
#[derive(Clone, Copy)]
pub struct EventStream;

/// Reserved room of an answer.
struct Room {
    connection: Arc<Connection>,
    bytes: usize,
}

impl Drop for Room {
    fn drop(&mut self) {
        self.connection.give_back_unsent(self.bytes);
    }
}

/// An answer's memory, with its reserved room.
struct Counted {
    bytes: Bytes,
    _room: Room,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

pin_project! {
    /// An answer's body, sent in pieces.
    pub struct Pieces<B> {
        #[pin]
        body: B,
        rest: Bytes,
        room: Option<Room>,
    }
}

impl<B> Pieces<B> {
    fn of(body: B, room: Option<Room>) -> Self {
        Self { body, rest: Bytes::new(), room }
    }
}

impl<B: MessageBody> MessageBody for Pieces<B> {
    type Error = B::Error;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        let this = self.project();
        if this.rest.is_empty() {
            let mut chunk = match ready!(this.body.poll_next(context)) {
                Some(Ok(chunk)) => chunk,
                end => return Poll::Ready(end),
            };
            if chunk.len() <= PIECE_BYTES {
                return Poll::Ready(Some(Ok(chunk)));
            }
            if let Some(room) = this.room.take() {
                chunk = Bytes::from_owner(Counted { bytes: chunk, _room: room });
            }
            *this.rest = chunk;
        }
        let piece = this.rest.split_to(PIECE_BYTES.min(this.rest.len()));
        Poll::Ready(Some(Ok(piece)))
    }

    fn try_into_bytes(self) -> Result<Bytes, Self> {
        // A large body must not be collected into one chunk, which would be copied.
        let small = match self.size() {
            BodySize::None => true,
            BodySize::Sized(bytes) => bytes <= PIECE_BYTES as u64,
            BodySize::Stream => false,
        };
        if !small || !self.rest.is_empty() {
            return Err(self);
        }
        let Self { body, rest, room } = self;
        body.try_into_bytes().map_err(|body| Self { body, rest, room })
    }
}

/// Counts a large answer against its connection, and sends it in pieces. Without enough room, the answer is 503
/// `overloaded`.
pub fn count<B: MessageBody + 'static>(response: ServiceResponse<B>) -> ServiceResponse<EitherBody<Pieces<B>>> {
    let room = match room(&response) {
        Ok(room) => room,
        Err(()) => {
            let failure = Failure::retry(Code::Overloaded, RETRY_AFTER_S);
            let problem = Problem::from(failure).error_response();
            return response.into_response(problem.map_into_right_body());
        }
    };
    response.map_body(|_, body| EitherBody::new(Pieces::of(body, room)))
}

/// The reserved room of an answer; `None` if it needs none.
fn room<B: MessageBody>(response: &ServiceResponse<B>) -> Result<Option<Room>, ()> {
    let bytes = match response.response().body().size() {
        BodySize::Sized(bytes) if bytes >= COUNTED_ANSWER_BYTES_MIN => bytes,
        BodySize::Stream if response.response().extensions().contains::<EventStream>() => {
            // An HTTP/2 connection is not exempt: the client must read its other streams.
            if response.request().version() < Version::HTTP_2
                && let Some(connection) = liveness::connection(response.request())
            {
                connection.stream_events();
            }
            return Ok(None);
        }
        _ => return Ok(None),
    };
    if response.response().extensions().contains::<Shared>() {
        return Ok(None);
    }
    let Some(connection) = liveness::connection(response.request()) else { return Ok(None) };
    let bytes = usize::try_from(bytes).map_err(|_| ())?;
    if !connection.take_unsent(bytes) {
        connection.connections().metrics().answers_refused.inc();
        return Err(());
    }
    Ok(Some(Room { connection, bytes }))
}

#[cfg(test)]
mod tests {
    use super::super::connection::tests::connected;
    use super::*;
    use crate::domain::limits::UNSENT_BYTES_PER_CONNECTION_MAX;
    use actix_web::HttpMessage;
    use actix_web::HttpResponse;
    use actix_web::test::TestRequest;
    use std::future::poll_fn;
    use std::pin::pin;

    fn answered(connection: &Arc<Connection>, answer: HttpResponse) -> ServiceResponse<impl MessageBody + use<>> {
        let request = TestRequest::get().to_http_request();
        request.extensions_mut().insert(Arc::clone(connection));
        count(ServiceResponse::new(request, answer))
    }

    fn waiting(connection: &Connection) -> i64 {
        connection.connections().metrics().unsent_bytes.get()
    }

    #[actix_web::test]
    async fn a_large_answer_goes_out_in_pieces_and_counts_until_the_last_is_gone() {
        let (connection, _client, _owned) = connected(false);
        let connection = Arc::new(connection);
        let text = vec![b'x'; 5 * PIECE_BYTES + 1];
        let answer = answered(&connection, HttpResponse::Ok().body(text.clone()));
        assert_eq!(waiting(&connection), text.len() as i64);
        let mut body = pin!(answer.into_body());
        let mut pieces = Vec::new();
        while let Some(piece) = poll_fn(|context| body.as_mut().poll_next(context)).await {
            pieces.push(piece.ok().expect("a piece"));
        }
        assert!(pieces.iter().all(|piece| piece.len() <= PIECE_BYTES));
        assert_eq!(pieces.concat(), text);
        assert_eq!(waiting(&connection), text.len() as i64, "its last piece waits somewhere");
        let last = pieces.pop();
        drop(pieces);
        assert_eq!(waiting(&connection), text.len() as i64);
        drop(last);
        assert_eq!(waiting(&connection), 0);
        drop(answered(&connection, HttpResponse::Ok().body(text)));
        assert_eq!(waiting(&connection), 0, "an answer that nobody waits for");
    }

    #[actix_web::test]
    async fn small_and_shared_answers_do_not_count() {
        let (connection, _client, _owned) = connected(false);
        let connection = Arc::new(connection);
        let _small = answered(&connection, HttpResponse::Ok().body("small"));
        let mut shared = HttpResponse::Ok().body(vec![0; UNSENT_BYTES_PER_CONNECTION_MAX + 1]);
        shared.extensions_mut().insert(Shared);
        let _shared = answered(&connection, shared);
        assert_eq!(waiting(&connection), 0);
    }

    #[actix_web::test]
    async fn what_has_no_room_is_refused_with_a_time_to_come_back() {
        let (connection, _client, _owned) = connected(false);
        let connection = Arc::new(connection);
        let large =
            || HttpResponse::Ok().insert_header(("etag", "\"x\"")).body(vec![0; UNSENT_BYTES_PER_CONNECTION_MAX]);
        let first = answered(&connection, large());
        assert_eq!(first.status().as_u16(), 200);
        let second = answered(&connection, large());
        assert_eq!(second.status().as_u16(), 503);
        assert!(second.headers().contains_key("retry-after") && !second.headers().contains_key("etag"));
        assert_eq!(connection.connections().metrics().answers_refused.get(), 1);
        drop(first);
        assert_eq!(answered(&connection, large()).status().as_u16(), 200);
    }
}
