//! Products: described, changed, archived, listed.

use crate::server::{Account, Server, problem};
use reqwest::Method;
use serde_json::{Value, json};

fn described() -> Value {
    json!({
        "name": "Winter jacket 🧥",
        "description": "Warm\nand dry",
        "price": {"amount": 1999, "currency": "EUR"},
        "images": [{"url": "HTTPS://Example.com/größe.jpg", "alt": "Red"}, {"url": "http://example.com/b.jpg"}],
        "attributes": {"material": "wool", "weight_kg": 1.20, "lined": true},
        "variants": [{"name": "M"}, {"name": "XL", "price": {"amount": 2199, "currency": "EUR"}}],
    })
}

async fn patch(server: &Server, who: &Account, path: &str, body: Value) -> (reqwest::StatusCode, Value) {
    server.call(Method::PATCH, path, Some(who), Some(body)).await
}

fn pointers(problem: &Value) -> Vec<&str> {
    let errors = problem["errors"].as_array().expect("errors");
    errors.iter().filter_map(|error| error["pointer"].as_str()).collect()
}

#[tokio::test]
async fn a_product_is_described_and_changed() {
    let server = Server::start().await;
    let (maker, _) = server.creator("maker").await;
    let (status, made) = server.post("/products", Some(&maker), described()).await;
    assert_eq!((status.as_u16(), &made["status"]), (201, &json!("active")), "{made}");
    assert_eq!(made["images"][0], json!({"url": "https://example.com/gr%C3%B6%C3%9Fe.jpg", "alt": "Red"}));
    assert_eq!(made["images"][1], json!({"url": "http://example.com/b.jpg", "alt": null}));
    assert_eq!(made["attributes"], described()["attributes"]);
    assert_eq!((&made["variants"][0]["name"], &made["variants"][0]["price"]), (&json!("M"), &json!(null)));
    let path = format!("/products/{}", made["id"].as_str().expect("an id"));
    assert_eq!(server.get(&path, None).await.1, made);

    assert_eq!(patch(&server, &maker, &path, json!({})).await.1, made, "nothing asked, nothing changed");
    let medium = &made["variants"][0]["id"];
    let change = json!({
        "description": null,
        "images": null,
        "attributes": {"lined": null, "colour": "red"},
        "variants": [{"name": "S"}, {"name": "Medium", "id": medium}],
    });
    let (status, changed) = patch(&server, &maker, &path, change).await;
    assert_eq!((status.as_u16(), &changed["name"]), (200, &made["name"]), "{changed}");
    assert_eq!((&changed["description"], &changed["images"]), (&json!(""), &json!([])));
    assert_eq!(changed["attributes"], json!({"colour": "red", "material": "wool", "weight_kg": 1.2}));
    assert_eq!(changed["variants"].as_array().map(Vec::len), Some(2));
    assert_eq!((&changed["variants"][1]["id"], &changed["variants"][1]["name"]), (medium, &json!("Medium")));
    assert_eq!(changed["created_at"], made["created_at"]);
    assert!(changed["updated_at"].as_str() >= made["updated_at"].as_str());
    assert_eq!(server.get(&path, None).await.1, changed);

    let gone = json!({"variants": [{"name": "XL", "id": made["variants"][1]["id"]}], "name": "x"});
    let refused = problem(patch(&server, &maker, &path, gone).await, 409, "conflicting_fields");
    assert_eq!(pointers(&refused), ["/variants/0/id"]);
    assert_eq!(server.get(&path, None).await.1, changed, "all of a change or nothing");
}

