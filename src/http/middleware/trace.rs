//! Every request has a trace: the caller's, or a new one (W3C Trace Context). It is in the answer, in every problem and
//! in every log line. A panic outside the [`guard`](super::guard) ends here, as a 500 problem.

use super::current_trace;
use super::headers;
use crate::domain::TraceId;
use crate::http::extract::client;
use crate::http::middleware::metrics;
use crate::http::problem::Problem;
use crate::http::transport::liveness::{Attended, Body};
use actix_web::Error;
use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use actix_web::middleware::Next;
use futures_util::FutureExt;
use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};
use tracing::{Instrument, Span, field, info_span};
use uuid::Uuid;

/// A request that takes this long is logged.
const SLOW: Duration = Duration::from_secs(1);

/// A request's trace context.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Context {
    trace: TraceId,
    /// This request's span id.
    span: u64,
    flags: u8,
}

impl Context {
    /// Continues the caller's trace. A malformed header is ignored (W3C Trace Context, section 3.2.2.3).
    fn of(headers: &HeaderMap) -> Self {
        let span = rand::random::<u64>() | 1;
        let mut sent = headers.get_all("traceparent");
        let parent = match (sent.next(), sent.next()) {
            (Some(only), None) => only.to_str().ok().and_then(parse_traceparent),
            _ => None,
        };
        let (trace, flags) = parent.unwrap_or_else(|| (TraceId::random(), 0));
        Self { trace, span, flags }
    }
}

/// The length of a `traceparent` of version 00.
const TRACEPARENT_BYTES: usize = 55;

impl Context {
    /// The `traceparent` text, written digit by digit: every answer has one.
    fn text(&self) -> [u8; TRACEPARENT_BYTES] {
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        self.trace.0.simple().encode_lower(&mut text[3..35]);
        hex(self.span, &mut text[36..52]);
        hex(self.flags.into(), &mut text[53..]);
        text
    }
}

/// Writes the last hex digits of a number, as many as `text` has room for.
fn hex(mut number: u64, text: &mut [u8]) {
    for place in text.iter_mut().rev() {
        *place = b"0123456789abcdef"[(number & 15) as usize];
        number >>= 4;
    }
}

/// Trace id and flags of a `traceparent`. Later versions may append fields, version 00 may not.
fn parse_traceparent(text: &str) -> Option<(TraceId, u8)> {
    let lower_hex = |part: &str, length: usize| {
        part.len() == length && part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    };
    let mut parts = text.split('-');
    let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let well_formed = lower_hex(version, 2) && lower_hex(trace, 32) && lower_hex(span, 16) && lower_hex(flags, 2);
    let trailing = parts.next().is_some();
    if !well_formed || version == "ff" || (version == "00" && trailing) || span.bytes().all(|b| b == b'0') {
        return None;
    }
    let trace = Uuid::from_u128(u128::from_str_radix(trace, 16).ok()?);
    // Only the sampled flag has a known meaning.
    let flags = u8::from_str_radix(flags, 16).ok()? & 1;
    (!trace.is_nil()).then_some((TraceId(trace), flags))
}

/// The outermost middleware, for [`actix_web::middleware::from_fn`]. `tls`: whether connections are encrypted.
///
/// # Errors
/// A 500 problem for a handler that panicked: nothing of an answer has been written by then.
pub async fn trace<B: MessageBody + 'static>(
    tls: bool,
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<Body<B>>, Error> {
    let started = Instant::now();
    let attended = Attended::of(request.request());
    let context = Context::of(request.headers());
    let span = info_span!(
        "request",
        trace_id = %context.trace,
        method = %request.method(),
        client = field::Empty,
        route = field::Empty,
        status = field::Empty,
        duration_ms = field::Empty,
    );
    let answer = AssertUnwindSafe(next.call(request)).catch_unwind().instrument(span.clone());
    match (current_trace::Within { trace: context.trace, future: answer }).await {
        Ok(Ok(mut response)) => {
            headers::protect(response.headers_mut(), tls);
            tell(response.headers_mut(), &context);
            let took = started.elapsed();
            metrics::observe(&response, took);
            log(&span, &response, took);
            Ok(response.map_body(|_, body| attended.until_sent(body)))
        }
        Ok(Err(error)) => Err(error),
        // A panic outside the handlers, see `guard`. It is logged where it happens.
        Err(_) => Err(Problem::internal(context.trace).into()),
    }
}

