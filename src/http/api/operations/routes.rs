//! Routes for operators and for developers of clients.

use crate::http::api::operations::browser;
use crate::http::api::operations::metrics::{__path_metrics, metrics};
use crate::http::api::operations::probes::{__path_live, __path_ready, live, ready};
use crate::http::declared::{self, Declaration, Declared, Quota, Who};
use crate::http::openapi::{__path_read, docs, read};
use actix_web::http::Method;

declared::table! {
    live __path_live Anybody None;
    ready __path_ready Anybody None;
    metrics __path_metrics Anybody None;
    read __path_read Anybody Reads;
}

/// The client for browsers, and the API's description as a page.
#[must_use]
pub fn pages() -> Vec<Declared> {
    let page =
        |path: &str| Declaration { method: Method::GET, path: path.to_owned(), who: Who::Anybody, quota: Quota::Reads };
    vec![
        Declared::other(page("/livedrop.js"), browser::script),
        Declared::other(page("/livedrop.d.ts"), browser::types),
        Declared::other(page("/docs"), docs::page),
        Declared::other(page("/docs/{file}"), docs::file),
    ]
}
