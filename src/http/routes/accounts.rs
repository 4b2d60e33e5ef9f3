//! `/auth/…` and `/users/me`.

use super::{Answer, created};
use crate::http::auth::Caller;
use crate::http::dto::accounts::{LoginBody, RefreshBody, RegisterBody, SignedInBody, UserBody};
use crate::http::json::Body;
use crate::service::accounts::Accounts;
use actix_web::{HttpResponse, web};

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
pub async fn me(accounts: web::Data<Accounts>, Caller(caller): Caller) -> Answer {
    let account = accounts.me(caller).await?;
    Ok(HttpResponse::Ok().json(UserBody::from(&account)))
}
