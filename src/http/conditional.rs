//! Pages that clients and proxies may keep, as long as they ask whether they still hold (RFC 9110, section 13; RFC 9111, section 5.2.2.4).

use super::json;
use super::problem::Problem;
use super::routes::Answer;
use crate::domain::DropId;
use actix_web::http::StatusCode;
use actix_web::http::header::{CACHE_CONTROL, ETAG, Header, HeaderValue, IF_NONE_MATCH, IfNoneMatch};
use actix_web::{HttpRequest, HttpResponse, web};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use hashbrown::HashMap;
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::cell::RefCell;

/// Bytes of the hash that a tag has: two versions of a page never share them.
const TAG_BYTES: usize = 12;
static ASK_EACH_TIME: HeaderValue = HeaderValue::from_static("no-cache");

/// A page as it is sent.
#[derive(Clone)]
struct Rendered {
    body: Bytes,
    /// Its tag, as it is sent: `"…"`.
    tag: HeaderValue,
}

impl Rendered {
    fn of(body: &impl Serialize) -> Result<Self, Problem> {
        let body = json::write(body)?;
        let tag = format!("\"{}\"", URL_SAFE_NO_PAD.encode(&Sha256::digest(&body)[..TAG_BYTES]));
        let tag = HeaderValue::from_maybe_shared(Bytes::from(tag)).expect("letters and digits");
        Ok(Self { body, tag })
    }
}

/// Which page of a drop.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum View {
    /// All of it.
    Drop,
    /// Its stock.
    Stock,
}

/// Pages of drops that one worker keeps; then it begins anew.
const PAGES_MAX: usize = 1_024;

/// The latest page of each drop that was looked at, for one worker. A crowd looks at the same page until something happens to the drop.
#[derive(Default)]
pub struct Pages(RefCell<HashMap<(View, DropId), (u64, Rendered)>>);

impl Pages {
    /// The page as of journal record `position`, made where it is not the one that is kept. What has no position is not kept.
    fn get(
        &self,
        of: (View, DropId),
        position: u64,
        make: impl FnOnce() -> Result<Rendered, Problem>,
    ) -> Result<Rendered, Problem> {
        if let Some((_, page)) = self.0.borrow().get(&of).filter(|(kept, _)| *kept == position) {
            return Ok(page.clone());
        }
        let page = make()?;
        if position > 0 {
            let mut pages = self.0.borrow_mut();
            if pages.len() >= PAGES_MAX {
                pages.clear();
            }
            pages.insert(of, (position, page.clone()));
        }
        Ok(page)
    }
}

/// 200 with the page and its tag, or 304 where the client has it already.
pub fn page(request: &HttpRequest, body: impl Serialize) -> Answer {
    Ok(answer(request, Rendered::of(&body)?))
}

/// The same for a page of a drop that says how the drop stands at journal record `position`, 0 where that is not known.
pub fn page_of<B: Serialize>(
    request: &HttpRequest,
    of: (View, DropId),
    position: u64,
    body: impl FnOnce() -> B,
) -> Answer {
    let make = || Rendered::of(&body());
    let page = match request.app_data::<web::Data<Pages>>() {
        Some(pages) => pages.get(of, position, make)?,
        None => make()?,
    };
    Ok(answer(request, page))
}

fn answer(request: &HttpRequest, Rendered { body, tag }: Rendered) -> HttpResponse {
    let held = request.headers().contains_key(IF_NONE_MATCH)
        && match IfNoneMatch::parse(request) {
            Ok(IfNoneMatch::Any) => true,
            // Ours is strong: weak comparison leaves the words alone (RFC 9110, section 8.8.3.2).
            Ok(IfNoneMatch::Items(tags)) => tags.iter().any(|held| format!("\"{}\"", held.tag()) == tag),
            // What is malformed is as good as nothing: the page is always a right answer.
            Err(_) => false,
        };
    let mut answer =
        if held { HttpResponse::new(StatusCode::NOT_MODIFIED) } else { json::answer(StatusCode::OK, body) };
    let headers = answer.headers_mut();
    headers.insert(CACHE_CONTROL, ASK_EACH_TIME.clone());
    headers.insert(ETAG, tag);
    answer
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::body::to_bytes;
    use actix_web::http::header::{ETAG, HeaderName};
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

    #[test]
    fn a_page_is_made_again_when_something_has_happened() {
        let (pages, drop, other) = (Pages::default(), DropId::new(), DropId::new());
        let get = |of: (View, DropId), position: u64, text: &str| {
            let page = pages.get(of, position, || Rendered::of(&text));
            String::from_utf8(page.unwrap_or_else(|_| panic!("a page")).body.to_vec()).unwrap()
        };
        assert_eq!(get((View::Drop, drop), 5, "new"), "\"new\"");
        assert_eq!(get((View::Drop, drop), 5, "not made"), "\"new\"");
        assert_eq!(get((View::Stock, drop), 5, "stock"), "\"stock\"");
        assert_eq!(get((View::Drop, other), 5, "other"), "\"other\"");
        assert_eq!(get((View::Drop, drop), 6, "newer"), "\"newer\"");
        // A reader may be overtaken; the page that it saw is then made again.
        assert_eq!(get((View::Drop, drop), 5, "older"), "\"older\"");
        assert_eq!(get((View::Drop, drop), 0, "from SQL"), "\"from SQL\"");
        assert_eq!(get((View::Drop, drop), 0, "again"), "\"again\"");
        (0..=PAGES_MAX).for_each(|_| _ = get((View::Drop, DropId::new()), 1, "x"));
        assert!(pages.0.borrow().len() <= PAGES_MAX);
    }
}
