//! The caller, from the `Authorization: Bearer` header.

use super::client;
use crate::domain::UserId;
use crate::http::middleware::current_trace;
use crate::http::problem::Problem;
use crate::service::tokens::{Access, Tokens};
use crate::service::{Caller, Code, Failure, Visitor};
use actix_web::dev::Payload;
use actix_web::http::header::{AUTHORIZATION, HeaderMap};
use actix_web::{FromRequest, HttpRequest, web};
use hashbrown::HashMap;
use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::future::{Ready, ready};

/// The user of a path `/users/{id}/…`; `me` stands for the caller's id. The use case checks the caller's rights.
#[derive(Clone, Copy, Debug)]
pub struct Whose(pub UserId);

/// The caller, of a path `/users/{id}/…` that only this user may read; `me` stands for their id.
#[derive(Clone, Copy, Debug)]
pub struct Own(pub UserId);

/// Tokens cached by one worker; when it is full, the cache is cleared.
const REMEMBERED_MAX: usize = 8_192;

/// A worker's cache of verified tokens: a client that orders reads before and after, and the quota and the handler both
/// check a request's token. A valid signature stays valid, so only the expiry is checked again, and the revocations if
/// there are new ones. Keep it beside the [`Tokens`] that verified them.
#[derive(Default)]
pub struct Remembered(RefCell<HashMap<Box<[u8]>, Verified>>);

/// A token's contents, and the [`Revocations::generation`] at which it was last checked.
///
/// [`Revocations::generation`]: crate::service::revocations::Revocations::generation
type Verified = (Access, Cell<u64>);

impl Remembered {
    fn verify(&self, token: &[u8], tokens: &Tokens) -> Result<Access, Failure> {
        if let Some((access, seen)) = self.0.borrow().get(token) {
            return tokens.still_since(*access, seen);
        }
        // Read before the token is checked: a revocation in between is then checked again.
        let seen = Cell::new(tokens.revocations().generation());
        let access = tokens.verify(token)?;
        let mut known = self.0.borrow_mut();
        if known.len() >= REMEMBERED_MAX {
            known.clear();
        }
        known.insert(token.into(), (access, seen));
        Ok(access)
    }
}

/// The result of `verify` for the token in the headers; `None` without a token.
fn access(
    headers: &HeaderMap,
    verify: impl FnOnce(&[u8]) -> Result<Access, Failure>,
) -> Result<Option<Access>, Failure> {
    let Some(value) = headers.get(AUTHORIZATION) else { return Ok(None) };
    let mut parts = value.as_bytes().splitn(2, |&byte| byte == b' ');
    match (parts.next(), parts.next()) {
        (Some(scheme), Some(token)) if scheme.eq_ignore_ascii_case(b"bearer") => verify(token.trim_ascii()).map(Some),
        _ => Err(Failure::with(Code::Unauthenticated, "Authorization must be: Bearer <access token>")),
    }
}

/// The contents of the request's token; `None` without a token. Needs `web::Data<Tokens>`.
///
/// # Errors
/// `unauthenticated` for another scheme or an invalid token, `token_expired`.
pub fn of(request: &HttpRequest) -> Result<Option<Access>, Failure> {
    let tokens = request.app_data::<web::Data<Tokens>>().ok_or_else(|| Failure::new(Code::Internal))?;
    access(request.headers(), |token| match request.app_data::<web::Data<Remembered>>() {
        Some(remembered) => remembered.verify(token, tokens),
        None => tokens.verify(token),
    })
}

fn caller(request: &HttpRequest) -> Result<Caller, Failure> {
    let access = of(request)?.ok_or_else(|| Failure::new(Code::Unauthenticated))?;
    let Access { user, role, login, .. } = access;
    Ok(Caller { user, role, login, origin: client::address(request), trace: current_trace::id() })
}

/// The signed-in user. Needs `web::Data<Tokens>`; verified without I/O.
impl FromRequest for Caller {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(caller(request).map_err(Problem::from))
    }
}

/// The client, signed in or not.
impl FromRequest for Visitor {
    type Error = Infallible;
    type Future = Ready<Result<Self, Infallible>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(Ok(Self { origin: client::address(request), trace: current_trace::id() }))
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
    use crate::domain::{Login, Revocation};
    use crate::service::clock::Clock;
    use crate::service::tokens::Role;
    use actix_web::{App, HttpResponse, test};

    const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

    #[actix_web::test]
    async fn tokens_open_what_is_theirs() {
        let tokens = Tokens::new(SECRET, 900, Clock::default());
        let user = UserId::new();
        let good = tokens.issue(user, Role::User, Login::default());
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

    #[test]
    async fn a_token_that_is_remembered_ends_all_the_same() {
        let clock = Clock::default();
        let tokens = Tokens::new(SECRET, 900, clock.clone());
        let (remembered, user) = (Remembered::default(), UserId::new());
        let token = tokens.issue(user, Role::Admin, Login::default());
        for _ in 0..2 {
            let access = remembered.verify(token.as_bytes(), &tokens).unwrap();
            assert_eq!((access.user, access.role), (user, Role::Admin));
        }
        assert_eq!(remembered.0.borrow().len(), 1);
        // One signature in 16 ends in A.
        let other = if token.ends_with('A') { 'E' } else { 'A' };
        let forged = format!("{}{other}", &token[..token.len() - 1]);
        for bad in ["", "x", &token[1..], &forged] {
            assert_eq!(remembered.verify(bad.as_bytes(), &tokens).unwrap_err().code, Code::Unauthenticated, "{bad}");
        }
        assert_eq!(remembered.0.borrow().len(), 1, "what is not good is not remembered");
        clock.shift(901_000);
        assert_eq!(remembered.verify(token.as_bytes(), &tokens).unwrap_err().code, Code::TokenExpired);
        let tokens: Vec<String> =
            (0..=REMEMBERED_MAX).map(|_| tokens.issue(UserId::new(), Role::User, Login::default())).collect();
        let verifier = Tokens::new(SECRET, 900, clock);
        tokens.iter().for_each(|token| assert!(remembered.verify(token.as_bytes(), &verifier).is_ok()));
        assert!(remembered.0.borrow().len() <= REMEMBERED_MAX);
    }

    #[test]
    async fn a_token_that_is_remembered_is_revoked_all_the_same() {
        let tokens = Tokens::new(SECRET, 900, Clock::default());
        let (remembered, user, other) = (Remembered::default(), UserId::new(), UserId::new());
        let [token, others] = [user, other].map(|user| tokens.issue(user, Role::User, Login::default()));
        for token in [&token, &others] {
            assert!(remembered.verify(token.as_bytes(), &tokens).is_ok());
        }
        tokens.revocations().add(user, Revocation::Below(1));
        for _ in 0..2 {
            assert_eq!(remembered.verify(token.as_bytes(), &tokens).unwrap_err().code, Code::TokenRevoked);
            assert!(remembered.verify(others.as_bytes(), &tokens).is_ok());
        }
    }

    #[actix_web::test]
    async fn an_expired_token_says_so() {
        let clock = Clock::default();
        let tokens = Tokens::new(SECRET, 900, clock.clone());
        let token = tokens.issue(UserId::new(), Role::User, Login::default());
        clock.shift(3_600_000);
        let request = test::TestRequest::get().insert_header(("authorization", format!("Bearer {token}")));
        let failure = access(request.to_http_request().headers(), |token| tokens.verify(token)).unwrap_err();
        assert_eq!(failure.code, Code::TokenExpired);
    }
}
