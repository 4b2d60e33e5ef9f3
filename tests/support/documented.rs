//! Whether an answer matches the API's description: every integration test also tests the document.

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
    let schema = &response["content"]["application/json"]["schema"];
    if !schema.is_null() {
        let unknown = unknown(&[schema], body, "");
        assert!(unknown.is_empty(), "{method} {path} {status}: not documented: {unknown:?}");
    } else if let Some(code) = body.get("code") {
        let codes = &response["content"]["application/problem+json"]["schema"]["properties"]["code"]["enum"];
        assert!(
            codes.as_array().is_some_and(|codes| codes.contains(code)),
            "{method} {path}: {code} is not documented"
        );
    }
}

/// The fields of a value that its schemas do not have, by their pointers. A client may ignore unknown fields, so the
/// document does not forbid them; the test finds undocumented ones.
fn unknown(schemas: &[&'static Value], value: &Value, pointer: &str) -> Vec<String> {
    let mut flat = Vec::new();
    schemas.iter().for_each(|schema| flatten(schema, &mut flat));
    let below = |key: &str| flat.iter().filter_map(|schema| schema.get(key)).collect::<Vec<_>>();
    match value {
        Value::Array(items) => items.iter().flat_map(|item| unknown(&below("items"), item, pointer)).collect(),
        Value::Object(fields) => {
            let (properties, others) = (below("properties"), below("additionalProperties"));
            // An object of any form.
            if properties.is_empty() && others.is_empty() {
                return Vec::new();
            }
            let check = |(name, value): (&String, &Value)| {
                let mut known: Vec<_> = properties.iter().filter_map(|all| all.get(name)).collect();
                known.extend(&others);
                let pointer = format!("{pointer}/{name}");
                if known.is_empty() { vec![pointer] } else { unknown(&known, value, &pointer) }
            };
            fields.iter().flat_map(check).collect()
        }
        _ => Vec::new(),
    }
}

/// A schema and its parts.
fn flatten(schema: &'static Value, into: &mut Vec<&'static Value>) {
    if let Some(to) = schema["$ref"].as_str() {
        flatten(DOCUMENT.pointer(&to[1..]).expect("a component"), into);
    }
    for key in ["allOf", "anyOf", "oneOf"] {
        schema[key].as_array().into_iter().flatten().for_each(|part| flatten(part, into));
    }
    into.push(schema);
}

/// A path without parameters wins over one with parameters, as in the router.
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
