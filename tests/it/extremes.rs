//! Every parameter and every field in the API's description, with the extreme values of its type and values beyond.
//! Each answer is as the description says, and never a 5xx.

use crate::metrics;
use crate::server::{Account, Server, answer, check_documented};
use livedrop::http::openapi;
use reqwest::header::{HeaderName, HeaderValue};
use reqwest::{Method, RequestBuilder};
use serde_json::{Map, Value, json};
use std::sync::atomic::{AtomicU64, Ordering};

/// JSON numbers: around zero, at the limits of integers and doubles, and beyond them.
const NUMBERS: &[&str] = &[
    "0",
    "-0",
    "1",
    "-1",
    "0.1",
    "1.0",
    "2147483647",
    "-2147483648",
    "2147483648",
    "4294967295",
    "4294967296",
    "9007199254740993",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775808",
    "-9223372036854775809",
    "18446744073709551615",
    "18446744073709551616",
    "5e-324",
    "1e16",
    "1.7976931348623157e308",
    "-1.7976931348623157e308",
    "1e309",
    "-1e309",
    "1e400000",
];

/// Values of other types, as JSON.
const OTHERS: &[&str] = &["null", "true", "[]", "[null]", "{}", r#"{"a":{"b":[1]}}"#, r#"[{"id":null}]"#];

/// The inside of JSON strings, escapes included.
const ESCAPED: &[&str] =
    &[r"\u0000", r"a\u0000b", r"\ud800", r"\udc00\ud800", r"\uffff", r"\ud83d\ude00", r"\n\r\t", r"\u202e"];

/// Texts of every other kind.
fn texts(epoch: &str) -> Vec<String> {
    let mut all: Vec<String> = [
        "",
        " ",
        "x",
        "0",
        "-1",
        "me",
        "null",
        "NaN",
        "Infinity",
        "1e309",
        "../../etc/passwd",
        "%00",
        "a,b",
        "*",
        "\"",
        "W/\"a\"",
        "\u{feff}",
        "'; DROP TABLE orders; --",
        "=1+1",
        "\u{10ffff}",
        "ZZZ",
        "XXX",
        "00000000-0000-0000-0000-000000000000",
        "ffffffff-ffff-ffff-ffff-ffffffffffff",
        "FFFFFFFF-FFFF-7FFF-BFFF-FFFFFFFFFFFF",
        "{00000000-0000-7000-8000-000000000000}",
        "urn:uuid:00000000-0000-7000-8000-000000000000",
        "ffffffffffffffff-18446744073709551615",
        "https://x.example:99999/",
        "a@b",
    ]
    .map(str::to_owned)
    .to_vec();
    // Positions in this journal.
    for place in ["0", "9223372036854775806", "9223372036854775807", "9223372036854775808", "18446744073709551615"] {
        all.extend([format!("{epoch}-{place}"), format!("{epoch}-{place}-{place}")]);
    }
    for (day, offsets) in [
        ("9999-12-31T23:59:59", ["Z", "-00:01", "-23:59", "+00:01", "+23:59", "-24:00"]),
        ("9999-12-31T23:59:59.999999999", ["Z", "-00:01", "-12:00", "+14:00", "-23:59", "+23:59"]),
        ("0000-01-01T00:00:00", ["Z", "-00:01", "-23:59", "+00:01", "+23:59", "+24:00"]),
        ("1970-01-01T00:00:00", ["Z", "-00:01", "-23:59", "+00:01", "+23:59", "z"]),
        ("2016-12-31T23:59:60", ["Z", "-00:01", "-23:59", "+00:01", "+23:59", ""]),
    ] {
        all.extend(offsets.map(|offset| format!("{day}{offset}")));
    }
    for (piece, times) in [
        ("x", 255),
        ("x", 256),
        ("9", 400),
        ("x", 5_000),
        ("😀", 4_001),
        ("e\u{301}", 2_000),
        ("[", 10_000),
        ("x", 60_000),
    ] {
        all.push(piece.repeat(times));
    }
    all
}

/// Cursors of every list, at both ends.
fn cursors() -> Vec<String> {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    let each = (1..=9_u8).flat_map(|list| [0, 0x7f, 0x80, 0xff].map(|byte| [&[list][..], &[byte; 16]].concat()));
    each.map(|bytes| URL_SAFE_NO_PAD.encode(bytes)).collect()
}

/// One call of an operation.
struct Call<'a> {
    method: Method,
    /// The path, with `{id}` and the like replaced.
    path: String,
    operation: &'a Value,
}

