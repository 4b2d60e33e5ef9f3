//! Orders over HTTP: the real binary on a loopback port, authenticated, each order with a key of its own, on disk
//! before its answer. The smallest route of the same server runs beside it, as the lower bound of HTTP itself.
//!
//! `cargo bench --bench orders_http` measures (client and server share the machine); `cargo test` runs the same code
//! with a handful of requests.

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use futures_util::future::join_all;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use support::{Serving, measuring};
use tokio::net::TcpStream;
use uuid::Uuid;

mod support;

/// Accounts that take turns, because one account does not place thousands of orders in one drop.
const BUYERS: usize = 64;

/// `livedrop serve` in a temporary folder, with one live drop and its buyers.
struct Bench {
    server: Serving,
    drop: String,
    tokens: Vec<String>,
}

impl Bench {
    async fn new() -> Self {
        let mut bench = Self { server: Serving::unlimited(), drop: String::new(), tokens: Vec::new() };
        let mut line = bench.connect().await;
        for n in 0..BUYERS {
            let body = json!({"email": format!("b{n}@example.com"), "password": "correct horse", "display_name": "b"});
            let account = bench.send(&mut line, "auth/register", None, None, &body).await;
            bench.tokens.push(account["access_token"].as_str().expect("a token").to_owned());
        }
        let owner = bench.tokens[0].clone();
        let creator = json!({"handle": "maker", "display_name": "Maker"});
        bench.send(&mut line, "creators", Some(&owner), None, &creator).await;
        let product = json!({"name": "Jacket", "price": {"amount": 1999, "currency": "USD"}});
        let product = bench.send(&mut line, "products", Some(&owner), None, &product).await;
        let drop = json!({"product_id": product["id"], "stock": 1_000_000, "hold_seconds": 3600, "per_buyer_limit": 0});
        let drop = bench.send(&mut line, "drops", Some(&owner), None, &drop).await;
        bench.drop = drop["id"].as_str().expect("an id").to_owned();
        bench
    }

    async fn connect(&self) -> SendRequest<Full<Bytes>> {
        let stream = TcpStream::connect(&self.server.address).await.expect("a connection");
        stream.set_nodelay(true).expect("a socket option");
        let (sender, connection) = handshake(TokioIo::new(stream)).await.expect("HTTP");
        tokio::spawn(connection);
        sender
    }

    fn request(&self, path: &str, token: Option<&str>, key: Option<&str>, body: &Value) -> Request<Full<Bytes>> {
        let mut request = Request::builder().method(Method::POST).uri(format!("/api/v1/{path}"));
        request = request.header("host", &self.server.address).header("content-type", "application/json");
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        request.body(Full::from(body.to_string())).expect("a request")
    }

    async fn send(
        &self,
        line: &mut SendRequest<Full<Bytes>>,
        path: &str,
        token: Option<&str>,
        key: Option<&str>,
        body: &Value,
    ) -> Value {
        let (status, body) = exchange(line, self.request(path, token, key, body)).await;
        assert_eq!(status, StatusCode::CREATED, "{}", String::from_utf8_lossy(&body));
        serde_json::from_slice(&body).expect("JSON")
    }

    /// Sends `count` requests over `connections` connections; returns the time. The requests are built before.
    async fn run(&self, count: u64, connections: u64, make: impl Fn(usize) -> Request<Full<Bytes>>) -> Duration {
        let connections = connections.min(count);
        let mut lanes = Vec::new();
        for lane in 0..connections {
            let count = count / connections + u64::from(lane < count % connections);
            let requests: Vec<_> = (0..count).map(|_| make(lane as usize % BUYERS)).collect();
            lanes.push((self.connect().await, requests));
        }
        let start = Instant::now();
        let lanes = lanes.into_iter().map(|(mut line, requests)| {
            tokio::spawn(async move {
                for request in requests {
                    let (status, body) = exchange(&mut line, request).await;
                    assert!(status.is_success(), "{status} {}", String::from_utf8_lossy(&body));
                }
            })
        });
        join_all(lanes).await.into_iter().for_each(|lane| lane.expect("no lane fails"));
        start.elapsed()
    }

    fn order(&self, buyer: usize) -> Request<Full<Bytes>> {
        let key = Uuid::new_v4().to_string();
        self.request("orders", Some(&self.tokens[buyer]), Some(&key), &json!({"drop_id": self.drop, "quantity": 1}))
    }

    fn smallest(&self) -> Request<Full<Bytes>> {
        let request = Request::builder().uri("/healthz").header("host", &self.server.address);
        request.body(Full::default()).expect("a request")
    }
}

async fn exchange(line: &mut SendRequest<Full<Bytes>>, request: Request<Full<Bytes>>) -> (StatusCode, Bytes) {
    line.ready().await.expect("an open connection");
    let answer = line.send_request(request).await.expect("an answer");
    let status = answer.status();
    (status, answer.into_body().collect().await.expect("a body").to_bytes())
}

fn orders_http(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let bench = runtime.block_on(Bench::new());
    let mut group = c.benchmark_group("orders_http");
    group.sample_size(10).throughput(Throughput::Elements(1));
    group.warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(5));
    for connections in if measuring() { &[1, 64, 256][..] } else { &[2][..] } {
        group.bench_function(BenchmarkId::new("durable_order", connections), |b| {
            b.iter_custom(|count| runtime.block_on(bench.run(count, *connections, |buyer| bench.order(buyer))));
        });
        group.bench_function(BenchmarkId::new("smallest_route", connections), |b| {
            b.iter_custom(|count| runtime.block_on(bench.run(count, *connections, |_| bench.smallest())));
        });
    }
    group.finish();
}

criterion_group!(benches, orders_http);
criterion_main!(benches);
