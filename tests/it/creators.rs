//! Creators, follows, products.

use crate::server::{Server, problem};
use reqwest::Method;
use serde_json::{Value, json};

#[tokio::test]
async fn following_counts_once() {
    let server = Server::start().await;
    let (star, _) = server.creator("star").await;
    let fan = server.account("fan").await;
    let follow = format!("/creators/{}/follow", star.id);
    for _ in 0..2 {
        let (status, body) = server.call(Method::POST, &follow, Some(&fan), None).await;
        assert_eq!((status.as_u16(), &body["following"]), (200, &json!(true)));
    }
    let (_, profile) = server.get(&format!("/creators/{}", star.id), None).await;
    assert_eq!(profile["follower_count"], 1);
    let (_, list) = server.get(&format!("/users/{}/following", fan.id), Some(&fan)).await;
    assert_eq!(list["items"][0]["creator_id"], json!(star.id));
    let followers = async || server.get(&format!("/creators/{}/followers", star.id), None).await.1["items"].clone();
    assert_eq!(followers().await, json!([]), "follows are private");
    server.call(Method::PATCH, "/users/me", Some(&fan), Some(json!({"private_follows": false}))).await;
    assert_eq!(followers().await, json!([{"user_id": fan.id}]));
    server.call(Method::PATCH, "/users/me", Some(&fan), Some(json!({"private_follows": true}))).await;
    assert_eq!(followers().await, json!([]));
    for _ in 0..2 {
        let (status, body) = server.call(Method::DELETE, &follow, Some(&fan), None).await;
        assert_eq!((status.as_u16(), &body["following"]), (200, &json!(false)));
    }
    let (_, profile) = server.get(&format!("/creators/{}", star.id), None).await;
    assert_eq!(profile["follower_count"], 0);
    problem(server.get(&format!("/users/{}/following", fan.id), Some(&star)).await, 403, "forbidden");
    let nobody = server.call(Method::POST, &format!("/creators/{}/follow", fan.id), Some(&star), None).await;
    problem(nobody, 404, "creator_not_found");
}

#[tokio::test]
async fn only_creators_sell() {
    let server = Server::start().await;
    let ann = server.account("ann").await;
    let product = json!({"name": "Mug", "price": {"amount": 500, "currency": "EUR"}});
    problem(server.post("/products", Some(&ann), product.clone()).await, 403, "not_a_creator");
    problem(server.post("/products", None, product).await, 401, "unauthenticated");
    let (star, product) = server.creator("star").await;
    let again = json!({"handle": "another_name", "display_name": "x"});
    problem(server.post("/creators", Some(&star), again).await, 409, "already_a_creator");
    let (other, _) = server.creator("other").await;
    let theirs = json!({"product_id": product, "stock": 1});
    problem(server.post("/drops", Some(&other), theirs).await, 403, "forbidden");
}

#[tokio::test]
async fn pages_neither_repeat_nor_skip() {
    let server = Server::start().await;
    let (star, _) = server.creator("star").await;
    for n in 0..6 {
        let product = json!({"name": format!("P{n}"), "price": {"amount": n, "currency": "EUR"}});
        assert_eq!(server.post("/products", Some(&star), product).await.0, 201);
    }
    let (mut seen, mut path) = (Vec::new(), format!("/creators/{}/products?limit=3", star.id));
    loop {
        let (status, page) = server.get(&path, None).await;
        assert_eq!(status, 200, "{page}");
        seen.extend(page["items"].as_array().expect("items").iter().map(|item| item["id"].clone()));
        match page["next_cursor"].as_str() {
            Some(cursor) => path = format!("/creators/{}/products?limit=3&cursor={cursor}", star.id),
            None => break,
        }
    }
    let mut unique = seen.clone();
    unique.sort_by_key(Value::to_string);
    unique.dedup();
    assert_eq!((seen.len(), unique.len()), (7, 7));
    problem(server.get("/products?cursor=%21%21", None).await, 400, "invalid_cursor");
    problem(server.get("/products?limit=0", None).await, 400, "validation_failed");
    problem(server.get("/products?limit=101", None).await, 400, "validation_failed");
}
