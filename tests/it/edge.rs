//! Checks before a request reaches its handler: proxies, limits, headers.

use crate::listener::Listener;
use crate::server::{Account, Server, answer, problem};
use reqwest::{Method, Response};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Changes a name and returns the address in its audit line.
async fn origin_noted(server: &Server, who: &Account, root: &Account, headers: &[(&str, &str)]) -> Value {
    let mut request = server.http.request(Method::PATCH, server.url("/users/me")).bearer_auth(&who.token);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer = request.json(&json!({"display_name": "Ann"})).send().await.expect("an answer");
    assert_eq!(answer.status(), 200);
    server.get(&format!("/audit?actor_id={}&limit=1", who.id), Some(root)).await.1["items"][0]["origin"].clone()
}

#[tokio::test]
async fn an_address_is_believed_from_trusted_proxies_only() {
    let server = Server::start().await;
    let (ann, root) = (server.account("ann").await, server.admin().await);
    let forged = [("x-forwarded-for", "203.0.113.9"), ("forwarded", "for=203.0.113.9")];
    assert_eq!(origin_noted(&server, &ann, &root, &forged).await, "127.0.0.1");

    let server = Server::with(None, &["--trusted-proxies", "127.0.0.0/8,10.0.0.0/8"]).await;
    let (ann, root) = (server.account("ann").await, server.admin().await);
    assert_eq!(origin_noted(&server, &ann, &root, &[]).await, "127.0.0.1");
    let behind = [("x-forwarded-for", "1.1.1.1, 203.0.113.9, 10.0.0.7")];
    assert_eq!(origin_noted(&server, &ann, &root, &behind).await, "203.0.113.9");
    let behind = [("forwarded", "for=1.1.1.1, for=\"[2001:db8::9]:4711\"")];
    assert_eq!(origin_noted(&server, &ann, &root, &behind).await, "2001:db8::9");
}

/// A header of an answer, as text.
fn header<'a>(response: &'a Response, name: &str) -> Option<&'a str> {
    response.headers().get(name).map(|value| value.to_str().expect("text"))
}

/// A login with an unknown account, from behind a trusted proxy.
async fn login_from(server: &Server, address: &str, path: &str) -> Response {
    let request = server.http.post(server.url(path)).header("x-forwarded-for", address);
    let body = json!({"email": "nobody@example.com", "password": "wrong horse"});
    request.json(&body).send().await.expect("an answer")
}

#[tokio::test]
async fn passwords_are_tried_at_a_rate_by_address() {
    let limits = ["--trusted-proxies", "127.0.0.0/8", "--rate-limits", "login=3/3600"];
    let server = Server::with(None, &limits).await;
    let ann = server.account("ann").await;
    for left in ["2", "1", "0"] {
        let refused = login_from(&server, "203.0.113.9", "/auth/login").await;
        assert_eq!(refused.status(), 401);
        assert_eq!(header(&refused, "ratelimit-policy"), Some("\"login\";q=3;w=3600"));
        assert!(header(&refused, "ratelimit").expect("what is left").starts_with(&format!("\"login\";r={left};t=")));
    }
    let refused = login_from(&server, "203.0.113.9", "/auth/login").await;
    let wait_s: u32 = header(&refused, "retry-after").expect("when").parse().expect("seconds");
    assert!((1_190..=1_200).contains(&wait_s), "{wait_s}");
    assert_eq!(header(&refused, "ratelimit"), Some("\"login\";r=0;t=3600"));
    problem(answer(refused).await, 429, "rate_limited");
    // The same path in another encoding, and a valid token, do not help.
    assert_eq!(login_from(&server, "203.0.113.9", "/auth/%6Cogin").await.status(), 429);
    let body = json!({"email": ann.email, "password": "wrong horse"});
    let signed = server.http.post(server.url("/auth/login")).header("x-forwarded-for", "203.0.113.9");
    assert_eq!(signed.bearer_auth(&ann.token).json(&body).send().await.expect("an answer").status(), 429);
    // A client with a token may not try passwords from many addresses either.
    let mut answers = Vec::new();
    for address in 1..=4 {
        let request = server.http.post(server.url("/users/me/password")).bearer_auth(&ann.token);
        let body = json!({"current_password": "wrong horse", "new_password": "battery staple"});
        let request = request.header("x-forwarded-for", format!("203.0.113.{address}")).json(&body);
        answers.push(request.send().await.expect("an answer").status().as_u16());
    }
    assert_eq!(answers, [403, 403, 403, 429]);
    // The account's owner is not locked out: a login from another address works.
    let body = json!({"email": ann.email, "password": "correct horse"});
    let request = server.http.post(server.url("/auth/login")).header("x-forwarded-for", "203.0.113.10");
    assert_eq!(request.json(&body).send().await.expect("an answer").status(), 200);
}

