//! The wrapper of every handler, so that no route can lack it: it refuses bodies and query parameters that the route
//! does not read, and turns a panic into an answer.
//!
//! The caller is checked first, then the request.

use super::current_trace;
use crate::http::extract::json::Unread;
use crate::http::problem::Problem;
use crate::service::{Failure, FieldError};
use crate::suggest::nearest;
use actix_web::dev::Payload;
use actix_web::http::{Method, StatusCode};
use actix_web::{Error, FromRequest, Handler, HttpRequest, HttpResponse, ResponseError};
use pin_project_lite::pin_project;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use url::form_urlencoded;

/// The query parameters of a path, by method (HEAD has GET's).
#[derive(Clone, Debug, Default)]
pub struct KnownParameters(pub Vec<(Method, Vec<&'static str>)>);

impl KnownParameters {
    fn of(&self, method: &Method) -> &[&'static str] {
        let method = if method == Method::HEAD { &Method::GET } else { method };
        self.0.iter().find(|(known, _)| known == method).map_or(&[], |(_, names)| names)
    }

    /// One error for each unknown name in the query.
    fn unknown(&self, method: &Method, query: &str) -> Vec<FieldError> {
        let known = self.of(method);
        let names = form_urlencoded::parse(query.as_bytes()).map(|(name, _)| name);
        let mut unknown: Vec<FieldError> = Vec::new();
        for name in names.filter(|name| !known.contains(&name.as_ref())) {
            // A JSON pointer (RFC 6901), as for the fields of a body.
            let pointer = format!("/{}", name.replace('~', "~0").replace('/', "~1"));
            if unknown.iter().all(|error| error.pointer != pointer) {
                unknown.push(FieldError { pointer, detail: wanted(known, &name) });
            }
        }
        unknown
    }
}

fn wanted(known: &[&str], name: &str) -> String {
    match (known, nearest(name, known.iter().copied())) {
        ([], _) => "is not a parameter: there are none here".to_owned(),
        (_, Some(near)) => format!("is not a parameter; did you mean {near}?"),
        (known, None) => format!("is not a parameter; there are {}", known.join(", ")),
    }
}

/// Errors about unknown names in a request's query, for lists, which report them together with invalid values.
#[must_use]
pub fn unknown_parameters(request: &HttpRequest) -> Vec<FieldError> {
    match request.app_data::<KnownParameters>() {
        Some(known) if !request.query_string().is_empty() => known.unknown(request.method(), request.query_string()),
        _ => Vec::new(),
    }
}

/// Whether the route is a list: these report errors of their query themselves
/// ([`crate::http::extract::pages::Paging`]).
fn is_list(request: &HttpRequest) -> bool {
    let known = request.app_data::<KnownParameters>();
    known.is_some_and(|known| known.of(request.method()).contains(&"limit"))
}

/// A handler whose panics become answers.
#[derive(Clone)]
pub struct Guarded<F>(pub F);

impl<F, A> Handler<Arguments<A>> for Guarded<F>
where
    F: Handler<A>,
    A: FromRequest + 'static,
{
    type Output = Result<F::Output, Panicked>;
    type Future = Catching<F::Future>;

    fn call(&self, Arguments(arguments): Arguments<A>) -> Self::Future {
        Catching { future: self.0.call(arguments) }
    }
}

pin_project! {
    /// The handler's future, which turns a panic into [`Panicked`].
    pub struct Catching<F> {
        #[pin]
        future: F,
    }
}

impl<F: Future> Future for Catching<F> {
    type Output = Result<F::Output, Panicked>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let future = self.project().future;
        // The future is dropped after a panic, so nothing sees it in a broken state.
        match catch_unwind(AssertUnwindSafe(|| future.poll(context))) {
            Ok(polled) => polled.map(Ok),
            Err(_) => Poll::Ready(Err(Panicked)),
        }
    }
}

/// The handler panicked. The panic itself is logged where it happens, see `main.rs`.
#[derive(Debug)]
pub struct Panicked;

impl fmt::Display for Panicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a handler panicked")
    }
}

impl ResponseError for Panicked {
    fn status_code(&self) -> StatusCode {
        StatusCode::INTERNAL_SERVER_ERROR
    }

    fn error_response(&self) -> HttpResponse {
        Problem::internal(current_trace::id()).error_response()
    }
}

/// The arguments of a handler. Extraction fails if the request has parts that the handler does not read.
pub struct Arguments<A>(A);

impl<A: FromRequest + 'static> FromRequest for Arguments<A> {
    type Error = Error;
    type Future = Reading<A>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let arguments = catch_unwind(AssertUnwindSafe(|| A::from_request(request, payload))).ok();
        // An extractor that reads the body has taken it by now.
        let unread = match payload.take() {
            Payload::None => None,
            body => Some(Box::new(Unread::of(request, body))),
        };
        let unknown = if is_list(request) { Vec::new() } else { unknown_parameters(request) };
        Reading { arguments, read: None, unknown, unread }
    }
}

pin_project! {
    /// The future that extracts the arguments.
    pub struct Reading<A: FromRequest> {
        // `None` after a panic.
        #[pin]
        arguments: Option<A::Future>,
        read: Option<A>,
        unknown: Vec<FieldError>,
        unread: Option<Box<Unread>>,
    }
}

impl<A: FromRequest> Future for Reading<A> {
    type Output = Result<Arguments<A>, Error>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if this.read.is_none() {
            let Some(arguments) = this.arguments.as_mut().as_pin_mut() else {
                return Poll::Ready(Err(Panicked.into()));
            };
            let polled = catch_unwind(AssertUnwindSafe(|| arguments.poll(context)));
            let Ok(polled) = polled else { return Poll::Ready(Err(Panicked.into())) };
            *this.read = Some(ready!(polled).map_err(Into::into)?);
            if !this.unknown.is_empty() {
                let unknown = Failure::invalid(std::mem::take(this.unknown));
                return Poll::Ready(Err(Problem::from(unknown).into()));
            }
        }
        if let Some(unread) = this.unread {
            ready!(unread.poll_nothing(context)).map_err(Problem::from)?;
        }
        match this.read.take() {
            Some(read) => Poll::Ready(Ok(Arguments(read))),
            None => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_query_says_that_nobody_knows_is_named() {
        let known = KnownParameters(vec![(Method::GET, vec!["status", "limit"])]);
        let unknown = |method: Method, query: &str| {
            let errors = known.unknown(&method, query);
            errors.into_iter().map(|error| (error.pointer, error.detail)).collect::<Vec<_>>()
        };
        assert!(unknown(Method::GET, "status=live&limit=&limit=2&").is_empty());
        assert!(unknown(Method::HEAD, "%73tatus=live").is_empty());
        let told = unknown(Method::GET, "staus=live&zebra&a%2Fb=~&zebra=2");
        let pointers: Vec<&str> = told.iter().map(|(pointer, _)| pointer.as_str()).collect();
        assert_eq!(pointers, ["/staus", "/zebra", "/a~1b"]);
        assert_eq!(told[0].1, "is not a parameter; did you mean status?");
        assert_eq!(told[1].1, "is not a parameter; there are status, limit");
        assert_eq!(unknown(Method::POST, "limit=2")[0].1, "is not a parameter: there are none here");
    }
}
