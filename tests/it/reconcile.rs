//! The comparison of Stripe's books with the orders, with books made wrong on purpose.

use crate::payments::{Shop, stray};
use crate::server::Account;
use livedrop::domain::OrderId;
use reqwest::Method;
use serde_json::{Value, json};
use std::process::Stdio;

impl Shop {
    /// Runs `livedrop payments reconcile`; its exit code and its report.
    async fn reconcile(&self, more: &[&str]) -> (Option<i32>, Value) {
        let mut command = crate::server::livedrop();
        command.args(["payments", "reconcile", "--json", "--min-age", "0", "--config"]);
        command.arg(self.dir.path().join("livedrop.toml"));
        command.arg("--data-dir").arg(&self.server.data).args(more);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let ended =
            tokio::task::spawn_blocking(move || command.output()).await.expect("a task").expect("livedrop to run");
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        (ended.status.code(), serde_json::from_slice(&ended.stdout).unwrap_or(json!(said)))
    }

    /// The kinds of differences, each with its order and whether it is repaired, in order.
    async fn differences(&self, more: &[&str]) -> Vec<(String, String, bool)> {
        let (code, report) = self.reconcile(more).await;
        let findings = report["findings"].as_array().unwrap_or_else(|| panic!("no report: {report}"));
        let text = |finding: &Value, name: &str| finding[name].as_str().unwrap_or_default().to_owned();
        let mut found: Vec<_> =
            findings.iter().map(|one| (text(one, "kind"), text(one, "order_id"), one["repaired"] == true)).collect();
        found.sort();
        let left = found.iter().filter(|(_, _, repaired)| !repaired).count();
        assert_eq!((code, report["differences"].as_u64()), (Some(i32::from(left > 0)), Some(left as u64)), "{report}");
        assert_eq!(report["complete"], true);
        found
    }

    /// A new buyer with a paid order.
    async fn paid(&self, name: &str, method: &str) -> (Account, String) {
        let buyer = self.server.account(name).await;
        let order = self.reserve(&buyer).await;
        let (status, answer) = self.pay(&buyer, &order, method).await;
        assert_eq!(status, 200, "{answer}");
        (buyer, order)
    }

    /// The provider's reference of an order's payment.
    async fn reference(&self, buyer: &Account, order: &str) -> String {
        self.order(buyer, order).await["payment_ref"].as_str().expect("a reference").to_owned()
    }

    /// A call of Stripe's API that the server knows nothing of.
    async fn in_dashboard(&self, path: &str, form: &str) {
        let request = self.http.post(format!("{}/v1/{path}", self.fake.base())).bearer_auth("sk_test_1");
        let request = request.header("content-type", "application/x-www-form-urlencoded").body(form.to_owned());
        assert_eq!(request.send().await.expect("an answer").status(), 200, "{path}");
    }

    async fn refund(&self, order: &str) {
        let path = format!("/orders/{order}/refund");
        let (status, refunded) = self.server.post(&path, Some(&self.maker), json!({})).await;
        assert_eq!(status, 200, "{refunded}");
    }
}

#[tokio::test]
async fn books_that_are_right_have_no_differences() {
    let shop = Shop::open().await;
    shop.paid("kept", "pm_card_visa").await;
    let (buyer, refunded) = shop.paid("refunded", "pm_card_visa").await;
    shop.refund(&refunded).await;
    shop.becomes(&buyer, &refunded, "refunded").await;
    let (waiting, unlucky) = (shop.server.account("waiting").await, shop.server.account("unlucky").await);
    let waits = shop.reserve(&waiting).await;
    shop.begin_3ds(&waiting, &waits).await;
    let declined = shop.reserve(&unlucky).await;
    assert_eq!(shop.pay(&unlucky, &declined, "pm_card_chargeDeclined").await.0, 402);
    // The database catches up, and captures are under way.
    shop.server.until("it agrees", async || shop.reconcile(&[]).await.0 == Some(0)).await;
    let (code, report) = shop.reconcile(&[]).await;
    assert_eq!((code, &report["payments"], &report["provider"]), (Some(0), &json!(4), &json!("stripe")), "{report}");
}

