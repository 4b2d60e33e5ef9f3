//! Who may do what: every route, asked by everybody. What is refused names why; `let` is an answer of whatever kind that
//! is not about who asks.

use crate::server::{Account, Server, answer};
use livedrop::domain::UserId;
use livedrop::service::clock::Clock;
use livedrop::service::tokens::{Role, Tokens};
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};

/// A method, a path, a body, and the answers to those who have no valid token, and to each of [`PEOPLE`].
type Row = (&'static str, &'static str, &'static str, &'static str, [&'static str; 5]);

/// A stranger who only has an account; a creator of other drops; the buyer of `{order}`; an admin; the creator of `{drop}`.
const PEOPLE: [&str; 5] = ["stranger", "rival", "buyer", "admin", "maker"];

const NO: &str = "401";
const FORBIDDEN: &str = "403 forbidden";
const NO_ORDER: &str = "404 order_not_found";
const WRONG_PASSWORD: &str = "403 wrong_password";
/// Whoever is signed in.
const ALL: [&str; 5] = ["let"; 5];
/// The creator of the drop, and admins.
const MANAGERS: [&str; 5] = [FORBIDDEN, FORBIDDEN, FORBIDDEN, "let", "let"];
/// The order's buyer alone: for others it is not there.
const BUYER: [&str; 5] = [NO_ORDER, NO_ORDER, "let", NO_ORDER, NO_ORDER];
/// Those who sell, each their own.
const CREATORS: [&str; 5] = ["403 not_a_creator", "let", "403 not_a_creator", "403 not_a_creator", "let"];

#[rustfmt::skip]
const TABLE: &[Row] = &[
    ("GET", "/healthz", "", "let", ALL),
    ("GET", "/readyz", "", "let", ALL),
    ("GET", "/metrics", "", "let", ALL),
    ("GET", "/openapi.json", "", "let", ALL),
    ("GET", "/livedrop.js", "", "let", ALL),
    ("GET", "/livedrop.d.ts", "", "let", ALL),
    ("GET", "/docs", "", "let", ALL),
    ("GET", "/docs/swagger-ui.css", "", "let", ALL),
    ("POST", "/api/v1/auth/register", r#"{"email":"{new}@example.com","password":"correct horse","display_name":"x"}"#, "let", ALL),
    ("POST", "/api/v1/auth/login", r#"{"email":"{buyer_email}","password":"correct horse"}"#, "let", ALL),
    ("POST", "/api/v1/auth/refresh", r#"{"refresh_token":"x"}"#, "401 refresh_token_invalid", ["401 refresh_token_invalid"; 5]),
    ("POST", "/api/v1/auth/logout", r#"{"refresh_token":"x"}"#, "let", ALL),
    ("POST", "/api/v1/auth/logout-everywhere", "", NO, ALL),
    ("GET", "/api/v1/users/me", "", NO, ALL),
    ("PATCH", "/api/v1/users/me", r#"{"display_name":"y"}"#, NO, ALL),
    ("DELETE", "/api/v1/users/me", r#"{"password":"not this one"}"#, NO, [WRONG_PASSWORD; 5]),
    ("POST", "/api/v1/users/me/password", r#"{"current_password":"not this one","new_password":"battery staple"}"#, NO, [WRONG_PASSWORD; 5]),
    ("GET", "/api/v1/users/me/notifications", "", NO, ALL),
    ("POST", "/api/v1/users/me/notifications/acknowledge", r#"{"ids":["8f3a0c1d2e4b5a69-41"]}"#, NO, ALL),
    ("POST", "/api/v1/users/me/notifications/read", r#"{"up_to":"8f3a0c1d2e4b5a69-41"}"#, NO, ALL),
    ("GET", "/api/v1/users/me/feed", "", NO, ALL),
    ("GET", "/api/v1/audit", "", NO, [FORBIDDEN, FORBIDDEN, FORBIDDEN, "let", FORBIDDEN]),
    ("GET", "/api/v1/users/{buyer}/orders", "", NO, [FORBIDDEN, FORBIDDEN, "let", FORBIDDEN, FORBIDDEN]),
    ("GET", "/api/v1/users/{buyer}/following", "", NO, [FORBIDDEN, FORBIDDEN, "let", "let", FORBIDDEN]),
    ("GET", "/api/v1/users/{buyer}/follows/{maker}", "", NO, [FORBIDDEN, FORBIDDEN, "let", "let", FORBIDDEN]),
    ("GET", "/api/v1/creators", "", "let", ALL),
    ("POST", "/api/v1/creators", r#"{"handle":"{taken}","display_name":"x"}"#, NO, ALL),
    ("GET", "/api/v1/creators/{maker}", "", "let", ALL),
    ("PATCH", "/api/v1/creators/{maker}", r#"{"bio":"y"}"#, NO, MANAGERS),
    ("POST", "/api/v1/creators/{maker}/follow", "", NO, ALL),
    ("DELETE", "/api/v1/creators/{maker}/follow", "", NO, ALL),
    ("GET", "/api/v1/creators/{maker}/followers", "", "let", ALL),
    ("GET", "/api/v1/creators/{maker}/products", "", "let", ALL),
    ("GET", "/api/v1/creators/{maker}/drops", "", "let", ALL),
    ("POST", "/api/v1/follows", r#"{"creator_id":"{maker}"}"#, NO, ALL),
    ("GET", "/api/v1/products", "", "let", ALL),
    ("POST", "/api/v1/products", r#"{"name":"x","price":{"amount":1,"currency":"USD"}}"#, NO, CREATORS),
    ("GET", "/api/v1/products/{product}", "", "let", ALL),
    ("PATCH", "/api/v1/products/{product}", r#"{"description":"y"}"#, NO, MANAGERS),
    ("POST", "/api/v1/products/{product}/archive", "", NO, MANAGERS),
    ("POST", "/api/v1/products/{product}/restore", "", NO, MANAGERS),
    ("GET", "/api/v1/drops", "", "let", ALL),
    ("POST", "/api/v1/drops", r#"{"product_id":"{product}","stock":1}"#, NO, MANAGERS),
    ("GET", "/api/v1/drops/{drop}", "", "let", ALL),
    ("GET", "/api/v1/drops/{drop}/stock", "", "let", ALL),
    ("GET", "/api/v1/drops/{drop}/orders", "", NO, MANAGERS),
    ("GET", "/api/v1/drops/{drop}/orders/export", "", NO, MANAGERS),
    ("POST", "/api/v1/drops/{drop}/start", "", NO, MANAGERS),
    ("POST", "/api/v1/drops/{drop}/reschedule", r#"{"ends_at":"2030-01-01T00:00:00Z"}"#, NO, MANAGERS),
    ("POST", "/api/v1/drops/{drop}/restock", r#"{"quantity":1}"#, NO, MANAGERS),
    ("POST", "/api/v1/orders", r#"{"drop_id":"{drop}","quantity":1}"#, NO, ALL),
    ("GET", "/api/v1/orders/{order}", "", NO, BUYER),
    ("GET", "/api/v1/orders/{order}/history", "", NO, [NO_ORDER, NO_ORDER, "let", "let", "let"]),
    ("POST", "/api/v1/orders/{order}/pay", r#"{"payment_method":"pm_sandbox_declined"}"#, NO, BUYER),
    ("POST", "/api/v1/orders/{order}/cancel", "", NO, BUYER),
    ("POST", "/api/v1/orders/{order}/refund", "", NO, [NO_ORDER, NO_ORDER, FORBIDDEN, "let", "let"]),
    ("GET", "/api/v1/notifications", "", "let", ALL),
    ("POST", "/api/v1/notifications/ticket", "", NO, ALL),
    // A stream that is let would not end: these topics are none.
    ("GET", "/api/v1/notifications/stream?topics=none", "", "let", ALL),
    // These end the drop.
    ("POST", "/api/v1/drops/{drop}/end", "", NO, MANAGERS),
    ("POST", "/api/v1/drops/{drop}/cancel", "", NO, MANAGERS),
];

/// A shop with somebody in each part, and what stands for it in the table's paths and bodies.
struct Shop {
    server: Server,
    people: [Account; 5],
    names: Vec<(&'static str, String)>,
}

impl Shop {
    async fn open() -> Self {
        let server = Server::start().await;
        let (maker, drop) = server.live_drop(100, json!({})).await;
        let (rival, _) = server.creator("rival").await;
        let (stranger, buyer) = (server.account("stranger").await, server.account("buyer").await);
        let admin = server.admin().await;
        let (status, order) = server.order(&buyer, "first", &json!({"drop_id": drop, "quantity": 1})).await;
        assert_eq!(status, 201, "{order}");
        let (_, profile) = server.get(&format!("/creators/{}", maker.id), None).await;
        let (_, sold) = server.get(&format!("/drops/{drop}"), None).await;
        let text = |value: &Value| value.as_str().expect("text").to_owned();
        let names = vec![
            ("{drop}", drop),
            ("{order}", text(&order["id"])),
            ("{product}", text(&sold["product_id"])),
            ("{maker}", maker.id.clone()),
            ("{buyer}", buyer.id.clone()),
            ("{buyer_email}", buyer.email.clone()),
            ("{taken}", text(&profile["handle"])),
        ];
        Self { server, people: [stranger, rival, buyer, admin, maker], names }
    }

    fn filled_in(&self, text: &str) -> String {
        static NEW: AtomicU64 = AtomicU64::new(0);
        let text = text.replace("{new}", &format!("new{}", NEW.fetch_add(1, Ordering::Relaxed)));
        self.names.iter().fold(text, |text, (name, value)| text.replace(name, value))
    }

    /// Status and, where it is a problem, its code.
    async fn ask(&self, method: &str, path: &str, body: &str, token: Option<&str>) -> (u16, String) {
        let method: Method = method.parse().expect("a method");
        let request = self.server.http.request(method, format!("{}{}", self.server.base, self.filled_in(path)));
        let mut request = request.header("idempotency-key", "matrix");
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        if !body.is_empty() {
            request = request.header("content-type", "application/json").body(self.filled_in(body));
        }
        let (status, body) = answer(request.send().await.expect("an answer")).await;
        (status.as_u16(), body["code"].as_str().unwrap_or_default().to_owned())
    }

    /// Tokens that are no use: none, made up, of another server, not signed, and once good.
    fn useless(&self) -> Vec<(&'static str, Option<String>)> {
        let user: UserId = self.people[2].id.parse().expect("an id");
        let secret = fs::read(self.server.data.join("secret.key")).expect("the server's secret");
        let good = &self.people[2].token;
        let mut parts = good.split('.');
        let (_, claims) = (parts.next(), parts.next().expect("claims"));
        let past = Clock::default();
        past.shift(-1_000_000);
        vec![
            ("nobody", None),
            ("garbage", Some("not.a.token".to_owned())),
            ("forged", Some(Tokens::new(&[7; 32], 900, Clock::default()).issue(user, Role::Admin))),
            // {"alg":"none","typ":"JWT"}
            ("unsigned", Some(format!("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{claims}."))),
            ("expired", Some(Tokens::new(&secret, 900, past).issue(user, Role::Admin))),
        ]
    }
}

/// What does not fit, in words.
fn wrong(who: &str, row: &Row, expected: &str, (status, code): &(u16, String)) -> Option<String> {
    let got = format!("{status} {code}");
    let fits = match expected {
        "let" => !matches!(status, 401 | 403 | 404 | 405 | 500..) && code != "malformed_json",
        NO => *status == 401 && matches!(code.as_str(), "unauthenticated" | "token_expired"),
        exact => got == exact,
    };
    (!fits).then(|| format!("{} {} as {who}: {got}, not {expected}", row.0, row.1))
}

#[tokio::test]
async fn every_route_asks_who_is_there() {
    let shop = Shop::open().await;
    let mut found = Vec::new();
    for (who, token) in shop.useless() {
        for row in TABLE {
            let (method, path, body, expected, _) = *row;
            // A WebSocket may be opened by nobody, but not by somebody who says who they are and is not.
            let expected =
                if method == "GET" && path.contains("/notifications") && token.is_some() { NO } else { expected };
            let got = shop.ask(method, path, body, token.as_deref()).await;
            found.extend(wrong(who, row, expected, &got));
            if who == "expired" && expected == NO && got.1 != "token_expired" {
                found.push(format!("{method} {path}: an expired token should say so"));
            }
            if method == "GET" {
                let head = shop.ask("HEAD", path, body, token.as_deref()).await;
                found.extend((head.0 != got.0).then(|| format!("HEAD {path} as {who}: {}, not {}", head.0, got.0)));
            }
            // Who asks is looked at before what they send.
            if expected == NO && !body.is_empty() {
                found.extend(wrong(who, row, NO, &shop.ask(method, path, "{", token.as_deref()).await));
            }
        }
    }
    for (column, person) in PEOPLE.iter().enumerate() {
        for row in TABLE {
            let got = shop.ask(row.0, row.1, row.2, Some(&shop.people[column].token)).await;
            found.extend(wrong(person, row, row.4[column], &got));
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

fn nameless(path: &str) -> String {
    // A file of the page is no parameter in the table.
    let part =
        |part: &str| if part.starts_with('{') || part == "swagger-ui.css" { "{}".to_owned() } else { part.to_owned() };
    path.split('?').next().unwrap_or_default().split('/').map(part).collect::<Vec<_>>().join("/")
}

#[test]
fn no_route_is_forgotten() {
    let routes = livedrop::http::routes();
    let each = routes.iter().flat_map(|(path, methods)| methods.split(", ").map(move |method| (method, path)));
    // HEAD is a GET without its body.
    let each = each.filter(|(method, _)| *method != "HEAD");
    let registered: BTreeSet<_> = each.map(|(method, path)| (method.to_owned(), nameless(path))).collect();
    let listed: Vec<_> = TABLE.iter().map(|row| (row.0.to_owned(), nameless(row.1))).collect();
    let unique: BTreeSet<_> = listed.iter().cloned().collect();
    assert_eq!(listed.len(), unique.len(), "a row is there twice");
    assert_eq!(registered, unique, "left: what is registered; right: what the table asks");
}
