//! Accounts and tokens.

use crate::admin::create_admin;
use crate::server::{Account, Server, problem};
use reqwest::Method;
use serde_json::{Value, json};

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

#[tokio::test]
async fn an_account_is_changed_moved_to_another_password_and_deleted() {
    let server = Server::start().await;
    let (mut ann, bob) = (server.account("ann").await, server.account("bob").await);
    let patch = async |who: &Account, body: Value| server.call(Method::PATCH, "/users/me", Some(who), Some(body)).await;
    let (status, me) = patch(&ann, json!({"display_name": "Änn", "private_follows": false})).await;
    assert_eq!((status.as_u16(), &me["display_name"], &me["private_follows"]), (200, &json!("Änn"), &json!(false)));
    assert_eq!(patch(&ann, json!({})).await.1, me, "nothing asked, nothing changed");
    problem(patch(&ann, json!({"display_name": "", "role": "admin"})).await, 400, "validation_failed");

    let change = json!({"current_password": "wrong horse", "new_password": "battery staple"});
    problem(server.post("/users/me/password", Some(&ann), change).await, 403, "wrong_password");
    let change = json!({"current_password": "correct horse", "new_password": "battery staple"});
    let (status, session) = server.post("/users/me/password", Some(&ann), change).await;
    assert_eq!(status, 200, "{session}");
    ann.token = session["access_token"].as_str().expect("a token").to_owned();
    let refresh = async |token: &Value| server.post("/auth/refresh", None, json!({"refresh_token": token})).await;
    problem(refresh(&json!(ann.refresh)).await, 401, "refresh_token_invalid");
    let (status, session) = refresh(&session["refresh_token"]).await;
    assert_eq!(status, 200, "the login that changed it goes on");
    let (status, _) = server.call(Method::POST, "/auth/logout-everywhere", Some(&ann), None).await;
    assert_eq!(status, 204);
    problem(refresh(&session["refresh_token"]).await, 401, "refresh_token_invalid");
    let login = json!({"email": ann.email, "password": "battery staple"});
    let (_, session) = server.post("/auth/login", None, login.clone()).await;
    ann.token = session["access_token"].as_str().expect("a token").to_owned();

    let (maker, drop) = server.live_drop(1, json!({})).await;
    let delete = async |who: &Account, password: &str| {
        server.call(Method::DELETE, "/users/me", Some(who), Some(json!({"password": password}))).await
    };
    problem(delete(&maker, "correct horse").await, 409, "account_has_drops");
    server.call(Method::POST, &format!("/drops/{drop}/end"), Some(&maker), None).await;
    problem(delete(&ann, "correct horse").await, 403, "wrong_password");
    assert_eq!(delete(&ann, "battery staple").await.0, 204);
    problem(server.get("/users/me", Some(&ann)).await, 401, "token_revoked");
    problem(server.post("/auth/login", None, login).await, 401, "invalid_credentials");
    ann.token = bob.token.clone();
    assert_eq!(server.get("/users/me", Some(&ann)).await.0, 200, "others are left alone");
}

#[tokio::test]
async fn follows_are_private_until_their_owner_says_otherwise() {
    let server = Server::start().await;
    let (maker, _) = server.creator("maker").await;
    let (ann, eve) = (server.account("ann").await, server.account("eve").await);
    server.call(Method::POST, &format!("/creators/{}/follow", maker.id), Some(&ann), None).await;
    let list = format!("/users/{}/following", ann.id);
    let one = format!("/users/{}/follows/{}", ann.id, maker.id);
    for path in [&list, &one] {
        problem(server.get(path, Some(&eve)).await, 403, "forbidden");
        problem(server.get(path, None).await, 401, "unauthenticated");
        assert_eq!(server.get(path, Some(&ann)).await.0, 200);
    }
    server.call(Method::PATCH, "/users/me", Some(&ann), Some(json!({"private_follows": false}))).await;
    assert_eq!(server.get(&list, Some(&eve)).await.1["items"], json!([{"creator_id": maker.id}]));
    assert_eq!(server.get(&one, Some(&eve)).await.1["following"], true);
    let nobody = "/users/018f0000-0000-7000-8000-000000000000/following";
    problem(server.get(nobody, Some(&eve)).await, 404, "user_not_found");
}

