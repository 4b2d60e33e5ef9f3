//! Inboxes: unacknowledged entries are listed on all of a user's devices.

use crate::listener::Listener;
use crate::server::{Account, Server, problem};
use livedrop::domain::limits::INBOX_MARKED_MAX;
use reqwest::Method;
use serde_json::{Value, json};

const INBOX: &str = "/users/me/notifications";

async fn inbox(server: &Server, who: &Account) -> (Vec<Value>, u64) {
    let (status, body) = server.get(INBOX, Some(who)).await;
    assert_eq!(status, 200, "{body}");
    let unread = body["unread_count"].as_u64().expect("a number");
    (body["items"].as_array().expect("a list").clone(), unread)
}

async fn kinds(server: &Server, who: &Account) -> Vec<String> {
    let (items, _) = inbox(server, who).await;
    items.iter().map(|item| item["type"].as_str().expect("a type").to_owned()).collect()
}

async fn mark(server: &Server, who: &Account, how: &str, body: Value) -> u64 {
    let (status, answer) = server.post(&format!("{INBOX}/{how}"), Some(who), body).await;
    assert_eq!(status, 200, "{answer}");
    answer["unread_count"].as_u64().expect("a number")
}

async fn follow(server: &Server, fan: &Account, maker: &Account) {
    server.call(Method::POST, &format!("/creators/{}/follow", maker.id), Some(fan), None).await;
}

#[tokio::test]
async fn what_one_device_acknowledges_waits_on_none() {
    let server = Server::start().await;
    let (_, drop) = server.live_drop(5, json!({})).await;
    let ann = server.account("ann").await;
    let (mut phone, mut desk) = (Listener::of(&server, &ann).await, Listener::of(&server, &ann).await);
    let body = json!({"drop_id": drop, "quantity": 2, "payment_method": "pm_sandbox_ok"});
    let (_, order) = server.order(&ann, "1", &body).await;
    let told = phone.until("order_confirmed").await;
    let (items, unread) = inbox(&server, &ann).await;
    assert_eq!((items.len(), unread), (1, 1));
    let (_, page) = server.get(&format!("/drops/{drop}"), None).await;
    let expected = json!({
        "id": told["id"], "type": "order_confirmed", "at": told["at"], "read_at": null, "drop_id": drop,
        "drop_title": page["title"], "drop_starts_at": page["starts_at"], "order_id": order["id"],
        "variant_id": order["variant_id"], "quantity": 2,
    });
    assert_eq!(items[0], expected);

    phone.send(json!({"op": "ack", "ids": [told["id"]]})).await;
    assert_eq!(phone.until("acknowledged").await["ids"], json!([told["id"]]));
    assert_eq!(desk.until("inbox_changed").await, json!({"type": "inbox_changed", "acknowledged": [told["id"]]}));
    assert_eq!(inbox(&server, &ann).await, (vec![], 0));
    // Repeated, and with an id that was never in it.
    let reserved = format!("{}-1", told["id"].as_str().expect("an id").split('-').next().expect("an epoch"));
    phone.send(json!({"op": "ack", "ids": [told["id"], reserved]})).await;
    phone.until("acknowledged").await;
}

#[tokio::test]
async fn acknowledgements_are_checked() {
    let server = Server::start().await;
    let ann = server.account("ann").await;
    let mut stranger = Listener::connect(&server).await;
    stranger.send(json!({"op": "ack", "ids": ["0123456789abcdef-1"]})).await;
    assert_eq!(stranger.until("error").await["code"], "unauthenticated");
    let mut listener = Listener::of(&server, &ann).await;
    for ids in [json!([]), json!(["x"]), json!([""]), json!(vec!["0123456789abcdef-1"; INBOX_MARKED_MAX + 1])] {
        listener.send(json!({"op": "ack", "ids": ids})).await;
        assert_eq!(listener.until("error").await["code"], "validation_failed", "{ids}");
    }
    listener.send(json!({"op": "ack", "ids": ["0123456789abcdef-1", "0123456789abcdef-18446744073709551615"]})).await;
    listener.until("acknowledged").await;
    for (how, body) in [
        ("acknowledge", json!({})),
        ("acknowledge", json!({"ids": ["1"]})),
        ("read", json!({})),
        ("read", json!({"ids": ["0123456789abcdef-1"], "up_to": "0123456789abcdef-1"})),
    ] {
        problem(server.post(&format!("{INBOX}/{how}"), Some(&ann), body).await, 400, "validation_failed");
    }
    problem(server.get(&format!("{INBOX}?unread=maybe"), Some(&ann)).await, 400, "validation_failed");
    problem(server.get(&format!("{INBOX}?cursor=x"), Some(&ann)).await, 400, "invalid_cursor");
}

