//! `/auth/…`, `/users/me` and `/audit`.

use crate::http::answer::{Answer, created, ok};
use crate::http::api::accounts::dto::{
    AccountChangeBody, AuditBody, DeleteAccountBody, LoginBody, PasswordBody, RefreshBody, RegisterBody, SignedInBody,
    UserBody,
};
use crate::http::declared;
use crate::http::extract::json::{self, Body};
use crate::http::extract::pages::{self, List, PageBody, Paging};
use crate::http::openapi::parameters::AuditQuery;
use crate::http::openapi::problems::{Fails, codes};
use crate::service::accounts::{
    AccountChangeInput, Accounts, DeletionInput, LoginInput, PasswordInput, RefreshInput, RegistrationInput,
};
use crate::service::{Caller, Code as C, Visitor};
use actix_web::http::header::HeaderValue;
use actix_web::{HttpRequest, HttpResponse, web};

declared::table! {
    register __path_register Anybody Accounts;
    login __path_login Anybody Login;
    refresh __path_refresh RefreshToken Accounts;
    logout __path_logout Anybody Accounts;
    logout_everywhere __path_logout_everywhere User Writes;
    me __path_me User Reads;
    change __path_change User Writes;
    delete __path_delete Password Password;
    change_password __path_change_password Password Password;
    audit __path_audit Admin Reads;
}

#[utoipa::path(
    post,
    path = "/api/v1/auth/register",
    tag = "Accounts",
    operation_id = "register",
    summary = "Make an account and sign in",
    description = "A second try is 409 `email_taken`, after which one signs in; answers with tokens are not kept, so it takes no `Idempotency-Key`.",
    request_body = RegisterBody,
    responses(
        (status = 201, description = "The account, and what it signs in with", body = SignedInBody, headers(("Location" = String, description = "Where it lives"))),
        Fails<{ codes(&[C::EmailTaken, C::Overloaded]) }>,
    ),
)]
pub async fn register(accounts: web::Data<Accounts>, visitor: Visitor, Body(body): Body<RegisterBody>) -> Answer {
    let signed_in = accounts.register(&visitor, body.validate::<RegistrationInput>()?).await?;
    Ok(created(HeaderValue::from_static("/api/v1/users/me"), json::write(&SignedInBody::from(&signed_in))?))
}

#[utoipa::path(
    post,
    path = "/api/v1/auth/login",
    tag = "Accounts",
    operation_id = "login",
    summary = "Sign in",
    description = "It changes nothing, so it takes no `Idempotency-Key`.",
    request_body = LoginBody,
    responses(
        (status = 200, description = "The account, and what it signs in with", body = SignedInBody),
        Fails<{ codes(&[C::InvalidCredentials, C::Overloaded]) }>,
    ),
)]
pub async fn login(accounts: web::Data<Accounts>, visitor: Visitor, Body(body): Body<LoginBody>) -> Answer {
    let (email, password) = body.validate::<LoginInput>()?;
    let signed_in = accounts.login(&visitor, &email, password).await?;
    ok(SignedInBody::from(&signed_in))
}

#[utoipa::path(
    post,
    path = "/api/v1/auth/refresh",
    tag = "Accounts",
    operation_id = "refresh",
    summary = "Exchange a refresh token for a new pair",
    description = "A refresh token works once; using an old one again ends its login. For ten seconds it is taken for a retry and answered with the \
                   same successor, so it takes no `Idempotency-Key`.",
    request_body = RefreshBody,
    responses(
        (status = 200, description = "The account, and what it signs in with", body = SignedInBody),
        Fails<{ codes(&[C::RefreshTokenInvalid]) }>,
    ),
)]
pub async fn refresh(accounts: web::Data<Accounts>, Body(body): Body<RefreshBody>) -> Answer {
    let signed_in = accounts.refresh(&body.validate::<RefreshInput>()?).await?;
    ok(SignedInBody::from(&signed_in))
}

#[utoipa::path(
    post,
    path = "/api/v1/auth/logout",
    tag = "Accounts",
    operation_id = "logout",
    summary = "End this login",
    description = "Its access tokens are refused and its sessions are closed (4403) at once. Again is as good as once, so it takes no `Idempotency-Key`.",
    request_body = RefreshBody,
    responses(
        (status = 204, description = "It has ended"),
    ),
)]
pub async fn logout(accounts: web::Data<Accounts>, Body(body): Body<RefreshBody>) -> Answer {
    accounts.logout(&body.validate::<RefreshInput>()?).await?;
    Ok(HttpResponse::NoContent().finish())
}

