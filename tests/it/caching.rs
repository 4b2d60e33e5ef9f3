//! Cached pages and cached rows, and the changes that invalidate both.

use crate::metrics::{self, sample};
use crate::server::{Account, Server};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

/// A GET with the client's cached tag: returns status, tag, body.
async fn ask(server: &Server, path: &str, held: Option<&str>) -> (StatusCode, String, Value) {
    let mut request = server.http.get(server.url(path));
    if let Some(held) = held {
        request = request.header("If-None-Match", held);
    }
    let response = request.send().await.expect("an answer");
    let header = |name: &str| response.headers()[name].to_str().expect("ASCII").to_owned();
    assert_eq!(header("cache-control"), "no-cache", "{path}");
    let (status, tag) = (response.status(), header("etag"));
    let text = response.text().await.expect("a body");
    (status, tag, if text.is_empty() { Value::Null } else { serde_json::from_str(&text).expect("JSON") })
}

/// A page is unchanged after it was read, and another one after `change`.
async fn changes_with(server: &Server, path: &str, change: impl AsyncFnOnce()) {
    let (status, tag, before) = ask(server, path, None).await;
    assert_eq!(status, 200, "{before}");
    let (status, same, nothing) = ask(server, path, Some(&tag)).await;
    assert_eq!((status.as_u16(), same == tag, nothing), (304, true, Value::Null), "{path}");
    change().await;
    let (status, other, after) = ask(server, path, Some(&tag)).await;
    assert_eq!((status.as_u16(), other == tag), (200, false), "{path} has changed: {after}");
    assert_ne!(before, after);
}

async fn does(server: &Server, method: Method, path: &str, who: &Account, body: Option<Value>) {
    let (status, told) = server.call(method, path, Some(who), body).await;
    assert!(status.is_success(), "{path}: {status} {told}");
}

#[tokio::test]
async fn what_changes_is_never_served_from_memory() {
    let server = Server::start().await;
    let (maker, product) = server.creator("maker").await;
    let ann = server.account("ann").await;
    let (product_page, creator_page) = (format!("/products/{product}"), format!("/creators/{}", maker.id));
    changes_with(&server, &product_page, async || {
        does(&server, Method::PATCH, &product_page, &maker, Some(json!({"name": "Another"}))).await;
    })
    .await;
    changes_with(&server, &product_page, async || {
        does(&server, Method::POST, &format!("{product_page}/archive"), &maker, None).await;
    })
    .await;
    changes_with(&server, &creator_page, async || {
        does(&server, Method::PATCH, &creator_page, &maker, Some(json!({"bio": "Makes things"}))).await;
    })
    .await;
    let follow = format!("{creator_page}/follow");
    for method in [Method::POST, Method::DELETE] {
        changes_with(&server, &creator_page, async || does(&server, method.clone(), &follow, &ann, None).await).await;
    }
    does(&server, Method::POST, &follow, &ann, None).await;
    changes_with(&server, &creator_page, async || {
        does(&server, Method::DELETE, "/users/me", &ann, Some(json!({"password": "correct horse"}))).await;
    })
    .await;
}

#[tokio::test]
async fn a_drop_changes_with_each_order_and_after_its_end() {
    let server = Server::start().await;
    let (maker, drop) = server.live_drop(5, json!({})).await;
    let ann = server.account("ann").await;
    let (page, stock) = (format!("/drops/{drop}"), format!("/drops/{drop}/stock"));
    let order = json!({"drop_id": drop, "quantity": 1, "payment_method": "pm_sandbox_ok"});
    let (_, first) = server.order(&ann, "a", &order).await;
    for (path, key) in [(&page, "b"), (&stock, "c")] {
        changes_with(&server, path, async || assert_eq!(server.order(&ann, key, &order).await.0, 201)).await;
    }
    changes_with(&server, &page, async || does(&server, Method::POST, &format!("{page}/end"), &maker, None).await)
        .await;
    // Once settled, the drop leaves memory, and its page comes from SQL. A refund loads it again and changes the page.
    let out_of_memory = async || sample(&metrics::text(&server).await, "livedrop_drops{status=\"ended\"}") == 0.0;
    server.until("the drop leaves memory", out_of_memory).await;
    let sold = async || server.get(&stock, None).await.1["sold"].clone();
    for _ in 0..3 {
        assert_eq!(sold().await, 3);
    }
    let refund = format!("/orders/{}/refund", first["id"].as_str().expect("an id"));
    changes_with(&server, &stock, async || does(&server, Method::POST, &refund, &maker, None).await).await;
    server.until("the drop leaves memory again", out_of_memory).await;
    assert_eq!(sold().await, 2);
}