/// The same result, whether followers have entries of their own or their creator has too many.
#[tokio::test]
async fn followers_find_the_drop_whether_its_creator_is_a_celebrity_or_not() {
    for fan_out_followers in ["1000", "0"] {
        let mut server = Server::with(None, &["--fan-out-followers", fan_out_followers]).await;
        let (maker, drop) = server.live_drop(2, json!({"starts_at": "2099-01-01T00:00:00Z"})).await;
        let (fan, late) = (server.account("fan").await, server.account("late").await);
        follow(&server, &fan, &maker).await;
        server.call(Method::POST, &format!("/drops/{drop}/start"), Some(&maker), None).await;
        follow(&server, &late, &maker).await;
        assert_eq!(kinds(&server, &fan).await, ["drop_started"]);
        let (items, unread) = inbox(&server, &fan).await;
        assert_eq!((&items[0]["creator_id"], &items[0]["drop_id"], unread), (&json!(maker.id), &json!(drop), 1));
        assert_eq!(kinds(&server, &late).await, [] as [&str; 0]);

        server.call(Method::POST, &format!("/drops/{drop}/cancel"), Some(&maker), None).await;
        assert_eq!(kinds(&server, &fan).await, ["drop_cancelled", "drop_started"]);
        assert_eq!(kinds(&server, &late).await, ["drop_cancelled"]);
        let mut listener = Listener::of(&server, &fan).await;
        assert_eq!(mark(&server, &fan, "read", json!({"up_to": items[0]["id"]})).await, 1);
        let told = listener.until("inbox_changed").await;
        assert_eq!(told, json!({"type": "inbox_changed", "read_up_to": items[0]["id"]}));
        let (read, _) = inbox(&server, &fan).await;
        assert!(read[0]["read_at"].is_null() && read[1]["read_at"].is_string(), "{read:?}");

        // A page each, and no more; then only the unread ones.
        let (_, first) = server.get(&format!("{INBOX}?limit=1"), Some(&fan)).await;
        let cursor = first["next_cursor"].as_str().expect("a second page");
        let (_, second) = server.get(&format!("{INBOX}?limit=1&cursor={cursor}"), Some(&fan)).await;
        assert_eq!((&first["items"][0], &second["items"][0]), (&read[0], &read[1]));
        assert!(second["next_cursor"].is_null());
        let (_, unread) = server.get(&format!("{INBOX}?unread=true"), Some(&fan)).await;
        assert_eq!(unread["items"], json!([read[0]]));
        assert_eq!(mark(&server, &fan, "read", json!({"ids": [read[0]["id"], read[1]["id"]]})).await, 0);
        listener.until("inbox_changed").await;

        // Marks and ids survive the process.
        server.kill();
        server.restart();
        assert_eq!(mark(&server, &fan, "acknowledge", json!({"ids": [read[1]["id"]]})).await, 0);
        let (left, _) = inbox(&server, &fan).await;
        assert_eq!(left.len(), 1);
        assert_eq!((&left[0]["id"], left[0]["read_at"].is_string()), (&read[0]["id"], true));
        server.call(Method::DELETE, &format!("/creators/{}/follow", maker.id), Some(&fan), None).await;
        assert_eq!(inbox(&server, &fan).await, (vec![], 0));
    }
}

#[tokio::test]
async fn nobody_marks_what_is_somebody_elses() {
    let server = Server::start().await;
    let (_, drop) = server.live_drop(5, json!({})).await;
    let (ann, mallory) = (server.account("ann").await, server.account("mallory").await);
    let body = json!({"drop_id": drop, "quantity": 1, "payment_method": "pm_sandbox_declined"});
    server.order(&ann, "1", &body).await;
    let (items, _) = inbox(&server, &ann).await;
    assert_eq!((&items[0]["type"], &items[0]["release_reason"]), (&json!("order_released"), &json!("payment_failed")));
    let ids = json!({"ids": [items[0]["id"]]});
    mark(&server, &mallory, "acknowledge", ids.clone()).await;
    mark(&server, &mallory, "read", ids).await;
    mark(&server, &mallory, "read", json!({"up_to": items[0]["id"]})).await;
    assert_eq!(inbox(&server, &ann).await, (items, 1));
    assert_eq!(inbox(&server, &mallory).await, (vec![], 0));
}
