//! Authorization: every route, called by every kind of caller. A refusal has its code; `let` is any answer that does
//! not depend on the caller.

use crate::server::{Account, Server, answer};
use livedrop::domain::{Login, UserId};
use livedrop::http::declared::{Declaration, Who};
use livedrop::service::clock::Clock;
use livedrop::service::tokens::{Role, Tokens};
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};

/// A method, a path and a body for each route.
type Row = (&'static str, &'static str, &'static str);

/// A user with only an account; a creator of other drops; the buyer of `{order}`; an admin; the creator of `{drop}`.
const PEOPLE: [&str; 5] = ["stranger", "rival", "buyer", "admin", "maker"];

const NO: &str = "401";
const FORBIDDEN: &str = "403 forbidden";
const NO_ADDRESS: &str = "404 address_not_found";
const NO_ORDER: &str = "404 order_not_found";

/// The expected answers without a valid token, and for each of [`PEOPLE`].
fn answers(who: Who) -> (&'static str, [&'static str; 5]) {
    match who {
        Who::Anybody => ("let", ["let"; 5]),
        Who::RefreshToken => ("401 refresh_token_invalid", ["401 refresh_token_invalid"; 5]),
        Who::User => (NO, ["let"; 5]),
        Who::Password => (NO, ["403 wrong_password"; 5]),
        Who::Creator => (NO, ["403 not_a_creator", "let", "403 not_a_creator", "403 not_a_creator", "let"]),
        Who::Manager => (NO, [FORBIDDEN, FORBIDDEN, FORBIDDEN, "let", "let"]),
        Who::Owner => (NO, [FORBIDDEN, FORBIDDEN, "let", FORBIDDEN, FORBIDDEN]),
        Who::OwnerOrAdmin => (NO, [FORBIDDEN, FORBIDDEN, "let", "let", FORBIDDEN]),
        Who::Buyer => (NO, [NO_ORDER, NO_ORDER, "let", NO_ORDER, NO_ORDER]),
        Who::Party => (NO, [NO_ORDER, NO_ORDER, "let", "let", "let"]),
        Who::Seller => (NO, [NO_ORDER, NO_ORDER, FORBIDDEN, "let", "let"]),
        Who::Addressee => (NO, [NO_ADDRESS, NO_ADDRESS, "let", NO_ADDRESS, NO_ADDRESS]),
        Who::Admin => (NO, [FORBIDDEN, FORBIDDEN, FORBIDDEN, "let", FORBIDDEN]),
    }
}

