//! Lists: opaque cursors over keyset pages, and the `Link` to the next one (RFC 8288).

use super::field::FromJson;
use crate::domain::limits::PAGE_LIMIT_DEFAULT;
use crate::domain::{Mistyped, OrderNumber};
use crate::http::middleware::guard::unknown_parameters;
use crate::http::problem::Problem;
use crate::service::accounts::AuditListInput;
use crate::service::drops::DropListInput;
use crate::service::inbox::InboxListInput;
use crate::service::input::{Field, Input, PageInput, Unvalidated};
use crate::service::products::ProductListInput;
use crate::service::sales::SoldListInput;
use crate::service::{AuditFilter, Code, DropFilter, Failure, FieldError, Page, ProductFilter, SoldFilter};
use actix_web::dev::Payload;
use actix_web::http::header::{HeaderValue, LINK};
use actix_web::{FromRequest, HttpRequest, HttpResponse, HttpResponseBuilder, web};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use std::future::{Ready, ready};
use utoipa::ToSchema;
use uuid::Uuid;

/// The list of a cursor: a cursor of one list is invalid in another. The numbers are part of cursors, so they never
/// change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum List {
    Creators = 1,
    Products = 2,
    Drops = 3,
    /// Orders of their buyer.
    Orders = 4,
    /// Followers of a creator.
    Followers = 5,
    /// Creators that a user follows.
    Following = 6,
    /// Lines of the audit trail.
    Audit = 7,
    /// Orders of a drop, newest first. (8 were cursors of the same list, oldest first.)
    Sales = 11,
    /// Entries of an inbox.
    Inbox = 9,
    /// Refunds that a drop's buyers ask for.
    RefundRequests = 10,
}

impl List {
    /// The pattern of the list's cursors. Clients treat them as opaque; the API's description has the pattern so that
    /// other texts are known to be invalid.
    #[must_use]
    pub fn cursor_pattern(self) -> String {
        const ALPHABET: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        // The first byte is the list: six of its bits make the first character, two the beginning of the second.
        let (first, second) = (usize::from(self as u8 >> 2), usize::from(self as u8 & 3) << 4);
        let class = |text: &str| text.strip_suffix("-_").map_or(text.to_owned(), |text| format!("{text}_-"));
        format!(
            "^{}[{}][A-Za-z0-9_-]{{20}}[AEIMQUYcgkosw048]$",
            &ALPHABET[first..=first],
            class(&ALPHABET[second..second + 16])
        )
    }

