//! The problems of each route: every status with its `code` values.
//!
//! A handler names the errors of its use case ([`Fails`]); the errors of its extractors follow from what they read, and
//! [`complete`] adds them to the finished document.

use crate::http::problem::{TYPE_BASE, status};
use crate::service::Code;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use utoipa::IntoResponses;
use utoipa::openapi::RefOr;
use utoipa::openapi::extensions::ExtensionsBuilder;
use utoipa::openapi::response::{Response, ResponseBuilder};

/// Codes as a bit set, so that they can be a type's parameter.
#[must_use]
pub const fn codes(list: &[Code]) -> u128 {
    let (mut bits, mut next) = (0, 0);
    while next < list.len() {
        bits |= 1 << list[next] as u32;
        next += 1;
    }
    bits
}

const _: () = assert!(Code::ALL.len() <= u128::BITS as usize);

/// The codes of every command to a drop.
pub const ASKS: &[Code] = &[Code::Overloaded, Code::ShuttingDown, Code::OutcomeUnknown, Code::DiskFull];

/// The codes of a route's use case, for `responses(…)`.
pub struct Fails<const CODES: u128>;

/// The extension that holds the codes for [`complete`].
const MARK: &str = "x-codes";

impl<const CODES: u128> IntoResponses for Fails<CODES> {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let mut by_status: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for code in Code::ALL.iter().filter(|code| CODES & (1 << **code as u32) != 0) {
            by_status.entry(status(*code).as_str().to_owned()).or_default().push(code.as_str());
        }
        let marked = |names| ResponseBuilder::new().extensions(Some(ExtensionsBuilder::new().add(MARK, names).build()));
        by_status.into_iter().map(|(status, names)| (status, marked(names).build().into())).collect()
    }
}

/// The codes that middleware and extractors may return before the handler runs.
fn implied(path: &str, operation: &Value) -> Vec<Code> {
    // Any request may have unknown query parameters.
    let mut all = vec![Code::ValidationFailed];
    if path.starts_with("/api/") {
        all.extend([Code::Internal, Code::DatabaseUnavailable, Code::RateLimited, Code::HeadersTooLarge]);
        // A large answer may find no room while others wait for slow clients.
        all.push(Code::Overloaded);
    }
    if operation["security"].as_array().is_some_and(|any| !any.is_empty()) {
        all.extend([Code::Unauthenticated, Code::TokenExpired, Code::TokenRevoked]);
    }
    all.push(Code::BodyTooLarge);
    if operation.get("requestBody").is_some() {
        all.extend([Code::MalformedJson, Code::UnsupportedMediaType, Code::ShuttingDown]);
    } else {
        all.extend([Code::UnexpectedBody, Code::MalformedJson, Code::ShuttingDown]);
    }
    all.push(Code::RequestTimeout);
    for parameter in operation["parameters"].as_array().into_iter().flatten() {
        match (parameter["in"].as_str(), parameter["name"].as_str()) {
            (Some("header"), Some("If-Match")) => all.push(Code::PreconditionFailed),
            (Some("query"), Some("number")) => all.push(Code::OrderNumberInvalid),
            (Some("query"), Some("cursor")) => all.push(Code::InvalidCursor),
            (Some("header"), Some("Idempotency-Key")) => {
                all.extend([Code::IdempotencyKeyInvalid, Code::IdempotencyKeyReused, Code::RequestInProgress]);
                let required = parameter["required"] == true;
                all.push(if required { Code::IdempotencyKeyMissing } else { Code::Overloaded });
            }
            _ => {}
        }
    }
    all
}

/// Adds the problems to every operation, and shared parts to the document: one example for each code, and one response
/// for each set of codes.
pub fn complete(document: &mut Value) {
    let (mut shared, mut used) = (Map::new(), Vec::new());
    let paths = document["paths"].as_object_mut().into_iter().flatten();
    for (path, item) in paths {
        for operation in item.as_object_mut().into_iter().flat_map(|item| item.values_mut()) {
            let implied = implied(path, operation);
            let Some(responses) = operation["responses"].as_object_mut() else { continue };
            let own =
                |name: &str| responses.values().filter_map(|one| one[MARK].as_array()).flatten().any(|n| n == name);
            let all: Vec<Code> =
                Code::ALL.iter().copied().filter(|code| implied.contains(code) || own(code.as_str())).collect();
            let mut by_status: BTreeMap<u16, Vec<Code>> = BTreeMap::new();
            for code in all {
                by_status.entry(status(code).as_u16()).or_default().push(code);
            }
            for (status, codes) in by_status {
                used.extend_from_slice(&codes);
                let names: Vec<&str> = codes.iter().map(|code| code.as_str()).collect();
                let key = format!("{status}.{}", names.join("."));
                responses.insert(status.to_string(), json!({"$ref": format!("#/components/responses/{key}")}));
                shared.entry(key).or_insert_with(|| response(status, &codes));
            }
        }
    }
    document["components"]["responses"] = shared.into();
    let used = Code::ALL.iter().filter(|code| used.contains(code));
    document["components"]["examples"] =
        used.map(|code| (code.as_str().to_owned(), example(*code))).collect::<Map<_, _>>().into();
}

fn response(status: u16, codes: &[Code]) -> Value {
    let names: Vec<&str> = codes.iter().map(|code| code.as_str()).collect();
    let lines: Vec<String> = codes.iter().map(|code| format!("`{}`: {}", code.as_str(), code.title())).collect();
    let examples: Map<String, Value> = names
        .iter()
        .map(|name| ((*name).to_owned(), json!({"$ref": format!("#/components/examples/{name}")})))
        .collect();
    // Beside the reference, not in an `allOf`: client generators then make one problem type, not one for each route and
    // status.
    let schema = json!({
        "$ref": "#/components/schemas/Problem",
        "properties": {"status": {"const": status}, "code": {"enum": names}},
    });
    let mut response = json!({
        "description": lines.join("; "),
        "content": {"application/problem+json": {"schema": schema, "examples": examples}},
    });
    let text = json!({"type": "string"});
    let seconds = json!({"type": "integer", "minimum": 0});
    response["headers"] = match status {
        401 => json!({"WWW-Authenticate": {"required": true, "schema": text, "description": "How to authenticate"}}),
        429 | 503 => json!({"Retry-After": {"required": true, "schema": seconds, "description": "Seconds"}}),
        409 | 504 => json!({"Retry-After": {"schema": seconds, "description": "Seconds, where waiting helps"}}),
        _ => return response,
    };
    response
}

fn example(code: Code) -> Value {
    let mut value = json!({
        "type": format!("{TYPE_BASE}{}", code.as_str()),
        "title": code.title(),
        "status": status(code).as_u16(),
        "detail": code.title(),
        "code": code.as_str(),
        "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
    });
    if matches!(code, Code::ValidationFailed | Code::ConflictingFields) {
        value["errors"] = json!([{"pointer": "/quantity", "detail": "must be 1 to 1000"}]);
    }
    if matches!(code, Code::DropNotStarted | Code::HoldCooldown) {
        value["retry_at"] = json!("2099-12-01T18:00:00.000Z");
    }
    if code == Code::NotEnoughStock {
        value["available"] = json!(1);
    }
    json!({"summary": code.title(), "value": value})
}
