//! Orders: reserve, pay, cancel, and the answers of keys.

use crate::server::{Account, Server, answer, problem};
use reqwest::Method;
use serde_json::{Value, json};

#[tokio::test]
async fn reserve_then_pay() {
    let server = Server::start().await;
    let (_, drop) = server.live_drop(3, json!({})).await;
    let ann = server.account("ann").await;
    let (status, order) = server.order(&ann, "k1", &json!({"drop_id": drop, "quantity": 2})).await;
    assert_eq!((status.as_u16(), &order["status"]), (201, &json!("reserved")), "{order}");
    assert_eq!(order["total"], json!({"amount": 3998, "currency": "USD", "exponent": 2}));
    assert_eq!(server.stock(&drop).await, (1, 2, 0));
    let id = order["id"].as_str().expect("an id").to_owned();
    let pay =
        async |method| server.post(&format!("/orders/{id}/pay"), Some(&ann), json!({"payment_method": method})).await;
    let (status, paid) = pay("pm_sandbox_ok").await;
    assert_eq!((status.as_u16(), &paid["status"]), (200, &json!("confirmed")), "{paid}");
    assert_eq!(pay("pm_sandbox_ok").await.1, paid, "paying twice charges once");
    assert_eq!(server.stock(&drop).await, (1, 0, 2));
    assert_eq!(server.get(&format!("/orders/{id}"), Some(&ann)).await.1, paid);
    let (_, mine) = server.get("/users/me/orders", Some(&ann)).await;
    assert_eq!(mine["items"], json!([paid]));
    let cancel = server.call(Method::POST, &format!("/orders/{id}/cancel"), Some(&ann), None).await;
    problem(cancel, 409, "order_already_confirmed");
}

#[tokio::test]
async fn a_key_keeps_its_answer_to_the_letter() {
    let server = Server::start().await;
    let (_, drop) = server.live_drop(2, json!({})).await;
    let (ann, bob) = (server.account("ann").await, server.account("bob").await);
    let bodies = [
        json!({"drop_id": drop, "quantity": 1}),
        json!({"drop_id": drop, "quantity": 1, "payment_method": "pm_sandbox_declined"}),
        json!({"drop_id": drop, "quantity": 1, "payment_method": "pm_sandbox_ok"}),
    ];
    for (body, expected) in bodies.iter().zip([201, 402, 201]) {
        let key =
            format!("\"{}\"", body["quantity"].to_string() + &body["payment_method"].to_string().replace('"', ""));
        let first = server.order_raw(&ann, &key, body).await.expect("an answer");
        assert!(first.headers().get("idempotency-replayed").is_none());
        let (status, text) = (first.status(), first.text().await.expect("a body"));
        assert_eq!(status, expected, "{text}");
        let again = server.order_raw(&ann, key.trim_matches('"'), body).await.expect("an answer");
        assert_eq!(again.headers()["idempotency-replayed"], "true");
        assert_eq!((again.status(), again.text().await.expect("a body")), (status, text));
        let other = json!({"drop_id": drop, "quantity": 9});
        problem(server.order(&ann, &key, &other).await, 422, "idempotency_key_reused");
        assert_ne!(server.order(&bob, &key, &other).await.0, 422, "a key is one buyer's");
    }
    assert_eq!(server.stock(&drop).await, (0, 1, 1));
    let (_, elsewhere) = server.live_drop(2, json!({})).await;
    let moved = json!({"drop_id": elsewhere, "quantity": 1});
    problem(server.order(&ann, "1null", &moved).await, 422, "idempotency_key_reused");
}

#[tokio::test]
async fn a_hundred_at_once_with_one_key_make_one_order() {
    let server = Server::start().await;
    let (_, drop) = server.live_drop(50, json!({})).await;
    let ann = server.account("ann").await;
    let body = json!({"drop_id": drop, "quantity": 1, "payment_method": "pm_sandbox_ok"});
    let all = futures_util::future::join_all((0..100).map(|_| server.order(&ann, "same", &body))).await;
    let mut created: Vec<&Value> = Vec::new();
    for (status, body) in &all {
        match status.as_u16() {
            201 => created.push(body),
            409 => assert_eq!(body["code"], "request_in_progress"),
            _ => panic!("{status} {body}"),
        }
    }
    assert!(!created.is_empty() && created.iter().all(|body| *body == created[0]));
    assert_eq!(server.stock(&drop).await, (49, 0, 1));
}