#[tokio::test]
async fn orders_are_limited_by_user_and_not_by_address() {
    let server = Server::with(None, &["--rate-limits", "orders=2/3600,address=40/3600"]).await;
    let (_, drop) = server.live_drop(100, json!({})).await;
    let (ann, bob) = (server.account("ann").await, server.account("bob").await);
    let body = json!({"drop_id": drop, "quantity": 1});
    for who in [&ann, &bob] {
        for key in ["a", "b"] {
            let placed = server.order_raw(who, key, &body).await.expect("an answer");
            assert_eq!(placed.status(), 201);
            let policies: Vec<_> = placed.headers().get_all("ratelimit-policy").iter().collect();
            assert_eq!(policies, ["\"orders\";q=2;w=3600", "\"address\";q=40;w=3600"]);
        }
        problem(server.order(who, "c", &body).await, 429, "rate_limited");
        assert_eq!(server.get("/users/me", Some(who)).await.0, 200, "reads have a limit of their own");
    }
    assert_eq!(server.stock(&drop).await, (96, 4, 0), "what was refused took nothing");
    // An address may be limited as well, whatever the users.
    let mut answers = Vec::new();
    for _ in 0..40 {
        answers.push(server.get("/users/me", Some(&ann)).await.0.as_u16());
    }
    assert_eq!((answers[0], answers[39]), (200, 429));
}

#[tokio::test]
async fn the_defaults_let_a_crowd_behind_one_address_through_and_off_is_off() {
    let server = Server::with(None, &["--rate-limits", ""]).await;
    let ann = server.account("ann").await;
    for _ in 0..200 {
        assert_eq!(server.get("/drops", None).await.0, 200);
    }
    let me = server.http.get(server.url("/users/me")).bearer_auth(&ann.token).send().await.expect("an answer");
    assert_eq!(header(&me, "ratelimit-policy"), Some("\"reads\";q=1000;w=10"));
    let probe = server.http.get(format!("{}/healthz", server.base)).send().await.expect("an answer");
    assert_eq!(header(&probe, "ratelimit"), None);

    let server = Server::start().await;
    let lists = server.http.get(server.url("/drops")).send().await.expect("an answer");
    assert_eq!(header(&lists, "ratelimit"), None);
}

#[tokio::test]
async fn every_answer_is_safe_to_hand_to_a_browser() {
    let server = Server::start().await;
    let ann = server.account("ann").await;
    for (path, token, cache) in [
        ("/api/v1/drops", None, Some("no-store")),
        ("/api/v1/drops", Some(&ann.token), Some("no-store")),
        ("/api/v1/nowhere", None, Some("no-store")),
        ("/api/v1/users/me", None, Some("no-store")),
        ("/healthz", None, Some("no-store")),
    ] {
        let mut request = server.http.get(format!("{}{path}", server.base));
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let response = request.send().await.expect("an answer");
        assert_eq!(header(&response, "x-content-type-options"), Some("nosniff"), "{path}");
        assert_eq!(header(&response, "referrer-policy"), Some("no-referrer"), "{path}");
        let policy = header(&response, "content-security-policy").expect("a policy");
        assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"), "{policy}");
        assert_eq!(header(&response, "cache-control"), cache, "{path}");
        assert_eq!(header(&response, "strict-transport-security"), None, "not without TLS");
        assert_eq!(header(&response, "access-control-allow-origin"), None, "not unless configured");
    }
}

/// The preflight of a browser before a page of that origin places an order.
async fn preflight(server: &Server, origin: &str, headers: &str) -> Response {
    let request = server.http.request(Method::OPTIONS, server.url("/orders")).header("origin", origin);
    let request = request.header("access-control-request-method", "POST");
    request.header("access-control-request-headers", headers).send().await.expect("an answer")
}

#[tokio::test]
async fn pages_of_configured_origins_may_call() {
    let shop = "https://shop.example";
    let server = Server::with(None, &["--allowed-origins", shop, "--rate-limits", "anonymous=1/3600"]).await;
    let asked = preflight(&server, shop, "authorization, content-type, idempotency-key").await;
    assert_eq!(asked.status(), 200);
    assert_eq!(header(&asked, "access-control-allow-origin"), Some(shop));
    assert_eq!(header(&asked, "access-control-max-age"), Some("7200"));
    assert_eq!(header(&asked, "access-control-allow-credentials"), None);
    assert!(header(&asked, "vary").expect("what it depends on").to_lowercase().contains("origin"));
    assert_eq!(header(&asked, "ratelimit"), None, "browsers ask by themselves: it costs nothing");
    for refused in [preflight(&server, "https://evil.example", "").await, preflight(&server, shop, "x-other").await] {
        assert_eq!(header(&refused, "access-control-allow-origin"), None);
        assert_eq!(header(&refused, "x-content-type-options"), Some("nosniff"));
        problem(answer(refused).await, 403, "forbidden");
    }
    // Refusals are readable for the page too.
    for status in [200, 429] {
        let list = server.http.get(server.url("/drops")).header("origin", shop).send().await.expect("an answer");
        assert_eq!(list.status(), status);
        assert_eq!(header(&list, "access-control-allow-origin"), Some(shop));
        let exposed = header(&list, "access-control-expose-headers").expect("what pages may read");
        for name in ["date", "etag", "location", "ratelimit", "ratelimit-policy", "retry-after", "idempotency-replayed"]
        {
            assert!(exposed.split(',').any(|exposed| exposed.trim().eq_ignore_ascii_case(name)), "{name}: {exposed}");
        }
    }
    let server = Server::start().await;
    let asked = preflight(&server, shop, "authorization").await;
    assert_eq!(header(&asked, "access-control-allow-origin"), None);
    problem(answer(asked).await, 405, "method_not_allowed");
}