#[tokio::test]
async fn an_operator_makes_the_first_admin_who_reads_what_was_done() {
    let server = Server::start().await;
    let ann = server.account("ann").await;
    server.call(Method::PATCH, "/users/me", Some(&ann), Some(json!({"display_name": "Ann"}))).await;
    let made = create_admin(&server, &["--email", "root@example.com"], "a long password\n");
    assert_eq!(made.status.code(), Some(0));
    let login = json!({"email": "root@example.com", "password": "a long password"});
    let (_, session) = server.post("/auth/login", None, login).await;
    assert_eq!(session["user"]["role"], "admin", "{session}");
    let root = Account { token: session["access_token"].as_str().expect("a token").to_owned(), ..ann.clone() };

    problem(server.get("/audit", Some(&ann)).await, 403, "forbidden");
    problem(server.get("/audit", None).await, 401, "unauthenticated");
    let (status, trail) = server.get("/audit?limit=1", Some(&root)).await;
    assert_eq!((status.as_u16(), &trail["items"][0]["act"]), (200, &json!("admin_made")), "{trail}");
    assert_eq!((&trail["items"][0]["role"], &trail["items"][0]["actor_id"]), (&json!("operator"), &Value::Null));
    let next = trail["next_cursor"].as_str().expect("more");
    let (_, trail) = server.get(&format!("/audit?cursor={next}"), Some(&root)).await;
    let line = &trail["items"][0];
    assert_eq!(
        (&line["act"], &line["actor_id"], &line["object_id"]),
        (&json!("account_changed"), &json!(ann.id), &json!(ann.id))
    );
    assert_eq!((&line["origin"], &line["detail"]), (&json!("127.0.0.1"), &json!({"fields": ["display_name"]})));
    let (_, none) = server.get("/audit?object_id=018f0000-0000-7000-8000-000000000000", Some(&root)).await;
    assert_eq!(none["items"], json!([]));
    problem(server.get("/audit?actor_id=x", Some(&root)).await, 400, "validation_failed");
    let (status, _) = server.get(&format!("/users/{}/following", ann.id), Some(&root)).await;
    assert_eq!(status, 200, "an admin may see what a user keeps from others");
}

#[tokio::test]
async fn failed_logins_are_counted_and_in_the_audit_trail_without_what_was_typed() {
    let mut server = Server::start().await;
    let (root, ann) = (server.admin().await, server.account("ann").await);
    for email in [ann.email.as_str(), &ann.email, "nobody@example.com"] {
        let login = json!({"email": email, "password": "wrong horse"});
        problem(server.post("/auth/login", None, login).await, 401, "invalid_credentials");
    }
    let delete = json!({"password": "wrong horse"});
    let refused = server.call(Method::DELETE, "/users/me", Some(&ann), Some(delete)).await;
    problem(refused, 403, "wrong_password");
    let text = crate::metrics::text(&server).await;
    assert!(crate::metrics::sample(&text, "livedrop_logins_total{result=\"refused\"}") >= 4.0);
    // Failures that are not written yet are written at shutdown.
    assert_eq!(server.terminate(), Some(0));
    server.restart();
    let (_, trail) = server.get("/audit?limit=10", Some(&root)).await;
    let lines = trail["items"].as_array().expect("lines");
    let found = |act: &str, object: &Value| {
        let of = lines.iter().filter(|line| line["act"] == act && line["object_id"] == *object);
        of.map(|line| line["detail"]["attempts"].as_u64().expect("a number")).sum::<u64>()
    };
    assert_eq!(found("login_refused", &json!(ann.id)), 2, "{trail}");
    assert_eq!(found("password_refused", &json!(ann.id)), 1, "{trail}");
    assert_eq!(found("login_refused", &Value::Null), 1, "{trail}");
    let text = trail.to_string();
    assert!(!text.contains("example.com") && !text.contains("wrong horse"), "{text}");
    let line = lines.iter().find(|line| line["act"] == "login_refused").expect("a line");
    assert_eq!(
        (&line["role"], &line["actor_id"], &line["origin"]),
        (&json!("visitor"), &Value::Null, &json!("127.0.0.1"))
    );
}
