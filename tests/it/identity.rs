//! Addresses, passwords and names that look alike.

use crate::server::{Server, problem};
use reqwest::Method;
use serde_json::{Value, json};

/// The pointers of a problem's errors.
fn pointers(problem: &Value) -> Vec<&str> {
    let errors = problem["errors"].as_array().expect("errors");
    errors.iter().filter_map(|error| error["pointer"].as_str()).collect()
}

#[tokio::test]
async fn twins_of_an_address_are_taken_and_whoever_types_another_form_signs_in() {
    let server = Server::start().await;
    let register = async |email: &str, password: &str| {
        let body = json!({"email": email, "password": password, "display_name": "x"});
        server.post("/auth/register", None, body).await
    };
    let (status, session) = register("Zoe\u{308}@M\u{dc}NCHEN.de", "caf\u{e9} caf\u{e9}").await;
    assert_eq!((status.as_u16(), &session["user"]["email"]), (201, &json!("zo\u{eb}@m\u{fc}nchen.de")));
    for twin in ["zo\u{eb}@xn--mnchen-3ya.de", "ZO\u{cb}@mu\u{308}nchen.de", "zo\u{eb}@m\u{fc}nchen\u{3002}de"] {
        problem(register(twin, "correct horse").await, 409, "email_taken");
        let body = json!({"email": twin, "password": "cafe\u{301} cafe\u{301}"});
        let (status, again) = server.post("/auth/login", None, body).await;
        assert_eq!((status.as_u16(), &again["user"]["id"]), (200, &session["user"]["id"]), "{twin}");
    }
    for mixed in ["\u{430}dmin@example.com", "admin@ex\u{430}mple.com", "a\u{200b}dmin@example.com"] {
        let refused = problem(register(mixed, "correct horse").await, 400, "validation_failed");
        assert_eq!(pointers(&refused), ["/email"], "{mixed}");
    }
}

#[tokio::test]
async fn a_password_that_is_common_or_about_the_account_is_refused() {
    let server = Server::start().await;
    for easy in ["password", "12345678", "qwertyuiop", "ann.lee@example.com", "Ann Lee!"] {
        let body = json!({"email": "ann.lee@example.com", "password": easy, "display_name": "Ann Lee"});
        let refused = problem(server.post("/auth/register", None, body).await, 400, "validation_failed");
        assert_eq!(pointers(&refused), ["/password"], "{easy}");
    }
    let ann = server.account("ann").await;
    let change = json!({"current_password": "correct horse", "new_password": ann.email});
    let refused = problem(server.post("/users/me/password", Some(&ann), change).await, 400, "validation_failed");
    assert_eq!(pointers(&refused), ["/new_password"]);
}

#[tokio::test]
async fn no_text_that_others_see_has_invisible_or_turning_characters() {
    let server = Server::start().await;
    let (maker, product) = server.creator("maker").await;
    let ann = server.account("ann").await;
    for bad in ["a\u{202e}gnp.exe", "\u{200b}", "a\u{ad}b", "\u{2066}x\u{2069}", "\u{3164}"] {
        let price = json!({"amount": 1, "currency": "USD"});
        let calls = [
            (
                Method::POST,
                "/auth/register".to_owned(),
                json!({"email": "x@example.com", "password": "correct horse", "display_name": bad}),
                vec!["/display_name"],
            ),
            (Method::PATCH, "/users/me".to_owned(), json!({"display_name": bad}), vec!["/display_name"]),
            (
                Method::POST,
                "/creators".to_owned(),
                json!({"handle": bad, "display_name": bad, "bio": bad}),
                vec!["/handle", "/display_name", "/bio"],
            ),
            (
                Method::PATCH,
                format!("/creators/{}", maker.id),
                json!({"display_name": bad, "bio": bad}),
                vec!["/display_name", "/bio"],
            ),
            (
                Method::POST,
                "/products".to_owned(),
                json!({"name": bad, "description": bad, "price": price, "variants": [{"name": bad}],
                       "images": [{"url": "https://example.com/a.jpg", "alt": bad}], "attributes": {"k": bad}}),
                vec!["/name", "/description", "/images/0/alt", "/attributes/k", "/variants/0/name"],
            ),
            (Method::PATCH, format!("/products/{product}"), json!({"name": bad}), vec!["/name"]),
            (
                Method::POST,
                "/drops".to_owned(),
                json!({"product_id": product, "title": bad, "stock": 1}),
                vec!["/title"],
            ),
        ];
        for (method, path, body, expected) in calls {
            let who = if path == "/users/me" { &ann } else { &maker };
            let refused = problem(server.call(method, &path, Some(who), Some(body)).await, 400, "validation_failed");
            let mut found = pointers(&refused);
            found.sort_unstable();
            let mut expected = expected;
            expected.sort_unstable();
            assert_eq!(found, expected, "{path} {bad:?}");
        }
    }
    let (status, me) = server
        .call(Method::PATCH, "/users/me", Some(&ann), Some(json!({"display_name": "👩\u{200d}🎤 Anne\u{301}"})))
        .await;
    assert_eq!((status.as_u16(), &me["display_name"]), (200, &json!("👩\u{200d}🎤 Ann\u{e9}")));
}
