//! Orders that are sent: the address that they name, what shipping costs, and what the seller reads.

use crate::server::{Account, Server, problem};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

struct Shop {
    server: Server,
    maker: Account,
    ann: Account,
}

fn usd(amount: i64) -> Value {
    json!({"amount": amount, "currency": "USD"})
}

fn home(country: &str, street: &str) -> Value {
    json!({"name": "Ada Lovelace", "line1": street, "city": "Town", "postal_code": "12345", "country": country})
}

fn text(value: &Value) -> String {
    value.as_str().expect("text").to_owned()
}

impl Shop {
    async fn open() -> Self {
        let server = Server::start().await;
        let (maker, _) = server.creator("maker").await;
        let ann = server.account("ann").await;
        Self { server, maker, ann }
    }

    /// A live drop of a product that is shipped, or is not.
    async fn drop(&self, price: i64, shipped: bool, more: Value) -> (StatusCode, Value) {
        let product = json!({"name": "Jacket", "price": usd(price), "shipped": shipped});
        let (status, product) = self.server.post("/products", Some(&self.maker), product).await;
        assert_eq!((status.as_u16(), &product["shipped"]), (201, &json!(shipped)), "{product}");
        let mut body = json!({"product_id": product["id"], "stock": 100, "hold_seconds": 600, "per_buyer_limit": 0});
        body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        self.server.post("/drops", Some(&self.maker), body).await
    }

    async fn shipped(&self, price: i64) -> String {
        let shipping = json!([{"country": "DE", "price": usd(490)}, {"country": "AT", "price": usd(0)}]);
        let (status, drop) = self.drop(price, true, json!({"shipping": shipping})).await;
        assert_eq!(status, 201, "{drop}");
        assert_eq!(
            drop["shipping"][0],
            json!({"country": "DE", "price": {"amount": 490, "currency": "USD", "exponent": 2}})
        );
        text(&drop["id"])
    }

    async fn address(&self, who: &Account, body: Value) -> Value {
        let (status, address) = self.server.post("/users/me/addresses", Some(who), body).await;
        assert!(status.is_success(), "{address}");
        address
    }

    async fn order(&self, key: &str, drop: &str, quantity: u32, address: Option<&Value>) -> (StatusCode, Value) {
        let mut body = json!({"drop_id": drop, "quantity": quantity});
        if let Some(address) = address {
            body["address"] = address.clone();
        }
        self.server.order(&self.ann, key, &body).await
    }

    async fn pay(&self, order: &Value) {
        let path = format!("/orders/{}/pay", text(&order["id"]));
        let (status, paid) = self.server.post(&path, Some(&self.ann), json!({"payment_method": "pm_sandbox_ok"})).await;
        assert_eq!((status.as_u16(), &paid["status"]), (200, &json!("confirmed")), "{paid}");
    }
}

#[tokio::test]
async fn what_is_charged_is_the_units_and_shipping() {
    let shop = Shop::open().await;
    let drop = shop.shipped(1_999).await;
    problem(shop.order("0", &drop, 1, None).await, 409, "address_required");
    let address = shop.address(&shop.ann, home("DE", "Ring 1")).await;
    let (status, order) = shop.order("1", &drop, 2, Some(&address["reference"])).await;
    assert_eq!((status.as_u16(), &order["total"]["amount"]), (201, &json!(2 * 1_999 + 490)), "{order}");
    let delivery = &order["delivery"];
    assert_eq!((&delivery["country"], &delivery["address_version"]), (&json!("DE"), &address["version"]));
    assert_eq!((&delivery["units"]["amount"], &delivery["shipping"]["amount"]), (&json!(3_998), &json!(490)));
    // A retry with another reference of the same address is the same order; another address is another request.
    let again = shop.address(&shop.ann, home("DE", "Ring 1")).await;
    let (status, replayed) = shop.order("1", &drop, 2, Some(&again["reference"])).await;
    assert_eq!((status.as_u16(), &replayed), (201, &order));
    let other = shop.address(&shop.ann, home("AT", "Ring 2")).await;
    problem(shop.order("1", &drop, 2, Some(&other["reference"])).await, 422, "idempotency_key_reused");
    let (_, free) = shop.order("2", &drop, 1, Some(&other["reference"])).await;
    assert_eq!((&free["total"]["amount"], &free["delivery"]["country"]), (&json!(1_999), &json!("AT")), "{free}");
    let far = shop.address(&shop.ann, home("FR", "Rue 3")).await;
    problem(shop.order("3", &drop, 1, Some(&far["reference"])).await, 409, "not_shipped_there");
    // What is no reference, and what is another's.
    let bob = shop.server.account("bob").await;
    let theirs = shop.address(&bob, home("DE", "Ring 1")).await;
    for reference in [&json!("AAAA"), &theirs["reference"]] {
        problem(shop.order("4", &drop, 1, Some(reference)).await, 422, "address_reference_invalid");
    }
    problem(shop.order("5", &drop, 1, Some(&json!("not one!"))).await, 422, "address_reference_invalid");
    shop.pay(&order).await;
    let (_, payments) = shop.server.get(&format!("/orders/{}/payments", text(&order["id"])), Some(&shop.ann)).await;
    assert_eq!(payments["items"][0]["amount"]["amount"], 4_488, "{payments}");
    let export = shop.server.http.get(shop.server.url(&format!("/drops/{drop}/orders/export")));
    let export = export.bearer_auth(&shop.maker.token).send().await.expect("an answer").text().await.expect("a table");
    assert!(export.contains(",4488,USD,") && export.lines().any(|line| line.ends_with(",490,DE")), "{export}");
}