#[tokio::test]
async fn nonsense_is_refused_and_every_bad_field_named() {
    let server = Server::start().await;
    let (maker, product) = server.creator("maker").await;
    let path = format!("/products/{product}");
    let before = server.get(&path, None).await.1;
    let wrong = json!({
        "name": "\u{202}\u{7}",
        "description": "x".repeat(4_001),
        "price": {"amount": -1, "currency": "EUR"},
        "images": [{"url": "javascript:alert(1)"}],
        "attributes": {"a": {"b": 1}},
        "variants": [{"name": "M", "id": "x"}],
    });
    let all = ["/name", "/description", "/price/amount", "/images/0/url", "/attributes/a", "/variants/0/id"];
    let refused = problem(patch(&server, &maker, &path, wrong.clone()).await, 400, "validation_failed");
    assert_eq!(pointers(&refused), all);
    let refused = problem(server.post("/products", Some(&maker), wrong).await, 400, "validation_failed");
    assert_eq!(pointers(&refused), all);
    for strange in ["status", "id", "creator_id", "version", "stock"] {
        problem(patch(&server, &maker, &path, json!({strange: "archived"})).await, 400, "validation_failed");
    }
    let huge = json!({"description": "x".repeat(1_100_000)});
    problem(patch(&server, &maker, &path, huge).await, 413, "body_too_large");
    let euros = json!({"variants": [{"name": "M", "price": {"amount": 1, "currency": "EUR"}}]});
    let refused = problem(patch(&server, &maker, &path, euros).await, 409, "conflicting_fields");
    assert_eq!(pointers(&refused), ["/variants/0/price/currency"]);
    assert_eq!(server.get(&path, None).await.1, before);
    problem(patch(&server, &maker, "/products/nope", json!({})).await, 404, "product_not_found");
    problem(server.call(Method::PUT, &path, Some(&maker), Some(json!({}))).await, 405, "method_not_allowed");
}

#[tokio::test]
async fn its_creator_and_admins_change_a_product_and_leave_a_trail() {
    let server = Server::start().await;
    let (maker, product) = server.creator("maker").await;
    let (other, _) = server.creator("other").await;
    let (eve, admin) = (server.account("eve").await, server.admin().await);
    let path = format!("/products/{product}");
    let act =
        async |who: Option<&Account>, what: &str| server.call(Method::POST, &format!("{path}/{what}"), who, None).await;
    for stranger in [&other, &eve] {
        problem(patch(&server, stranger, &path, json!({"name": "Mine"})).await, 403, "forbidden");
        problem(act(Some(stranger), "archive").await, 403, "forbidden");
        problem(act(Some(stranger), "restore").await, 403, "forbidden");
    }
    problem(act(None, "archive").await, 401, "unauthenticated");
    let nobody = "/products/018f0000-0000-7000-8000-000000000000";
    problem(patch(&server, &eve, nobody, json!({})).await, 404, "product_not_found");

    assert_eq!(patch(&server, &maker, &path, json!({"name": "Coat"})).await.0, 200);
    let price = json!({"price": {"amount": 5, "currency": "USD"}});
    assert_eq!(patch(&server, &admin, &path, price).await.1["name"], "Coat");
    for _ in 0..2 {
        let (status, archived) = act(Some(&admin), "archive").await;
        assert_eq!((status.as_u16(), &archived["status"]), (200, &json!("archived")), "{archived}");
    }
    assert_eq!(act(Some(&maker), "restore").await.1["status"], "active");
    let (_, trail) = server.get(&format!("/audit?object_id={product}"), Some(&admin)).await;
    let lines: Vec<_> = trail["items"].as_array().expect("items").iter().rev().collect();
    let acts: Vec<_> = lines.iter().map(|line| line["act"].as_str().expect("an act")).collect();
    assert_eq!(acts, ["product_changed", "product_changed", "product_archived", "product_restored"], "{trail}");
    assert_eq!((&lines[0]["role"], &lines[0]["actor_id"]), (&json!("user"), &json!(maker.id)));
    assert_eq!((&lines[1]["role"], &lines[1]["object_kind"]), (&json!("admin"), &json!("product")));
    let money = |amount: u32| json!({"amount": amount, "currency": "USD"});
    assert_eq!(lines[1]["detail"], json!({"fields": ["price"], "price": {"from": money(1999), "to": money(5)}}));
}