#[tokio::test]
async fn each_difference_is_named_and_repaired_where_there_is_one_right_answer() {
    let mut shop = Shop::open().await;
    // The server hears of nothing, so that it repairs nothing.
    shop.control(Method::POST, "webhooks", json!({"paused": true})).await;
    let (_, twice) = shop.paid("twice", "pm_card_visa").await;
    let (given, elsewhere) = shop.paid("elsewhere", "pm_card_visa").await;
    let (closed, failed) = shop.paid("failed", "pm_card_refundFail").await;
    for order in [&twice, &elsewhere, &failed] {
        shop.books_say(order, [0, 1_999, 0]).await;
    }
    stray(&shop, &twice, 7, "manual").await;
    stray(&shop, &twice, 8, "automatic").await;
    let (held, taken) = (OrderId::new().to_string(), OrderId::new().to_string());
    stray(&shop, &held, 1, "manual").await;
    stray(&shop, &taken, 1, "automatic").await;
    let payment = shop.reference(&given, &elsewhere).await;
    shop.in_dashboard("refunds", &format!("payment_intent={payment}&amount=500")).await;
    shop.refund(&failed).await;
    shop.becomes(&closed, &failed, "refunded").await;
    // Somebody takes a part of an authorization before the server takes the whole.
    let fault = json!({"kind": "answer", "status": 500, "path": "/v1/payment_intents/pi_", "times": 100_000});
    shop.control(Method::POST, "faults", fault).await;
    let (buyer, part) = shop.paid("part", "pm_card_visa").await;
    let payment = shop.reference(&buyer, &part).await;
    shop.server.kill();
    shop.control(Method::DELETE, "faults", json!(null)).await;
    shop.in_dashboard(&format!("payment_intents/{payment}/capture"), "amount_to_capture=1000").await;
    shop.server.restart();
    let settled = async || shop.payment(&buyer, &part).await["status"] == "captured";
    shop.server.until("the server has found it captured", settled).await;

    let expected = |repaired: [bool; 7]| {
        let found = [
            ("amount_differs", &part),
            ("authorized_without_order", &held),
            ("authorized_without_order", &twice),
            ("captured_without_order", &taken),
            ("captured_without_order", &twice),
            ("refund_missing", &failed),
            ("refund_unknown", &elsewhere),
        ];
        let one = |((kind, order), repaired): ((&str, &String), bool)| (kind.to_owned(), order.clone(), repaired);
        let mut found: Vec<_> = found.into_iter().zip(repaired).map(one).collect();
        found.sort();
        found
    };
    shop.server.until("all are found", async || shop.differences(&[]).await == expected([false; 7])).await;
    assert_eq!(
        (shop.sums(&twice).await, shop.sums(&held).await),
        ([1_999, 3_998, 0], [1_999, 0, 0]),
        "nothing is done"
    );
    let repaired = [false, true, true, false, true, true, false];
    assert_eq!(shop.differences(&["--repair"]).await, expected(repaired));
    assert_eq!((shop.sums(&twice).await, shop.sums(&held).await), ([0, 3_998, 1_999], [0, 0, 0]));
    assert_eq!((shop.sums(&taken).await, shop.sums(&part).await), ([0, 1_999, 0], [0, 1_000, 0]));
    let left: Vec<String> = shop.differences(&[]).await.into_iter().map(|(kind, _, _)| kind).collect();
    // That bank refuses every refund.
    assert_eq!(left, ["amount_differs", "captured_without_order", "refund_missing", "refund_unknown"]);
    let metrics = crate::metrics::text(&shop.server).await;
    assert!(metrics.contains("livedrop_payment_reconciled_seconds{provider=\"stripe\"} 0"), "{metrics}");
}

#[tokio::test]
async fn what_cannot_be_compared_is_said_in_a_line() {
    let shop = Shop::open().await;
    shop.control(Method::POST, "faults", json!({"kind": "answer", "status": 401, "times": 100})).await;
    let (code, said) = shop.reconcile(&[]).await;
    assert!(code == Some(2) && said.as_str().is_some_and(|said| said.starts_with("livedrop: ")), "{said}");
    let mut command = crate::server::livedrop();
    command.args(["payments", "reconcile", "--data-dir"]).arg(&shop.server.data);
    let without = command.output().expect("livedrop to run");
    let said = String::from_utf8_lossy(&without.stderr).into_owned();
    assert!(without.status.code() == Some(2) && said.contains("no provider that has books"), "{said}");
    let (code, said) = shop.reconcile(&["--days", "91"]).await;
    assert!(code == Some(2) && said.to_string().contains("91"), "{said}");
}