struct World {
    server: Server,
    document: Value,
    admin: Account,
    maker: Account,
    /// Replacements of the ids in examples.
    names: Vec<(String, String)>,
    ids: Vec<(&'static str, String)>,
    /// The prefix of positions in the server's journal.
    epoch: String,
}

impl World {
    async fn new() -> Self {
        let server = Server::start().await;
        let (maker, drop) = server.live_drop(1_000_000, json!({})).await;
        let paid = json!({"drop_id": drop, "quantity": 1, "payment_method": "pm_sandbox_ok"});
        let (_, order) = server.order(&maker, "first", &paid).await;
        let admin = server.admin().await;
        server
            .until("an event in the inbox", async || {
                server.get("/users/me/notifications", Some(&maker)).await.1["items"][0].is_object()
            })
            .await;
        let (_, inbox) = server.get("/users/me/notifications", Some(&maker)).await;
        let (_, products) = server.get("/products", None).await;
        let text = |value: &Value| value.as_str().expect("text").to_owned();
        let epoch = text(&inbox["items"][0]["id"]).split('-').next().expect("an epoch").to_owned();
        let document = openapi::document();
        let product = text(&products["items"][0]["id"]);
        let example = |pointer: &str| text(document.pointer(&format!("/components/schemas/{pointer}")).expect(pointer));
        let names = vec![
            (example("NewDrop/examples/0/product_id"), product.clone()),
            (example("NewOrder/examples/0/drop_id"), drop.clone()),
            (example("Follow/examples/0/creator_id"), maker.id.clone()),
        ];
        let ids = vec![
            ("/creators/{id}", maker.id.clone()),
            ("/products/{id}", product),
            ("/drops/{id}", drop),
            ("/orders/{id}", text(&order["id"])),
            ("/users/{id}", "me".to_owned()),
            ("/follows/{creator_id}", maker.id.clone()),
        ];
        Self { server, document, admin, maker, names, ids, epoch }
    }

    fn filled_in(&self, path: &str) -> String {
        self.ids.iter().fold(path.to_owned(), |path, (place, id)| {
            let (before, _) = place.split_once('{').expect("a parameter");
            path.replace(place, &format!("{before}{id}"))
        })
    }

    fn resolve<'a>(&'a self, mut schema: &'a Value) -> &'a Value {
        while let Some(to) = schema["$ref"].as_str() {
            schema = self.document.pointer(&to[1..]).expect("a component");
        }
        // One of several, of which the first is not null.
        schema["anyOf"].as_array().map_or(schema, |any| self.resolve(&any[0]))
    }

    /// The pointers of all fields of a body.
    fn fields(&self, schema: &Value, pointer: &str, found: &mut Vec<String>) {
        let schema = self.resolve(schema);
        for (name, field) in schema["properties"].as_object().into_iter().flatten() {
            let below = format!("{pointer}/{name}");
            self.fields(field, &below, found);
            found.push(below);
        }
        if schema.get("items").is_some() {
            let below = format!("{pointer}/0");
            self.fields(&schema["items"], &below, found);
            found.push(below);
        }
        if schema.get("additionalProperties").is_some_and(Value::is_object) {
            found.push(format!("{pointer}/any"));
        }
    }

    /// The example of an operation's body, with existing ids.
    fn body(&self, operation: &Value) -> Option<Value> {
        let schema = self.resolve(operation.pointer("/requestBody/content/application~1json/schema")?);
        let mut text = schema["examples"][0].to_string();
        for (example, real) in &self.names {
            text = text.replace(example, real);
        }
        let mut body: Value = serde_json::from_str(&text).expect("an example");
        // The drop and the product have one variant, which may be omitted.
        body.as_object_mut().expect("an object").remove("variant_id");
        if body.get("product_id").is_some() {
            body["variants"] = json!([{"name": "M", "stock": 5, "price": {"amount": 999, "currency": "USD"}}]);
        }
        Some(body)
    }

    fn request(&self, call: &Call, query: &str) -> RequestBuilder {
        let path = format!("{}{}{query}", self.server.base, call.path);
        let who = if call.path.ends_with("/audit") { &self.admin } else { &self.maker };
        self.server.http.request(call.method.clone(), path).bearer_auth(&who.token)
    }

    fn needs_key(operation: &Value) -> bool {
        let parameters = operation["parameters"].as_array().into_iter().flatten();
        parameters.into_iter().any(|one| one["name"] == "Idempotency-Key" && one["required"] == true)
    }

    /// Sends a call, and checks the answer against the description.
    async fn ask(&self, call: &Call<'_>, mut request: RequestBuilder, what: &str) {
        static KEYS: AtomicU64 = AtomicU64::new(0);
        if Self::needs_key(call.operation) && !what.contains("Idempotency-Key") {
            request = request.header("Idempotency-Key", format!("k{}", KEYS.fetch_add(1, Ordering::Relaxed)));
        }
        let (status, told) = answer(request.send().await.expect("an answer")).await;
        let (method, shown) = (&call.method, &what[..what.floor_char_boundary(200)]);
        assert!(status.as_u16() < 500, "{method} {} {shown}: {status} {told}", call.path);
        if let Some(path) = call.path.strip_prefix("/api/v1") {
            check_documented(method, path, status, &told);
        }
    }

