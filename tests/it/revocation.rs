//! Revoked access tokens and sessions: no right of a login outlives it.

use crate::listener::Listener;
use crate::server::{Account, Server, answer, livedrop, problem};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::io::Write;
use std::process::Stdio;

const REVOKED: u16 = 4403;

async fn delete(server: &Server, who: &Account) -> (StatusCode, Value) {
    server.call(Method::DELETE, "/users/me", Some(who), Some(json!({"password": "correct horse"}))).await
}

async fn ticket(server: &Server, who: &Account) -> String {
    let (status, body) = server.call(Method::POST, "/notifications/ticket", Some(who), None).await;
    assert_eq!(status, 201, "{body}");
    body["ticket"].as_str().expect("a ticket").to_owned()
}

/// Another login of the same account.
async fn login(server: &Server, who: &Account) -> Account {
    let (status, answer) =
        server.post("/auth/login", None, json!({"email": who.email, "password": "correct horse"})).await;
    assert_eq!(status, 200, "{answer}");
    let text = |name: &str| answer[name].as_str().expect(name).to_owned();
    Account { token: text("access_token"), refresh: text("refresh_token"), ..who.clone() }
}

/// Asserts that everything a token opens is closed.
async fn is_revoked(server: &Server, who: &Account, ticket: &str) {
    problem(server.get("/users/me", Some(who)).await, 401, "token_revoked");
    problem(server.get("/users/me/orders", Some(who)).await, 401, "token_revoked");
    problem(server.call(Method::POST, "/notifications/ticket", Some(who), None).await, 401, "token_revoked");
    let stream = server.http.get(server.url(&format!("/notifications/stream?ticket={ticket}"))).send().await;
    problem(answer(stream.expect("an answer")).await, 401, "token_revoked");
    let mut late = Listener::connect(server).await;
    late.send(json!({"op": "auth", "token": who.token})).await;
    assert_eq!(late.until("error").await["code"], "token_revoked");
    assert_eq!(late.close_code().await, 4401);
}

#[tokio::test]
async fn a_deleted_account_does_nothing_any_more() {
    let server = Server::start().await;
    let (maker, drop) = server.live_drop(5, json!({"hold_seconds": 600})).await;
    let (ann, bob) = (server.account("ann").await, server.account("bob").await);
    let body = json!({"drop_id": drop, "quantity": 2});
    let (status, held) = server.order(&ann, "1", &body).await;
    assert_eq!(status, 201, "{held}");
    let bought = json!({"drop_id": drop, "quantity": 1, "payment_method": "pm_sandbox_ok"});
    assert_eq!(server.order(&ann, "2", &bought).await.0, 201);
    assert_eq!(server.order(&bob, "1", &json!({"drop_id": drop, "quantity": 1})).await.0, 201);
    let (mut listening, waiting) = (Listener::of(&server, &ann).await, ticket(&server, &ann).await);
    let mut others = Listener::of(&server, &bob).await;
    assert_eq!(server.stock(&drop).await, (1, 3, 1));

    assert_eq!(delete(&server, &ann).await.0, 204);
    assert_eq!(server.stock(&drop).await, (3, 1, 1), "its holds are free again, others' are not");
    assert_eq!(listening.close_code().await, REVOKED);
    is_revoked(&server, &ann, &waiting).await;
    problem(server.order(&ann, "3", &bought).await, 401, "token_revoked");
    let pay = format!("/orders/{}/pay", held["id"].as_str().expect("an id"));
    let method = json!({"payment_method": "pm_sandbox_ok"});
    problem(server.post(&pay, Some(&ann), method).await, 401, "token_revoked");
    let profile = json!({"handle": "ann_again", "display_name": "Ann"});
    problem(server.post("/creators", Some(&ann), profile).await, 401, "token_revoked");
    let refresh = json!({"refresh_token": ann.refresh});
    problem(server.post("/auth/refresh", None, refresh).await, 401, "refresh_token_invalid");
    others.send(json!({"op": "ping"})).await;
    others.until("pong").await;
    assert_eq!(server.get("/users/me", Some(&maker)).await.0, 200, "others go on");
}

#[tokio::test]
async fn a_new_password_and_a_log_out_everywhere_end_every_token_and_session() {
    let server = Server::start().await;
    let ann = server.account("ann").await;
    let (other, waiting) = (login(&server, &ann).await, ticket(&server, &ann).await);
    let mut listening = [Listener::of(&server, &ann).await, Listener::of(&server, &other).await];
    let change = json!({"current_password": "correct horse", "new_password": "battery staple"});
    let (status, session) = server.post("/users/me/password", Some(&ann), change).await;
    assert_eq!(status, 200, "{session}");
    for listener in &mut listening {
        assert_eq!(listener.close_code().await, REVOKED);
    }
    is_revoked(&server, &ann, &waiting).await;
    problem(server.get("/users/me", Some(&other)).await, 401, "token_revoked");
    let new = Account { token: session["access_token"].as_str().expect("a token").to_owned(), ..ann.clone() };
    assert_eq!(server.get("/users/me", Some(&new)).await.0, 200);

    let (mut listening, waiting) = (Listener::of(&server, &new).await, ticket(&server, &new).await);
    let (status, _) = server.call(Method::POST, "/auth/logout-everywhere", Some(&new), None).await;
    assert_eq!(status, 204);
    assert_eq!(listening.close_code().await, REVOKED);
    is_revoked(&server, &new, &waiting).await;
    let again = json!({"email": ann.email, "password": "battery staple"});
    assert_eq!(server.post("/auth/login", None, again).await.0, 200);
}

