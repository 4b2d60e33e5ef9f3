//! JSON bodies. Of requests: one bounded read, one parse, and a problem for each possible fault. Of answers: one
//! buffer.

use crate::domain::limits::JSON_BODY_BYTES_MAX;
use crate::http::api::plain::Plain;
use crate::http::middleware::current_trace;
use crate::http::middleware::shutdown;
use crate::http::problem::Problem;
use crate::http::transport::arriving::ArrivingRoom;
use crate::http::transport::sizes::{self, Sizes};
use crate::service::input::Unvalidated;
use crate::service::{Code, Failure, FieldError};
use actix_web::body::BoxBody;
use actix_web::dev::Payload;
use actix_web::error::PayloadError;
use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue};
use actix_web::{FromRequest, HttpRequest, HttpResponse, web};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::error::Category;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::sleep;

/// Capacity for most answers, so that writing one does not reallocate.
const ANSWER_BYTES: usize = 512;
/// A static, so that it is validated at compile time and not for each answer.
static MEDIA_TYPE: HeaderValue = HeaderValue::from_static("application/json");

/// Serialises a body.
///
/// # Errors
/// `internal` for values without a JSON form, such as a map with keys that are not strings.
pub fn write(body: &impl Serialize) -> Result<Bytes, Problem> {
    let mut bytes = Vec::with_capacity(ANSWER_BYTES);
    serde_json::to_writer(&mut bytes, body).map_err(|_| Problem::internal(current_trace::id()))?;
    Ok(bytes.into())
}

/// Serialises a body that needs no escaping.
#[must_use]
pub fn write_plain(body: &impl Plain) -> Bytes {
    let mut bytes = Vec::with_capacity(ANSWER_BYTES);
    body.write(&mut bytes);
    bytes.into()
}

/// An answer with a JSON body.
#[must_use]
pub fn answer(status: StatusCode, body: Bytes) -> HttpResponse {
    let mut answer = HttpResponse::with_body(status, BoxBody::new(body));
    answer.headers_mut().insert(CONTENT_TYPE, MEDIA_TYPE.clone());
    answer
}

/// A JSON object in the body, of at most this many bytes, or fewer if `web::Data<Sizes>` says so.
pub struct Body<T, const BYTES_MAX: usize = JSON_BODY_BYTES_MAX>(pub Unvalidated<T>);

impl<T: DeserializeOwned + 'static, const BYTES_MAX: usize> FromRequest for Body<T, BYTES_MAX> {
    type Error = Problem;
    type Future = Reading<T, BYTES_MAX>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let sizes = sizes_of(request, BYTES_MAX);
        let arrived = check(request.headers(), &sizes).map(|()| Arrived::default());
        Reading { bytes: Arriving::of(request, payload.take(), sizes, arrived), body: PhantomData }
    }
}

fn sizes_of(request: &HttpRequest, bytes_max: usize) -> Sizes {
    let sizes = request.app_data::<web::Data<Sizes>>().map_or_else(Sizes::default, |sizes| ***sizes);
    Sizes { body_bytes_max: sizes.body_bytes_max.min(bytes_max), ..sizes }
}

/// Receives the bytes of a body.
struct Arriving {
    payload: Payload,
    sizes: Sizes,
    /// `None` once the body is complete.
    arrived: Option<Result<Arrived, Failure>>,
    request: HttpRequest,
    /// Set by the first wait: most bodies arrive with their head.
    wait: Option<Wait>,
}

/// The state of a body that is not complete yet.
struct Wait {
    end: Pin<Box<dyn Future<Output = Failure>>>,
    room: ArrivingRoom,
}

impl Arriving {
    fn of(request: &HttpRequest, payload: Payload, sizes: Sizes, arrived: Result<Arrived, Failure>) -> Self {
        Self { payload, sizes, arrived: Some(arrived), request: request.clone(), wait: None }
    }

