//! The API as an OpenAPI 3.1 document, generated from the handlers and the bodies: `/openapi.json`, `livedrop openapi`,
//! and as a page ([`docs`]).
//!
//! Handlers declare their requests and answers (`#[utoipa::path]`), bodies their fields ([`schema`], `domain`).
//! [`problems`] adds the errors of extractors, and `rules` details that the derived schemas cannot express.

mod clients;
pub mod docs;
mod domain;
pub mod parameters;
pub mod problems;
mod rules;
pub mod schema;
#[cfg(test)]
mod tests;

use super::problem::{ProblemBody, ProblemField};
use super::transport::unsent::Shared;
use crate::http::api::drops::dto::{NewShippingBody, NewVariantBody};
use crate::http::api::money::MoneyBody;
use crate::http::api::products::dto::{ImageBody, VariantBody};
use crate::http::api::{
    accounts, addresses, creators, drops, notifications, operations, orders, products, refunds, sales,
};
use actix_web::HttpResponse;
use actix_web::http::Method;
use actix_web::http::header::CACHE_CONTROL;
use bytes::Bytes;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::LazyLock;
use utoipa::OpenApi;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};

/// The text that `livedrop openapi` prints.
pub static TEXT: LazyLock<String> = LazyLock::new(|| {
    let text = serde_json::to_string_pretty(&*DOCUMENT).expect("a document of plain values");
    text + "\n"
});

static DOCUMENT: LazyLock<Value> = LazyLock::new(document);

/// The names of an operation's query parameters; empty if the document has no such operation.
#[must_use]
pub fn query_parameters(method: &Method, path: &str) -> &'static [&'static str] {
    static ALL: LazyLock<BTreeMap<String, Vec<&str>>> = LazyLock::new(|| {
        let items = DOCUMENT["paths"].as_object().into_iter().flatten();
        let operations = items.flat_map(|(path, item)| {
            item.as_object().into_iter().flatten().map(move |(method, operation)| (method, path, operation))
        });
        let named = operations.map(|(method, path, operation)| {
            let parameters = operation["parameters"].as_array().into_iter().flatten();
            let queries = parameters.filter(|parameter| parameter["in"] == "query");
            let names = queries.filter_map(|parameter| parameter["name"].as_str()).collect();
            (format!("{} {path}", method.to_uppercase()), names)
        });
        named.collect()
    });
    ALL.get(&format!("{method} {path}")).map_or(&[], Vec::as_slice)
}

#[derive(OpenApi)]
#[openapi(
    info(title = "LiveDrop", description = include_str!("about.md"), license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0"), contact()),
    components(schemas(ProblemBody, ProblemField, MoneyBody, ImageBody, VariantBody, NewVariantBody, NewShippingBody)),
    tags(
        (name = "Accounts", description = "Register, sign in, stay signed in"),
        (name = "Addresses", description = "Where orders are sent"),
        (name = "Creators", description = "Profiles"),
        (name = "Follows", description = "Who follows whom"),
        (name = "Products", description = "What drops sell"),
        (name = "Drops", description = "Sales with a fixed stock and a start time"),
        (name = "Orders", description = "Reserve, pay, give back"),
        (name = "Sales", description = "The seller's side of orders"),
        (name = "Notifications", description = "Events as they happen"),
        (name = "Audit", description = "Who did what"),
        (name = "Operations", description = "For whoever runs the server"),
    )
)]
struct Api;

/// Generates the whole document.
#[must_use]
pub fn document() -> Value {
    let tables = [
        accounts::routes::Described::openapi(),
        addresses::routes::Described::openapi(),
        creators::routes::Described::openapi(),
        products::routes::Described::openapi(),
        drops::routes::Described::openapi(),
        orders::routes::Described::openapi(),
        sales::routes::Described::openapi(),
        refunds::routes::Described::openapi(),
        notifications::routes::Described::openapi(),
        operations::routes::Described::openapi(),
    ];
    let mut api = Api::openapi();
    tables.into_iter().for_each(|table| api.merge(table));
    let bearer = Http::builder().scheme(HttpAuthScheme::Bearer).bearer_format("JWT");
    let bearer = bearer.description(Some("The `access_token` of a login: 15 minutes")).build();
    let components = api.components.get_or_insert_default();
    components.security_schemes.insert("bearer".to_owned(), SecurityScheme::Http(bearer).into());
    let mut document = serde_json::to_value(api).expect("a document of plain values");
    problems::complete(&mut document);
    rules::add(&mut document);
    clients::complete(&mut document);
    document
}

/// Every operation of the document.
fn operations_mut(document: &mut Value) -> impl Iterator<Item = &mut Value> {
    let items = document["paths"].as_object_mut().into_iter().flatten().map(|(_, item)| item);
    items.filter_map(Value::as_object_mut).flat_map(|item| item.values_mut())
}

#[utoipa::path(
    get,
    path = "/openapi.json",
    tag = "Operations",
    operation_id = "get_openapi",
    summary = "This document",
    responses((status = 200, description = "OpenAPI 3.1", body = Object, content_type = "application/json")),
)]
pub async fn read() -> HttpResponse {
    // It changes only with the server, and then at once.
    let mut response = HttpResponse::Ok();
    let response = response.content_type("application/json").insert_header((CACHE_CONTROL, "no-cache"));
    let mut answer = response.body(Bytes::from_static(TEXT.as_bytes()));
    // All readers share the document's memory.
    answer.extensions_mut().insert(Shared);
    answer
}
