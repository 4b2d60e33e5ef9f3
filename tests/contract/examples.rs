//! Tries the document's examples in the order of a first visit: each must succeed.

use crate::document;
use crate::server::{Account, Server};
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Replaces the examples' ids by ids that exist on the server.
struct Visit {
    server: Server,
    document: Value,
    who: Option<Account>,
    real: BTreeMap<String, String>,
    tried: BTreeSet<String>,
}

impl Visit {
    /// Sends the example of a call's body and expects the call's success.
    async fn try_out(&mut self, method: Method, path: &str, arguments: &[&str]) -> Value {
        let operation = &self.document["paths"][format!("/api/v1{path}")][method.as_str().to_lowercase()];
        let schema = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"].as_str();
        let schema = schema.unwrap_or_else(|| panic!("{method} {path} has no body")).trim_start_matches('#');
        let mut body = self.document.pointer(schema).expect("a schema")["examples"][0].to_string();
        assert!(body.starts_with('{'), "{schema} has no example");
        for (example, real) in &self.real {
            body = body.replace(example, real);
        }
        self.tried.insert(operation["operationId"].as_str().expect("a name").to_owned());
        let path = arguments.iter().fold(path.to_owned(), |path, argument| path.replacen("{id}", argument, 1));
        let key = [("Idempotency-Key", "8e03978e-40d5-43dd-bc93-6894a57f9324")];
        let mut request = self.server.http.request(method.clone(), self.server.url(&path)).header(key[0].0, key[0].1);
        if let Some(who) = &self.who {
            request = request.bearer_auth(&who.token);
        }
        let sent = request.header("Content-Type", "application/json").body(body.clone()).send().await;
        let (status, answer) = crate::server::answer(sent.expect("an answer")).await;
        assert!(status.is_success(), "{method} {path} {body}: {status} {answer}");
        answer
    }

    async fn post(&mut self, path: &str, arguments: &[&str]) -> Value {
        self.try_out(Method::POST, path, arguments).await
    }

    /// From now on replaces the example's value at this pointer by `real`.
    fn means(&mut self, schema: &str, pointer: &str, real: &Value) {
        let example = self.document.pointer(&format!("/components/schemas/{schema}/examples/0{pointer}"));
        let example = example.and_then(Value::as_str).unwrap_or_else(|| panic!("{schema} {pointer}"));
        self.real.insert(example.to_owned(), text(real).to_owned());
    }

    fn signed_in(&mut self, session: &Value) {
        let (id, token) = (text(&session["user"]["id"]).to_owned(), text(&session["access_token"]).to_owned());
        let refresh = text(&session["refresh_token"]).to_owned();
        self.who = Some(Account { id, token, refresh, email: String::new() });
        self.means("Refresh", "/refresh_token", &session["refresh_token"]);
    }
}

fn text(value: &Value) -> &str {
    value.as_str().expect("text")
}

#[tokio::test]
async fn the_examples_of_the_document_work() {
    let server = Server::start().await;
    let (maker, _) = server.creator("maker").await;
    let mut visit = Visit { server, document: document(), who: None, real: BTreeMap::new(), tried: BTreeSet::new() };
    visit.post("/auth/register", &[]).await;
    let session = visit.post("/auth/login", &[]).await;
    visit.signed_in(&session);
    let session = visit.post("/auth/refresh", &[]).await;
    visit.signed_in(&session);
    visit.try_out(Method::PATCH, "/users/me", &[]).await;
    let address = visit.post("/users/me/addresses", &[]).await;
    visit.try_out(Method::PATCH, "/users/me/addresses/{id}", &[text(&address["id"])]).await;
    visit.means("Follow", "/creator_id", &json!(maker.id));
    visit.post("/follows", &[]).await;

    let creator = visit.post("/creators", &[]).await;
    visit.try_out(Method::PATCH, "/creators/{id}", &[text(&creator["id"])]).await;
    let product = visit.post("/products", &[]).await;
    visit.means("NewDrop", "/product_id", &product["id"]);
    visit.means("NewDrop", "/variants/0/variant_id", &product["variants"][0]["id"]);
    visit.try_out(Method::PATCH, "/products/{id}", &[text(&product["id"])]).await;
    let drop = visit.post("/drops", &[]).await;
    let id = text(&drop["id"]);
    visit.means("NewOrder", "/drop_id", &drop["id"]);
    visit.post("/drops/{id}/reschedule", &[id]).await;
    visit.post("/drops/{id}/restock", &[id]).await;
    let (status, live) = visit.server.post(&format!("/drops/{id}/start"), visit.who.as_ref(), json!({})).await;
    assert_eq!((status.as_u16(), &live["status"]), (200, &json!("live")), "{live}");
    let order = visit.post("/orders", &[]).await;
    let paid = visit.post("/orders/{id}/pay", &[text(&order["id"])]).await;
    assert_eq!(paid["status"], "confirmed", "{paid}");
    visit.post("/orders/{id}/refund-requests", &[text(&order["id"])]).await;
    visit.post("/orders/{id}/refund-requests/answer", &[text(&order["id"])]).await;
    let (_, inbox) = visit.server.get("/users/me/notifications", visit.who.as_ref()).await;
    visit.means("ReadMark", "/up_to", &inbox["items"][0]["id"]);
    visit.means("Acknowledgement", "/ids/0", &inbox["items"][0]["id"]);
    let left = visit.post("/users/me/notifications/read", &[]).await;
    assert_eq!((&inbox["unread_count"], &left["unread_count"]), (&json!(1), &json!(0)));
    visit.post("/users/me/notifications/acknowledge", &[]).await;

    let session = visit.post("/users/me/password", &[]).await;
    visit.signed_in(&session);
    visit.post("/auth/logout", &[]).await;
    // An account with unsettled sales cannot be deleted, so this is another account.
    let other = json!({"email": "bob@example.com", "password": "close sesame, please", "display_name": "Bob"});
    let (status, session) = visit.server.post("/auth/register", None, other).await;
    assert_eq!(status, 201, "{session}");
    visit.signed_in(&session);
    visit.try_out(Method::DELETE, "/users/me", &[]).await;

    let items = visit.document["paths"].as_object().expect("paths").values();
    let operations = items.flat_map(|item| item.as_object().expect("an item").values());
    let with_body = operations.filter(|operation| operation.get("requestBody").is_some());
    let all: BTreeSet<String> = with_body.map(|operation| text(&operation["operationId"]).to_owned()).collect();
    assert_eq!(visit.tried, all, "an example that nobody tried");
}