    pub(in crate::http) fn cursor(self, last: Uuid) -> String {
        let mut bytes = [self as u8; 17];
        bytes[1..].copy_from_slice(last.as_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    fn last(self, cursor: &str) -> Option<Uuid> {
        let mut bytes = [0; 17];
        // Exactly 17 bytes, canonically encoded: every page has one cursor.
        let length = URL_SAFE_NO_PAD.decode_slice(cursor, &mut bytes).ok()?;
        let uuid = Uuid::from_slice(&bytes[1..]).ok()?;
        (length == bytes.len() && bytes[0] == self as u8).then_some(uuid)
    }
}

/// The query of a list. An empty parameter equals an absent one.
#[derive(Debug)]
pub struct Paging {
    /// From 1 to `PAGE_LIMIT_MAX`.
    pub limit: u32,
    /// Errors so far. A list reports them together with those of its filter.
    errors: Vec<FieldError>,
    query: Query,
}

#[derive(Deserialize, Debug)]
struct Query {
    cursor: Option<String>,
    limit: Option<String>,
    status: Option<String>,
    phase: Option<String>,
    starts_from: Option<String>,
    starts_before: Option<String>,
    creator_id: Option<String>,
    actor_id: Option<String>,
    object_id: Option<String>,
    unread: Option<String>,
    currency: Option<String>,
    price_min: Option<String>,
    price_max: Option<String>,
    number: Option<String>,
    variant_id: Option<String>,
}

impl Paging {
    /// `errors`: errors that are known already.
    fn of(query: &str, errors: Vec<FieldError>) -> Result<Self, Failure> {
        let query = web::Query::<Query>::from_query(query)
            .map_err(|error| Failure::with(Code::ValidationFailed, error.to_string()))?
            .into_inner();
        let page = PageInput { limit: read(&query.limit, Field::of_digits) };
        Ok(match (Unvalidated { fields: page, errors }).validate::<PageInput>() {
            Ok(limit) => Self { limit, errors: Vec::new(), query },
            Err(failure) => Self { limit: PAGE_LIMIT_DEFAULT, errors: failure.fields, query },
        })
    }

    /// The filter of a list of drops.
    ///
    /// # Errors
    /// `validation_failed`.
    pub fn filter(&self) -> Result<DropFilter, Failure> {
        let Query { status, phase, creator_id, starts_from, starts_before, .. } = &self.query;
        self.validate(DropListInput {
            status: read(status, Field::of_text),
            phase: read(phase, Field::of_text),
            creator_id: read(creator_id, Field::of_text),
            starts_from: read(starts_from, Field::of_text),
            starts_before: read(starts_before, Field::of_text),
        })
    }

    /// The filter of a list of products: the active ones, unless the query says otherwise.
    ///
    /// # Errors
    /// `validation_failed`.
    pub fn product_filter(&self) -> Result<ProductFilter, Failure> {
        let Query { status, creator_id, currency, price_min, price_max, .. } = &self.query;
        self.validate(ProductListInput {
            status: read(status, Field::of_text),
            creator_id: read(creator_id, Field::of_text),
            currency: read(currency, Field::of_text),
            price_min: read(price_min, Field::of_digits),
            price_max: read(price_max, Field::of_digits),
        })
    }

    /// The filter of a list of audit lines.
    ///
    /// # Errors
    /// `validation_failed`.
    pub fn audit_filter(&self) -> Result<AuditFilter, Failure> {
        let Query { actor_id, object_id, .. } = &self.query;
        self.validate(AuditListInput {
            actor_id: read(actor_id, Field::of_text),
            object_id: read(object_id, Field::of_text),
        })
    }

    /// Whether to list only unread entries.
    ///
    /// # Errors
    /// `validation_failed`.
    pub fn unread(&self) -> Result<bool, Failure> {
        self.validate(InboxListInput { unread: read(&self.query.unread, flag) })
    }

    /// The filter of a list of a drop's orders.
    ///
    /// # Errors
    /// `validation_failed`, `order_number_invalid`.
    pub fn sold_filter(&self) -> Result<SoldFilter, Failure> {
        let Query { status, variant_id, .. } = &self.query;
        let (status, variant_id) = (read(status, Field::of_text), read(variant_id, Field::of_text));
        let filter = self.validate(SoldListInput { status, variant_id })?;
        Ok(SoldFilter { number: self.number()?, ..filter })
    }

    /// The order number to search for. Read after the cursor.
    ///
    /// # Errors
    /// `order_number_invalid`.
    pub fn number(&self) -> Result<Option<OrderNumber>, Failure> {
        let number = given(&self.query.number).map(str::parse).transpose();
        number.map_err(|mistyped: Mistyped| Failure::with(Code::OrderNumberInvalid, mistyped.to_string()))
    }

    /// What the query says, together with what is wrong with it so far.
    fn validate<I: Input>(&self, fields: I) -> Result<I::Valid, Failure> {
        Unvalidated { fields, errors: self.errors.clone() }.validate::<I>()
    }

    /// The last item of the previous page. Every list reads it after its filter.
    ///
    /// # Errors
    /// `validation_failed`, `invalid_cursor`.
    pub fn after(&self, list: List) -> Result<Option<Uuid>, Failure> {
        if !self.errors.is_empty() {
            return Err(Failure::invalid(self.errors.clone()));
        }
        let Some(cursor) = given(&self.query.cursor) else { return Ok(None) };
        list.last(cursor).map(Some).ok_or_else(|| Failure::new(Code::InvalidCursor))
    }
}

/// A parameter of the query. An empty one is the same as none.
fn read<T>(parameter: &Option<String>, parse: fn(&str) -> Field<T>) -> Field<T> {
    given(parameter).map_or(Field::Absent, parse)
}

fn flag(text: &str) -> Field<bool> {
    text.parse().map_or(Field::Wrong(<bool as FromJson>::WANTED.into()), Field::Given)
}

fn given(parameter: &Option<String>) -> Option<&str> {
    parameter.as_deref().filter(|text| !text.is_empty())
}

impl FromRequest for Paging {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(Self::of(request.query_string(), unknown_parameters(request)).map_err(Problem::from))
    }
}

/// One page of a list.
#[derive(Serialize, ToSchema)]
#[schema(as = Page)]
pub struct PageBody<B> {
    items: Vec<B>,
    /// The `cursor` of the next page; `null` on the last one.
    #[schema(required = true)]
    next_cursor: Option<String>,
}

/// The answer with one page.
pub fn answer<'a, T, B: Serialize>(
    request: &HttpRequest,
    list: List,
    page: &'a Page<T>,
    id: fn(&T) -> Uuid,
    body: fn(&'a T) -> B,
) -> HttpResponse {
    let next_cursor = next_cursor(list, page, id);
    linked(request, next_cursor.as_deref()).json(PageBody { items: page.items.iter().map(body).collect(), next_cursor })
}

/// The cursor after a page; `None` after the last one.
pub fn next_cursor<T>(list: List, page: &Page<T>, id: fn(&T) -> Uuid) -> Option<String> {
    let last = page.stopped_at.or_else(|| page.items.last().map(id));
    last.filter(|_| page.more).map(|last| list.cursor(last))
}

/// An answer with a `Link` to the next page.
pub fn linked(request: &HttpRequest, next_cursor: Option<&str>) -> HttpResponseBuilder {
    let mut response = HttpResponse::Ok();
    if let Some(cursor) = next_cursor {
        let link = format!("<{}>; rel=\"next\"", next_url(request.path(), request.query_string(), cursor));
        if let Ok(value) = HeaderValue::try_from(link) {
            response.insert_header((LINK, value));
        }
    }
    response
}

/// The URL of the same request with another cursor.
fn next_url(path: &str, query: &str, cursor: &str) -> String {
    let others = query.split('&').filter(|pair| !pair.is_empty() && pair.split('=').next() != Some("cursor"));
    // An angle bracket would end the reference early.
    let others: String = others.map(|pair| format!("{}&", pair.replace('<', "%3C").replace('>', "%3E"))).collect();
    format!("{path}?{others}cursor={cursor}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::limits::PRICE_MINOR_MAX;
    use crate::domain::{DropStatus, ProductStatus};
    use actix_web::test::TestRequest;

    fn of(query: &str) -> Result<Paging, Failure> {
        Paging::of(query, Vec::new())
    }

    #[test]
    fn a_cursor_leads_back_within_its_list_only() {
        let id = Uuid::now_v7();
        let cursor = List::Drops.cursor(id);
        assert_eq!(List::Drops.last(&cursor), Some(id));
        assert_eq!(List::Orders.last(&cursor), None);
        let spare_bits = format!("{}B", &cursor[..cursor.len() - 1]);
        for bad in ["", "x", "====", &id.to_string(), &cursor[1..], &format!("{cursor}AAAA"), "ü", &spare_bits] {
            assert_eq!(List::Drops.last(bad), None, "{bad}");
        }
    }

    #[test]
    fn cursors_look_as_the_document_says() {
        assert_eq!(List::Creators.cursor_pattern(), "^A[QRSTUVWXYZabcdef][A-Za-z0-9_-]{20}[AEIMQUYcgkosw048]$");
        assert_eq!(List::Drops.cursor_pattern(), "^A[wxyz0123456789_-][A-Za-z0-9_-]{20}[AEIMQUYcgkosw048]$");
        for list in [List::Creators, List::Products, List::Drops, List::Orders, List::Following, List::Sales] {
            let (cursor, pattern) = (list.cursor(Uuid::now_v7()), list.cursor_pattern());
            let (first, rest) = pattern[1..].split_once('[').unwrap();
            let (second, rest) = rest.split_once(']').unwrap();
            let last = rest.rsplit_once('[').unwrap().1.trim_end_matches("]$");
            assert!(cursor.len() == 23 && cursor.starts_with(first), "{cursor} {pattern}");
            assert!(second.contains(&cursor[1..2]) && last.contains(&cursor[22..]), "{cursor} {pattern}");
        }
    }

    #[test]
    fn queries_are_checked() {
        let paging = of("limit=100&status=sold_out&cursor=&creator_id=").unwrap();
        assert_eq!(paging.limit, 100);
        assert_eq!(paging.filter().unwrap(), DropFilter { status: Some(DropStatus::SoldOut), ..DropFilter::default() });
        assert_eq!(paging.after(List::Drops).unwrap(), None);
        assert_eq!(of("").unwrap().limit, PAGE_LIMIT_DEFAULT);
        assert_eq!(of("limit=1&limit=2").unwrap_err().code, Code::ValidationFailed);
        for bad in ["limit=0", "limit=101", "limit=-1", "limit=x", "limit=1.5"] {
            assert_eq!(of(bad).unwrap().after(List::Drops).unwrap_err().code, Code::ValidationFailed, "{bad}");
        }
        let failure = of("status=LIVE&creator_id=y&limit=0").unwrap().filter().unwrap_err();
        assert_eq!((failure.code, failure.fields.len()), (Code::ValidationFailed, 3));
        let unknown = vec![FieldError { pointer: "/staus".into(), detail: "is not a parameter".into() }];
        let failure = Paging::of("staus=live&limit=0&status=x", unknown).unwrap().filter().unwrap_err();
        let pointers: Vec<_> = failure.fields.iter().map(|field| field.pointer.as_str()).collect();
        assert_eq!(pointers, ["/staus", "/limit", "/status"], "everything that is wrong is told");
        let failure = of("cursor=nonsense").unwrap().after(List::Drops).unwrap_err();
        assert_eq!(failure.code, Code::InvalidCursor);
    }

    #[test]
    fn queries_for_products_are_checked() {
        let filter = |query: &str| of(query).unwrap().product_filter();
        assert_eq!(filter("").unwrap(), ProductFilter::default());
        let found = filter("status=archived&currency=EUR&price_min=0&price_max=10000000000").unwrap();
        assert_eq!((found.status, found.price_min), (ProductStatus::Archived, Some(0)));
        assert_eq!((found.currency, found.price_max), ("EUR".parse().ok(), Some(PRICE_MINOR_MAX)));
        assert_eq!(filter("currency=EUR").unwrap().currency, "EUR".parse().ok());
        let pointers =
            |query: &str| filter(query).unwrap_err().fields.into_iter().map(|field| field.pointer).collect::<Vec<_>>();
        assert_eq!(pointers("status=live"), ["/status"]);
        assert_eq!(filter("price_min=1&currency=").unwrap().price_min, Some(1));
        assert_eq!(
            pointers("status=x&creator_id=y&currency=eur&price_min=-1&price_max=10000000001"),
            ["/status", "/creator_id", "/currency", "/price_min", "/price_max"]
        );
        for amount in ["1.5", "1e3", "99999999999999999999", "%C3%BC", "0x1"] {
            assert_eq!(pointers(&format!("currency=EUR&price_min={amount}")), ["/price_min"], "{amount}");
        }
    }

    #[test]
    fn the_next_page_is_the_same_request_with_another_cursor() {
        let request = TestRequest::get().uri("/api/v1/drops?status=live&cursor=old&limit=2").to_http_request();
        let items = vec![Uuid::now_v7(), Uuid::now_v7()];
        let cursor = List::Drops.cursor(items[1]);
        let page = Page { items, more: true, stopped_at: None };
        let response = answer(&request, List::Drops, &page, |id| *id, |id| id.to_string());
        let link = response.headers().get(LINK).unwrap().to_str().unwrap();
        assert_eq!(link, format!("</api/v1/drops?status=live&limit=2&cursor={cursor}>; rel=\"next\""));

        let ended = Page { stopped_at: Some(Uuid::max()), ..page };
        assert_ne!(next_cursor(List::Products, &ended, |id| *id), None);
        let page = Page { stopped_at: None, ..ended };
        let last = Page { more: false, ..page };
        assert!(answer(&request, List::Drops, &last, |id| *id, |id| id.to_string()).headers().get(LINK).is_none());
    }
}
