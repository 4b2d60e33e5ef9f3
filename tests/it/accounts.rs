//! Accounts and tokens.

use crate::server::{Server, problem};
use serde_json::json;

#[tokio::test]
async fn an_account_from_registration_to_logout() {
    let server = Server::start().await;
    let ann = server.account("ann").await;
    let (status, me) = server.get("/users/me", Some(&ann)).await;
    assert_eq!((status.as_u16(), &me["id"], &me["is_creator"]), (200, &json!(ann.id), &json!(false)));
    assert!(me.get("password_hash").is_none());

    let login = json!({"email": format!("  {} ", ann.email.to_uppercase()), "password": "correct horse"});
    let (status, session) = server.post("/auth/login", None, login).await;
    assert_eq!(status, 200, "{session}");
    let refresh = json!({"refresh_token": session["refresh_token"]});
    let (status, next) = server.post("/auth/refresh", None, refresh.clone()).await;
    assert_eq!(status, 200, "{next}");
    assert_ne!(next["refresh_token"], session["refresh_token"], "refresh tokens rotate");

    let (status, _) = server.post("/auth/logout", None, json!({"refresh_token": next["refresh_token"]})).await;
    assert_eq!(status, 204);
    let after = server.post("/auth/refresh", None, json!({"refresh_token": next["refresh_token"]})).await;
    problem(after, 401, "refresh_token_invalid");
}

#[tokio::test]
async fn wrong_credentials_tell_nothing() {
    let server = Server::start().await;
    let ann = server.account("ann").await;
    let wrong = problem(
        server.post("/auth/login", None, json!({"email": ann.email, "password": "wrong horse"})).await,
        401,
        "invalid_credentials",
    );
    let unknown = problem(
        server.post("/auth/login", None, json!({"email": "nobody@example.com", "password": "wrong horse"})).await,
        401,
        "invalid_credentials",
    );
    assert_eq!(wrong["detail"], unknown["detail"]);
    let again = json!({"email": ann.email, "password": "correct horse", "display_name": "x"});
    problem(server.post("/auth/register", None, again).await, 409, "email_taken");
}

#[tokio::test]
async fn every_bad_field_is_named_at_once() {
    let server = Server::start().await;
    let body = json!({"email": "nope", "password": "short", "display_name": ""});
    let found = problem(server.post("/auth/register", None, body).await, 400, "validation_failed");
    let pointers: Vec<&str> =
        found["errors"].as_array().expect("errors").iter().filter_map(|error| error["pointer"].as_str()).collect();
    assert_eq!(pointers, ["/email", "/password", "/display_name"]);
    let unknown = json!({"email": "a@example.com", "password": "long enough", "display_name": "a", "admin": true});
    let (status, _) = server.post("/auth/register", None, unknown).await;
    assert_eq!(status, 400, "unknown fields are refused");
}

#[tokio::test]
async fn tokens_that_are_no_tokens() {
    let server = Server::start().await;
    problem(server.get("/users/me", None).await, 401, "unauthenticated");
    let mut ann = server.account("ann").await;
    for token in ["", "x", "a.b.c", &ann.token.clone()[..ann.token.len() - 2], &ann.refresh.clone()] {
        ann.token = token.to_owned();
        problem(server.get("/users/me", Some(&ann)).await, 401, "unauthenticated");
    }
    let response = server.http.get(server.url("/users/me")).send().await.expect("an answer");
    assert!(response.headers().contains_key("www-authenticate"));
}