#[tokio::test]
async fn a_price_is_in_money_that_there_is() {
    let server = Server::start().await;
    let (maker, _) = server.creator("maker").await;
    let product = |code: &str| json!({"name": "Mug", "price": {"amount": 500, "currency": code}, "variants": [{"name": "L", "price": {"amount": 7, "currency": code}}]});
    for (code, exponent) in [("USD", 2), ("JPY", 0), ("KWD", 3)] {
        let (status, made) = server.post("/products", Some(&maker), product(code)).await;
        let money = |amount: i64| json!({"amount": amount, "currency": code, "exponent": exponent});
        assert_eq!((status.as_u16(), &made["price"]), (201, &money(500)), "{made}");
        assert_eq!(made["variants"][0]["price"], money(7));
        let drop =
            json!({"product_id": made["id"], "variants": [{"variant_id": made["variants"][0]["id"], "stock": 1}]});
        let (_, drop) = server.post("/drops", Some(&maker), drop).await;
        assert_eq!(drop["variants"][0]["price"], money(7));
    }
    for code in ["ZZZ", "XXX", "XTS", "XAU", "HRK", "usd"] {
        let told = problem(server.post("/products", Some(&maker), product(code)).await, 400, "validation_failed");
        assert_eq!(pointers(&told), ["/price/currency", "/variants/0/price/currency"], "{code}");
        problem(server.get(&format!("/products?currency={code}"), None).await, 400, "validation_failed");
    }
    // Prices in requests have no exponent: it follows from the currency.
    let told = json!({"name": "Mug", "price": {"amount": 500, "currency": "USD", "exponent": 2}});
    problem(server.post("/products", Some(&maker), told).await, 400, "validation_failed");
}

#[tokio::test]
async fn an_exported_table_has_no_formulas() {
    let server = Server::start().await;
    let (maker, product) = server.creator("maker").await;
    let formula = "=HYPERLINK(\"https://evil.example\",\"Refund\")";
    let drop = json!({"product_id": product, "variants": [{"name": formula, "stock": 1}, {"name": "-1", "stock": 1}, {"name": "M", "stock": 1}]});
    let (_, drop) = server.post("/drops", Some(&maker), drop).await;
    for variant in drop["variants"].as_array().expect("variants") {
        let order = json!({"drop_id": drop["id"], "variant_id": variant["id"], "quantity": 1});
        assert_eq!(server.order(&maker, variant["id"].as_str().expect("an id"), &order).await.0, 201);
    }
    let url = server.url(&format!("/drops/{}/orders/export", drop["id"].as_str().expect("an id")));
    let table =
        server.http.get(url).bearer_auth(&maker.token).send().await.expect("an answer").text().await.expect("text");
    let mut reader = csv::Reader::from_reader(table.as_bytes());
    let column = reader.headers().expect("a head").iter().position(|name| name == "variant").expect("variants");
    let names: Vec<String> = reader.records().map(|line| line.expect("a line")[column].to_owned()).collect();
    assert_eq!(names, ["M".to_owned(), "'-1".to_owned(), format!("'{formula}")]);
}

#[tokio::test]
async fn an_archived_product_gets_no_new_drop_and_keeps_those_it_has() {
    let server = Server::start().await;
    let (maker, product) = server.creator("maker").await;
    let drop = json!({"product_id": product, "stock": 5});
    let (_, running) = server.post("/drops", Some(&maker), drop.clone()).await;
    let path = format!("/products/{product}");
    server.call(Method::POST, &format!("{path}/archive"), Some(&maker), None).await;
    problem(server.post("/drops", Some(&maker), drop.clone()).await, 409, "product_archived");
    let buyer = server.account("buyer").await;
    let order = json!({"drop_id": running["id"], "quantity": 1, "payment_method": "pm_sandbox_ok"});
    assert_eq!(server.order(&buyer, "k", &order).await.1["status"], "confirmed");
    assert_eq!(server.get(&path, None).await.1["status"], "archived");
    for list in ["/products".to_owned(), format!("/creators/{}/products", maker.id)] {
        assert_eq!(server.get(&list, None).await.1["items"], json!([]));
        assert_eq!(server.get(&format!("{list}?status=archived"), None).await.1["items"][0]["id"], json!(product));
    }
    server.call(Method::POST, &format!("{path}/restore"), Some(&maker), None).await;
    assert_eq!(server.get("/products", None).await.1["items"][0]["id"], json!(product));
    assert_eq!(server.post("/drops", Some(&maker), drop).await.0, 201);
}