/// Sends bytes and nothing more; returns the server's answer until it closes.
async fn said_to(server: &Server, bytes: &[u8]) -> String {
    let mut socket = TcpStream::connect(server.base.trim_start_matches("http://")).await.expect("a connection");
    socket.write_all(bytes).await.expect("it is sent");
    let mut answer = Vec::new();
    // If the server closes without reading everything, the connection may end with a reset.
    let read = tokio::time::timeout(Duration::from_secs(20), socket.read_to_end(&mut answer)).await;
    let _ = read.expect("the server closes");
    String::from_utf8(answer).expect("text")
}

#[tokio::test]
async fn what_is_too_large_is_refused_by_its_head() {
    let server = Server::with(None, &["--head-bytes-max", "2048", "--body-bytes-max", "1024"]).await;
    let huge = server.http.get(server.url("/drops")).header("x-filler", "x".repeat(2_048));
    problem(answer(huge.send().await.expect("an answer")).await, 431, "headers_too_large");
    let long = server.http.get(server.url(&format!("/drops?cursor={}", "x".repeat(2_048))));
    problem(answer(long.send().await.expect("an answer")).await, 431, "headers_too_large");
    problem(server.post("/auth/login", None, json!({"email": "x".repeat(1_024)})).await, 413, "body_too_large");
    // Even if no handler reads the body, and before it has arrived.
    let head = "POST /api/v1/orders/x/cancel HTTP/1.1\r\nhost: x\r\ncontent-length: 1025\r\n\r\n";
    let refused = said_to(&server, head.as_bytes()).await;
    assert!(refused.starts_with("HTTP/1.1 413 ") && refused.contains("body_too_large"), "{refused}");
    // A body without an announced length is measured.
    let chunk = format!("1000\r\n{}\r\n0\r\n\r\n", "x".repeat(0x1000));
    let head = "POST /api/v1/auth/login HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n";
    let refused = said_to(&server, format!("{head}transfer-encoding: chunked\r\n\r\n{chunk}").as_bytes()).await;
    assert!(refused.starts_with("HTTP/1.1 413 "), "{refused}");
    // No longer a valid request.
    let endless = format!("GET / HTTP/1.1\r\nx: {}", "x".repeat(140_000));
    assert!(said_to(&server, endless.as_bytes()).await.starts_with("HTTP/1.1 431 "));
}

#[tokio::test]
async fn nobody_holds_a_connection_by_dawdling() {
    let time_limit = ["--head-timeout-ms", "1000", "--body-timeout-ms", "300", "--keep-alive-ms", "1000"];
    let server = Server::with(None, &time_limit).await;
    let head = said_to(&server, b"GET /healthz HTTP/1.1\r\nhost:").await;
    assert!(head.starts_with("HTTP/1.1 408 "), "{head}");
    let unfinished =
        b"POST /api/v1/auth/login HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{";
    let body = said_to(&server, unfinished).await;
    assert!(body.starts_with("HTTP/1.1 408 ") && body.contains("request_timeout"), "{body}");
    assert!(body.contains("connection: close"), "{body}");
    // A second request has no more time than the first, and gets no answer: a client might take it for the answer to
    // its next request.
    let second = said_to(&server, b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\nGET /healthz HTTP/1.1\r\nhost:").await;
    assert_eq!(second.matches("HTTP/1.1 ").count(), 1, "{second}");
    assert!(second.starts_with("HTTP/1.1 200 "), "{second}");
}

#[tokio::test]
async fn who_waits_for_an_answer_does_not_dawdle() {
    let time_limit = ["--head-timeout-ms", "1000", "--keep-alive-ms", "1000"];
    let server = Server::with(None, &time_limit).await;
    let (_, drop) = server.live_drop(1, json!({})).await;
    let ann = server.account("ann").await;
    let mut listener = Listener::with(&server, &format!("?topics=drop:{drop}")).await;
    listener.until("subscribed").await;
    let stream = server.http.get(server.url(&format!("/notifications/stream?topics=drop:{drop}")));
    let mut stream = stream.send().await.expect("an answer");
    // Twice the idle timeout, and a round more.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let body = json!({"drop_id": drop, "quantity": 1, "payment_method": "pm_sandbox_ok"});
    assert_eq!(server.order(&ann, "k", &body).await.0, 201);
    listener.until("sold_out").await;
    let mut told = String::new();
    while !told.contains("sold_out") {
        let chunk = stream.chunk().await.expect("an open stream").expect("more of it");
        told.push_str(&String::from_utf8_lossy(&chunk));
    }
}
