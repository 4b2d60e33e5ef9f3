//! Whether an answer is one that the API's description has: every integration test is a test of the document, too.

use livedrop::http::openapi;
use reqwest::{Method, StatusCode};
use serde_json::Value;
use std::sync::LazyLock;

static DOCUMENT: LazyLock<Value> = LazyLock::new(openapi::document);

/// Panics for an answer of a documented operation that has another status, or a problem with another code, than the
/// document says. `path`: below `/api/v1`, with its query.
#[track_caller]
pub fn check(method: &Method, path: &str, status: StatusCode, body: &Value) {
    let path = format!("/api/v1{}", path.split('?').next().unwrap_or_default());
    let Some(operation) = operation(method, &path) else { return };
    let Some(mut response) = operation["responses"].get(status.as_str()) else {
        panic!("{method} {path} answered {status}, which is not documented: {body}")
    };
    if let Some(shared) = response["$ref"].as_str() {
        response = DOCUMENT.pointer(&shared[1..]).expect("a shared response");
    }
    if let Some(code) = body.get("code") {
        let codes =
            &response["content"]["application/problem+json"]["schema"]["allOf"][1]["properties"]["code"]["enum"];
        assert!(
            codes.as_array().is_some_and(|codes| codes.contains(code)),
            "{method} {path}: {code} is not documented"
        );
    }
}

/// A path without parameters wins over one with, as in the router.
fn operation(method: &Method, path: &str) -> Option<&'static Value> {
    let paths = DOCUMENT["paths"].as_object()?;
    let matching = paths.iter().filter(|(template, _)| matches(template, path));
    let (_, item) = matching.min_by_key(|(template, _)| template.matches('{').count())?;
    item.get(method.as_str().to_lowercase())
}

fn matches(template: &str, path: &str) -> bool {
    let (template, path): (Vec<_>, Vec<_>) = (template.split('/').collect(), path.split('/').collect());
    let fits = |(part, given): (&&str, &&str)| part == given || (part.starts_with('{') && !given.is_empty());
    template.len() == path.len() && template.iter().zip(&path).all(fits)
}