#[tokio::test]
async fn products_are_found_by_creator_and_price() {
    let server = Server::start().await;
    let ((ann, jacket), (bob, _)) = (server.creator("ann").await, server.creator("bob").await);
    for amount in [100, 200, 300] {
        let product = json!({"name": format!("P{amount}"), "price": {"amount": amount, "currency": "EUR"}});
        assert_eq!(server.post("/products", Some(&ann), product).await.0, 201);
    }
    let found = async |path: &str| {
        let (status, page) = server.get(path, None).await;
        assert_eq!(status, 200, "{page}");
        let items = page["items"].as_array().expect("items");
        items.iter().map(|item| item["price"]["amount"].as_i64().expect("an amount")).collect::<Vec<_>>()
    };
    assert_eq!(found(&format!("/products?creator_id={}", ann.id)).await, [300, 200, 100, 1999]);
    assert_eq!(found(&format!("/products?creator_id={jacket}")).await, [0_i64; 0]);
    assert_eq!(found("/products?currency=USD").await, [1999, 1999]);
    assert_eq!(found("/products?currency=EUR&price_min=200").await, [300, 200]);
    assert_eq!(found("/products?currency=EUR&price_min=200&price_max=200").await, [200]);
    assert_eq!(found(&format!("/creators/{}/products?currency=EUR", bob.id)).await, [0_i64; 0]);
    assert_eq!(found(&format!("/creators/{}/products?currency=EUR", ann.id)).await, [300, 200, 100]);
    // The path determines the creator.
    let of_two = format!("/creators/{}/products?creator_id={}", ann.id, bob.id);
    assert_eq!(pointers(&problem(server.get(&of_two, None).await, 400, "validation_failed")), ["/creator_id"]);
    let (_, page) = server.get("/products?currency=EUR&limit=2", None).await;
    let next = page["next_cursor"].as_str().expect("more");
    assert_eq!(found(&format!("/products?currency=EUR&limit=2&cursor={next}")).await, [100]);

    let refused = problem(
        server.get("/products?status=live&creator_id=x&price_min=-1&price_max=x&limit=0", None).await,
        400,
        "validation_failed",
    );
    assert_eq!(pointers(&refused), ["/limit", "/status", "/creator_id", "/price_min", "/price_max"]);
    problem(server.get("/creators/x/products", None).await, 404, "creator_not_found");
    let nobody = "/creators/018f0000-0000-7000-8000-000000000000/products";
    problem(server.get(nobody, None).await, 404, "creator_not_found");
}

