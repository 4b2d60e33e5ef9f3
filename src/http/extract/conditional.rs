//! Conditional requests: pages that clients and proxies may store but must revalidate, and changes with a precondition
//! (RFC 9110, section 13; RFC 9111, section 5.2.2.4).
//!
//! A tag is the hash of a page. If a page also shows data that people do not change by hand (followers, current stock),
//! the tag begins with a hash of the editable part, and a dot: `If-None-Match` compares the whole tag, `If-Match` the
//! part before the dot. So an editor of a drop on sale is not refused because of orders in between.

use super::json;
use crate::domain::DropId;
use crate::http::answer::Answer;
use crate::http::api::products::dto::ProductBody;
use crate::http::problem::Problem;
use crate::service::{Creator, DropView, Product};
use actix_web::dev::Payload;
use actix_web::http::StatusCode;
use actix_web::http::header::{
    CACHE_CONTROL, ETAG, Header, HeaderValue, IF_MATCH, IF_NONE_MATCH, IfMatch, IfNoneMatch,
};
use actix_web::{FromRequest, HttpRequest, HttpResponse, web};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use hashbrown::HashMap;
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::cell::RefCell;
use std::future::{Ready, ready};

/// Bytes of the hash in a tag: enough that two versions of a page never share it.
const TAG_BYTES: usize = 12;
static ASK_EACH_TIME: HeaderValue = HeaderValue::from_static("no-cache");

/// A serialised page with its tag.
#[derive(Clone)]
struct Rendered {
    body: Bytes,
    /// The value of `ETag`: `"…"`.
    tag: HeaderValue,
}

fn hash(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(&Sha256::digest(bytes)[..TAG_BYTES])
}

impl Rendered {
    /// `revision`: the hash of the editable part, if the body shows more.
    fn of(body: &impl Serialize, revision: Option<&str>) -> Result<Self, Problem> {
        let body = json::write(body)?;
        let tag = match revision {
            Some(revision) => format!("\"{revision}.{}\"", hash(&body)),
            None => format!("\"{}\"", hash(&body)),
        };
        let tag = HeaderValue::from_maybe_shared(Bytes::from(tag)).expect("letters and digits");
        Ok(Self { body, tag })
    }
}

/// The kind of a drop's page.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum View {
    Drop,
    Stock,
}

/// Pages of drops cached by one worker; when it is full, the cache is cleared.
const PAGES_MAX: usize = 1_024;

/// A worker's cache of each drop's latest page. A crowd reads the same page until the drop changes.
#[derive(Default)]
pub struct Pages(RefCell<HashMap<(View, DropId), (u64, Rendered)>>);

impl Pages {
    /// The page as of journal record `position`, rendered if the cached one is of another. A page without a position is
    /// not cached.
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

/// 200 with the page and its tag, or 304 if the client has it already. `revision`: see `Rendered::of`.
pub fn page(request: &HttpRequest, revision: Option<&str>, body: impl Serialize) -> Answer {
    Ok(answer(request, Rendered::of(&body, revision)?))
}

/// The answer to a change: the changed page and its tag, for the next change.
pub fn changed(revision: Option<&str>, body: impl Serialize) -> Answer {
    let Rendered { body, tag } = Rendered::of(&body, revision)?;
    let mut answer = json::answer(StatusCode::OK, body);
    answer.headers_mut().insert(ETAG, tag);
    Ok(answer)
}

fn revision_of(shown: &impl Serialize) -> String {
    hash(&serde_json::to_vec(shown).expect("plain fields"))
}

/// The whole tag of a product, because all of it is editable.
#[must_use]
pub fn product_revision(product: &Product) -> String {
    revision_of(&ProductBody::from(product))
}

/// The editable part of a profile: without its followers.
#[must_use]
pub fn creator_revision(creator: &Creator) -> String {
    revision_of(&(&creator.handle, &creator.display_name, &creator.bio))
}

/// The editable part of a drop: without its buyers' effects.
#[must_use]
pub fn drop_revision(drop: &DropView) -> String {
    revision_of(&drop.revision())
}

/// The `If-Match` header of a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Precondition {
    /// There is none, or it is `*`: no precondition.
    Anything,
    /// The object must have one of these revisions. Malformed and weak tags are left out (RFC 9110, section 13.1.1), so
    /// the list may be empty.
    Revisions(Vec<String>),
}

/// Whether an object still has a revision that the client has seen, see [`crate::service::OnlyIf`].
type Condition<'a, T> = Box<dyn Fn(&T) -> bool + Send + Sync + 'a>;

impl Precondition {
    fn of(request: &HttpRequest) -> Self {
        if !request.headers().contains_key(IF_MATCH) {
            return Self::Anything;
        }
        match IfMatch::parse(request) {
            Ok(IfMatch::Any) => Self::Anything,
            Ok(IfMatch::Items(tags)) => {
                let strong = tags.iter().filter(|tag| !tag.weak);
                let revision = |tag: &str| tag.split('.').next().unwrap_or_default().to_owned();
                Self::Revisions(strong.map(|tag| revision(tag.tag())).collect())
            }
            Err(_) => Self::Revisions(Vec::new()),
        }
    }

