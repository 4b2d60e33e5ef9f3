//! What every request meets before it is anybody's: proxies, limits, headers.

use crate::server::{Account, Server};
use reqwest::Method;
use serde_json::{Value, json};

/// Changes a name and returns the origin that the audit trail has of it.
async fn origin_noted(server: &Server, who: &Account, root: &Account, headers: &[(&str, &str)]) -> Value {
    let mut request = server.http.request(Method::PATCH, server.url("/users/me")).bearer_auth(&who.token);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer = request.json(&json!({"display_name": "Ann"})).send().await.expect("an answer");
    assert_eq!(answer.status(), 200);
    server.get(&format!("/audit?actor_id={}&limit=1", who.id), Some(root)).await.1["items"][0]["origin"].clone()
}

#[tokio::test]
async fn an_address_is_believed_from_trusted_proxies_only() {
    let server = Server::start().await;
    let (ann, root) = (server.account("ann").await, server.admin().await);
    let forged = [("x-forwarded-for", "203.0.113.9"), ("forwarded", "for=203.0.113.9")];
    assert_eq!(origin_noted(&server, &ann, &root, &forged).await, "127.0.0.1");

    let server = Server::with(None, &["--trusted-proxies", "127.0.0.0/8,10.0.0.0/8"]).await;
    let (ann, root) = (server.account("ann").await, server.admin().await);
    assert_eq!(origin_noted(&server, &ann, &root, &[]).await, "127.0.0.1");
    let behind = [("x-forwarded-for", "1.1.1.1, 203.0.113.9, 10.0.0.7")];
    assert_eq!(origin_noted(&server, &ann, &root, &behind).await, "203.0.113.9");
    let behind = [("forwarded", "for=1.1.1.1, for=\"[2001:db8::9]:4711\"")];
    assert_eq!(origin_noted(&server, &ann, &root, &behind).await, "2001:db8::9");
}