#[rustfmt::skip]
const TABLE: &[Row] = &[
    ("GET", "/healthz", ""),
    ("GET", "/readyz", ""),
    ("GET", "/metrics", ""),
    ("GET", "/openapi.json", ""),
    ("GET", "/livedrop.js", ""),
    ("GET", "/livedrop.d.ts", ""),
    ("GET", "/docs", ""),
    ("GET", "/docs/swagger-ui.css", ""),
    ("POST", "/webhooks/stripe", "{}"),
    ("POST", "/api/v1/auth/register", r#"{"email":"{new}@example.com","password":"correct horse","display_name":"x"}"#),
    ("POST", "/api/v1/auth/login", r#"{"email":"{buyer_email}","password":"correct horse"}"#),
    ("POST", "/api/v1/auth/refresh", r#"{"refresh_token":"x"}"#),
    ("POST", "/api/v1/auth/logout", r#"{"refresh_token":"x"}"#),
    ("GET", "/api/v1/users/me", ""),
    ("PATCH", "/api/v1/users/me", r#"{"display_name":"y"}"#),
    ("DELETE", "/api/v1/users/me", r#"{"password":"not this one"}"#),
    ("POST", "/api/v1/users/me/password", r#"{"current_password":"not this one","new_password":"battery staple"}"#),
    ("GET", "/api/v1/users/me/addresses", ""),
    ("POST", "/api/v1/users/me/addresses", r#"{"name":"x","line1":"y","city":"z","country":"IE"}"#),
    ("GET", "/api/v1/users/me/addresses/{address}", ""),
    ("PATCH", "/api/v1/users/me/addresses/{address}", r#"{"line2":"y"}"#),
    ("DELETE", "/api/v1/users/me/addresses/{address}", ""),
    ("GET", "/api/v1/users/me/notifications", ""),
    ("POST", "/api/v1/users/me/notifications/acknowledge", r#"{"ids":["8f3a0c1d2e4b5a69-41"]}"#),
    ("POST", "/api/v1/users/me/notifications/read", r#"{"up_to":"8f3a0c1d2e4b5a69-41"}"#),
    ("GET", "/api/v1/users/me/feed", ""),
    ("GET", "/api/v1/audit", ""),
    ("GET", "/api/v1/users/{buyer}/orders", ""),
    ("GET", "/api/v1/users/{buyer}/following", ""),
    ("GET", "/api/v1/users/{buyer}/follows/{maker}", ""),
    ("GET", "/api/v1/creators", ""),
    ("POST", "/api/v1/creators", r#"{"handle":"{taken}","display_name":"x"}"#),
    ("GET", "/api/v1/creators/{maker}", ""),
    ("PATCH", "/api/v1/creators/{maker}", r#"{"bio":"y"}"#),
    ("POST", "/api/v1/creators/{maker}/follow", ""),
    ("DELETE", "/api/v1/creators/{maker}/follow", ""),
    ("GET", "/api/v1/creators/{maker}/followers", ""),
    ("GET", "/api/v1/creators/{maker}/products", ""),
    ("GET", "/api/v1/creators/{maker}/drops", ""),
    ("POST", "/api/v1/follows", r#"{"creator_id":"{maker}"}"#),
    ("GET", "/api/v1/products", ""),
    ("POST", "/api/v1/products", r#"{"name":"x","price":{"amount":1,"currency":"USD"}}"#),
    ("GET", "/api/v1/products/{product}", ""),
    ("PATCH", "/api/v1/products/{product}", r#"{"description":"y"}"#),
    ("POST", "/api/v1/products/{product}/archive", ""),
    ("POST", "/api/v1/products/{product}/restore", ""),
    ("GET", "/api/v1/drops", ""),
    ("POST", "/api/v1/drops", r#"{"product_id":"{product}","stock":1}"#),
    ("GET", "/api/v1/drops/{drop}", ""),
    ("GET", "/api/v1/drops/{drop}/stock", ""),
    ("GET", "/api/v1/drops/{drop}/orders", ""),
    ("GET", "/api/v1/drops/{drop}/orders/export", ""),
    ("POST", "/api/v1/drops/{drop}/start", ""),
    ("POST", "/api/v1/drops/{drop}/reschedule", r#"{"ends_at":"2030-01-01T00:00:00Z"}"#),
    ("POST", "/api/v1/drops/{drop}/restock", r#"{"quantity":1}"#),
    ("POST", "/api/v1/orders", r#"{"drop_id":"{drop}","quantity":1}"#),
    ("GET", "/api/v1/orders", ""),
    ("GET", "/api/v1/orders/{order}", ""),
    ("GET", "/api/v1/orders/{order}/history", ""),
    ("GET", "/api/v1/orders/{order}/payments", ""),
    ("POST", "/api/v1/orders/{order}/pay", r#"{"payment_method":"pm_sandbox_declined"}"#),
    ("GET", "/api/v1/orders/{order}/address", ""),
    ("POST", "/api/v1/orders/{order}/cancel", ""),
    ("POST", "/api/v1/orders/{order}/refund", ""),
    ("GET", "/api/v1/drops/{drop}/refund-requests", ""),
    ("GET", "/api/v1/orders/{order}/refund-requests", ""),
    ("POST", "/api/v1/orders/{order}/refund-requests", r#"{"reason":"x"}"#),
    ("POST", "/api/v1/orders/{order}/refund-requests/answer", r#"{"accept":false}"#),
    ("GET", "/api/v1/notifications", ""),
    ("POST", "/api/v1/notifications/ticket", ""),
    // An allowed stream would not end: these topics are invalid.
    ("GET", "/api/v1/notifications/stream?topics=none", ""),
    // These end the drop.
    ("POST", "/api/v1/drops/{drop}/end", ""),
    ("POST", "/api/v1/drops/{drop}/cancel", ""),
    // And this one ends every token.
    ("POST", "/api/v1/auth/logout-everywhere", ""),
];

/// The declaration of a row's route.
fn declared(row: &Row) -> Declaration {
    let (method, path) = (row.0, nameless(row.1));
    let of = |route: &Declaration| route.method == method && nameless(&route.path) == path;
    livedrop::http::routes().into_iter().find(of).unwrap_or_else(|| panic!("no route {method} {}", row.1))
}

/// A shop with one account of each kind, and the values of the placeholders in paths and bodies.
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
        let home = json!({"name": "x", "line1": "y", "city": "z", "country": "IE"});
        let (status, address) = server.post("/users/me/addresses", Some(&buyer), home).await;
        assert_eq!(status, 201, "{address}");
        let names = vec![
            ("{address}", text(&address["id"])),
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

    /// Status and, for a problem, its code.
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

    /// Invalid tokens: none, made up, of another server, unsigned, and expired.
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
            ("forged", Some(Tokens::new(&[7; 32], 900, Clock::default()).issue(user, Role::Admin, Login::default()))),
            // Decodes to {"alg":"none","typ":"JWT"}.
            ("unsigned", Some(format!("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{claims}."))),
            ("expired", Some(Tokens::new(&secret, 900, past).issue(user, Role::Admin, Login::default()))),
        ]
    }
}

/// The mismatch, in words.
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
            let (method, path, body) = *row;
            let (expected, _) = answers(declared(row).who);
            // A WebSocket may be opened without a token, but not with an invalid one.
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
            // The caller is checked before the body.
            if expected == NO && !body.is_empty() {
                found.extend(wrong(who, row, NO, &shop.ask(method, path, "{", token.as_deref()).await));
            }
        }
    }
    for (column, person) in PEOPLE.iter().enumerate() {
        for row in TABLE {
            let (_, expected) = answers(declared(row).who);
            let got = shop.ask(row.0, row.1, row.2, Some(&shop.people[column].token)).await;
            found.extend(wrong(person, row, expected[column], &got));
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

fn nameless(path: &str) -> String {
    // A file of the page is not a parameter in the table.
    let part =
        |part: &str| if part.starts_with('{') || part == "swagger-ui.css" { "{}".to_owned() } else { part.to_owned() };
    path.split('?').next().unwrap_or_default().split('/').map(part).collect::<Vec<_>>().join("/")
}

#[test]
fn no_route_is_forgotten() {
    let routes = livedrop::http::routes();
    let registered: BTreeSet<_> =
        routes.iter().map(|route| (route.method.to_string(), nameless(&route.path))).collect();
    let listed: Vec<_> = TABLE.iter().map(|row| (row.0.to_owned(), nameless(row.1))).collect();
    let unique: BTreeSet<_> = listed.iter().cloned().collect();
    assert_eq!(listed.len(), unique.len(), "a row is there twice");
    assert_eq!(registered, unique, "left: what is declared; right: what the table asks");
}
