//! `/docs`: the API's description as a page, with Swagger UI from the binary. Nothing is loaded from elsewhere, so it
//! works behind a firewall.

use crate::http::problem::Problem;
use crate::http::transport::unsent::Shared;
use crate::service::Code;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use actix_web::{HttpResponse, web};
use bytes::Bytes;
use std::borrow::Cow;
use std::sync::{Arc, LazyLock};
use utoipa_swagger_ui::Config;

const PAGE: &str = include_str!("docs.html");
const START: &str = include_str!("docs.js");
/// The files that the page loads. Other files of the package are not served.
const FILES: [&str; 3] = ["swagger-ui.css", "swagger-ui-bundle.js", "favicon-32x32.png"];
/// Swagger UI writes styles and small images into the page; scripts and data come from this server only.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/// Files change only with the server, and their names stay: an hour is a compromise.
const CACHED: &str = "public, max-age=3600";

/// Serves the page `/docs`.
pub async fn page() -> HttpResponse {
    let mut response = HttpResponse::Ok();
    response.content_type("text/html; charset=utf-8").insert_header((CONTENT_SECURITY_POLICY, POLICY));
    response.insert_header((CACHE_CONTROL, "no-cache")).body(PAGE)
}

/// Serves a file of the page.
///
/// # Errors
/// `not_found`.
pub async fn file(name: web::Path<String>) -> Result<HttpResponse, Problem> {
    let name = name.into_inner();
    if name == "start.js" {
        return Ok(cached("text/javascript; charset=utf-8").body(START));
    }
    let known = FILES.iter().position(|known| *known == name).ok_or(Code::NotFound)?;
    let file = PACKAGED[known].as_ref().ok_or(Code::NotFound)?;
    let mut answer = cached(&file.media_type).body(file.bytes.clone());
    // All readers share the file's memory.
    answer.extensions_mut().insert(Shared);
    Ok(answer)
}

/// A file of the package.
struct Packaged {
    media_type: String,
    bytes: Bytes,
}

/// The served [`FILES`], read once.
static PACKAGED: LazyLock<[Option<Packaged>; FILES.len()]> = LazyLock::new(|| {
    let config = Arc::new(Config::from("/openapi.json"));
    FILES.map(|name| {
        let file = utoipa_swagger_ui::serve(name, Arc::clone(&config)).ok().flatten()?;
        let bytes = match file.bytes {
            Cow::Borrowed(bytes) => Bytes::from_static(bytes),
            Cow::Owned(bytes) => Bytes::from(bytes),
        };
        Some(Packaged { media_type: file.content_type, bytes })
    })
});

fn cached(media_type: &str) -> actix_web::HttpResponseBuilder {
    let mut response = HttpResponse::Ok();
    response.insert_header((CONTENT_TYPE, media_type)).insert_header((CACHE_CONTROL, CACHED));
    response
}