    async fn parameters(&self, call: &Call<'_>, values: &[String]) {
        let parameters = call.operation["parameters"].as_array().into_iter().flatten();
        for parameter in parameters {
            let name = parameter["name"].as_str().expect("a name");
            for value in values {
                let escaped: String = value.bytes().map(|byte| format!("%{byte:02x}")).collect();
                let what = format!("{name}={value}");
                match parameter["in"].as_str() {
                    // Longer ones are refused by the size of the head, for any parameter.
                    Some("query") if value.len() < 6_000 => {
                        self.ask(call, self.request(call, &format!("?{name}={escaped}")), &what).await;
                    }
                    Some("header") => {
                        let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) else { continue };
                        let name: HeaderName = name.parse().expect("a header");
                        let mut request = self.request(call, "").header(name, value);
                        if let Some(body) = self.body(call.operation) {
                            request = request.json(&body);
                        }
                        self.ask(call, request, &what).await;
                    }
                    _ => {}
                }
            }
        }
    }

    async fn path(&self, method: &Method, template: &str, operation: &Value, values: &[String]) {
        let (Some(start), Some(end)) = (template.find('{'), template.find('}')) else { return };
        // Valid ids of nothing, and invalid ids.
        for value in values.iter().filter(|value| value.len() < 300 && !value.is_empty()) {
            let escaped: String = value.bytes().map(|byte| format!("%{byte:02x}")).collect();
            let path = format!("{}{escaped}{}", &template[..start], self.filled_in(&template[end + 1..]));
            let call = Call { method: method.clone(), path, operation };
            let mut request = self.request(&call, "");
            if let Some(body) = self.body(operation) {
                request = request.json(&body);
            }
            self.ask(&call, request, &format!("a path with {value}")).await;
        }
    }

    async fn bodies(&self, call: &Call<'_>, values: &[String]) {
        let Some(base) = self.body(call.operation) else { return };
        let mut fields = Vec::new();
        self.fields(&call.operation["requestBody"]["content"]["application/json"]["schema"], "", &mut fields);
        assert!(!fields.is_empty(), "{} has a body without fields", call.path);
        let texts = values.iter().map(|text| Value::from(text.as_str()).to_string());
        let escaped = ESCAPED.iter().map(|text| format!("\"{text}\""));
        let others = NUMBERS.iter().chain(OTHERS).map(|&json| json.to_owned());
        let deep =
            ["[".repeat(100) + &"]".repeat(100), "[".repeat(300), "9".repeat(400), format!("0.{}1", "0".repeat(400))];
        let all: Vec<String> = texts.chain(escaped).chain(others).chain(deep).collect();
        for pointer in &fields {
            const MARK: &str = "@@value@@";
            let mut body = base.clone();
            set(&mut body, pointer, Value::from(MARK));
            let body = body.to_string();
            for json in &all {
                let body = body.replace(&format!("\"{MARK}\""), json);
                let request = self.request(call, "").header("Content-Type", "application/json").body(body);
                self.ask(call, request, &format!("{pointer}: {json}")).await;
            }
        }
    }
}

/// Puts a value at a pointer, and creates the objects around it.
fn set(body: &mut Value, pointer: &str, value: Value) {
    let Some((name, rest)) =
        pointer[1..].split_once('/').map(|(name, rest)| (name, Some(rest))).or(Some((&pointer[1..], None)))
    else {
        return;
    };
    let inner = if name == "0" {
        if !body.is_array() {
            *body = json!([null]);
        }
        &mut body[0]
    } else {
        if !body.is_object() {
            *body = Value::Object(Map::new());
        }
        &mut body[name]
    };
    match rest {
        Some(rest) => set(inner, &format!("/{rest}"), value),
        None => *inner = value,
    }
}

#[tokio::test]
async fn the_ends_of_every_type_are_answered() {
    let world = World::new().await;
    let texts = texts(&world.epoch);
    let numbers = NUMBERS.iter().map(|&number| number.to_owned());
    let values: Vec<String> = texts.iter().cloned().chain(numbers).chain(cursors()).collect();
    for (template, item) in world.document["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("an item") {
            let method: Method = method.to_uppercase().parse().expect("a method");
            let path = world.filled_in(template);
            let call = Call { method: method.clone(), path, operation };
            world.path(&method, template, operation, &values).await;
            world.parameters(&call, &values).await;
            world.bodies(&call, &texts).await;
        }
    }
    let (available, held, sold) = world.server.stock(&world.ids[2].1).await;
    assert!(available + held + sold >= 1_000_000);
    let counted = metrics::text(&world.server).await;
    let failed: Vec<&str> = counted.lines().filter(|line| line.contains("status=\"5xx\"")).collect();
    assert!(failed.is_empty(), "{failed:?}");
}

#[tokio::test]
async fn the_ends_of_what_an_address_says_of_a_stream_are_answered() {
    let world = World::new().await;
    for name in ["ticket", "topics", "since", "last_event_id"] {
        for value in texts(&world.epoch).iter().filter(|value| value.len() < 6_000) {
            let escaped: String = value.bytes().map(|byte| format!("%{byte:02x}")).collect();
            let topics = if name == "topics" { String::new() } else { format!("&topics=drop:{}", world.ids[2].1) };
            let url = world.server.url(&format!("/notifications/stream?{name}={escaped}{topics}"));
            // An accepted stream does not end; its head is enough.
            let status = world.server.http.get(url).send().await.expect("an answer").status().as_u16();
            assert!(status < 500 || status == 503, "{name}={value}: {status}");
        }
    }
    assert_eq!(world.server.get("/drops", None).await.0, 200);
}
