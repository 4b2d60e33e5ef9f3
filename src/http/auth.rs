//! Who calls: the `Authorization: Bearer` header.

use super::problem::Problem;
use super::{client, trace};
use crate::domain::UserId;
use crate::service::tokens::{Access, Tokens};
use crate::service::{Caller, Code, Failure};
use actix_web::dev::Payload;
use actix_web::http::header::{AUTHORIZATION, HeaderMap};
use actix_web::{FromRequest, HttpMessage, HttpRequest, web};
use std::future::{Ready, ready};

/// The user of a path `/users/{id}/…`; `me` is short for the caller's id. Whether the caller may is for the use case to say.
#[derive(Clone, Copy, Debug)]
pub struct Whose(pub UserId);

/// The caller, of a path `/users/{id}/…` that only they may read; `me` is short for their id.
#[derive(Clone, Copy, Debug)]
pub struct Own(pub UserId);

/// What the request's token says; `None` where there is none.
///
/// # Errors
/// `unauthenticated` for another scheme or a bad token, `token_expired`.
pub fn access(headers: &HeaderMap, tokens: &Tokens) -> Result<Option<Access>, Failure> {
    let malformed = || Failure::with(Code::Unauthenticated, "Authorization must be: Bearer <access token>");
    let Some(value) = headers.get(AUTHORIZATION) else { return Ok(None) };
    let (scheme, token) = value.to_str().ok().and_then(|text| text.split_once(' ')).ok_or_else(malformed)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(malformed());
    }
    tokens.verify(token.trim()).map(Some)
}

/// What a request's token said when it was first looked at: it is verified once, however many ask.
struct Known(Result<Option<Access>, Failure>);

/// What the request's token says, see [`access`]. Needs `web::Data<Tokens>`.
///
/// # Errors
/// As [`access`].
pub fn of(request: &HttpRequest) -> Result<Option<Access>, Failure> {
    if let Some(Known(known)) = request.extensions().get::<Known>() {
        return known.clone();
    }
    let tokens = request.app_data::<web::Data<Tokens>>().ok_or_else(|| Failure::new(Code::Internal))?;
    let said = access(request.headers(), tokens);
    if !matches!(said, Ok(None)) {
        request.extensions_mut().insert(Known(said.clone()));
    }
    said
}

fn caller(request: &HttpRequest) -> Result<Caller, Failure> {
    let access = of(request)?.ok_or_else(|| Failure::new(Code::Unauthenticated))?;
    Ok(Caller { user: access.user, role: access.role, origin: client::address(request), trace: trace::current_id() })
}

/// Whoever is signed in. Needs `web::Data<Tokens>`; verified without I/O.
impl FromRequest for Caller {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(caller(request).map_err(Problem::from))
    }
}

fn whose(request: &HttpRequest) -> Result<(UserId, UserId), Failure> {
    let caller = caller(request)?.user;
    match request.match_info().get("id") {
        Some("me") => Ok((caller, caller)),
        Some(id) => Ok((caller, id.parse().map_err(|_| Failure::new(Code::UserNotFound))?)),
        None => Err(Failure::new(Code::Internal)),
    }
}

impl FromRequest for Whose {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(whose(request).map(|(_, user)| Self(user)).map_err(Problem::from))
    }
}

impl FromRequest for Own {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let own = whose(request).and_then(|(caller, user)| match user == caller {
            true => Ok(Self(user)),
            false => Err(Failure::new(Code::Forbidden)),
        });
        ready(own.map_err(Problem::from))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::clock::Clock;
    use crate::service::tokens::Role;
    use actix_web::{App, HttpResponse, test};

    const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

    #[actix_web::test]
    async fn tokens_open_what_is_theirs() {
        let tokens = Tokens::new(SECRET, 900, Clock::default());
        let user = UserId::new();
        let good = tokens.issue(user, Role::User);
        let app = test::init_service(
            App::new()
                .app_data(web::Data::new(tokens))
                .route("/me", web::get().to(async |caller: Caller| HttpResponse::Ok().body(caller.user.to_string())))
                .route("/users/{id}", web::get().to(async |Own(id): Own| HttpResponse::Ok().body(id.to_string()))),
        )
        .await;
        let get = async |path: &str, authorization: Option<String>| {
            let mut request = test::TestRequest::get().uri(path);
            if let Some(value) = authorization {
                request = request.insert_header(("authorization", value));
            }
            test::call_service(&app, request.to_request()).await
        };
        let bearer = || Some(format!("Bearer {good}"));
        assert_eq!(get("/me", bearer()).await.status(), 200);
        assert_eq!(get("/me", Some(format!("bearer  {good}"))).await.status(), 200);
        assert_eq!(get("/users/me", bearer()).await.status(), 200);
        assert_eq!(get(&format!("/users/{user}"), bearer()).await.status(), 200);
        assert_eq!(get(&format!("/users/{}", UserId::new()), bearer()).await.status(), 403);
        assert_eq!(get("/users/someone", bearer()).await.status(), 404);
        for bad in [None, Some("".into()), Some(good.clone()), Some(format!("Basic {good}")), Some("Bearer x".into())] {
            let response = get("/me", bad.clone()).await;
            assert_eq!(response.status(), 401, "{bad:?}");
            assert!(response.headers().contains_key("www-authenticate"));
        }
    }

    #[actix_web::test]
    async fn an_expired_token_says_so() {
        let clock = Clock::default();
        let tokens = Tokens::new(SECRET, 900, clock.clone());
        let token = tokens.issue(UserId::new(), Role::User);
        clock.shift(3_600_000);
        let request = test::TestRequest::get().insert_header(("authorization", format!("Bearer {token}")));
        let failure = access(request.to_http_request().headers(), &tokens).unwrap_err();
        assert_eq!(failure.code, Code::TokenExpired);
    }
}