#[tokio::test]
async fn a_crowd_never_oversells() {
    let server = Server::start().await;
    let (_, drop) = server.live_drop(20, json!({"per_buyer_limit": 2})).await;
    let buyers = futures_util::future::join_all((0..16).map(|_| server.account("buyer"))).await;
    let body = json!({"drop_id": drop, "quantity": 1, "payment_method": "pm_sandbox_ok"});
    let orders = buyers.iter().flat_map(|buyer| (0..4).map(move |n| (buyer, format!("k{n}"))));
    let answers = futures_util::future::join_all(orders.map(|(buyer, key)| {
        let (server, body) = (&server, &body);
        async move { server.order(buyer, &key, body).await }
    }))
    .await;
    let count =
        |wanted: &str| answers.iter().filter(|(_, body)| body["code"] == wanted || body["status"] == wanted).count();
    assert_eq!(count("confirmed"), 20);
    assert_eq!(count("confirmed") + count("sold_out") + count("limit_exceeded"), 64);
    assert_eq!(server.stock(&drop).await, (0, 0, 20));
}

#[tokio::test]
async fn abandoned_and_cancelled_holds_come_back() {
    let server = Server::start().await;
    let (_, drop) = server.live_drop(2, json!({"hold_seconds": 1})).await;
    let ann = server.account("ann").await;
    let reserve = json!({"drop_id": drop, "quantity": 1});
    let (_, left) = server.order(&ann, "left", &reserve).await;
    let (_, given) = server.order(&ann, "given", &reserve).await;
    assert_eq!(server.get(&format!("/drops/{drop}"), None).await.1["status"], "sold_out");
    let path = |order: &Value| format!("/orders/{}", order["id"].as_str().expect("an id"));
    let (status, back) = server.call(Method::POST, &format!("{}/cancel", path(&given)), Some(&ann), None).await;
    assert_eq!((status.as_u16(), &back["release_reason"]), (200, &json!("cancelled")));
    server.until("the other expired", async || server.stock(&drop).await == (2, 0, 0)).await;
    assert_eq!(server.get(&path(&left), Some(&ann)).await.1["release_reason"], "expired");
    let late =
        server.post(&format!("{}/pay", path(&left)), Some(&ann), json!({"payment_method": "pm_sandbox_ok"})).await;
    problem(late, 409, "hold_expired");
    assert_eq!(server.order(&ann, "left", &reserve).await.1, left, "a key keeps its first answer");
}

#[tokio::test]
async fn a_payment_that_lands_late_is_matched_or_refunded() {
    let server = Server::with(None, &["--payment-timeout-ms", "300"]).await;
    let (_, drop) = server.live_drop(1, json!({"hold_seconds": 1})).await;
    let (ann, bob) = (server.account("ann").await, server.account("bob").await);
    let slow = json!({"drop_id": drop, "quantity": 1, "payment_method": "pm_sandbox_slow"});
    problem(server.order(&ann, "slow", &slow).await, 504, "payment_timeout");
    let order = server.get("/users/me/orders", Some(&ann)).await.1["items"][0].clone();
    let path = format!("/orders/{}", order["id"].as_str().expect("an id"));
    server.until("retaken", async || server.get(&path, Some(&ann)).await.1["status"] == "confirmed").await;
    assert_eq!(server.stock(&drop).await, (0, 0, 1));

    let (_, drop) = server.live_drop(1, json!({"hold_seconds": 1})).await;
    let slow = json!({"drop_id": drop, "quantity": 1, "payment_method": "pm_sandbox_slow"});
    problem(server.order(&ann, "slow2", &slow).await, 504, "payment_timeout");
    let quick = json!({"drop_id": drop, "quantity": 1, "payment_method": "pm_sandbox_ok"});
    let tries = std::sync::atomic::AtomicU32::new(0);
    server
        .until("somebody else has it", async || {
            let n = tries.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            server.order(&bob, &format!("quick{n}"), &quick).await.0 == 201
        })
        .await;
    let order = server.get("/users/me/orders", Some(&ann)).await.1["items"][0].clone();
    let path = format!("/orders/{}", order["id"].as_str().expect("an id"));
    server.until("refunded", async || !server.get(&path, Some(&ann)).await.1["refunded_at"].is_null()).await;
    assert_eq!(server.get(&path, Some(&ann)).await.1["status"], "released");
    assert_eq!(server.stock(&drop).await, (0, 0, 1));
}