    fn poll_bytes(&mut self, context: &mut Context<'_>) -> Poll<Result<Bytes, Failure>> {
        let Some(mut arrived) = self.arrived.take().transpose()? else { return Poll::Pending };
        while let Poll::Ready(chunk) = self.payload.poll_next_unpin(context) {
            match chunk {
                None => return Poll::Ready(Ok(arrived.whole())),
                Some(chunk) => arrived.add(chunk.map_err(broken_off)?, &self.sizes)?,
            }
        }
        let wait = self.wait.get_or_insert_with(|| Wait {
            end: Box::pin(end_of_waiting(self.sizes.body_timeout)),
            room: ArrivingRoom::of(&self.request),
        });
        if let Poll::Ready(failure) = wait.end.as_mut().poll(context) {
            return Poll::Ready(Err(failure));
        }
        wait.room.hold(arrived.bytes_taken())?;
        self.arrived = Some(Ok(arrived));
        Poll::Pending
    }
}

/// The future that reads a body.
pub struct Reading<T, const BYTES_MAX: usize> {
    bytes: Arriving,
    body: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned, const BYTES_MAX: usize> Future for Reading<T, BYTES_MAX> {
    type Output = Result<Body<T, BYTES_MAX>, Problem>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let bytes = ready!(self.bytes.poll_bytes(context))?;
        Poll::Ready(Ok(Body(parse(&bytes)?)))
    }
}

/// The bytes of a JSON body as they arrived, of at most this many: for signatures over them.
pub struct Raw<const BYTES_MAX: usize>(pub Bytes);

impl<const BYTES_MAX: usize> FromRequest for Raw<BYTES_MAX> {
    type Error = Problem;
    type Future = ReadingRaw<BYTES_MAX>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let sizes = sizes_of(request, BYTES_MAX);
        let arrived = check(request.headers(), &sizes).map(|()| Arrived::default());
        ReadingRaw(Arriving::of(request, payload.take(), sizes, arrived))
    }
}

/// The future that receives the bytes of a body.
pub struct ReadingRaw<const BYTES_MAX: usize>(Arriving);

impl<const BYTES_MAX: usize> Future for ReadingRaw<BYTES_MAX> {
    type Output = Result<Raw<BYTES_MAX>, Problem>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(Ok(Raw(ready!(self.0.poll_bytes(context))?)))
    }
}

/// A longer text cannot be an empty object.
const NOTHING_BYTES_MAX: usize = 64;

/// The body of a request whose handler reads none. It must be empty, or an empty object, which some clients send with
/// each POST.
pub struct Unread(Arriving);

impl Unread {
    /// Takes the body of a request.
    #[must_use]
    pub fn of(request: &HttpRequest, payload: Payload) -> Self {
        let sizes = sizes_of(request, NOTHING_BYTES_MAX);
        Self(Arriving::of(request, payload, sizes, Ok(Arrived::default())))
    }

    /// Waits for the end of the body.
    ///
    /// # Errors
    /// `unexpected_body`, `request_timeout`, `malformed_json` if it is interrupted.
    pub fn poll_nothing(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        let unexpected = || Failure::with(Code::UnexpectedBody, "There is no body to be sent here; nothing was done");
        Poll::Ready(match ready!(self.0.poll_bytes(context)) {
            Ok(bytes) if is_nothing(&bytes) => Ok(()),
            Ok(_) => Err(unexpected()),
            Err(failure) if failure.code == Code::BodyTooLarge => Err(unexpected()),
            Err(failure) => Err(failure),
        })
    }
}

/// Whether the body is empty, or `{}`.
fn is_nothing(bytes: &[u8]) -> bool {
    match bytes.trim_ascii() {
        [] => true,
        [b'{', inner @ .., b'}'] => inner.trim_ascii().is_empty(),
        _ => false,
    }
}

/// Waits until the body has to be given up, and returns the reason.
async fn end_of_waiting(timeout: Duration) -> Failure {
    tokio::select! {
        () = sleep(timeout) => Failure::with(Code::RequestTimeout, "The body did not arrive in time"),
        () = shutdown::over() => Failure::with(Code::ShuttingDown, "The body had not arrived when the server was told to stop"),
    }
}

fn broken_off(error: PayloadError) -> Failure {
    Failure::with(Code::MalformedJson, format!("The body did not arrive: {error}"))
}