    /// The precondition on an object at the time of the change; `None` if there is none.
    pub fn holds<'a, T>(&'a self, revision: fn(&T) -> String) -> Option<Condition<'a, T>>
    where
        T: 'a,
    {
        match self {
            Self::Anything => None,
            Self::Revisions(wanted) => Some(Box::new(move |thing| wanted.contains(&revision(thing)))),
        }
    }
}

impl FromRequest for Precondition {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(Ok(Self::of(request)))
    }
}

/// Like [`page`], for a page of a drop as of journal record `position`, 0 if that is not known.
pub fn page_of<B: Serialize>(
    request: &HttpRequest,
    of: (View, DropId),
    position: u64,
    make: impl FnOnce() -> (Option<String>, B),
) -> Answer {
    let make = || {
        let (revision, body) = make();
        Rendered::of(&body, revision.as_deref())
    };
    let page = match request.app_data::<web::Data<Pages>>() {
        Some(pages) => pages.get(of, position, make)?,
        None => make()?,
    };
    Ok(answer(request, page))
}

/// The tag of a page that is compiled in.
pub(in crate::http) fn tag_of(page: &[u8]) -> HeaderValue {
    HeaderValue::from_maybe_shared(Bytes::from(format!("\"{}\"", hash(page)))).expect("letters and digits")
}

/// Whether the client has the page of that tag.
pub(in crate::http) fn holds(request: &HttpRequest, tag: &HeaderValue) -> bool {
    request.headers().contains_key(IF_NONE_MATCH)
        && match IfNoneMatch::parse(request) {
            Ok(IfNoneMatch::Any) => true,
            // This server's tags are strong: weak comparison compares the opaque parts (RFC 9110, section 8.8.3.2).
            Ok(IfNoneMatch::Items(tags)) => tags.iter().any(|held| format!("\"{}\"", held.tag()) == *tag),
            // A malformed header is ignored: the page is always a correct answer.
            Err(_) => false,
        }
}

fn answer(request: &HttpRequest, Rendered { body, tag }: Rendered) -> HttpResponse {
    let held = holds(request, &tag);
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
        page(&request.to_http_request(), None, body).unwrap()
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
    fn a_change_is_meant_for_what_was_seen() {
        let wanted = |headers: &[&str]| {
            let request =
                headers.iter().fold(TestRequest::post(), |request, value| request.append_header((IF_MATCH, *value)));
            Precondition::of(&request.to_http_request())
        };
        let named = |names: &[&str]| Precondition::Revisions(names.iter().map(|&name| name.to_owned()).collect());
        assert_eq!(wanted(&[]), Precondition::Anything);
        assert_eq!(wanted(&["*"]), Precondition::Anything);
        assert_eq!(wanted(&["\"a.b\""]), named(&["a"]));
        assert_eq!(wanted(&["\"a\", W/\"b\" , \"c.d\"", "\"e\""]), named(&["a", "c", "e"]));
        for nothing in ["", "a", "\"", "W/\"a\"", "\"a\" b", "ä"] {
            let wanted = wanted(&[nothing]);
            let holds = wanted.holds(|text: &String| text.clone()).unwrap_or_else(|| panic!("{nothing} is anything"));
            assert!(!holds(&"a".to_owned()), "{nothing}");
        }
        let either = named(&["a", "c"]);
        let holds = either.holds(|text: &String| text.clone()).unwrap();
        assert!(holds(&"c".to_owned()) && !holds(&"b".to_owned()));
        assert!(Precondition::Anything.holds(|text: &String| text.clone()).is_none());
    }

    #[test]
    fn a_page_is_made_again_when_something_has_happened() {
        let (pages, drop, other) = (Pages::default(), DropId::new(), DropId::new());
        let get = |of: (View, DropId), position: u64, text: &str| {
            let page = pages.get(of, position, || Rendered::of(&text, None));
            String::from_utf8(page.unwrap_or_else(|_| panic!("a page")).body.to_vec()).unwrap()
        };
        assert_eq!(get((View::Drop, drop), 5, "new"), "\"new\"");
        assert_eq!(get((View::Drop, drop), 5, "not made"), "\"new\"");
        assert_eq!(get((View::Stock, drop), 5, "stock"), "\"stock\"");
        assert_eq!(get((View::Drop, other), 5, "other"), "\"other\"");
        assert_eq!(get((View::Drop, drop), 6, "newer"), "\"newer\"");
        // A reader may be overtaken by a newer page; the page of its position is then rendered anew.
        assert_eq!(get((View::Drop, drop), 5, "older"), "\"older\"");
        assert_eq!(get((View::Drop, drop), 0, "from SQL"), "\"from SQL\"");
        assert_eq!(get((View::Drop, drop), 0, "again"), "\"again\"");
        (0..=PAGES_MAX).for_each(|_| _ = get((View::Drop, DropId::new()), 1, "x"));
        assert!(pages.0.borrow().len() <= PAGES_MAX);
    }
}