#[tokio::test]
async fn a_free_drop_confirms_at_once() {
    let server = Server::start().await;
    let free = json!({"variants": [{"stock": 1, "price": {"amount": 0, "currency": "USD"}}]});
    let (maker, product) = server.creator("maker").await;
    let mut body = free;
    body["product_id"] = json!(product);
    let (status, drop) = server.post("/drops", Some(&maker), body).await;
    assert_eq!(status, 201, "{drop}");
    let ann = server.account("ann").await;
    let (status, order) = server.order(&ann, "free", &json!({"drop_id": drop["id"], "quantity": 1})).await;
    assert_eq!((status.as_u16(), &order["status"]), (201, &json!("confirmed")), "{order}");
}

#[tokio::test]
async fn other_peoples_orders_do_not_exist() {
    let server = Server::start().await;
    let (_, drop) = server.live_drop(1, json!({})).await;
    let (ann, eve) = (server.account("ann").await, server.account("eve").await);
    let (_, order) = server.order(&ann, "k", &json!({"drop_id": drop, "quantity": 1})).await;
    let path = format!("/orders/{}", order["id"].as_str().expect("an id"));
    problem(server.get(&path, Some(&eve)).await, 404, "order_not_found");
    let pay = json!({"payment_method": "pm_sandbox_ok"});
    problem(server.post(&format!("{path}/pay"), Some(&eve), pay).await, 404, "order_not_found");
    problem(server.call(Method::POST, &format!("{path}/cancel"), Some(&eve), None).await, 404, "order_not_found");
    problem(server.get(&format!("/users/{}/orders", ann.id), Some(&eve)).await, 403, "forbidden");
    problem(server.get(&path, None).await, 401, "unauthenticated");
}

#[tokio::test]
async fn keys_and_bodies_that_are_no_good() {
    let server = Server::start().await;
    let (_, drop) = server.live_drop(1, json!({})).await;
    let ann = server.account("ann").await;
    let good = json!({"drop_id": drop, "quantity": 1});
    problem(server.post("/orders", Some(&ann), good.clone()).await, 400, "idempotency_key_missing");
    for key in ["", "\"\"", &"k".repeat(256), "\"open", "t\u{e9}t"] {
        let request = server.http.post(server.url("/orders")).bearer_auth(&ann.token).json(&good);
        let sent = request.header("Idempotency-Key", key.as_bytes()).send().await.expect("an answer");
        problem(answer(sent).await, 400, "idempotency_key_invalid");
    }
    for quantity in [json!(0), json!(-1), json!(1.5), json!("1"), json!(4_294_967_296u64), json!(1001), Value::Null] {
        let (status, body) = server.order(&ann, "k", &json!({"drop_id": drop, "quantity": quantity})).await;
        assert_eq!(status, 400, "{quantity}: {body}");
    }
    let unknown = json!({"drop_id": "018f0000-0000-7000-8000-000000000000", "quantity": 1});
    problem(server.order(&ann, "k", &unknown).await, 404, "drop_not_found");
    let method = json!({"drop_id": drop, "quantity": 1, "payment_method": "gold"});
    problem(server.order(&ann, "k", &method).await, 422, "payment_method_unknown");
    assert_eq!(server.order(&ann, "k", &good).await.0, 201, "nothing of all that used the key up");
}

