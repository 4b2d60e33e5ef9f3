//! The limit of the load driver on this machine: the same client against a server that only answers.

use super::cores;
use super::http_connection::HttpConnection;
use super::setup::Request;
use super::target::Target;
use std::io;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const LONG_ENOUGH: Duration = Duration::from_millis(1_000);
/// As long as the answer to an order.
const BODY_BYTES: usize = 500;

/// Requests per second over this many connections, with client and server on this machine's cores.
pub async fn measure(connections: u32) -> io::Result<f64> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let target = Target { address, host: address.to_string() };
    let server = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let body = "x".repeat(BODY_BYTES);
                let answer = format!("HTTP/1.1 201 Created\r\ncontent-length: {BODY_BYTES}\r\n\r\n{body}");
                let mut request = vec![0; 4_096];
                // Requests are small and come one at a time, so each arrives in one piece.
                while stream.read(&mut request).await.is_ok_and(|bytes| bytes > 0) {
                    if stream.write_all(answer.as_bytes()).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    let began = Instant::now();
    let client = move |_| {
        let target = target.clone();
        async move {
            let mut line = HttpConnection::connect(target.address).await?;
            let (mut request, mut count) = (Request::default(), 0_u64);
            let body = "x".repeat(80);
            while began.elapsed() < LONG_ENOUGH {
                request.write(&target, ("POST", "/api/v1/orders", &body), (Some("token"), Some("key")));
                line.exchange(request.as_bytes()).await?;
                count += 1;
            }
            io::Result::Ok(count)
        }
    };
    let mut count = 0;
    for counted in cores::run(connections, client).await? {
        count += counted?;
    }
    server.abort();
    Ok(count as f64 / began.elapsed().as_secs_f64())
}
