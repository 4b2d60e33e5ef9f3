//! `If-Match`: a change based on an older version does not overwrite a later change.

use crate::server::{Account, Server, answer, problem};
use futures_util::future::join_all;
use reqwest::{Method, Response};
use serde_json::{Value, json};

/// Sends a change with these headers.
async fn change(server: &Server, who: &Account, method: Method, path: &str, body: Value, tags: &[&str]) -> Response {
    let request = server.http.request(method, server.url(path)).bearer_auth(&who.token);
    let request = tags.iter().fold(request, |request, tag| request.header("if-match", *tag));
    request.json(&body).send().await.expect("an answer")
}

async fn tag_of(server: &Server, path: &str) -> String {
    tag(&server.http.get(server.url(path)).send().await.expect("an answer"))
}

fn tag(response: &Response) -> String {
    response.headers()["etag"].to_str().expect("text").to_owned()
}

/// Concurrent changes based on the same version: exactly one succeeds.
async fn only_one(server: &Server, who: &Account, method: Method, path: &str, body: fn(usize) -> Value, tag: &str) {
    let tags = [tag];
    let each = (0..16).map(|n| change(server, who, method.clone(), path, body(n), &tags));
    let statuses: Vec<u16> = join_all(each).await.iter().map(|response| response.status().as_u16()).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{path}: {statuses:?}");
    assert!(statuses.iter().all(|status| matches!(status, 200 | 412)), "{path}: {statuses:?}");
}

#[tokio::test]
async fn of_two_editors_of_a_product_the_second_is_told() {
    let server = Server::start().await;
    let (maker, product) = server.creator("maker").await;
    let path = format!("/products/{product}");
    let seen = tag_of(&server, &path).await;
    let edit = async |body: Value, tags: &[&str]| change(&server, &maker, Method::PATCH, &path, body, tags).await;
    let first = edit(json!({"name": "One"}), &[&seen]).await;
    assert_eq!(first.status(), 200);
    let now = tag(&first);
    assert_eq!(now, tag_of(&server, &path).await, "a change answers the tag of what it made");
    let second = edit(json!({"name": "Two"}), &[&seen]).await;
    problem(answer(second).await, 412, "precondition_failed");
    assert_eq!(server.get(&path, None).await.1["name"], "One");
    let weak = format!("W/{now}");
    for tags in [[weak.as_str()].as_slice(), &["\"nonsense\""], &["nonsense"], &[""], &[&seen, &weak]] {
        problem(answer(edit(json!({"name": "Two"}), tags).await).await, 412, "precondition_failed");
    }
    let listed = format!("\"other\", {now}");
    assert_eq!(edit(json!({"name": "Three"}), &[&listed]).await.status(), 200);
    assert_eq!(edit(json!({"name": "Four"}), &["*"]).await.status(), 200);
    let seen = tag_of(&server, &path).await;
    for verb in ["archive", "restore"] {
        let path = format!("{path}/{verb}");
        let stale = change(&server, &maker, Method::POST, &path, json!({}), &[&now]).await;
        problem(answer(stale).await, 412, "precondition_failed");
    }
    let archived = change(&server, &maker, Method::POST, &format!("{path}/archive"), json!({}), &[&seen]).await;
    assert_eq!((archived.status().as_u16(), tag(&archived)), (200, tag_of(&server, &path).await));
    // The caller's rights and the object's existence are checked first.
    let eve = server.account("eve").await;
    let forbidden = change(&server, &eve, Method::PATCH, &path, json!({"name": "x"}), &["\"x\""]).await;
    problem(answer(forbidden).await, 403, "forbidden");
    let nowhere = "/products/018f0000-0000-7000-8000-000000000000";
    let missing = change(&server, &maker, Method::PATCH, nowhere, json!({"name": "x"}), &["*"]).await;
    problem(answer(missing).await, 404, "product_not_found");
    let seen = tag_of(&server, &path).await;
    only_one(&server, &maker, Method::PATCH, &path, |n| json!({"name": format!("n{n}")}), &seen).await;
}

