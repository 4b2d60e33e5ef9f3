//! Unused input is refused and nothing is done: bodies that a route does not read, unknown parameters, unknown
//! environment variables. And a panic becomes an answer.

use crate::metrics;
use crate::server::{Account, Server, Setup, answer, livedrop, problem};
use livedrop::http::declared::Declaration;
use livedrop::http::{self, openapi};
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};

const SOME_ID: &str = "01890a5d-ac96-774b-bcce-b302099a8058";

/// Every route and method except HEAD, with ids of nothing in its path.
fn routes() -> Vec<(Method, String, String)> {
    let each = http::routes().into_iter().map(|Declaration { method, path: template, .. }| {
        let path =
            template.replace("{file}", "swagger-ui.css").replace("{creator_id}", SOME_ID).replace("{id}", SOME_ID);
        (method.as_str().parse().expect("a method"), template, path)
    });
    each.collect()
}

fn request(server: &Server, who: &Account, method: &Method, path: &str) -> RequestBuilder {
    let path = path.replace(&format!("/users/{SOME_ID}"), "/users/me");
    let request = server.http.request(method.clone(), format!("{}{path}", server.base)).bearer_auth(&who.token);
    request.header("Idempotency-Key", "k")
}

async fn asked(request: RequestBuilder) -> (StatusCode, Value) {
    answer(request.send().await.expect("an answer")).await
}

/// Payment providers send events there: bodies that the API's description does not have.
fn takes_events(template: &str) -> bool {
    template.starts_with("/webhooks/")
}

