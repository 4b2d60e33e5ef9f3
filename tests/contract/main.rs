//! The API against its own description: a validator and linters read the document, generators make clients of it,
//! schemathesis calls everything in it.
//!
//! `LIVEDROP_CONTRACT_EXAMPLES` (default 40) is the number of requests that it makes up for an operation, and
//! `LIVEDROP_CONTRACT_SEED` (default 1) its seed.

mod clients;
mod examples;
mod linters;
#[path = "../support/packages.rs"]
mod packages;
#[path = "../support/server.rs"]
mod server;
mod tools;

use serde_json::{Value, json};
use server::{Account, Server, livedrop};
use std::{env, fs, path::PathBuf};
use tools::{said, scratch, tool, written};

/// The output of `livedrop openapi`.
fn document() -> Value {
    let output = livedrop().arg("openapi").output().expect("livedrop to run");
    assert!(output.status.success(), "{}", said(&output));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn operations(document: &Value) -> usize {
    let paths = document["paths"].as_object().expect("paths");
    paths.values().map(|item| item.as_object().expect("an item").len()).sum()
}

/// A creator who is also an administrator: the token that may call most operations.
async fn root(server: &Server) -> Account {
    let root = server.admin().await;
    let profile = json!({"handle": "root_of_all", "display_name": "Root"});
    let (status, answer) = server.post("/creators", Some(&root), profile).await;
    assert_eq!(status, 201, "{answer}");
    root
}

/// Data for the calls: a live drop, a scheduled one, and orders.
async fn stocked(server: &Server, root: &Account) {
    let product = json!({"name": "Winter jacket", "price": {"amount": 1999, "currency": "USD"}});
    let (_, product) = server.post("/products", Some(root), product).await;
    for starts_at in ["2020-01-01T00:00:00Z", "2099-01-01T00:00:00Z"] {
        let drop =
            json!({"product_id": product["id"], "stock": 1_000_000, "starts_at": starts_at, "per_buyer_limit": 0});
        let (status, drop) = server.post("/drops", Some(root), drop).await;
        assert_eq!(status, 201, "{drop}");
        for (key, method) in [("reserved", json!(null)), ("paid", json!("pm_sandbox_ok"))] {
            let order = json!({"drop_id": drop["id"], "quantity": 2, "payment_method": method});
            let expected = if drop["status"] == "live" { 201 } else { 409 };
            let (status, order) = server.order(root, &format!("{key} {starts_at}"), &order).await;
            assert_eq!(status, expected, "{order}");
        }
    }
}

/// Runs schemathesis; returns whether it found nothing, and its report.
fn schemathesis(document: &str, who: &Account, arguments: &[&str]) -> (bool, String) {
    let config = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("schemathesis.toml");
    // The configuration names the hooks by a path relative to the working folder.
    let hooks = scratch().join("tests/contract/hooks.py");
    fs::create_dir_all(hooks.parent().expect("a folder")).expect("a folder below target");
    fs::write(hooks, include_str!("hooks.py")).expect("a file");
    let mut command = tool("schemathesis");
    command.arg("--config-file").arg(config).args(["run", document, "--checks", "all"]);
    command.args(["--continue-on-failure", "--request-timeout", "20", "--header"]);
    command.arg(format!("Authorization: Bearer {}", who.token)).args(arguments);
    let output = command.output().expect("schemathesis to run");
    (output.status.success(), said(&output))
}

#[test]
fn the_document_is_valid_for_others_too() {
    let file = written("openapi.json", &document());
    let output = tool("openapi-spec-validator").args(["--schema", "3.1"]).arg(&file).output().expect("it to run");
    assert!(output.status.success(), "{}", said(&output));
}

#[tokio::test]
async fn the_server_serves_what_the_command_prints() {
    let server = Server::start().await;
    let response = server.http.get(format!("{}/openapi.json", server.base)).send().await.expect("an answer");
    assert_eq!(response.headers()["content-type"], "application/json");
    assert_eq!(response.json::<Value>().await.expect("JSON"), document());
}

#[tokio::test]
async fn schemathesis_finds_nothing() {
    let server = Server::start().await;
    let (root, user) = (root(&server).await, server.account("user").await);
    stocked(&server, &root).await;
    let url = format!("{}/openapi.json", server.base);
    let setting = |name, default: &str| env::var(name).unwrap_or_else(|_| default.to_owned());
    let examples = setting("LIVEDROP_CONTRACT_EXAMPLES", "40");
    let seed = setting("LIVEDROP_CONTRACT_SEED", "1");
    for (who, examples) in [(&root, examples.as_str()), (&user, "5")] {
        let (clean, report) = schemathesis(&url, who, &["--seed", &seed, "--max-examples", examples]);
        assert!(clean, "as {}:\n{report}", who.email);
        // Two operations are not called: the one that returns the document, and the end of every login, which would end
        // the caller's. All others must have been called, or "nothing found" would mean nothing.
        let tested = format!("Tested: {}\n", operations(&document()) - 2);
        assert!(report.contains(&tested), "as {}: not {tested}{report}", who.email);
    }
}

#[tokio::test]
async fn schemathesis_finds_what_is_not_so() {
    let server = Server::start().await;
    let root = root(&server).await;
    let mut wrong = document();
    wrong["paths"]["/api/v1/users/me"]["get"]["responses"]["200"] = json!({"description": "nothing", "content": {
        "application/json": {"schema": {"type": "object", "required": ["no_such_field"]}}}});
    let file = written("wrong.json", &wrong);
    let only = ["--url", &server.base, "--include-operation-id", "get_me"];
    let (clean, report) = schemathesis(file.to_str().expect("a path of text"), &root, &only);
    assert!(!clean && report.contains("no_such_field"), "{report}");
    // A response's own codes stand beside its reference to the common problem schema; both must be checked.
    let mut wrong = document();
    let refused = wrong["paths"]["/api/v1/drops/{id}"]["get"]["responses"]["404"]["$ref"].as_str().expect("a response")
        [1..]
        .to_owned();
    let refused = wrong.pointer_mut(&refused).expect("a response of all");
    refused["content"]["application/problem+json"]["schema"]["properties"]["code"]["enum"] = json!(["no_such_code"]);
    let file = written("wrong-code.json", &wrong);
    let only = ["--url", &server.base, "--include-operation-id", "get_drop"];
    let (clean, report) = schemathesis(file.to_str().expect("a path of text"), &root, &only);
    assert!(!clean && report.contains("no_such_code"), "{report}");
}

#[tokio::test]
async fn the_page_and_all_that_it_asks_for_come_from_the_binary() {
    let server = Server::start().await;
    let get = async |path: &str| {
        let response = server.http.get(format!("{}{path}", server.base)).send().await.expect("an answer");
        let header = |name| response.headers().get(name).map_or("", |value| value.to_str().expect("text")).to_owned();
        let (media_type, policy) = (header("content-type"), header("content-security-policy"));
        (response.status().as_u16(), media_type, policy, response.text().await.expect("a body"))
    };
    let (status, media_type, policy, page) = get("/docs").await;
    assert_eq!((status, media_type.as_str()), (200, "text/html; charset=utf-8"));
    assert!(policy.contains("default-src 'none'") && policy.contains("script-src 'self';"), "{policy}");
    let asked: Vec<&str> = page.split(['"']).filter(|text| text.starts_with('/') || text.contains("//")).collect();
    assert!(asked.iter().all(|address| address.starts_with('/') && !address.starts_with("//")), "{asked:?}");
    for (file, kind, content) in [
        ("/docs/swagger-ui.css", "text/css", ".swagger-ui"),
        ("/docs/swagger-ui-bundle.js", "text/javascript", "SwaggerUIBundle"),
        ("/docs/start.js", "text/javascript", "/openapi.json"),
        ("/docs/favicon-32x32.png", "image/png", "PNG"),
        ("/openapi.json", "application/json", "3.1.0"),
    ] {
        let (status, media_type, _, body) = get(file).await;
        assert_eq!(status, 200, "{file}");
        assert!(media_type.starts_with(kind) && body.contains(content), "{file}: {media_type}");
        assert!(asked.contains(&file) || file == "/openapi.json", "the page does not ask for {file}");
    }
    let (status, media_type, _, _) = get("/docs/index.html").await;
    assert_eq!((status, media_type.as_str()), (404, "application/problem+json"));
}
