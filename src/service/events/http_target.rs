//! Sends events over HTTP by the HTTP binding of CloudEvents for batches: one POST with an array; a 2xx answer means
//! that they are accepted.

use super::Target;
use crate::actors::consumers::cloud_event::BATCH_MEDIA_TYPE;
use crate::actors::consumers::keyed::Effect;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Method, Request,
    client::conn::http1::{self, SendRequest},
    header::{CONTENT_TYPE, HOST},
};
use hyper_util::rt::TokioIo;
use std::{str::FromStr, time::Duration};
use tokio::net::TcpStream;
use url::{Host, Url};

/// Time limit of a target's answer. Past it the target counts as unavailable.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes read of an answer.
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// Characters of an answer quoted in a reason.
const ANSWER_CHARS_MAX: usize = 200;

/// The URL that receives events.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EventsUrl {
    host: String,
    port: u16,
    /// The value of the `Host` field.
    authority: String,
    path: String,
}

impl FromStr for EventsUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "must be http://<host>[:<port>]/<path>, without a user or a fragment".to_owned();
        let url = Url::parse(text).map_err(|_| wrong())?;
        let plain = url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
        if url.scheme() != "http" || !plain {
            return Err(wrong());
        }
        let host = match url.host().ok_or_else(wrong)? {
            Host::Domain(name) => name.to_owned(),
            Host::Ipv4(address) => address.to_string(),
            Host::Ipv6(address) => address.to_string(),
        };
        let port = url.port_or_known_default().ok_or_else(wrong)?;
        let authority = url.authority().to_owned();
        let path = url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path()));
        Ok(Self { host, port, authority, path })
    }
}

/// A target behind a URL, over one persistent connection.
pub struct HttpTarget {
    url: EventsUrl,
    connection: Option<SendRequest<Full<Bytes>>>,
}

impl HttpTarget {
    /// Connects on the first batch.
    #[must_use]
    pub fn new(url: EventsUrl) -> Self {
        Self { url, connection: None }
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, String> {
        let EventsUrl { host, port, .. } = &self.url;
        let failed = |error: &dyn std::fmt::Display| format!("cannot connect to {host}:{port}: {error}");
        let socket = TcpStream::connect((host.as_str(), *port)).await.map_err(|error| failed(&error))?;
        let (sender, connection) = http1::handshake(TokioIo::new(socket)).await.map_err(|error| failed(&error))?;
        tokio::spawn(async move {
            // The sender notices when the connection ends.
            let _ = connection.await;
        });
        Ok(sender)
    }

    async fn exchange(&mut self, batch: Bytes) -> Result<Effect, String> {
        let request = Request::builder()
            .method(Method::POST)
            .uri(&self.url.path)
            .header(HOST, &self.url.authority)
            .header(CONTENT_TYPE, BATCH_MEDIA_TYPE)
            .body(Full::new(batch))
            .map_err(|error| error.to_string())?;
        // Taken out of `self`, so that a connection with an error or a timeout is not used again.
        let mut connection = match self.connection.take().filter(|connection| !connection.is_closed()) {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        connection.ready().await.map_err(|error| error.to_string())?;
        let answer = connection.send_request(request).await.map_err(|error| error.to_string())?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
        let text = body.map(|body| {
            self.connection = Some(connection);
            String::from_utf8_lossy(&body.to_bytes()).chars().take(ANSWER_CHARS_MAX).collect::<String>()
        });
        Ok(meaning(status.as_u16(), &text.unwrap_or_default()))
    }
}

/// Separates faults of the events themselves, which are permanent, from faults of the target or the network, which pass
/// or need the operator.
fn meaning(status: u16, text: &str) -> Effect {
    let said = || format!("the target answers {status} {text}").trim_end().to_owned();
    match status {
        200..=299 => Effect::Done,
        400 | 413 | 422 => Effect::Refused(said()),
        _ => Effect::Unavailable(said()),
    }
}

impl Target for HttpTarget {
    async fn send(&mut self, batch: Bytes) -> Effect {
        match tokio::time::timeout(ANSWER_TIMEOUT, self.exchange(batch)).await {
            Ok(Ok(sent)) => sent,
            Ok(Err(reason)) => Effect::Unavailable(reason),
            Err(_) => Effect::Unavailable(format!("the target has not answered within {} s", ANSWER_TIMEOUT.as_secs())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_plain_http() {
        let url: EventsUrl = "http://collector:8088/events?tenant=1".parse().unwrap();
        assert_eq!((url.host.as_str(), url.port, url.path.as_str()), ("collector", 8_088, "/events?tenant=1"));
        assert_eq!(url.authority, "collector:8088");
        let url: EventsUrl = "http://[::1]".parse().unwrap();
        assert_eq!((url.host.as_str(), url.port, url.authority.as_str(), url.path.as_str()), ("::1", 80, "[::1]", "/"));
        for wrong in
            ["", "collector:8088", "https://collector/", "http://me:secret@collector/", "http://a/#b", "http://"]
        {
            assert!(wrong.parse::<EventsUrl>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn only_what_is_wrong_with_the_events_is_for_good() {
        for status in [400, 413, 422] {
            assert!(matches!(meaning(status, "no"), Effect::Refused(reason) if reason.ends_with("no")), "{status}");
        }
        for status in [301, 401, 403, 404, 408, 429, 500, 503] {
            assert!(matches!(meaning(status, ""), Effect::Unavailable(_)), "{status}");
        }
        assert_eq!(meaning(202, ""), Effect::Done);
    }
}