/// Adds the trace to the answer.
fn tell(headers: &mut HeaderMap, context: &Context) {
    if let Ok(value) = HeaderValue::from_bytes(&context.text()) {
        headers.insert(HeaderName::from_static("traceparent"), value.clone());
        headers.insert(HeaderName::from_static("traceresponse"), value);
    }
}

/// One line for a request with a server error or a long duration; one for each at debug level. The fields cost
/// formatting, and the route's pattern a second routing, so they are filled in only for a line that is written.
fn log<B>(span: &Span, response: &ServiceResponse<B>, took: Duration) {
    let status = response.status();
    let notable = status.is_server_error() || took >= SLOW;
    if !notable && !tracing::enabled!(tracing::Level::DEBUG) {
        return;
    }
    if let Some(client) = client::address(response.request()) {
        span.record("client", field::display(client));
    }
    span.record("route", response.request().match_pattern().unwrap_or_else(|| "(none)".into()));
    span.record("status", status.as_u16());
    span.record("duration_ms", took.as_secs_f64() * 1_000.0);
    let _entered = span.enter();
    if notable {
        tracing::info!("request completed");
    } else {
        tracing::debug!("request completed");
    }
}

#[cfg(test)]
mod tests {
    use super::current_trace::id as current_id;
    use super::*;
    use actix_web::middleware::from_fn;
    use actix_web::{App, HttpResponse, ResponseError, test, web};

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    async fn a_traceparent_is_taken_to_the_letter() {
        let (trace, flags) = parse_traceparent(PARENT).unwrap();
        assert_eq!((trace.to_string().as_str(), flags), ("4bf92f3577b34da6a3ce929d0e0e4736", 1));
        assert!(parse_traceparent(&format!("01{}-more", &PARENT[2..])).is_some());
        for bad in [
            "",
            "-",
            "00",
            &PARENT.to_uppercase(),
            &format!("ff{}", &PARENT[2..]),
            &format!("{PARENT}-more"),
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0",
            "00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            assert_eq!(parse_traceparent(bad), None, "{bad}");
        }
    }

    #[test]
    async fn a_trace_is_written_as_it_is_read() {
        let context = Context { trace: TraceId(Uuid::from_u128(0xabc)), span: 0x0f_e1d2, flags: 1 };
        let text = String::from_utf8(context.text().to_vec()).unwrap();
        assert_eq!(text, "00-00000000000000000000000000000abc-00000000000fe1d2-01");
        assert_eq!(parse_traceparent(&text), Some((context.trace, 1)));
    }

    #[test]
    async fn the_trace_goes_through_handler_and_answer() {
        let app = test::init_service(
            App::new()
                .wrap(from_fn(|request, next| trace(false, request, next)))
                .route("/", web::get().to(async || HttpResponse::Ok().body(current_id().to_string()))),
        )
        .await;
        let request = test::TestRequest::get().uri("/").insert_header(("traceparent", PARENT)).to_request();
        let response = test::call_service(&app, request).await;
        let told = response.headers().get("traceresponse").unwrap().to_str().unwrap().to_owned();
        assert!(told.starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-") && !told.contains("00f067aa0ba902b7"));
        assert_eq!(test::read_body(response).await, "4bf92f3577b34da6a3ce929d0e0e4736");

        let request = test::TestRequest::get().uri("/").insert_header(("traceparent", "00-nonsense")).to_request();
        let response = test::call_service(&app, request).await;
        assert!(parse_traceparent(response.headers().get("traceparent").unwrap().to_str().unwrap()).is_some());
    }

    #[test]
    async fn a_panic_is_a_500_problem_of_its_trace() {
        let app = test::init_service(App::new().wrap(from_fn(|request, next| trace(false, request, next))).route(
            "/",
            web::get().to(async || {
                if current_id() != TraceId::default() {
                    panic!("on purpose");
                }
                HttpResponse::Ok().finish()
            }),
        ))
        .await;
        let request = test::TestRequest::get().uri("/").insert_header(("traceparent", PARENT)).to_request();
        let error = test::try_call_service(&app, request).await.err().unwrap();
        let problem = error.as_error::<Problem>().unwrap();
        assert_eq!(problem.status_code(), 500);
        let body = actix_web::body::to_bytes(problem.error_response().into_body()).await.unwrap();
        assert!(String::from_utf8_lossy(&body).contains("4bf92f3577b34da6a3ce929d0e0e4736"));
    }
}