#[tokio::test]
async fn a_buyer_asks_for_a_refund_and_the_seller_answers() {
    let server = Server::start().await;
    let (maker, drop) = server.live_drop(5, json!({})).await;
    let (ann, bob, eve) = (server.account("ann").await, server.account("bob").await, server.account("eve").await);
    let paid = json!({"drop_id": drop, "quantity": 1, "payment_method": "pm_sandbox_ok"});
    let mut orders = Vec::new();
    for buyer in [&ann, &bob] {
        let (status, order) = server.order(buyer, "1", &paid).await;
        assert_eq!(status, 201, "{order}");
        orders.push(order["id"].as_str().expect("an id").to_owned());
    }
    let ask = async |order: &str, who: &Account, reason: &str| {
        server.post(&format!("/orders/{order}/refund-requests"), Some(who), json!({"reason": reason})).await
    };
    let reply = async |order: &str, who: &Account, answer: Value| {
        server.post(&format!("/orders/{order}/refund-requests/answer"), Some(who), answer).await
    };
    let refuse = json!({"accept": false, "reason": "It was worn"});
    problem(reply(&orders[0], &maker, refuse.clone()).await, 409, "refund_request_not_open");
    problem(ask(&orders[0], &eve, "x").await, 404, "order_not_found");
    problem(ask(&orders[0], &ann, "").await, 400, "validation_failed");
    problem(ask(&orders[0], &ann, &"x".repeat(501)).await, 400, "validation_failed");
    let (status, asked) = ask(&orders[0], &ann, "It does not fit").await;
    assert_eq!((status.as_u16(), &asked["status"], &asked["answer"]), (200, &json!("open"), &Value::Null), "{asked}");
    assert_eq!(ask(&orders[0], &ann, "Another reason").await.1, asked, "an order has one request");
    assert_eq!(ask(&orders[1], &bob, "Too late").await.0, 200);
    // The seller finds them, page by page; others do not.
    let path = format!("/drops/{drop}/refund-requests");
    problem(server.get(&path, Some(&ann)).await, 403, "forbidden");
    let (_, first) = server.get(&format!("{path}?limit=1"), Some(&maker)).await;
    assert_eq!(first["items"], json!([asked]));
    let cursor = first["next_cursor"].as_str().expect("a cursor");
    let (_, second) = server.get(&format!("{path}?limit=1&cursor={cursor}"), Some(&maker)).await;
    assert_eq!((&second["items"][0]["order_id"], &second["next_cursor"]), (&json!(orders[1]), &Value::Null));
    problem(reply(&orders[0], &ann, refuse.clone()).await, 403, "forbidden");
    problem(reply(&orders[0], &eve, refuse.clone()).await, 404, "order_not_found");
    problem(reply(&orders[0], &maker, json!({})).await, 400, "validation_failed");
    // Refused: nothing goes back, and that is final.
    let (_, refused) = reply(&orders[0], &maker, refuse.clone()).await;
    assert_eq!((&refused["status"], &refused["answer"]), (&json!("refused"), &json!("It was worn")));
    assert_eq!(reply(&orders[0], &maker, json!({"accept": false})).await.1, refused);
    problem(reply(&orders[0], &maker, json!({"accept": true})).await, 409, "refund_request_not_open");
    let own = format!("/orders/{}/refund-requests", orders[0]);
    assert_eq!(server.get(&own, Some(&ann)).await.1, json!({"items": [refused]}));
    problem(server.get(&own, Some(&eve)).await, 404, "order_not_found");
    assert_eq!(server.get(&format!("/orders/{}", orders[0]), Some(&ann)).await.1["status"], "confirmed");
    // Accepted: the money goes back, once.
    for _ in 0..2 {
        let (status, accepted) = reply(&orders[1], &maker, json!({"accept": true})).await;
        assert_eq!((status.as_u16(), &accepted["status"]), (200, &json!("accepted")), "{accepted}");
    }
    let order = format!("/orders/{}", orders[1]);
    server.until("refunded", async || server.get(&order, Some(&bob)).await.1["status"] == "refunded").await;
    assert_eq!(server.stock(&drop).await, (4, 0, 1));
    // What was refunded already cannot be asked for.
    let (_, third) = server.order(&eve, "1", &paid).await;
    let third = third["id"].as_str().expect("an id");
    assert_eq!(server.call(Method::POST, &format!("/orders/{third}/refund"), Some(&maker), None).await.0, 200);
    problem(ask(third, &eve, "x").await, 409, "order_not_confirmed");
}

