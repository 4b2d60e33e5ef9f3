//! Tests that the document matches the routes, and that its schemas match the checks.

use super::{document, problems, schema};
use crate::domain::limits;
use crate::http;
use crate::service::Code;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

/// Paths outside the API: a page, and files for pages.
const PAGES: [&str; 3] = ["/docs", "/livedrop.", "/webhooks/"];

fn operations(document: &Value) -> impl Iterator<Item = (&String, &String, &Value)> {
    let paths = document["paths"].as_object().expect("paths");
    paths.iter().flat_map(|(path, item)| {
        item.as_object().expect("an item").iter().map(move |(method, operation)| (path, method, operation))
    })
}

fn schemas(document: &Value) -> &Map<String, Value> {
    document["components"]["schemas"].as_object().expect("schemas")
}

/// The value behind a reference.
fn resolve<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    match value["$ref"].as_str() {
        Some(to) => document.pointer(to.trim_start_matches('#')).unwrap_or_else(|| panic!("{to} leads nowhere")),
        None => value,
    }
}

#[test]
fn every_route_is_in_the_document_and_the_other_way_round() {
    let document = document();
    let mut documented: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for (path, method, _) in operations(&document) {
        let methods = documented.entry(path).or_default();
        methods.insert(method.to_uppercase());
        // Every GET route also answers HEAD.
        if method == "get" {
            methods.insert("HEAD".to_owned());
        }
    }
    for path in document["x-streams"].as_object().expect("streams").keys() {
        documented.insert(path, BTreeSet::from(["GET".to_owned(), "HEAD".to_owned()]));
    }
    let mut served: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    let routes = http::routes();
    for route in routes.iter().filter(|route| !PAGES.iter().any(|page| route.path.starts_with(page))) {
        let methods = served.entry(&route.path).or_default();
        methods.insert(route.method.to_string());
        if route.method == "GET" {
            methods.insert("HEAD".to_owned());
        }
    }
    assert_eq!(documented, served);
}

#[test]
fn names_are_unique_and_references_lead_somewhere() {
    let document = document();
    let mut ids = BTreeSet::new();
    for (path, method, operation) in operations(&document) {
        let id = operation["operationId"].as_str().unwrap_or_else(|| panic!("{method} {path} has no name"));
        assert!(ids.insert(id), "{id} is the name of two operations");
        assert!(operation["summary"].is_string() && operation["tags"].is_array(), "{method} {path}");
    }
    check_references(&document, &document);
    let mut links = 0;
    for (_, _, operation) in operations(&document) {
        for link in operation["responses"]["201"]["links"].as_object().into_iter().flat_map(|all| all.values()) {
            let to = link["operationId"].as_str().expect("a name");
            assert!(ids.contains(to), "a link to {to}, which does not exist");
            links += 1;
        }
    }
    assert_eq!(links, 24);
}

fn check_references(document: &Value, value: &Value) {
    resolve(document, value);
    match value {
        Value::Object(fields) => fields.values().for_each(|value| check_references(document, value)),
        Value::Array(items) => items.iter().for_each(|value| check_references(document, value)),
        _ => {}
    }
}

#[test]
fn every_code_can_be_given_by_a_route_that_says_so() {
    let document = document();
    let mut given = BTreeSet::new();
    for (path, method, operation) in operations(&document) {
        for (status, response) in operation["responses"].as_object().expect("responses") {
            assert!(!response.to_string().contains("x-codes"), "{method} {path} {status}");
            let response = resolve(&document, response);
            let problem = &response["content"]["application/problem+json"]["schema"]["properties"];
            let codes = problem["code"]["enum"].as_array().into_iter().flatten().filter_map(Value::as_str);
            for code in codes {
                let known = Code::ALL.iter().find(|known| known.as_str() == code).expect("a code");
                assert_eq!(http::problem::status(*known).as_str(), status, "{code}");
                given.insert(code.to_owned());
            }
            let fine = status.starts_with('2') || status == "304";
            assert!(fine || path == "/readyz" || problem.is_object(), "{method} {path} {status}");
        }
    }
    // These two are not answers of a route.
    let elsewhere = [Code::NotFound, Code::MethodNotAllowed];
    for code in Code::ALL.iter().filter(|code| !elsewhere.contains(code)) {
        assert!(given.contains(code.as_str()), "no route says that it gives {}", code.as_str());
    }
}

#[test]
fn codes_in_a_type_are_the_codes() {
    for (index, code) in Code::ALL.iter().enumerate() {
        assert_eq!(problems::codes(&[*code]), 1 << index);
    }
    assert_eq!(problems::codes(&[]), 0);
}

#[test]
fn bodies_of_requests_refuse_what_they_do_not_know() {
    let document = document();
    let mut bodies = BTreeSet::new();
    for (_, _, operation) in operations(&document) {
        if let Some(schema) = operation["requestBody"]["content"]["application/json"].get("schema") {
            collect(&document, schema, &mut bodies);
        }
    }
    assert!(bodies.len() > 15, "{bodies:?}");
    for name in bodies {
        assert_eq!(schemas(&document)[&name]["additionalProperties"], false, "{name}");
    }
}