#[tokio::test]
async fn a_free_product_with_paid_shipping_is_not_free() {
    let shop = Shop::open().await;
    let drop = shop.shipped(0).await;
    let (paid, free) =
        (shop.address(&shop.ann, home("DE", "Ring 1")).await, shop.address(&shop.ann, home("AT", "Ring 2")).await);
    let (_, order) = shop.order("1", &drop, 1, Some(&paid["reference"])).await;
    assert_eq!((&order["status"], &order["total"]["amount"]), (&json!("reserved"), &json!(490)), "{order}");
    shop.pay(&order).await;
    let (_, order) = shop.order("2", &drop, 1, Some(&free["reference"])).await;
    assert_eq!((&order["status"], &order["total"]["amount"]), (&json!("confirmed"), &json!(0)), "{order}");
}

#[tokio::test]
async fn what_is_not_shipped_takes_no_address_and_no_table() {
    let shop = Shop::open().await;
    let address = shop.address(&shop.ann, home("DE", "Ring 1")).await;
    let (_, drop) = shop.drop(5, false, json!({})).await;
    assert_eq!(drop["shipping"], Value::Null);
    let drop = text(&drop["id"]);
    let refused = problem(shop.order("1", &drop, 1, Some(&address["reference"])).await, 409, "conflicting_fields");
    assert_eq!(refused["errors"][0]["pointer"], "/address");
    let (_, order) = shop.order("2", &drop, 1, None).await;
    assert_eq!((&order["delivery"], &order["total"]["amount"]), (&Value::Null, &json!(5)), "{order}");
    let table = |rows: Value| json!({"shipping": rows});
    let row = |country: &str, price: Value| json!({"country": country, "price": price});
    problem(shop.drop(5, false, table(json!([row("DE", usd(1))]))).await, 409, "conflicting_fields");
    let euros = json!({"amount": 1, "currency": "EUR"});
    let refused = problem(shop.drop(5, true, table(json!([row("DE", euros)]))).await, 409, "conflicting_fields");
    assert_eq!(refused["errors"][0]["pointer"], "/shipping/0/price/currency");
    let twice = table(json!([row("DE", usd(1)), row("DE", usd(2))]));
    problem(shop.drop(5, true, twice).await, 409, "conflicting_fields");
    problem(shop.drop(5, true, table(json!([]))).await, 400, "validation_failed");
    let (_, drop) = shop.drop(5, true, json!({})).await;
    assert_eq!(drop["shipping"], json!([]), "everywhere for nothing");
    let (_, order) = shop.order("3", &text(&drop["id"]), 1, Some(&address["reference"])).await;
    assert_eq!(order["total"]["amount"], 5, "{order}");
}

#[tokio::test]
async fn the_seller_reads_the_address_as_it_was_and_the_trail_knows() {
    let mut shop = Shop::open().await;
    let drop = shop.shipped(1_999).await;
    let address = shop.address(&shop.ann, home("DE", "Ring 1")).await;
    let (_, order) = shop.order("1", &drop, 1, Some(&address["reference"])).await;
    let path = format!("/orders/{}/address", text(&order["id"]));
    problem(shop.server.get(&path, Some(&shop.maker)).await, 409, "order_not_confirmed");
    shop.pay(&order).await;
    let place = format!("/users/me/addresses/{}", text(&address["id"]));
    let moved = json!({"line1": "Allee 9"});
    let (status, _) = shop.server.call(Method::PATCH, &place, Some(&shop.ann), Some(moved)).await;
    assert_eq!(status, 200);
    let (status, _) = shop.server.call(Method::DELETE, &place, Some(&shop.ann), None).await;
    assert_eq!(status, 204);
    // Also after a crash: where it is sent is in the journal, and what the address is, is not.
    shop.server.kill();
    shop.server.restart();
    let (status, read) = shop.server.get(&path, Some(&shop.maker)).await;
    assert_eq!((status.as_u16(), &read["line1"]), (200, &json!("Ring 1")), "{read}");
    let (_, now) = shop.server.get(&format!("/orders/{}", text(&order["id"])), Some(&shop.ann)).await;
    assert_eq!(now["delivery"], order["delivery"]);
    problem(shop.server.get(&path, Some(&shop.ann)).await, 403, "forbidden");
    let (rival, _) = shop.server.creator("rival").await;
    problem(shop.server.get(&path, Some(&rival)).await, 404, "order_not_found");
    let root = shop.server.admin().await;
    let (_, trail) = shop.server.get(&format!("/audit?object_id={}", text(&order["id"])), Some(&root)).await;
    assert_eq!(
        (&trail["items"][0]["act"], &trail["items"][0]["actor_id"]),
        (&json!("address_read"), &json!(shop.maker.id))
    );
    // The account goes, the address of the order stays.
    let gone = json!({"password": "correct horse"});
    let (status, _) = shop.server.call(Method::DELETE, "/users/me", Some(&shop.ann), Some(gone)).await;
    assert_eq!(status, 204);
    assert_eq!(shop.server.get(&path, Some(&shop.maker)).await.1["line1"], "Ring 1");
    assert_eq!(shop.server.terminate(), Some(0));
    let (code, report) = shop.server.verify();
    assert_eq!(code, Some(0), "{report}");
}