#[tokio::test]
async fn a_seller_refunds_lists_and_exports() {
    let server = Server::start().await;
    let (maker, drop) = server.live_drop(5, json!({})).await;
    let (ann, eve) = (server.account("ann").await, server.account("eve").await);
    let paid = json!({"drop_id": drop, "quantity": 2, "payment_method": "pm_sandbox_ok"});
    let (_, sold) = server.order(&ann, "1", &paid).await;
    let (_, held) = server.order(&ann, "2", &json!({"drop_id": drop, "quantity": 1})).await;
    let id = |order: &Value| order["id"].as_str().expect("an id").to_owned();
    let refund = async |order: &Value, who: &Account| {
        server.call(Method::POST, &format!("/orders/{}/refund", id(order)), Some(who), None).await
    };
    problem(refund(&sold, &ann).await, 403, "forbidden");
    problem(refund(&sold, &eve).await, 404, "order_not_found");
    problem(refund(&held, &maker).await, 409, "order_not_confirmed");
    let listed = server.get(&format!("/drops/{drop}/orders?limit=1"), Some(&maker)).await.1;
    assert_eq!((&listed["items"][0]["id"], &listed["items"][0]["buyer_id"]), (&held["id"], &json!(ann.id)), "{listed}");
    let next = listed["next_cursor"].as_str().expect("more");
    let listed = server.get(&format!("/drops/{drop}/orders?cursor={next}"), Some(&maker)).await.1;
    assert_eq!((&listed["items"][0]["id"], &listed["next_cursor"]), (&sold["id"], &Value::Null));
    for path in [format!("/drops/{drop}/orders"), format!("/drops/{drop}/orders/export")] {
        problem(server.get(&path, Some(&ann)).await, 403, "forbidden");
        problem(server.get(&path, None).await, 401, "unauthenticated");
    }

    // The drop has ended and left memory: a refund loads it for a while.
    server.call(Method::POST, &format!("/orders/{}/cancel", id(&held)), Some(&ann), None).await;
    server.call(Method::POST, &format!("/drops/{drop}/end"), Some(&maker), None).await;
    server
        .until("out of memory", async || server.get(&format!("/drops/{drop}/stock"), None).await.1["position"] == 0)
        .await;
    let (status, owed) = refund(&sold, &maker).await;
    assert_eq!((status.as_u16(), &owed["refund_due"]), (200, &json!("requested")), "{owed}");
    let path = format!("/orders/{}", id(&sold));
    server.until("refunded", async || server.get(&path, Some(&ann)).await.1["status"] == "refunded").await;
    assert_eq!(refund(&sold, &maker).await.0, 200, "repeated: unchanged");
    assert_eq!(server.stock(&drop).await, (5, 0, 0));
    assert_eq!(server.order(&ann, "1", &paid).await.1, sold, "the key keeps its first answer");

    let history = server.get(&format!("{path}/history"), Some(&ann)).await.1;
    let steps: Vec<(&str, &Value)> = (history["items"].as_array().expect("steps").iter())
        .map(|step| (step["type"].as_str().expect("a type"), &step["reason"]))
        .collect();
    let (none, requested) = (Value::Null, json!("requested"));
    assert_eq!(steps, [("reserved", &none), ("confirmed", &none), ("refund_due", &requested), ("refunded", &none)]);
    assert_eq!(server.get(&format!("{path}/history"), Some(&maker)).await.1, history);
    problem(server.get(&format!("{path}/history"), Some(&eve)).await, 404, "order_not_found");

    let export = async |format: &str| {
        let request = server.http.get(server.url(&format!("/drops/{drop}/orders/export{format}")));
        let answer = request.bearer_auth(&maker.token).send().await.expect("an answer");
        let media_type = answer.headers()["content-type"].to_str().expect("text").to_owned();
        (media_type, answer.text().await.expect("a body"))
    };
    let (media_type, table) = export("").await;
    assert_eq!(media_type, "text/csv; charset=utf-8");
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 3, "{table}");
    assert!(lines[0].starts_with(
        "id,number,buyer_id,buyer_name,buyer_email,variant_id,variant,quantity,unit_price,total,currency,status"
    ));
    let (number, who) = (sold["number"].as_str().expect("a number"), format!("{},ann,{}", ann.id, ann.email));
    assert!(lines[2].starts_with(&format!("{},{number},{who},", id(&sold))), "{table}");
    assert!(lines[2].contains(",2,1999,3998,USD,refunded,"));
    assert!(lines[1].contains(",released,cancelled,"));
    let (media_type, table) = export("?format=ndjson").await;
    let last: Value = serde_json::from_str(table.lines().last().expect("a line")).expect("JSON");
    assert_eq!(last["buyer"], json!({"name": "ann", "email": ann.email}));
    assert_eq!((media_type.as_str(), &last["id"], table.lines().count()), ("application/x-ndjson", &sold["id"], 2));
    problem(
        server.get(&format!("/drops/{drop}/orders/export?format=xml"), Some(&maker)).await,
        400,
        "validation_failed",
    );
}

