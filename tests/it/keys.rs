//! `Idempotency-Key` on changes other than orders: a retried request makes no second change.

use crate::server::{Account, Server, answer, problem};
use futures_util::future::join_all;
use reqwest::{Method, Response};
use serde_json::{Value, json};

async fn keyed(server: &Server, who: &Account, path: &str, key: &str, body: &Value) -> Response {
    let request = server.http.request(Method::POST, server.url(path)).bearer_auth(&who.token);
    request.header("Idempotency-Key", key).json(body).send().await.expect("an answer")
}

fn is_replayed(response: &Response) -> bool {
    response.headers().get("idempotency-replayed").is_some_and(|value| value == "true")
}

/// The parts of an answer that are compared.
async fn whole(response: Response) -> (u16, Option<String>, Option<String>, Value) {
    let header = |name: &str| response.headers().get(name).map(|value| value.to_str().expect("text").to_owned());
    let (location, etag) = (header("location"), header("etag"));
    let (status, body) = answer(response).await;
    (status.as_u16(), location, etag, body)
}

#[tokio::test]
async fn a_request_that_is_tried_again_changes_nothing_again() {
    let server = Server::start().await;
    let ann = server.account("ann").await;
    let profile = json!({"handle": format!("ann_{}", &ann.id[ann.id.len() - 8..]), "display_name": "Ann"});
    let product = json!({"name": "Mug", "price": {"amount": 500, "currency": "EUR"}});
    let mut made = Vec::new();
    for (path, body) in [("/creators", &profile), ("/products", &product)] {
        let first = keyed(&server, &ann, path, "k", body).await;
        assert!(!is_replayed(&first));
        let first = whole(first).await;
        assert_eq!(first.0, 201, "{path}: {}", first.3);
        let again = keyed(&server, &ann, path, "\"k\"", body).await;
        assert!(is_replayed(&again), "{path}");
        assert_eq!(whole(again).await, first, "{path}: the first answer, to the letter");
        made.push(first.3);
    }
    let drop = json!({"product_id": made[1]["id"], "stock": 5});
    let first = whole(keyed(&server, &ann, "/drops", "k", &drop).await).await;
    assert_eq!(first.0, 201, "{}", first.3);
    assert_eq!(whole(keyed(&server, &ann, "/drops", "k", &drop).await).await, first);
    let id = first.3["id"].as_str().expect("an id");
    for (verb, body) in [
        ("restock", json!({"quantity": 3})),
        ("reschedule", json!({"ends_at": "2099-01-01T00:00:00Z"})),
        ("start", json!({})),
        ("end", json!({})),
    ] {
        let path = format!("/drops/{id}/{verb}");
        let first = whole(keyed(&server, &ann, &path, "k", &body).await).await;
        assert_eq!(first.0, 200, "{verb}: {}", first.3);
        let again = keyed(&server, &ann, &path, "k", &body).await;
        assert!(is_replayed(&again), "{verb}");
        assert_eq!(whole(again).await, first, "{verb}");
    }
    assert_eq!(server.stock(id).await, (8, 0, 0), "restocked once");
    for list in ["/products", "/drops"] {
        assert_eq!(server.get(list, None).await.1["items"].as_array().map(Vec::len), Some(1), "{list}");
    }
}

#[tokio::test]
async fn a_key_stands_for_one_request_of_one_user() {
    let server = Server::start().await;
    let (maker, drop) = server.live_drop(1, json!({})).await;
    let (rival, _) = server.creator("rival").await;
    let restock = format!("/drops/{drop}/restock");
    assert_eq!(keyed(&server, &maker, &restock, "k", &json!({"quantity": 1})).await.status(), 200);
    let other = answer(keyed(&server, &maker, &restock, "k", &json!({"quantity": 2})).await).await;
    problem(other, 422, "idempotency_key_reused");
    // White space and the order of fields do not matter; another key, route or user is another request.
    let spaced = server.http.post(server.url(&restock)).bearer_auth(&maker.token).header("Idempotency-Key", "k");
    let spaced = spaced.header("Content-Type", "application/json").body("{ \"variant_id\": null, \"quantity\": 1.0 }");
    assert!(is_replayed(&spaced.send().await.expect("an answer")));
    assert_eq!(keyed(&server, &maker, &restock, "l", &json!({"quantity": 1})).await.status(), 200);
    assert_eq!(server.stock(&drop).await, (3, 0, 0));
    for who in [&maker, &rival] {
        let product = json!({"name": "Mug", "price": {"amount": 500, "currency": "EUR"}});
        let made = keyed(&server, who, "/products", "k", &product).await;
        assert!(!is_replayed(&made));
        assert_eq!(made.status(), 201);
    }
    for bad in ["", "ünicode", "\"open"] {
        problem(
            answer(keyed(&server, &maker, &restock, bad, &json!({"quantity": 1})).await).await,
            400,
            "idempotency_key_invalid",
        );
    }
    // A refusal changed nothing: its key may be used again.
    let gone = keyed(&server, &rival, &restock, "r", &json!({"quantity": 1})).await;
    problem(answer(gone).await, 403, "forbidden");
    let wrong = keyed(&server, &maker, &restock, "v", &json!({"quantity": 0})).await;
    problem(answer(wrong).await, 400, "validation_failed");
    assert_eq!(keyed(&server, &maker, &restock, "v", &json!({"quantity": 2})).await.status(), 200);
    assert_eq!(server.stock(&drop).await, (5, 0, 0));
}

