//! Every error is a problem+json document.

use crate::server::{Server, answer, problem};
use reqwest::Method;

#[tokio::test]
async fn everything_that_is_wrong_is_a_problem_document() {
    let server = Server::start().await;
    let ann = server.account("ann").await;
    problem(server.get("/nowhere", None).await, 404, "not_found");
    problem(server.get("/drops/not-an-id", None).await, 404, "drop_not_found");
    problem(server.get("/orders/x", Some(&ann)).await, 404, "order_not_found");

    let wrong_method =
        server.http.delete(server.url("/orders")).bearer_auth(&ann.token).send().await.expect("an answer");
    assert!(wrong_method.headers()["allow"].to_str().expect("text").contains("POST"));
    assert_eq!(wrong_method.headers()["content-type"], "application/problem+json");
    problem(answer(wrong_method).await, 405, "method_not_allowed");

    let send = async |content_type: &str, body: Vec<u8>| {
        let request = server.http.request(Method::POST, server.url("/auth/login")).header("Content-Type", content_type);
        answer(request.body(body).send().await.expect("an answer")).await
    };
    problem(send("application/json", b"{\"email\":".to_vec()).await, 400, "malformed_json");
    problem(send("application/json", Vec::new()).await, 400, "malformed_json");
    problem(send("application/json", vec![0xff; 10]).await, 400, "malformed_json");
    problem(send("text/plain", b"{}".to_vec()).await, 415, "unsupported_media_type");
    problem(send("application/json", vec![b' '; 70_000]).await, 413, "body_too_large");
}

#[tokio::test]
async fn a_trace_comes_in_and_goes_out() {
    let server = Server::start().await;
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let request =
        server.http.get(server.url("/nowhere")).header("traceparent", format!("00-{trace}-00f067aa0ba902b7-01"));
    let (_, body) = answer(request.send().await.expect("an answer")).await;
    assert_eq!(body["trace_id"], trace);
    let request = server.http.get(server.url("/nowhere")).header("traceparent", "00-zzz-1-1");
    let (_, body) = answer(request.send().await.expect("an answer")).await;
    assert_eq!(body["trace_id"].as_str().map(str::len), Some(32));
}

#[tokio::test]
async fn health_says_what_runs() {
    let server = Server::start().await;
    let get = async |path: &str| {
        answer(server.http.get(format!("{}{path}", server.base)).send().await.expect("an answer")).await
    };
    assert_eq!(get("/healthz").await.0, 200);
    let (status, ready) = get("/readyz").await;
    assert_eq!((status.as_u16(), &ready["status"]), (200, &serde_json::json!("ready")), "{ready}");
    assert_eq!(ready["checks"]["journal"]["durability"], "always");
    assert_eq!(ready["checks"]["database"]["kind"], "sqlite");
}