#[tokio::test]
async fn a_late_purchase_keeps_its_whole_history() {
    let server = Server::with(None, &["--payment-timeout-ms", "300"]).await;
    let (_, drop) = server.live_drop(1, json!({"hold_seconds": 1})).await;
    let ann = server.account("ann").await;
    let slow = json!({"drop_id": drop, "quantity": 1, "payment_method": "pm_sandbox_slow"});
    problem(server.order(&ann, "slow", &slow).await, 504, "payment_timeout");
    let order = server.get("/users/me/orders", Some(&ann)).await.1["items"][0].clone();
    let path = format!("/orders/{}", order["id"].as_str().expect("an id"));
    server.until("confirmed", async || server.get(&path, Some(&ann)).await.1["status"] == "confirmed").await;
    let history = server.get(&format!("{path}/history"), Some(&ann)).await.1;
    let steps: Vec<&str> =
        history["items"].as_array().expect("steps").iter().filter_map(|step| step["type"].as_str()).collect();
    assert_eq!(steps, ["reserved", "released", "confirmed"], "{history}");
    assert_eq!(history["items"][1]["reason"], "expired");
}

#[tokio::test]
async fn an_order_is_found_by_its_number() {
    let server = Server::start().await;
    let (maker, drop) = server.live_drop(30, json!({})).await;
    let (ann, eve) = (server.account("ann").await, server.account("eve").await);
    let mut orders = Vec::new();
    for (nth, buyer) in [&ann, &eve].into_iter().cycle().take(8).enumerate() {
        let (status, order) = server.order(buyer, &nth.to_string(), &json!({"drop_id": drop, "quantity": 1})).await;
        assert_eq!(status, 201, "{order}");
        orders.push(order);
    }
    let number = |order: &Value| order["number"].as_str().expect("a number").to_owned();
    let numbers: std::collections::BTreeSet<String> = orders.iter().map(number).collect();
    assert!(numbers.len() == 8 && numbers.iter().all(|number| number.len() == 14), "{numbers:?}");
    let again = server.order(&ann, "0", &json!({"drop_id": drop, "quantity": 1})).await.1;
    assert_eq!(again["number"], orders[0]["number"], "a replay has the same");

    let find = async |path: &str, typed: &str, who: &Account| {
        let query = typed.replace(' ', "%20");
        server.get(&format!("{path}?number={query}"), Some(who)).await
    };
    let sales = format!("/drops/{drop}/orders");
    for (nth, order) in orders.iter().enumerate() {
        let (mine, others) = if nth % 2 == 0 { (&ann, &eve) } else { (&eve, &ann) };
        let plain = number(order).replace('-', "").to_lowercase();
        for typed in [number(order), plain.clone(), format!(" {} {}", &plain[..5], &plain[5..])] {
            let found = find("/orders", &typed, mine).await.1;
            assert_eq!((&found["items"], &found["next_cursor"]), (&json!([order]), &Value::Null), "{typed}");
            assert_eq!(find("/orders", &typed, others).await.1["items"], json!([]), "{typed}");
            let sold = find(&sales, &typed, &maker).await.1;
            assert_eq!((&sold["items"][0]["id"], sold["items"].as_array().map(Vec::len)), (&order["id"], Some(1)));
        }
    }
    problem(find(&sales, &number(&orders[0]), &ann).await, 403, "forbidden");
    let all = server.get("/orders", Some(&ann)).await.1;
    assert_eq!(all, server.get("/users/me/orders", Some(&ann)).await.1, "without a number: all one's own");

    // Two that are swapped are a typing error; a well-formed number that nobody has is none.
    let mut swapped = number(&orders[0]).into_bytes();
    let at = (0..13).find(|&at| swapped[at] != swapped[at + 1] && ![at, at + 1].iter().any(|&at| swapped[at] == b'-'));
    let at = at.expect("two symbols that differ");
    swapped.swap(at, at + 1);
    for wrong in [String::from_utf8(swapped).expect("ASCII"), "OIL0-1111-0000".into(), "2222".into()] {
        problem(find("/orders", &wrong, &ann).await, 400, "order_number_invalid");
        problem(find(&sales, &wrong, &maker).await, 400, "order_number_invalid");
    }
    assert_eq!(find("/orders", "2222-2222-2222", &ann).await.1["items"], json!([]));
    assert_eq!(find(&sales, "2222-2222-2222-2222-2222", &maker).await.1["items"], json!([]));

    // After everybody has left memory, SQL finds it.
    let path = format!("/orders/{}/cancel", orders[0]["id"].as_str().expect("an id"));
    assert_eq!(server.call(Method::POST, &path, Some(&ann), None).await.0, 200);
    let found = find("/orders", &number(&orders[0]), &ann).await.1;
    assert_eq!(found["items"][0]["status"], "released", "{found}");
}

