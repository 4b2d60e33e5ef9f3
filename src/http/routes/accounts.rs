//! `/auth/…`, `/users/me` and `/audit`.

use super::{Answer, created};
use crate::http::dto::accounts::{
    AccountChangeBody, AuditBody, DeleteAccountBody, LoginBody, PasswordBody, RefreshBody, RegisterBody, SignedInBody,
    UserBody,
};
use crate::http::json::Body;
use crate::http::pages::{self, List, Paging};
use crate::service::Caller;
use crate::service::accounts::Accounts;
use actix_web::{HttpRequest, HttpResponse, web};

/// `POST /auth/register`.
pub async fn register(accounts: web::Data<Accounts>, Body(body): Body<RegisterBody>) -> Answer {
    let signed_in = accounts.register(body.validate()?).await?;
    Ok(created("/api/v1/users/me".to_owned(), SignedInBody::from(&signed_in)))
}

/// `POST /auth/login`.
pub async fn login(accounts: web::Data<Accounts>, Body(body): Body<LoginBody>) -> Answer {
    let (email, password) = body.validate()?;
    let signed_in = accounts.login(&email, password).await?;
    Ok(HttpResponse::Ok().json(SignedInBody::from(&signed_in)))
}

/// `POST /auth/refresh`.
pub async fn refresh(accounts: web::Data<Accounts>, Body(body): Body<RefreshBody>) -> Answer {
    let signed_in = accounts.refresh(&body.validate()?).await?;
    Ok(HttpResponse::Ok().json(SignedInBody::from(&signed_in)))
}

/// `POST /auth/logout`.
pub async fn logout(accounts: web::Data<Accounts>, Body(body): Body<RefreshBody>) -> Answer {
    accounts.logout(&body.validate()?).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// `GET /users/me`.
pub async fn me(accounts: web::Data<Accounts>, caller: Caller) -> Answer {
    let account = accounts.me(caller.user).await?;
    Ok(HttpResponse::Ok().json(UserBody::from(&account)))
}

/// `POST /auth/logout-everywhere`.
pub async fn logout_everywhere(accounts: web::Data<Accounts>, caller: Caller) -> Answer {
    accounts.logout_everywhere(&caller).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// `PATCH /users/me`.
pub async fn change(accounts: web::Data<Accounts>, caller: Caller, Body(body): Body<AccountChangeBody>) -> Answer {
    let account = accounts.change(&caller, body.validate()?).await?;
    Ok(HttpResponse::Ok().json(UserBody::from(&account)))
}

/// `POST /users/me/password`.
pub async fn change_password(accounts: web::Data<Accounts>, caller: Caller, Body(body): Body<PasswordBody>) -> Answer {
    let (current, new) = body.validate()?;
    let signed_in = accounts.change_password(&caller, current, new).await?;
    Ok(HttpResponse::Ok().json(SignedInBody::from(&signed_in)))
}

/// `DELETE /users/me`.
pub async fn delete(accounts: web::Data<Accounts>, caller: Caller, Body(body): Body<DeleteAccountBody>) -> Answer {
    accounts.delete(&caller, body.validate()?).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// `GET /audit`.
pub async fn audit(accounts: web::Data<Accounts>, caller: Caller, request: HttpRequest, paging: Paging) -> Answer {
    let page = accounts.audit(&caller, paging.audit_filter()?, paging.after(List::Audit)?, paging.limit).await?;
    Ok(pages::answer(&request, List::Audit, &page, |row| row.id, AuditBody::from))
}