#[tokio::test]
async fn a_drop_sells_the_products_variants_each_by_itself() {
    let server = Server::start().await;
    let (maker, _) = server.creator("maker").await;
    let (_, product) = server.post("/products", Some(&maker), described()).await;
    let [medium, large] = [0, 1].map(|index| product["variants"][index]["id"].clone());
    let post = async |fields: Value| {
        let mut body = json!({"product_id": product["id"]});
        body.as_object_mut().expect("an object").extend(fields.as_object().expect("an object").clone());
        server.post("/drops", Some(&maker), body).await
    };
    let refused = problem(post(json!({"stock": 5})).await, 409, "conflicting_fields");
    assert_eq!(pointers(&refused), ["/variants"]);
    let strange = json!([{"variant_id": product["id"], "stock": 1}, {"name": "M", "stock": 1}, {"variant_id": medium, "stock": 1}]);
    let refused = problem(post(json!({"variants": strange})).await, 409, "conflicting_fields");
    assert_eq!(pointers(&refused), ["/variants/0/variant_id", "/variants/2/name"]);

    let variants = json!([{"variant_id": medium, "stock": 2}, {"variant_id": large, "stock": 1},
                          {"name": "Sample", "stock": 1, "price": {"amount": 0, "currency": "EUR"}}]);
    let (status, drop) = post(json!({"variants": variants})).await;
    assert_eq!(status, 201, "{drop}");
    let shown: Vec<_> = drop["variants"].as_array().expect("variants").iter().collect();
    assert_eq!((&shown[0]["id"], &shown[1]["id"]), (&medium, &large));
    assert_eq!([&shown[0]["name"], &shown[1]["name"], &shown[2]["name"]], ["M", "XL", "Sample"]);
    let prices: Vec<_> = shown.iter().map(|variant| variant["price"]["amount"].as_i64().expect("an amount")).collect();
    assert_eq!(prices, [1999, 2199, 0]);

    let id = drop["id"].as_str().expect("an id");
    let buyer = server.account("buyer").await;
    let order = async |key: &str, variant: &Value| {
        let body = json!({"drop_id": id, "variant_id": variant, "quantity": 1, "payment_method": "pm_sandbox_ok"});
        server.order(&buyer, key, &body).await
    };
    let state = async || {
        let (_, drop) = server.get(&format!("/drops/{id}"), None).await;
        let free = |index: usize| drop["variants"][index]["stock"]["available"].as_u64().expect("a number");
        (drop["status"].as_str().expect("a status").to_owned(), [free(0), free(1), free(2)])
    };
    assert_eq!(order("1", &large).await.1["total"], json!({"amount": 2199, "currency": "EUR", "exponent": 2}));
    problem(order("2", &large).await, 409, "sold_out");
    assert_eq!(state().await, ("live".to_owned(), [2, 0, 1]));
    assert_eq!(order("3", &medium).await.1["unit_price"], json!({"amount": 1999, "currency": "EUR", "exponent": 2}));
    assert_eq!(order("4", &shown[2]["id"]).await.1["total"]["amount"], 0);
    assert_eq!(state().await, ("live".to_owned(), [1, 0, 0]));

    // Later changes of the product do not affect the drop on sale.
    let path = format!("/products/{}", product["id"].as_str().expect("an id"));
    let change = json!({"price": {"amount": 1, "currency": "EUR"}, "variants": null});
    assert_eq!(patch(&server, &maker, &path, change).await.0, 200);
    let (status, last) = order("5", &medium).await;
    assert_eq!((status.as_u16(), &last["total"]["amount"]), (201, &json!(1999)), "{last}");
    assert_eq!(state().await, ("sold_out".to_owned(), [0, 0, 0]));
    problem(order("6", &medium).await, 409, "sold_out");
}

#[tokio::test]
async fn a_products_variant_is_one_in_all_its_drops_and_after_a_crash() {
    let mut server = Server::start().await;
    let (maker, _) = server.creator("maker").await;
    let (_, product) = server.post("/products", Some(&maker), described()).await;
    let medium = &product["variants"][0]["id"];
    let buyer = server.account("buyer").await;
    let mut drops = Vec::new();
    for stock in [1, 3] {
        let body = json!({"product_id": product["id"], "variants": [{"variant_id": medium, "stock": stock}]});
        let (status, drop) = server.post("/drops", Some(&maker), body).await;
        assert_eq!(status, 201, "{drop}");
        drops.push(drop["id"].as_str().expect("an id").to_owned());
    }
    let order = |drop: &str| json!({"drop_id": drop, "variant_id": medium, "quantity": 1});
    assert_eq!(server.order(&buyer, "1", &order(&drops[0])).await.0, 201);
    problem(server.order(&buyer, "2", &order(&drops[0])).await, 409, "sold_out");
    assert_eq!(server.order(&buyer, "3", &order(&drops[1])).await.0, 201);
    server.kill();
    server.restart();
    problem(server.order(&buyer, "4", &order(&drops[0])).await, 409, "sold_out");
    assert_eq!(server.order(&buyer, "5", &order(&drops[1])).await.0, 201);
    assert_eq!(server.stock(&drops[1]).await, (1, 2, 0));
    assert_eq!(server.terminate(), Some(0));
    let (code, report) = server.verify();
    assert_eq!(code, Some(0), "{report}");
}

