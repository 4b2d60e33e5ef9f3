//! The fake's HTTP server.

use super::api::{Answer, Request};
use super::control::{self, Said};
use super::faults::Fate;
use super::limits::{BODY_BYTES_MAX, CONNECTIONS_MAX, HANG_MAX};
use super::shared::Shared;
use crate::actors::clock::system_time;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderName, LOCATION};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::io;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::sleep;

type Reply = Response<Full<Bytes>>;

/// Accepts connections. Never ends; dropped, it ends the connections.
pub(super) async fn run(shared: Arc<Shared>, listener: TcpListener) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let Ok((socket, _)) = listener.accept().await else { continue };
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            let service = service_fn(|request| serve(Arc::clone(&shared), request));
            // A connection that ends early is the client's affair, or a fault on purpose.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(socket), service).await;
            drop(place);
        });
    }
}

/// An error ends the connection without an answer.
async fn serve(shared: Arc<Shared>, request: hyper::Request<Incoming>) -> io::Result<Reply> {
    let (head, body) = request.into_parts();
    let Ok(body) = Limited::new(body, BODY_BYTES_MAX).collect().await else {
        return Ok(reply(413, &json!({"error": "the body is too large"})));
    };
    let body = String::from_utf8_lossy(&body.to_bytes()).into_owned();
    let (method, path) = (head.method.as_str(), head.uri.path());
    if path.starts_with("/fake/") {
        return Ok(match control::answer(&shared, method, path, &body).await {
            Said::Json(status, body) => reply(status, &body),
            Said::Page(text) => with_header(Response::new(Full::from(text)), CONTENT_TYPE, "text/html; charset=utf-8"),
            Said::SeeOther(url) => with_header(reply(303, &Value::Null), LOCATION, &url),
        });
    }
    let text = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
    let key = text("authorization").and_then(|value| value.strip_prefix("Bearer "));
    if !key.is_some_and(|key| key.starts_with("sk_test_") || key.starts_with("rk_test_")) {
        let error = json!({"error": {"type": "invalid_request_error", "message": "Invalid API Key provided"}});
        return Ok(reply(401, &error));
    }
    let query = head.uri.query().unwrap_or_default();
    let request = Request { method, path, query, body: &body, key: text("idempotency-key") };
    shared
        .note(json!({"method": method, "path": path, "query": query, "body": body, "version": text("stripe-version"),
        "key": request.key}));
    let fate = shared.faults().meet(method, path);
    match fate {
        Fate::Usual | Fate::LostAnswer => {}
        Fate::Delay(time) => sleep(time.min(HANG_MAX)).await,
        Fate::Answer(status) => {
            let error = json!({"error": {"type": "api_error", "message": "a fault on purpose"}});
            return Ok(reply(status, &error));
        }
        Fate::LostRequest => return Err(io::ErrorKind::ConnectionReset.into()),
        Fate::Hang => {
            sleep(HANG_MAX).await;
            return Err(io::ErrorKind::TimedOut.into());
        }
    }
    let Answer { status, body, replayed } = shared.api().answer(&request, system_time().as_millis() / 1_000);
    shared.changed.notify_waiters();
    if fate == Fate::LostAnswer {
        return Err(io::ErrorKind::ConnectionReset.into());
    }
    let answer = reply(status, &body);
    Ok(if replayed { with_header(answer, HeaderName::from_static("idempotent-replayed"), "true") } else { answer })
}

fn reply(status: u16, body: &Value) -> Reply {
    let mut answer = Response::new(Full::from(body.to_string()));
    *answer.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    with_header(answer, CONTENT_TYPE, "application/json")
}

fn with_header(mut answer: Reply, name: HeaderName, value: &str) -> Reply {
    if let Ok(value) = value.parse() {
        answer.headers_mut().insert(name, value);
    }
    answer
}