#[tokio::test]
async fn a_profile_may_be_followed_while_it_is_edited() {
    let server = Server::start().await;
    let (maker, _) = server.creator("maker").await;
    let fan = server.account("fan").await;
    let path = format!("/creators/{}", maker.id);
    let seen = tag_of(&server, &path).await;
    assert_eq!(server.post(&format!("{path}/follow"), Some(&fan), json!({})).await.0, 200);
    let followed = tag_of(&server, &path).await;
    assert_ne!(seen, followed, "a page that shows another count is another page");
    let edited = change(&server, &maker, Method::PATCH, &path, json!({"bio": "One"}), &[&seen]).await;
    assert_eq!((edited.status().as_u16(), tag(&edited)), (200, tag_of(&server, &path).await));
    let late = change(&server, &maker, Method::PATCH, &path, json!({"display_name": "Two"}), &[&followed]).await;
    problem(answer(late).await, 412, "precondition_failed");
    let seen = tag_of(&server, &path).await;
    only_one(&server, &maker, Method::PATCH, &path, |n| json!({"bio": format!("n{n}")}), &seen).await;
    // Without a version every change succeeds, and none undoes another's field.
    let half = (0..8).map(|n| {
        let body = if n % 2 == 0 { json!({"bio": "all"}) } else { json!({"display_name": "of it"}) };
        change(&server, &maker, Method::PATCH, &path, body, &[])
    });
    assert!(join_all(half).await.iter().all(|response| response.status() == 200));
    let (_, profile) = server.get(&path, None).await;
    assert_eq!((&profile["bio"], &profile["display_name"]), (&json!("all"), &json!("of it")));
}

#[tokio::test]
async fn a_drop_may_sell_while_it_is_edited() {
    let server = Server::start().await;
    let (maker, drop) = server.live_drop(2, json!({})).await;
    let path = format!("/drops/{drop}");
    let seen = tag_of(&server, &path).await;
    let paid = json!({"drop_id": drop, "quantity": 2, "payment_method": "pm_sandbox_ok"});
    assert_eq!(server.order(&maker, "k", &paid).await.1["status"], "confirmed");
    assert_eq!(server.get(&path, None).await.1["status"], "sold_out");
    assert_ne!(seen, tag_of(&server, &path).await);
    let act = async |verb: &str, body: Value, tag: &str| {
        change(&server, &maker, Method::POST, &format!("{path}/{verb}"), body, &[tag]).await
    };
    // Selling out is no edit; a restock is.
    let restocked = act("restock", json!({"quantity": 3}), &seen).await;
    assert_eq!((restocked.status().as_u16(), tag(&restocked)), (200, tag_of(&server, &path).await));
    let later = json!({"ends_at": "2099-01-01T00:00:00Z"});
    for (verb, body) in
        [("restock", json!({"quantity": 3})), ("reschedule", later.clone()), ("end", json!({})), ("cancel", json!({}))]
    {
        problem(answer(act(verb, body, &seen).await).await, 412, "precondition_failed");
    }
    assert_eq!(server.stock(&drop).await, (3, 0, 2));
    let now = tag_of(&server, &path).await;
    only_one(&server, &maker, Method::POST, &format!("{path}/restock"), |_| json!({"quantity": 1}), &now).await;
    assert_eq!(server.stock(&drop).await, (4, 0, 2));
    let now = tag_of(&server, &path).await;
    let moved = act("reschedule", later, &now).await;
    assert_eq!(moved.status(), 200);
    let now = tag(&moved);
    assert_eq!(act("end", json!({}), &now).await.status(), 200);
    // The drop has ended, and leaves memory at some time: its version is still checked.
    problem(answer(act("end", json!({}), &now).await).await, 412, "precondition_failed");
    let now = tag_of(&server, &path).await;
    assert_eq!(act("end", json!({}), &now).await.status(), 200, "again what it is already");
}

#[tokio::test]
async fn a_drop_that_has_not_started_is_edited_by_its_version() {
    let server = Server::start().await;
    let (maker, drop) = server.live_drop(5, json!({"starts_at": "2099-01-01T00:00:00Z"})).await;
    let path = format!("/drops/{drop}");
    let seen = tag_of(&server, &path).await;
    let start = format!("{path}/start");
    let stale = change(&server, &maker, Method::POST, &start, json!({}), &["\"x\""]).await;
    problem(answer(stale).await, 412, "precondition_failed");
    only_one(&server, &maker, Method::POST, &start, |_| json!({}), &seen).await;
    assert_eq!(server.get(&path, None).await.1["status"], "live");
}