/// Collects the components that a schema refers to, directly or indirectly.
fn collect(document: &Value, schema: &Value, into: &mut BTreeSet<String>) {
    if let Some(name) = schema["$ref"].as_str().and_then(|to| to.strip_prefix("#/components/schemas/"))
        && into.insert(name.to_owned())
    {
        collect(document, &schemas(document)[name], into);
    }
    match schema {
        Value::Object(fields) => fields.values().for_each(|value| collect(document, value, into)),
        Value::Array(items) => items.iter().for_each(|value| collect(document, value, into)),
        _ => {}
    }
}

#[test]
fn bounds_in_the_document_are_those_of_the_checks() {
    let document = document();
    let at = |pointer: &str| {
        let value = document.pointer(&format!("/components/schemas/{pointer}"));
        value.and_then(Value::as_u64).unwrap_or_else(|| panic!("{pointer}"))
    };
    for (pointer, bound) in [
        ("NewOrder/properties/quantity/maximum", u64::from(limits::QUANTITY_PER_ORDER_MAX)),
        ("Registration/properties/email/maxLength", limits::EMAIL_CHARS_MAX as u64),
        ("Registration/properties/password/minLength", limits::PASSWORD_CHARS_MIN as u64),
        ("Registration/properties/password/maxLength", limits::PASSWORD_CHARS_MAX as u64),
        ("Registration/properties/display_name/maxLength", limits::NAME_CHARS_MAX as u64),
        ("NewCreator/properties/bio/maxLength", limits::TEXT_CHARS_MAX as u64),
        ("NewDrop/properties/variants/maxItems", limits::VARIANTS_PER_DROP_MAX as u64),
        ("NewDrop/properties/hold_seconds/maximum", u64::from(limits::HOLD_MS_MAX / 1_000)),
        ("NewDropVariant/properties/stock/maximum", u64::from(limits::STOCK_PER_VARIANT_MAX)),
        ("NewProduct/properties/images/maxItems", limits::IMAGES_PER_PRODUCT_MAX as u64),
        ("NewImage/properties/url/maxLength", limits::URL_CHARS_MAX as u64),
        ("Price/properties/amount/maximum", limits::PRICE_MINOR_MAX as u64),
    ] {
        assert_eq!(at(pointer), bound, "{pointer}");
    }
}

#[test]
fn patterns_are_spelled_out() {
    // `\u0000` in a pattern must stay an escape, not become the character.
    for pattern in [schema::LINE, schema::LINES] {
        assert!(pattern.chars().all(|c| c.is_ascii() && !c.is_control()), "{pattern}");
    }
}

/// Calls `look` with every object of the document that is, or may be, a schema of text, and its location.
fn texts<'a>(value: &'a Value, place: &str, look: &mut impl FnMut(&str, &'a Value)) {
    let kinds = &value["type"];
    if kinds == "string" || kinds.as_array().is_some_and(|kinds| kinds.iter().any(|kind| kind == "string")) {
        look(place, value);
    }
    match value {
        Value::Object(fields) => {
            fields.iter().for_each(|(name, value)| texts(value, &format!("{place}/{name}"), look));
        }
        Value::Array(items) => items.iter().for_each(|value| texts(value, place, look)),
        _ => {}
    }
}

#[test]
fn text_of_a_certain_form_has_an_example() {
    let document = document();
    let (mut without, mut seen) = (Vec::new(), 0);
    texts(&document, "", &mut |place, text| {
        let has_a_form = text.get("format").is_some() || text.get("pattern").is_some();
        let has_an_example = text.get("example").is_some() || text.get("examples").is_some();
        seen += usize::from(has_a_form);
        if has_a_form && !has_an_example {
            without.push(place.to_owned());
        }
    });
    assert!(seen > 100, "{seen}");
    assert_eq!(without, [""; 0], "without an example a page shows one that cannot exist");
}

#[test]
fn every_operation_says_who_may_call_it_and_what_it_does() {
    let mut document = document();
    assert_eq!(document["servers"][0]["url"], "/");
    for operation in super::operations_mut(&mut document) {
        let needs_login = operation["security"].as_array().is_some_and(|any| !any.is_empty());
        assert!(operation["security"].is_array(), "{operation}");
        assert_eq!(operation["responses"].get("401").is_some() && needs_login, needs_login, "{operation}");
        let description = operation["description"].as_str().unwrap_or_default();
        assert!(description.ends_with(if needs_login { "Needs a login." } else { "Needs no login." }), "{operation}");
    }
}

#[test]
fn what_may_be_left_out_has_no_default_in_its_schema() {
    let document = document();
    for (name, schema) in schemas(&document) {
        for (field, of) in schema["properties"].as_object().into_iter().flatten() {
            assert!(
                of.get("default").is_none(),
                "generators of clients would require {name}.{field}, or always send it"
            );
        }
    }
}

#[test]
fn all_methods_of_the_sandbox_are_in_the_document() {
    let document = document();
    let methods = &schemas(&document)["Payment"]["properties"]["payment_method"]["enum"];
    assert_eq!(methods, &serde_json::json!(crate::payments::sandbox::Sandbox::METHODS));
}
