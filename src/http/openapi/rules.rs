//! Details that the derived schemas cannot express.

use super::operations_mut;
use serde_json::{Value, json};

/// Operations whose answers can be revalidated by their tag.
const CONDITIONAL: [&str; 4] = ["get_creator", "get_product", "get_drop", "get_stock"];

fn conditional(document: &mut Value) {
    for operation in
        operations_mut(document).filter(|one| one["operationId"].as_str().is_some_and(|id| CONDITIONAL.contains(&id)))
    {
        let tag = json!({"ETag": {"required": true, "schema": {"type": "string"}, "description": "For `If-None-Match` and `If-Match`"}});
        operation["responses"]["200"]["headers"] = tag.clone();
        operation["responses"]["304"] = json!({"description": "What the client holds is still true", "headers": tag});
        if let Some(parameters) = operation["parameters"].as_array_mut() {
            parameters.push(json!({
                "name": "If-None-Match",
                "in": "header",
                "description": "Tags of the versions that the client holds",
                "schema": {"type": "string"},
            }));
        }
    }
}

/// Adds the `ETag` header to the answers of changes.
fn tags_of_changes(document: &mut Value) {
    for operation in operations_mut(document) {
        let parameters = operation["parameters"].as_array().into_iter().flatten();
        if parameters.into_iter().any(|parameter| parameter["name"] == "If-Match") {
            let about = "For `If-Match` of the next change";
            operation["responses"]["200"]["headers"]["ETag"] =
                json!({"required": true, "schema": {"type": "string"}, "description": about});
        }
    }
}

/// Adds the header that marks a replayed answer to changes with a key.
fn replays(document: &mut Value) {
    for operation in operations_mut(document) {
        let parameters = operation["parameters"].as_array().into_iter().flatten();
        let optional = |one: &Value| one["name"] == "Idempotency-Key" && one["required"] != true;
        if !parameters.into_iter().any(optional) {
            continue;
        }
        let success = if operation["responses"].get("201").is_some() { "201" } else { "200" };
        operation["responses"][success]["headers"]["Idempotency-Replayed"] =
            json!({"schema": {"type": "string"}, "description": "`true` where this is the first answer again"});
    }
}

/// Links from an operation's result to further operations, by operation id.
const NEXT: [(&str, &[&str]); 4] = [
    (
        "create_creator",
        &["get_creator", "change_creator", "list_creator_products", "list_creator_drops", "list_followers", "follow"],
    ),
    ("create_product", &["get_product", "change_product", "archive_product", "restore_product"]),
    (
        "create_drop",
        &[
            "get_drop",
            "get_stock",
            "start_drop",
            "end_drop",
            "cancel_drop",
            "restock_drop",
            "reschedule_drop",
            "list_sales",
            "export_sales",
        ],
    ),
    ("place_order", &["get_order", "pay_order", "cancel_order", "refund_order", "get_order_history"]),
];

fn link(document: &mut Value) {
    for operation in operations_mut(document) {
        let next = NEXT.iter().find(|(made, _)| operation["operationId"] == *made);
        let links = next.into_iter().flat_map(|(_, next)| *next).map(|name| {
            let link = json!({"operationId": name, "parameters": {"id": "$response.body#/id"}});
            ((*name).to_owned(), link)
        });
        let links: serde_json::Map<String, Value> = links.collect();
        if !links.is_empty() {
            operation["responses"]["201"]["links"] = links.into();
        }
    }
}

/// Requires exactly one of two fields, where `null` equals absent. Not with `oneOf`, from which client generators make
/// two types. The body itself names further fields, so each part allows them.
fn one_of_two(body: &mut Value, one: &str, other: &str) {
    let given = |name: &str| json!({"required": [name], "properties": {name: {"not": {"type": "null"}}}, "additionalProperties": true});
    body["if"] = given(one);
    body["then"] = json!({"properties": {other: {"type": "null"}}, "additionalProperties": true});
    body["else"] = given(other);
}

/// Adds all of these rules to the document.
pub fn add(document: &mut Value) {
    let schemas = &mut document["components"]["schemas"];
    // Variants of a new product have no id yet: the same body without that field.
    let mut new = schemas["ProductVariantChange"].clone();
    if let Some(properties) = new["properties"].as_object_mut() {
        properties.remove("id");
    }
    new["description"] = json!("One variant of a new product.");
    schemas["NewProductVariant"] = new;
    one_of_two(&mut schemas["NewDrop"], "stock", "variants");
    one_of_two(&mut schemas["ReadMark"], "ids", "up_to");
    for (name, page) in schemas.as_object_mut().into_iter().flatten() {
        if let Some(item) = name.strip_prefix("Page_") {
            page["properties"]["items"]["items"] = json!({"$ref": format!("#/components/schemas/{item}")});
        }
    }
    // An empty parameter equals an absent one, because forms send them.
    let parameters = operations_mut(document).filter_map(|operation| operation.get_mut("parameters")?.as_array_mut());
    for parameter in parameters.flatten() {
        if parameter["in"] == "query" {
            parameter["allowEmptyValue"] = json!(true);
        }
    }
    conditional(document);
    tags_of_changes(document);
    replays(document);
    link(document);
    document["x-streams"] = json!({
        "/api/v1/notifications": {
            "summary": "Events as they happen, over a WebSocket",
            "description": "OpenAPI cannot describe one. Its messages and close codes: docs/REALTIME.md",
        },
        "/api/v1/notifications/stream": {
            "summary": "Events as they happen, as server-sent events",
            "description": "An answer that does not end. Its events: docs/REALTIME.md",
        },
    });
}
