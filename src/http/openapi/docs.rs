//! `/docs`: the document as a page, Swagger UI from the binary. Nothing comes from elsewhere: a browser behind a firewall sees it too.

use crate::http::problem::Problem;
use crate::service::Code;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use actix_web::{HttpResponse, web};
use std::sync::{Arc, LazyLock};
use utoipa_swagger_ui::Config;

const PAGE: &str = include_str!("docs.html");
const START: &str = include_str!("docs.js");
/// What the page asks for besides. Other files of the package are nobody's business.
const FILES: [&str; 3] = ["swagger-ui.css", "swagger-ui-bundle.js", "favicon-32x32.png"];
/// Swagger UI writes styles and small images into the page; scripts and answers come from here only.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/// Files change with the server only, and their names do not: an hour is a compromise.
const CACHED: &str = "public, max-age=3600";

static CONFIG: LazyLock<Arc<Config<'static>>> = LazyLock::new(|| Arc::new(Config::from("/openapi.json")));

/// `GET /docs`.
pub async fn page() -> HttpResponse {
    let mut response = HttpResponse::Ok();
    response.content_type("text/html; charset=utf-8").insert_header((CONTENT_SECURITY_POLICY, POLICY));
    response.insert_header((CACHE_CONTROL, "no-cache")).body(PAGE)
}

/// `GET /docs/{file}`.
///
/// # Errors
/// `not_found`.
pub async fn file(name: web::Path<String>) -> Result<HttpResponse, Problem> {
    let name = name.into_inner();
    if name == "start.js" {
        return Ok(cached("text/javascript; charset=utf-8").body(START));
    }
    let known = FILES.contains(&name.as_str());
    let found = known.then(|| utoipa_swagger_ui::serve(&name, Arc::clone(&CONFIG)).ok().flatten()).flatten();
    let file = found.ok_or(Code::NotFound)?;
    Ok(cached(&file.content_type).body(file.bytes.into_owned()))
}

fn cached(media_type: &str) -> actix_web::HttpResponseBuilder {
    let mut response = HttpResponse::Ok();
    response.insert_header((CONTENT_TYPE, media_type)).insert_header((CACHE_CONTROL, CACHED));
    response
}