/// The received part of a body. Most bodies come in one chunk, which is passed on without a copy. Memory follows the
/// received bytes, not the announced length.
#[derive(Default)]
struct Arrived {
    first: Bytes,
    more: BytesMut,
}

impl Arrived {
    /// Bytes held in memory.
    fn bytes_taken(&self) -> usize {
        self.first.len() + self.more.capacity()
    }

    fn add(&mut self, chunk: Bytes, sizes: &Sizes) -> Result<(), Failure> {
        if self.first.len() + self.more.len() + chunk.len() > sizes.body_bytes_max {
            return Err(sizes.body_too_large());
        }
        if self.first.is_empty() && self.more.is_empty() {
            self.first = chunk;
            return Ok(());
        }
        if self.more.is_empty() {
            self.more.reserve(self.first.len() + chunk.len());
            self.more.extend_from_slice(&std::mem::take(&mut self.first));
        }
        self.more.extend_from_slice(&chunk);
        Ok(())
    }

    fn whole(self) -> Bytes {
        if self.more.is_empty() { self.first } else { self.more.freeze() }
    }
}

/// Checks the media type and the announced length of a body.
fn check(headers: &HeaderMap, sizes: &Sizes) -> Result<(), Failure> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let media_type = text(CONTENT_TYPE).unwrap_or("").split(';').next().unwrap_or("").trim();
    let json = media_type.eq_ignore_ascii_case("application/json")
        || (media_type.len() > 5 && media_type.is_char_boundary(media_type.len() - 5) && {
            let (kind, suffix) = media_type.split_at(media_type.len() - 5);
            kind.contains('/') && suffix.eq_ignore_ascii_case("+json")
        });
    if !json {
        return Err(Failure::with(Code::UnsupportedMediaType, "Content-Type must be application/json"));
    }
    if headers.contains_key(CONTENT_ENCODING) && text(CONTENT_ENCODING) != Some("identity") {
        return Err(Failure::with(Code::UnsupportedMediaType, "Content-Encoding must be identity"));
    }
    if sizes::announced(headers) > sizes.body_bytes_max as u64 { Err(sizes.body_too_large()) } else { Ok(()) }
}

/// Parses one JSON object.
///
/// # Errors
/// `malformed_json` for invalid JSON; `validation_failed` for JSON of another shape (not an object, unknown or repeated
/// fields), with serde's message, which names the field and the position.
pub fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Failure> {
    // A derived struct would also accept `[…]`, its fields by position.
    if bytes.trim_ascii_start().first().is_some_and(|&first| first != b'{') {
        return match serde_json::from_slice::<serde::de::IgnoredAny>(bytes) {
            Ok(_) => Err(shape("must be an object".to_owned())),
            Err(error) => Err(Failure::with(Code::MalformedJson, error.to_string())),
        };
    }
    serde_json::from_slice(bytes).map_err(|error| match error.classify() {
        Category::Data => shape(error.to_string()),
        Category::Syntax | Category::Eof | Category::Io => Failure::with(Code::MalformedJson, error.to_string()),
    })
}

fn shape(detail: String) -> Failure {
    Failure { detail: detail.clone().into(), ..Failure::invalid(vec![FieldError { pointer: String::new(), detail }]) }
}