#[tokio::test]
async fn who_buyers_are_is_for_their_seller_and_leaves_a_trace() {
    let server = Server::start().await;
    let root = server.admin().await;
    let (maker, drop) = server.live_drop(30, json!({})).await;
    let (rival, _) = server.creator("rival").await;
    let (ann, ben) = (server.account("ann").await, server.account("ben").await);
    let body = |more: Value| {
        let mut body = json!({"drop_id": drop, "quantity": 1});
        body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        body
    };
    let (_, paid) = server.order(&ann, "1", &body(json!({"payment_method": "pm_sandbox_ok"}))).await;
    let (_, held) = server.order(&ben, "2", &body(json!({}))).await;
    let sales = format!("/drops/{drop}/orders");
    problem(server.get(&sales, Some(&rival)).await, 403, "forbidden");
    let listed = server.get(&sales, Some(&maker)).await.1;
    let buyers: Vec<&Value> = listed["items"].as_array().expect("items").iter().map(|order| &order["buyer"]).collect();
    assert_eq!(
        buyers,
        [&json!({"name": "ben", "email": ben.email}), &json!({"name": "ann", "email": ann.email})],
        "newest first"
    );
    let found = async |query: &str| {
        let (status, page) = server.get(&format!("{sales}?{query}"), Some(&maker)).await;
        assert_eq!(status, 200, "{page}");
        page["items"].as_array().expect("items").iter().map(|order| order["id"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(found("status=confirmed").await, [paid["id"].clone()]);
    assert_eq!(found("status=reserved&limit=1").await, [held["id"].clone()]);
    assert_eq!(found("status=released").await, [] as [Value; 0]);
    let variant = paid["variant_id"].as_str().expect("an id");
    assert_eq!(found(&format!("variant_id={variant}&status=confirmed")).await, [paid["id"].clone()]);
    assert_eq!(found("variant_id=018f0000-0000-7000-8000-000000000000").await, [] as [Value; 0]);
    problem(server.get(&format!("{sales}?status=sold"), Some(&maker)).await, 400, "validation_failed");

    let drop_id = json!(drop);
    let trail = server.get(&format!("/audit?object_id={drop}&limit=100"), Some(&root)).await.1;
    let read: Vec<&Value> =
        (trail["items"].as_array().expect("lines").iter()).filter(|line| line["act"] == "buyers_read").collect();
    assert_eq!(read.len(), 4, "every page with somebody on it: {trail}");
    let first = read[3];
    assert_eq!((&first["actor_id"], &first["object_id"]), (&json!(maker.id), &drop_id), "{first}");
    assert_eq!(
        first["detail"],
        json!({"as": "list", "orders": 2, "newest": held["id"], "oldest": paid["id"]}),
        "ids, no names"
    );

    let (status, _) = server
        .call(Method::POST, &format!("/orders/{}/cancel", held["id"].as_str().expect("an id")), Some(&ben), None)
        .await;
    assert_eq!(status, 200);
    let gone = server.call(Method::DELETE, "/users/me", Some(&ben), Some(json!({"password": "correct horse"}))).await;
    assert_eq!(gone.0, 204, "{}", gone.1);
    let listed = server.get(&sales, Some(&root)).await.1;
    assert_eq!((&listed["items"][0]["buyer"], &listed["items"][0]["buyer_id"]), (&Value::Null, &json!(ben.id)));
    let export = server.http.get(server.url(&format!("{sales}/export"))).bearer_auth(&maker.token);
    let table = export.send().await.expect("an answer").text().await.expect("a table");
    assert!(table.contains(&ann.email) && !table.contains(&ben.email), "{table}");
}