#[tokio::test]
async fn a_log_out_ends_its_own_login_alone() {
    let server = Server::start().await;
    let ann = server.account("ann").await;
    let (other, waiting) = (login(&server, &ann).await, ticket(&server, &ann).await);
    let (mut mine, mut others) = (Listener::of(&server, &ann).await, Listener::of(&server, &other).await);
    let (status, _) = server.post("/auth/logout", None, json!({"refresh_token": ann.refresh})).await;
    assert_eq!(status, 204);
    assert_eq!(mine.close_code().await, REVOKED);
    is_revoked(&server, &ann, &waiting).await;
    others.send(json!({"op": "ping"})).await;
    others.until("pong").await;
    assert_eq!(server.get("/users/me", Some(&other)).await.0, 200);
}

#[tokio::test]
async fn a_restart_knows_who_was_signed_out() {
    let mut server = Server::start().await;
    let (ann, bob, eve) = (server.account("ann").await, server.account("bob").await, server.account("eve").await);
    let other = login(&server, &bob).await;
    assert_eq!(delete(&server, &ann).await.0, 204);
    assert_eq!(server.post("/auth/logout", None, json!({"refresh_token": bob.refresh})).await.0, 204);
    server.kill();
    server.restart();
    for gone in [&ann, &bob] {
        problem(server.get("/users/me", Some(gone)).await, 401, "token_revoked");
    }
    for good in [&other, &eve] {
        assert_eq!(server.get("/users/me", Some(good)).await.0, 200);
    }
}

/// It runs in another process, which reaches this one only through the database.
#[tokio::test]
async fn an_operators_command_ends_the_logins_of_whom_it_promotes() {
    let server = Server::start().await;
    let mut eve = server.account("eve").await;
    eve.email = "root@example.com".to_owned();
    let squatting = json!({"email": eve.email, "password": "correct horse", "display_name": "root"});
    let (_, session) = server.post("/auth/register", None, squatting).await;
    eve.token = session["access_token"].as_str().expect("a token").to_owned();
    let mut listening = Listener::of(&server, &eve).await;
    let mut command = livedrop();
    command.args(["admin", "create", "--promote-existing", "--email", &eve.email, "--data-dir"]).arg(&server.data);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("livedrop to start");
    child.stdin.take().expect("a pipe").write_all(b"a long password").expect("a password is read");
    assert!(child.wait().expect("its end").success());
    assert_eq!(listening.close_code().await, REVOKED);
    problem(server.get("/users/me", Some(&eve)).await, 401, "token_revoked");
}

/// A concurrent deletion and drop: the first one succeeds, and the other fails.
#[tokio::test]
async fn no_drop_is_left_without_its_creator() {
    let server = Server::start().await;
    for round in 0..20 {
        let (maker, product) = server.creator("maker").await;
        let now = json!({"product_id": product, "stock": 1});
        let later = json!({"product_id": product, "stock": 1, "starts_at": "2099-01-01T00:00:00Z"});
        let made = async |body: &Value| server.post("/drops", Some(&maker), body.clone()).await.0 == 201;
        let deleted = async || {
            let (status, body) = delete(&server, &maker).await;
            assert!(status == 204 || body["code"] == "account_has_drops", "{status} {body}");
            status == 204
        };
        // The first request sent is not always the first one answered.
        let (gone, first, second) = match round % 2 {
            0 => tokio::join!(deleted(), made(&now), made(&later)),
            _ => {
                let (first, second, gone) = tokio::join!(made(&now), made(&later), deleted());
                (gone, first, second)
            }
        };
        assert!(gone != (first || second), "deleted {gone}, drops made {first} {second}");
        let (_, drops) = server.get(&format!("/creators/{}/drops", maker.id), None).await;
        assert_eq!(drops["items"].as_array().map(Vec::is_empty), Some(gone), "{drops}");
    }
}

#[tokio::test]
async fn a_creator_is_deleted_as_soon_as_their_drops_are_over() {
    let server = Server::start().await;
    let (maker, drop) = server.live_drop(5, json!({"hold_seconds": 600})).await;
    let (ann, admin) = (server.account("ann").await, server.admin().await);
    // A buyer still holds a unit of it.
    assert_eq!(server.order(&ann, "1", &json!({"drop_id": drop, "quantity": 1})).await.0, 201);
    problem(delete(&server, &maker).await, 409, "account_has_drops");
    assert_eq!(server.call(Method::POST, &format!("/drops/{drop}/end"), Some(&maker), None).await.0, 200);
    assert_eq!(delete(&server, &maker).await.0, 204);

    let (_, sold) = server.get(&format!("/drops/{drop}"), None).await;
    let product = format!("/products/{}", sold["product_id"].as_str().expect("an id"));
    assert_eq!(server.get(&product, None).await.1["status"], "archived");
    // A product without an owner cannot be restored.
    let restored = server.call(Method::POST, &format!("{product}/restore"), Some(&admin), None).await;
    problem(restored, 404, "user_not_found");
    let change = json!({"bio": "back"});
    let path = format!("/creators/{}", maker.id);
    problem(server.call(Method::PATCH, &path, Some(&admin), Some(change)).await, 404, "user_not_found");
    problem(server.call(Method::POST, &format!("{path}/follow"), Some(&ann), None).await, 404, "creator_not_found");
    let body = json!({"product_id": sold["product_id"], "stock": 1});
    problem(server.post("/drops", Some(&admin), body).await, 409, "product_archived");
    assert_eq!(server.get(&path, None).await.1["display_name"], "deleted");
}