/// Reads and validates a body in a test, and returns the pointers of its errors.
#[cfg(test)]
pub(in crate::http) fn pointers<B, I>(json: &serde_json::Value) -> Vec<String>
where
    B: DeserializeOwned + Into<I>,
    I: crate::service::input::Input,
{
    let parsed = parse::<Unvalidated<B>>(json.to_string().as_bytes());
    match parsed.and_then(Unvalidated::validate::<I>) {
        Ok(_) => Vec::new(),
        Err(failure) => failure.fields.into_iter().map(|field| field.pointer).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::{App, HttpResponse, test, web};
    use serde::Deserialize;

    #[derive(Deserialize, Debug)]
    #[serde(deny_unknown_fields)]
    struct Point {
        x: i64,
    }

    fn code(text: &str) -> Code {
        parse::<Point>(text.as_bytes()).unwrap_err().code
    }

    #[test]
    async fn broken_json_and_a_wrong_shape_are_told_apart() {
        assert_eq!(parse::<Point>(b" \n{\"x\": 1}").unwrap().x, 1);
        for broken in ["", " ", "{", "{\"x\":1}}", "{\"x\":1,}", "nope", "[1", "{\"x\":\"\u{1}\"}", "{'x':1}"] {
            assert_eq!(code(broken), Code::MalformedJson, "{broken}");
        }
        for shape in ["[1]", "null", "3", "\"x\"", "{}", "{\"x\":1,\"y\":2}", "{\"x\":1,\"x\":2}", "{\"x\":\"1\"}"] {
            assert_eq!(code(shape), Code::ValidationFailed, "{shape}");
        }
        let unknown = parse::<Point>(b"{\"x\":1,\"why\":2}").unwrap_err();
        assert!(unknown.fields[0].detail.contains("unknown field `why`"), "{unknown:?}");
        assert_eq!(parse::<Point>(b"{\"x\":\xff}").unwrap_err().code, Code::MalformedJson);
        // Deep nesting is refused by the parser before it can overflow the stack.
        assert_eq!(code(&format!("{{\"x\":{}", "[".repeat(60_000))), Code::ValidationFailed);
    }

    #[test]
    async fn nothing_is_empty_or_an_empty_object() {
        for nothing in ["", " \r\n", "{}", " { \n} "] {
            assert!(is_nothing(nothing.as_bytes()), "{nothing:?}");
        }
        for something in ["{", "}", "[]", "null", "{}{}", "{\"a\":1}", "0", "\u{a0}"] {
            assert!(!is_nothing(something.as_bytes()), "{something:?}");
        }
    }

    #[test]
    async fn a_body_in_pieces_is_one_body() {
        let sizes = Sizes { body_bytes_max: 6, ..Sizes::default() };
        let whole = |chunks: &[&'static str]| {
            let mut arrived = Arrived::default();
            let added = chunks.iter().try_for_each(|chunk| arrived.add(Bytes::from_static(chunk.as_bytes()), &sizes));
            added.map(|()| arrived.whole()).map_err(|failure| failure.code)
        };
        for chunks in [[].as_slice(), &["abcdef"], &["", "ab", "", "cd", "ef", ""], &["a", "bcdef"], &["ab", "c"]] {
            assert_eq!(whole(chunks), Ok(chunks.concat().into()), "{chunks:?}");
        }
        for chunks in [["abcdefg"].as_slice(), &["abcdef", "g"], &["a", "b", "cdefg"]] {
            assert_eq!(whole(chunks), Err(Code::BodyTooLarge), "{chunks:?}");
        }
    }

    #[test]
    async fn media_types_and_sizes_are_checked_before_parsing() {
        let app = test::init_service(App::new().route(
            "/",
            web::post().to(async |Body(point): Body<Point>| HttpResponse::Ok().body(point.fields.x.to_string())),
        ))
        .await;
        let send = async |media_type: Option<&str>, body: Vec<u8>| {
            let mut request = test::TestRequest::post().uri("/").set_payload(body);
            if let Some(media_type) = media_type {
                request = request.insert_header(("content-type", media_type));
            }
            test::call_service(&app, request.to_request()).await.status().as_u16()
        };
        let good = || b"{\"x\":7}".to_vec();
        for json in ["application/json", "Application/JSON; charset=utf-8", "application/vnd.livedrop+json"] {
            assert_eq!(send(Some(json), good()).await, 200, "{json}");
        }
        for other in [None, Some(""), Some("text/plain"), Some("+json"), Some("application/jsonx"), Some("x€+json")] {
            assert_eq!(send(other, good()).await, 415, "{other:?}");
        }
        let padded = |size: usize| format!("{{\"x\":{}7}}", " ".repeat(size - 7)).into_bytes();
        assert_eq!(send(Some("application/json"), padded(JSON_BODY_BYTES_MAX)).await, 200);
        assert_eq!(send(Some("application/json"), padded(JSON_BODY_BYTES_MAX + 1)).await, 413);
    }
}