#[tokio::test]
async fn a_body_where_none_is_taken_is_refused_by_every_route() {
    let server = Server::start().await;
    let admin = server.admin().await;
    let document = openapi::document();
    let mut tried = 0;
    for (method, template, path) in routes() {
        let operation = &document["paths"][&template][method.as_str().to_lowercase()];
        if operation.get("requestBody").is_some() || takes_events(&template) {
            continue;
        }
        tried += 1;
        for (kind, body) in [("application/json", r#"{"quantity":1}"#.to_owned()), ("text/plain", "no JSON".to_owned())]
        {
            let sent = request(&server, &admin, &method, &path).header("Content-Type", kind).body(body);
            let (status, told) = asked(sent).await;
            assert_eq!((status.as_u16(), &told["code"]), (400, &json!("unexpected_body")), "{method} {path}: {told}");
        }
    }
    assert!(tried > 30, "{tried}");
    let me = server.get("/users/me", Some(&admin)).await;
    assert_eq!(me.0, 200, "nothing was done: not even every login ended");
}

#[tokio::test]
async fn part_of_an_order_is_not_given_back_as_the_whole() {
    let server = Server::start().await;
    let (maker, drop) = server.live_drop(10, json!({})).await;
    let ann = server.account("ann").await;
    let three = json!({"drop_id": drop, "quantity": 3, "payment_method": "pm_sandbox_ok"});
    let (_, order) = server.order(&ann, "k", &three).await;
    let refund = format!("/orders/{}/refund", order["id"].as_str().expect("an id"));
    for body in [json!({"quantity": 1}), json!({"reason": "damaged"}), json!([]), json!("x".repeat(100_000))] {
        problem(server.post(&refund, Some(&maker), body).await, 400, "unexpected_body");
    }
    assert_eq!(server.stock(&drop).await, (7, 0, 3));
    // Many clients send an empty object with each POST.
    assert_eq!(server.post(&refund, Some(&maker), json!({})).await.0, 200);
    assert_eq!(server.stock(&drop).await, (10, 0, 0));
    assert_eq!(server.call(Method::POST, &refund, Some(&maker), None).await.0, 200);
    // The caller is checked before the body.
    problem(server.post(&refund, None, json!({"quantity": 1})).await, 401, "unauthenticated");
}

#[tokio::test]
async fn a_parameter_that_does_not_exist_is_refused_by_every_route() {
    let server = Server::start().await;
    let admin = server.admin().await;
    let document = openapi::document();
    for (method, template, path) in routes() {
        let operation = &document["paths"][&template][method.as_str().to_lowercase()];
        let mut sent = request(&server, &admin, &method, &format!("{path}?staus=live"));
        if let Some(schema) = operation.pointer("/requestBody/content/application~1json/schema/$ref") {
            let schema = document.pointer(&schema.as_str().expect("a reference")[1..]).expect("a schema");
            sent = sent.json(&schema["examples"][0]);
        } else if takes_events(&template) {
            sent = sent.json(&json!({}));
        }
        let (status, told) = asked(sent).await;
        assert_eq!((status.as_u16(), &told["code"]), (400, &json!("validation_failed")), "{method} {path}: {told}");
        assert_eq!(told["errors"][0]["pointer"], "/staus", "{method} {path}: {told}");
    }
    let told = problem(server.get("/drops?staus=live&limit=0&phase=x&limti=2", None).await, 400, "validation_failed");
    let pointers: Vec<_> = told["errors"].as_array().expect("errors").iter().map(|error| &error["pointer"]).collect();
    assert_eq!(pointers, ["/staus", "/limti", "/limit", "/phase"], "everything that is wrong is told");
    assert_eq!(told["errors"][0]["detail"], "is not a parameter; did you mean status?");
}

#[tokio::test]
async fn a_variable_that_does_not_exist_is_refused_at_the_start() {
    for task in [["serve", "--help"].as_slice(), &["serve"], &["openapi"], &["verify", "--data-dir", "nowhere"]] {
        let output = livedrop().args(task).env("LIVEDROP_BINDD", "127.0.0.1:0").output().expect("livedrop to run");
        let said = String::from_utf8_lossy(&output.stderr);
        if task.contains(&"--help") {
            assert_eq!(output.status.code(), Some(0), "{said}");
            continue;
        }
        assert_eq!(output.status.code(), Some(2), "{task:?}: {said}");
        let line = "livedrop: LIVEDROP_BINDD: there is no such variable; did you mean LIVEDROP_BIND? (environment)\n";
        assert_eq!(said, line, "{task:?}");
    }
}

#[tokio::test]
async fn a_name_of_before_is_refused_with_the_one_of_now() {
    for before in ["ws-allowed-origins", "cors-allowed-origins"] {
        let flag = format!("--{before}");
        let output = livedrop().args(["serve", &flag, "https://shop.example"]).output().expect("livedrop to run");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && said.contains("'--allowed-origins'"), "{flag}: {said}");
        let variable = format!("LIVEDROP_{}", before.replace('-', "_").to_uppercase());
        let output = livedrop().arg("serve").env(&variable, "https://shop.example").output().expect("livedrop to run");
        let said = String::from_utf8_lossy(&output.stderr);
        let line = format!("livedrop: {variable}: is LIVEDROP_ALLOWED_ORIGINS now (environment)\n");
        assert_eq!((output.status.code(), said.as_ref()), (Some(2), line.as_str()));
    }
}

#[tokio::test]
async fn a_panic_is_an_answer_like_any_other() {
    let shop = "https://shop.example";
    let extra = ["--allowed-origins", shop].map(str::to_owned).to_vec();
    let server = Server::set_up(Setup { quiet: true, extra, ..Setup::default() });
    let admin = server.admin().await;
    server.arm("http.audit=panic@1");
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let request = server.http.get(server.url("/audit")).bearer_auth(&admin.token).header("origin", shop);
    let told =
        request.header("traceparent", format!("00-{trace}-00f067aa0ba902b7-01")).send().await.expect("an answer");
    for (name, value) in [
        ("content-type", "application/problem+json"),
        ("access-control-allow-origin", shop),
        ("x-content-type-options", "nosniff"),
        ("cache-control", "no-store"),
    ] {
        assert_eq!(told.headers().get(name).map(|value| value.to_str().expect("text")), Some(value), "{name}");
    }
    assert!(told.headers()["traceresponse"].to_str().expect("text").contains(trace));
    let told = problem(answer(told).await, 500, "internal_error");
    assert_eq!(told["trace_id"], trace);
    let count = "livedrop_http_request_duration_seconds_count{method=\"GET\",route=\"/api/v1/audit\",status=\"5xx\"}";
    assert!((metrics::sample(&metrics::text(&server).await, count) - 1.0).abs() < f64::EPSILON);
    let log = server.log();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("ERROR")).collect();
    assert!(lines.len() == 1 && lines[0].contains(trace) && lines[0].contains("failpoint.rs"), "{log}");
    assert_eq!(server.get("/audit", Some(&admin)).await.0, 200, "the server is well");
}