#[utoipa::path(
    get,
    path = "/api/v1/users/me",
    tag = "Accounts",
    operation_id = "get_me",
    summary = "One's own account",
    responses(
        (status = 200, description = "The account", body = UserBody),
        Fails<{ codes(&[C::UserNotFound]) }>,
    ),
    security(("bearer" = [])),
)]
pub async fn me(accounts: web::Data<Accounts>, caller: Caller) -> Answer {
    let account = accounts.me(caller.user).await?;
    ok(UserBody::from(&account))
}

#[utoipa::path(
    post,
    path = "/api/v1/auth/logout-everywhere",
    tag = "Accounts",
    operation_id = "logout_everywhere",
    summary = "End every login",
    description = "This one too. Access tokens are refused and sessions are closed (4403) at once. Again is as good as once, so it takes no \
                   `Idempotency-Key`.",
    responses(
        (status = 204, description = "They have ended"),
        Fails<{ codes(&[C::UserNotFound]) }>,
    ),
    security(("bearer" = [])),
)]
pub async fn logout_everywhere(accounts: web::Data<Accounts>, caller: Caller) -> Answer {
    accounts.logout_everywhere(&caller).await?;
    Ok(HttpResponse::NoContent().finish())
}

#[utoipa::path(
    patch,
    path = "/api/v1/users/me",
    tag = "Accounts",
    operation_id = "change_me",
    summary = "Change name and privacy",
    request_body = AccountChangeBody,
    responses(
        (status = 200, description = "The account", body = UserBody),
        Fails<{ codes(&[C::UserNotFound]) }>,
    ),
    security(("bearer" = [])),
)]
pub async fn change(accounts: web::Data<Accounts>, caller: Caller, Body(body): Body<AccountChangeBody>) -> Answer {
    let account = accounts.change(&caller, body.validate::<AccountChangeInput>()?).await?;
    ok(UserBody::from(&account))
}

#[utoipa::path(
    post,
    path = "/api/v1/users/me/password",
    tag = "Accounts",
    operation_id = "change_password",
    summary = "Change the password",
    description = "Answers with tokens are not kept, so it takes no `Idempotency-Key`: after a change whose answer was lost, one signs in with the new password.",
    request_body = PasswordBody,
    responses(
        (status = 200, description = "Signed in anew: every other login has ended", body = SignedInBody),
        Fails<{ codes(&[C::UserNotFound, C::WrongPassword, C::Overloaded]) }>,
    ),
    security(("bearer" = [])),
)]
pub async fn change_password(accounts: web::Data<Accounts>, caller: Caller, Body(body): Body<PasswordBody>) -> Answer {
    let (current, new) = body.validate::<PasswordInput>()?;
    let signed_in = accounts.change_password(&caller, current, new).await?;
    ok(SignedInBody::from(&signed_in))
}

#[utoipa::path(
    delete,
    path = "/api/v1/users/me",
    tag = "Accounts",
    operation_id = "delete_me",
    summary = "Delete one's account",
    description = "Holds are given back, products are archived, orders stay for the books. Access tokens are refused and sessions are closed (4403) at \
                   once.",
    request_body = DeleteAccountBody,
    responses(
        (status = 204, description = "Nothing personal is left"),
        Fails<{ codes(&[C::UserNotFound, C::WrongPassword, C::AccountHasDrops, C::Overloaded]) }>,
    ),
    security(("bearer" = [])),
)]
pub async fn delete(accounts: web::Data<Accounts>, caller: Caller, Body(body): Body<DeleteAccountBody>) -> Answer {
    accounts.delete(&caller, body.validate::<DeletionInput>()?).await?;
    Ok(HttpResponse::NoContent().finish())
}

#[utoipa::path(
    get,
    path = "/api/v1/audit",
    tag = "Audit",
    operation_id = "list_audit",
    summary = "Who did what, newest first (admins)",
    params(AuditQuery),
    responses(
        (status = 200, description = "One page", body = PageBody<AuditBody>, headers(("Link" = Option<String>, description = "The next page, `rel=\"next\"`, where there is one"))),
        Fails<{ codes(&[C::Forbidden]) }>,
    ),
    security(("bearer" = [])),
)]
pub async fn audit(accounts: web::Data<Accounts>, caller: Caller, request: HttpRequest, paging: Paging) -> Answer {
    failpoint!("http.audit");
    let page = accounts.audit(&caller, paging.audit_filter()?, paging.after(List::Audit)?, paging.limit).await?;
    Ok(pages::answer(&request, List::Audit, &page, |row| row.id, AuditBody::from))
}
