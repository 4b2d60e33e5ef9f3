//! Pages that clients and proxies may keep, as long as they ask whether they still hold (RFC 9110, section 13; RFC 9111, section 5.2.2.4).

use super::problem::Problem;
use super::routes::Answer;
use actix_web::http::header::{CACHE_CONTROL, ETag, EntityTag, Header, IfNoneMatch};
use actix_web::{HttpRequest, HttpResponse};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use sha2::{Digest, Sha256};

/// Bytes of the hash that a tag has: two versions of a page never share them.
const TAG_BYTES: usize = 12;
const ASK_EACH_TIME: &str = "no-cache";

/// 200 with the page and its tag, or 304 where the client has it already.
pub fn page(request: &HttpRequest, body: impl Serialize) -> Answer {
    let body = serde_json::to_vec(&body).map_err(|_| Problem::internal(super::trace::current_id()))?;
    let tag = EntityTag::new_strong(URL_SAFE_NO_PAD.encode(&Sha256::digest(&body)[..TAG_BYTES]));
    let held = match IfNoneMatch::parse(request) {
        Ok(IfNoneMatch::Any) => true,
        Ok(IfNoneMatch::Items(tags)) => tags.iter().any(|held| held.weak_eq(&tag)),
        // What is malformed is as good as nothing: the page is always a right answer.
        Err(_) => false,
    };
    let mut answer = if held { HttpResponse::NotModified() } else { HttpResponse::Ok() };
    answer.insert_header((CACHE_CONTROL, ASK_EACH_TIME)).insert_header(ETag(tag));
    Ok(if held { answer.finish() } else { answer.content_type("application/json").body(body) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::body::to_bytes;
    use actix_web::http::header::{ETAG, HeaderName, IF_NONE_MATCH};
    use actix_web::test::TestRequest;

    fn asked(held: Option<&str>, body: &str) -> HttpResponse {
        let request =
            held.map_or_else(TestRequest::get, |held| TestRequest::get().insert_header((IF_NONE_MATCH, held)));
        page(&request.to_http_request(), body).unwrap()
    }

    fn header(answer: &HttpResponse, name: HeaderName) -> &str {
        answer.headers().get(name).unwrap().to_str().unwrap()
    }

    #[actix_web::test]
    async fn a_page_that_is_held_is_not_sent_again() {
        let first = asked(None, "one");
        assert_eq!((first.status().as_u16(), header(&first, CACHE_CONTROL)), (200, "no-cache"));
        let tag = header(&first, ETAG).to_owned();
        assert_eq!(to_bytes(first.into_body()).await.unwrap(), "\"one\"");
        for held in [tag.clone(), format!("W/{tag}"), format!("\"other\", {tag}"), "*".to_owned()] {
            let answer = asked(Some(&held), "one");
            assert_eq!((answer.status().as_u16(), header(&answer, ETAG)), (304, tag.as_str()), "{held}");
            assert!(to_bytes(answer.into_body()).await.unwrap().is_empty());
        }
        for held in [tag.trim_matches('"'), "\"other\"", "", "\"", "ä"] {
            assert_eq!(asked(Some(held), "one").status(), 200, "{held}");
        }
        assert_eq!(asked(Some(&tag), "two").status(), 200);
    }
}