#[tokio::test]
async fn many_tries_at_once_are_one_change() {
    let server = Server::start().await;
    let (maker, drop) = server.live_drop(1, json!({})).await;
    let restock = format!("/drops/{drop}/restock");
    let body = json!({"quantity": 1});
    let tries = join_all((0..16).map(|_| keyed(&server, &maker, &restock, "k", &body))).await;
    let mut made = 0;
    for tried in tries {
        let replayed = is_replayed(&tried);
        match tried.status().as_u16() {
            200 => made += u32::from(!replayed),
            _ => _ = problem(answer(tried).await, 409, "request_in_progress"),
        }
    }
    assert_eq!(made, 1);
    assert_eq!(server.stock(&drop).await, (2, 0, 0));
}

#[tokio::test]
async fn money_goes_back_once_and_buyers_may_try_again() {
    let server = Server::start().await;
    let (maker, drop) = server.live_drop(10, json!({})).await;
    let ann = server.account("ann").await;
    let held = json!({"drop_id": drop, "quantity": 2});
    let order = server.order(&ann, "1", &held).await.1;
    let pay = format!("/orders/{}/pay", order["id"].as_str().expect("an id"));
    let method = json!({"payment_method": "pm_sandbox_ok"});
    let first = whole(keyed(&server, &ann, &pay, "p", &method).await).await;
    assert_eq!((first.0, &first.3["status"]), (200, &json!("confirmed")));
    let refund = format!("/orders/{}/refund", order["id"].as_str().expect("an id"));
    let refunded = whole(keyed(&server, &maker, &refund, "f", &json!({})).await).await;
    assert_eq!(refunded.0, 200, "{}", refunded.3);
    assert_eq!(whole(keyed(&server, &maker, &refund, "f", &json!({})).await).await, refunded);
    assert_eq!(
        whole(keyed(&server, &ann, &pay, "p", &method).await).await,
        first,
        "the first answer, whatever came after"
    );
    let order = server.order(&ann, "2", &held).await.1;
    let cancel = format!("/orders/{}/cancel", order["id"].as_str().expect("an id"));
    let first = whole(keyed(&server, &ann, &cancel, "c", &json!({})).await).await;
    assert_eq!((first.0, &first.3["status"]), (200, &json!("released")));
    assert_eq!(whole(keyed(&server, &ann, &cancel, "c", &json!({})).await).await, first);
    assert_eq!(server.stock(&drop).await, (10, 0, 0));
}

/// The process ends between the change and its answer: a retry finds the change, and makes no other.
#[tokio::test]
async fn a_change_whose_answer_was_lost_is_found_again() {
    let mut server = Server::start().await;
    let (maker, drop) = server.live_drop(1, json!({})).await;
    let restock = format!("/drops/{drop}/restock");
    server.arm("keys.before_answer=abort@1");
    let lost = server.http.post(server.url(&restock)).bearer_auth(&maker.token).header("Idempotency-Key", "k");
    assert!(lost.json(&json!({"quantity": 5})).send().await.is_err());
    server.wait();
    server.disarm();
    server.restart();
    let other = keyed(&server, &maker, &restock, "k", &json!({"quantity": 6})).await;
    problem(answer(other).await, 422, "idempotency_key_reused");
    for _ in 0..2 {
        let again = keyed(&server, &maker, &restock, "k", &json!({"quantity": 5})).await;
        assert!(is_replayed(&again));
        let (status, drop) = answer(again).await;
        assert_eq!((status.as_u16(), &drop["stock"]["total"]), (200, &json!(6)), "{drop}");
    }
    assert_eq!(server.stock(&drop).await, (6, 0, 0));

    let product = json!({"name": "Mug", "price": {"amount": 500, "currency": "EUR"}});
    let (_, products) = server.get("/products", None).await;
    let new_drop = json!({"product_id": products["items"][0]["id"], "stock": 7});
    for (path, body) in [("/products", product), ("/drops", new_drop)] {
        let count = async |server: &Server| server.get(path, None).await.1["items"].as_array().map(Vec::len);
        let before = count(&server).await;
        server.arm("keys.before_answer=abort@1");
        let lost = server.http.post(server.url(path)).bearer_auth(&maker.token).header("Idempotency-Key", "m");
        assert!(lost.json(&body).send().await.is_err());
        server.wait();
        server.disarm();
        server.restart();
        let again = keyed(&server, &maker, path, "m", &body).await;
        assert!(is_replayed(&again), "{path}");
        assert_eq!(again.status(), 201);
        assert_eq!(count(&server).await, before.map(|before| before + 1), "{path}");
    }
}

/// The process ends after the key is stored and before anything is done: a retry makes the change.
#[tokio::test]
async fn a_change_that_was_not_made_is_made_when_it_is_tried_again() {
    let mut server = Server::start().await;
    let (maker, drop) = server.live_drop(1, json!({})).await;
    let restock = format!("/drops/{drop}/restock");
    server.arm("keys.before_change=abort@1");
    let lost = server.http.post(server.url(&restock)).bearer_auth(&maker.token).header("Idempotency-Key", "k");
    assert!(lost.json(&json!({"quantity": 5})).send().await.is_err());
    server.wait();
    server.disarm();
    server.restart();
    assert_eq!(server.stock(&drop).await, (1, 0, 0));
    let again = keyed(&server, &maker, &restock, "k", &json!({"quantity": 5})).await;
    assert!(!is_replayed(&again));
    assert_eq!(again.status(), 200);
    assert_eq!(server.stock(&drop).await, (6, 0, 0));
}