#[tokio::test]
async fn changes_at_the_same_time_are_all_kept() {
    let server = Server::start().await;
    let (maker, product) = server.creator("maker").await;
    let path = format!("/products/{product}");
    let change = async |n: usize| patch(&server, &maker, &path, json!({"attributes": {format!("a{n}"): n}})).await.0;
    let all = futures_util::future::join_all((0..8).map(change)).await;
    assert!(all.iter().all(|status| status.as_u16() == 200), "{all:?}");
    let (_, last) = server.get(&path, None).await;
    assert_eq!(last["attributes"].as_object().map(serde_json::Map::len), Some(8), "{last}");
}

/// A page of 100 products of 100 KB each would be 10 MB.
#[tokio::test]
async fn lists_of_large_things_are_summaries_and_bounded_in_bytes() {
    let server = Server::start().await;
    let (maker, _) = server.creator("maker").await;
    let image = json!({"url": format!("https://example.com/{}.jpg", "x".repeat(1_900)), "alt": "é".repeat(500)});
    let product = json!({
        "name": "Jacket",
        "description": "x".repeat(4_000),
        "price": {"amount": 1, "currency": "EUR"},
        "images": vec![image.clone(); 10],
        "attributes": (0..10).map(|n| (format!("a{n}"), "y".repeat(300))).collect::<std::collections::BTreeMap<_, _>>(),
        "variants": (0..64).map(|n| json!({"name": format!("{n}{}", "z".repeat(90))})).collect::<Vec<_>>(),
    });
    let made =
        futures_util::future::join_all((0..110).map(|_| server.post("/products", Some(&maker), product.clone()))).await;
    assert!(made.iter().all(|(status, _)| *status == 201), "{}", made[0].1);
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let (_, page) = server.get(&format!("/products?currency=EUR&limit=100{cursor}"), None).await;
        assert!(page.to_string().len() < 512 << 10, "{}", page.to_string().len());
        for item in page["items"].as_array().expect("items") {
            let fields: Vec<_> = item.as_object().expect("an object").keys().map(String::as_str).collect();
            let told = ["created_at", "creator_id", "id", "image", "name", "price", "status", "updated_at"];
            let mut sorted = fields.clone();
            sorted.sort_unstable();
            assert_eq!((sorted, &item["image"]), (told.to_vec(), &image));
            seen.push(item["id"].as_str().expect("an id").to_owned());
        }
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    let mut wanted: Vec<_> =
        made.iter().map(|(_, product)| product["id"].as_str().expect("an id").to_owned()).collect();
    wanted.sort_unstable_by(|one, other| other.cmp(one));
    assert_eq!(seen, wanted, "every one once, newest first");

    // Drops keep their variants in lists, because buyers choose from them, so the page is shorter.
    let variants: Vec<_> = (0..64).map(|n| json!({"name": format!("{n}{}", "z".repeat(90)), "stock": 1})).collect();
    for made in &made[..60] {
        let product = &made.1["id"];
        let (status, drop) =
            server.post("/drops", Some(&maker), json!({"product_id": product, "variants": variants})).await;
        assert_eq!(status, 201, "{drop}");
    }
    let (mut drops, mut cursor) = (0, String::new());
    loop {
        let (_, page) = server.get(&format!("/drops?limit=100{cursor}"), None).await;
        assert!(page.to_string().len() < 768 << 10, "{}", page.to_string().len());
        drops += page["items"].as_array().expect("items").len();
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(drops, 60);
}
