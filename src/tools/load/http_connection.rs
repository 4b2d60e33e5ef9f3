//! One HTTP connection, one request at a time. Written for few instructions: the load driver must not be the
//! bottleneck.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep, timeout};

/// Time limit of an answer; past it the answer counts as lost.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
const HEADERS_MAX: usize = 32;
/// Far more than any answer to these requests.
const ANSWER_BYTES_MAX: usize = 4 << 20;

/// A persistent connection with its read buffer.
pub struct HttpConnection {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// The time limit of an exchange. Reset with every request, which is cheaper than a timer for each.
    time_limit: Pin<Box<Sleep>>,
    /// Whether the server closes the connection after this answer.
    over: bool,
}

/// The server's answer, in the connection's buffer.
pub struct Answer<'a> {
    pub status: u16,
    /// Whether it is marked as the replay of a key's first answer.
    pub replayed: bool,
    pub body: &'a [u8],
}

#[derive(Clone, Copy)]
struct Head {
    status: u16,
    replayed: bool,
    close: bool,
    head_bytes: usize,
    body_bytes: usize,
}

impl HttpConnection {
    /// Connects, within the answer's time limit.
    pub async fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = timeout(ANSWER_TIMEOUT, TcpStream::connect(address)).await??;
        stream.set_nodelay(true)?;
        let time_limit = Box::pin(sleep(ANSWER_TIMEOUT));
        Ok(Self { stream, buffer: Vec::with_capacity(4_096), time_limit, over: false })
    }

    /// Whether the connection can carry no more requests.
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// Sends a request and waits for its answer. After an error the connection is unusable.
    pub async fn exchange(&mut self, request: &[u8]) -> io::Result<Answer<'_>> {
        let Self { stream, buffer, time_limit, over } = self;
        time_limit.as_mut().reset(Instant::now() + ANSWER_TIMEOUT);
        let exchanged = tokio::select! {
            biased;
            exchanged = exchange(stream, buffer, request) => exchanged,
            () = time_limit => Err(io::ErrorKind::TimedOut.into()),
        };
        let head = exchanged.inspect_err(|_| *over = true)?;
        *over = head.close;
        let body = &buffer[head.head_bytes..head.head_bytes + head.body_bytes];
        Ok(Answer { status: head.status, replayed: head.replayed, body })
    }
}

/// Sends a request and reads into an emptied buffer until its answer is complete.
async fn exchange(stream: &mut TcpStream, buffer: &mut Vec<u8>, request: &[u8]) -> io::Result<Head> {
    stream.write_all(request).await?;
    buffer.clear();
    let mut head = None;
    loop {
        if stream.read_buf(buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if head.is_none() {
            head = parse(buffer)?;
        }
        match head {
            Some(found) if buffer.len() >= found.head_bytes + found.body_bytes => return Ok(found),
            _ if buffer.len() > ANSWER_BYTES_MAX => return Err(invalid("the answer is too long")),
            _ => {}
        }
    }
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Parses the head, once it is complete.
fn parse(bytes: &[u8]) -> io::Result<Option<Head>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(head_bytes) =
        response.parse(bytes).map_err(|_| invalid("the answer is not HTTP/1.1"))?
    else {
        return Ok(None);
    };
    let header = |name: &str| {
        response.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name)).map(|header| header.value)
    };
    let length = header("content-length").and_then(|text| std::str::from_utf8(text).ok()?.parse().ok());
    let status = response.code.unwrap_or_default();
    let empty = matches!(status, 204 | 304);
    let body_bytes = match length {
        _ if empty => 0,
        Some(length) if length <= ANSWER_BYTES_MAX => length,
        _ => return Err(invalid("the answer has no length")),
    };
    Ok(Some(Head {
        status,
        replayed: header("idempotency-replayed").is_some(),
        close: header("connection").is_some_and(|value| value.eq_ignore_ascii_case(b"close")),
        head_bytes,
        body_bytes,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    async fn answered(with: &'static [&'static [u8]]) -> (io::Result<(u16, bool, Vec<u8>)>, bool) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 16];
            let _ = stream.read(&mut request).await.unwrap();
            for part in with {
                stream.write_all(part).await.unwrap();
                stream.flush().await.unwrap();
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        let mut line = HttpConnection::connect(address).await.unwrap();
        let answer = line.exchange(b"GET / HTTP/1.1\r\n\r\n").await;
        let answer = answer.map(|answer| (answer.status, answer.replayed, answer.body.to_vec()));
        server.await.unwrap();
        (answer, line.is_over())
    }

    #[tokio::test]
    async fn answers_are_read_however_they_are_cut() {
        let (answer, over) = answered(&[
            b"HTTP/1.1 201 Created\r\nContent-Le",
            b"ngth: 4\r\nIdempotency-Replayed: true\r\n\r\nab",
            b"cd",
        ])
        .await;
        assert_eq!(answer.unwrap(), (201, true, b"abcd".to_vec()));
        assert!(!over);
        let (answer, over) = answered(&[b"HTTP/1.1 503 No\r\nconnection: Close\r\ncontent-length: 0\r\n\r\n"]).await;
        assert_eq!(answer.unwrap(), (503, false, Vec::new()));
        assert!(over);
        let (answer, _) = answered(&[b"HTTP/1.1 304 Not Modified\r\n\r\n"]).await;
        assert_eq!(answer.unwrap().0, 304);
    }

    #[tokio::test]
    async fn what_is_no_answer_is_an_error() {
        for with in [
            &[b"".as_slice()] as &[&[u8]],
            &[b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nshort"],
            &[b"SSH-2.0-hello\r\n"],
            &[b"HTTP/1.1 200 OK\r\n\r\n"],
            &[b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n"],
        ] {
            let (answer, over) = answered(Box::leak(with.to_vec().into_boxed_slice())).await;
            assert!(answer.is_err() && over, "{with:?}");
        }
    }
}
