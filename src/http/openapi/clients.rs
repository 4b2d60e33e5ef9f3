//! Details for linters and client generators, for all operations and schemas: the server's URL, whether a call needs a
//! login, a description, and examples of ids and times.

use super::operations_mut;
use serde_json::{Value, json};
use uuid::{Uuid, uuid};

/// An id in the form of this server's: a UUIDv7.
pub const EXAMPLE_ID: Uuid = uuid!("01890a5d-ac96-774b-bcce-b302099a8057");
/// A time in the form of answers.
const EXAMPLE_TIME: &str = "2099-12-01T18:00:00.000Z";

/// Completes every operation and schema.
pub fn complete(document: &mut Value) {
    document["servers"] = json!([{"url": "/", "description": "The server that this document comes from"}]);
    for operation in operations_mut(document) {
        if operation["security"].is_null() {
            operation["security"] = json!([]);
        }
        operation["description"] = description(operation).into();
    }
    illustrate(document);
}

/// The operation's own description, and whether it needs a login.
fn description(operation: &Value) -> String {
    let own = operation["description"].as_str();
    let needs_login = operation["security"].as_array().is_some_and(|any| !any.is_empty());
    let access = if needs_login { "Needs a login." } else { "Needs no login." };
    let parameters = operation["parameters"].as_array().into_iter().flatten();
    let has = |name: &str| parameters.clone().any(|parameter| parameter["name"] == name);
    let paged = has("cursor").then_some("One page: `next_cursor` leads to the next.");
    own.into_iter().chain(paged).chain([access]).collect::<Vec<_>>().join(" ")
}

/// Adds a valid example to ids and times without one.
fn illustrate(value: &mut Value) {
    let example = match value["format"].as_str() {
        Some("uuid") => Some(EXAMPLE_ID.to_string()),
        Some("date-time") => Some(EXAMPLE_TIME.to_owned()),
        _ => None,
    };
    match value {
        Value::Object(fields) => {
            if let Some(example) =
                example.filter(|_| !fields.contains_key("example") && !fields.contains_key("examples"))
            {
                fields.insert("examples".to_owned(), json!([example]));
            }
            fields.values_mut().for_each(illustrate);
        }
        Value::Array(items) => items.iter_mut().for_each(illustrate),
        _ => {}
    }
}
